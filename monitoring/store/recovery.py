"""A damaged store is put aside, whole, and a new one is begun: the host goes on and nothing is destroyed.

What counts as damage is told by :mod:`monitoring.store.database` (SQLite's errors) and :mod:`monitoring.store.rows`
(checksums): a single row that doesn't hold its checksum is left out or counted anew, and puts no store aside.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.store import locks, totals
from monitoring.store.database import PATIENCE_SECONDS, Database, Identity, identity

_JOURNALS = ("", "-wal", "-shm", "-journal")


def open_or_recover(path: Path, patience_seconds: float = PATIENCE_SECONDS) -> tuple[Database, Path | None]:
    """The store in ``path``, and where a damaged one was put aside, if there was one.

    Raises :class:`StoreError` when the file can't be used for another reason; it is then left as it is.
    """
    found = identity(path)
    try:
        return _checked(path, patience_seconds), None
    except StoreCorruptError:
        return quarantine(path, found, patience_seconds)


def quarantine(
    path: Path, damaged: Identity | None, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[Database, Path | None]:
    """Put the damaged store aside and begin a new one; of several processes the first one does it."""
    aside = None
    with locks.opening(path, patience_seconds, exclusive=True):
        if identity(path) == damaged:  # else another process was first
            aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
            try:
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


def _checked(path: Path, patience_seconds: float) -> Database:
    """Open the store; raises :class:`StoreCorruptError` when its structure is visibly damaged."""
    database = Database(path, patience_seconds)
    try:
        with database.read_transaction() as connection:
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
