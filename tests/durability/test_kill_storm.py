"""Processes that are killed at random lose no session that was ended, and no session that was started."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from monitoring.store.database import Database
from monitoring.store.sessions import Store
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.servers import InfluxDB1, Pushgateway

KILLS = 200
SEED = 20_261_122


def settings(store: Path, influxdb1: InfluxDB1, pushgateway: Pushgateway) -> dict[str, Any]:
    backends = {"influxdb": influxdb1.write_settings(), "prometheus": {"gateway_url": pushgateway.url}}
    return {"monitoring": {"enabled": True, "store": {"path": str(store)}, "shutdown_timeout": 1, **backends}}


def drain(folder: Path, application: dict[str, Any]) -> None:
    task = folder / "task.json"
    task.write_text(json.dumps({"process": {"settings": application}}))
    command = [sys.executable, "-m", "monitoring.cli", "drain", "--config", str(task), "--json"]
    for _ in range(10):  # a killed child's lease may still have to run out
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False
        )
        if done.returncode == 0:
            return
    raise AssertionError(done.stdout + done.stderr)


def test_two_hundred_kills_lose_no_session_and_invent_none(
    tmp_path: Path, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    store, markers = tmp_path / "state", tmp_path / "markers"
    application = settings(store, influxdb1, pushgateway)
    command = [
        sys.executable,
        "-m",
        "tests.durability.storm",
        json.dumps(application),
        str(markers),
        str(KILLS),
        str(SEED),
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=HANGS_SECONDS)
    drain(tmp_path, application)

    lines = [line.split() for line in markers.read_text().splitlines()]
    started = {session_id: int(number) for kind, number, session_id in lines if kind == "S"}
    ended = {session_id for kind, _, session_id in lines if kind == "E"}
    kept = {item.record.session_id: item for item in Store(Database(store / "monitoring.db")).sessions()}
    assert len(ended) > KILLS // 2, "the children lived too short a life to prove anything"
    assert len(ended) < len(started)

    assert {kept[session_id].record.status for session_id in ended} == {"completed"}
    assert started.keys() <= kept.keys()
    # Killed between the commit and the marker, a session is completed; anywhere earlier it is crashed.
    assert {kept[session_id].record.status for session_id in started.keys() - ended} <= {"crashed", "completed"}
    assert any(item.record.status == "crashed" for item in kept.values())

    points = influxdb1.query("SELECT duration_seconds FROM leglength_session", influxdb1.database)
    assert sorted(point["time"] for point in points) == sorted(item.timestamp_ns for item in kept.values())
    numbers = Counter(
        round(point["value"]) for point in influxdb1.query("SELECT value FROM leglength_custom", influxdb1.database)
    )
    assert {numbers[started[session_id]] for session_id in ended} == {1}
    assert max(numbers.values()) == 1
    unmarked = len(kept) - len(started)  # killed between start_session's commit and the marker
    assert len(set(numbers) - set(started.values())) <= unmarked <= KILLS + 4

    counts = Counter(item.record.status for item in kept.values())
    for status in ("completed", "failed", "skipped", "crashed"):
        assert pushgateway.value("leglength_sessions_total", status=status) == counts[status]
