"""Erases one patient's sessions from the store, down to the file's bytes.

What is deleted in SQLite stays in free pages and in the write-ahead log until these are used again; so the file
is rewritten and the log emptied. The totals stay: they are counts over everybody.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from monitoring.events import SessionRecord
from monitoring.exceptions import RecordError
from monitoring.outbox.database import Database
from monitoring.outbox.store import enqueue


@dataclass(frozen=True, slots=True)
class Erased:
    """What was found of a patient, and is gone. ``points_ns``: the sessions' points' time, unique in the store."""

    sessions: int
    open_sessions: int
    waiting_lines: int
    dead_letters: int
    readings: int
    points_ns: tuple[int, ...]
    """UTC nanoseconds; what a backend already has must be deleted there, by these."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def erase(database: Database, patient_key: str, is_rehearsal: bool = False) -> Erased:
    """Delete everything of one patient; a rehearsal only counts. Raises :class:`StoreError`."""
    with database.transaction() as connection:
        found = _Patient(connection, patient_key)
        erased = found.count()
        if not is_rehearsal:
            found.delete()
    if not is_rehearsal:
        database.rewrite()
    return erased


class _Patient:
    """One patient's rows, in one transaction."""

    def __init__(self, connection: sqlite3.Connection, patient_key: str) -> None:
        self._connection = connection
        rows = connection.execute(
            "SELECT sequence, session_id, timestamp_ns, series_key, study_key, accession_key FROM sessions"
            " WHERE patient_key = ? AND patient_key != '' ORDER BY sequence",
            (patient_key,),
        ).fetchall()
        self._sequences = [row[0] for row in rows]
        self._points_ns = tuple(int(row[2]) for row in rows)
        self._open = _open_sessions(connection, patient_key)
        self._session_ids = [row[1] for row in rows]
        self._readings = _readings(connection, {key for row in rows for key in row[3:] if key})
        self._waiting, self._waiting_lines = _waiting(connection, self._session_ids)
        ends = tuple(f" {instant}" for instant in self._points_ns)
        self._requeued = _requeued_without(connection, ends)
        self._dead = _dead_letters(connection, ends)

    def count(self) -> Erased:
        waiting = self._waiting_lines + sum(row.removed for row in self._requeued)
        return Erased(
            len(self._sequences), len(self._open), waiting, len(self._dead), len(self._readings), self._points_ns
        )

    def delete(self) -> None:
        delete = self._connection.executemany
        delete("DELETE FROM sessions WHERE sequence = ?", _rows(self._sequences))
        delete("DELETE FROM open_sessions WHERE session_id = ?", _rows(self._open))
        delete("DELETE FROM outbox WHERE id = ?", _rows(self._waiting))
        for row in self._requeued:
            row.write(self._connection)
        delete("DELETE FROM dead_letters WHERE id = ?", _rows(self._dead))
        delete("DELETE FROM readings WHERE key = ? AND reader = ?", self._readings)


def _rows(values: Iterable[object]) -> list[tuple[object]]:
    return [(value,) for value in values]


def _open_sessions(connection: sqlite3.Connection, patient_key: str) -> list[str]:
    rows = connection.execute("SELECT session_id, record FROM open_sessions").fetchall()
    return [session_id for session_id, text in rows if _patient_of(text) == patient_key]


def _patient_of(text: str) -> str | None:
    try:
        return SessionRecord.from_json(text).patient_key
    except RecordError:
        return None


def _readings(connection: sqlite3.Connection, keys: Iterable[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key in keys:
        found += connection.execute("SELECT key, reader FROM readings WHERE key = ?", (key,)).fetchall()
    return found


def _waiting(connection: sqlite3.Connection, session_ids: Iterable[str]) -> tuple[list[int], int]:
    rows: list[tuple[int, int]] = []
    for session_id in session_ids:
        rows += connection.execute("SELECT id, line_count FROM outbox WHERE session_id = ?", (session_id,)).fetchall()
    return [row[0] for row in rows], sum(row[1] for row in rows)


@dataclass(frozen=True, slots=True)
class _Requeued:
    """A row of lines of several sessions that are sent once more; ``kept`` are those of others."""

    row_id: int
    backend: str
    created_ns: int
    kept: list[bytes]
    removed: int

    def write(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM outbox WHERE id = ?", (self.row_id,))
        if self.kept:
            enqueue(connection, self.backend, "", self.created_ns, b"\n".join(self.kept), len(self.kept))


def _requeued_without(connection: sqlite3.Connection, ends: tuple[str, ...]) -> list[_Requeued]:
    """The requeued rows that hold lines of these times, without them."""
    endings = tuple(end.encode() for end in ends)
    found = []
    rows = connection.execute("SELECT id, backend, created_ns, lines FROM outbox WHERE session_id = ''").fetchall()
    for row_id, backend, created_ns, encoded in rows:
        lines = encoded.split(b"\n")
        kept = [line for line in lines if not line.endswith(endings)]
        if len(kept) < len(lines):
            found.append(_Requeued(row_id, backend, created_ns, kept, len(lines) - len(kept)))
    return found


def _dead_letters(connection: sqlite3.Connection, ends: tuple[str, ...]) -> list[int]:
    rows = connection.execute("SELECT id, line FROM dead_letters").fetchall()
    return [row_id for row_id, line in rows if line.endswith(ends)]


def is_patient_key(text: str) -> bool:
    """Whether ``text`` has a keyed hash's form, so that no typing error erases nothing."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
