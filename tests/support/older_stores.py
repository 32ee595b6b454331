"""Stores as older versions of the package wrote them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from monitoring.store import schema
from monitoring.store.rows import checksum
from tests.support.records import ENDED_NS, realistic


def older_store(path: Path) -> None:
    """As the first version wrote it: three sessions, one of which is damaged."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in filter(str.strip, schema.MIGRATIONS[0].split(";")):
        connection.execute(statement)
    for number, key in enumerate(("aa" * 16, "bb" * 16, "aa" * 16)):
        record = realistic(
            session_id=str(number), ended_ns=ENDED_NS + number, series_key=key, study_key=None, patient_key=None,
            accession_key=None, reader_mm={}, thresholds_cm={}, points={},
        )  # fmt: skip
        text = record.to_json() if number != 1 else "{damaged"
        connection.execute(
            "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum)"
            " VALUES (?, 'completed', ?, ?, '', ?, ?)",
            (str(number), record.ended_ns, record.ended_ns, text, checksum(record.ended_ns, text)),
        )
    connection.execute("PRAGMA user_version = 1")
    connection.close()
