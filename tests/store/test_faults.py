"""Whatever is wrong with the store's file, the host goes on, nothing committed is destroyed, and it is said once."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring import MonitorManager
from monitoring.exceptions import StoreError, StoreVersionError
from monitoring.store import locks
from monitoring.store.database import Database, identity
from monitoring.store.recovery import open_or_recover, quarantine
from monitoring.store.sessions import Store
from tests.support.clocks import assert_took_at_most
from tests.support.faults import FaultServer
from tests.support.hosts import Host, with_influxdb
from tests.support.recordings import (
    IN_MEMORY,
    RECORD_FOUR,
    SHORT_REST,
    assert_undisturbed,
    points,
    record,
    said,
    settings_of,
    stored_ids,
)
from tests.support.servers import InfluxDB1, wait_until

# --- no permission --------------------------------------------------------------------------------


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Not even root may write there."""
    if subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("no file can be made immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_a_folder_that_cannot_be_written_is_said_once_and_sessions_are_delivered_from_memory(
    host: Host, influxdb1: InfluxDB1
) -> None:
    host.store_folder.mkdir()
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    with immutable(host.store_folder):
        ended = host.run(SHORT_REST + RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, IN_MEMORY) == 1
    assert len(points(influxdb1)) == 4
    assert influxdb1.read_points("leglength_monitoring") == []  # memory counts this run alone
    assert list(host.store_folder.iterdir()) == []
    assert host.swallowed() == ""


def test_a_file_that_cannot_be_written_is_left_as_it_is(host: Host, influxdb1: InfluxDB1) -> None:
    assert_undisturbed(host.run(RECORD_FOUR))
    content = host.store_path.read_bytes()
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    with immutable(host.store_path):
        ended = host.run(SHORT_REST + RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, IN_MEMORY) == 1
    assert host.store_path.read_bytes() == content
    assert len(points(influxdb1)) == 4


def test_when_neither_store_nor_backend_can_be_had_the_loss_is_said(host: Host) -> None:
    host.store_folder.write_text("a file where the folder should be")
    ended = host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, IN_MEMORY) == 1
    assert said(ended, "4 session(s) could be neither stored nor delivered and are lost") == 1


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is no database\n" * 300, b"x", bytes(5000)], ids=["text", "short", "zeros"])
def test_what_is_no_database_is_put_aside_and_a_new_one_begun(host: Host, content: bytes) -> None:
    host.store_folder.mkdir()
    host.store_path.write_bytes(content)
    ended = host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, "it was put aside") == 1
    (aside,) = host.store_folder.glob("*.corrupt-*")
    assert aside.read_bytes() == content
    assert set(host.records()) == set(ended.said("ended"))
    assert host.status()["losses"] == {"corrupt": 1}
    assert host.swallowed() == ""


def test_an_empty_file_becomes_a_store(host: Host) -> None:
    host.store_folder.mkdir()
    host.store_path.touch()
    ended = host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert set(host.records()) == set(ended.said("ended"))
    assert list(host.store_folder.glob("*.corrupt-*")) == []


def test_another_applications_database_is_left_untouched(host: Host, influxdb1: InfluxDB1) -> None:
    host.store_folder.mkdir()
    with contextlib.closing(sqlite3.connect(host.store_path)) as theirs:
        theirs.execute("CREATE TABLE patients (name TEXT)")
        theirs.execute("INSERT INTO patients VALUES ('kept')")
        theirs.commit()
    content = host.store_path.read_bytes()
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    ended = host.run(SHORT_REST + RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, "another application's database") == 1
    assert host.store_path.read_bytes() == content
    assert len(points(influxdb1)) == 4


def test_a_newer_versions_store_is_left_untouched_byte_for_byte(host: Host, influxdb1: InfluxDB1) -> None:
    assert_undisturbed(host.run(RECORD_FOUR))
    with contextlib.closing(sqlite3.connect(host.store_path)) as newer:
        newer.execute("PRAGMA user_version = 99")
        newer.execute("CREATE TABLE of_the_future (x)")
        newer.execute("UPDATE state SET value = 99 WHERE key = 'usable_from'")
        newer.commit()
    content = host.store_path.read_bytes()
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    ended = host.run(SHORT_REST + RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, "written by a newer version") == 1
    assert host.store_path.read_bytes() == content
    assert list(host.store_folder.glob("*.corrupt-*")) == []
    assert len(points(influxdb1)) == 4
    with pytest.raises(StoreVersionError):
        open_or_recover(host.store_path)
    assert host.monitor("drain").returncode == 1


