"""Erases one patient's sessions from the store, down to the file's bytes.

What is deleted in SQLite stays in free pages and in the write-ahead log until these are used again; so the file
is rewritten and the log emptied. The totals stay: they are counts over everybody. A latest value that is the
patient's goes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Set
from dataclasses import asdict, dataclass
from typing import Any, Final

from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind
from monitoring.records.session_record import SessionRecord
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.outbox import enqueue
from monitoring.store.rows import stored_record

_COLUMNS: Final = "sequence, session_id, timestamp_ns, series_key, study_key, accession_key"
_LINKS: Final = ("series_key", "study_key", "accession_key")
_OF_ONE_IMAGE: Final = tuple(
    metric.name for metric in catalogue.METRICS if metric.kind is Kind.GAUGE and metric.measurement is not None
)
_Row = tuple[int, str, int, str, str, str]


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
    if is_rehearsal:
        with database.read_transaction() as connection:
            return _Patient(connection, patient_key).count()
    with database.transaction() as connection:
        found = _Patient(connection, patient_key)
        erased = found.count()
        found.delete()
    database.rewrite()
    return erased


class _Patient:
    """One patient's rows, in one transaction."""

    def __init__(self, connection: sqlite3.Connection, patient_key: str) -> None:
        self._connection = connection
        own = _own_sessions(connection, patient_key)
        is_open = _open_sessions(connection)
        own_open = {session_id for session_id, record, text in is_open if _is_of(record, text, patient_key)}
        keys = {key for row in own for key in row[3:]}.union(
            *(record.exam_keys for session_id, record, _ in is_open if record and session_id in own_open)
        ) - {""}
        rows = sorted({*own, *_linked_sessions(connection, keys)})
        self._sequences = [row[0] for row in rows]
        self._points_ns = tuple(int(row[2]) for row in rows)
        self._open = own_open | {session_id for session_id, record, _ in is_open if _is_linked(record, keys)}
        self._readings = _readings(connection, keys.union(*(row[3:] for row in rows)) - {""})
        self._waiting, self._waiting_lines = _waiting(connection, [row[1] for row in rows])
        times = {str(instant) for instant in self._points_ns}
        self._requeued = _requeued_without(connection, times)
        self._dead = _dead_letters(connection, times)
        self._latest = _latest_values(connection, self._points_ns)

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
        delete("DELETE FROM totals WHERE metric = ? AND labels = ? AND part = ?", self._latest)
        totals.bump_revision(self._connection)


def _rows(values: Iterable[object]) -> list[tuple[object]]:
    return [(value,) for value in values]


def _own_sessions(connection: sqlite3.Connection, patient_key: str) -> list[_Row]:
    query = f"SELECT {_COLUMNS} FROM sessions WHERE patient_key = ? AND patient_key != ''"  # noqa: S608 - constants
    return connection.execute(query, (patient_key,)).fetchall()


def _linked_sessions(connection: sqlite3.Connection, keys: Iterable[str]) -> Iterator[_Row]:
    """Sessions of the same series, studies and accessions that ended before the image told whose it is."""
    for key in keys:
        for column in _LINKS:
            yield from connection.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE {column} = ? AND {column} != '' AND patient_key = ''",  # noqa: S608
                (key,),
            )


def _open_sessions(connection: sqlite3.Connection) -> list[tuple[str, SessionRecord | None, str]]:
    rows = connection.execute("SELECT session_id, record FROM open_sessions").fetchall()
    return [(session_id, stored_record(text), text) for session_id, text in rows]


def _is_of(record: SessionRecord | None, text: str, patient_key: str) -> bool:
    return bool(patient_key) and (record.patient_key == patient_key if record else patient_key in text)


def _is_linked(record: SessionRecord | None, keys: Set[str]) -> bool:
    return record is not None and not record.patient_key and not keys.isdisjoint(record.exam_keys)


def _latest_values(connection: sqlite3.Connection, points_ns: Iterable[int]) -> list[tuple[str, str, str]]:
    """The gauges that still tell of these sessions."""
    erased = set(points_ns)
    marks = ",".join("?" * len(_OF_ONE_IMAGE))
    rows = connection.execute(
        f"SELECT metric, labels, part, time_ns FROM totals WHERE metric IN ({marks})",  # noqa: S608
        _OF_ONE_IMAGE,
    )
    return [tuple(row[:3]) for row in rows if row[3] in erased]


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


def _requeued_without(connection: sqlite3.Connection, times: Set[str]) -> list[_Requeued]:
    """The requeued rows that hold lines of these times, without them."""
    found = []
    rows = connection.execute("SELECT id, backend, created_ns, lines FROM outbox WHERE session_id = ''").fetchall()
    for row_id, backend, created_ns, encoded in rows:
        lines = encoded.split(b"\n")
        kept = [line for line in lines if _time_of(line.decode(errors="replace")) not in times]
        if len(kept) < len(lines):
            found.append(_Requeued(row_id, backend, created_ns, kept, len(lines) - len(kept)))
    return found


def _dead_letters(connection: sqlite3.Connection, times: Set[str]) -> list[int]:
    rows = connection.execute("SELECT id, line FROM dead_letters")
    return [row_id for row_id, line in rows if _time_of(line) in times]


def _time_of(line: str) -> str:
    return line.rpartition(" ")[2]


def is_patient_key(text: str) -> bool:
    """Whether ``text`` has a keyed hash's form, so that no typing error erases nothing."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
