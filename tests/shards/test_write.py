"""A batch becomes a shard: in the real store, with real films, again and again, and killed in the middle."""

import datetime as dt
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from trailer_ml.errors import ConflictError, LocalFaultError, MissingObjectError, TooManyLossesError
from trailer_ml.records import BatchRef, Quarantine, Receipt, ShardManifest
from trailer_ml.settings import FeatureSettings, Settings, as_environment
from trailer_ml.shards.read import cached_shard, read_records
from trailer_ml.shards.verify import verify_shards
from trailer_ml.shards.write import choose_thumb, write_shard
from trailer_ml.storage import (
    Store,
    media_key,
    quarantine_key,
    receipt_key,
    sha256_of,
    shard_key,
    shard_manifest_key,
    thumb_key,
    tombstone_key,
)

PutBatch = Callable[..., BatchRef]
ReadAll = Callable[..., Mapping[str, bytes]]
TEXT = b"<html>no video</html>"


def with_shards(settings: Settings, **changes: float) -> Settings:
    return settings.model_copy(update={"shards": settings.shards.model_copy(update=changes)})


def read_manifest(store: Store, batch: BatchRef) -> ShardManifest:
    return ShardManifest.model_validate(store.read_json(shard_manifest_key(batch)))


def test_records_lie_in_the_order_of_their_ids(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], cache: Path
) -> None:
    batch = put_batch(films)
    summary = write_shard(batch, settings, store)
    manifest = read_manifest(store, batch)
    records = list(read_records(cached_shard(store, batch, manifest, cache)))

    assert (summary.count, summary.rejected, summary.is_new) == (4, {}, True)
    assert (manifest.short, manifest.silent) == (manifest.trailer_ids[:1], manifest.trailer_ids[3:])
    assert (summary.n_short, summary.n_silent) == (1, 1)
    assert summary.key == manifest.key == shard_key(batch)
    assert manifest.trailer_ids == tuple(record.trailer_id for record in records) == tuple(sorted(manifest.trailer_ids))
    assert manifest.film_ids == tuple(record.film_id for record in records)
    assert manifest.sha256 == sha256_of(store.read_bytes(manifest.key))
    assert manifest.size_bytes == len(store.read_bytes(manifest.key)) == summary.size_bytes
    assert FeatureSettings(**manifest.features).instants_s == settings.features.instants_s
    assert [len(record.frames) for record in records] == [3, 4, 4, 4]
    assert [record.has_audio for record in records] == [True, True, True, False]
    assert [record.media_sha256 for record in records] == [sha256_of(film) for film in films]
    for trailer_id in manifest.trailer_ids:
        assert store.read_bytes(thumb_key(trailer_id)).startswith(b"\xff\xd8\xff")


def test_what_is_short_or_silent_stays_in_only_if_it_may(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    summary = write_shard(put_batch(films), with_shards(settings, keep_short=False, keep_silent=False), store)
    assert (summary.count, summary.rejected) == (2, {"short": 1, "silent": 1})


def test_who_is_left_out_and_why(settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]) -> None:
    batch = put_batch([films[0], TEXT, "gone", "rate_limited?", films[1]])
    summary = write_shard(batch, settings, store)
    manifest = read_manifest(store, batch)

    assert [trailer_id[-1] for trailer_id in manifest.trailer_ids] == ["0", "4"]
    assert [(r.trailer_id[-1], r.reason) for r in manifest.rejected] == [("1", "not_a_video"), ("2", "gone")]
    assert summary.rejected == {"not_a_video": 1, "gone": 1}
    entry = Quarantine.model_validate(store.read_json(quarantine_key("shard", manifest.rejected[0].trailer_id)))
    assert (entry.reason, entry.is_permanent, entry.attempts) == ("not_a_video", True, 1)
    assert len(list(store.list_keys("quarantine/shard/"))) == 1


def test_a_second_run_writes_nothing(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], read_all: ReadAll
) -> None:
    batch = put_batch([films[0], TEXT])
    first = write_shard(batch, settings, store)
    before = read_all()
    second = write_shard(batch, settings, store)

    assert second == first.model_copy(update={"is_new": False})
    assert read_all() == before


