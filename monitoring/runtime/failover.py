"""Use the store, and handle what fails: a damaged file is put aside, and memory stands in for one that can't be used.

While the file can't be used (no permission, a full disk, a lock held too long, a newer version's file), sessions go
to a store in memory, from where the backends still get them, and into the file as soon as it can be used again: as
the same points, so that the repeat has no effect. Each state is said once. No host ever sees a :class:`StoreError`:
here is where they end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVarTuple

from monitoring.delivery.threads import ErrorGuard
from monitoring.exceptions import StoreCorruptError, StoreError, StoreReadError
from monitoring.metrics.samples import Change
from monitoring.metrics.session_writes import SessionWrites
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.active_store import ActiveStore
from monitoring.settings import MonitoringConfig
from monitoring.store import locks
from monitoring.store.database import PATIENCE_SECONDS, Database, Identity
from monitoring.store.location import is_gone_with_the_container
from monitoring.store.locks import LivenessLock
from monitoring.store.recovery import look_again, open_or_recover, quarantine
from monitoring.transport.deadline import Deadline

Arguments = TypeVarTuple("Arguments")

REST_SECONDS = 30.0
"""How long a file that has failed is left alone: no session waits for it twice."""

# Each costs a commit, and the host waits: the next processes, or a relay, report the others.
_CRASHED_AT_ONCE = 20


class FailoverStore:
    """The store in one file, opened when it is needed, and the one in memory that stands in for it.

    Without a ``path`` there is no place for a file; who owns this has said so. ``instead`` says in the log what becomes
    of sessions while the file can't be used. With ``heartbeat_seconds`` a log hears of the monitoring itself so often,
    also where nothing waits.
    """

    def __init__(
        self,
        path: Path | None,
        config: MonitoringConfig,
        zeros: Iterable[Change],
        logger: logging.Logger,
        guard: ErrorGuard,
        instead: str = "sessions are kept in memory until it can be used",
        heartbeat_seconds: float | None = None,
    ) -> None:
        self.path = path
        self._config, self._zeros, self._logger, self._guard = config, list(zeros), logger, guard
        self._instead, self._heartbeat_seconds = instead, heartbeat_seconds
        self._patience_seconds = PATIENCE_SECONDS
        self.active: ActiveStore | None = None
        self.instance: str | None = None
        """The name that the store reports under, once it could be read."""
        self._memory: ActiveStore | None = None
        self._unsaved: list[SessionRecord] = []
        self._made_in_memory: dict[str, tuple[int, SessionWrites]] = {}
        self._identity: Identity | None = None
        self._resting_until = 0.0
        self._said: str | None = None
        self._has_warned = False
        self._life: LivenessLock | None = None

    def use(self, work: Callable[[ActiveStore, *Arguments], object], *arguments: *Arguments) -> bool:
        """Work with the file; False when it can't be used, or could not a moment ago.

        When it turns out to be damaged, also at a second look, it is put aside and the work is done anew, once.
        """
        if self.path is None or time.monotonic() < self._resting_until:
            return False
        try:
            try:
                active = self.active or self._activate(*open_or_recover(self.path, self._patience_seconds))
                work(active, *arguments)
            except (StoreCorruptError, StoreReadError):
                self._leave()
                try:
                    work(self._activate(*look_again(self.path, self._patience_seconds)), *arguments)
                except StoreCorruptError:  # whole to be read, and yet it can't be worked with
                    self._leave()
                    work(self._activate(*quarantine(self.path, self._identity, self._patience_seconds)), *arguments)
        except StoreError as error:
            self._resting_until = time.monotonic() + REST_SECONDS
            if str(error) != self._said:
                self._logger.warning("monitoring: %s; %s", error, self._instead)
            self._said = str(error)
            return False
        if self._said is not None:
            self._logger.info("monitoring: the store can be used again")
        self._said = None
        return True

    def open(self) -> None:
        """Open the file before there is work for it; report the sessions of processes that were killed."""
        self.use(ActiveStore.check)

    def save(self, record: SessionRecord) -> None:
        """Keep a finished session: in the file, or in memory until the file can be used again."""
        self._unsaved.append(record)
        self.use(ActiveStore.commit, self._unsaved)
        if self._unsaved:
            # Its trace may be in the file, which can't be told that the session is over.
            if self.path is not None:
                locks.mark_ended(self.path, record.session_id)
            self._in_memory().commit([record])

    @property
    def has_all(self) -> bool:
        """Whether the file holds all that was recorded."""
        return not self._unsaved

    @property
    def folder(self) -> Path | None:
        """Where the store lies, when it could be used."""
        return self.path.parent if self.path is not None and self.instance is not None else None

    def describe(self) -> str:
        """Store and backends, for the log."""
        active = self.active or self._in_memory()
        names = " and ".join(backend.name for backend in active.courier_makers) or "no backend"
        return f"store {self.path if self.active else 'in memory'}, {names}"

    def be_patient(self, seconds: float) -> None:
        """Wait so long for locks of other processes from now on, and no longer than is usual."""
        self._patience_seconds = min(PATIENCE_SECONDS, seconds)
        if self.active is not None:
            self.active.database.be_patient(self._patience_seconds)

    def try_again_at_once(self) -> None:
        """Don't leave a file alone that has failed: there will be no later."""
        self._resting_until = 0.0

    def close(self, deadline: Deadline) -> None:
        """Save what isn't yet, deliver until the deadline, say what was lost."""
        if self._unsaved:
            self.be_patient(deadline.remaining())
            self.try_again_at_once()
            self.use(ActiveStore.commit, self._unsaved)
        # Both at once: they share the deadline, and neither waits for the other's backends.
        stores = [store for store in (self.active, self._memory) if store is not None]
        for store in stores:
            store.threads.begin_close(deadline)
        for store in stores:
            store.close(deadline)
        if self._life is not None:
            self._life.close()
        if self._unsaved and self._memory is not None and self._memory.has_undelivered_lines():
            self._logger.error(
                "monitoring: %d session(s) could be neither stored nor delivered and are lost", len(self._unsaved)
            )

    def abandon(self) -> None:
        """Close the file without waiting for the delivery."""
        active, self.active = self.active, None
        if active is not None:
            active.abandon()

    def _leave(self) -> None:
        """Close the file to look at it again. This process' open sessions are in it, and it still lives."""
        active, self.active = self.active, None
        if active is not None:
            self._life = active.abandon(keeps_life=True)

    def after_fork(self) -> None:
        """In a child process: what is open or unsaved belongs to the parent; the child opens the file for itself."""
        if self._life is not None:
            self._life.after_fork()
        active, self.active, self._life = self.active, None, None
        if active is not None:
            active.after_fork()
        self._memory = None
        self._unsaved = []

    def _activate(self, database: Database, aside: Path | None) -> ActiveStore:
        # Which file it is: another process may put it aside meanwhile, and the next one must not follow.
        self._identity = database.identity
        if aside is not None:
            self._logger.error("monitoring: the store was damaged; it was put aside as %s and a new one begun", aside)
            if self._life is not None:
                self._life.close()  # the new store knows none of our sessions yet
                self._life = None
        with _undone_by(database.close):
            active = self._new_store(database)
        self._life = None  # it is the active store's by now
        self.instance = active.instance
        with _undone_by(active.abandon):
            active.store.initialise(self._zeros)
            if crashed := active.report_crashed(_CRASHED_AT_ONCE):
                self._logger.warning("monitoring: %d session(s) of killed processes are reported as crashed", crashed)
        if not self._has_warned and database.path is not None and is_gone_with_the_container(database.path):
            self._logger.warning(
                "monitoring: the store %s lies inside the container and is lost with it; mount a folder there,"
                " or set store.path",
                database.path,
            )
        self._has_warned = True
        active.threads.start()
        self.active = active
        return active

    def _new_store(self, database: Database, instance: str | None = None) -> ActiveStore:
        life = self._life if database.path is not None else None
        made, beat = self._made_in_memory, self._heartbeat_seconds
        return ActiveStore(database, self._config, self._logger, self._guard, instance, made, life, beat)

    def _in_memory(self) -> ActiveStore:
        if self._memory is None:
            # Under the store's name, where it is known: the points are the same that the file will deliver.
            self._memory = self._new_store(Database(None), self.instance)
            self._memory.threads.start()
        return self._memory


@contextmanager
def _undone_by(undo: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    except BaseException:  # an interrupt, too, must leave no lock behind
        undo()
        raise
