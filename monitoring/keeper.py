"""Keeps sessions whatever happens to the store.

While the file can't be used (no permission, a full disk, a lock held too long, a newer version's file),
sessions go to a store in memory, from where the backends still get them, and into the file as soon as it can
be used again. A damaged file is put aside. Each state is said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from monitoring.config_validator import MonitoringConfig
from monitoring.deadline import Deadline
from monitoring.engine import Engine
from monitoring.events import SessionRecord
from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.metrics_collector import Change
from monitoring.outbox.database import Database
from monitoring.outbox.delivery import Guard
from monitoring.outbox.recovery import open_or_recover, quarantine
from monitoring.store_location import is_gone_with_the_container, lies_in, state_path, store_path

_PATIENCE_SECONDS = 30.0


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
        self._config, self._zeros, self._logger, self._guard = config, list(zeros), logger, guard
        self.path = self._path_outside(output_dir)
        self._durable: Engine | None = None
        self._memory: Engine | None = None
        self._unsaved: list[SessionRecord] = []
        self._resting_until = 0.0
        self._said: str | None = None
        self._try_open(lambda: open_or_recover(self.path))

    @property
    def folder(self) -> Path | None:
        """Where the store lies, when it can be used."""
        return self.path.parent if self._durable is not None else None

    def describe(self) -> str:
        """Store and backends, for the log."""
        engine = self._durable or self._in_memory()
        names = " and ".join(route.name for route in engine.backends) or "no backend"
        return f"store {self.path if self._durable else 'in memory'}, {names}"

    def trace(self, record: SessionRecord, durable: bool) -> None:
        """Keep what is known of an open session, where the store can take it."""
        if self._durable is not None and not self._is_resting():
            try:
                self._durable.trace(record, durable)
            except (StoreError, OSError) as error:
                self._rest(error)

    def keep(self, record: SessionRecord) -> None:
        """Keep a finished session: in the file, or in memory until the file can be used again."""
        self._unsaved.append(record)
        if not self._is_resting():
            self._save()
        if self._unsaved:
            self._in_memory().commit(record)

    def close(self, deadline: Deadline) -> None:
        """Save what isn't yet, deliver until the deadline, say what was lost."""
        if self._unsaved:
            self._save()
        engines = [engine for engine in (self._durable, self._memory) if engine is not None]
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
        self._unsaved = []
        for engine in (self._durable, self._memory):
            if engine is not None:
                engine.after_fork()

    def _path_outside(self, output_dir: Path | None) -> Path:
        """The store's path, but never in the host's output folder: what lies there is sent to the PACS."""
        path = store_path(self._config.store)
        if output_dir is None or not lies_in(path, output_dir):
            return path
        self._logger.error("monitoring: the store must not lie in the output folder; it is kept in %s", state_path())
        return state_path()

    def _save(self) -> None:
        """Commit what is unsaved, the oldest first; a damaged store is put aside once, and tried anew."""
        try:
            self._save_all()
        except StoreCorruptError:
            self._set_durable(None)
            self._try_open(lambda: quarantine(self.path))
            if self._durable is not None:
                self._save_all()
        except StoreError as error:
            self._rest(error)

    def _save_all(self) -> None:
        if self._durable is None:
            self._try_open(lambda: open_or_recover(self.path))
        while self._durable is not None and self._unsaved:
            self._durable.commit(self._unsaved[0])
            self._unsaved.pop(0)
            self._say_recovered()

    def _try_open(self, open_database: Callable[[], tuple[Database, Path | None]]) -> None:
        try:
            database, aside = open_database()
            engine = Engine(database, self._config, self._logger, self._guard)
            engine.store.initialise(self._zeros)
        except StoreError as error:
            self._rest(error)
            return
        self._set_durable(engine)
        if aside is not None:
            self._logger.error("monitoring: the store was damaged; it was put aside as %s and a new one begun", aside)
        if is_gone_with_the_container(self.path):
            self._logger.warning(
                "monitoring: the store %s lies inside the container and is lost with it; mount a folder there,"
                " or set store.path",
                self.path,
            )
        if crashed := engine.report_crashed():
            self._logger.warning("monitoring: %d session(s) of killed processes are reported as crashed", crashed)
        engine.threads.start()

    def _set_durable(self, engine: Engine | None) -> None:
        if self._durable is not None:
            self._durable.threads.begin_close(Deadline.after(0.0))
        self._durable = engine

    def _in_memory(self) -> Engine:
        if self._memory is None:
            self._memory = Engine(Database(None), self._config, self._logger, self._guard)
            self._memory.threads.start()
        return self._memory

    def _is_resting(self) -> bool:
        return time.monotonic() < self._resting_until

    def _rest(self, error: Exception) -> None:
        """Leave the file alone for a while: no session waits for it twice."""
        self._resting_until = time.monotonic() + _PATIENCE_SECONDS
        if self._said != str(error):
            self._said = str(error)
            self._logger.warning("monitoring: %s; sessions are kept in memory until it can be used", error)

    def _say_recovered(self) -> None:
        if self._said is not None and not self._unsaved:
            self._said = None
            self._logger.info("monitoring: the store can be used again")
