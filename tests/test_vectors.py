"""Vectors and metrics, against numbers worked by hand and slow twins."""

import itertools

import numpy as np
import pytest

from trailer_ml.vectors import (
    average_precision_at_k,
    chance_average_precision_at_k,
    exact_top_k,
    normalise,
    precision_at_k,
    recall_at_k,
    split_scores,
    top_rows,
)


def test_normalise_makes_unit_rows_and_leaves_zero_alone() -> None:
    rows = normalise(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_exact_top_k_finds_what_a_full_sort_finds() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(600, 8)), rng.normal(size=(50, 8))
    scores, rows = exact_top_k(queries, gallery, 5)
    for query, found, score in zip(queries, rows, scores, strict=True):
        ranked = sorted(range(50), key=lambda row: -float(query @ gallery[row]))
        assert found.tolist() == ranked[:5]
        np.testing.assert_allclose(score, [query @ gallery[row] for row in ranked[:5]])


def test_exact_top_k_breaks_ties_by_row_and_returns_what_there_is() -> None:
    scores, rows = exact_top_k(np.ones((1, 2)), np.ones((3, 2)), 10)
    assert rows.tolist() == [[0, 1, 2]]
    assert scores.tolist() == [[2.0, 2.0, 2.0]]


def test_exact_top_k_finds_the_same_in_blocks(monkeypatch) -> None:
    """Scores that come twice and three times, within a block and across: the lower row is first."""
    rng = np.random.default_rng(2)
    queries, gallery = rng.integers(-2, 3, (9, 3)).astype(float), rng.integers(-2, 3, (40, 3)).astype(float)
    monkeypatch.setattr("trailer_ml.vectors._BLOCK", 4)
    for rows_at_once in (1, 7, 40):
        monkeypatch.setattr("trailer_ml.vectors._ROWS", rows_at_once)
        scores, rows = exact_top_k(queries, gallery, 11)
        all_scores = queries @ gallery.T
        np.testing.assert_array_equal(rows, np.argsort(-all_scores, axis=1, kind="stable")[:, :11])
        np.testing.assert_array_equal(scores, np.take_along_axis(all_scores, rows, axis=1))


@pytest.mark.parametrize("k", [0, 1, 4, 5, 9])
def test_the_top_rows_are_those_of_a_full_sort(k) -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0])
    assert top_rows(scores, k).tolist() == [1, 3, 2, 4, 0][:k]


def test_shares_add_up_to_the_cosine() -> None:
    rng = np.random.default_rng(1)
    vectors = normalise(rng.normal(size=(20, 12)))
    video, audio = split_scores(vectors[0], vectors, video_dim=5)
    np.testing.assert_allclose(video + audio, vectors @ vectors[0], atol=1e-12)
    assert video[0] == pytest.approx(float(np.square(vectors[0, :5]).sum()))


@pytest.mark.parametrize(
    ("relevance", "n_relevant", "k", "expected"),
    [
        ([1, 1, 1], 3, 3, 1.0),
        ([0, 0, 0], 3, 3, 0.0),
        ([1, 0, 1], 2, 3, (1 / 1 + 2 / 3) / 2),
        ([0, 1, 0, 1], 5, 4, (1 / 2 + 2 / 4) / 4),  # five to find, four places: a full house would be 4
        ([0, 1, 0, 1], 5, 2, (1 / 2) / 2),
        ([1], 4, 3, 1 / 3),  # one answer only was given
        ([0, 0], 0, 2, 0.0),  # nothing to find
    ],
)
def test_average_precision_by_hand(relevance: list[int], n_relevant: int, k: int, expected: float) -> None:
    assert average_precision_at_k([relevance], [n_relevant], k)[0] == pytest.approx(expected)


def test_recall_and_precision_by_hand() -> None:
    relevance = [[1, 0, 1, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(recall_at_k(relevance, [4, 1], 3), [2 / 4, 0.0])
    np.testing.assert_allclose(precision_at_k(relevance, 3), [2 / 3, 0.0])
    np.testing.assert_allclose(precision_at_k([[1, 1]], 4), [0.5])


@pytest.mark.parametrize(("n_relevant", "n_gallery", "k"), [(2, 5, 3), (1, 4, 4), (4, 6, 2), (3, 3, 10)])
def test_chance_is_the_mean_over_every_order(n_relevant: int, n_gallery: int, k: int) -> None:
    hits = np.arange(n_gallery) < n_relevant
    orders = np.array(list(itertools.permutations(range(n_gallery))))
    mean = average_precision_at_k(hits[orders], np.full(len(orders), n_relevant), k).mean()
    assert chance_average_precision_at_k([n_relevant], [n_gallery], k)[0] == pytest.approx(mean)


def test_chance_of_an_empty_class_is_zero() -> None:
    assert chance_average_precision_at_k([0], [9], 10)[0] == 0.0
