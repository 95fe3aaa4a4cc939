"""Ads to films: through real downloads from a local server, real ffmpeg and a real encoder, to lines and a page."""

from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from trailer_ml.errors import MediaError, NoIndexError, SettingsError
from trailer_ml.records import AdMatch, FilmAds, Neighbour
from trailer_ml.search import ads
from trailer_ml.search.ads import match_ads, name_ads
from trailer_ml.search.closest import find_closest_frames, shrink_frames
from trailer_ml.search.placements import place_ads
from trailer_ml.search.reasons import explain_answer, explain_answers
from trailer_ml.search.takedown import take_down
from trailer_ml.settings import SearchSettings
from trailer_ml.shards.schema import encode_jpeg
from trailer_ml.storage import ads_key, thumb_key


class Page(HTMLParser):
    """What a page consists of; fails where tags do not close."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def read_matches(store, run) -> dict[str, AdMatch]:
    lines = store.read_bytes(ads_key(run, "matches.jsonl")).splitlines()
    return {match.ad: match for match in map(AdMatch.model_validate_json, lines)}


def test_each_ad_gets_its_films_and_one_bad_ad_stops_no_other(video_world, videos, site, store, tmp_path) -> None:
    url, settings = site
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear Sir or Madam")
    sources = [f"{url}/bars-again.mp4", str(videos["test-again"]), str(letter), f"{url}/gone.mp4", "nowhere.mp4"]
    summary = match_ads(sources, "run-1", settings, store)
    assert (summary.n_ads, summary.n_matched) == (5, 2)
    assert sum(summary.problems.values()) == 3
    matches = read_matches(store, "run-1")
    assert list(matches) == ["bars-again", "test-again", "letter", "gone", "nowhere"]
    for name, title in (("bars-again", "bars"), ("test-again", "test")):
        films = matches[name].films
        assert films[0].best.title == title
        assert len({film.best.film_id for film in films}) == len(films) == 4
        assert [film.best.score for film in films] == sorted((film.best.score for film in films), reverse=True)
        assert all(film.reason for film in films)
        assert matches[name].reason
    assert matches["gone"].problem == "gone"
    assert matches["nowhere"].problem == "not_found"
    assert all(matches[name].detail and not matches[name].films for name in ("letter", "gone", "nowhere"))
    assert str(tmp_path) not in store.read_bytes(ads_key("run-1", "report.html")).decode()


def test_a_secret_in_an_address_is_nowhere_in_what_is_kept(video_world, videos, site, store) -> None:
    url, settings = site
    host = url.removeprefix("http://")
    signed = [f"{url}/bars-again.mp4?X-Amz-Signature=s3cr3t", f"{url}/gone.mp4?token=s3cr3t#s3cr3t"]
    other = [
        f"http://me:word@{host}/test.mp4",
        "http://me:word@[oops/ad.mp4?s3cr3t",
        "http://h/a b.mp4?s3cr3t",
        "ftp://me:word@h/ad.mp4?s3cr3t",
    ]
    match_ads([*signed, *other], "run-1", settings, store)
    assert read_matches(store, "run-1")["bars-again"].source == f"{url}/bars-again.mp4"
    assert read_matches(store, "run-1")["gone"].problem == "gone"
    for key in store.list_keys("ads/"):
        kept = store.read_bytes(key)
        assert b"s3cr3t" not in kept, key
        assert b"me:word" not in kept, key


def test_a_run_whose_ads_all_failed_is_written_and_is_an_error(video_world, settings, store) -> None:
    with pytest.raises(MediaError, match="none of 2 ads could be used"):
        match_ads(["nowhere.mp4", "http://[oops/ad.mp4"], "run-1", settings, store)
    assert [match.problem for match in read_matches(store, "run-1").values()] == ["not_found", "bad_url"]
    assert store.exists(ads_key("run-1", "report.html"))


def test_scores_are_calibrated_and_each_film_has_its_ads(video_world, videos, settings, store) -> None:
    """The copies of a film's own trailer are nearer than every pair of films; no ad has more than half of the films."""
    match_ads([str(videos[f"{look}-again"]) for look in ("bars", "test", "blend")], "run-1", settings, store)
    matches = read_matches(store, "run-1")
    for match in matches.values():
        percentiles = [film.percentile for film in match.films]
        assert percentiles == sorted(percentiles, reverse=True)
        assert percentiles[0] == 100.0
        assert match.genre_mix
        assert all(0 < share <= 1 for share in match.genre_mix.values())
    lines = store.read_bytes(ads_key("run-1", "films.jsonl")).splitlines()
    films = {film.title: film for film in map(FilmAds.model_validate_json, lines)}
    assert len(films) == 4
    assert films["bars"].ads[0].ad == "bars-again"
    assert films["test"].ads[0].ad == "test-again"
    given = Counter(ad.ad for film in films.values() for ad in film.ads)
    assert max(given.values()) <= 2
    assert all(ad.score == ad.video_share + ad.audio_share for film in films.values() for ad in film.ads)
    best = matches["bars-again"].films[0]
    assert films["bars"].ads[0].score == pytest.approx(best.best.score, abs=1e-6)


