"""What waits for one backend: leases, batches, and what becomes of them.

Several processes drain one store: whoever holds the backend's lease delivers, the others don't
wait. A lease expires, so that a process that was killed blocks nobody for longer than that.
A killed process' lease ends with it, where its liveness lock can be seen (see :mod:`monitoring.store.locks`).
A crash between the backend's answer and `settle` sends the batch again; the lines carry their
timestamps, so the repeat overwrites itself.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from msgspec import Struct

from monitoring.delivery import own_state
from monitoring.delivery.own_state import Taken, as_totals
from monitoring.metrics import catalogue
from monitoring.metrics.backends import WHAT_ENDS
from monitoring.metrics.samples import NANOSECONDS, Change, Sample
from monitoring.store import clock, totals
from monitoring.store.database import Database
from monitoring.store.locks import is_alive
from monitoring.store.outbox import (
    LETTER_COLUMNS,
    DeadLetter,
    Progress,
    bury,
    count_recovered,
    dead_letter,
    enqueue,
    newest_sequence,
    progress_of_all,
    register_backend,
    set_progress,
)
from monitoring.store.rows import checksum
from monitoring.transport.expiry import Expiry
from monitoring.transport.sinks import Delivery, Rejection, Snapshot

MAX_LEASE_SECONDS = 3700.0  # the longest rest that a backend may ask for, and some
_REQUEUED_TOGETHER = 100
BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 300.0
# What a server asks for beyond that is a slip, which would stop deliveries for days.
RETRY_AFTER_CAP_SECONDS = 3600.0
_MILLISECOND_NS = 1_000_000
_MAX_AHEAD_NS = round(MAX_LEASE_SECONDS * NANOSECONDS)


class Batch(Struct, frozen=True):
    """Leased rows of the outbox. ``row_of_line[i]`` is the position in ``row_ids`` of line i's row."""

    lines: list[bytes]
    row_ids: list[int]
    row_of_line: list[int]


class _Row(NamedTuple):
    """A row that has left the outbox: the session that it was of, and the reason that it was counted as lost for."""

    session_id: str
    counted_lost: str


