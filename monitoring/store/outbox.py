"""What waits for each backend, how far each has come, and what it refused for good.

A log backend's lines wait as rows of their own; for a state backend only the newest session that it was told of is
remembered, since the totals hold the rest. Leases, batches and what becomes of them are the delivery's
(:mod:`monitoring.delivery.queue`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from monitoring.metrics import catalogue
from monitoring.metrics.backends import STATES
from monitoring.store import totals
from monitoring.store.rows import checksum, is_intact

LETTER_COLUMNS = "backend, line, reason, created_ns, checksum"
_CAUSE = ": "  # between a dead letter's reason and its cause, which are one value with one checksum


class DeadLetter(Struct, frozen=True):
    """A line that a backend refused for good, why, and when (UTC nanoseconds).

    ``reason`` is the one that it is counted under, ``cause`` the class of what the server said, "" where it is unknown.
    """

    backend: str
    line: str
    reason: str
    created_ns: int
    cause: str = ""


class BackendStatus(Struct, frozen=True):
    """One backend as the store knows it; instants are UTC nanoseconds."""

    name: str
    pending: int
    """Lines that wait for a log backend; sessions that a state backend was not told of."""
    dead: int
    dead_causes: Mapping[str, int]
    """The same by what the server said: the class of it, or the reason where it is none that is known."""
    delivered: int
    oldest_ns: int | None
    last_success_ns: int | None
    last_error: str | None
    next_attempt_ns: int
    consecutive_failures: int
    has_news: bool
    """Whether the totals are others than a state backend was last told, also where no session waits."""


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
    connection: sqlite3.Connection,
    backend: str,
    session_id: str,
    created_ns: int,
    encoded: bytes,
    count: int,
    counted_lost: str = "",
) -> None:
    """Let lines wait for a log backend; ``counted_lost`` is the reason that they were counted as lost for, before."""
    register_backend(connection, backend)
    # Not over ``counted_lost``, which an older version's rows don't have, and which only counting reads.
    expected = checksum(backend, session_id, created_ns, count, encoded)
    connection.execute(
        "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines, counted_lost)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (backend, session_id, created_ns, count, expected, encoded, counted_lost),
    )


def delete_lines(connection: sqlite3.Connection, session_id: str) -> int:
    """Delete a session's lines; returns how many waited."""
    rows = "DELETE FROM outbox WHERE session_id = ? RETURNING CAST(line_count AS INTEGER), counted_lost"
    return forget_lines(connection, connection.execute(rows, (session_id,)).fetchall())


def delete_oldest_lines(connection: sqlite3.Connection, rows: int) -> int:
    """Delete the oldest rows of lines, whosever they are; returns how many lines waited in them."""
    oldest = (
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)"
        " RETURNING CAST(line_count AS INTEGER), counted_lost"
    )
    return forget_lines(connection, connection.execute(oldest, (rows,)).fetchall())


def forget_lines(connection: sqlite3.Connection, rows: list[tuple[int, str]]) -> int:
    """Count no more as refused what is counted otherwise from now on; returns how many lines the rows have."""
    for count, counted_lost in rows:
        count_recovered(connection, counted_lost, count)
    return sum(count for count, _ in rows)


def count_recovered(connection: sqlite3.Connection, counted_lost: str, amount: int) -> None:
    """Count requeued lines that are not lost after all; "" is the reason of those that never were."""
    if counted_lost in catalogue.LOSS.values:
        totals.count(connection, catalogue.MONITORING_RECOVERED, amount, time.time_ns(), reason=counted_lost)


def bury(connection: sqlite3.Connection, session_id: str, letter: DeadLetter) -> None:
    """Put a line aside that was refused for good."""
    reason = f"{letter.reason}{_CAUSE}{letter.cause}" if letter.cause else letter.reason
    row = (letter.backend, letter.line, reason, letter.created_ns)
    connection.execute(
        "INSERT INTO dead_letters (backend, line, reason, created_ns, checksum, session_id) VALUES (?, ?, ?, ?, ?, ?)",
        (*row, checksum(*row), session_id),
    )


def dead_letter(row: Sequence[Any]) -> DeadLetter | None:
    """A row of :data:`LETTER_COLUMNS`; None when it is damaged."""
    backend, line, reason, created_ns, _ = row
    if not is_intact(row):
        return None
    reason, _, cause = reason.partition(_CAUSE)
    return DeadLetter(backend, line, reason, created_ns, cause)


def dead_letters(connection: sqlite3.Connection) -> Iterator[DeadLetter]:
    """All dead letters, the oldest first; damaged ones are left out."""
    for row in connection.execute(f"SELECT {LETTER_COLUMNS} FROM dead_letters ORDER BY id"):  # noqa: S608 - a constant
        if letter := dead_letter(row):
            yield letter


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
    # One that is damaged counts as never reached, so that nothing is evicted that it may not have.
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
        "SELECT name, last_error, CAST(next_attempt_ns AS INTEGER), CAST(consecutive_failures AS INTEGER),"
        " pushed_revision IS NOT (SELECT coalesce(CAST(value AS INTEGER), 0) FROM state WHERE key = 'revision')"
        " FROM backends ORDER BY name"
    ).fetchall()
    delivered = totals.values(connection, catalogue.MONITORING_DELIVERED)
    progress, causes = progress_of_all(connection), dead_by_cause(connection)
    found = []
    for name, last_error, next_attempt_ns, failures, is_behind in rows:
        pushed_sequence, last_success_ns = progress.get(name, Progress())
        pending, oldest_ns = _pending(connection, name, pushed_sequence)
        refused, told = causes.get(name, {}), int(delivered.get((name,), 0))
        found.append(
            BackendStatus(
                name, pending, sum(refused.values()), refused, told, oldest_ns, last_success_ns, last_error,
                next_attempt_ns, failures, has_news=name in STATES and bool(is_behind),
            )
        )  # fmt: skip
    return found


def dead_by_cause(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """How many lines lie aside, by backend and by what the server said of them."""
    rows = connection.execute("SELECT backend, reason, count(*) FROM dead_letters GROUP BY backend, reason")
    found: dict[str, dict[str, int]] = {}
    for backend, reason, count in rows:
        reason, _, cause = str(reason).partition(_CAUSE)
        of_backend = found.setdefault(str(backend), {})
        of_backend[cause or reason] = of_backend.get(cause or reason, 0) + count
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
