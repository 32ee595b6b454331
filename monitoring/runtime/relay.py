"""The relay: delivers a store's sessions from the host, for modules that are gone or have no network.

It also reports killed processes' sessions as crashed, makes the lines that a module without backends
did not make, keeps the store within its limits, and says by a metric of its own that it lives. Once a UTC day it has
the stored sessions analysed, in a thread beside its turns, so that nothing waits for that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from monitoring.analytics.analysis import analyse
from monitoring.exceptions import StoreError, code_location, type_name
from monitoring.metrics.catalogue import OTHER
from monitoring.metrics.samples import zero_changes
from monitoring.records.names import chart_name
from monitoring.runtime.active_store import ActiveStore
from monitoring.runtime.failover import FailoverStore
from monitoring.settings import MonitoringConfig
from monitoring.store.clock import DAY_NS
from monitoring.store.location import store_path
from monitoring.store.sessions import Store
from monitoring.transport.deadline import Deadline

T = TypeVar("T")
D = TypeVar("D")
Arguments = TypeVarTuple("Arguments")

HEARTBEAT_SECONDS = 60.0
# Small enough that a wish to stop is soon heard, however large the store is.
_PIECES = 50
_ANALYSIS_REST_SECONDS = 3600.0
_MOST_SHOWN = 5


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
        self._analysis: threading.Thread | None = None
        self._analysed_day = -1
        self._next_analysis = 0.0
        self._said: str | None = None
        self._said_of_analysis: str | None = None
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
        self._begin_analysis(store)
        store.threads.wake()

    def _begin_analysis(self, store: ActiveStore) -> None:
        """Once a UTC day, at the first turn; after a failure again in an hour."""
        today = time.time_ns() // DAY_NS
        is_at_work = self._analysis is not None and self._analysis.is_alive()
        if today == self._analysed_day or is_at_work or time.monotonic() < self._next_analysis:
            return
        self._next_analysis = time.monotonic() + _ANALYSIS_REST_SECONDS
        # A daemon: what is computed when the relay stops is computed again when it starts.
        self._analysis = threading.Thread(
            target=self._analyse, args=(store, today), name="leglength-monitoring-analysis", daemon=True
        )
        try:
            self._analysis.start()
        except RuntimeError as error:
            self._say_of_analysis(f"no thread can be had: {error}")

    def _analyse(self, store: ActiveStore, today: int) -> None:
        try:
            database = store.database.sibling()
            try:
                found = analyse(Store(database), self._config.analytics, time.time_ns(), store.builder)
            finally:
                database.close()
            if found.not_kept:
                raise StoreError(found.not_kept)
        except StoreError as error:
            self._say_of_analysis(str(error))
        except Exception as error:  # no fault of a formula's may end the delivery
            self._say_of_analysis(f"{type_name(error)} at {code_location(error)}")
        else:
            self._analysed_day, self._next_analysis, self._said_of_analysis = today, 0.0, None
            if found.anew:
                self._logger.info(
                    "monitoring: the charts are computed from the first session: %s; %d alarm(s) withdrawn",
                    found.anew,
                    len(found.withdrawn),
                )
            charts = {alarm.alarm_id: alarm.chart for alarm in found.alarms if alarm.status == "open"}
            # An imported record may name a stage as it likes: a chart is logged by what may be a label.
            if new := [chart_name(charts[alarm_id]) or OTHER for alarm_id in found.appeared if alarm_id in charts]:
                shown = ", ".join(new[:_MOST_SHOWN]) + (", ..." if len(new) > _MOST_SHOWN else "")
                self._logger.warning(
                    "monitoring: %d new alarm(s) of the charts: %s; the command alarms lists them", len(new), shown
                )

    def _say_of_analysis(self, reason: str) -> None:
        if reason != self._said_of_analysis:
            self._logger.error("monitoring: the stored sessions can't be analysed: %s; trying again each hour", reason)
        self._said_of_analysis = reason

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
