"""The bytes of a trailer: what was probed and stored, and what a download did."""

from __future__ import annotations

from typing import Literal

from trailer_ml.records.base import Record, TrailerId
from trailer_ml.records.catalog import BatchRef


class Stream(Record):
    """One stream of a media file, as probed."""

    kind: Literal["video", "audio"]
    codec: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sample_rate_hz: int | None = None
    n_channels: int | None = None


class Receipt(Record):
    """What lies beside the bytes of a downloaded trailer, and was true when they were stored."""

    trailer_id: TrailerId
    sha256: str
    size_bytes: int
    duration_s: float
    streams: tuple[Stream, ...]
    source_url: str
    downloader: str
    """Name and version, such as `yt-dlp 2026.10.26`."""


class DownloadSummary(Record):
    """What a download of one batch did."""

    batch: BatchRef
    n_planned: int
    n_downloaded: int
    n_reused: int
    """Already there with a receipt that holds."""
    rejected: dict[str, int] = {}
    waiting: dict[str, int] = {}
    size_bytes: int = 0
