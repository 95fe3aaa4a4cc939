"""The docs keep up with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT) for path in ROOT.glob("**/*.md") if ".venv" not in path.parts), ids=str
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_readme_names_words_that_make_knows():
    known = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    used = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert used
    assert used <= set(known)


def test_the_tests_mirror_the_rooms():
    rooms = {path.parent.name for path in (ROOT / "trailer_ml").glob("*/__init__.py")}
    assert {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))} >= rooms
