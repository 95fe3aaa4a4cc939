"""A few of the mutated files of `python -m benchmarks fuzz`: each has its outcome, and the worker lives on."""

import logging
from pathlib import Path

import pytest

from benchmarks.fuzz import KINDS, extract_all, write_mutants

REASONS = {"kept", "empty", "not_a_video", "corrupt", "no_video", "unsupported", "too_large", "too_many_streams"}


def test_mutated_files_cost_nobody_else_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write_mutants(tmp_path, 60, seed=1)
    with caplog.at_level(logging.WARNING):
        outcomes = extract_all(paths)

    assert [path for path, *_ in outcomes] == paths
    assert {reason for _, reason, _ in outcomes} <= REASONS
    assert not caplog.records  # nothing had to be tried once more: no process was lost
    by_kind = {kind: {reason for path, reason, _ in outcomes if kind in path.name} for kind in KINDS}
    assert "kept" in by_kind["flipped"] | by_kind["spliced"]
    # What the playlists point at is a good film: one of them that is followed would be kept.
    assert "kept" not in by_kind["playlist"]
