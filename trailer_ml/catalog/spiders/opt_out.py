"""Whether a page says that it is not for machines that learn: `noai`, `noimageai` or `none`, in a header or in itself.

Does not belong here: robots.txt, which Scrapy obeys, and what becomes of such a page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trailer_ml.catalog.spiders.challenge import is_html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scrapy.http import Response

_WORDS = frozenset({"noai", "noimageai", "none"})
_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""What else has a colon behind it and is nobody's name."""
_HEADER = "X-Robots-Tag"


def find_opt_out(response: Response, user_agent: str) -> str:
    """Where a page says so, and with which word; empty: it does not.

    Args:
        response: the page.
        user_agent: ours; what is said to another one by name does not concern us.
    """
    own_name = re.split(r"[/\s]", user_agent.strip(), maxsplit=1)[0].lower()
    for where, text in _rules(response, own_name):
        for word in text.lower().split(","):
            if word.strip() in _WORDS:
                return f"{where}: {word.strip()}"
    return ""


def _rules(response: Response, own_name: str) -> Iterator[tuple[str, str]]:
    for value in response.headers.getlist(_HEADER):
        # `trailer-ml: noai, noindex, other-bot: none`: a name holds until the next one.
        name = own_name
        for part in value.decode("latin-1").split(","):
            before, colon, after = part.partition(":")
            if colon and before.strip().lower() not in _WITH_VALUE:
                name, part = before.strip().lower(), after  # noqa: PLW2901
            if name in {own_name, "*"}:
                yield _HEADER, part
    if not is_html(response):
        return
    for meta in response.css("meta[name][content]"):
        if meta.attrib["name"].strip().lower() in {"robots", own_name}:
            yield f'<meta name="{meta.attrib["name"].strip()}">', meta.attrib["content"]
