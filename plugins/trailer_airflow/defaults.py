"""What every task gets unless it says otherwise: when it is tried again, how long it may run, where it waits."""

import datetime as dt
from typing import Any

from airflow.sdk import Context, CronTriggerTimetable, ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from trailer_ml.errors import PermanentError, RateLimitedError, RetryableError

START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""No day before this one can be refreshed, not by backfill either. Nothing runs for it by itself: catchup is off."""

ANSWER_WITHIN = dt.timedelta(days=3)
"""A question that nobody has answered by then is answered with no."""

_MAX_WAIT_S = 7 * 24 * 3600.0


def from_now_on(cron: str) -> CronTriggerTimetable:
    """At the times of a cron expression (UTC), the first of them in the future.

    Otherwise a DAG that is switched on runs at once for the last time it missed, before there is anything for it to do.
    It has to have no start date.
    """
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=dt.timedelta(0))


POOLS = {
    "download": (2, "Downloads: so many at once, whatever the number of workers, for the sake of the sources"),
    "cpu": (2, "Extraction and embedding: as many as there are cores to spare"),
    "gpu": (1, "Training and evaluation: one at a time"),
}
"""Name -> slots and reason. Made at the scheduler's start where they are missing; a change made in the UI stays."""


class PatientRetryPolicy(ExceptionRetryPolicy):
    """As the rules say, and not before a source that said how long to wait wants to be asked again."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """What to do about a failure; a wait of more than a week is cut to one."""
        if isinstance(exception, RateLimitedError):
            wait_s = min(exception.retry_after_s, _MAX_WAIT_S)
            return RetryDecision.retry(delay=dt.timedelta(seconds=wait_s), reason="the source says how long to wait")
        return super().evaluate(exception, try_number, max_tries, context)


DEFAULT_ARGS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": dt.timedelta(seconds=15),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": dt.timedelta(minutes=30),
    "execution_timeout": dt.timedelta(hours=3),
    "retry_policy": PatientRetryPolicy(
        rules=[
            RetryRule(PermanentError, RetryAction.FAIL, reason="trying again gives the same answer"),
            RetryRule(RetryableError, RetryAction.RETRY, reason="may work later"),
        ]
    ),
}

GPU: dict[str, Any] = {"queue": "gpu", "pool": "gpu", "execution_timeout": dt.timedelta(hours=24)}
"""For training: a queue that only workers with a GPU listen to. LocalExecutor has no queues."""
