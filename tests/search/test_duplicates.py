"""Near-duplicates: joined through others, scored, and compared with a brute-force twin."""

import itertools

import numpy as np
import pytest

from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.search.takedown import take_down
from trailer_ml.vectors import normalise


def turn(vector: np.ndarray, degrees: float, seed: int = 0) -> np.ndarray:
    """A unit vector at an angle to another."""
    free = np.random.default_rng(seed).normal(size=vector.shape)
    free -= (free @ vector) * vector
    free /= np.linalg.norm(free)
    angle = np.radians(degrees)
    return (np.cos(angle) * vector + np.sin(angle) * free).astype(np.float32)


def test_groups_are_joined_through_others(settings, store, put_embedded, make_vectors, publish) -> None:
    """0, 10 and 20 degrees: the outer two are too far apart (0.94) and yet of one group, by the one between (0.985)."""
    far = normalise(np.eye(16, dtype=np.float32)[:4])
    chain = [far[0], turn(far[0], 10), turn(far[0], 20)]
    put_embedded(np.stack([*chain, far[1], turn(far[1], 3), far[2], far[3]]))
    publish()
    pair, group = find_duplicates(settings, store)
    assert [trailer.trailer_id[-1] for trailer in pair.trailers] == ["3", "4"]
    assert [trailer.trailer_id[-1] for trailer in group.trailers] == ["0", "1", "2"]
    assert len(group.pairs) == 2
    assert {(one[-1], other[-1]) for one, other, _ in group.pairs} == {("0", "1"), ("1", "2")}
    assert pair.pairs[0][2] == pytest.approx(np.cos(np.radians(3)), abs=1e-5)


def test_every_pair_is_the_one_of_a_brute_force_twin(settings, store, put_embedded, make_vectors, publish) -> None:
    """Groups far larger than the first look: 40 copies and more of a vector."""
    vectors = make_vectors(200, 16, n_clusters=4, spread=0.12)
    trailers = put_embedded(vectors)
    publish()
    found = {(one, other) for group in find_duplicates(settings, store, 0.98) for one, other, _ in group.pairs}
    scores = vectors.astype(np.float64) @ vectors.T
    truth = {
        (trailers[one].trailer_id, trailers[other].trailer_id)
        for one, other in itertools.combinations(range(200), 2)
        if scores[one, other] >= 0.98
    }
    assert len(truth) > 1000
    assert found == truth


def test_every_pair_is_found_where_the_index_is_in_files_and_some_came_since(
    settings, store, put_embedded, make_vectors, make_trailer
) -> None:
    vectors = make_vectors(90, 16, n_clusters=2, spread=0.12)
    trailers = put_embedded(vectors[:70])
    split = settings.model_copy(update={"index": settings.index.model_copy(update={"shards": 3})})
    publish_index(build_index(split, store).version, split, store)
    day = trailers[0].listed_on.replace(day=25)
    trailers += put_embedded(vectors[70:], [make_trailer(number, day) for number in range(70, 90)], day=day)
    found = {(one, other) for group in find_duplicates(split, store, 0.98) for one, other, _ in group.pairs}
    scores = vectors.astype(np.float64) @ vectors.T
    near = [(i, j) for i, j in itertools.combinations(range(90), 2) if scores[i, j] >= 0.98]
    assert len(near) > 500
    assert found == {(trailers[one].trailer_id, trailers[other].trailer_id) for one, other in near}


def test_nothing_alike_gives_nothing(settings, store, put_embedded, publish) -> None:
    put_embedded(np.eye(16, dtype=np.float32))
    publish()
    assert find_duplicates(settings, store) == []


def test_one_that_was_taken_down_is_no_duplicate(settings, store, put_embedded, make_vectors, publish) -> None:
    put_embedded(np.repeat(make_vectors(1), 3, axis=0))
    publish()
    take_down("imdb-vi0000001", store)
    (group,) = find_duplicates(settings, store)
    assert [trailer.trailer_id[-1] for trailer in group.trailers] == ["0", "2"]
    assert [(one[-1], other[-1]) for one, other, _ in group.pairs] == [("0", "2")]
