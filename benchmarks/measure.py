"""CPU seconds of a call and of a child, medians of interleaved runs, and a table to print them."""

from __future__ import annotations

import resource
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def cpu_seconds(call: Callable[[], object]) -> float:
    """User and system seconds of this process and of the children that end during the call."""

    def now() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        )

    before = now()
    call()
    return now() - before


def wall_seconds(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def interleaved(
    calls: dict[str, Callable[[], object]],
    *,
    rounds: int,
    measure: Callable[[Callable[[], object]], float] = cpu_seconds,
    warm_up: bool = True,
) -> dict[str, float]:
    """The median of each, run in turn so that a noisy minute hits all alike; one round of warming up is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, call in calls.items():
            taken = measure(call)
            if number:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"## {title}\n", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
