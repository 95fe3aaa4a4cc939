"""However the demo ends, nothing of it stays: shown with real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# A demo whose one server has a session of its own and does not hear SIGTERM.
DEMO = """
import signal, subprocess, sys, time
from pathlib import Path
from trailer_ml.demo.guard import Stopped, run_guarded

folder = Path(sys.argv[1])

def body():
    server = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"],
        start_new_session=True,
    )
    (folder / "server").write_text(str(server.pid))
    import os
    (folder / "demo.part").write_text(str(os.getpid()))
    (folder / "demo.part").rename(folder / "demo")
    try:
        time.sleep(600)
    except Stopped:
        (folder / "stopped").touch()
        return 7
    return 0

sys.exit(run_guarded(body))
"""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", DEMO, str(tmp_path)], stdin=subprocess.DEVNULL)
    _wait_until((tmp_path / "demo").exists)
    yield process
    for pid in (process.pid, *(_pid(tmp_path, name) for name in ("demo", "server"))):
        if _is_alive(pid):  # the test failed
            os.kill(pid, signal.SIGKILL)
    process.wait(10)


def test_sigterm_ends_it_in_good_order(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(10) == 7
    assert (tmp_path / "stopped").exists()
    assert _all_gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_terminal_that_ends_it_or_goes_away_ends_it_in_good_order(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", DEMO, str(tmp_path)], start_new_session=True)
    _wait_until((tmp_path / "demo").exists)
    os.killpg(process.pid, number)  # as a terminal does: to the guard and to the demo
    assert process.wait(10) == 7
    assert (tmp_path / "stopped").exists()
    assert _all_gone(tmp_path)


def test_a_killed_demo_leaves_no_server(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.kill(_pid(tmp_path, "demo"), signal.SIGKILL)
    assert demo.wait(10) == 128 + signal.SIGKILL
    assert _all_gone(tmp_path)


def test_a_killed_guard_has_the_demo_end_in_good_order(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    demo.kill()
    demo.wait(10)
    _wait_until(lambda: _all_gone(tmp_path))
    assert (tmp_path / "stopped").exists()


def test_the_exit_code_is_the_bodys_and_a_crash_is_one(tmp_path: Path) -> None:
    code = "import sys; from trailer_ml.demo.guard import run_guarded; sys.exit(run_guarded(lambda: {}))"
    assert subprocess.run([sys.executable, "-c", code.format("3")], check=False).returncode == 3
    crash = subprocess.run([sys.executable, "-c", code.format("1 / 0")], check=False, capture_output=True, text=True)
    assert crash.returncode == 1
    assert "ZeroDivisionError" in crash.stderr


def _pid(folder: Path, name: str) -> int:
    return int((folder / name).read_text())


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _all_gone(folder: Path) -> bool:
    return not any(_is_alive(_pid(folder, name)) for name in ("demo", "server"))


def _wait_until(is_so: object, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
