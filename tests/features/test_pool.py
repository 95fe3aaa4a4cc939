"""Many files, some of which cost their process its life."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.errors import LocalFaultError, MediaError, SettingsError
from trailer_ml.features.extract import Features, extract_features
from trailer_ml.features.pool import extract_many
from trailer_ml.settings import FeatureSettings

Make = Callable[..., Path]
DEMO = FeatureSettings(start_s=1.0, interval_s=2.4, spectrogram_s=24.0, timeout_s=30.0)


@pytest.fixture(scope="module")
def slow_film(make_video: Make) -> Path:
    """One keyframe in all: every frame has to be decoded, which takes a second or more."""
    video = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "9999", "-sc_threshold", "0")
    return make_video("1280x720", 40, sound=False, video=video, name="slow.mp4")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_files(workers: int, make_video: Make, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    short, long = make_video(seconds=4), make_video()
    paths = [long, short, tmp_path / "empty.mp4", short, tmp_path / "missing.mp4", long]
    results = list(extract_many(paths, DEMO, workers))

    assert [describe(result) for result in results] == [10, 2, "empty", 2, "missing", 10]
    np.testing.assert_array_equal(results[0].frames, extract_features(long, DEMO).frames)
    assert str(results[2]).startswith("empty.mp4: ")


def test_no_files() -> None:
    assert list(extract_many([], DEMO, 2)) == []


@pytest.mark.parametrize(
    ("sent", "reason"), [(signal.SIGKILL, "crashed"), (signal.SIGSEGV, "crashed"), (signal.SIGSTOP, "timeout")]
)
def test_a_process_lost_twice_in_the_same_file_costs_one_trailer(
    sent: signal.Signals, reason: str, make_video: Make, slow_film: Path
) -> None:
    timeout_s = 4.0 if sent is signal.SIGSTOP else 60.0
    settings = DEMO.model_copy(update={"n_frames": 16, "timeout_s": timeout_s, "engine": "pyav"})
    short = make_video(seconds=4)
    with signal_once_open(slow_film, sent, times=2) as sent_to:
        results = list(extract_many([short, slow_film, short, short], settings, 1))

    assert len(set(sent_to)) == 2
    assert [describe(result) for result in results] == [2, reason, 2, 2]
    if reason == "crashed":
        assert sent.name in str(results[1])
    assert not any(Path(f"/proc/{pid}").exists() for pid in sent_to)


def test_a_process_lost_once_costs_no_trailer(make_video: Make, slow_film: Path) -> None:
    """It may have been the machine: a manifest would call the trailer unusable for ever."""
    settings = DEMO.model_copy(update={"n_frames": 16, "timeout_s": 60.0})
    with signal_once_open(slow_film, signal.SIGKILL) as sent_to:
        results = list(extract_many([slow_film, make_video(seconds=4)], settings, 1))

    assert len(sent_to) == 1
    assert [describe(result) for result in results] == [16, 2]


def test_what_crashes_the_quick_engine_twice_is_left_to_ffmpeg(make_video: Make, slow_film: Path) -> None:
    settings = DEMO.model_copy(update={"n_frames": 16, "timeout_s": 60.0})
    with signal_once_open(slow_film, signal.SIGSEGV, times=2) as sent_to:
        results = list(extract_many([slow_film, make_video(seconds=4)], settings, 1))

    assert len(set(sent_to)) == 2
    assert [describe(result) for result in results] == [16, 2]
    assert [result.extractor_version.partition("-")[0] for result in results] == ["ffmpeg", "pyav"]


def test_no_room_for_the_results_is_no_fault_of_the_trailer(
    make_video: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for them is gone, which is for the worker what a full disk is: an OSError as it writes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    film = make_video(seconds=4)

    def paths() -> Iterator[Path]:
        (folder,) = tmp_path.glob("trailer-ml-features-*")
        shutil.rmtree(folder)
        yield film

    with pytest.raises(LocalFaultError, match=film.name):
        list(extract_many(paths(), DEMO, 1))


@pytest.mark.parametrize("has_ffmpeg", [True, False], ids=["no room for what it writes", "no ffmpeg"])
def test_what_ffmpeg_lacks_is_no_fault_of_the_trailer(has_ffmpeg: bool, make_video: Make, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    if has_ffmpeg:
        program.write_text("#!/bin/sh\necho 'Error writing trailer: No space left on device' >&2\nexit 228\n")
        program.chmod(0o755)
    settings = DEMO.model_copy(update={"engine": "ffmpeg", "ffmpeg_path": str(program)})
    with pytest.raises(LocalFaultError, match="no room" if has_ffmpeg else "no ffmpeg"):
        list(extract_many([make_video(seconds=4)], settings, 1))


def test_a_process_that_cannot_start_is_no_fault_of_the_trailer(
    make_video: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the machine is out of memory: it is killed before it says that it is ready."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(LocalFaultError, match="could not start: the extracting process was ended by SIGKILL"):
        list(extract_many([make_video(seconds=4)], DEMO, 1))


def test_an_ffmpeg_that_cannot_be_started_is_no_fault_of_the_trailer(make_video: Make, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    settings = DEMO.model_copy(update={"engine": "ffmpeg", "ffmpeg_path": str(program)})
    with pytest.raises(LocalFaultError, match=r"ffmpeg cannot be started: .*Exec format error"):
        list(extract_many([make_video(seconds=4)], settings, 1))


EXTRACTING = """
import sys
from pathlib import Path
from trailer_ml.features.pool import extract_many
from trailer_ml.settings import FeatureSettings

