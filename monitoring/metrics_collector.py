"""Everything that is sent of a session: ``SessionRecord`` and what is derived of it, as samples, points and changes.

Pure, so that it can be done again: the same record and facts always give the same lines, and a replay overwrites
itself. What the numbers mean is computed in :mod:`monitoring.domain`; what is done with the writes is the store's part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite

from msgspec import Struct

from monitoring.domain.agreement import ReadingError
from monitoring.domain.anatomy import LABELS
from monitoring.domain.derivation import FORMULA_VERSION, Derived, Facts, derive, stated
from monitoring.exceptions import EncodingError, code_location, type_name
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind
from monitoring.metrics.line_protocol import Point, line
from monitoring.metrics.samples import (
    NANOSECONDS,
    Change,
    Sample,
    bucket_part,
    limit_cardinality,
    report_violation,
)
from monitoring.metrics.session_writes import DerivedValues, SessionWrites, TransactionContext
from monitoring.metrics.stop_reasons import reason_class
from monitoring.records.names import short_digest
from monitoring.records.session_record import SessionRecord

_NO_FACTS = Facts()
_OF_LANDMARK = {label: {"landmark": str(label)} for label in LABELS}
# What a formula can raise on odd numbers; anything else ends where the manager swallows errors.
_FORMULA_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class SessionWritesBuilder(Struct, frozen=True):
    """Builds one installation's writes: the tags of all its points, the log backends that take lines, the version
    of this package, and the names of all backends in use, None where they aren't known.
    """

    tags: Mapping[str, str] = {}
    log_backends: tuple[str, ...] = ()
    sends_age_band: bool = False
    version: str = catalogue.NO_VERSION
    backends: tuple[str, ...] | None = None

    def __call__(self, record: SessionRecord, context: TransactionContext) -> SessionWrites:
        """Derive a session's samples once, and write them down for each kind of backend."""
        all_samples, is_complete = computed(record, context.facts)
        found = limit_cardinality(all_samples, context.vocabulary)
        # Kept only when whole: a part would look like values that a newer formula has brought back.
        derived = DerivedValues.of(FORMULA_VERSION, context.facts, found) if is_complete else None
        # Not among what was derived: a newer version is no other value.
        versions = {"version": record.application_version or catalogue.NO_VERSION, "monitoring_version": self.version}
        found += limit_cardinality([Sample(catalogue.BUILD_INFO, 1.0, versions)], context.vocabulary)
        lines, refused = self.lines(found, record, context.timestamp_ns)
        all_changes = changes(found)
        if refused:
            labels = {"reason": "rejected"}
            all_changes.append(Change(catalogue.MONITORING_DROPPED.name, labels, "", float(refused), replaces=False))
        return SessionWrites(lines, all_changes, derived)

    def lines(
        self, found: Sequence[Sample], record: SessionRecord, timestamp_ns: int
    ) -> tuple[dict[str, tuple[bytes, int]], int]:
        """The samples' lines for each log backend, encoded and counted; and how many can't be written.

        A point that can't be written without changing it is lost alone, and not with its session.
        """
        if not self.log_backends:
            return {}, 0
        made = points(found, record, self.tags, self.sends_age_band)
        encoded = encoded_lines(made, timestamp_ns)
        lines = ("\n".join(encoded).encode(), len(encoded))
        return dict.fromkeys(self.log_backends, lines) if encoded else {}, len(made) - len(encoded)


def computed(record: SessionRecord, facts: Facts) -> tuple[list[Sample], bool]:
    """All that is sent of a session; False, and what the record states itself, where a formula fails.

    No session must be lost for a fault in a formula; and each that can't be committed would come again as crashed.
    """
    try:
        return samples(record, facts), True
    except _FORMULA_ERRORS as error:
        report_violation(f"{type_name(error)} at {code_location(error)}")
        return [*_samples(record, facts, stated(record)), Sample(catalogue.FORMULA_FAILURES, 1.0)], False


def samples(record: SessionRecord, facts: Facts = _NO_FACTS) -> list[Sample]:
    """All that the record says, in the catalogue's terms; any error of a formula is the caller's."""
    return _samples(record, facts, derive(record, facts))


def reading_samples(errors: Iterable[ReadingError]) -> Iterator[Sample]:
    """What readings say of a session: all of it, so that it can be said later, too."""
    for error in errors:
        labels = {"measurement": error.measurement}
        yield Sample(catalogue.READING_ERROR, error.error_mm, labels)
        if error.within_threshold is not None:
            yield Sample(catalogue.READING_WITHIN, float(error.within_threshold), labels)


