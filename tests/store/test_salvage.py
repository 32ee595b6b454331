"""What can be read of a store that was put aside is taken back: each session and point once, the file left as it is."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest

from tests.support.clocks import HANGS_SECONDS
from tests.support.hosts import Host, base_settings, with_influxdb
from tests.support.recordings import points
from tests.support.servers import InfluxDB1, Pushgateway

RECORD = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range({count}):
    with manager.session("series %d" % number) as session:
        session.record_measurements({{"PLL_R_FEM": 400.0 + number}})
    say("ended", session.id)
manager.close(10)
"""
CRASH = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
session = manager.session("series")
session.__enter__()
say("begun", session.id)
os.kill(os.getpid(), signal.SIGKILL)
"""
NOWHERE = {"url": "http://127.0.0.1:9", "timeout": 0.2}


def put_aside(host: Host, name: str = "monitoring.db.corrupt-1") -> Path:
    """Rename the store, as it is done with a damaged one."""
    for path in host.store_folder.glob("monitoring.db*"):
        suffix = path.name.removeprefix("monitoring.db")
        if suffix in ("", "-wal", "-shm", "-journal"):
            path.rename(host.store_folder / (name + suffix))
    return host.store_folder / name


def fingerprint(aside: Path) -> str:
    return hashlib.sha256(aside.read_bytes()).hexdigest()


def take_back(host: Host, aside: Path, code: int = 0) -> str:
    done = host.monitor("import", aside)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()[0]


def damage_pages(path: Path, share: float, seed: int) -> int:
    """Overwrite some pages, but not the first ones, where the tables begin."""
    content = bytearray(path.read_bytes())
    pages = range(20, len(content) // 4096)
    damaged = random.Random(seed).sample(pages, int(len(pages) * share))
    for page in damaged:
        content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    return len(damaged)


def test_delivered_and_waiting_sessions_come_back_once_as_the_same_points(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    backends = with_influxdb(base_settings(host.store_folder), influxdb1.write_settings())
    host.settings = backends
    recorded = host.run(RECORD.format(count=5)).said("ended")
    host.settings = with_influxdb(base_settings(host.store_folder), NOWHERE)
    recorded += host.run(RECORD.format(count=4)).said("ended")
    crashed = host.run(CRASH).said("begun")
    assert len(points(influxdb1)) == 5
    before = {stored.record.session_id: stored.timestamp_ns for stored in host.stored()}
    aside = put_aside(host)
    content = fingerprint(aside)

    host.settings = backends
    later = host.run(RECORD.format(count=2)).said("ended")
    assert take_back(host, aside) == "10 imported, 0 already there, 0 unreadable"
    assert take_back(host, aside) == "0 imported, 9 already there, 0 unreadable"
    assert fingerprint(aside) == content
    assert {path.name for path in host.store_folder.glob(".*")} == set()
    stored = {found.record.session_id: found for found in host.stored()}
    assert set(stored) == {*recorded, *crashed, *later}
    assert {name: stored[name].timestamp_ns for name in before} == before
    host.drain()
    assert len(points(influxdb1)) == 12
    assert len({*before.values()} & {*points(influxdb1)}) == 9
    report = host.status()
    assert report["sessions"] == {"completed": 11, "failed": 0, "skipped": 0, "crashed": 1}
    assert report["losses"] == {}
    totals = host.totals()
    assert totals["leglength_sessions_total", (("status", "completed"),), ""] == 11


@pytest.mark.parametrize("seed", range(3))
def test_damaged_pages_cost_the_rows_on_them_and_no_others(host: Host, influxdb1: InfluxDB1, seed: int) -> None:
    """Half of the sessions were delivered, the others wait; what can be read is told exactly once all the same."""
    backends = with_influxdb(base_settings(host.store_folder), influxdb1.write_settings())
    host.settings = backends
    host.run(RECORD.format(count=60))
    host.settings = with_influxdb(base_settings(host.store_folder), NOWHERE)
    host.run(RECORD.format(count=60))
    times = {stored.timestamp_ns for stored in host.stored()}
    with host.store() as store, store.database.read_transaction() as connection:
        (instance,) = connection.execute("SELECT value FROM state WHERE key = 'instance'").fetchone()
    aside = put_aside(host)
    assert damage_pages(aside, 0.1, seed) > 3

    host.settings = backends
    done = host.monitor("import", aside)
    imported, known, unreadable = (int(part.split()[0]) for part in done.stdout.splitlines()[0].split(", "))
    assert (known, imported + unreadable) == (0, 120)
    assert imported > 60
    assert done.returncode == bool(unreadable)
    host.drain()
    found = influxdb1.read_points("leglength_session")
    assert {point.time_ns for point in found} <= times
    assert len(found) == len({point.time_ns for point in found}) >= imported
    assert {dict(point.tags)["instance"] for point in found} == {instance}


@pytest.mark.parametrize("place", [0, 16, 18, 24, 28, 44, 56, 92])
def test_a_damaged_header_hides_nothing(host: Host, place: int) -> None:
    recorded = host.run(RECORD.format(count=5)).said("ended")
    aside = put_aside(host)
    content = bytearray(aside.read_bytes())
    content[place : place + 4] = b"\xfe\xfe\xfe\xfe"
    aside.write_bytes(content)
    assert take_back(host, aside) == "5 imported, 0 already there, 0 unreadable"
    assert set(host.records()) == set(recorded)


@pytest.mark.parametrize("content", [b"", b"\x00" * 9000, b"no database, but longer than a page of SQLite's" * 200])
def test_what_holds_no_session_is_said_and_begins_no_traceback(host: Host, content: bytes) -> None:
    aside = host.folder / "monitoring.db.corrupt-1"
    aside.write_bytes(content)
    done = host.monitor("import", aside)
    assert done.returncode == 1
    assert "no session can be read in" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_session_of_a_process_that_lives_is_not_taken_for_crashed(host: Host) -> None:
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with manager.session("series") as session:
    say("begun", session.id)
    sys.stdin.readline()
manager.close()
"""
    import subprocess

    with host.running(script, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        begun = process.stdout.readline().split()[1]
        aside = host.folder / "monitoring.db.corrupt-1"
        shutil.copy(host.store_path, aside)
        shutil.copy(host.store_path.with_name("monitoring.db-wal"), aside.with_name(f"{aside.name}-wal"))
        assert take_back(host, aside) == "0 imported, 0 already there, 0 unreadable"
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(HANGS_SECONDS)
    assert {name: record.status for name, record in host.records().items()} == {begun: "completed"}


def test_the_store_itself_is_refused(host: Host) -> None:
    host.run(RECORD.format(count=1))
    done = host.monitor("import", host.store_path)
    assert done.returncode == 2
    assert "into itself" in done.stderr


def test_json_and_a_store_are_imported_in_one_command(host: Host) -> None:
    host.run(RECORD.format(count=2))
    aside = put_aside(host)
    host.run(RECORD.format(count=1))
    document = host.folder / "result.json"
    records = [record.to_dict() for record in host.records().values()]
    document.write_text(json.dumps({"monitoring": {"sessions": records}}))
    done = host.monitor("import", document, aside)
    assert done.stdout.splitlines()[0] == "2 imported, 1 already there, 0 unreadable"
