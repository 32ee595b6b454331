"""The example of an Alertmanager: amtool takes it, each rule reaches whom it should, and what follows is held back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.rule_files import BLIND_WITHOUT_GATEWAY, alertmanager_example
from monitoring.dashboards.rules import RULES
from tests.support.processes import fetch, require, wait_until
from tests.support.prometheus_servers import amtool
from tests.support.servers import Alertmanager

RECEIVERS = {
    ("critical", "operator"): "on-call",
    ("critical", "clinical"): "on-call",
    ("warning", "operator"): "operator",
    ("warning", "clinical"): "clinical-lead",
    ("info", "operator"): "nobody",
    ("info", "clinical"): "nobody",
}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "alertmanager.yml"
    path.write_text(alertmanager_example())
    return path


def test_amtool_takes_it(example: Path) -> None:
    assert "SUCCESS" in amtool("check-config", str(example))


def test_every_severity_and_audience_reaches_its_receiver_and_the_heartbeat_its_own(example: Path) -> None:
    of_rules = {(rule.severity, rule.audience) for rule in RULES}
    assert of_rules <= set(RECEIVERS)
    labels = [[f"severity={severity}", f"audience={audience}"] for severity, audience in RECEIVERS]
    expected = dict(zip(map(tuple, labels), RECEIVERS.values(), strict=True))
    expected["severity=info", "audience=operator", "alertname=LegLengthHeartbeat"] = "heartbeat"
    for wanted, receiver in expected.items():
        amtool("config", "routes", "test", f"--config.file={example}", f"--verify.receivers={receiver}", *wanted)


def test_a_route_that_leads_elsewhere_is_noticed(example: Path) -> None:
    arguments = ["config", "routes", "test", f"--config.file={example}", "--verify.receivers=nobody"]
    done = subprocess.run([require("amtool"), *arguments, "severity=critical"], capture_output=True, check=False)
    assert done.returncode != 0


def test_inhibition_names_rules_that_exist(example: Path) -> None:
    names = {rule.name for rule in RULES}
    assert set(BLIND_WITHOUT_GATEWAY) <= names
    for rule in yaml.safe_load(example.read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            assert set(matcher.partition('"')[2].rstrip('"').split("|")) <= names


class Configured(Alertmanager):
    """An Alertmanager with the example's own configuration."""

    def command(self) -> list[str]:
        command = super().command()
        (self.folder / "alertmanager.yml").write_text(alertmanager_example())
        return command


def test_what_follows_from_another_alert_is_held_back() -> None:
    here, there = {"job": "j", "instance": "here"}, {"job": "j", "instance": "there"}
    sent: list[dict[str, Any]] = [
        {"alertname": "LegLengthGatewayDown", "job": "pushgateway"},
        {"alertname": "LegLengthMetricsAbsent"},
        {"alertname": "LegLengthAllFail", **here},
        {"alertname": "LegLengthNothingSucceeds", **here},
        {"alertname": "LegLengthNothingSucceeds", **there},
        {"alertname": "LegLengthCrashed", **here},
    ]
    with Configured() as alertmanager:
        body = json.dumps([{"labels": labels} for labels in sent])
        fetch("POST", f"{alertmanager.url}/api/v2/alerts", body=body, headers={"Content-Type": "application/json"})
        wait_until(lambda: len(alertmanager.alerts()) == len(sent), "the alerts")
        # Its own account of an alert is made when a group is looked at, 30 s on: the silencing stage answers at once.
        url = f"{alertmanager.url}/api/v2/alerts?inhibited=false&active=true"
        shown = wait_until(lambda: _when(fetch("GET", url).json(), len(sent) - 2), "the held back ones to be left out")
    assert sorted((alert["labels"]["alertname"], alert["labels"].get("instance", "")) for alert in shown) == [
        ("LegLengthAllFail", "here"),
        ("LegLengthCrashed", "here"),
        ("LegLengthGatewayDown", ""),
        ("LegLengthNothingSucceeds", "there"),
    ]


def test_the_charts_of_one_fault_are_one_notification() -> None:
    """Of each rule and instance; a notification is what Alertmanager calls a group."""
    clinical = {"alertname": "LegLengthMeasurementsChanged", "severity": "warning", "audience": "clinical", "job": "j"}
    charts = [f"model_difference/atlas/{number}" for number in range(20)]
    sent = [{**clinical, "instance": "here", "chart": chart} for chart in charts]
    sent += [{**clinical, "instance": "there", "chart": charts[0]}]
    sent += [{**sent[0], "alertname": "LegLengthOperationChanged", "audience": "operator", "chart": "failed"}]
    with Configured() as alertmanager:
        body = json.dumps([{"labels": labels} for labels in sent])
        fetch("POST", f"{alertmanager.url}/api/v2/alerts", body=body, headers={"Content-Type": "application/json"})
        url = f"{alertmanager.url}/api/v2/alerts/groups"
        groups = wait_until(lambda: _when(fetch("GET", url).json(), 3), "the groups")
    found = {(group["receiver"]["name"], group["labels"]["instance"]): len(group["alerts"]) for group in groups}
    assert found == {("clinical-lead", "here"): 20, ("clinical-lead", "there"): 1, ("operator", "here"): 1}


def _when(alerts: list[Any], count: int) -> list[Any] | None:
    return alerts if len(alerts) == count else None
