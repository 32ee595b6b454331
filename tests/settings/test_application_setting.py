"""Several applications under one account: each has its own store, and is told apart in both backends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring import MonitorManager
from monitoring.cli.drain import drain
from monitoring.config_validator import check_section
from monitoring.settings import common_labels
from monitoring.store.location import store_path
from tests.support.checked_settings import checked, the_problem
from tests.support.clocks import HANGS_SECONDS
from tests.support.hostile import Hostile
from tests.support.servers import InfluxDB1, Pushgateway, wait_for_points

PROMETHEUS = {"gateway_url": "http://pushgateway:9091"}


def test_without_the_setting_all_names_are_as_ever() -> None:
    config = checked({"enabled": True, "prometheus": PROMETHEUS}).config
    assert config.prometheus is not None
    assert config.prometheus.job_name == "pediatric-leglength"
    assert common_labels(config) == {}
    assert store_path(config, {"XDG_STATE_HOME": "/state"}) == Path("/state/leglength-monitoring/monitoring.db")


def test_it_names_the_default_store_s_folder_the_job_and_a_label() -> None:
    found = checked({"application": "bone-age", "prometheus": PROMETHEUS, "privacy": {"site": "Mercy"}})
    assert found.problems == ()
    config = found.config
    assert config.prometheus is not None
    assert config.prometheus.job_name == "bone-age"
    assert common_labels(config) == {"application": "bone-age", "site": "Mercy"}
    assert store_path(config, {"XDG_STATE_HOME": "/state"}) == Path("/state/bone-age-monitoring/monitoring.db")


def test_a_folder_or_a_job_that_is_set_stays() -> None:
    given = {"application": "bone-age", "prometheus": {**PROMETHEUS, "job_name": "own"}, "store": {"path": "/own"}}
    config = checked(given).config
    assert config.prometheus is not None
    assert config.prometheus.job_name == "own"
    assert store_path(config, {}) == Path("/own/monitoring.db")
    unset = checked({"application": "bone-age"}).config
    assert store_path(unset, {"MODULE_PERSISTENCE_DIR": "/tmp/persistence"}) == Path("/tmp/persistence/monitoring.db")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "a\nb", "x" * 65, "é", 5, ["x"], "-x"])
def test_a_name_that_could_be_no_folder_and_no_label_is_none(name: Any) -> None:
    found = checked({"enabled": True, "application": name})
    assert found.config.application is None
    assert the_problem(found).startswith("process.settings.monitoring.application: must ")
    assert the_problem(found).isprintable()


def test_two_applications_of_one_account_don_t_count_each_other(
    influxdb1: InfluxDB1, pushgateway: Pushgateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONITORING_DATA_PATH")
    for application, sessions in (("leg-length", 1), ("bone-age", 2), (None, 1)):
        section: dict[str, Any] = {
            "enabled": True, "influxdb": influxdb1.write_settings(), "prometheus": {"gateway_url": pushgateway.url},
        } | ({"application": application} if application else {})  # fmt: skip
        with MonitorManager({"monitoring": section}) as monitor:
            for number in range(sessions):
                with monitor.session(f"{application} {number}"):
                    pass
        drain(check_section(section), HANGS_SECONDS, print)
    points = wait_for_points(influxdb1, "leglength_session", 4)
    assert sorted(point.tags.get("application", "") for point in points) == ["", "bone-age", "bone-age", "leg-length"]
    counted = {
        (sample.labels["job"], sample.labels.get("application")): sample.value
        for sample in pushgateway.samples("leglength_sessions_total", status="completed")
    }
    assert counted == {
        ("leg-length", "leg-length"): 1.0, ("bone-age", "bone-age"): 2.0, ("pediatric-leglength", None): 1.0,
    }  # fmt: skip


class HostileMapping(dict[str, Any]):
    get = Hostile._raise  # type: ignore[assignment]


# --- the application's version ---------------------------------------------------------------------


def test_the_version_is_the_sessions_else_the_settings_and_a_wrong_one_costs_no_session(
    tmp_path: Path, allow_swallowed: list[Exception]
) -> None:
    section = {"enabled": True, "application_version": "1.0.0", "store": {"path": str(tmp_path)}}
    given: list[Any] = [
        None, {}, {"application_version": "2.0.0"}, {"application_version": None}, {"application_version": "Jane Doe"},
        {"application_version": Hostile()}, {"application_version": np.array(["1", "2"])}, HostileMapping(), "config",
        7,
    ]  # fmt: skip
    with MonitorManager({"monitoring": section}) as manager:
        for config in given:
            with manager.session("series", config):
                pass
        manager.end_session(manager.start_session("series", {"application_version": "3.0"}))
        records = manager.session_records()
    known = [record.get("application_version") for record in records]
    assert known == ["1.0.0", "1.0.0", "2.0.0", "1.0.0", None, None, None, "1.0.0", "1.0.0", "1.0.0", "3.0"]
    assert [record["refused"] for record in records if "refused" in record] == [{"version": 1}] * 3
    assert [str(error) for error in allow_swallowed] == ["device lost"]


@pytest.mark.parametrize("version", ["Jane Doe", "", "a/b", "x" * 49, 5])
def test_a_version_that_is_none_is_said_and_not_used(version: Any) -> None:
    checked = check_section({"enabled": True, "application_version": version})
    assert checked.config.application_version is None
    assert any("application_version" in str(problem) for problem in checked.problems)
