"""Sessions and state: what is committed when a session ends, and what is read back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from monitoring.domain.derivation import Facts
from monitoring.exceptions import RecordError
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import OTHER, Label
from monitoring.metrics.samples import Change, Vocabulary
from monitoring.metrics.session_writes import BuildWrites, DerivedValues, TransactionContext
from monitoring.records import coerce
from monitoring.records.session_record import STATUSES, SessionRecord
from monitoring.store import lookups, readings, totals
from monitoring.store.database import Database, checksum

_LARGEST = 2**62
_PAGE = 500
_COLUMNS = "sequence, timestamp_ns, record, checksum, derived"
# Pages by key: no transaction is held open while the reader works, however long the archive is.
_NEWEST_PAGE = f"SELECT {_COLUMNS} FROM sessions WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608 - a constant
_OLDEST_PAGE = f"SELECT {_COLUMNS} FROM sessions WHERE sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was committed. ``timestamp_ns`` is its points' time, unique in the store."""

    sequence: int
    timestamp_ns: int
    record: SessionRecord
    derived: DerivedValues | None = None
    """None for a session that was committed by a version before they were kept, or where they are damaged."""


class Store:
    """The archive. Every method raises :class:`StoreError` when the file fails."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def commit(self, record: SessionRecord, build: BuildWrites) -> bool:
        """Keep a session, its undelivered lines and the new totals in one transaction.

        Its points carry the session's end as their time, moved on by nanoseconds where another session
        of this store has that very instant. False when the session was there already, and is left as it is.
        """
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM open_sessions WHERE session_id = ?", (record.session_id,))
            return self._insert(connection, record, build)

    def initialise(self, zeros: Iterable[Change]) -> None:
        """Make series exist at 0 that are not there yet; writes nothing when all are."""
        with self.database.read_transaction() as connection:
            known = set(connection.execute("SELECT metric, labels, part FROM totals"))
        missing = [item for item in zeros if (item.metric, totals.labels_key(item.labels), item.part) not in known]
        if missing:
            with self.database.transaction() as connection:
                totals.apply_changes(connection, missing, 0)
                totals.bump_revision(connection)

    def sessions(self, limit: int | None = None, newest_first: bool = True) -> Iterator[StoredSession]:
        """The stored sessions, in the order of their commit or the other way round; damaged ones are left out."""
        page = _NEWEST_PAGE if newest_first else _OLDEST_PAGE
        last = _LARGEST if newest_first else -1
        left = _LARGEST if limit is None else limit
        while left > 0:
            with self.database.read_transaction() as connection:
                rows = connection.execute(page, (last, min(left, _PAGE))).fetchall()
            if not rows:
                return
            yield from (stored for row in rows if (stored := _stored(*row)) is not None)
            last, left = rows[-1][0], left - len(rows)

    def counts_by_status(self) -> dict[str, int]:
        """All sessions ever committed, by status."""
        with self.database.read_transaction() as connection:
            found = totals.values(connection, catalogue.SESSIONS)
        return {status: int(found.get((status,), 0)) for status in STATUSES}

    def state(self, key: str, default: Callable[[], Any] | None = None) -> Any:
        """A value of the store's own; ``default`` makes it on first use, the same for every process."""
        with self.database.read_transaction() as connection:
            found = _state(connection, key)
        if found is not None or default is None:
            return found
        with self.database.transaction() as connection:
            found = _state(connection, key)  # another process may have been first
            if found is None:
                found = default()
                connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (key, found, checksum(key, found)))
            return found

    def route(self, backend: str, build: BuildWrites, limit: int = 200) -> int:
        """Make the lines of sessions that were recorded without any log backend; returns how many sessions."""
        with self.database.transaction() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM sessions WHERE routed = '' ORDER BY sequence LIMIT ?",  # noqa: S608
                (limit,),
            ).fetchall()
            for row in rows:
                stored = _stored(*row)
                if stored is None:
                    totals.count_loss(connection, "corrupt", 1, time.time_ns())
                else:
                    self._make_lines(connection, stored, build)
                connection.execute("UPDATE sessions SET routed = ? WHERE sequence = ?", (backend, row[0]))
            if rows:
                totals.bump_revision(connection)
        return len(rows)

    def _make_lines(self, connection: sqlite3.Connection, stored: StoredSession, build: BuildWrites) -> None:
        facts = stored.derived.facts if stored.derived else self._facts(connection, stored.record)
        made = build(stored.record, TransactionContext(stored.timestamp_ns, facts, _growing_vocabulary(connection)))
        _enqueue_all(connection, stored.record.session_id, stored.timestamp_ns, made.lines)
        if made.derived and (stored.derived is None or stored.derived.formula != made.derived.formula):
            connection.execute(
                "UPDATE sessions SET derived = ? WHERE sequence = ?", (made.derived.to_bytes(), stored.sequence)
            )

    def _insert(self, connection: sqlite3.Connection, record: SessionRecord, build: BuildWrites) -> bool:
        known = connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (record.session_id,)).fetchone()
        if known:
            return False
        timestamp_ns = _free_timestamp(connection, record.ended_ns)
        context = TransactionContext(timestamp_ns, self._facts(connection, record), _growing_vocabulary(connection))
        writes = build(record, context)
        text = record.to_json()
        derived = writes.derived.to_bytes() if writes.derived is not None else None
        connection.execute(
            "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum,"
            " series_key, study_key, patient_key, accession_key, derived) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.session_id, record.status, timestamp_ns, record.ended_ns, ",".join(writes.lines), text,
                checksum(timestamp_ns, text), record.series_key, record.study_key or "", record.patient_key or "",
                record.accession_key or "", derived,
            ),
        )  # fmt: skip
        self._keep_readings(connection, record)
        _enqueue_all(connection, record.session_id, timestamp_ns, writes.lines)
        totals.apply_changes(connection, writes.changes, timestamp_ns)
        totals.bump_revision(connection)
        return True

    def _facts(self, connection: sqlite3.Connection, record: SessionRecord) -> Facts:
        if self.database.path is None:  # a store in memory doesn't see all sessions
            return Facts(reader_mm=readings.mean_of_readers(record.reader_mm))
        return lookups.facts(connection, record)

    def _keep_readings(self, connection: sqlite3.Connection, record: SessionRecord) -> None:
        for reader, measurements in record.reader_mm.items() if record.series_key else ():
            readings.keep(connection, record.series_key, reader, measurements, record.ended_ns)


