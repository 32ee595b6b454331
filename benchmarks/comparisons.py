"""Charts that the package does without, to compare its own with: CUSUM, and Anhoej's rules for months' values.

A CUSUM needs the mean and SD that data have without a fault: with both taken from 30 exams it alarms 10 to 14 times as
often as it should, which is why the package ranks instead. Anhoej's rules are in no budget of false alarms. Sources:
Page ES. Continuous inspection schemes. Biometrika 1954;41:100-115. Anhoej J, Olesen AV. Run charts revisited. PLoS One
2014;9:e113825; the R package qicharts2 0.8.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from math import comb, log2
from typing import NamedTuple

import numpy as np
from scipy.stats import norm


def cusum(values: Sequence[float], mean: float, k: float) -> list[float]:
    """The upper CUSUM of values against a mean, as a database's window has it: the running sum less its smallest."""
    sums = list(accumulate(value - mean - k for value in values))
    lowest = accumulate(sums, min)
    return [total - min(0.0, low) for total, low in zip(sums, lowest, strict=True)]


def cusum_run_length(k: float, h: float, nodes: int = 100) -> float:
    """ARL of the two-sided CUSUM of standard normal values from 0: the integral equation at Gauss-Legendre nodes."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = (x + 1) * h / 2, w * h / 2
    at = np.concatenate(([0.0], x))  # a sum that would fall below 0 begins at 0 again: a place with a weight of its own
    kernel = norm.pdf(x[None, :] + k - at[:, None]) * w[None, :]
    kernel = np.concatenate((norm.cdf(k - at)[:, None], kernel), axis=1)
    one_sided = np.linalg.solve(np.eye(nodes + 1) - kernel, np.ones(nodes + 1))[0]
    return float(one_sided) / 2  # of two alike sides, each of which begins anew while the other rises


class Runs(NamedTuple):
    """Of the values that aren't the centre itself: the longest run on one side of it, and how often they cross it.

    A longer run than ``longest_usual``, or fewer crossings than ``fewest_usual``, is unusual for values that only
    scatter.
    """

    longest: int
    longest_usual: int
    crossings: int
    fewest_usual: int

    @property
    def are_unusual(self) -> bool:
        return self.longest > self.longest_usual or self.crossings < self.fewest_usual


def runs(values: Sequence[float], centre: float) -> Runs:
    """Anhoej's rules: n values have a run of round(log2 n + 3) at most, and crossings of the 5 % quantile at least.

    The centre is the median for the quantile to be what it says.
    """
    sides = [len(list(run)) for _, run in groupby(value > centre for value in values if value != centre)]
    count = sum(sides)
    if not count:
        return Runs(0, 0, 0, 0)
    # The smallest number with a binomial probability of .05 or more for as many or fewer of n - 1 changes of side.
    fewest, below = 0, 1
    while below < 0.05 * 2 ** (count - 1):
        fewest += 1
        below += comb(count - 1, fewest)
    return Runs(max(sides), round(log2(count) + 3), len(sides) - 1, fewest)
