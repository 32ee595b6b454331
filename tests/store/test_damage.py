"""A store with any byte flipped or any tail missing opens or is put aside, and never delivers a wrong value."""

from __future__ import annotations

import logging
import random
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monitoring.delivery.couriers import LineCourier, StateCourier, Step
from monitoring.delivery.queue import BackendQueue
from monitoring.delivery.threads import let_errors_pass
from monitoring.exceptions import StoreVersionError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change, zero_changes
from monitoring.metrics_collector import SessionWritesBuilder, changes, samples
from monitoring.records.session_record import SessionRecord
from monitoring.runtime import active_store
from monitoring.runtime.active_store import ActiveStore
from monitoring.runtime.failover import FailoverStore
from monitoring.settings import InfluxDBConfig, MonitoringConfig, PrometheusConfig, Secret, StoreConfig
from monitoring.store import readings, totals
from monitoring.store.database import Database
from monitoring.store.outbox import backend_statuses
from monitoring.store.sessions import Store
from monitoring.transport.deadline import Deadline
from monitoring.transport.sinks import Delivery, Rejection, Snapshot
from tests.support.hosts import INSTANCE
from tests.support.records import ENDED_NS, realistic

# Metrics that describe the store as it is now, damage included.
OWN = {
    metric.name
    for metric in (
        catalogue.MONITORING_PENDING, catalogue.MONITORING_OLDEST, catalogue.MONITORING_DEAD,
        catalogue.MONITORING_LAST_DELIVERY, catalogue.MONITORING_DELIVERED, catalogue.MONITORING_DROPPED,
        catalogue.MONITORING_RECOVERED,
        catalogue.THROUGHPUT,
    )
}  # fmt: skip
THROUGHPUT = re.compile(rb"throughput_sessions_per_hour=[0-9.]+")
USER_VERSION = range(60, 64)
Key = tuple[str, tuple[tuple[str, str], ...], str]


@dataclass
class LineSinkDouble:
    """Takes everything but what it is told to refuse, and remembers."""

    name: str = "influxdb"
    lines: list[bytes] = field(default_factory=list)
    refuses: Callable[[bytes], bool] = lambda line: False

    def send(self, lines: list[bytes], deadline: Deadline) -> Delivery:
        refused = tuple(Rejection(i, "rejected") for i, line in enumerate(lines) if self.refuses(line))
        self.lines += [line for line in lines if not self.refuses(line)]
        return Delivery(frozenset(range(len(lines))) - {item.index for item in refused}, refused)

    def close(self) -> None:
        pass


@dataclass
class StateSinkDouble:
    """Remembers each snapshot."""

    name: str = "prometheus"
    snapshots: list[Snapshot] = field(default_factory=list)

    def send(self, snapshot: Snapshot, deadline: Deadline) -> Delivery:
        self.snapshots.append(snapshot)
        return Delivery()

    def close(self) -> None:
        pass


@dataclass
class Original:
    """A store as it was before the damage, and everything that it may say."""

    folder: Path
    lines: set[bytes] = field(default_factory=set)
    values: dict[Key, set[float]] = field(default_factory=lambda: defaultdict(set))
    sessions: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.folder / "monitoring.db"


def config() -> MonitoringConfig:
    return MonitoringConfig(
        enabled=True,
        influxdb=InfluxDBConfig(url="http://127.0.0.1:9", token=Secret("t")),
        prometheus=PrometheusConfig(gateway_url="http://127.0.0.1:9", instance=INSTANCE),
        store=StoreConfig(min_free_mb=0, retention_days=36_500.0),
    )


def record(number: int, **changed: Any) -> SessionRecord:
    """A patient each: what is computed of a session doesn't rest on others, of which some may be damaged."""
    own = {"series_key": f"{number:032x}", "patient_key": f"{number:032x}"}
    return realistic(session_id=f"session-{number}", ended_ns=ENDED_NS + number * 10**9, **own, **changed)


_SILENT = logging.getLogger("tests.durability.silent")
_SILENT.disabled = True


@pytest.fixture(scope="module")
def memory_folder() -> Iterator[Path]:
    """A folder where syncing costs nothing, since each case opens a store."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir=base if base.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests take the delivery's steps themselves."""
    monkeypatch.setattr(active_store, "courier_makers", lambda *_: {})


@pytest.fixture(scope="module", params=["checkpointed", "with a journal"])
def original(request: pytest.FixtureRequest, memory_folder: Path) -> Original:
    """Sessions delivered, waiting and refused, totals, and two sessions of a process that died."""
    made = Original(memory_folder / request.param.replace(" ", "-"))
    made.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(active_store, "courier_makers", lambda *_: {})
        _fill(made, memory_folder / f"work-{request.param.split()[0]}", request.param == "with a journal")
    return made


