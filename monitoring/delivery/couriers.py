"""A courier carries what waits for one backend, a step at a time: lease, read, send, settle.

Threads repeat its steps while a host runs (:mod:`monitoring.delivery.threads`), ``leglength-monitor drain`` repeats
them in the foreground. What a step takes is bounded by its lease: after that another process may deliver.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from monitoring.delivery.queue import BackendQueue
from monitoring.transport.deadline import Deadline
from monitoring.transport.sinks import LineSink, StateSink

LEASE_MARGIN_SECONDS = 15.0


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
            snapshot = self._queue.snapshot()
            delivery = self._sink.send(snapshot, deadline.sooner(self._lease_seconds - LEASE_MARGIN_SECONDS))
            self._queue.settle_state(snapshot, delivery)
            self._error = delivery.detail or delivery.error
        finally:
            self._release()
        return Step.DELIVERED if delivery.error is None else Step.FAILED

    def close(self) -> None:
        """See :class:`Courier`."""
        self._release()
        self._sink.close()
        self._queue.close()
