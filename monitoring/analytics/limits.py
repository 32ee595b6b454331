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
# The smallest shift, in standard deviations, that is found with 80 % within so many exams, once so many were ranked,
# where a false alarm comes once in 3,600. Simulated; again by `make simulate`.
_WITHIN: Final = (15, 30, 60, 90)
_FOUND: Final = {
    50: (1.59, 1.06, 0.85, 0.81), 100: (1.41, 0.92, 0.70, 0.63), 200: (1.29, 0.85, 0.61, 0.53),
    400: (1.25, 0.79, 0.57, 0.48),
}  # fmt: skip
MULTIPLES: Final = (2.0, 3.0, 5.0, 10.0)
# Mean exams to an alarm where the true rate is so many times the accepted one, at one false alarm in 3,600. Simulated.
_EVENT_DELAYS: Final = {
    0.01: (536, 229, 98, 38), 0.02: (335, 136, 56, 21), 0.05: (173, 63, 26, 9), 0.10: (92, 33, 13, 5),
}  # fmt: skip


def alarm_once_in(charts: int, points_a_year: float, false_alarms_a_year: float = FALSE_ALARMS_A_YEAR) -> float:
    """A chart's share of the one budget: the points in which it may alarm once for nothing, 360 at the least."""
    return max(charts * points_a_year / false_alarms_a_year, SHORTEST)


def limit(every: float, weight: float = WEIGHT) -> float:
    """L: an alarm is |z| > L sqrt(weight / (2 - weight)). Interpolated in ln ``every``, and so extended upwards."""
    return _interpolated(_LIMITS[weight], max(every, SHORTEST))


def detectable_shift(exams: int, within: int = 30, every: float = 3_600.0) -> float | None:
    """The smallest shift, in SD, that is found with 80 % within 15, 30, 60 or 90 exams; None before exam 50.

    Interpolated in ln ``exams``; for another ``every`` in proportion to the limit. From 400 exams on it stays.
    """
    if exams < min(_FOUND):
        return None
    column = _WITHIN.index(within)
    found = _interpolated({ranked: shifts[column] for ranked, shifts in _FOUND.items()}, min(exams, max(_FOUND)))
    return found * limit(every) / limit(3_600.0)


def exams_to_alarm(accepted: float, multiple: float) -> float:
    """Mean exams until an event chart tells that the rate is 2, 3, 5 or 10 times the accepted one, at A = 3,600.

    Interpolated in the logarithms of both; an ``accepted`` rate outside 0.01 to 0.1 is taken as the nearest of these.
    """
    column = MULTIPLES.index(multiple)
    table = {rate: log(delays[column]) for rate, delays in _EVENT_DELAYS.items()}
    return exp(_interpolated(table, min(max(accepted, min(table)), max(table))))


def _interpolated(table: Mapping[Any, float], at: float) -> float:
    """Between a table's rows, in the logarithm of its key; beyond its end with its last slope."""
    keys = sorted(table)
    upper = min(max(bisect_left(keys, at), 1), len(keys) - 1)
    low, high = keys[upper - 1], keys[upper]
    share = log(at / low) / log(high / low)
    return table[low] + share * (table[high] - table[low])
