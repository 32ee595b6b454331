"""Takes back what can be read of a store that was put aside: each session once, its points with their very time.

The file itself is only read: what is opened is a copy, whose header is mended where that is what is damaged. A page
that can't be read costs the rows on it and no others. Points that wait are taken as they are; where it can't be told
any more whether a session's points were delivered they are made again, and a repeat has no effect.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from monitoring.exceptions import RecordError, StoreError
from monitoring.metrics.session_writes import BuildWrites, DerivedValues
from monitoring.records.session_record import SessionRecord
from monitoring.store import locks, outbox, readings, totals
from monitoring.store.rows import checksum, is_intact, stored_record
from monitoring.store.sessions import Earlier, Store, WaitingLines

MAGIC = b"SQLite format 3\0"
# Rows read together; only where that fails one by one, so that a page costs the rows on it and no others.
_AT_ONCE = 64
_HEADER = MAGIC + bytes((0x10, 0x00, 2, 2, 0, 64, 32, 32))  # 4096 bytes a page, a write-ahead log, SQLite's fractions
_FORMAT, _UTF_8 = (44, 4), (56, 1)
_LINES = "id, session_id, backend, created_ns, line_count, checksum, lines"

Check = Callable[[SessionRecord], SessionRecord]
"""Returns the record as it may be kept; raises :class:`RecordError` when it may not."""
MakeBuilder = Callable[[str | None], BuildWrites]
"""Returns what makes the writes under the instance's name that the file was delivered under, None where it is lost."""


class Salvaged(Struct):
    """What became of the file's content."""

    sessions: int = 0
    known: int = 0
    """Sessions that the store has already."""
    unreadable: int = 0
    """Sessions that are damaged, or lie where the file can't be read."""
    crashed: int = 0
    """Sessions that were open when the file was put aside, and whose process is gone."""
    points: int = 0
    """Points that wait to be delivered, of these and of sessions that can't be read."""
    readings: int = 0
    records: list[SessionRecord] = []


