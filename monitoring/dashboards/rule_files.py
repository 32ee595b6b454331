"""The alert rules as Prometheus reads them, and an example of whom Alertmanager tells."""

from __future__ import annotations

from typing import Any

import yaml

from monitoring.dashboards import promql
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import DEFAULTS, Rule, Thresholds, rendered
from monitoring.exceptions import ConfigurationError

RUNBOOKS = "docs/alerts.md"
"""Where the runbooks are by default: this repository's page, each rule under its name."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # it comes without types
    """Long texts as blocks that a person can read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Equal parts are written out: a person is to edit them."""
        return True

    def represent_text(self, text: str) -> Any:
        # A block for what has several lines: as one quoted line nobody can read an expression.
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
        # Here, and not at the first evaluation: Prometheus takes an expression that never finds anything.
        for problem in promql.check(rule.expression):
            raise ConfigurationError(f"{rule.name}: {problem}; it uses the thresholds {', '.join(named)}")
    return found


def prometheus_rules(thresholds: Thresholds = DEFAULTS, runbooks: str = RUNBOOKS) -> str:
    """Prometheus' rule file, a group for each audience; ``runbooks`` is the address of the page ``docs/alerts.md``."""
    # Each audience finds its own rules together.
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


_HEADER = """\
# Whom Alertmanager tells of which alert: an example to copy and fill in. Read by Alertmanager 0.25 and later.
# Secrets are in files. 0.25 takes the address of a webhook from no file, so that one that is secret by itself needs a
# relay of yours, here on this host, that knows it; what it wants as a token is read from a file.
"""


BLIND_WITHOUT_GATEWAY = (
    "LegLengthMetricsAbsent", "LegLengthInstanceGone", "LegLengthNothingArrives", "LegLengthRelayStopped",
    "LegLengthWaiting", "LegLengthHangs",
)  # fmt: skip
"""What the gateway's absence explains: totals that are gone, and gauges that nobody can renew."""
_OF_ONE = tuple(promql.GROUP_LABELS)
_EXPLAINS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("LegLengthGatewayDown", BLIND_WITHOUT_GATEWAY, ()),
    ("LegLengthMetricsAbsent", ("LegLengthInstanceGone", "LegLengthNothingArrives"), ()),
    ("LegLengthInstanceGone", ("LegLengthNothingArrives",), _OF_ONE),
    ("LegLengthAllFail", ("LegLengthNothingSucceeds", "LegLengthFailureShareHigh"), _OF_ONE),
    ("LegLengthNothingSucceeds", ("LegLengthFailureShareHigh",), _OF_ONE),
    ("LegLengthHangs", ("LegLengthNothingArrives",), _OF_ONE),
    ("LegLengthTwoStores", ("LegLengthNewStore",), _OF_ONE),
)
"""Alerts that follow from another one, and the labels that both must share: none where the first is of no instance."""


def alertmanager_example() -> str:
    """An Alertmanager's configuration: whom each severity and audience reaches, and what follows from what."""
    return _HEADER + to_yaml(
        {
            "global": {
                "smtp_smarthost": "localhost:25",
                "smtp_from": "leglength@hospital.example",
                "smtp_auth_username": "leglength",
                "smtp_auth_password_file": "/etc/alertmanager/secrets/smtp-password",
            },
            "route": {
                # What no route below takes is ``info``: to be looked up, not to be told.
                "receiver": "nobody",
                "group_by": ["alertname", *_OF_ONE],
                "group_wait": "1m",
                "group_interval": "10m",
                "repeat_interval": "3d",
                "routes": _routes(),
            },
            "receivers": _receivers(),
            "inhibit_rules": [
                {
                    "source_matchers": [f'alertname="{source}"'],
                    "target_matchers": [f'alertname=~"{"|".join(targets)}"'],
                    "equal": list(equal),
                }
                for source, targets, equal in _EXPLAINS
            ],
        }
    )


def _routes() -> list[dict[str, Any]]:
    """The first that takes an alert keeps it."""
    return [
        # Each minute, since it is its absence that somebody is told of, by whoever counts on hearing it.
        _route("heartbeat", 'alertname="LegLengthHeartbeat"', "0s", "1m", "1m"),
        _route("on-call", 'severity="critical"', "30s", "5m", "1h"),
        {"receiver": "clinical-lead", "matchers": ['severity="warning"', 'audience="clinical"']},
        {"receiver": "operator", "matchers": ['severity="warning"']},
    ]


def _route(receiver: str, matcher: str, wait: str, interval: str, repeat: str) -> dict[str, Any]:
    return {
        "receiver": receiver, "matchers": [matcher],
        "group_wait": wait, "group_interval": interval, "repeat_interval": repeat,
    }  # fmt: skip


def _receivers() -> list[dict[str, Any]]:
    return [
        {"name": "nobody"},
        {"name": "heartbeat", "webhook_configs": [_webhook("heartbeat", send_resolved=False)]},
        {"name": "on-call", "webhook_configs": [_webhook("page", send_resolved=True)]},
        *(
            {"name": name, "email_configs": [{"to": f"{name}@hospital.example", "send_resolved": True}]}
            for name in ("clinical-lead", "operator")
        ),
    ]


def _webhook(path: str, *, send_resolved: bool) -> dict[str, Any]:
    token = {"type": "Bearer", "credentials_file": f"/etc/alertmanager/secrets/{path}-token"}
    return {
        "url": f"http://127.0.0.1:9095/{path}", "send_resolved": send_resolved, "http_config": {"authorization": token},
    }  # fmt: skip
