"""Sessions: what is kept while one is open, what is committed when it ends, and how they are read back.

:meth:`Store.commit` is the one transaction in which the record, its undelivered lines and the new totals are kept:
all of it survives, or nothing. What each part means is said by its own file: :mod:`monitoring.store.outbox`,
:mod:`monitoring.store.totals`, :mod:`monitoring.store.readings`, :mod:`monitoring.store.vocabulary`.

Of an open session the record is kept that would be reported if its process died now. Whether a process lives is told
by its lock (:mod:`monitoring.store.locks`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from msgspec import Struct

from monitoring.domain.derivation import Facts
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change
from monitoring.metrics.session_writes import BuildWrites, TransactionContext
from monitoring.records.session_record import COARSE_NS, STATUSES, SessionRecord
from monitoring.store import clock, locks, lookups, outbox, readings, totals
from monitoring.store.clock import Look, look
from monitoring.store.database import Database
from monitoring.store.rows import (
    SESSION_COLUMNS,
    StoredSession,
    checksum,
    is_intact,
    stored_record,
    stored_session,
)
from monitoring.store.vocabulary import growing_vocabulary

_LARGEST = 2**62
_PAGE = 500
# Pages by key: no transaction is held open while the reader works, however long the archive is.
_NEWEST_PAGE = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"  # noqa: S608 - a constant
_OLDEST_PAGE = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608 - a constant
_NOT_ROUTED = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE routed = '' ORDER BY sequence LIMIT ?"  # noqa: S608 - a constant


class WaitingLines(NamedTuple):
    """Lines that wait for a log backend, encoded and counted; ``created_ns`` are UTC nanoseconds."""

    backend: str
    created_ns: int
    encoded: bytes
    points: int

    def enqueue(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Let them wait here."""
        outbox.enqueue(connection, self.backend, session_id, self.created_ns, self.encoded, self.points)


class Earlier(Struct, frozen=True):
    """What another store has kept of a session: its points' time, the log backends that lines were made for, the facts.

    ``lines`` are those that still wait; None where it isn't known, so that they are made again.
    """

    timestamp_ns: int
    routed: str
    facts: Facts | None
    lines: tuple[WaitingLines, ...] | None


