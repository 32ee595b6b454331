"""The manager by its contract: sessions are kept whatever happens, and nothing of it reaches the host."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring import MonitorManager
from monitoring.cli.status import status_as_dict
from monitoring.config_validator import check_section
from monitoring.store.database import Database
from monitoring.store.sessions import open_store
from tests.support import REPOSITORY, faults
from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import FaultServer
from tests.support.hostile import Hostile
from tests.support.processes import wait_until
from tests.support.servers import InfluxDB1, PointServer, Prometheus, Pushgateway, wait_for_points

UID = "1.2.840.113619.2.55.3.604688119.868"
IDENTITY = ["Doe^Jane", "MRN0012345", UID, "20160131"]


def manager(**monitoring: Any) -> MonitorManager:
    settings = {"enabled": True, "shutdown_timeout": HANGS_SECONDS, **monitoring}
    return MonitorManager({"models": ["resnet"], "monitoring": settings})


def one_image(monitor: MonitorManager, series: str = UID) -> None:
    """What a host does for an image, the natural way."""
    with monitor.session(series, {}) as session:
        with session.stage("load"):
            pass
        with session.stage("inference"):
            session.record_model_performance(
                "resnet", {"inference_seconds": 0.5, "confidence_scores": np.array([0.5, 1.0])}
            )
        session.record_measurements({"PLL_R_FEM": {"millimeters": np.float32(412.5)}})


def status(**monitoring: Any) -> dict[str, Any]:
    """What `leglength-monitor status` would say."""
    return status_as_dict(check_section({"enabled": True, **monitoring}))


def stored() -> str:
    """All bytes under the store's folder."""
    folder = Path(os.environ["MONITORING_DATA_PATH"])
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


# --- off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        [],
        "text",
        5,
        {"monitoring": None},
        {"monitoring": {}},
        {"monitoring": {"enabled": False}},
        {"monitoring": {"enabled": "off"}},
    ],
)
def test_without_settings_monitoring_is_off_and_every_call_does_nothing(config: Any) -> None:
    monitor = MonitorManager(config)
    assert not monitor.is_enabled()
    assert monitor.start_session(UID, {}) == ""
    monitor.record_measurements("", {"a": 1}, "/nowhere")
    monitor.end_session("")
    one_image(monitor)
    assert monitor.session_records() == []
    monitor.close()
    assert not Path(os.environ["MONITORING_DATA_PATH"]).exists()


