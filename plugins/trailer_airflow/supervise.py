"""The end of a task is noticed at once.

Airflow's supervisor (3.3.2) waits for news on its sockets. They close a moment before the process has ended,
and then it waits on nothing at all for `[workers] min_heartbeat_interval`: in three of four tasks a whole second, in
which the slot is not free. Here it waits for the process instead.

Does not belong here: anything else of Airflow's own.
"""

from __future__ import annotations

import contextlib
from typing import Any


def notice_ends() -> None:
    """Have the supervisors of this process, and of those that are forked from it, do so."""
    from airflow.sdk.execution_time.supervisor import ActivitySubprocess

    service = ActivitySubprocess._service_subprocess

    def service_or_wait(supervisor: ActivitySubprocess, max_wait_time: float, **asked: Any) -> int | None:
        if not supervisor._open_sockets and supervisor._exit_code is None:
            process = supervisor._process
            with contextlib.suppress(process.TimeoutExpired):
                process.wait(max_wait_time)
            max_wait_time = 0.0
        code: int | None = service(supervisor, max_wait_time, **asked)
        return code

    ActivitySubprocess._service_subprocess = service_or_wait
