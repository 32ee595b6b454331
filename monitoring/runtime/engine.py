"""A store with its delivery: one over the file, and one in memory while the file can't be used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from monitoring.commitment import CommitmentBuilder
from monitoring.delivery.couriers import DeliveryThreads, Guard
from monitoring.delivery.queue import STATE_BACKENDS, backend_statuses
from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.readings import validation
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.losses import LossLog
from monitoring.runtime.routes import routes
from monitoring.settings import MonitoringConfig
from monitoring.store import limits
from monitoring.store import open_sessions as traces
from monitoring.store.database import Database
from monitoring.store.location import instance_name
from monitoring.store.locks import Owner
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
        self.builder = CommitmentBuilder.of(config, self.instance)
        self._limits = limits.Limits.of(config.store)
        # The sign of life under which traces and leases are held; nobody else sees a store in memory.
        self._owner = None if database.path is None else Owner(database.path)
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
        with self.database.reading() as connection:
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
        """In a child process, where the threads are gone: the sign of life is the parent's, and ends with it."""
        if self._owner is not None:
            self._owner.after_fork()

    def _need_room(self) -> None:
        if not limits.has_free_pages(self.database):
            limits.make_room(self.database)
        if not limits.has_free_pages(self.database):
            raise StoreError("the store's volume is nearly full")
