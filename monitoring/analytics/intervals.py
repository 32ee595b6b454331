"""Statements that stay right when they are looked at every day, and over many charts at once. Pure.

An ordinary 95 % interval that is read after each exam from 30 to 360 misses the truth at some time in 32 % of runs.
The intervals here hold at all times together: the chance that any of them ever misses is at most 5 %.

Sources: Ville's inequality for the mixture of Bernoulli likelihoods with a uniform prior (rates). Wang H, Ramdas A.
Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance. arXiv:2310.03722 (means).
Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995;57:289-300. Wang R, Ramdas A. False
discovery rate control with e-values. arXiv:2009.02824.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, inf, lgamma, log, sqrt
from typing import Final

from monitoring.domain.statistics import mean

ERROR: Final = 0.05
MEAN_SHOWN_FROM: Final = 20
_PRIOR_EXAMS: Final = 10.0  # where the interval of a mean is narrowest for what it costs: 10 to some hundred exams
_HALVINGS: Final = 60  # more than a float's digits


def rate_interval(exams: int, events: int, error: float = ERROR) -> tuple[float, float]:
    """All rates p with B(1 + s, 1 + n - s) / (p^s (1 - p)^(n - s)) < 1 / ``error``, of s events in n exams.

    Raises ValueError unless 0 <= ``events`` <= ``exams``.
    """
    if not 0 <= events <= exams:
        raise ValueError("events must be 0 to exams")
    without = exams - events
    # In logarithms: the factorials of some hundred exams overflow a float.
    evidence = lgamma(1 + events) + lgamma(1 + without) - lgamma(2 + exams) + log(error)

    def is_in(rate: float) -> bool:
        # 0 log 0 counts as 0, which Python's log refuses.
        return evidence < (events and events * log(rate)) + (without and without * log(1 - rate))

    low, high = 0.0, 1.0
    inside = events / exams if exams else 0.5
    if events:
        low = _edge(inside, 0.0, is_in)
    if without:
        high = _edge(inside, 1.0, is_in)
    return low, high


def _edge(inside: float, outside: float, is_in: Callable[[float], bool]) -> float:
    """Where a condition that holds at ``inside`` ends on the way to ``outside``."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_in(middle) else (inside, middle)
    return outside


def mean_interval(values: Sequence[float], error: float = ERROR) -> tuple[float, float] | None:
    """An interval of the mean of normal values of unknown SD; None before 20 values, where it is of no use."""
    count = len(values)
    if count < MEAN_SHOWN_FROM:
        return None
    centre = mean(values)
    sd = sqrt(fsum((value - centre) ** 2 for value in values) / (count - 1))
    half = sd * mean_half_width(count, error)
    return centre - half, centre + half


def mean_half_width(count: int, error: float = ERROR) -> float:
    """Half of :func:`mean_interval`'s width in standard deviations; infinite for the first nine or so."""
    if not count:
        return inf
    shrunk = _PRIOR_EXAMS / (_PRIOR_EXAMS + count)
    grown = (1 / (error * error * shrunk)) ** (1 / count)
    # So early no interval holds the mean at all times: nothing is better than a number that is taken for one.
    if grown * shrunk >= 1:
        return inf
    return sqrt((count - 1) * (grown - 1) / (1 - grown * shrunk) / count)


def benjamini_hochberg(p_values: Sequence[float], rate: float = ERROR) -> list[int]:
    """Which of several p-values of one planned look are discoveries at a false discovery rate, by their places."""
    ordered = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [rank for rank, at in enumerate(ordered, 1) if p_values[at] <= rate * rank / len(p_values)]
    return sorted(ordered[: max(found, default=0)])


def e_bh(e_values: Sequence[float], rate: float = ERROR) -> list[int]:
    """The same of e-values, whatever they depend on one another: a site's is an event chart's ``e_value``."""
    ordered = sorted(range(len(e_values)), key=e_values.__getitem__, reverse=True)
    found = [rank for rank, at in enumerate(ordered, 1) if e_values[at] * rate * rank >= len(e_values)]
    return sorted(ordered[: max(found, default=0)])
