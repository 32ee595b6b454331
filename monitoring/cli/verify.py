"""Asks the site's own backends what the panels ask, and says where they answer otherwise than the store's sessions.

Needs the libraries of the extra ``dashboards``; its caller loads it when it is asked to.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import asdict, replace

from monitoring.analytics.sent_points import NOT_MADE, REFUSED, WAITING, sent_points
from monitoring.cli.common import existing_store
from monitoring.cli.output import console, print_entry
from monitoring.cli.servers import (
    MOST_BYTES,
    MS_NS,
    TOKEN_VARIABLE,
    Backend,
    GrafanaSource,
    RefusedQueryError,
    Shown,
    address,
)  # fmt: skip
from monitoring.cli.words import age, counted, instant, rfc3339_nano
from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.panels import Query, Totals
from monitoring.dashboards.questions import OverRange, Row, Scope, TimedPoint, influxql_rows
from monitoring.dashboards.rendering import INFLUXDB, PROMETHEUS, VICTORIAMETRICS, Site
from monitoring.dashboards.verification import Difference, Held, Sent, Verified, compare, verify
from monitoring.exceptions import ConfigurationError, MonitoringError
from monitoring.influx_client import authorization
from monitoring.metrics import catalogue
from monitoring.metrics.backends import STATES
from monitoring.metrics.line_protocol import Point
from monitoring.metrics.samples import NANOSECONDS
from monitoring.prometheus_client import StoredState
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import InfluxDBConfig, MonitoringConfig, PrometheusConfig, Secret, common_labels, is_used
from monitoring.store import totals
from monitoring.store.clock import DAY_NS
from monitoring.store.location import known_instance
from monitoring.store.outbox import backend_statuses
from monitoring.store.sessions import Store
from monitoring.transport.http import HttpTransport

_SETTLING_NS = 60 * NANOSECONDS  # VictoriaMetrics shows what it was told half a minute ago and earlier
_MEASUREMENTS = sorted({metric.measurement for metric in catalogue.METRICS if metric.measurement})
_PLACES = {
    f"{metric.measurement}_{metric.field}": (metric.measurement, metric.field)
    for metric in catalogue.METRICS
    if metric.measurement and metric.field
}


class InfluxQL(Struct, frozen=True):
    """InfluxDB 1, 2 or 3 by the query API of version 1."""

    backend: Backend | GrafanaSource
    scope: Scope
    time_range: TimeRange
    database: str
    language: str = "influxql"

    def _series(self, query: str) -> list[dict[str, Any]]:
        return self.backend.series(self.database, query)

    def held(self) -> Iterator[TimedPoint]:
        """All points of the scope."""
        where = f"{self.scope.time_filter}{self.scope.influxql_filters}"
        for measurement in _MEASUREMENTS:
            # All points, and not only what panels ask: so a lost point is named, and not just a wrong row.
            for series in self._series(f'SELECT * FROM "{measurement}" WHERE {where} GROUP BY *'):  # noqa: S608
                tags = {name: value for name, value in series.get("tags", {}).items() if value}
                for cells in series["values"]:
                    named = dict(zip(series["columns"], cells, strict=True))
                    time_ns = int(named.pop("time"))
                    fields = {name: value for name, value in named.items() if value is not None}
                    yield TimedPoint(Point(measurement, tags, fields), time_ns)

    def kept_seconds(self) -> float:
        """How long the server keeps points, as far as it tells; infinite where it doesn't."""
        with suppress(MonitoringError):  # a token that may only read isn't told
            for series in self._series(f'SHOW RETENTION POLICIES ON "{self.database}"'):
                for cells in series.get("values", ()):
                    policy = {**series.get("tags", {}), **dict(zip(series["columns"], cells, strict=True))}
                    if policy.get("default"):
                        units = {"h": 3600, "m": 60, "s": 1}
                        parts = re.findall(r"(\d+)([hms])", str(policy["duration"]))
                        return sum(int(number) * units[unit] for number, unit in parts) or math.inf
        return math.inf

    def rows(self, query: Query) -> list[Row] | None:
        """What it answers; None for what it isn't asked."""
        if isinstance(query, Totals):
            return None
        return influxql_rows(query.question, self._series(query.question.influxql(self.scope)))


