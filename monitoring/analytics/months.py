"""What a chart's picture shows, months or the exams between rare events; and comparisons of one month. Pure.

Neither sets a chart's state: by their usual rules limits over months flag 18 % of unchanged charts of two years.
Sources: Mann HB, Whitney DR. On a test of whether one of two random variables is stochastically larger than the other.
Ann Math Stat 1947;18:50-60, by its normal approximation with the correction for ties. Fisher's exact test, of one side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise
from math import comb, erfc, sqrt
from typing import Final

from msgspec import Struct

from monitoring.analytics.charts import DAY_NS
from monitoring.analytics.material import Period, Placed
from monitoring.analytics.wording import day
from monitoring.domain.statistics import mean

LIMITS_FROM: Final = 6  # of fewer, moving ranges tell no scatter
"""Months, or gaps between events."""
# The normal approximation of the rank sum holds from about there on.
FEWEST_IN_MONTH, FEWEST_BEFORE = 5, 20


class Month(Struct, frozen=True):
    """A calendar month's ``count`` points: their mean, or the share of events.

    ``is_earlier`` is of a segment that is over, ``is_changed`` begins at or after the estimated change of an alarm.
    """

    month: str
    count: int
    value: float
    is_earlier: bool = False
    is_changed: bool = False


class Gap(Struct, frozen=True):
    """From one event to the next, which came on ``day``: so many exams (or days); ``is_changed`` as a month's."""

    day: str
    size: float
    is_changed: bool = False


def month_of(time_ns: int) -> str:
    """``2026-06``, UTC."""
    return _month_of_day(time_ns // DAY_NS)


@lru_cache(maxsize=4_000)
def _month_of_day(number: int) -> str:
    """Asked for each point of each chart, several times."""
    return day(number * DAY_NS)[:7]


def months_between(first: str, last: str) -> int:
    """How many months lie from one to the other."""
    (first_year, first_month), (last_year, last_month) = (map(int, month.split("-")) for month in (first, last))
    return (last_year - first_year) * 12 + last_month - first_month


def by_month(points: Iterable[Placed], segment: str, change_ns: int | None) -> list[Month]:
    """A chart's points by month, those of earlier segments apart; ``segment`` is "" where the chart has none."""
    found: dict[tuple[str, bool], list[float]] = {}
    for time_ns, value, code in points:
        found.setdefault((month_of(time_ns), bool(segment) and code != segment), []).append(value)
    # The whole month: half of a changed one would be taken for what is usual.
    changed_from = None if change_ns is None else month_of(change_ns)
    return [
        Month(month, len(values), mean(values), is_earlier, bool(changed_from and month >= changed_from))
        for (month, is_earlier), values in sorted(found.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]


FEW_A_MONTH: Final = 2
"""With fewer events a month on average, a month's share is mostly that of none or of one."""
FEWEST_GAPS: Final = 3


def gaps(points: Sequence[Placed], change_ns: int | None, in_days: bool) -> list[Gap]:
    """Exams, or days, from each event to the next; none where events are too many for that, or too few."""
    events = [number for number, point in enumerate(points) if point.value > 0]
    months = 1 + months_between(month_of(points[0].time_ns), month_of(points[-1].time_ns)) if points else 0
    # Too many: their share by month says it better. Too few: three points are no picture.
    if len(events) <= FEWEST_GAPS or len(events) >= FEW_A_MONTH * months:
        return []
    found = []
    for before, after in pairwise(events):
        time_ns = points[after].time_ns
        size = (time_ns - points[before].time_ns) / DAY_NS if in_days else float(after - before)
        found.append(Gap(day(time_ns), size, change_ns is not None and time_ns >= change_ns))
    return found


# --- one month against those before -------------------------------------------------------------


def last_whole_month(period: Period, now_ns: int) -> str | None:
    """The last calendar month that lies within a period and is over."""
    end = datetime.fromtimestamp(min(period.end_ns, now_ns) // 1_000_000_000, UTC).date().replace(day=1)
    year, month = divmod(end.year * 12 + end.month - 2, 12)
    return f"{year}-{month + 1:02d}" if date(year, month + 1, 1) >= period.first else None


def p_value(points: Iterable[Placed], segment: str, month: str, is_event: bool) -> float | None:
    """Of a month's points against the earlier ones of the segment: of numbers two-sided, of events "more often".

    None with fewer than 5 points in the month, or 20 before. Points count as independent.
    """
    now, before = [], []
    for time_ns, value, code in points:
        if not segment or code == segment:
            its_month = month_of(time_ns)
            if its_month == month:
                now.append(value)
            elif its_month < month:
                before.append(value)
    if len(now) < FEWEST_IN_MONTH or len(before) < FEWEST_BEFORE:
        return None
    # Fewer events are no concern, and a month without one is common: of one side.
    return _more_often(now, before) if is_event else _otherwise(now, before)


def _otherwise(now: Sequence[float], before: Sequence[float]) -> float:
    ordered, count = sorted((*now, *before)), len(now) + len(before)
    ranks = sum(bisect_left(ordered, value) + bisect_right(ordered, value) + 1 for value in now) / 2
    ties = sum(size**3 - size for size in Counter(ordered).values())
    variance = len(now) * len(before) / 12 * (count + 1 - ties / (count * (count - 1)))
    # All values are equal.
    if variance <= 0:
        return 1.0
    return erfc(abs(ranks - len(now) * (count + 1) / 2) / sqrt(2 * variance))


def _more_often(now: Sequence[float], before: Sequence[float]) -> float:
    events, count = round(sum(now) + sum(before)), len(now) + len(before)
    ways = sum(
        comb(len(now), k) * comb(len(before), events - k) for k in range(round(sum(now)), min(events, len(now)) + 1)
    )
    return ways / comb(count, events)
