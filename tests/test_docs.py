"""The docs keep up with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trailer_ml.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


PAGES = [path.relative_to(ROOT) for path in ROOT.glob("**/*.md") if not {".venv", ".cache"} & set(path.parts)]


@pytest.mark.parametrize("page", sorted(PAGES), ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_readme_names_words_that_make_knows():
    known = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    used = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert used
    assert used <= set(known)


def test_the_example_of_an_environment_is_one_and_names_known_settings():
    shown = subprocess.run(
        ["sh", "-ec", "set -a; . ./.env.example; env"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    settings = load_settings(dict(line.split("=", 1) for line in shown.splitlines()))
    assert settings.catalog.user_agent.endswith("(+https://example.org/who-we-are)")


def test_the_tests_mirror_the_rooms():
    rooms = {path.parent.name for path in (ROOT / "trailer_ml").glob("*/__init__.py")}
    assert {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))} >= rooms


def test_every_reason_to_leave_a_trailer_out_is_explained():
    files = [*(ROOT / "trailer_ml" / "features").glob("*.py"), ROOT / "trailer_ml" / "shards" / "write.py"]
    given = {reason for file in files for reason in re.findall(r'reason="(\w+)"', file.read_text(encoding="utf-8"))}
    page = (ROOT / "docs" / "extraction.md").read_text(encoding="utf-8")
    explained = {reason for row in re.findall(r"(?m)^\| (`.*?) \|", page) for reason in re.findall(r"`(\w+)`", row)}
    assert given
    assert given <= explained
