"""What the monitoring says of itself: what waits for each backend and since when, what is open, lost and counted.

A state backend gets it with the totals. A log gets it as points with the time of sending, which travel with what waits
and are kept nowhere: the outbox neither grows by them nor waits for them. While a log can't be reached nothing can be
told to it; the first request that follows tells how much had waited until then, and for how long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from monitoring.metrics import catalogue
from monitoring.metrics.backends import STATES
from monitoring.metrics.samples import NANOSECONDS, Sample
from monitoring.records.session_record import COARSE_NS
from monitoring.store import totals
from monitoring.store.outbox import backend_statuses
from monitoring.transport.sinks import Total

_ON_ITS_WAY_SECONDS = 10.0
_COUNTED = (
    catalogue.MONITORING_FAILURES, catalogue.MONITORING_DROPPED, catalogue.MONITORING_RECOVERED,
    catalogue.CERTIFICATE_EXPIRY, catalogue.LOG_FILTER_HITS, catalogue.ERASURES, catalogue.RELAY_LAST_SEEN,
)  # fmt: skip


class Taken(NamedTuple):
    """What a backend will have taken once a request of now is answered: so many points (None is all that waits).

    ``oldest_ns`` is since when the rest waits.
    """

    backend: str
    points: int | None = None
    oldest_ns: int | None = None


def waiting(connection: sqlite3.Connection, now_ns: int, taken: Taken | None = None) -> list[Sample]:
    """What waits for each backend and what is open at ``now_ns``, as if what is to be ``taken`` were it already."""
    found: list[Sample] = []
    for status in backend_statuses(connection):
        pending, oldest_ns, last_ns = status.pending, status.oldest_ns, status.last_success_ns
        if taken is not None and taken.backend == status.name:
            pending = 0 if taken.points is None else max(0, pending - taken.points)
            oldest_ns, last_ns = taken.oldest_ns, now_ns
        elif taken is not None and taken.points is not None and status.name in STATES:
            # A state is told after the logs: a session that has just ended is on its way there, and doesn't wait.
            is_on_its_way = _seconds_since(oldest_ns, now_ns) < _ON_ITS_WAY_SECONDS
            pending, oldest_ns = (0, None) if is_on_its_way else (pending, oldest_ns)
        values = {
            catalogue.MONITORING_PENDING: float(pending),
            catalogue.MONITORING_OLDEST: _seconds_since(oldest_ns, now_ns),
            catalogue.MONITORING_DEAD: float(status.dead),
            catalogue.MONITORING_LAST_DELIVERY: None if last_ns is None else last_ns / NANOSECONDS,
        }
        labels = {"backend": status.name}
        found += [Sample(metric, value, labels) for metric, value in values.items() if value is not None]
    return [*found, *_open_sessions(connection, now_ns)]


def _open_sessions(connection: sqlite3.Connection, now_ns: int) -> Iterator[Sample]:
    began = [
        row[0]
        for row in connection.execute(
            "SELECT CASE WHEN json_valid(record) THEN json_extract(record, '$.started_ns') END FROM open_sessions"
        )
    ]
    # Of a coarse record the hour is known that it began in: what is told is how long it has lasted at least.
    known = [ns + COARSE_NS if ns % COARSE_NS == 0 else ns for ns in began if isinstance(ns, int)]
    yield Sample(catalogue.OPEN_SESSIONS, float(len(began)))
    yield Sample(catalogue.OLDEST_OPEN_SESSION, _seconds_since(min(known, default=None), now_ns))


def _seconds_since(then_ns: int | None, now_ns: int) -> float:
    return 0.0 if then_ns is None else max(0.0, (now_ns - then_ns) / NANOSECONDS)


def counted(connection: sqlite3.Connection, taken: Taken) -> Iterator[Sample]:
    """What the store has counted of the monitoring itself, with what is to be ``taken``; of failures the known ones."""
    delivered = totals.values(connection, catalogue.MONITORING_DELIVERED)
    for (backend,) in connection.execute("SELECT name FROM backends"):
        value = delivered.get((backend,), 0.0) + (taken.points or 0 if backend == taken.backend else 0)
        yield Sample(catalogue.MONITORING_DELIVERED, value, {"backend": backend})
    for metric in _COUNTED:
        names = [label.name for label in metric.labels]
        for labels, value in totals.values(connection, metric).items():
            # Prometheus has every reason of every backend at 0 from the start; as points they would only be many.
            if value or metric is not catalogue.MONITORING_FAILURES:
                yield Sample(metric, value, dict(zip(names, labels, strict=True)))


def as_totals(samples: Iterable[Sample]) -> list[Total]:
    """The samples as values of the pushed state."""
    return [Total(metric.name, tuple(labels.items()), "", value) for metric, value, labels in samples]
