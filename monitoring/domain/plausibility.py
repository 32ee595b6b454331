"""What in an exam can't be right, or deserves a second look: named rules with severity, value and limits.

``hard`` means that a landmark, a label or the spacing is wrong; ``soft`` that a person should look; ``info`` that
it is worth counting and no sign of an error. What was not measured is not judged, and nothing is raised.

=================== ============ ===============================================================================
rule                severity     when
=================== ============ ===============================================================================
length_range        hard         femur outside 60-620 mm, tibia outside 50-510 mm
length_for_age      soft, hard   |z| for age and sex over 3, over 5 (see :mod:`monitoring.domain.growth`)
femur_tibia_ratio   soft, hard   outside 1.15-1.40, outside 1.05-1.50 (boys' table: 1.248-1.273 at every age)
asymmetry           info         left-right difference over 5, 10, 20 or 50 mm
leg_sum             hard         leg differs from femur + tibia by over 1.5 mm
anatomical_order    hard         a head not above its knee's points and ankle, or these not above the ankle
sides_swapped       hard         every right landmark lies beyond its left counterpart: labels or image are mirrored
sides_crossed       hard         some do
outside_image       hard         a landmark beyond the image's edge
spacing_range       soft, hard   outside 0.05-0.5 mm, outside 0.02-1.0 mm
spacing_mismatch    soft         row and column spacing differ by over 1 %
shrinkage           soft         a bone or leg shorter than in an earlier exam, beyond measurement error
=================== ============ ===============================================================================

Reasons for what is a choice:

- **asymmetry** stays ``info`` in every band: patients are referred because their legs differ, so a difference alone
  is no error. ``low`` and ``high`` are the band's edges, ``value`` the absolute difference.
- **length_for_age** takes an age in completed years, as DICOM's is, and judges by the most favourable age of that
  year. For girls the table is unverified (:class:`~monitoring.domain.growth.GrowthTable`); the thresholds are wide
  enough that a misquoted digit doesn't matter much. Skeletal dysplasia exceeds them rightly: a person should look.
- **leg_sum** allows for three lengths that were each rounded to whole mm.
- **spacing_range**: the finest radiography detectors have 0.05 mm, computed radiography 0.1-0.2, slot scanners and
  stitched films up to 0.25, and at 0.5 a 1:2 reduction of those is covered. Over 1 mm a single pixel is a third of
  the readers' SEM95 for the tibia; under 0.02 no radiographic detector exists, so it is another unit.
- **spacing_mismatch**: at 1 % a femur of 450 mm is off by the readers' SEM95 if the two were read the wrong way
  round. Some scanners do resample one axis, so it is no error by itself.
- **shrinkage**: children don't shrink. Two readings of one bone differ by less than sqrt(2) SEM95 in 95 % of cases
  (SEM95 = 1.96 SEM; published for readers: femur 4.5 mm, tibia 3.1 mm, together 5.5 mm for the leg), so 6.4, 4.4
  and 7.7 mm are allowed. Never ``hard``: shortening operations are done in these very patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import hypot, isfinite, sqrt
from typing import Final

from monitoring.domain.anatomy import (
    ANKLE,
    FEMUR,
    HEAD,
    KNEE,
    LABELS,
    LEG,
    SIDES,
    TIBIA,
    is_number,
    measurement_name,
    side_of,
)
from monitoring.domain.growth import nearest_z_score

RULES: Final = (
    "length_range",
    "length_for_age",
    "femur_tibia_ratio",
    "asymmetry",
    "leg_sum",
    "anatomical_order",
    "sides_swapped",
    "sides_crossed",
    "outside_image",
    "spacing_range",
    "spacing_mismatch",
    "shrinkage",
)
SEVERITIES: Final = ("info", "soft", "hard")

Limits = tuple[float, float]
LENGTH_LIMITS_MM: Final[Mapping[str, Limits]] = {FEMUR: (60.0, 620.0), TIBIA: (50.0, 510.0)}
Z_SOFT: Final = 3.0
Z_HARD: Final = 5.0
RATIO_SOFT: Final[Limits] = (1.15, 1.40)
RATIO_HARD: Final[Limits] = (1.05, 1.50)
ASYMMETRY_BANDS_MM: Final = (5.0, 10.0, 20.0, 50.0)
LEG_SUM_TOLERANCE_MM: Final = 1.5
SPACING_SOFT_MM: Final[Limits] = (0.05, 0.5)
SPACING_HARD_MM: Final[Limits] = (0.02, 1.0)
SPACING_MISMATCH_RATIO: Final = 0.01
READER_SEM95_MM: Final[Mapping[str, float]] = {FEMUR: 4.5, TIBIA: 3.1, LEG: hypot(4.5, 3.1)}
SHRINKAGE_TOLERANCE_MM: Final[Mapping[str, float]] = {bone: sqrt(2) * sem for bone, sem in READER_SEM95_MM.items()}

_ROUNDING: Final = 1e-9  # of decimal input in binary: a value on its limit is within it


@dataclass(frozen=True, slots=True)
class Exam:
    """What is known of one image; whatever is left out is not judged.

    ``landmarks``: ``{label: (x, y, ...)}`` in pixels, as :func:`monitoring.domain.disagreement.fuse` gives them.
    ``age_years``: years, of which up to ``age_span_years`` more may have passed (1 for completed years, 0 for an exact
    age). ``sex``: M or F. ``rows`` and ``columns``: the image's size. ``row_mm`` and ``column_mm``: mm a pixel.
    ``earlier_mm``: the same patient's measurements ``days_since_earlier`` days ago; a negative number of days makes
    them later ones, which are not judged.
    """

    measurements_mm: Mapping[str, float] = field(default_factory=dict)
    landmarks: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    age_years: float | None = None
    age_span_years: float = 1.0
    sex: str | None = None
    rows: float | None = None
    columns: float | None = None
    row_mm: float | None = None
    column_mm: float | None = None
    earlier_mm: Mapping[str, float] = field(default_factory=dict)
    days_since_earlier: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that an exam broke.

    ``value`` lies outside ``low`` to ``high`` (either may be None: no limit; of ``asymmetry`` they are the band that it
    fell into), in the rule's unit: mm for lengths and spacings, pixels for positions, a z-score or a ratio. Of what:
    a ``measurement`` (the shorter one of ``asymmetry``, the leg of ``femur_tibia_ratio``), or a ``landmark``'s label
    (the right one of ``sides_crossed``); neither when it concerns the whole image.
    """

    rule: str
    severity: str
    value: float
    low: float | None = None
    high: float | None = None
    measurement: str | None = None
    landmark: int | None = None


