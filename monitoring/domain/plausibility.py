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

Each rule is the function of its name; why its limits are what they are stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import hypot, isfinite, sqrt
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from monitoring.domain.anatomy import ANKLE, FEMUR, HEAD, KNEE, LABELS, LEG, SIDES, TIBIA, measurement_name
from monitoring.domain.growth import nearest_z_score
from monitoring.domain.statistics import ROUNDING, is_number

SEVERITIES: Final = ("info", "soft", "hard")

Limits = tuple[float, float]
LENGTH_LIMITS_MM: Final[Mapping[str, Limits]] = {FEMUR: (60.0, 620.0), TIBIA: (50.0, 510.0)}

# Judged by the most favourable age of the year that DICOM's completed years leave open. For girls the table is
# unverified (see GrowthTable), but a misquoted digit doesn't matter much to limits as wide as these. Skeletal
# dysplasia exceeds them rightly: a person should look.
Z_SOFT: Final = 3.0
Z_HARD: Final = 5.0

# The boys' table has 1.248 to 1.273 at every age; the limits leave room for measuring between landmarks' centres.
RATIO_SOFT: Final[Limits] = (1.15, 1.40)
RATIO_HARD: Final[Limits] = (1.05, 1.50)

# "info" in every band: patients are referred because their legs differ, so a difference alone is no error.
ASYMMETRY_BANDS_MM: Final = (5.0, 10.0, 20.0, 50.0)

LEG_SUM_TOLERANCE_MM: Final = 1.5  # three lengths that were each rounded to whole mm

# The finest radiography detectors have 0.05 mm, computed radiography 0.1-0.2, slot scanners and stitched films up to
# 0.25, and at 0.5 a 1:2 reduction of those is covered. Over 1 mm a single pixel is a third of the readers' SEM95 for
# the tibia; under 0.02 no radiographic detector exists, so it is another unit.
SPACING_SOFT_MM: Final[Limits] = (0.05, 0.5)
SPACING_HARD_MM: Final[Limits] = (0.02, 1.0)
# At 1 % a femur of 450 mm is off by the readers' SEM95 if the two were read the wrong way round. Some scanners do
# resample one axis, so it is no error by itself.
SPACING_MISMATCH_RATIO: Final = 0.01

# Children don't shrink, and two readings of one bone differ by less than sqrt(2) SEM95 in 95 % of cases (SEM95 = 1.96
# SEM, published for readers of femur and tibia; the leg's is that of both). Never "hard": shortening operations are
# done in these very patients.
READER_SEM95_MM: Final[Mapping[str, float]] = {FEMUR: 4.5, TIBIA: 3.1, LEG: hypot(4.5, 3.1)}
SHRINKAGE_TOLERANCE_MM: Final[Mapping[str, float]] = {bone: sqrt(2) * sem for bone, sem in READER_SEM95_MM.items()}

# Beyond any image by far; of places near a float's end even a difference is infinite.
_FARTHEST_PIXEL: Final = 1e9

_BONES: Final = tuple((measurement_name(side, bone), bone) for side in SIDES for bone in (FEMUR, TIBIA))
_LENGTHS: Final = tuple((measurement_name(side, bone), bone) for bone in (FEMUR, TIBIA, LEG) for side in SIDES)


class Exam(Struct, frozen=True):
    """What is known of one image; whatever is left out is not judged.

    ``landmarks``: ``{label: (x, y, ...)}`` in pixels, as :func:`monitoring.domain.disagreement.fuse` gives them.
    ``age_years``: years, of which up to ``age_span_years`` more may have passed (1 for completed years, 0 for an exact
    age). ``sex``: M or F. ``rows`` and ``columns``: the image's size. ``row_mm`` and ``column_mm``: mm a pixel.
    ``earlier_mm``: the same patient's measurements ``days_since_earlier`` days ago; a negative number of days makes
    them later ones, which are not judged.
    """

    measurements_mm: Mapping[str, float] = {}
    landmarks: Mapping[int, tuple[float, ...]] = {}
    age_years: float | None = None
    age_span_years: float = 1.0
    sex: str | None = None
    rows: float | None = None
    columns: float | None = None
    row_mm: float | None = None
    column_mm: float | None = None
    earlier_mm: Mapping[str, float] = {}
    days_since_earlier: float | None = None


