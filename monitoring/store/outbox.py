"""What waits for each backend, how far each has come, and what it refused for good.

A log backend's lines wait as rows of their own; for a state backend only the newest session that it was told of is
remembered, since the totals hold the rest. Leases, batches and what becomes of them are the delivery's
(:mod:`monitoring.delivery.queue`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from monitoring.metrics import catalogue
from monitoring.metrics.backends import STATES
from monitoring.store import totals
from monitoring.store.rows import checksum, is_intact


class DeadLetter(Struct, frozen=True):
    """A line that a backend refused for good, why, and when (UTC nanoseconds)."""

    backend: str
    line: str
    reason: str
    created_ns: int


class BackendStatus(Struct, frozen=True):
    """One backend as the store knows it; instants are UTC nanoseconds."""

    name: str
    pending: int
    """Lines that wait for a log backend; sessions that a state backend was not told of."""
    dead: int
    delivered: int
    oldest_ns: int | None
    last_success_ns: int | None
    last_error: str | None
    next_attempt_ns: int
    consecutive_failures: int


class Progress(NamedTuple):
    """How far a backend has come; what is damaged of it is as if it had never been."""

    pushed_sequence: int = 0
    last_success_ns: int | None = None


def register_backend(connection: sqlite3.Connection, name: str) -> None:
    """Make a backend known to the store, if it isn't."""
    connection.execute(
        "INSERT OR IGNORE INTO backends (name, checksum) VALUES (?, ?)", (name, checksum(name, *Progress()))
    )


def enqueue(
    connection: sqlite3.Connection, backend: str, session_id: str, created_ns: int, encoded: bytes, count: int
) -> None:
    """Let lines wait for a log backend."""
    register_backend(connection, backend)
    connection.execute(
        "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines) VALUES (?, ?, ?, ?, ?, ?)",
        (backend, session_id, created_ns, count, checksum(backend, session_id, created_ns, count, encoded), encoded),
    )


def delete_lines(connection: sqlite3.Connection, session_id: str) -> int:
    """Delete a session's lines; returns how many waited."""
    rows = "DELETE FROM outbox WHERE session_id = ? RETURNING CAST(line_count AS INTEGER)"
    return sum(count for (count,) in connection.execute(rows, (session_id,)).fetchall())


def dead_letters(connection: sqlite3.Connection) -> Iterator[DeadLetter]:
    """All dead letters, the oldest first; damaged ones are left out."""
    for row in connection.execute("SELECT backend, line, reason, created_ns, checksum FROM dead_letters ORDER BY id"):
        if is_intact(row):
            yield DeadLetter(*row[:-1])


def progress_of_all(connection: sqlite3.Connection) -> dict[str, Progress]:
    """Every backend's progress, by name; damaged ones are left out."""
    rows = connection.execute("SELECT name, pushed_sequence, last_success_ns, checksum FROM backends")
    return {row[0]: Progress(*row[1:3]) for row in rows if is_intact(row)}


def set_progress(connection: sqlite3.Connection, name: str, progress: Progress) -> None:
    """Remember how far a backend has come."""
    connection.execute(
        "UPDATE backends SET pushed_sequence = ?, last_success_ns = ?, checksum = ? WHERE name = ?",
        (*progress, checksum(name, *progress), name),
    )


def pushed_by_all(connection: sqlite3.Connection) -> int | None:
    """The newest session that every state backend of the store has; None when it has no state backend."""
    progress = progress_of_all(connection)
    names = [name for (name,) in connection.execute("SELECT name FROM backends") if name in STATES]
    return min((progress.get(name, Progress()).pushed_sequence for name in names), default=None)


def newest_sequence(connection: sqlite3.Connection) -> int:
    """The newest session's number, also when it has been evicted: a number is never used again."""
    row = connection.execute("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'sessions'").fetchone()
    return int(row[0]) if row else 0


def backend_statuses(connection: sqlite3.Connection) -> list[BackendStatus]:
    """All backends that the store knows, by name."""
    rows = connection.execute(
        "SELECT name, last_error, CAST(next_attempt_ns AS INTEGER), CAST(consecutive_failures AS INTEGER)"
        " FROM backends ORDER BY name"
    ).fetchall()
    delivered = totals.values(connection, catalogue.MONITORING_DELIVERED)
    progress = progress_of_all(connection)
    found = []
    for name, *failing in rows:
        pushed_sequence, last_success_ns = progress.get(name, Progress())
        pending, oldest_ns = _pending(connection, name, pushed_sequence)
        dead = connection.execute("SELECT count(*) FROM dead_letters WHERE backend = ?", (name,)).fetchone()[0]
        told = int(delivered.get((name,), 0))
        found.append(BackendStatus(name, pending, dead, told, oldest_ns, last_success_ns, *failing))
    return found


def _pending(connection: sqlite3.Connection, name: str, pushed_sequence: int) -> tuple[int, int | None]:
    """How much waits for a backend, and since when (UTC nanoseconds)."""
    # CAST here and above: these columns have no checksum, and a status must come of a damaged one, too.
    if name in STATES:
        pending = max(0, newest_sequence(connection) - pushed_sequence)
        oldest = connection.execute(
            "SELECT CAST(timestamp_ns AS INTEGER) FROM sessions WHERE sequence > ? ORDER BY sequence LIMIT 1",
            (pushed_sequence,),
        ).fetchone()
    else:
        pending = connection.execute(
            "SELECT coalesce(sum(CAST(line_count AS INTEGER)), 0) FROM outbox WHERE backend = ?", (name,)
        ).fetchone()[0]
        oldest = connection.execute(
            "SELECT CAST(created_ns AS INTEGER) FROM outbox WHERE backend = ? ORDER BY id LIMIT 1", (name,)
        ).fetchone()
    return pending, oldest[0] if oldest else None
