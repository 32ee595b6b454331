from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from monitoring.domain import anatomy, plausibility
from monitoring.domain.disagreement import fuse
from monitoring.domain.plausibility import RULES, SEVERITIES, Exam, Finding, check
from monitoring.metrics import catalogue
from tests.support.predictions import PLACES, agreeing

BOY_OF_TEN = {
    "PLL_R_FEM": 365.0, "PLL_R_TIB": 287.0, "PLL_R_LGL": 652.0, "PLL_L_FEM": 363.0, "PLL_L_TIB": 288.0,
    "PLL_L_LGL": 651.0,
}  # fmt: skip
PLAUSIBLE = Exam(
    measurements_mm=BOY_OF_TEN, landmarks=PLACES, age_years=10, sex="M", rows=2300, columns=1000, row_mm=0.2,
    column_mm=0.2, earlier_mm={name: length - 20 for name, length in BOY_OF_TEN.items()}, days_since_earlier=365,
)  # fmt: skip


def only(rule: str, exam: Exam) -> tuple[Finding, ...]:
    return tuple(finding for finding in check(exam) if finding.rule == rule)


def lengths(**millimeters: float) -> Exam:
    return Exam(measurements_mm=millimeters)


def moved(label: int, x: float | None = None, y: float | None = None) -> Exam:
    old_x, old_y = PLACES[label]
    return Exam(landmarks={**PLACES, label: (old_x if x is None else x, old_y if y is None else y)})


def test_a_plausible_exam_has_no_finding():
    assert check(PLAUSIBLE) == ()


def test_what_is_not_known_is_not_judged():
    assert check(Exam()) == ()


def test_the_fused_landmarks_are_taken_as_they_are():
    assert check(Exam(landmarks=fuse(agreeing()))) == ()


def test_the_module_names_the_same_measurements_as_the_catalogue():
    assert anatomy.MEASUREMENTS == catalogue.MEASUREMENTS
    assert anatomy.landmarks_of("PLL_L_LGL") == (2, 4, 6, 8)
    assert anatomy.landmarks_of("PLL_R_TIB") == (3, 5, 7)
    assert anatomy.landmarks_of("PLL_R_TOE") == ()


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "broken"),
    [
        ("PLL_R_FEM", 60.0, False), ("PLL_R_FEM", 59.9, True), ("PLL_L_FEM", 620.0, False), ("PLL_L_FEM", 620.1, True),
        ("PLL_R_TIB", 50.0, False), ("PLL_R_TIB", 49.9, True), ("PLL_L_TIB", 510.0, False), ("PLL_L_TIB", 510.1, True),
        ("PLL_R_FEM", 0.0, True), ("PLL_R_FEM", -300.0, True), ("PLL_R_LGL", 900.0, False),
    ],
)  # fmt: skip
def test_a_bone_outside_its_range_is_hard(name, value, broken):
    limits = (60.0, 620.0) if "FEM" in name else (50.0, 510.0)
    expected = (Finding("length_range", "hard", value, *limits, measurement=name),) if broken else ()
    assert check(lengths(**{name: value})) == expected


@pytest.mark.parametrize(
    ("z", "severity"), [(2.99, None), (3.01, "soft"), (4.99, "soft"), (5.01, "hard"), (-3.01, "soft"), (-5.01, "hard")]
)
@pytest.mark.parametrize(
    ("sex", "bone", "mean", "sd"), [("M", "FEM", 362.9, 20.57), ("F", "FEM", 367.2, 23.0), ("M", "TIB", 285.3, 21.13)]
)
def test_a_bone_far_from_its_age_and_sex_is_soft_beyond_3_and_hard_beyond_5(z, severity, sex, bone, mean, sd):
    name = f"PLL_L_{bone}"
    exam = Exam({name: mean + z * sd}, age_years=10, age_span_years=0, sex=sex)
    found = only("length_for_age", exam)
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    for finding in found:
        assert finding.value == pytest.approx(z)
        assert (finding.low, finding.high) == ((-3, 3) if severity == "soft" else (-5, 5))
        assert finding.measurement == name


