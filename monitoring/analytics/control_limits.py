"""Limits of control charts as pictures: of single values (I), of exams (g) and times (t) between rare events. Pure.

None of them sets a chart's state, since their false alarms are in no budget: a value beyond its limits is for people to
look at. All is as in the R package qicharts2 0.8.1.
Sources: Wheeler DJ, Chambers DS. Understanding Statistical Process Control. SPC Press 1992 (limits from moving ranges).
Benneyan JC. Number-between g-type statistical quality control charts for monitoring adverse events. Health Care Manag
Sci 2001;4:305-318. Nelson LS. A control chart for parts-per-million nonconforming items. J Qual Technol 1994;26:239-240
(times to the power of 1/3.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, sqrt
from statistics import median
from typing import Final, NamedTuple

from monitoring.domain.statistics import mean

_OF_MOVING_RANGE: Final = 3 / 1.128  # three SD of values, by the mean of two neighbours' ranges
_LARGE_RANGE: Final = 3.267  # times their mean: a jump, no scatter
_TO_SYMMETRY: Final = 1 / 3.6  # a power under which exponential times are nearly normal


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
