"""What the machine comes to: the day a volume will be full, and the memory that versions of the application take. Pure.

A forecast is told where the trend is clear, beside the charts and outside their budget: it is no alarm, and holds only
if the volume goes on to fill as it did. Of each volume the least free space of each UTC day with sessions is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, sqrt
from statistics import NormalDist, median
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from monitoring.analytics.charts import DAY_NS, NumberChart

WINDOW_DAYS: Final = 42
"""A trend is of the last six weeks at most: a store that has reached its limits grows no further."""
FEWEST_DAYS: Final = 10
# Two weeks, so that a weekly rhythm is in it whole.
SHORTEST_DAYS: Final = 14
HORIZON_DAYS: Final = 60
_FRESH_DAYS: Final = 7  # else the trend is of a volume that may be another by now
_JUMP: Final = 5.0  # times the usual change of a day
_SMALLEST_JUMP: Final = 0.01  # of what was free
# Beyond, the variance would grow without end on a handful of days.
_LARGEST_CORRELATION: Final = 0.95
_FEWEST_COMPARED: Final = 20

DayFree = dict[int, float]
"""The least free bytes of each day (since 1970-01-01, UTC)."""


class Trend(NamedTuple):
    """A line by Theil and Sen: ``slope`` with its interval, about the point (``x``, ``y``) of the medians."""

    slope: float
    low: float
    high: float
    x: float
    y: float


class Disk(Struct, frozen=True):
    """A volume: what was free at the least on its last day, and since when its present trend is looked at (UTC ns).

    Where that is clear, it loses ``bytes_a_day`` and will be full at ``full_ns``; with about 95 % between
    ``earliest_ns`` and ``latest_ns`` where it goes on along a line, and with 75 % where each day adds a random amount.
    ``is_watched`` is whether there were days enough, and recent ones, to look for a trend.
    """

    volume: str
    free_bytes: float
    last_ns: int
    since_ns: int
    bytes_a_day: float | None = None
    full_ns: int | None = None
    earliest_ns: int | None = None
    latest_ns: int | None = None
    is_watched: bool = False


class MemoryOfSegment(Struct, frozen=True):
    """A chart of memory in the present segment: the median, and by how much an earlier segment's differs from it.

    They are compared within one stratum, the one of which both have most exams: another mix of image sizes is no other
    memory. Without such a segment there is no difference.
    """

    chart: str
    segment: str
    exams: int
    median_bytes: float
    before_segment: str | None = None
    difference_bytes: float | None = None


class Ending(Struct, frozen=True):
    """When a certificate, or the token, ends that deliveries to a backend depend on (UTC ns)."""

    backend: str
    kind: str
    ends_ns: int


class Machines(Struct, frozen=True):
    """What is known of the machine, and of what its deliveries depend on."""

    disks: tuple[Disk, ...] = ()
    memory: tuple[MemoryOfSegment, ...] = ()
    endings: tuple[Ending, ...] = ()


# --- volumes ------------------------------------------------------------------------------------


def add_free(disks: dict[str, DayFree], volume: str, day: int, free_bytes: float) -> None:
    """Keep a day's least free space, and of the past no more than is looked at; days come in their order."""
    days = disks.setdefault(volume, {})
    if day not in days:
        for past in [each for each in days if each <= day - WINDOW_DAYS]:
            del days[past]
    # The least, since that is how near the end was.
    days[day] = min(free_bytes, days.get(day, inf))


