"""A damaged store is put aside, whole, and a new one is begun: the host goes on and nothing is destroyed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.outbox import totals
from monitoring.outbox.database import Database

_JOURNALS = ("", "-wal", "-shm", "-journal")


def open_or_recover(path: Path) -> tuple[Database, Path | None]:
    """The store in ``path``, and where a damaged one was put aside, if there was one.

    Raises :class:`StoreError` when the file can't be used for another reason; it is then left as it is.
    """
    try:
        return _checked(path), None
    except StoreCorruptError:
        return quarantine(path)


def quarantine(path: Path) -> tuple[Database, Path | None]:
    """Put a damaged store aside and begin a new one; of several processes the first one does it."""
    with _alone(path):
        with suppress(StoreCorruptError):
            return _checked(path), None  # another process was first
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        for suffix in _JOURNALS:
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        database = Database(path)
        with database.transaction() as connection:
            totals.count_loss(connection, "corrupt", 1, time.time_ns())
        return database, aside


def _checked(path: Path) -> Database:
    """Open the store; raises :class:`StoreCorruptError` when its structure is visibly damaged."""
    database = Database(path)
    try:
        with database.reading() as connection:
            # Each table's and index' root is read: cheap, and a truncated file shows.
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                connection.execute(f'SELECT * FROM "{name}" LIMIT 1').fetchall()  # noqa: S608 - a table's own name
            damaged = connection.execute(
                "SELECT 1 FROM totals WHERE checksum != checksum(metric, labels, part, value, time_ns) LIMIT 1"
            ).fetchone()
        if damaged:
            _repair_totals(database)
    except BaseException:
        database.close()
        raise
    return database


def _repair_totals(database: Database) -> None:
    with database.transaction() as connection:
        totals.count_loss(connection, "corrupt", totals.drop_damaged(connection), time.time_ns())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; raises :class:`StoreError` where the folder can't be written."""
    try:
        descriptor = os.open(path.with_name(f"{path.name}.recovery"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(f"can't recover the store {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
