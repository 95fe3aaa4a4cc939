"""Running a stage, and telling StatsD what it took: trailers, seconds, bytes, and losses by reason.

Counters only, which statsd_exporter adds up over all tasks and workers: seconds a trailer are the quotient of two
rates. Nothing is sent unless `[metrics] statsd_on` says so.

Does not belong here: figures that the store knows (trailer_ml/search/figures.py).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk.observability.stats import Stats

from trailer_airflow.settings import open_stage
from trailer_ml.errors import TooManyLossesError
from trailer_ml.records import DownloadSummary, EmbedSummary, ShardSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trailer_ml.records import Record


COUNTERS = {
    "trailers": "that a stage has dealt with",
    "milliseconds": "that these took",
    "bytes": "that it has written of them",
    "lost": "trailers that it has not, by reason; one that waits is counted at every try",
}
"""By stage, as `airflow.trailer_ml.<name>`."""


class Work(NamedTuple):
    """What a call of a stage has done; what it found done already is not in it."""

    n_trailers: int = 0
    size_bytes: int = 0
    lost: Mapping[str, int] = {}


def run_stage(name: str, step: Callable[..., Record], *arguments: Any) -> dict[str, Any]:
    """Call a step with this task's settings and store, tell what it took, and give back its record as JSON.

    What a batch lost is told as well when it is so much that the step fails: nobody else would hear of it.
    """
    started = time.monotonic()
    try:
        done = step(*arguments, *open_stage())
    except TooManyLossesError as error:
        _tell(name, Work(error.n_kept, error.size_bytes, error.lost), time.monotonic() - started)
        raise
    _tell(name, count_work(done), time.monotonic() - started)
    return done.to_json()


def count_work(done: Record) -> Work:
    """What a record of a stage says of the work behind it.

    >>> count_work(EmbedSummary(model_version="m-1", n_shards=2, n_trailers=20)).n_trailers
    20
    """
    match done:
        case DownloadSummary():
            lost = Counter(done.rejected) + Counter(done.waiting)
            return Work(done.n_downloaded, done.size_bytes, lost)
        case ShardSummary(is_new=True):
            return Work(done.count, done.size_bytes, done.rejected)
        case EmbedSummary():
            return Work(done.n_trailers)
        case _:
            return Work()


def _tell(stage: str, work: Work, seconds: float) -> None:
    for name, value in (
        ("trailers", work.n_trailers),
        ("milliseconds", round(seconds * 1000) if work.n_trailers else 0),
        ("bytes", work.size_bytes),
    ):
        Stats.incr(f"trailer_ml.{name}", value, tags={"stage": stage})
    for reason, n in work.lost.items():
        Stats.incr("trailer_ml.lost", n, tags={"stage": stage, "reason": reason})
