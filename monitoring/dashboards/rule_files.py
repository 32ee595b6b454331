"""The alert rules as the files that Prometheus reads."""

from __future__ import annotations

from typing import Any

import yaml

from monitoring.dashboards import promql
from monitoring.dashboards.rules import RULES, Rule, rendered
from monitoring.dashboards.thresholds import DEFAULTS, Thresholds
from monitoring.exceptions import ConfigurationError

RUNBOOKS = "docs/alerts.md"
"""Where the runbooks are by default: this repository's page, each rule under its name."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it comes without types
    """Long texts as blocks that a person can read."""

    def represent_text(self, text: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(document: Any) -> str:
    """The document as YAML, keys in their order."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return text


def rules_for(thresholds: Thresholds) -> list[tuple[Rule, tuple[str, ...]]]:
    """Every rule with these thresholds, and the names of those that it uses.

    Raises ConfigurationError where a threshold leaves an expression that asks for what isn't there.
    """
    found = [(rendered(rule, thresholds), rule.thresholds) for rule in RULES]
    for rule, named in found:
        for problem in promql.check(rule.expression):
            raise ConfigurationError(f"{rule.name}: {problem}; it uses the thresholds {', '.join(named)}")
    return found


def prometheus_rules(thresholds: Thresholds = DEFAULTS, runbooks: str = RUNBOOKS) -> str:
    """Prometheus' rule file, a group for each audience; ``runbooks`` is the address of the page ``docs/alerts.md``."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule, _ in rules_for(thresholds):
        groups.setdefault(f"leglength-{rule.audience}", []).append(prometheus_rule(rule, runbooks))
    return to_yaml({"groups": [{"name": name, "rules": rules} for name, rules in groups.items()]})


def prometheus_rule(rule: Rule, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """One rendered rule as Prometheus reads it."""
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **({} if rule.hold == "0s" else {"for": rule.hold}),
        "labels": {"severity": rule.severity, "audience": rule.audience},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{runbooks}#{rule.name.lower()}",
        },
    }
