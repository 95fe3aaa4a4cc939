"""The record of a shard, schema version 1: which fields, and both directions.

| field | values | |
|---|---|---|
| trailer_id, film_id, title, plot, source_url, media_sha256, sampler, extractor_version | bytes, 1 | UTF-8 |
| genres | bytes, any | words: the label vocabulary belongs to a model |
| year | int64, 1 | 0: not known |
| listed_on | bytes, 1 | ISO date |
| duration_s | float, 1 | of the picture |
| frames | bytes, n_frames | JPEG, 4:4:4 |
| frame_times_s | float, n_frames | |
| n_frames, has_audio, schema_version | int64, 1 | |
| spectrogram | bytes, 1 | PNG |

JPEG at quality 92 without chroma subsampling, its Huffman tables made for the picture, keeps 40 dB at a third less
bytes than 95. The spectrogram's fine lines suffer from JPEG; PNG is lossless. What else was measured: decision 17.

Does not belong here: files of records (tfrecord.py), and the meaning of a genre.
"""

from __future__ import annotations

import datetime as dt
import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trailer_ml.errors import CorruptShardError
from trailer_ml.shards.tfrecord import decode_example, encode_example

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.records import Receipt, Trailer
    from trailer_ml.settings import FeatureSettings

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ShardRecord:
    """One trailer, decoded."""

    trailer_id: str
    film_id: str
    title: str
    genres: tuple[str, ...]
    year: int | None
    plot: str
    source_url: str
    listed_on: dt.date
    duration_s: float
    frames: NDArray[np.uint8]
    """(n_frames, size, size, 3) uint8, RGB."""
    frame_times_s: NDArray[np.float64]
    """(n_frames,)."""
    spectrogram: NDArray[np.uint8]
    """(size, size, 3) uint8, RGB; black without sound."""
    has_audio: bool
    media_sha256: str
    sampler: str
    extractor_version: str


def to_example(trailer: Trailer, features: Features, receipt: Receipt, settings: FeatureSettings) -> bytes:
    """One record, as a serialised tf.train.Example; the same input gives the same bytes."""
    texts = {
        "trailer_id": trailer.trailer_id,
        "film_id": trailer.film_id,
        "title": trailer.title,
        "plot": trailer.plot,
        "source_url": trailer.source_url,
        "listed_on": trailer.listed_on.isoformat(),
        "media_sha256": receipt.sha256,
        "sampler": features.sampler,
        "extractor_version": features.extractor_version,
    }
    return encode_example(
        {
            **{name: [text.encode()] for name, text in texts.items()},
            "genres": [genre.encode() for genre in trailer.genres],
            "year": [trailer.year or 0],
            "duration_s": [float(features.duration_s)],
            "frames": [encode_jpeg(frame, settings.jpeg_quality) for frame in features.frames],
            "frame_times_s": features.frame_times_s.tolist(),
            "n_frames": [len(features.frames)],
            "spectrogram": [_encode_png(features.spectrogram)],
            "has_audio": [int(features.has_audio)],
            "schema_version": [SCHEMA_VERSION],
        }
    )


def from_example(data: bytes) -> ShardRecord:
    """The inverse of `to_example`; pixels of frames come back as JPEG keeps them.

    Raises:
        CorruptShardError: it does not parse, or belongs to another schema.
    """
    with _parsing(data) as fields:
        return _from_fields(fields)


class Look(NamedTuple):
    """What training looks at of a record, beside its frames."""

    trailer_id: str
    n_frames: int
    spectrogram: NDArray[np.uint8]
    """(size, size, 3) uint8, RGB; black without sound."""
    has_audio: bool