def test_one_ad_does_not_take_all_films() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.0, 0.35]])
    assert place_ads(scores, ads_per_film=1, max_share=0.5) == [[0], [0], [1], [1]]
    assert place_ads(scores, ads_per_film=2, max_share=1.0) == [[0, 1], [0, 1], [0, 1], [0, 1]]
    assert place_ads(scores[:1], ads_per_film=3, max_share=0.1) == [[0]] * 4  # there is no other


def test_every_film_has_an_ad_before_one_has_a_second() -> None:
    alike = np.array([[0.9, 0.8, 0.7, 0.6]] * 2)
    assert place_ads(alike, ads_per_film=2, max_share=0.5) == [[0], [0], [1], [1]]
    assert place_ads(alike, ads_per_film=2, max_share=0.75) == [[0, 1], [0, 1], [0], [1]]
    many = np.random.default_rng(0).normal(size=(3, 42)) + np.linspace(0, 9, 42)  # all ads suit the same films best
    placed = place_ads(many, ads_per_film=3, max_share=0.5)
    assert {len(given) for given in placed} == {1, 2}
    assert Counter(ad for given in placed for ad in given) == {0: 21, 1: 21, 2: 21}
    for film, given in enumerate(placed):
        assert given == sorted(given, key=lambda ad: -many[ad, film])


@pytest.mark.parametrize("seed", range(4))
def test_one_ad_each_is_given_as_pair_by_pair(seed) -> None:
    """As the slow way does it: every pair, best first, of equal ones the first."""
    scores = np.random.default_rng(seed).integers(0, 12, (5, 23)) / 12
    room, given = Counter(dict.fromkeys(range(5), 7)), {}
    for place in np.argsort(-scores, axis=None, kind="stable").tolist():
        ad, film = divmod(place, 23)
        if film not in given and room[ad]:
            given[film] = ad
            room[ad] -= 1
    assert place_ads(scores, ads_per_film=1, max_share=0.3) == [[given[film]] for film in range(23)]


def test_the_closest_frames_are_pairs_of_the_same_colours() -> None:
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [120, 120, 120]], np.uint8)
    one = np.broadcast_to(colours[:, None, None], (4, 32, 32, 3))
    other = np.broadcast_to(colours[[2, 3, 0], None, None], (3, 32, 32, 3))
    one, other = (shrink_frames(np.ascontiguousarray(frames)) for frames in (one, other))
    pairs = find_closest_frames(one, other, 3)
    assert {pair[:2] for pair in pairs} == {(2, 0), (3, 1), (0, 2)}
    assert all(alike == 1 for *_, alike in pairs)
    assert find_closest_frames(one[:0], other, 3) == []


def test_a_line_that_is_no_address_and_no_path_stops_no_other(video_world, videos, settings, store) -> None:
    sources = ["http://[oops/ad.mp4", "http://127.0.0.1:port/b.mp4", "x" * 5000, "a\0b.mp4", str(videos["bars-again"])]
    summary = match_ads(sources, "run-1", settings, store)
    assert (summary.n_ads, summary.n_matched) == (5, 1)
    assert summary.problems == {"bad_url": 2, "not_found": 2}
    matches = list(read_matches(store, "run-1").values())
    assert [match.source for match in matches] == sources
    assert matches[-1].films[0].best.title == "bars"


def test_what_is_taken_down_during_the_downloads_is_no_answer(
    video_world, videos, settings, store, monkeypatch
) -> None:
    gone = video_world[0].trailer_id
    fetch_ads = ads.fetch_ads

    def fetch_slowly(*arguments):
        fetched = fetch_ads(*arguments)
        take_down(gone, store)
        return fetched

    monkeypatch.setattr(ads, "fetch_ads", fetch_slowly)
    match_ads([str(videos["bars"])], "run-1", settings, store)
    (match,) = read_matches(store, "run-1").values()
    assert len(match.films) == 4
    assert gone not in {film.best.trailer_id for film in match.films}


def test_a_page_that_shows_what_is_taken_down_is_deleted_whoever_comes_first(
    video_world, videos, settings, store, monkeypatch
) -> None:
    sources = [str(videos["bars-again"])]
    one, other = (ads_key(run, "report.html") for run in ("run-1", "run-2"))
    match_ads(sources, "run-1", settings, store)
    match_ads(sources, "run-2", settings.model_copy(update={"search": SearchSettings(k=1)}), store)
    unseen = next(trailer.trailer_id for trailer in video_world if trailer.title == "blend")
    gone, rest = sorted(
        (trailer.trailer_id for trailer in video_world if trailer.title == "bars"),
        key=read_matches(store, "run-2")["bars-again"].films[0].best.trailer_id.__ne__,
    )
    assert take_down(unseen, store).deleted["ads"] == 1
    assert (store.exists(one), store.exists(other)) == (False, True)
    assert take_down(gone, store).deleted["ads"] == 1
    assert not store.exists(other)
    assert take_down(gone, store).deleted == {}

    match_ads(sources, "run-1", settings, store)
    store.put_bytes(ads_key("run-1", "matches.jsonl"), b'{"ad": "cut o')  # of whom nobody can say whom it shows
    assert take_down(gone, store).deleted == {"ads": 1}

    render_page = ads.render_page

    def render_slowly(*arguments, **facts):
        take_down(rest, store)
        return render_page(*arguments, **facts)

    monkeypatch.setattr(ads, "render_page", render_slowly)
    match_ads(sources, "run-2", settings, store)
    assert read_matches(store, "run-2")["bars-again"].films[0].best.trailer_id == rest
    assert not store.exists(other)


