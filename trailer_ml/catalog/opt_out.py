"""Whether an answer says that it is not for machines that learn: `noai`, `noimageai` or `none` in a robots tag.

Does not belong here: robots.txt, a page as Scrapy has it (spiders/opt_out.py), and what becomes of such a trailer.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = "X-Robots-Tag"
OPTED_OUT = "is not for machines that learn"
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


def page_opts_out(page: str, user_agent: str) -> bool:
    """Whether a page says so in itself, to everybody or to us.

    Args:
        page: its HTML, or what is sent as such; of tags that are in a comment, too, what they say is obeyed.
        user_agent: as of `opts_out`.

    >>> page_opts_out('<head><META content="NoAI, noindex" name=robots>', "trailer-ml/0.1")
    True
    >>> page_opts_out('<meta name="other-bot" content="noai"><meta name="robots" content="index">', "trailer-ml/0.1")
    False
    """
    reader = _MetaTags()
    for tag in re.finditer(r"<meta\b[^>]{1,2000}>", page, re.IGNORECASE):  # and not the megabyte around them
        reader.feed(tag[0])
    names = {"robots", name_in(user_agent)}
    return any(find_word(rules) for name, rules in reader.found if name.strip().lower() in names)


class _MetaTags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        said = dict(attrs)
        self.found.append((said.get("name") or "", said.get("content") or ""))


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
