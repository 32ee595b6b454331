"""The statistics that the formulas share, against tables and scipy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.domain.statistics import is_number, mean, median, population_std, t_quantile

PROBABILITIES = (0.005, 0.025, 0.05, 0.2, 0.5001, 0.8, 0.95, 0.975, 0.995)


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        (0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 16, 2.120), (0.975, 29, 2.045), (0.975, 60, 2.000),
        (0.975, 99, 1.984), (0.9, 1, 3.078), (0.995, 16, 2.921), (0.995, 120, 2.617), (0.975, 1e7, 1.960),
    ],
)  # fmt: skip
def test_t_quantiles_are_those_of_the_printed_tables(probability, degrees, expected):
    assert t_quantile(probability, degrees) == pytest.approx(expected, abs=5e-4)
    assert t_quantile(1 - probability, degrees) == pytest.approx(-expected, abs=5e-4)


@pytest.mark.parametrize("probability", PROBABILITIES)
@pytest.mark.parametrize(
    ("degrees", "relative_error"),
    [
        (range(1, 3), 1e-12), (range(3, 10), 8e-3), (range(10, 29), 3e-5), (range(29, 500), 2e-7),
        ((1_000, 10_000, 10**7), 1e-12),
    ],
)  # fmt: skip
def test_t_quantiles_are_as_right_as_their_docstring_says(probability, degrees, relative_error):
    found = [t_quantile(probability, count) for count in degrees]
    assert found == pytest.approx([stats.t.ppf(probability, count) for count in degrees], rel=relative_error)


def test_an_interval_that_is_shown_is_right_to_the_figures_that_are_shown():
    """Of 30 pairs or more, two decimals of a mm are printed; their standard deviation is a centimetre at the most."""
    for pairs in range(30, 1000):
        error = abs(t_quantile(0.975, pairs - 1) - stats.t.ppf(0.975, pairs - 1)) * 10.0 / math.sqrt(pairs)
        assert error < 1e-6


@given(st.floats(0.001, 0.999), st.integers(1, 500))
def test_a_t_quantile_of_the_other_side_is_its_negative(probability, degrees):
    found = t_quantile(probability, degrees)
    assert t_quantile(1 - probability, degrees) == pytest.approx(-found, rel=1e-9, abs=1e-12)


def test_the_middle_of_the_t_distribution_is_0():
    assert [t_quantile(0.5, degrees) for degrees in (1, 2, 3, 100)] == [0.0] * 4


@pytest.mark.parametrize(("probability", "degrees"), [(0, 5), (1, 5), (0.5, 0), (math.nan, 5), (0.9, math.nan)])
def test_there_is_no_quantile_of_nonsense(probability, degrees):
    with pytest.raises(ValueError, match="quantile"):
        t_quantile(probability, degrees)


def test_the_order_and_the_size_of_the_summands_changes_no_mean():
    assert mean([1e16, 1.0, -1e16, 1.0]) == mean([1.0, 1.0, 1e16, -1e16]) == 0.5


def test_the_median_is_the_middle_or_the_mean_of_the_two_there():
    assert (median([9.0, 1.0, 2.0]), median([4.0, 1.0, 9.0, 2.0])) == (2.0, 3.0)


def test_the_population_standard_deviation_divides_by_n():
    assert population_std([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == 2.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (1.5, True), (True, False), (None, False), ("1", False), (math.nan, False), (math.inf, False)],
)
def test_a_number_is_finite_and_no_bool(value, expected):
    assert is_number(value) is expected
