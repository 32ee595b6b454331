"""Open sessions: what is known of each before it ends, so that a killed process is reported as crashed.

A trace is the record that would be reported if the process died now. Its first write is durable; the
later ones, at each stage, survive the process' death though perhaps not a power cut.
"""

from __future__ import annotations

import time
from pathlib import Path

from monitoring.events import SessionRecord
from monitoring.exceptions import RecordError
from monitoring.outbox import totals
from monitoring.outbox.database import Database
from monitoring.outbox.liveness import forget, is_alive
from monitoring.outbox.store import Build, Store


def keep(database: Database, owner: str, trace: SessionRecord, durable: bool) -> None:
    """Write or renew an open session's trace; raises :class:`StoreError`."""
    with database.transaction(durable) as connection:
        connection.execute(
            "INSERT INTO open_sessions VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT (session_id) DO UPDATE SET updated_ns = ?3, record = ?4",
            (trace.session_id, owner, trace.ended_ns, trace.to_json()),
        )


def report_crashed(store: Store, path: Path, build: Build) -> int:
    """Commit the open sessions of dead processes as crashed; returns how many. Raises :class:`StoreError`."""
    with store.database.reading() as connection:
        owners = [row[0] for row in connection.execute("SELECT DISTINCT owner FROM open_sessions")]
    reported = 0
    for owner in owners:
        if not is_alive(path, str(owner)):
            reported += _report(store, owner, build)
            forget(path, str(owner))
    return reported


def _report(store: Store, owner: str, build: Build) -> int:
    with store.database.reading() as connection:
        traces = connection.execute("SELECT session_id, record FROM open_sessions WHERE owner = ?", (owner,)).fetchall()
    reported = 0
    for session_id, text in traces:
        try:
            reported += store.commit(SessionRecord.from_json(text), build)
        except RecordError:
            _drop(store.database, session_id)
    return reported


def _drop(database: Database, session_id: str) -> None:
    with database.transaction() as connection:
        connection.execute("DELETE FROM open_sessions WHERE session_id = ?", (session_id,))
        totals.count_loss(connection, "corrupt", 1, time.time_ns())
