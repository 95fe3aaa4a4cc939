"""Whether an answer says that it is not for machines that learn: `noai`, `noimageai` or `none` in X-Robots-Tag.

Does not belong here: robots.txt, what a page says in itself (spiders/opt_out.py), and what becomes of such a trailer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = "X-Robots-Tag"
OPTED_OUT = f"is not for machines that learn: its {HEADER} says so"
_WORDS = frozenset({"noai", "noimageai", "none"})
_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""What else has a colon behind it and is nobody's name."""


def opts_out(header_values: Iterable[str], user_agent: str) -> bool:
    """Whether one of the headers says so to everybody or to us.

    Args:
        header_values: of each X-Robots-Tag of the answer; a name in one holds until the next name, and ends with it.
        user_agent: ours; what is said to another one by name does not concern us.

    >>> opts_out(["noindex", "trailer-ml: noai"], "trailer-ml/0.1 (+https://example.org)")
    True
    >>> opts_out(["other-bot: noai, none", "noindex"], "trailer-ml/0.1")
    False
    """
    return any(map(find_word, rules_for(header_values, name_in(user_agent))))


def rules_for(header_values: Iterable[str], own_name: str) -> Iterator[str]:
    """The rules of X-Robots-Tag that are for everybody or for us; arguments as of `opts_out` and `name_in`."""
    for value in header_values:
        name = own_name
        for rule in value.split(","):
            before, colon, after = rule.partition(":")
            if colon and before.strip().lower() not in _WITH_VALUE:
                name, rule = before.strip().lower(), after  # noqa: PLW2901
            if name in {own_name, "*"}:
                yield rule


def find_word(rules: str) -> str:
    """The first of some rules, with commas between them, that opts out; empty: none does."""
    return next((word for rule in rules.lower().split(",") if (word := rule.strip()) in _WORDS), "")


def name_in(user_agent: str) -> str:
    """What a user agent calls itself, lower case.

    >>> name_in("Trailer-ML/0.1 (+https://example.org)")
    'trailer-ml'
    """
    return re.split(r"[/\s]", user_agent.strip(), maxsplit=1)[0].lower()
