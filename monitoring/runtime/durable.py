"""The engine over the store's file: opened when it is needed, and anew when the file was damaged or replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.delivery.couriers import Guard
from monitoring.exceptions import StoreCorruptError
from monitoring.metrics_collector import Change
from monitoring.runtime.engine import Engine
from monitoring.settings import MonitoringConfig
from monitoring.store.database import PATIENCE_SECONDS, Database, Identity
from monitoring.store.location import is_gone_with_the_container
from monitoring.store.recovery import open_or_recover, quarantine

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
