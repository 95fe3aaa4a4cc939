"""What came out, read from the store, and as text for a terminal.

Does not belong here: pictures (report.py), and anything that computes what is read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.card import read_card
from trailer_ml.records import AdMatch, Quarantine, Record
from trailer_ml.search.similar import find_similar_in
from trailer_ml.search.status import count_states, read_standings
from trailer_ml.storage import ads_key, quarantine_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trailer_ml.demo.jobs import StageTime
    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.model.card import ModelCard
    from trailer_ml.records import EmbeddedTrailer, Neighbour, Status
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

N_PRINTED = 3
_MIB = 2**20


class Sheet(NamedTuple):
    """One question and its answers."""

    trailer: EmbeddedTrailer
    neighbours: list[Neighbour]


class SetAside(Record):
    """Something that is not in the index, and why."""

    id: str
    title: str
    state: str
    reason: str
    detail: str


class Results(NamedTuple):
    """Everything the demo shows at its end."""

    status: Status
    card: ModelCard
    sheets: list[Sheet]
    """For each genre a film the model was never trained on."""
    ads: list[AdMatch]
    set_aside: list[SetAside]
    times: Sequence[StageTime]
    sizes_bytes: dict[str, int]
    """What lies in the demo's folder."""


def collect_results(
    settings: Settings, store: Store, ads_run: str, times: Sequence[StageTime], folder: Path
) -> Results:
    """Read what the DAGs have left in the store.

    Args:
        settings: those the tasks had.
        store: where they worked.
        ads_run: name of the commercials' results.
        times: what the stages took.
        folder: the demo's.
    """
    status = count_states(store)
    card = read_card(str(status.champion), store)
    with open_current_index(store, settings.index.cache_folder) as index:
        sheets = [
            Sheet(trailer, find_similar_in(index, trailer.trailer_id, store, settings.search.k))
            for trailer in _choose(index, card.test_films)
        ]
    lines = store.read_bytes(ads_key(ads_run, "matches.jsonl")).splitlines()
    return Results(
        status=status,
        card=card,
        sheets=sheets,
        ads=[AdMatch.model_validate_json(line) for line in lines],
        set_aside=list(_read_set_aside(store)),
        times=times,
        sizes_bytes={part: _size_of(folder / part) for part in ("world", "store", "airflow", "cache")},
    )


def _choose(index: ServedIndex, unseen: Sequence[str]) -> list[EmbeddedTrailer]:
    """A trailer of each genre, of a film of that genre only."""
    chosen: dict[str, EmbeddedTrailer] = {}
    for trailer in index.trailers:
        if trailer.film_id in unseen and len(trailer.genres) == 1:
            chosen.setdefault(trailer.genres[0], trailer)
    return [chosen[genre] for genre in sorted(chosen)]


def _read_set_aside(store: Store) -> Iterator[SetAside]:
    titles = {trailer.trailer_id: trailer.title for trailer in read_trailers(store)}
    for trailer_id, standing in sorted(read_standings(store).items()):
        if standing.state in {"rejected", "waiting", "taken_down"}:
            yield SetAside(
                id=trailer_id,
                title=titles[trailer_id],
                state=standing.state,
                reason=standing.reason,
                detail=standing.detail,
            )
    for key in store.list_keys(quarantine_key("catalog", "").removesuffix(".json")):
        entry = Quarantine.model_validate(store.read_json(key))
        yield SetAside(id=entry.id, title="", state="not listed", reason=entry.reason, detail=entry.detail)


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def print_results(results: Results) -> None:
    """Show the results on a terminal."""
    for line in result_lines(results):
        print(line)


def result_lines(results: Results) -> Iterator[str]:
    """The results as text, line by line."""
    yield "\nSimilar trailers, of films the model was never trained on"
    for sheet in results.sheets[:N_PRINTED]:
        yield from _sheet_lines(sheet)
    yield "\nCommercials, and the films they go with"
    for ad in results.ads:
        best = "; ".join(f"{film.best.score:.2f} {describe_title(film.best)}" for film in ad.films[:N_PRINTED])
        yield f"  {ad.ad:<12} {best or f'{ad.problem}: {ad.detail}'}"
    measured = results.card.evaluation
    yield f"\nRetrieval on held-out films, by genre ({measured.n_queries} questions)"
    yield (
        f"  mAP@{measured.k} {measured.map_at_k:.3f}   untrained {measured.untrained_map_at_k:.3f}"
        f"   chance {measured.chance_map_at_k:.3f}"
    )
    yield f"  {describe_model(results.card)}"
    yield "\nSet aside"
    for entry in results.set_aside:
        yield f"  {entry.id:<18} {entry.state:<10} {entry.reason:<14} {entry.title or entry.detail}"
    status = results.status
    yield f"\nStatus: {describe_status(status)}"
    yield f"  index {status.index_version}, recall@10 {status.index_recall_at_10:.3f} against exact search"
    yield "\nTime in tasks, by stage"
    for time in results.times:
        yield f"  {time.stage:<28} {time.seconds:6.1f} s in {time.n_tasks} task{'s' * (time.n_tasks != 1)}"
    parts = ", ".join(f"{name} {size // _MIB} MiB" for name, size in results.sizes_bytes.items())
    yield f"\nDisk: {sum(results.sizes_bytes.values()) // _MIB} MiB ({parts})"


def _sheet_lines(sheet: Sheet) -> Iterator[str]:
    yield f"  {f'{sheet.trailer.trailer_id}  {describe_title(sheet.trailer)}':<54}score   picture   sound"
    for place, found in enumerate(sheet.neighbours, start=1):
        shares = f"{found.score:5.2f} = {found.video_share:7.2f} + {found.audio_share:5.2f}"
        yield f"    {place}  {describe_title(found):<49}{shares}"


def describe_title(trailer: EmbeddedTrailer | Neighbour) -> str:
    """A trailer as a person would name it.

    >>> from trailer_ml.records import EmbeddedTrailer
    >>> describe_title(EmbeddedTrailer(trailer_id="a", film_id="b", title="Rain", kind="teaser", genres=("Drama",)))
    'Rain (teaser), Drama'
    """
    kind = f" ({trailer.kind})" if trailer.kind != "trailer" else ""
    return f"{trailer.title}{kind}, {'/'.join(trailer.genres)}"


def describe_model(card: ModelCard) -> str:
    """What was trained, and on how much."""
    return (
        f"model {card.version}: {card.backbone}, {card.backbone_weights} weights to begin with,"
        f" {sum(card.n_trailers.values())} trailers of {sum(card.n_films.values())} films,"
        f" {card.n_films.get('test', 0)} of them held out"
    )


def describe_status(status: Status) -> str:
    """The sum of the states, as a sum."""
    parts = [f"{n} {state.replace('_', ' ')}" for state, n in status.states.items() if n]
    return f"{status.n_listed} listed = {' + '.join(parts)}"
