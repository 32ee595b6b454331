"""A store with its delivery: one over the file, and one in memory while the file can't be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.delivery.threads import DeliveryThreads, Guard
from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change
from monitoring.readings import validation
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.routes import routes, session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store import limits, totals
from monitoring.store import open_sessions as traces
from monitoring.store.database import PATIENCE_SECONDS, Database, Identity
from monitoring.store.location import instance_name, is_gone_with_the_container
from monitoring.store.locks import LivenessLock
from monitoring.store.outbox import STATE_BACKENDS, backend_statuses
from monitoring.store.recovery import open_or_recover, quarantine
from monitoring.store.sessions import Store
from monitoring.transport.deadline import Deadline

_IN_MEMORY = "memory"


class Engine:
    """Commits sessions to one database and delivers what it holds. Methods raise :class:`StoreError`.

    ``instance`` is the name to report under; without it, the settings' or the store's own.
    """

    def __init__(
        self,
        database: Database,
        config: MonitoringConfig,
        logger: logging.Logger,
        guard: Guard,
        instance: str | None = None,
    ) -> None:
        self.database = database
        self.store = Store(database)
        self.instance = instance or instance_name(config, self.store)
        self.builder = session_writes_builder(config, self.instance)
        self._limits = limits.Limits.of(config.store)
        # The liveness lock under which traces and leases are held; nobody else sees a store in memory.
        self._owner = None if database.path is None else LivenessLock(database.path)
        self.backends = routes(config, database, self.instance, self._owner.token if self._owner else _IN_MEMORY)
        self.threads = DeliveryThreads(self.backends, guard, logger)
        self._losses = LossLog(database, logger)

    def check(self) -> None:
        """Raise :class:`StoreCorruptError` when the delivery has found the store damaged."""
        if self.threads.has_met_damage:
            raise StoreCorruptError("the store is damaged")

    def report_crashed(self, limit: int | None = None) -> int:
        """Commit the sessions of processes that died as crashed, at most ``limit``; returns how many."""
        if self.database.path is None:
            return 0
        return traces.report_crashed(self.store, self.database.path, self.builder, limit)

    def trace(self, record: SessionRecord, durable: bool) -> None:
        """Keep what is known of an open session."""
        self.check()
        if self._owner is not None:
            traces.keep(self.database, self._owner.token, record, durable)

    def commit(self, record: SessionRecord) -> None:
        """Keep a finished session, and hand it to the delivery."""
        self.check()
        if limits.disk_is_nearly_full(self.database, self._limits):
            self._need_room()
        self.store.commit(record, self.builder)
        self.threads.wake()

    def route(self, pieces: int | None = None) -> None:
        """Make the lines of sessions that were recorded without a log backend, in at most so many pieces of work."""
        while self.builder.writes_lines and pieces != 0:
            if not self.store.route("influxdb", self.builder):
                return
            pieces = None if pieces is None else pieces - 1

    def enforce_limits(self, pieces: int) -> None:
        """Keep the store within its limits, in so many small pieces of work."""
        limits.enforce(self.database, self._limits, pieces)
        self._losses.say_new()

    def refresh_validation(self, records: Sequence[SessionRecord]) -> None:
        """Compute the validation's gauges anew, where a reader has measured one of these exams."""
        if validation.refresh_after(self.database, records):
            self.threads.wake()

    def undelivered(self) -> bool:
        """Whether lines wait for a log backend, or there is none that could take them."""
        if not self.builder.writes_lines:
            return True
        with self.database.read_transaction() as connection:
            return any(status.pending for status in backend_statuses(connection) if status.name not in STATE_BACKENDS)

    def close(self, deadline: Deadline) -> None:
        """Deliver until the deadline; the file stays."""
        self.threads.close(deadline)
        with suppress(StoreError):  # they stay counted
            self._losses.say_new()
        if self._owner is not None:
            self._owner.close()  # and with it ends the lease of a thread that is still waiting for an answer
        if self.database.path is not None:
            self.database.close()

    def abandon(self) -> None:
        """Stop working on a store that was damaged or replaced; what was open in it is not ours any more."""
        self.threads.begin_close(Deadline.after(0.0))
        if self._owner is not None:
            self._owner.close()
        self.database.close()

    def after_fork(self) -> None:
        """In a child process, where the threads are gone: the liveness lock is the parent's, and ends with it."""
        if self._owner is not None:
            self._owner.after_fork()

    def _need_room(self) -> None:
        if not limits.has_free_pages(self.database):
            limits.make_room(self.database)
        if not limits.has_free_pages(self.database):
            raise StoreError("the store's volume is nearly full")