@contextmanager
def open_store(database: Database) -> Iterator[Store]:
    """A store that is closed again."""
    try:
        yield Store(database)
    finally:
        database.close()


def _stored(sequence: int, timestamp_ns: int, text: str, expected: int, derived: bytes | None) -> StoredSession | None:
    if checksum(timestamp_ns, text) != expected:
        return None
    try:
        return StoredSession(sequence, timestamp_ns, SessionRecord.from_json(text), _derived(derived))
    except RecordError:
        return None


def _derived(data: bytes | None) -> DerivedValues | None:
    if not isinstance(data, bytes):
        return None
    with suppress(RecordError):
        return DerivedValues.from_bytes(data)
    return None


def _state(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT value, checksum FROM state WHERE key = ?", (key,)).fetchone()
    return row[0] if row and row[1] == checksum(key, row[0]) else None


def _free_timestamp(connection: sqlite3.Connection, ended_ns: int) -> int:
    # Two sessions must never share (series, timestamp). Going on from the largest would let one clock
    # that was once ahead push every later session into the future; so step past neighbours only.
    timestamp_ns = ended_ns
    for (taken,) in connection.execute(
        "SELECT timestamp_ns FROM sessions WHERE timestamp_ns >= ? ORDER BY timestamp_ns", (ended_ns,)
    ):
        if taken != timestamp_ns:
            break
        timestamp_ns += 1
    return timestamp_ns


def register_backend(connection: sqlite3.Connection, name: str) -> None:
    """Make a backend known to the store, if it isn't."""
    connection.execute("INSERT OR IGNORE INTO backends (name, checksum) VALUES (?, ?)", (name, checksum(name, 0, None)))


def enqueue(
    connection: sqlite3.Connection, backend: str, session_id: str, created_ns: int, encoded: bytes, count: int
) -> None:
    """Let lines wait for a log backend."""
    register_backend(connection, backend)
    connection.execute(
        "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines) VALUES (?, ?, ?, ?, ?, ?)",
        (backend, session_id, created_ns, count, checksum(backend, session_id, created_ns, count, encoded), encoded),
    )


def _enqueue_all(
    connection: sqlite3.Connection, session_id: str, created_ns: int, lines: Mapping[str, tuple[bytes, int]]
) -> None:
    for backend, (encoded, count) in lines.items():
        enqueue(connection, backend, session_id, created_ns, encoded, count)


def stored_vocabulary(connection: sqlite3.Connection) -> Vocabulary:
    """What the store's labels hold by now, without taking any further value."""
    known: dict[str, set[str]] = {}
    for name, value in connection.execute("SELECT label, value FROM vocabulary"):
        known.setdefault(name, set()).add(value)
    return lambda label, value: value if value in label.values or value in known.get(label.name, ()) else OTHER


def _growing_vocabulary(connection: sqlite3.Connection) -> Vocabulary:
    known: dict[str, set[str]] = {}

    def value_taken(label: Label, value: str) -> str:
        """``value`` when the label may hold it, ``other`` once the label is full or closed to it."""
        if value in label.values or value == OTHER:
            return value
        if label.closed or coerce.metric_name(value) != value:
            return OTHER
        if label.name not in known:
            rows = connection.execute("SELECT value FROM vocabulary WHERE label = ?", (label.name,))
            known[label.name] = {row[0] for row in rows}
        if value in known[label.name]:
            return value
        if len(known[label.name]) >= label.limit:
            return OTHER
        connection.execute("INSERT INTO vocabulary VALUES (?, ?)", (label.name, value))
        known[label.name].add(value)
        return value

    return value_taken
