"""Batches: balanced, without a film twice, every trailer in its turn, the same for the same seed."""

from collections import Counter

import numpy as np
import pytest

from trailer_ml.errors import DataError
from trailer_ml.model.batches import plan_epoch
from trailer_ml.model.dataset import DatasetTrailer
from trailer_ml.settings import ModelSettings

GENRES = ("Action", "Comedy", "Drama", "Horror")


def trailer(number: int, genres: tuple[str, ...], film: int | None = None, split: str = "train") -> DatasetTrailer:
    return DatasetTrailer(
        trailer_id=f"imdb-vi{number}",
        film_id=f"imdb-tt{number if film is None else film}",
        genres=genres,
        split=split,  # type: ignore[arg-type]
        shard=0,
        row=number,
    )


def settings(genres: int = 3, each: int = 4, seed: int = 1) -> ModelSettings:
    return ModelSettings(genres_per_batch=genres, trailers_per_genre=each, seed=seed)


def plain(n: int = 80) -> list[DatasetTrailer]:
    return [trailer(number, (GENRES[number % 4],)) for number in range(n)]


def test_each_batch_has_p_genres_of_k_trailers() -> None:
    for batch in plan_epoch(plain(), GENRES, settings(), phase=0, epoch=0):
        assert sorted(Counter(batch.labels.tolist()).values()) == [4, 4, 4]
        assert all(GENRES[label] in plain()[n].genres for n, label in zip(batch.numbers, batch.labels, strict=True))


def test_an_epoch_shows_every_trailer_about_once_and_every_genre_equally() -> None:
    plan = plan_epoch(plain(), GENRES, settings(genres=4, each=5), phase=0, epoch=0)
    assert len(plan) == 4
    assert Counter(n for batch in plan for n in batch.numbers.tolist()) == Counter(range(80))


def test_a_rare_genre_is_shown_more_often() -> None:
    trailers = plain(40) + [trailer(100 + n, ("Action",)) for n in range(40)]
    plan = plan_epoch(trailers, GENRES, settings(genres=4, each=4), phase=0, epoch=0)
    shown = Counter(label for batch in plan for label in batch.labels.tolist())
    assert set(shown.values()) == {20}


def test_only_training_trailers_are_used() -> None:
    trailers = plain(40) + [trailer(100 + n, ("Action",), split="test") for n in range(40)]
    plan = plan_epoch(trailers, GENRES, settings(), phase=0, epoch=0)
    assert max(n for batch in plan for n in batch.numbers.tolist()) < 40


@pytest.mark.parametrize("epoch", range(5))
def test_no_film_is_twice_in_a_batch(epoch: int) -> None:
    trailers = [trailer(n, (GENRES[n % 4], GENRES[(n + n // 4) % 4]), film=n // 3) for n in range(90)]
    for batch in plan_epoch(trailers, GENRES, settings(), phase=0, epoch=epoch):
        films = [trailers[n].film_id for n in batch.numbers]
        assert len(films) == len(set(films))


def test_a_trailer_of_several_genres_lends_one_an_epoch_and_each_in_time() -> None:
    trailers = [*plain(40), trailer(40, ("Action", "Drama"))]
    lent = []
    for epoch in range(30):
        plan = plan_epoch(trailers, GENRES, settings(genres=4, each=4), phase=0, epoch=epoch)
        labels = {int(la) for b in plan for n, la in zip(b.numbers, b.labels, strict=True) if n == 40}
        assert len(labels) <= 1
        lent += [GENRES[label] for label in labels]
    assert set(lent) == {"Action", "Drama"}


def test_a_genre_of_one_film_has_nothing_to_pair_and_is_left_out() -> None:
    trailers = [trailer(n, (GENRES[n % 2],)) for n in range(20)]
    trailers += [trailer(20 + n, ("Horror",), film=99) for n in range(3)]
    for batch in plan_epoch(trailers, GENRES, settings(), phase=0, epoch=0):
        assert GENRES.index("Horror") not in batch.labels


def test_fewer_films_than_k_give_what_there_is() -> None:
    trailers = [*plain(40), *(trailer(50 + n, ("War",)) for n in range(2))]
    plan = plan_epoch(trailers, (*GENRES, "War"), settings(genres=5, each=4), phase=0, epoch=0)
    for batch in plan:
        assert Counter(batch.labels.tolist())[4] == 2


def test_fewer_genres_than_asked_for_make_more_batches_not_a_shorter_epoch() -> None:
    plan = plan_epoch(plain(), GENRES, settings(genres=6, each=5), phase=0, epoch=0)
    assert Counter(n for batch in plan for n in batch.numbers.tolist()) == Counter(range(80))


@pytest.mark.parametrize("epoch", range(8))
def test_a_genre_that_is_only_lent_by_chance_makes_no_epoch_of_one_genre(epoch: int) -> None:
    trailers = [trailer(n, ("Drama",)) for n in range(58)]
    trailers += [trailer(58 + n, ("Comedy", "Drama")) for n in range(2)]
    plan = plan_epoch(trailers, GENRES, settings(genres=4, each=4), phase=0, epoch=epoch)
    for batch in plan:
        assert Counter(GENRES[label] for label in batch.labels) == {"Drama": 4, "Comedy": 2}
    assert 60 <= sum(len(batch.numbers) for batch in plan) < 66


@pytest.mark.parametrize("epoch", range(8))
def test_films_that_are_all_of_the_same_two_genres_are_told_apart(epoch: int) -> None:
    for films in (4, 5):
        trailers = [trailer(n, ("Comedy", "Drama"), film=n % films) for n in range(3 * films)]
        for batch in plan_epoch(trailers, GENRES, settings(genres=4, each=4), phase=0, epoch=epoch):
            each = sorted(Counter(batch.labels.tolist()).values())
            assert len(each) == 2
            assert each[1] > 1  # or there would be no pair


@pytest.mark.parametrize(
    "trailers",
    [
        [],
        [trailer(n, ("Drama",)) for n in range(9)],
        [*(trailer(n, ("Drama",)) for n in range(9)), trailer(9, ("Comedy",))],
        [trailer(n, ("Comedy", "Drama"), film=n % 3) for n in range(9)],
        [trailer(n, (GENRES[n % 2],), split="test") for n in range(9)],
    ],
    ids=["nothing", "one genre", "a genre of one film", "three films", "nothing to train on"],
)
def test_what_gives_no_two_genres_to_compare_is_an_error(trailers: list[DatasetTrailer]) -> None:
    with pytest.raises(DataError, match="no two genres have two films each to train on"):
        plan_epoch(trailers, GENRES, settings(), phase=0, epoch=0)


def test_batches_follow_from_seed_phase_and_epoch() -> None:
    def numbers(seed: int, phase: int, epoch: int) -> list[list[int]]:
        plan = plan_epoch(plain(), GENRES, settings(seed=seed), phase=phase, epoch=epoch)
        return [batch.numbers.tolist() for batch in plan]

    assert numbers(1, 0, 0) == numbers(1, 0, 0)
    others = [numbers(2, 0, 0), numbers(1, 1, 0), numbers(1, 0, 1)]
    assert all(numbers(1, 0, 0) != other for other in others)


def test_everything_is_shown_within_a_few_epochs() -> None:
    trailers = plain(83)
    shown: set[int] = set()
    for epoch in range(4):
        for batch in plan_epoch(trailers, GENRES, settings(), phase=0, epoch=epoch):
            shown |= set(np.asarray(batch.numbers).tolist())
    assert shown == set(range(83))
