"""A store with a log and a state backend, driven by hand: what waits, what is refused, and what is lost."""

from __future__ import annotations

from pathlib import Path

from monitoring.delivery.queue import BackendQueue
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.records.session_record import SessionRecord
from monitoring.store import limits, totals
from monitoring.store.clock import DAY_NS, Sight
from monitoring.store.database import Database
from monitoring.store.locks import LivenessLock
from monitoring.store.outbox import backend_statuses
from monitoring.store.sessions import Store
from monitoring.transport.sinks import Delivery, Rejection, Snapshot
from tests.support.records import ENDED_NS, realistic

NOTHING_FITS = limits.Limits(max_bytes=1, retention_ns=10**19, min_free_bytes=0)


class Bench:
    """A store with both kinds of backend, driven by hand."""

    def __init__(self, folder: Path, log_backends: tuple[str, ...] = ("influxdb",)) -> None:
        self.database = Database(folder / "monitoring.db")
        self.sight = Sight(ENDED_NS, 0, "a start")
        self.store = Store(self.database, lambda: self.sight)
        self.owner = LivenessLock(folder / "monitoring.db")
        self.builder = SessionWritesBuilder({"instance": "test"}, log_backends)
        self.log = BackendQueue(self.database, "influxdb", self.owner.token)
        self.state = BackendQueue(self.database, "prometheus", self.owner.token)

    def commit(self, number: int) -> SessionRecord:
        record = realistic(session_id=str(number), ended_ns=ENDED_NS + number * NANOSECONDS)
        self.store.commit(record, self.builder)
        return record

    def deliver(self, lines: int = 10**6, refused: int = 0) -> int:
        batch = self.log.next_batch(lines)
        accepted = frozenset(range(refused, len(batch.lines)))
        rejected = tuple(Rejection(index, "rejected") for index in range(refused))
        return self.log.settle(batch, Delivery(accepted, rejected))

    def push(self) -> Snapshot:
        snapshot = self.state.snapshot()
        self.state.settle_state(snapshot, Delivery())
        return snapshot

    def enforce(self, kept: limits.Limits = NOTHING_FITS) -> None:
        limits.enforce(self.database, kept, 1, lambda: self.sight)

    def pass_days(self, days: float, wall_days: float | None = None) -> None:
        """Let time go by while the machine runs; its wall clock may say something else."""
        wall_ns = self.sight.wall_ns + round((days if wall_days is None else wall_days) * DAY_NS)
        self.sight = Sight(wall_ns, self.sight.running_ns + round(days * DAY_NS), self.sight.boot)

    def start_again(self, wall_ns: int) -> None:
        """The machine is started again, and its clock says this."""
        self.sight = Sight(wall_ns, 0, f"{self.sight.boot}, and another")

    @property
    def sessions(self) -> set[str]:
        return {item.record.session_id for item in self.store.sessions()}

    @property
    def lost(self) -> dict[str, int]:
        with self.database.read_transaction() as connection:
            found = totals.values(connection, catalogue.MONITORING_DROPPED)
        return {reason: int(count) for (reason,), count in found.items() if count}

    def waiting(self, name: str = "influxdb") -> int:
        with self.database.read_transaction() as connection:
            return next(status.pending for status in backend_statuses(connection) if status.name == name)

    def dead(self) -> int:
        with self.database.read_transaction() as connection:
            return next(status.dead for status in backend_statuses(connection) if status.name == "influxdb")