@pytest.mark.parametrize("section", ["on", ["enabled"], {"enabled": "perhaps"}, {"enabled": 2}])
def test_settings_that_are_no_settings_are_off_and_said_once(section: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert not MonitorManager({"monitoring": section}).is_enabled()
    (line,) = caplog.messages
    assert "monitoring is off" in line


def test_a_bad_setting_is_one_line_in_the_log_and_never_its_value(caplog: pytest.LogCaptureFixture) -> None:
    with manager(influxdb={"url": "http://u:s3cr3t@h"}, shutdown_timeout="soon") as monitor:
        assert monitor.is_enabled()
        one_image(monitor)
    warnings = [message for message in caplog.messages if "process.settings.monitoring" in message]
    assert len(warnings) == 2
    assert "s3cr3t" not in caplog.text


# --- on -----------------------------------------------------------------------------------------


def test_a_session_the_natural_way_is_kept() -> None:
    with manager() as monitor:
        one_image(monitor)
        (record,) = monitor.session_records()
    assert record["status"] == "completed"
    assert set(record["stages_seconds"]) == {"load", "inference"}
    assert record["measurements_mm"] == {"PLL_R_FEM": 412.5}
    assert record["models"][0]["inference_seconds"] == 0.5
    json.dumps(record, allow_nan=False)
    assert status()["sessions"]["completed"] == 1


def test_a_session_the_id_based_way_is_the_same() -> None:
    with manager() as monitor:
        session_id = monitor.start_session(UID, {"anything": 1})
        assert session_id
        now = time.time()
        monitor.track_processing_time(session_id, "inference", now - 2.5, now)
        monitor.record_metrics(session_id, "contrast", 0.5, tags={"site": "Mercy"})
        monitor.record_model_performance(session_id, "resnet", {"landmarks_detected": 8, "confidence_scores": [0.9]})
        monitor.record_measurements(session_id, {"PLL_L_TIB": 300})
        monitor.record_performance_data(
            session_id, {"image_metrics": {"image_dds": 0.25}, "issues": ["low_confidence"]}
        )
        monitor.end_session(session_id, "completed")
        (record,) = monitor.session_records()
    assert record["stages_seconds"]["inference"] == pytest.approx(2.5)
    assert record["custom"] == {"contrast": 0.5}
    assert record["measurements_mm"] == {"PLL_L_TIB": 300.0}
    assert record["ensemble"] == {"dds": 0.25}
    assert record["issues"] == {"low_confidence": 1}
    assert record["landmarks_found"] == 8


def test_sessions_side_by_side_dont_mix() -> None:
    with manager() as monitor:

        def process(number: int) -> None:
            with monitor.session(f"{UID}.{number}") as session:
                session.record_measurements({"PLL_R_FEM": number})

        threads = [threading.Thread(target=process, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records = monitor.session_records()
    assert sorted(record["measurements_mm"]["PLL_R_FEM"] for record in records) == list(range(8))
    assert len({record["session_id"] for record in records}) == 8


def test_the_hosts_error_passes_through_unchanged_and_marks_the_stage() -> None:
    error = ValueError("Doe^Jane")
    with manager() as monitor:
        with (
            pytest.raises(ValueError, match="Doe") as raised,
            monitor.session(UID) as session,
            session.stage("inference"),
        ):
            raise error
        (record,) = monitor.session_records()
    assert raised.value is error
    assert (record["status"], record["failure"]["type"], record["failure"]["stage"]) == (
        "failed",
        "ValueError",
        "inference",
    )


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_host_that_is_interrupted_leaves_a_failed_session(leave: type[BaseException]) -> None:
    with manager() as monitor:
        with pytest.raises(leave), monitor.session(UID):
            raise leave
        (record,) = monitor.session_records()
    assert record["status"] == "failed"


def test_a_session_that_is_never_ended_is_ended_when_the_manager_closes() -> None:
    with manager() as monitor:
        monitor.start_session(UID)
    assert status()["sessions"] == {"completed": 0, "failed": 1, "skipped": 0, "crashed": 0}


def test_a_session_ends_once() -> None:
    with manager() as monitor:
        session_id = monitor.start_session(UID)
        monitor.end_session(session_id, "completed")
        monitor.end_session(session_id, "failed")
        monitor.record_metrics(session_id, "late", 1)
        assert len(monitor.session_records()) == 1
    assert status()["sessions"]["completed"] == 1


@pytest.mark.parametrize(("value", "is_on"), [("true", True), ("false", False), ("1", True)])
def test_the_switch_may_come_from_the_environment(value: str, is_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEG_MONITORING", value)
    with MonitorManager({"monitoring": {"enabled": "${LEG_MONITORING}"}}) as monitor:
        assert monitor.is_enabled() is is_on


@pytest.mark.parametrize("session_id", ["unknown", None, 5, "", [], {}, b"x", np.array([1, 2]), Hostile()])
def test_an_id_that_is_none_is_passed_over(session_id: Any, allow_swallowed: list[Exception]) -> None:
    with manager() as monitor:
        monitor.track_processing_time(session_id, "load", 0, 1)
        monitor.record_metrics(session_id, "x", 1)
        monitor.record_model_performance(session_id, "resnet", {})
        monitor.record_measurements(session_id, {})
        monitor.record_performance_data(session_id, {})
        monitor.end_session(session_id)
        assert monitor.session_records() == []


@pytest.mark.parametrize(
    "junk", [None, "text", 5, [], {}, b"\0", float("nan"), Hostile(), object(), np.array([1, 2]), {"a": Hostile()}]
)
def test_whatever_a_host_passes_nothing_reaches_it_and_the_session_is_kept(
    junk: Any, allow_swallowed: list[Exception]
) -> None:
    with manager() as monitor:
        session_id = monitor.start_session(junk, junk)
        assert session_id
        monitor.track_processing_time(session_id, junk, junk, junk)
        monitor.record_metrics(session_id, junk, junk, junk)
        monitor.record_model_performance(session_id, junk, junk)
        monitor.record_measurements(session_id, junk, junk)
        monitor.record_performance_data(session_id, junk, junk)
        monitor.record_measurements(session_id, {"PLL_R_FEM": 400})
        monitor.end_session(session_id, junk)
        (record,) = monitor.session_records()
        with monitor.session(junk, junk) as session, session.stage(junk):
            session.record_stage(junk, junk)
            session.skip(junk)
            session.fail(junk, junk, junk, junk)
        assert len(monitor.session_records()) == 2
    assert record["measurements_mm"]["PLL_R_FEM"] == 400.0


def test_no_identity_reaches_the_store_the_log_or_the_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with faults.refused_port() as url, manager(influxdb={"url": url}) as monitor:
        for identity in IDENTITY:
            with pytest.raises(RuntimeError):
                _process_and_fail(monitor, identity)
        records = json.dumps(monitor.session_records())
        monitor.close(0.5)
        shown = stored() + caplog.text + records
    assert records.count('"failed"') + records.count('"skipped"') == len(IDENTITY)
    assert [identity for identity in IDENTITY if identity in shown] == []


def _process_and_fail(monitor: MonitorManager, identity: str) -> None:
    with monitor.session(identity, {"patient": identity}) as session, session.stage(identity):
        session.record_metric(identity, 1)
        session.record_measurements({identity: 1}, identity)
        session.record_model_performance(identity, {"patient": identity})
        session.record_performance_data(
            {"issues": [identity, {"code": identity, "text": identity}], "patient": identity}
        )
        session.skip(identity)
        raise RuntimeError(identity)


def test_an_error_within_is_counted_said_once_and_not_quoted(
    caplog: pytest.LogCaptureFixture, allow_swallowed: list[Exception]
) -> None:
    class Odd:
        def __str__(self) -> str:
            raise AssertionError("Doe^Jane")

    with manager() as monitor:
        for _ in range(3):
            monitor.start_session(Odd())
        assert monitor.swallowed_errors == 3
    assert len(allow_swallowed) == 3
    said = [message for message in caplog.messages if "AssertionError" in message]
    assert len(said) == 1
    assert "Jane" not in caplog.text


def test_closing_twice_and_using_a_closed_manager_does_nothing() -> None:
    monitor = manager()
    monitor.close()
    monitor.close()
    assert not monitor.is_enabled()
    one_image(monitor)
    assert status()["sessions"]["completed"] == 0


@pytest.mark.parametrize("timeout", [None, 0, 0.5, "1", -1])
def test_any_time_to_close_is_taken(timeout: Any) -> None:
    monitor = manager()
    one_image(monitor)
    monitor.close(timeout)
    assert status()["sessions"]["completed"] == 1


# --- backends -----------------------------------------------------------------------------------


def test_what_is_recorded_arrives(point_server: PointServer, pushgateway: Pushgateway) -> None:
    with manager(influxdb=point_server.write_settings(), prometheus={"gateway_url": pushgateway.url}) as monitor:
        one_image(monitor)
    (point,) = wait_for_points(point_server, "leglength_measurement", 1)
    assert point.fields["millimeters"] == 412.5
    assert point.tags["measurement"] == "PLL_R_FEM"
    assert pushgateway.value("leglength_measurement_millimeters", measurement="PLL_R_FEM") == 412.5
    assert pushgateway.value("leglength_last_success_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    backends = status()["outbox"]
    assert {name: (found["pending"], found["dead"]) for name, found in backends.items()} == {
        "influxdb": (0, 0), "prometheus": (0, 0)
    }  # fmt: skip


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.silence(),
        faults.drip_headers(0.02),
        faults.respond(503),
        faults.reset(),
        faults.redirect("http://127.0.0.1:1/"),
    ],
    ids=["silent", "dripping", "unavailable", "resetting", "redirecting"],
)
def test_a_backend_that_fails_costs_neither_the_session_nor_the_exit(
    fault_server: FaultServer, behaviour: faults.Behaviour
) -> None:
    fault_server.then = behaviour
    settings: dict[str, Any] = {
        "influxdb": {"url": fault_server.url}, "prometheus": {"gateway_url": fault_server.url}, "shutdown_timeout": 0.5
    }  # fmt: skip
    monitor = manager(**settings)
    one_image(monitor)
    began = time.monotonic()
    monitor.close()
    assert_took_at_most(time.monotonic() - began, 3.0)
    report = status(**settings)
    assert report["sessions"]["completed"] == 1
    assert report["outbox"]["influxdb"]["pending"] > 0


def test_what_waited_is_delivered_by_a_later_run(point_server: PointServer) -> None:
    with faults.refused_port() as url, manager(influxdb=point_server.write_settings() | {"url": url}) as monitor:
        one_image(monitor)
        monitor.close(0.2)
    # A backend that failed rests for up to two seconds before it is tried again.
    monitor = manager(influxdb=point_server.write_settings(), shutdown_timeout=10)
    one_image(monitor)
    assert len(wait_for_points(point_server, "leglength_session", 2)) == 2
    monitor.close()
    assert status()["outbox"]["influxdb"]["pending"] == 0


def test_all_statuses_are_pushed_at_0_before_the_first_session(pushgateway: Pushgateway) -> None:
    with manager(prometheus={"gateway_url": pushgateway.url}):
        wait_until(lambda: pushgateway.groups(), "the push")
    shown = {sample.labels["status"]: sample.value for sample in pushgateway.samples("leglength_sessions_total")}
    assert shown == {"completed": 0.0, "failed": 0.0, "skipped": 0.0, "crashed": 0.0}


def test_counters_advance_across_runs_and_prometheus_sees_the_increase(
    pushgateway: Pushgateway, prometheus_factory: Callable[..., Prometheus]
) -> None:
    """The reason for keeping totals in the store: two one-shot runs of one image each are two images."""
    prometheus = prometheus_factory([pushgateway.url])
    total = 'leglength_sessions_total{status="completed"}'
    settings = {"prometheus": {"gateway_url": pushgateway.url, "job_name": "leglength", "instance": "ward3"}}
    first = manager(**settings)
    prometheus.wait_for(f"{total} == 0")
    one_image(first)
    first.close()
    assert pushgateway.value("leglength_sessions_total", status="completed") == 1.0
    prometheus.wait_for(f"{total} == 1")
    with manager(**settings) as second:
        one_image(second)
    assert pushgateway.value("leglength_sessions_total", status="completed") == 2.0
    (series,) = prometheus.wait_for(f"{total} == 2")
    assert (series["metric"]["job"], series["metric"]["instance"]) == ("leglength", "ward3")
    # resets() is 0: no scrape ever saw a total below the one before.
    assert prometheus.value(f"resets({total}[1h])") == 0.0
    assert (prometheus.value(f"increase({total}[1h])") or 0.0) > 1.0
    assert prometheus.value(f"max_over_time({total}[1h]) - min_over_time({total}[1h])") == 2.0
    assert prometheus.value('last_over_time(leglength_stage_duration_seconds_count{stage="inference"}[1h])') == 2.0


def test_a_host_that_leaves_without_closing_loses_nothing(tmp_path: Path, point_server: PointServer) -> None:
    code = """
import json, sys
from monitoring import MonitorManager
monitor = MonitorManager({"monitoring": {"enabled": True, "influxdb": json.loads(sys.argv[1])}})
with monitor.session("1.2.840.1"):
    pass
"""
    settings = point_server.write_settings()
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(settings)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr
    assert len(wait_for_points(point_server, "leglength_session", 1)) == 1


def test_a_sites_name_is_a_tag_in_influxdb_and_a_label_of_the_pushed_group(
    influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    section = {
        "enabled": True, "influxdb": influxdb1.write_settings(), "prometheus": {"gateway_url": pushgateway.url},
        "privacy": {"site": "Invented Hospital"},
    }  # fmt: skip
    with MonitorManager({"monitoring": section}) as manager, manager.session("series"):
        pass
    (point,) = wait_for_points(influxdb1, "leglength_session", 1)
    assert point.tags["site"] == "Invented Hospital"
    (group,) = pushgateway.groups()
    assert group["site"] == "Invented Hospital"


def test_without_model_metrics_no_trace_of_an_open_session_holds_predictions_either(tmp_path: Path) -> None:
    section = {"enabled": True, "metrics": {"include_model_metrics": False, "include_system_metrics": False}}
    manager = MonitorManager({"monitoring": section})
    with manager.session("series") as session:
        boxes = {"boxes": [[1.0, 2.0, 3.0, 4.0]], "labels": [1], "scores": [0.9]}
        session.record_performance_data({"individual_model_predictions": {"resnet": {"predictions": boxes}}})
        database = Database(manager._runtime.store.path)  # type: ignore[union-attr]
        with session.stage("measurement"), open_store(database), database.read_transaction() as connection:
            (trace,) = [row[0] for row in connection.execute("SELECT record FROM open_sessions")]
    (record,) = manager.session_records()
    manager.close()
    assert "predictions" not in json.loads(trace)
    assert "predictions" not in record


# --- the output folder --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.prom", "inner/state.prom", "../out/state.prom", "link/state.prom"])
def test_no_textfile_is_written_to_the_output_folder_which_is_sent_on(
    tmp_path: Path, pushgateway: Pushgateway, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (tmp_path / "link").symlink_to(output)
    path = tmp_path / name if name.startswith("link") else output / name
    for gateway in ({}, {"gateway_url": pushgateway.url}):
        section = {"enabled": True, "prometheus": {"textfile": str(path), **gateway}}
        with MonitorManager({"monitoring": section}, output_dir=output) as monitor:
            one_image(monitor)
    assert list(output.rglob("*")) == []
    assert len([message for message in caplog.messages if "textfile must not lie in the output folder" in message]) == 2
    assert pushgateway.value("leglength_sessions_total", status="completed") == 2


# --- where there is no room ---------------------------------------------------------------------


def _in_stage(session: Any) -> None:
    with session.stage("deep"):
        pass


def _whole(monitor: MonitorManager) -> None:
    with monitor.session(UID) as session, session.stage("deep"):
        session.record_measurements({"PLL_R_FEM": 1.0})


NEAR_THE_END: dict[str, Callable[[MonitorManager, Any, str], Any]] = {
    "make a manager": lambda monitor, session, other: MonitorManager({"monitoring": {"enabled": False}}),
    "session": lambda monitor, session, other: _whole(monitor),
    "stage": lambda monitor, session, other: _in_stage(session),
    "record_stage": lambda monitor, session, other: session.record_stage("deep", 0.5),
    "record_metric": lambda monitor, session, other: session.record_metric("deep", 5.0),
    "record_measurements": lambda monitor, session, other: session.record_measurements({"PLL_L_FEM": 5.0}, "no.dcm"),
    "record_model_performance": lambda monitor, session, other: session.record_model_performance("resnet", {}),
    "record_performance_data": lambda monitor, session, other: session.record_performance_data({"issues": ["deep"]}),
    "skip": lambda monitor, session, other: session.skip("deep"),
    "fail": lambda monitor, session, other: session.fail("deep", "deep", "ValueError", "json:1"),
    "start_session": lambda monitor, session, other: monitor.start_session(UID),
    "track_processing_time": lambda monitor, session, other: monitor.track_processing_time(other, "deep", 1.0, 2.0),
    "end_session": lambda monitor, session, other: monitor.end_session(other),
    "session_records": lambda monitor, session, other: monitor.session_records(),
}


@pytest.mark.parametrize("name", NEAR_THE_END)
def test_near_the_end_of_the_hosts_stack_nothing_is_raised_by_us(name: str, allow_swallowed: list[Exception]) -> None:
    call = NEAR_THE_END[name]
    monitor = manager()
    ours: list[str] = []

    def descend(session: Any, other: str) -> None:
        try:
            call(monitor, session, other)
        except RecursionError as error:
            trace = error.__traceback__
            while trace is not None:
                file = trace.tb_frame.f_code.co_filename
                ours.extend([f"{file}:{trace.tb_lineno}"] if "/monitoring/" in file else [])
                trace = trace.tb_next
        descend(session, other)

    with monitor.session(UID) as outer:
        other = monitor.start_session(UID)
        limit, depth = sys.getrecursionlimit(), len(list(_frames()))
        sys.setrecursionlimit(depth + 80)
        try:
            with pytest.raises(RecursionError):
                descend(outer, other)
        finally:
            sys.setrecursionlimit(limit)
    assert ours == []
    one_image(monitor, UID + "1")
    records = monitor.session_records()
    assert records[-1]["status"] == "completed"
    monitor.close()
    assert sum(status()["sessions"].values()) >= len(records)


def _frames() -> Any:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]
