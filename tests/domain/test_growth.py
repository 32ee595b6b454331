from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.domain.growth import TABLES, middle_z_score, nearest_z_score, z_score

# The tables once more, mean(SD) in cm at each birthday from 1 to 18, so that a slip of a digit shows.
WRITTEN_OUT = {
    ("FEM", "M"): (
        "14.48(.628) 18.15(.874) 21.09(1.031) 23.65(1.197) 25.92(1.342) 28.09(1.506) "
        "30.25(1.682) 32.28(1.807) 34.36(1.933) 36.29(2.057) 38.16(2.237) 40.12(2.447) "
        "42.17(2.765) 44.18(2.809) 45.69(2.512) 46.66(2.244) 47.07(2.051) 47.23(1.958)"
    ),
    ("TIB", "M"): (
        "11.60(.620) 14.54(.809) 16.79(.935) 18.67(1.091) 20.46(1.247) 22.12(1.418) "
        "23.76(1.632) 25.38(1.778) 26.99(1.961) 28.53(2.113) 30.10(2.301) 31.75(2.536) "
        "33.49(2.833) 35.18(2.865) 36.38(2.616) 37.04(2.412) 37.22(2.316) 37.29(2.254)"
    ),
    ("FEM", "F"): (
        "14.81(.673) 18.23(.888) 21.29(1.100) 23.92(1.339) 26.32(1.437) 28.52(1.616) "
        "30.60(1.827) 32.72(1.936) 34.71(2.117) 36.72(2.300) 38.81(2.468) 40.74(2.507) "
        "42.31(2.428) 43.14(2.269) 43.47(2.197) 43.58(2.193) 43.60(2.192) 43.63(2.195)"
    ),
    ("TIB", "F"): (
        "11.57(.646) 14.51(.739) 16.81(.893) 18.86(1.144) 20.77(1.300) 22.53(1.458) "
        "24.22(1.640) 25.89(1.786) 27.56(1.993) 29.28(2.193) 31.00(2.384) 32.61(2.424) "
        "33.83(2.374) 34.43(2.228) 34.59(2.173) 34.63(2.151) 34.65(2.158) 34.65(2.161)"
    ),
}


@pytest.mark.parametrize("table", WRITTEN_OUT)
def test_no_digit_of_the_tables_has_slipped(table):
    expected = [entry.rstrip(")").split("(") for entry in WRITTEN_OUT[table].split()]
    assert TABLES[table].mean_cm == tuple(float(mean) for mean, _ in expected)
    assert TABLES[table].sd_cm == tuple(float(sd) for _, sd in expected)


@pytest.mark.parametrize(
    ("bone", "sex", "age", "mean_cm", "sd_cm"),
    [
        ("FEM", "M", 1, 14.48, 0.628), ("FEM", "M", 10, 36.29, 2.057), ("FEM", "M", 18, 47.23, 1.958),
        ("TIB", "M", 1, 11.60, 0.620), ("TIB", "M", 10, 28.53, 2.113), ("TIB", "M", 18, 37.29, 2.254),
        ("FEM", "F", 10, 36.72, 2.300), ("TIB", "F", 10, 29.28, 2.193),
        ("FEM", "F", 18, 43.63, 2.195), ("TIB", "F", 18, 34.65, 2.161),
    ],
)  # fmt: skip
def test_z_counts_standard_deviations_from_the_mean_at_a_birthday(bone, sex, age, mean_cm, sd_cm):
    assert z_score(bone, sex, age, mean_cm * 10) == pytest.approx(0, abs=1e-9)
    assert z_score(bone, sex, age, (mean_cm + 2 * sd_cm) * 10) == pytest.approx(2)
    assert z_score(bone, sex, age, (mean_cm - 3 * sd_cm) * 10) == pytest.approx(-3)


