"""Pages that stand alone: one HTML file, pictures inside, nothing fetched from anywhere.

Does not belong here: what is on them (the templates/ of each room, and who renders them).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Template


def load_template(room: str, name: str, **filters: Callable[[Any], object]) -> Template:
    """A template that escapes whatever it shows, and fails where a fact that it asks for is not there.

    Args:
        room: the package whose templates/ has it, such as `trailer_ml.model`.
        name: such as `card.html.j2`.
        **filters: what it may call on a fact, beside Jinja's own.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(room), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def as_data_uri(jpeg: bytes) -> str:
    """JPEG bytes as an address that a page can show without fetching anything."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
