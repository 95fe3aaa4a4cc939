"""Where every trailer stands, computed from what is in the store, so that it cannot disagree with it.

A trailer is in exactly one state. Which one is decided by the furthest it has come; what was tried last counts among
rejected and waiting.

Does not belong here: changing anything.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, get_args

from trailer_ml.catalog.blocked import read_blocked
from trailer_ml.catalog.listing import read_taken_down, read_trailers
from trailer_ml.embeddings.stored import find_champion, list_embedded
from trailer_ml.index.stored import IDS_FILE, read_pointer
from trailer_ml.records import EmbeddingsManifest, Evaluation, Quarantine, State, Status
from trailer_ml.shards.manifests import list_shards
from trailer_ml.storage import CURRENT_INDEX_KEY, embeddings_manifest_key, index_key, model_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trailer_ml.index.stored import Pointer
    from trailer_ml.records import ShardManifest
    from trailer_ml.storage import Store


class Standing(NamedTuple):
    """Where one trailer stands, and why it is not further."""

    state: State
    reason: str = ""
    detail: str = ""


class _Facts(NamedTuple):
    """What the store holds, as sets of ids."""

    taken_down: frozenset[str]
    indexed: frozenset[str]
    embedded: frozenset[str]
    sharded: frozenset[str]
    downloaded: frozenset[str]
    set_aside: Mapping[str, Standing]
    stored_bytes: dict[str, int]


def count_states(store: Store) -> Status:
    """How many trailers are in which state; `n_listed` is the sum."""
    facts = _read_facts(store)
    standings = _find_standings(facts, store)
    seen = read_pointer(store)
    champion = find_champion(store)
    counts = Counter(standing.state for standing in standings.values())
    return Status(
        n_listed=len(standings),
        states={state: counts[state] for state in get_args(State)},
        reasons=_count(standing.reason for standing in standings.values() if standing.reason),
        titles_set_aside=_count(entry.reason for entry in _read_quarantine(store, "catalog")),
        blocked={each.source: f"since {each.since:%Y-%m-%d}: {each.detail}" for each in read_blocked(store)},
        champion=champion,
        index_version=seen.pointer.version if seen else None,
        index_recall_at_10=seen.pointer.recall_at_10 if seen else None,
        index_n=seen.pointer.n if seen else None,
        index_published_at=store.modified_at(CURRENT_INDEX_KEY) if seen else None,
        stored_bytes=facts.stored_bytes,
        stored_trailers={"media": len(facts.downloaded), "shards": len(facts.sharded)},
        model_figures=_read_model_figures(champion, store) if champion else {},
    )


def read_standings(store: Store) -> dict[str, Standing]:
    """Where each trailer of the catalog stands, by its id."""
    return _find_standings(_read_facts(store), store)


def _find_standings(facts: _Facts, store: Store) -> dict[str, Standing]:
    return {trailer.trailer_id: _find_standing(trailer.trailer_id, facts) for trailer in read_trailers(store)}


def _find_standing(trailer_id: str, facts: _Facts) -> Standing:
    if trailer_id in facts.taken_down:
        return Standing("taken_down")
    if trailer_id in facts.indexed:
        return Standing("indexed")
    if trailer_id in facts.embedded:
        return Standing("embedded")
    if trailer_id in facts.sharded:
        return Standing("sharded")
    if trailer_id in facts.set_aside:
        return facts.set_aside[trailer_id]
    return Standing("downloaded" if trailer_id in facts.downloaded else "listed")


def _read_facts(store: Store) -> _Facts:
    shards = [manifest for _, manifest in list_shards(store)]
    seen = read_pointer(store)
    media = list(store.list_sizes("media/"))
    receipts = (key.removeprefix("media/") for key, _ in media if key.endswith(".json"))
    return _Facts(
        taken_down=read_taken_down(store),
        indexed=_read_indexed(store, seen.pointer) if seen else frozenset(),
        embedded=_read_embedded(store),
        sharded=frozenset(trailer_id for shard in shards for trailer_id in shard.trailer_ids),
        downloaded=frozenset(name.removesuffix(".json") for name in receipts),
        set_aside=_read_set_aside(store, shards),
        stored_bytes={
            "media": sum(size for key, size in media if key.endswith(".mp4")),
            "shards": sum(shard.size_bytes for shard in shards),
        },
    )


def _read_model_figures(champion: str, store: Store) -> dict[str, float]:
    card = store.read_json_or_none(model_key(champion, "card.json"))  # not by model/card.py: it comes with TensorFlow
    if card is None:
        return {}
    measured = Evaluation.model_validate(card["evaluation"])
    figures = {
        "map_at_k": measured.map_at_k,
        "untrained_map_at_k": measured.untrained_map_at_k,
        "mean_pooled_map_at_k": measured.mean_pooled_map_at_k,
        "chance_map_at_k": measured.chance_map_at_k,
        "recall_at_k": measured.recall_at_k,
        "copies_recall_at_1": measured.copies.recall_at_1.value if measured.copies else None,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _read_indexed(store: Store, pointer: Pointer) -> frozenset[str]:
    return frozenset(row["trailer_id"] for row in store.read_json(index_key(pointer.version, IDS_FILE)))


def _read_embedded(store: Store) -> frozenset[str]:
    champion = find_champion(store)
    if champion is None:
        return frozenset()
    keys = [embeddings_manifest_key(champion, batch) for batch in list_embedded(store, champion)]
    manifests = (EmbeddingsManifest.model_validate(value) for value in store.read_all_json(keys))
    return frozenset(trailer.trailer_id for manifest in manifests for trailer in manifest.trailers)


def _read_set_aside(store: Store, shards: Iterable[ShardManifest]) -> dict[str, Standing]:
    """Rejected or waiting, by id: what quarantine says, and where it says nothing, what a shard left out."""
    found = {
        rejected.trailer_id: Standing("rejected", rejected.reason, rejected.detail)
        for shard in shards
        for rejected in shard.rejected
    }
    entries = [*_read_quarantine(store, "download"), *_read_quarantine(store, "shard")]
    for entry in sorted(entries, key=lambda entry: entry.is_permanent):  # a final word outweighs a later try
        state: State = "rejected" if entry.is_permanent else "waiting"
        found[entry.id] = Standing(state, entry.reason, entry.detail)
    return found


def _read_quarantine(store: Store, stage: str) -> Iterator[Quarantine]:
    values = store.read_all_json(_list_json(store, f"quarantine/{stage}/"))
    return (Quarantine.model_validate(value) for value in values)


def _list_json(store: Store, prefix: str) -> list[str]:
    return [key for key in store.list_keys(prefix) if key.endswith(".json")]


def _count(reasons: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))
