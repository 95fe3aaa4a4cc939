"""A record in both directions, and as TensorFlow sees it."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trailer_ml.errors import CorruptShardError
from trailer_ml.features.extract import Features, extract_features
from trailer_ml.records import Receipt, Trailer
from trailer_ml.settings import EXTRACTOR_VERSION, FeatureSettings
from trailer_ml.shards.schema import decode_picture, encode_jpeg, feature_spec, from_example, read_look, to_example
from trailer_ml.shards.tfrecord import decode_example, encode_example

SETTINGS = FeatureSettings(n_frames=4, start_s=1.0, interval_s=2.0, spectrogram_s=6.0)


@pytest.fixture
def features(films: list[bytes], tmp_path: Path) -> Features:
    (tmp_path / "a.mp4").write_bytes(films[0])
    return extract_features(tmp_path / "a.mp4", SETTINGS)


@pytest.fixture
def receipt() -> Receipt:
    return Receipt(
        trailer_id="imdb-vi1", sha256="ab" * 32, size_bytes=1, duration_s=7.0, streams=(), source_url="", downloader=""
    )


@pytest.mark.parametrize("facts", [{}, {"year": None, "genres": ()}, {"genres": ("Sci-Fi", "Drama"), "plot": "“ü”\n"}])
def test_a_record_comes_back(
    facts: dict[str, object], features: Features, receipt: Receipt, make_trailer: Callable[..., Trailer]
) -> None:
    trailer = make_trailer(7, **facts)
    record = from_example(to_example(trailer, features, receipt, SETTINGS))

    for name in ("trailer_id", "film_id", "title", "genres", "year", "plot", "source_url", "listed_on"):
        assert getattr(record, name) == getattr(trailer, name)
    assert (record.sampler, record.extractor_version) == ("exact", f"pyav-{EXTRACTOR_VERSION}")
    assert record.media_sha256 == receipt.sha256
    assert record.has_audio is True
    assert record.duration_s == pytest.approx(features.duration_s)
    np.testing.assert_allclose(record.frame_times_s, features.frame_times_s, rtol=1e-6)
    np.testing.assert_array_equal(record.spectrogram, features.spectrogram)
    assert record.frames.shape == features.frames.shape == (3, 224, 224, 3)
    error = record.frames.astype(float) - features.frames
    assert 10 * np.log10(255**2 / np.mean(error**2)) >= 38


def test_the_same_input_gives_the_same_bytes(
    features: Features, receipt: Receipt, make_trailer: Callable[..., Trailer]
) -> None:
    one, other = (to_example(make_trailer(7), features, receipt, SETTINGS) for _ in range(2))
    assert one == other


def test_tensorflow_sees_the_same(features: Features, receipt: Receipt, make_trailer: Callable[..., Trailer]) -> None:
    import tensorflow as tf

    data = to_example(make_trailer(7, genres=("Drama", "Horror")), features, receipt, SETTINGS)
    parsed = tf.io.parse_single_example(data, feature_spec())
    fields = decode_example(data)

    assert parsed.keys() == fields.keys()
    for name, values in fields.items():
        seen = np.atleast_1d(parsed[name].numpy()).tolist()
        assert seen == values, name


@pytest.mark.parametrize("room", [5, 2])
def test_what_training_looks_at_is_of_the_same_pixels(
    room: int, features: Features, receipt: Receipt, make_trailer: Callable[..., Trailer]
) -> None:
    data = to_example(make_trailer(7), features, receipt, SETTINGS)
    record, frames = from_example(data), np.full((room, 224, 224, 3), 9, np.uint8)
    look = read_look(data, frames)
    n = min(room, 3)
    assert (look.trailer_id, look.n_frames, look.has_audio) == (record.trailer_id, n, True)
    np.testing.assert_array_equal(frames[:n], record.frames[:n])
    assert (frames[n:] == 9).all()
    np.testing.assert_array_equal(look.spectrogram, record.spectrogram)
    with pytest.raises(CorruptShardError, match=r"not a record of schema version 1: .*shape"):
        read_look(data, np.zeros((room, 192, 192, 3), np.uint8))
    one_more = decode_example(data)
    one_more["n_frames"] = [4]
    with pytest.raises(CorruptShardError, match="frames and their number differ"):
        read_look(encode_example(one_more), frames)


def test_another_schema_version_is_named() -> None:
    with pytest.raises(CorruptShardError, match="schema version 2; this program reads 1"):
        from_example(encode_example({"schema_version": [2]}))


def test_what_is_missing_or_broken_is_an_error(
    features: Features, receipt: Receipt, make_trailer: Callable[..., Trailer]
) -> None:
    fields = decode_example(to_example(make_trailer(7), features, receipt, SETTINGS))
    gif = io.BytesIO()
    Image.new("RGB", (4, 4)).save(gif, format="GIF")
    for broken in (
        {"title": []},
        {"frames": [b"no picture"] * 3},
        {"frames": [gif.getvalue()] * 3},
        {"frames": fields["frames"][:2]},
        {"listed_on": [b"yesterday"]},
        {"spectrogram": [fields["spectrogram"][0][:500]]},
    ):
        with pytest.raises(CorruptShardError, match="not a record of schema version 1"):
            from_example(encode_example(fields | broken))
    for name in fields:
        with pytest.raises(CorruptShardError):
            from_example(encode_example({key: value for key, value in fields.items() if key != name}))


@pytest.mark.parametrize(("size", "quality"), [(32, 100), (224, 92), (224, 95), (224, 100), (1024, 92)])
def test_a_picture_full_of_grain_is_kept_too(size: int, quality: int) -> None:
    grain = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    kept = decode_picture(encode_jpeg(grain, quality))
    assert kept.shape == grain.shape
    assert np.abs(kept.astype(int) - grain).mean() < 12
