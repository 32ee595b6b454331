"""Charts that others use, against published figures: what `make simulate` compares the package's own with."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.comparisons import cusum, cusum_delay, cusum_run_length, cusum_with_estimates, runs

# NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.3: the mean is 325, k .3175.
NIST = [
    324.925, 324.675, 324.725, 324.350, 325.350, 325.225, 324.125, 324.525, 325.225, 324.600, 324.625, 325.150,
    328.325, 327.250, 327.825, 328.500, 326.675, 327.775, 326.875, 328.350,
]  # fmt: skip


def test_a_cusum_as_a_window_is_the_recursion():
    found = cusum(NIST, 325.0, 0.3175)
    assert found[12:] == pytest.approx([3.0075, 4.94, 7.4475, 10.63, 11.9875, 14.445, 16.0025, 19.035], abs=1e-9)
    generator, expected, s = random.Random(1), [], 0.0
    values = [generator.gauss(0, 1) for _ in range(500)]
    for value in values:
        s = max(0.0, s + value - 0.25)
        expected.append(s)
    assert cusum(values, 0.0, 0.25) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("k", "h"), [(0.25, 12.4586), (0.5, 7.0329)])
def test_a_cusum_of_3600_exams_to_a_false_alarm(k, h):
    assert cusum_run_length(k, h) == pytest.approx(3_600, rel=1e-3)


@pytest.mark.parametrize(("k", "h", "of_half", "of_one"), [(0.25, 12.4586, 42.9, 15.6), (0.5, 7.0329, 65.4, 13.7)])
def test_a_cusums_exams_to_an_alarm_after_a_shift(k, h, of_half, of_one):
    assert cusum_delay(k, h, 0.5) == pytest.approx(of_half, abs=0.2)
    assert cusum_delay(k, h, 1.0) == pytest.approx(of_one, abs=0.1)


@pytest.mark.parametrize(("exams", "least", "most"), [(30, 8, 14), (100, 2.5, 4), (300, 1.3, 1.8)])
def test_a_cusum_whose_mean_and_sd_come_from_few_exams_alarms_too_often(exams, least, most):
    for k, h in ((0.25, 12.4586), (0.5, 7.0329)):
        assert least < cusum_with_estimates(k, h, exams, 300, np.random.default_rng(1)) < most


@pytest.mark.parametrize(
    ("count", "longest", "crossings"), [(10, 6, 2), (20, 7, 6), (24, 8, 8), (60, 9, 23), (100, 10, 41)]
)
def test_how_long_a_run_and_how_few_crossings_are_usual(count, longest, crossings):
    found = runs([-1.0, 1.0] * (count // 2), 0.0)
    assert (found.longest_usual, found.fewest_usual) == (longest, crossings)
    assert (found.longest, found.crossings, found.are_unusual) == (1, count - 1, False)


def test_a_long_run_and_few_crossings_are_unusual_and_the_centre_itself_counts_for_neither():
    steady = [1.0, -1.0] * 5
    assert runs([*steady, *[1.0] * 7], 0.0)[::2] == (7, 10)
    assert not runs([*steady, *[1.0] * 7], 0.0).are_unusual
    assert runs([*steady, *[1.0] * 8], 0.0).are_unusual
    assert runs([*[1.0] * 6, *[-1.0] * 6], 0.0)[::2] == (6, 1)
    assert runs([*[1.0] * 6, *[-1.0] * 6], 0.0).are_unusual  # by its crossings alone
    assert runs([1.0, 0.0, 1.0, 0.0, -1.0], 0.0)[::2] == (2, 1)
    assert not runs([0.0, 0.0], 0.0).are_unusual
