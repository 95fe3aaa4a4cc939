"""Whether a page says that it is not for machines that learn: `noai`, `noimageai` or `none`, in a header or in itself.

Does not belong here: robots.txt, which Scrapy obeys, and what becomes of such a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.catalog.opt_out import HEADER, find_word, name_in, rules_for
from trailer_ml.catalog.spiders.challenge import is_html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scrapy.http import Response


def find_opt_out(response: Response, user_agent: str) -> str:
    """Where a page says so, and with which word; empty: it does not.

    Args:
        response: the page.
        user_agent: ours; what is said to another one by name does not concern us.
    """
    own_name = name_in(user_agent)
    for where, rules in _rules(response, own_name):
        if word := find_word(rules):
            return f"{where}: {word}"
    return ""


def _rules(response: Response, own_name: str) -> Iterator[tuple[str, str]]:
    values = (value.decode("latin-1") for value in response.headers.getlist(HEADER))
    yield from ((HEADER, rule) for rule in rules_for(values, own_name))
    if not is_html(response):
        return
    for meta in response.css("meta[name][content]"):
        if meta.attrib["name"].strip().lower() in {"robots", own_name}:
            yield f'<meta name="{meta.attrib["name"].strip()}">', meta.attrib["content"]
