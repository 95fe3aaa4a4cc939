"""Fetching videos one after the other: attempts, waiting, resuming, and when to stop asking.

The bytes come through a warm child process (ytdlp_child.py), started anew only when it had to be killed. A video has
a wall clock, waiting included, and all together have one. What failed is told by an Outcome; only a fault of this
machine is raised.

Does not belong here: the store (download.py).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from trailer_ml.catalog.retry_after import parse_retry_after
from trailer_ml.errors import ChildTimeoutError, LocalFaultError, RateLimitedError, SettingsError, TrailerError
from trailer_ml.media.failures import SOURCE_WIDE, Verdict, announced_wait_s, classify, one_line
from trailer_ml.media.javascript import write_deno
from trailer_ml.media.probe import Probe
from trailer_ml.processes import Child, clean_environment, start_child
from trailer_ml.records import ID_PATTERN, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trailer_ml.catalog.turns import Turns
    from trailer_ml.settings import MediaSettings, Settings

logger = logging.getLogger(__name__)

_ARGUMENTS = (sys.executable, "-P", "-m", "trailer_ml.media.ytdlp_child")
_START_S = 60.0
_FAILED_IN_A_ROW = 3
"""So many videos of a host in a row that failed as all of it would, and it is not asked for the rest."""
_MAX_URL_LENGTH = 2048
_ANSWER_BYTES = 65536
_START_AGAIN = ("bad_range", "corrupt", "crashed", "killed")
"""After these the partial file is not to be trusted."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one video: either `path` and `probe` are set, or `reason`."""

    item_id: str
    path: Path | None = None
    probe: Probe | None = None
    downloader: str = ""
    """Name and version of what fetched it."""
    reason: str = ""
    detail: str = ""
    wait_s: float | None = None
    """Seconds until it may be tried again; None: never."""
    is_asked: bool = True
    """False: nobody asked for it."""


def fetch_each(
    items: Iterable[tuple[str, str]], folder: Path, settings: Settings, turns: Turns | None = None
) -> Iterator[Outcome]:
    """Fetch videos, one after the other, each looked at before it is believed.

    Args:
        items: (id, url); an id is used as the name of the file.
        folder: gets `<id>.mp4` for each that came, of whatever container it is.
        settings: all; `media` and `catalog.user_agent` are read.
        turns: when a host may be asked; None: at any time.

    Raises:
        LocalFaultError: this machine cannot go on: its disk is full, its folder cannot be written.
        SettingsError: the cookies that are set cannot be read.
        ChildFailedError: the child process does not even start.
    """
    media = settings.media
    end = time.monotonic() + media.batch_timeout_s
    in_a_row: dict[str, list[Outcome]] = {}
    with local_faults(), _own_folder(folder) as own, _Downloader(settings, own) as downloader:
        for item_id, url in items:
            failed = in_a_row.setdefault(_host_of(url), [])
            if len(failed) >= _FAILED_IN_A_ROW:
                detail = f"not asked for, after {len(failed)} in a row: {failed[-1].reason}"
                outcome = _not_asked(item_id, failed[-1].reason, detail, failed[-1].wait_s or media.retry_later_s)
            elif (refused := _wait_for_turn(item_id, url, turns, end, media)) is not None:
                outcome = refused
            else:
                _check_room(folder, media)
                outcome = _fetch_one(item_id, url, folder, downloader, media)
                if outcome.reason in SOURCE_WIDE:
                    failed.append(outcome)
                else:
                    failed.clear()
                if turns and len(failed) >= _FAILED_IN_A_ROW:
                    turns.block(url, outcome.wait_s or media.retry_later_s, f"{outcome.reason}: {outcome.detail}")
            logger.info("%s: %s", item_id, outcome.reason or "downloaded")
            yield outcome


def look_at_each(
    urls: Iterable[str], folder: Path, settings: Settings, turns: Turns | None = None
) -> Iterator[tuple[str, str, str]]:
    """Ask for the formats of videos, once each and in the way in which they are downloaded, and download nothing.

    Args:
        urls: of videos that are known to be there.
        folder: for what the child needs.
        settings: as of fetch_each.
        turns: as of fetch_each.

    Yields:
        The URL, the reason why it could not be downloaded (empty: it could) and what was said or found.

    Raises:
        LocalFaultError: this machine cannot go on.
    """
    media = settings.media
    end = time.monotonic() + media.batch_timeout_s
    with local_faults(), _own_folder(folder) as own, _Downloader(settings, own) as downloader:
        for url in urls:
            if not _is_web_url(url):
                yield url, "bad_url", "not an address that is downloaded from"
                continue
            if refused := _wait_for_turn("", url, turns, end, media):
                yield url, refused.reason, refused.detail
                continue
            downloader.start()
            try:
                answer = downloader.ask({"url": url}, time.monotonic() + media.item_timeout_s)
            except ChildTimeoutError as error:
                yield url, "timeout", str(error)
                continue
            if "formats" in answer:
                yield url, "", f"formats: {answer['formats']}"
            else:
                verdict = classify(answer["error"], answer.get("status"), answer.get("reason"))
                yield url, verdict.reason, one_line(answer["error"])