class MetricsQL(Struct, frozen=True):
    """VictoriaMetrics."""

    backend: Backend | GrafanaSource
    scope: Scope
    time_range: TimeRange
    language: str = "metricsql"

    def held(self) -> Iterator[TimedPoint]:
        """All points of the scope, each with one field."""
        names = "|".join(_MEASUREMENTS)
        selector = f'{{__name__=~"({names})_.+"{self.scope.metricsql_filters}}}'
        points: dict[tuple[str, frozenset[tuple[str, str]], int], dict[str, float]] = {}
        for labels, times_ms, values in self.backend.samples(selector, self.time_range):
            measurement, field = _PLACES.get(labels.pop("__name__"), ("", ""))
            # VictoriaMetrics makes a label of the database that was written to.
            tags = frozenset(pair for pair in labels.items() if pair[0] != "db")
            for time_ms, value in zip(times_ms, values, strict=True):
                points.setdefault((measurement, tags, time_ms * MS_NS), {})[field] = value
        for (measurement, tags, time_ns), fields in points.items():
            if measurement:
                yield TimedPoint(Point(measurement, dict(tags), fields), time_ns)

    def kept_seconds(self) -> float:
        """It doesn't tell."""
        return math.inf

    def rows(self, query: Query) -> list[Row] | None:
        """What it answers at the range's end; what changes along it has other instants here, and isn't compared."""
        # Steps of a graph lie on its own grid, which no store's sessions do.
        if isinstance(query, Totals) or not isinstance(query.question, OverRange):
            return None
        question = query.question
        found: dict[tuple[str, ...], dict[str, float]] = {}
        for column, expression in question.metricsql(self.scope).items():
            for labels, value in self.backend.instant(expression, self.time_range.end_ns):
                tags = tuple(labels.get(name, "") for name in question.by)
                found.setdefault(tags, {})[column] = value
        return [Row(None, dict(zip(question.by, tags, strict=True)), values) for tags, values in found.items()]


