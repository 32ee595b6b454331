"""One thread per backend, so that a silent one holds up no other, and an end within the exit's deadline."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from monitoring.delivery.couriers import Courier, Step
from monitoring.exceptions import StoreCorruptError
from monitoring.transport.deadline import Deadline

T = TypeVar("T")


_IDLE_SECONDS = 30.0


_GATHER_SECONDS = 0.5


_STAYS = "monitoring: %s: %s; what is recorded stays in the store until it answers"


_BUSY_SECONDS = 1.0


_LAST_WORDS_SECONDS = 0.1


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