def points(
    derived: Sequence[Sample], record: SessionRecord | None, common_tags: Mapping[str, str], with_age_band: bool = False
) -> list[Point]:
    """The InfluxDB points: samples of one measurement and tag set become fields of one point.

    Of what was folded into one field, times and counts add up, as they do in the totals; of the rest the last counts.
    Without a ``record`` they are the monitoring's own state.
    """
    # By series, since two points of one series and time overwrite each other in InfluxDB.
    fields: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, float]] = {}
    tags = {} if record is None else _session_tags(derived, record, with_age_band)
    for metric, value, labels in derived:
        if metric.measurement is None or metric.field is None:
            continue
        its_tags = labels.items() if metric.measurement not in tags else (*labels.items(), *tags[metric.measurement])
        values = fields.setdefault((metric.measurement, tuple(its_tags)), {})
        if metric.kind is Kind.GAUGE or metric.field not in values:
            values[metric.field] = value
        else:
            # Infinity is no field.
            values[metric.field] = min(values[metric.field] + value, sys.float_info.max)
    return [Point(measurement, {**common_tags, **dict(tags)}, values) for (measurement, tags), values in fields.items()]


def _session_tags(
    derived: Sequence[Sample], record: SessionRecord, with_age_band: bool
) -> dict[str | None, tuple[tuple[str, str], ...]]:
    """The tags beside the labels, by measurement."""
    of_session: list[tuple[str, str]] = [("status", record.status)]
    # As it was limited with the labels: the tag takes no more values than they do.
    builds = (item.labels["version"] for item in derived if item.metric is catalogue.BUILD_INFO)
    if (version := next(builds, catalogue.NO_VERSION)) != catalogue.NO_VERSION:
        of_session.append(("version", version))
    tags: dict[str | None, tuple[tuple[str, str], ...]] = {catalogue.SESSION_DURATION.measurement: tuple(of_session)}
    band = record.context.get("age_band") if with_age_band else None
    if band in catalogue.AGE_BAND.values:  # an imported record may hold any text
        tags[catalogue.MEASUREMENT_MM.measurement] = (("age_band", str(band)),)
    return tags


def own_lines(state: Sequence[Sample], timestamp_ns: int, common_tags: Mapping[str, str]) -> list[bytes]:
    """Lines of the monitoring's own state."""
    return [text.encode() for text in encoded_lines(points(state, None, common_tags), timestamp_ns)]


def encoded_lines(made: Iterable[Point], timestamp_ns: int) -> list[str]:
    """A line for each point but those that can't be written without changing them."""
    encoded = []
    for point in made:
        with suppress(EncodingError):
            encoded.append(line(point, timestamp_ns))
    return encoded


def changes(derived: Sequence[Sample]) -> list[Change]:
    """What the samples change: gauges are replaced, counters and histograms grow."""
    found = []
    for metric, value, labels in derived:
        if not metric.is_pushed:
            continue
        if metric.kind is Kind.HISTOGRAM:
            # One bucket each, which the store accumulates at export: a session changes two rows and not fifteen.
            bound = next((bound for bound in metric.buckets if value <= bound), None)
            found.append(Change(metric.name, labels, bucket_part(bound), 1.0, replaces=False))
            found.append(Change(metric.name, labels, "sum", value, replaces=False))
        else:
            found.append(Change(metric.name, labels, "", value, metric.kind is Kind.GAUGE))
    return found


def _samples(record: SessionRecord, facts: Facts, derived: Derived) -> list[Sample]:
    found = [
        *_session(record, facts),
        *[Sample(catalogue.STAGE_DURATION, value, {"stage": name}) for name, value in record.stages_seconds.items()],
        *_models(record),
        *[Sample(catalogue.MEASUREMENT_MM, mm, {"measurement": name}) for name, mm in record.measurements_mm.items()],
        *_ensemble(derived),
        *_landmarks(derived),
        *_quality(derived),
        *[Sample(catalogue.Z_SCORE, z, {"measurement": name}) for name, z in derived.z_scores.items()],
        *[
            Sample(catalogue.Z_SCORE_UNCLAMPED, z, {"measurement": name})
            for name, z in derived.unclamped_z_scores.items()
        ],
        *[
            Sample(catalogue.FEMUR_TIBIA, ratio, {"side": catalogue.SIDE_NAMES[side]})
            for side, ratio in derived.femur_tibia_ratios.items()
        ],
        *[
            Sample(catalogue.SIDE_DIFFERENCE, mm, {"bone": catalogue.BONE_NAMES[bone]})
            for bone, mm in derived.side_differences_mm.items()
        ],
        *_findings(derived),
        *reading_samples(derived.reading_errors),
        *_system(record),
        *[Sample(catalogue.CUSTOM, value, {"name": name}) for name, value in record.custom.items()],
        *[Sample(catalogue.HOST_ISSUES, float(count), {"issue": code}) for code, count in record.issues.items()],
        *[Sample(catalogue.REFUSED, float(count), {"value": what}) for what, count in record.refused.items()],
    ]
    # An imported record may hold numbers that are none, and durations and counts below 0, which would set back totals.
    return [item for item in found if isfinite(item.value) and (item.value >= 0 or item.metric.kind is Kind.GAUGE)]


