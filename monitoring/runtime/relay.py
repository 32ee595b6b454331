"""The relay: delivers a store's sessions from the host, for modules that are gone or have no network.

It also reports killed processes' sessions as crashed, makes the lines that a module without backends
did not make, keeps the store within its limits, and says by a metric of its own that it lives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from monitoring.exceptions import StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.runtime.active_store import ActiveStore
from monitoring.runtime.failover import FailoverStore
from monitoring.settings import MonitoringConfig
from monitoring.store.location import store_path
from monitoring.transport.deadline import Deadline

T = TypeVar("T")
D = TypeVar("D")
Arguments = TypeVarTuple("Arguments")

HEARTBEAT_SECONDS = 60.0
# Small enough that a wish to stop is soon heard, however large the store is.
_PIECES = 50


class Relay:
    """Runs until it is stopped; a store that fails is opened anew at the next turn."""

    def __init__(self, config: MonitoringConfig, logger: logging.Logger) -> None:
        self._config = config
        self._logger = logger
        self.store = FailoverStore(
            store_path(config),
            config,
            zero_changes(declared=config.metrics.declared),
            logger,
            self._guard,
            "trying again at the next look",
            HEARTBEAT_SECONDS,
        )
        self._next_heartbeat = 0.0
        self._said: str | None = None
        self._fault: Exception | None = None

    def run(self, stop: threading.Event, interval_seconds: float) -> None:
        """Take turns until ``stop`` is set, then deliver what ``shutdown_timeout`` allows."""
        self._logger.info("relay: looks after %s", self.store.path)
        while not stop.is_set():
            self.take_turn()
            stop.wait(interval_seconds)
            # Raised here and not in the thread that met it: the service manager sees the end, and its traceback.
            if self._fault is not None:
                raise self._fault
        if self.store.active is not None:
            self.store.active.close(Deadline.after(self._config.shutdown_timeout))
        self._logger.info("relay: stopped")

    def take_turn(self) -> None:
        """Look after the store once; a file that can't be used is closed, since another may lie there next time."""
        # A person may have mended the file a moment ago, and watches the log.
        self.store.try_again_at_once()
        if not self.store.use(self._look_after):
            self.store.abandon()

    def _look_after(self, store: ActiveStore) -> None:
        store.check()
        if crashed := store.report_crashed(_PIECES):
            self._logger.warning("monitoring: %d session(s) of killed processes are reported as crashed", crashed)
        store.make_missing_lines(_PIECES)
        store.enforce_limits(_PIECES)
        if time.monotonic() >= self._next_heartbeat:
            store.beat()
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        store.threads.wake()

    def _guard(self, otherwise: D, call: Callable[[*Arguments], T], /, *arguments: *Arguments) -> T | D:
        """In threads: a store that fails is tried again; anything else is a fault of ours, and ends the relay."""
        try:
            result = call(*arguments)
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
