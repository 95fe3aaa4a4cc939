"""The servers of the demo and of the tests."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from trailer_ml.demo.services import free_port, free_ports, run_seaweedfs, write_private
from trailer_ml.storage import Store


def test_what_was_stored_is_there_after_a_kill_and_on_other_ports(tmp_path):
    with run_seaweedfs(tmp_path) as settings:
        store = Store(settings)
        store.put_bytes("small", b"x" * 100)
        store.put_bytes("large", b"y" * 6_000_000)
        os.kill(_weed_of(tmp_path), signal.SIGKILL)
    with run_seaweedfs(tmp_path) as settings:
        store = Store(settings)
        assert list(store.list_keys("")) == ["large", "small"]
        assert store.read_bytes("large") == b"y" * 6_000_000


def test_credentials_are_made_once_and_for_their_owner_only(tmp_path):
    with run_seaweedfs(tmp_path) as first:
        pass
    with run_seaweedfs(tmp_path) as second:
        assert second.secret_access_key == first.secret_access_key
    assert (tmp_path / "credentials").stat().st_mode & 0o077 == 0


def test_no_socket_of_it_stays_in_tmp(tmp_path):
    with run_seaweedfs(tmp_path):
        ports = re.findall(r"port(?:\.grpc)?=(\d+)", _arguments(Path(f"/proc/{_weed_of(tmp_path)}")))
        assert [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")] != []
    assert [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")] == []


def test_a_private_file_is_for_its_owner_only(tmp_path):
    write_private(tmp_path / "file", "secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_taken_port_is_not_given():
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port(taken) != taken


def test_ports_differ_and_no_connection_takes_one_as_its_source():
    first_source_port = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(*[0] * 40)
    assert len(set(ports)) == 40
    if first_source_port > 11_000:  # some machines leave no room below
        assert max(ports) < first_source_port


def test_two_that_prefer_one_port_get_two():
    preferred = free_port()
    first, second = free_ports(preferred, preferred)
    assert first == preferred != second


def test_it_ends_with_whoever_started_it(tmp_path):
    """As pytest is ended by the SIGTERM of a machine that stops: nothing of Python runs any more."""
    code = (
        "import pathlib, time\nfrom trailer_ml.demo.services import run_seaweedfs\n"
        f"with run_seaweedfs(pathlib.Path({str(tmp_path)!r})):\n    print(flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        weed = Path(f"/proc/{_weed_of(tmp_path)}")
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while weed.exists() and _arguments(weed):  # a zombie, until somebody reaps it, has none
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _weed_of(folder: Path) -> int:
    return next(int(path.name) for path in Path("/proc").glob("[0-9]*") if f"-dir={folder}/data" in _arguments(path))


def _arguments(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
