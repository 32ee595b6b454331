"""Locks of other processes, network filesystems, and sessions that wait in memory for the file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring import MonitorManager
from monitoring.runtime import failover
from monitoring.store import database
from monitoring.store.database import Database, is_on_network
from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import FaultServer
from tests.support.hosts import Host, base_settings, wait_for_line, with_influxdb
from tests.support.recordings import (
    IN_MEMORY,
    RECORD_FOUR,
    assert_undisturbed,
    points,
    record,
    said,
    settings_of,
    stored_ids,
    times,
)
from tests.support.servers import InfluxDB1, wait_until

# --- locks ----------------------------------------------------------------------------------------

HOLD_LOCK = """
import sqlite3
connection = sqlite3.connect(sys.argv[1] if len(sys.argv) > 1 else os.environ["LOCK_PATH"], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
say("locked")
sys.stdin.read() if sys.stdin.readable() else time.sleep(600)
time.sleep(600)
"""


def test_a_lock_held_for_long_is_waited_for_once_and_delivery_goes_on_from_memory(
    host: Host, influxdb1: InfluxDB1
) -> None:
    host.run(RECORD_FOUR)
    stored = set(host.records())
    host.environment["LOCK_PATH"] = str(host.store_path)
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    with host.running(HOLD_LOCK) as holder:
        wait_for_line(holder, "locked")
        ended = host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, IN_MEMORY) == 1
    *others, _ = sorted(times(ended))
    assert_took_at_most(sum(others), 0.9)  # one wait, not one for each session
    assert_took_at_most(ended.seconds, 12.0)
    assert len(points(influxdb1)) == 4
    assert set(host.records()) == stored
    # What was begun while the file could be written would be reported as crashed; here nothing was.
    host.drain()
    assert len(points(influxdb1)) == 8


def test_a_lock_that_is_given_up_lets_the_sessions_into_the_file_as_the_same_points(
    host: Host, influxdb1: InfluxDB1
) -> None:
    host.run(RECORD_FOUR)
    host.environment["LOCK_PATH"] = str(host.store_path)
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    with host.running(HOLD_LOCK) as holder:
        wait_for_line(holder, "locked")
        script = RECORD_FOUR.replace(
            'say("result")', 'say("result")\nwhile not os.path.exists("free"):\n    time.sleep(0.01)'
        )
        with host.running(script) as running:
            wait_for_line(running, "result")
            wait_until(lambda: len(points(influxdb1)) == 4, "the delivery from memory")
            early = influxdb1.read_points("leglength_session")
            # What only the file knows is left out, rather than sent now and corrected later.
            assert not any("throughput_sessions_per_hour" in point.fields for point in early)
            holder.kill()
            holder.wait()
            (host.folder / "free").touch()
            wait_for_line(running, "closed")
            running.wait(HANGS_SECONDS)
    assert len(host.records()) == 8
    host.drain()
    stored = sorted(stored.timestamp_ns for stored in host.stored())
    assert sorted(points(influxdb1)) == stored  # each once: nothing under a second time or instance
    told_early = {point.time_ns for point in early}
    delivered = [point for point in influxdb1.read_points("leglength_session") if point.time_ns in told_early]
    assert delivered == early  # and with the values that it was told before, whatever the file knows beside them


def test_the_exit_is_not_held_up_by_a_lock(host: Host) -> None:
    host.run(RECORD_FOUR)
    host.environment["LOCK_PATH"] = str(host.store_path)
    host.settings["shutdown_timeout"] = 0.5
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
session_id = manager.start_session("series")
say("open")
while not os.path.exists("locked"):
    time.sleep(0.01)
began = time.monotonic()
manager.close()
say("closed", round(time.monotonic() - began, 3))
"""
    with host.running(script) as process:
        wait_for_line(process, "open")
        with host.running(HOLD_LOCK) as holder:
            wait_for_line(holder, "locked")
            (host.folder / "locked").touch()
            assert_took_at_most(float(wait_for_line(process, "closed").split()[1]), 2.0)


def test_a_lock_that_is_free_for_moments_only_is_caught(tmp_path: Path) -> None:
    """SQLite's own waiting looks ten times a second, and is overtaken until its patience is over."""
    path = tmp_path / "monitoring.db"
    Database(path).close()
    done = threading.Event()

    def hold_again_and_again() -> None:
        chance = random.Random(3)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            while not done.is_set():
                other.execute("BEGIN IMMEDIATE")
                time.sleep(chance.uniform(0.05, 0.15))
                other.execute("COMMIT")
                time.sleep(0.002)

    holder = threading.Thread(target=hold_again_and_again)
    holder.start()
    try:
        opened = Database(path)
        for _ in range(20):
            time.sleep(0.01)  # it is taken again by now
            with opened.transaction():
                pass
        opened.close()
    finally:
        done.set()
        holder.join()


def test_a_transaction_that_an_interrupt_left_open_does_not_lock_the_store(tmp_path: Path) -> None:
    """A host's signal handler may raise between any two of our steps."""
    opened = Database(tmp_path / "monitoring.db")
    assert opened._connection is not None
    opened._connection.execute("BEGIN IMMEDIATE")
    with opened.transaction() as connection:
        connection.execute("INSERT INTO vocabulary VALUES ('label', 'value')")
    other = Database(tmp_path / "monitoring.db", 0.2)
    with other.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM vocabulary").fetchone() == (1,)
    other.close()
    opened.close()


def test_processes_that_hammer_one_store_are_all_served(new_host: Callable[[str], Host], tmp_path: Path) -> None:
    """SQLite's own waiting lets one process overtake another until its patience is over."""
    hosts = [new_host(f"host-{number}") for number in range(4)]
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for _ in range(60):
    manager.end_session(manager.start_session("series"))
    say("ended")
manager.close()
"""
    for one in hosts:
        one.settings = base_settings(tmp_path / "shared")
    processes = [one.start(script) for one in hosts]
    said = [process.communicate(timeout=HANGS_SECONDS) for process in processes]
    for stdout, stderr in said:
        assert IN_MEMORY not in stderr
        assert stdout.count("ended") == 60
    assert len(stored_ids(tmp_path / "shared" / "monitoring.db")) == sum(stdout.count("ended") for stdout, _ in said)


def test_a_fresh_store_is_begun_by_eight_processes_at_once(new_host: Callable[[str], Host], tmp_path: Path) -> None:
    hosts = [new_host(f"host-{number}") for number in range(8)]
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
say("ended", manager.start_session("series"))
manager.close()
"""
    for one in hosts:
        one.settings = base_settings(tmp_path / "shared")
    processes = [one.start(script) for one in hosts]
    outputs = [process.communicate(timeout=HANGS_SECONDS) for process in processes]
    assert [stderr for _, stderr in outputs if IN_MEMORY in stderr] == []
    assert len(stored_ids(tmp_path / "shared" / "monitoring.db")) == 8


# --- network filesystems --------------------------------------------------------------------------


def mountinfo(device: str, filesystem: str) -> str:
    others = "22 1 0:99 / /other rw - ext4 /dev/sda1 rw\n"
    return f"{others}36 35 {device} / /data rw,noatime shared:1 - {filesystem} host:/x rw\n"


@pytest.mark.parametrize(
    ("filesystem", "expected"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)],
)
def test_a_network_filesystem_is_told_by_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str, expected: bool
) -> None:
    number = tmp_path.stat().st_dev
    table = mountinfo(f"{os.major(number)}:{os.minor(number)}", filesystem)
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, **how: table if str(self) == "/proc/self/mountinfo" else read_text(self, **how)
    )
    assert is_on_network(tmp_path / "monitoring.db") is expected