class Finding(Struct, frozen=True):
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
    known = replace(
        exam,
        measurements_mm={name: mm for name, mm in exam.measurements_mm.items() if is_number(mm)},
        earlier_mm={name: mm for name, mm in exam.earlier_mm.items() if is_number(mm)},
        landmarks={
            label: place
            for label, place in exam.landmarks.items()
            if label in LABELS and all(is_number(at) and abs(at) < _FARTHEST_PIXEL for at in place[:2])
        },
    )
    return tuple([finding for rule in _RULES for finding in rule(known)])


# The rules. They are given an exam whose lengths and places are finite numbers, under names and labels that exist.


def length_range(exam: Exam) -> Iterator[Finding]:
    """No child's or adult's bone is as short, or as long."""
    for name, bone in _BONES:
        length = exam.measurements_mm.get(name)
        if length is not None and not _is_within(length, LENGTH_LIMITS_MM[bone]):
            yield Finding("length_range", "hard", length, *LENGTH_LIMITS_MM[bone], name)


def length_for_age(exam: Exam) -> Iterator[Finding]:
    """``value`` is the z-score."""
    for name, bone in _BONES:
        length = exam.measurements_mm.get(name)
        if length is not None:
            z = nearest_z_score(bone, exam.sex, exam.age_years, length, exam.age_span_years)
            if z is not None:
                yield from _graded("length_for_age", z, (-Z_SOFT, Z_SOFT), (-Z_HARD, Z_HARD), name)


def femur_tibia_ratio(exam: Exam) -> Iterator[Finding]:
    """A length of 0 or less has no ratio: :func:`length_range` tells of it."""
    for side in SIDES:
        femur, tibia, _ = _lengths(exam, side)
        if femur is not None and tibia is not None and femur > 0 and tibia > 0 and isfinite(ratio := femur / tibia):
            yield from _graded("femur_tibia_ratio", ratio, RATIO_SOFT, RATIO_HARD, measurement_name(side, LEG))


def asymmetry(exam: Exam) -> Iterator[Finding]:
    """``value`` is the absolute difference, ``low`` and ``high`` are the edges of the band that it lies in."""
    for rights, lefts, bone in zip(_lengths(exam, "R"), _lengths(exam, "L"), (FEMUR, TIBIA, LEG), strict=True):
        if rights is None or lefts is None:
            continue
        difference = abs(rights - lefts)
        passed = [edge for edge in ASYMMETRY_BANDS_MM if difference > edge + ROUNDING]
        if passed and isfinite(difference):
            above = ASYMMETRY_BANDS_MM[len(passed) :]
            shorter = measurement_name("R" if rights < lefts else "L", bone)
            yield Finding("asymmetry", "info", difference, passed[-1], above[0] if above else None, shorter)


def leg_sum(exam: Exam) -> Iterator[Finding]:
    """``value`` is by how much the leg is longer than femur and tibia."""
    for side in SIDES:
        femur, tibia, leg = _lengths(exam, side)
        if femur is None or tibia is None or leg is None:
            continue
        difference = leg - (femur + tibia)
        if isfinite(difference) and abs(difference) > LEG_SUM_TOLERANCE_MM + ROUNDING:
            name = measurement_name(side, LEG)
            yield Finding("leg_sum", "hard", difference, -LEG_SUM_TOLERANCE_MM, LEG_SUM_TOLERANCE_MM, name)


def anatomical_order(exam: Exam) -> Iterator[Finding]:
    """``value`` is how far a landmark lies below those that must be above it, in pixels; the least of these."""
    places = exam.landmarks
    for side in SIDES:
        head, ankle = HEAD[side], ANKLE[side]
        above = {**dict.fromkeys(KNEE[side], (head,)), ankle: (head, *KNEE[side])}
        for lower, uppers in above.items():
            gaps = [places[lower][1] - places[upper][1] for upper in uppers if upper in places and lower in places]
            if gaps and min(gaps) <= 0:
                yield Finding("anatomical_order", "hard", min(gaps), low=0.0, landmark=lower)


