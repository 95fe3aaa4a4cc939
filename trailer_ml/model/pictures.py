"""Small pictures of trailers inside a model's page, each on a line of its own: so one can be taken out by itself.

A page is made once, and a trailer may be taken down afterwards: its line goes, and a grey square is in its place.

Does not belong here: what else is on the page (page.py).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from trailer_ml.errors import MissingObjectError
from trailer_ml.pages import as_data_uri
from trailer_ml.storage import model_key, thumb_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.storage import Store

_PAGE = "card.html"
_SIDE = 128  # pixels
_QUALITY = 72


def page_key(version: str) -> str:
    """Where the page of a model is."""
    return model_key(version, _PAGE)


def read_pictures(trailer_ids: Iterable[str], store: Store) -> dict[str, str]:
    """The pictures of those trailers that have one, as data URIs in the given order."""
    pictures = {}
    for trailer_id in dict.fromkeys(trailer_ids):
        try:
            pictures[trailer_id] = _shrink(store.read_bytes(thumb_key(trailer_id)))
        except MissingObjectError:  # of a folder of videos, or taken down
            continue
    return pictures


def mark_of(trailer_id: str) -> str:
    """What the line of its picture begins with: a comment of CSS."""
    return f"/* {trailer_id} */"


def forget_picture(trailer_id: str, store: Store) -> int:
    """Take the picture of a trailer out of every page; out of how many it was taken."""
    keys = [key for key in store.list_keys("models/") if key.endswith(f"/{_PAGE}")]
    return sum(_forget(trailer_id, key, store) for key in keys)


def _forget(trailer_id: str, key: str, store: Store) -> bool:
    lines = store.read_bytes(key).splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(mark_of(trailer_id).encode())]
    if len(kept) == len(lines):
        return False
    store.put_bytes(key, b"".join(kept), "text/html; charset=utf-8")
    return True


def _shrink(jpeg: bytes) -> str:
    """A small picture as a data URI."""
    from PIL import Image  # taking down needs none

    file = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.convert("RGB").resize((_SIDE, _SIDE)).save(file, "JPEG", quality=_QUALITY)
    return as_data_uri(file.getvalue())
