"""yt-dlp, held to what a stranger's address may make it do.

One way onto the network: `requests`, http and https, past the checks of guard.py. Downloaders that are Python's own,
for what ffmpeg or rtmpdump connect to nobody checks; and no ffmpeg for putting files together either, see remux.py.
A challenge in place of an answer is an error here, whatever its status, and so is an answer that opts out.

It is yt-dlp's inside that is bent: tests/media/test_addresses.py says whether a new version still gives way.

Does not belong here: its parameters and its jobs (ytdlp_child.py).
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from yt_dlp import YoutubeDL
from yt_dlp.downloader.common import FileDownloader
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.downloader.ism import IsmFD
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import _requests, common
from yt_dlp.networking.exceptions import HTTPError, RequestError
from yt_dlp.postprocessor import FFmpegMergerPP, FFmpegPostProcessor

from trailer_ml.catalog.guard import RefusedAddressError, check_url
from trailer_ml.catalog.opt_out import HEADER, OPTED_OUT, opts_out, page_opts_out
from trailer_ml.errors import MediaError
from trailer_ml.media.remux import remux

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_OWN_DOWNLOADERS = (HttpFD, HlsFD, DashSegmentsFD, IsmFD)
_MAX_REDIRECTS = 10
"""Real ones are two or three; a loop costs its site as many requests as are let."""
_ACCEPTED = 202
"""No answer to a request for a page or a video, but what AWS' firewall sends with its challenge."""


def is_challenge(response: Any) -> bool:
    """Whether a site asks for a proof that nobody automates its pages, as AWS WAF and Cloudflare do."""
    headers = response.headers
    is_marked = "x-amzn-waf-action" in headers or headers.get("cf-mitigated") == "challenge"
    return is_marked or response.status == _ACCEPTED


def hold_ytdlp(allowed_hosts: Collection[str], user_agent: str) -> type[YoutubeDL]:
    """Bend yt-dlp, for this whole process.

    Args:
        allowed_hosts: as of guard.check_url.
        user_agent: as of opts_out.

    Returns:
        The class to use in place of YoutubeDL.
    """
    downloader: Any
    for downloader in _all_below(FileDownloader):
        if "real_download" in vars(downloader) and downloader not in _OWN_DOWNLOADERS:
            downloader.real_download = _refuse
    FFmpegPostProcessor._ffmpeg_location.set(os.devnull)
    FFmpegMergerPP.available = True
    FFmpegMergerPP.run = _merge
    _check_pages(user_agent)
    common.make_ssl_context = functools.cache(common.make_ssl_context)  # 14 ms each, and all are the same

    class HeldRequestsRH(_requests.RequestsRH):  # type: ignore[misc]
        """The only way onto the network."""

        def _create_instance(self, **kwargs: Any) -> Any:
            session = super()._create_instance(**kwargs)
            session.max_redirects = _MAX_REDIRECTS
            get_adapter = session.get_adapter

            def get_checked(url: str) -> Any:  # asked for each redirect anew
                check_url(url, allowed_hosts)
                return get_adapter(url)

            session.get_adapter = get_checked
            return session

        def _send(self, request: Any) -> Any:
            try:
                response = super()._send(request)
            except RefusedAddressError as error:
                raise RequestError(f"{error}") from error  # any other kind is "unexpected", whatever it says
            _check_answer(response, user_agent)
            return response

    class HeldYoutubeDL(YoutubeDL):  # type: ignore[misc]
        """YoutubeDL with that one way."""

        def build_request_director(self, handlers: Iterable[Any], preferences: Any = None) -> Any:
            del handlers
            return super().build_request_director([HeldRequestsRH], preferences)

        def _forceprint(self, key: str, info_dict: Any) -> None:
            """Nothing is printed: 7 ms a video went into tables of formats that nobody sees."""

    return HeldYoutubeDL


def _check_answer(response: Any, user_agent: str) -> None:
    if is_challenge(response):
        raise HTTPError(response)
    # As they were sent, one by one: put together nobody could tell where a bot's name ends.
    if opts_out(response._requests_response.raw.headers.getlist(HEADER), user_agent):
        response.close()
        raise RequestError(f"{urlsplit(response.url).hostname} {OPTED_OUT}: its {HEADER} says so")


def _check_pages(user_agent: str) -> None:
    """Have every page that an extractor reads looked at, too: what opts out in itself is not gone by."""
    read = InfoExtractor._webpage_read_content

    def read_and_check(self: Any, urlh: Any, *args: Any, **kwargs: Any) -> Any:
        content = read(self, urlh, *args, **kwargs)
        is_page = "html" in (urlh.headers.get("Content-Type") or "html").lower()
        if content and is_page and page_opts_out(content, user_agent):
            host = urlsplit(urlh.url).hostname
            raise MediaError(f'{host} {OPTED_OUT}: a <meta name="robots"> of its page says so', reason="opted_out")
        return content

    InfoExtractor._webpage_read_content = read_and_check


def _all_below(cls: type) -> Iterator[type]:
    below: type
    for below in cls.__subclasses__():
        yield below
        yield from _all_below(below)


def _refuse(*_args: Any, **_kwargs: Any) -> None:
    raise MediaError(
        "only a program of its own could download it, which is not let onto the network", reason="unsupported"
    )


def _merge(_self: Any, info: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    remux([Path(path) for path in info["__files_to_merge"]], Path(info["filepath"]))
    return info["__files_to_merge"], info
