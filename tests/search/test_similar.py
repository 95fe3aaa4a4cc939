"""Neighbours of a trailer: exact scores, what is left out, and what is said of a trailer that is not there."""

import numpy as np
import pytest

from trailer_ml.errors import NoIndexError, SettingsError, UnknownTrailerError
from trailer_ml.index.build import build_index
from trailer_ml.index.serve import open_current_index
from trailer_ml.records import Quarantine
from trailer_ml.search.filters import Filters
from trailer_ml.search.neighbours import find_neighbours
from trailer_ml.search.similar import find_similar
from trailer_ml.search.takedown import take_down
from trailer_ml.storage import quarantine_key, sha256_of


def test_answers_are_those_of_exact_search_with_shares_that_add_up(
    settings, store, put_embedded, make_vectors, publish
):
    vectors = make_vectors(300, 32)
    trailers = put_embedded(vectors)
    publish()
    for row in (0, 17, 299):
        answers = find_similar(trailers[row].trailer_id, settings, store, k=12)
        scores = vectors.astype(np.float64) @ vectors[row]
        best = [other for other in np.argsort(-scores, kind="stable").tolist() if other != row][:12]
        assert [answer.trailer_id for answer in answers] == [trailers[other].trailer_id for other in best]
        for answer, other in zip(answers, best, strict=True):
            assert answer.score == pytest.approx(scores[other], abs=1e-6)
            assert answer.video_share == pytest.approx(float(vectors[other, :16] @ vectors[row, :16]), abs=1e-6)
            assert answer.score == answer.video_share + answer.audio_share
            assert (answer.title, answer.genres) == (trailers[other].title, trailers[other].genres)


def test_the_settings_say_how_many(settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(30))
    publish()
    assert len(find_similar(trailers[0].trailer_id, settings, store)) == settings.search.k == 10


@pytest.mark.parametrize("n", [1, 2, 3])
def test_more_asked_for_than_there_are(n, settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(n))
    publish()
    answers = find_similar(trailers[0].trailer_id, settings, store, k=50)
    assert {answer.trailer_id for answer in answers} == {trailer.trailer_id for trailer in trailers[1:]}


@pytest.mark.parametrize("k", [0, -1])
def test_none_asked_for_is_a_mistake(k, settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(3))
    publish()
    with pytest.raises(SettingsError, match="at least 1"):
        find_similar(trailers[0].trailer_id, settings, store, k=k)


