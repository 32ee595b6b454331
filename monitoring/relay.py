"""The relay: delivers a store's sessions from the host, for modules that are gone or have no network.

It also reports killed processes' sessions as crashed, makes the lines that a module without backends
did not make, keeps the store within its limits, and says by a metric of its own that it lives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from monitoring import catalogue
from monitoring.config_validator import MonitoringConfig
from monitoring.deadline import Deadline
from monitoring.engine import Engine
from monitoring.exceptions import StoreError
from monitoring.metrics_collector import NANOSECONDS, Change, zero_changes
from monitoring.outbox import totals
from monitoring.outbox.recovery import open_or_recover
from monitoring.store_location import store_path

T = TypeVar("T")

HEARTBEAT_SECONDS = 60.0


class Relay:
    """Runs until it is stopped; a store that fails is opened anew at the next turn."""

    def __init__(self, config: MonitoringConfig, logger: logging.Logger) -> None:
        self._config = config
        self._logger = logger
        self._engine: Engine | None = None
        self._next_heartbeat = 0.0
        self._said: str | None = None

    def run(self, stop: threading.Event, interval_seconds: float) -> None:
        """Take turns until ``stop`` is set, then deliver what ``shutdown_timeout`` allows."""
        while not stop.is_set():
            self.guard(self.take_turn, None)
            stop.wait(interval_seconds)
        if self._engine is not None:
            self._engine.close(Deadline.after(self._config.shutdown_timeout))

    def take_turn(self) -> None:
        """Look after the store once; raises :class:`StoreError`."""
        engine = self._engine or self._open()
        self._engine = engine
        if crashed := engine.report_crashed():
            self._logger.warning("%d session(s) of killed processes are reported as crashed", crashed)
        engine.route()
        engine.enforce_limits(pieces=50)
        if time.monotonic() >= self._next_heartbeat:
            beat(engine)
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        engine.threads.wake()

    def guard(self, call: Callable[[], T], otherwise: T) -> T:
        """A store that fails is said once and tried again; anything else is a fault of ours and ends the relay."""
        try:
            result = call()
        except StoreError as error:
            if self._said != str(error):
                self._said = str(error)
                self._logger.error("%s; trying again", error)
            return otherwise
        self._said = None
        return result

    def _open(self) -> Engine:
        database, aside = open_or_recover(store_path(self._config.store))
        if aside is not None:
            self._logger.error("the store was damaged; it was put aside as %s and a new one begun", aside)
        engine = Engine(database, self._config, self._logger, self.guard)
        engine.store.initialise(zero_changes())
        engine.threads.start()
        return engine


def beat(engine: Engine) -> None:
    """Write the relay's sign of life into the pushed state."""
    now_ns = time.time_ns()
    change = Change(catalogue.RELAY_LAST_SEEN.name, {}, "", now_ns / NANOSECONDS, replaces=True)
    with engine.database.transaction(durable=False) as connection:
        totals.apply_changes(connection, [change], now_ns)
        totals.bump_revision(connection)
