"""The store and its queue against a plain model: whatever happens in whatever order, the books balance.

The model knows each line's fate: waiting, delivered, refused or lost. The backend is a dictionary that
keeps what it accepted, across crashes of the deliverer between its answer and `settle`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from monitoring.delivery.queue import BackendQueue, Batch
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change
from monitoring.metrics.session_writes import SessionWrites, TransactionContext
from monitoring.records.session_record import SessionRecord
from monitoring.store import limits, totals
from monitoring.store.clock import Sight
from monitoring.store.database import Database
from monitoring.store.locks import LivenessLock
from monitoring.store.outbox import backend_statuses
from monitoring.store.sessions import Store
from monitoring.transport.sinks import Delivery, Rejection

BACKEND = "influxdb"
LEASE_SECONDS = 20.0
MEMORY = Path("/dev/shm")  # thousands of commits: what a disk keeps is for other tests to show
FULL = limits.Limits(max_bytes=1, retention_ns=10**18, min_free_bytes=0)


class StoreAndDelivery(RuleBasedStateMachine):
    """Two deliverers, one store, one backend."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="state-machine-", dir=MEMORY if MEMORY.is_dir() else None))
        self.path = self.folder / "monitoring.db"
        self.now_ns = 10**18
        self.database = Database(self.path)
        self.owners = [LivenessLock(self.path), LivenessLock(self.path)]
        self.holder: int | None = None
        self.batch: tuple[int, Batch] | None = None
        # The model.
        self.sessions: dict[str, list[str]] = {}
        self.waiting: dict[str, list[str]] = {}
        self.archived: set[str] = set()
        self.backend: dict[str, str] = {}
        self.delivered_lines = self.refused_lines = self.evicted_lines = self.damaged_rows = 0
        self.dead: list[str] = []

    def teardown(self) -> None:
        self.database.close()
        for owner in self.owners:
            owner.close()
        shutil.rmtree(self.folder)

    def queue(self, owner: int) -> BackendQueue:
        return BackendQueue(self.database, BACKEND, self.owners[owner].token, lambda: self.now_ns)

    def build(self, record: SessionRecord, context: TransactionContext) -> SessionWrites:
        lines = [
            f"m,line={number} v={number}.0 {context.timestamp_ns}" for number in range(int(record.custom["lines"]))
        ]
        self.sessions[record.session_id] = lines
        status = Change(catalogue.SESSIONS.name, {"status": record.status}, "", 1.0, replaces=False)
        return SessionWrites({BACKEND: ("\n".join(lines).encode(), len(lines))}, [status])

    @rule(lines=st.integers(1, 4))
    def commit(self, lines: int) -> None:
        session_id = f"session-{len(self.sessions)}"
        # All end at the same instant: their points must be told apart all the same.
        record = SessionRecord(session_id, "completed", 1, 10**18, 1.0, custom={"lines": float(lines)})
        assert Store(self.database).commit(record, self.build)
        self.waiting[session_id] = self.sessions[session_id]
        self.archived.add(session_id)

    @precondition(lambda self: self.archived)
    @rule(data=st.data())
    def commit_again_changes_nothing(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.archived)))
        record = SessionRecord(session_id, "failed", 1, 2, 1.0, custom={"lines": 1.0})
        assert not Store(self.database).commit(record, self.build)

    @rule(owner=st.integers(0, 1))
    def lease(self, owner: int) -> None:
        self.queue(owner).register()
        got = self.queue(owner).try_lease(LEASE_SECONDS, ignore_backoff=True)
        assert got == (self.holder in (None, owner))
        if got:
            self.holder = owner

    @precondition(lambda self: self.holder is not None)
    @rule(max_lines=st.integers(1, 6))
    def read_a_batch(self, max_lines: int) -> None:
        assert self.holder is not None
        batch = self.queue(self.holder).next_batch(max_lines)
        expected = [line for lines in self.waiting.values() for line in lines]
        found = [line.decode() for line in batch.lines]
        assert found == expected[: len(found)]
        assert bool(found) == bool(expected)
        self.batch = (self.holder, batch)

    @precondition(lambda self: self.batch is not None and self.batch[1].lines)
    @rule(data=st.data(), fails=st.booleans(), crashes=st.booleans())
    def send(self, data: st.DataObject, fails: bool, crashes: bool) -> None:
        assert self.batch is not None
        owner, batch = self.batch
        fates = data.draw(
            st.lists(st.sampled_from("aark"), min_size=len(batch.lines), max_size=len(batch.lines)), label="fates"
        )
        accepted = frozenset(i for i, fate in enumerate(fates) if fate == "a")
        for index in accepted:
            line = batch.lines[index].decode()
            series, _, _ = line.partition(" v=")
            key = f"{series} {line.rpartition(' ')[2]}"
            assert self.backend.setdefault(key, line) == line, "a repeat differs from what was sent before"
        self.batch = None
        if crashes:  # between the backend's answer and settle
            return self.reopen()
        rejected = tuple(Rejection(i, "rejected") for i, fate in enumerate(fates) if fate == "r")
        delivery = Delivery(accepted, rejected, "timeout" if fails else None)
        self.queue(owner).settle(batch, delivery)
        return self.settle_in_the_model(batch, fates)

    def settle_in_the_model(self, batch: Batch, fates: list[str]) -> None:
        by_line = {line.decode(): fate for line, fate in zip(batch.lines, fates, strict=True)}
        for session_id, lines in list(self.waiting.items()):
            if all(by_line.get(line, "k") != "k" for line in lines):
                del self.waiting[session_id]
                refused = [line for line in lines if by_line[line] == "r"]
                self.dead += refused
                self.refused_lines += len(refused)
                self.delivered_lines += len(lines) - len(refused)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database(self.path)
        self.batch = None

    @precondition(lambda self: self.holder is not None)
    @rule()
    def the_holder_is_killed(self) -> None:
        assert self.holder is not None
        self.owners[self.holder].close()
        self.owners[self.holder] = LivenessLock(self.path)
        self.holder, self.batch = None, None

    @rule()
    def a_lease_runs_out(self) -> None:
        self.now_ns += round((LEASE_SECONDS + 1) * 1e9)
        self.holder, self.batch = None, None

    @precondition(lambda self: self.waiting and self.batch is None)
    @rule(data=st.data())
    def a_row_is_damaged(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.waiting)))
        with self.database.transaction() as connection:
            connection.execute("UPDATE outbox SET lines = lines || x'30' WHERE session_id = ?", (session_id,))
        assert self.queue(0).next_batch(1_000_000).lines == [
            line.encode() for name, lines in self.waiting.items() if name != session_id for line in lines
        ]
        del self.waiting[session_id]
        self.damaged_rows += 1

    @precondition(lambda self: self.batch is None)
    @rule()
    def the_store_is_too_large(self) -> None:
        limits.enforce(self.database, FULL, pieces=1, look=lambda: Sight(self.now_ns, 0, ""))
        if delivered := self.archived - self.waiting.keys():
            self.archived -= delivered
        elif self.dead:
            self.dead = []
        else:
            self.evicted_lines += sum(map(len, self.waiting.values()))
            self.archived -= self.waiting.keys()
            self.waiting = {}

    @invariant()
    def the_books_balance(self) -> None:
        with self.database.read_transaction() as connection:
            status = next((item for item in backend_statuses(connection) if item.name == BACKEND), None)
            lost = {
                reason: value for (reason,), value in totals.values(connection, catalogue.MONITORING_DROPPED).items()
            }
        assert (status.pending if status else 0) == sum(map(len, self.waiting.values()))
        assert (status.delivered if status else 0) == self.delivered_lines
        assert (status.dead if status else 0) == len(self.dead)
        assert lost.get("rejected", 0) == self.refused_lines
        assert lost.get("evicted", 0) == self.evicted_lines
        assert lost.get("corrupt", 0) == self.damaged_rows

    @invariant()
    def every_session_is_counted_and_the_kept_ones_are_as_they_were(self) -> None:
        store = Store(self.database)
        assert store.counts_by_status()["completed"] == len(self.sessions)
        kept = list(store.sessions(newest_first=False))
        assert {item.record.session_id for item in kept} == self.archived
        assert len({item.timestamp_ns for item in kept}) == len(kept)


StoreAndDelivery.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
TestStoreAndDelivery = StoreAndDelivery.TestCase
