import io
import json
from pathlib import Path

from trailer_ml.demo.follow import read_events, summarise
from trailer_ml.demo.jobs import sum_times
from trailer_ml.demo.progress import Progress, describe_tasks, name_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_changes() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.show("shard 1 of 3")
    progress.show("shard 2 of 3")
    progress.say("done")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\r\x1b[K0:00  done\n")


def test_a_line_never_wraps() -> None:
    stream = Terminal()
    Progress(stream).show("x" * 500)
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) < 500
    assert stream.getvalue().endswith("…")


def test_a_file_gets_plain_lines_and_not_every_change() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    for n in range(50):
        progress.show(f"shard {n} of 50")
    progress.say("done")
    assert stream.getvalue() == "0:00  … shard 0 of 50\n0:00  done\n"


def test_tasks_at_work_are_named_and_counted() -> None:
    def task(name: str, index: int, state: str | None) -> dict[str, object]:
        return {"task_id": name, "map_index": index, "state": state}

    tasks = [
        task("crawl", -1, "success"),
        task("batch.download", 0, "success"),
        task("batch.download", 1, "failed"),
        task("batch.download", 2, "running"),
        task("batch.shard", 0, "running"),
        task("batch.shard", 1, "upstream_failed"),
        task("batch.shard", 2, None),
        task("summary", -1, None),
    ]
    assert describe_tasks(tasks) == "download 3 of 3, shard 2 of 3"
    assert describe_tasks([task("train_phases", -1, "up_for_retry")]) == "train_phases"
    assert describe_tasks([task("crawl", -1, "queued")]) == ""


def test_runs_are_named_as_a_person_would() -> None:
    run = {"dag_id": "trailers_train", "run_type": "asset_triggered", "logical_date": None}
    assert name_run(run) == "trailers_train"


def test_what_a_task_returned_is_told_in_short() -> None:
    assert summarise({"n_listed": 30, "n_batches": 3, "version": "x", "is_new": True}) == "listed 30, batches 3"
    assert summarise(None) == ""


def test_a_log_is_read_as_a_person_would(tmp_path: Path) -> None:
    log = tmp_path / "attempt=1.log"
    error = {
        "event": "Task failed with exception",
        "error_detail": [{"exc_type": "DataError", "exc_value": "no films"}],
    }
    log.write_text("\n".join([json.dumps({"event": "start"}), "not json", json.dumps(error)]))
    assert read_events(log) == ["start", "not json", "Task failed with exception", "DataError: no films"]
    assert read_events(tmp_path / "none") == []


def test_times_are_added_up_by_stage() -> None:
    refresh = {"dag_id": "trailers_refresh"}
    tasks = [
        {**refresh, "task_id": "batch.shard", "duration": 2.0},
        {**refresh, "task_id": "batch.shard", "duration": 3.5},
        {**refresh, "task_id": "batch.shard", "duration": None},
        {**refresh, "task_id": "crawl", "duration": 1.0},
        {**refresh, "task_id": "announce", "duration": 9.0},
        {"dag_id": "trailers_train", "task_id": "plan", "duration": 9.0},
    ]
    assert [(time.stage, time.n_tasks, time.seconds) for time in sum_times(tasks)] == [
        ("crawl", 1, 1.0),
        ("frames, spectrograms, shards", 2, 5.5),
    ]
