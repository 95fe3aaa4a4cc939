"""Temporary folders: gone with their block, and with the next one where a kill left them."""

import subprocess
import sys
import tempfile

import pytest

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