def test_completed_years_leave_a_child_the_growth_of_the_whole_year():
    tall = Exam({"PLL_R_FEM": 362.9 + 3.5 * 20.57}, age_years=10, sex="M")
    assert only("length_for_age", tall) == ()
    assert only("length_for_age", replace(tall, age_span_years=0)) != ()
    (finding,) = only("length_for_age", replace(tall, measurements_mm={"PLL_R_FEM": 381.6 + 3.01 * 22.37}))
    assert finding.value == pytest.approx(3.01)  # at 11, by the mean and deviation of that age


@pytest.mark.parametrize(("sex", "age"), [(None, 10), ("O", 10), ("M", None), ("M", 0), ("M", 19)])
def test_without_age_or_sex_or_outside_the_tables_no_length_is_judged_by_age(sex, age):
    assert only("length_for_age", Exam({"PLL_R_FEM": 100.0}, age_years=age, sex=sex)) == ()


@pytest.mark.parametrize(
    ("ratio", "severity"),
    [
        (1.15, None), (1.149, "soft"), (1.05, "soft"), (1.049, "hard"),
        (1.40, None), (1.401, "soft"), (1.50, "soft"), (1.501, "hard"),
    ],
)  # fmt: skip
def test_a_femur_that_does_not_fit_its_tibia(ratio, severity):
    found = only("femur_tibia_ratio", lengths(PLL_L_FEM=300.0 * ratio, PLL_L_TIB=300.0))
    assert [(finding.severity, finding.measurement) for finding in found] == (
        [(severity, "PLL_L_LGL")] if severity else []
    )
    assert [finding.value for finding in found] == pytest.approx([ratio] * len(found))


def test_a_tibia_of_no_length_has_no_ratio_and_no_division_fails():
    assert {finding.rule for finding in check(lengths(PLL_L_FEM=300.0, PLL_L_TIB=0.0))} == {"length_range"}


@pytest.mark.parametrize(
    ("difference", "band"),
    [
        (5.0, None), (5.1, (5, 10)), (10.0, (5, 10)), (10.1, (10, 20)), (20.1, (20, 50)), (50.0, (20, 50)),
        (50.1, (50, None)),
    ],
)  # fmt: skip
def test_a_left_right_difference_is_told_by_band_and_never_an_error(difference, band):
    found = check(lengths(PLL_R_LGL=600.0 + difference, PLL_L_LGL=600.0))
    assert [(finding.severity, finding.measurement) for finding in found] == ([("info", "PLL_L_LGL")] if band else [])
    assert [(finding.low, finding.high) for finding in found] == ([band] if band else [])


def test_asymmetry_names_the_shorter_side():
    assert [finding.measurement for finding in check(lengths(PLL_R_FEM=300.0, PLL_L_FEM=330.0))] == ["PLL_R_FEM"]


@pytest.mark.parametrize(("off", "broken"), [(0.0, False), (1.5, False), (-1.5, False), (1.51, True), (-1.51, True)])
def test_a_leg_is_its_femur_and_tibia(off, broken):
    found = check(lengths(PLL_R_FEM=300.0, PLL_R_TIB=240.0, PLL_R_LGL=540.0 + off))
    assert [(finding.rule, finding.severity) for finding in found] == ([("leg_sum", "hard")] if broken else [])
    for finding in found:
        assert (finding.value, finding.low, finding.high) == (pytest.approx(off), -1.5, 1.5)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, None, "365"])
def test_what_is_no_number_is_not_measured(nonsense):
    assert check(replace(PLAUSIBLE, measurements_mm={**BOY_OF_TEN, "PLL_R_FEM": nonsense})) == ()


# --- landmarks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "y", "below", "value"),
    [
        (1, 1300.0, (3, 5), -100.0),
        (3, 150.0, (3,), -50.0),
        (6, 2000.0, (8,), 0.0),
        (8, 1100.0, (8,), -100.0),
    ],
)
def test_a_landmark_that_is_not_below_what_must_be_above_it_is_out_of_order(label, y, below, value):
    found = check(moved(label, y=y))
    assert [(finding.rule, finding.severity, finding.landmark) for finding in found] == [
        ("anatomical_order", "hard", lower) for lower in below
    ]
    assert {finding.value for finding in found} == {value}


