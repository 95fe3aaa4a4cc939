"""yt-dlp finds a JavaScript runtime that runs, though the process that starts it holds itself to less memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from trailer_ml.errors import SettingsError
from trailer_ml.media.javascript import write_deno

# What the download child does to itself, then what yt-dlp does: find the runtime, and give it a script.
CHILD = """
import subprocess, sys
from trailer_ml.processes import limit_this_process
limit_this_process(memory_bytes=2 * 2**30, can_be_lifted=True)
from yt_dlp import YoutubeDL
with YoutubeDL({"js_runtimes": {"deno": {"path": sys.argv[1]}}, "quiet": True}) as downloader:
    info = downloader._js_runtimes["deno"].info
assert info.supported, info
script = "console.log(6 * 7); try { Deno.readTextFileSync('/etc/hostname') } catch { console.log('no') }"
arguments = [info.path, "run", "--no-prompt", "--no-remote", "-"]
run = subprocess.run(arguments, input=script, capture_output=True, text=True)
print(run.stdout, run.stderr)
"""


def test_it_runs_below_a_limit_of_memory_and_may_read_no_file(tmp_path: Path) -> None:
    deno = write_deno(tmp_path / "deno")
    assert deno.stat().st_mode & 0o077 == 0
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(deno)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["42", "no"]


def test_without_one_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="no JavaScript runtime"):
        write_deno(tmp_path / "deno")
