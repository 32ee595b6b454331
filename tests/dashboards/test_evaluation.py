"""Expressions evaluated here give what Prometheus gives, to the last digit, and alerts are what promtool says."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.dashboards.backtesting import alerts, asked_for
from monitoring.dashboards.evaluation import EvaluationError, Evaluator, Labels, Vector
from monitoring.dashboards.promql import SOURCES
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.scraped_series import Grid, Samples
from monitoring.dashboards.thresholds import DEFAULTS, Rule, rendered
from tests.support.servers import Prometheus, fetch, promtool

START_MS = 1_750_032_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
SPAN_MS = 36 * HOUR_MS
GRIDS = (
    Grid(START_MS - 10 * MINUTE_MS, MINUTE_MS, 2_180),
    Grid(START_MS + 7_001, 45_500, 700),  # no multiple of the scrapes' interval
    Grid(START_MS + 30_000, 5 * MINUTE_MS, 180),
)
EXPRESSIONS = (
    "c_total",
    "g offset 20m",
    "g offset -20m",
    "increase(c_total[1h])",
    "increase(c_total[61s])",
    "increase(c_total[1d] offset 3h)",
    "rate(c_total[7h])",
    "delta(g[3h])",
    "resets(c_total[6h])",
    "changes(g[2h])",
    "changes(g[30s])",
    "max_over_time(g[90m])",
    "min_over_time(g[90m])",
    "last_over_time(g[3h])",
    "present_over_time(g[10m])",
    "count_over_time(g[3h])",
    "sum_over_time(g[47m])",
    "avg_over_time(g[47m])",
    "round(increase(c_total[6h]))",
    "round(g, 0.25)",
    "sqrt(g - 5)",
    "clamp_min(clamp_max(g, 9), 3) + clamp(g, 4, 6)",
    "abs(g - 5) + ceil(g) - floor(-g)",
    "-g",
    "g % 3 / (g - g)",
    "1 / (0 * g)",
    "sum(c_total)",
    "sum by (status) (g)",
    "avg without (status) (g)",
    "avg(g)",
    "max by (instance) (g) - min by (instance) (g)",
    "count(g) by (job)",
    "group without () (g)",
    "sum(rate(c_total[1h])) by (job, instance)",
    "absent(c_total{status='failed', job='a', kind=~'x'})",
    "absent(g offset 20m)",
    "absent_over_time(late_total{job='a'}[30m])",
    "absent(sum(late_total))",
    "time() - g > 1750100000",
    "time() % 7 == bool 0",
    "vector(1)",
    "vector(time()) + 1",
    "scalar(g{instance='one', status='failed'}) + 1",
    "scalar(g)",
    "g > 5",
    "5 < g",
    "g >= bool 5",
    "5 != bool g",
    "3 > bool 2",
    "g > g offset 1h",
    "c_total / ignoring(status) group_left () sum without (status) (c_total)",
    "sum without (status) (c_total) / ignoring(status) group_right () c_total",
    "g * on (job, instance) group_left (version) info",
    "info == on (instance) group_right () g - g + 1",
    "g{status='failed'} > on (job, instance) g{status='completed'}",
    "g{status='failed'} - ignoring(status) g{status='completed'}",
    "g and c_total > 20",
    "g unless on (instance) late_total",
    "late_total or on (instance) g",
    "g{status='failed'} or c_total",
    "(g > 8 or g < 2) and on () vector(1)",
    "increase(c_total{status=~'fail.*|crashed'}[9h]) > 2.5 and on (instance) sum by (instance) (g) > 9",
    "sum(increase(c_total{status='failed'}[9h])) - 0.3 * sqrt(0.05 * 0.95 * sum(increase(c_total[9h]))) > 0",
    "g + on (job, instance) group_left () (time() - info) > 1750100000 and g > 4",
    "{__name__=~'g|info', status!='failed', instance!~'t.*'}",
)  # fmt: skip


def grown(random_one: random.Random, is_counter: bool, around: float) -> Samples:
    """A counter that jumps and begins anew, or a gauge that is any number; gaps, a birth and an end, at some minute."""
    samples = Samples(MINUTE_MS)
    minute = random_one.choice((0, 0, random_one.randrange(1, 1_800)))
    end = SPAN_MS // MINUTE_MS - random_one.choice((0, 0, random_one.randrange(2, 500)))
    value = random_one.choice((0.0, 0.0, 7.0)) if is_counter else around
    while minute < end:
        length = min(random_one.choice((1, 1, 2, 5, random_one.randrange(1, 600))), end - minute)
        samples.add(START_MS + minute * MINUTE_MS, START_MS + (minute + length - 1) * MINUTE_MS, value)
        minute += length
        if random_one.random() < 0.1:
            minute += random_one.choice((1, 3, 4, 5, 6, 90))
        if is_counter:
            value = 0.0 if random_one.random() < 0.1 else value + random_one.choice((1.0, 1.0, 3.0, 0.1))
        else:
            value = around + random_one.choice((round(random_one.uniform(0, 10), 3), float(random_one.randrange(10))))
    return samples


def of_expressions(random_one: random.Random) -> dict[Labels, Samples]:
    """What EXPRESSIONS ask for."""
    found = {}
    for name, instance, status in [
        *(
            ("c_total", instance, status)
            for instance in ("one", "two")
            for status in ("completed", "crashed", "failed")
        ),
        *(("g", instance, status) for instance in ("one", "two") for status in ("completed", "failed")),
        ("info", "one", ""),
        ("info", "two", ""),
        ("late_total", "one", ""),
        ("h", "two", ""),
    ]:
        labels = {"__name__": name, "instance": instance, "job": "a", "status": status}
        if name == "info":
            labels["version"] = f"1.{len(instance)}"
        found[named(labels)] = grown(random_one, name.endswith("_total"), around=0.0)
    return found


def of_rules(random_one: random.Random) -> dict[Labels, Samples]:
    """A few series of each metric that a rule asks for; instants are of these days, histograms count up."""
    found = {}
    for name in sorted(asked_for(RULES, DEFAULTS)):
        source = SOURCES[name]
        sets = list(source.metric.known_series({})) if source.metric is not None else [{}]
        if "le" in source.labels:
            sets = [{**own, "le": bound} for own in sets for bound in ("5", "30", "+Inf")]
        around = START_MS / 1000 if "timestamp" in name or "time_seconds" in name else 0.0
        for own in random_one.sample(sets, min(len(sets), 5)) or [{}]:
            for instance in ("one", "two"):
                labels = {"__name__": name, "instance": instance, "job": "a", **own}
                found[named(labels)] = grown(random_one, source.is_counter, around)
    return found


def named(labels: dict[str, str]) -> Labels:
    return tuple(sorted((key, value) for key, value in labels.items() if value))


def exposition(series: dict[Labels, Samples]) -> Iterator[str]:
    """The history as OpenMetrics text."""
    for labels, samples in sorted(series.items(), key=lambda one: one[0]):
        name = dict(labels)["__name__"]
        text = ",".join(f'{key}="{value}"' for key, value in labels if key != "__name__")
        for first, last, value in zip(samples.firsts, samples.lasts, samples.values, strict=True):
            for ms in range(first, last + 1, samples.scrape_ms):
                yield f"{name}{{{text}}} {value!r} {ms / 1000}\n"
    yield "# EOF\n"


@pytest.fixture(scope="module")
def known() -> dict[Labels, Samples]:
    random_one = random.Random(1)
    return of_expressions(random_one) | of_rules(random_one)


@pytest.fixture(scope="module")
def prometheus(known: dict[Labels, Samples], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that has scraped the history."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = folder / "history.txt"
    text.write_text("".join(exposition(known)))
    promtool("tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data"))
    with Prometheus(folder=folder) as server:
        yield server


def asked(server: Prometheus, expression: str, grid: Grid) -> dict[Labels, dict[int, float]]:
    """What the server answers: each series' values by the instants' index."""
    form = {
        "query": expression,
        "start": f"{grid.start_ms / 1000}",
        "end": f"{grid.at(grid.count - 1) / 1000}",
        "step": f"{grid.step_ms / 1000}",
    }
    answer = fetch("POST", f"{server.url}/api/v1/query_range", fields=form, encode_multipart=False).json()
    series: list[dict[str, Any]] = answer["data"]["result"]
    return {
        tuple(sorted(one["metric"].items())): {
            round((seconds * 1000 - grid.start_ms) / grid.step_ms): float(text) for seconds, text in one["values"]
        }
        for one in series
    }


def dense(vector: Vector, grid: Grid) -> dict[Labels, dict[int, float]]:
    """The same of what was evaluated here."""
    found = {}
    for labels, column in vector.items():
        present = {index: value for start, end, value in column.runs(grid.count) for index in range(start, end)}
        if present:
            found[labels] = present
    return found


def difference(expected: dict[Labels, dict[int, float]], found: dict[Labels, dict[int, float]]) -> str:
    if expected.keys() != found.keys():
        return f"series {sorted(expected.keys() ^ found.keys())}"
    for labels, values in expected.items():
        for index in sorted(values.keys() | found[labels].keys()):
            here, there = found[labels].get(index), values.get(index)
            if here != there and repr(here) != repr(there):  # as NaN does from itself
                return f"{labels} at {index}: {here!r} for {there!r}"
    return ""


def test_every_expression_gives_what_prometheus_gives(prometheus: Prometheus, known: dict[Labels, Samples]) -> None:
    wrong, empty = {}, set(EXPRESSIONS)
    for grid in GRIDS:
        evaluator = Evaluator(known, grid)
        for expression in EXPRESSIONS:
            expected = asked(prometheus, expression, grid)
            empty = empty - {expression} if expected else empty
            if words := difference(expected, dense(evaluator.vector(expression), grid)):
                wrong[grid.step_ms, expression] = words
    assert not wrong
    assert not empty


def test_every_rule_gives_what_prometheus_gives(prometheus: Prometheus, known: dict[Labels, Samples]) -> None:
    evaluator = Evaluator(known, GRIDS[0])
    expressions = {rule.name: rendered(rule, DEFAULTS).expression for rule in RULES}
    wrong = {
        name: words
        for name, expression in expressions.items()
        if (words := difference(asked(prometheus, expression, GRIDS[0]), dense(evaluator.vector(expression), GRIDS[0])))
    }
    assert not wrong


def promtool_values(samples: Samples, minutes: int) -> str:
    """A series as `promtool test rules` takes it."""
    found = ["_"] * minutes
    for first, last, value in zip(samples.firsts, samples.lasts, samples.values, strict=True):
        for minute in range(first // MINUTE_MS, last // MINUTE_MS + 1):
            found[minute] = "stale" if value is None else repr(value)
    return " ".join(found)


def test_alerts_are_pending_and_fire_when_promtool_says_so(tmp_path: Path) -> None:
    """A rule whose alerts come and go, over series that end with and without a word."""
    random_one, minutes = random.Random(5), 150
    series: dict[Labels, Samples] = {}
    for number in range(6):
        samples = series[named({"__name__": "g", "number": str(number)})] = Samples(MINUTE_MS)
        minute = random_one.randrange(10)
        while minute < minutes:
            last = min(minute + random_one.randrange(12), minutes - 1)
            value = random_one.choice((None, 1.0, 1.0, 0.0))
            if value is None:
                last = minute  # a marker is one sample
            samples.add(minute * MINUTE_MS, last * MINUTE_MS, value)
            minute = last + 1 + random_one.choice((0, 0, 0, 3, 7))
    grid = Grid(0, MINUTE_MS, minutes)
    rules, expected = [], {}
    for hold in ("0s", "4m", "270s"):
        rule = Rule(
            name=f"Held{hold}", severity="warning", audience="operator", expression="g > 0.5 or g offset 30m > 0.5",
            hold=hold, summary="", description="",
        )  # fmt: skip
        rules.append(
            {
                "alert": rule.name,
                "expr": rule.expression,
                "for": hold,
                "labels": {"severity": "warning", "audience": "operator"},
            }
        )
        for alert in alerts(rule, Evaluator(series, grid), grid):
            assert alert.fires_ms is None or alert.until_ms is None or alert.fires_ms < alert.until_ms
            for minute in range(alert.since_ms // MINUTE_MS, (alert.until_ms or minutes * MINUTE_MS) // MINUTE_MS):
                is_firing = alert.fires_ms is not None and minute * MINUTE_MS >= alert.fires_ms
                labels = {**dict(alert.labels), "alertstate": "firing" if is_firing else "pending"}
                text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
                expected.setdefault(minute, []).append({"labels": f"ALERTS{{{text}}}", "value": 1})
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "held", "rules": rules}]}))
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f'g{{number="{dict(labels)["number"]}"}}', "values": promtool_values(samples, minutes)}
            for labels, samples in series.items()
        ],
        "promql_expr_test": [
            {"expr": "ALERTS", "eval_time": f"{minute}m", "exp_samples": expected.get(minute, [])}
            for minute in range(minutes)
        ]
        + [
            {"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples_at(expression, series, minute)}
            for expression in ("g", "g offset 4m", "count_over_time(g[6m])", "last_over_time(g[3m])")
            for minute in range(0, minutes, 3)
        ],
    }
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(json.dumps(document))
    promtool("test", "rules", str(tmp_path / "test.yml"))
    states = {sample["labels"].partition("alertstate=")[2][1:7] for samples in expected.values() for sample in samples}
    assert states == {"firing", "pendin"}


def samples_at(expression: str, series: dict[Labels, Samples], minute: int) -> list[dict[str, Any]]:
    grid = Grid(minute * MINUTE_MS, MINUTE_MS, 1)
    return [
        {
            "labels": dict(labels).get("__name__", "")
            + "{" + ",".join(f'{key}="{value}"' for key, value in labels if key != "__name__") + "}",
            "value": values[0],
        }
        for labels, values in dense(Evaluator(series, grid).vector(expression), grid).items()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("histogram_quantile(0.9, g)", "function histogram_quantile"),
        ("topk(2, g)", "aggregation topk"),
        ("g ^ 2", r"operator \^"),
        ("g @ 5", "@ isn't"),
        ("max_over_time(g[1h:5m])", "subquery"),
        ("g{", "not PromQL"),
        ("sum_over_time(g[1h]) + on () g", "same labels at one instant"),
        ("g - on () g", "same labels at one instant"),
    ],
)
def test_what_is_not_evaluated_is_named(expression: str, words: str, known: dict[Labels, Samples]) -> None:
    rule = Rule(name="Some", severity="info", audience="operator", expression=expression, summary="", description="")
    with pytest.raises(EvaluationError, match=f"Some: .*{words}"):
        alerts(rule, Evaluator(known, GRIDS[0]), GRIDS[0])
