"""Reading shards back: against decoding the same JPEG and PNG bytes with the same decoder and nothing else."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import deque
from pathlib import Path

import numpy as np

from benchmarks.films import SET, find_film
from benchmarks.measure import interleaved, table, wall_seconds
from trailer_ml.features.extract import Features, extract_features
from trailer_ml.records import Receipt, Trailer
from trailer_ml.settings import FeatureSettings
from trailer_ml.shards.read import load_dataset, read_records
from trailer_ml.shards.schema import to_example
from trailer_ml.shards.tfrecord import decode_example, read_raw_records, write_record

N = 96
SECONDS = 113  # the tenth frame
DAY = dt.date(2026, 11, 22)
FLOAT32_BYTES = 11 * 224 * 224 * 3 * 4
"""What the seed article's form of one trailer takes: ten frames and a spectrogram as float32."""


def see_films() -> list[Features]:
    """Of the films of the features' benchmark that last long enough for ten frames."""
    return [extract_features(find_film(film), FeatureSettings()) for film in SET if film.seconds > SECONDS]


def worst_psnr(path: Path, films: list[Features]) -> float:
    """The frame that was kept worst, in dB."""
    kept = [record.frames for record, _ in zip(read_records(path), films, strict=False)]
    squares = [
        np.square(a.astype(float) - b.frames).mean(axis=(1, 2, 3)).max() for a, b in zip(kept, films, strict=True)
    ]
    return float(10 * np.log10(255**2 / max(squares)))


def write(path: Path, films: list[Features]) -> None:
    settings = FeatureSettings()
    receipt = Receipt(
        trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=150, streams=(), source_url="", downloader=""
    )
    with path.open("wb") as file:
        for number in range(N):
            ids = {"trailer_id": f"imdb-vi{number}", "film_id": f"imdb-tt{number}"}
            trailer = Trailer(title="A film", genres=("Drama",), source="imdb", source_url="x", listed_on=DAY, **ids)
            write_record(file, to_example(trailer, films[number % len(films)], receipt, settings))


def run() -> str:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tfrecord")
        films = see_films()
        write(path, films)
        psnr = worst_psnr(path, films)
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
            "`load_dataset` (tf.data, for training code of one's own), all cores",
            f"{rates['tf']:.0f} records/s",
            f"{rates['tf'] / rates['tf decoder']:.0%} of the decoder alone",
        ],
        ["the decoder alone, all cores", f"{rates['tf decoder']:.0f} records/s", ""],
        ["numpy, one core", f"{rates['numpy']:.0f} records/s", ""],
        ["bytes a trailer", f"{size / 1000:.0f} kB", f"1/{FLOAT32_BYTES / size:.0f} of float32"],
        ["the frame that is kept worst", f"{psnr:.1f} dB", ""],
    ]
    return table(f"Shards: {N} trailers read back", ("", "measured", "ratio"), rows)
