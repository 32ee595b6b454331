"""One SQLite file (or memory): how it is opened, read and written in transactions, and shared between threads.

Whatever fails is raised as this package's errors, told apart by what it means for the file: damaged, so that it is
put aside (:mod:`monitoring.store.recovery`), or not usable for now. What the tables hold is not known here.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from monitoring.exceptions import StoreCorruptError, StoreError, StoreReadError
from monitoring.store import locks, schema

PATIENCE_SECONDS = 2.0
"""How long a lock of another process is waited for."""

# Often, and at random: SQLite's own waiting looks ten times a second, and is overtaken until its patience is over.
_LOOK_EVERY_SECONDS = (0.0005, 0.002)

Identity = tuple[int, int]
"""Device and inode: which file it is, whatever its name."""

_NETWORK_FILESYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gpfs", "lustre", "nfs", "nfs4", "smb3",
    "smbfs",
})  # fmt: skip
_SMALLEST_PAGE = 512  # bytes: what is shorter can be no database
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_READ_CODES = frozenset({
    sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS,
})  # fmt: skip
_NO_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_SHARED_MEMORY_BYTES = 1 << 15  # SQLite's first piece of it
_READ_ONLY_CODES = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_DBMOVED})


class Database:
    """A connection with a lock: one per thread that must not wait for another, shared when in memory.

    One that ``only_reads`` makes, migrates and changes nothing, so that looking at a store locks nobody out of it: an
    older version's store is read from a migrated copy, and a read-only volume's as it lies there.
    """

    def __init__(self, path: Path | None, busy_seconds: float = PATIENCE_SECONDS, only_reads: bool = False) -> None:
        self.path = path
        self._only_reads = only_reads
        self.was_older = False
        """Whether what is read is a copy, since an older version wrote the store."""
        self._busy_seconds = busy_seconds
        # Re-entrant: a host's finalizer or signal handler may call us again in the middle of a transaction.
        self._lock = threading.RLock()
        self._durable = True
        self._is_closed = False
        self._connection: sqlite3.Connection | None = self._open()
        self.identity = identity(path)
        _OPENED.add(self)

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            return self._connect(":memory:")
        if self._only_reads:
            return self._open_to_read(self.path)
        with self._translating("can't open the store"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_new = _size(self.path) == 0
        # Turning a new file into a store can't be done by two at once: SQLite gives up on one of them.
        with locks.opening(self.path, self._busy_seconds, exclusive=is_new):
            # The file is never opened but by SQLite: closing any descriptor of it would end the locks of this
            # process' other connections (POSIX; https://www.sqlite.org/howtocorrupt.html).
            with self._translating("can't open the store"):
                with suppress(FileExistsError):  # readable by its owner alone; SQLite's journals get the same mode
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                _keep_private(self.path)
                if 0 < _size(self.path) < _SMALLEST_PAGE:  # SQLite would begin it anew, over what it holds
                    raise StoreCorruptError(f"the store {self.path} is cut off")
            return self._connect(str(self.path))

    def _open_to_read(self, path: Path) -> sqlite3.Connection:
        with self._translating("can't read the store"):
            path.stat()  # SQLite's own words for a missing file don't say so
            uri = f"{path.resolve().as_uri()}?mode=ro"
            # A reader of a write-ahead log wants its shared memory beside it: a read-only volume takes none, and
            # nobody writes there, so that the file alone says all unless a journal was left with it.
            is_fixed = not os.access(path.parent, os.W_OK) or bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
            # A full one has no room for shared memory: where there is none, nobody else has the store open, either.
            is_fixed |= _is_full(path) and _size(path.with_name(f"{path.name}-shm")) < _SHARED_MEMORY_BYTES
            if is_fixed and not _size(path.with_name(f"{path.name}-wal")):
                uri += "&immutable=1"
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                if _check_schema(connection) < len(schema.MIGRATIONS):
                    connection = _migrated_copy(connection)
                    self.was_older = True
                connection.text_factory = _lenient_text
                connection.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()
                raise
        return connection

    def _connect(self, name: str) -> sqlite3.Connection:
        with self._translating("can't open the store"):
            connection = sqlite3.connect(
                name, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translating("can't use the store"):
                _check_schema(connection)  # before anything is written: what is not ours stays as it is
                # Text that was damaged is told by its checksum, not by an error in the middle of a query.
                connection.text_factory = _lenient_text
                if not connection.execute("PRAGMA page_count").fetchone()[0]:  # in a store with content it would write
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                is_shared = self.path is not None and is_on_network(self.path)
                connection.execute(f"PRAGMA journal_mode = {'DELETE' if is_shared else 'WAL'}")
                # A log that one large transaction has blown up is cut back.
                connection.execute("PRAGMA journal_size_limit = 4194304")
                # With a write-ahead log, NORMAL would lose the latest sessions at a power cut.
                connection.execute("PRAGMA synchronous = FULL")
                schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def sibling(self) -> Database:
        """A connection of its own to the same file; in memory, this one."""
        # For each thread: a connection is locked for a whole transaction, and the host must not wait for a delivery's.
        return self if self.path is None else Database(self.path, self._busy_seconds, self._only_reads)

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; ``durable`` ones survive power loss when this returns, others only the process.

        Raises :class:`StoreError`.
        """
        if self._only_reads:
            raise StoreError(f"can't write the store {self.path}: it is open to be read")
        with self._lock, self._translating("can't write the store"):
            connection = self._mine()
            if durable != self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            try:
                self._begin_writing(connection)
                self._check_place()
                yield connection
                connection.execute("COMMIT")
            finally:
                _roll_back(connection)

    @contextmanager
    def read_transaction(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the store; raises :class:`StoreError`."""
        with self._lock, self._translating("can't read the store"):
            connection = self._mine()
            try:
                connection.execute("BEGIN")
                self._check_place()
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def _translating(self, what: str) -> Iterator[None]:
        """Turn SQLite's and the system's errors into this package's, by what they mean for the file."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None) or 0
            kind = _kind(code, self.path)
            # SQLite calls it an I/O error where it is its shared memory that finds no room.
            has_room = code & 0xFF not in _NO_ROOM_CODES or kind is StoreReadError or not _is_full(self.path)
            raise kind(f"{what} {self.path}: {error if has_room else os.strerror(errno.ENOSPC)}") from error
        except UnicodeDecodeError as error:  # a message that quotes damaged text
            raise StoreCorruptError(f"{what} {self.path}: damaged text") from error
        except OSError as error:
            raise StoreError(f"{what} {self.path}: {error.strerror or type(error).__name__}") from error

    def rewrite(self) -> None:
        """Write the file anew without what was deleted, and empty its write-ahead log.

        Raises :class:`StoreError`, also when other processes read the old content for longer than our patience.
        """
        with self._lock, self._translating("can't rewrite the store"):
            connection = self._mine()
            connection.execute("VACUUM")
            deadline = time.monotonic() + self._busy_seconds
            # SQLite waits for readers, but not for a checkpoint of another process, which this much content brings on.
            while is_blocked := connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() >= deadline:
                    break
                time.sleep(random.uniform(*_LOOK_EVERY_SECONDS))  # noqa: S311 - no secret
        if is_blocked:
            raise StoreError(f"can't rewrite the store {self.path}: other processes use it; try again")

    def be_patient(self, seconds: float) -> None:
        """Wait so long for locks of other processes from now on."""
        self._busy_seconds = seconds

    def close(self) -> None:
        """Close the connection; the file stays."""
        with self._lock:
            self._is_closed = True
            self._drop_connection()

    def _mine(self) -> sqlite3.Connection:
        if self._is_closed:
            raise StoreError("the store is closed")
        if self._connection is None:
            self._connection = self._open()
            self._durable = True
        _roll_back(self._connection)  # what an interrupt has left half done
        return self._connection

    def _begin_writing(self, connection: sqlite3.Connection) -> None:
        """Take the write lock. SQLite's own waiting sleeps longer and longer, and is overtaken again and again."""
        deadline = time.monotonic() + self._busy_seconds
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                        raise
                time.sleep(random.uniform(*_LOOK_EVERY_SECONDS))  # noqa: S311 - no secret
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self._busy_seconds * 1000):d}")

    def _check_place(self) -> None:
        """What is written to a file that was put aside meanwhile would be lost with it."""
        # Asked within the transaction: SQLite's lock is on the file that was opened, whatever its name is now.
        if self.path is not None and identity(self.path) != self.identity:
            raise StoreCorruptError(f"the store {self.path} was replaced by another process")

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def before_fork(self) -> None:
        """Let nobody be in the middle of anything, and leave no connection open.

        A child would inherit SQLite's knowledge of locks, but not the locks.
        """
        self._lock.acquire()
        is_in_use = self._connection is not None and self._connection.in_transaction
        if self.path is not None and not is_in_use:
            self._drop_connection()

    def after_fork(self, in_child: bool) -> None:
        """Go on, a child with a lock of its own; the connection is opened again when it is needed."""
        if in_child:
            self._lock = threading.RLock()
        else:
            self._lock.release()