def _fill(made: Original, work: Path, with_journal: bool) -> None:
    work.mkdir()
    database = Database(work / "monitoring.db")
    running = ActiveStore(database, config(), logging.getLogger("test"), let_errors_pass)
    running.store.initialise(zero_changes())
    if with_journal:
        with database.read_transaction() as connection:
            pass
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(12):
        running.commit([record(number)])
        _remember(made, running)
        if number == 4:
            _deliver(running, refuses=lambda line: b"hrnet" in line or b"contrast" in line)
            _remember(made, running)
    running.trace(record(100, status="crashed", reason="crashed"), durable=True)
    running.trace(record(101, status="crashed", reason="crashed"), durable=True)
    for suffix in ("", "-wal") if with_journal else ():
        shutil.copy(f"{running.database.path}{suffix}", f"{made.path}{suffix}")
    assert running._owner is not None
    running._owner.close()
    database.close()
    if not with_journal:
        shutil.copy(work / "monitoring.db", made.path)
    _expect_crashed(made, work / "crashed.db")


def _deliver(running: ActiveStore, refuses: Callable[[bytes], bool]) -> None:
    queue = BackendQueue(running.database, "influxdb", running.owner)
    courier = LineCourier(queue, LineSinkDouble(refuses=refuses), 5000, 1.0)
    assert courier.step(Deadline.after(5)) is Step.DELIVERED
    state = StateCourier(BackendQueue(running.database, "prometheus", running.owner), StateSinkDouble(), 1.0)
    assert state.step(Deadline.after(5)) is Step.DELIVERED
    queue.release()


def _remember(made: Original, running: ActiveStore) -> None:
    with running.database.read_transaction() as connection:
        for row in totals.read(connection):
            made.values[row.metric, row.labels, row.part].add(row.value)
        for (lines,) in connection.execute("SELECT lines FROM outbox"):
            made.lines.update(map(_without_throughput, lines.split(b"\n")))
        made.lines.update(line.encode() for (line,) in connection.execute("SELECT line FROM dead_letters"))
        made.sessions.update(name for (name,) in connection.execute("SELECT session_id FROM sessions"))


def _expect_crashed(made: Original, path: Path) -> None:
    """What reporting the two open sessions adds, in a store of its own."""
    database = Database(path)
    store = Store(database)
    running = ActiveStore(database, config(), logging.getLogger("test"), let_errors_pass, INSTANCE)
    crashed = [record(number, status="crashed", reason="crashed") for number in (100, 101)]
    for one in crashed:
        store.commit(one, running.builder)
        made.sessions.add(one.session_id)
    with database.read_transaction() as connection:
        for (lines,) in connection.execute("SELECT lines FROM outbox"):
            made.lines.update(map(_without_throughput, lines.split(b"\n")))
    for change in changes(samples(crashed[0])) + [
        Change(c.metric, c.labels, c.part, 0.0, False) for c in zero_changes()
    ]:
        key = (change.metric, tuple(sorted(change.labels.items())), change.part)
        before = made.values[key] | {0.0}
        added = {change.value} if change.replaces else {v + n * change.value for v in before for n in (1, 2)}
        made.values[key] |= before | added
    for one in crashed:
        for change in changes(samples(one)):
            if change.replaces:
                made.values[change.metric, tuple(sorted(change.labels.items())), change.part].add(change.value)


def _without_throughput(line: bytes) -> bytes:
    return THROUGHPUT.sub(b"throughput", line)


@dataclass
class Outcome:
    """What came of one damaged copy."""

    lines: list[bytes]
    snapshots: list[Snapshot]
    sessions: set[str]
    aside: list[Path]


def open_and_drain(folder: Path) -> Outcome:
    """Do to a store what a host, a relay and a drain would, and record a session in it."""
    path = folder / "monitoring.db"
    store = FailoverStore(path, config(), zero_changes(), _SILENT, let_errors_pass)
    lines, state = LineSinkDouble(), StateSinkDouble()

    def work(running: ActiveStore) -> None:
        running.check()
        running.report_crashed()
        running.make_missing_lines()
        running.enforce_limits(2)
        running.commit([record(200)])
        owner = running.owner
        log, gauge = (
            BackendQueue(running.database, "influxdb", owner),
            BackendQueue(running.database, "prometheus", owner),
        )
        log.requeue_dead()
        for courier in (LineCourier(log, lines, 50, 1.0), StateCourier(gauge, state, 1.0)):
            for _ in range(100):
                if courier.step(Deadline.after(5), ignore_backoff=True) is not Step.DELIVERED:
                    break
            else:
                raise AssertionError(f"{courier.name} never comes to an end")

        with running.database.read_transaction() as connection:
            assert connection.execute("SELECT count(*) FROM outbox WHERE backend = 'influxdb'").fetchone() == (0,)
        sessions.clear()
        sessions.update(stored.record.session_id for stored in running.store.sessions())

    sessions: set[str] = set()
    if not store.use(work):
        Database(path).close()  # raises what the store has only logged
        raise AssertionError("the store was not used, and opens")
    store.abandon()
    return Outcome(lines.lines, state.snapshots, sessions, sorted(folder.glob("*.corrupt-*")))


