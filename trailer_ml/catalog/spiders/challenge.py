"""Whether an answer is a challenge: the site asks whom it talks to. It is never gone round.

Does not belong here: what is done then (imdb.py).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from scrapy.http import JsonResponse, TextResponse

if TYPE_CHECKING:
    from scrapy.http import Response

_WORDS = (b"awsWafCookieDomainList", b"gokuProps")


def is_challenge(response: Response) -> bool:
    """By its status, its headers, its words, or for want of anything that a page of the site has."""
    is_page = response.css('#__NEXT_DATA__, script[type="application/ld+json"]') if is_html(response) else None
    return bool(
        response.status == HTTPStatus.ACCEPTED
        or response.headers.get("x-amzn-waf-action")
        or any(word in response.body for word in _WORDS)
        or (response.status == HTTPStatus.OK and is_html(response) and not is_page)
    )


def is_html(response: Response) -> bool:
    """Whether it is text that can be asked with CSS."""
    return isinstance(response, TextResponse) and not isinstance(response, JsonResponse)
