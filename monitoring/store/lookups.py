"""What a session's commit asks the store about other sessions: earlier runs, the patient's earlier exam, readings.

Each answer is bounded, so that a session's cost doesn't grow with the store.
"""

from __future__ import annotations

import sqlite3

from monitoring.domain.derivation import Facts
from monitoring.records.session_record import SessionRecord
from monitoring.store import readings
from monitoring.store.rows import SESSION_COLUMNS, stored_session

_HOUR_NS = 3600 * 1_000_000_000
_DAY_NS = 24 * _HOUR_NS
# Bounds: one exam that is run again and again, as in a test of the routing, costs the same each time.
_MOST_COUNTED = 10_000
_MOST_RUNS = 100
_LATEST_EXAMS = 100
_EARLIER_EXAMS = 5


def facts(connection: sqlite3.Connection, record: SessionRecord) -> Facts:
    """All that the store knows beside a session that is about to be committed."""
    earlier_mm, days = _earlier_exam(connection, record)
    return Facts(
        sessions_last_hour=_sessions_last_hour(connection, record),
        earlier_runs=_earlier_runs(connection, record),
        earlier_mm=earlier_mm,
        days_since_earlier=days,
        reader_mm=readings.mean_of_readers({**readings.by_reader(connection, record.exam_keys), **record.reader_mm}),
    )


def _sessions_last_hour(connection: sqlite3.Connection, record: SessionRecord) -> int:
    hour = (record.ended_ns - _HOUR_NS, record.ended_ns)
    # Counted in the index alone: to look at each session's row would take milliseconds after a busy hour.
    (counted,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM sessions WHERE ended_ns > ? AND ended_ns <= ? LIMIT ?)",
        (*hour, _MOST_COUNTED),
    ).fetchone()
    itself = connection.execute(
        "SELECT 1 FROM sessions WHERE session_id = ? AND ended_ns > ? AND ended_ns <= ?", (record.session_id, *hour)
    ).fetchone()
    return int(counted) + (itself is None)


def _earlier_runs(connection: sqlite3.Connection, record: SessionRecord) -> int | None:
    """How many of the series' first sessions are earlier than this one; None without a series."""
    if not record.series_key:
        return None
    found = connection.execute(
        "SELECT count(*) FROM (SELECT session_id, ended_ns FROM sessions WHERE series_key = ? AND series_key != ''"
        " ORDER BY sequence LIMIT ?) WHERE session_id != ? AND ended_ns <= ?",
        (record.series_key, _MOST_RUNS, record.session_id, record.ended_ns),
    ).fetchone()[0]
    return int(found)


def _earlier_exam(connection: sqlite3.Connection, record: SessionRecord) -> tuple[dict[str, float], float | None]:
    """The patient's latest exam before this one, of another study, and the days since."""
    if not record.patient_key:
        return {}, None
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS} FROM sessions WHERE sequence IN (SELECT sequence FROM sessions"  # noqa: S608 - a constant
        " WHERE patient_key = ? AND patient_key != '' AND ended_ns < ? ORDER BY ended_ns DESC LIMIT ?)"
        " AND status = 'completed' AND series_key != ? AND (study_key != ? OR study_key = '')"
        " ORDER BY ended_ns DESC LIMIT ?",
        (
            record.patient_key, record.started_ns, _LATEST_EXAMS, record.series_key, record.study_key or "",
            _EARLIER_EXAMS,
        ),
    )  # fmt: skip
    for stored in map(stored_session, rows):
        # The key's column has no checksum: a damaged one must not make this somebody else's exam.
        if stored is None or stored.record.patient_key != record.patient_key:
            continue
        then, now = stored.record.context.get("age_years"), record.context.get("age_years")
        if isinstance(then, float) and isinstance(now, float) and then > now:
            continue  # it was processed before, but the patient was older: it is the later exam
        if earlier_mm := stored.record.measurements_mm:
            return dict(earlier_mm), (record.ended_ns - stored.record.ended_ns) / _DAY_NS
    return {}, None
