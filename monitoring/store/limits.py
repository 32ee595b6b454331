"""Keeps the store within its limits of size and age; what is lost by it is counted.

Delivered sessions leave first, then dead letters, then what still waits, the oldest first. Work is done
in small pieces, so that no session pays for a long clean-up.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from monitoring.exceptions import StoreError
from monitoring.settings import StoreConfig
from monitoring.store import clock, readings, totals, vocabulary
from monitoring.store.database import Database
from monitoring.store.outbox import delete_lines, delete_oldest_lines, pushed_by_all

# Sessions removed at a time: what one commit waits for at most.
_PIECE = 200
# Among so many what is delivered is looked for, so that evicting costs the same however much waits.
_OLDEST = 5000
_PAGES_OF_A_SESSION = 16  # one with three models' predictions takes 3, and may split one in each table and index
_MEGABYTE = 1_000_000

_NEVER = 2**62

BALLAST_BYTES = 1 << 20
"""Space that is held back for the sessions that are open when the volume fills up."""


class Limits(Struct, frozen=True):
    """Bytes, nanoseconds and free bytes that the store is held to."""

    max_bytes: int
    retention_ns: int
    min_free_bytes: int

    @classmethod
    def of(cls, config: StoreConfig) -> Limits:
        """From the settings."""
        return cls(
            config.max_size_mb * _MEGABYTE,
            round(config.retention_days * clock.DAY_NS),
            config.min_free_mb * _MEGABYTE,
        )


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes that the store's content takes, without pages that are free for reuse."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def make_room(database: Database, limits: Limits) -> None:
    """On a nearly full volume, delete what is delivered until a session fits into pages that the file already has.

    Nearly full is less free space than the settings want to leave, or than a tenth of a small volume. What isn't
    delivered is never given up for space that others may want: a session that ended is kept as long as the volume
    takes it at all. Raises :class:`StoreError`.
    """
    if database.path is None:
        return
    try:
        free, total = _free_and_total_bytes(database.path.parent)
    except OSError as error:
        raise StoreError(f"can't use the store {database.path}: {error.strerror}") from error
    # A tenth, since a small volume would always have less free than the settings want.
    if free >= min(limits.min_free_bytes, total // 10):
        return
    with database.read_transaction() as connection:
        if int(connection.execute("PRAGMA freelist_count").fetchone()[0]) >= _PAGES_OF_A_SESSION:
            return
    with database.transaction(durable=False) as connection:
        # Not durable: what a power cut brings back is evicted again.
        _evict_delivered(connection)


def _free_and_total_bytes(folder: Path) -> tuple[int, int]:
    """Of the folder's volume; as shutil.disk_usage, which would load two compressors at each start."""
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize


def enforce(database: Database, limits: Limits, pieces: int = 1, look: clock.Look = clock.look) -> bool:
    """Remove what is too old, and what is too much; True when the limits are kept. Raises :class:`StoreError`."""
    for _ in range(pieces):
        sight = look()
        with database.read_transaction() as connection:
            is_over = used_bytes(connection) > limits.max_bytes
            now = clock.read(connection, sight)
            is_old = clock.is_late(connection, now) or _has_old(connection, now, limits.retention_ns)
        if not is_over and not is_old:
            return True
        with database.transaction(durable=False) as connection:
            if is_old:
                _expire(connection, clock.advance(connection, sight), limits.retention_ns, sight.wall_ns)
            if is_over:
                _evict(connection, sight.wall_ns)
            # SQLite gives back a page for each row that is fetched.
            connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
    return False