def test_on_a_network_filesystem_the_store_does_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "is_on_network", lambda path: True)
    with FaultServer() as server:
        settings = settings_of(tmp_path, influxdb={"url": server.url, "token": "t", "org": "o"})
        with MonitorManager(settings) as first, MonitorManager(settings) as second:
            ids = {record(manager) for _ in range(5) for manager in (first, second)}
            assert {path.suffix for path in tmp_path.iterdir()}.isdisjoint({".db-wal", ".db-shm"})
    assert stored_ids(tmp_path / "monitoring.db") == ids
    opened = Database(tmp_path / "monitoring.db")
    with opened.read_transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    opened.close()


# --- in memory ------------------------------------------------------------------------------------


def test_the_file_is_tried_again_after_a_rest_and_everything_comes_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "monitoring")
    folder = tmp_path / "store"
    folder.write_text("a file where the folder should be")
    with MonitorManager(settings_of(folder)) as manager:
        early = [record(manager), record(manager)]
        folder.unlink()
        monkeypatch.setattr(failover.time, "monotonic", lambda now=time.monotonic: now() + 31.0)
        late = record(manager)
        assert stored_ids(folder / "monitoring.db") == {*early, late}
    assert sum(IN_MEMORY in line for line in caplog.messages) == 1
    assert sum("can be used again" in line for line in caplog.messages) == 1


def test_a_record_that_cannot_be_kept_does_not_hold_up_those_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_swallowed: list[Exception]
) -> None:
    with MonitorManager(settings_of(tmp_path)) as manager:
        runtime = manager._runtime
        assert runtime is not None
        active = runtime.store.active
        assert active is not None
        good = active.builder
        monkeypatch.setattr(active, "builder", lambda *_: json.loads("no JSON"))  # an error that is none of the store's
        record(manager, "poison")
        monkeypatch.setattr(active, "builder", good)
        after = record(manager)
        assert stored_ids(tmp_path / "monitoring.db") == {after}
    assert len(stored_ids(tmp_path / "monitoring.db")) == 2  # the exit has tried it once more
    assert [type(error).__name__ for error in allow_swallowed] == ["JSONDecodeError"]
