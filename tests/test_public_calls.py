"""Every public call, in both ways of calling: the same name means the same, nothing raises, all of it is documented."""

from __future__ import annotations

import inspect
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest

from monitoring import ManagedSession, MonitorManager
from tests.support import REPOSITORY
from tests.support.clocks import assert_took_at_most
from tests.support.hostile import Hostile

RECORDED = (
    "stages_seconds", "custom", "models", "measurements_mm", "ensemble", "status", "reason", "stopped_in", "failure",
    "refused",
)  # fmt: skip


def manager(logger: Any = None) -> MonitorManager:
    return MonitorManager({"monitoring": {"enabled": True, "metrics": {"include_system_metrics": False}}}, logger)


def public(owner: type) -> dict[str, Any]:
    return {name: member for name, member in vars(owner).items() if inspect.isfunction(member) and name[0] != "_"}


def calls(*first: str) -> list[tuple[str, tuple[Any, ...]]]:
    """Each recording call with its arguments behind the session's id."""
    now = time.time()
    return [
        ("record_stage", ("load", 0.5)),
        ("track_processing_time", ("inference", now - 2.0, now)),
        ("record_metric", ("bone_age_months", 120)),
        ("record_metrics", ("contrast", 0.5)),
        ("record_metrics", ("contrast_2", 0.5, {"tag": 1})),
        ("record_model_performance", ("resnet", {"inference_seconds": 1.0, "confidence_scores": [0.5]})),
        ("record_measurements", ({"PLL_R_FEM": 400.0},)),
        ("record_performance_data", ({"image_metrics": {"dds": 0.5}},)),
        ("skip", ("no_contrast", "load")),
        ("fail", ("bad_input", "inference", "ValueError", "json:1")),
    ]


def test_the_same_name_means_the_same_in_both_ways_of_calling() -> None:
    with manager() as monitor:
        with monitor.session("a") as session:
            for name, arguments in calls():
                getattr(session, name)(*arguments)
        session_id = monitor.start_session("a")
        for name, arguments in calls():
            getattr(monitor, name)(session_id, *arguments)
        monitor.end_session(session_id)
        with monitor.session("a") as mixed:
            for name, arguments in calls():
                getattr(monitor, name)(mixed.id, *arguments)
        found = [{key: record.get(key) for key in RECORDED} for record in monitor.session_records()]
    for one in found:
        one["stages_seconds"] = {name: round(seconds, 3) for name, seconds in one["stages_seconds"].items()}
    assert found[0] == found[1] == found[2]
    assert found[0]["custom"] == {"bone_age_months": 120.0, "contrast": 0.5, "contrast_2": 0.5}
    assert (found[0]["status"], found[0]["reason"]) == ("failed", "bad_input")


def test_each_call_of_one_way_is_there_in_the_other_but_for_the_id() -> None:
    ways = {"session", "start_session", "is_enabled", "session_records", "close"}
    of_manager, of_session = public(MonitorManager), public(ManagedSession)
    assert set(of_manager) - ways == set(of_session) - {"stage"}
    for name in set(of_manager) - ways:
        with_id = list(inspect.signature(of_manager[name]).parameters)[1:]
        without = list(inspect.signature(of_session[name]).parameters)[1:]
        assert (with_id[0], len(with_id) - 1) == ("session_id", len(without)), name
        if name != "record_metric" and name != "record_stage":
            assert with_id[1:] == without, name


def test_a_session_that_is_ended_within_its_with_ends_once() -> None:
    with manager() as monitor:
        with monitor.session("a") as session:
            session.end_session("skipped")
            session.record_metric("late", 1)
        (record,) = monitor.session_records()
    assert record["status"] == "skipped"
    assert "custom" not in record


def test_the_records_are_there_after_the_close() -> None:
    monitor = manager()
    with monitor.session("a"):
        pass
    monitor.start_session("b")
    monitor.close()
    monitor.close()
    assert not monitor.is_enabled()
    assert [record["status"] for record in monitor.session_records()] == ["completed", "failed"]
    assert monitor.session_records()[1]["reason"] == "not_ended"
    assert monitor.start_session("c") == ""
    with monitor.session("d") as session:
        session.record_metric("x", 1)
    assert len(monitor.session_records()) == 2


class RaisingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("a host's own")


@pytest.mark.parametrize("logger", ["text", 5, Hostile(), print, [], None])
def test_a_logger_that_is_none_is_replaced(logger: Any, allow_swallowed: list[Exception]) -> None:
    monitor = manager(logger)
    assert monitor.is_enabled()
    with monitor.session("a") as session:
        session.record_metric("x", "not a number")
    assert [record["refused"] for record in monitor.session_records()] == [{"metric_value": 1}]
    monitor.close()
    MonitorManager({"monitoring": "wrong"}, logger).close()


def test_a_logger_whose_filter_raises_reaches_nobody(allow_swallowed: list[Exception]) -> None:
    logger = logging.Logger("raising")  # noqa: LOG001 - of nobody else
    logger.addFilter(RaisingFilter())
    monitor = manager(logger)
    with monitor.session("a") as session:
        session.record_metric("x", Hostile())
        session.record_metric("y", 1)
    monitor.close()


@pytest.mark.parametrize("timeout", ["soon", math.nan, math.inf, 10**400, -1, Hostile(), b"1", [], None, True])
def test_whatever_the_time_to_close_is_it_is_closed(timeout: Any) -> None:
    monitor = manager()
    with monitor.session("a"):
        pass
    began = time.monotonic()
    monitor.close(timeout)
    assert not monitor.is_enabled()
    assert len(monitor.session_records()) == 1
    assert_took_at_most(time.monotonic() - began, 20.0)


def test_a_call_in_vain_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with manager() as monitor:
        for session_id in ("", "unknown", "another"):
            monitor.record_metric(session_id, "x", 1)
    assert [message for message in caplog.messages if "not_open" in message] == [
        "monitoring: left out: session: not_open"
    ]


def test_an_image_that_tells_nothing_is_said_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager() as monitor:
        with monitor.session("a") as session:
            session.record_measurements({}, tmp_path / "Doe^Jane.dcm")
        monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
        with monitor.session("a") as session:
            session.record_measurements({}, tmp_path / "Doe^Jane.dcm")
        assert [record["refused"] for record in monitor.session_records()] == [{"image": 1}, {"image": 1}]
    said = [message for message in caplog.messages if "left out" in message]
    assert said == ["monitoring: left out: image: unreadable", "monitoring: left out: image: pydicom_is_missing"]
    assert "Jane" not in caplog.text


def test_a_name_for_which_a_label_has_no_room_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with manager() as monitor, monitor.session("a") as session:
        for number in range(70):
            session.record_metric(f"metric_{number}", number)
    said = [message for message in caplog.messages if "no room in the label name: metric_" in message]
    assert len(said) == 70 - 64


def test_every_public_call_is_documented() -> None:
    page = (REPOSITORY / "docs/api.md").read_text()
    for owner in (MonitorManager, ManagedSession):
        for name, member in public(owner).items():
            assert f"#### `{name}(" in page
            assert inspect.getdoc(member)
    for said in ("Refused: ", "After `close`", "millimeters", "bone_age_months", "Legs' own"):
        assert said in page
