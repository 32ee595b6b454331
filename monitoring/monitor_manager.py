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
from contextlib import AbstractContextManager, nullcontext, suppress
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
_LOGGERS = (logging.Logger, logging.LoggerAdapter)

_NO_ROOM = (RecursionError, MemoryError)
"""The host's stack or memory is nearly used up. There may be no frame for what swallows errors, so that each public
method ends these in its own, and leaves undone what there is no room for."""

on_swallowed: Callable[[Exception], None] | None = None
"""Called with every error that was kept from the host: tests set it, so that nothing hides."""


class MonitorManager:
    """Records sessions for a host. No public method raises, blocks on a network, or changes what the host does.

    Values may be Python's or numpy's; what is not what its name says is left out and counted, and the first time of its
    kind said in the log, by its key and never by its value. Names (of stages, models, metrics, measurements) are
    letters, digits and ``_ . -``, up to 64; others are made plain, and what looks like an identity becomes ``other``.
    """

    swallowed_errors = 0
    _runtime: Runtime | None = None
    _closed: Runtime | None = None
    _termination: Termination | None = None

    def __init__(self, config: Any, logger: logging.Logger | None = None, output_dir: Any = None) -> None:
        """``config`` is task.json's ``process.settings``, whose ``monitoring`` section switches it on.

        ``output_dir`` is where the host writes its results; the store never lies there. Without ``logger`` it is the
        one named ``monitoring``.
        """
        try:
            self._logger = logger if isinstance(logger, _LOGGERS) else logging.getLogger("monitoring")
            self._said: set[str] = set()
            self._runtime = self._guarded(None, self._start, config, output_dir)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def is_enabled(self) -> bool:
        """Whether sessions are recorded: False without settings, with wrong ones, and once it is closed."""
        return self._runtime is not None

    def session(self, series_id: Any, config: Any = None) -> ManagedSession:
        """A context manager that records one image's processing.

        ``series_id`` is kept as a keyed hash only; of ``config`` the ``application_version`` is kept, which else is the
        settings'.
        """
        try:
            return ManagedSession(self, series_id, config)
        except _NO_ROOM:
            return _UNRECORDED

    def start_session(self, series_id: Any, config: Any = None) -> str:
        """Open a session and return its id; "" when monitoring is off. For the arguments see :meth:`session`.

        Calls with an id that is not open (unknown, ended, or "") do nothing.
        """
        runtime = self._runtime
        try:
            session = self._guarded(None, runtime.begin, series_id, config) if runtime is not None else None
        except _NO_ROOM:
            session = None
        return session.session_id if session is not None else ""

    def track_processing_time(self, session_id: str, stage: str, start_time: float, end_time: float) -> None:
        """Add to a stage's duration the time between two readings of ``time.time()``, in seconds.

        Refused: an end before its start, more than a year, what is no number.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_interval, stage, start_time, end_time)
                self._renew_trace(session)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_stage(self, session_id: str, stage: str, seconds: float) -> None:
        """Add ``seconds`` that the host measured itself to a stage's duration.

        Refused: what is negative, more than a year, or no number.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_stage, stage, seconds)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_metrics(self, session_id: str, metric_name: str, value: Any, tags: Any = None) -> None:
        """Keep one number of the host's own under a name that holds its unit, such as ``bone_age_months``.

        It is published as ``leglength_custom{name}``, the latest value; ``queue_depth`` (series that still wait) has a
        metric of its own. Refused: what is no finite number. ``tags`` are refused, too: they would label series with
        free text.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_metric, metric_name, value, tags)
        except _NO_ROOM:
            self.swallowed_errors += 1

    record_metric = record_metrics

    def record_model_performance(self, session_id: str, model_name: str, metrics: Any) -> None:
        """Keep what one model did on the image; a second call for a model adds to the first.

        Keys of ``metrics``: ``inference_seconds`` (or ``inference_time``; s), ``landmarks_detected`` (or
        ``landmarks_found``; a count, or the landmarks), ``confidence_scores`` (0 to 1), ``measurements`` (as
        :meth:`record_measurements`), the model's ``version`` (``2.1.0``) and ``digest``, its weights' checksum (12 or
        more hexadecimal digits). Refused: other keys, scores outside 0 to 1, negative times.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_model_performance, model_name, metrics)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_measurements(self, session_id: str, measurements: Any, dicom_path: Any = None) -> None:
        """Keep lengths in mm, ``{name: mm}``, ``{name: {"millimeters": mm}}`` or ``{name: {"centimeters": cm}}``.

        They are published as ``leglength_measurement_millimeters``: what is no length is for :meth:`record_metrics`.
        Legs' own, which plausibility, growth and agreement with readers are computed of: ``PLL_R_FEM``,
        ``PLL_R_TIB``, ``PLL_R_LGL`` and the same with ``L``. Of the image in ``dicom_path`` what its header says is
        kept, without identity; pydicom is needed for it. Refused: what is no finite number.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_measurements, measurements)
                self._record_image(session, dicom_path)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def record_performance_data(self, session_id: str, performance_data: Any, dicom_path: Any = None) -> None:
        """Keep an ensemble's figures, its models' raw predictions, and issues.

        Keys of ``performance_data``:

        - ``image_metrics``: ``{score: number}``, an ensemble's scores in docs/metrics.md, or with ``image_`` before;
        - ``uncertainties`` and ``point_statistics``: ``{landmark: {score: number}}``, a landmark's scores there;
        - ``individual_model_predictions``: ``{model: {"predictions": {"boxes", "labels", "scores"}}}``, three lists of
          one length: boxes (x1, y1, x2, y2) in pixels, labels 1 to 8, scores 0 to 1;
        - ``issues``: a list of short codes, or of ``{"code": code}``; another text becomes ``other``.

        A score of None is missing. Landmarks are 1 to 8, the legs' own. Refused: other keys, scores and
        landmarks, predictions of which a column is missing. For ``dicom_path`` see :meth:`record_measurements`.
        """
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.record_performance_data, performance_data)
                self._record_image(session, dicom_path)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def skip(self, session_id: str, reason: str | None, stage: str | None = None) -> None:
        """Have the session end as skipped, for a reason given as a short code (another text becomes ``other``)."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.skip, reason, stage)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def fail(
        self,
        session_id: str,
        reason: str | None,
        stage: str | None = None,
        error_type: str | None = None,
        location: str | None = None,
    ) -> None:
        """Have the session end as failed, for a reason given as a short code; the rest says where, in names of code."""
        try:
            if session := self._open_session(session_id):
                self._guarded(None, session.fail, reason, stage, error_type, location)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def end_session(self, session_id: str, status: str = "completed") -> None:
        """Commit the session: when this returns, it survives the process.

        ``status`` is ``completed``, ``failed`` or ``skipped``; another one counts as failed, and what :meth:`skip` or
        :meth:`fail` said before stays. A session that is never ended ends as failed when the manager is closed.
        """
        try:
            if self._runtime is not None:
                self._guarded(None, self._runtime.end, session_id, status)
        except _NO_ROOM:
            self.swallowed_errors += 1

    def session_records(self) -> list[dict[str, Any]]:
        """The records that this manager has committed, JSON-ready, for a host's own results; [] when off.

        They are there after :meth:`close`, too, those of the sessions that it ended included.
        """
        try:
            runtime = self._runtime or self._closed
            return self._guarded([], runtime.committed_records) if runtime is not None else []
        except _NO_ROOM:
            return []

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can be within ``timeout`` seconds (default: ``shutdown_timeout``); the rest stays stored.

        From then on monitoring is off: sessions are not recorded, and every call but :meth:`session_records` does
        nothing. The exit of the process closes a manager that is open.
        """
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

    def _start(self, settings: Any, output_dir: Any) -> Runtime | None:
        section = settings.get("monitoring") if isinstance(settings, Mapping) else None
        if section is None or not self._is_switched_on(section):
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
        runtime = self._runtime
        session = runtime.open_session(session_id) if runtime is not None else None
        if session is None and runtime is not None:
            self._guarded(None, runtime.left_out, "session", "not_open")
        return session

    def _renew_trace(self, session: Session) -> None:
        """Keep what the session has recorded so far, in case the process is killed."""
        if self._runtime is not None:
            self._guarded(None, self._runtime.renew_trace, session)

    def _record_image(self, session: Session, dicom_path: Any) -> None:
        if dicom_path is not None and self._runtime is not None:
            self._guarded(None, self._runtime.record_image, session, dicom_path)

    def _close(self, timeout: float | None, reason: str = "not_ended") -> None:
        runtime = self._runtime
        if runtime is None:
            return
        from monitoring.transport.deadline import Deadline

        seconds = runtime.config.shutdown_timeout
        with suppress(Exception):  # a time that is none is as good as not given
            given = seconds if timeout is None else float(timeout)
            seconds = seconds if given != given else min(max(0.0, given), threading.TIMEOUT_MAX)
        # First: whatever comes in from now on, from a finalizer or another thread, finds monitoring off.
        self._runtime, self._closed = None, runtime
        atexit.unregister(self.close)
        try:
            # The rest of the time is for closing the store, which is waited for whatever it takes.
            runtime.close(Deadline.after(seconds * _SHARE_FOR_DELIVERY), reason)
        finally:
            if self._termination is not None:
                self._termination.uninstall()

    def _terminate(self) -> None:
        """SIGTERM: commit what is open as failed, and deliver what time allows."""
        self._guarded(None, self._close, None, "terminated")

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
            with suppress(Exception):  # a host's filter or handler may raise
                self._logger.warning("monitoring: %s; the application goes on", where)
        if on_swallowed is not None:
            on_swallowed(error)


class ManagedSession:
    """One image's processing, as a context manager. A method means what the manager's of the same name does.

    No method raises. All do nothing when monitoring is off, before the ``with`` and after it.
    """

    def __init__(self, manager: MonitorManager, series_id: Any, config: Any = None) -> None:
        self._manager = manager
        self._series_id = series_id
        self._config = config
        self.id = ""

    def __enter__(self) -> ManagedSession:
        try:
            self.id = self._manager.start_session(self._series_id, self._config)
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
        """Time a stage, as a context manager; its durations add up.

        What the host raises inside passes through, and marks the stage that failed.
        """
        try:
            return _Stage(self, name)
        except _NO_ROOM:
            return _UNTIMED

    def record_stage(self, name: str, seconds: float) -> None:
        """See :meth:`MonitorManager.record_stage`."""
        try:
            self._manager.record_stage(self.id, name, seconds)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def track_processing_time(self, stage: str, start_time: float, end_time: float) -> None:
        """See :meth:`MonitorManager.track_processing_time`."""
        try:
            self._manager.track_processing_time(self.id, stage, start_time, end_time)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_metric(self, name: str, value: Any, tags: Any = None) -> None:
        """See :meth:`MonitorManager.record_metrics`."""
        try:
            self._manager.record_metrics(self.id, name, value, tags)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def record_metrics(self, metric_name: str, value: Any, tags: Any = None) -> None:
        """See :meth:`MonitorManager.record_metrics`."""
        try:
            self._manager.record_metrics(self.id, metric_name, value, tags)
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
        """See :meth:`MonitorManager.skip`."""
        try:
            self._manager.skip(self.id, reason, stage)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def fail(
        self, reason: str | None, stage: str | None = None, error_type: str | None = None, location: str | None = None
    ) -> None:
        """See :meth:`MonitorManager.fail`."""
        try:
            self._manager.fail(self.id, reason, stage, error_type, location)
        except _NO_ROOM:
            self._manager.swallowed_errors += 1

    def end_session(self, status: str = "completed") -> None:
        """See :meth:`MonitorManager.end_session`; leaving the ``with`` then does nothing more."""
        try:
            self._manager.end_session(self.id, status)
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