def is_database(path: Path) -> bool:
    """Whether a file is a store's, also one whose header is damaged: by its first bytes, else by its name."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC or ".corrupt-" in path.name
    return False


def salvage(aside: Path, store: Store, make_builder: MakeBuilder, check: Check) -> Salvaged:
    """Take what can be read of ``aside`` into the store; a second time finds nothing new.

    Raises :class:`StoreError` when nothing can be read at all, or when the store can't be written.
    """
    with _copy_of(aside) as connection:
        return _Salvage(connection, store, make_builder(_instance(connection)), check).run()


class _Salvage:
    def __init__(self, connection: sqlite3.Connection, store: Store, build: BuildWrites, check: Check) -> None:
        self._connection = connection
        self._store = store
        self._build = build
        self._check = check
        self._found = Salvaged()
        self._new: set[str] = set()

    def run(self) -> Salvaged:
        """All of it; the readings first, with which the sessions are compared."""
        self.take_readings()
        self.take_sessions()
        self.take_lines_of_others()
        self.take_dead_letters()
        self.take_open_sessions()
        self._found.sessions = len(self._new)
        return self._found

    def take_sessions(self) -> None:
        """Each session that is whole, with the lines that wait for it."""
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(sessions)")}
        derived = "derived" if "derived" in columns else "NULL"
        # Only where the outbox is whole does a session without lines there mean that all of them were delivered.
        is_told = self._is_whole("outbox")
        rows = _Rows(self._connection, "sessions", f"sequence, timestamp_ns, record, checksum, routed, {derived}")
        read = set()
        for sequence, *checked, routed, derived_bytes in rows:
            read.add(sequence)
            record = stored_record(checked[1]) if is_intact(checked) else None
            try:
                kept = self._check(record) if record is not None else None
            except RecordError:
                kept = None
            if kept is None:
                self._found.unreadable += 1
                continue
            lines = self._lines(kept.session_id) if is_told else None
            derived_values = None
            with suppress(RecordError):
                derived_values = DerivedValues.from_bytes(derived_bytes) if isinstance(derived_bytes, bytes) else None
            facts = derived_values.facts if derived_values else None
            if self._store.commit(kept, self._build, Earlier(checked[0], str(routed), facts, lines)):
                self._new.add(kept.session_id)
                self._found.records.append(kept.without_models())
                self._found.points += sum(one.points for one in lines or ())
            else:
                self._found.known += 1
        # An index knows which sessions there were; without one, each number on an unreadable page counts as a session.
        numbers = self._numbers()
        self._found.unreadable += rows.unread if numbers is None else len(numbers - read)

    def _numbers(self) -> set[int] | None:
        """The sessions' numbers from an index, which may be whole where the table isn't."""
        with suppress(sqlite3.Error):
            return {row[0] for row in self._connection.execute("SELECT sequence FROM sessions ORDER BY session_id")}
        return None

    def _is_whole(self, table: str) -> bool:
        with suppress(sqlite3.Error):
            return [tuple(row) for row in self._connection.execute(f"PRAGMA integrity_check('{table}')")] == [("ok",)]
        return False

    def _lines(self, session_id: str) -> tuple[WaitingLines, ...] | None:
        """A session's lines that wait; None where one is damaged, so that they must be made again."""
        query = f"SELECT {_LINES} FROM outbox WHERE session_id = ? ORDER BY id"  # noqa: S608
        found = [_waiting(row) for row in self._connection.execute(query, (session_id,))]
        return tuple(one for one in found if one is not None) if None not in found else None

    def take_lines_of_others(self) -> None:
        """Points of sessions that can't be read, or that had left the file before."""
        for row in _Rows(self._connection, "outbox", _LINES):
            lines, session_id = _waiting(row), str(row[1])
            # Those of the sessions that were taken came with them.
            if lines is None or session_id in self._new:
                continue
            with self._store.database.transaction() as connection:
                known = "SELECT 1 FROM {} WHERE session_id = ? AND session_id != ''"
                if any(connection.execute(known.format(t), (session_id,)).fetchone() for t in ("sessions", "outbox")):
                    continue
                lines.enqueue(connection, session_id)
                self._found.points += lines.points

    def take_dead_letters(self) -> None:
        """Lines that a backend has refused, of the sessions that were new."""
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(dead_letters)")}
        # An older version's letters name no session: it can't be told which of them are new here.
        if "session_id" not in columns:
            return
        for session_id, *row in _Rows(self._connection, "dead_letters", f"session_id, {outbox.LETTER_COLUMNS}"):
            letter = outbox.dead_letter(row)
            if letter is not None and session_id in self._new:
                with self._store.database.transaction() as connection:
                    outbox.bury(connection, session_id, letter)
                    totals.count_loss(connection, letter.reason, 1, time.time_ns())

    def take_readings(self) -> None:
        """Readings that are not here."""
        for row in _all(self._connection, "SELECT key, reader, measurements, kept_ns, checksum FROM readings"):
            if is_intact(row):
                with self._store.database.transaction() as connection:
                    self._found.readings += readings.keep_missing(connection, row)

    def take_open_sessions(self) -> None:
        """Sessions that were open, of processes that are gone: they have crashed."""
        path = self._store.database.path
        for row in _all(self._connection, "SELECT * FROM open_sessions"):
            record = stored_record(row[3]) if is_intact(row) else None
            if record is None or path is None or locks.is_alive(path, str(row[1])):
                continue
            with self._store.database.read_transaction() as connection:
                is_open = connection.execute(
                    "SELECT 1 FROM open_sessions WHERE session_id = ?", (record.session_id,)
                ).fetchone()
            with suppress(RecordError):
                if not is_open and not locks.is_marked_ended(path, record.session_id):
                    self._found.crashed += self._store.commit(self._check(record), self._build)