def hold_ballast(store: Path) -> None:
    """Take the ballast's space beside the store, unless it is held or there is not much more than that.

    A volume that takes a session's trace when it begins can so be made to take its record when it ends, whatever
    was written there in between.
    """
    ballast = store.with_name(f"{store.name}.ballast")
    with suppress(OSError):
        if ballast.exists() or _free_and_total_bytes(store.parent)[0] < 2 * BALLAST_BYTES:
            return
        descriptor = os.open(ballast, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        finally:
            os.close(descriptor)


def drop_ballast(store: Path) -> bool:
    """Give the ballast's space back; False where the volume isn't full, or none is held."""
    try:
        if _free_and_total_bytes(store.parent)[0] >= BALLAST_BYTES:
            return False
        store.with_name(f"{store.name}.ballast").unlink()
    except OSError:
        return False
    return True


def _evict(connection: sqlite3.Connection, now_ns: int) -> None:
    """Remove one piece: of what is delivered, else of the dead letters, else of what waits."""
    # Each dead letter was counted as a loss when the backend refused it.
    dead = "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT ?)"
    if _evict_delivered(connection) or connection.execute(dead, (_PIECE,)).rowcount:
        return
    rows = connection.execute(
        "SELECT sequence, session_id, routed FROM sessions ORDER BY sequence LIMIT ?", (_PIECE,)
    ).fetchall()
    if rows:
        # Lost is each line, and a session that no backend has seen. The totals stay: a state backend loses nothing.
        is_seen = pushed_by_all(connection) is not None
        lost = sum(delete_lines(connection, name) or int(not routed and not is_seen) for _, name, routed in rows)
        _delete_sessions(connection, [row[0] for row in rows])
    else:  # lines that were sent once more, of sessions that had left before
        lost = delete_oldest_lines(connection, _PIECE)
    totals.count_loss(connection, "evicted", lost, now_ns)
    totals.bump_revision(connection)


def _evict_delivered(connection: sqlite3.Connection) -> int:
    pushed = pushed_by_all(connection)
    # Delivery goes by age, so that what is delivered lies among the oldest: no need to look at each that waits.
    # Without any backend, what was not made into lines still waits for a relay.
    rows = connection.execute(
        "SELECT sequence FROM"
        " (SELECT sequence, session_id, routed FROM sessions WHERE sequence <= ? ORDER BY sequence LIMIT ?)"
        " AS oldest WHERE (routed != '' OR ?)"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.session_id = oldest.session_id) LIMIT ?",
        (_NEVER if pushed is None else pushed, _OLDEST, pushed is not None, _PIECE),
    ).fetchall()
    return _delete_sessions(connection, [row[0] for row in rows])


def _has_old(connection: sqlite3.Connection, now: clock.StoreTime, retention_ns: int) -> bool:
    ageless = connection.execute("SELECT 1 FROM sessions WHERE kept_ns IS NULL LIMIT 1").fetchone()
    return bool(
        ageless
        or _old_sessions(connection, now, retention_ns, 1)
        or vocabulary.has_forgotten(connection, now.now_ns - retention_ns)
    )


def _old_sessions(
    connection: sqlite3.Connection, now: clock.StoreTime, retention_ns: int, most: int
) -> list[tuple[int, str]]:
    """Sessions past the retention by the store's clock: delivered ones, and after a pause others a little later."""
    pushed = pushed_by_all(connection)
    # By the time when the store took it: its own clock may have been wrong, and what is imported begins anew.
    return connection.execute(
        "SELECT sequence, session_id FROM"
        " (SELECT sequence, session_id, kept_ns, routed FROM sessions WHERE kept_ns < :old ORDER BY kept_ns LIMIT"
        " :many) AS old WHERE kept_ns < :older OR (sequence <= :pushed AND (routed != '' OR :is_pushed)"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.session_id = old.session_id)) LIMIT :most",
        {
            "old": now.now_ns - retention_ns, "older": now.patient_ns - retention_ns, "many": _OLDEST, "most": most,
            "pushed": _NEVER if pushed is None else pushed, "is_pushed": pushed is not None,
        },
    ).fetchall()  # fmt: skip


def _expire(connection: sqlite3.Connection, now: clock.StoreTime, retention_ns: int, wall_ns: int) -> None:
    # What an older version's process has committed into a store of this one's has no age yet.
    connection.execute("UPDATE sessions SET kept_ns = ? WHERE kept_ns IS NULL", (now.now_ns,))
    rows = _old_sessions(connection, now, retention_ns, _PIECE)
    lost = sum(delete_lines(connection, session_id) for _, session_id in rows)
    totals.count_loss(connection, "expired", lost, wall_ns)
    _delete_sessions(connection, [row[0] for row in rows])
    before_ns = now.now_ns - retention_ns
    connection.execute(
        "DELETE FROM dead_letters WHERE created_ns < ? AND created_ns >= ?", (before_ns, clock.EARLIEST_NS)
    )
    readings.forget_before(connection, before_ns)
    vocabulary.forget(connection, before_ns, now.now_ns)


def _delete_sessions(connection: sqlite3.Connection, sequences: list[int]) -> int:
    connection.executemany("DELETE FROM sessions WHERE sequence = ?", [(sequence,) for sequence in sequences])
    return len(sequences)
