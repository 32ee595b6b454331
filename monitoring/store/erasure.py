"""Erases one patient's sessions from the store, down to the file's bytes.

What is deleted in SQLite stays in free pages and in the write-ahead log until these are used again; so the file
is rewritten and the log emptied. The totals stay: they are counts over everybody. So do fire drills: they count exams
until an alarm, over 150 or more. A latest value that is the patient's goes. What the backends have already is not
this file's: it is to be deleted there, by the points' times.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from monitoring.metrics import catalogue
from monitoring.store import totals
from monitoring.store.analysis import forget_alarms, forget_checkpoint
from monitoring.store.database import Database
from monitoring.store.outbox import delete_lines, enqueue
from monitoring.store.readings import CHANGED
from monitoring.store.rows import stored_record
from monitoring.store.sessions import Store

_COLUMNS: Final = "sequence, session_id, timestamp_ns, series_key, study_key, accession_key"
_KEYS: Final = ("series_key", "study_key", "accession_key")
# A gauge shows the latest image, so its value is that patient's; counters and histograms are of everybody.
_OF_ONE_IMAGE: Final = tuple(metric.name for metric in catalogue.METRICS if metric.is_of_an_image)


class Erased(Struct, frozen=True):
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


class NotAttributed(Struct, frozen=True):
    """Sessions that the store holds and that a patient's hash can't find, whosever they are."""

    without_patient_key: int
    """No image was given, or none that names a patient; nor is anyone's session of the same exam known."""
    under_another_key: int
    """Named with another key of the site than the one that is there now."""


class _RehearsedError(Exception):
    """Ends a rehearsal's transaction, so that SQLite takes everything back."""


def erase(database: Database, patient_key: str, is_rehearsal: bool = False) -> Erased:
    """Delete everything of one patient; a rehearsal counts the same and keeps all. Raises :class:`StoreError`."""
    with suppress(_RehearsedError), database.transaction() as connection:
        erased = _erase(connection, patient_key)
        has_found = erased.sessions or erased.open_sessions or erased.waiting_lines or erased.dead_letters
        totals.count(connection, catalogue.ERASURES, bool(has_found or erased.readings), time.time_ns())
        if is_rehearsal:
            raise _RehearsedError
    if not is_rehearsal:
        database.rewrite()
    return erased


def not_attributed(store: Store, fingerprint: str) -> NotAttributed:
    """Count what an erasure can't tell to be a patient's or not; ``fingerprint`` is the present key's."""
    spans = store.spans_of_other_keys(fingerprint)
    is_nobodys = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM sessions AS k WHERE k.{column} = s.{column} AND k.{column} != ''"  # noqa: S608
        " AND k.patient_key != '')"
        for column in _KEYS
    )
    with store.database.read_transaction() as connection:
        nameless = connection.execute(
            f"SELECT count(*) FROM sessions AS s WHERE patient_key = '' AND {is_nobodys}"  # noqa: S608 - constants
        ).fetchone()[0]
        of_others = sum(
            connection.execute(
                "SELECT count(*) FROM sessions WHERE patient_key != '' AND sequence >= ? AND sequence < ?", span
            ).fetchone()[0]
            for span in spans
        )
    return NotAttributed(nameless, of_others)


def _erase(connection: sqlite3.Connection, patient_key: str) -> Erased:
    own = connection.execute(
        f"SELECT {_COLUMNS} FROM sessions WHERE patient_key = ? AND patient_key != ''",  # noqa: S608 - constants
        (patient_key,),
    ).fetchall()
    keys = {key for row in own for key in row[3:]} - {""}
    open_ids = _erase_open_sessions(connection, patient_key, keys)
    # Sessions of the same series, studies and accessions that ended before the image told whose it is.
    linked = [
        row
        for key in keys
        for column in _KEYS
        for row in connection.execute(
            f"SELECT {_COLUMNS} FROM sessions WHERE {column} = ? AND {column} != '' AND patient_key = ''",  # noqa: S608
            (key,),
        )
    ]
    rows = sorted({*own, *linked})
    # What was linked may name further studies and accessions, whose readings go, too.
    keys |= {key for row in rows for key in row[3:]} - {""}
    delete = connection.execute
    if rows:
        # The charts' sums hold the exam: they are computed anew from what is left, as if it had never been there.
        forget_checkpoint(connection)
    waiting = dead = 0
    for sequence, session_id, timestamp_ns, *_ in rows:
        delete("DELETE FROM sessions WHERE sequence = ?", (sequence,))
        waiting += delete_lines(connection, session_id)
        # An older version's letter may name no session: it is told by its line's time, as in the session's import.
        dead += delete(
            "DELETE FROM dead_letters WHERE session_id = ? OR (session_id = '' AND line LIKE ?)",
            (session_id, f"% {timestamp_ns}"),
        ).rowcount
        marks = ",".join("?" * len(_OF_ONE_IMAGE))
        delete(f"DELETE FROM totals WHERE time_ns = ? AND metric IN ({marks})", (timestamp_ns, *_OF_ONE_IMAGE))  # noqa: S608
    points_ns = tuple(int(row[2]) for row in rows)
    forget_alarms(connection, points_ns)
    waiting += _erase_requeued(connection, {str(instant).encode() for instant in points_ns})
    readings = sum(delete("DELETE FROM readings WHERE key = ?", (key,)).rowcount for key in keys)
    # A note that a reading has changed is under its exam's key.
    connection.executemany("DELETE FROM analysis WHERE name = ?", ((CHANGED + key,) for key in keys))
    totals.bump_revision(connection)
    return Erased(len(rows), len(open_ids), waiting, dead, readings, points_ns)


def _erase_open_sessions(connection: sqlite3.Connection, patient_key: str, keys: set[str]) -> set[str]:
    """Delete the patient's open sessions, and those of the same exams that don't know whose they are; adds to ``keys``.

    One whose record can't be read is the patient's when the key stands in its text.
    """
    found = [
        (session_id, stored_record(text), text)
        for session_id, text in connection.execute("SELECT session_id, record FROM open_sessions")
    ]
    erased = set()
    for session_id, record, text in found:
        if patient_key and (record.patient_key == patient_key if record else patient_key in text):
            erased.add(session_id)
            keys.update(record.exam_keys if record else ())
    # A second time, since what the first has found may name further exams.
    for session_id, record, _ in found:
        if record is not None and not record.patient_key and not keys.isdisjoint(record.exam_keys):
            erased.add(session_id)
    connection.executemany("DELETE FROM open_sessions WHERE session_id = ?", [(one,) for one in erased])
    return erased


def _erase_requeued(connection: sqlite3.Connection, times: Collection[bytes]) -> int:
    """Remove lines of these times from the rows of several sessions' that an older version has requeued; how many."""
    removed = 0
    rows = connection.execute(
        "SELECT id, backend, created_ns, lines, counted_lost FROM outbox WHERE session_id = ''"
    ).fetchall()
    for row_id, backend, created_ns, encoded, counted_lost in rows:
        lines = encoded.split(b"\n")
        kept = [line for line in lines if line.rpartition(b" ")[2] not in times]
        if len(kept) < len(lines):
            removed += len(lines) - len(kept)
            connection.execute("DELETE FROM outbox WHERE id = ?", (row_id,))
            if kept:
                enqueue(connection, backend, "", created_ns, b"\n".join(kept), len(kept), counted_lost)
    return removed


def is_patient_key(text: str) -> bool:
    """Whether ``text`` has a keyed hash's form, so that no typing error erases nothing."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None
