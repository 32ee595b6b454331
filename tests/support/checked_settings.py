"""A `monitoring` section put through the check as users' settings are."""

from __future__ import annotations

from typing import Any

from monitoring.config_validator import Checked, check_section

NEEDED: dict[str, dict[str, Any]] = {
    "influxdb": {"url": "http://influxdb:8086"}, "prometheus": {"gateway_url": "http://pushgateway:9091"},
    "metrics": {}, "store": {}, "privacy": {},
}  # fmt: skip


def checked(section: Any, **environment: str) -> Checked:
    return check_section(section, environment)


def in_section(section: str, **settings: Any) -> Checked:
    return checked({"enabled": True, section: {**NEEDED[section], **settings}})


def the_problem(found: Checked) -> str:
    (problem,) = found.problems
    return str(problem)
