"""Doubtful trailers: kept for a person to look at, and taken in when the person says yes.

What a source says of one is kept whole, for not every source says it again when it is asked the next time.

Does not belong here: what is doubtful (choose.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.catalog.choose import REVIEW
from trailer_ml.errors import UnknownTrailerError
from trailer_ml.records import Doubtful, Quarantine, Trailer
from trailer_ml.storage import accepted_key, doubtful_key, quarantine_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from trailer_ml.storage import Store


def list_doubtful(store: Store) -> list[Doubtful]:
    """The trailers that a person should look at, by id; those accepted are among them until they are listed."""
    accepted = read_accepted_ids(store)
    entries = store.read_all_json(store.list_keys(quarantine_key("catalog", "").removesuffix(".json")))
    doubtful = {entry.id: entry for value in entries if (entry := Quarantine.model_validate(value)).reason == REVIEW}
    trailers = (Trailer.model_validate(value) for value in store.read_all_json(map(doubtful_key, sorted(doubtful))))
    return [
        Doubtful(
            trailer_id=trailer.trailer_id,
            title=trailer.title,
            video_title=trailer.video_title,
            source_url=trailer.source_url,
            doubt=doubtful[trailer.trailer_id].detail,
            is_accepted=trailer.trailer_id in accepted,
        )
        for trailer in trailers
    ]


def accept_trailer(trailer_id: str, store: Store) -> Doubtful:
    """Say that a doubtful trailer is wanted: the next crawl lists it.

    Raises:
        UnknownTrailerError: it is not among those to look at.
    """
    found = next((each for each in list_doubtful(store) if each.trailer_id == trailer_id), None)
    if found is None:
        raise UnknownTrailerError(f"{trailer_id} is not among those to look at: trailer-ml review lists them")
    store.create_json(accepted_key(trailer_id), {"trailer_id": trailer_id})
    return found.model_copy(update={"is_accepted": True})


def keep_doubtful(set_aside: Iterable[Quarantine], offered: Iterable[Trailer], store: Store) -> None:
    """Keep what the source says of each trailer that was set aside for a person."""
    doubtful = {entry.id for entry in set_aside if entry.reason == REVIEW}
    for trailer in offered:
        if trailer.trailer_id in doubtful:
            store.create_json(doubtful_key(trailer.trailer_id), trailer.to_json())


def read_accepted_ids(store: Store) -> frozenset[str]:
    """The ids that a person has said yes to."""
    head, tail = accepted_key("|").split("|")
    return frozenset(key.removeprefix(head).removesuffix(tail) for key in store.list_keys(head))


def read_accepted(accepted: Collection[str], store: Store) -> list[Trailer]:
    """What their sources said of accepted trailers."""
    return [Trailer.model_validate(value) for value in store.read_all_json(map(doubtful_key, sorted(accepted)))]
