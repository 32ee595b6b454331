"""What a panel asks of the images, declared once: in InfluxQL, in MetricsQL, and answered from points in memory.

A question names metrics of the catalogue, so that what the catalogue lacks fails at import. ``influxql(scope)`` gives
one query whose columns are the question's; ``metricsql(scope)`` one expression for each column, and none where
MetricsQL has no words for it; ``answer(points, time_range, zone)`` the rows that a server with these very points should
give. How far the two languages may differ from the rows is said at each class.

Sources: the InfluxQL reference of InfluxDB 1.8 and 2, VictoriaMetrics' MetricsQL reference; both tried against servers.
"""

# ruff: noqa: S608 - what these queries are built of is declared here and in the catalogue

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from statistics import fmean
from typing import Any, NamedTuple

from msgspec import Struct

from monitoring.dashboards.aggregation import COUNT, DAY, Period, Statistic, TimeRange
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Metric
from monitoring.metrics.line_protocol import Point
from monitoring.metrics.samples import NANOSECONDS

COMMON_TAGS = ("instance", "site", "application")
"""The tags that every point may carry."""


class TimedPoint(NamedTuple):
    """A point as it was sent, and its time in nanoseconds since 1970 UTC."""

    point: Point
    time_ns: int


class Row(NamedTuple):
    """One row of an answer: the image's time or the period's start (None: the whole range), tags, value by column."""

    time_ns: int | None
    tags: Mapping[str, str]
    values: Mapping[str, float]


class Scope(Struct, frozen=True):
    """What a query is narrowed to: the page's range, zone and variables, or values in their place.

    The filters are written behind others, each with a leading `` AND`` or comma.
    """

    zone: str
    time_filter: str
    range: str
    interval: str
    influxql_filters: str
    metricsql_filters: str
    promql_filters: str

    @classmethod
    def of_variables(cls, zone: str = "UTC", labels: Sequence[str] = ("instance",)) -> Scope:
        """Grafana's macros, and its variables: one for each label, and the job for Prometheus."""
        promql = "".join(f',{label}=~"${label}"' for label in labels)
        return cls(
            zone=zone, time_filter="$timeFilter", range="$__range", interval="$__interval",
            metricsql_filters=promql, promql_filters=f',job=~"$job"{promql}',
            # Quoted, each: `measurement` and `all` are words of InfluxQL's own. Grafana escapes values for a pattern.
            influxql_filters="".join(f' AND "{label}" =~ /^${{{label}:regex}}$/' for label in labels),
        )  # fmt: skip

    @classmethod
    def of(cls, time_range: TimeRange, zone: str = "UTC", interval: str = "1m", **labels: str) -> Scope:
        """Values in place of variables, for whoever asks a server directly, and MetricsQL then at the range's end."""
        promql = "".join(f",{name}={quoted(value)}" for name, value in labels.items())
        # A point knows no job: that is Prometheus' label.
        of_points = {name: value for name, value in labels.items() if name != "job"}
        # Rounded up: a shorter range would leave the first image out.
        seconds = math.ceil((time_range.end_ns - time_range.start_ns) / NANOSECONDS)
        return cls(
            zone=zone, range=f"{seconds}s", interval=interval, promql_filters=promql,
            time_filter=f"time >= {time_range.start_ns} AND time <= {time_range.end_ns}",
            influxql_filters="".join(f" AND {_equals(name, value)}" for name, value in of_points.items()),
            metricsql_filters="".join(f",{name}={quoted(value)}" for name, value in of_points.items()),
        )  # fmt: skip


