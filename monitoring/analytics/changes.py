"""Where a chart changed: after which point, by how much, and in which strata; asked once a limit is crossed. Pure.

A chart crosses its limit some exams after a change, and says no more than that. When it was is estimated then, of the
points that the chart remembers. How large it is, and whether it sits in some strata alone, can be said the better the
more exams have come since: so it is asked at every look, of what was kept of the time before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import fsum, log
from statistics import median
from typing import Final, NamedTuple

from msgspec import Struct

from monitoring.analytics.ranks import score_beside
from monitoring.domain.statistics import mean

FEWEST_BEFORE: Final = 5
WINDOW: Final = 500
"""A change is looked for in so many points before its alarm, and its size told over so many since."""
_PROBABLE: Final = 5.94  # -2 ln(1 - sqrt(.9)): see `change_point`
_KEPT: Final = 40  # so many values, evenly spread, stand for all: 500 before and 500 after would be 250,000 pairs
_SURELY: Final = 20.0  # times likelier, for each stratum: see `_strata`

Past = tuple[int, float, float, str]
"""One point of a chart's last :data:`WINDOW`: its instant (UTC ns), score, value and stratum."""


# --- when ---------------------------------------------------------------------------------------


class Change(NamedTuple):
    """So many points lie before the change; it is at ``earliest`` to ``latest`` with about 90 %."""

    after: int
    earliest: int
    latest: int


Gain = Callable[[float, int, float, int], float]
"""Twice the log likelihood that a change after k points gains: of the sums and numbers before it, and in all."""


def shift_gain(before: float, k: int, total: float, count: int) -> float:
    """Of a shift in the mean of normal scores: (mean before - mean after)^2 k (n - k) / n."""
    return float((before / k - (total - before) / (count - k)) ** 2 * k * (count - k) / count)


def rate_gain(before: float, k: int, total: float, count: int) -> float:
    """Of another rate of events."""
    found = 0.0
    for events, exams in ((before, k), (total - before, count - k)):
        found += sum(part * log(part / exams) for part in (events, exams - events) if part)
    return 2 * found  # without the part that is the same for every k


def change_point(values: Sequence[float], gain: Gain = shift_gain, direction: float = 0.0) -> Change | None:
    """Where the mean changed: after the k of 5 and more points that gains most; None for less than 6 values.

    With a ``direction`` other than 0, where it rose (or fell, below 0); None where it nowhere did.
    The range holds each k whose log likelihood is at most 2.97 below the largest: on either side of the true one the
    ratio is a random walk that ever exceeds x with a probability of exp(-x) or less, and (1 - exp(-2.97))^2 = 0.90.
    """
    count, total, before = len(values), fsum(values), 0.0
    gains = {}
    for k, value in enumerate(values[: count - 1], 1):
        before += value
        if k >= FEWEST_BEFORE and (not direction or ((total - before) / (count - k) - before / k) * direction > 0):
            gains[k] = gain(before, k, total, count)
    if not gains:
        return None
    best = max(gains, key=gains.__getitem__)
    probable = [k for k in gains if gains[k] >= gains[best] - _PROBABLE]
    return Change(best, probable[0], probable[-1])


# --- how large, and where -----------------------------------------------------------------------


class Before(Struct, frozen=True, array_like=True):
    """What a stratum was before a change: of how many exams, and some of their values, evenly spread and sorted.

    Of events the one value is their share.
    """

    exams: int
    values: list[float]


class Extent(Struct, frozen=True):
    """How large a change is, over so many exams since, and in which strata it sits: none where not in some alone."""

    size: float
    exams: int
    strata: tuple[str, ...] = ()


def of_numbers(past: Iterable[Past]) -> dict[str, Before]:
    """What to keep of numbers."""
    return {stratum: Before(len(values), evenly(sorted(values))) for stratum, values in _by_stratum(past).items()}


def of_events(past: Iterable[Past]) -> dict[str, Before]:
    """What to keep of events."""
    return {stratum: Before(len(values), [mean(values)]) for stratum, values in _by_stratum(past).items()}


