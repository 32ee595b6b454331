"""The rules that Grafana evaluates, asked of a real InfluxDB: each fires, and is silent just below.

Grafana's arithmetic is done here, in its few steps: the last of a series, a formula, a limit.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace
from promql_parser import parse_duration

from monitoring.dashboards.influxdb_rules import EXPRESSION, INFLUXDB_RULES, grafana_rules
from monitoring.dashboards.questions import COMMON_TAGS
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import DEFAULTS, Thresholds
from monitoring.metrics import catalogue, chart_metrics
from tests.support.clients import write_lines
from tests.support.servers import InfluxDB1

DAY_NS = 86_400 * 10**9
NOW_NS = time.time_ns()
Values = dict[frozenset[tuple[str, str]], float]
PLACES = {(metric.measurement, metric.field) for metric in catalogue.METRICS if metric.measurement}


@dataclass(frozen=True)
class Case:
    """Points (measurement with tags, fields, how many, from so many days ago to so many), and whether it fires."""

    points: list[tuple[str, str, int, float, float]]
    fires: bool


def session(status: str, count: int, first: float = 0.9, last: float = 0.1) -> tuple[str, str, int, float, float]:
    flags = {name: int(name == status) for name in ("completed", "failed", "crashed", "skipped")}
    fields = ",".join(f"{name}={float(value)}" for name, value in flags.items())
    return f"leglength_session,instance=a,status={status}", f"duration_seconds=9.0,{fields}", count, first, last


def fell(line: str, field: str, to: float) -> list[tuple[str, str, int, float, float]]:
    # What was longer ago than a quarter of a year was worse, and is not compared with.
    return [
        (line, f"{field}=0.3", 100, 300, 100),
        (line, f"{field}=0.9", 100, 80, 8),
        (line, f"{field}={to}", 20, 6, 1),
    ]


MODEL, QUALITY = "leglength_model,instance=a,model=m", "leglength_quality,instance=a"
READING, DEAD = "leglength_reading,instance=a,measurement=PLL_R_FEM", "leglength_monitoring,instance=a,backend=influxdb"
ALARM, ACKNOWLEDGED = (f"state={chart_metrics.STATES.index(state)}.0" for state in ("alarm", "acknowledged"))
CHART = "leglength_analysis,instance=a,chart=%s,audience=%s"
FINDING = "leglength_finding,instance=a,rule=leg_sum,severity=%s,subject=image"


def chart_alarm(audience: str, other: str) -> list[Case]:
    one, another = CHART % ("model_difference/m", audience), CHART % ("failed", audience)
    return [
        Case([(one, "state=2.0", 1, 2, 2), (one, ALARM, 1, 1, 1), (another, "state=2.0", 1, 1, 1)], True),
        Case([(one, ALARM, 1, 2, 2), (one, ACKNOWLEDGED, 1, 1, 1)], False),
        Case([(one, ALARM, 1, 5, 5), (another, "state=2.0", 1, 1, 1)], False),  # it is no more
        Case([(CHART % ("failed", other), ALARM, 1, 1, 1)], False),
    ]


def ends(line: str, field: str, of_now: str, now_field: str) -> list[Case]:
    """What ends within 14 days of the instant that was told beside it, and of the same instance."""
    now = NOW_NS / 1e9
    told = (of_now, f"{now_field}={now - 0.9 * 86400}", 1, 0.9, 0.9)

    def at(days: float, ago: float = 1.0) -> tuple[str, str, int, float, float]:
        return line, f"{field}={now + days * 86400}", 1, ago, ago

    return [
        Case([at(13), told], True),
        Case([at(-1), told], True),  # it has ended
        Case([at(13.5), told], False),
        Case([at(1, 2.0), at(20), told], False),  # it was renewed, or cleaned up
        Case([at(13, 20.0), told], False),  # told no more
        Case([at(13), (told[0].replace("instance=a", "instance=b"), *told[1:])], False),
        Case([told], False),
    ]


OTHER = "leglength_session,instance=a,application=b"
CASES = {
    "LegLengthAllFail": [
        Case([session("failed", 2), session("crashed", 1)], True),
        Case([session("failed", 3), (OTHER, "completed=1.0", 3, 0.9, 0.1)], True),
        Case([session("failed", 2)], False),
        Case([session("failed", 3), session("completed", 1)], False),
        Case([session("failed", 3, 3, 2), session("skipped", 1)], False),
    ],
    "LegLengthNothingArrives": [
        Case([], True),
        Case([session("completed", 5, 20, 4.1)], True),
        Case([session("completed", 1, 3.9, 3.9)], False),
    ],
    "LegLengthHardFinding": [
        Case([(FINDING % "hard", "value=3.0", 1, 0.5, 0.5)], True),
        Case([(FINDING % "soft", "value=3.0", 1, 0.5, 0.5)], False),
        Case([(FINDING % "hard", "value=3.0", 1, 1.5, 1.5)], False),
    ],
    "LegLengthBias": [
        Case([(READING, "error_millimeters=-2.5", 30, 80, 1)], True),
        Case([(READING, "error_millimeters=-2.5", 29, 80, 1)], False),
        Case([(READING, "error_millimeters=1.9", 30, 80, 1)], False),
        Case([(READING, "error_millimeters=-2.5", 30, 200, 100)], False),
    ],
    "LegLengthMeasurementsChanged": chart_alarm("clinical", "operator"),
    "LegLengthOperationChanged": chart_alarm("operator", "clinical"),
    "LegLengthQualityFell": [
        Case(fell(QUALITY, "image", 0.75), True), Case(fell(QUALITY, "image", 0.85), False), Case([], False),
    ],
    "LegLengthConfidenceFell": [
        Case(fell(MODEL, "confidence_average", 0.75), True), Case(fell(MODEL, "confidence_average", 0.85), False),
    ],
    "LegLengthDeadPoints": [
        Case([(DEAD, "dead_points=0.0", 1, 2, 2), (DEAD, "dead_points=4.0", 1, 1, 1)], True),
        Case([(DEAD, "dead_points=4.0", 1, 2, 2), (DEAD, "dead_points=0.0", 1, 1, 1)], False),
        Case([(DEAD, "dead_points=4.0", 1, 20, 20)], False),
    ],
    "LegLengthDiskFills": ends(
        "leglength_analysis_disk,instance=a,volume=store", "full_timestamp_seconds",
        "leglength_analysis_look,instance=a", "last_run_timestamp_seconds",
    ),
    "LegLengthCertificateEnds": ends(
        "leglength_monitoring_certificate,instance=a,backend=influxdb,kind=server", "expiry_timestamp_seconds",
        "leglength_monitoring,instance=a,backend=influxdb", "last_delivery_timestamp_seconds",
    ),
}  # fmt: skip


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.name for rule in INFLUXDB_RULES]
    assert all({case.fires for case in cases} == {True, False} for cases in CASES.values())


@pytest.mark.servers
def test_over_a_real_influxdb_each_case_holds_and_notices_other_thresholds(influxdb1: InfluxDB1) -> None:
    numbered = dict(enumerate((name, case) for name, cases in CASES.items() for case in cases))
    for number, (_, case) in numbered.items():
        influxdb1.create_database(f"case{number}")
        lines = "\n".join(line for points in case.points for line in as_lines(*points))
        if lines:
            settings = influxdb1.write_settings() | {"bucket": f"case{number}"}
            assert write_lines(settings, lines).status == 204

    def wrong(rule: dict[str, Any]) -> list[Case]:
        of_rule = {number: case for number, (name, case) in numbered.items() if name == rule["title"]}
        return [
            case
            for number, case in of_rule.items()
            if fires(rule, lambda text, number=number: influxdb1.query(text, db=f"case{number}")) != case.fires
        ]

    assert {rule["title"]: wrong(rule) for rule in rules(DEFAULTS) if wrong(rule)} == {}
    unnoticed = [
        (declared.name, name, factor)
        for declared in INFLUXDB_RULES
        for name in declared.thresholds
        for factor in (10, 0.1)
        if not wrong(next(rule for rule in rules(changed(name, factor)) if rule["title"] == declared.name))
    ]
    assert unnoticed == []


def changed(name: str, factor: float) -> Thresholds:
    value = getattr(DEFAULTS, name)
    if isinstance(value, str):
        return replace(DEFAULTS, **{name: f"{parse_duration(value).total_seconds() * factor:.0f}s"})
    return replace(DEFAULTS, **{name: value * factor})


def rules(thresholds: Thresholds) -> list[dict[str, Any]]:
    return grafana_rules("uid", "docs/alerts.md", thresholds)["groups"][0]["rules"]


def as_lines(line: str, fields: str, count: int, first: float, last: float) -> Iterator[str]:
    for number in range(count):
        days = first + (last - first) * number / max(1, count - 1)
        yield f"{line} {fields} {NOW_NS - round(days * DAY_NS) + number}"


def fires(rule: dict[str, Any], ask: Callable[[str], list[dict[str, Any]]]) -> bool:
    """What Grafana makes of a rule's steps, for each series by its tags."""
    values: dict[str, Values] = {}
    for step in rule["data"]:
        model, name = step["model"], step["refId"]
        if step["datasourceUid"] != EXPRESSION:
            since = NOW_NS - step["relativeTimeRange"]["from"] * 10**9
            rows = ask(model["query"].replace("$timeFilter", f"time >= {since} AND time <= {NOW_NS + DAY_NS}"))
            values[name] = dict(series(row) for row in rows)
        elif model["type"] == "reduce":
            values[name] = values[model["expression"]]
        elif model["type"] == "math":
            values[name] = calculated(model["expression"], values)
        else:
            evaluator = model["conditions"][0]["evaluator"]
            limit, found = evaluator["params"][0], values[model["expression"]].values()
            if not found:
                return rule["noDataState"] == "Alerting"
            return any(value > limit if evaluator["type"] == "gt" else value < limit for value in found)
    raise AssertionError(f"{rule['title']} compares nothing")