def assert_truthful(original: Original, outcome: Outcome) -> None:
    new = {_without_throughput(line) for line in outcome.lines} - original.lines
    stamp = str(ENDED_NS + 200 * 10**9).encode()
    assert {line for line in new if not line.endswith(stamp)} == set()
    assert len([line for line in new if line.startswith(b"leglength_session,")]) == 1  # the session recorded just now
    assert outcome.sessions <= original.sessions | {"session-200"}
    assert "session-200" in outcome.sessions
    own = {(c.metric, tuple(sorted(c.labels.items())), c.part): c for c in changes(samples(record(200)))}
    assert outcome.snapshots, "the state is not pushed any more"
    for snapshot in outcome.snapshots:
        for row in snapshot.totals:
            key = (row.metric, row.labels, row.part)
            if row.metric in OWN:
                continue
            allowed = original.values.get(key, {0.0}) | {0.0}
            if key in own:
                change = own[key]
                allowed = allowed | ({change.value} if change.replaces else {value + change.value for value in allowed})
            assert row.value in allowed, f"{key}: {row.value} instead of one of {sorted(allowed)}"


def damaged_copies(
    original: Original, folder: Path, flips: int, truncations: int, seed: int
) -> Iterator[tuple[str, Path]]:
    """Copies with one byte changed, all over each file and more often in its first bytes; and copies cut short."""
    chance = random.Random(seed)
    for suffix in ("", "-wal"):
        source = Path(f"{original.path}{suffix}")
        if not source.exists():
            continue
        content = source.read_bytes()
        for number in range(flips + truncations):
            copy = folder / f"case{suffix}-{number}"
            shutil.copytree(original.folder, copy)
            target = copy / source.name
            if number < flips:
                place = chance.randrange(min(len(content), 200) if number % 8 == 0 else len(content))
                mask = 1 << chance.randrange(8) if number % 2 else chance.randrange(1, 256)
                changed = bytearray(content)
                changed[place] ^= mask
                target.write_bytes(changed)
                yield f"{suffix or 'db'}: byte {place} ^ {mask:#x}", copy
            else:
                length = chance.randrange(len(content)) if number % 2 else chance.randrange(0, len(content), 4096)
                target.write_bytes(content[:length])
                yield f"{suffix or 'db'}: cut to {length}", copy
            shutil.rmtree(copy, ignore_errors=True)


def test_the_undamaged_store_delivers_everything(original: Original, tmp_path: Path) -> None:
    shutil.copytree(original.folder, tmp_path / "copy")
    outcome = open_and_drain(tmp_path / "copy")
    assert_truthful(original, outcome)
    assert outcome.aside == []
    assert outcome.sessions == original.sessions | {"session-200"}


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_and_missing_tails(original: Original, memory_folder: Path, seed: int) -> None:
    seen: Counter[str] = Counter()
    problems = []
    for what, copy in damaged_copies(original, memory_folder, flips=75, truncations=15, seed=seed):
        try:
            outcome = open_and_drain(copy)
            assert_truthful(original, outcome)
        except StoreVersionError:
            place = re.match(r"db: byte (\d+)", what)
            assert place, what
            assert int(place[1]) in USER_VERSION, what
            seen["of a newer version"] += 1
        except Exception as error:
            problems.append(f"{what}: {type(error).__name__}: {error}")
        else:
            seen["put aside" if outcome.aside else "opened"] += 1
    assert problems == [], "\n".join([f"{len(problems)} problems, {dict(seen)}", *problems[:20]])
    assert seen["opened"] > 10
    assert seen["put aside"] > 0


def test_a_value_that_changes_in_an_open_store_is_not_told(original: Original, tmp_path: Path) -> None:
    """What the opening has checked may be damaged afterwards."""
    shutil.copytree(original.folder, tmp_path / "copy")
    database = Database(tmp_path / "copy" / "monitoring.db")
    with database.transaction() as connection:
        connection.execute("UPDATE totals SET value = value + 1 WHERE metric = 'leglength_sessions_total'")
    snapshot = BackendQueue(database, "prometheus", "").snapshot()
    assert catalogue.SESSIONS.name not in {row.metric for row in snapshot.totals}
    database.close()


