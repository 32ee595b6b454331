"""Open sessions: what is known of each before it ends, so that a killed process is reported as crashed.

A trace is the record that would be reported if the process died now. Its first write is durable; the
later ones, at each stage, survive the process' death though perhaps not a power cut.
"""

from __future__ import annotations

import time
from pathlib import Path

from monitoring.exceptions import RecordError
from monitoring.metrics.session_writes import BuildWrites
from monitoring.records.session_record import SessionRecord
from monitoring.store import locks, totals
from monitoring.store.database import Database, checksum
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
    for session_id, owner, updated_ns, text, expected in rows:
        if reported == limit:
            break
        if checksum(session_id, owner, updated_ns, text) != expected:
            _drop(store.database, session_id, expected)
        elif owner in dead:
            reported += _report(store, session_id, text, expected, build)
    locks.remove_stale(path)
    return reported


def _report(store: Store, session_id: str, text: str, trace_checksum: int, build: BuildWrites) -> int:
    try:
        return int(store.commit(SessionRecord.from_json(text), build))
    except RecordError:
        _drop(store.database, session_id, trace_checksum)
        return 0


def _drop(database: Database, session_id: str, trace_checksum: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            "DELETE FROM open_sessions WHERE session_id = ? AND checksum = ?", (session_id, trace_checksum)
        )
        totals.count_loss(connection, "corrupt", 1, time.time_ns())
