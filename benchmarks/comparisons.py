"""Charts that the package does without, to compare its own with: CUSUM, and Anhoej's rules for months' values.

A CUSUM needs the mean and SD that data have without a fault: with both taken from 30 exams it alarms about ten times as
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
import numpy.typing as npt
from scipy.stats import norm


def cusum(values: Sequence[float], mean: float, k: float) -> list[float]:
    """The upper CUSUM of values against a mean, as a database's window has it: the running sum less its smallest."""
    sums = list(accumulate(value - mean - k for value in values))
    lowest = accumulate(sums, min)
    return [total - min(0.0, low) for total, low in zip(sums, lowest, strict=True)]


def cusum_run_length(k: float, h: float, shift: float = 0.0, sd: float = 1.0) -> float:
    """ARL of the two-sided CUSUM from 0, of normal values with that mean and SD."""
    rates = [1 / _run_lengths(_transitions(k, h, side * shift, sd))[0] for side in (1, -1)]
    return float(1 / sum(rates))  # each side begins anew while the other rises


def cusum_delay(k: float, h: float, shift: float) -> float:
    """Exams to the upper CUSUM's alarm after a shift, in SD, that comes long after its beginning."""
    # Where a sum that hasn't alarmed is in the long run: the left eigenvector of the largest eigenvalue.
    values, vectors = np.linalg.eig(_transitions(k, h, 0.0, 1.0).T)
    before = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    return float(before / before.sum() @ _run_lengths(_transitions(k, h, shift, 1.0)))


def cusum_with_estimates(k: float, h: float, exams: int, sites: int, rng: np.random.Generator) -> float:
    """How many times as often as it should it alarms where each site takes mean and SD from its first ``exams``."""
    means = rng.normal(0, exams**-0.5, sites)
    sds = np.sqrt(rng.chisquare(exams - 1, sites) / (exams - 1))
    lengths = [cusum_run_length(k, h, mean / sd, 1 / sd) for mean, sd in zip(means, sds, strict=True)]
    return float(np.mean(cusum_run_length(k, h) / np.array(lengths)))


def _transitions(k: float, h: float, shift: float, sd: float, nodes: int = 60) -> npt.NDArray[np.float64]:
    """From each place to each: 0, where a sum that would fall below begins again, and Gauss-Legendre nodes up to h."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = (x + 1) * h / 2, w * h / 2
    at = np.concatenate(([0.0], x)) - k
    between = norm.pdf(x[None, :] - at[:, None], shift, sd) * w[None, :]
    return np.concatenate((norm.cdf(-at, shift, sd)[:, None], between), axis=1)


def _run_lengths(transitions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.linalg.solve(np.eye(len(transitions)) - transitions, np.ones(len(transitions)))


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
