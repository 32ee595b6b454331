"""Every query of every panel that asks for images, in real servers that hold two instances' sessions of known truth.

The queries are those of the rendered pages, their macros and variables expanded as Grafana does it. What is expected is
computed of the stores' sessions: by the question, and for the panels that matter most, of the records themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import pytest

from monitoring.dashboards.panels import Images
from monitoring.dashboards.questions import PerPeriod, Question, Row, ShareWithin, influxql_rows
from monitoring.metrics.kinds import OWN_MEASUREMENTS
from monitoring.metrics.line_protocol import line
from tests.dashboards.known_site import (
    DAY_MS,
    ZONE,
    Asked,
    KnownSite,
    asked,
    import_and_deliver,
    influxql,
    own_state,
    two_instances,
    wrong,
)
from tests.support.history import History
from tests.support.servers import InfluxDB1, fetch

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
    for measurement in OWN_MEASUREMENTS:
        influxdb.query(f'DROP MEASUREMENT "{measurement}"')
    days = [(start_ms + (2 * day + 1) * DAY_MS // 2) * 1_000_000 for day in range(57)]
    own = [timed for one in instances for timed in own_state(one.labels, days)]
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
