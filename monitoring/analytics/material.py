"""What a report is made of: the charts' state, and the points, sessions, comparisons and losses of a period.

All of it comes from the store. No identity is in it: exams are told by their sessions' IDs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from msgspec import Struct, field

from monitoring.analytics.analysis import NO_BACKENDS, Analysis, analyse
from monitoring.analytics.charting import Charting, Point, Progress
from monitoring.analytics.drill import KeptDrill, kept_drills
from monitoring.analytics.series import GONE_AFTER, stratum
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store import readings, totals
from monitoring.store.sessions import Store

_PAGE: Final = 500
_BEFORE_PERIOD: Final = 10 * GONE_AFTER  # sessions, by which it is known which models measured when it began
_SECOND_NS: Final = 1_000_000_000


class Period(NamedTuple):
    """Whole UTC days, both ends included."""

    first: date
    last: date

    @property
    def start_ns(self) -> int:
        """The first day's beginning."""
        return int(datetime.combine(self.first, time(), UTC).timestamp()) * _SECOND_NS

    @property
    def end_ns(self) -> int:
        """The instant after the last day."""
        return int(datetime.combine(self.last + timedelta(days=1), time(), UTC).timestamp()) * _SECOND_NS


class Seen(NamedTuple):
    """A session of the period: its points' time (UTC ns), ID, and how it ended."""

    time_ns: int
    session_id: str
    status: str


class Placed(NamedTuple):
    """A chart's point: UTC ns, value, and the segment that it was measured under."""

    time_ns: int
    value: float
    segment: str


class Material(Struct):
    """``exams`` are counted by year, segment and stratum; ``pairs`` are a measurement's and its readers' mean, mm, in
    the order of time; ``losses`` and ``drills`` (the newest first) are of the store's whole life.
    """

    found: Analysis
    period: Period
    now_ns: int
    oldest_ns: int | None = None
    sessions: list[Seen] = []
    points: dict[str, list[Placed]] = {}
    exams: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    pairs: dict[str, list[tuple[float, float]]] = {}
    exams_read: int = 0
    readings: int = 0
    readers: int = 0
    losses: dict[str, int] = {}
    drills: list[KeptDrill] = []


def gather(
    store: Store, config: AnalyticsConfig, period: Period, now_ns: int, build: SessionWritesBuilder = NO_BACKENDS
) -> Material:
    """Look at the store (:func:`monitoring.analytics.analysis.analyse`), and take a period's points from it."""
    made = Material(analyse(store, config, now_ns, build), period, now_ns)
    charting = Charting(Progress(), config)
    points: dict[str, list[Placed]] = defaultdict(list)
    with store.database.read_transaction() as connection:
        charting.take(kept.sessions_before(connection, period.start_ns, _BEFORE_PERIOD))
    after_ns: int | None = period.start_ns - 1
    while after_ns is not None and after_ns < period.end_ns:
        with store.database.read_transaction() as connection:
            page, after_ns = kept.sessions_after(connection, after_ns, _PAGE)
        for session in page:
            stored, record = session.stored, session.stored.record
            if stored.timestamp_ns >= period.end_ns:
                break
            made.sessions.append(Seen(stored.timestamp_ns, record.session_id, record.status))
            by_segment: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
            charting.sort(session, by_segment)
            if session.is_first_of_exam:
                year = datetime.fromtimestamp(stored.timestamp_ns // _SECOND_NS, UTC).year
                made.exams[year, charting.progress.segment, stratum(record)] += 1
            for code, by_name in by_segment.items():
                for name, its_points in by_name.items():
                    points[name] += [Placed(time_ns, value, code) for time_ns, value, _ in its_points]
    made.points = dict(points)
    read: set[str] = set()
    for compared in readings.compared(store.database):
        if period.start_ns <= compared.timestamp_ns < period.end_ns:
            ours = compared.record
            read.add(ours.study_key or ours.accession_key or ours.series_key)
            for name, reader_mm in compared.reference_mm.items():
                made.pairs.setdefault(name, []).append((ours.measurements_mm[name], reader_mm))
    made.exams_read = len(read)
    made.pairs = {name: made.pairs[name][::-1] for name in MEASUREMENTS if name in made.pairs}
    with store.database.read_transaction() as connection:
        counts = readings.counts(connection)
        made.readings, made.readers = counts.readings, counts.readers
        made.drills = kept_drills(connection)
        made.losses, made.oldest_ns = totals.losses(connection), kept.oldest_session(connection)
    return made
