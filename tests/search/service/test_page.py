"""The page in a real browser: every view at desktop and phone width, by keyboard, judged by axe, with a silent console.

Screenshots are left in screenshots/ of CI_ARTIFACTS, or of .cache where that is not set.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydantic import SecretStr

SHOTS = Path(os.environ.get("CI_ARTIFACTS") or Path(__file__).resolve().parents[3] / ".cache") / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
PATIENCE_MS = 60_000
READY = "main:not([aria-busy]) h1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no Chromium here; fix: sudo apt-get install chromium")
    SHOTS.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Nothing but this machine's own pages is opened, and CI runs as root, where the sandbox does not start.
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser):
    """Opens pages that fail the test when the console says anything is wrong."""
    said, contexts = [], []

    def open_one(size: str = "desktop", scheme: str = "light") -> Page:
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: None if "127.0.0.1" in request.url else said.append(request.url))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_every_view_is_whole_and_axe_finds_nothing_serious(size, scheme, serve, world, open_page) -> None:
    served, page = serve(), open_page(size, scheme)
    views = {
        "wall": "#/", "trailer": f"#/trailer/{world[0].trailer_id}", "silent": f"#/trailer/{world[-1].trailer_id}",
        "map": "#/map", "match": "#/match", "ads": "#/ads", "twins": "#/twins", "status": "#/status",
    }  # fmt: skip
    for name, part in views.items():
        page.goto(f"{served.url}/?{name}{part}")  # a page of its own each: none is taken for the one before it
        page.wait_for_selector(READY, state="attached")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], f"{name} is too wide"
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in {"serious", "critical"}
        ]
        assert serious == [], name
        page.screenshot(path=SHOTS / f"{name}-{size}-{scheme}.png", full_page=name != "map")


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


def test_a_file_that_is_refused_is_refused_in_words(serve, world, browser, tmp_path) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(100))
    page = browser.new_page()  # a refusal is an error on the console of any browser
    page.goto(f"{serve(max_upload_bytes=10).url}/#/match")
    page.set_input_files("input[type=file]", tmp_path / "film.mp4")
    expect(page.get_by_role("alert")).to_contain_text("at most 10 bytes are taken")
    page.close()


def test_twins_that_are_still_looked_for_come_into_the_page_and_more_when_asked(
    serve, put_embedded, publish, browser, monkeypatch
) -> None:
    put_embedded(np.eye(32, dtype=np.float32)[np.arange(64) // 2])
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
    page.close()


def test_with_a_key_there_is_a_way_in_and_out(serve, world, open_page) -> None:
    served, page = serve(api_key=SecretStr("correct-horse-battery")), open_page("phone")
    page.goto(f"{served.url}/")
    page.fill("input[name=key]", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the key.")
    assert not [each for each in Axe().run(page).response["violations"] if each["impact"] in {"serious", "critical"}]
    page.screenshot(path=SHOTS / "login-phone-light.png")
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
    until = time.monotonic() + PATIENCE_MS / 1000
    while not is_so():
        assert time.monotonic() < until
        page.wait_for_timeout(20)
