"""Reading shards back: against decoding the same JPEG and PNG bytes with the same decoder and nothing else."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.measure import interleaved, table, wall_seconds
from trailer_ml.features.extract import Features
from trailer_ml.records import Receipt, Trailer
from trailer_ml.settings import FeatureSettings
from trailer_ml.shards.read import load_dataset, read_records
from trailer_ml.shards.schema import to_example
from trailer_ml.shards.tfrecord import decode_example, read_raw_records, write_record

N = 96
DAY = dt.date(2026, 11, 22)
FLOAT32_BYTES = 11 * 224 * 224 * 3 * 4
"""What the seed article's form of one trailer takes: ten frames and a spectrogram as float32."""


def make_features(number: int) -> Features:
    """Soft random pictures with grain: as hard to encode as film, roughly."""
    rng = np.random.default_rng(number)

    def picture() -> np.ndarray:
        coarse = Image.fromarray(rng.integers(0, 255, (14, 14, 3), np.uint8)).resize((224, 224))
        grain = rng.normal(0, 4, (224, 224, 1))
        return np.clip(np.asarray(coarse.filter(ImageFilter.GaussianBlur(1))) + grain, 0, 255).astype(np.uint8)

    times = 5.0 + 12.0 * np.arange(10)
    frames = np.stack([picture() for _ in times])
    return Features(frames, times, picture(), 150.0, has_audio=True, sampler="exact", extractor_version="pyav-2")


def write(path: Path) -> None:
    settings = FeatureSettings()
    receipt = Receipt(
        trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=150, streams=(), source_url="", downloader=""
    )
    with path.open("wb") as file:
        for number in range(N):
            ids = {"trailer_id": f"imdb-vi{number}", "film_id": f"imdb-tt{number}"}
            trailer = Trailer(title="A film", genres=("Drama",), source="imdb", source_url="x", listed_on=DAY, **ids)
            write_record(file, to_example(trailer, make_features(number), receipt, settings))


def run() -> str:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tfrecord")
        write(path)
        size = path.stat().st_size / N
        pictures = []
        for raw in read_raw_records(path):
            fields = decode_example(raw.data)
            pictures += [*fields["frames"], *fields["spectrogram"]]
        decoder = tf.data.Dataset.from_tensor_slices(pictures).map(
            lambda data: tf.io.decode_image(data, channels=3, expand_animations=False),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        seconds = interleaved(
            {
                "tf": lambda: deque(load_dataset([path], 10), maxlen=0),
                "tf decoder": lambda: deque(decoder, maxlen=0),
                "numpy": lambda: deque(read_records(path), maxlen=0),
            },
            rounds=3,
            measure=wall_seconds,
        )
    rates = {name: N / value for name, value in seconds.items()}
    rows = [
        [
            "tf.data, all cores",
            f"{rates['tf']:.0f} records/s",
            f"{rates['tf'] / rates['tf decoder']:.0%} of the decoder alone",
        ],
        ["the decoder alone, all cores", f"{rates['tf decoder']:.0f} records/s", ""],
        ["numpy, one core", f"{rates['numpy']:.0f} records/s", ""],
        ["bytes a trailer", f"{size / 1000:.0f} kB", f"1/{FLOAT32_BYTES / size:.0f} of float32"],
    ]
    return table(f"Shards: {N} trailers read back", ("", "measured", "ratio"), rows)