class LossLog:
    """Looks at the store's counts of losses; what was lost before this process is not news."""

    def __init__(self, database: Database, logger: logging.Logger) -> None:
        self._database = database
        self._logger = logger
        self._said: set[str] = set()
        self._before = self._counts()

    def say_new(self) -> None:
        """Log the kinds of loss that have happened since; raises :class:`StoreError`."""
        for reason, count in self._counts().items():
            news = count - self._before.get(reason, 0)
            if news > 0 and reason not in self._said:
                self._said.add(reason)
                self._logger.warning(
                    "monitoring: %d lost, reason %s; the command status counts what is lost", news, reason
                )

    def _counts(self) -> dict[str, int]:
        with self._database.read_transaction() as connection:
            found = totals.values(connection, catalogue.MONITORING_DROPPED)
        return {reason: int(count) for (reason,), count in found.items()}


# Each costs a commit, and the host waits: the next processes, or a relay, report the others.
_CRASHED_AT_ONCE = 20


class DurableEngine:
    """At most one engine at a time, over one path."""

    def __init__(
        self, path: Path, config: MonitoringConfig, zeros: Iterable[Change], logger: logging.Logger, guard: Guard
    ) -> None:
        self.path = path
        self._config, self._zeros, self._logger, self._guard = config, list(zeros), logger, guard
        self.patience_seconds = PATIENCE_SECONDS
        self.engine: Engine | None = None
        self.instance: str | None = None
        """The name that the store reports under, once it could be read."""
        self._identity: Identity | None = None
        self._has_warned = False

    def use(self, work: Callable[[Engine], None]) -> None:
        """Work with the store; when it turns out to be damaged, it is put aside and the work is done anew, once.

        Raises :class:`StoreError` when the store can't be used.
        """
        try:
            work(self._opened())
        except StoreCorruptError:
            work(self._opened_anew())

    def be_patient(self, seconds: float) -> None:
        """Wait so long for locks of other processes from now on."""
        self.patience_seconds = seconds
        if self.engine is not None:
            self.engine.database.be_patient(seconds)

    def abandon(self) -> None:
        """Close the store without waiting for the delivery."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.abandon()

    def after_fork(self) -> None:
        """In a child process, which opens the store for itself."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.after_fork()

    def _opened(self) -> Engine:
        if self.engine is None:
            self.engine = self._begin(*open_or_recover(self.path, self.patience_seconds))
        return self.engine

    def _opened_anew(self) -> Engine:
        self.abandon()
        self.engine = self._begin(*quarantine(self.path, self._identity, self.patience_seconds))
        return self.engine

    def _begin(self, database: Database, aside: Path | None) -> Engine:
        self._identity = database.identity
        if aside is not None:
            self._logger.error("monitoring: the store was damaged; it was put aside as %s and a new one begun", aside)
        with _undone_by(database.close):
            engine = Engine(database, self._config, self._logger, self._guard)
        self.instance = engine.instance
        with _undone_by(engine.abandon):
            engine.store.initialise(self._zeros)
            if crashed := engine.report_crashed(_CRASHED_AT_ONCE):
                self._logger.warning("monitoring: %d session(s) of killed processes are reported as crashed", crashed)
        self._warn_once()
        engine.threads.start()
        return engine

    def _warn_once(self) -> None:
        if not self._has_warned and is_gone_with_the_container(self.path):
            self._logger.warning(
                "monitoring: the store %s lies inside the container and is lost with it; mount a folder there,"
                " or set store.path",
                self.path,
            )
        self._has_warned = True


@contextmanager
def _undone_by(undo: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        undo()
        raise
