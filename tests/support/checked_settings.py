"""A `monitoring` section put through the check as users' settings are."""

from __future__ import annotations

from typing import Any, TypeVar

from monitoring.config_validator import Checked, check_section, read_settings
from monitoring.settings import Section

S = TypeVar("S", bound=Section)

NEEDED: dict[str, dict[str, Any]] = {
    "influxdb": {"url": "http://influxdb:8086"}, "prometheus": {"gateway_url": "http://pushgateway:9091"},
    "metrics": {}, "store": {}, "privacy": {},
}  # fmt: skip


def checked(section: Any, **environment: str) -> Checked:
    return check_section(section, environment)


def in_section(section: str, **settings: Any) -> Checked:
    return checked({"enabled": True, section: {**NEEDED[section], **settings}})


def section_of(model: type[S], **settings: Any) -> S:
    """One section of settings that are right."""
    right, errors = read_settings(model, settings)
    assert errors == []
    return model(**right)


def the_problem(found: Checked) -> str:
    (problem,) = found.problems
    return str(problem)
