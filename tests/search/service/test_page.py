"""The page in a real browser: every view at desktop and phone width, by keyboard, judged by axe, the console silent."""

import base64
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from trailer_ml.search.takedown import take_down
from trailer_ml.storage import media_key

READY = "main:not([aria-busy]) h1"


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_every_view_is_whole_and_axe_finds_nothing_serious(
    size, scheme, serve, world, videos, store, open_page, shots
) -> None:
    store.put_bytes(media_key(world[0].trailer_id), videos["blend"].read_bytes())
    served, page = serve(), open_page(size, scheme)
    views = {
        "wall": "#/", "trailer": f"#/trailer/{world[0].trailer_id}", "silent": f"#/trailer/{world[-1].trailer_id}",
        "map": "#/map", "match": "#/match", "ads": "#/ads", "films": "#/ads/night-1?by=film",
        "twins": "#/twins", "status": "#/status",
    }  # fmt: skip
    filled = {"ads": ".alike", "films": ".given", "twins": "section.ad", "wall": ".card", "trailer": "video"}
    for name, part in views.items():
        page.goto(f"{served.url}/?{name}{part}")  # a page of its own each: none is taken for the one before it
        page.wait_for_selector(READY, state="attached")
        page.wait_for_load_state("networkidle")
        expect(page.locator(filled.get(name, "main")).first).to_be_visible()
        for summary in page.locator("summary").all()[:2]:
            summary.press("Enter")
            expect(page.locator("details[open] .pairs img").last).to_be_visible()
        page.wait_for_load_state("networkidle")
        judge(page, name)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=shots / f"{name}-{size}-{scheme}.png", full_page=name != "map")


