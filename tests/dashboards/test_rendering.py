"""The dashboards as Grafana gets them, for every kind of site: whole, without overlaps, without a dead panel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as DashboardModel

from monitoring.dashboards import promql
from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.measurements import MEASUREMENT_PAGE
from monitoring.dashboards.operation import OPERATION
from monitoring.dashboards.panels import (
    BAD,
    FIRING,
    GOOD,
    NOTE,
    QUIET,
    WAITING,
    Dashboard,
    Panel,
    Query,
    Shown,
    Totals,
    must_act,
    series,
)
from monitoring.dashboards.questions import Scope
from monitoring.dashboards.rendering import PAGES, Site, chosen, render
from monitoring.dashboards.thresholds import Thresholds
from monitoring.metrics import catalogue
from tests.application import identity
from tests.support import REPOSITORY
from tests.support.prometheus_servers import promtool

SITES = {
    "influxql": Site(zone="Europe/Zurich"),
    "metricsql": Site(images="metricsql"),
    "prometheus-only": Site(images=None),
    "influxdb-only": Site(totals=False),
    "application": Site(application=True),
}
EVERY = pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())


def panels_of(page: Dashboard, site: Site) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(render(page, site))["panels"] if panel["type"] != "row"]


@EVERY
def test_panels_lie_side_by_side_within_24_columns(site: Site) -> None:
    for page in PAGES:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(render(page, site))["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            assert place["w"] >= 4
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
        lines = {y for _, y in taken}
        assert lines == set(range(max(lines) + 1)), "what is left out leaves no gap"
        assert len(taken) == 24 * len(lines), "each line is full"


@EVERY
def test_every_panel_asks_something_and_says_what_it_shows(site: Site) -> None:
    for page in PAGES:
        for panel in panels_of(page, site):
            assert panel["targets"], panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["noValue"]
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None
            values = [step["value"] for step in steps[1:]]
            assert values == sorted(values)
            assert len({target["datasource"]["uid"] for target in panel["targets"]}) == 1
            assert [target["refId"] for target in panel["targets"]] == [*ascii_uppercase][: len(panel["targets"])]


def test_no_panel_asks_a_backend_that_the_site_lacks() -> None:
    lacks = {"metricsql": "influxdb", "prometheus-only": "influxdb", "influxdb-only": "prometheus"}
    for name, kind in lacks.items():
        for page in PAGES:
            text = render(page, SITES[name])
            assert f'"type": "{kind}"' not in text, name


def test_ids_belong_to_one_panel_each() -> None:
    for page in PAGES:
        panels = [panel for row in page.rows for panel in row.panels]
        assert len({panel.id for panel in panels}) == len(panels)
        assert len({panel.title for panel in panels}) == len(panels)
        assert all(chosen(panel, SITES["influxql"]) is not None for panel in panels)


@EVERY
def test_the_library_reads_what_it_wrote(site: Site) -> None:
    plugins.register_default_plugins()
    for page in PAGES:
        text = render(page, site)
        read = DashboardModel.from_json(json.loads(text))
        # A key that isn't Grafana's is dropped on the way.
        assert json.dumps(read, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n" == text


def test_a_selector_of_what_is_never_sent_is_refused() -> None:
    assert series(catalogue.SESSIONS, status="failed|crashed").startswith(
        'leglength_sessions_total{status=~"failed|crashed",'
    )
    assert 'le=~"30(' in series(catalogue.STAGE_DURATION, "bucket", le=r"30(\.0)?")
    with pytest.raises(ValueError, match="leglength_finding_value"):
        series(catalogue.FINDING["value"])
    with pytest.raises(ValueError, match="leglength_sessions_total"):
        series(catalogue.SESSIONS, model="a")
    with pytest.raises(ValueError, match="leglength_stage_duration_seconds"):
        series(catalogue.STAGE_DURATION)


def queries_of(page: Dashboard) -> Iterator[tuple[Panel, Query]]:
    for row in page.rows:
        for panel in row.panels:
            for answer in panel.answers:
                for query in answer.queries:
                    yield panel, query


def test_every_promql_expression_asks_for_what_is_sent() -> None:
    scope = Site(application=True).scope
    asked = 0
    for page in PAGES:
        for panel, query in queries_of(page):
            if isinstance(query, Totals):
                expression = query.promql(scope)
                asked += 1
                assert promql.check(expression, totals=query.of_totals) == [], (panel.title, expression)
                if query.at_end:
                    assert not query.step, panel.title
                assert "[$__interval]" not in expression
    assert asked > 50


FIELDS = {(metric.measurement, metric.field) for metric in catalogue.METRICS}
TAGS = {
    measurement: {"instance", "application", *(label.name for label in catalogue.EXTRA_TAGS.get(measurement or "", ()))}
    | {label.name for metric in catalogue.METRICS if metric.measurement == measurement for label in metric.labels}
    for measurement, _ in FIELDS
}


def test_every_influxql_query_asks_for_what_is_sent() -> None:
    scope = Site(application=True, zone="Europe/Zurich").scope
    asked = 0
    for page in PAGES:
        for panel, query in queries_of(page):
            if not isinstance(query, Totals):
                text = query.question.influxql(scope)
                asked += 1
                (measurement,) = set(re.findall(r'FROM "(\w+)"', text))
                columns = {*query.question.columns, *re.findall(r'AS "([^"]+)"', text)}
                names = set(re.findall(r'"([^"]+)"', text)) - {measurement}
                fields = {name for name in names if (measurement, name) in FIELDS}
                assert names - fields - columns <= TAGS[measurement], (panel.title, text)
                assert fields, text
                # Reserved words are among the names: all are quoted, and what is not quoted is InfluxQL's own.
                bare = re.sub(r"""'[^']*'|"[^"]*"|=~ /[^/]*/|\$timeFilter""", "", text)
                assert set(re.findall(r"[a-z_]{2,}", bare)) <= {
                    "bottom", "count", "fill", "last", "max", "mean", "min", "moving_average",
                    "non_negative_difference",
                    "none", "percentile", "stddev", "sum", "time", "tz",
                }, text  # fmt: skip
                assert "fill(previous)" not in text
                assert "fill(linear)" not in text
    assert asked > 40


