"""What the environment of whoever runs the tests may hold does not reach them: no test crawls a real site by it."""

import os
import subprocess
import sys
from pathlib import Path

FOREIGN = ("TRAILER_", "AWS_", "AIRFLOW_CONN_")


def test_no_variable_of_ours_is_seen() -> None:
    assert [name for name in os.environ if name.startswith(FOREIGN)] == []


def test_not_even_where_somebody_has_set_some() -> None:
    environ = {
        **os.environ,
        "TRAILER_CATALOG_ACCEPT_TERMS": "true",
        "TRAILER_NO_SUCH_SETTING": "1",
        "AWS_PROFILE": "production",
        "AIRFLOW_CONN_TRAILER_STORE": "aws://key:secret@/",
    }
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_no_variable_of_ours_is_seen"]
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environ, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