_OPENED: weakref.WeakSet[Database] = weakref.WeakSet()
# Of two threads that fork at once the second waits, so that each gives back what was taken before its own fork.
_one_fork = threading.Lock()
_at_fork: list[Database] = []


def _before_fork() -> None:
    _one_fork.acquire()
    for database in list(_OPENED):
        database.before_fork()
        _at_fork.append(database)


def _after_fork(in_child: bool) -> None:
    while _at_fork:
        _at_fork.pop().after_fork(in_child)
    _one_fork.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=partial(_after_fork, False), after_in_child=partial(_after_fork, True)
)


def _keep_private(path: Path) -> None:
    """A store that was copied back without its rights is its owner's alone again, as far as we may."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        with suppress(OSError):
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def identity(path: Path | None) -> Identity | None:
    """Which file lies at ``path``; None when there is none, or it can't be told."""
    with suppress(OSError):
        found = path.stat() if path is not None else None
        return (found.st_dev, found.st_ino) if found is not None else None
    return None


def is_on_network(path: Path) -> bool:
    """Whether a path lies on a network filesystem, where WAL's shared memory doesn't work."""
    with suppress(OSError, ValueError, IndexError):
        device = f"{os.major(path.parent.stat().st_dev)}:{os.minor(path.parent.stat().st_dev)}"
        for mount in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = mount.partition(" - ")
            if before.split()[2] == device:
                return after.split()[0] in _NETWORK_FILESYSTEMS
    return False


