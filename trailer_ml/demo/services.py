"""Servers for one machine, on loopback only: SeaweedFS for the demo and for the tests.

Does not belong here: Airflow (see airflow_stack.py), and anything production runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.errors import ChildTimeoutError
from trailer_ml.features import leashed
from trailer_ml.processes import start_child
from trailer_ml.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LOOPBACK = "127.0.0.1"
_RANDOM = random.SystemRandom()  # training seeds the other one, and then all of its children would choose alike


def free_port(preferred: int = 0) -> int:
    """A TCP port nobody listens on: `preferred` if it is free, else any other."""
    return free_ports(preferred)[0]


def free_ports(*preferred: int) -> list[int]:
    """As many TCP ports nobody listens on, no two the same: each the preferred one if it is free, else any other.

    The others lie below the range from which the kernel takes the source ports of connections: out of that range, any
    connection, one by the starting server itself included, may take a port before its server does (seaweedfs #10838).

    Raises:
        OSError: there are none left.
    """
    with contextlib.ExitStack() as held:  # bound until all are found, so that none is found twice
        return [_bind_one(held, port) for port in preferred]


def _bind_one(held: contextlib.ExitStack, preferred: int) -> int:
    below = range(10_000, _first_source_port())
    for port in (*((preferred,) if preferred else ()), *_RANDOM.sample(below, min(100, len(below))), 0):
        probe = held.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            probe.listen()
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


def _first_source_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except OSError:
        return 32_768


def read_or_make_credentials(folder: Path) -> tuple[str, str]:
    """Access key and secret of this machine's store: made once, readable by their owner only."""
    path = folder / "credentials"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_private(path, f"{secrets.token_hex(10)} {secrets.token_hex(20)}\n")
    key, secret = path.read_text(encoding="ascii").split()
    return key, secret


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it appears whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.touch(mode=0o600)
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


@contextlib.contextmanager
def run_seaweedfs(folder: Path, *, port: int = 0, bucket: str = "trailers") -> Iterator[StoreSettings]:
    """A SeaweedFS server with one bucket while the block runs, and not after its process has ended, however that ended.

    Args:
        folder: keeps the data, the credentials and the log.
        port: where S3 is served, if that port is free.
        bucket: created if it is not there.

    Yields:
        Settings that reach it, credentials included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, secret = read_or_make_credentials(folder)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    names = [
        f"{part}.{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("port", "port.grpc")
    ]
    ports = dict(zip(names, free_ports(port, *[0] * (len(names) - 1)), strict=True))
    arguments = [
        str(Path(sysconfig.get_path("scripts"), "weed")), f"-logdir={folder}", "mini", f"-dir={data}",
        f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", "-bucket", bucket, "-admin.ui=false", "-webdav=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.preStopSeconds=0",
        "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",  # a path of over 107 bytes is none for a socket
        *(f"-{name}={number}" for name, number in ports.items()),
    ]  # fmt: skip
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    endpoint_url = f"http://{LOOPBACK}:{ports['s3.port']}"
    leash = [sys.executable, "-I", "-S", leashed.__file__, str(os.getpid())]  # whoever starts it may be killed
    with _without_sockets(ports.values()), start_child([*leash, *arguments], env=environment, cwd=folder) as child:
        deadline = time.monotonic() + 60
        while not _answers(endpoint_url):
            if child.process.poll() is not None:
                raise child.failure(arguments)
            if time.monotonic() > deadline:
                raise ChildTimeoutError("SeaweedFS did not answer within 60 s", stderr_tail=child.stderr_tail())
            time.sleep(0.1)
        settings = StoreSettings.model_validate(
            {"endpoint_url": endpoint_url, "bucket": bucket, "access_key_id": key, "secret_access_key": secret}
        )
        _wait_until_writable(settings, deadline)
        try:
            yield settings
        finally:
            child.process.terminate()
            # Now and then it hangs; what it was given is on disk by then.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(5)


@contextlib.contextmanager
def _without_sockets(ports: Collection[int]) -> Iterator[None]:
    """After the block the sockets are gone that SeaweedFS leaves in /tmp, whatever TMPDIR says."""
    try:
        yield
    finally:
        for port in ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - its choice
                path.unlink(missing_ok=True)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1)  # noqa: S310 - our own loopback server
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wait_until_writable(settings: StoreSettings, deadline: float) -> None:
    """S3 answers a moment before the bucket is there and a volume can be written."""
    from trailer_ml.errors import SettingsError, StoreUnavailableError
    from trailer_ml.storage import Store

    store = Store(settings)
    while True:
        try:
            store.put_bytes(".ready", b"ok")
            store.delete(".ready")
        except (SettingsError, StoreUnavailableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