def check(exam: Exam) -> tuple[Finding, ...]:
    """Every finding, in the order of :data:`RULES`; at most one per rule and measurement or landmark."""
    lengths = _numbers(exam.measurements_mm)
    points = _points(exam.landmarks)
    found = [
        *_length_range(lengths),
        *_length_for_age(lengths, exam),
        *_ratio(lengths),
        *_asymmetry(lengths),
        *_leg_sum(lengths),
        *_order(points),
        *_sides(points),
        *_outside(points, exam),
        *_spacing(exam),
        *_shrinkage(lengths, exam),
    ]
    return tuple(found)


def _numbers(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if is_number(value)}


def _points(landmarks: Mapping[int, tuple[float, ...]]) -> dict[int, tuple[float, float]]:
    return {
        label: (point[0], point[1])
        for label, point in landmarks.items()
        if label in LABELS and is_number(point[0]) and is_number(point[1])
    }


def _within(value: float, limits: Limits) -> bool:
    low, high = limits
    return low - _ROUNDING <= value <= high + _ROUNDING


def _two_limits(
    rule: str, value: float, soft: Limits, hard: Limits, measurement: str | None = None
) -> Iterator[Finding]:
    if not _within(value, hard):
        yield Finding(rule, "hard", value, *hard, measurement)
    elif not _within(value, soft):
        yield Finding(rule, "soft", value, *soft, measurement)