def test_an_ankle_above_its_head_is_out_of_order_without_a_knee_too():
    (finding,) = check(Exam(landmarks={1: (0.0, 50.0), 7: (0.0, 40.0)}))
    assert (finding.rule, finding.landmark, finding.value) == ("anatomical_order", 7, -10.0)


def test_a_mirrored_image_has_its_sides_swapped():
    mirrored = {label: (1000.0 - x, y) for label, (x, y) in PLACES.items()}
    (finding,) = check(Exam(landmarks=mirrored))
    assert finding == Finding("sides_swapped", "hard", -440.0, low=0.0)


def test_one_level_on_the_wrong_side_is_crossed_and_not_swapped():
    (finding,) = check(Exam(landmarks={**PLACES, 7: PLACES[8], 8: PLACES[7]}))
    assert (finding.rule, finding.severity, finding.landmark, finding.value) == ("sides_crossed", "hard", 7, -340.0)


def test_both_sides_at_one_place_are_crossed():
    (finding,) = check(Exam(landmarks={**PLACES, 2: PLACES[1]}))
    assert (finding.rule, finding.landmark, finding.value, finding.low) == ("sides_crossed", 1, 0.0, 0.0)


def test_sides_that_are_a_pixel_apart_are_in_order():
    x, _ = PLACES[1]
    assert check(moved(2, x=x + 1)) == ()


@pytest.mark.parametrize(
    ("position", "beyond"),
    [
        ((-0.5, 200.0), None), ((-3.0, 200.0), 2.5), ((1000.0, 200.0), None), ((1002.0, 200.0), 2.0),
        ((300.0, -4.0), 3.5), ((1010.0, -4.0), 10.0),
    ],
)  # fmt: skip
def test_a_landmark_beyond_the_edge_is_outside(position, beyond):
    expected = () if beyond is None else (Finding("outside_image", "hard", beyond, high=0.0, landmark=2),)
    assert check(Exam(landmarks={2: position}, rows=2300, columns=1000)) == expected


def test_rows_bound_y_and_columns_x():
    exam = Exam(landmarks={7: (330.0, 2000.0)}, rows=1900, columns=3000)
    assert [(finding.rule, finding.value, finding.high) for finding in check(exam)] == [("outside_image", 100.0, 0.0)]


@pytest.mark.parametrize("size", [None, 0, -5, math.nan])
def test_an_unknown_size_bounds_nothing(size):
    assert check(Exam(landmarks=PLACES, rows=size, columns=size)) == ()


def test_landmarks_that_are_no_numbers_or_no_landmarks_are_not_judged():
    assert check(Exam(landmarks={1: (math.nan, 5000.0), 9: (-50.0, -50.0)}, rows=10, columns=10)) == ()


# --- spacing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "severity"),
    [
        (0.05, None), (0.5, None), (0.143, None), (0.049, "soft"), (0.51, "soft"), (1.0, "soft"), (1.01, "hard"),
        (0.02, "soft"), (0.019, "hard"), (0.0, "hard"), (-0.2, "hard"), (143.0, "hard"),
    ],
)  # fmt: skip
def test_a_spacing_that_no_radiograph_has(spacing, severity):
    found = check(Exam(row_mm=spacing, column_mm=spacing))
    assert [(finding.rule, finding.severity, finding.value) for finding in found] == (
        [("spacing_range", severity, spacing)] if severity else []
    )


@pytest.mark.parametrize(
    ("row", "column", "worse"), [(0.3, 0.7, 0.7), (0.6, 0.03, 0.03), (0.04, 0.7, 0.7), (0.0, 0.2, 0.0)]
)
def test_of_two_spacings_the_worse_one_is_told(row, column, worse):
    (finding,) = only("spacing_range", Exam(row_mm=row, column_mm=column))
    assert finding.value == worse


