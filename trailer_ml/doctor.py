"""What is missing or wrong on this machine, each with its fix: `trailer-ml doctor`, and before a night's work.

Every check does the real thing: a conditional write to the store, a script through the JavaScript runtime, a list of
what ffmpeg decodes.

Does not belong here: mending anything; what killed runs left in TMPDIR is removed, and said.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import logging
import os
import platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trailer_ml.errors import ConflictError, LocalFaultError, TrailerError
from trailer_ml.processes import clean_environment, run_child
from trailer_ml.records import Check
from trailer_ml.scratch import scratch_folder, sweep_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_YTDLP_FLOOR = (2026, 7, 4)
"""The release that fixes every advisory known to us."""
_MIN_DENO = (2, 3, 0)
_DECODERS = ("h264", "hevc", "vp9", "libdav1d", "aac", "opus", "mp3", "vorbis")
_FILTERS = ("showspectrumpic", "scale", "crop", "atrim")
_MAX_SKEW_S = 60.0
_TIMEOUT_S = 30.0


def check_machine(settings: Settings, store: Store) -> Iterator[Check]:
    """Each thing that a night needs, checked; none stops the others.

    Args:
        settings: all.
        store: where a small object is written and deleted again.
    """
    checks: tuple[tuple[str, str, Callable[[Settings, Store], str]], ...] = (
        ("python", "use Python 3.11 to 3.13: make PYTHON=/path/to/python3.12 …", _check_python),
        ("yt-dlp", "install what requirements.txt names: uv pip install -r requirements.txt", _check_ytdlp),
        ("javascript", "install deno, which yt-dlp needs for YouTube: uv pip install deno", _check_javascript),
        ("ffmpeg", "unset TRAILER_FEATURES_FFMPEG_PATH, or let it name a whole build", _check_ffmpeg),
        ("decoders", "install av from PyPI, not one built against a system ffmpeg: uv pip install av", _check_decoders),
        ("store", "set TRAILER_STORE_* and AWS_* (.env.example), and let these keys write to the bucket", _check_store),
        ("clock", "set the clock (timedatectl set-ntp true): S3 refuses signatures of another time", _check_clock),
        ("disk", "free some, or let TMPDIR name a larger disk", _check_disk),
        ("leftovers", "let this user write to the folder that TMPDIR names", _check_leftovers),
        ("sources", "docs/sources.md says what each needs", _check_sources),
        ("airflow", "start its API server, or unset AIRFLOW__API__BASE_URL", _check_airflow),
        ("gpu", "install the driver, or train on the CPU", _check_gpu),
    )
    for name, fix, check in checks:
        try:
            yield Check(name=name, is_ok=True, detail=check(settings, store))
        except Exception as error:  # whatever is broken is what is to be reported
            logger.debug("check %s", name, exc_info=True)
            detail = " ".join(f"{error}".split()) or type(error).__name__
            yield Check(name=name, is_ok=False, detail=detail, fix=fix)
    yield from _check_canaries(settings, store)


def require_machine(settings: Settings, store: Store) -> None:
    """Look at this machine before a night's work.

    Raises:
        LocalFaultError: something is missing or wrong; the message has each with its fix.
    """
    wrong = []
    for check in check_machine(settings, store):
        logger.log(logging.INFO if check.is_ok else logging.ERROR, "%s: %s", check.name, check.detail)
        if not check.is_ok:
            wrong.append(f"{check.name}: {check.detail} (fix: {check.fix})")
    if wrong:
        raise LocalFaultError(f"this machine is not ready: {'; '.join(wrong)}")


def _check_python(_: Settings, __: Store) -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise RuntimeError(f"this is Python {platform.python_version()}")
    return platform.python_version()


def _check_ytdlp(_: Settings, __: Store) -> str:
    import importlib.metadata

    from yt_dlp.version import __version__

    if tuple(int(part) for part in __version__.split(".")[:3]) < _YTDLP_FLOOR:
        raise RuntimeError(f"{__version__} has known holes; the floor is {'.'.join(map(str, _YTDLP_FLOOR))}")
    return f"{__version__}, yt-dlp-ejs {importlib.metadata.version('yt-dlp-ejs')}"


def _check_javascript(settings: Settings, _: Store) -> str:
    from trailer_ml.media.javascript import find_deno

    if "youtube" not in settings.media.allowed_extractors:
        return "not needed: youtube is not in TRAILER_MEDIA_ALLOWED_EXTRACTORS"
    deno = find_deno()
    arguments = [deno, "eval", "--no-config", "console.log(Deno.version.deno, 6 * 7)"]
    environment = clean_environment() | {"DENO_DIR": tempfile.gettempdir(), "NO_COLOR": "1"}
    version, answer = run_child(arguments, timeout_s=_TIMEOUT_S, env=environment).stdout.decode().split()
    if answer != "42" or tuple(int(part) for part in version.split(".")[:3]) < _MIN_DENO:
        raise RuntimeError(f"deno {version} is older than {'.'.join(map(str, _MIN_DENO))}")
    return f"deno {version}"


def _check_ffmpeg(settings: Settings, _: Store) -> str:
    from trailer_ml.media.ffmpeg import find_ffmpeg

    ffmpeg = find_ffmpeg(settings.features.ffmpeg_path)
    listed = {
        what: run_child([ffmpeg, "-hide_banner", f"-{what}"], timeout_s=_TIMEOUT_S).stdout.decode(errors="replace")
        for what in ("version", "decoders", "filters")
    }
    words = {what: set(text.split()) for what, text in listed.items()}
    missing = [name for name in _DECODERS if name not in words["decoders"]]
    missing += [name for name in _FILTERS if name not in words["filters"]]
    if missing:
        raise RuntimeError(f"{ffmpeg} has no {', '.join(missing)}")
    return " ".join(listed["version"].split()[1:3])


def _check_decoders(_: Settings, __: Store) -> str:
    import av

    missing = [name for name in _DECODERS if name not in av.codecs_available]
    missing += [name for name in _FILTERS if name not in av.filter.filters_available]
    if missing:
        raise RuntimeError(f"PyAV {av.__version__} has no {', '.join(missing)}")
    return f"PyAV {av.__version__}"


def _check_store(_: Settings, store: Store) -> str:
    """Write, refuse a second creation, refuse a swap of what was not seen, read, delete."""
    key = f".doctor/{uuid.uuid4().hex}"
    try:
        if not store.create_json(key, 1) or store.create_json(key, 2):
            raise RuntimeError("it writes over what is there: conditional writes (If-None-Match) are needed")
        seen = store.read_pointer(key)
        store.swap_pointer(key, 3, seen)
        try:
            store.swap_pointer(key, 4, seen)
        except ConflictError:
            pass
        else:
            raise RuntimeError("it swaps what was not seen: conditional writes (If-Match) are needed")
        if store.read_json(key) != 3:  # noqa: PLR2004 - what was written
            raise RuntimeError("it does not read what was written")
    finally:
        store.delete(key)
    if store.exists(key):
        raise RuntimeError("it does not delete")
    return f"{store.settings.endpoint_url or 'AWS S3'}, bucket {store.settings.bucket}"


def _check_clock(settings: Settings, _: Store) -> str:
    """Against the store's own clock, which is the one that counts."""
    url = settings.store.endpoint_url or f"https://s3.{settings.store.region}.amazonaws.com"
    before = dt.datetime.now(dt.UTC)
    try:
        stamp = _head(url).get("Date")
    except OSError as error:
        raise RuntimeError(f"{url} does not say what time it is there: {error}") from error
    if not stamp:
        return "the store does not say what time it is there"
    skew_s = (email.utils.parsedate_to_datetime(stamp) - before).total_seconds()
    if abs(skew_s) > _MAX_SKEW_S:
        raise RuntimeError(f"it is {abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the store's")
    return f"within {_MAX_SKEW_S:.0f} s of the store's"


