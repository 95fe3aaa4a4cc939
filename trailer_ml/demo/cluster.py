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
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.airflow_stack import Executor, Worker
from trailer_ml.demo.services import LOOPBACK, free_port, write_private
from trailer_ml.errors import ChildTimeoutError, LocalFaultError
from trailer_ml.processes import TAIL_BYTES, kill_group, run_child

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_S = 60.0
WORKERS = (Worker("worker-1", "default"), Worker("worker-2", "default"), Worker("worker-gpu", "gpu"))


class Server:
    """A server that can be stopped and started again with what it keeps.

    Args:
        arguments: its program.
        folder: where it runs and writes its log.
        question: a program that ends with 0 as soon as the server answers.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, question: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._folder = folder
        self._question = list(question)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers.

        Raises:
            ChildTimeoutError: it does not.
        """
        log = self._folder / "server.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=self._folder,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while subprocess.run(self._question, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-TAIL_BYTES:]
                raise ChildTimeoutError(f"{Path(self._question[0]).name}: no answer", stderr_tail=tail)
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to its group after ten seconds."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            kill_group(self._process.pid)
            self._process.wait()


class ClusterServers(NamedTuple):
    """What Airflow's parts have between them, and what they are told of it."""

    postgres: Server
    redis: Server
    executor: Executor


@contextlib.contextmanager
def run_cluster_servers(bucket: str) -> Iterator[ClusterServers]:
    """Postgres and Redis while the block runs.

    Args:
        bucket: of the store, where task logs are kept: a worker's disk is its own.
    """
    with run_postgres() as (postgres, database), run_redis() as (redis, broker):
        environ = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{database}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg://{database}",
            "AIRFLOW__CELERY__BROKER_URL": broker,
        }
        logs = f"s3://{bucket}/logs"
        executor = Executor("CeleryExecutor", environ, WORKERS, log_folder=logs, is_supervised=True)
        yield ClusterServers(postgres, redis, executor)


@contextlib.contextmanager
def run_postgres() -> Iterator[tuple[Server, str]]:
    """A PostgreSQL server with one database while the block runs.

    Yields:
        The server, and `user:password@host:port/database`.

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
        is_ready = [str(programs / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port)]
        with _running(Server(arguments, folder, is_ready)) as server:
            run_child(
                [str(programs / "createdb"), "-h", LOOPBACK, "-p", str(port), "-U", "airflow", "airflow"],
                timeout_s=START_S,
                env={**os.environ, "PGPASSWORD": password},
            )
            yield server, f"airflow:{password}@{LOOPBACK}:{port}/airflow"


@contextlib.contextmanager
def run_redis() -> Iterator[tuple[Server, str]]:
    """A Redis server while the block runs; every message is on disk before it is acknowledged.

    Yields:
        The server, and its URL, password included.

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
        # without the password redis-cli ends with 0 as well, and so it does while the log is read
        ask = f"REDISCLI_AUTH=$(sed -n 's/^requirepass //p' {folder}/redis.conf) redis-cli -h {LOOPBACK} -p {port} ping"
        is_ready = ["sh", "-c", f"{ask} | grep -q PONG"]
        with _running(Server([program, str(folder / "redis.conf")], folder, is_ready)) as server:
            yield server, f"redis://:{password}@{LOOPBACK}:{port}/0"


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


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
