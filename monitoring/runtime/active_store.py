"""A store at work: one database, what makes and delivers its lines, its limits, and this process' liveness lock.

Whether the file can be used at all, and what stands in for it, is decided one floor up
(:mod:`monitoring.runtime.failover`); what a commit writes, one room down (:mod:`monitoring.store`). Methods raise
:class:`StoreError`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from monitoring.delivery.threads import DeliveryThreads, ErrorGuard
from monitoring.exceptions import StoreCorruptError, StoreError
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Label
from monitoring.metrics.samples import NANOSECONDS, Change, Vocabulary
from monitoring.metrics.session_writes import SessionWrites, TransactionContext
from monitoring.privacy.log_filter import HITS
from monitoring.readings import validation
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.backends import courier_makers, session_writes_builder
from monitoring.runtime.left_out import LeftOutLog
from monitoring.settings import MonitoringConfig
from monitoring.store import limits, totals
from monitoring.store.database import Database
from monitoring.store.location import instance_name
from monitoring.store.locks import LivenessLock, unmark_ended
from monitoring.store.outbox import backend_statuses, dead_by_cause
from monitoring.store.sessions import Store
from monitoring.transport.deadline import Deadline

_IN_MEMORY = "memory"


class ActiveStore:
    """Commits sessions to one database and delivers what it holds.

    ``instance`` is the name to report under; without it, the settings' or the store's own. ``made_in_memory`` is what
    a store in memory has already made of sessions, by their ids; ``life`` the lock of a process that opens it again.
    """

    def __init__(
        self,
        database: Database,
        config: MonitoringConfig,
        logger: logging.Logger,
        guard: ErrorGuard,
        instance: str | None = None,
        made_in_memory: dict[str, tuple[int, SessionWrites]] | None = None,
        life: LivenessLock | None = None,
        heartbeat_seconds: float | None = None,
    ) -> None:
        self.database = database
        self._made_in_memory = {} if made_in_memory is None else made_in_memory
        self.store = Store(database)
        self.instance = instance or instance_name(config, self.store)
        self.builder = session_writes_builder(config, self.instance)
        self._limits = limits.Limits.of(config.store)
        # Under whose life traces and leases are held; nobody else sees a store in memory.
        self._owner = None if database.path is None else life or LivenessLock(database.path)
        self.owner = self._owner.token if self._owner else _IN_MEMORY
        self.courier_makers = courier_makers(config, database, self.instance, self.owner, heartbeat_seconds)
        self.threads = DeliveryThreads(self.courier_makers, guard, logger)
        self._left_out = LeftOutLog(logger)
        # From here on: what was lost before this process is no news.
        self._losses = LossLog(database, logger)
        self._untold_hits = 0
        self._logger = logger

    def check(self) -> None:
        """Raise :class:`StoreCorruptError` when the delivery has found the store damaged."""
        if self.threads.has_met_damage:
            raise StoreCorruptError("the store is damaged")

    def report_crashed(self, limit: int | None = None) -> int:
        """Commit the sessions of processes that died as crashed, at most ``limit``; returns how many."""
        return self.store.report_crashed(self.builder, limit)

    def trace(self, record: SessionRecord, durable: bool) -> None:
        """Keep what is known of an open session."""
        self.check()
        if self._owner is not None and self.database.path is not None:
            if durable:  # the session begins: room for its end is held back as well
                limits.hold_ballast(self.database.path)
            self.store.keep_open(record, self._owner.token, durable)

    def commit(self, unsaved: list[SessionRecord]) -> None:
        """Keep finished sessions, the oldest first, and wake the delivery; takes each that is kept off the list."""
        self.check()
        while unsaved:
            limits.make_room(self.database, self._limits)
            try:
                if self.store.commit(unsaved[0], self._build):
                    self._untold_hits = 0
            except StoreCorruptError:
                raise
            except StoreError:
                if self.database.path is None or not limits.drop_ballast(self.database.path):
                    raise
                continue  # into the room that was held back
            except Exception:  # a record that can't be kept must not hold up those behind it
                del unsaved[0]
                raise
            session_id = unsaved[0].session_id
            if self.database.path is not None and session_id in self._made_in_memory:
                del self._made_in_memory[session_id]
                unmark_ended(self.database.path, session_id)
            del unsaved[0]
        self.threads.wake()
        # A piece with each session: no session ever pays for a long clean-up.
        if self.database.path is not None:
            self.enforce_limits(pieces=1)

    def _build(self, record: SessionRecord, context: TransactionContext) -> SessionWrites:
        """What is written of a session is made once, whatever keeps it: the same points, from memory and from the file.

        Made anew in the file it would differ, since only the file knows the patient's earlier exams.
        """
        made = self._made_in_memory.get(record.session_id)
        if made is not None and made[0] == context.timestamp_ns:
            writes = made[1]
        else:
            writes = self.builder(record, replace(context, vocabulary=self._telling(context.vocabulary)))
        if self.database.path is None:
            self._made_in_memory[record.session_id] = (context.timestamp_ns, writes)
            return writes
        # With the session, in its transaction; of one that fails they are told with the next.
        self._untold_hits += HITS.take()
        hits = Change(catalogue.LOG_FILTER_HITS.name, {}, "", float(self._untold_hits), replaces=False)
        return replace(writes, changes=[*writes.changes, hits]) if self._untold_hits else writes

    def _telling(self, vocabulary: Vocabulary) -> Vocabulary:
        """The same, and a host's names for which a label has no room are said."""

        def value_taken(label: Label, value: str) -> str:
            taken = vocabulary(label, value)
            if taken != value:
                self._left_out(f"no room in the label {label.name}", value)
            return taken

        return value_taken

    def note_key(self, fingerprint: str) -> None:
        """Say it when the site's key is another than before: a lost key is noticed now, and not when it is needed."""
        if self.store.is_another_key(fingerprint):
            self._logger.error(
                "monitoring: the site's key is another than before: sessions recorded until now can't be matched or"
                " erased by their patient; if the key was lost, put it back"
            )

    def make_missing_lines(self, pieces: int | None = None) -> None:
        """Make the lines of sessions that were recorded without a log backend, in at most so many pieces of work."""
        logs = ",".join(self.builder.log_backends)
        while logs and pieces != 0 and self.store.route(logs, self.builder):
            pieces = None if pieces is None else pieces - 1

    def enforce_limits(self, pieces: int) -> None:
        """Keep the store within its limits, in so many small pieces of work, so that nobody waits long for it."""
        limits.enforce(self.database, self._limits, pieces)
        self._losses.say_new()

    def refresh_validation(self, records: Sequence[SessionRecord]) -> None:
        """Compute the validation's gauges anew, where a reader has measured one of these exams."""
        if validation.refresh_after(self.database, records):
            self.threads.wake()

    def tell_log_filter(self) -> None:
        """Count what the log filter has removed since the last session was committed."""
        self._untold_hits += HITS.take()
        with self.database.transaction(durable=False) as connection:
            totals.count(connection, catalogue.LOG_FILTER_HITS, self._untold_hits, time.time_ns())
            totals.bump_revision(connection)
        self._untold_hits = 0
        self.threads.wake()

    @property
    def has_untold_hits(self) -> bool:
        """Whether the log filter has removed anything that isn't in the store yet."""
        return bool(self._untold_hits or HITS.count)

    def beat(self) -> None:
        """Write the relay's sign of life into the pushed state."""
        now_ns = time.time_ns()
        change = Change(catalogue.RELAY_LAST_SEEN.name, {}, "", now_ns / NANOSECONDS, replaces=True)
        with self.database.transaction(durable=False) as connection:
            totals.apply_changes(connection, [change], now_ns)
            totals.bump_revision(connection)

    def has_undelivered_lines(self) -> bool:
        """Whether lines wait for a log backend, or there is none that could take them."""
        if not self.builder.log_backends:
            return True
        with self.database.read_transaction() as connection:
            return any(
                found.pending for found in backend_statuses(connection) if found.name in self.builder.log_backends
            )

    def close(self, deadline: Deadline) -> None:
        """Deliver until the deadline; the file stays."""
        self.threads.close(deadline)
        with suppress(StoreError):  # they stay counted
            self._losses.say_new()
        if self._owner is not None:
            self._owner.close()  # and with it ends the lease of a thread that is still waiting for an answer
        if self.database.path is not None:
            self.database.close()

    def abandon(self, keeps_life: bool = False) -> LivenessLock | None:
        """Stop working on a store that was damaged or replaced; what was open in it is not ours any more.

        Unless it ``keeps_life``: then the lock is returned, for who opens the same store again.
        """
        # Not joined: a thread that waits for an answer would hold up the host.
        self.threads.begin_close(Deadline.after(0.0))
        HITS.add(self._untold_hits)  # for the store that follows
        self._untold_hits = 0
        if self._owner is not None and not keeps_life:
            self._owner.close()
        self.database.close()
        return self._owner

    def after_fork(self) -> None:
        """In a child process, where the threads are gone: the liveness lock is the parent's, and ends with it."""
        self._untold_hits = 0
        if self._owner is not None:
            self._owner.after_fork()


