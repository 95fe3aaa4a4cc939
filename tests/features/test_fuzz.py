"""A few of the mutated files of `python -m benchmarks fuzz`: each has its outcome, and the worker lives on."""

import logging
from pathlib import Path

import pytest

from benchmarks.fuzz import KINDS, LOOKS, STRANGE, extract_all, put_together, write_mutants

REASONS = {"kept", "empty", "not_a_video", "corrupt", "no_video", "unsupported", "too_large", "too_many_streams"}


def test_mutated_files_cost_nobody_else_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write_mutants(tmp_path, 60, seed=1)
    with caplog.at_level(logging.WARNING):
        outcomes = extract_all(paths)

    assert [outcome.path for outcome in outcomes] == paths
    with_ffmpeg = [i for i, look in enumerate(LOOKS) if look.engine == "ffmpeg"]  # which crashes on some
    assert {each.reason for i, each in enumerate(outcomes) if i % len(LOOKS) not in with_ffmpeg} <= REASONS
    assert "extracting process" not in caplog.text  # none was lost
    by_kind = {kind: {each.reason for each in outcomes if kind in each.path.name} for kind in KINDS}
    assert "kept" in by_kind["flipped"] | by_kind["spliced"]
    # What the playlists point at is a good film: one of them that is followed would be kept.
    assert "kept" not in by_kind["playlist"]
    # VP9 notices no wrong bit, and ffmpeg shows what is grey.
    flipped = [each for each in outcomes if each.seen_as == "pyav h264" and "flipped" in each.path.name]
    assert flipped
    assert max(each.off for each in flipped) <= STRANGE
    assert {put_together(path) for path in paths} <= REASONS | {"too_short"}
