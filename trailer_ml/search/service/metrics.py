"""The figures of the service for Prometheus: requests and latencies, beside those of the pipeline.

Does not belong here: an alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trailer_ml.search.figures import render_figures

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

    from trailer_ml.records import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0)
_METHODS = frozenset({"GET", "HEAD", "POST"})


class Metrics:
    """One set for one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "trailer_ml_requests", "Requests answered", ("route", "method", "status"), registry=self._registry
        )
        self._latency = Histogram(
            "trailer_ml_request_seconds", "Until the answer was sent", ("route",), buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer, by the pattern of its path: the paths themselves are without number."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def show(self, name: str, about: str, read: Callable[[], float]) -> None:
        """One figure more, read whenever it is asked for."""
        Gauge(name, about, registry=self._registry).set_function(read)

    def render(self, status: Status | None) -> bytes:
        """All of them, and those of the pipeline (search/figures.py) where they are known, as Prometheus reads them."""
        return generate_latest(self._registry) + (render_figures(status).encode() if status else b"")
