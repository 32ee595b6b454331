"""Names that a host declares beforehand have their counters at 0, so that the first event is an increase."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring import MonitorManager
from monitoring.cli.drain import drain
from monitoring.config_validator import check_section
from monitoring.metrics import catalogue
from monitoring.metrics.samples import zero_changes
from tests.support.checked_settings import in_section, the_problem
from tests.support.clocks import HANGS_SECONDS
from tests.support.servers import Prometheus, Pushgateway

DECLARED = {"stages": ["segmentation"], "codes": ["no_contrast"], "issues": ["blurred"], "models": ["unet"]}


def zeros(**declared: Any) -> set[tuple[str, tuple[str, ...]]]:
    found = in_section("metrics", **declared)
    assert found.problems == ()
    changes = zero_changes(declared=found.config.metrics.declared)
    assert all(change.value == 0.0 for change in changes)
    return {(change.metric, tuple(change.labels.values())) for change in changes}


def test_a_declared_name_has_each_series_that_its_events_could_move() -> None:
    added = zeros(**DECLARED) - zeros()
    assert ("leglength_stage_duration_seconds", ("segmentation",)) in added
    assert ("leglength_session_stop_codes_total", ("no_contrast",)) in added
    assert ("leglength_host_issues_total", ("blurred",)) in added
    assert ("leglength_model_inference_seconds", ("unet",)) in added
    assert len([labels for metric, labels in added if metric == "leglength_model_landmark_misses_total"]) == 8
    stops = {labels for metric, labels in added if metric == "leglength_session_stops_total"}
    assert {stage for _, stage, _ in stops} == {"segmentation"}
    assert len(stops) == len(catalogue.STOP_STATUS.values) * len(catalogue.STOP_REASON.values)


def test_what_is_no_name_isnt_declared_and_no_more_than_a_label_takes() -> None:
    assert zeros(codes=["Doe^Jane", "1.2.840.10008.1", ""]) == zeros()
    assert len(zeros(stages=[f"stage_{number}" for number in range(40)], models=[])) == len(
        zeros(stages=[f"stage_{number}" for number in range(catalogue.STAGE.limit)])
    )


@pytest.mark.parametrize("wrong", ["segmentation", 5, {"a": 1}, [5], [None], ["x"] * 65])
def test_a_list_that_is_none_is_told_and_the_other_settings_stay(wrong: Any) -> None:
    found = in_section("metrics", codes=wrong, batch_size=7)
    assert (found.config.metrics.codes, found.config.metrics.batch_size) == ((), 7)
    assert the_problem(found).startswith("process.settings.monitoring.metrics.codes: must be ")


def test_the_first_event_of_a_declared_name_is_an_increase_in_prometheus(
    pushgateway: Pushgateway, prometheus_factory: Any
) -> None:
    section = {"enabled": True, "metrics": DECLARED, "prometheus": {"gateway_url": pushgateway.url}}
    MonitorManager({"monitoring": section}).close()
    drain(check_section(section), HANGS_SECONDS, print)
    prometheus: Prometheus = prometheus_factory([pushgateway.url])
    selectors = [
        'leglength_session_stop_codes_total{code="no_contrast"}', 'leglength_host_issues_total{issue="blurred"}',
        'leglength_stage_duration_seconds_count{stage="segmentation"}',
        'leglength_model_inference_seconds_count{model="unet"}',
    ]  # fmt: skip
    for selector in selectors:
        prometheus.wait_for(f"{selector} == 0")
    with MonitorManager({"monitoring": section}) as monitor, monitor.session("a") as session:
        session.record_stage("segmentation", 0.5)
        session.record_model_performance("unet", {"inference_seconds": 0.5})
        session.record_performance_data({"issues": ["blurred"]})
        session.skip("no_contrast")
    drain(check_section(section), HANGS_SECONDS, print)
    for selector in selectors:
        prometheus.wait_for(f"increase({selector}[1h]) > 0")