def sides_swapped(exam: Exam) -> Iterator[Finding]:
    """``value`` is how far a left landmark lies to the image's right of its right counterpart, in pixels."""
    gaps = _gaps_between_sides(exam)
    if gaps and max(gaps.values()) <= 0:
        yield Finding("sides_swapped", "hard", min(gaps.values()), low=0.0)


def sides_crossed(exam: Exam) -> Iterator[Finding]:
    """``value`` as in :func:`sides_swapped`."""
    gaps = _gaps_between_sides(exam)
    if gaps and max(gaps.values()) > 0:
        for label, gap in gaps.items():
            if gap <= 0:
                yield Finding("sides_crossed", "hard", gap, low=0.0, landmark=label)


def outside_image(exam: Exam) -> Iterator[Finding]:
    """``value`` is how far outside, in pixels. The edges are those of the outer pixels, so either origin is served."""
    for label, (x, y, *_) in sorted(exam.landmarks.items()):
        beyond = 0.0
        for position, size in ((x, exam.columns), (y, exam.rows)):
            if is_number(size) and size > 0:
                beyond = max(beyond, -0.5 - position, position - size)
        if beyond > ROUNDING:
            yield Finding("outside_image", "hard", beyond, high=0.0, landmark=label)


def spacing_range(exam: Exam) -> Iterator[Finding]:
    """One finding, for the spacing that is further off; a spacing of 0 or less is furthest."""

    def excess(spacing: float) -> float:
        low, high = SPACING_SOFT_MM
        return max(low / spacing, spacing / high) if spacing > 0 else float("inf")

    known = [spacing for spacing in (exam.row_mm, exam.column_mm) if is_number(spacing)]
    if known:
        yield from _graded("spacing_range", max(known, key=excess), SPACING_SOFT_MM, SPACING_HARD_MM)


def spacing_mismatch(exam: Exam) -> Iterator[Finding]:
    """``value`` is the larger spacing over the smaller, less 1."""
    row, column = exam.row_mm, exam.column_mm
    if is_number(row) and is_number(column) and min(row, column) > 0:
        mismatch = max(row, column) / min(row, column) - 1
        if isfinite(mismatch) and mismatch > SPACING_MISMATCH_RATIO + ROUNDING:
            yield Finding("spacing_mismatch", "soft", mismatch, high=SPACING_MISMATCH_RATIO)


def shrinkage(exam: Exam) -> Iterator[Finding]:
    """``value`` is by how many mm the measurement is shorter than before."""
    if exam.days_since_earlier is not None and not exam.days_since_earlier >= 0:
        return
    for name, bone in _LENGTHS:
        earlier, length, tolerance = (
            exam.earlier_mm.get(name),
            exam.measurements_mm.get(name),
            SHRINKAGE_TOLERANCE_MM[bone],
        )
        if earlier is not None and length is not None and tolerance < earlier - length < float("inf"):
            yield Finding("shrinkage", "soft", earlier - length, high=tolerance, measurement=name)


_RULES: Final = (
    length_range, length_for_age, femur_tibia_ratio, asymmetry, leg_sum, anatomical_order, sides_swapped, sides_crossed,
    outside_image, spacing_range, spacing_mismatch, shrinkage,
)  # fmt: skip
RULES: Final = tuple(rule.__name__ for rule in _RULES)


def _lengths(exam: Exam, side: str) -> tuple[float | None, float | None, float | None]:
    """Femur, tibia and leg of a side."""
    of = exam.measurements_mm
    return of.get(f"PLL_{side}_FEM"), of.get(f"PLL_{side}_TIB"), of.get(f"PLL_{side}_LGL")


def _gaps_between_sides(exam: Exam) -> dict[int, float]:
    """How far each left landmark lies to the image's right of its right counterpart, by the right one's label."""
    places = exam.landmarks
    return {
        label: places[label + 1][0] - places[label][0] for label in LABELS[::2] if {label, label + 1} <= places.keys()
    }


def _is_within(value: float, limits: Limits) -> bool:
    low, high = limits
    return low - ROUNDING <= value <= high + ROUNDING


def _graded(rule: str, value: float, soft: Limits, hard: Limits, measurement: str | None = None) -> Iterator[Finding]:
    if not _is_within(value, hard):
        yield Finding(rule, "hard", value, *hard, measurement)
    elif not _is_within(value, soft):
        yield Finding(rule, "soft", value, *soft, measurement)