def quoted(text: str) -> str:
    """A text as a literal of PromQL and MetricsQL."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- questions ----------------------------------------------------------------------------------


class Question(Struct, frozen=True, kw_only=True):
    """What is asked of the images: ``metrics`` by the column that shows them, of one InfluxDB measurement.

    ``by``: the tags that divide the images; ``where``: the values that a tag may have. Raises ValueError for a metric
    that InfluxDB isn't told, for metrics of two measurements, and for tags and closed values that none has.
    """

    metrics: Mapping[str, Metric]
    by: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        # InfluxQL can't compute across measurements: the result is null, without a word.
        if len({metric.measurement for metric in self.metrics.values()}) != 1 or self.measurement == "":
            raise ValueError(f"not of one InfluxDB measurement: {', '.join(self.metrics)}")
        own = [label for metric in self.metrics.values() for label in metric.labels]
        labels = {label.name: label for label in (*own, *catalogue.EXTRA_TAGS.get(self.measurement, ()))}
        for name in (*self.by, *self.where):
            if name not in labels and name not in COMMON_TAGS:
                raise ValueError(f"{self.measurement} has no tag {name}")
        for name, values in self.where.items():
            # A misspelt value of a closed label is seen here, and not as a panel that stays empty.
            if name in labels and labels[name].closed and not set(values) <= set(labels[name].values):
                raise ValueError(f"{self.measurement}: {name} is never {', '.join(values)}")

    @property
    def measurement(self) -> str:
        """The InfluxDB measurement that is asked."""
        return next(iter(self.metrics.values())).measurement or ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the value columns."""
        return tuple(self.metrics)

    def influxql(self, scope: Scope) -> str:
        """The query; each column bears its name."""
        raise NotImplementedError

    def metricsql(self, scope: Scope) -> dict[str, str]:  # noqa: ARG002
        """An expression for each column; empty where MetricsQL can't ask this."""
        return {}

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:
        """The rows, in order of tags and time."""
        raise NotImplementedError

    # What the kinds of questions share.

    def _from(self, scope: Scope, condition: str = "") -> str:
        where = "".join(f" AND {_one_of(name, values)}" for name, values in self.where.items())
        return f'FROM "{self.measurement}" WHERE {scope.time_filter}{scope.influxql_filters}{where}{condition}'

    def _select(self, template: str = "{}") -> str:
        return ", ".join(
            f'{template.replace("{}", _name(metric))} AS "{column}"' for column, metric in self.metrics.items()
        )

    def _group_by(self, *first: str, tags: Sequence[str] | None = None) -> str:
        groups = [*first, *(f'"{tag}"' for tag in (self.by if tags is None else tags))]
        return f" GROUP BY {', '.join(groups)}" if groups else ""

    def _series(self, metric: Metric, scope: Scope) -> str:
        where = "".join(f",{name}=~{quoted('|'.join(map(re.escape, values)))}" for name, values in self.where.items())
        return f"{self.measurement}_{metric.field}{{{(scope.metricsql_filters + where).lstrip(',')}}}"

    def _metricsql(self, scope: Scope, template: str, behind: str) -> dict[str, str]:
        by = f" by ({', '.join(self.by)})" if self.by else ""
        return {
            column: template.replace("{by}", by).replace("{window}", self._series(metric, scope) + behind)
            for column, metric in self.metrics.items()
            if template
        }

    def _images(self, points: Iterable[TimedPoint], time_range: TimeRange) -> Iterator[tuple[tuple[str, ...], Row]]:
        """The points that are asked of, as rows with all of their tags; each with its group's values of ``by``."""
        measurement, (start_ns, end_ns) = self.measurement, (time_range.start_ns, time_range.end_ns)
        asked = [
            timed for timed in points if timed.point.measurement == measurement and start_ns <= timed.time_ns <= end_ns
        ]
        # Both servers answer in the order of time.
        for point, time_ns in sorted(asked, key=lambda timed: timed.time_ns):
            if all(point.tags.get(name, "") in values for name, values in self.where.items()):
                values = {
                    column: float(point.fields[field])
                    for column, metric in self.metrics.items()
                    if (field := metric.field) and field in point.fields
                }
                if values:
                    yield tuple(point.tags.get(name, "") for name in self.by), Row(time_ns, point.tags, values)

    def _grouped(self, points: Iterable[TimedPoint], time_range: TimeRange) -> list[tuple[dict[str, str], list[Row]]]:
        """The images of each group, in order of tags and time."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for key, row in self._images(points, time_range):
            groups.setdefault(key, []).append(row)
        return [(dict(zip(self.by, key, strict=True)), groups[key]) for key in sorted(groups)]

    def _reduced(self, rows: Sequence[Row], statistic: Statistic, at_least: int = 1) -> dict[str, float]:
        found = {}
        for column in self.columns:
            values = [row.values[column] for row in rows if column in row.values]
            value = statistic.of(values) if len(values) >= at_least else None
            if value is not None:
                found[column] = float(value)
        return found


def _name(metric: Metric) -> str:
    return f'"{metric.field}"'


def _one_of(tag: str, values: Sequence[str]) -> str:
    return f"({' OR '.join(_equals(tag, value) for value in values)})"


def _equals(tag: str, value: str) -> str:
    text = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"\"{tag}\" = '{text}'"


class EachImage(Question, frozen=True, kw_only=True):
    """Each image's values. MetricsQL has, of the images in one step, the latest of each series, at the step's end."""

    def influxql(self, scope: Scope) -> str:
        """A series for each group."""
        return f"SELECT {self._select()} {self._from(scope)}{self._group_by()}"

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """Of two instances with equal tags, the largest."""
        # Over the step alone: of a bare name VictoriaMetrics decides by itself how old a value may be.
        return self._metricsql(scope, "max{by} (last_over_time({window}))", f"[{scope.interval}]")

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:  # noqa: ARG002
        """A row for each image."""
        return [row._replace(tags=tags) for tags, rows in self._grouped(points, time_range) for row in rows]


class MovingMean(Question, frozen=True, kw_only=True):
    """The mean of the latest ``images`` images at each of them, none for the first ones: by images and not by time.

    MetricsQL, which counts time only, has none.
    """

    images: int = 20

    def influxql(self, scope: Scope) -> str:
        """A series for each group."""
        return f"SELECT {self._select(f'moving_average({{}}, {self.images})')} {self._from(scope)}{self._group_by()}"

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:  # noqa: ARG002
        """A row for each image from the ``images``-th on."""
        found = []
        for tags, rows in self._grouped(points, time_range):
            seen: dict[str, list[float]] = {column: [] for column in self.columns}
            for row in rows:
                for column, value in row.values.items():
                    seen[column].append(value)
                # None before there are so many: InfluxDB's moving_average begins as late.
                full = {column: seen[column][-self.images :] for column in row.values}
                values = {column: fmean(latest) for column, latest in full.items() if len(latest) == self.images}
                if values:
                    found.append(Row(row.time_ns, tags, values))
        return found


class PerPeriod(Question, frozen=True, kw_only=True):
    """A statistic of each period's images; of fewer than ``at_least`` images nothing.

    A day without images counts 0, from the range's start to its end; a week is left out then, since InfluxDB 1 puts an
    empty one beside the week in which the clocks change. MetricsQL has a bar for no period without images, and its
    periods begin by the offset from UTC that holds at the page's loading.
    """

    statistic: Statistic
    period: Period
    at_least: int = 1

    def influxql(self, scope: Scope) -> str:
        """A series for each group, at the periods' starts."""
        select = self._select(self.statistic.influxql)
        grouped = f"{self._from(scope)}{self._group_by(self.period.influxql)}"
        if self.at_least == 1:
            return f"SELECT {select} {grouped} fill({self._fill}) tz('{scope.zone}')"
        counted = _name(next(iter(self.metrics.values())))
        names = ", ".join(f'"{column}"' for column in self.columns)
        inner = f"SELECT {select}, count({counted}) AS \"n\" {grouped} fill(none) tz('{scope.zone}')"
        # InfluxQL has no HAVING: the number of images is a column of an inner query.
        outer = f'WHERE {scope.time_filter} AND "n" >= {self.at_least}{self._group_by()}'
        return f"SELECT {names} FROM ({inner}) {outer} tz('{scope.zone}')"

    @property
    def _fill(self) -> str:
        # Never previous or linear: what wasn't measured stays missing.
        return "0" if self.statistic.counts and self.period is DAY else "none"

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """To be asked at steps of the period."""
        expressions = self._metricsql(scope, self.statistic.metricsql, self.period.behind)
        if self.at_least == 1:
            return expressions
        enough = self._metricsql(scope, COUNT.metricsql, self.period.behind)
        return {column: f"({text}) if ({enough[column]} >= {self.at_least})" for column, text in expressions.items()}

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:
        """A row for each group's period."""
        found = []
        for tags, rows in self._grouped(points, time_range):
            periods: dict[int, list[Row]] = {}
            if self._fill == "0":
                periods = {start: [] for start in self.period.starts_ns(time_range, zone)}
            for row in rows:
                periods.setdefault(self.period.start_ns(row.time_ns or 0, zone), []).append(row)
            for start, of_period in periods.items():
                values = self._reduced(of_period, self.statistic, 0 if self._fill == "0" else self.at_least)
                if values:
                    found.append(Row(start, tags, values))
        return found


