"""That a slot is free as soon as its task has ended, and no later."""

import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import structlog
from airflow.sdk.execution_time.supervisor import ActivitySubprocess, PsutilTracker

from trailer_airflow.supervise import notice_ends

PLUGINS = Path(__file__).parents[2] / "plugins"
LONG_S = 300.0
"""What the supervisor would wait for nothing at all; more than this test may take."""


@pytest.fixture
def noticed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActivitySubprocess, "_service_subprocess", ActivitySubprocess._service_subprocess)
        notice_ends()
        yield


def supervisor_of(process: "subprocess.Popen[bytes]") -> ActivitySubprocess:
    """As it is once all sockets of its task are closed."""
    supervisor = ActivitySubprocess.__new__(ActivitySubprocess)
    for name, value in {
        "_process": PsutilTracker(psutil.Process(process.pid)), "_open_sockets": {}, "_exit_code": None,
        "_process_exit_monotonic": None, "selector": selectors.DefaultSelector(), "process_log": structlog.get_logger(),
    }.items():  # fmt: skip
        setattr(supervisor, name, value)
    return supervisor


def test_a_task_that_ends_after_its_sockets_is_not_waited_for_longer(noticed: None) -> None:
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(3)"]) as process:
        assert supervisor_of(process)._service_subprocess(LONG_S) == 3
    assert time.monotonic() - began < LONG_S / 2


def test_one_that_does_not_end_gets_its_heartbeats(noticed: None) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert supervisor_of(process)._service_subprocess(0.1) is None


@pytest.mark.parametrize(("component", "is_changed"), [("scheduler", True), ("dag-processor", False)])
def test_the_scheduler_learns_it_from_the_plugin(component: str, *, is_changed: bool) -> None:
    """LocalExecutor's workers are forked from it; nobody else imports what only it needs."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = ['airflow', sys.argv[2]];"
        "import trailer_airflow.plugin;"
        "print('trailer_airflow.supervise' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, PLUGINS, component], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith(str(is_changed))