list(extract_many([Path(sys.argv[1])], FeatureSettings.model_validate_json(sys.argv[2])))
"""


def test_a_killed_task_leaves_neither_ffmpeg_nor_its_folder(make_video: Make, tmp_path: Path) -> None:
    film, program, temporary = make_video(seconds=4), tmp_path / "ffmpeg", tmp_path / "temporary"
    temporary.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/aside && mv {tmp_path}/aside {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    settings = DEMO.model_copy(update={"engine": "ffmpeg", "ffmpeg_path": str(program)})
    command = [sys.executable, "-c", EXTRACTING, film]
    env = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen([*command, settings.model_dump_json()], env=env) as task:
        wait_until((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        task.kill()
    wait_until(lambda: not is_running(pid))
    assert list(temporary.glob("trailer-ml-ffmpeg-*"))

    settings = DEMO.model_copy(update={"engine": "ffmpeg"})
    subprocess.run([*command, settings.model_dump_json()], env=env, check=True, timeout=60)
    assert list(temporary.iterdir()) == []


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended (where nobody asks how, it stays in the table)."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_features_of_another_version_are_not_made(make_video: Make) -> None:
    settings = DEMO.model_copy(update={"extractor_version": "0"})
    with pytest.raises(SettingsError, match="of extractor version 0 are asked for"):
        next(extract_many([make_video(seconds=4)], settings, 1))
    with pytest.raises(SettingsError, match="of extractor version 0 are asked for"):
        extract_features(make_video(seconds=4), settings)


def test_the_other_workers_go_on(make_video: Make, slow_film: Path) -> None:
    settings = DEMO.model_copy(update={"n_frames": 16, "engine": "pyav"})
    short = make_video(seconds=4)
    with signal_once_open(slow_film, signal.SIGKILL, times=2):
        results = list(extract_many([slow_film, short, short, short, short], settings, 2))

    assert [describe(result) for result in results] == ["crashed", 2, 2, 2, 2]


def test_too_little_memory_costs_one_trailer(make_video: Make) -> None:
    code = "import trailer_ml.features.extract; print(open('/proc/self/status').read())"
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    status = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout
    needed_bytes = int(re.search(r"VmPeak:\s+(\d+)", status)[1]) * 1024
    settings = DEMO.model_copy(
        update={"memory_bytes": needed_bytes + 64 * 2**20, "start_s": 0.0, "interval_s": 0.1}  # 10 pictures: 140 MB
    )
    large = make_video("4096x2304", 2, sound=False, video=("-c:v", "libx264", "-preset", "ultrafast"))
    short = make_video(seconds=4)
    results = list(extract_many([short, large, short], settings, 1))

    first, lost, last = (describe(result) for result in results)
    assert (first, last) == (10, 10)
    assert lost in {"out_of_memory", "corrupt"}  # to FFmpeg's decoder a frame without memory may look like damage


def test_files_are_asked_for_one_by_one(make_video: Make) -> None:
    """A night's files are not all fetched before the first is done."""
    asked = []

    def paths() -> Iterator[Path]:
        for i in range(12):
            asked.append(i)
            yield make_video(seconds=4)

    results = extract_many(paths(), DEMO, 1)
    next(results)
    assert len(asked) <= 4
    assert len(list(results)) == 11


def test_leaving_early_ends_the_processes(make_video: Make, slow_film: Path) -> None:
    results = extract_many([make_video(seconds=4), slow_film, slow_film], DEMO.model_copy(update={"n_frames": 16}), 2)
    next(results)
    assert children()
    started = time.monotonic()
    results.close()
    assert not children()
    assert time.monotonic() - started < 10


def test_a_worker_imports_nothing_heavy(make_video: Make, slow_film: Path) -> None:
    """The libraries it has mapped say what it has imported."""
    results = extract_many([make_video(seconds=4), slow_film], DEMO, 1)
    next(results)
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in children())
    results.close()
    assert "/av/" in maps
    for name in ("tensorflow", "twisted", "lxml", "grpc"):
        assert name not in maps


def describe(result: Features | MediaError) -> int | str:
    return result.reason if isinstance(result, MediaError) else len(result.frames)


def children() -> list[int]:
    """The workers that this process has."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            is_ours = f"PPid:\t{os.getpid()}\n" in (folder / "status").read_text()
            if is_ours and b"trailer_ml.features.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, NotADirectoryError):
            continue
    return found


class signal_once_open:  # noqa: N801 — reads as a function
    """While the block runs: the first worker that has `path` open is sent a signal, and the next ones up to `times`."""

    def __init__(self, path: Path, sent: signal.Signals, times: int = 1) -> None:
        self._path = str(path)
        self._signal = sent
        self._times = times
        self._sent_to: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> list[int]:
        self._thread.start()
        return self._sent_to

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while len(self._sent_to) < self._times and not self._stop.wait(0.005):
            for pid in set(children()) - set(self._sent_to):
                if self._path in open_files(pid):
                    os.kill(pid, self._signal)
                    self._sent_to.append(pid)
                    break


def open_files(pid: int) -> set[str]:
    try:
        return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return set()
