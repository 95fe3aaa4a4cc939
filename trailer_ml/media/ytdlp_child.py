"""yt-dlp and the probe in a process of their own: `python -m trailer_ml.media.ytdlp_child`, one for many downloads.

The first line on standard input says how (Options), each further one what: `{"url", "stem"}`, or `{"url"}` for only
looking. Each is answered with one line on standard output: `{"path", "duration_s", "streams"}`, for a look
`{"formats"}`, or `{"error", "status", "retry_after", "reason"}`.
The process starts in 2 s and so takes many jobs, and all with one YoutubeDL: a third of what that does for a small
file is then done once, and a connection to a host serves again. As in a run of yt-dlp with many addresses a site gets
back the cookies that it has set. The process is told no secret but the proxy's, holds itself to limits of memory and
file size, connects to public addresses only, and may be killed at any time.

yt-dlp's own retries are off: each attempt is one of ours, which knows Retry-After, sees an address that ran out, and
resumes all the same, because the partial file stays.

Does not belong here: whether to try again (fetch.py), and what an error means (failures.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from trailer_ml.errors import LocalFaultError, MediaError
from trailer_ml.processes import limit_this_process
from trailer_ml.settings import MediaSettings

if TYPE_CHECKING:
    from yt_dlp import YoutubeDL

_SLACK_BYTES = 2**20  # beside the largest download: a container written anew is a little larger
_FRAGMENT_RETRIES = 3
_TS_SYNC, _TS_PACKET_BYTES = b"\x47", 188
_SOCKET_TIMEOUT_S = 20.0


class Options(BaseModel):
    """The first line."""

    media: MediaSettings
    user_agent: str
    proxy: str = ""
    deno: str = ""
    """The program that write_deno wrote; empty: there is none."""
    cookies: str = ""
    """A copy of a cookies.txt, for yt-dlp writes to it; empty: none."""


class _Log:
    """yt-dlp's logger: it keeps the last line that says why there is no file."""

    def __init__(self) -> None:
        self.last = ""

    def debug(self, message: str) -> None:
        if "larger than max-filesize" in message or "does not pass filter" in message:
            self.last = message

    def warning(self, message: str) -> None:
        pass

    def error(self, message: str) -> None:
        self.last = message


def main() -> None:
    """Answer jobs until there are no more."""
    answers = _take_stdout()
    options = Options.model_validate_json(sys.stdin.readline())
    limit_this_process(
        memory_bytes=options.media.memory_bytes,
        file_bytes=options.media.max_size_bytes + _SLACK_BYTES,
        can_be_lifted=True,  # deno needs more addresses than memory: javascript.py
    )
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    from yt_dlp.version import __version__

    from trailer_ml.catalog.guard import guard_addresses
    from trailer_ml.media.ytdlp import hold_ytdlp

    guard_addresses((*options.media.allowed_private_hosts, *_host_of(options.proxy)))
    held = hold_ytdlp(options.media.allowed_private_hosts, options.user_agent)
    log = _Log()
    with held(_parameters(options, log)) as downloader:
        _answer(answers, {"downloader": f"yt-dlp {__version__}"})
        for line in sys.stdin:
            job = json.loads(line)
            log.last = ""
            if "stem" in job:
                _answer(answers, _download(job["url"], Path(job["stem"]), options, downloader, log))
            else:
                _answer(answers, _look(job["url"], downloader))


def _host_of(proxy: str) -> tuple[str, ...]:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 1080)
    return (f"{parts.hostname}:{port}",) if proxy else ()


def _download(url: str, stem: Path, options: Options, downloader: YoutubeDL, log: _Log) -> dict[str, Any]:
    """One attempt: the file and what it is, or what went wrong."""
    from trailer_ml.media.probe import probe_media

    try:
        path = _fetch(url, stem, downloader, log)
        probe = probe_media(path, options.media)
    except MediaError as error:
        return {"error": str(error), "reason": error.reason}
    except LocalFaultError as error:
        return {"error": str(error), "reason": "local_fault"}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this one download that failed
        return _describe(error)
    streams = [stream.to_json() for stream in probe.streams]
    return {"path": str(path), "duration_s": probe.duration_s, "streams": streams}


def _look(url: str, downloader: YoutubeDL) -> dict[str, Any]:
    """Ask for a video's formats as a download does, and choose one; nothing is downloaded."""
    try:
        info = _first_of(downloader.extract_info(url, download=False))
    except MediaError as error:
        return {"error": str(error), "reason": error.reason}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return _describe(error)
    return {"formats": len(info.get("formats") or ())}


def _first_of(info: dict[str, Any] | None) -> dict[str, Any]:
    info = info or {}
    while info.get("entries"):
        info = next(iter(info["entries"])) or {}
    return info


