"""The figures of the service for Prometheus: requests, latencies, the index, and where the trailers stand.

Does not belong here: an alert.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from starlette.types import Scope

    from trailer_ml.records import Status
    from trailer_ml.search.service.live import Snapshot

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
        self._age = self._gauge("trailer_ml_index_age_seconds", "Since the index that is served was published")
        self._n = self._gauge("trailer_ml_index_trailers", "Trailers in the index that is served")
        self._recall = self._gauge("trailer_ml_index_recall_at_10", "Against exact search, when it was published")
        self._index = self._gauge("trailer_ml_index_info", "Which index is served", "index_version", "model_version")
        self._states = self._gauge("trailer_ml_trailers", "Trailers by state", "state")
        self._losses = self._gauge("trailer_ml_losses", "Trailers rejected or waiting, by reason", "reason")

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer, by the pattern of its path: the paths themselves are without number."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def render(self, snapshot: Snapshot | None, status: Status) -> bytes:
        """All of them, as Prometheus reads them."""
        for labelled in (self._index, self._states, self._losses):
            labelled.clear()
        if snapshot:
            self._n.set(snapshot.index.n - len(snapshot.rows_taken_down))
            self._recall.set(snapshot.recall_at_10)
            self._index.labels(*snapshot.versions.values()).set(1)
            if snapshot.published_at:
                self._age.set(max(0.0, time.time() - snapshot.published_at.timestamp()))
        for state, n in status.states.items():
            self._states.labels(state).set(n)
        for reason, n in status.reasons.items():
            self._losses.labels(reason).set(n)
        return generate_latest(self._registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self._registry)