def series(row: dict[str, Any]) -> tuple[frozenset[tuple[str, str]], float]:
    numbers = [value for column, value in row.items() if column != "time" and isinstance(value, int | float)]
    return frozenset((name, value) for name, value in row.items() if isinstance(value, str)), float(numbers[0])


def calculated(expression: str, values: dict[str, Values]) -> Values:
    """Series belong together where the one's labels are all the other's, too."""
    code = expression.replace("$", "")
    if "$B" not in expression:
        return {labels: float(eval(code, {"A": value})) for labels, value in values["A"].items()}
    return {
        labels | others: float(eval(code, {"A": value, "B": other}))
        for labels, value in values["A"].items()
        for others, other in values["B"].items()
        if labels <= others or others <= labels
    }


def test_queries_ask_for_what_is_sent() -> None:
    asked = defaultdict(set)
    for rule in rules(DEFAULTS):
        for step in (step for step in rule["data"] if step["datasourceUid"] == "uid"):
            quoted = step["model"]["query"].split('"')[1::2]
            measurement = next(name for name in quoted if name.startswith("leglength_"))
            asked[measurement] |= set(quoted) - {measurement}
    tags = {label.name for metric in catalogue.METRICS for label in metric.labels} | {*COMMON_TAGS}
    for measurement, names in asked.items():
        assert {(measurement, name) for name in names - tags} <= PLACES


def test_beside_prometheus_only_what_it_can_not_answer_is_left() -> None:
    left = grafana_rules("uid", "docs/alerts.md", beside_prometheus=True)["groups"][0]["rules"]
    assert {rule["title"] for rule in left} == {rule.name for rule in INFLUXDB_RULES} - {rule.name for rule in RULES}
    assert [rule["title"] for rule in left] == ["LegLengthQualityFell", "LegLengthConfidenceFell"]


@pytest.mark.parametrize("rule", rules(DEFAULTS), ids=lambda r: r["title"])
def test_the_condition_is_the_last_step_and_each_step_names_one_before_it(rule: dict[str, Any]) -> None:
    assert rule["condition"] == rule["data"][-1]["refId"]
    names: list[str] = []
    for step in rule["data"]:
        expression = step["model"].get("expression", "")
        named = {part for part in names if part == expression or f"${part}" in expression}
        assert step["datasourceUid"] == "uid" or named, step
        names.append(step["refId"])
    assert len(rule["uid"]) <= 40
