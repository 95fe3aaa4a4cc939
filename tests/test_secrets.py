"""No secret is in the repository: what looks like one is a placeholder, or made up by a test.

Does not belong here: what a run leaves in logs and databases (faults/test_secrets.py), and the images (docker/).
"""

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}\b|\bgh[pousr]_\w{36}\b"
    r"|\beyJ[\w-]{16,}\.[\w-]{16,}|(?i:password|secret|token|api_?key)[\"']?\s*[:=]\s*[\"']?"
    r"(?=(?:[A-Za-z+/_-]*\d){3})[A-Za-z0-9+/_-]{24,}(?![\w.(\[])"
)
"""Keys of AWS, Google and GitHub, private keys, tokens that are signed, and long values with digits called a secret."""


def find_forms(text: str) -> list[str]:
    return [found[0][:80] for found in FORMS.finditer(text)]


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "TRAILER_SERVICE_API_KEY=" + "0123456789abcdef0123456789abcdef",
        "password: '" + "aB3/" * 8 + "'",
    ],
)
def test_a_secret_is_recognised(line: str) -> None:
    assert find_forms(line)


def test_none_is_in_a_file_of_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True).stdout
    paths = [PROJECT / name for name in listed.split("\0") if name]
    assert len(paths) > 100
    found = {str(path): find_forms(path.read_text(errors="replace")) for path in paths if path.is_file()}
    assert {path: forms for path, forms in found.items() if forms} == {}
