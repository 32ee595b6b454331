"""The alert rules: held to the catalogue, and read by promtool."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from monitoring.dashboards import promql
from monitoring.dashboards.influxdb_rules import INFLUXDB_RULES
from monitoring.dashboards.rule_files import prometheus_rules
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import DEFAULTS, Thresholds, rendered
from tests.support.prometheus_servers import promtool


def test_every_expression_asks_for_what_is_sent() -> None:
    problems = {rule.name: promql.check(rendered(rule, DEFAULTS).expression) for rule in RULES}
    assert {name: found for name, found in problems.items() if found} == {}


def test_no_text_names_a_threshold_that_does_not_exist() -> None:
    for rule in (rendered(rule, DEFAULTS) for rule in RULES):
        assert "$" not in rule.expression + rule.hold
        assert rule.description.replace("$labels", "").replace("$value", "").count("$") == 0, rule.name
        assert "{{" not in rule.summary, rule.name


def test_every_threshold_is_used() -> None:
    used = {name for rule in RULES for name in rule.thresholds}
    assert used | {name for rule in INFLUXDB_RULES for name in rule.thresholds} == set(Thresholds.__struct_fields__)


def test_a_threshold_reaches_expression_and_description() -> None:
    rule = next(rule for rule in RULES if rule.name == "LegLengthNothingArrives")
    assert rule.thresholds == ("silence",)
    changed = rendered(rule, replace(DEFAULTS, silence="36h"))
    assert changed.expression.endswith("> 129600")
    assert "36h is the longest" in changed.description


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(prometheus_rules())
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(path))
