"""TFRecord files and tf.train.Example messages without TensorFlow, whose import takes a task about five seconds.

A record is: length (uint64, little endian), masked CRC-32C of the length, data, masked CRC-32C of the data. The
messages are built from descriptors of our own, field for field those of tensorflow/core/example/feature.proto; map
entries are written in sorted order, so the same values give the same bytes.

Does not belong here: which fields a record has (schema.py).
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from trailer_ml.errors import CorruptShardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CRC_MASK = 0xA282EAD8
_MAX_RECORD_BYTES = 2**31


class RawRecord(NamedTuple):
    """One record of a file as it lies there."""

    number: int
    """Counted from 0."""
    data: bytes
    is_intact: bool
    """Whether the data match their CRC."""


def masked_crc32c(data: bytes) -> int:
    """TensorFlow's masked CRC-32C.

    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _CRC_MASK) & 0xFFFFFFFF


def write_record(file: BinaryIO, data: bytes) -> None:
    """Append one record."""
    length = _LENGTH.pack(len(data))
    file.write(length + _CRC.pack(masked_crc32c(length)))
    file.write(data)
    file.write(_CRC.pack(masked_crc32c(data)))


def read_raw_records(path: Path) -> Iterator[RawRecord]:
    """Every record of a file, intact or not.

    Raises:
        CorruptShardError: a length is damaged or the file is cut off, so that nothing behind it can be found.
    """
    with path.open("rb") as file:
        number = 0
        while head := file.read(_LENGTH.size + _CRC.size):
            length_bytes, crc = head[: _LENGTH.size], head[_LENGTH.size :]
            if len(crc) < _CRC.size or _CRC.unpack(crc)[0] != masked_crc32c(length_bytes):
                raise CorruptShardError(f"{path.name}: the length of record {number} is damaged")
            (length,) = _LENGTH.unpack(length_bytes)
            data, crc = file.read(min(length, _MAX_RECORD_BYTES)), file.read(_CRC.size)
            if len(data) < length or len(crc) < _CRC.size:
                raise CorruptShardError(f"{path.name}: record {number} is cut off")
            yield RawRecord(number, data, _CRC.unpack(crc)[0] == masked_crc32c(data))
            number += 1


def encode_example(fields: Mapping[str, Sequence[bytes] | Sequence[int] | Sequence[float]]) -> bytes:
    """A tf.train.Example, serialised; the type of a field is that of its first value, and an empty one holds bytes."""
    example = _example_class()()
    for name, values in fields.items():
        feature = example.features.feature[name]
        kind = type(values[0]) if values else bytes
        target = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}[kind]
        target.value.extend(values)
        target.SetInParent()
    return bytes(example.SerializeToString(deterministic=True))


def decode_example(data: bytes) -> dict[str, list[Any]]:
    """The inverse of `encode_example`; floats come back rounded to 32 bits.

    Raises:
        CorruptShardError: it does not parse.
    """
    from google.protobuf.message import DecodeError

    try:
        example = _example_class().FromString(data)
    except DecodeError as error:
        raise CorruptShardError(f"not a tf.train.Example: {error}") from error
    fields: dict[str, list[Any]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        fields[name] = list(getattr(feature, kind).value) if kind else []
    return fields


@cache
def _example_class() -> Any:
    proto = descriptor_pb2.FileDescriptorProto(name="trailer_ml/example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    for name, value_type in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message = proto.message_type.add(name=name)
        message.field.add(name="value", number=1, label=field.LABEL_REPEATED, type=value_type)
    feature = proto.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1
    ):
        feature.field.add(
            name=name,
            number=number,
            label=field.LABEL_OPTIONAL,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{kind}",
            oneof_index=0,
        )
    features = proto.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=field.LABEL_OPTIONAL, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature"
    )
    features.field.add(
        name="feature",
        number=1,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
    )
    example = proto.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features"
    )
    pool = descriptor_pool.DescriptorPool()  # not the default one, where TensorFlow has put its own
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
