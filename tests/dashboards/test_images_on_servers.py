"""Every query of every panel that asks for images, in real servers that hold two instances' sessions of known truth.

The queries are those of the rendered pages, their macros and variables expanded as Grafana does it. What is expected is
computed of the stores' sessions: by the question, and for the panels that matter most, of the records themselves.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from monitoring.dashboards.aggregation import COUNT, LARGEST, LATEST, MEAN, SMALLEST, SUM
from monitoring.dashboards.measurements import MEASUREMENT_PAGE
from monitoring.dashboards.panels import Images
from monitoring.dashboards.questions import EachImage, PerPeriod, Question, Row, ShareWithin, TimedPoint, influxql_rows
from monitoring.dashboards.rendering import render
from monitoring.metrics.kinds import ANALYSIS_MEASUREMENTS, OWN_MEASUREMENTS
from monitoring.metrics.line_protocol import line
from tests.dashboards.known_site import (
    DAY_MS,
    SITES,
    ZONE,
    Asked,
    KnownSite,
    asked,
    import_and_deliver,
    influxql,
    own_state,
    promql,
    steps,
    told_by_charts,
    two_instances,
    wrong,
)
from tests.support.history import History
from tests.support.servers import InfluxDB1, VictoriaMetrics, fetch

pytestmark = pytest.mark.servers
HOUR_NS = 3_600_000_000_000
AFTER_THE_CHANGE_NS = 1_792_969_200 * 10**9
"""Monday, 26 October 2026, in Zurich."""


@pytest.fixture(scope="module")
def influxdb() -> Iterator[InfluxDB1]:
    with InfluxDB1() as server:
        yield server


@pytest.fixture(scope="module")
def site(
    history: History,
    simulated: Callable[..., History],
    influxdb: InfluxDB1,
    tmp_path_factory: pytest.TempPathFactory,
) -> KnownSite:
    """Both instances in one bucket: delivered, but for what the monitoring says of itself, which is invented here."""
    instances = two_instances(history, simulated)
    end_ms = round(history.plan.now.timestamp() * 1000)
    start_ms = end_ms - 57 * DAY_MS - 7 * DAY_MS // 24  # amid a day's sessions
    points = import_and_deliver(instances, tmp_path_factory.mktemp("stores"), influxdb.write_settings())
    for measurement in (*OWN_MEASUREMENTS, *ANALYSIS_MEASUREMENTS):
        influxdb.query(f'DROP MEASUREMENT "{measurement}"')
    days = [(start_ms + (2 * day + 1) * DAY_MS // 2) * 1_000_000 for day in range(57)]
    own = [timed for one in instances for said in (own_state, told_by_charts) for timed in said(one.labels, days)]
    lines = "\n".join(line(timed.point, timed.time_ns) for timed in own)
    fetch("POST", f"{influxdb.url}/write?db={influxdb.database}", body=lines.encode())
    return KnownSite(instances, [*points, *own], start_ms, end_ms)


def test_influxdb_has_every_point_that_the_stores_tell_of(site: KnownSite, influxdb: InfluxDB1) -> None:
    for measurement in {timed.point.measurement for timed in site.points}:
        expected = sum(timed.point.measurement == measurement for timed in site.points)
        assert len(influxdb.read_points(measurement)) == expected, measurement


def of_images(kind: str) -> list[tuple[Asked, Question]]:
    return [(one, one.query.question) for one in asked(kind) if isinstance(one.query, Images)]


def influxdb_rows(
    one: Asked, question: Question, site: KnownSite, influxdb: InfluxDB1, chosen: Mapping[str, str]
) -> list[Row]:
    text = influxql(one.target["query"], site, chosen)
    answer = fetch("POST", f"{influxdb.url}/query", fields={"db": influxdb.database, "epoch": "ns", "q": text})
    (result,) = answer.json()["results"]
    assert "error" not in result, f"{one.name}: {result}"
    series = result.get("series", [])
    named = set(re.findall(r"\$tag_(\w+)", one.target["alias"]))
    assert all(named <= each.get("tags", {}).keys() for each in series), (
        f"{one.name} is named by what it isn't grouped by"
    )
    found = influxql_rows(question, series)
    if isinstance(question, PerPeriod | ShareWithin) and question.period.days > 1:
        # InfluxDB 1 begins the week that follows a change of the clocks an hour off.
        early = AFTER_THE_CHANGE_NS - HOUR_NS
        found = [row._replace(time_ns=AFTER_THE_CHANGE_NS) if row.time_ns == early else row for row in found]
    return found


@pytest.mark.parametrize("kind", ["influxql", "influxdb-only"])
def test_every_panels_answer_of_influxdb_is_the_stores_own(kind: str, site: KnownSite, influxdb: InfluxDB1) -> None:
    problems = []
    for one, question in of_images(kind):
        found = influxdb_rows(one, question, site, influxdb, {})
        if not found:
            problems.append(f"{one.name} is empty: {one.target['query']}")
        if differing := wrong(question.answer(site.points, site.time_range, ZONE), found):
            problems.append(f"{one.name}: {len(differing)} rows, as {differing[0]}: {one.target['query']}")
    assert len(of_images(kind)) > 30
    assert not problems, "\n".join(problems)


def marked(kind: str, site: KnownSite) -> tuple[dict[str, Any], set[tuple[int, str, str]]]:
    """The rendered mark of the clinical page, and the alarms that it should be of: when, chart, instance."""
    page = json.loads(render(MEASUREMENT_PAGE, SITES[kind]))
    began = {
        (time_ns, point.tags["chart"], point.tags["instance"])
        for point, time_ns in site.points
        if point.measurement == "leglength_analysis_alarm"
        and point.tags["audience"] == "clinical"
        and not point.fields["withdrawn"]
        and site.time_range.start_ns <= time_ns <= site.time_range.end_ns
    }
    return page["annotations"]["list"][0], began


def test_alarms_are_marked_where_they_began_and_withdrawn_ones_are_not(site: KnownSite, influxdb: InfluxDB1) -> None:
    mark, began = marked("influxql", site)
    text = influxql(mark["target"]["query"], site, {})
    form = {"db": influxdb.database, "epoch": "ns", "q": text}
    (series,) = fetch("POST", f"{influxdb.url}/query", fields=form).json()["results"][0]["series"]
    rows = [dict(zip(series["columns"], values, strict=True)) for values in series["values"]]
    assert {(row["time"], row["chart"], row["instance"]) for row in rows} == began
    assert len(rows) == len(began) > 10
    assert {mark["target"][key] for key in ("titleColumn", "textColumn")} <= rows[0].keys()


def test_what_matters_most_is_what_the_records_say(site: KnownSite, influxdb: InfluxDB1) -> None:
    """Not by way of the questions, whose metrics, tags and statistics might be the wrong ones."""
    first_ns, last_ns = site.time_range
    records = sorted(
        (record for one in site.instances for record in one.records if first_ns <= record.ended_ns <= last_ns),
        key=lambda record: record.ended_ns,
    )
    of_operation = [pair for pair in of_images("influxdb-only") if pair[0].page.uid == "leglength-operation"]
    by_title = {one.panel.title: (one, question) for one, question in of_operation}

    def told(title: str, *tags: str) -> list[tuple[Any, ...]]:
        rows = influxdb_rows(*by_title[title], site, influxdb, {})
        return sorted((row.time_ns, *(row.tags[tag] for tag in tags), *row.values.values()) for row in rows)

    assert told("Duration of each image", "status") == [
        (record.ended_ns, str(record.status), record.duration_seconds) for record in records
    ]
    days = Counter((datetime.fromtimestamp(record.ended_ns // 10**9, ZONE).date(), record.status) for record in records)
    per_day = [
        (datetime.fromtimestamp(at // 10**9, ZONE), status, n) for at, status, n in told("Images a day", "status")
    ]
    assert {(at.date(), status): n for at, status, n in per_day if n} == days
    assert {(at.hour, at.minute) for at, _, _ in per_day} == {(0, 0)}
    assert told("Latest images", "status", "version") == [
        (record.ended_ns, record.status, record.application_version, record.duration_seconds)
        + ((record.landmarks_found,) if record.landmarks_found is not None else ())
        for record in records[-20:]
    ]
    for title, resource, statistic in (
        ("Memory at each image", "process_resident_memory_peak_bytes", "maximum"),
        ("GPU utilisation at each image", "gpu_utilization_ratio/0", "average"),
    ):
        expected = [
            (record.ended_ns, getattr(record.system[resource], statistic)) for record in records if record.system
        ]
        assert [
            row[:1] + row[-4:][:1] if title.startswith("Memory") else (row[0], row[-1]) for row in told(title)
        ] == expected
    (latest,) = told("Last success")
    assert latest[0] == max(record.ended_ns for record in records if record.status == "completed")


def test_instances_and_applications_are_kept_apart(site: KnownSite, influxdb: InfluxDB1) -> None:
    problems = []
    first, second = site.instances
    for chosen in (
        {"instance": first.instance},
        {"application": second.application},
        {"instance": first.instance, "application": second.application},
    ):
        points = site.selected(chosen)
        for one, question in of_images("influxdb-only"):
            found = influxdb_rows(one, question, site, influxdb, chosen)
            if wrong(question.answer(points, site.time_range, ZONE), found) or bool(found) != bool(points):
                problems.append(f"{one.name} of {chosen}")
    assert not problems, "\n".join(problems)


# --- MetricsQL ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def victoria_metrics(site: KnownSite) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        body = "\n".join(line(timed.point, timed.time_ns) for timed in site.points).encode()
        fetch("POST", f"{server.url}/write?db=leglength", body=body)
        server.flush()
        yield server


def test_victoriametrics_marks_alarms_within_an_hour(site: KnownSite, victoria_metrics: VictoriaMetrics) -> None:
    mark, began = marked("metricsql", site)
    at = range(site.start_ms // 3_600_000, site.end_ms // 3_600_000 + 1)
    form = {"query": promql(mark["expr"], site, 3600, {}), "start": f"{at[0] * 3600}", "end": f"{at[-1] * 3600}"}
    found = fetch("POST", f"{victoria_metrics.url}/api/v1/query_range", fields={**form, "step": "1h", "nocache": "1"})
    marks = [
        (round(seconds) // 3600, each["metric"]["chart"], each["metric"]["instance"])
        for each in found.json()["data"]["result"]
        for seconds, _ in each["values"]
    ]
    assert sorted(marks) == sorted((-(-time_ns // HOUR_NS), chart, instance) for time_ns, chart, instance in began)


Series = dict[tuple[tuple[str, ...], str], list[tuple[int, float]]]
Answer = dict[tuple[str, ...], float]


def series_of(question: Question, column: str, points: Iterable[TimedPoint]) -> Series:
    """The values of each series in order of time (ms), by its group and all of its tags."""
    metric, measurement = question.metrics[column], question.measurement
    found: Series = {}
    images = [timed for timed in points if timed.point.measurement == measurement]
    for point, time_ns in sorted(images, key=lambda timed: timed.time_ns):
        is_asked = all(point.tags.get(name, "") in values for name, values in question.where.items())
        if is_asked and metric.field in point.fields:
            key = tuple(point.tags.get(name, "") for name in question.by), repr(sorted(point.tags.items()))
            found.setdefault(key, []).append((time_ns // 1_000_000, float(point.fields[metric.field])))
    return found


def quantile(values: list[float], share: float) -> float:
    """Between the two values that lie about it."""
    ordered = sorted(values)
    below = int(share * (len(ordered) - 1))
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (share * (len(ordered) - 1) - below) * (ordered[above] - ordered[below])


def in_metricsql(question: Question, series: Series, since_ms: int, until_ms: int) -> Answer:
    """What a window's values give: from after its start to its end."""
    groups: dict[tuple[str, ...], list[list[float]]] = {}
    for (group, _), told in series.items():
        if values := [value for ms, value in told if since_ms < ms <= until_ms]:
            groups.setdefault(group, []).append(values)
    found: Answer = {}
    for group, of_series in groups.items():
        together = [value for values in of_series for value in values]
        statistic = getattr(question, "statistic", None)
        if isinstance(question, ShareWithin):
            found[group] = sum(value <= question.bound for value in together) / len(together)
        elif isinstance(question, EachImage) or statistic == LATEST:
            found[group] = max(values[-1] for values in of_series)
        elif statistic in (COUNT, SUM, MEAN, SMALLEST, LARGEST):
            found[group] = float(statistic.of(together))
        else:
            assert "quantile_over_time(0.95" in statistic.metricsql, statistic
            if len(together) >= question.at_least:
                found[group] = max(quantile(values, 0.95) for values in of_series)
    return found


