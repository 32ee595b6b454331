"""Derives everything that is sent from a stored session record: pure, so that it can be done again.

``SessionRecord`` -> samples (a catalogue metric, its labels, a value) -> InfluxDB points, and
changes of the Prometheus totals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from monitoring import catalogue
from monitoring.catalogue import Kind, Metric
from monitoring.events import ModelPerformance, SessionRecord
from monitoring.line_protocol import Point

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one catalogue metric."""

    metric: Metric
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def samples(record: SessionRecord, sessions_last_hour: int | None = None) -> list[Sample]:
    """All that the record says, in the catalogue's terms."""
    return [
        *_processing(record, sessions_last_hour),
        *(Sample(catalogue.STAGE_DURATION, value, {"stage": name}) for name, value in record.stages_seconds.items()),
        *(sample for model in record.models for sample in _model(model)),
        *(Sample(catalogue.MEASUREMENT_MM, mm, {"measurement": name}) for name, mm in record.measurements_mm.items()),
        *(
            Sample(catalogue.ENSEMBLE[key], value)
            for key, value in record.ensemble.items()
            if key in catalogue.ENSEMBLE
        ),
        *_system(record),
        *(Sample(catalogue.CUSTOM, value, {"name": name}) for name, value in record.custom.items()),
    ]


def points(derived: list[Sample], record: SessionRecord, instance: str) -> list[Point]:
    """The InfluxDB points: samples of one measurement and tag set become fields of one point."""
    fields: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, float | str]] = {}
    session_tags: tuple[tuple[str, str], ...] = (("instance", instance), ("status", record.status))
    for sample in derived:
        metric = sample.metric
        if metric.measurement is None or metric.field is None:
            continue
        if metric.measurement == catalogue.SESSION_DURATION.measurement:
            key = (metric.measurement, session_tags)
        else:
            key = (metric.measurement, (("instance", instance), *sample.labels.items()))
        fields.setdefault(key, {})[metric.field] = sample.value
    return [Point(measurement, dict(tags), values) for (measurement, tags), values in fields.items()]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the stored Prometheus state.

    ``part`` says what of the series changes: "" the value itself, ``sum`` and ``le:<bound>`` of a
    histogram. Bucket counts are kept one by one and accumulated only when they are exported.
    """

    metric: str
    labels: Mapping[str, str]
    part: str
    value: float
    replaces: bool


def changes(derived: list[Sample]) -> list[Change]:
    """What the samples change: gauges are replaced, counters and histograms grow."""
    return [change for sample in derived for change in _changes(sample)]


def _changes(sample: Sample) -> Iterator[Change]:
    metric, labels = sample.metric, sample.labels
    if metric.kind is not Kind.HISTOGRAM:
        yield Change(metric.name, labels, "", sample.value, metric.kind is Kind.GAUGE)
        return
    bound = next((bound for bound in metric.buckets if sample.value <= bound), None)
    yield Change(metric.name, labels, bucket_part(bound), 1.0, replaces=False)
    yield Change(metric.name, labels, "sum", sample.value, replaces=False)


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
    return [
        Change(metric.name, labels, "sum" if metric.kind is Kind.HISTOGRAM else "", 0.0, replaces=False)
        for metric, labels in known
    ]


def _processing(record: SessionRecord, sessions_last_hour: int | None) -> Iterator[Sample]:
    yield Sample(catalogue.SESSIONS, 1.0, {"status": record.status})
    yield Sample(catalogue.SESSION_DURATION, record.duration_seconds)
    yield Sample(catalogue.LAST_RUN, record.ended_ns / NANOSECONDS)
    if record.status == "completed":
        yield Sample(catalogue.LAST_SUCCESS, record.ended_ns / NANOSECONDS)
    for metric, value in (
        (catalogue.LANDMARKS_FOUND, record.landmarks_found),
        (catalogue.QUEUE_DEPTH, record.queue_depth),
        (catalogue.THROUGHPUT, sessions_last_hour),
    ):
        if value is not None:
            yield Sample(metric, float(value))


def _model(model: ModelPerformance) -> Iterator[Sample]:
    labels = {"model": model.model}
    if model.inference_seconds is not None:
        yield Sample(catalogue.MODEL_INFERENCE, model.inference_seconds, labels)
    if model.landmarks_found is not None:
        yield Sample(catalogue.MODEL_LANDMARKS, float(model.landmarks_found), labels)
    if scores := model.confidence_scores:
        smallest, largest = min(scores), max(scores)
        average = min(max(sum(scores) / len(scores), smallest), largest)  # rounding and overflow lead out of these
        yield Sample(catalogue.MODEL_CONFIDENCE["average"], average, labels)
        yield Sample(catalogue.MODEL_CONFIDENCE["minimum"], smallest, labels)
        yield Sample(catalogue.MODEL_CONFIDENCE["maximum"], largest, labels)


def _system(record: SessionRecord) -> Iterator[Sample]:
    """``record.system`` is keyed ``resource`` or ``resource/label``, as ``disk_free_bytes/store``."""
    for key, usage in record.system.items():
        resource, _, value = key.partition("/")
        metric = catalogue.SYSTEM.get((resource, "average"))
        if metric is None:
            continue
        labels = {metric.labels[0].name: value} if metric.labels else {}
        yield Sample(metric, usage.average, labels)
        yield Sample(catalogue.SYSTEM[resource, "maximum"], usage.maximum, labels)
