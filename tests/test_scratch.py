"""Temporary folders: gone with their block, and with the next one where a kill left them."""

import os
import subprocess
import sys
import tempfile

import pytest

from trailer_ml import scratch
from trailer_ml.scratch import scratch_folder

PREFIX = "trailer-ml-test-"


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_goes_with_its_block(tmp_path):
    with scratch_folder(PREFIX) as folder:
        (folder / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_a_leftover_is_removed_and_one_in_use_is_not(tmp_path):
    code = (
        "import sys, time, tempfile\nfrom trailer_ml.scratch import scratch_folder\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"with scratch_folder({PREFIX!r}) as folder:\n    print(folder, flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    (tmp_path / "somebody-else").mkdir()
    with scratch_folder(PREFIX) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {"somebody-else", folder.name, name.split("/")[-1]}
    process.kill()
    process.communicate()
    with scratch_folder(PREFIX) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {"somebody-else", folder.name}


def test_any_use_removes_what_was_left_by_any_other(tmp_path):
    """A process is killed over half a file; another, of another use, lives; a person has folders with like names."""
    killed, living = (_start(tmp_path, f"trailer-ml-{use}-") for use in ("download", "shard"))
    mine = tmp_path / "trailer-ml-download-training"
    mine.mkdir()
    linked = tmp_path / f"x{scratch._SUFFIX}"
    linked.symlink_to(mine)
    try:
        assert scratch.sweep_leftovers() == 0
        killed.kill()
        killed.wait()
        assert list(tmp_path.rglob("*.part")) != []
        with scratch_folder("trailer-ml-verify-"):
            assert len(list(tmp_path.rglob("*.part"))) == 1
            assert len(list(tmp_path.glob("trailer-ml-shard-*/film.part"))) == 1
            assert list(tmp_path.glob(f"trailer-ml-download-*{scratch._SUFFIX}")) == []
    finally:
        living.kill()
        living.wait()
    assert scratch.sweep_leftovers() == 1
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, linked.name}


def _start(folder, prefix):
    code = (
        "import pathlib, sys, time\nfrom trailer_ml.scratch import scratch_folder\n"
        f"with scratch_folder({prefix!r}) as folder:\n"
        "    (folder / 'film.part').write_bytes(b'half')\n    print(flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    process.stdout.close()
    return process


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_folder_that_another_took_for_a_leftover_is_made_again(tmp_path, monkeypatch, moment):
    """Another one, which sweeps as it starts, comes in between two lines of ours."""
    taken = []

    def sweep_after(call):
        def do(*arguments, **names):
            made = call(*arguments, **names)
            if not taken:
                taken.extend(tmp_path.iterdir())
                with scratch_folder(PREFIX):
                    assert not taken[0].exists()
            return made

        return do

    module, name = (tempfile, "mkdtemp") if moment == "before it is opened" else (os, "open")
    monkeypatch.setattr(module, name, sweep_after(getattr(module, name)))
    with scratch_folder(PREFIX) as folder:
        assert folder.exists()
        assert taken != [folder]
