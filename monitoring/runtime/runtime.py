"""Monitoring that is switched on: the open sessions, the sampler and the keeper of one process.

Raises what goes wrong; :mod:`monitoring.monitor_manager` is where errors end.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from monitoring.config_validator import Checked
from monitoring.delivery.threads import Guard
from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.privacy import log_filter
from monitoring.privacy.dicom_context import read_image
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.secret_values import secrets_of
from monitoring.privacy.site_key import find_key
from monitoring.readings.settings import SETTING, ReferenceReadings, thresholds_cm
from monitoring.records import coerce
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.keeper import Keeper
from monitoring.runtime.machine.sampler import Sampler
from monitoring.runtime.machine.usage import Recording
from monitoring.runtime.session import Session
from monitoring.transport.deadline import Deadline

T = TypeVar("T")


@dataclass(slots=True)
class _Open:
    session: Session
    recording: Recording | None


class Runtime:
    """One process' monitoring."""

    def __init__(
        self,
        checked: Checked,
        settings: Mapping[str, Any],
        output_dir: Any,
        logger: logging.Logger,
        guard: Guard,
    ) -> None:
        self.config = checked.config
        self._output_dir = Path(output_dir) if output_dir else _mercure_output_dir()
        self._logger = logger
        self._guard = guard
        self._keeper = Keeper(self.config, zero_changes(_configured_models(settings)), self._output_dir, logger, guard)
        self._pseudonyms = self._make_pseudonyms()
        self._thresholds_cm = thresholds_cm(settings)
        self._readings = ReferenceReadings(settings.get(SETTING), self._pseudonyms, logger)
        self._sampler: Sampler | None = None
        self._sessions: dict[str, _Open] = {}
        self._turns = Turns()
        self._committed: dict[str, SessionRecord] = {}
        _RUNTIMES.add(self)
        logger.info("monitoring: on; %s", self._keeper.describe())

    def begin(self, series_id: object) -> Session:
        """Open a session for one image; its trace is durable when this returns."""
        session = Session(self._pseudonyms.series(series_id))
        session.record_thresholds(self._thresholds_cm)
        self._record_readings(session, {})
        recording = self._begin_recording()
        self._sessions[session.session_id] = _Open(session, recording)
        self._turns.take(lambda: self._trace(session, durable=True))
        return session

    def open_session(self, session_id: object) -> Session | None:
        """The open session of this id."""
        found = self._sessions.get(str(session_id))
        return found.session if found else None

    def record_image(self, session: Session, dicom_path: object) -> None:
        """Keep the image's context and keyed hashes, free of identity."""
        facts = read_image(dicom_path, self._pseudonyms, self.config.privacy)
        session.record_context(facts.context, facts.keys)
        self._record_readings(session, facts.keys)

    def _record_readings(self, session: Session, keys: Mapping[str, str]) -> None:
        named = (session.series_key, keys.get("study_key", ""), keys.get("accession_key", ""))
        for reader, measurements_mm in self._readings.of(named).items():
            session.record_reading(reader, measurements_mm)

    def renew_trace(self, session: Session) -> None:
        """Keep what the session has recorded so far, in case the process dies."""
        self._turns.take(lambda: self._trace(session, durable=False))

    def _trace(self, session: Session, durable: bool) -> None:
        if session.session_id in self._sessions:
            self._keeper.trace(self._wanted(session.trace()), durable)

    def end(self, session_id: object, status: object = None) -> None:
        """Freeze, commit and hand over to delivery; does nothing when the session isn't open."""
        self._turns.take(lambda: self._end(str(session_id), status))

    def _end(self, session_id: str, status: object) -> None:
        found = self._sessions.get(session_id)
        if found is None:
            return
        usages = self._sampler.finish(found.recording) if self._sampler and found.recording else {}
        record = self._wanted(found.session.freeze(status, usages))
        self._keeper.keep(record)
        self._committed[session_id] = record
        # Only now: should the host's signal handler leave in the middle of it, the session ends when we close.
        del self._sessions[session_id]

    def _wanted(self, record: SessionRecord) -> SessionRecord:
        """The record without what the settings leave out."""
        if self.config.metrics.include_model_metrics:
            return record
        return record.without_models()

    def end_all(self, reason: str) -> None:
        """End what is open as failed, for a reason given as a short code."""
        for session_id, found in list(self._sessions.items()):
            found.session.fail(reason, found.session.current_stage)
            self.end(session_id)

    @property
    def committed(self) -> list[SessionRecord]:
        """What was committed, in that order."""
        return list(self._committed.values())

    def close(self, deadline: Deadline) -> None:
        """End open sessions as failed, deliver until the deadline, close the store."""
        self._turns.take(lambda: self._close(deadline))

    def _close(self, deadline: Deadline) -> None:
        self._keeper.hurry(deadline)
        for session_id, found in list(self._sessions.items()):
            found.session.fail("not_ended", found.session.current_stage)
            self._guard(partial(self._end, session_id, None), None)
        if self._sampler:
            self._sampler.close()
        self._guard(partial(self._refresh_validation, deadline), None)
        self._keeper.close(deadline)
        _RUNTIMES.discard(self)

    def _refresh_validation(self, deadline: Deadline) -> None:
        if self._committed and not deadline.passed():
            self._keeper.use(lambda engine: engine.refresh_validation(self.committed))

    def after_fork(self) -> None:
        """In a child process: the open sessions are the parent's, and so is what holds our locks."""
        self._turns = Turns()
        self._sessions = {}
        self._committed = {}
        self._keeper.after_fork()
        self._sampler = None

    def _make_pseudonyms(self) -> Pseudonymizer:
        try:
            key = find_key(self.config.privacy, self._keeper.folder)
        except (ConfigurationError, StoreError) as error:
            self._logger.warning("monitoring: %s; pseudonyms of this run can't be linked to earlier ones", error)
            key = os.urandom(32)
        log_filter.protect([*secrets_of(self.config), key])
        return Pseudonymizer(key)

    def _begin_recording(self) -> Recording | None:
        if not self.config.metrics.include_system_metrics:
            return None
        if self._sampler is None:
            folder = self._keeper.folder
            volumes = {"output": self._output_dir or Path()} | ({"store": folder} if folder else {})
            self._sampler = Sampler(self.config.metrics.collection_interval, volumes, self._guard)
        return self._sampler.begin()


_RUNTIMES: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for runtime in list(_RUNTIMES):
        runtime.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _mercure_output_dir() -> Path | None:
    folder = os.environ.get("MERCURE_OUT_DIR")
    return Path(folder) if folder else None


def _configured_models(settings: Mapping[str, Any]) -> tuple[str, ...]:
    names = map(coerce.metric_name, coerce.plain_list(settings.get("models")))
    return tuple(name for name in names if name)


class Turns:
    """Runs tasks one after the other.

    A host's signal handler or finalizer may call in while its own thread is in the middle of a task, with a
    transaction open. Waiting for that thread would be for ever, so such a task is done when the one that it
    interrupted ends, however that ends.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_taken = False
        self._postponed: deque[Callable[[], object]] = deque()

    def take(self, task: Callable[[], T]) -> T | None:
        """What ``task`` returns; None when it was postponed."""
        with self._lock:
            if self._is_taken:
                self._postponed.append(task)
                return None
            self._is_taken = True
            try:
                return task()
            finally:
                try:
                    self._catch_up()
                finally:
                    self._is_taken = False

    def _catch_up(self) -> None:
        while self._postponed:
            self._postponed.popleft()()
