"""The card of a model as a page for people, `models/<version>/card.html`: one file, nothing fetched from anywhere.

Does not belong here: measuring (evaluate.py), where things go in a drawing (charts.py), pictures (pictures.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trailer_ml.catalog.listing import read_taken_down, read_trailers
from trailer_ml.model import charts
from trailer_ml.model.alterations import CHANGES
from trailer_ml.model.near_duplicates import ALL
from trailer_ml.model.pictures import forget_picture, mark_of, page_key, read_pictures
from trailer_ml.model.retrieval import METRICS, K
from trailer_ml.pages import load_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from trailer_ml.model.card import ModelCard
    from trailer_ml.model.dataset import DatasetTrailer
    from trailer_ml.model.retrieval import Retrieval
    from trailer_ml.storage import Store

N_SHEETS = 3
"""So many of the best and of the worst queries are shown, each with its N_NEIGHBOURS nearest."""
N_NEIGHBOURS = 5
N_DOTS = 1000
"""So many trailers are on the map at most, and of N_PICTURES of them a picture."""
N_PICTURES = 200
MODELS = {
    "trained": "this model",
    "champion": "champion then",
    "mean_pooled": "frozen backbone",
    "untrained": "untrained",
    "chance": "chance",
}
"""What was measured, in the order in which it is shown, in words."""


class Shown(NamedTuple):
    """A trailer on the page."""

    title: str
    genres: tuple[str, ...]
    picture: int | None
    """The number of its picture, if it has one."""


class Answer(NamedTuple):
    """One of the nearest trailers of a query."""

    shown: Shown
    cosine: float
    is_hit: bool


class Sheet(NamedTuple):
    """A query and its nearest trailers of other films."""

    query: Shown
    average_precision: float
    answers: tuple[Answer, ...]


class Dot(NamedTuple):
    """A trailer on the map."""

    shown: Shown
    x: float
    y: float
    is_held_out: bool


def write_page(
    card: ModelCard,
    vectors: NDArray[np.float32],
    answers: Retrieval,
    trailers: Sequence[DatasetTrailer],
    store: Store,
) -> None:
    """Put the page of a model into the store; one that is there already stays.

    Args:
        card: all figures.
        vectors: (n, d) unit rows by this model.
        answers: what it answered to the queries.
        trailers: (n) what the vectors are of.
        store: for titles and pictures.
    """
    page = render_page(card, vectors, answers, trailers, store)
    store.create_bytes(page_key(card.version), page.encode(), "text/html; charset=utf-8")
    for trailer_id in sorted(read_taken_down(store)):  # while its picture was being read
        if mark_of(trailer_id) in page:
            forget_picture(trailer_id, store)


def render_page(
    card: ModelCard,
    vectors: NDArray[np.float32],
    answers: Retrieval,
    trailers: Sequence[DatasetTrailer],
    store: Store,
) -> str:
    """The page; the same card, vectors and pictures give the same page. Arguments as above."""
    order = np.argsort(-answers.values[:, METRICS.index("map")], kind="stable").tolist()
    n_best = min(N_SHEETS, (len(order) + 1) // 2)
    best, worst = order[:n_best], order[n_best:][-N_SHEETS:][::-1]
    nearest = charts.find_nearest(vectors, trailers, answers.numbers.tolist(), N_NEIGHBOURS)
    on_map = _spread([*_numbers_of(trailers, "test"), *_numbers_of(trailers, "train", "validation")], N_DOTS)
    on_sheets = [n for row in (*best, *worst) for n in (int(answers.numbers[row]), *nearest[int(answers.numbers[row])])]
    shown = _show({*on_map, *on_sheets}, [*on_sheets, *_spread(on_map, N_PICTURES)], trailers, store)

    def sheet(row: int) -> Sheet:
        query = int(answers.numbers[row])
        found = [
            Answer(shown.by_number[n], float(vectors[query] @ vectors[n]), _is_hit(trailers[query], trailers[n]))
            for n in nearest[query]
        ]
        return Sheet(shown.by_number[query], float(answers.values[row, METRICS.index("map")]), tuple(found))

    places = charts.draw_map(vectors[on_map])
    template = load_template(
        "trailer_ml.model", "card.html.j2", figure="{:.3f}".format, words=lambda name: name.replace("_", " ")
    )
    return template.render(
        **_figures(card),
        pictures=shown.pictures,
        confusion=charts.count_confusion(nearest, trailers, card.genres),
        colours=charts.choose_colours(card.genres),
        dots=[
            Dot(shown.by_number[n], *place, trailers[n].split == "test")
            for n, place in reversed(list(zip(on_map, places, strict=True)))  # who is held out is drawn last, on top
        ],
        map_size=(charts.MAP_WIDTH, charts.MAP_HEIGHT),
        best=[sheet(row) for row in best],
        worst=[sheet(row) for row in worst],
    )


def _figures(card: ModelCard) -> dict[str, Any]:
    """What is on the page from the card alone."""
    models = {name: words for name, words in MODELS.items() if name in card.figures}
    ours = card.figures["trained"]
    return {
        "card": card,
        "k": K,
        "models": models,
        "metrics": METRICS,
        "retrieval_bars": charts.draw_bars(
            {words: card.figures[name].retrieval["map"] for name, words in models.items()}
        ),
        "genre_bars": charts.draw_bars({genre: found["map"] for genre, found in sorted(ours.per_genre.items())}),
        "changes": [name for name in (*CHANGES, ALL) if name in ours.copies],
        "copy_bars": charts.draw_bars(
            {words: card.figures[name].copies[ALL].recall_at_1 for name, words in models.items() if ours.copies}
        ),
        "phases": [
            (settings, charts.draw_curves(history))
            for settings, history in zip(card.model.phases, card.history, strict=True)
        ],
        "model_settings": card.model.model_dump(mode="json", exclude={"phases", "cache_folder"}),
        "curve_size": (charts.WIDTH, charts.HEIGHT),
    }


class _AllShown(NamedTuple):
    by_number: dict[int, Shown]
    pictures: list[tuple[str, str]]
    """What the line of a picture begins with, and the picture."""


def _show(numbers: set[int], pictured: Iterable[int], trailers: Sequence[DatasetTrailer], store: Store) -> _AllShown:
    """Those trailers, and of the `pictured` ones their pictures, each once."""
    ids = {trailers[number].trailer_id for number in numbers}
    titles = {trailer.trailer_id: trailer.title for trailer in read_trailers(store) if trailer.trailer_id in ids}
    pictures = read_pictures((trailers[number].trailer_id for number in pictured), store)
    places = {trailer_id: place for place, trailer_id in enumerate(pictures)}
    by_number = {}
    for number in numbers:
        trailer_id = trailers[number].trailer_id
        title = titles.get(trailer_id, trailer_id)
        by_number[number] = Shown(title, trailers[number].genres, places.get(trailer_id))
    return _AllShown(by_number, [(mark_of(trailer_id), picture) for trailer_id, picture in pictures.items()])


def _numbers_of(trailers: Sequence[DatasetTrailer], *splits: str) -> list[int]:
    return [number for number, trailer in enumerate(trailers) if trailer.split in splits]


def _spread(numbers: list[int], n: int) -> list[int]:
    """At most n of them, evenly spread."""
    return [numbers[len(numbers) * i // n] for i in range(n)] if len(numbers) > n else numbers


def _is_hit(query: DatasetTrailer, answer: DatasetTrailer) -> bool:
    return not set(query.genres).isdisjoint(answer.genres)