def test_every_metricsql_expression_asks_for_what_is_sent() -> None:
    scope = Site(images="metricsql").scope
    series_names = {f"{measurement}_{field}" for measurement, field in FIELDS if measurement}
    asked = 0
    for page in PAGES:
        for panel, query in queries_of(page):
            if not isinstance(query, Totals):
                for expression in query.question.metricsql(scope).values():
                    asked += 1
                    assert set(re.findall(r"leglength_\w+", expression)) <= series_names, (panel.title, expression)
                    grouped = re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expression)))
                    tags = {*grouped, *re.findall(r"(\w+)=~?\"", expression)}
                    assert tags <= TAGS[query.question.measurement], (panel.title, expression)
                    assert "_over_time(" in expression or "increase(" in expression
    assert asked > 40


def test_thresholds_are_the_rules_and_may_be_a_sites_own() -> None:
    ours = Site(thresholds=Thresholds(silence="12h", slow_share=0.25))
    by_title = {panel["title"]: panel for panel in panels_of(OPERATION, ours)}
    since = by_title["Last success"]
    assert since["fieldConfig"]["defaults"]["thresholds"]["steps"][2]["value"] == 12 * 3600
    assert "12h: successes lie" in since["description"]
    full = panels_of(OPERATION, Site(thresholds=Thresholds(disk_full="1d12h")))
    (until,) = [panel for panel in full if panel["title"] == "Until a volume is full"]
    steps = until["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [(None, QUIET), (0, NOTE), (1.5, GOOD)]
    assert (until["fieldConfig"]["defaults"]["unit"], until["options"]["textMode"]) == ("d", "value_and_name")
    within = by_title["Share done within 30 s, by week"]
    assert within["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == 0.75
    for page in PAGES:
        assert not re.search(r"\$(?!__|job|instance|tag_|col|timeFilter|\{)\w", "".join(
            panel["description"] for panel in panels_of(page, ours)
        ))  # fmt: skip


def test_what_is_empty_is_gray_and_a_limits_line_has_the_color_of_what_lies_beyond_it() -> None:
    def steps(page: Dashboard, title: str) -> list[tuple[float | None, str]]:
        panel = next(each for each in panels_of(page, Site()) if each["title"] == title)
        return [(step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]

    assert steps(OPERATION, "Share that failed")[:2] == [(None, QUIET), (0, GOOD)]
    lines = steps(MEASUREMENT_PAGE, "Lengths for age and sex")
    assert lines == [(None, GOOD), (-5, BAD), (-3, NOTE), (3, NOTE), (5, BAD)]
    assert steps(OPERATION, "Share done within 30 s, by week")[1][1] == NOTE


def test_labels_in_tables_are_texts_and_lead_their_row() -> None:
    tables = [panel for page in PAGES for panel in panels_of(page, Site()) if panel["type"] == "table"]
    assert len(tables) > 8
    for panel in tables:
        overrides = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
        assert {"id": "unit", "value": "string"} in overrides["string"], panel["title"]
        assert {"id": "noValue", "value": "\u2013"} in overrides["number"], panel["title"]
    latest = next(panel for panel in tables if panel["title"] == "Latest findings")
    assert "sortBy" not in latest["options"], "the latest first"
    worst = next(panel for panel in tables if panel["title"] == "Images to look at")
    assert worst["options"]["sortBy"] == [{"displayName": "quality"}]
    order = latest["transformations"][-1]["options"]["indexByName"]
    assert sorted(order, key=order.__getitem__)[:4] == ["Time", "severity", "rule", "subject"]


def test_every_panel_explains_itself() -> None:
    for page in PAGES:
        for row in page.rows:
            for panel in row.panels:
                assert panel.description.endswith("."), panel.title
                assert panel.empty_means.endswith("."), panel.title
                assert bool(panel.thresholds) == bool(panel.thresholds_from), panel.title
                assert panel.id < 1000, "rows have the numbers above"
                if panel.shown is Shown.STAT:
                    assert panel.height <= 5
        for line in page.rows:
            assert len({panel.id for panel in line.panels}) == len(line.panels)


def test_dashboards_lead_to_each_other_and_keep_range_and_instances() -> None:
    for page in PAGES:
        made = json.loads(render(page, Site()))
        (link,) = made["links"]
        assert (link["tags"], link["keepTime"], link["includeVars"]) == (["leglength"], True, True)
        assert made["tags"] == ["leglength"]
        assert made["editable"] is False
        assert [variable["name"] for variable in made["templating"]["list"]] == [
            "prometheus_datasource", "influxdb_datasource", "job", "instance",
        ]  # fmt: skip
        for variable in made["templating"]["list"][2:]:
            assert (variable["allValue"], variable["multi"], variable["refresh"]) == (".+", True, 2)
        marks = made["annotations"]["list"]
        of_charts = ["An alarm began"] * bool(page.alarms_of)
        assert [each["name"] for each in marks] == [*of_charts, "Alerts", "Versions", "Models"]
        for annotation in marks[len(of_charts) :]:
            assert promql.check(annotation["expr"]) == []


def test_dashboards_hold_no_address_and_no_name_of_a_machine() -> None:
    for site in SITES.values():
        for page in PAGES:
            assert not re.search(r"https?://|localhost|\b\d+\.\d+\.\d+\.\d+\b|Token |Bearer ", render(page, site))


def test_no_file_that_servers_read_holds_an_identity_or_a_secret() -> None:
    paths = [
        path for name in ("grafana", "prometheus", "alertmanager") for path in (REPOSITORY / "deploy" / name).rglob("*")
    ]
    files = [path for path in paths if path.is_file()]
    assert len(files) > 7
    words = identity.needles([])
    for path in files:
        text = path.read_text()
        assert identity.found_in(text.encode(), words) == [], path
        hosts = set(re.findall(r"https?://([^/\s\"':]+)", text))
        assert hosts <= {"alert-receiver.example.org", "127.0.0.1", "github.com"}, (path, hosts)
        assert not re.search(r"\b(?!127\.0\.0\.1\b)\d{1,3}(?:\.\d{1,3}){3}\b", text), path
        # A key or token: long, of hexadecimal digits or of mixed letters and digits.
        assert not re.findall(
            r"\b[0-9a-f]{24,}\b|\b(?=[A-Za-z+/]*\d)(?=\d*[a-z]*[A-Z])[A-Za-z0-9+/]{32,}={0,2}", text
        ), path


def test_a_week_of_prometheus_stands_on_its_thursday_and_one_of_influxdb_on_its_monday() -> None:
    title = "Images that were not completed, a week"
    for site, alignment in ((SITES["influxql"], 1), (SITES["prometheus-only"], 0), (SITES["metricsql"], 0)):
        panel = next(panel for panel in panels_of(OPERATION, site) if panel["title"] == title)
        assert panel["fieldConfig"]["defaults"]["custom"]["barAlignment"] == alignment
    days = next(panel for panel in panels_of(OPERATION, SITES["prometheus-only"]) if panel["title"] == "Images a day")
    assert days["fieldConfig"]["defaults"]["custom"]["barAlignment"] == 1


def test_without_prometheus_the_time_of_the_latest_image_is_shown_and_not_its_duration() -> None:
    panel = next(p for p in panels_of(OPERATION, SITES["influxdb-only"]) if p["title"] == "Last success")
    assert panel["fieldConfig"]["defaults"]["unit"] == "dateTimeFromNow"
    assert panel["options"]["reduceOptions"]["fields"] == "/^Time$/"
    assert [target["resultFormat"] for target in panel["targets"]] == ["table"]
    assert len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) == 2, "seconds are no bound of an instant"


def test_tables_show_times_only_of_images_and_each_value_under_its_name() -> None:
    tables = {
        panel["title"]: {each["id"]: each["options"] for each in panel["transformations"]}
        for page in PAGES
        for panel in panels_of(page, Site())
        if panel["type"] == "table"
    }
    assert tables["Latest images"]["organize"]["excludeByName"] == {}
    assert tables["Alerts that fire"]["organize"]["excludeByName"] == {"Value": True, "Time": True}
    agreement = tables["Agreement with readers, by measurement"]
    assert "merge" in agreement
    assert agreement["organize"]["renameByName"]["Value #B"] == "bias"
    assert agreement["organize"]["excludeByName"] == {"Time": True}


def test_targets_are_what_grafanas_data_sources_keep() -> None:
    panels = {panel["title"]: panel for panel in panels_of(OPERATION, Site())}
    (of_days,) = panels["Images a day"]["targets"]
    assert of_days == {
        "refId": "A", "rawQuery": True, "query": of_days["query"], "resultFormat": "time_series",
        "alias": "$tag_status", "datasource": {"type": "influxdb", "uid": "${influxdb_datasource}"},
    }  # fmt: skip
    (at_end,) = panels["Last success"]["targets"]
    assert (at_end["instant"], at_end["range"], at_end["format"]) == (True, False, "time_series")
    (along,) = panels["Share done within 30 s, by week"]["targets"]
    assert (along["instant"], along["range"], along["interval"]) == (False, True, "7d")
    assert json.loads(render(OPERATION, Site()))["schemaVersion"] == 42


def asked_of(expression: str, series: Mapping[str, float], expected: float) -> dict[str, Any]:
    """One case for promtool: the series stand still, and the expression is asked after an hour."""
    samples = [{"labels": "{}", "value": expected}]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x60"} for name, value in series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": "1h", "exp_samples": samples}],
    }


