"""Stores that hold much already: filled in one transaction, with the very rows that as many commits would leave."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from benchmarks import workload
from monitoring.domain.derivation import Facts
from monitoring.metrics.line_protocol import encode
from monitoring.metrics.samples import Change
from monitoring.metrics_collector import changes, points, samples
from monitoring.records.session_record import SessionRecord
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.outbox import enqueue
from monitoring.store.rows import checksum

APART_NS = 30 * 10**9  # a busy site: 120 sessions an hour, a million in a year
_SECOND_NS = 10**9
_SESSION = (
    "INSERT INTO sessions"
    " (session_id, status, timestamp_ns, ended_ns, routed, record, checksum, series_key, patient_key)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def fill(path: Path, count: int, with_lines: bool) -> None:
    """A store of ``count`` sessions; either each with its lines still to be delivered, or all of them delivered."""
    template = workload.record(with_models=with_lines)
    heads = [
        encode(point).encode()
        for point in points(samples(template, Facts(sessions_last_hour=12)), template, {"instance": workload.INSTANCE})
    ]
    database = Database(path)
    with database.transaction() as connection:
        connection.execute("PRAGMA cache_size = -500000")
        connection.executemany(_SESSION, _session_rows(template, count))
        if with_lines:
            _enqueue(connection, heads)
        totals.apply_changes(connection, _grown(template, count), workload.now_ns())
        totals.bump_revision(connection)
    database.close()


def _session_rows(template: SessionRecord, count: int) -> Iterator[tuple[object, ...]]:
    """As if each was frozen from a session of its own; only ids and instants differ, so only they are written anew."""
    names = replace(template, session_id="<id>", started_ns=-111, ended_ns=-222).to_json()
    newest = workload.now_ns()
    for number in range(count, 0, -1):
        end, session_id = newest - number * APART_NS, uuid.uuid4().hex
        text = names.replace("<id>", session_id, 1).replace("-111", str(end - _SECOND_NS), 1)
        text = text.replace("-222", str(end), 1)
        yield session_id, template.status, end, end, "influxdb", text, checksum(end, text), session_id, session_id


def _enqueue(connection: sqlite3.Connection, heads: list[bytes]) -> None:
    for session_id, time_ns in connection.execute("SELECT session_id, timestamp_ns FROM sessions").fetchall():
        lines = b"\n".join([b"%b %d" % (head, time_ns) for head in heads])
        enqueue(connection, "influxdb", session_id, time_ns, lines, len(heads))


def _grown(template: SessionRecord, count: int) -> list[Change]:
    found = changes(samples(template, Facts(sessions_last_hour=12)))
    return [change if change.replaces else change._replace(value=change.value * count) for change in found]


def waiting_lines(path: Path, target: Path) -> int:
    """Write down the lines that wait, one a line; returns how many values they hold."""
    database = Database(path)
    fields = 0
    with database.read_transaction() as connection, target.open("wb") as file:
        for (lines,) in connection.execute("SELECT lines FROM outbox ORDER BY id"):
            file.write(lines + b"\n")
            fields += sum(line.split(b" ")[1].count(b"=") for line in lines.split(b"\n"))
    database.close()
    return fields
