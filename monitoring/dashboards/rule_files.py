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


_HEADER = """\
# Whom Alertmanager tells of which alert: an example to copy and fill in. Read by Alertmanager 0.25 and later.
# Secrets are in files. 0.25 takes the address of a webhook from no file, so that one that is secret by itself needs a
# relay of yours, here on this host, that knows it; what it wants as a token is read from a file.
"""


def alertmanager_example() -> str:
    """An Alertmanager's configuration: whom each severity and audience reaches, and what follows from what."""
    of_one = list(promql.GROUP_LABELS)
    mail = {"send_resolved": True}
    return _HEADER + to_yaml(
        {
            "global": {
                "smtp_smarthost": "localhost:25",
                "smtp_from": "leglength@hospital.example",
                "smtp_auth_username": "leglength",
                "smtp_auth_password_file": "/etc/alertmanager/secrets/smtp-password",
            },
            "route": {
                "receiver": "nobody",
                "group_by": ["alertname", *of_one],
                "group_wait": "1m",
                "group_interval": "10m",
                "repeat_interval": "3d",
                "routes": [
                    _route(
                        "heartbeat",
                        'alertname="LegLengthHeartbeat"',
                        group_wait="0s",
                        group_interval="1m",
                        repeat_interval="1m",
                    ),
                    _route(
                        "on-call",
                        'severity="critical"',
                        group_wait="30s",
                        group_interval="5m",
                        repeat_interval="1h",
                    ),
                    _route("clinical-lead", 'severity="warning"', 'audience="clinical"'),
                    _route("operator", 'severity="warning"'),
                ],
            },
            "receivers": [
                {"name": "nobody"},
                {"name": "heartbeat", "webhook_configs": [_webhook("heartbeat", send_resolved=False)]},
                {"name": "on-call", "webhook_configs": [_webhook("page", send_resolved=True)]},
                {"name": "clinical-lead", "email_configs": [{"to": "clinical-lead@hospital.example", **mail}]},
                {"name": "operator", "email_configs": [{"to": "operator@hospital.example", **mail}]},
            ],
            "inhibit_rules": [
                _inhibit("LegLengthGatewayDown", BLIND_WITHOUT_GATEWAY, []),
                _inhibit("LegLengthMetricsAbsent", ("LegLengthInstanceGone", "LegLengthNothingArrives"), []),
                _inhibit("LegLengthInstanceGone", ("LegLengthNothingArrives",), of_one),
                _inhibit("LegLengthAllFail", ("LegLengthNothingSucceeds", "LegLengthFailureShareHigh"), of_one),
                _inhibit("LegLengthNothingSucceeds", ("LegLengthFailureShareHigh",), of_one),
                _inhibit("LegLengthHangs", ("LegLengthNothingArrives",), of_one),
                _inhibit("LegLengthTwoStores", ("LegLengthNewStore",), of_one),
            ],
        }
    )


BLIND_WITHOUT_GATEWAY = (
    "LegLengthMetricsAbsent", "LegLengthInstanceGone", "LegLengthNothingArrives", "LegLengthRelayStopped",
    "LegLengthWaiting", "LegLengthHangs",
)  # fmt: skip
"""What the gateway's absence explains: totals that are gone, and gauges that nobody can renew."""


def _route(receiver: str, *matchers: str, **times: str) -> dict[str, Any]:
    return {"receiver": receiver, "matchers": list(matchers), **times}


def _webhook(path: str, *, send_resolved: bool) -> dict[str, Any]:
    token = {"type": "Bearer", "credentials_file": f"/etc/alertmanager/secrets/{path}-token"}
    return {
        "url": f"http://127.0.0.1:9095/{path}", "send_resolved": send_resolved, "http_config": {"authorization": token},
    }  # fmt: skip


def _inhibit(source: str, targets: tuple[str, ...], equal: list[str]) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname="{source}"'], "target_matchers": [f'alertname=~"{"|".join(targets)}"'],
        "equal": equal,
    }  # fmt: skip
