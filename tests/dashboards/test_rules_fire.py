"""Every rule under `promtool test rules`: it fires with its words, stays silent, and stays so just below.

One promtool runs a file for each rule, in which the rule stands beside its mutants: the same cases must notice each
threshold ten times as large and as small, and each comparison turned round. It evaluates only at the instants that the
cases look at; every half hour of weeks would take minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from math import gcd
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from promql_parser import parse_duration

from monitoring.dashboards.rule_files import RUNBOOKS, prometheus_rule
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import DEFAULTS, Rule, rendered
from tests.dashboards.rule_cases import CASES, DAY, SITE, Case, Values
from tests.support.processes import require

RULE = {rule.name: rule for rule in RULES}
STEP_MINUTES = 5  # as long as Prometheus looks back for a value
STEP_OF_WEEKS_MINUTES = 30  # where a rule asks for increases over weeks only, which don't need more


def test_every_rule_has_cases_that_fire_and_that_do_not() -> None:
    assert list(CASES) == [rule.name for rule in RULES]
    for name, cases in CASES.items():
        assert any(case.says for case in cases), name
        assert name == "LegLengthHeartbeat" or len([case for case in cases if not case.says]) >= 1, name


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What promtool has to say against each rule, and against each mutant (`NAME_1`)."""
    folder = tmp_path_factory.mktemp("rules")
    files = [write(folder, rule) for rule in RULES]
    done = subprocess.run([require("promtool"), "test", "rules", *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert len(re.findall("^Unit Testing: ", said, flags=re.MULTILINE)) == len(RULES), said[-2000:]
    found = {name: [] for rule in RULES for name in variants(rule)}
    for words in re.split(r"(?=^ +alertname: )", said, flags=re.MULTILINE)[1:]:
        found[words.split(",")[0].removeprefix("alertname: ").strip().removeprefix("alertname: ")].append(words)
    # What ends a file's test otherwise, such as an expression that can't be read, is no failure of a case.
    assert said.count("FAILED") == len({name.partition("_")[0] for name in found if found[name]}), said[-2000:]
    return found


def test_every_rule_fires_with_its_words_and_only_then(failed: dict[str, list[str]]) -> None:
    assert {name: words for name, words in failed.items() if name in RULE and words} == {}


def test_the_cases_notice_every_other_threshold_and_comparison(failed: dict[str, list[str]]) -> None:
    mutants = {name: variant for rule in RULES for name, variant in variants(rule).items() if name not in RULE}
    assert len(mutants) > 4 * len(RULES), "not even two thresholds and comparisons a rule"
    survivors = [name for name in mutants if not failed[name]]
    assert [f"{name}: {mutants[name].expression}, for {mutants[name].hold}" for name in survivors] == []


@cache
def variants(rule: Rule) -> dict[str, Rule]:
    """The rule under its name, and its mutants under numbered ones."""
    return {rule.name: rendered(rule, DEFAULTS)} | {
        f"{rule.name}_{number}": mutant for number, mutant in enumerate(mutated(rule), 1)
    }


def mutated(rule: Rule) -> Iterator[Rule]:
    """The rule with each threshold ten times as large and as small, each comparison and each `and` turned round,
    each constant changed."""
    for name in rule.thresholds:
        value = getattr(DEFAULTS, name)
        for factor in (10, 0.1):
            if not isinstance(value, str):
                yield rendered(rule, replace(DEFAULTS, **{name: value * factor}))
            elif name != "gateway_job":
                seconds = f"{parse_duration(value).total_seconds() * factor:.0f}s"
                yield rendered(rule, replace(DEFAULTS, **{name: seconds}))
    whole = rendered(rule, DEFAULTS)
    for found in re.finditer(r"\b(and|unless)\b|(?<= )[><](?= )|==", whole.expression):
        other = {">": "<", "<": ">", "==": "!=", "and": "or", "unless": "and"}[found[0]]
        yield replace(whole, expression=f"{whole.expression[: found.start()]}{other}{whole.expression[found.end() :]}")
    # The constants of the declaration itself: 0.5, for which 0.05 is the same among whole numbers, and others.
    for found in re.finditer(r"(?<=[<>] )[0-9.]+", rule.expression):
        for factor in (10, 0.1):
            if (found[0], factor) != ("0.5", 0.1):
                constant = f"{float(found[0]) * factor:g}"
                changed = f"{rule.expression[: found.start()]}{constant}{rule.expression[found.end() :]}"
                yield rendered(replace(rule, expression=changed), DEFAULTS)


def write(folder: Path, rule: Rule) -> str:
    """The file with the rule's cases, for itself and each mutant; what they are to say is the same."""
    rules = [{**prometheus_rule(variant), "alert": name} for name, variant in variants(rule).items()]
    (folder / f"{rule.name}.rules.json").write_text(json.dumps({"groups": [{"name": "tested", "rules": rules}]}))
    step = gcd(*(minutes(case) for case in CASES[rule.name]))
    document = {
        "rule_files": [f"{rule.name}.rules.json"],
        "evaluation_interval": f"{step if rule.hold == '0s' else 1}m",
        "tests": [as_test(rule, case) for case in CASES[rule.name]],
    }
    path = folder / f"{rule.name}.test.json"
    path.write_text(json.dumps(document))
    return str(path)


def minutes(case: Case) -> int:
    return round(case.at * 60)


def step_minutes(case: Case) -> int:
    return STEP_OF_WEEKS_MINUTES if case.at >= 8 * DAY else STEP_MINUTES


def as_test(rule: Rule, case: Case) -> dict[str, Any]:
    """A case in promtool's form."""
    expected = []
    if case.says is not None:
        labels = {**case.of, **case.labels, "severity": rule.severity, "audience": rule.audience}
        told = {"summary": rule.summary, "description": case.says, "runbook_url": f"{RUNBOOKS}#{rule.name.lower()}"}
        expected = [{"exp_labels": labels, "exp_annotations": told}]
    return {
        "name": case.what,
        "interval": f"{step_minutes(case)}m",
        "input_series": [
            {"series": with_site(name), "values": notation(values, minutes(case), step_minutes(case))}
            for name, values in case.series.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{minutes(case)}m", "alertname": name, "exp_alerts": expected} for name in variants(rule)
        ],
    }


def with_site(name: str) -> str:
    """The series with the labels of the one site, where it doesn't name others."""
    bare, _, labels = name.rstrip("}").partition("{")
    own = [f'{key}="{value}"' for key, value in SITE.items() if f"{key}=" not in labels]
    return f"{bare}{{{','.join(filter(None, (labels, *own)))}}}"


def notation(values: Values, until: int, step: int) -> str:
    """A value for each step, in promtool's form."""
    if isinstance(values, list):
        grown = {0.0: 0.0} | {hour: float(number) for number, hour in enumerate(sorted(values), 1)}
    else:
        grown = values if isinstance(values, dict) else {0.0: values}
    told: list[float | None] = []
    for minute in range(0, until + 1, step):
        reached = [hour for hour in grown if hour * 60 <= minute + 1e-6]
        told.append(grown[max(reached)] if reached else None)
    runs = [(value, len(list(run))) for value, run in groupby(told)]
    return " ".join(f"_x{count}" if value is None else f"{value:.15g}x{count - 1}" for value, count in runs)
