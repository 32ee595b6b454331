"""Sessions, totals and state: what is committed when a session ends, and what is read back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from monitoring.catalogue import OTHER, Label
from monitoring.events import STATUSES, SessionRecord
from monitoring.metrics_collector import NANOSECONDS, Change
from monitoring.outbox.database import Database

_HOUR_NS = 3600 * NANOSECONDS
_LARGEST = 2**62
_PAGE = 500
# Pages by key: no transaction is held open while the reader works, however long the archive is.
_NEWEST_PAGE = "SELECT sequence, timestamp_ns, record FROM sessions WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"
_OLDEST_PAGE = "SELECT sequence, timestamp_ns, record FROM sessions WHERE sequence > ? ORDER BY sequence LIMIT ?"


@dataclass(frozen=True, slots=True)
class Commitment:
    """What one session adds to the store: lines per log backend, and changes of the totals."""

    lines: Mapping[str, tuple[bytes, int]]
    changes: Iterable[Change]


@dataclass(frozen=True, slots=True)
class CommitContext:
    """What the session's points depend on and only the transaction knows."""

    timestamp_ns: int
    sessions_last_hour: int
    admit: Callable[[Label, str], str]


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it was committed. ``timestamp_ns`` is its points' time, unique in the store."""

    sequence: int
    timestamp_ns: int
    record: SessionRecord


class Store:
    """The archive and the totals. Every method raises :class:`StoreError` when the file fails."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def commit(self, record: SessionRecord, build: Callable[[CommitContext], Commitment]) -> int:
        """Keep a session, its undelivered lines and the new totals in one transaction.

        Returns the timestamp (UTC nanoseconds) that its points carry: the session's end, moved on
        by nanoseconds where another session of this store has that very instant. A session that is
        already there is left as it is.
        """
        with self.database.transaction() as connection:
            known = connection.execute(
                "SELECT timestamp_ns FROM sessions WHERE session_id = ?", (record.session_id,)
            ).fetchone()
            if known:
                return int(known[0])
            timestamp_ns = _next_timestamp(connection, record.ended_ns)
            context = CommitContext(
                timestamp_ns,
                1 + _ended_since(connection, record.ended_ns - _HOUR_NS, record.ended_ns),
                _admitter(connection),
            )
            commitment = build(context)
            connection.execute(
                "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, record) VALUES (?, ?, ?, ?, ?)",
                (record.session_id, record.status, timestamp_ns, record.ended_ns, record.to_json()),
            )
            _enqueue(connection, record.session_id, timestamp_ns, commitment.lines)
            apply_changes(connection, commitment.changes)
            bump_revision(connection)
        return timestamp_ns

    def initialise(self, zeros: Iterable[Change]) -> None:
        """Make series exist at 0 that are not there yet; writes nothing when all are."""
        with self.database.reading() as connection:
            known = {tuple(row) for row in connection.execute("SELECT metric, labels, part FROM totals")}
        missing = [change for change in zeros if (change.metric, _labels_key(change.labels), change.part) not in known]
        if missing:
            with self.database.transaction() as connection:
                apply_changes(connection, missing)
                bump_revision(connection)

    def sessions(self, limit: int | None = None, newest_first: bool = True) -> Iterator[StoredSession]:
        """The stored sessions, in the order of their commit or the other way round."""
        page = _NEWEST_PAGE if newest_first else _OLDEST_PAGE
        last = _LARGEST if newest_first else 0
        left = _LARGEST if limit is None else limit
        while left > 0:
            with self.database.reading() as connection:
                rows = connection.execute(page, (last, min(left, _PAGE))).fetchall()
            if not rows:
                return
            for sequence, timestamp_ns, record in rows:
                yield StoredSession(sequence, timestamp_ns, SessionRecord.from_json(record))
            last, left = rows[-1][0], left - len(rows)

    def counts_by_status(self) -> dict[str, int]:
        """All sessions ever committed, by status."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT labels, value FROM totals WHERE metric = 'leglength_sessions_total'")
            found = {json.loads(labels)["status"]: int(value) for labels, value in rows}
        return {status: found.get(status, 0) for status in STATUSES}

    def state(self, key: str, default: Callable[[], Any] | None = None) -> Any:
        """A value of the store's own; ``default`` makes it on first use, the same for every process."""
        with self.database.reading() as connection:
            found = _state(connection, key)
        if found is not None or default is None:
            return found
        with self.database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO state VALUES (?, ?)", (key, default()))
            return _state(connection, key)


@contextmanager
def open_store(database: Database) -> Iterator[Store]:
    """A store that is closed again."""
    try:
        yield Store(database)
    finally:
        database.close()


def apply_changes(connection: sqlite3.Connection, changes: Iterable[Change]) -> None:
    """Add to counters and histograms, replace gauges."""
    connection.executemany(
        "INSERT INTO totals VALUES (?1, ?2, ?3, ?4) ON CONFLICT (metric, labels, part)"
        " DO UPDATE SET value = iif(?5, excluded.value, value + excluded.value)",
        [(item.metric, _labels_key(item.labels), item.part, item.value, item.replaces) for item in changes],
    )


def bump_revision(connection: sqlite3.Connection) -> None:
    """Mark the Prometheus state as changed, so that it is pushed again."""
    connection.execute("UPDATE state SET value = value + 1 WHERE key = 'revision'")


def count_loss(connection: sqlite3.Connection, reason: str, count: int) -> None:
    """Every loss is counted, by reason."""
    connection.execute(
        "INSERT INTO losses VALUES (?, ?) ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count",
        (reason, count),
    )


def _state(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def _labels_key(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def _next_timestamp(connection: sqlite3.Connection, ended_ns: int) -> int:
    # Two sessions must never share (series, timestamp). Going on from the largest would let one clock
    # that was once ahead push every later session into the future; so step past neighbours only.
    timestamp_ns = ended_ns
    while connection.execute("SELECT 1 FROM sessions WHERE timestamp_ns = ?", (timestamp_ns,)).fetchone():
        timestamp_ns += 1
    return timestamp_ns


def _ended_since(connection: sqlite3.Connection, since_ns: int, until_ns: int) -> int:
    # Bounded, so that a session's cost doesn't grow with the store.
    row = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM sessions WHERE ended_ns > ? AND ended_ns <= ? LIMIT 10000)",
        (since_ns, until_ns),
    )
    return int(row.fetchone()[0])


def _enqueue(
    connection: sqlite3.Connection, session_id: str, created_ns: int, lines: Mapping[str, tuple[bytes, int]]
) -> None:
    for backend, (encoded, count) in lines.items():
        connection.execute("INSERT OR IGNORE INTO backends (name) VALUES (?)", (backend,))
        connection.execute(
            "INSERT INTO outbox (backend, session_id, created_ns, line_count, lines) VALUES (?, ?, ?, ?, ?)",
            (backend, session_id, created_ns, count, encoded),
        )
        connection.execute("UPDATE backends SET pending = pending + ? WHERE name = ?", (count, backend))


def _admitter(connection: sqlite3.Connection) -> Callable[[Label, str], str]:
    def admit(label: Label, value: str) -> str:
        """``value`` when the label may hold it, ``other`` once the label is full or closed to it."""
        if value in label.values or value == OTHER:
            return value
        if label.closed:
            return OTHER
        known = {row[0] for row in connection.execute("SELECT value FROM vocabulary WHERE label = ?", (label.name,))}
        if value in known:
            return value
        if len(known) >= label.limit:
            return OTHER
        connection.execute("INSERT INTO vocabulary VALUES (?, ?)", (label.name, value))
        return value

    return admit
