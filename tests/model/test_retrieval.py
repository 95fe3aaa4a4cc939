"""Retrieval figures: against another implementation, by hand, and how sure they are."""

import numpy as np
import pytest
import pytrec_eval

from trailer_ml.errors import DataError
from trailer_ml.model.bootstrap import interval_of_mean
from trailer_ml.model.dataset import DatasetTrailer
from trailer_ml.model.retrieval import METRICS, K, measure_retrieval
from trailer_ml.vectors import normalise

GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance")


def trailer(number: int, film: str, genres: tuple[str, ...], split: str = "test") -> DatasetTrailer:
    return DatasetTrailer(trailer_id=f"t-{number}", film_id=film, genres=genres, split=split, shard=0, row=number)


def random_world(n: int = 60) -> tuple[np.ndarray, list[DatasetTrailer]]:
    """Trailers of one to three genres, two of every fifth film; a third is held out."""
    rng = np.random.default_rng(4)
    trailers = [
        trailer(
            number,
            f"f-{number - (number % 5 == 4)}",
            tuple(sorted(rng.choice(GENRES, rng.integers(1, 4), replace=False))),
            "test" if number % 15 < 5 else "train",
        )
        for number in range(n)
    ]
    return normalise(rng.normal(size=(n, 8))).astype(np.float32), trailers


def test_the_metrics_are_those_of_trec_eval() -> None:
    """Its MAP at a depth is over all relevant answers, ours over those that fit: the one thing that is converted."""
    vectors, trailers = random_world()
    found = measure_retrieval(vectors, trailers)
    relevant, scores, fits = {}, {}, []
    for query in found.numbers:
        others = [i for i, other in enumerate(trailers) if other.film_id != trailers[query].film_id]
        shared = {i: len(set(trailers[i].genres) & set(trailers[query].genres)) for i in others}
        relevant[str(query)] = {str(i): n for i, n in shared.items()}
        scores[str(query)] = {str(i): float(vectors[i] @ vectors[query]) for i in others}
        n_relevant = sum(n > 0 for n in shared.values())
        fits.append(n_relevant / min(K, n_relevant))
    names = {f"{name}_{K}": f"{name}.{K}" for name in ("map_cut", "recall", "P", "ndcg_cut")}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, set(names.values())).evaluate(scores)
    table = np.array([[theirs[str(query)][name] for name in names] for query in found.numbers])
    table[:, 0] *= fits
    np.testing.assert_allclose(found.values, table, rtol=1e-6)
    assert len(set(found.values[:, METRICS.index("ndcg")])) > 10  # a check on figures that are all alike is none
    assert {genre: figures["ndcg"].value for genre, figures in found.per_genre().items()} == {
        genre: pytest.approx(found.values[mine, 3].mean()) for genre, mine in found.of_genre.items()
    }


def test_chance_is_what_random_vectors_give_on_average() -> None:
    rng = np.random.default_rng(8)
    _, trailers = random_world(30)
    drawn = [measure_retrieval(normalise(rng.normal(size=(30, 6))), trailers) for _ in range(300)]
    mean = np.mean([found.values.mean(axis=0) for found in drawn], axis=0)
    np.testing.assert_allclose(mean, drawn[0].chance.mean(axis=0), atol=0.01)


def test_a_film_has_no_teaser_of_its_own_among_the_answers() -> None:
    """The teaser is the very same vector; the one other film of the genre comes third, after two of another genre."""
    rows = [
        ("film", "Drama", "test", (1.0, 0.0)),
        ("film", "Drama", "test", (1.0, 0.0)),
        ("near", "Horror", "train", (0.96, 0.28)),
        ("next", "Horror", "train", (0.8, 0.6)),
        ("far", "Drama", "train", (0.6, 0.8)),
        ("last", "Horror", "train", (0.0, 1.0)),
    ]
    trailers = [trailer(n, film, (genre,), split) for n, (film, genre, split, _) in enumerate(rows)]
    found = measure_retrieval(np.array([vector for *_, vector in rows], np.float32), trailers)
    overall = {name: estimate.value for name, estimate in found.overall().items()}
    assert len(found.films) == 2
    assert overall == {"map": pytest.approx(1 / 3), "recall": 1.0, "precision": 0.1, "ndcg": pytest.approx(1 / 2)}
    assert found.overall()["map"].low is None  # of one film nobody knows how sure it is
    assert found.per_genre() == {"Drama": found.overall()}


def test_without_a_question_there_is_no_figure() -> None:
    trailers = [trailer(0, "a", ("Drama",)), trailer(1, "b", ("Horror",))]
    with pytest.raises(DataError, match="there is nothing to measure"):
        measure_retrieval(np.eye(2, dtype=np.float32), trailers)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Five queries a film that agree with each other: drawn query by query, it would hold it half as often."""
    rng = np.random.default_rng(2)
    films = [f"f-{number // 5}" for number in range(150)]
    held = 0
    for _ in range(200):
        values = 0.5 + np.repeat(rng.normal(size=30), 5)[:, None] + rng.normal(size=(150, 1)) / 10
        low, high = interval_of_mean(values, films, n_resamples=300)
        held += low[0] <= 0.5 <= high[0]
    assert 0.88 <= held / 200 <= 0.98
    assert interval_of_mean(values, films).tolist() == interval_of_mean(values, films).tolist()
