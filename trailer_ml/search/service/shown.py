"""What is seen of a trailer: its frames and spectrogram out of its shard, its picture for people, its bytes.

Nothing of it is put on this machine's disk, so nothing has to be found there again when a trailer is taken down. Of a
shard only the record that is asked for is read, once the lengths before it are known.

Does not belong here: who may see it.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from trailer_ml.errors import CorruptShardError, MissingObjectError
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.tfrecord import decode_example, masked_crc32c
from trailer_ml.storage import media_key, thumb_key

if TYPE_CHECKING:
    from trailer_ml.records import ShardManifest
    from trailer_ml.storage import Store

_HEAD_BYTES, _CRC_BYTES = 12, 4  # of a record: its length and the length's CRC, and the CRC of its data
_SHARDS_LISTED_FOR_S = 10.0
_MAX_RECORD_BYTES = 64 * 2**20
Value = TypeVar("Value")


class Shown(NamedTuple):
    """What a record of a shard holds for people."""

    frames: tuple[bytes, ...] = ()
    """JPEG."""
    frame_times_s: tuple[float, ...] = ()
    spectrogram: bytes = b""
    """PNG."""
    plot: str = ""
    source_url: str = ""
    listed_on: dt.date | None = None
    duration_s: float | None = None
    has_audio: bool = False


class Showcase:
    """Reads it from the store, and remembers what was asked for last.

    Args:
        store: where shards, pictures and bytes are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shown: _Recent[Shown] = _Recent(64)
        self._thumbs: _Recent[bytes] = _Recent(2000)
        self._offsets: _Recent[list[int]] = _Recent(1000)
        self._shards: dict[str, tuple[ShardManifest, int]] = {}
        self._listed_at = 0.0
        self._lock = threading.Lock()

    def shown(self, trailer_id: str) -> Shown:
        """What its shard holds of a trailer; nothing where it is in none any more."""
        return self._shown.get(trailer_id, lambda: self._read(trailer_id))

    def thumb(self, trailer_id: str) -> bytes:
        """A JPEG for people.

        Raises:
            MissingObjectError: there is none.
        """
        return self._thumbs.get(trailer_id, lambda: self._store.read_bytes(thumb_key(trailer_id)))

    def media_size(self, trailer_id: str) -> int | None:
        """Bytes of the trailer itself; None where they were not kept."""
        return self._store.size_of(media_key(trailer_id))

    def media_part(self, trailer_id: str, start: int, n_bytes: int) -> bytes:
        """Some of them.

        Raises:
            MissingObjectError: they were not kept.
        """
        return self._store.read_part(media_key(trailer_id), start, n_bytes)

    def forget(self, trailer_ids: frozenset[str]) -> None:
        """Remember nothing of these any longer."""
        for trailer_id in trailer_ids:
            self._shown.drop(trailer_id)
            self._thumbs.drop(trailer_id)

    def _read(self, trailer_id: str) -> Shown:
        for is_second in (False, True):  # the shard may have been made anew since the shards were listed
            found = self._find(trailer_id, anew=is_second)
            if found is None:
                return Shown()
            try:
                return self._read_record(trailer_id, *found)
            except (MissingObjectError, CorruptShardError):
                if is_second:
                    raise
        raise AssertionError

    def _find(self, trailer_id: str, *, anew: bool) -> tuple[ShardManifest, int] | None:
        """The shard of a trailer, and the number of its record."""
        with self._lock:
            is_old = time.monotonic() - self._listed_at > _SHARDS_LISTED_FOR_S
            if anew or not self._listed_at or (trailer_id not in self._shards and is_old):
                self._shards = {
                    each: (manifest, number)
                    for _, manifest in list_shards(self._store)
                    for number, each in enumerate(manifest.trailer_ids)
                }
                self._listed_at = time.monotonic()
            return self._shards.get(trailer_id)

    def _read_record(self, trailer_id: str, manifest: ShardManifest, number: int) -> Shown:
        offsets = list(self._offsets.get(manifest.sha256, lambda: [0]))  # its own: others are at the same shard
        while len(offsets) <= number:
            offsets.append(offsets[-1] + _HEAD_BYTES + self._read_length(manifest, offsets[-1]) + _CRC_BYTES)
        self._offsets.put(manifest.sha256, offsets)
        start, length = offsets[number], self._read_length(manifest, offsets[number])
        data = self._store.read_part(manifest.key, start + _HEAD_BYTES, length + _CRC_BYTES)
        record, crc = data[:length], data[length:]
        if int.from_bytes(crc, "little") != masked_crc32c(record):
            raise CorruptShardError(f"{manifest.key}: the bytes of record {number} do not match their CRC")
        fields = decode_example(record)
        if fields["trailer_id"] != [trailer_id.encode()]:
            raise CorruptShardError(f"{manifest.key}: record {number} is not that of {trailer_id}")
        return Shown(
            frames=tuple(fields["frames"]),
            frame_times_s=tuple(fields["frame_times_s"]),
            spectrogram=fields["spectrogram"][0],
            plot=fields["plot"][0].decode(),
            source_url=fields["source_url"][0].decode(),
            listed_on=dt.date.fromisoformat(fields["listed_on"][0].decode()),
            duration_s=fields["duration_s"][0],
            has_audio=bool(fields["has_audio"][0]),
        )

    def _read_length(self, manifest: ShardManifest, start: int) -> int:
        head = self._store.read_part(manifest.key, start, _HEAD_BYTES)
        length = int.from_bytes(head[:8], "little")
        if int.from_bytes(head[8:], "little") != masked_crc32c(head[:8]) or length > _MAX_RECORD_BYTES:
            raise CorruptShardError(f"{manifest.key}: the length of a record is damaged")
        return length


class _Recent(Generic[Value]):
    """The values asked for last; two threads may make the same one, and both are right."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._n:
                self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)
