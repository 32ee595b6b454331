"""What hosts these tests start again and again, and how they fared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitoring import MonitorManager
from monitoring.store.database import Database
from monitoring.store.sessions import Store
from tests.support.hosts import Ended, base_settings
from tests.support.servers import InfluxDB1

IN_MEMORY = "sessions are kept in memory"
SHORT_REST = "import monitoring.runtime.failover\nmonitoring.runtime.failover.REST_SECONDS = 0.0\n"
# A session at a time, as told on a pipe; what each costs the processing thread is said.
RECORD_FOUR = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range(4):
    began = time.monotonic()
    with manager.session("series") as session:
        with session.stage("inference"):
            pass
    say("ended", session.id, round(time.monotonic() - began, 3))
say("result")
manager.close()
say("closed")
"""


def times(ended: Ended) -> list[float]:
    return [float(words[2]) for words in ended.words if words[0] == "ended"]


def assert_undisturbed(ended: Ended) -> None:
    assert ended.code == 0, ended.stderr
    assert [words[0] for words in ended.words] == ["ended"] * 4 + ["result", "closed"]
    assert "Traceback" not in ended.stderr


def said(ended: Ended, words: str) -> int:
    return sum(words in line for line in ended.stderr.splitlines())


def points(server: InfluxDB1) -> list[int]:
    return [point.time_ns for point in server.read_points("leglength_session")]


def settings_of(folder: Path, **more: Any) -> dict[str, Any]:
    return {"monitoring": base_settings(folder, **more)}


def record(manager: MonitorManager, series: str = "series") -> str:
    with manager.session(series) as session:
        pass
    return session.id


def stored_ids(path: Path) -> set[str]:
    opened = Database(path)
    try:
        return {stored.record.session_id for stored in Store(opened).sessions()}
    finally:
        opened.close()


RECORD_ONE = """
with manager.session("series") as session:
    with session.stage("inference"):
        session.record_measurements({"PLL_R_FEM": 412.5})
say("recorded", session.id)
"""


def begin(script: str) -> str:
    return 'manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))\n' + script
