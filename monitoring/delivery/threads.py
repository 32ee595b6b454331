"""One thread per backend, so that a silent one holds up no other; all of them end within the exit's deadline.

What a thread does in each step is the courier's (:mod:`monitoring.delivery.couriers`); when it does it, and when
it ends, is decided here. Host and threads share nothing but the store and a wake-up call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, TypeVarTuple

from monitoring.delivery.couriers import Courier, Step
from monitoring.exceptions import StoreCorruptError
from monitoring.metrics.backends import Backend
from monitoring.transport.deadline import Deadline

T = TypeVar("T")
D = TypeVar("D")
Arguments = TypeVarTuple("Arguments")

_STAYS = "monitoring: %s: %s; what is recorded stays in the store until it answers"

_IDLE_SECONDS = 30.0
_BUSY_SECONDS = 1.0
_GATHER_SECONDS = 0.5
_LAST_WORDS_SECONDS = 0.1
_SETTLE_SECONDS = 0.1
_LOGS_FIRST_SECONDS = 0.3


class ErrorGuard(Protocol):
    """Where errors end: the manager's one place that swallows them, handed down to what runs in threads."""

    def __call__(self, otherwise: D, call: Callable[[*Arguments], T], /, *arguments: *Arguments) -> T | D:
        """What the call returns; or ``otherwise``, after what it raised was reported."""


def let_errors_pass(_: object, call: Callable[[*Arguments], T], /, *arguments: *Arguments) -> T:
    """The :class:`ErrorGuard` of who handles errors himself: a command, a test."""
    return call(*arguments)


class DeliveryThreads:
    """Runs the couriers beside the host, and ends within the exit's deadline.

    ``makers`` make the couriers, each in its own thread: so the host waits for no import.
    """

    def __init__(
        self, makers: Mapping[Backend, Callable[[], Courier]], guard: ErrorGuard, logger: logging.Logger
    ) -> None:
        self._makers = makers
        self._guard = guard
        self._logger = logger
        self._failing: dict[str, str] = {}
        self._is_started = False
        # Two over one lock: a thread that gathers is not woken by each session, only by the end.
        lock = threading.RLock()
        self._changed, self._leaving = threading.Condition(lock), threading.Condition(lock)
        self._generation = 0
        self._closing: Deadline | None = None
        self._running_logs: set[Backend] = set()
        self._threads: dict[Backend, threading.Thread] = {}
        self._speaking = threading.Lock()
        self._is_silent = False
        self.has_met_damage = False
        """Whether a thread found the store damaged: whoever owns the store puts it aside."""

    def start(self) -> None:
        """Start one daemon thread per backend; where no thread can be had, the store keeps everything."""
        self._is_started = True
        for backend in self._makers:
            self._guard(None, self._start, backend)

    def _start(self, backend: Backend) -> None:
        # Daemons: a host that leaves without closing is not held up by a server's silence.
        thread = threading.Thread(
            target=self._run, args=(backend,), name=f"leglength-monitoring-{backend.name}", daemon=True
        )
        thread.start()
        self._threads[backend] = thread
        if not backend.is_state:
            self._running_logs.add(backend)

    def wake(self) -> None:
        """Something was committed."""
        if not self._is_started:
            self.start()
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def begin_close(self, deadline: Deadline) -> None:
        """Let the threads deliver what they can until the deadline, and end."""
        with self._changed:
            self._closing = deadline
            self._changed.notify_all()
            self._leaving.notify_all()

    def close(self, deadline: Deadline) -> None:
        """Deliver what can be delivered until the deadline, for all backends together; the rest stays stored.

        A thread that is still at it is left alone, and says nothing any more: the interpreter aborts when it
        ends while such a thread writes to the error stream.
        """
        self.begin_close(deadline)
        for thread in self._threads.values():
            thread.join(deadline.remaining())
        # The lock may be held by a thread that writes to a stream that blocks: that one is not waited for, either.
        is_quiet = self._speaking.acquire(timeout=_LAST_WORDS_SECONDS)
        self._is_silent = True
        if is_quiet:
            self._speaking.release()
        for backend, thread in self._threads.items():
            if thread.is_alive() and backend.name not in self._failing:
                self._logger.warning(_STAYS, backend.name, "no answer before the exit")

    def _run(self, backend: Backend) -> None:
        made: list[Courier] = []
        goes_on = True
        try:
            with self._changed:
                # Clients and their libraries take longer to load than the host to start, on the same processor: so
                # the host comes first, unless there is something to deliver.
                self._changed.wait_for(lambda: self._generation or self._closing, _SETTLE_SECONDS)
            while goes_on and not (self._closing and self._closing.passed()):
                self._let_logs_go_first(backend)
                # Read before the step: what is committed while it runs is news, and not slept over.
                seen = self._generation
                pause = self._guard(_IDLE_SECONDS, self._step, backend, made)
                goes_on = pause == 0.0 or self._rest(backend, seen, pause)
            for courier in made:
                self._guard(None, courier.close)
        finally:
            with self._changed:
                self._running_logs.discard(backend)
                self._changed.notify_all()

    def _let_logs_go_first(self, backend: Backend) -> None:
        """At the end a state waits for the logs a moment, so that one push tells what they have delivered, too."""
        with self._changed:
            if self._closing is not None and backend.is_state:
                seconds = min(_LOGS_FIRST_SECONDS, self._closing.remaining() / 2)
                self._changed.wait_for(lambda: not self._running_logs, seconds)

    def _step(self, backend: Backend, made: list[Courier]) -> float:
        """One step of the courier, which is made first where ``made`` is empty; returns the seconds to rest."""
        try:
            if not made:
                made.append(self._makers[backend]())
            courier = made[0]
            result = courier.step(self._closing or Deadline.after(3600.0))
        except StoreCorruptError:
            self.has_met_damage = True
            raise
        with self._speaking:
            if not self._is_silent:
                self._say_change(backend.name, result, courier.last_error())
        if result is Step.DELIVERED:
            return 0.0
        return _IDLE_SECONDS if result is Step.IDLE else max(_BUSY_SECONDS, courier.rest_seconds())

    def _say_change(self, name: str, step: Step, error: str | None) -> None:
        """One line when a backend's state changes, not one per attempt: a night of outage must not fill the log."""
        if step is Step.FAILED and error is not None and self._failing.get(name) != error:
            self._failing[name] = error
            self._logger.warning(_STAYS, name, error)
        elif step is Step.DELIVERED and self._failing.pop(name, ""):
            self._logger.info("monitoring: %s answers again", name)

    def _rest(self, backend: Backend, seen: int, seconds: float) -> bool:
        """Wait for news; False when the thread is to end."""
        with self._changed:
            if self._closing is None:
                if self._generation == seen:
                    self._changed.wait(seconds)
                # What follows closely goes along, and the host's next session shares its processor with nobody.
                self._leaving.wait_for(lambda: self._closing is not None, _GATHER_SECONDS)
                return True
            # What is pushed last tells how much still waits for the logs: states go on until those are done.
            if not backend.is_state or not self._running_logs:
                return False
            self._changed.wait(self._closing.remaining())
            return True
