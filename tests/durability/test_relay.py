"""The relay on the host's side: for modules that are gone, were killed, or know no backend."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitoring.metrics.chart_metrics import STATES
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.exams import BIAS, a_store, exams
from tests.support.faults import FaultServer, respond, silence
from tests.support.hosts import Host, base_settings, wait_for_line, with_influxdb, with_pushgateway
from tests.support.records import realistic
from tests.support.servers import InfluxDB1, Pushgateway, wait_until

RECORD_TWO = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range(2):
    with manager.session("series") as session:
        pass
    say("ended", session.id)
manager.close()
"""


@contextmanager
def relay(
    host: Host, settings: dict[str, Any], interval: float = 0.1, heartbeat: float = 60.0
) -> Iterator[subprocess.Popen[str]]:
    """`leglength-monitor relay`, killed in the end if it still runs."""
    task = host.folder / "relay.json"
    task.write_text(json.dumps({"process": {"settings": {"monitoring": settings}}}))
    code = (
        "from monitoring.cli import main; import monitoring.runtime.relay\n"
        f"monitoring.runtime.relay.HEARTBEAT_SECONDS = {heartbeat}; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "relay", "--config", str(task), "--interval", str(interval)],
        cwd=host.folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=(host.folder / "relay.log").open("w"),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def log(host: Host) -> str:
    return (host.folder / "relay.log").read_text()


def relay_settings(host: Host, influxdb1: InfluxDB1, **more: Any) -> dict[str, Any]:
    settings = base_settings(host.store_folder) | more
    return with_influxdb(settings, influxdb1.write_settings())


def points(server: InfluxDB1) -> list[int]:
    return [point.time_ns for point in server.read_points("leglength_session")]


def test_sessions_of_a_module_without_backends_are_delivered_by_the_relay(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    assert host.run(RECORD_TWO).code == 0
    settings = with_pushgateway(relay_settings(host, influxdb1), pushgateway.url)
    began = time.time()
    with relay(host, settings):
        wait_until(lambda: len(points(influxdb1)) == 2, "the first sessions")
        assert host.run(RECORD_TWO).code == 0  # while it runs
        wait_until(lambda: len(points(influxdb1)) == 4, "the later sessions")
        wait_until(lambda: pushgateway.value("leglength_sessions_total", status="completed") == 4, "the totals")
        seen = pushgateway.value("leglength_monitoring_relay_last_seen_timestamp_seconds")
        assert seen is not None
        assert began <= seen <= time.time()
    assert sorted(points(influxdb1)) == sorted(item.timestamp_ns for item in host.stored())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_relay_stops_at_a_signal_with_everything_delivered(
    host: Host, influxdb1: InfluxDB1, number: signal.Signals
) -> None:
    with relay(host, relay_settings(host, influxdb1), interval=30.0) as process:
        wait_until(lambda: host.store_path.exists(), "the relay to begin")
        assert host.run(RECORD_TWO).code == 0
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(HANGS_SECONDS) == 0
    assert "Traceback" not in log(host)
    assert list(host.store_folder.glob("*.alive-*")) == []
    host.settings = relay_settings(host, influxdb1)
    host.drain()
    assert len(points(influxdb1)) == 2


def test_the_relay_stops_in_time_though_its_backend_is_silent(host: Host) -> None:
    host.run(RECORD_TWO)
    with FaultServer(then=silence()) as server:
        settings = base_settings(host.store_folder, shutdown_timeout=1.0)
        settings = with_influxdb(settings, {"url": server.url}, timeout=600.0)
        with relay(host, settings) as process:
            server.wait_for_requests(1)
            process.terminate()
            assert process.wait(HANGS_SECONDS) == 0
    assert len(host.records()) == 2


def test_the_relay_reports_a_killed_modules_session_and_takes_its_lease_over(host: Host, influxdb1: InfluxDB1) -> None:
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with manager.session("first"):
    pass
session_id = manager.start_session("second")
now = time.time()
manager.track_processing_time(session_id, "load", now - 1, now)
say("open", session_id)
time.sleep(600)
"""
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url}, timeout=600.0)
        with relay(host, relay_settings(host, influxdb1)), host.running(script) as module:
            open_id = wait_for_line(module, "open").split()[1]
            time.sleep(0.5)  # a few turns: the living module's session is left alone
            assert open_id not in host.records()
            module.send_signal(signal.SIGKILL)
            wait_until(lambda: len(points(influxdb1)) == 2, "both sessions")
    record = host.records()[open_id]
    assert (record.status, record.stages_seconds) == ("crashed", {"load": pytest.approx(1.0, abs=0.01)})
    statuses = Counter(point.tags["status"] for point in influxdb1.read_points("leglength_session"))
    assert statuses == {"completed": 1, "crashed": 1}


def test_a_hang_is_seen_while_it_lasts_and_a_killed_process_session_is_open_no_more(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
session_id = manager.start_session("hangs")
manager._runtime.open_session(session_id).started_ns -= 3600 * 10**9  # as if it had been open for an hour
now = time.time()
manager.track_processing_time(session_id, "load", now - 1, now)
say("open", session_id)
time.sleep(600)
"""
    settings = with_pushgateway(relay_settings(host, influxdb1), pushgateway.url)

    def told(count: int) -> bool:
        latest = max(influxdb1.read_points("leglength_monitoring_store"), key=lambda point: point.time_ns, default=None)
        pushed = pushgateway.value("leglength_open_sessions")
        return pushed == count and latest is not None and latest.fields["open_sessions"] == count

    with relay(host, settings, heartbeat=0.2), host.running(script) as module:
        wait_for_line(module, "open")
        wait_until(lambda: told(1), "the open session")
        assert (pushgateway.value("leglength_oldest_open_session_seconds") or 0) >= 3600
        told_to_the_log = [point.fields for point in influxdb1.read_points("leglength_monitoring_store")]
        assert any(fields["oldest_open_session_seconds"] >= 3600 for fields in told_to_the_log)
        assert host.records() == {}  # it lives, and is nobody's crash
        module.send_signal(signal.SIGKILL)
        wait_until(lambda: told(0), "the crashed session to be open no more")
        assert pushgateway.value("leglength_oldest_open_session_seconds") == 0
        assert pushgateway.value("leglength_sessions_total", status="crashed") == 1


def test_the_relay_outlives_an_outage_of_its_backend(host: Host) -> None:
    host.run(RECORD_TWO)
    with FaultServer([respond(503, headers={"Retry-After": "0"})] * 2) as server:
        settings = with_influxdb(base_settings(host.store_folder), {"url": server.url})
        with relay(host, settings):
            wait_until(lambda: len(server.requests) >= 3, "the third attempt")
            wait_until(lambda: host.status()["outbox"]["influxdb"]["pending"] == 0, "the delivery")
        assert log(host).count("HTTP 503") == 1  # said once
    assert "answers again" in log(host)


def test_the_relay_outlives_a_store_that_breaks_and_one_that_is_not_there_yet(host: Host, influxdb1: InfluxDB1) -> None:
    """It reads what it has in memory, and meets the damage when it next writes: with its heartbeat at the latest."""
    with relay(host, relay_settings(host, influxdb1), heartbeat=0.5) as process:
        wait_until(lambda: host.store_path.exists(), "the relay's own store")
        assert host.run(RECORD_TWO).code == 0
        wait_until(lambda: len(points(influxdb1)) == 2, "the first sessions")
        for path in host.store_folder.glob("monitoring.db*"):
            if path.suffix in (".db", ".db-wal"):
                path.write_bytes(b"broken" * 2000)
        wait_until(lambda: list(host.store_folder.glob("*.corrupt-*")), "the damaged store to be put aside")
        assert host.run(RECORD_TWO).code == 0
        wait_until(lambda: len(points(influxdb1)) == 4, "the later sessions")
        assert process.poll() is None
    assert "Traceback" not in log(host)


def test_a_store_that_cannot_be_opened_is_said_once_and_tried_again(host: Host, influxdb1: InfluxDB1) -> None:
    host.store_folder.write_text("a file where the folder should be")
    with relay(host, relay_settings(host, influxdb1)) as process:
        wait_until(lambda: "trying again" in log(host), "its complaint")
        time.sleep(0.5)
        assert log(host).count("trying again") == 1
        host.store_folder.unlink()
        assert host.run(RECORD_TWO).code == 0
        wait_until(lambda: len(points(influxdb1)) == 2, "the sessions")
        assert process.poll() is None


def test_the_charts_of_a_module_without_backends_are_told_by_the_relay(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    host.store_folder.mkdir()
    with a_store(host.store_folder, exams()):
        pass
    with relay(host, with_pushgateway(relay_settings(host, influxdb1), pushgateway.url, timeout=5.0)) as process:
        alarm = STATES.index("alarm")
        wait_until(lambda: pushgateway.value("leglength_analysis_state", chart=BIAS) == alarm, "the chart's alarm")
        wait_until(lambda: len(influxdb1.read_points("leglength_analysis_alarm")) > 0, "where it began")
        assert process.poll() is None
    assert log(host).count("new alarm(s) of the charts: ") == 1


# --- import ---------------------------------------------------------------------------------------


def result(*records: Any) -> dict[str, Any]:
    return {"counts": {}, "monitoring": {"sessions": list(records)}}


def as_dict(number: int, **changed: Any) -> dict[str, Any]:
    return realistic(session_id=f"imported-{number}", **changed).to_dict()


def imported(host: Host, *documents: Any) -> str:
    paths = []
    for number, document in enumerate(documents):
        path = host.folder / f"result-{number}.json"
        path.write_text(json.dumps(document))
        paths.append(path)
    done = host.monitor("import", *paths)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


def test_an_import_counts_each_session_once_however_often_it_is_done(host: Host, influxdb1: InfluxDB1) -> None:
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    host.settings["store"] |= {"retention_days": 36_500}
    wrapped = {"archive": [{"task": {"result": result(as_dict(2), as_dict(1))}}, {"other": 1}]}
    assert imported(host, result(as_dict(1)), wrapped) == "2 imported, 1 already there, 0 unreadable"
    assert imported(host, wrapped) == "0 imported, 2 already there, 0 unreadable"
    host.drain()
    assert len(points(influxdb1)) == 2
    assert host.status()["sessions"]["completed"] == 2


def test_garbage_is_counted_and_the_rest_is_imported(host: Host) -> None:
    host.settings = with_influxdb(host.settings, {"url": "http://127.0.0.1:9"})
    bad: list[Any] = [
        None, 7, "text", [], {}, {"version": 1}, as_dict(1) | {"version": 99}, as_dict(1) | {"status": "unheard of"},
        as_dict(1) | {"ended_ns": 10**30}, as_dict(1) | {"ended_ns": -1}, as_dict(1) | {"landmarks_found": 10**400},
        as_dict(1) | {"session_id": "\ud800"}, as_dict(1) | {"models": [[[]]]}, as_dict(1) | {"duration_seconds": "x"},
    ]  # fmt: skip
    assert imported(host, result(*bad, as_dict(5))) == f"1 imported, 0 already there, {len(bad)} unreadable"


def test_names_that_no_host_could_have_recorded_do_not_reach_a_label(host: Host, influxdb1: InfluxDB1) -> None:
    """An archive is somebody's file: what names a stage or a model there may be anything, a patient's name too."""
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    host.settings["store"] |= {"retention_days": 36_500}
    names = ["DOE^JOHN", "1.2.826.0.1", "back\\slash", "line\nbreak", "", "x" * 500, "load"]
    strange = as_dict(1) | {"stages_seconds": dict.fromkeys(names, 1.0), "custom": dict.fromkeys(names, 2.0)}
    assert imported(host, result(strange)).startswith("1 imported")
    host.drain()
    assert {point.tags["stage"] for point in influxdb1.read_points("leglength_stage")} == {"load", "other"}
    assert {point.tags["name"] for point in influxdb1.read_points("leglength_custom")} == {"load", "other"}


def test_records_altered_at_random_never_break_the_import(host: Host) -> None:
    host.settings = with_influxdb(host.settings, {"url": "http://127.0.0.1:9"})
    chance = random.Random(5)
    values = [None, True, -1, 0, 10**20, 1e308, "", "text", "\ud800", [], [[]], {}, {"": 1}, {"a": None}]
    altered = []
    for number in range(400):
        record = as_dict(number)
        key = chance.choice(list(record))
        inner = record[key]
        if isinstance(inner, dict) and inner and chance.random() < 0.5:
            inner[chance.choice(list(inner))] = chance.choice(values)
        else:
            record[key] = chance.choice(values)
        altered.append(record)
    counts = [int(word) for word in imported(host, result(*altered)).split() if word.isdigit()]
    assert sum(counts) == 400
    assert len(host.records()) == counts[0] > 20


def test_an_imported_session_equals_the_one_that_was_exported(host: Host, tmp_path: Path) -> None:
    host.run(RECORD_TWO)
    exported = [json.loads(line) for line in host.monitor("export").stdout.splitlines()]
    other = Host(tmp_path / "other")
    other.folder.mkdir()
    assert imported(other, result(*exported)) == "2 imported, 0 already there, 0 unreadable"
    assert other.records() == host.records()
    assert next(iter(host.records().values())) in other.records().values()