def test_between_birthdays_mean_and_deviation_are_linear():
    mean, sd = (36.29 + 38.16) / 2, (2.057 + 2.237) / 2
    assert z_score("FEM", "M", 10.5, mean * 10) == pytest.approx(0, abs=1e-9)
    assert z_score("FEM", "M", 10.5, (mean + sd) * 10) == pytest.approx(1)
    assert z_score("FEM", "M", 17.75, (47.07 + 0.75 * 0.16) * 10) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("bone", "sex", "age"),
    [
        ("FEM", "M", 0.99), ("FEM", "M", 18.01), ("FEM", "M", -1), ("FEM", "M", math.nan), ("FEM", "M", None),
        ("FEM", "O", 10), ("FEM", None, 10), ("FEM", "", 10), ("LGL", "M", 10), ("", "M", 10),
    ],
)  # fmt: skip
def test_no_z_without_a_table(bone, sex, age):
    assert z_score(bone, sex, age, 300.0) is None
    assert nearest_z_score(bone, sex, age, 300.0) is None


@pytest.mark.parametrize("length", [math.nan, math.inf])
def test_no_z_of_what_is_no_length(length):
    assert z_score("FEM", "M", 10, length) is None
    assert nearest_z_score("FEM", "M", 10, length) is None


def test_every_table_has_18_ages_a_growing_mean_and_a_source_and_girls_are_unverified():
    for (_, sex), table in TABLES.items():
        assert len(table.mean_cm) == len(table.sd_cm) == 18
        assert list(table.mean_cm) == sorted(table.mean_cm)
        assert table.verified == (sex == "M")
        assert "1964" in table.source


def test_boys_femur_is_1_248_to_1_273_tibiae_at_every_age():
    femur, tibia = TABLES["FEM", "M"].mean_cm, TABLES["TIB", "M"].mean_cm
    ratios = [f / t for f, t in zip(femur, tibia, strict=True)]
    assert (round(min(ratios), 3), round(max(ratios), 3)) == (1.248, 1.273)


def test_a_length_that_the_coming_year_reaches_is_not_far_from_any_age():
    assert nearest_z_score("FEM", "M", 10, 370.0) == 0.0
    assert nearest_z_score("FEM", "M", 10, 370.0, span_years=0) == z_score("FEM", "M", 10, 370.0)


def test_a_long_bone_is_judged_by_the_end_of_the_year_and_a_short_one_by_its_beginning():
    assert nearest_z_score("FEM", "M", 10, 500.0) == z_score("FEM", "M", 11, 500.0)
    assert nearest_z_score("FEM", "M", 10, 200.0) == z_score("FEM", "M", 10, 200.0)


def test_a_birthday_within_the_span_can_be_the_nearest():
    assert nearest_z_score("FEM", "M", 13.5, 600.0) == z_score("FEM", "M", 14, 600.0)


def test_the_span_ends_at_18():
    assert nearest_z_score("FEM", "M", 18, 600.0) == z_score("FEM", "M", 18, 600.0)


@given(
    st.sampled_from(list(TABLES)),
    st.floats(1, 18),
    st.floats(50, 700),
    st.floats(0, 3),
    st.floats(0, 1),
)
def test_no_age_within_the_span_is_nearer(table, age, length, span, share):
    bone, sex = table
    nearest = nearest_z_score(bone, sex, age, length, span)
    other = z_score(bone, sex, min(age + span * share, 18), length)
    assert nearest is not None
    assert other is not None
    assert abs(nearest) <= abs(other) + 1e-9


def test_the_middle_of_a_completed_year_is_scored_and_never_set_to_zero():
    middle_mm = (36.29 + 38.16) / 2 * 10
    sd_mm = (2.057 + 2.237) / 2 * 10
    assert middle_z_score("FEM", "M", 10, middle_mm) == pytest.approx(0, abs=1e-9)
    assert middle_z_score("FEM", "M", 10, middle_mm + sd_mm / 4) == pytest.approx(0.25)
    assert nearest_z_score("FEM", "M", 10, middle_mm + sd_mm / 4) == 0.0
    assert middle_z_score("FEM", "M", 17.9, 470.0) == middle_z_score("FEM", "M", 18, 470.0) is not None
    for age in (None, 0, 18.5, math.nan):
        assert middle_z_score("FEM", "M", age, 400.0) is None
    assert middle_z_score("LGL", "M", 10, 400.0) is middle_z_score("FEM", "O", 10, 400.0) is None