class PromQL(Struct, frozen=True):
    """Prometheus. Its answers aren't compared, but for the newest totals: when it was scraped isn't known here."""

    backend: Backend | GrafanaSource
    scope: Scope
    time_range: TimeRange
    wrong: Mapping[str, str] = {}
    """What is wrong with a metric's newest totals, by its name."""

    def totals(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """The newest value of each of the scope's series."""
        # All at once: a few hundred series, in one request.
        selector = f'{{__name__=~"leglength_.+"{self.scope.promql_filters}}}'
        return {
            (labels.pop("__name__"), frozenset(labels.items())): value
            for labels, value in self.backend.instant(selector)
        }

    def problem(self, query: Totals) -> str | None:
        """Why it gives no answer, or a wrong one."""
        expression = query.promql(self.scope)
        for name, words in self.wrong.items():
            if name in expression:
                return words
        try:
            self.backend.instant(expression, self.time_range.end_ns)
        except RefusedQueryError as error:
            return str(error)
        return None


# --- the command --------------------------------------------------------------------------------


class Found(Struct, frozen=True):
    """What was verified, over which range and how many sessions, and against what."""

    verified: Verified
    held: Held
    time_range: TimeRange
    sessions: int
    backends: list[str]

    @property
    def is_good(self) -> bool:
        """Whether no panel differs and no point is lost or changed."""
        return not (self.verified.differ or self.held.lost or self.held.changed)


def verified(
    config: MonitoringConfig, days: int, zone: ZoneInfo, prometheus_url: str | None = None, shown: Shown | None = None
) -> Found:
    """Ask the site's backends, or a Grafana's data sources, what the panels ask, and compare with the store's sessions.

    Raises :class:`MonitoringError` where the store or a backend can't be asked.
    """
    if not is_used(config.influxdb) and prometheus_url is None and shown is None:
        raise ConfigurationError("there is nothing to ask: name influxdb in the settings, or give --prometheus URL")
    # Whole milliseconds, which is what each of the servers can be asked for.
    end_ns = (time.time_ns() - _SETTLING_NS) // MS_NS * MS_NS
    time_range = TimeRange(end_ns - days * DAY_NS, end_ns)
    images, totals, held, names = None, None, Held(), []
    with existing_store(config) as store:
        instance = known_instance(config, store)
        labels = {"instance": instance, **common_labels(config)}
        if config.influxdb is not None and config.influxdb.enabled:
            images = images_of(config.influxdb, Scope.of(time_range, zone.key, **labels), time_range, shown)
        if images is not None:
            if (kept := images.kept_seconds()) < days * 86_400:  # a shard's older points may be there, and may not
                time_range = TimeRange(end_ns - round(kept) * NANOSECONDS, end_ns)
                images = replace(images, scope=Scope.of(time_range, zone.key, **labels), time_range=time_range)
            names.append(images.backend.name)
        sessions = list(sent_points(store, session_writes_builder(config, instance), "influxdb", *time_range))
        if backend := totals_backend(config, prometheus_url, shown):
            totals = totals_of(config, store, labels, backend, time_range, zone.key)
            names.append(backend.name)
    if images is not None:
        step_ns = images.backend.step_ns
        sent = [
            Sent(TimedPoint(point, one.time_ns // step_ns * step_ns), one.excuse)
            for one in sessions
            for point in one.points or ()
        ]
        held = compare(sent, images.held(), step_ns)

    def answer(query: Query) -> list[Row] | str | None:
        if isinstance(query, Totals):
            return None if totals is None else totals.problem(query)
        return None if images is None else images.rows(query)

    language: Any = None if images is None else images.language
    site = Site(images=language, totals=totals is not None, zone=zone.key) if shown is None else shown.site
    found = verify(site, answer, held, time_range, zone, {} if shown is None else shown.outdated)
    return Found(found, held, time_range, len(sessions), names)


def images_of(
    config: InfluxDBConfig, scope: Scope, time_range: TimeRange, shown: Shown | None
) -> InfluxQL | MetricsQL | None:
    """InfluxDB, or VictoriaMetrics where that answers; None where a Grafana's pages have none."""
    if shown is not None:
        if source := shown.sources.get(VICTORIAMETRICS):
            return MetricsQL(source, scope, time_range)
        source = shown.sources.get(INFLUXDB)
        return None if source is None else InfluxQL(source, scope, time_range, config.bucket)
    token = os.environ.get(TOKEN_VARIABLE)
    # A site's own token may be one that can only write.
    reader = config if not token else replace(config, token=Secret(token))
    transport = HttpTransport(config.trust(), MOST_BYTES)
    backend = Backend("influxdb", config.url, authorization(reader), transport, config.timeout)
    if backend.asked("/api/v1/query", query="1").status == 200:  # InfluxDB has no such path
        return MetricsQL(replace(backend, name="VictoriaMetrics", step_ns=MS_NS), scope, time_range)
    return InfluxQL(backend, scope, time_range, config.bucket)


def totals_backend(config: MonitoringConfig, url: str | None, shown: Shown | None) -> Backend | GrafanaSource | None:
    """The Prometheus that is named, or a Grafana's where the settings tell it anything."""
    if url is not None:
        section = config.prometheus or PrometheusConfig()
        transport = HttpTransport(section.trust(), MOST_BYTES)
        return Backend("Prometheus", address("--prometheus", url), {}, transport, section.timeout)
    return None if shown is None or not is_used(config.prometheus) else shown.sources.get(PROMETHEUS)


def totals_of(
    config: MonitoringConfig, store: Store, labels: Mapping[str, str], backend: Backend | GrafanaSource,
    time_range: TimeRange, zone: str,
) -> PromQL:  # fmt: skip
    """Prometheus, and what is wrong with its newest totals: nothing as long as the gateway isn't told of them."""
    section = config.prometheus or PrometheusConfig()
    promql = PromQL(backend, Scope.of(time_range, zone, job=section.job_name, **labels), time_range)
    with store.database.read_transaction() as connection:
        kept = totals.read(connection)
        waits = any(one.pending for one in backend_statuses(connection) if one.name in STATES)
    there = {_place(name, own): value for (name, own), value in promql.totals().items()}
    wrong: dict[str, str] = {}
    # What waits explains a difference; the monitoring's own state is another at each push.
    for family in () if waits else StoredState(kept, {"job": section.job_name, **labels}).collect():
        for sample in family.samples:
            value = there.get(_place(sample.name, sample.labels.items()))
            if value != sample.value and not sample.name.startswith("leglength_monitoring_"):
                words = f"the newest {sample.name} is {'missing' if value is None else f'{value:g}'}"
                wrong.setdefault(sample.name, f"{words}; the store has {sample.value:g}")
    return replace(promql, wrong=wrong)


def _place(name: str, labels: Iterable[tuple[str, str]]) -> tuple[str, frozenset[tuple[str, str]]]:
    """A series; ``le`` is 30.0 or 30, as the servers on the way write it."""
    # Labels that are empty are none, to Prometheus.
    pairs = ((key, f"{float(value):g}" if key == "le" else value) for key, value in labels)
    return name, frozenset(pair for pair in pairs if pair[1])


def as_dict(found: Found) -> dict[str, Any]:
    """JSON-ready."""
    held = found.held
    return {
        "backends": found.backends, "from": rfc3339_nano(found.time_range.start_ns),
        "until": rfc3339_nano(found.time_range.end_ns), "sessions": found.sessions,
        "panels_agree": found.verified.agree, "panels_not_compared": found.verified.not_compared,
        "panels_differ": [asdict(one) for one in found.verified.differ],
        "points": {
            "sent": held.sent, "lost": len(held.lost), "changed": len(held.changed), "excused": dict(held.excused),
            "unknown": held.unknown,
        },
        "lost_since": _earliest(held.lost), "changed_since": _earliest(held.changed),
    }  # fmt: skip


def _earliest(points: Sequence[TimedPoint]) -> str | None:
    return rfc3339_nano(min(timed.time_ns for timed in points)) if points else None


def print_found(found: Found) -> None:
    """The same for a person, with what to do."""
    verified, held = found.verified, found.held
    differ = f"{counted(len(verified.differ), 'panel')} differ{'s' if len(verified.differ) == 1 else ''}"
    days = age((found.time_range.end_ns - found.time_range.start_ns) / NANOSECONDS)
    console.print(
        f"{' and '.join(found.backends)}: {counted(verified.agree, 'panel')} agree, {differ},"
        f" {verified.not_compared} can't be compared ({days}, {counted(found.sessions, 'session')})"
    )
    for one in verified.differ:
        print_entry("differs", f"{one.page}, {one.panel}: {_difference_in_words(one)}")
    for points, word, advice in (
        (held.lost, "lost", "nothing sends them again; `leglength-monitor export` has what their sessions say"),
        (held.changed, "changed", "something else writes to this bucket under this instance, or changed them"),
    ):
        if points:
            last = max(timed.time_ns for timed in points)
            since = f"from {instant(min(timed.time_ns for timed in points))} to {instant(last)} UTC"
            print_entry(word, f"{counted(len(points), 'point')} {since}; {advice}")
    for excuse, count in held.excused.items():
        print_entry("not there", f"{counted(count, 'point')} {_EXCUSES[excuse]}")
    if held.unknown:
        print_entry("unknown", f"{counted(held.unknown, 'point')} of sessions that the store has no more, as after"
                    " an erasure, or of an earlier store; they are counted as they are")  # fmt: skip


_EXCUSES = {
    WAITING: "wait for delivery: `leglength-monitor drain`",
    REFUSED: "were refused and are kept aside: `leglength-monitor drain --requeue-dead` sends them once more",
    NOT_MADE: "were not made, since no log backend was in use: `leglength-monitor drain` makes them",
}


def _difference_in_words(one: Difference) -> str:
    if one.problem:
        return one.problem
    counts = ((one.lost, "lost"), (one.changed, "changed"))
    told = [f"{counted(number, 'point')} {word}" for number, word in counts if number]
    points = ", ".join(told) or "no point is lost or changed, so the query is answered otherwise"
    since = f" since {instant(one.since_ns)} UTC" if one.since_ns is not None else ""
    return f"{counted(one.rows, 'row')} of the answer; {points}{since}"