def test_equal_scores_are_ordered_by_id(settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(np.repeat(make_vectors(1), 20, axis=0))
    publish()
    answers = find_similar(trailers[4].trailer_id, settings, store, k=6)
    assert [answer.trailer_id[-2:] for answer in answers] == ["00", "01", "02", "03", "05", "06"]


def test_other_trailers_of_the_film_are_left_out_unless_asked_for(
    settings, store, put_embedded, make_vectors, make_trailer, publish
) -> None:
    vectors = np.concatenate([np.repeat(make_vectors(1), 15, axis=0), make_vectors(15, seed=1)])
    trailers = [make_trailer(n, film_id="imdb-tt1" if n < 15 else f"imdb-tt{n}") for n in range(30)]
    put_embedded(vectors, trailers)
    publish()
    others = find_similar(trailers[0].trailer_id, settings, store)
    assert len(others) == 10
    assert {answer.film_id for answer in others}.isdisjoint({"imdb-tt1"})
    same = find_similar(trailers[0].trailer_id, settings, store, same_film=True)
    assert {answer.film_id for answer in same} == {"imdb-tt1"}
    assert trailers[0].trailer_id not in {answer.trailer_id for answer in same}


def test_what_is_taken_down_is_gone_at_once_and_k_remain(settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(60))
    publish()
    first = [answer.trailer_id for answer in find_similar(trailers[0].trailer_id, settings, store)]
    for trailer_id in first:
        take_down(trailer_id, store)
    second = [answer.trailer_id for answer in find_similar(trailers[0].trailer_id, settings, store)]
    assert len(second) == 10
    assert set(second).isdisjoint(first)
    with pytest.raises(UnknownTrailerError, match=f"{first[0]} is not in the index: it is taken down"):
        find_similar(first[0], settings, store)


def test_what_is_left_out_costs_nobody_else_and_k_remain(
    settings, store, put_embedded, make_vectors, publish, monkeypatch
) -> None:
    """Far away it costs nothing; where it is all that is near, the nearest of the rest are found all the same."""
    vectors = make_vectors(600, 32, n_clusters=6, spread=0.2)
    put_embedded(vectors)
    publish()
    order, asked = np.argsort(-(vectors @ vectors[0]), kind="stable").tolist(), []
    with open_current_index(store, settings.index.cache_folder) as index:
        nearest = index.nearest
        monkeypatch.setattr(index, "nearest", lambda query, n, **more: asked.append(n) or nearest(query, n, **more))
        for gone in (order[-300:], order[:300]):
            answers = find_neighbours(index, vectors[0], 10, model_version="m-1", left_out=frozenset(gone))
            truth = [row for row in order if row not in set(gone)][:10]
            assert [int(answer.trailer_id[-7:]) for answer in answers] == truth
    assert asked[0] <= 50
    assert len(asked) == 1 + 3


def test_one_per_film_gives_the_best_of_each(
    settings, store, put_embedded, make_vectors, make_trailer, publish
) -> None:
    vectors = make_vectors(90)
    trailers = [make_trailer(n, film_id=f"imdb-tt{n % 30}") for n in range(90)]
    put_embedded(vectors, trailers)
    publish()
    with open_current_index(store, settings.index.cache_folder) as index:
        films = find_neighbours(index, vectors[0], 20, model_version="m-1", one_per_film=True)
    best = {}
    for row in np.argsort(-(vectors @ vectors[0]), kind="stable").tolist():
        best.setdefault(trailers[row].film_id, trailers[row].trailer_id)
    assert [film.trailer_id for film in films] == list(best.values())[:20]


def test_asking_changes_nothing_in_the_store(settings, store, put_embedded, make_vectors, publish) -> None:
    trailers = put_embedded(make_vectors(30))
    publish()
    before = {key: sha256_of(store.read_bytes(key)) for key in store.list_keys("")}
    find_similar(trailers[0].trailer_id, settings, store)
    assert {key: sha256_of(store.read_bytes(key)) for key in store.list_keys("")} == before


def test_an_unknown_id_names_the_close_ones(settings, store, put_embedded, make_vectors, make_trailer, publish) -> None:
    trailers = [make_trailer(n, title=title) for n, title in enumerate(["Night Train", "Dawn", "The Long Night Out"])]
    put_embedded(make_vectors(3), trailers)
    publish()
    with pytest.raises(
        UnknownTrailerError, match=r"no trailer 'imdb-vi000002'; did you mean imdb-vi0000002 \(The Long"
    ):
        find_similar("imdb-vi000002", settings, store)
    with pytest.raises(UnknownTrailerError, match=r"imdb-vi0000000 \(Night Train\) or imdb-vi0000002 \(The Long Night"):
        find_similar("night", settings, store)
    with pytest.raises(UnknownTrailerError, match=r"did you mean imdb-vi0000001 \(Dawn\)\?"):
        find_similar("Dwan", settings, store)
    with pytest.raises(UnknownTrailerError, match=r"^there is no trailer 'zzzzzz'$"):
        find_similar("zzzzzz", settings, store)


def test_a_trailer_that_is_known_and_not_in_says_why(
    settings, store, put_embedded, make_vectors, make_trailer, publish
) -> None:
    day = make_trailer(0).listed_on
    put_embedded(make_vectors(3))
    publish()
    lost = make_trailer(60, day.replace(day=22))
    store.put_bytes("catalog/listed=2026-11-22/trailers.jsonl", lost.model_dump_json().encode() + b"\n")
    with pytest.raises(UnknownTrailerError, match=r"it is listed$"):
        find_similar(lost.trailer_id, settings, store)
    entry = Quarantine(id=lost.trailer_id, stage="shard", reason="corrupt", detail="no moov atom", is_permanent=True)
    store.put_json(quarantine_key("shard", lost.trailer_id), entry.to_json())
    with pytest.raises(UnknownTrailerError, match=r"it is rejected \(corrupt: no moov atom\)$"):
        find_similar(lost.trailer_id, settings, store)


def test_without_an_index_it_says_how_to_make_one(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(3))
    build_index(settings, store)
    with pytest.raises(NoIndexError, match="trailer-ml index publish"):
        find_similar("imdb-vi0000000", settings, store)


@pytest.mark.parametrize(
    "wanted",
    [
        Filters(genres=("western",)),
        Filters(year_from=2020, year_to=2021),
        Filters(sources=("tmdb",)),
        Filters(genres=("Drama", "Horror"), year_to=2003, sources=("imdb",)),
    ],
)
def test_filters_give_k_answers_where_there_are_k_and_the_nearest(
    wanted, settings, store, put_embedded, make_vectors, make_trailer, publish
) -> None:
    """The wanted ones are far away: few of them are among the first that the index finds."""
    vectors = make_vectors(600, 32, n_clusters=6, spread=0.2)
    trailers = [make_trailer(n) for n in range(600)]
    trailers[5::40] = [make_trailer(n, trailer_id=f"tmdb-{n}") for n in range(5, 600, 40)]
    put_embedded(vectors, trailers)
    publish()
    answers = find_similar(trailers[0].trailer_id, settings, store, k=7, wanted=wanted)
    truth = [
        trailers[row].trailer_id
        for row in np.argsort(-(vectors @ vectors[0]), kind="stable").tolist()
        if row and wanted.take(trailers[row])
    ]
    assert [answer.trailer_id for answer in answers] == truth[:7]
    assert find_similar(trailers[0].trailer_id, settings, store, wanted=Filters(year_from=2100)) == []


def test_a_film_is_one_answer_that_names_its_other_trailers(
    settings, store, put_embedded, make_vectors, make_trailer, publish
) -> None:
    trailers = [make_trailer(n, film_id=f"imdb-tt{n // 3}", genres=("Drama", "War")[: 1 + n % 2]) for n in range(30)]
    put_embedded(make_vectors(30), trailers)
    publish()
    take_down(trailers[29].trailer_id, store)
    answers = find_similar(trailers[0].trailer_id, settings, store, k=20)
    assert len(answers) == 9
    for answer in answers:
        film = {trailer.trailer_id for trailer in trailers[:29] if trailer.film_id == answer.film_id}
        assert {answer.trailer_id, *answer.also} == film
        assert answer.shared_genres == ("Drama",)
    every = find_similar(trailers[0].trailer_id, settings, store, k=20, collapse=False)
    assert len(every) == 20
    assert every[0].also == ()
