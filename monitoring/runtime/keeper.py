"""Keeps sessions whatever happens to the store.

While the file can't be used (no permission, a full disk, a lock held too long, a newer version's file),
sessions go to a store in memory, from where the backends still get them, and into the file as soon as it can
be used again: as the same points, so that the repeat has no effect. Each state is said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from monitoring.delivery.threads import Guard
from monitoring.exceptions import StoreError
from monitoring.metrics.samples import Change
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.engine import DurableEngine, Engine
from monitoring.settings import MonitoringConfig
from monitoring.store.database import PATIENCE_SECONDS, Database
from monitoring.store.location import lies_in, state_path, store_path
from monitoring.transport.deadline import Deadline

_REST_SECONDS = 30.0


class Keeper:
    """The durable engine, and the one in memory that stands in for it."""

    def __init__(
        self,
        config: MonitoringConfig,
        zeros: Iterable[Change],
        output_dir: Path | None,
        logger: logging.Logger,
        guard: Guard,
    ) -> None:
        self._config, self._logger, self._guard = config, logger, guard
        self._durable = DurableEngine(self._path_outside(output_dir), config, zeros, logger, guard)
        self._memory: Engine | None = None
        self._unsaved: list[SessionRecord] = []
        self._resting_until = 0.0
        self._said: str | None = None
        self._attempt(_open)

    @property
    def folder(self) -> Path | None:
        """Where the store lies, when it could be used."""
        return self._durable.path.parent if self._durable.instance is not None else None

    def describe(self) -> str:
        """Store and backends, for the log."""
        durable = self._durable.engine
        names = " and ".join(route.name for route in (durable or self._in_memory()).backends) or "no backend"
        return f"store {self._durable.path if durable else 'in memory'}, {names}"

    def trace(self, record: SessionRecord, durable: bool) -> None:
        """Keep what is known of an open session, where the store can take it."""
        self._attempt(lambda engine: engine.trace(record, durable))

    def keep(self, record: SessionRecord) -> None:
        """Keep a finished session: in the file, or in memory until the file can be used again."""
        self._unsaved.append(record)
        self._attempt(self._save)
        if self._unsaved:
            self._in_memory().commit(record)

    def use(self, work: Callable[[Engine], None]) -> None:
        """Work with the file, where it can be used and holds all that was recorded."""
        if not self._unsaved:
            self._attempt(work)

    def hurry(self, deadline: Deadline) -> None:
        """Wait for locks of other processes no longer than until the deadline."""
        self._durable.be_patient(min(PATIENCE_SECONDS, deadline.remaining()))

    def close(self, deadline: Deadline) -> None:
        """Save what isn't yet, deliver until the deadline, say what was lost."""
        if self._unsaved:
            self.hurry(deadline)
            self._resting_until = 0.0
            self._attempt(self._save)
        engines = [engine for engine in (self._durable.engine, self._memory) if engine is not None]
        for engine in engines:
            engine.threads.begin_close(deadline)
        for engine in engines:
            engine.close(deadline)
        if self._unsaved and self._memory is not None and self._memory.undelivered():
            self._logger.error(
                "monitoring: %d session(s) could be neither stored nor delivered and are lost", len(self._unsaved)
            )

    def after_fork(self) -> None:
        """In a child process: what is open or unsaved belongs to the parent."""
        self._durable.after_fork()
        self._memory = None
        self._unsaved = []

    def _path_outside(self, output_dir: Path | None) -> Path:
        """The store's path, but never in the host's output folder: what lies there is sent to the PACS."""
        path = store_path(self._config.store)
        if output_dir is None or not lies_in(path, output_dir):
            return path
        self._logger.error("monitoring: the store must not lie in the output folder; it is kept in %s", state_path())
        return state_path()

    def _attempt(self, work: Callable[[Engine], None]) -> None:
        """Use the file, unless it has failed a moment ago: no session waits for it twice."""
        if time.monotonic() < self._resting_until:
            return
        try:
            self._durable.use(work)
        except StoreError as error:
            self._resting_until = time.monotonic() + _REST_SECONDS
            self._say(str(error))
        else:
            self._say(None)

    def _save(self, engine: Engine) -> None:
        """Commit what is unsaved, the oldest first."""
        while self._unsaved:
            try:
                engine.commit(self._unsaved[0])
            except StoreError:
                raise
            except Exception:  # a record that can't be kept must not hold up those behind it
                del self._unsaved[0]
                raise
            del self._unsaved[0]
        engine.enforce_limits(pieces=1)

    def _in_memory(self) -> Engine:
        if self._memory is None:
            # Under the store's name, where it is known: the points are the same that the file will deliver.
            self._memory = Engine(Database(None), self._config, self._logger, self._guard, self._durable.instance)
            self._memory.threads.start()
        return self._memory

    def _say(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._said:
            self._logger.warning("monitoring: %s; sessions are kept in memory until it can be used", trouble)
        elif trouble is None and self._said is not None:
            self._logger.info("monitoring: the store can be used again")
        self._said = trouble


def _open(engine: Engine) -> None:
    """Nothing but to have the store opened."""
