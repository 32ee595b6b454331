"""What a sink takes and gives: lines or a :class:`Snapshot` of the totals in, a :class:`Delivery` out.

Three layers: the transport answers a request with a frozen result and never raises; the sink
classifies it into a :class:`Delivery`; the outbox decides what becomes of the lines.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from msgspec import Struct

from monitoring.transport.deadline import Deadline
from monitoring.transport.expiry import Expiry

Batch = TypeVar("Batch", contravariant=True)


class Rejection(Struct, frozen=True):
    """A line that a backend refuses for good: its index in the batch, and the reason (``rejected``, ``expired``).

    ``cause`` is the class of what the server said, in fixed words; "" where it is none that is known.
    """

    index: int
    reason: str
    cause: str = ""


class Delivery(Struct, frozen=True):
    """What became of a batch.

    ``accepted`` are the indexes of items that the backend has, ``rejected`` those that it refuses for
    good; all others are kept and tried again. ``error`` says why (one of ``DELIVERY_FAILURES``),
    ``detail`` says it to a person, and ``retry_after_seconds`` is the backend's own wish. ``expiry`` is when the
    certificates and the token end that the backend was asked with; None where that isn't known.
    """

    accepted: frozenset[int] = frozenset()
    rejected: tuple[Rejection, ...] = ()
    error: str | None = None
    detail: str = ""
    retry_after_seconds: float | None = None
    expiry: Expiry | None = None


class Total(Struct, frozen=True):
    """One stored value of the Prometheus state; ``part`` is as in :class:`monitoring.metrics.samples.Change`."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    part: str
    value: float


class Snapshot(Struct, frozen=True):
    """The whole Prometheus state at one revision of the store, up to and with session ``sequence``.

    Without ``counts_all_runs`` (a store in memory) its counters begin at 0 with this process and must not
    replace those that a backend has.
    """

    totals: tuple[Total, ...]
    revision: int
    sequence: int
    counts_all_runs: bool = True


class Sink(Protocol[Batch]):
    """A backend. It never raises for what the network or the server does."""

    name: str

    def send(self, batch: Batch, deadline: Deadline, /) -> Delivery:
        """Try to hand over the batch within the deadline."""

    def close(self) -> None:
        """Give back connections."""


LineSink = Sink[list[bytes]]
"""A backend that is a log: it takes lines, each once."""
StateSink = Sink[Snapshot]
"""A backend that is a state: it takes the newest totals, and forgets the older ones."""
