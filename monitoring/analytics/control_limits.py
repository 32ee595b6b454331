"""Limits of control charts as pictures: of single values (I), of exams (g) and times (t) between rare events. Pure.

None of them sets a chart's state, since their false alarms are in no budget: a run of months on one side of the centre
(Anhoej's rule) and a value beyond its limits are for people to look at. All is as in the R package qicharts2 0.8.1.
Sources: Wheeler DJ, Chambers DS. Understanding Statistical Process Control. SPC Press 1992 (limits from moving ranges).
Benneyan JC. Number-between g-type statistical quality control charts for monitoring adverse events. Health Care Manag
Sci 2001;4:305-318. Nelson LS. A control chart for parts-per-million nonconforming items. J Qual Technol 1994;26:239-240
(times to the power of 1/3.6). Anhoej J, Olesen AV. Run charts revisited. PLoS One 2014;9:e113825 (runs and crossings).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from math import comb, inf, log2, sqrt
from statistics import median
from typing import Final, NamedTuple

from monitoring.domain.statistics import mean

_OF_MOVING_RANGE: Final = 3 / 1.128  # three SD of values, by the mean of two neighbours' ranges
_LARGE_RANGE: Final = 3.267  # times their mean: a jump, no scatter
_TO_SYMMETRY: Final = 1 / 3.6  # a power under which exponential times are nearly normal
_FEW_CROSSINGS: Final = 0.05


class Limits(NamedTuple):
    """The centre and the natural process limits of values."""

    centre: float
    low: float
    high: float


def individuals(values: Sequence[float], least: float = -inf, most: float = inf) -> Limits | None:
    """I chart: mean -+ 2.66 times the mean moving range, ranges of more than 3.267 means left out once.

    None for two values or less. ``least`` and ``most`` are what a value can be: no share lies below 0.
    """
    ranges = [abs(after - before) for before, after in pairwise(values)]
    if len(ranges) < 2:
        return None
    largest, centre = _LARGE_RANGE * mean(ranges), mean(values)
    reach = _OF_MOVING_RANGE * mean([each for each in ranges if each <= largest])
    return Limits(centre, max(centre - reach, least), min(centre + reach, most))


def exams_between(gaps: Sequence[float]) -> Limits | None:
    """G chart: the median of the exams from one event to the next, and mean -+ 3 SD of geometric numbers.

    Only a gap above the upper limit says something (events became rarer): the lower one is 0 but for even gaps. None
    for two gaps or less.
    """
    if len(gaps) < 3:
        return None
    expected = mean(gaps)
    reach = 3 * sqrt(expected * (expected + 1))
    return Limits(median(gaps), max(expected - reach, 0.0), expected + reach)


def times_between(times: Sequence[float]) -> Limits | None:
    """T chart: the same of times in any unit, as an I chart of their powers of 1/3.6; None for two times or less."""
    found = individuals([time**_TO_SYMMETRY for time in times], 0.0)
    return None if found is None else Limits(*(limit ** (1 / _TO_SYMMETRY) for limit in found))


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
        """Whether either is."""
        return self.longest > self.longest_usual or self.crossings < self.fewest_usual


def runs(values: Sequence[float], centre: float) -> Runs:
    """Anhoej's rules: n values have a run of round(log2 n + 3) at most, and crossings of the 5 % quantile at least.

    The centre is the median for the quantile to be what it says. Of ten values or more; of fewer both rules are blind.
    """
    sides = [len(list(run)) for _, run in groupby(value > centre for value in values if value != centre)]
    count = sum(sides)
    if not count:
        return Runs(0, 0, 0, 0)
    # The smallest number with a binomial probability of .05 or more for as many or fewer of n - 1 changes of side.
    fewest, below = 0, 1
    while below < _FEW_CROSSINGS * 2 ** (count - 1):
        fewest += 1
        below += comb(count - 1, fewest)
    return Runs(max(sides), round(log2(count) + 3), len(sides) - 1, fewest)