def test_every_panels_answer_of_victoriametrics_is_the_stores_own(
    site: KnownSite, victoria_metrics: VictoriaMetrics
) -> None:
    """To 12 digits, of which it keeps so many; bars by the offset from UTC that holds at the range's end."""
    problems = []
    for one, question in of_images("metricsql"):
        at = steps(site, one.shown, one.target)
        text = promql(one.target["expr"], site, at.step, {})
        series = series_of(question, one.column, site.points)
        form = {"query": text, "nocache": "1"}
        if one.target["instant"]:
            asked_for = {"time": f"{site.end_ms / 1000}"}
            windows = {site.end_ms: (site.start_ms, site.end_ms)}
            answer = fetch("POST", f"{victoria_metrics.url}/api/v1/query", fields=form | asked_for)
        else:
            asked_for = {"start": str(at.start), "end": str(at.end), "step": f"{at.step}s"}
            ahead = {1: DAY_MS, 7: 4 * DAY_MS, 28: 4 * DAY_MS}
            period = question.period.days if isinstance(question, PerPeriod | ShareWithin) else 0
            long_ms = period * DAY_MS or at.step * 1000
            windows = {
                ms: (ms + ahead.get(period, 0) - long_ms, ms + ahead.get(period, 0))
                for ms in range(at.start * 1000, at.end * 1000 + 1, at.step * 1000)
            }
            answer = fetch("POST", f"{victoria_metrics.url}/api/v1/query_range", fields=form | asked_for)
        found = [
            Row(
                round(float(seconds) * 1000),
                {name: each["metric"].get(name, "") for name in question.by},
                {"": float(value)},
            )
            for each in answer.json()["data"]["result"]
            for seconds, value in (each["values"] if "values" in each else [each["value"]])
        ]
        expected = [
            Row(ms, dict(zip(question.by, group, strict=True)), {"": value})
            for ms, window in windows.items()
            for group, value in in_metricsql(question, series, *window).items()
        ]
        if not found:
            problems.append(f"{one.name} is empty: {text}")
        if off := wrong(expected, found, digits=11):
            problems.append(f"{one.name}: {len(off)} of {len(expected)} rows, as {off[0]}: {text}")
    assert len(of_images("metricsql")) > 30
    assert not problems, "\n".join(problems)