def test_a_revision_that_was_damaged_is_pushed_again(original: Original, tmp_path: Path) -> None:
    """Were it to count up to where it was before, nothing would be pushed for as long."""
    shutil.copytree(original.folder, tmp_path / "copy")
    database = Database(tmp_path / "copy" / "monitoring.db")
    queue = BackendQueue(database, "prometheus", "")
    for damaged in (1, "text", b"bytes", None, -5):
        with database.transaction() as connection:
            connection.execute("UPDATE state SET value = 1000 WHERE key = 'revision'")
        queue.settle_state(queue.snapshot(), Delivery())
        assert not queue.has_news()
        with database.transaction() as connection:
            connection.execute("UPDATE state SET value = ? WHERE key = 'revision'", (damaged,))
        assert queue.has_news()
        queue.settle_state(queue.snapshot(), Delivery())
        assert not queue.has_news()
        with database.transaction() as connection:
            totals.bump_revision(connection)
        assert queue.has_news()
    database.close()


def damaged_store(original: Original, folder: Path, statement: str) -> Store:
    """A copy in which a value was changed, and nothing else."""
    shutil.copytree(original.folder, folder / "copy")
    store = Store(Database(folder / "copy" / "monitoring.db"))
    with store.database.transaction() as connection:
        assert connection.execute(statement).rowcount > 0
    return store


def test_no_lines_are_made_of_a_record_that_was_changed(original: Original, tmp_path: Path) -> None:
    store = damaged_store(
        original, tmp_path, "UPDATE sessions SET routed = '', record = replace(record, '412.5', '912.5')"
    )
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM outbox")
    builder = SessionWritesBuilder({"instance": INSTANCE}, ("influxdb",))
    assert store.route("influxdb", builder) == 12
    with store.database.read_transaction() as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        assert totals.values(connection, catalogue.MONITORING_DROPPED)[("corrupt",)] == 12
    assert list(store.sessions()) == []
    store.database.close()


def test_a_reading_that_was_changed_is_compared_with_nothing(original: Original, tmp_path: Path) -> None:
    store = damaged_store(original, tmp_path, "UPDATE readings SET measurements = replace(measurements, '4', '9')")
    with store.database.read_transaction() as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM readings")]
        assert readings.by_reader(connection, keys) == {}
    store.database.close()


def test_an_instance_that_was_changed_is_chosen_anew(tmp_path: Path) -> None:
    store = Store(Database(tmp_path / "monitoring.db"))
    assert store.state("instance", lambda: "here") == "here"
    with store.database.transaction() as connection:
        connection.execute("UPDATE state SET value = 'hers' WHERE key = 'instance'")
    assert store.state("instance") is None
    assert store.state("instance", lambda: "here") == "here"
    store.database.close()


def test_a_backend_whose_progress_was_changed_counts_as_never_reached(original: Original, tmp_path: Path) -> None:
    store = damaged_store(
        original, tmp_path, "UPDATE backends SET pushed_sequence = pushed_sequence + 4 WHERE name = 'prometheus'"
    )
    with store.database.read_transaction() as connection:
        found = {status.name: status for status in backend_statuses(connection)}
        before = totals.values(connection, catalogue.MONITORING_DELIVERED)
    assert (found["prometheus"].pending, found["prometheus"].last_success_ns) == (12, None)
    queue = BackendQueue(store.database, "prometheus", "")
    queue.settle_state(queue.snapshot(), Delivery())
    with store.database.read_transaction() as connection:
        assert totals.values(connection, catalogue.MONITORING_DELIVERED) == before
    store.database.close()


@pytest.mark.parametrize("name", ["../elsewhere", "nul\0l", ""])
def test_an_open_session_whose_name_was_changed_is_counted_whatever_it_is_called_now(
    original: Original, tmp_path: Path, name: str
) -> None:
    shutil.copytree(original.folder, tmp_path / "copy")
    store = Store(Database(tmp_path / "copy" / "monitoring.db"))
    with store.database.transaction() as connection:
        connection.execute("UPDATE open_sessions SET session_id = ? WHERE session_id = 'session-100'", (name,))
    assert store.report_crashed(SessionWritesBuilder()) == 1
    with store.database.read_transaction() as connection:
        assert totals.values(connection, catalogue.MONITORING_DROPPED)[("corrupt",)] == 1
        assert connection.execute("SELECT count(*) FROM open_sessions").fetchone() == (0,)
    store.database.close()