class OverRange(Question, frozen=True, kw_only=True):
    """A statistic of all images of the range, in one row for each group; without an image there is no row, and no 0."""

    statistic: Statistic

    def influxql(self, scope: Scope) -> str:
        """A row for each group, whose time is the range's start and says nothing."""
        return f"SELECT {self._select(self.statistic.influxql)} {self._from(scope)}{self._group_by()}"

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """To be asked once, at the range's end."""
        return self._metricsql(scope, self.statistic.metricsql, f"[{scope.range}]")

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:  # noqa: ARG002
        """A row for each group."""
        groups = self._grouped(points, time_range)
        return [Row(None, tags, values) for tags, rows in groups if (values := self._reduced(rows, self.statistic))]


class Growth(Question, frozen=True, kw_only=True):
    """How much totals have grown over the range, in one row for each group; what a new store begins with is left out.

    For what the monitoring says of itself, where totals are told again and again. MetricsQL counts what a new store, or
    a series that begins within the range, begins with.
    """

    def influxql(self, scope: Scope) -> str:
        """A row for each group."""
        sums = ", ".join(f'sum("{column}") AS "{column}"' for column in self.columns)
        of_series = f"{self._from(scope)}{self._group_by(tags=self._series_tags)}"
        # By each series of its own first: a difference across two would be none of either.
        steps = f"SELECT {self._select('non_negative_difference({})')} {of_series}"
        return f"SELECT {sums} FROM ({steps}) WHERE {scope.time_filter}{self._group_by()}"

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """To be asked once, at the range's end."""
        return self._metricsql(scope, "sum{by} (increase({window}))", f"[{scope.range}]")

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:  # noqa: ARG002
        """A row for each group."""
        steps: dict[tuple[str, ...], dict[str, float]] = {}
        latest: dict[tuple[str, ...], Mapping[str, float]] = {}
        for key, row in self._images(points, time_range):
            series = tuple(row.tags.get(tag, "") for tag in self._series_tags)
            for column, value in row.values.items():
                before = latest.get(series, {}).get(column)
                # A fall is a new store, whose totals begin anew: what it begins with isn't this range's.
                if before is not None and value >= before:
                    group = steps.setdefault(key, {})
                    group[column] = group.get(column, 0.0) + value - before
            latest[series] = {**latest.get(series, {}), **row.values}
        return [Row(None, dict(zip(self.by, key, strict=True)), steps[key]) for key in sorted(steps)]

    @property
    def _series_tags(self) -> tuple[str, ...]:
        return ("instance", *(label.name for label in next(iter(self.metrics.values())).labels))