def test_the_first_panel_says_whether_anyone_must_act_and_when_nobody_watches(tmp_path: Path) -> None:
    def alert(name: str, severity: str, audience: str = "operator", state: str = "firing") -> str:
        return f'ALERTS{{alertname="{name}",severity="{severity}",audience="{audience}",alertstate="{state}"}}'

    heartbeat = alert("LegLengthHeartbeat", "info")
    critical, warning = alert("LegLengthAllFail", "critical"), alert("LegLengthSlow", "warning", "clinical")
    tests = [
        asked_of(must_act(audience), dict.fromkeys(series, 1.0), expected)
        for audience, series, expected in (
            ("", (), -1),
            ("", (alert("Another", "critical"),), -1),
            ("", (heartbeat,), 0),
            ("", (heartbeat, alert("LegLengthVersionChanged", "info")), 0),
            ("", (heartbeat, alert("LegLengthAllFail", "critical", state="pending")), 0),
            ("", (heartbeat, warning), 1),
            ("", (heartbeat, warning, critical), 2),
            ("clinical", (heartbeat, critical), 0),
            ("clinical", (heartbeat, critical, warning), 1),
        )
    ]
    tests.append(asked_of(f"count({FIRING})", dict.fromkeys((heartbeat, warning, critical), 1.0), 2))
    of_backend = '{job="j",instance="i",backend="influxdb"}'
    oldest = f"leglength_monitoring_oldest_pending_seconds{of_backend}"
    pending = f"leglength_monitoring_pending_points{of_backend}"
    pushed = 'push_time_seconds{job="j",instance="i"}'
    scope = Scope.of(TimeRange(0, 1), job="j", instance="i")
    longest = Totals(expression=f"max({WAITING}) or 0 * max({series(catalogue.MONITORING_PENDING)})").promql(scope)
    tests += [
        asked_of(longest, {oldest: 60.0, pending: 5.0, pushed: 600.0}, 60.0 + 3000.0),
        asked_of(longest, {oldest: 60.0, pending: 5.0}, 60.0),  # a textfile has no time of a push
        asked_of(longest, {oldest: 0.0, pending: 0.0, pushed: 600.0}, 0.0),
    ]
    (tmp_path / "tests.json").write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", str(tmp_path / "tests.json"))
