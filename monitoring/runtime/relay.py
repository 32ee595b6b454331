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

from monitoring.exceptions import StoreError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS, Change, zero_changes
from monitoring.runtime.engine import DurableEngine, Engine
from monitoring.settings import MonitoringConfig
from monitoring.store import totals
from monitoring.store.location import store_path
from monitoring.transport.deadline import Deadline

T = TypeVar("T")

HEARTBEAT_SECONDS = 60.0
# Small enough that a wish to stop is soon heard, however large the store is.
_PIECES = 50


class Relay:
    """Runs until it is stopped; a store that fails is opened anew at the next turn."""

    def __init__(self, config: MonitoringConfig, logger: logging.Logger) -> None:
        self._config = config
        self._logger = logger
        self._durable = DurableEngine(store_path(config.store), config, zero_changes(), logger, self.guard)
        self._next_heartbeat = 0.0
        self._said: str | None = None
        self._fault: Exception | None = None

    def run(self, stop: threading.Event, interval_seconds: float) -> None:
        """Take turns until ``stop`` is set, then deliver what ``shutdown_timeout`` allows."""
        self._logger.info("relay: looks after %s", self._durable.path)
        while not stop.is_set():
            if not self.guard(self.take_turn, False):
                self._durable.abandon()
            stop.wait(interval_seconds)
            if self._fault is not None:
                raise self._fault
        if self._durable.engine is not None:
            self._durable.engine.close(Deadline.after(self._config.shutdown_timeout))
        self._logger.info("relay: stopped")

    def take_turn(self) -> bool:
        """Look after the store once; raises :class:`StoreError`."""
        self._durable.use(self._look_after)
        return True

    def guard(self, call: Callable[[], T], otherwise: T) -> T:
        """A store that fails is said once and tried again; anything else is a fault of ours and ends the relay."""
        try:
            result = call()
        except StoreError as error:
            if self._said != str(error):
                self._said = str(error)
                self._logger.error("%s; trying again", error)
            return otherwise
        except Exception as error:
            self._fault = error
            return otherwise
        self._said = None
        return result

    def _look_after(self, engine: Engine) -> None:
        engine.check()
        if crashed := engine.report_crashed(_PIECES):
            self._logger.warning("monitoring: %d session(s) of killed processes are reported as crashed", crashed)
        engine.route(_PIECES)
        engine.enforce_limits(_PIECES)
        if time.monotonic() >= self._next_heartbeat:
            beat(engine)
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        engine.threads.wake()


def beat(engine: Engine) -> None:
    """Write the relay's sign of life into the pushed state."""
    now_ns = time.time_ns()
    change = Change(catalogue.RELAY_LAST_SEEN.name, {}, "", now_ns / NANOSECONDS, replaces=True)
    with engine.database.transaction(durable=False) as connection:
        totals.apply_changes(connection, [change], now_ns)
        totals.bump_revision(connection)
