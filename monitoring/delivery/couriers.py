"""The delivery: one courier and one thread per backend, so that a silent one holds up no other.

A courier takes one step at a time: lease, read, send, settle. The threads repeat steps while a host
runs; ``leglength-monitor drain`` repeats them in the foreground. No thread is ever waited for longer than
the deadline that the exit hands down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar

from monitoring.delivery.queue import BackendQueue
from monitoring.exceptions import StoreCorruptError
from monitoring.transport.deadline import Deadline
from monitoring.transport.sinks import LineSink, StateSink

T = TypeVar("T")

LEASE_MARGIN_SECONDS = 15.0
_IDLE_SECONDS = 30.0
_GATHER_SECONDS = 0.5
_STAYS = "monitoring: %s: %s; what is recorded stays in the store until it answers"
_BUSY_SECONDS = 1.0
_LAST_WORDS_SECONDS = 0.1


class Step(Enum):
    """What one step came to."""

    DELIVERED = "delivered"  # there may be more
    IDLE = "idle"  # nothing waits
    FAILED = "failed"  # the backend did not take it; it rests now
    BUSY = "busy"  # another process delivers, or the backend rests


class Courier(Protocol):
    """Carries what waits for one backend."""

    name: str

    def step(self, deadline: Deadline, ignore_backoff: bool = False) -> Step:
        """Deliver one batch; raises :class:`StoreError` when the store fails."""

    def rest_seconds(self) -> float:
        """Seconds until the backend may be tried again."""

    def last_error(self) -> str | None:
        """Why the latest attempt failed, in a person's words; None after a success."""

    def close(self) -> None:
        """Give back the lease and the connections."""


class _LeasedCourier:
    """What both couriers share: the lease, and giving things back."""

    def __init__(self, queue: BackendQueue, request_seconds: float) -> None:
        self.name = queue.name
        self._queue = queue
        self._lease_seconds = request_seconds + LEASE_MARGIN_SECONDS
        self._leased = False
        self._error: str | None = None
        queue.register()

    def _lease(self, ignore_backoff: bool) -> bool:
        self._leased = self._queue.try_lease(self._lease_seconds, ignore_backoff)
        return self._leased

    def _release(self) -> None:
        if self._leased:
            self._queue.release()
            self._leased = False

    def rest_seconds(self) -> float:
        return self._queue.next_attempt_in_seconds()

    def last_error(self) -> str | None:
        return self._error


class LineCourier(_LeasedCourier):
    """Carries lines to a log such as InfluxDB."""

    def __init__(self, queue: BackendQueue, sink: LineSink, batch_lines: int, request_seconds: float) -> None:
        super().__init__(queue, request_seconds)
        self._sink = sink
        self._batch_lines = batch_lines

    def step(self, deadline: Deadline, ignore_backoff: bool = False) -> Step:
        """See :class:`Courier`."""
        if not self._queue.has_lines():
            self._release()
            return Step.IDLE
        if not self._lease(ignore_backoff):
            return Step.BUSY
        batch = self._queue.next_batch(self._batch_lines)
        if not batch.lines:  # all that waited was damaged
            self._release()
            return Step.IDLE
        # The lease outlives the request, so that nobody else sends while this answer is on its way.
        delivery = self._sink.send(batch.lines, deadline.sooner(self._lease_seconds - LEASE_MARGIN_SECONDS))
        self._queue.settle(batch, delivery)
        self._error = delivery.detail or delivery.error
        if delivery.error is not None:
            self._release()
            return Step.FAILED
        return Step.DELIVERED

    def close(self) -> None:
        """See :class:`Courier`."""
        self._release()
        self._sink.close()
        self._queue.close()


class StateCourier(_LeasedCourier):
    """Carries the totals to a state such as a Pushgateway.

    The totals are read after the lease is held: of two containers, the one that pushes last read last.
    """

    def __init__(self, queue: BackendQueue, sink: StateSink, request_seconds: float) -> None:
        super().__init__(queue, request_seconds)
        self._sink = sink

    def step(self, deadline: Deadline, ignore_backoff: bool = False) -> Step:
        """See :class:`Courier`."""
        if not self._queue.has_news():
            return Step.IDLE
        if not self._lease(ignore_backoff):
            return Step.BUSY
        try:
            exposition = self._queue.exposition()
            delivery = self._sink.send(exposition, deadline.sooner(self._lease_seconds - LEASE_MARGIN_SECONDS))
            self._queue.settle_state(exposition, delivery)
            self._error = delivery.detail or delivery.error
        finally:
            self._release()
        return Step.DELIVERED if delivery.error is None else Step.FAILED

    def close(self) -> None:
        """See :class:`Courier`."""
        self._release()
        self._sink.close()
        self._queue.close()


