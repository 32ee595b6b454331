"""A courier carries what waits for one backend, a step at a time: lease, read, send, settle.

Threads repeat its steps while a host runs (:mod:`monitoring.delivery.threads`), ``leglength-monitor drain`` repeats
them in the foreground. What a step takes is bounded by its lease: after that another process may deliver.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from msgspec.structs import replace

from monitoring.delivery.own_state import Taken
from monitoring.delivery.queue import BackendQueue, Batch
from monitoring.metrics.samples import Sample
from monitoring.transport.deadline import Deadline
from monitoring.transport.sinks import Delivery, LineSink, StateSink

OwnLines = Callable[[Sequence[Sample], int], list[bytes]]
"""Makes lines of the monitoring's own state at an instant (UTC ns)."""

# Beside the request's own time: reading before it and settling after it, where others hold the store's lock.
LEASE_MARGIN_SECONDS = 15.0
_TOLD_EVERY_SECONDS = 10.0
_OPEN_TOLD_EVERY_SECONDS = 60.0


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
        self._quiet_since = time.monotonic()
        queue.register()

    def _lease(self, ignore_backoff: bool) -> bool:
        self._leased = self._queue.try_lease(self._lease_seconds, ignore_backoff)
        return self._leased

    def _release(self) -> None:
        if self._leased:
            self._queue.release()
            self._leased = False

    def _is_to_tell_of_open_sessions(self) -> bool:
        """Whether the backend has heard nothing for a minute while a session is open, which may hang."""
        is_quiet = time.monotonic() - self._quiet_since >= _OPEN_TOLD_EVERY_SECONDS
        return is_quiet and self._queue.has_open_sessions()

    def rest_seconds(self) -> float:
        return self._queue.next_attempt_in_seconds()

    def last_error(self) -> str | None:
        return self._error


class LineCourier(_LeasedCourier):
    """Carries lines to a log such as InfluxDB, and with them what the monitoring says of itself."""

    def __init__(
        self,
        queue: BackendQueue,
        sink: LineSink,
        batch_lines: int,
        request_seconds: float,
        own_lines: OwnLines | None = None,
        heartbeat_seconds: float | None = None,
    ) -> None:
        """``own_lines`` makes the lines of the monitoring's own state, which is told with the last batch and every
        ten seconds of many; every ``heartbeat_seconds``, and each minute of an open session, also where nothing waits.
        """
        super().__init__(queue, request_seconds)
        self._sink = sink
        self._batch_lines = batch_lines
        self._own_lines = own_lines
        self._heartbeat_seconds = heartbeat_seconds
        self._told_at = -math.inf

    def step(self, deadline: Deadline, ignore_backoff: bool = False) -> Step:
        """See :class:`Courier`."""
        if not self._queue.has_lines():
            is_due = not self._has_told_within(self._heartbeat_seconds) or self._is_to_tell_of_open_sessions()
            if self._own_lines is None or not is_due:
                self._release()
                return Step.IDLE
        if not self._lease(ignore_backoff):
            return Step.BUSY
        batch = self._queue.next_batch(self._batch_lines)
        own = self._lines_of_own(batch)
        if not batch.lines and not own:  # all that waited was damaged
            self._release()
            return Step.IDLE
        # The lease outlives the request, so that nobody else sends while this answer is on its way.
        delivery = self._sink.send(batch.lines + own, deadline.sooner(self._lease_seconds - LEASE_MARGIN_SECONDS))
        if own:
            delivery = _of_the_first(delivery, len(batch.lines))
        self._queue.settle(batch, delivery)
        self._error = delivery.detail or delivery.error
        if delivery.error is not None:
            self._release()
            return Step.FAILED
        if own:
            self._told_at = self._quiet_since = time.monotonic()
        if batch.lines:
            return Step.DELIVERED
        self._release()
        return Step.IDLE

    def _has_told_within(self, seconds: float | None) -> bool:
        return seconds is None or time.monotonic() - self._told_at < seconds

    def _lines_of_own(self, batch: Batch) -> list[bytes]:
        """The lines to send beside the batch; none where they are not due."""
        if self._own_lines is None:
            return []
        oldest_ns = self._queue.oldest_behind(batch)
        if oldest_ns is not None and self._has_told_within(_TOLD_EVERY_SECONDS):
            return []
        state = self._queue.own_state(Taken(self.name, len(batch.lines), oldest_ns))
        return [line for instant_ns, samples in state for line in self._own_lines(samples, instant_ns)]

    def close(self) -> None:
        """See :class:`Courier`."""
        self._release()
        self._sink.close()
        self._queue.close()


def _of_the_first(delivery: Delivery, count: int) -> Delivery:
    """What became of the first lines: the others are kept nowhere, and told anew with the next request."""
    return replace(
        delivery,
        accepted=frozenset(index for index in delivery.accepted if index < count),
        rejected=tuple(rejection for rejection in delivery.rejected if rejection.index < count),
    )


class StateCourier(_LeasedCourier):
    """Carries the totals to a state such as a Pushgateway.

    The totals are read after the lease is held: of two containers, the one that pushes last read last.
    """

    def __init__(self, queue: BackendQueue, sink: StateSink, request_seconds: float) -> None:
        super().__init__(queue, request_seconds)
        self._sink = sink

    def step(self, deadline: Deadline, ignore_backoff: bool = False) -> Step:
        """See :class:`Courier`."""
        if not self._queue.has_news() and not self._is_to_tell_of_open_sessions():
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
        if delivery.error is not None:
            return Step.FAILED
        self._quiet_since = time.monotonic()
        return Step.DELIVERED

    def close(self) -> None:
        """See :class:`Courier`."""
        self._release()
        self._sink.close()
        self._queue.close()