def test_the_page_stands_alone_and_can_be_read_aloud(video_world, videos, settings, store) -> None:
    jpeg = encode_jpeg(np.full((8, 8, 3), 90, np.uint8), 90)
    store.put_bytes(thumb_key(video_world[0].trailer_id), jpeg)
    match_ads([str(videos["bars-again"]), "nowhere.mp4"], "run-1", settings, store)
    text = store.read_bytes(ads_key("run-1", "report.html")).decode()
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert all("alt" in image for image in page.all("img"))
    assert "http" not in text.replace(str(videos["bars-again"]), "")
    assert not page.all("script")
    assert not page.all("link")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes} <= ids
    assert {"bars-again", "bars", "nowhere", "not found"} <= set(page.words)
    assert "no picture" in page.words  # the other trailers have none


def test_what_others_wrote_is_text_and_never_markup(
    settings, store, video_world, videos, put_embedded, make_trailer, publish, tmp_path
) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    with pytest.raises(MediaError):
        match_ads([str(path)], "run-1", settings, store)
    page = Page(store.read_bytes(ads_key("run-1", "report.html")).decode())
    assert page.all("img") == []
    assert any("<img src=x" in words for words in page.words)


NAMES = ("matches.jsonl", "films.jsonl", "report.html", "pictures/blend.jpg")


def test_the_same_run_again_is_the_same_bytes(video_world, videos, settings, store) -> None:
    match_ads([str(videos["bars"])], "run-1", settings, store)
    match_ads([str(videos["blend"])], "run-1", settings, store)
    before = {key: store.read_bytes(key) for key in store.list_keys("ads/")}
    match_ads([str(videos["blend"])], "run-1", settings, store)
    assert {key: store.read_bytes(key) for key in store.list_keys("ads/")} == before
    assert set(before) == {f"ads/run-1/{name}" for name in NAMES}


@pytest.mark.parametrize("run", ["", "a/b", "../x", "Run", "run\n", "-x", "a b", "x" * 200])
def test_a_run_has_a_plain_name(run, settings, store) -> None:
    with pytest.raises(SettingsError, match="a run is named with"):
        match_ads(["x.mp4"], run, settings, store)


def test_no_ads_and_no_index_are_said_so(settings, store) -> None:
    with pytest.raises(SettingsError, match="no ad"):
        match_ads([], "run-1", settings, store)
    with pytest.raises(NoIndexError, match="index build"):
        match_ads(["x.mp4"], "run-1", settings, store)
    assert list(store.list_keys("ads/")) == []


def test_names_are_unique_and_plain() -> None:
    sources = ["a/Ad One.mp4", "http://h/x/ad%20one.mp4?token=1", "b/ad-one-2.mp4", "ad one.mov", "/", "http://h/"]
    assert [ad.name for ad in name_ads(sources)] == ["ad-one", "ad-one-2", "ad-one-2-2", "ad-one-3", "ad", "ad-2"]


def answer(video: float, audio: float, *genres: str) -> Neighbour:
    return Neighbour(
        trailer_id="t", film_id="f", title="T", kind="trailer", genres=genres, score=video + audio, video_share=video,
        audio_share=audio,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("video", "audio", "words"),
    [
        (0.32, 0.41, "picture and sound alike: 0.32 and 0.41"),
        (0.22, 0.51, "mostly sound: 0.51 of 0.73"),
        (0.45, 0.05, "mostly picture: 0.45 of 0.50"),
        (0.45, -0.05, "mostly picture: 0.45 of 0.40"),
        (0.1, 0.05, "hardly alike: 0.15 of 1"),
        (-0.2, 0.1, "hardly alike: -0.10 of 1"),
    ],
)
def test_a_score_in_words(video, audio, words) -> None:
    assert explain_answer(answer(video, audio)) == words


def test_what_answers_have_in_common() -> None:
    answers = [answer(0.1, 0.4, "Horror"), answer(0.1, 0.4, "Horror", "Drama"), answer(0.2, 0.3, "Comedy", "Drama")]
    assert explain_answers(answers) == "mostly sound; 2 of 3 are Drama"
    assert explain_answers(answers[:1]) == "mostly sound; 1 of 1 are Horror"
    assert explain_answers([answer(0.3, 0.3)]) == "picture and sound alike"
    assert explain_answers([]) == "nothing to compare with"
