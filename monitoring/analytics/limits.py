"""The one budget of false alarms, the limits that follow from it, and what is noticed under them. Pure.

The tables come from the chart's integral equation and from simulation; ``make simulate`` computes them again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import exp, log
from typing import Any, Final

FALSE_ALARMS_A_YEAR: Final = 2.0
SHORTEST: Final = 360.0
"""Points between false alarms at the least: a chart of few points would else cry wolf to use up its share."""
WEIGHT, DAYS_WEIGHT = 0.05, 0.1
# The limit L of |z| in standard deviations of z, by the mean number of points to a false alarm (the two-sided chart's
# average run length from z = 0, by its integral equation; `make simulate` solves it again).
_LIMITS: Final = {
    WEIGHT: {
        360: 2.478, 720: 2.7597, 1_000: 2.8838, 1_800: 3.0926, 2_700: 3.2281, 3_600: 3.3205, 5_400: 3.4459,
        7_200: 3.5319, 10_800: 3.6492, 18_000: 3.7911, 36_000: 3.9747, 180_000: 4.3684, 1_000_000: 4.7493,
        3_600_000: 5.0138,
    },
    DAYS_WEIGHT: {
        360: 2.6905, 720: 2.9455, 900: 3.0228, 1_800: 3.2503, 3_600: 3.4615, 7_200: 3.6593, 18_000: 3.904,
        36_000: 4.0786, 180_000: 4.4559, 1_000_000: 4.824, 3_600_000: 5.0809,
    },
}  # fmt: skip
WITHIN: Final = 30
"""Exams, or clinic days, within which a shift counts as noticed."""
# The smallest shift, in standard deviations, that is found with 80 % within so many exams (or clinic days), once so
# many were ranked, where a false alarm comes once in 3,600. Simulated; again by `make simulate`.
_WITHIN: Final = (15, 30, 60, 90)
_FOUND: Final = {
    WEIGHT: {
        50: (1.59, 1.06, 0.85, 0.81), 100: (1.41, 0.92, 0.70, 0.63), 200: (1.29, 0.85, 0.61, 0.53),
        400: (1.25, 0.79, 0.57, 0.48),
    },
    DAYS_WEIGHT: {
        50: (1.48, 1.16, 1.01, 0.96), 100: (1.31, 0.96, 0.80, 0.76), 200: (1.23, 0.88, 0.70, 0.64),
        400: (1.19, 0.85, 0.65, 0.58),
    },
}  # fmt: skip
MULTIPLES: Final = (2.0, 3.0, 5.0, 10.0)
_LARGEST_RATE: Final = 0.9
# Mean exams to an alarm where the true rate is so many times the accepted one, by how seldom a false alarm may come and
# the accepted rate. Simulated; again by `make simulate`.
_EVENT_DELAYS: Final = {
    360: {
        0.001: (409, 301, 188, 100), 0.01: (159, 92, 46, 20), 0.02: (121, 62, 29, 13),
        0.05: (75, 34, 15, 6), 0.10: (45, 19, 8), 0.20: (25, 10), 0.40: (11,),
    },
    3_600: {
        0.001: (1868, 1081, 588, 261), 0.01: (536, 229, 98, 38), 0.02: (335, 136, 56, 21),
        0.05: (173, 63, 26, 9), 0.10: (92, 33, 13), 0.20: (45, 16), 0.40: (18,),
    },
    36_000: {
        0.001: (5951, 2741, 1149, 444), 0.01: (1112, 411, 153, 56), 0.02: (647, 225, 86, 30),
        0.05: (292, 98, 36, 12), 0.10: (151, 50, 18), 0.20: (69, 22), 0.40: (24,),
    },
}  # fmt: skip


def alarm_once_in(charts: int, points_a_year: float, false_alarms_a_year: float = FALSE_ALARMS_A_YEAR) -> float:
    """A chart's share of the one budget: the points in which it may alarm once for nothing, 360 at the least."""
    # By its points a year: each chart may alarm for nothing as seldom a year as any other.
    return max(charts * points_a_year / false_alarms_a_year, SHORTEST)


def limit(every: float, weight: float = WEIGHT) -> float:
    """L: an alarm is |z| > L sqrt(weight / (2 - weight)). Interpolated in ln ``every``, and so extended upwards."""
    return _interpolated(_LIMITS[weight], max(every, SHORTEST))


def detectable_shift(ranked: int, within: int = 30, every: float = 3_600.0, weight: float = WEIGHT) -> float | None:
    """The smallest shift, in SD, that is found with 80 % within 15, 30, 60 or 90 exams; None before exam 50.

    With :data:`DAYS_WEIGHT` all of it is clinic days, and the SD that of their points. Interpolated in ln ``ranked``;
    for another ``every`` in proportion to the limit. From 400 on it stays.
    """
    table = _FOUND[weight]
    if ranked < min(table):
        return None
    column = {points: shifts[_WITHIN.index(within)] for points, shifts in table.items()}
    found = _interpolated(column, min(ranked, max(table)))
    return found * limit(every, weight) / limit(3_600.0, weight)


def likelihood_ratios(accepted: float) -> list[tuple[float, float]]:
    """Of each larger rate below 0.9 to the accepted one: without the event, and with it."""
    rates = [accepted * multiple for multiple in MULTIPLES if accepted * multiple < _LARGEST_RATE]
    return [((1 - rate) / (1 - accepted), rate / accepted) for rate in rates]


def exams_to_alarm(accepted: float, multiple: float, every: float = 3_600.0) -> float:
    """Mean exams until an event chart tells that the rate is 2, 3, 5 or 10 times the accepted one.

    Interpolated in the logarithms of all; an ``accepted`` rate below 0.001 is taken as that, and one that can't
    become so many times as large as the largest that can.
    """
    column = MULTIPLES.index(multiple)
    by_every = {}
    for once_in, by_rate in _EVENT_DELAYS.items():
        table = {rate: log(delays[column]) for rate, delays in by_rate.items() if column < len(delays)}
        by_every[once_in] = _interpolated(table, min(max(accepted, min(table)), max(table)))
    return exp(_interpolated(by_every, max(every, SHORTEST)))


def _interpolated(table: Mapping[Any, float], at: float) -> float:
    """Between a table's rows, in the logarithm of its key; beyond its end with its last slope."""
    keys = sorted(table)
    upper = min(max(bisect_left(keys, at), 1), len(keys) - 1)
    low, high = keys[upper - 1], keys[upper]
    share = log(at / low) / log(high / low)
    return table[low] + share * (table[high] - table[low])
