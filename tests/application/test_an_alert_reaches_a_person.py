"""One alert goes the whole way: the application fails, and whoever is on call is told, and told when it is over.

Servers are real ones with the files that are delivered: the Pushgateway, Prometheus with all rules, and Alertmanager
with the example's routes, whose pauses are shortened. A receiver on loopback stands for the pager.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.dashboards.rule_files import alertmanager_example, prometheus_rules
from tests.application.app import App
from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer
from tests.support.processes import wait_until
from tests.support.servers import Alertmanager, Prometheus, Pushgateway


class Configured(Alertmanager):
    """With the example's routes; what it waits for is shortened, and its webhooks lead to `pager_url`."""

    pager_url = ""

    def command(self) -> list[str]:
        command = super().command()
        token = self.folder / "token"
        token.write_text("a-token")
        text = alertmanager_example().replace("http://127.0.0.1:9095", self.pager_url)
        example = yaml.safe_load(text.replace("/etc/alertmanager/secrets/page-token", str(token)))
        example["route"] |= {"group_wait": "0s", "group_interval": "1s"}
        example["route"]["routes"] = [
            {**route, "group_wait": "0s", "group_interval": "1s"} for route in example["route"]["routes"]
        ]
        (self.folder / "alertmanager.yml").write_text(json.dumps(example))
        return command


@pytest.mark.servers
def test_the_application_fails_and_the_pager_is_told_and_told_when_it_succeeds_again(
    app: App,
    broken_file: Path,
    phantom_file: Path,
    pushgateway: Pushgateway,
    prometheus_factory: Callable[..., Prometheus],
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(prometheus_rules(runbooks="https://hospital.example/docs/alerts.md"))
    alertmanager = Configured()
    alertmanager.pager_url = fault_server.url
    with alertmanager:
        prometheus = prometheus_factory([pushgateway.url], rule_files=[rules], alertmanager_url=alertmanager.url)
        app.settings(monitoring={"enabled": True, "prometheus": {"gateway_url": pushgateway.url}})
        assert app.monitor("drain", "--begin").returncode == 0
        prometheus.wait_for('leglength_sessions_total{status="failed"} == 0')

        for number in range(3):
            app.add(broken_file, f"1.2.826.0.1.9{number}#1.dcm")
        assert app.run().code == 1

        told = page(fault_server, "firing")
        assert told["labels"]["severity"] == "critical"
        assert told["annotations"]["summary"] == "Every image fails."
        assert "images failed within 1d, and none succeeded" in told["annotations"]["description"]
        assert told["annotations"]["runbook_url"] == "https://hospital.example/docs/alerts.md#leglengthallfail"

        for path in app.inbox.glob("*.dcm"):
            path.unlink()
        app.add(phantom_file)
        assert app.run().code == 0
        assert page(fault_server, "resolved")["labels"] == told["labels"]
        # Over the application's own series, too, no expression matches many with many.
        assert [rule["lastError"] for rule in prometheus.rules() if rule["health"] != "ok"] == []


def page(pager: FaultServer, state: str) -> dict[str, Any]:
    """The pager's first alert of LegLengthAllFail in this state, once it has come."""

    def found() -> dict[str, Any] | None:
        notices = [request.json() for request in pager.requests if request.path == "/page"]
        alerts = [alert for notice in notices for alert in notice["alerts"]]
        states = [alert for alert in alerts if alert["labels"]["alertname"] == "LegLengthAllFail"]
        return next((alert for alert in states if alert["status"] == state), None)

    return wait_until(found, f"the pager to be told: {state}", HANGS_SECONDS, interval=0.1)