@contextmanager
def local_faults() -> Iterator[None]:
    """What the system refuses in the block, a disk that is full above all, is a LocalFaultError."""
    try:
        yield
    except TrailerError:
        raise
    except OSError as error:
        raise LocalFaultError(f"downloads cannot go on: {error}") from error


def _own_folder(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """For what the child is given; it holds a copy of a person's cookies, and so goes with the child."""
    return tempfile.TemporaryDirectory(prefix=".child-", dir=folder)


def _wait_for_turn(item_id: str, url: str, turns: Turns | None, end: float, media: MediaSettings) -> Outcome | None:
    """Wait until the host may be asked; an outcome where it may not, or not in time."""
    try:
        wait_s = turns.take(url) if turns and _is_web_url(url) else 0.0
    except RateLimitedError as error:
        return _not_asked(item_id, "rate_limited", f"not asked for: {error}", error.retry_after_s)
    if time.monotonic() + wait_s > end:
        detail = f"not asked for: the others took {media.batch_timeout_s:.0f} s"
        return _not_asked(item_id, "out_of_time", detail, media.retry_later_s)
    time.sleep(wait_s)
    return None


def _check_room(folder: Path, media: MediaSettings) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < media.min_free_bytes:
        raise LocalFaultError(
            f"{free_bytes / 2**30:.1f} GiB are free where downloads go, and TRAILER_MEDIA_MIN_FREE_BYTES keeps "
            f"{media.min_free_bytes / 2**30:.1f} GiB free: free some, or let TMPDIR name a larger disk"
        )


def _not_asked(item_id: str, reason: str, detail: str, wait_s: float) -> Outcome:
    return Outcome(item_id, reason=reason, detail=detail, wait_s=wait_s, is_asked=False)


def _fetch_one(item_id: str, url: str, folder: Path, downloader: _Downloader, media: MediaSettings) -> Outcome:
    if not re.fullmatch(ID_PATTERN, item_id) or not _is_web_url(url):
        return Outcome(item_id, reason="bad_url", detail=f"not an address that is downloaded from: {url[:200]!r}")
    downloader.start()
    deadline = time.monotonic() + media.item_timeout_s
    seen: set[str] = set()
    with tempfile.TemporaryDirectory(prefix=".video-", dir=folder) as name:
        for attempt in range(1, media.attempts + 1):
            try:
                answer = downloader.ask({"url": url, "stem": str(Path(name, "video"))}, deadline)
            except ChildTimeoutError as error:
                return Outcome(item_id, reason="timeout", detail=str(error), wait_s=media.retry_later_s)
            if "path" in answer:
                return _believe(item_id, answer, folder, downloader.version)
            verdict = classify(answer["error"], answer.get("status"), answer.get("reason"))
            failed = Outcome(item_id, reason=verdict.reason, detail=one_line(answer["error"].replace(f"{name}/", "")))
            told_s = parse_retry_after(answer.get("retry_after", ""))
            if _is_final(verdict, failed, seen):
                return failed
            seen.add(verdict.reason)
            pause_s = media.backoff_s * 2.0 ** (attempt - 1) if told_s is None else told_s
            is_patient = pause_s <= media.max_wait_s and time.monotonic() + pause_s < deadline
            if verdict.action == "wait" or attempt == media.attempts or not is_patient:
                return dataclasses.replace(failed, wait_s=_later_s(verdict, answer["error"], told_s, media))
            logger.info("%s: %s, again in %.1f s (%s)", item_id, verdict.reason, pause_s, failed.detail)
            if verdict.reason in _START_AGAIN:
                _empty(Path(name))
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns")


def _is_final(verdict: Verdict, failed: Outcome, seen: set[str]) -> bool:
    if verdict.action == "abort":
        raise LocalFaultError(f"downloads cannot go on: {failed.detail}", trailer_id=failed.item_id)
    return verdict.action == "give_up" or (verdict.action == "retry_once" and verdict.reason in seen)


def _later_s(verdict: Verdict, message: str, told_s: float | None, media: MediaSettings) -> float:
    if told_s is not None and told_s > media.max_wait_s:
        return told_s
    return (verdict.action == "wait" and announced_wait_s(message)) or media.retry_later_s


def _believe(item_id: str, answer: dict[str, Any], folder: Path, version: str) -> Outcome:
    streams = tuple(Stream.model_validate(stream) for stream in answer["streams"])
    path = Path(answer["path"]).replace(folder / f"{item_id}.mp4")
    return Outcome(item_id, path=path, probe=Probe(answer["duration_s"], streams), downloader=version)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_plain = "@" not in parts.netloc and url.isprintable() and " " not in url
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and is_plain and len(url) <= _MAX_URL_LENGTH


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _deno_in(folder: Path) -> str:
    try:
        return str(write_deno(folder / ".deno"))
    except SettingsError as error:  # only YouTube needs it, and `trailer-ml doctor` says so, too
        logger.warning("%s", error)
        return ""


def _cookies_in(folder: Path, path: str) -> str:
    """A copy for yt-dlp, which writes to it: the person's own file stays as it is."""
    if not path:
        return ""
    try:
        cookies = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SettingsError(f"TRAILER_MEDIA_COOKIES_PATH: {path} cannot be read: {error.strerror}") from None
    copy = folder / ".cookies.txt"
    copy.touch(mode=0o600)
    copy.write_bytes(cookies)
    return str(copy)


class _Downloader:
    """The warm child: started when it is needed, killed with its group when it hangs and at the end."""

    def __init__(self, settings: Settings, own_folder: str) -> None:
        self.version = ""
        folder = Path(own_folder)
        proxy = settings.media.proxy
        self._first_line = {
            "media": settings.media.model_dump(mode="json", exclude={"proxy"}),
            "user_agent": settings.catalog.user_agent,
            "proxy": proxy.get_secret_value() if proxy else "",
            "deno": _deno_in(folder),
            "cookies": _cookies_in(folder, settings.media.cookies_path),
        }
        self._folder = folder
        self._stack = ExitStack()
        self._child: Child | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self) -> None:
        """Make sure that a child runs.

        Raises:
            ChildFailedError: it ended at once.
            ChildTimeoutError: it did not answer.
        """
        if self._child is not None and self._child.process.poll() is None:
            return
        self._stop()
        child = start_child(
            _ARGUMENTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(), cwd=self._folder
        )
        self._child = self._stack.enter_context(child)
        self._send(self._first_line)
        answer = self._receive(time.monotonic() + _START_S)
        if answer is None:
            raise self._child.failure(_ARGUMENTS)
        self.version = answer["downloader"]

    def ask(self, job: dict[str, str], deadline: float) -> dict[str, Any]:
        """One attempt.

        Args:
            job: `url` and, unless it is only to be looked at, `stem`, as ytdlp_child.py has them.
            deadline: of time.monotonic(); the child is killed when it passes.

        Raises:
            ChildTimeoutError: it passed.
        """
        self.start()
        self._send(job)
        answer = self._receive(deadline)
        if answer is None and self._child is not None:
            failure = self._child.failure(_ARGUMENTS)
            self._stop()
            return {"error": str(failure), "reason": "killed" if failure.returncode == -signal.SIGKILL else "crashed"}
        return answer or {}

    def _send(self, value: dict[str, Any]) -> None:
        if self._child is None or self._child.process.stdin is None:
            raise AssertionError("a child is started before it is asked")
        try:
            # Past the buffer, which would want to be flushed again when a broken pipe is closed.
            os.write(self._child.process.stdin.fileno(), json.dumps(value).encode() + b"\n")
        except BrokenPipeError:
            logger.debug("the child is gone: reading from it will tell")

    def _receive(self, deadline: float) -> dict[str, Any] | None:
        """The next line of the child; None: it ended instead."""
        if self._child is None or self._child.process.stdout is None:
            raise AssertionError("a child is started before it is asked")
        file = self._child.process.stdout
        poll = select.poll()
        poll.register(file, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not poll.poll(remaining_s * 1000):
                self._stop()
                raise ChildTimeoutError("it took longer than it is given, waiting included")
            piece = file.read1(_ANSWER_BYTES)  # type: ignore[attr-defined]
            if not piece:
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        self._stack.close()
        self._child = None
        self._buffer = b""
