"""A damaged store is put aside, whole, and a new one is begun: the host goes on and nothing is destroyed.

What counts as damage is told by :mod:`monitoring.store.database` (SQLite's errors) and :mod:`monitoring.store.rows`
(checksums): a single row that doesn't hold its checksum is left out or counted anew, and puts no store aside.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from monitoring.exceptions import StoreCorruptError, StoreError, StoreReadError
from monitoring.store import locks, totals
from monitoring.store.database import PATIENCE_SECONDS, Database, Identity, identity

_PROBE_BYTES = 1 << 16  # several sessions' records
_JOURNALS = ("", "-wal", "-shm", "-journal")
_MOMENTS_SECONDS = (0.1, 0.2)


def open_or_recover(path: Path, patience_seconds: float = PATIENCE_SECONDS) -> tuple[Database, Path | None]:
    """The store in ``path``, and where a damaged one was put aside, if there was one.

    Raises :class:`StoreError` when the file can't be used for another reason; it is then left as it is.
    """
    try:
        return _checked(path, patience_seconds), None
    except (StoreCorruptError, StoreReadError):
        return look_again(path, patience_seconds)


def look_again(path: Path, patience_seconds: float = PATIENCE_SECONDS) -> tuple[Database, Path | None]:
    """The store that could not be read a moment ago, or was found damaged, as :func:`open_or_recover` gives it.

    SQLite takes one read that fails (EIO) for damage. So nothing is put aside before the file was closed, opened
    again and read to its end, twice: what is whole then is used as it is.
    """
    for moment_seconds in _MOMENTS_SECONDS:
        time.sleep(moment_seconds)
        found = identity(path)
        try:
            return _checked(path, patience_seconds, is_in_doubt=True), None
        except (StoreCorruptError, StoreReadError) as error:
            seen = error
    if isinstance(seen, StoreReadError):
        raise seen
    return quarantine(path, found, patience_seconds)


def quarantine(
    path: Path, damaged: Identity | None, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[Database, Path | None]:
    """Put the damaged store aside and begin a new one; of several processes the first one does it."""
    aside = None
    # Nobody opens the store meanwhile: he would go on in a file that has lost its name.
    with locks.opening(path, patience_seconds, exclusive=True):
        if identity(path) == damaged:  # else another process was first
            aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
            try:
                # Its journals with it: left behind, SQLite would take them for the new store's.
                for suffix in _JOURNALS:
                    with suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
            except OSError as error:
                raise StoreError(f"can't put the damaged store {path} aside: {error.strerror}") from error
    database = _checked(path, patience_seconds)
    if aside is not None:
        with database.transaction() as connection:
            totals.count_loss(connection, "corrupt", 1, time.time_ns())
    return database, aside


def examine(path: Path) -> bool:
    """Read the whole store and write to it, without a trace; False for an older version's, which is only read.

    Raises :class:`StoreError`. Takes seconds for hundreds of megabytes.
    """
    with closing(Database(path, only_reads=True)) as database, database.read_transaction() as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreCorruptError(f"the store {path} is damaged: {found.strip().splitlines()[-1]}")
    if database.was_older:
        return False
    with closing(Database(path)) as database:
        row = ("probe", os.urandom(_PROBE_BYTES), None)
        with database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", row)
        with database.transaction() as connection:
            connection.execute("DELETE FROM state WHERE key = ?", row[:1])
    return True


class PutAside(Struct, frozen=True):
    """What can be read in a store that was put aside."""

    sessions: int
    known: int
    """Those of the sessions that the store has, too."""
    waiting_points: int


def put_aside(path: Path) -> list[Path]:
    """The damaged stores that lie beside ``path``, the oldest first."""
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(one for one in found if not one.name.endswith(_JOURNALS[1:]))


def count_put_aside(aside: Path, in_store: Collection[str] = ()) -> PutAside | None:
    """Count what can be read, beside the sessions ``in_store``; None when it is no database any more."""
    try:
        connection = sqlite3.connect(f"{aside.resolve().as_uri()}?mode=ro", uri=True)
    except (sqlite3.Error, OSError):
        return None
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        sessions = list(_readable(connection, "SELECT session_id, length(record) FROM sessions"))
        points = sum(count for (count,) in _readable(connection, "SELECT line_count FROM outbox") if type(count) is int)
        return PutAside(len(sessions), sum(row[0] in in_store for row in sessions), points)
    except sqlite3.Error:
        return None
    finally:
        connection.close()


def _readable(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the place where the file is damaged."""
    with suppress(sqlite3.Error):
        yield from connection.execute(query)


def _checked(path: Path, patience_seconds: float, is_in_doubt: bool = False) -> Database:
    """Open the store; raises :class:`StoreCorruptError` when its structure is visibly damaged, or damaged at all."""
    database = Database(path, patience_seconds)
    try:
        with database.read_transaction() as connection:
            if is_in_doubt:  # every page is read: a third of a second for 100 MB
                (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                if found != "ok":
                    raise StoreCorruptError(f"the store {path} is damaged")
            # Each table's and index' root is read: cheap, and a truncated file shows.
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                connection.execute(f'SELECT * FROM "{name}" LIMIT 1').fetchall()  # noqa: S608 - a table's own name
            damaged = totals.damaged(connection)
        if damaged:
            with database.transaction() as connection:
                totals.drop(connection, damaged)
                totals.count_loss(connection, "corrupt", len(damaged), time.time_ns())
                totals.bump_revision(connection)
    except BaseException:
        database.close()
        raise
    return database
