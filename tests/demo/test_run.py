"""The demo's own manners: where it listens, what it says when it cannot go on."""

import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from trailer_ml.demo.run import _keep_site_port, _write_env
from trailer_ml.demo.services import free_port
from trailer_ml.errors import SettingsError
from trailer_ml.settings import Settings


@pytest.mark.parametrize("folder", ["a-file", "a-file/inside"])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a-file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "trailer_ml.cli", "demo", "--folder", folder, "--once"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["trailer-ml demo"]


def test_the_sites_port_stays_and_is_an_error_when_somebody_has_it(tmp_path: Path) -> None:
    port = _keep_site_port(tmp_path / "site-port", free_port())
    assert _keep_site_port(tmp_path / "site-port", free_port()) == port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SettingsError, match=f"port {port} is taken"):
        _keep_site_port(tmp_path / "site-port", 0)
    assert _keep_site_port(tmp_path / "site-port", 0) == port


def test_the_env_file_keeps_loopback_off_a_persons_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet.example")
    _write_env(tmp_path / "env", Settings())
    lines = shlex.split((tmp_path / "env").read_text())
    assert "no_proxy=127.0.0.1,localhost,intranet.example" in lines
