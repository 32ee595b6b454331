"""Open sessions: what is known of each before it ends, so that a killed process is reported as crashed.

A trace is the record that would be reported if the process died now. Its first write is durable; the
later ones, at each stage, survive the process' death though perhaps not a power cut.
"""

from __future__ import annotations

import time
from pathlib import Path

from monitoring.metrics.session_writes import BuildWrites
from monitoring.records.session_record import SessionRecord
from monitoring.store import locks, totals
from monitoring.store.database import Database
from monitoring.store.rows import checksum, is_intact, stored_record
from monitoring.store.sessions import Store


def keep(database: Database, owner: str, trace: SessionRecord, durable: bool) -> None:
    """Write or renew an open session's trace; raises :class:`StoreError`."""
    text = trace.to_json()
    with database.transaction(durable) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO open_sessions VALUES (?, ?, ?, ?, ?)",
            (trace.session_id, owner, trace.ended_ns, text, checksum(trace.session_id, owner, trace.ended_ns, text)),
        )


def report_crashed(store: Store, path: Path, build: BuildWrites, limit: int | None = None) -> int:
    """Commit the open sessions of dead processes as crashed, at most ``limit``; returns how many.

    Raises :class:`StoreError`.
    """
    with store.database.read_transaction() as connection:
        owners = [row[0] for row in connection.execute("SELECT DISTINCT owner FROM open_sessions")]
    dead = {owner for owner in owners if not locks.is_alive(path, owner)}
    with store.database.read_transaction() as connection:  # only now: the dead have written their last
        rows = connection.execute("SELECT * FROM open_sessions").fetchall()
    reported = 0
    for row in rows:
        if reported == limit:
            break
        session_id, owner, _, text, trace_checksum = row
        record = stored_record(text) if is_intact(row) else None
        if record is None:
            _drop(store.database, session_id, trace_checksum)
        elif owner in dead:
            reported += store.commit(record, build)
    locks.remove_stale(path)
    return reported


def _drop(database: Database, session_id: str, trace_checksum: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            "DELETE FROM open_sessions WHERE session_id = ? AND checksum = ?", (session_id, trace_checksum)
        )
        totals.count_loss(connection, "corrupt", 1, time.time_ns())