def _kind(code: int, path: Path | None) -> type[StoreError]:
    """What an error of SQLite's means for the file."""
    is_damage = code & 0xFF in _CORRUPT_CODES
    if code in _READ_ONLY_CODES:  # so it says of a file of an unknown format, and of one that was moved away
        is_damage = path is not None and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if is_damage:
        return StoreCorruptError
    return StoreReadError if code in _READ_CODES else StoreError


def _is_full(path: Path | None) -> bool:
    """Whether the volume has no room for what SQLite makes beside a store to open it."""
    with suppress(OSError):
        volume = os.statvfs(path.parent) if path is not None else None
        return volume is not None and volume.f_bavail * volume.f_frsize < _SHARED_MEMORY_BYTES
    return False


def _lenient_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _migrated_copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    """What the store holds, in a private temporary file of SQLite's that is gone when it is closed."""
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        connection.backup(copy)
        schema.migrate(copy)
    except BaseException:
        copy.close()
        raise
    connection.close()
    return copy


def _check_schema(connection: sqlite3.Connection) -> int:
    try:
        return schema.check(connection)
    except sqlite3.OperationalError as error:
        # Of an unknown format, since nothing else is wrong with the query; or of text that is none, without any code.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
            raise StoreCorruptError(f"the store's header is damaged: {error}") from error
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
