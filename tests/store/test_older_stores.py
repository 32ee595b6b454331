"""A store that an older version wrote is brought up to date, and nothing in it is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from monitoring import metrics_collector as collector
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.store import schema
from monitoring.store.database import Database
from monitoring.store.rows import checksum
from monitoring.store.sessions import Store, open_store
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


def test_an_older_stores_sessions_are_found_by_their_series(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    older_store(path)
    with open_store(Database(path)) as store:
        found = list(store.sessions())
        assert [item.record.session_id for item in found] == ["2", "0"]
        assert [item.derived for item in found] == [None, None]
        with store.database.read_transaction() as connection:
            assert schema.version(connection) == len(schema.MIGRATIONS)
            keys = [row[0] for row in connection.execute("SELECT series_key FROM sessions ORDER BY sequence")]
        assert keys == ["aa" * 16, "", "aa" * 16]


def test_an_older_store_takes_new_sessions_and_routes_its_own(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    older_store(path)
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    with open_store(Database(path)) as store:
        assert store.commit(realistic(session_id="new", series_key="aa" * 16), builder)
        assert store.route("influxdb", builder) == 3
        with store.database.read_transaction() as connection:
            lines = b"\n".join(row[0] for row in connection.execute("SELECT lines FROM outbox ORDER BY id")).split(
                b"\n"
            )
    sessions = [line for line in lines if line.startswith(b"leglength_session,")]
    assert len(sessions) == 3


def test_what_newer_formulas_made_lines_of_was_delivered_under_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "monitoring.db"
    older_store(path)  # whose sessions were derived by nothing that is known
    with open_store(Database(path)) as store:
        store.commit(realistic(session_id="new"), SessionWritesBuilder({"instance": "here"}, log_backends=()))
        monkeypatch.setattr(collector, "FORMULA_VERSION", 2)
        store.route("influxdb", SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",)))
        kept = [stored.derived for stored in store.sessions()]
    assert [one.formula for one in kept if one is not None] == [2, 2, 2]
    assert all(one.values["leglength_measurement_millimeters{measurement=PLL_R_FEM}"] for one in kept if one)


def test_what_is_derived_is_kept_with_the_facts_that_it_rests_on(tmp_path: Path) -> None:
    store = Store(Database(tmp_path / "monitoring.db"))
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    for number in range(2):
        store.commit(realistic(session_id=str(number), ended_ns=ENDED_NS + number), builder)
    newest = next(iter(store.sessions()))
    store.database.close()
    assert newest.derived is not None
    assert newest.derived.formula == 1
    assert newest.derived.facts.earlier_runs == 1
    assert newest.derived.values["leglength_duplicate_series_total"] == 1.0
    assert newest.derived.values["leglength_measurement_millimeters{measurement=PLL_R_FEM}"] == 412.5
