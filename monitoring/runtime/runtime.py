"""Monitoring that is switched on: one process' open sessions, its sampler, and the store that it commits them to.

Raises what goes wrong: :mod:`monitoring.monitor_manager` is where errors end. Errors of the store alone end earlier,
in :mod:`monitoring.runtime.failover`, since a session that the file won't take is still to be kept.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVarTuple

from msgspec import Struct
from msgspec.structs import replace

from monitoring.config_validator import Checked
from monitoring.delivery.threads import ErrorGuard
from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.privacy import log_filter
from monitoring.privacy.dicom_header import read_image
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.secret_values import secrets_of
from monitoring.privacy.site_key import find_key
from monitoring.readings.settings import SETTING, ReferenceReadings, thresholds_cm
from monitoring.records import coerce
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.active_store import ActiveStore
from monitoring.runtime.failover import FailoverStore
from monitoring.runtime.left_out import LeftOutLog
from monitoring.runtime.machine.sampler import Sampler
from monitoring.runtime.machine.usage import Recording
from monitoring.runtime.session import Session
from monitoring.settings import MonitoringConfig
from monitoring.store.location import lies_in, store_paths
from monitoring.transport.deadline import Deadline

Arguments = TypeVarTuple("Arguments")


_SHARE_FOR_ENDING = 0.5
_ENDED_AT_LEAST = 20


class _Open(Struct):
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
        guard: ErrorGuard,
    ) -> None:
        output = output_dir or os.environ.get("MERCURE_OUT_DIR")
        self._output_dir = Path(output) if output else None
        self._logger = logger
        self.config = self._without_textfile_in_output(checked.config)
        self._guard = guard
        self.left_out = LeftOutLog(logger)
        zeros = zero_changes(coerce.plain_list(settings.get("models")), self.config.metrics.declared)
        self.store = FailoverStore(self._find_store(), self.config, zeros, logger, guard)
        # Before anything is named: the site's key lies beside the store.
        self.store.open()
        self._pseudonyms = self._make_pseudonyms()
        self._thresholds_cm = thresholds_cm(settings)
        self._readings = ReferenceReadings(settings.get(SETTING), self._pseudonyms, logger)
        # Made with the first session: a manager that never records samples nothing.
        self._sampler: Sampler | None = None
        self._sessions: dict[str, _Open] = {}
        self._serial = SerialExecutor()
        self._committed: dict[str, SessionRecord] = {}
        _RUNTIMES.add(self)
        logger.info("monitoring: on; %s", self.store.describe())

    def begin(self, series_id: object, host_config: object = None) -> Session:
        """Open a session for one image; its trace is durable when this returns."""
        # The series' name ends here: from now on there is only its pseudonym.
        session = Session(self._pseudonyms.series(series_id), None, self.left_out, self._pseudonyms.name)
        session.record_thresholds(self._thresholds_cm)
        version = self._guard(None, coerce.plain_mapping(host_config).get, "application_version")
        version = self.config.application_version if version is None else version
        if version is not None:
            session.record_application_version(version)
        # By the series alone so far; by study and accession once the image is known.
        self._record_readings(session, {})
        self._sessions[session.session_id] = _Open(session, self._begin_recording())
        self._serial.run(self._trace, session, True)
        return session

    def open_session(self, session_id: object) -> Session | None:
        """The open session of this id; "" is the id that a host gets while monitoring is off."""
        found = self._sessions.get(session_id) if isinstance(session_id, str) else None
        return found.session if found else None

    def record_image(self, session: Session, dicom_path: object) -> None:
        """Keep the image's context and keyed hashes, free of identity."""
        facts = read_image(dicom_path, self._pseudonyms, self.config.privacy)
        session.record_context(facts.context, facts.keys)
        if not (facts.context or facts.keys):
            session.note_no_image("unreadable" if find_spec("pydicom") else "pydicom_is_missing")
        self._record_readings(session, facts.keys)

    def _record_readings(self, session: Session, keys: Mapping[str, str]) -> None:
        named = (session.series_key, keys.get("study_key", ""), keys.get("accession_key", ""))
        for reader, measurements_mm in self._readings.of(named).items():
            session.record_reading(reader, measurements_mm)

    def renew_trace(self, session: Session) -> None:
        """Keep what the session has recorded so far, in case the process dies."""
        self._serial.run(self._trace, session, False)

    def _trace(self, session: Session, durable: bool) -> None:
        # A postponed trace may come after its session's end, and would make a crashed one of it.
        if session.session_id in self._sessions:
            self.store.use(ActiveStore.trace, self._wanted(session.trace()), durable)

    def end(self, session_id: object, status: object = None) -> None:
        """Freeze, commit and hand over to delivery; does nothing when the session isn't open."""
        self._serial.run(self._end, session_id, status)

    def _end(self, session_id: object, status: object) -> None:
        found = self._sessions.get(session_id) if isinstance(session_id, str) else None
        if found is None or not isinstance(session_id, str):
            return
        # Before the commit, whose own work is none of the image's.
        usages = self._sampler.finish(found.recording) if self._sampler and found.recording else {}
        record = self._wanted(found.session.freeze(status, usages))
        self.store.save(record)
        self._committed[session_id] = record
        # Only now: should the host's signal handler leave in the middle of it, the session ends when we close.
        del self._sessions[session_id]

    def _wanted(self, record: SessionRecord) -> SessionRecord:
        """The record without what the settings leave out."""
        if self.config.privacy.precision == "coarse":
            record = record.coarsened()
        return record if self.config.metrics.include_model_metrics else record.without_models()

    @property
    def committed(self) -> list[SessionRecord]:
        """What was committed, in that order."""
        return list(self._committed.values())

    def committed_records(self) -> list[dict[str, Any]]:
        """The same, JSON-ready."""
        return [record.to_dict() for record in self.committed]

    def close(self, deadline: Deadline, reason: str = "not_ended") -> None:
        """End open sessions as failed, for a reason given as a short code; deliver until the deadline, and close."""
        self._serial.run(self._close, deadline, reason)

    def _close(self, deadline: Deadline, reason: str) -> None:
        self.store.be_patient(deadline.remaining())
        until = deadline.sooner(deadline.remaining() * _SHARE_FOR_ENDING)
        for number, (session_id, found) in enumerate(list(self._sessions.items())):
            # Each costs a commit. What there is no time for is in the store as it is: as crashed, with its stage.
            if number >= _ENDED_AT_LEAST and until.passed():
                break
            # Not skipped nor completed: nobody said so, and the stage tells where it was left.
            found.session.fail(reason, found.session.current_stage)
            self._guard(None, self._end, session_id, None)
        if self._sessions:
            becomes = "the next runs report them as crashed" if self.store.active else "they are lost with this process"
            self._logger.warning(
                "monitoring: %d session(s) are still open at the exit; %s", len(self._sessions), becomes
            )
        if self._sampler:
            self._sampler.close()
        # Last, and once for all sessions: it reads every exam that a reader has measured.
        if self._committed and self.store.has_all and not deadline.passed():
            self._guard(None, self.store.use, ActiveStore.refresh_validation, self.committed)
        if self.store.active is not None and self.store.active.has_untold_hits:
            self._guard(None, self.store.use, ActiveStore.tell_log_filter)
        self.store.close(deadline)
        _RUNTIMES.discard(self)

    def after_fork(self) -> None:
        """In a child process: the open sessions are the parent's, and so is what holds our locks."""
        self._serial = SerialExecutor()
        self._sessions = {}
        self._committed = {}
        self.store.after_fork()
        self._sampler = None

    def _find_store(self) -> Path | None:
        """Where the store lies, but never in the host's output folder: what lies there is sent to the PACS."""
        paths = list(store_paths(self.config))
        outside = [path for path in paths if self._output_dir is None or not lies_in(path, self._output_dir)]
        found = outside[0] if outside else None
        if found is None:
            self._logger.error("monitoring: there is no folder for the store; set store.path; sessions are in memory")
        elif found != paths[0]:
            self._logger.error("monitoring: the store must not lie in the output folder; it is kept in %s", found)
        return found

    def _without_textfile_in_output(self, config: MonitoringConfig) -> MonitoringConfig:
        prometheus, output = config.prometheus, self._output_dir
        if prometheus is None or prometheus.textfile is None or output is None:
            return config
        if not lies_in(prometheus.textfile, output):
            return config
        self._logger.error("monitoring: prometheus.textfile must not lie in the output folder; it is not written")
        return replace(config, prometheus=replace(prometheus, textfile=None) if prometheus.gateway_url else None)

    def _make_pseudonyms(self) -> Pseudonymizer:
        folder, key = self.store.path.parent if self.store.path else None, None
        try:
            # Whatever is wrong with the store: the sessions of this run are to be found by the key that is there.
            key = find_key(self.config.privacy, folder, may_make=self.store.instance is not None)
        except (ConfigurationError, StoreError) as error:
            self._logger.warning(
                "monitoring: %s; sessions of this run carry no keyed hashes and can't be found by their patient", error
            )
        # Now, when they are known: a filter may have been installed before the settings were read.
        log_filter.protect([*secrets_of(self.config), *filter(None, [key])])
        pseudonyms = Pseudonymizer(key)
        if key is not None:
            self.store.use(ActiveStore.note_key, pseudonyms.fingerprint)
        return pseudonyms

    def _begin_recording(self) -> Recording | None:
        if not self.config.metrics.include_system_metrics:
            return None
        if self._sampler is None:
            folder = self.store.folder
            volumes = {"output": self._output_dir or Path()} | ({"store": folder} if folder else {})
            self._sampler = Sampler(self.config.metrics.collection_interval, volumes, self._guard)
        return self._sampler.begin()


# Weakly: a host that drops its manager without closing it must not keep its store open for ever.
_RUNTIMES: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for runtime in list(_RUNTIMES):
        runtime.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


class SerialExecutor:
    """Runs tasks one after the other, whichever thread they come from.

    A host's signal handler or finalizer may call in while its own thread is in the middle of a task, with a
    transaction open. Waiting for that thread would be for ever, so such a task is done when the one that it
    interrupted ends, however that ends.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_running = False
        self._postponed: deque[Callable[[], object]] = deque()

    def run(self, task: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        """Run ``task``, now or after the one that it interrupted."""
        with self._lock:
            if self._is_running:
                self._postponed.append(lambda: task(*arguments))
                return
            self._is_running = True
            try:
                task(*arguments)
            finally:
                try:
                    while self._postponed:
                        self._postponed.popleft()()
                finally:
                    self._is_running = False