class ShareWithin(Question, frozen=True, kw_only=True):
    """The share of each period's images whose value is ``bound`` or less; of one metric, in one group."""

    bound: float
    period: Period

    def influxql(self, scope: Scope) -> str:
        """One series, at the periods' starts."""
        # Two aggregates of one query divide only where they come of the same rows; a period without images is 0/0,
        # which InfluxQL takes for 0, and one without images within the bound is null without fill(0).
        field, column = _name(next(iter(self.metrics.values()))), self.columns[0]
        within = f'SELECT {field} AS "within" {self._from(scope, f" AND {field} <= {self.bound:g}")}'
        images = f'SELECT {field} AS "images" {self._from(scope)}'
        counts = f'SELECT count("within") AS "within", count("images") AS "images" FROM ({within}), ({images})'
        grouped = f"WHERE {scope.time_filter}{self._group_by(self.period.influxql)} fill(0) tz('{scope.zone}')"
        ratio = f'SELECT "within" / "images" AS "{column}" FROM ({counts} {grouped})'
        return f"{ratio} WHERE {scope.time_filter} AND \"images\" > 0 tz('{scope.zone}')"

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """To be asked at steps of the period."""
        within = f"sum{{by}} (count_le_over_time({{window}}, {self.bound:g}))"
        return self._metricsql(scope, f"{within} / {COUNT.metricsql}", self.period.behind)

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:
        """A row for each period with images."""
        periods: dict[int, list[float]] = {}
        column = self.columns[0]
        for _, row in self._images(points, time_range):
            start = self.period.start_ns(row.time_ns or 0, zone)
            periods.setdefault(start, []).append(float(row.values[column] <= self.bound))
        return [Row(start, {}, {column: fmean(hits)}) for start, hits in sorted(periods.items())]