class Guard(Protocol):
    """The manager's swallow point."""

    def __call__(self, call: Callable[[], T], otherwise: T) -> T:
        """What the call returns; or ``otherwise``, after reporting what it raised."""


@dataclass(frozen=True, slots=True)
class Route:
    """A backend's courier, to be made in its own thread so that the host waits for no import."""

    name: str
    make: Callable[[], Courier]
    is_state: bool


class DeliveryThreads:
    """Runs the couriers beside the host, and ends within the exit's deadline."""

    def __init__(self, routes: list[Route], guard: Guard, logger: logging.Logger) -> None:
        self._routes = routes
        self._guard = guard
        self._logger = logger
        self._failing: dict[str, str] = {}
        self._is_started = False
        self._changed = threading.Condition()
        self._generation = 0
        self._closing: Deadline | None = None
        self._running_logs: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._speaking = threading.Lock()
        self._is_silent = False
        self.has_met_damage = False
        """Whether a thread found the store damaged: whoever owns the store puts it aside."""

    def start(self) -> None:
        """Start one daemon thread per backend; where no thread can be had, the store keeps everything."""
        self._is_started = True
        for route in self._routes:
            self._guard(partial(self._start, route), None)

    def _start(self, route: Route) -> None:
        thread = threading.Thread(
            target=self._run, args=(route,), name=f"leglength-monitoring-{route.name}", daemon=True
        )
        thread.start()
        self._threads[route.name] = thread
        if not route.is_state:
            self._running_logs.add(route.name)

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

    def close(self, deadline: Deadline) -> None:
        """Deliver what can be delivered until the deadline, for all backends together; the rest stays stored.

        A thread that is still at it is left alone, and says nothing any more: the interpreter aborts when it
        ends while such a thread writes to the error stream.
        """
        self.begin_close(deadline)
        for thread in self._threads.values():
            thread.join(deadline.remaining())
        is_quiet = self._speaking.acquire(timeout=_LAST_WORDS_SECONDS)
        self._is_silent = True
        if is_quiet:
            self._speaking.release()
        for name, thread in self._threads.items():
            if thread.is_alive() and name not in self._failing:
                self._logger.warning(_STAYS, name, "no answer before the exit")

    def _run(self, route: Route) -> None:
        try:
            self._work(route)
        finally:
            with self._changed:
                self._running_logs.discard(route.name)
                self._changed.notify_all()

    def _work(self, route: Route) -> None:
        made: list[Courier] = []

        def step() -> float:
            try:
                if not made:
                    made.append(route.make())
                result = made[0].step(self._closing or Deadline.after(3600.0))
            except StoreCorruptError:
                self.has_met_damage = True
                raise
            self._say(route.name, result, made[0].last_error())
            return _pause_after(result, made[0])

        goes_on = True
        while goes_on and not (self._closing and self._closing.passed()):
            seen = self._generation
            pause = self._guard(step, _IDLE_SECONDS)
            goes_on = pause == 0.0 or self._rest(route, seen, pause)
        for courier in made:
            self._guard(courier.close, None)

    def _say(self, name: str, step: Step, error: str | None) -> None:
        """One line when a backend's state changes, not one per attempt."""
        with self._speaking:
            if not self._is_silent:
                self._say_change(name, step, error)

    def _say_change(self, name: str, step: Step, error: str | None) -> None:
        if step is Step.FAILED and error is not None and self._failing.get(name) != error:
            self._failing[name] = error
            self._logger.warning(_STAYS, name, error)
        elif step is Step.DELIVERED and self._failing.pop(name, ""):
            self._logger.info("monitoring: %s answers again", name)

    def _rest(self, route: Route, seen: int, seconds: float) -> bool:
        """Wait for news; False when the thread is to end."""
        with self._changed:
            if self._closing is None:
                if self._generation == seen:
                    self._changed.wait(seconds)
                # What follows closely goes along, and the host's next session shares its processor with nobody.
                self._changed.wait_for(lambda: self._closing is not None, _GATHER_SECONDS)
                return True
            # What is pushed last tells how much still waits for the logs: states go on until those are done.
            if not route.is_state or not self._running_logs:
                return False
            self._changed.wait(self._closing.remaining())
            return True


def _pause_after(step: Step, courier: Courier) -> float:
    """Seconds to rest before the next step."""
    if step is Step.DELIVERED:
        return 0.0
    return _IDLE_SECONDS if step is Step.IDLE else max(_BUSY_SECONDS, courier.rest_seconds())
