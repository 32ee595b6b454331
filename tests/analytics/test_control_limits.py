"""Against the R package qicharts2 0.8.1."""

from __future__ import annotations

import pytest

from monitoring.analytics.control_limits import exams_between, individuals, times_between

GAPS = [37, 23, 39, 15, 34, 1, 49, 98, 29, 27]


def test_of_gaps_in_exams_the_centre_is_the_median_and_the_limit_is_of_the_mean():
    assert exams_between(GAPS) == pytest.approx((31.5, 0.0, 142.2895), abs=5e-5)
    assert exams_between(GAPS[:2]) is None


def test_times_are_judged_by_their_powers_of_1_over_3_6():
    assert times_between(GAPS) == pytest.approx((28.0040, 0.034267, 253.8634), abs=5e-5)
    assert times_between([0.0, 0.0, 5.0]) is not None  # two events of one instant
    assert times_between(GAPS[:2]) is None


def test_of_single_values_large_moving_ranges_are_left_out_once():
    assert individuals(GAPS, 0.0) == pytest.approx((35.2, 0.0, 116.1693), abs=5e-5)
    values = [10, 12, 11, 13, 10, 30, 12, 11, 10, 12, 13, 11]
    assert individuals(values) == pytest.approx((12.9167, 8.4840, 17.3493), abs=5e-5)
    # None of four ranges is as large as 3.267 of their means: the plain limits.
    assert individuals(values[:5]) == pytest.approx((11.2, 11.2 - 2 * 3 / 1.128, 11.2 + 2 * 3 / 1.128))
    assert individuals([1.0, 2.0]) is None
    shares = individuals([0.0, 0.04, 0.0, 0.02, 0.0, 0.05], 0.0, 1.0)
    assert shares is not None
    assert (shares.low, shares.high < 1.0) == (0.0, True)