def _session(record: SessionRecord, facts: Facts) -> Iterator[Sample]:
    yield Sample(catalogue.SESSIONS, 1.0, {"status": record.status})
    yield Sample(catalogue.SESSION_DURATION, record.duration_seconds)
    # Each, as 0 or 1, so that a mean over images is a share.
    for status, metric in catalogue.SESSION_ENDED.items():
        yield Sample(metric, float(status == record.status))
    yield Sample(catalogue.LAST_RUN, record.ended_ns / NANOSECONDS)
    if record.status == "completed":
        yield Sample(catalogue.LAST_SUCCESS, record.ended_ns / NANOSECONDS)
    for metric, value in (
        (catalogue.LANDMARKS_FOUND, record.landmarks_found),
        (catalogue.QUEUE_DEPTH, record.queue_depth),
        (catalogue.THROUGHPUT, facts.sessions_last_hour),
        (catalogue.DUPLICATES, None if facts.earlier_runs is None else facts.earlier_runs > 0),
    ):
        if value is not None:
            yield Sample(metric, float(value))
    # A completed session has no stop, not one of value 0: the labels would then name stages it never stopped in.
    if record.status != "completed":
        failure = record.failure
        reason = reason_class(record.reason, failure.type if failure else None)
        stage = record.stopped_in or (failure.stage if failure else None) or catalogue.NO_STAGE
        yield Sample(catalogue.STOPS, 1.0, {"status": record.status, "stage": stage, "reason": reason})
        yield Sample(catalogue.STOP_CODES, 1.0, {"code": record.reason or catalogue.OTHER})


def _models(record: SessionRecord) -> Iterator[Sample]:
    for model in record.models:
        labels = {"model": model.model}
        if model.version or model.digest:
            digest = short_digest(model.digest) or catalogue.NO_VERSION
            yield Sample(
                catalogue.MODEL_INFO,
                1.0,
                {**labels, "version": model.version or catalogue.NO_VERSION, "digest": digest},
            )
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


def _ensemble(derived: Derived) -> Iterator[Sample]:
    for key, value in derived.ensemble.items():
        if key in catalogue.ENSEMBLE:
            yield Sample(catalogue.ENSEMBLE[key], value)
    for key, value in derived.differences.items():
        yield Sample(catalogue.DIFFERENCE[catalogue.SCORE_UNITS[key]], value, {"score": key})
    if confidence := derived.fused_confidence:
        for statistic, metric in catalogue.FUSED_CONFIDENCE.items():
            yield Sample(metric, getattr(confidence, statistic))


def _landmarks(derived: Derived) -> Iterator[Sample]:
    """Misses are 0 or 1 for each landmark, once somebody has looked."""
    for label, scores in derived.points.items():
        for key, value in scores.items():
            yield Sample(catalogue.POINT[key], value, _OF_LANDMARK[label])
    if derived.missed_by_model:
        for label in LABELS:
            yield Sample(catalogue.LANDMARK_MISSES, float(label in derived.missed), _OF_LANDMARK[label])
    for model, missed in derived.missed_by_model.items():
        for label in LABELS:
            labels = {"model": model, "landmark": str(label)}
            yield Sample(catalogue.MODEL_LANDMARK_MISSES, float(label in missed), labels)


def _quality(derived: Derived) -> Iterator[Sample]:
    quality = derived.quality
    if quality is None or quality.image is None:
        return
    yield Sample(catalogue.QUALITY, quality.image)
    for component, metric in catalogue.QUALITY_COMPONENT.items():
        value = getattr(quality.components, component)
        if value is not None:
            yield Sample(metric, value)
    for name, value in quality.measurements.items():
        yield Sample(catalogue.MEASUREMENT_QUALITY, value, {"measurement": name})


def _findings(derived: Derived) -> Iterator[Sample]:
    """A rule counts once an image, by its gravest severity; each finding's figures are in InfluxDB."""
    gravest: dict[str, str] = {}
    for finding in derived.findings:
        subject = finding.measurement or (f"landmark_{finding.landmark}" if finding.landmark else "image")
        labels = {"rule": finding.rule, "severity": finding.severity, "subject": subject}
        for key, metric in catalogue.FINDING.items():
            value = getattr(finding, key)
            if value is not None:
                yield Sample(metric, value, labels)
        # Once an image, so that a rate counts images: a film whose scale is wrong breaks a rule with each of its bones.
        known = gravest.get(finding.rule, finding.severity)
        gravest[finding.rule] = max(known, finding.severity, key=catalogue.SEVERITY.values.index)
    for rule, severity in gravest.items():
        yield Sample(catalogue.FINDINGS, 1.0, {"rule": rule, "severity": severity})


def _system(record: SessionRecord) -> Iterator[Sample]:
    """``record.system`` is keyed ``resource`` or ``resource/label``, as ``disk_free_bytes/store``."""
    for key, usage in record.system.items():
        resource, _, value = key.partition("/")
        for statistic, figure in (
            ("average", usage.average), ("minimum", usage.minimum), ("maximum", usage.maximum),
        ):  # fmt: skip
            metric = catalogue.SYSTEM.get((resource, statistic))
            if metric is None or figure is None:
                continue
            if not metric.labels:
                yield Sample(metric, figure)
            elif value in metric.labels[0].values:  # an imported record may name any volume
                yield Sample(metric, figure, {metric.labels[0].name: value})