def _bones(lengths: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    """Measurement, bone and length of the femora and tibiae that were measured."""
    for side in SIDES:
        for bone in (FEMUR, TIBIA):
            name = measurement_name(side, bone)
            if name in lengths:
                yield name, bone, lengths[name]


def _length_range(lengths: Mapping[str, float]) -> Iterator[Finding]:
    for name, bone, length in _bones(lengths):
        limits = LENGTH_LIMITS_MM[bone]
        if not _within(length, limits):
            yield Finding("length_range", "hard", length, *limits, name)


def _length_for_age(lengths: Mapping[str, float], exam: Exam) -> Iterator[Finding]:
    for name, bone, length in _bones(lengths):
        z = nearest_z_score(bone, exam.sex, exam.age_years, length, exam.age_span_years)
        if z is not None:
            yield from _two_limits("length_for_age", z, (-Z_SOFT, Z_SOFT), (-Z_HARD, Z_HARD), name)


def _ratio(lengths: Mapping[str, float]) -> Iterator[Finding]:
    """A length of 0 or less has no ratio: ``length_range`` tells of it."""
    for side in SIDES:
        femur, tibia = (lengths.get(measurement_name(side, bone)) for bone in (FEMUR, TIBIA))
        if femur is None or tibia is None or femur <= 0 or tibia <= 0:
            continue
        if isfinite(ratio := femur / tibia):
            yield from _two_limits("femur_tibia_ratio", ratio, RATIO_SOFT, RATIO_HARD, measurement_name(side, LEG))


def _asymmetry(lengths: Mapping[str, float]) -> Iterator[Finding]:
    for bone in (FEMUR, TIBIA, LEG):
        right, left = (lengths.get(measurement_name(side, bone)) for side in SIDES)
        if right is None or left is None:
            continue
        difference = abs(right - left)
        passed = [edge for edge in ASYMMETRY_BANDS_MM if difference > edge + _ROUNDING]
        if passed and isfinite(difference):
            above = [edge for edge in ASYMMETRY_BANDS_MM if edge not in passed]
            shorter = measurement_name(SIDES[0] if right < left else SIDES[1], bone)
            yield Finding("asymmetry", "info", difference, passed[-1], above[0] if above else None, shorter)


def _leg_sum(lengths: Mapping[str, float]) -> Iterator[Finding]:
    for side in SIDES:
        femur, tibia, leg = (lengths.get(measurement_name(side, bone)) for bone in (FEMUR, TIBIA, LEG))
        if femur is None or tibia is None or leg is None:
            continue
        difference = leg - (femur + tibia)
        if isfinite(difference) and abs(difference) > LEG_SUM_TOLERANCE_MM + _ROUNDING:
            name = measurement_name(side, LEG)
            yield Finding("leg_sum", "hard", difference, -LEG_SUM_TOLERANCE_MM, LEG_SUM_TOLERANCE_MM, name)


def _order(points: Mapping[int, tuple[float, float]]) -> Iterator[Finding]:
    """``value`` is how far a landmark lies below those that must be above it, in pixels; the least of these."""
    for side in SIDES:
        head, ankle = HEAD[side], ANKLE[side]
        above = {**dict.fromkeys(KNEE[side], (head,)), ankle: (head, *KNEE[side])}
        for lower, uppers in above.items():
            gaps = [points[lower][1] - points[upper][1] for upper in uppers if upper in points and lower in points]
            if gaps and min(gaps) <= 0:
                yield Finding("anatomical_order", "hard", min(gaps), low=0.0, landmark=lower)


def _sides(points: Mapping[int, tuple[float, float]]) -> Iterator[Finding]:
    """``value`` is how far a left landmark lies to the image's right of its right counterpart, in pixels."""
    rights = (label for label in LABELS if side_of(label) == "R")
    gaps = {label: points[label + 1][0] - points[label][0] for label in rights if {label, label + 1} <= points.keys()}
    wrong = {label: gap for label, gap in gaps.items() if gap <= 0}
    if wrong and len(wrong) == len(gaps):
        yield Finding("sides_swapped", "hard", min(wrong.values()), low=0.0)
    else:
        for label, gap in wrong.items():
            yield Finding("sides_crossed", "hard", gap, low=0.0, landmark=label)


def _outside(points: Mapping[int, tuple[float, float]], exam: Exam) -> Iterator[Finding]:
    """``value`` is how far outside, in pixels. The edges are those of the outer pixels, so either origin is served."""
    for label, (x, y) in sorted(points.items()):
        beyond = max(_beyond(x, exam.columns), _beyond(y, exam.rows))
        if beyond > _ROUNDING:
            yield Finding("outside_image", "hard", beyond, high=0.0, landmark=label)


def _beyond(position: float, size: float | None) -> float:
    if size is None or not is_number(size) or size <= 0:
        return 0.0
    return max(-0.5 - position, position - size, 0.0)


def _spacing(exam: Exam) -> Iterator[Finding]:
    row, column = exam.row_mm, exam.column_mm
    known = [spacing for spacing in (row, column) if is_number(spacing)]
    if not known:
        return
    # One finding, for the spacing that is further off; a spacing of 0 or less is furthest.
    worst = max(known, key=_spacing_excess)
    yield from _two_limits("spacing_range", worst, SPACING_SOFT_MM, SPACING_HARD_MM)
    if len(known) == 2 and min(known) > 0:
        mismatch = max(known) / min(known) - 1
        if isfinite(mismatch) and mismatch > SPACING_MISMATCH_RATIO + _ROUNDING:
            yield Finding("spacing_mismatch", "soft", mismatch, high=SPACING_MISMATCH_RATIO)


def _spacing_excess(spacing: float) -> float:
    low, high = SPACING_SOFT_MM
    return max(low / spacing, spacing / high) if spacing > 0 else float("inf")


def _shrinkage(lengths: Mapping[str, float], exam: Exam) -> Iterator[Finding]:
    """``value`` is by how many mm the measurement is shorter than before."""
    if exam.days_since_earlier is not None and not exam.days_since_earlier >= 0:
        return
    earlier = _numbers(exam.earlier_mm)
    for bone in (FEMUR, TIBIA, LEG):
        tolerance = SHRINKAGE_TOLERANCE_MM[bone]
        for name in (measurement_name(side, bone) for side in SIDES):
            if name in earlier and name in lengths:
                loss = earlier[name] - lengths[name]
                if isfinite(loss) and loss > tolerance:
                    yield Finding("shrinkage", "soft", loss, high=tolerance, measurement=name)
