"""The best trailers of a film, with reasons; the doubtful ones are for a person."""

import pytest

from trailer_ml.catalog.choose import REVIEW, choose_trailers
from trailer_ml.records import Quarantine, Trailer
from trailer_ml.settings import CatalogSettings, Settings

FILM = {"film_id": "imdb-tt0000001", "title": "The Tide"}


def _choose(make_trailer, *facts, known=(), accepted=(), per_film=3):
    settings = Settings(catalog=CatalogSettings(trailers_per_film=per_film))
    trailers = [make_trailer(number, **{**FILM, **fact}) for number, fact in enumerate(facts)]
    found = list(choose_trailers(trailers, known, accepted, settings))
    number = lambda name: int(name.removeprefix("imdb-vi"))  # noqa: E731
    kept = [number(entry.trailer_id) for entry in found if isinstance(entry, Trailer)]
    left = {number(entry.id): entry for entry in found if isinstance(entry, Quarantine)}
    return kept, left, found


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"kind": "trailer"}, {"kind": "teaser"}),
        ({"kind": "teaser"}, {"kind": "recut"}),
        ({"is_official": True}, {"is_official": False}),
        ({"language": "en"}, {"language": "de"}),
        ({"duration_s": 140.0}, {"duration_s": 20.0}),
        ({"video_title": "The Tide - Official Trailer"}, {"video_title": "Official Trailer 2"}),
    ],
)
def test_each_fact_decides_and_is_said(make_trailer, better, worse):
    kept, left, found = _choose(make_trailer, worse, better, per_film=1)
    assert kept == [1]
    assert left[0].reason == "not_chosen"
    assert found[0].chosen_for[-1].endswith("points")


def test_trailer_teaser_and_recut_are_kept_and_a_fourth_is_not(make_trailer):
    kinds = [{"kind": "recut"}, {"kind": "teaser"}, {"kind": "trailer"}, {"kind": "recut"}]
    kept, left, _ = _choose(make_trailer, *kinds)
    assert kept == [2, 1, 0]
    assert list(left) == [3]


def test_those_of_the_catalog_count(make_trailer):
    known = [make_trailer(90 + number, **FILM) for number in range(2)]
    kept, left, _ = _choose(make_trailer, {}, {"kind": "teaser"}, known=known)
    assert (kept, list(left)) == ([0], [1])


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"video_title": "The Tide - Interview with the director"}, "its title says interview"),
        ({"video_title": "Some Other Film Trailer"}, "its title does not name the film"),
        ({"kind": "clip"}, "its source calls it a clip"),
        ({"duration_s": 5400.0}, "5400 s is long for a trailer"),
    ],
)
def test_a_doubtful_one_is_for_a_person_who_can_say_yes(make_trailer, facts, why):
    kept, left, _ = _choose(make_trailer, facts)
    assert kept == []
    assert left[0].reason == REVIEW
    assert left[0].detail.startswith(why)
    assert _choose(make_trailer, facts, accepted=("imdb-vi0000000",))[0] == [0]


def test_words_of_the_films_own_title_are_no_doubt(make_trailer):
    assert _choose(make_trailer, {"title": "The Interview", "video_title": "The Interview Trailer"})[0] == [0]
    assert _choose(make_trailer, {"video_title": "Official Trailer #2"})[0] == [0]