def _check_disk(settings: Settings, _: Store) -> str:
    folder = Path(tempfile.gettempdir())
    free_bytes, needed_bytes = shutil.disk_usage(folder).free, settings.media.min_free_bytes
    if free_bytes < needed_bytes:
        raise RuntimeError(f"{folder} has {free_bytes / 2**30:.1f} GiB free, {needed_bytes / 2**30:.1f} are kept free")
    return f"{folder} has {free_bytes / 2**30:.1f} GiB free"


def _check_leftovers(_: Settings, __: Store) -> str:
    """What killed runs left, half a video perhaps, goes: on a machine that was given up nothing else would sweep."""
    n_removed = sweep_leftovers()
    return f"{n_removed} removed from {tempfile.gettempdir()}" if n_removed else f"none in {tempfile.gettempdir()}"


def _check_sources(settings: Settings, _: Store) -> str:
    from trailer_ml.catalog.source import check_consent

    check_consent(settings.catalog)
    return ", ".join(settings.catalog.sources)


def _check_canaries(settings: Settings, store: Store) -> Iterator[Check]:
    """Whether videos that are known to be there could be downloaded now, in the very way in which others are."""
    from trailer_ml.catalog.turns import Turns
    from trailer_ml.media.fetch import look_at_each

    if not settings.media.canary_urls:
        return
    fix = "docs/downloads.md says what it means; for a broken extractor install a newer yt-dlp, else look at the page"
    try:
        with scratch_folder("trailer-ml-doctor-") as folder:
            turns = Turns(settings.media.turn_every_s, store)
            for url, reason, said in look_at_each(settings.media.canary_urls, folder, settings, turns):
                name = f"canary {urlsplit(url).hostname}"
                detail = f"{url}: {reason}, {said}" if reason else f"{url}: {said}"
                yield Check(name=name, is_ok=not reason, detail=detail, fix=fix if reason else "")
    except TrailerError as error:  # no downloader, no room
        logger.debug("canaries", exc_info=True)
        yield Check(name="canaries", is_ok=False, detail=" ".join(f"{error}".split()), fix="see the checks above")


def _check_airflow(_: Settings, __: Store) -> str:
    """Only where somebody says where it is: the commands work without it."""
    base = os.environ.get("AIRFLOW__API__BASE_URL")
    if not base:
        return "not asked: AIRFLOW__API__BASE_URL is not set"
    import json

    url = f"{base.rstrip('/')}/api/v2/monitor/health"
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the operator's own address
        health: dict[str, Any] = json.loads(answer.read())
    ill = [name for name, part in health.items() if part and part.get("status") == "unhealthy"]
    if ill:
        raise RuntimeError(f"{base}: {', '.join(ill)} unhealthy")
    return base


def _check_gpu(_: Settings, __: Store) -> str:
    if shutil.which("nvidia-smi") is None:
        return "none: models are trained on the CPU"
    arguments = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return "; ".join(run_child(arguments, timeout_s=_TIMEOUT_S).stdout.decode().strip().splitlines())
    except TrailerError as error:
        raise RuntimeError(f"nvidia-smi is here and no GPU answers: {error}") from error


def _head(url: str) -> Any:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return answer.headers
    except urllib.error.HTTPError as error:
        return error.headers