def disk(volume: str, days: Mapping[int, float], today: int) -> Disk:
    """When the volume will be full, where that is clear and within 60 days of today."""
    part = _since_last_jump(sorted(days.items()))
    (first, _), (last, free) = part[0], part[-1]
    found = Disk(volume, free, last * DAY_NS, first * DAY_NS)
    if len(part) < FEWEST_DAYS or last - first < SHORTEST_DAYS or today - last > _FRESH_DAYS:
        return found
    found = replace(found, is_watched=True)
    trend = theil_sen([day for day, _ in part], [value for _, value in part], is_dependent=True)
    if trend.high >= 0:  # it may as well stand still
        return found
    # A line that is at nothing by the last day overlooks what was free then: the loss has become less.
    x, y = (trend.x, trend.y) if trend.x - trend.y / trend.slope > last else (last, free)
    full, earliest, latest = (max(last, x - y / slope) for slope in (trend.slope, trend.low, trend.high))
    if full > today + HORIZON_DAYS:
        return found
    full_ns, earliest_ns, latest_ns = (
        round(day * DAY_NS) for day in (full, earliest, min(latest, full + 10 * HORIZON_DAYS))
    )
    return replace(found, bytes_a_day=-trend.slope, full_ns=full_ns, earliest_ns=earliest_ns, latest_ns=latest_ns)


def _since_last_jump(days: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Without what lies before the last clean-up, other disk or large file: a step that no trend explains.

    Smaller rises are part of the trend, as what a nightly rotation gives back.
    """
    steps = [(now[0] - then[0], now[1] - then[1], then[1]) for then, now in pairwise(days)]
    usual = median(abs(change) / passed for passed, change, _ in steps) if steps else 0.0
    first = 0
    for number, (passed, change, before) in enumerate(steps, 1):
        # A pause explains a larger fall, and no rise.
        explained = _JUMP * usual * (passed if change < 0 else 1)
        if abs(change) > max(explained, _SMALLEST_JUMP * before):
            first = number
    return days[first:]


def theil_sen(x: Sequence[float], y: Sequence[float], confidence: float = 0.95, *, is_dependent: bool = False) -> Trend:
    """The median of all slopes between two points; two different x at the least, each x once.

    The interval is Sen's, of the order statistics that Kendall's tau allows (normal approximation, corrected for ties
    of y). Where neighbours are dependent, tau's variance grows by (1 + r) / (1 - r), r the correlation of neighbouring
    residuals. Sources: Sen PK. J Am Stat Assoc 1968;63:1379-89; for the variance: Hamed KH, Rao AR. J Hydrol
    1998;204:182-96, of which this is the first term for an autoregressive series.
    """
    count = len(x)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(count) for j in range(i + 1, count))
    slope, middle, height = median(slopes), median(x), median(y)
    ties = sum(_kendall(number) for number in Counter(y).values())
    variance = (_kendall(count) - ties) / 18
    if is_dependent:
        residuals = [value - height - slope * (at - middle) for at, value in zip(x, y, strict=True)]
        squares = sum(value * value for value in residuals)
        products = sum(one * other for one, other in pairwise(residuals))
        r = min(max(products / squares, 0.0), _LARGEST_CORRELATION) if squares else 0.0
        variance *= (1 + r) / (1 - r)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(variance)
    low, high = round((len(slopes) - reach) / 2) - 1, round((len(slopes) + reach) / 2)
    return Trend(
        slope,
        slopes[low] if low >= 0 else -inf,
        slopes[high] if high < len(slopes) else inf,
        middle,
        height,
    )


def _kendall(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


# --- memory -------------------------------------------------------------------------------------


def memory(chart: str, segments: Sequence[tuple[str, NumberChart]]) -> MemoryOfSegment:
    """A chart's memory in the last of its segments, whose values are at hand, beside the latest one before that can be
    compared with it.
    """
    code, now = segments[-1]
    # A median, which a single large image doesn't move.
    values = [value for of_stratum in now.earlier.values() for value in of_stratum]
    found = MemoryOfSegment(chart, code, len(values), median(values))
    for code_before, before in reversed(segments[:-1]):
        pairs = [(before.summary(name), now.summary(name)) for name in before.strata if name in now.earlier]
        then, since = max(pairs, key=lambda pair: min(each.count for each in pair), default=(None, None))
        if then and since and min(then.count, since.count) >= _FEWEST_COMPARED:
            return replace(found, before_segment=code_before, difference_bytes=since.median - then.median)
    return found