class BackendQueue:
    """One backend's part of the store. Every method raises :class:`StoreError` when the file fails."""

    def __init__(self, database: Database, name: str, owner: str, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self._database = database
        self._owner = owner  # the token of a liveness lock, while the lease is held
        self._clock_ns = clock_ns

    def register(self) -> None:
        """Make the backend known to the store."""
        with self._database.read_transaction() as connection:
            # Read first: nearly always it is known, and a host starts without a write.
            known = connection.execute("SELECT 1 FROM backends WHERE name = ?", (self.name,)).fetchone()
        if not known:
            with self._database.transaction() as connection:
                register_backend(connection, self.name)

    def forget_dates_but_of(self, backends: Collection[str]) -> None:
        """Forget when certificates end that other backends than these have shown: they aren't in use any more."""
        metric = catalogue.CERTIFICATE_EXPIRY
        with self._database.read_transaction() as connection:
            gone = [(name, kind) for name, kind in totals.values(connection, metric) if name not in backends]
        if gone:
            with self._database.transaction(durable=False) as connection:
                totals.drop(connection, _keys_of_dates(gone))
                totals.bump_revision(connection)

    def try_lease(self, seconds: float, ignore_backoff: bool = False) -> bool:
        """Take or renew the lease; False when another holds it, or a failed backend rests.

        Instants further ahead than any lease or rest can be were written by another clock: they don't count.
        """
        if self._try_take(seconds, ignore_backoff):
            return True
        return self._try_free_of_the_dead() and self._try_take(seconds, ignore_backoff)

    def _try_take(self, seconds: float, ignore_backoff: bool) -> bool:
        now = self._clock_ns()
        with self._database.transaction(durable=False) as connection:
            changed = connection.execute(
                "UPDATE backends SET lease_owner = :owner, lease_until_ns = :until WHERE name = :name"
                " AND (lease_owner IS NULL OR lease_owner = :owner OR lease_until_ns NOT BETWEEN :now AND :latest)"
                " AND (:anyway OR next_attempt_ns NOT BETWEEN :now + 1 AND :latest)",
                {
                    "owner": self._owner, "until": now + round(seconds * NANOSECONDS), "name": self.name, "now": now,
                    "latest": now + _MAX_AHEAD_NS, "anyway": ignore_backoff,
                },
            ).rowcount  # fmt: skip
        return changed == 1

    def _try_free_of_the_dead(self) -> bool:
        """End the lease of a process that is gone; False when its holder lives, or there is none."""
        with self._database.read_transaction() as connection:
            row = connection.execute("SELECT lease_owner FROM backends WHERE name = ?", (self.name,)).fetchone()
        holder = row[0] if row else None
        path = self._database.path
        if holder is None or path is None or is_alive(path, str(holder)):
            return False
        self._end_lease_of(holder)
        return True

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._end_lease_of(self._owner)

    def _end_lease_of(self, owner: object) -> None:
        with self._database.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE backends SET lease_owner = NULL, lease_until_ns = 0 WHERE name = ? AND lease_owner = ?",
                (self.name, owner),
            )

    def next_batch(self, max_lines: int) -> Batch:
        """The oldest rows, up to ``max_lines`` lines but at least one row; empty when nothing waits.

        A row whose checksum doesn't hold is deleted and counted: what was damaged is not delivered.
        """
        batch, damaged = Batch([], [], []), []
        with self._database.read_transaction() as connection:
            rows = connection.execute(
                "SELECT id, session_id, created_ns, line_count, checksum, lines FROM outbox"
                " WHERE backend = ? ORDER BY id",
                (self.name,),
            )
            for row_id, session_id, created_ns, count, expected, encoded in rows:
                if checksum(self.name, session_id, created_ns, count, encoded) != expected:
                    damaged.append(row_id)
                    continue
                lines = encoded.split(b"\n")
                if batch.lines and len(batch.lines) + len(lines) > max_lines:
                    break
                batch.row_of_line.extend([len(batch.row_ids)] * len(lines))
                batch.row_ids.append(row_id)
                batch.lines.extend(lines)
        if damaged:
            self._drop_damaged(damaged)
        return batch

    def settle(self, batch: Batch, delivery: Delivery) -> int:
        """Delete what was accepted, put aside what was refused, keep the rest. Returns how many lines left.

        A row leaves when each of its lines is accepted or refused; lines of a row that stays are
        sent again, which has no effect on those that the backend already has.
        """
        decided = delivery.accepted | {rejection.index for rejection in delivery.rejected}
        kept_rows = {batch.row_of_line[index] for index in range(len(batch.lines)) if index not in decided}
        # Not durable: after a power cut the batch is sent again, without effect.
        with self._database.transaction(durable=False) as connection:
            # Another process may have settled rows after our lease ran out: count only what we delete.
            left = {
                position: row
                for position, row_id in enumerate(batch.row_ids)
                if position not in kept_rows and (row := _delete_row(connection, row_id)) is not None
            }
            lines_of_row = Counter(position for position in batch.row_of_line if position in left)
            refused = [item for item in delivery.rejected if batch.row_of_line[item.index] in left]
            for rejection in refused:
                position = batch.row_of_line[rejection.index]
                lines_of_row[position] -= 1
                self._bury(connection, left[position], batch.lines[rejection.index], rejection)
            for position, lines in lines_of_row.items():
                count_recovered(connection, left[position].counted_lost, lines)
            self._count_delivered(connection, lines_of_row.total())
            self._note(connection, delivery)
        return lines_of_row.total() + len(refused)

    def has_lines(self) -> bool:
        """Whether lines wait for this backend."""
        with self._database.read_transaction() as connection:
            row = connection.execute("SELECT 1 FROM outbox WHERE backend = ? LIMIT 1", (self.name,)).fetchone()
        return row is not None

    def has_open_sessions(self) -> bool:
        """Whether a session is open, in any process."""
        with self._database.read_transaction() as connection:
            return connection.execute("SELECT 1 FROM open_sessions LIMIT 1").fetchone() is not None

    def has_news(self) -> bool:
        """Whether the Prometheus state has changed since this backend was last told."""
        with self._database.read_transaction() as connection:
            row = connection.execute(
                "SELECT 1 FROM state, backends WHERE key = 'revision' AND name = ?"
                # Another one, not a later one: a revision that was damaged begins anew, and must be told, too.
                " AND pushed_revision IS NOT coalesce(CAST(value AS INTEGER), 0)",
                (self.name,),
            ).fetchone()
        return row is not None

    def snapshot(self) -> Snapshot:
        """The whole Prometheus state, with the module's own metrics, as it is now."""
        now = self._clock_ns()
        with self._database.read_transaction() as connection:
            row = connection.execute("SELECT CAST(value AS INTEGER) FROM state WHERE key = 'revision'").fetchone()
            revision = int(row[0] or 0) if row else 0
            # What this very push delivers doesn't count as waiting.
            found = totals.read(connection) + as_totals(own_state.waiting(connection, now, Taken(self.name)))
            sequence = newest_sequence(connection)
        return Snapshot(tuple(found), revision, sequence, counts_all_runs=self._database.path is not None)

    def oldest_behind(self, batch: Batch) -> int | None:
        """Since when (UTC ns) waits what isn't in the batch; None where nothing does."""
        with self._database.read_transaction() as connection:
            row = connection.execute(
                "SELECT CAST(created_ns AS INTEGER) FROM outbox WHERE backend = ? AND id > ? ORDER BY id LIMIT 1",
                (self.name, max(batch.row_ids, default=-1)),
            ).fetchone()
        return row[0] if row else None

    def own_state(self, taken: Taken) -> list[tuple[int, list[Sample]]]:
        """What the store says of itself once ``taken`` is, with its instant (UTC ns).

        Where the backend has failed before, also how it was until now.
        """
        now = self._clock_ns()
        with self._database.read_transaction() as connection:
            row = connection.execute(
                "SELECT CAST(consecutive_failures AS INTEGER) FROM backends WHERE name = ?", (self.name,)
            ).fetchone()
            found = [(now, [*own_state.waiting(connection, now, taken), *own_state.counted(connection, taken)])]
            if row and row[0]:
                # A whole millisecond before, since a server may keep no finer time.
                found.insert(0, (now - _MILLISECOND_NS, own_state.waiting(connection, now)))
        return found

    def settle_state(self, snapshot: Snapshot, delivery: Delivery) -> None:
        """Remember that the backend has this revision, or why it has not."""
        with self._database.transaction(durable=False) as connection:
            if delivery.error is None:
                # Where it is damaged nobody knows how many sessions are new to the backend: none is counted.
                before = progress_of_all(connection).get(self.name, Progress(snapshot.sequence))
                connection.execute(
                    "UPDATE backends SET pushed_revision = ? WHERE name = ?", (snapshot.revision, self.name)
                )
                set_progress(connection, self.name, before._replace(pushed_sequence=snapshot.sequence))
                self._count_delivered(connection, max(0, snapshot.sequence - before.pushed_sequence), is_news=False)
            self._note(connection, delivery)

    def next_attempt_in_seconds(self) -> float:
        """Seconds until a failed backend may be tried again; 0 when it may be tried now."""
        with self._database.read_transaction() as connection:
            row = connection.execute(
                "SELECT CAST(next_attempt_ns AS INTEGER) FROM backends WHERE name = ?", (self.name,)
            ).fetchone()
        rest = ((row[0] if row else 0) - self._clock_ns()) / NANOSECONDS
        return rest if 0.0 < rest <= MAX_LEASE_SECONDS else 0.0

    def requeue_dead(self) -> int:
        """Let the dead letters be sent again; returns how many."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                f"DELETE FROM dead_letters WHERE backend = ? RETURNING session_id, {LETTER_COLUMNS}",  # noqa: S608
                (self.name,),
            ).fetchall()
            lines: dict[tuple[str, str], list[str]] = {}
            for session_id, *row in rows:
                if letter := dead_letter(row):
                    lines.setdefault((session_id, letter.reason), []).append(letter.line)
            # Rows of one session each, so that they leave the store with it.
            for (session_id, reason), own in lines.items():
                for start in range(0, len(own), _REQUEUED_TOGETHER):
                    piece = own[start : start + _REQUEUED_TOGETHER]
                    encoded = "\n".join(piece).encode()
                    enqueue(connection, self.name, session_id, self._clock_ns(), encoded, len(piece), reason)
            requeued = sum(map(len, lines.values()))
            totals.count_loss(connection, "corrupt", len(rows) - requeued, self._clock_ns())
            totals.bump_revision(connection)
        return requeued

    def close(self) -> None:
        """Close the connection, unless it is the store's own in memory."""
        if self._database.path is not None:
            self._database.close()

    def _bury(self, connection: sqlite3.Connection, row: _Row, line: bytes, rejection: Rejection) -> None:
        now_ns = clock.read(connection, clock.look()).now_ns  # by which it grows old
        letter = DeadLetter(self.name, line.decode(), rejection.reason, now_ns, rejection.cause)
        bury(connection, row.session_id, letter)
        if not row.counted_lost:  # what was requeued, and is refused once more, is lost once
            totals.count_loss(connection, rejection.reason, 1, self._clock_ns())

    def _drop_damaged(self, row_ids: list[int]) -> None:
        with self._database.transaction() as connection:
            # A session each: how many lines it had is not known any more.
            lost = sum(_delete_row(connection, row_id) is not None for row_id in row_ids)
            totals.count_loss(connection, "corrupt", lost, self._clock_ns())
            totals.bump_revision(connection)

    def _count_delivered(self, connection: sqlite3.Connection, amount: int, is_news: bool = True) -> None:
        totals.count(connection, catalogue.MONITORING_DELIVERED, amount, self._clock_ns(), backend=self.name)
        if is_news:  # the pushed state tells how much waits for this backend
            totals.bump_revision(connection)

    def _note(self, connection: sqlite3.Connection, delivery: Delivery) -> None:
        now = self._clock_ns()
        self._keep_expiry(connection, delivery.expiry, now)
        if delivery.error is None:
            connection.execute(
                "UPDATE backends SET consecutive_failures = 0, next_attempt_ns = 0, last_error = NULL WHERE name = ?",
                (self.name,),
            )
            progress = progress_of_all(connection).get(self.name, Progress())
            set_progress(connection, self.name, progress._replace(last_success_ns=now))
            return
        failures = connection.execute(
            "UPDATE backends SET consecutive_failures = CAST(consecutive_failures AS INTEGER) + 1, last_error = ?"
            " WHERE name = ? RETURNING consecutive_failures",
            (delivery.detail or delivery.error, self.name),
        ).fetchone()[0]
        rest = backoff_seconds(failures, delivery.retry_after_seconds)
        connection.execute(
            "UPDATE backends SET next_attempt_ns = ? WHERE name = ?", (now + round(rest * NANOSECONDS), self.name)
        )
        totals.count(connection, catalogue.MONITORING_FAILURES, 1, now, backend=self.name, reason=delivery.error)

    def _keep_expiry(self, connection: sqlite3.Connection, expiry: Expiry | None, now_ns: int) -> None:
        # No news for a state: of two servers behind one address each would be, at each push, and so on without end.
        metric = catalogue.CERTIFICATE_EXPIRY
        kept = {kind: end for (name, kind), end in totals.values(connection, metric).items() if name == self.name}
        if expiry is None or expiry == kept:
            return
        totals.drop(connection, _keys_of_dates((self.name, kind) for kind in WHAT_ENDS))
        changes = [
            Change(metric.name, {"backend": self.name, "kind": kind}, "", end, replaces=True)
            for kind, end in expiry.items()
        ]
        totals.apply_changes(connection, changes, now_ns)


def _keys_of_dates(dates: Iterable[tuple[str, ...]]) -> list[tuple[bytes, bytes, bytes]]:
    name = catalogue.CERTIFICATE_EXPIRY.name.encode()
    return [(name, totals.labels_key({"backend": of, "kind": kind}).encode(), b"") for of, kind in dates]


def backoff_seconds(
    failures: int, retry_after_seconds: float | None = None, jitter: Callable[[float, float], float] = random.uniform
) -> float:
    """Exponential backoff with full jitter, from 0 to min(300, 2**failures) s; not sooner than the backend asks."""
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 30))
    asked = min(retry_after_seconds or 0.0, RETRY_AFTER_CAP_SECONDS)
    # Full jitter, since containers that failed together would else come back together.
    return asked + jitter(0.0, ceiling if not asked else BACKOFF_BASE_SECONDS)


def _delete_row(connection: sqlite3.Connection, row_id: int) -> _Row | None:
    """What is to be known of the row; None when another process was first."""
    row = connection.execute("DELETE FROM outbox WHERE id = ? RETURNING session_id, counted_lost", (row_id,)).fetchone()
    return None if row is None else _Row(str(row[0]), str(row[1]))
