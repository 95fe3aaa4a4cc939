"""Batches as crawl and download leave them in the store, made of small films."""

import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import imageio_ffmpeg
import pytest

from trailer_ml.records import BatchRef, Quarantine, Receipt, Stream, Trailer
from trailer_ml.settings import FeatureSettings, Settings, ShardSettings
from trailer_ml.storage import Store, batch_key, catalog_key, media_key, quarantine_key, receipt_key

PutBatch = Callable[..., BatchRef]


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four films of 7 to 10 s; the last one is silent."""
    folder = tmp_path_factory.mktemp("films")
    made = []
    for i in range(4):
        sound = ("-f", "lavfi", "-i", f"sine=f={300 + 200 * i}:b=3") if i < 3 else ()
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s=320x180,hue=h={90 * i}",
            *sound, "-t", str(7 + i), "-c:v", "libx264", "-preset", "ultrafast", folder / f"{i}.mp4",
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=60)
        made.append((folder / f"{i}.mp4").read_bytes())
    return made


@pytest.fixture
def settings(settings: Settings) -> Settings:
    features = FeatureSettings(n_frames=4, start_s=1.0, interval_s=2.0, spectrogram_s=6.0, timeout_s=30.0)
    return settings.model_copy(update={"features": features, "shards": ShardSettings(workers=2)})


@pytest.fixture
def put_batch(store: Store, make_trailer: Callable[..., Trailer]) -> PutBatch:
    """`put_batch([bytes or reason, ...])`: a trailer each, downloaded, or given up or waiting (`reason?`)."""

    def put(media: Sequence[bytes | str | None], number: int = 0, to: Store = store) -> BatchRef:
        trailers = [make_trailer(i + 100 * number, title=f"Fílm “{i}”", plot="Two\nlines.") for i in range(len(media))]
        day = trailers[0].listed_on
        batch = BatchRef(listed_on=day, number=number)
        to.put_bytes(catalog_key(day), "".join(f"{t.model_dump_json()}\n" for t in trailers).encode())
        # Not in the order of their ids: a shard is.
        to.create_json(batch_key(batch), {"trailer_ids": [t.trailer_id for t in reversed(trailers)]})
        for trailer, content in zip(trailers, media, strict=True):
            if isinstance(content, bytes):
                to.put_bytes(media_key(trailer.trailer_id), content)
                to.create_json(receipt_key(trailer.trailer_id), make_receipt(trailer, content).to_json())
            elif content is not None:
                entry = make_quarantine(trailer, content)
                to.put_json(quarantine_key("download", trailer.trailer_id), entry.to_json())
        return batch

    return put


def make_receipt(trailer: Trailer, content: bytes) -> Receipt:
    return Receipt(
        trailer_id=trailer.trailer_id,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        duration_s=7.0,
        streams=(Stream(kind="video", codec="h264"),),
        source_url=trailer.source_url,
        downloader="yt-dlp 0",
    )


def make_quarantine(trailer: Trailer, reason: str) -> Quarantine:
    waits = reason.endswith("?")
    return Quarantine.model_validate(
        {
            "id": trailer.trailer_id,
            "stage": "download",
            "reason": reason.rstrip("?"),
            "is_permanent": not waits,
            "retry_at": "2026-11-21T00:00:00Z" if waits else None,
        }
    )


@pytest.fixture
def read_all(store: Store) -> Callable[..., Mapping[str, bytes]]:
    """Every object under some prefix."""

    def read(prefix: str = "", of: Store = store) -> dict[str, bytes]:
        return {key: of.read_bytes(key) for key in of.list_keys(prefix)}

    return read


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