def read_look(data: bytes, frames: NDArray[np.uint8]) -> Look:
    """The part of a record that training looks at, its frames decoded straight to where they are wanted.

    A batch costs 15 % less than with `from_example`, which copies each frame twice more.

    Args:
        data: one record.
        frames: (n, size, size, 3) uint8; its first are written, as many as the record has, and the others left alone.

    Raises:
        CorruptShardError: as `from_example`, or its frames have another size.
    """
    with _parsing(data) as fields:
        if len(fields["frames"]) != fields["n_frames"][0]:
            raise ValueError("frames and their number differ")
        jpegs = fields["frames"][: len(frames)]
        for place, jpeg in enumerate(jpegs):
            frames[place] = decode_picture(jpeg)
        return Look(
            trailer_id=fields["trailer_id"][0].decode(),
            n_frames=len(jpegs),
            spectrogram=decode_picture(fields["spectrogram"][0]),
            has_audio=bool(fields["has_audio"][0]),
        )


@contextmanager
def _parsing(data: bytes) -> Iterator[dict[str, list[Any]]]:
    """The fields of a record; what cannot be made of them is one error."""
    fields = decode_example(data)
    try:
        version = fields["schema_version"][0]
        if version != SCHEMA_VERSION:
            raise CorruptShardError(f"a record of schema version {version}; this program reads {SCHEMA_VERSION}")
        yield fields
    except (KeyError, IndexError, ValueError, OSError, SyntaxError) as error:  # Pillow's and a missing field's
        if isinstance(error, CorruptShardError):
            raise
        raise CorruptShardError(f"not a record of schema version {SCHEMA_VERSION}: {error!r}") from error


def read_trailer_id(data: bytes) -> str:
    """Whose record this is, as far as one can tell."""
    try:
        return str(decode_example(data)["trailer_id"][0].decode())
    except (CorruptShardError, LookupError, ValueError):
        return "unknown"


def feature_spec() -> dict[str, Any]:
    """What tf.io.parse_single_example is given."""
    import tensorflow as tf

    one = {name: tf.io.FixedLenFeature([], tf.string) for name in _TEXTS}
    numbers = {
        name: tf.io.FixedLenFeature([], tf.int64) for name in ("year", "n_frames", "has_audio", "schema_version")
    }
    return {
        **one,
        **numbers,
        "spectrogram": tf.io.FixedLenFeature([], tf.string),
        "duration_s": tf.io.FixedLenFeature([], tf.float32),
        "genres": tf.io.RaggedFeature(tf.string),
        "frames": tf.io.RaggedFeature(tf.string),
        "frame_times_s": tf.io.RaggedFeature(tf.float32),
    }


def encode_jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """(h, w, 3) uint8, RGB, to JPEG bytes without chroma subsampling."""
    from PIL import Image, ImageFile

    # With tables of its own a picture has to fit into one buffer; Pillow's guess is too small for one full of grain.
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 2 * picture.size)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """JPEG or PNG bytes to (h, w, 3) uint8, RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        return np.asarray(picture.convert("RGB"))


_TEXTS = (
    "trailer_id", "film_id", "title", "plot", "source_url", "listed_on", "media_sha256", "sampler", "extractor_version",
)  # fmt: skip


def _encode_png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def _from_fields(fields: dict[str, list[Any]]) -> ShardRecord:
    texts = {name: fields[name][0].decode() for name in _TEXTS if name != "listed_on"}
    frames = [decode_picture(data) for data in fields["frames"]]
    if not len(frames) == len(fields["frame_times_s"]) == fields["n_frames"][0]:
        raise ValueError("frames, their times and their number differ")
    return ShardRecord(
        **texts,
        genres=tuple(genre.decode() for genre in fields["genres"]),
        year=fields["year"][0] or None,
        listed_on=dt.date.fromisoformat(fields["listed_on"][0].decode()),
        duration_s=fields["duration_s"][0],
        frames=np.stack(frames),
        frame_times_s=np.array(fields["frame_times_s"], np.float64),
        spectrogram=decode_picture(fields["spectrogram"][0]),
        has_audio=bool(fields["has_audio"][0]),
    )