class _Rows:
    """A table's rows by their numbers; ``unread`` counts numbers that can't be looked up."""

    def __init__(self, connection: sqlite3.Connection, table: str, columns: str) -> None:
        self._connection = connection
        self._table = table
        self._select = f"SELECT {columns} FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid"  # noqa: S608
        self.unread = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        first, newest = self._range()
        for start in range(first - 1, newest, _AT_ONCE):
            end = min(start + _AT_ONCE, newest)
            try:
                yield from self._connection.execute(self._select, (start, end)).fetchall()
            except sqlite3.Error:
                for number in range(start, end):
                    try:
                        yield from self._connection.execute(self._select, (number, number + 1)).fetchall()
                    except sqlite3.Error:
                        self.unread += 1

    def _range(self) -> tuple[int, int]:
        def number(query: str, *parameters: object) -> int | None:
            with suppress(sqlite3.Error):
                row = self._connection.execute(query, parameters).fetchone()
                return row[0] if row and isinstance(row[0], int) else None
            return None

        newest = number(f"SELECT max(rowid) FROM {self._table}")  # noqa: S608 - a constant
        if newest is None:
            newest = number("SELECT seq FROM sqlite_sequence WHERE name = ?", self._table)
        first = number(f"SELECT min(rowid) FROM {self._table}")  # noqa: S608 - a constant
        return max(1, first or 1), newest or 0


def _all(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the place where the file is damaged."""
    with suppress(sqlite3.Error):
        yield from connection.execute(query)


def _waiting(row: tuple[Any, ...]) -> WaitingLines | None:
    _, session_id, backend, created_ns, count, expected, encoded = row
    if checksum(backend, session_id, created_ns, count, encoded) != expected:
        return None
    return WaitingLines(backend, created_ns, encoded, count)


def _instance(connection: sqlite3.Connection) -> str | None:
    row = next(_all(connection, "SELECT key, value, checksum FROM state WHERE key = 'instance'"), None)
    return str(row[1]) if row and is_intact(row) else None


@contextmanager
def _copy_of(aside: Path) -> Iterator[sqlite3.Connection]:
    """A copy with its journal, opened; raises :class:`StoreError` when no table of a store's can be read in it."""
    with tempfile.TemporaryDirectory(prefix=f".{aside.name}-", dir=aside.parent) as folder:
        copy = Path(folder) / "monitoring.db"
        try:
            # Not the shared memory, which SQLite makes anew from the log.
            for suffix in ("", "-wal", "-journal"):
                source = aside.with_name(aside.name + suffix)
                if source.exists():
                    shutil.copyfile(source, copy.with_name(copy.name + suffix))
        except OSError as error:
            raise StoreError(f"can't read {aside}: {error.strerror}") from error
        connection = _opened(copy)
        if connection is None:
            _mend_header(copy)
            connection = _opened(copy)
        if connection is None:
            raise StoreError(f"no session can be read in {aside}")
        try:
            yield connection
        finally:
            connection.close()


def _opened(path: Path) -> sqlite3.Connection | None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        # It is somebody's file: what its schema would call is not run.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA writable_schema = ON")  # so that a damaged index doesn't hide the tables
        if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sessions'").fetchone():
            return connection
    except (sqlite3.Error, UnicodeError):
        pass
    connection.close()
    return None


def _mend_header(path: Path) -> None:
    """Write what the header of every store of ours says; what it says of its free pages isn't needed to read it."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        if size < 512:
            return
        file.seek(0)
        header = bytearray(file.read(100))
        header[: len(_HEADER)] = _HEADER
        # By SQLite's file format: its size in pages (28), no free pages (32, 36).
        for place, value in ((28, size // 4096), (32, 0), (36, 0), _FORMAT, _UTF_8):
            header[place : place + 4] = value.to_bytes(4)
        header[92:96] = header[24:28]  # the size is the one of this change
        file.seek(0)
        file.write(header)