def test_the_same_input_gives_the_same_bytes_elsewhere(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], read_all: ReadAll
) -> None:
    elsewhere = Store(store.settings.model_copy(update={"prefix": store.settings.prefix + "elsewhere/"}))
    media = [*films, TEXT, "gone"]
    one_worker = with_shards(settings, workers=1)
    write_shard(put_batch(media), settings, store)
    write_shard(put_batch(media, to=elsewhere), one_worker, elsewhere)

    for prefix in ("shards/", "thumbs/", "quarantine/"):
        assert read_all(prefix) == read_all(prefix, elsewhere) != {}


def test_a_batch_with_nothing_usable_is_done_too(
    settings: Settings, store: Store, put_batch: PutBatch, cache: Path
) -> None:
    batch = put_batch(["gone", "age_restricted", "rate_limited?"])
    summary = write_shard(batch, settings, store)

    assert (summary.count, summary.size_bytes) == (0, 0)
    assert summary.rejected == {"gone": 1, "age_restricted": 1}
    assert list(read_records(cached_shard(store, batch, read_manifest(store, batch), cache))) == []
    assert not write_shard(batch, settings, store).is_new


def test_too_many_losses_fail_the_task_and_say_why(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([TEXT, films[0], b"", "gone", TEXT[:9]])
    with pytest.raises(
        TooManyLossesError, match=r"3 of the 4 trailers of listed=2026-11-20/0000 cannot be used"
    ) as raised:
        write_shard(batch, settings, store)

    assert list(store.list_keys("shards/")) == []
    assert list(store.list_keys("thumbs/")) == []
    entries = [Quarantine.model_validate(store.read_json(key)) for key in store.list_keys("quarantine/shard/")]
    assert {(entry.reason, entry.is_permanent) for entry in entries} == {("not_a_video", False), ("empty", False)}
    assert {entry.reason for entry in entries} == set(raised.value.lost)

    assert write_shard(batch, with_shards(settings, max_loss_share=0.9), store).count == 1
    assert all(store.read_json(key)["is_permanent"] for key in store.list_keys("quarantine/shard/"))


def test_what_may_have_been_the_machine_is_looked_at_again_when_the_rest_is_done(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], tmp_path: Path, cache: Path
) -> None:
    """An ffmpeg that crashes twice, which is as often as the first look tries."""
    program, tries = tmp_path / "ffmpeg", tmp_path / "tries"
    program.write_text(
        f"""#!/bin/sh
case "$*" in *0000000.mp4*) echo >> {tries}; [ "$(wc -l < {tries})" -gt 2 ] || kill -SEGV $$ ;; esac
exec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"
"""
    )
    program.chmod(0o755)
    features = settings.features.model_copy(update={"engine": "ffmpeg", "ffmpeg_path": str(program)})
    batch = put_batch(films[:3])
    summary = write_shard(batch, settings.model_copy(update={"features": features}), store)

    assert (summary.count, summary.rejected) == (3, {})
    manifest = read_manifest(store, batch)
    records = list(read_records(cached_shard(store, batch, manifest, cache)))
    assert [record.trailer_id for record in records] == sorted(manifest.trailer_ids)
    assert list(store.list_keys("quarantine/")) == []


def test_a_manifest_names_the_trailers_with_damage(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    make = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180", "-t", "7"]
    subprocess.run([*make, "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", path], check=True, timeout=60)
    with av.open(path) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    data = bytearray(path.read_bytes())
    data[places[3] + 200 : places[3] + 203] = b"\xff\x00\xff"
    batch = put_batch([bytes(data), films[1]])
    write_shard(batch, settings, store)
    assert [trailer_id[-1] for trailer_id in read_manifest(store, batch).damaged] == ["0"]


def test_a_small_batch_that_is_lost_is_done(settings: Settings, store: Store, put_batch: PutBatch) -> None:
    """One trailer that comes again by itself and cannot be used would otherwise fail every night."""
    batch = put_batch([TEXT, b""])
    summary = write_shard(batch, settings, store)
    assert (summary.count, summary.rejected, summary.is_new) == (0, {"not_a_video": 1, "empty": 1}, True)


def test_a_success_ends_quarantine(settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]) -> None:
    batch = put_batch([TEXT])
    with pytest.raises(TooManyLossesError):
        write_shard(batch, with_shards(settings, min_losses=1), store)
    (key,) = store.list_keys("quarantine/shard/")
    trailer_id = store.read_json(key)["id"]
    receipt = Receipt.model_validate(store.read_json(receipt_key(trailer_id)))
    store.put_bytes(media_key(trailer_id), films[0])
    store.put_json(receipt_key(trailer_id), receipt.model_copy(update={"sha256": sha256_of(films[0])}).to_json())

    assert write_shard(batch, settings, store).count == 1
    assert not store.exists(key)


