from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from monitoring.domain.agreement import (
    ICC,
    Agreement,
    ReadingError,
    Verdict,
    compare_readings,
    concordance,
    intraclass,
    reading_errors,
    verdict,
)
from tests.support.published import MINI_WRIGHT, SHROUT_FLEISS, WRIGHT

# --- oracles --------------------------------------------------------------------------------------


def test_peak_flow_of_bland_and_altman_1986():
    found = compare_readings(WRIGHT, MINI_WRIGHT, limit_sd=2)
    assert (found.pairs, found.dropped) == (17, 0)
    assert found.bias_mm == pytest.approx(-2.118, abs=5e-4)
    assert found.sd_mm == pytest.approx(38.765, abs=5e-4)
    assert found.lower_limit_mm == pytest.approx(-79.65, abs=5e-3)
    assert found.upper_limit_mm == pytest.approx(75.41, abs=5e-3)
    assert found.bias_se_mm == pytest.approx(9.402, abs=5e-4)
    assert found.bias_low_mm == pytest.approx(-22.05, abs=5e-3)
    assert found.bias_high_mm == pytest.approx(17.81, abs=5e-3)
    assert found.ccc == pytest.approx(0.9427, abs=5e-5)


def test_the_limits_are_1_96_standard_deviations_unless_told():
    found = compare_readings(WRIGHT, MINI_WRIGHT)
    assert found.upper_limit_mm == pytest.approx(-2.117647 + 1.96 * 38.765130, abs=1e-5)


def test_ratings_of_shrout_and_fleiss_1979():
    found = intraclass(SHROUT_FLEISS)
    assert found.icc_1_1 == pytest.approx(0.1657, abs=5e-5)
    assert found.icc_2_1 == pytest.approx(0.2898, abs=5e-5)
    assert found.icc_3_1 == pytest.approx(0.7148, abs=5e-5)


# --- agreement ------------------------------------------------------------------------------------


def test_errors_are_ours_less_the_readers():
    found = compare_readings([302.0, 310.0, 299.0, 320.0], [300.0, 300.0, 300.0, 305.0])
    assert found.bias_mm == pytest.approx((2 + 10 - 1 + 15) / 4)
    assert found.mae_mm == pytest.approx((2 + 10 + 1 + 15) / 4)
    assert found.median_absolute_error_mm == 6.0
    assert (found.beyond_5_mm_ratio, found.beyond_10_mm_ratio) == (0.5, 0.25)


def test_the_median_of_an_odd_number_is_the_middle_one():
    assert compare_readings([1.0, 9.0, 2.0], [0.0, 0.0, 0.0]).median_absolute_error_mm == 2.0


@pytest.mark.parametrize(("ours", "theirs"), [(305.3, 300.3), (300.3, 305.3)])
def test_an_error_of_5_mm_is_not_beyond_5_mm(ours, theirs):
    assert compare_readings([ours], [theirs]).beyond_5_mm_ratio == 0


def test_shares_are_of_errors_beyond_5_and_beyond_10_mm():
    found = compare_readings([300.0, 305.01, 310.0, 289.99], [300.0] * 4)
    assert (found.beyond_5_mm_ratio, found.beyond_10_mm_ratio) == (0.75, 0.25)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, 1e200, "300"])
def test_a_pair_with_a_side_missing_is_dropped_and_counted(missing):
    found = compare_readings([300.0, missing, 310.0, 305.0], [301.0, 300.0, missing, 305.0])
    assert (found.pairs, found.dropped) == (2, 2)
    assert found.bias_mm == -0.5


def test_without_a_pair_everything_is_missing():
    assert compare_readings([None], [300.0]) == Agreement(pairs=0, dropped=1)


def test_one_pair_has_a_bias_and_no_spread():
    found = compare_readings([301.0], [300.0])
    assert (found.bias_mm, found.mae_mm) == (1.0, 1.0)
    assert (found.sd_mm, found.bias_low_mm, found.upper_limit_mm, found.ccc, found.icc) == (None,) * 4 + (ICC(),)


def test_readings_that_do_not_pair_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        compare_readings([1.0, 2.0], [1.0])


def test_readings_that_do_not_vary_have_no_correlation():
    found = compare_readings([300.0, 300.0], [300.0, 300.0])
    assert (found.ccc, found.icc, found.sd_mm) == (None, ICC(), 0.0)


def test_perfect_agreement_correlates_perfectly_and_a_bias_costs_concordance_but_not_consistency():
    readings = [200.0, 250.0, 320.0, 410.0]
    perfect = compare_readings(readings, readings)
    assert (perfect.ccc, perfect.icc.icc_2_1) == (pytest.approx(1), pytest.approx(1))
    biased = compare_readings([value + 50 for value in readings], readings)
    assert biased.icc.icc_3_1 == pytest.approx(1)
    assert biased.icc.icc_2_1 < 0.9
    assert biased.ccc < 0.9


def test_ratings_of_unequal_length_are_an_error_and_too_few_have_no_correlation():
    with pytest.raises(ValueError, match="every rater"):
        intraclass([[1.0, 2.0], [1.0]])
    assert intraclass([]) == intraclass([[1.0, 2.0]]) == intraclass([[1.0], [2.0]]) == ICC()