class Store:
    """The archive. Every method raises :class:`StoreError` when the file fails."""

    def __init__(self, database: Database, look: Look = look) -> None:
        self.database = database
        self._look = look

    def commit(self, record: SessionRecord, build: BuildWrites, earlier: Earlier | None = None) -> bool:
        """Keep a session, its undelivered lines and the new totals in one transaction.

        Its points carry the session's end as their time, moved on by nanoseconds where another session
        of this store has that very instant; or the time that an ``earlier`` store has given them. False when the
        session was there already, and is left as it is.
        """
        with self.database.transaction() as connection:
            # In the same transaction: a session is reported once, as it ended or as crashed, wherever the process dies.
            connection.execute("DELETE FROM open_sessions WHERE session_id = ?", (record.session_id,))
            # A session that was in memory, or is imported, may come twice; the totals must count it once.
            if connection.execute("SELECT 1 FROM sessions WHERE session_id = ?", (record.session_id,)).fetchone():
                return False
            timestamp_ns = _free_timestamp(connection, earlier.timestamp_ns if earlier else record.ended_ns)
            facts = (earlier.facts if earlier else None) or self._facts(connection, record)
            kept_ns = clock.advance(connection, self._look()).now_ns
            if record.ended_ns % COARSE_NS == 0:  # a coarse record: when it was kept would tell when it ended
                kept_ns -= kept_ns % COARSE_NS
            vocabulary = growing_vocabulary(connection, kept_ns)
            writes = build(record, TransactionContext(timestamp_ns, facts, vocabulary))
            text = record.to_json()
            routed = earlier.routed if earlier else ",".join(writes.lines)
            connection.execute(
                "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum,"
                " series_key, study_key, patient_key, accession_key, derived, kept_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.session_id, record.status, timestamp_ns, record.ended_ns, routed, text,
                    checksum(timestamp_ns, text), record.series_key, record.study_key or "", record.patient_key or "",
                    record.accession_key or "", None if writes.derived is None else writes.derived.to_bytes(),
                    kept_ns,
                ),
            )  # fmt: skip
            for reader, measurements_mm in record.reader_mm.items() if record.series_key else ():
                readings.keep(connection, record.series_key, reader, measurements_mm, kept_ns)
            if earlier is None or (earlier.lines is None and earlier.routed):
                waiting = [WaitingLines(backend, timestamp_ns, *lines) for backend, lines in writes.lines.items()]
            else:
                waiting = list(earlier.lines or ())
            for lines in waiting:
                lines.enqueue(connection, record.session_id)
            totals.apply_changes(connection, writes.changes, timestamp_ns)
            totals.bump_revision(connection)
        return True

    def keep_open(self, record: SessionRecord, owner: str, durable: bool) -> None:
        """Write or renew an open session's record under its process' token.

        The first must be ``durable``; the later ones, at each stage, survive the process' death without it, though
        perhaps not a power cut.
        """
        row = (record.session_id, owner, record.ended_ns, record.to_json())
        with self.database.transaction(durable) as connection:
            connection.execute("INSERT OR REPLACE INTO open_sessions VALUES (?, ?, ?, ?, ?)", (*row, checksum(*row)))

    def report_crashed(self, build: BuildWrites, limit: int | None = None) -> int:
        """Commit the open sessions of dead processes as crashed, at most ``limit``; returns how many."""
        path = self.database.path
        if path is None:
            return 0
        with self.database.read_transaction() as connection:
            owners = [row[0] for row in connection.execute("SELECT DISTINCT owner FROM open_sessions")]
        dead = {owner for owner in owners if not locks.is_alive(path, owner)}
        with self.database.read_transaction() as connection:  # only now: the dead have written their last
            rows = connection.execute("SELECT * FROM open_sessions").fetchall()
        reported = 0
        for row in rows:
            if reported == limit:
                break
            session_id, owner, _, text, its_checksum = row
            is_whole = is_intact(row)
            if is_whole and owner not in dead:
                continue
            record = stored_record(text) if is_whole else None
            has_ended = is_whole and locks.is_marked_ended(path, session_id)  # a damaged id may be no file's name
            if record is not None and not has_ended:
                reported += self.commit(record, build)
                continue
            with self.database.transaction() as connection:
                # By the checksum, too: its owner may have written a whole one meanwhile.
                connection.execute(
                    "DELETE FROM open_sessions WHERE session_id = ? AND checksum = ?", (session_id, its_checksum)
                )
                # What had ended was kept in memory, and told to the backends or said to be lost: it never crashed.
                totals.count_loss(connection, "disk_full" if has_ended else "corrupt", 1, time.time_ns())
            if has_ended:
                locks.unmark_ended(path, session_id)
        locks.remove_stale(path)
        return reported

    def initialise(self, zeros: Iterable[Change]) -> None:
        """Make series exist at 0 that are not there yet; writes nothing when all are."""
        # Read first: nearly every process finds them all, and starts without a write.
        with self.database.read_transaction() as connection:
            known = set(connection.execute("SELECT metric, labels, part FROM totals"))
        missing = [item for item in zeros if (item.metric, totals.labels_key(item.labels), item.part) not in known]
        if missing:
            with self.database.transaction() as connection:
                totals.apply_changes(connection, missing, 0)
                totals.bump_revision(connection)

    def sessions(self, limit: int | None = None, newest_first: bool = True) -> Iterator[StoredSession]:
        """The stored sessions, in the order of their commit or the other way round; damaged ones are left out."""
        page = _NEWEST_PAGE if newest_first else _OLDEST_PAGE
        last = _LARGEST if newest_first else -1
        left = _LARGEST if limit is None else limit
        while left > 0:
            with self.database.read_transaction() as connection:
                rows = connection.execute(page, (last, min(left, _PAGE))).fetchall()
            if not rows:
                return
            yield from (stored for row in rows if (stored := stored_session(row)) is not None)
            last, left = rows[-1][0], left - len(rows)

    def counts_by_status(self) -> dict[str, int]:
        """All sessions ever committed, by status."""
        with self.database.read_transaction() as connection:
            found = totals.values(connection, catalogue.SESSIONS)
        return {status: int(found.get((status,), 0)) for status in STATUSES}

    def state(self, key: str, default: Callable[[], Any] | None = None) -> Any:
        """A value of the store's own; ``default`` makes it on first use, the same for every process."""
        with self.database.read_transaction() as connection:
            found = _state(connection, key)
        if found is not None or default is None:
            return found
        with self.database.transaction() as connection:
            found = _state(connection, key)  # another process may have been first
            if found is None:
                found = default()
                connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (key, found, checksum(key, found)))
            return found

    def is_another_key(self, fingerprint: str) -> bool:
        """Whether sessions were named with another key so far; from now on this one is known, and where it began."""
        known = self.state("key_fingerprint", lambda: fingerprint)
        if known == fingerprint:
            return False
        since = self.state("key_since_sequence") or 0
        history = f"{self.state('key_history') or ''} {known}:{since}".strip()
        with self.database.transaction() as connection:
            newest = outbox.newest_sequence(connection)
            values = {"key_fingerprint": fingerprint, "key_since_sequence": newest + 1, "key_history": history}
            for key, value in values.items():
                connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (key, value, checksum(key, value)))
        return True

    def spans_of_other_keys(self, fingerprint: str) -> list[tuple[int, int]]:
        """The sessions, from one number to the next but that, that were named with another key than this one."""
        spans = [part.partition(":")[::2] for part in str(self.state("key_history") or "").split()]
        spans.append((str(self.state("key_fingerprint") or fingerprint), str(self.state("key_since_sequence") or 0)))
        ends = [int(since) for _, since in spans[1:]] + [_LARGEST]
        return [(int(since), end) for (known, since), end in zip(spans, ends, strict=True) if known != fingerprint]

    def route(self, backend: str, build: BuildWrites, limit: int = 200) -> int:
        """Make the lines of sessions that were recorded without any log backend; returns how many sessions."""
        with self.database.transaction() as connection:
            rows = connection.execute(_NOT_ROUTED, (limit,)).fetchall()
            now_ns = clock.read(connection, self._look()).now_ns
            for row in rows:
                stored = stored_session(row)
                if stored is None:  # it is marked, too: a relay would meet it at each turn for ever
                    totals.count_loss(connection, "corrupt", 1, time.time_ns())
                else:
                    derived = stored.derived
                    facts = derived.facts if derived else self._facts(connection, stored.record)
                    context = TransactionContext(stored.timestamp_ns, facts, growing_vocabulary(connection, now_ns))
                    writes = build(stored.record, context)
                    for name, (encoded, count) in writes.lines.items():
                        outbox.enqueue(connection, name, stored.record.session_id, stored.timestamp_ns, encoded, count)
                    # What newer formulas' lines are made of is kept, so that re-derivation compares with what was told.
                    if writes.derived and (derived is None or derived.formula != writes.derived.formula):
                        readings.set_derived(connection, stored.sequence, writes.derived)
                connection.execute("UPDATE sessions SET routed = ? WHERE sequence = ?", (backend, row[0]))
            if rows:
                totals.bump_revision(connection)
        return len(rows)

    def not_routed(self) -> int:
        """How many sessions were recorded without any log backend, and have no lines yet."""
        with self.database.read_transaction() as connection:
            return int(connection.execute("SELECT count(*) FROM sessions WHERE routed = ''").fetchone()[0])

    def _facts(self, connection: sqlite3.Connection, record: SessionRecord) -> Facts:
        if self.database.path is None:  # a store in memory doesn't see all sessions
            return Facts(reader_mm=readings.mean_of_readers(record.reader_mm))
        return lookups.facts(connection, record)


@contextmanager
def open_store(database: Database) -> Iterator[Store]:
    """A store that is closed again."""
    try:
        yield Store(database)
    finally:
        database.close()


def _state(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT key, value, checksum FROM state WHERE key = ?", (key,)).fetchone()
    return row[1] if row and is_intact(row) else None


def _free_timestamp(connection: sqlite3.Connection, ended_ns: int) -> int:
    # Two sessions must never share (series, timestamp). Going on from the largest would let one clock
    # that was once ahead push every later session into the future; so step past neighbours only.
    timestamp_ns = ended_ns
    for (taken,) in connection.execute(
        "SELECT timestamp_ns FROM sessions WHERE timestamp_ns >= ? ORDER BY timestamp_ns", (ended_ns,)
    ):
        if taken != timestamp_ns:
            break
        timestamp_ns += 1
    return timestamp_ns
