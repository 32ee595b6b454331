"""How far each backend has come, and what waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from monitoring.metrics import catalogue
from monitoring.store import totals
from monitoring.store.database import checksum

STATE_BACKENDS = ("prometheus", "textfile")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A line that a backend refused for good, why, and when (UTC nanoseconds)."""

    backend: str
    line: str
    reason: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend as the store knows it; instants are UTC nanoseconds."""

    name: str
    pending: int
    dead: int
    delivered: int
    oldest_ns: int | None
    last_success_ns: int | None
    last_error: str | None
    next_attempt_ns: int
    consecutive_failures: int


def dead_letters(connection: sqlite3.Connection) -> Iterator[DeadLetter]:
    """All dead letters, the oldest first; damaged ones are left out."""
    for row in connection.execute("SELECT backend, line, reason, created_ns, checksum FROM dead_letters ORDER BY id"):
        if _is_intact(*row):
            yield DeadLetter(*row[:-1])


def _is_intact(backend: str, line: str, reason: str, created_ns: int, expected: int) -> bool:
    return checksum(backend, line, reason, created_ns) == expected


def backend_statuses(connection: sqlite3.Connection) -> list[BackendStatus]:
    """All backends that the store knows. State backends count sessions, log backends count lines."""
    rows = connection.execute(
        "SELECT name, last_error, CAST(next_attempt_ns AS INTEGER), CAST(consecutive_failures AS INTEGER)"
        " FROM backends ORDER BY name"
    ).fetchall()
    delivered = totals.values(connection, catalogue.MONITORING_DELIVERED)
    progress = _progress(connection)
    found = []
    for name, last_error, next_attempt_ns, failures in rows:
        pushed_sequence, last_success_ns = progress.get(name, _Progress(0, None))
        pending, oldest_ns = _pending(connection, name, pushed_sequence)
        dead = connection.execute("SELECT count(*) FROM dead_letters WHERE backend = ?", (name,)).fetchone()[0]
        found.append(
            BackendStatus(
                name, pending, dead, int(delivered.get((name,), 0)), oldest_ns, last_success_ns, last_error,
                next_attempt_ns, failures,
            )
        )  # fmt: skip
    return found


class _Progress(NamedTuple):
    """How far a backend has come; what is damaged of it is as if it had never been."""

    pushed_sequence: int
    last_success_ns: int | None


def _progress(connection: sqlite3.Connection) -> dict[str, _Progress]:
    rows = connection.execute("SELECT name, pushed_sequence, last_success_ns, checksum FROM backends")
    return {
        name: _Progress(pushed_sequence, last_success_ns)
        for name, pushed_sequence, last_success_ns, expected in rows
        if checksum(name, pushed_sequence, last_success_ns) == expected
    }


def _keep_progress(connection: sqlite3.Connection, name: str, progress: _Progress) -> None:
    connection.execute(
        "UPDATE backends SET pushed_sequence = ?, last_success_ns = ?, checksum = ? WHERE name = ?",
        (*progress, checksum(name, *progress), name),
    )


def pushed_by_all(connection: sqlite3.Connection) -> int | None:
    """The newest session that every state backend of the store has; None when it has no state backend."""
    names = [name for (name,) in connection.execute("SELECT name FROM backends") if name in STATE_BACKENDS]
    progress = _progress(connection)
    return min((progress.get(name, _Progress(0, None)).pushed_sequence for name in names), default=None)


def _pending(connection: sqlite3.Connection, name: str, pushed_sequence: int) -> tuple[int, int | None]:
    """How much waits for a backend, and since when (UTC nanoseconds)."""
    if name in STATE_BACKENDS:
        pending = max(0, _newest(connection) - pushed_sequence)
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


def _newest(connection: sqlite3.Connection) -> int:
    # Also right when the newest sessions have been evicted: a sequence is never used again.
    row = connection.execute("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'sessions'").fetchone()
    return int(row[0]) if row else 0
