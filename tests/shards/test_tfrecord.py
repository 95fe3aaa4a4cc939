"""Our TFRecord files and TensorFlow's are the same."""

from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from trailer_ml.errors import CorruptShardError
from trailer_ml.shards.tfrecord import decode_example, encode_example, read_raw_records, write_record

RECORDS = [b"", b"a", b"\0" * 1000, bytes(range(256)) * 300]
FIELDS = {"b": [b"x", "ü".encode()], "a": [1, -2, 2**62], "f": [0.5, 0.1], "none": []}


def write(path: Path, records: list[bytes]) -> Path:
    with path.open("wb") as file:
        for record in records:
            write_record(file, record)
    return path


def test_tensorflow_writes_the_same_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)

    assert write(tmp_path / "ours", RECORDS).read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensorflow_reads_ours(tmp_path: Path) -> None:
    import tensorflow as tf

    path = write(tmp_path / "ours", RECORDS)
    assert [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))] == RECORDS


def test_an_example_is_tensorflows() -> None:
    import tensorflow as tf

    lists = {
        "b": tf.train.Feature(bytes_list=tf.train.BytesList(value=FIELDS["b"])),
        "a": tf.train.Feature(int64_list=tf.train.Int64List(value=FIELDS["a"])),
        "f": tf.train.Feature(float_list=tf.train.FloatList(value=FIELDS["f"])),
        "none": tf.train.Feature(bytes_list=tf.train.BytesList(value=[])),
    }
    theirs = tf.train.Example(features=tf.train.Features(feature=lists))

    assert encode_example(FIELDS) == theirs.SerializeToString(deterministic=True)
    assert tf.train.Example.FromString(encode_example(FIELDS)) == theirs


def test_the_order_of_the_fields_does_not_matter() -> None:
    assert encode_example(FIELDS) == encode_example(dict(reversed(FIELDS.items())))


texts = st.text(min_size=1, max_size=8)
values = st.one_of(
    st.lists(st.binary(max_size=20), max_size=4),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(st.dictionaries(texts, values, max_size=5))
def test_an_example_comes_back(fields: dict[str, list[bytes] | list[int] | list[float]]) -> None:
    assert decode_example(encode_example(fields)) == fields


def test_records_come_back(tmp_path: Path) -> None:
    found = list(read_raw_records(write(tmp_path / "a", RECORDS)))
    assert [record.data for record in found] == RECORDS
    assert [record.number for record in found] == [0, 1, 2, 3]
    assert all(record.is_intact for record in found)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"some", b"records"])
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert not all(record.is_intact for record in read_raw_records(path))
        except CorruptShardError as error:
            assert "the length of record" in str(error)  # noqa: PT017


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"some", b"records"])
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        if length == len(whole) - 16 - len(b"records"):
            continue  # a file of one whole record; the manifest knows that there were two
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptShardError, match=r"is cut off|is damaged"):
            list(read_raw_records(path))


def test_what_is_no_example() -> None:
    with pytest.raises(CorruptShardError, match=r"not a tf\.train\.Example"):
        decode_example(b"\xff" * 20)
