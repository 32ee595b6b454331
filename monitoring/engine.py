"""A store with its delivery: one over the file, and one in memory while the file can't be used."""

from __future__ import annotations

import logging

from monitoring.backends import routes
from monitoring.commitment import CommitmentBuilder
from monitoring.config_validator import MonitoringConfig
from monitoring.deadline import Deadline
from monitoring.events import SessionRecord
from monitoring.exceptions import StoreError
from monitoring.outbox import limits, traces
from monitoring.outbox.database import Database
from monitoring.outbox.delivery import DeliveryThreads, Guard
from monitoring.outbox.liveness import Owner
from monitoring.outbox.queue import backend_statuses
from monitoring.outbox.store import Store
from monitoring.store_location import instance_name


class Engine:
    """Commits sessions to one database and delivers what it holds. Methods raise :class:`StoreError`."""

    def __init__(self, database: Database, config: MonitoringConfig, logger: logging.Logger, guard: Guard) -> None:
        self.database = database
        self.store = Store(database)
        self.instance = instance_name(config, self.store)
        self.builder = CommitmentBuilder.of(config, self.instance)
        self._limits = limits.Limits.of(config.store)
        self._owner: Owner | None = None
        self.backends = routes(config, database, self.instance)
        self.threads = DeliveryThreads(self.backends, guard, logger)

    def report_crashed(self) -> int:
        """Commit the sessions of processes that died, as crashed."""
        if self.database.path is None:
            return 0
        return traces.report_crashed(self.store, self.database.path, self.builder)

    def trace(self, record: SessionRecord, durable: bool) -> None:
        """Keep what is known of an open session."""
        if self.database.path is not None:
            if self._owner is None:
                self._owner = Owner(self.database.path)
            traces.keep(self.database, self._owner.token, record, durable)

    def commit(self, record: SessionRecord) -> None:
        """Keep a finished session, and hand it to the delivery."""
        if limits.disk_is_nearly_full(self.database, self._limits):
            self._need_room()
        self.store.commit(record, self.builder)
        self.threads.wake()
        self.enforce_limits(pieces=1)

    def route(self) -> int:
        """Make the lines of sessions that were recorded without a log backend; returns how many sessions."""
        routed = 0
        while self.builder.writes_lines and (count := self.store.route("influxdb", self.builder)):
            routed += count
        return routed

    def enforce_limits(self, pieces: int) -> None:
        """Keep the store within its limits, in so many small pieces of work."""
        limits.enforce(self.database, self._limits, pieces)

    def undelivered(self) -> bool:
        """Whether something waits for a backend, or there is no backend that could take it."""
        with self.database.reading() as connection:
            waiting = any(status.pending for status in backend_statuses(connection))
        return waiting or not self.backends

    def close(self, deadline: Deadline) -> None:
        """Deliver until the deadline; the file stays."""
        self.threads.close(deadline)
        if self._owner is not None:
            self._owner.close()
        if self.database.path is not None:
            self.database.close()

    def after_fork(self) -> None:
        """In a child process: its own locks, threads and sign of life."""
        self.database.after_fork()
        self.threads.after_fork()
        if self._owner is not None:
            self._owner.after_fork()
            self._owner = None

    def _need_room(self) -> None:
        limits.make_room(self.database)
        if not limits.has_free_pages(self.database):
            raise StoreError("the store's volume is nearly full")
