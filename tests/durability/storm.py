"""A process that starts recording children, some at a time, and kills each at a random instant.

``python -m tests.durability.storm SETTINGS MARKERS KILLS SEED``: the settings are JSON; each child appends
``S number session_id`` to the file MARKERS when ``start_session`` returned, and ``E number session_id``
when ``end_session`` did. The children are forked from a process that has imported everything and holds
nothing open, so that two hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import monitoring.influx_client
import monitoring.prometheus_client
import monitoring.runtime.runtime
import monitoring.transport.http  # noqa: F401 - imported once, for all children
from monitoring import MonitorManager

AT_ONCE = 4
SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS = 0.05, 4.0
SESSIONS_FOR_A_KILL = 5
SESSIONS_AT_MOST = 400


def record(settings: dict[str, Any], markers: int, child: int) -> None:
    """Record sessions until killed."""
    monitor = MonitorManager(settings)
    for position in range(SESSIONS_AT_MOST):
        number = child * SESSIONS_AT_MOST + position
        session_id = monitor.start_session(f"series-{number}", {})
        os.write(markers, f"S {number} {session_id}\n".encode())
        monitor.record_metrics(session_id, "storm_number", number)
        now = time.time()
        for stage in ("load", "inference"):
            monitor.track_processing_time(session_id, stage, now - 0.001, now)
        monitor.record_measurements(session_id, {"PLL_R_FEM": {"millimeters": 300.0 + number / 1000}})
        monitor.end_session(session_id, "completed")
        os.write(markers, f"E {number} {session_id}\n".encode())


def start_child(settings: dict[str, Any], markers: int, child: int) -> int:
    """Fork a recording child; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            record(settings, markers, child)
        finally:
            os._exit(0)
    return pid


def main() -> None:
    """Keep AT_ONCE children alive until so many have been killed."""
    settings, path, kills, seed = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    markers = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    chance, longest = random.Random(seed), SHORTEST_LIFE_SECONDS
    alive: dict[int, float] = {}
    killed = born = 0
    while killed < kills:
        while len(alive) < AT_ONCE:
            pid = start_child(settings, markers, born)
            born += 1
            alive[pid] = time.monotonic() + chance.uniform(0.005, longest)
        pid = min(alive, key=alive.__getitem__)
        time.sleep(max(0.0, alive.pop(pid) - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed += 1
        # Lives too short for a session, on a busy machine, would prove nothing, and long ones no more than others.
        if Path(path).read_text().count("E ") < SESSIONS_FOR_A_KILL * killed:
            longest = min(longest * 1.1, LONGEST_LIFE_SECONDS)
        else:
            longest = max(longest / 1.1, SHORTEST_LIFE_SECONDS)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
