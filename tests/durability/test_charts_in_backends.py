"""What the charts say arrives in real backends: once, as it was, after an outage, and only as long as it is so."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from monitoring.metrics import chart_metrics
from monitoring.metrics.samples import NANOSECONDS
from monitoring.store.clock import DAY_NS
from tests.support.exams import BIAS, EXAMS, NOW_NS, exam, exams, writes
from tests.support.hosts import INSTANCE, Host, with_influxdb, with_pushgateway
from tests.support.points import Point
from tests.support.servers import InfluxDB1, Pushgateway, VictoriaMetrics

ALARM, ALARMS, LOOK = "leglength_analysis_alarm", "leglength_analysis_alarms", "leglength_analysis_look"


@pytest.fixture
def site(host: Host) -> Host:
    """A module whose months lie in the store."""
    host.store_folder.mkdir()
    with host.store() as store:
        for record in exams():
            store.commit(record, writes)
    return host


def analyze(host: Host) -> None:
    done = host.monitor("analyze")
    assert (done.returncode, done.stderr) == (0, "")


def by_chart(points: list[Point], field: str) -> dict[str, float]:
    return {point.tags["chart"]: float(point.fields[field]) for point in points if field in point.fields}


def test_influxdb_and_pushgateway_hold_what_a_look_found(
    site: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    site.settings = with_influxdb(site.settings or {}, influxdb1.write_settings())
    site.settings = with_pushgateway(site.settings, pushgateway.url) | {"application": "knees"}
    analyze(site)
    site.drain()
    charts = influxdb1.read_points("leglength_analysis")
    # The command's own clock is read once: all of a look has one instant, which Prometheus is told, too.
    [look] = influxdb1.read_points(LOOK)
    assert {point.time_ns for point in charts} == {look.time_ns}
    assert pushgateway.value("leglength_analysis_last_run_timestamp_seconds") == look.time_ns / NANOSECONDS
    assert all(point.tags["instance"] == INSTANCE and point.tags["application"] == "knees" for point in charts)
    for field in ("state", "score", "limit", "exams", "detectable_shift"):
        pushed = pushgateway.samples(f"leglength_analysis_{field}")
        assert by_chart(charts, field) == {sample.labels["chart"]: sample.value for sample in pushed}
    assert pushgateway.value("leglength_analysis_state", chart=BIAS, audience="clinical") == chart_metrics.STATES.index(
        "alarm"
    )
    opened = pushgateway.value("leglength_analysis_open_alarms", audience="clinical")
    began = influxdb1.read_points(ALARM)
    assert BIAS in {point.tags["chart"] for point in began}
    assert all(point.time_ns % DAY_NS == 0 for point in began)
    assert Counter(point.tags["audience"] for point in began)["clinical"] == opened
    [counts] = [point for point in influxdb1.read_points(ALARMS) if point.tags["audience"] == "clinical"]
    assert counts.fields == {"open": opened, "found": opened}

    # Asked for again and again, by two at once: the same points, each once.
    asked = [["alarms"], ["analyze"], ["analyze", "--json"], ["alarms", "--all"]]
    with ThreadPoolExecutor(2) as pool:
        assert [done.returncode for done in pool.map(lambda words: site.monitor(*words), asked)] == [0, 0, 0, 0]
    site.drain()
    assert influxdb1.read_points("leglength_analysis") == charts
    assert influxdb1.read_points(ALARM) == began
    assert pushgateway.value("leglength_analysis_alarms_total", audience="clinical") == opened

    # Another version is another segment: what isn't charted any more is not told any more.
    with site.store() as store:
        late = exam(EXAMS)
        store.commit(replace(late, models=late.models[::2], application_version="2.0.0"), writes)
    analyze(site)
    site.drain()
    assert pushgateway.value("leglength_analysis_state", chart=BIAS) is None
    assert pushgateway.value("leglength_analysis_exams", chart="quality") == 1
    assert pushgateway.value("leglength_analysis_open_alarms", audience="clinical") == opened
    [latest] = {point.time_ns for point in influxdb1.read_points("leglength_analysis")} - {look.time_ns}
    assert {point.time_ns for point in influxdb1.read_points("leglength_analysis") if point.tags["chart"] == BIAS} == {
        look.time_ns
    }

    # A site that gives the analysis up leaves nothing of it in the gateway but what was counted.
    ended = site.monitor("analyze", "--end")
    assert (ended.returncode, ended.stderr) == (0, "")
    site.drain()
    names = {sample.name for family in pushgateway.families() for sample in family.samples}
    told = {name for name in names if name.startswith("leglength_analysis_")}
    assert told == {"leglength_analysis_alarms_total"}
    analyze(site)
    site.drain()
    assert pushgateway.value("leglength_analysis_exams", chart="quality") == 1
    assert latest > look.time_ns


def test_what_was_found_while_the_backends_were_down_is_delivered_later(
    site: Host, influxdb1_factory: Any, pushgateway_factory: Any
) -> None:
    influxdb1, pushgateway = influxdb1_factory(), pushgateway_factory()
    site.settings = with_influxdb(site.settings or {}, influxdb1.write_settings())
    site.settings = with_pushgateway(site.settings, pushgateway.url)
    influxdb1.stop()
    pushgateway.stop()
    analyze(site)
    waits = site.outbox()["influxdb"].pending  # of the charts alone: nobody made the sessions' lines yet
    assert waits > 30
    assert site.monitor("drain").returncode == 1
    influxdb1.start()
    pushgateway.start()
    site.drain()
    assert site.outbox()["influxdb"].pending == 0
    [look] = influxdb1.read_points(LOOK)
    assert pushgateway.value("leglength_analysis_last_run_timestamp_seconds") == look.time_ns / NANOSECONDS
    arrived = ("leglength_analysis", ALARM, ALARMS, LOOK)
    assert sum(len(influxdb1.read_points(name)) for name in arrived) == waits


def test_victoria_metrics_shows_them_under_the_names_that_prometheus_knows(
    site: Host, victoria_metrics: VictoriaMetrics
) -> None:
    site.settings = with_influxdb(site.settings or {}, victoria_metrics.write_settings())
    analyze(site)
    site.drain()
    [state] = victoria_metrics.query(f'leglength_analysis_state{{chart="{BIAS}"}}')
    number = chart_metrics.STATES.index("alarm")
    assert (state["metric"]["audience"], state["value"][1]) == ("clinical", f"{number}")
    [noticed] = victoria_metrics.query(f'leglength_analysis_detectable_shift{{chart="{BIAS}"}}')
    assert noticed["metric"]["unit"] == "mm"
    assert 0 < float(noticed["value"][1]) < 5
    began = victoria_metrics.values("leglength_analysis_alarm_size")
    [(time_ms, size)] = next(values for (_, labels), values in began.items() if ("chart", BIAS) in labels)
    assert time_ms * 1_000_000 % DAY_NS == 0
    assert size > 4
    assert exam(0).ended_ns < time_ms * 1_000_000 < NOW_NS


def test_a_store_whose_settings_name_no_backend_is_analysed_all_the_same(site: Host) -> None:
    analyze(site)
    assert site.outbox() == {}
    [state] = [
        value
        for (name, labels, _), value in site.totals().items()
        if name == chart_metrics.STATE.name and ("chart", BIAS) in labels
    ]
    assert chart_metrics.STATES[int(state)] == "alarm"