@pytest.mark.parametrize(("place", "value"), [(18, 0x1F), (47, 0xE5), (63, 0xFF)])
def test_a_damaged_header_does_not_stand_in_the_way_for_ever(host: Host, place: int, value: int) -> None:
    """SQLite takes these bytes for a file of the future, to be read only or not at all."""
    assert_undisturbed(host.run(RECORD_FOUR))
    content = bytearray(host.store_path.read_bytes())
    content[place] = value
    if place == 63:
        content[60] = 0xFF  # a version below zero
    host.store_path.write_bytes(content)
    ended = host.run(RECORD_FOUR)
    assert_undisturbed(ended)
    assert said(ended, "it was put aside") == 1
    assert set(host.records()) == set(ended.said("ended"))


def test_damage_that_only_the_delivery_meets_is_put_aside_by_the_next_session(
    tmp_path: Path, allow_swallowed: list[Exception]
) -> None:
    """The page with the waiting lines is damaged; committing a session never reads it."""
    with FaultServer() as server:
        influxdb = {"url": server.url, "token": "t", "org": "o"}
        for _ in range(40):
            with MonitorManager(settings_of(tmp_path)) as manager:
                record(manager)
        path = tmp_path / "monitoring.db"
        _damage_the_oldest_lines(path)
        with MonitorManager(settings_of(tmp_path, influxdb=influxdb)) as manager:
            runtime = manager._runtime
            assert runtime is not None
            active = runtime.store.active
            assert active is not None
            assert list(tmp_path.glob("*.corrupt-*")) == []
            active.threads.wake()
            wait_until(lambda: allow_swallowed, "the delivery to meet the damage")
            last = record(manager)
        assert len(list(tmp_path.glob("monitoring.db.corrupt-*"))) >= 1
        assert last in stored_ids(path)


def _damage_the_oldest_lines(path: Path) -> None:
    """Make lines wait, and destroy the second page of them: the first one is read when the store is opened."""
    from monitoring.metrics_collector import SessionWritesBuilder

    opened = Database(path)
    Store(opened).route("influxdb", SessionWritesBuilder({"instance": "test"}, log_backends=("influxdb",)))
    with opened.read_transaction() as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox'").fetchone()
    opened.close()
    content = bytearray(path.read_bytes())
    root = content[(page - 1) * size : page * size]
    assert root[0] == 5, "the table is no tree yet"
    second_cell = int.from_bytes(root[14:16])
    child = int.from_bytes(root[second_cell : second_cell + 4])
    content[(child - 1) * size : child * size] = b"\xff" * size
    path.write_bytes(content)


def test_a_process_goes_on_in_the_new_store_when_another_has_put_the_old_one_aside(tmp_path: Path) -> None:
    """What it would write into the old file would be lost with that."""
    path = tmp_path / "monitoring.db"
    with MonitorManager(settings_of(tmp_path)) as first:
        before = record(first)
        opened, aside = quarantine(path, identity(path))  # as any process does that meets damage
        opened.close()
        assert aside is not None
        with MonitorManager(settings_of(tmp_path)) as second:
            after = [record(first), record(second), record(first)]
    assert stored_ids(path) == set(after)
    assert before not in after
    assert len(list(tmp_path.glob("monitoring.db.corrupt-*[0-9]"))) == 1


def test_a_store_that_is_removed_under_a_running_host_is_begun_anew(tmp_path: Path) -> None:
    with MonitorManager(settings_of(tmp_path / "store")) as manager:
        record(manager)
        shutil.rmtree(tmp_path / "store")
        after = record(manager)
    assert stored_ids(tmp_path / "store" / "monitoring.db") == {after}


def test_a_process_that_holds_the_opening_lock_is_waited_for_no_longer_than_for_any_lock(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    with locks.opening(path, 1.0, exclusive=True):
        began = time.monotonic()
        with pytest.raises(StoreError, match="busy opening"):
            open_or_recover(path, 0.3)
        took = time.monotonic() - began
    assert took > 0.2
    assert_took_at_most(took, 1.5)