def test_media_that_are_not_their_receipts(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([films[0], films[1], films[2], films[3]])
    ids = [key.removeprefix("media/").removesuffix(".mp4") for key in store.list_keys("media/") if key.endswith("mp4")]
    store.put_bytes(media_key(ids[0]), films[2])
    store.delete(media_key(ids[1]))

    assert write_shard(batch, settings, store).rejected == {"media_changed": 1, "media_missing": 1}


def test_a_batch_that_was_not_downloaded(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([films[0], None])
    with pytest.raises(MissingObjectError, match=r"1 trailers of .* download the batch first"):
        write_shard(batch, settings, store)
    with pytest.raises(MissingObjectError, match="there is no object"):
        write_shard(batch.model_copy(update={"number": 7}), settings, store)
    assert list(store.list_keys("shards/")) == []


class MeetingStore(Store):
    """A store where something happens while media are fetched."""

    def __init__(self, store: Store, meanwhile: Callable[[], object]) -> None:
        super().__init__(store.settings)
        self.meanwhile: Callable[[], object] | None = meanwhile

    def read_file(self, key: str, path: Path) -> None:
        if happens := self.meanwhile:
            self.meanwhile = None
            happens()
        super().read_file(key, path)


def test_what_the_download_gave_up_is_due_for_no_other_shard(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch, key = put_batch([films[0], "gone"]), quarantine_key("shard", "imdb-vi0000001")
    due = Quarantine(
        id="imdb-vi0000001", stage="shard", reason="media_missing", detail="", is_permanent=False,
        retry_at=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    store.put_json(key, due.to_json())
    assert write_shard(batch, settings, store).rejected == {"gone": 1}
    assert not store.exists(key)


def test_a_trailer_that_is_taken_down_while_it_is_lost_leaves_no_word(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([films[0], TEXT])
    write_shard(batch, settings, MeetingStore(store, lambda: store.put_json(tombstone_key("imdb-vi0000001"), {})))
    assert list(store.list_keys("quarantine/")) == []


def test_a_slower_twin_takes_the_shard_that_is_there(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], read_all: ReadAll
) -> None:
    """The twin has got one trailer more, so that its records are others."""
    batch = put_batch([films[0], films[1]])
    late = next(key for key in store.list_keys("media/") if key.endswith(".json"))
    receipt = store.read_bytes(late)

    def write_without_the_late_one() -> None:
        waiting = Quarantine(
            id=receipt_id(late), stage="download", reason="x", is_permanent=False, retry_at="2026-11-21T00:00:00Z"
        )
        store.delete(late)
        store.put_json(quarantine_key("download", waiting.id), waiting.to_json())
        assert write_shard(batch, settings, store).count == 1
        store.put_bytes(late, receipt)

    summary = write_shard(batch, settings, MeetingStore(store, write_without_the_late_one))
    assert (summary.count, summary.is_new) == (1, False)
    verified = verify_shards(settings, store)
    assert (verified.n_records, verified.bad) == (1, ())


def receipt_id(key: str) -> str:
    return key.removeprefix("media/").removesuffix(".json")


def test_where_a_twin_is_just_writing_the_next_try_decides(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([films[0]])
    twin = MeetingStore(store, lambda: store.put_bytes(shard_key(batch), b"its manifest is to follow"))
    with pytest.raises(ConflictError):
        write_shard(batch, settings, twin)
    assert store.read_bytes(shard_key(batch)) == b"its manifest is to follow"
    assert write_shard(batch, settings, store).is_new  # it never came
    assert verify_shards(settings, store).bad == ()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # s3transfer drops what it cannot write down
@pytest.mark.parametrize("room_for", ["nothing", "a film but not for all records"])
def test_a_full_disk_is_no_end_of_the_matter(
    room_for: str, settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]
) -> None:
    """A limit on the size of a file is to who writes one what a full disk is: an OSError."""
    settings = settings.model_copy(update={"features": settings.features.model_copy(update={"image_size": 640})})
    batch = put_batch([films[0]] * 3)
    room_bytes = 2000 if room_for == "nothing" else len(films[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        with pytest.raises(LocalFaultError, match="the shard of listed=2026-11-20/0000 cannot be made on this machine"):
            write_shard(batch, settings, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(store.list_keys("shards/")) == []
    summary = write_shard(batch, settings, store)
    assert summary.count == 3
    assert summary.size_bytes > room_bytes
    gc.collect()  # here, and not in a test that would be blamed for the dropped connection


# Ends as a machine does that loses its power: at the n-th call that writes to the store, or at the n-th record.
# Its last words are the processes that it has started.
KILLED = """
import os, signal, sys
from pathlib import Path
from trailer_ml.records import BatchRef
from trailer_ml.settings import load_settings
from trailer_ml.shards import write
from trailer_ml.storage import Store

name, n = sys.argv[1], int(sys.argv[2])
calls = 0

def children():
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"PPid:\\t{os.getpid()}\\n" in status.read_text():
                yield status.parent.name
        except OSError:
            continue

def killing(function):
    def wrapped(*arguments, **keywords):
        global calls
        calls += 1
        if calls == n:
            print(*children(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return wrapped

owner = Store if hasattr(Store, name) else write
setattr(owner, name, killing(getattr(owner, name)))
settings = load_settings()
write.write_shard(BatchRef.from_path(sys.argv[3]), settings, Store(settings.store))
"""
POINTS = [
    ("read_file", 3),
    ("write_record", 3),
    ("put_json", 1),
    ("swap_file", 1),
    ("put_bytes", 2),
    ("create_json", 1),
]


def environment(settings: Settings, folder: Path) -> dict[str, str]:
    """Settings, credentials, and a place for what a killed process leaves behind."""
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    assert key
    assert secret
    secrets = {"AWS_ACCESS_KEY_ID": key.get_secret_value(), "AWS_SECRET_ACCESS_KEY": secret.get_secret_value()}
    return {**os.environ, **as_environment(settings), **secrets, "TMPDIR": str(folder)}


@pytest.mark.slow
def test_killed_at_any_point_the_next_try_finishes(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], read_all: ReadAll, tmp_path: Path
) -> None:
    whole = Store(store.settings.model_copy(update={"prefix": store.settings.prefix + "whole/"}))
    media = [*films, TEXT]
    batch = put_batch(media)
    put_batch(media, to=whole)
    write_shard(batch, settings, whole)
    for name, n in POINTS:
        command = [sys.executable, "-c", KILLED, name, str(n), batch.path]
        ended = subprocess.run(
            command, env=environment(settings, tmp_path), timeout=120, capture_output=True, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        assert not store.exists(shard_manifest_key(batch)), (name, n)

    assert write_shard(batch, settings, store).is_new
    for prefix in ("shards/", "thumbs/", "quarantine/"):
        assert read_all(prefix) == read_all(prefix, whole) != {}


def test_a_killed_task_leaves_no_process_behind(
    settings: Settings, put_batch: PutBatch, films: list[bytes], tmp_path: Path
) -> None:
    batch = put_batch(films)
    command = [sys.executable, "-c", KILLED, "to_example", "1", batch.path]
    ended = subprocess.run(command, env=environment(settings, tmp_path), timeout=120, capture_output=True, check=False)
    workers = [int(pid) for pid in ended.stdout.split()]
    assert len(workers) == 2

    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended (where nobody asks how, it stays in the table)."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_picture_for_people_is_the_one_with_the_most_to_see() -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[1, ..., 0] = 255  # plain, though its channels differ
    frames[2, :, :16] = 255  # half and half
    assert (choose_thumb(frames) == frames[2]).all()
