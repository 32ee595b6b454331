"""The points that were made of the stored sessions, as they were sent, and why a backend may lack a session's."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from monitoring.exceptions import EncodingError
from monitoring.metrics import catalogue
from monitoring.metrics.line_protocol import Point, line
from monitoring.metrics.samples import Sample, limit_cardinality
from monitoring.metrics_collector import SessionWritesBuilder, points
from monitoring.store.sessions import Store
from monitoring.store.vocabulary import stored_vocabulary

NOT_MADE, WAITING, REFUSED = "not made", "waiting", "refused"


class SentSession(Struct, frozen=True):
    """One session's points and their time; None where a version before they were kept committed it.

    ``excuse``: why the backend needn't have all of them, "" where it must.
    """

    time_ns: int
    points: list[Point] | None
    excuse: str


def sent_points(
    store: Store, build: SessionWritesBuilder, backend: str, since_ns: int, until_ns: int
) -> Iterator[SentSession]:
    """The sessions whose points lie from ``since_ns`` to ``until_ns``; raises :class:`StoreError`."""
    with store.database.read_transaction() as connection:
        vocabulary = stored_vocabulary(connection)
        excuses = {
            str(session_id): excuse
            for excuse, table in ((WAITING, "outbox"), (REFUSED, "dead_letters"))
            for (session_id,) in connection.execute(
                f"SELECT DISTINCT session_id FROM {table} WHERE backend = ?",  # noqa: S608 - constants
                (backend,),
            )
        }
    for stored in store.sessions(newest_first=False):
        if not since_ns <= stored.timestamp_ns <= until_ns:
            continue
        record, found = stored.record, None
        if stored.derived is not None:
            # Not among what was derived, see the collector: it is told with each session all the same.
            versions = {
                "version": record.application_version or catalogue.NO_VERSION,
                "monitoring_version": build.version,
            }
            build_info = limit_cardinality([Sample(catalogue.BUILD_INFO, 1.0, versions)], vocabulary)
            samples = [*stored.derived.samples(), *build_info]
            made = points(samples, record, build.tags, build.sends_age_band)
            found = [point for point in made if _can_be_sent(point)]
        excuse = excuses.get(record.session_id, "") if stored.is_routed else NOT_MADE
        yield SentSession(stored.timestamp_ns, found, excuse)


def _can_be_sent(point: Point) -> bool:
    try:
        line(point, 0)
    except EncodingError:
        return False
    return True
