"""One SQLite file (or memory): how it is opened, written in transactions, and shared between threads."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.exceptions import StoreError
from monitoring.outbox import schema

MEMORY = ":memory:"


class Database:
    """A connection with a lock: one per thread that must not wait for another, shared when in memory."""

    def __init__(self, path: Path | None, busy_seconds: float = 5.0) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._lock = threading.RLock()
        self._connection = self._open()
        self._pid = os.getpid()

    def _open(self) -> sqlite3.Connection:
        try:
            if self.path is not None:
                _make_private(self.path)
            connection = sqlite3.connect(
                str(self.path or MEMORY), timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"can't open the store {self.path}: {_reason(error)}") from error
        try:
            _configure(connection)
            schema.migrate(connection)
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(f"can't use the store {self.path}: {_reason(error)}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def sibling(self) -> Database:
        """A connection of its own to the same file; in memory, this one."""
        return self if self.path is None else Database(self.path, self._busy_seconds)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when it returns; raises :class:`StoreError`."""
        with self._lock:
            connection = self._mine()
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise StoreError(f"can't write the store: {_reason(error)}") from error
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"can't write the store: {_reason(error)}") from error
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the store; raises :class:`StoreError`."""
        with self._lock:
            connection = self._mine()
            try:
                connection.execute("BEGIN")
                yield connection
            except sqlite3.Error as error:
                raise StoreError(f"can't read the store: {_reason(error)}") from error
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection; the file stays."""
        with self._lock:
            if self._pid == os.getpid():
                self._connection.close()

    def _mine(self) -> sqlite3.Connection:
        # A connection must not cross a fork: the child opens its own and leaves the parent's alone.
        if self._pid != os.getpid() and self.path is not None:
            self._connection = self._open()
            self._pid = os.getpid()
        return self._connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _make_private(path: Path) -> None:
    """Create the file readable by its owner alone; SQLite gives its journals the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _reason(error: Exception) -> str:
    """What happened, without a path: SQLite's and the system's own words."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