def _fetch(url: str, stem: Path, downloader: YoutubeDL, log: _Log) -> Path:
    downloader.params["outtmpl"]["default"] = f"{str(stem).replace('%', '%%')}.%(ext)s"
    info = _first_of(downloader.extract_info(url))
    # yt-dlp ends well without a file when a filter or the size limit says no
    for done in info.get("requested_downloads") or ():
        if done.get("filepath") and Path(done["filepath"]).is_file():
            return _as_container(Path(done["filepath"]))
    if "max-filesize" in log.last:
        raise MediaError(log.last, reason="too_large")
    raise RuntimeError(log.last or "yt-dlp ended without a file")


def _as_container(path: Path) -> Path:
    """The file, put into an mp4 if it is a bare transport stream, as the pieces of a playlist are."""
    from trailer_ml.media.remux import remux

    with path.open("rb") as file:
        head = file.read(_TS_PACKET_BYTES + 1)
    if head[:1] != _TS_SYNC or head[-1:] != _TS_SYNC:
        return path
    container = path.with_name("container.mp4")
    remux([path], container)
    return container


def _parameters(options: Options, log: _Log) -> dict[str, Any]:
    """yt-dlp's parameters, of all jobs; as a library its defaults are others than on the command line."""
    media = options.media

    def watch_size(progress: dict[str, Any]) -> None:
        # max_filesize knows only what a Content-Length announces, and for a playlist only each piece
        if (progress.get("downloaded_bytes") or 0) > media.max_size_bytes:
            raise MediaError(f"more than {media.max_size_bytes} bytes", reason="too_large")

    def refuse_unfit(info: dict[str, Any], *, incomplete: bool) -> None:
        del incomplete
        if info.get("is_live"):
            raise MediaError("it is a live stream", reason="live")
        if (info.get("duration") or 0) > media.max_duration_s:
            raise MediaError(f"it is announced with {info['duration']:.0f} s", reason="too_long")

    return {
        "format": media.format,
        "format_sort": ["res:360", "vcodec:h264", "acodec:aac", "+size"],
        "merge_output_format": "mp4",
        "outtmpl": {"default": "never-written"},  # each job says where
        "restrictfilenames": True,
        "noplaylist": True,
        "playlist_items": "1",
        "allowed_extractors": list(media.allowed_extractors),
        "match_filter": refuse_unfit,
        "max_filesize": media.max_size_bytes,
        "retries": 0,
        "extractor_retries": 0,
        "file_access_retries": 0,
        "fragment_retries": _FRAGMENT_RETRIES,  # what is whole of a playlist is not fetched again
        "retry_sleep_functions": {"fragment": lambda n: min(8.0, media.backoff_s * 2.0**n)},
        "skip_unavailable_fragments": False,
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "continuedl": True,
        "updatetime": False,
        "fixup": "never",
        "hls_prefer_native": True,
        "js_runtimes": {"deno": {"path": options.deno}} if options.deno else {},
        "remote_components": [],  # no code is fetched at run time: yt-dlp-ejs is installed
        "cookiefile": options.cookies or None,
        # Its own list of authorities, unless the machine names another: a company's proxy has one of its own.
        "compat_opts": {"no-certifi"} if os.environ.get("SSL_CERT_FILE") else set(),
        "proxy": options.proxy,  # empty: none, whatever the environment says
        "http_headers": {"User-Agent": options.user_agent},
        "geo_bypass": False,
        "cachedir": False,
        "progress_hooks": [watch_size],
        "logger": log,
        "noprogress": True,
        "progress_delta": 3600.0,  # else a line that nobody sees is made for each piece that is read
        "color": {"stderr": "no_color", "stdout": "no_color"},
    }


def _describe(error: Exception) -> dict[str, Any]:
    """What is known of an error: its text, and the HTTP status and Retry-After behind it."""
    from yt_dlp.networking.exceptions import HTTPError, ProxyError

    from trailer_ml.media.ytdlp import is_challenge

    answer: dict[str, Any] = {"error": f"{error}" or type(error).__name__}
    seen: Any = error
    while seen is not None and not isinstance(seen, (HTTPError, ProxyError)):
        exc_info = getattr(seen, "exc_info", None)
        seen = exc_info[1] if exc_info and exc_info[1] is not seen else getattr(seen, "cause", None)
    if isinstance(seen, ProxyError):
        answer["reason"] = "local_fault"
    elif seen is not None:
        answer["status"] = seen.status
        answer["retry_after"] = seen.response.headers.get("Retry-After", "")
        if is_challenge(seen.response):
            answer["reason"] = "rate_limited"
    return answer


def _take_stdout() -> IO[str]:
    """Standard output for the answers only: whatever else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(file: IO[str], value: dict[str, Any]) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()


if __name__ == "__main__":
    main()
