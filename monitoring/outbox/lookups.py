"""What a session's commit asks the store about other sessions: earlier runs, the patient's earlier exam, readings.

Each answer is bounded, so that a session's cost doesn't grow with the store.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from math import fsum

from monitoring.derivation import Facts
from monitoring.domain.agreement import LARGEST_MM
from monitoring.events import SessionRecord
from monitoring.exceptions import RecordError
from monitoring.outbox.database import checksum

_HOUR_NS = 3600 * 1_000_000_000
_DAY_NS = 24 * _HOUR_NS
_MOST_COUNTED = 10_000
_MOST_RUNS = 100
_LATEST_EXAMS = 100
_EARLIER_EXAMS = 5
_NEEDED = (
    "version", "session_id", "status", "started_ns", "ended_ns", "duration_seconds", "patient_key", "context",
    "measurements_mm",
)  # fmt: skip
_MOST_READERS = 20


def facts(connection: sqlite3.Connection, record: SessionRecord) -> Facts:
    """All that the store knows beside a session that is about to be committed."""
    earlier_mm, days = _earlier_exam(connection, record)
    return Facts(
        sessions_last_hour=_sessions_last_hour(connection, record),
        earlier_runs=_earlier_runs(connection, record),
        earlier_mm=earlier_mm,
        days_since_earlier=days,
        reader_mm=_readers_mean(connection, record),
    )


def keep_reading(
    connection: sqlite3.Connection, key: str, reader: str, measurements_mm: Mapping[str, float], kept_ns: int
) -> bool:
    """Keep a reader's measurements of what ``key`` names; False when they were there already, the same."""
    text = json.dumps(dict(sorted(measurements_mm.items())), separators=(",", ":"))
    known = connection.execute(
        "SELECT measurements FROM readings WHERE key = ? AND reader = ?", (key, reader)
    ).fetchone()
    if known is not None and known[0] == text:
        return False
    connection.execute(
        "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?)",
        (key, reader, text, kept_ns, checksum(key, reader, text, kept_ns)),
    )
    return True


def readings_of(connection: sqlite3.Connection, keys: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """The readers' measurements of what any of the keys names, by reader; damaged ones are left out."""
    rows = connection.execute(
        f"SELECT key, reader, measurements, kept_ns, checksum FROM readings"  # noqa: S608 - question marks only
        f" WHERE key IN ({','.join('?' * len(keys))}) ORDER BY kept_ns LIMIT {_MOST_READERS}",
        keys,
    )
    found: dict[str, dict[str, float]] = {}
    for key, reader, text, kept_ns, expected in rows:
        if checksum(key, reader, text, kept_ns) == expected:
            found.setdefault(reader, {}).update(json.loads(text))
    return found


def mean_of_readers(readings: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each measurement's mean over the readers who took it; what is longer than a kilometre is none."""
    taken: dict[str, list[float]] = {}
    for measurements in readings.values():
        for name, millimeters in measurements.items():
            if abs(millimeters) <= LARGEST_MM:
                taken.setdefault(name, []).append(millimeters)
    return {name: fsum(values) / len(values) for name, values in taken.items()}


def keys_of(record: SessionRecord) -> tuple[str, ...]:
    """The keyed hashes under which a reading may name this exam."""
    return tuple(key for key in (record.series_key, record.study_key, record.accession_key) if key)


def _readers_mean(connection: sqlite3.Connection, record: SessionRecord) -> dict[str, float]:
    return mean_of_readers({**readings_of(connection, keys_of(record)), **record.reader_mm})


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
        "SELECT timestamp_ns, record, checksum FROM sessions WHERE sequence IN (SELECT sequence FROM sessions"
        " WHERE patient_key = ? AND patient_key != '' AND ended_ns < ? ORDER BY ended_ns DESC LIMIT ?)"
        " AND status = 'completed' AND series_key != ? AND (study_key != ? OR study_key = '')"
        " ORDER BY ended_ns DESC LIMIT ?",
        (
            record.patient_key, record.started_ns, _LATEST_EXAMS, record.series_key, record.study_key or "",
            _EARLIER_EXAMS,
        ),
    )  # fmt: skip
    for timestamp_ns, text, expected in rows:
        earlier = _read(text) if checksum(timestamp_ns, text) == expected else None
        # The column has no checksum: a damaged one must not make this somebody else's exam.
        if earlier is None or earlier.patient_key != record.patient_key or _is_older(earlier, record):
            continue
        if earlier.measurements_mm:
            return dict(earlier.measurements_mm), (record.ended_ns - earlier.ended_ns) / _DAY_NS
    return {}, None


def _is_older(earlier: SessionRecord, record: SessionRecord) -> bool:
    """Whether the patient was older in the exam that was processed before: then it is the later exam."""
    ages = earlier.context.get("age_years"), record.context.get("age_years")
    return all(isinstance(age, float) for age in ages) and ages[0] > ages[1]  # type: ignore[operator]


def _read(text: str) -> SessionRecord | None:
    """A stored record with what a comparison needs: an ensemble's predictions take ten times as long to read."""
    with suppress(RecordError, ValueError, AttributeError):
        data = json.loads(text)
        return SessionRecord.from_dict({name: value for name, value in data.items() if name in _NEEDED})
    return None
