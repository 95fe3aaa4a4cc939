"""One film under several names is one film, and two films of one name are two."""

import itertools

import pytest

from trailer_ml.catalog.films import merge_films


def _films(make_trailer, *facts, known=()):
    trailers = [make_trailer(number, **fact) for number, fact in enumerate(facts)]
    merged = merge_films(trailers, [make_trailer(90 + number, **fact) for number, fact in enumerate(known)])
    return [trailer.film_id for trailer in sorted(merged, key=lambda trailer: trailer.trailer_id)]


IMDB = {"film_id": "imdb-tt0000001", "title": "The Tide", "year": 2001}
TMDB = {"film_id": "tmdb-7", "title": "Tide", "year": 1999}
BOTH = {"film_id": "imdb-tt0000001", "film_aliases": ("tmdb-7",), "title": "Flut", "year": 2002}


@pytest.mark.parametrize("order", list(itertools.permutations((IMDB, TMDB, BOTH))))
def test_an_id_in_common_makes_one_whatever_the_order(make_trailer, order):
    assert _films(make_trailer, *order) == ["imdb-tt0000001"] * 3


def test_title_and_year_make_one_and_an_article_or_accent_does_not_matter(make_trailer):
    other = {"film_id": "manifest-x", "title": "Tide, The", "year": 2001}
    assert _films(make_trailer, IMDB, other) == ["imdb-tt0000001"] * 2
    assert _films(make_trailer, other, {"film_id": "manifest-y", "title": "tidé", "year": 2001}) == ["manifest-x"] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"film_id": "imdb-tt0000002", "title": "The Tide", "year": 2001},
        {"film_id": "manifest-x", "title": "The Tide", "year": 2002},
        {"film_id": "manifest-x", "title": "The Tide", "year": None},
        {"film_id": "manifest-x", "title": "The Tides", "year": 2001},
    ],
)
def test_what_ids_year_or_title_tell_apart_stays_apart(make_trailer, other):
    assert _films(make_trailer, IMDB, other) == ["imdb-tt0000001", other["film_id"]]


def test_the_name_that_the_catalog_has_stays(make_trailer):
    assert _films(make_trailer, BOTH, known=[TMDB]) == ["tmdb-7"]
    assert _films(make_trailer, {"film_id": "kinocheck-1", "title": "Tide", "year": 1999}, known=[TMDB]) == ["tmdb-7"]