class ImageTable(Question, frozen=True, kw_only=True):
    """Single images as the rows of a table, with the tags of ``by``: the latest ``count``, or those of smallest value.

    Which images are meant is known by their times. Images without the first column's value are none of the smallest.
    MetricsQL has none.
    """

    count: int
    smallest: bool = False

    def influxql(self, scope: Scope) -> str:
        """A row for each image: the latest first, the smallest in order of time."""
        first, *others = self.metrics.items()
        rest = "".join(f', {_name(metric)} AS "{column}"' for column, metric in others)
        tags = "".join(f', "{tag}"' for tag in self.by)
        if self.smallest:
            # It keeps the images' times, which aggregates replace by the range's start.
            value = f"bottom({_name(first[1])}, {self.count})"
            return f'SELECT {value} AS "{first[0]}"{rest}{tags} {self._from(scope)}'
        return f"SELECT {self._select()}{tags} {self._from(scope)} ORDER BY time DESC LIMIT {self.count}"

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Row]:  # noqa: ARG002
        """A row for each image, in the order of the query's."""
        column = self.columns[0]
        rows = [
            row._replace(tags=dict(zip(self.by, key, strict=True))) for key, row in self._images(points, time_range)
        ]
        if not self.smallest:
            return rows[::-1][: self.count]
        valued = sorted((row for row in rows if column in row.values), key=lambda row: row.values[column])
        return sorted(valued[: self.count], key=lambda row: row.time_ns or 0)


# --- what servers answer ------------------------------------------------------------------------


def influxql_rows(question: Question, series: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of InfluxDB's answer: the ``series`` of its JSON, asked with ``epoch=ns``. Rows without a value are none."""
    found = []
    for one in series:
        for cells in one.get("values", ()):
            named = dict(zip(one["columns"], cells, strict=True))
            tags = {name: named[name] or "" for name in question.by if name in named} | dict(one.get("tags", {}))
            values = {name: float(named[name]) for name in question.columns if named.get(name) is not None}
            if values:
                found.append(
                    # Of an aggregate over all InfluxDB says the range's start.
                    Row(None if isinstance(question, OverRange | Growth) else int(named["time"]), tags, values)
                )
    return found


def differences(expected: Iterable[Row], found: Iterable[Row]) -> list[tuple[Row | None, Row | None]]:
    """Pairs of (expected, found) rows that differ, None where one has no counterpart.

    Values are the same to 1e-9 of their size, since servers add up in another order; and the starts of periods to an
    hour, by which InfluxDB 1 is off in the week after a change of the clocks.
    """
    of_place = {_place(row): row for row in found}
    differing: list[tuple[Row | None, Row | None]] = []
    for wanted in expected:
        row = next((of_place.pop(place) for place in _places(wanted) if place in of_place), None)
        if row is None or not _has_equal_values(wanted, row):
            differing.append((wanted, row))
    return differing + [(None, row) for row in of_place.values()]


_HOUR_NS, _QUARTER_NS = 3600 * NANOSECONDS, 900 * NANOSECONDS
_Place = tuple[int | None, frozenset[tuple[str, str]]]


def _place(row: Row) -> _Place:
    return row.time_ns, frozenset(row.tags.items())


def _places(wanted: Row) -> list[_Place]:
    time_ns, tags = _place(wanted)
    is_start = time_ns is not None and time_ns % _QUARTER_NS == 0  # of a period: no image ends on a whole quarter
    return [(time_ns, tags), *((time_ns + off, tags) for off in (-_HOUR_NS, _HOUR_NS) if time_ns and is_start)]


def _has_equal_values(wanted: Row, row: Row) -> bool:
    return wanted.values.keys() == row.values.keys() and all(
        math.isclose(row.values[column], value, rel_tol=1e-9, abs_tol=1e-9) for column, value in wanted.values.items()
    )