@pytest.mark.parametrize(("column", "broken"), [(0.202, False), (0.2021, True), (0.198, True), (0.1981, False)])
def test_pixels_that_are_not_square(column, broken):
    found = check(Exam(row_mm=0.2, column_mm=column))
    assert [(finding.rule, finding.severity) for finding in found] == ([("spacing_mismatch", "soft")] if broken else [])


# --- the earlier exam -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss", "broken"),
    [
        ("PLL_R_FEM", 6.36, False), ("PLL_R_FEM", 6.37, True), ("PLL_L_TIB", 4.38, False), ("PLL_L_TIB", 4.39, True),
        ("PLL_R_LGL", 7.72, False), ("PLL_R_LGL", 7.73, True), ("PLL_R_FEM", -40.0, False),
    ],
)  # fmt: skip
def test_a_bone_that_shrank_beyond_the_readers_error(name, loss, broken):
    found = check(Exam({name: 300.0}, earlier_mm={name: 300.0 + loss}, days_since_earlier=200))
    assert [(finding.rule, finding.severity, finding.measurement) for finding in found] == (
        [("shrinkage", "soft", name)] if broken else []
    )
    assert [finding.value for finding in found] == pytest.approx([loss] * len(found))


@pytest.mark.parametrize(("days", "judged"), [(None, True), (0, True), (-1, False), (math.nan, False)])
def test_only_an_earlier_exam_can_show_shrinkage(days, judged):
    exam = Exam({"PLL_R_FEM": 300.0}, earlier_mm={"PLL_R_FEM": 330.0}, days_since_earlier=days)
    assert bool(check(exam)) == judged


# --- all rules ------------------------------------------------------------------------------------


def test_the_rules_are_few_documented_and_each_can_be_broken():
    broken = {finding.rule for exam in BROKEN for finding in check(exam)}
    assert broken == set(RULES)
    assert 10 <= len(RULES) <= 16
    assert all(rule in plausibility.__doc__ for rule in RULES)


BROKEN = (
    Exam({"PLL_R_FEM": 700.0, "PLL_L_FEM": 300.0, "PLL_L_TIB": 290.0, "PLL_L_LGL": 400.0}, age_years=10, sex="M"),
    moved(8, y=100.0),
    moved(8, x=100.0),
    Exam(landmarks={1: (500.0, 10.0), 2: (100.0, 10.0)}, rows=5, columns=1000),
    Exam({"PLL_R_FEM": 300.0}, row_mm=3.0, column_mm=2.0, earlier_mm={"PLL_R_FEM": 400.0}),
)
anything = st.floats(allow_nan=True, allow_infinity=True)
millimeters = st.dictionaries(st.sampled_from(anatomy.MEASUREMENTS), st.one_of(anything, st.floats(0, 700)))


@given(
    st.builds(
        Exam,
        measurements_mm=millimeters,
        landmarks=st.dictionaries(st.integers(0, 9), st.tuples(anything, anything)),
        age_years=st.one_of(st.none(), anything, st.floats(0, 20)),
        age_span_years=st.floats(0, 2),
        sex=st.sampled_from([None, "M", "F", "O"]),
        rows=st.one_of(st.none(), anything),
        columns=st.one_of(st.none(), anything),
        row_mm=st.one_of(st.none(), anything),
        column_mm=st.one_of(st.none(), anything),
        earlier_mm=millimeters,
        days_since_earlier=st.one_of(st.none(), anything),
    )
)
def test_whatever_is_given_findings_are_of_known_rules_with_finite_values_and_told_once(exam):
    found = check(exam)
    for finding in found:
        assert finding.rule in RULES
        assert finding.severity in SEVERITIES
        assert math.isfinite(finding.value)
    places = [(finding.rule, finding.measurement, finding.landmark) for finding in found]
    assert len(places) == len(set(places))
    assert [finding.rule for finding in found] == sorted((finding.rule for finding in found), key=RULES.index)


def test_landmarks_at_a_floats_end_are_no_landmarks():
    far = dict.fromkeys(range(1, 9), (1.7e308, -1.7e308))
    assert check(Exam(landmarks=far | {1: (-1.7e308, 1.7e308)}, rows=100, columns=100)) == ()
