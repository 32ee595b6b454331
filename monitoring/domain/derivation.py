"""What a session's record says once the domain's formulas are applied to it: pure, so that it can be done again.

``SessionRecord`` and what the store knows beside it (:class:`Facts`) -> :class:`Derived`. The host's own ensemble
figures win where it supplied them; the difference from ours is then a figure of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from monitoring.domain import agreement, disagreement, growth, plausibility, quality
from monitoring.domain.agreement import ReadingError
from monitoring.domain.anatomy import LABELS, SIDES, is_number, measurement_name, side_and_bone
from monitoring.domain.disagreement import ConfidenceRange, Disagreement, Fused, PointDisagreement, Seen
from monitoring.domain.plausibility import Exam, Finding
from monitoring.domain.quality import Quality
from monitoring.records.session_record import SessionRecord

FORMULA_VERSION: Final = 1
"""Raised when anything here or in :mod:`monitoring.domain` computes another value from the same record."""

POINT_SCORES: Final = tuple(item.name for item in fields(PointDisagreement) if item.name != "detected_by")


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the store knows of a session; None or empty is unknown.

    ``earlier_runs``: sessions of the same series before it. ``earlier_mm``: the same pseudonymous patient's
    measurements in another study, ``days_since_earlier`` days before. ``reader_mm``: the readers' mean.
    """

    sessions_last_hour: int | None = None
    earlier_runs: int | None = None
    earlier_mm: Mapping[str, float] = field(default_factory=dict)
    days_since_earlier: float | None = None
    reader_mm: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is unknown."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Facts:
        """From :meth:`to_dict`'s form; names of other versions are left out."""
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})


@dataclass(frozen=True, slots=True)
class Derived:
    """Everything that is computed of one session. ``ensemble`` and ``points`` are what is reported.

    ``differences`` are absolute, |host's - ours|, by the score's name, in its unit; of a point's score the largest.
    """

    ensemble: Mapping[str, float] = field(default_factory=dict)
    points: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    differences: Mapping[str, float] = field(default_factory=dict)
    fused_confidence: ConfidenceRange | None = None
    missed: tuple[int, ...] = ()
    missed_by_model: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    quality: Quality | None = None
    z_scores: Mapping[str, float] = field(default_factory=dict)
    side_differences_mm: Mapping[str, float] = field(default_factory=dict)
    reading_errors: tuple[ReadingError, ...] = ()


def derive(record: SessionRecord, facts: Facts) -> Derived:
    """Apply every formula of :mod:`monitoring.domain` to a session; raises nothing for odd values."""
    seen = disagreement.look(record.predictions)
    fused = disagreement.fuse(seen) if seen else None
    ours = _disagreement(record, seen)
    findings = _findings(record, facts, fused)
    our_points = _our_points(ours)
    return Derived(
        ensemble={**(ours.scores() if ours else {}), **record.ensemble},
        points=_merged_points(our_points, record.points),
        differences=_differences(record, ours, our_points),
        fused_confidence=disagreement.fused_confidence(fused) if fused else None,
        missed=disagreement.missed_landmarks(seen),
        missed_by_model=disagreement.missed_by_model(seen),
        findings=findings or (),
        quality=_quality(record, ours, fused, findings),
        z_scores=dict(_z_scores(record)),
        side_differences_mm=dict(_side_differences(record)),
        reading_errors=reading_errors(record, facts.reader_mm),
    )


def stated(record: SessionRecord) -> Derived:
    """What the record says itself of what would be computed: all there is where a formula has failed."""
    return Derived(ensemble=record.ensemble, points=_merged_points({}, record.points))


def reading_errors(record: SessionRecord, reader_mm: Mapping[str, float]) -> tuple[ReadingError, ...]:
    """The errors of a completed session's measurements against readers', by the thresholds of its own settings."""
    if record.status != "completed":  # nobody was given its measurements
        return ()
    thresholds_cm = {**agreement.DEFAULT_THRESHOLDS_CM, **record.thresholds_cm}
    return agreement.reading_errors(record.measurements_mm, reader_mm, thresholds_cm)


def _disagreement(record: SessionRecord, seen: Sequence[Seen]) -> Disagreement | None:
    if not seen:
        return None
    row_mm, column_mm = (_number(record, key) for key in ("row_spacing_mm", "column_spacing_mm"))
    return disagreement.disagreement(seen, row_mm, column_mm)


def _number(record: SessionRecord, key: str) -> float | None:
    value = record.context.get(key)
    return value if is_number(value) else None


def _text(record: SessionRecord, key: str) -> str | None:
    value = record.context.get(key)
    return value if isinstance(value, str) else None


def _findings(record: SessionRecord, facts: Facts, fused: Fused | None) -> tuple[Finding, ...] | None:
    """None when there is nothing to judge: neither a landmark nor a measurement."""
    if not fused and not record.measurements_mm:
        return None
    return plausibility.check(
        Exam(
            measurements_mm=record.measurements_mm,
            landmarks=fused or {},
            age_years=_number(record, "age_years"),
            sex=_text(record, "sex"),
            rows=_number(record, "rows"),
            columns=_number(record, "columns"),
            row_mm=_number(record, "row_spacing_mm"),
            column_mm=_number(record, "column_spacing_mm"),
            earlier_mm=facts.earlier_mm,
            days_since_earlier=facts.days_since_earlier,
        )
    )


def _quality(
    record: SessionRecord, ours: Disagreement | None, fused: Fused | None, findings: tuple[Finding, ...] | None
) -> Quality | None:
    """Of a session that came to measuring; one that was skipped before has no quality, not a bad one."""
    if record.status in ("skipped", "crashed") and not record.measurements_mm:
        return None
    return quality.assess(ours, fused, record.measurements_mm, findings)


def _our_points(ours: Disagreement | None) -> dict[int, dict[str, float]]:
    if ours is None:
        return {}
    return {
        label: {name: value for name in POINT_SCORES if (value := getattr(point, name)) is not None}
        for label, point in ours.points.items()
    }


def _merged_points(
    ours: Mapping[int, Mapping[str, float]], hosts: Mapping[str, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    merged = {label: {**ours.get(label, {}), **_known(hosts.get(str(label), {}))} for label in LABELS}
    return {label: scores for label, scores in merged.items() if scores}


def _known(scores: Mapping[str, float]) -> dict[str, float]:
    """A record that was imported may hold any name."""
    return {name: scores[name] for name in POINT_SCORES if name in scores}


def _differences(
    record: SessionRecord, ours: Disagreement | None, our_points: Mapping[int, Mapping[str, float]]
) -> dict[str, float]:
    if ours is None:
        return {}
    found = disagreement.compare(record.ensemble, ours.scores())
    for label, scores in our_points.items():
        for name, difference in disagreement.compare(record.points.get(str(label), {}), scores).items():
            found[name] = max(difference, found.get(name, 0.0))
    return found


def _z_scores(record: SessionRecord) -> Iterator[tuple[str, float]]:
    for name, millimeters in record.measurements_mm.items():
        parts = side_and_bone(name)
        if parts is not None:
            age, sex = _number(record, "age_years"), _text(record, "sex")
            z = growth.nearest_z_score(parts[1], sex, age, millimeters)
            if z is not None:
                yield name, z


def _side_differences(record: SessionRecord) -> Iterator[tuple[str, float]]:
    """Right - left, by bone."""
    for bone in ("FEM", "TIB", "LGL"):
        right, left = (record.measurements_mm.get(measurement_name(side, bone)) for side in SIDES)
        if is_number(right) and is_number(left):
            yield bone, right - left
