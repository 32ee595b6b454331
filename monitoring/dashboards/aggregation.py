"""How many images' values become one: statistics, and the periods of whole days that they are taken of.

Each is declared with its InfluxQL, its MetricsQL, and the function that does the same in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from statistics import fmean, stdev
from typing import NamedTuple

from msgspec import Struct

from monitoring.metrics.samples import NANOSECONDS


class TimeRange(NamedTuple):
    """From ``start_ns`` to ``end_ns`` in nanoseconds since 1970 UTC, both of them included, as ``$timeFilter`` does."""

    start_ns: int
    end_ns: int


class Statistic(Struct, frozen=True):
    """How many images' values become one. ``counts``: no image is 0, and else it is nothing.

    In ``influxql`` stands ``{}`` for the field; in ``metricsql`` (empty: MetricsQL has none) ``{by}`` and ``{window}``.
    """

    influxql: str
    metricsql: str
    of: Callable[[Sequence[float]], float | None]
    counts: bool = False


def _nearest_rank(percent: float) -> Callable[[Sequence[float]], float | None]:
    def of(values: Sequence[float]) -> float | None:
        # As InfluxDB rounds: below one half of a rank there is no value.
        rank = math.floor(len(values) * percent / 100 + 0.5) - 1
        return sorted(values)[rank] if 0 <= rank < len(values) else None

    return of


def percentile(percent: float) -> Statistic:
    """InfluxQL's nearest rank, a value that occurred; MetricsQL lies between two, and shows the largest instance's."""
    quantile = f"max{{by}} (quantile_over_time({percent / 100:g}, {{window}}))"
    return Statistic(f"percentile({{}}, {percent:g})", quantile, _nearest_rank(percent))


def _limit_of_agreement(sign: int) -> Statistic:
    def of(values: Sequence[float]) -> float | None:
        # The sample's deviation, as InfluxQL's stddev: MetricsQL's divides by n, so that it has no such limit here.
        return fmean(values) + sign * 1.96 * stdev(values) if len(values) > 1 else None

    return Statistic(f"mean({{}}) {'-+'[sign > 0]} 1.96 * stddev({{}})", "", of)


COUNT = Statistic("count({})", "sum{by} (count_over_time({window}))", len, counts=True)
SUM = Statistic("sum({})", "sum{by} (sum_over_time({window}))", math.fsum, counts=True)
MEAN = Statistic(
    # Not a mean of means: instances with few images would weigh as much as those with many.
    "mean({})", "sum{by} (sum_over_time({window})) / sum{by} (count_over_time({window}))", fmean
)  # fmt: skip
SMALLEST = Statistic("min({})", "min{by} (min_over_time({window}))", min)
LARGEST = Statistic("max({})", "max{by} (max_over_time({window}))", max)
LATEST = Statistic("last({})", "max{by} (last_over_time({window}))", lambda values: values[-1])
"""Of several instances InfluxQL has the latest one's and MetricsQL the largest: ask it by instance."""
LATEST_INSTANT = Statistic(
    "last({}) * 1000", "1000 * max{by} (last_over_time({window}))", lambda values: values[-1] * 1000
)
"""Of what holds Unix seconds: milliseconds, as Grafana wants them."""
LOWER_LIMIT, UPPER_LIMIT = _limit_of_agreement(-1), _limit_of_agreement(+1)


class Period(Struct, frozen=True):
    """A span of whole days of the site's zone; weeks begin on Monday.

    ``influxql`` is its ``time()``. In PromQL a bar shows the ``window`` that contains it: ``offset`` lets it end there.
    The steps that Grafana asks at are whole multiples since 1970-01-01, a Thursday: so a week's bar stands on its
    Thursday, and after a change of the clocks both are an hour off until the page is loaded again. InfluxDB 1 begins
    the week that follows a change an hour late or early.
    """

    days: int
    influxql: str
    window: str
    offset: str

    @property
    def behind(self) -> str:
        """What follows a PromQL selector."""
        return f"[{self.window}] offset {self.offset}"

    def start_ns(self, time_ns: int, zone: tzinfo) -> int:
        """The start of the period that an instant lies in."""
        day = _day(time_ns, zone)
        return _midnight_ns(day - timedelta((day - _A_MONDAY).days % self.days), zone)

    def starts_ns(self, time_range: TimeRange, zone: tzinfo) -> Iterator[int]:
        """The start of each period that lies in the range, also in part."""
        day = _day(self.start_ns(time_range.start_ns, zone), zone)
        while (start := _midnight_ns(day, zone)) <= time_range.end_ns:
            yield start
            day += timedelta(self.days)


_A_MONDAY = date(1970, 1, 5)  # 4 days after 1970 began, which is what InfluxQL's time() is given


def _day(time_ns: int, zone: tzinfo) -> date:
    return datetime.fromtimestamp(time_ns // NANOSECONDS, UTC).astimezone(zone).date()


def _midnight_ns(day: date, zone: tzinfo) -> int:
    # By the zone's own midnight: a day of 23 or 25 hours is a day.
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * NANOSECONDS


DAY = Period(1, "time(1d)", "1d", "-1d")
WEEK = Period(7, "time(7d, 4d)", "7d", "-4d")
FOUR_WEEKS = Period(28, "time(28d, 4d)", "28d", "-4d")
