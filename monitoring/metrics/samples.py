"""What passes between the collector, the store and the sinks: samples, held to the catalogue, and changes of totals.

No series exists outside the catalogue: a value that its label can't take is folded into ``other``, and counted. A value
outside a closed label's set, or a sample of a metric that isn't declared, is a fault of this package:
:data:`on_violation` lets tests fail on it. A host's further names beyond an open label's limit are no fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import OTHER, Kind, Label, Metric
from monitoring.records.names import plain_name

NANOSECONDS = 1_000_000_000
# Samples of one landmark or model share their labels' mapping, so nobody may write into it.
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


Vocabulary = Callable[[Label, str], str]
"""Returns the value that a label takes: the given one where it is known or there is still room for it."""

on_violation: Callable[[str], None] | None = None
"""Called with what is at fault, a metric's name and label or a formula's place: tests set it, so that nothing hides."""


def report_violation(what: str) -> None:
    """Tell the tests of a fault of this package."""
    if on_violation is not None:
        on_violation(what)


def limit_cardinality(samples: Iterable[Sample], vocabulary: Vocabulary) -> list[Sample]:
    """The samples as they may be sent, and one for each kind of value that was folded."""
    folded: Counter[str] = Counter()
    found = [sample if _is_known(sample) else _limited(sample, vocabulary, folded) for sample in samples]
    found += [Sample(catalogue.FOLDED, float(count), {"label": name}) for name, count in folded.items()]
    return found


def _is_known(sample: Sample) -> bool:
    """Whether metric and labels are the catalogue's own, as nearly all are."""
    metric, _, labels = sample
    if len(labels) != len(metric.labels) or catalogue.BY_NAME.get(metric.name) is not metric:
        return False
    for label in metric.labels:  # noqa: SIM110 - asked 200 times for every session, and all() takes twice as long
        if labels.get(label.name) not in label.values:
            return False
    return True


def _limited(sample: Sample, vocabulary: Vocabulary, folded: Counter[str]) -> Sample:
    metric = sample.metric
    # Folded and not dropped: a fault of this package must not make a host's number disappear unseen.
    # By identity: two metrics of one name would be one series with two meanings.
    if catalogue.BY_NAME.get(metric.name) is not metric:
        report_violation(metric.name)
        folded["metric"] += 1
        return Sample(catalogue.CUSTOM, sample.value, {catalogue.CUSTOM_NAME.name: OTHER})
    labels = {}
    for label in metric.labels:
        given = sample.labels.get(label.name, OTHER)
        value = labels[label.name] = vocabulary(label, given)
        is_fault = label.closed and given not in label.values
        if is_fault:
            report_violation(f"{metric.name}, label {label.name}")
        if is_fault or value != given:
            folded[label.name] += 1
    return sample if labels == sample.labels else sample._replace(labels=labels)


def bucket_part(bound: float | None) -> str:
    """The name of a histogram's bucket in the store; None is the one without an upper bound."""
    return "le:+Inf" if bound is None else f"le:{bound!r}"


def zero_changes(models: Iterable[Any] = (), declared: Mapping[str, Iterable[str]] = _NO_LABELS) -> list[Change]:
    """Every counter and histogram series that is known beforehand, at 0.

    These are the catalogue's, and those of the names that the settings have ``declared``, by the label that takes them;
    ``models`` adds to them. Prometheus' ``increase()`` can't see a series' first sample, so each must exist before it
    counts.
    """
    own = {**declared, catalogue.MODEL.name: (*declared.get(catalogue.MODEL.name, ()), *models)}
    names = {label: _declared(label, own.get(label.name, ())) for label in catalogue.DECLARABLE}
    return [
        Change(metric.name, labels, "sum" if metric.kind is Kind.HISTOGRAM else "", 0.0, replaces=False)
        for metric in catalogue.METRICS
        if metric.kind is not Kind.GAUGE
        for labels in metric.known_series(names)
    ]


def _declared(label: Label, given: Iterable[Any]) -> tuple[str, ...]:
    """Names as their events will carry them, no more than the label takes."""
    found = dict.fromkeys(name for name in map(plain_name, given) if name and name not in label.values)
    return tuple(found)[: label.limit]
