"""Two instances whose sessions are all known, in real servers, and the rendered queries as Grafana asks them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from monitoring.analytics.sent_points import sent_points
from monitoring.cli.common import store_to_import_into
from monitoring.cli.drain import drain
from monitoring.config_validator import check_section
from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.panels import Dashboard, Images, Panel, Query
from monitoring.dashboards.questions import Row, TimedPoint
from monitoring.dashboards.rendering import PAGES, Site, chosen, render
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.kinds import OWN_MEASUREMENTS
from monitoring.metrics.line_protocol import Point
from monitoring.records.session_record import SessionRecord
from tests.support.clocks import HANGS_SECONDS
from tests.support.history import INSTANCE, History

ZONE = ZoneInfo("Europe/Zurich")
DAY_MS = 86_400_000
SITES = {
    "influxql": Site(zone=ZONE.key, application=True),
    "influxdb-only": Site(zone=ZONE.key, application=True, totals=False),
    "metricsql": Site(images="metricsql", zone=ZONE.key, application=True),
    "prometheus-only": Site(images=None, zone=ZONE.key, application=True),
}
LABELS = ("instance", "application", "job")


class Instance(NamedTuple):
    """What reports under one name."""

    instance: str
    application: str
    records: Sequence[SessionRecord]

    def section(self, folder: Path, influxdb: Mapping[str, Any]) -> dict[str, Any]:
        """Its settings."""
        prometheus = {"instance": self.instance, "textfile": str(folder / "totals.prom")}
        store = {"path": str(folder), "min_free_mb": 0}
        of_backends = {"influxdb": dict(influxdb), "prometheus": prometheus}
        return {"enabled": True, "application": self.application, "store": store, **of_backends}

    @property
    def labels(self) -> dict[str, str]:
        """What its series bear; its job is named as its application."""
        return {"instance": self.instance, "application": self.application, "job": self.application}


@dataclass(frozen=True)
class KnownSite:
    """Instances, the points that their stores say were sent, and the range that the pages show: it ends with NOW."""

    instances: Sequence[Instance]
    points: Sequence[TimedPoint]
    start_ms: int
    end_ms: int

    @property
    def time_range(self) -> TimeRange:
        """Its range as questions take it."""
        return TimeRange(self.start_ms * 1_000_000, self.end_ms * 1_000_000)

    def selected(self, chosen_values: Mapping[str, str]) -> list[TimedPoint]:
        """The points of the instances whose labels are the chosen ones."""
        of_tags = {name: value for name, value in chosen_values.items() if name != "job"}
        return [one for one in self.points if of_tags.items() <= one.point.tags.items()]


def two_instances(history: History, simulated: Callable[..., History]) -> tuple[Instance, Instance]:
    """The history of 60 days, and another clinic's fewer images, of another application."""
    others = simulated(days=40, seed=7, fewest_a_day=1, most_a_day=3, outage=False).records
    return (
        Instance(INSTANCE, "simulated", ending_with_a_failure(history.records)),
        Instance("simulated-2", "other.legs", ending_with_a_failure(others)),
    )


def ending_with_a_failure(records: Sequence[SessionRecord]) -> Sequence[SessionRecord]:
    """So that the latest image isn't the latest success."""
    last = max(number for number, record in enumerate(records) if record.status != "completed")
    return records[: last + 1]


def import_and_deliver(instances: Iterable[Instance], folder: Path, influxdb: Mapping[str, Any]) -> list[TimedPoint]:
    """Import each instance's sessions into a store of its own and deliver them; the points that its store tells of."""
    found: list[TimedPoint] = []
    for one in instances:
        checked = check_section(one.section(folder / one.instance, influxdb))
        with store_to_import_into(checked.config) as (store, build):
            for record in one.records:
                assert store.commit(record, build)
            sent = sent_points(store, build, "influxdb", 0, 2**62)
            found += [TimedPoint(point, session.time_ns) for session in sent for point in session.points or ()]
        drained, _ = drain(checked, HANGS_SECONDS, lambda line: None)
        assert all(each.is_done for each in drained)
    return found