def test_two_targets_are_enough_to_correlate():
    assert intraclass([[1.0, 1.0], [2.0, 2.0]]) == ICC(1.0, 1.0, 1.0)


lengths = st.floats(50, 700)


@given(st.lists(st.tuples(lengths, lengths), min_size=2, max_size=30))
def test_exchanging_the_sides_turns_the_bias_and_keeps_what_has_no_direction(pairs):
    ours, theirs = zip(*pairs, strict=True)
    one, other = compare_readings(ours, theirs), compare_readings(theirs, ours)
    assert one.bias_mm == pytest.approx(-other.bias_mm)
    assert one.mae_mm == pytest.approx(other.mae_mm)
    assert one.ccc is None or one.ccc == pytest.approx(other.ccc, abs=1e-9)
    assert one.ccc is None or -1 - 1e-9 <= one.ccc <= 1 + 1e-9
    assert one.bias_low_mm <= one.bias_mm <= one.bias_high_mm
    assert one.mae_mm >= abs(one.bias_mm) - 1e-9


def test_concordance_needs_two_pairs():
    assert concordance([(1.0, 2.0)]) is None


# --- thresholds and verdict -----------------------------------------------------------------------


def test_an_error_is_within_a_threshold_that_is_given_in_centimeters():
    ours = {"PLL_R_FEM": 320.0, "PLL_R_TIB": 219.9, "PLL_L_LGL": 551.0, "PLL_L_FEM": None, "height": 5.0}
    reader = {"PLL_R_FEM": 300.0, "PLL_R_TIB": 240.0, "PLL_L_LGL": 500.0, "PLL_L_FEM": 300.0, "height": 4.0}
    assert reading_errors(ours, reader) == (
        ReadingError("PLL_R_FEM", 20.0, 20.0, True),
        ReadingError("PLL_R_TIB", pytest.approx(-20.1), 20.0, False),
        ReadingError("PLL_L_LGL", 51.0, 50.0, False),
    )


def test_each_bone_has_its_own_setting():
    ours, reader = (
        dict.fromkeys(("PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"), 305.0),
        dict.fromkeys(("PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"), 300.0),
    )
    found = reading_errors(ours, reader, {"femur_threshold": 0.4, "total_threshold": 0.6})
    assert [(error.threshold_mm, error.within_threshold) for error in found] == [
        (4.0, False),
        (None, None),
        (6.0, True),
    ]


def test_an_error_that_equals_its_threshold_is_within():
    (error,) = reading_errors({"PLL_R_FEM": 300.3}, {"PLL_R_FEM": 300.0}, {"femur_threshold": 0.03})
    assert error.within_threshold is True


def sample(pairs: int, bias: float = 0.5, sd: float = 2.0, spread: float = 60.0) -> Agreement:
    draw = random.Random(7)
    truth = [draw.gauss(350, spread) for _ in range(pairs)]
    return compare_readings([value + bias + draw.gauss(0, sd) for value in truth], truth)


@pytest.mark.parametrize(
    ("pairs", "status"), [(0, "too_few"), (29, "too_few"), (30, "provisional"), (99, "provisional"), (100, "met")]
)
def test_agreement_is_shown_from_30_pairs_and_judged_from_100(pairs, status):
    assert verdict(sample(pairs)) == Verdict(status)


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        (sample(200, bias=2.2, sd=0.5), ("bias",)),
        (sample(200, sd=4.3), ("mae",)),
        (sample(200, sd=6.0), ("mae", "limits_of_agreement")),
        (sample(200, spread=4.0, sd=2.0), ("icc",)),
        (sample(200, bias=-12.0), ("bias", "mae", "limits_of_agreement")),
    ],
)
def test_a_verdict_names_the_criteria_that_failed(found, failed):
    assert verdict(found) == Verdict("not_met", failed)


ON_THE_LIMITS = Agreement(
    100, 0, bias_mm=-2.0, mae_mm=3.0, lower_limit_mm=-10.0, upper_limit_mm=10.0, icc=ICC(icc_2_1=0.95)
)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, ()),
        ({"bias_mm": -2.01}, ("bias",)),
        ({"mae_mm": 3.01}, ("mae",)),
        ({"lower_limit_mm": -10.01}, ("limits_of_agreement",)),
        ({"upper_limit_mm": 10.01}, ("limits_of_agreement",)),
        ({"icc": ICC(icc_1_1=1.0, icc_2_1=0.9499, icc_3_1=1.0)}, ("icc",)),
    ],
)
def test_a_criterion_is_met_on_its_limit_and_not_beyond(change, failed):
    assert verdict(replace(ON_THE_LIMITS, **change)).failed == failed


def test_a_provisional_verdict_tells_what_fails_so_far():
    assert verdict(sample(50, bias=4.0)) == Verdict("provisional", ("bias", "mae"))


def test_a_criterion_that_can_not_be_judged_is_not_met():
    assert verdict(compare_readings([300.0] * 100, [300.0] * 100)) == Verdict("not_met", ("icc",))
