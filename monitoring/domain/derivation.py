"""What a session's record says once the domain's formulas are applied to it: pure, so that it can be done again.

``SessionRecord`` and what the store knows beside it (:class:`Facts`) -> :class:`Derived`. The host's own ensemble
figures win where it supplied them; the difference from ours is then a figure of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from monitoring.domain import agreement, disagreement, plausibility, quality
from monitoring.domain.agreement import ReadingError
from monitoring.domain.anatomy import FEMUR, LABELS, LEG, SIDE_AND_BONE, SIDES, TIBIA, measurement_name
from monitoring.domain.disagreement import POINT_SCORES, ConfidenceRange
from monitoring.domain.growth import middle_z_score, nearest_z_score
from monitoring.domain.plausibility import Exam, Finding
from monitoring.domain.quality import Quality
from monitoring.domain.statistics import is_number
from monitoring.records.session_record import SessionRecord

FORMULA_VERSION: Final = 2
"""Raised when anything here or in :mod:`monitoring.domain` computes another value from the same record, or one more."""


class Facts(Struct, frozen=True, omit_defaults=True):
    """What only the store knows of a session; None or empty is unknown.

    ``earlier_runs``: sessions of the same series before it. ``earlier_mm``: the same pseudonymous patient's
    measurements in another study, ``days_since_earlier`` days before. ``reader_mm``: the readers' mean.
    """

    sessions_last_hour: int | None = None
    earlier_runs: int | None = None
    earlier_mm: Mapping[str, float] = {}
    days_since_earlier: float | None = None
    reader_mm: Mapping[str, float] = {}


class Derived(Struct, frozen=True):
    """Everything that is computed of one session. ``ensemble`` and ``points`` are what is reported.

    ``differences`` are absolute, |host's - ours|, by the score's name, in its unit; of a point's score the largest.
    """

    ensemble: Mapping[str, float] = {}
    points: Mapping[int, Mapping[str, float]] = {}
    differences: Mapping[str, float] = {}
    fused_confidence: ConfidenceRange | None = None
    missed: tuple[int, ...] = ()
    missed_by_model: Mapping[str, tuple[int, ...]] = {}
    findings: tuple[Finding, ...] = ()
    quality: Quality | None = None
    z_scores: Mapping[str, float] = {}
    unclamped_z_scores: Mapping[str, float] = {}
    femur_tibia_ratios: Mapping[str, float] = {}
    side_differences_mm: Mapping[str, float] = {}
    reading_errors: tuple[ReadingError, ...] = ()


def derive(record: SessionRecord, facts: Facts) -> Derived:
    """Apply every formula of :mod:`monitoring.domain` to a session; raises nothing for odd values."""
    detections = [disagreement.best_detections(prediction) for prediction in record.predictions]
    fused = disagreement.fuse(detections) if detections else None
    exam = _exam(record, facts, fused or {})
    ours = disagreement.disagreement(detections, exam.row_mm, exam.column_mm) if detections else None
    our_scores, our_points = (ours.scores(), ours.point_scores()) if ours else ({}, {})
    findings = plausibility.check(exam) if fused or record.measurements_mm else None
    # A session that was skipped before it came to measuring has no quality, not a bad one.
    is_assessed = record.measurements_mm or record.status not in ("skipped", "crashed")
    return Derived(
        # What the host states is what its own users see, so it is what is reported; ours is told as the difference.
        ensemble={**our_scores, **record.ensemble},
        points=_reported_points(our_points, record.points),
        differences=_differences(record, our_scores, our_points),
        fused_confidence=disagreement.fused_confidence(fused or {}),
        missed=disagreement.missed_landmarks(detections),
        missed_by_model=disagreement.missed_by_model(detections),
        findings=findings or (),
        quality=quality.assess(ours, fused, record.measurements_mm, findings) if is_assessed else None,
        z_scores=_z_scores(record, exam, nearest_z_score),
        unclamped_z_scores=_z_scores(record, exam, middle_z_score),
        femur_tibia_ratios=_femur_tibia_ratios(record.measurements_mm),
        side_differences_mm=_side_differences(record.measurements_mm),
        reading_errors=reading_errors(record, facts.reader_mm),
    )


def stated(record: SessionRecord) -> Derived:
    """What the record says itself of what would be computed: all there is where a formula has failed."""
    return Derived(ensemble=record.ensemble, points=_reported_points({}, record.points))


def reading_errors(record: SessionRecord, reader_mm: Mapping[str, float]) -> tuple[ReadingError, ...]:
    """The errors of a completed session's measurements against readers', by the thresholds of its own settings."""
    if record.status != "completed":  # nobody was given its measurements
        return ()
    thresholds_cm = {**agreement.DEFAULT_THRESHOLDS_CM, **record.thresholds_cm}
    return agreement.reading_errors(record.measurements_mm, reader_mm, thresholds_cm)


def _exam(record: SessionRecord, facts: Facts, landmarks: disagreement.Fused) -> Exam:
    # A record that was imported may hold anything under these names; what is no number is not known.
    numbers = {name: value for name, value in record.context.items() if is_number(value)}
    sex = record.context.get("sex")
    return Exam(
        measurements_mm=record.measurements_mm,
        landmarks=landmarks,
        age_years=numbers.get("age_years"),
        sex=sex if isinstance(sex, str) else None,
        rows=numbers.get("rows"),
        columns=numbers.get("columns"),
        row_mm=numbers.get("row_spacing_mm"),
        column_mm=numbers.get("column_spacing_mm"),
        earlier_mm=facts.earlier_mm,
        days_since_earlier=facts.days_since_earlier,
    )


def _reported_points(
    ours: Mapping[int, Mapping[str, float]], hosts: Mapping[str, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """The host's where it supplied them; an imported record may hold any name, so only ours are taken."""
    merged: dict[int, dict[str, float]] = {}
    for label in LABELS:
        given = hosts.get(str(label), {})
        scores = {**ours.get(label, {}), **{name: given[name] for name in POINT_SCORES if name in given}}
        if scores:
            merged[label] = scores
    return merged


