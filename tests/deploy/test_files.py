"""What is shipped under deploy/ fits the code: settings are valid, paths exist, nothing runs as root."""

from __future__ import annotations

import configparser
import json
import re
from typing import Any

import pytest

from analysis.settings import AnalysisSettings
from monitoring.config_validator import check_section
from tests.support import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def mercure_module() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "mercure/module.json").read_text())["leglength"])


def test_mercures_module_settings_are_valid_and_need_no_network() -> None:
    settings = mercure_module()["settings"]
    assert AnalysisSettings.from_mapping(settings).warnings == ()
    checked = check_section(settings["monitoring"])
    assert checked.problems == ()
    assert checked.config.enabled
    assert checked.config.influxdb is None
    assert checked.config.prometheus is None


def test_mercures_module_lets_good_series_and_the_notification_through() -> None:
    settings = AnalysisSettings.from_mapping(mercure_module()["settings"])
    assert settings.exit_zero_with_failures
    assert not AnalysisSettings().exit_zero_with_failures
    assert "after exit 0 only" in (DEPLOY / "mercure/README.md").read_text()


def test_mercures_module_asks_for_persistence_and_neither_root_nor_network() -> None:
    module = mercure_module()
    assert module["requires_persistence"] is True
    assert module["requires_root"] is False
    assert module["network_enabled"] is False


def test_the_relays_settings_are_valid_once_its_secret_is_there() -> None:
    task = json.loads((DEPLOY / "systemd/task.json").read_text())
    section = task["process"]["settings"]["monitoring"]
    assert check_section(section, {"INFLUXDB_TOKEN": "invented"}).problems == ()
    (problem,) = check_section(section, {}).problems
    assert "INFLUXDB_TOKEN" in str(problem)


def test_the_relays_unit_may_write_its_store_and_is_not_root() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys are case-sensitive
    unit.read(DEPLOY / "systemd/leglength-relay.service")
    service = unit["Service"]
    task = json.loads((DEPLOY / "systemd/task.json").read_text())
    assert service["ReadWritePaths"] == task["process"]["settings"]["monitoring"]["store"]["path"]
    assert service["User"] not in ("", "root")
    assert re.search(r"leglength-monitor relay --config \S+", service["ExecStart"])


@pytest.mark.parametrize(
    "line", re.findall(r"^COPY (.+) \S+$", (DEPLOY / "mercure/Dockerfile").read_text(), re.MULTILINE)
)
def test_the_image_copies_what_exists(line: str) -> None:
    for source in line.split():
        assert (REPOSITORY / source).exists()


def test_the_image_ends_as_a_user_that_is_not_root() -> None:
    users = re.findall(r"^USER (\S+)$", (DEPLOY / "mercure/Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in ("0", "root")