def judge(page: Page, name: str) -> None:
    """It is no wider than the window, and axe finds nothing serious."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is too wide"
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}]
    assert serious == [], name


def test_the_report_opens_from_the_ads_and_axe_finds_nothing_serious(serve, world, open_page, shots) -> None:
    served, page = serve(), open_page("phone", "dark")
    page.goto(f"{served.url}/#/ads")
    expect(page.locator(".soft").first).to_contain_text("Drama 63%, Comedy 38%")
    page.get_by_role("link", name="The report").click()
    expect(page.locator("h2").first).to_have_text("ad-fog")
    page.screenshot(path=shots / "report-phone-dark.png", full_page=True)
    page.goto("about:blank")  # where it is served no script runs in it, not even axe
    page.set_content(served.get("/api/v1/ads/night-1/report").text)
    judge(page, "report")


def test_films_and_their_ads_are_found_by_title(serve, world, open_page) -> None:
    served, page = serve(), open_page()
    page.goto(f"{served.url}/#/ads")
    page.get_by_role("link", name="Films and their ads").press("Enter")
    expect(page.locator(".count-line")).to_have_text("4 films")
    expect(page.locator(".card .title").first).to_have_text(world[5].title)
    expect(page.get_by_role("list", name=f"Ads for {world[5].title}")).to_contain_text("ad-fog")
    page.keyboard.press("/")
    page.keyboard.type("harbour")
    expect(page.locator(".count-line")).to_have_text("1 film")
    expect(page.locator(".card .title")).to_have_text("Harbour 2")


def test_the_wall_shows_each_trailer_once_however_often_more_is_asked_for(
    serve, put_embedded, make_vectors, publish, browser
) -> None:
    put_embedded(make_vectors(130))
    publish()
    page, held = browser.new_page(), []  # there are no pictures, which is an error on the console of any browser
    page.route("**/trailers?*offset=60*", lambda route, *, held=held: held.append(route))
    page.goto(f"{serve().url}/")
    expect(page.locator(".card")).to_have_count(60)
    more = page.get_by_role("button", name="Show more")
    more.scroll_into_view_if_needed()  # which asks for more by itself
    wait_until(page, lambda: held)
    more.click()
    for route in held:
        route.continue_()
    page.unroute("**/trailers?*offset=60*")
    expect(page.locator(".card")).not_to_have_count(60)
    wait_until(page, lambda: more.evaluate_all("all => (all.forEach((each) => each.click()), all.length === 0)"))
    expect(page.locator(".card")).to_have_count(130)
    links = page.locator(".card > a").evaluate_all("links => links.map((link) => link.href)")
    assert len(links) == len(set(links)) == 130
    page.close()


def test_what_is_taken_down_is_gone_from_the_wall_that_one_comes_back_to(serve, world, store, open_page) -> None:
    served, page = serve(), open_page()
    page.goto(f"{served.url}/")
    page.locator(f".card a[href$='{world[5].trailer_id}']").click()
    expect(page.locator("h1")).to_have_text(world[5].title)
    take_down(world[7].trailer_id, store)
    served.app.state.service.live.look()
    page.go_back()
    expect(page.locator(".count-line")).to_have_text("23 trailers")
    expect(page.locator(f".card a[href$='{world[7].trailer_id}']")).to_have_count(0)


def test_a_video_that_is_chosen_or_dropped_finds_its_film(serve, video_world, videos, browser, shots) -> None:
    page = browser.new_page()  # as above
    page.goto(f"{serve().url}/#/match")
    page.set_input_files("input[type=file]", videos["plasma-again"])
    expect(page.locator("h2")).to_have_text("Most like plasma-again.mp4")
    expect(page.locator(".card .title").first).to_have_text("plasma")
    expect(page.locator("progress")).to_be_hidden()
    judge(page, "matched")
    page.screenshot(path=shots / "matched-desktop-light.png", full_page=True)
    dropped = page.evaluate_handle(
        """(text) => {
            const dropped = new DataTransfer();
            dropped.items.add(new File([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], "dropped.mp4"));
            return dropped;
        }""",
        base64.b64encode(videos["bars-again"].read_bytes()).decode(),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": dropped})
    expect(page.locator("h2")).to_have_text("Most like dropped.mp4")
    expect(page.locator(".card .title").first).to_have_text("bars")
    page.close()


def test_a_trailer_that_was_kept_is_played(serve, world, videos, store, open_page) -> None:
    store.put_bytes(media_key(world[3].trailer_id), videos["test"].read_bytes())
    page = open_page()
    page.goto(f"{serve().url}/#/trailer/{world[3].trailer_id}")
    video = page.locator("video")
    video.evaluate("video => { video.muted = true; return video.play(); }")
    video.evaluate("video => video.ended || new Promise((done) => video.addEventListener('timeupdate', done))")
    assert video.evaluate("video => [video.videoWidth, video.currentTime > 0, Math.round(video.duration)]") == [
        96,
        True,
        5,
    ]


def test_a_strangers_title_is_text_and_his_address_no_link(serve, world, open_page) -> None:
    served, page = serve(), open_page()
    page.goto(f"{served.url}/#/trailer/{world[0].trailer_id}")
    expect(page.locator("h1")).to_have_text(world[0].title)
    expect(page.locator(".plot")).to_have_text(world[0].plot)
    assert page.locator("main img[onerror], main b").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    expect(page.locator(".card .total").first).to_contain_text("0.")
    expect(page.locator(".strip img")).to_have_count(10)


def test_search_chips_and_ways_are_there_by_keyboard(serve, world, open_page) -> None:
    served, page = serve(), open_page()
    page.goto(f"{served.url}/")
    page.wait_for_selector(".card")
    page.keyboard.press("/")
    page.keyboard.type("harbour")
    expect(page.locator(".count-line")).to_have_text("11 trailers")
    expect(page.locator("#live")).to_have_text("11 trailers")
    page.get_by_role("button", name="Drama").press("Enter")
    expect(page.locator(".count-line")).to_have_text("4 trailers")
    expect(page).to_have_url(f"{served.url}/#/?q=harbour&genre=Drama")
    page.locator(".card a").first.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    expect(page).to_have_title(re.compile("^Harbour"))
    page.go_back()
    expect(page.locator(".count-line")).to_have_text("4 trailers")
    page.goto(f"{served.url}/#/map")
    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tip strong")).not_to_be_empty()
    page.keyboard.press("Enter")
    expect(page.locator("article.trailer h1")).to_be_focused()


def test_a_file_that_is_refused_is_refused_in_words_and_one_too_large_is_not_sent(
    serve, world, browser, tmp_path
) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(100))
    (tmp_path / "empty.mp4").touch()
    page, sent = browser.new_page(), []  # a refusal is an error on the console of any browser
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(f"{serve(max_upload_bytes=10).url}/#/match")
    page.set_input_files("input[type=file]", tmp_path / "film.mp4")
    expect(page.get_by_role("alert")).to_contain_text("at most 10 bytes are taken")
    assert sent == []
    page.set_input_files("input[type=file]", tmp_path / "empty.mp4")
    expect(page.get_by_role("alert")).to_contain_text("the body is empty")
    assert len(sent) == 1
    page.close()


def test_twins_that_are_still_looked_for_come_into_the_page_and_more_when_asked(
    serve, put_embedded, publish, browser, monkeypatch
) -> None:
    put_embedded(np.eye(32, dtype=np.float32)[np.minimum(np.arange(65) // 2, 31)])  # the last are three
    publish()
    monkeypatch.setattr("trailer_ml.search.service.twins._PATIENCE_S", 0)
    page = browser.new_page()  # what is not there yet is an error on the console of any browser
    page.goto(f"{serve().url}/#/twins")
    expect(page.locator(".lead")).to_contain_text("are being looked for")
    monkeypatch.setattr("trailer_ml.search.service.twins._PATIENCE_S", 60)
    expect(page.locator(".lead")).to_contain_text("32 groups")
    expect(page.locator("section.ad")).to_have_count(30)
    page.get_by_role("button", name="Show more").press("Enter")
    expect(page.locator("section.ad")).to_have_count(32)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(page.locator("section.ad").last).to_contain_text("their frames cannot be read")
    page.locator("summary").press("Enter")
    expect(page.locator("details li").first).to_contain_text("score 1.000; their frames cannot be read")
    expect(page.locator("details li")).to_have_count(3)
    page.close()


def test_with_a_key_there_is_a_way_in_and_out(serve, world, open_page, shots) -> None:
    served, page = serve(api_key=SecretStr("correct-horse-battery")), open_page("phone")
    page.goto(f"{served.url}/")
    page.fill("input[name=key]", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the key.")
    assert not [each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}]
    page.screenshot(path=shots / "login-phone-light.png")
    page.fill("input[name=key]", "correct-horse-battery")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(24)
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("input[name=key]")).to_be_visible()


def test_pictures_that_are_still_wanted_when_one_logs_out_are_not_asked_for_without_the_session(
    serve, world, open_page
) -> None:
    """Between the answer that ends the session and the way in there is time for a request: as much as is made here."""
    served, page = serve(api_key=SecretStr("correct-horse-battery")), open_page()
    pictures, log_outs, settled = [], [], []
    page.goto(f"{served.url}/login")
    for pattern, held in (("**/thumb", pictures), ("**/logout", log_outs)):
        page.route(pattern, lambda route, *, held=held: held.append(route))
    for event in ("requestfinished", "requestfailed"):
        page.on(event, lambda request: settled.append(request.url) if request.url.endswith("/thumb") else None)
    page.fill("input[name=key]", "correct-horse-battery")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(24)
    wait_until(page, lambda: pictures)
    page.get_by_role("button", name="Log out").click(no_wait_after=True)
    wait_until(page, lambda: log_outs)
    page.context.request.post(f"{served.url}/logout", max_redirects=0)
    for route in pictures:
        route.continue_()
    wait_until(page, lambda: len(settled) == len(pictures))
    log_outs[0].continue_()
    expect(page.locator("input[name=key]")).to_be_visible()


def wait_until(page: Page, is_so: Callable[[], object]) -> None:
    """Let the browser speak until something is so."""
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        page.wait_for_timeout(20)
