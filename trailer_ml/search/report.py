"""Pages that stand alone: one HTML file, pictures inside, nothing fetched from anywhere.

Does not belong here: what is on them (see templates/ and who renders them).
"""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from trailer_ml.errors import MissingObjectError
from trailer_ml.storage import thumb_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.storage import Store


def render_page(template: str, **facts: Any) -> str:
    """A page of templates/, everything in it escaped unless the template says otherwise.

    Args:
        template: such as `ads.html.j2`.
        **facts: what it shows; a fact it asks for and does not get is an error.
    """
    return _environment().get_template(template).render(**facts)


def read_thumbs(trailer_ids: Iterable[str], store: Store) -> dict[str, str]:
    """The pictures of some trailers as data URIs; an empty text where there is none."""
    return {trailer_id: _read_thumb(trailer_id, store) for trailer_id in sorted(set(trailer_ids))}


def encode_picture(jpeg: bytes) -> str:
    """JPEG bytes as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("trailer_ml.search"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return environment


def _read_thumb(trailer_id: str, store: Store) -> str:
    try:
        return encode_picture(store.read_bytes(thumb_key(trailer_id)))
    except MissingObjectError:
        return ""
