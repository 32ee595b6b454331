"""Whatever is wrong with the store's file, the host goes on, nothing committed is destroyed, and it is said once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring import MonitorManager, keeper
from monitoring.exceptions import StoreError, StoreVersionError
from monitoring.outbox import database, door
from monitoring.outbox.database import Database, identity, is_on_network
from monitoring.outbox.recovery import open_or_recover, quarantine
from monitoring.outbox.store import Store
from tests.durability.hosts import Ended, Host, base_settings, wait_for_line, with_influxdb
from tests.support.faults import FaultServer
from tests.support.servers import InfluxDB1, wait_until

IN_MEMORY = "sessions are kept in memory"
SHORT_REST = "import monitoring.keeper\nmonitoring.keeper._REST_SECONDS = 0.0\n"
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


# --- a full disk ----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_volume(folder: Path, megabytes: int) -> Iterator[Path]:
    """A volume of its own, unmounted in the end."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no volume may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(volume: Path) -> Path:
    filler = volume / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return filler


def test_a_disk_that_is_full_from_the_start_costs_nothing_but_durability(host: Host, influxdb1: InfluxDB1) -> None:
    with small_volume(host.folder / "volume", 1) as volume:
        filler = fill(volume)
        host.settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        ended = host.run(RECORD_FOUR)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 1
        assert len(points(influxdb1)) == 4
        filler.unlink()
        assert_undisturbed(host.run(RECORD_FOUR))
        assert len(points(influxdb1)) == 8
    assert host.swallowed() == ""


def test_a_disk_that_fills_up_keeps_what_was_committed_and_gets_the_rest_later(
    host: Host, influxdb1: InfluxDB1
) -> None:
    """The stored sessions survive the full disk; those recorded meanwhile come into the file when there is room."""
    with small_volume(host.folder / "volume", 2) as volume:
        host.store_folder = volume / "store"
        host.settings = base_settings(volume / "store")  # no backend: what is stored can only wait
        before = host.run(RECORD_FOUR).said("ended")
        filler = fill(volume)
        script = SHORT_REST + RECORD_FOUR.replace('say("result")', f'say("result")\nos.remove({str(filler)!r})')
        ended = host.run(script)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 1
        assert "lost" not in ended.stderr
        assert set(host.records()) == {*before, *ended.said("ended")}
        host.settings = with_influxdb(host.settings, influxdb1.write_settings())
        host.drain()
        assert len(points(influxdb1)) == 8
    assert host.swallowed() == ""


def test_a_nearly_full_disk_evicts_delivered_sessions_rather_than_growing(host: Host, influxdb1: InfluxDB1) -> None:
    with small_volume(host.folder / "volume", 32) as volume:
        host.store_folder = volume / "store"
        settings = with_influxdb(base_settings(volume / "store"), influxdb1.write_settings())
        host.settings = settings
        assert host.run(RECORD_FOUR.replace("range(4)", "range(400)")).code == 0
        host.drain()
        size = host.store_path.stat().st_size
        # A tenth of a small volume is kept free, even if more is asked for.
        host.settings = {**settings, "store": {"path": str(volume / "store"), "min_free_mb": 100}}
        with (volume / "filler").open("wb") as file:
            file.write(bytes(31_000_000 - size))
        ended = host.run(RECORD_FOUR)
        assert_undisturbed(ended)
        assert said(ended, IN_MEMORY) == 0
        assert host.store_path.stat().st_size <= size + 3 * 4096
        assert len(points(influxdb1)) == 404
        assert set(ended.said("ended")) <= set(host.records())


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
            engine = runtime._keeper._durable.engine
            assert engine is not None
            assert list(tmp_path.glob("*.corrupt-*")) == []
            engine.threads.wake()
            wait_until(lambda: allow_swallowed, 10, "the delivery to meet the damage")
            last = record(manager)
        assert len(list(tmp_path.glob("monitoring.db.corrupt-*"))) >= 1
        assert last in stored_ids(path)


def _damage_the_oldest_lines(path: Path) -> None:
    """Make lines wait, and destroy the second page of them: the first one is read when the store is opened."""
    from monitoring.commitment import CommitmentBuilder

    opened = Database(path)
    Store(opened).route("influxdb", CommitmentBuilder("test", writes_lines=True))
    with opened.reading() as connection:
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


def test_a_process_that_stays_in_the_door_is_waited_for_no_longer_than_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    with door.alone(path, 1.0):
        began = time.monotonic()
        with pytest.raises(StoreError, match="busy opening"):
            open_or_recover(path, 0.3)
        assert 0.2 < time.monotonic() - began < 1.5


# --- locks ----------------------------------------------------------------------------------------

HOLD_LOCK = """
import sqlite3
connection = sqlite3.connect(sys.argv[1] if len(sys.argv) > 1 else os.environ["LOCK_PATH"], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
say("locked")
sys.stdin.read() if sys.stdin.readable() else time.sleep(60)
time.sleep(60)
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
    waited = times(ended)
    assert sum(time > 0.9 for time in waited) <= 1, waited
    assert ended.seconds < 12.0
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
            wait_until(lambda: len(points(influxdb1)) == 4, 20, "the delivery from memory")
            early = influxdb1.read_points("leglength_session")
            # What only the file knows is left out, rather than sent now and corrected later.
            assert not any("throughput_sessions_per_hour" in point.fields for point in early)
            holder.kill()
            holder.wait()
            (host.folder / "free").touch()
            wait_for_line(running, "closed")
            running.wait(20)
    assert len(host.records()) == 8
    host.drain()
    stored = sorted(stored.timestamp_ns for stored in host.stored())
    assert sorted(points(influxdb1)) == stored  # each once: nothing under a second time or instance
    fields = [point.fields for point in influxdb1.read_points("leglength_session")]
    assert all("throughput_sessions_per_hour" in point for point in fields)


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
            assert float(wait_for_line(process, "closed").split()[1]) < 2.0


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
until = time.monotonic() + 4
while time.monotonic() < until:
    manager.end_session(manager.start_session("series"))
    say("ended")
manager.close()
"""
    for one in hosts:
        one.settings = base_settings(tmp_path / "shared")
    processes = [one.start(script) for one in hosts]
    said = [process.communicate(timeout=60) for process in processes]
    for stdout, stderr in said:
        assert IN_MEMORY not in stderr
        assert stdout.count("ended") > 10
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
    outputs = [process.communicate(timeout=60) for process in processes]
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
    with opened.reading() as connection:
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
        monkeypatch.setattr(keeper.time, "monotonic", lambda now=time.monotonic: now() + 31.0)
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
        engine = runtime._keeper._durable.engine
        assert engine is not None
        good = engine.builder
        monkeypatch.setattr(engine, "builder", lambda *_: json.loads("no JSON"))  # an error that is none of the store's
        record(manager, "poison")
        monkeypatch.setattr(engine, "builder", good)
        after = record(manager)
        assert stored_ids(tmp_path / "monitoring.db") == {after}
    assert len(stored_ids(tmp_path / "monitoring.db")) == 2  # the exit has tried it once more
    assert [type(error).__name__ for error in allow_swallowed] == ["JSONDecodeError"]
