"""Stores that hold much already: filled in one transaction, with the very rows that as many commits would leave."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import workload
from monitoring.events import SessionRecord
from monitoring.line_protocol import encode
from monitoring.metrics_collector import changes, points, samples
from monitoring.outbox import totals
from monitoring.outbox.database import Database, checksum

APART_NS = 30 * 10**9  # a busy site: 120 sessions an hour, a million in a year
_SECOND_NS = 10**9
_SESSION = (
    "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_LINES = (
    "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines)"
    " SELECT 'influxdb', session_id, timestamp_ns, ?, checksum(lines(timestamp_ns)), lines(timestamp_ns)"
    " FROM sessions ORDER BY sequence"
)


def fill(path: Path, count: int, with_lines: bool) -> None:
    """A store of ``count`` sessions; either each with its lines still to be delivered, or all of them delivered."""
    template = workload.record(with_models=with_lines)
    database = Database(path)
    with database.transaction() as connection:
        connection.execute("PRAGMA cache_size = -500000")
        connection.execute("INSERT OR IGNORE INTO backends (name) VALUES ('influxdb')")
        connection.executemany(_SESSION, _session_rows(template, count))
        if with_lines:
            heads = _heads(template)
            connection.create_function("lines", 1, lambda time_ns: _lines(heads, time_ns), deterministic=True)
            connection.execute(_LINES, (len(heads),))
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
        yield session_id, template.status, end, end, "influxdb", text, checksum(end, text)


def _grown(template: SessionRecord, count: int) -> list[object]:
    found = changes(samples(template, 12))
    return [change if change.replaces else replace(change, value=change.value * count) for change in found]


def _heads(template: SessionRecord) -> list[bytes]:
    return [encode(point).encode() for point in points(samples(template, 12), template, workload.INSTANCE)]


def _lines(heads: list[bytes], time_ns: int) -> bytes:
    return b"\n".join([b"%b %d" % (head, time_ns) for head in heads])


def waiting_lines(path: Path, target: Path) -> int:
    """Write down the lines that wait, one a line; returns how many values they hold."""
    database = Database(path)
    fields = 0
    with database.reading() as connection, target.open("wb") as file:
        for (lines,) in connection.execute("SELECT lines FROM outbox ORDER BY id"):
            file.write(lines + b"\n")
            fields += sum(line.split(b" ")[1].count(b"=") for line in lines.split(b"\n"))
    database.close()
    return fields