class LossLog:
    """Says each kind of loss once: looks at the store's counts, of which what was before this process is no news.

    Points that a backend refuses are a kind for each backend and cause, since they lie aside and can be sent again.
    """

    def __init__(self, database: Database, logger: logging.Logger) -> None:
        self._database = database
        self._logger = logger
        self._said: set[str] = set()
        self._lost: dict[tuple[str, ...], float] = {}
        self._before = self._counts()

    def say_new(self) -> None:
        """Log the kinds of loss that have happened since; raises :class:`StoreError`."""
        for what, count in self._counts().items():
            news = count - self._before.get(what, 0)
            if news > 0 and what not in self._said:
                self._said.add(what)
                self._logger.warning("monitoring: %d %s", news, what)

    def _counts(self) -> dict[str, int]:
        """How many of each kind; nothing where nothing was lost since the last look, as nearly always."""
        with self._database.read_transaction() as connection:
            lost = totals.values(connection, catalogue.MONITORING_DROPPED)
            if lost == self._lost:
                return {}
            refused = dead_by_cause(connection)
        self._lost = lost
        found = {
            f"lost, reason {reason}; the command status counts what is lost": int(count)
            for (reason,), count in lost.items()
        }
        for backend, causes in refused.items():
            for cause, count in causes.items():
                found[f"point(s) refused for good by {backend}: {cause}; export --dead shows them"] = count
        return found
