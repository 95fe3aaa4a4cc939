"""The figures of the pipeline for Prometheus: one list, for the service and for `trailer-ml status`.

What a stage takes per trailer is not in here: the store keeps no times, or two runs of the same night would differ.
Tasks tell those (plugins/trailer_airflow/stages.py).

Does not belong here: counting (status.py), requests (service/metrics.py), an alert (docker/watch/).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trailer_ml.records import Status


class Figure(NamedTuple):
    """One figure, with a value for each value of its label, or just one."""

    name: str
    about: str
    values: Mapping[Any, float]
    """By the value of the label; where there is none, under the empty string."""
    label: str = ""


def list_figures(status: Status, now: dt.datetime | None = None) -> list[Figure]:
    """Every figure there is; what nobody has measured yet is left out.

    Args:
        status: what was counted.
        now: for ages; None: now.
    """
    now = now or dt.datetime.now(dt.UTC)
    published = status.index_published_at
    age_s = max(0.0, (now - published).total_seconds()) if published else None
    single: dict[str, tuple[str, float | None]] = {
        "index_age_seconds": ("Since the index that is served was published", age_s),
        "index_trailers": ("Trailers in the index that is served", status.index_n),
        "index_recall_at_10": ("Against exact search, when it was published", status.index_recall_at_10),
    }
    figures = [
        Figure("trailers", "Trailers by state", dict(status.states), "state"),
        Figure("losses", "Trailers rejected or waiting, by reason", status.reasons, "reason"),
        Figure("titles_set_aside", "Titles without a trailer, by reason", status.titles_set_aside, "reason"),
        Figure("source_blocked", "Sources that do not want us", dict.fromkeys(status.blocked, 1.0), "source"),
        Figure("stored_bytes", "Bytes in the store, by kind", status.stored_bytes, "kind"),
        Figure("stored_trailers", "Trailers they are of, by kind", status.stored_trailers, "kind"),
        Figure("model", "What was measured of the champion", status.model_figures, "figure"),
        Figure("champion_info", "Which model is in use", _one(status.champion), "version"),
        Figure("index_info", "Which index is served", _one(status.index_version), "version"),
    ]
    for name, (about, value) in single.items():
        if value is not None:
            figures.append(Figure(name, about, {"": value}))
    return [each._replace(name=f"trailer_ml_{each.name}") for each in figures]


def render_figures(status: Status) -> str:
    """The same as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(_Collector(list_figures(status)))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(self, figures: list[Figure]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for figure in self._figures:
            family = GaugeMetricFamily(figure.name, figure.about, labels=[figure.label] if figure.label else [])
            for label, value in figure.values.items():
                family.add_metric([label] if figure.label else [], value)
            yield family


def _one(version: str | None) -> dict[str, float]:
    return {version: 1.0} if version else {}