def _differences(
    record: SessionRecord, scores: Mapping[str, float], points: Mapping[int, Mapping[str, float]]
) -> dict[str, float]:
    found = disagreement.compare(record.ensemble, scores)
    for label, of_point in points.items() if record.points else ():
        for name, difference in disagreement.compare(record.points.get(str(label), {}), of_point).items():
            found[name] = max(difference, found.get(name, 0.0))
    return found


def _z_scores(
    record: SessionRecord, exam: Exam, formula: Callable[[str, str | None, float | None, float], float | None]
) -> dict[str, float]:
    found = {}
    for name, millimeters in record.measurements_mm.items():
        _, bone = SIDE_AND_BONE.get(name, ("", ""))
        z = formula(bone, exam.sex, exam.age_years, millimeters)
        if z is not None:
            found[name] = z
    return found


def _femur_tibia_ratios(measurements_mm: Mapping[str, float]) -> dict[str, float]:
    """Femur over tibia, by side; none where either is no length."""
    found = {}
    for side in SIDES:
        femur, tibia = (measurements_mm.get(measurement_name(side, bone)) for bone in (FEMUR, TIBIA))
        if is_number(femur) and is_number(tibia) and femur > 0 and tibia > 0:
            found[side] = femur / tibia
    return found


def _side_differences(measurements_mm: Mapping[str, float]) -> dict[str, float]:
    """Right - left, by bone."""
    found = {}
    for bone in (FEMUR, TIBIA, LEG):
        right, left = (measurements_mm.get(measurement_name(side, bone)) for side in ("R", "L"))
        if is_number(right) and is_number(left):
            found[bone] = right - left
    return found
