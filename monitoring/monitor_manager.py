"""MonitorManager: all that a host calls, and the only place that swallows errors.

Whatever goes wrong behind it is counted, said once by type and code location (never by its message,
which may quote an identity), and does not reach the host. Importing this module loads the standard
library only; a host without monitoring settings gets nothing more than that.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from monitoring.exceptions import code_location, type_name

if TYPE_CHECKING:
    from monitoring.runtime.runtime import Runtime
    from monitoring.runtime.session import Session
    from monitoring.runtime.termination import Termination

T = TypeVar("T")
D = TypeVar("D")
Arguments = TypeVarTuple("Arguments")

ON_WORDS = frozenset({"true", "1", "yes", "on"})
OFF_WORDS = frozenset({"", "false", "0", "no", "off", "none", "null"})

_SHARE_FOR_DELIVERY = 0.95

_NO_ROOM = (RecursionError, MemoryError)
"""The host's stack or memory is nearly used up. There may be no frame for what swallows errors, so that each public
method ends these in its own, and leaves undone what there is no room for."""

on_swallowed: Callable[[Exception], None] | None = None
"""Called with every error that was kept from the host: tests set it, so that nothing hides."""


class MonitorManager:
    """Records sessions for a host. No public method raises, blocks on a network, or changes what the host does.

    ``config`` is task.json's ``process.settings``, whose ``monitoring`` section switches it on.
    """

    swallowed_errors = 0
    _runtime: Runtime | None = None
    _termination: Termination | None = None

    def __init__(self, config: Any, logger: logging.Logger | None = None, output_dir: Any = None) -> None:
        """``output_dir`` is where the host writes its results; the store never lies there."""
        try:
            self._logger = logger or logging.getLogger("monitoring")
            self._said: set[str] = set()
            settings = config if isinstance(config, Mapping) else {}
            if settings.get("monitoring") is not None:
                self._runtime = self._guarded(None, self._start, settings, output_dir)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def is_enabled(self) -> bool:
        """Whether sessions are recorded."""
        return self._runtime is not None

    def session(self, series_id: Any, config: Any = None) -> ManagedSession:  # noqa: ARG002 - part of the contract
        """A context manager that records one image's processing; ``config`` is not kept."""
        try:
            return ManagedSession(self, series_id)
        except _NO_ROOM:
            return _UNRECORDED

    def start_session(self, series_id: Any, config: Any = None) -> str:  # noqa: ARG002 - part of the contract
        """Open a session and return its id; "" when monitoring is off."""
        runtime = self._runtime
        try:
            session = self._guarded(None, runtime.begin, series_id) if runtime is not None else None
        except _NO_ROOM:
            session = None
        return session.session_id if session is not None else ""

    def track_processing_time(self, session_id: str, stage: str, start_time: float, end_time: float) -> None:
        """Keep a stage's duration, from two readings of ``time.time()`` in seconds."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_interval, stage, start_time, end_time)
                self._renew_trace(session)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_metrics(self, session_id: str, metric_name: str, value: Any, tags: Any = None) -> None:
        """Keep a number of the host's own under a short name."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_metric, metric_name, value, tags)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_model_performance(self, session_id: str, model_name: str, metrics: Any) -> None:
        """Keep what one model did: ``landmarks_detected``, ``confidence_scores``, ``inference_seconds``, ..."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_model_performance, model_name, metrics)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_measurements(self, session_id: str, measurements: Any, dicom_path: Any = None) -> None:
        """Keep lengths, ``{name: {"millimeters": mm}}`` or ``{name: mm}``, and the image's non-identifying context."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_measurements, measurements)
                self._record_image(session, dicom_path)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_performance_data(self, session_id: str, performance_data: Any, dicom_path: Any = None) -> None:
        """Keep the ensemble's image metrics, the models' raw predictions, and issues by code."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_performance_data, performance_data)
                self._record_image(session, dicom_path)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def end_session(self, session_id: str, status: str = "completed") -> None:
        """Commit the session: when this returns, it survives the process."""
        try:
            if self._runtime is not None:
                self._guarded(None, self._runtime.end, session_id, status)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def session_records(self) -> list[dict[str, Any]]:
        """The records that this manager has committed, JSON-ready, for a host's own results; [] when off."""
        try:
            return self._guarded([], self._runtime.committed_records) if self._runtime is not None else []
        except _NO_ROOM:
            return []

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can be within ``timeout`` seconds (default: ``shutdown_timeout``); the rest stays stored."""
        try:
            self._guarded(None, self._close, timeout)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def __enter__(self) -> MonitorManager:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except _NO_ROOM:
            self.swallowed_errors += 1

    def _start(self, settings: Mapping[str, Any], output_dir: Any) -> Runtime | None:
        section = settings["monitoring"]
        if not self._is_switched_on(section):
            return None
        # Only now: a host without monitoring pays for none of it.
        from monitoring.config_validator import check_section
        from monitoring.runtime.runtime import Runtime
        from monitoring.runtime.termination import Termination

        checked = check_section(section)
        for problem in checked.problems:
            self._logger.warning("monitoring: %s", problem)
        if not checked.config.enabled:
            return None
        runtime = Runtime(checked, settings, output_dir, self._logger, self._guarded)
        # For a host that never closes: sessions left open end as failed, and what waits gets its chance.
        atexit.register(self.close)
        self._termination = Termination(self._terminate, MonitorManager._guarded.__code__)
        self._termination.install()
        return runtime

    def _is_switched_on(self, section: Any) -> bool:
        """Whether the section asks for monitoring, decided before anything is imported."""
        if not isinstance(section, Mapping):
            self._logger.warning("monitoring: process.settings.monitoring must be an object (monitoring is off)")
            return False
        try:
            word = str(section.get("enabled", False)).strip().lower()
        except (ValueError, RecursionError):  # a number of thousands of digits, or what is nested without end
            word = "?"
        if word.startswith("${"):
            return True  # an environment variable, which the settings' validation looks up
        if word not in ON_WORDS | OFF_WORDS:
            self._logger.warning(
                "monitoring: process.settings.monitoring.enabled must be true or false (monitoring is off)"
            )
        return word in ON_WORDS

    def _open_session(self, session_id: Any) -> Session | None:
        return self._runtime.open_session(session_id) if self._runtime is not None else None

    def _renew_trace(self, session: Session) -> None:
        """Keep what the session has recorded so far, in case the process is killed."""
        if self._runtime is not None:
            self._guarded(None, self._runtime.renew_trace, session)

    def _record_image(self, session: Session, dicom_path: Any) -> None:
        if dicom_path is not None and self._runtime is not None:
            self._guarded(None, self._runtime.record_image, session, dicom_path)

    def _close(self, timeout: float | None) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        from monitoring.transport.deadline import Deadline

        seconds = runtime.config.shutdown_timeout if timeout is None else max(0.0, float(timeout))
        # First: whatever comes in from now on, from a finalizer or another thread, finds monitoring off.
        self._runtime = None
        atexit.unregister(self.close)
        try:
            # The rest of the time is for closing the store, which is waited for whatever it takes.
            runtime.close(Deadline.after(seconds * _SHARE_FOR_DELIVERY))
        finally:
            if self._termination is not None:
                self._termination.uninstall()

    def _terminate(self) -> None:
        """SIGTERM: commit what is open as failed, and deliver what time allows."""
        if self._runtime is not None:
            self._guarded(None, self._runtime.end_all, "terminated")
        self.close()

    def _guarded(self, otherwise: D, call: Callable[[*Arguments], T], /, *arguments: *Arguments) -> T | D:
        """The one place where errors end; a SIGTERM that comes meanwhile takes effect when the call is over."""
        try:
            return call(*arguments)
        except Exception as error:
            self._swallow(error)
            return otherwise
        finally:
            if self._termination is not None:
                self._termination.leave()

    def _swallow(self, error: Exception) -> None:
        where = f"{type_name(error)} at {code_location(error)}"
        self.swallowed_errors += 1
        is_new = where not in self._said
        self._said.add(where)
        # A thread that the exit did not wait for says nothing: a word of it could abort the interpreter's end.
        is_over = self._runtime is None and threading.current_thread() is not threading.main_thread()
        if is_new and not is_over:
            self._logger.warning("monitoring: %s; the application goes on", where)
        if on_swallowed is not None:
            on_swallowed(error)


class ManagedSession:
    """One image's processing, as a context manager; every method does nothing when monitoring is off."""

    def __init__(self, manager: MonitorManager, series_id: Any) -> None:
        self._manager = manager
        self._series_id = series_id
        self.id = ""

    def __enter__(self) -> ManagedSession:
        try:
            self.id = self._manager.start_session(self._series_id)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            manager, runtime = self._manager, self._manager._runtime
            if runtime is None:
                return
            if error is not None and (session := runtime.open_session(self.id)):
                manager._guarded(None, session.fail_with, error)
            manager._guarded(None, runtime.end, self.id, None)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage; what the host raises inside passes through, and marks the stage that failed."""
        try:
            return _Stage(self, name)
        except _NO_ROOM:
            return _UNTIMED

    def record_stage(self, name: str, seconds: float) -> None:
        """Add a duration in seconds that the host measured itself."""
        try:
            if session := self._manager._open_session(self.id):
                self._manager._guarded(None, session.record_stage, name, seconds)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_metric(self, name: str, value: Any) -> None:
        """Keep a number of the host's own."""
        try:
            self._manager.record_metrics(self.id, name, value)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_model_performance(self, model_name: str, metrics: Any) -> None:
        """See :meth:`MonitorManager.record_model_performance`."""
        try:
            self._manager.record_model_performance(self.id, model_name, metrics)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_measurements(self, measurements: Any, dicom_path: Any = None) -> None:
        """See :meth:`MonitorManager.record_measurements`."""
        try:
            self._manager.record_measurements(self.id, measurements, dicom_path)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_performance_data(self, performance_data: Any, dicom_path: Any = None) -> None:
        """See :meth:`MonitorManager.record_performance_data`."""
        try:
            self._manager.record_performance_data(self.id, performance_data, dicom_path)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def skip(self, reason: str | None, stage: str | None = None) -> None:
        """End as skipped, for a reason given as a short code, in a stage."""
        try:
            if session := self._manager._open_session(self.id):
                self._manager._guarded(None, session.skip, reason, stage)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def fail(
        self, reason: str | None, stage: str | None = None, error_type: str | None = None, location: str | None = None
    ) -> None:
        """End as failed, for a reason given as a short code; the rest says where, in names of code."""
        try:
            if session := self._manager._open_session(self.id):
                self._manager._guarded(None, session.fail, reason, stage, error_type, location)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1


class _Stage(AbstractContextManager[None]):
    """One stage of a session."""

    def __init__(self, session: ManagedSession, name: str) -> None:
        self._manager = session._manager
        self._session_id = session.id
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        try:
            self._started = time.monotonic()
            if session := self._manager._open_session(self._session_id):
                self._manager._guarded(None, session.enter_stage, self._name)
                self._manager._renew_trace(session)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            seconds = time.monotonic() - self._started
            if session := self._manager._open_session(self._session_id):
                if error is not None:
                    self._manager._guarded(None, session.note_failure, error)
                self._manager._guarded(None, session.leave_stage, self._name, seconds)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1


# Made beforehand: what a host gets where its stack has no room to make one.
_UNRECORDED = ManagedSession(MonitorManager(None), None)
_UNTIMED = nullcontext()
