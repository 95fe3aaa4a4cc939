"""The production shape on this machine: CeleryExecutor with Postgres and Redis, two workers and one for the GPU queue.

Programs are Debian's (`postgresql`, `redis-server`); .ci/system-packages installs them. All listen on loopback, each
asks for a password, and what they keep is gone with them: the store alone outlives a run. Workers share nothing but it:
each has its own home, temporary folder, caches and logs, as if it were on a machine of its own.

Does not belong here: Airflow itself (airflow_stack.py), and what production runs (docker/).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.demo.airflow_stack import Executor, Worker
from trailer_ml.demo.services import LOOPBACK, free_port, write_private
from trailer_ml.errors import ChildTimeoutError, LocalFaultError
from trailer_ml.processes import run_child, start_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.processes import Child

START_S = 60.0
WORKERS = (Worker("worker-1", "default"), Worker("worker-2", "default"), Worker("worker-gpu", "gpu"))


@contextlib.contextmanager
def run_cluster_servers(bucket: str) -> Iterator[Executor]:
    """Postgres and Redis while the block runs; what Airflow needs to use them.

    Args:
        bucket: of the store, where task logs are kept: a worker's disk is its own.
    """
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(run_postgres())
        broker = stack.enter_context(run_redis())
        yield Executor(
            "CeleryExecutor",
            environ={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{database}",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg://{database}",
                "AIRFLOW__CELERY__BROKER_URL": broker,
            },
            workers=WORKERS,
            log_folder=f"s3://{bucket}/logs",
        )


@contextlib.contextmanager
def run_postgres() -> Iterator[str]:
    """A PostgreSQL server with one database while the block runs.

    Yields:
        `user:password@host:port/database`.

    Raises:
        LocalFaultError: it is not installed.
    """
    programs = _find_postgres()
    password, port = secrets.token_hex(16), free_port(0)
    with _private_folder("trailer-ml-postgres-") as folder:
        data = folder / "data"
        write_private(folder / "password", password)
        _give_away(folder / "password")
        run_child(
            [*_as_postgres(), str(programs / "initdb"), "--pgdata", str(data), "--username", "airflow",
             "--pwfile", str(folder / "password"), "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"],
            timeout_s=START_S, cwd=folder,
        )  # fmt: skip
        # without fsync: what is lost with this machine was to be forgotten anyway, and a killed server loses nothing
        options = {
            "listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": "", "fsync": "off",
            "max_connections": "200",
        }  # fmt: skip
        arguments = [*_as_postgres(), str(programs / "postgres"), "-D", str(data)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        with start_child(arguments, cwd=folder) as child:
            _wait_for(child, arguments, [str(programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port)])
            address = f"airflow:{password}@{LOOPBACK}:{port}"
            run_child(
                [str(programs / "psql"), "-q", f"postgresql://{address}/postgres", "-c", "CREATE DATABASE airflow"],
                timeout_s=START_S,
            )
            try:
                yield f"{address}/airflow"
            finally:
                child.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(10)


@contextlib.contextmanager
def run_redis() -> Iterator[str]:
    """A Redis server while the block runs; every message is on disk before it is acknowledged.

    Yields:
        Its URL, password included.

    Raises:
        LocalFaultError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise LocalFaultError("redis-server is not here; fix: sudo apt-get install redis-server")
    password, port = secrets.token_hex(16), free_port(0)
    with _private_folder("trailer-ml-redis-") as folder:
        # a file, for arguments can be read by everybody on this machine
        lines = [f"bind {LOOPBACK}", f"port {port}", f"requirepass {password}", f"dir {folder}", 'save ""',
                 "appendonly yes", "appendfsync always"]  # fmt: skip
        write_private(folder / "redis.conf", "\n".join(lines) + "\n")
        arguments = [program, str(folder / "redis.conf")]
        with start_child(arguments, cwd=folder) as child:
            ping = ["redis-cli", "-h", LOOPBACK, "-p", str(port), "--no-auth-warning", "ping"]
            _wait_for(child, arguments, ping)
            try:
                yield f"redis://:{password}@{LOOPBACK}:{port}/0"
            finally:
                child.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(10)


def _find_postgres() -> Path:
    """The folder of its programs, the newest version first; Debian keeps them off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("postgres")
    if found is None:
        raise LocalFaultError("PostgreSQL is not here; fix: sudo apt-get install postgresql")
    return Path(found).resolve().parent


def _as_postgres() -> list[str]:
    """PostgreSQL will not run as root: Debian's user of that name is there for it."""
    if os.geteuid():
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


def _give_away(path: Path) -> None:
    if not os.geteuid():
        postgres = pwd.getpwnam("postgres")
        os.chown(path, postgres.pw_uid, postgres.pw_gid)


@contextlib.contextmanager
def _private_folder(prefix: str) -> Iterator[Path]:
    """A folder that only its server can read, gone at the end. Not below ours: the server may be another user."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as name:
        _give_away(Path(name))
        yield Path(name)


def _wait_for(child: Child, arguments: list[str], question: list[str]) -> None:
    """Return once a server answers, with whatever."""
    deadline = time.monotonic() + START_S
    while subprocess.run(question, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if child.process.poll() is not None:
            raise child.failure(arguments)
        if time.monotonic() > deadline:
            raise ChildTimeoutError(
                f"{arguments[-1]} did not answer in {START_S:.0f} s", stderr_tail=child.stderr_tail()
            )
        time.sleep(0.1)