def own_state(labels: Mapping[str, str], times_ns: Sequence[int]) -> Iterator[TimedPoint]:
    """What a monitoring would have said of itself at these times: totals that grow, each in its own way, and begin anew
    half-way.
    """
    tags = {name: labels[name] for name in ("instance", "application")}
    for measurement in OWN_MEASUREMENTS:
        metrics = [metric for metric in catalogue.METRICS if metric.measurement == measurement]
        for number, own in enumerate(metrics[0].known_series()):
            for count, time_ns in enumerate(times_ns):
                since_new = count - (len(times_ns) // 2 if count * 2 >= len(times_ns) else 0)
                fields = {}
                for order, metric in enumerate(metrics, start=1):
                    steps = since_new * (1 + (number + order) % 3) + (count % 3 == 1)
                    is_instant = metric.name.endswith("timestamp_seconds")
                    # What ends has ended where it is the first, and of the others does so on another day each.
                    days = number * (10 + len(labels["application"]))
                    ahead = days * 86400.0 if metric is catalogue.CERTIFICATE_EXPIRY else -order - number
                    fields[metric.field or ""] = time_ns / 1e9 + ahead if is_instant else float(steps)
                yield TimedPoint(Point(measurement, {**tags, **own}, fields), time_ns)


CHARTS = (
    ("model_difference/atlas/PLL_R_FEM", "clinical", "mm"), ("quality", "clinical", "ratio"),
    ("failed", "operator", "sessions"), ("stage_seconds/load", "operator", "s"),
)  # fmt: skip


def told_by_charts(labels: Mapping[str, str], times_ns: Sequence[int]) -> Iterator[TimedPoint]:
    """What charts would have said at these times: they learn at first, then go through the other states, and some are
    no more in the last third. Each alarmed on some day, and one in three of the alarms was withdrawn.
    """
    common = {name: labels[name] for name in ("instance", "application")}
    for number, (chart, audience, unit) in enumerate(CHARTS):
        tags = {**common, "chart": chart, "audience": audience, "unit": unit}
        for count, time_ns in enumerate(times_ns[: len(times_ns) * 2 // 3] if number % 2 else times_ns):
            fields = {"state": 0.0, "score": (count % 7 - 3.0) * (number + 1), "exams": 2.0 * count}
            if count > 8 + number:
                fields |= {"state": 1.0 + (count // 5 + number) % 4, "limit": 2.5 * (number + 1)}
                fields |= {"detectable_shift": 40.0 / (count + number)}
            yield TimedPoint(Point("leglength_analysis", tags, fields), time_ns)
        for count, time_ns in enumerate(times_ns[number::11]):
            fields = {"size": number - 1.5, "exams": 100.0 + count, "withdrawn": float(count % 3 == 2)}
            yield TimedPoint(Point("leglength_analysis_alarm", tags, fields), time_ns)
    for number, volume in enumerate(chart_metrics.VOLUME.values, start=1):
        for count, time_ns in enumerate(times_ns):  # foreseen sooner and sooner, within sixty days
            days = 31 + len(labels["application"]) - count / 2 + 6 * number
            fields = {"full_timestamp_seconds": time_ns / 1e9 + 86400.0 * days}
            yield TimedPoint(Point("leglength_analysis_disk", {**common, "volume": volume}, fields), time_ns)
    for count, time_ns in enumerate(times_ns):
        for number, audience in enumerate(chart_metrics.AUDIENCE.values):
            fields = {"open": float((count + number) % 4), "found": float(count // (3 + number))}
            yield TimedPoint(Point("leglength_analysis_alarms", {**common, "audience": audience}, fields), time_ns)
        fields = {"last_run_timestamp_seconds": time_ns / 1e9, "sessions": 3.0 * count, "budget_alarms_per_year": 2.0}
        yield TimedPoint(Point("leglength_analysis_look", common, fields), time_ns)


# --- what the pages ask -------------------------------------------------------------------------


class Asked(NamedTuple):
    """One target of a rendered panel, and the query that it was rendered from; a column where it asks for one."""

    page: Dashboard
    panel: Panel
    shown: Mapping[str, Any]
    target: Mapping[str, Any]
    query: Query
    column: str

    @property
    def name(self) -> str:
        """For whom a test fails."""
        return f"{self.page.title}, {self.shown['title']}, {self.target['refId']}"


@cache
def asked(kind: str) -> tuple[Asked, ...]:
    """Every target of every page that is rendered for a kind of site."""
    site, found = SITES[kind], []
    for page in PAGES:
        panels = {panel.id: panel for row in page.rows for panel in row.panels}
        for shown in json.loads(render(page, site))["panels"]:
            if shown["type"] == "row":
                continue
            answer = chosen(panels[shown["id"]], site)
            assert answer is not None
            queries = [each for query in answer.queries for each in _columns(query, site)]
            for target, (query, column) in zip(shown["targets"], queries, strict=True):
                found.append(Asked(page, panels[shown["id"]], shown, target, query, column))
    return tuple(found)


def _columns(query: Query, site: Site) -> list[tuple[Query, str]]:
    if isinstance(query, Images) and site.images == "metricsql":
        return [(query, column) for column in query.question.metricsql(site.scope)]
    return [(query, "")]


ALL = ".+"


def influxql(text: str, site: KnownSite, chosen_values: Mapping[str, str]) -> str:
    """An InfluxQL query with Grafana's macros and variables in it expanded, as Grafana does it."""
    text = text.replace("$timeFilter", f"time >= {site.start_ms}ms and time <= {site.end_ms}ms")
    for name in LABELS:
        text = text.replace(f"${{{name}:regex}}", re.escape(chosen_values[name]) if name in chosen_values else ALL)
    assert not re.search(r"\$[\w{]", text), f"what is this? {text}"
    return text


class Steps(NamedTuple):
    """The instants of a range query, in seconds, both ends included."""

    start: int
    end: int
    step: int


def steps(site: KnownSite, shown: Mapping[str, Any], target: Mapping[str, Any]) -> Steps:
    """What Grafana asks at: whole steps since 1970 by the offset from UTC that holds at the range's end."""
    widest = (site.end_ms - site.start_ms) / 1000 / shown["maxDataPoints"]
    step = max(_rounded(widest), _seconds(target.get("interval", "1s")))
    offset = round((_datetime(site.end_ms).utcoffset() or timedelta()).total_seconds())
    start, end = (math.floor((ms / 1000 + offset) / step) * step - offset for ms in (site.start_ms, site.end_ms))
    return Steps(start, end, step)


def promql(text: str, site: KnownSite, interval: int, chosen_values: Mapping[str, str]) -> str:
    """A PromQL or MetricsQL expression with Grafana's macros and variables in it expanded."""
    text = text.replace("$__range", f"{round((site.end_ms - site.start_ms) / 1000)}s")
    text = text.replace("$__interval", f"{interval}s")
    for name in LABELS:
        value = re.escape(chosen_values[name]).replace("\\", "\\\\") if name in chosen_values else ALL
        text = re.sub(rf"\${name}\b", lambda _, value=value: value, text)
    assert "$" not in text, f"what is this? {text}"
    return text


def _seconds(span: str) -> int:
    return int(span[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span[-1]]


def _rounded(seconds: float) -> int:
    """Grafana's own choice of an interval, of those that occur for weeks and months."""
    bounds = ((450, 300), (750, 600), (1050, 900), (1500, 1200), (2700, 1800))
    return next(interval for bound, interval in bounds if seconds < bound)


def _datetime(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(ZONE)


# --- whether answers are the same ---------------------------------------------------------------


def wrong(expected: Iterable[Row], found: Iterable[Row], digits: int = 14) -> list[tuple[Row | None, Row | None]]:
    """Pairs of expected and found rows that differ, also in their number; values by their leading digits."""
    there: dict[Any, list[Row]] = {}
    for row in found:
        there.setdefault(_place(row), []).append(row)
    pairs: list[tuple[Row | None, Row | None]] = []
    for row in expected:
        rows = there.get(_place(row), [])
        same = next((one for one in rows if _are_equal(row.values, one.values, digits)), None)
        other = same or (rows[0] if rows else None)
        if other is not None:
            rows.remove(other)
        if same is None:
            pairs.append((row, other))
    return pairs + [(None, row) for rows in there.values() for row in rows]


def _place(row: Row) -> Any:
    return row.time_ns, frozenset(pair for pair in row.tags.items() if pair[1])


def _are_equal(one: Mapping[str, float], other: Mapping[str, float], digits: int) -> bool:
    within = 10.0**-digits
    return one.keys() == other.keys() and all(
        math.isclose(other[name], value, rel_tol=within, abs_tol=within) for name, value in one.items()
    )
