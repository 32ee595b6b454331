"""What passes between the collector, the store and the sinks: samples, and changes of the totals."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from monitoring.domain.anatomy import LABELS
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Metric

NANOSECONDS = 1_000_000_000


_NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Sample(NamedTuple):
    """One value of one catalogue metric."""

    metric: Metric
    value: float
    labels: Mapping[str, str] = _NO_LABELS


class Change(NamedTuple):
    """One change of the stored Prometheus state.

    ``part`` says what of the series changes: "" the value itself, ``sum`` and ``le:<bound>`` of a
    histogram. Bucket counts are kept one by one and accumulated only when they are exported.
    """

    metric: str
    labels: Mapping[str, str]
    part: str
    value: float
    replaces: bool


def bucket_part(bound: float | None) -> str:
    """The name of a histogram's bucket in the store; None is the one without an upper bound."""
    return "le:+Inf" if bound is None else f"le:{bound!r}"


def zero_changes(models: tuple[str, ...] = ()) -> list[Change]:
    """Every counter and histogram series that is known beforehand, at 0.

    Prometheus' ``increase()`` can't see the first sample of a series, so each must exist before it counts.
    """
    known = [
        (metric, labels)
        for metric in catalogue.METRICS
        if metric.kind is not Kind.GAUGE
        for labels in metric.known_series()
    ]
    known += [(catalogue.MODEL_INFERENCE, {"model": model}) for model in models]
    known += [
        (catalogue.MODEL_LANDMARK_MISSES, {"model": model, "landmark": str(label)})
        for model in models
        for label in LABELS
    ]
    return [
        Change(metric.name, labels, "sum" if metric.kind is Kind.HISTOGRAM else "", 0.0, replaces=False)
        for metric, labels in known
    ]
