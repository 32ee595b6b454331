"""One SQLite file (or memory): how it is opened, written in transactions, and shared between threads."""

from __future__ import annotations

import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.outbox import schema

# The connections of a parent process: never closed in the child, whose close would drop the parent's journal.
_ABANDONED: list[sqlite3.Connection] = []

_NETWORK_FILESYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """A connection with a lock: one per thread that must not wait for another, shared when in memory."""

    def __init__(self, path: Path | None, busy_seconds: float = 2.0) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._lock = threading.RLock()
        self._durable = True
        self._connection = self._open()
        self._pid = os.getpid()

    def _open(self) -> sqlite3.Connection:
        with _told_apart(f"can't open the store {self.path}"):
            if self.path is not None:
                _make_private(self.path)
            connection = sqlite3.connect(
                str(self.path or ":memory:"), timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with _told_apart(f"can't use the store {self.path}"):
                _configure(connection, self.path)
                schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def sibling(self) -> Database:
        """A connection of its own to the same file; in memory, this one."""
        return self if self.path is None else Database(self.path, self._busy_seconds)

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; ``durable`` ones survive power loss when this returns, others only the process.

        Raises :class:`StoreError`.
        """
        with self._lock, _told_apart("can't write the store"):
            connection = self._mine()
            if durable != self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the store; raises :class:`StoreError`."""
        with self._lock, _told_apart("can't read the store"):
            connection = self._mine()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                with suppress(sqlite3.Error):
                    connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection; the file stays."""
        with self._lock:
            if self._pid == os.getpid():
                self._connection.close()

    def after_fork(self) -> None:
        """In a child process: a lock of its own, since the parent's may be held by a thread that isn't here."""
        self._lock = threading.RLock()

    def _mine(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            _ABANDONED.append(self._connection)
            self._connection = self._open()
            self._durable = True
            self._pid = os.getpid()
        return self._connection


def checksum(*values: object) -> int:
    """CRC-32 over values as they read back from SQLite."""
    return zlib.crc32("\x1f".join(map(_checked_form, values)).encode("utf-8", "surrogatepass"))


def _checked_form(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return repr(float(value)) if isinstance(value, float | int) else str(value)


def is_on_network(path: Path) -> bool:
    """Whether a path lies on a network filesystem, where WAL's shared memory doesn't work."""
    with suppress(OSError, ValueError, IndexError):
        device = f"{os.major(path.parent.stat().st_dev)}:{os.minor(path.parent.stat().st_dev)}"
        for mount in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = mount.partition(" - ")
            if before.split()[2] == device:
                return after.split()[0] in _NETWORK_FILESYSTEMS
    return False


@contextmanager
def _told_apart(what: str) -> Iterator[None]:
    """Turn SQLite's and the system's errors into this package's, by what they mean for the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        kind = StoreCorruptError if code in _CORRUPT_CODES else StoreError
        raise kind(f"{what}: {error}") from error
    except UnicodeDecodeError as error:  # text that SQLite gave back is no longer text
        raise StoreCorruptError(f"{what}: damaged text") from error
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or type(error).__name__}") from error


def _configure(connection: sqlite3.Connection, path: Path | None) -> None:
    connection.create_function("checksum", -1, checksum, deterministic=True)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if path and is_on_network(path) else 'WAL'}")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    connection.execute("PRAGMA synchronous = FULL")


def _make_private(path: Path) -> None:
    """Create the file readable by its owner alone; SQLite gives its journals the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
