from __future__ import annotations

from math import inf, isinf
from statistics import mean, stdev

import pytest

from monitoring.analytics.intervals import benjamini_hochberg, e_bh, mean_half_width, mean_interval, rate_interval

P_VALUES_OF_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719, 0.6528, 0.759, 1.0,
]  # fmt: skip


@pytest.mark.parametrize(
    ("exams", "events", "low", "high"),
    [(30, 0, 0.0, 0.1929), (100, 5, 0.00658, 0.16026), (360, 18, 0.01882, 0.10260)],
)
def test_a_rate(exams, events, low, high):
    assert rate_interval(exams, events) == pytest.approx((low, high), abs=5e-5 if not events else 5e-6)


def test_rates_at_the_ends():
    assert rate_interval(0, 0) == (0.0, 1.0)
    low, high = rate_interval(30, 30)
    assert (low, high) == (pytest.approx(1 - 0.1929, abs=5e-5), 1.0)
    with pytest.raises(ValueError, match="events"):
        rate_interval(3, 4)


def test_a_mean_of_unknown_spread():
    values = [(7 * i % 11) / 10 for i in range(1, 25)]
    found = mean_interval(values)
    assert found is not None
    assert stdev(values) == pytest.approx(0.314850, abs=5e-7)
    assert mean(found) == pytest.approx(0.5)
    assert found[1] - 0.5 == pytest.approx(0.235114, abs=5e-7)


def test_half_widths_in_standard_deviations():
    assert mean_half_width(30) == pytest.approx(0.629, abs=5e-4)
    assert mean_half_width(100) == pytest.approx(0.310, abs=5e-4)
    assert mean_half_width(360) == pytest.approx(0.1665, abs=5e-5)
    assert all(isinf(mean_half_width(count)) for count in range(10))
    assert mean_half_width(10) < inf
    assert mean_interval([1.0] * 19) is None


def test_the_fifteen_p_values_of_1995():
    assert benjamini_hochberg(P_VALUES_OF_1995) == [0, 1, 2, 3]
    assert sum(p <= 0.05 / 15 for p in P_VALUES_OF_1995) == 3  # Bonferroni
    assert benjamini_hochberg([0.9, 0.001]) == [1]
    assert benjamini_hochberg([]) == []
    # One that fails its own step is a discovery where a larger one passes its own.
    assert benjamini_hochberg([0.04, 0.045]) == [0, 1]


def test_e_values_of_five_sites():
    assert e_bh([50, 30, 4, 2, 1], 0.2) == [0, 1]
    assert e_bh([1, 2, 4, 30, 50], 0.2) == [3, 4]
    assert e_bh([1, 1, 1], 0.05) == []
    assert e_bh([20, 20, 1, 1, 1], 0.2) == [0, 1]  # neither alone