def evenly(values: Sequence[float]) -> list[float]:
    """Some of the values, from the middle of equal parts."""
    count = min(_KEPT, len(values))
    return [values[(2 * number + 1) * len(values) // (2 * count)] for number in range(count)]


def extent_of_numbers(
    before: Mapping[str, Before], since: Iterable[Past], direction: float, inflation: float = 1.0
) -> Extent:
    """The size is the median difference (Hodges-Lehmann): of means, one hung session among the earlier ones would make
    a slower machine a faster one. Where the change sits in some strata, it is told of these.

    A stratum's mean score among its own values of before has the variance 1 / exams before + 1 / exams since, times
    ``inflation`` where the exams of one day have something in common.
    """
    after = {stratum: values for stratum, values in _by_stratum(since).items() if stratum in before}
    shifts = {}
    for stratum, values in after.items():
        rise = mean([score_beside(before[stratum].values, value) for value in values]) * (1 if direction > 0 else -1)
        weight = 1 / (1 / before[stratum].exams + 1 / len(values)) / inflation
        shifts[stratum] = _Since(weight, weight * rise, 0.0)
    strata = _strata(shifts, _shift_evidence)
    size, exams = 0.0, 0
    for stratum in strata or after:
        values = evenly(sorted(after[stratum]))
        size += median(value - old for value in values for old in before[stratum].values) * len(after[stratum])
        exams += len(after[stratum])
    return Extent(size / max(exams, 1), exams, strata)


def extent_of_events(before: Mapping[str, Before], since: Iterable[Past], accepted: float) -> Extent:
    """The size is the difference of the shares; the accepted one stands for what wasn't before.

    It is of all exams, wherever the change sits: how a session ends may decide of which stratum it is, since one whose
    header nobody could read is of none that is known, so that a stratum's own share may be 1 before and since.
    """
    after = _by_stratum(since)
    # Few exams say little of a share: one event more, in as many exams as usually bring one.
    usual = _share(before.values(), accepted, 1 / accepted)
    found = {}
    for stratum, values in after.items():
        share = _share([before[stratum]] if stratum in before else [], usual, 1 / usual)
        found[stratum] = _Since(len(values), fsum(values), share)
    events = [value for values in after.values() for value in values]
    share = _share(before.values(), 0.0, 0) if before else accepted
    return Extent(mean(events) - share, len(events), _strata(found, _rate_evidence, 0.5))


def _share(of: Iterable[Before], prior: float, weight: float) -> float:
    """Of events, with so many exams more of which the share is ``prior``."""
    counts = [(each.exams, each.exams * each.values[0]) for each in of]
    return (fsum(events for _, events in counts) + weight * prior) / (sum(exams for exams, _ in counts) + weight)


def _by_stratum(past: Iterable[Past]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _, _, value, stratum in past:
        found.setdefault(stratum, []).append(value)
    return dict(sorted(found.items()))  # so that sums are the same to the last digit, whoever came first


class _Since(NamedTuple):
    """Of one stratum since a change: how much its mean weighs, that times the mean, and the mean of before."""

    weight: float
    total: float
    unmoved: float


def _shift_evidence(of: _Since, mean_score: float) -> float:
    """The log likelihood ratio of normal scores that moved to a mean to those that didn't."""
    return mean_score * of.total - of.weight * mean_score * mean_score / 2


def _rate_evidence(of: _Since, share: float) -> float:
    """The same of events that now have a share."""
    without = of.weight - of.total
    return of.total * log(share / of.unmoved) + without * log((1 - share) / (1 - of.unmoved))


def _strata(
    found: Mapping[str, _Since], evidence: Callable[[_Since, float], float], half: float = 0.0
) -> tuple[str, ...]:
    """Those that moved, where others surely didn't: from each one's weight and sum, by likelihood ratios.

    First the strata that moved the most and together gain most give to where: their mean, drawn to the middle of a
    share's range by ``half`` an event and half of none. Then one surely moved where that is 20 K times as likely as
    that it didn't, of K strata, and was surely spared where it is the other way round. Strata are named where one was
    surely spared, and each that is likelier to have moved surely has. Of a change that is everywhere a likelihood ratio
    ever exceeds 20 K for having been spared, at whichever of many looks, with a probability of 1 / (20 K) or less
    (Ville), so that one of K does with 5 % or less, as far as its size is known.
    """
    order = sorted(found, key=lambda stratum: found[stratum].total / found[stratum].weight, reverse=True)
    most = 0.0
    ratios = dict.fromkeys(order, 0.0)
    for count in range(1, len(order) + 1):
        some = [found[stratum] for stratum in order[:count]]
        weight, total = fsum(each.weight for each in some), fsum(each.total for each in some)
        moved_to = (total + half) / (weight + 2 * half)
        gain = fsum(evidence(each, moved_to) for each in some)
        if gain > most and moved_to > fsum(each.weight * each.unmoved for each in some) / weight:
            most, ratios = gain, {stratum: evidence(found[stratum], moved_to) for stratum in order}
    surely = log(_SURELY * max(len(order), 1))
    moved = sorted(stratum for stratum, ratio in ratios.items() if ratio > 0)
    is_clear = moved and min(ratios.values()) <= -surely and min(ratios[stratum] for stratum in moved) >= surely
    return tuple(moved) if is_clear else ()
