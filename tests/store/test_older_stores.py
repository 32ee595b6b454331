"""A store that an older version wrote is brought up to date, and nothing in it is lost."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from monitoring import metrics_collector as collector
from monitoring.delivery.queue import BackendQueue
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.exceptions import StoreError, StoreVersionError
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.store import schema
from monitoring.store.database import Database
from monitoring.store.erasure import erase
from monitoring.store.outbox import dead_letters
from monitoring.store.rows import checksum
from monitoring.store.sessions import Store, open_store
from tests.support.older_stores import older_store
from tests.support.records import ENDED_NS, realistic


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
        monkeypatch.setattr(collector, "FORMULA_VERSION", 9)
        store.route("influxdb", SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",)))
        kept = [stored.derived for stored in store.sessions()]
    assert [one.formula for one in kept if one is not None] == [9, 9, 9]
    assert all(one.values["leglength_measurement_millimeters{measurement=PLL_R_FEM}"] for one in kept if one)


def test_what_is_derived_is_kept_with_the_facts_that_it_rests_on(tmp_path: Path) -> None:
    store = Store(Database(tmp_path / "monitoring.db"))
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    for number in range(2):
        store.commit(realistic(session_id=str(number), ended_ns=ENDED_NS + number), builder)
    newest = next(iter(store.sessions()))
    store.database.close()
    assert newest.derived is not None
    assert newest.derived.formula == FORMULA_VERSION
    assert newest.derived.facts.earlier_runs == 1
    assert newest.derived.values["leglength_duplicate_series_total"] == 1.0
    assert newest.derived.values["leglength_measurement_millimeters{measurement=PLL_R_FEM}"] == 412.5


ERASED, KEPT = "e1" * 16, "c2" * 16


def store_of_the_second_version(path: Path) -> None:
    """Two patients' sessions with a dead letter each, one letter of a session that has left, and a requeued row."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for migration in schema.MIGRATIONS[:2]:
        for statement in filter(str.strip, migration.split(";")):
            connection.execute(statement)
    for number, patient in enumerate((ERASED, KEPT)):
        record = realistic(session_id=str(number), ended_ns=ENDED_NS + number, patient_key=patient, reader_mm={})
        text = record.to_json()
        connection.execute(
            "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum, patient_key)"
            " VALUES (?, 'completed', ?, ?, 'influxdb', ?, ?, ?)",
            (str(number), record.ended_ns, record.ended_ns, text, checksum(record.ended_ns, text), patient),
        )
    for number in range(3):
        letter = ("influxdb", f"leglength_session,status=completed landmarks=8 {ENDED_NS + number}", "rejected", 1)
        connection.execute(
            "INSERT INTO dead_letters (backend, line, reason, created_ns, checksum) VALUES (?, ?, ?, ?, ?)",
            (*letter, checksum(*letter)),
        )
    lines = b"\n".join(b"leglength_session stops=1 %d" % (ENDED_NS + number) for number in range(3))
    requeued = ("influxdb", "", 1, 3)
    connection.execute(
        "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines) VALUES (?, ?, ?, ?, ?, ?)",
        (*requeued, checksum(*requeued, lines), lines),
    )
    connection.execute("PRAGMA user_version = 2")
    connection.close()


def test_an_older_dead_letter_is_told_whose_it_is_while_its_session_is_there(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    store_of_the_second_version(path)
    with open_store(Database(path)) as store, store.database.read_transaction() as connection:
        owners = connection.execute("SELECT session_id FROM dead_letters ORDER BY id").fetchall()
        assert owners == [("0",), ("1",), ("",)]
        assert len(list(dead_letters(connection))) == 3


def test_an_older_stores_dead_letters_and_requeued_lines_are_erased_with_their_patient(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    store_of_the_second_version(path)
    with open_store(Database(path)) as store:
        found = erase(store.database, ERASED)
        assert (found.sessions, found.dead_letters, found.waiting_lines) == (1, 1, 1)
        BackendQueue(store.database, "influxdb", "").requeue_dead()
        batch = BackendQueue(store.database, "influxdb", "").next_batch(10)
    assert sorted(int(line.rpartition(b" ")[2]) - ENDED_NS for line in batch.lines) == [1, 1, 2, 2]


def test_a_letter_that_names_no_session_goes_with_the_session_that_is_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    store_of_the_second_version(path)
    with open_store(Database(path)) as store:
        store.commit(realistic(session_id="2", ended_ns=ENDED_NS + 2, patient_key=ERASED), SessionWritesBuilder())
        found = erase(store.database, ERASED)
    assert (found.sessions, found.dead_letters, found.waiting_lines) == (2, 2, 2)


# --- stores of another version, looked at and used ----------------------------------------------


def everything(path: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in sorted(path.parent.iterdir())]


def test_looking_at_an_older_store_does_not_migrate_it(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    older_store(path)
    before = everything(path)
    with open_store(Database(path, only_reads=True)) as store:
        assert [found.record.session_id for found in store.sessions()] == ["2", "0"]
        assert store.counts_by_status()["completed"] == 0  # it was written without totals
        with pytest.raises(StoreError), store.database.transaction() as connection:
            connection.execute("DELETE FROM sessions")
    assert dict(before).items() <= dict(everything(path)).items()


def test_looking_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Database(tmp_path / "monitoring.db", only_reads=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_what_another_process_commits(tmp_path: Path) -> None:
    path = tmp_path / "monitoring.db"
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    with open_store(Database(path)) as store, open_store(Database(path, only_reads=True)) as reader:
        store.commit(realistic(session_id="1"), builder)
        assert [found.record.session_id for found in reader.sessions()] == ["1"]


ADDED = "CREATE TABLE later (key TEXT PRIMARY KEY); ALTER TABLE sessions ADD COLUMN later TEXT NOT NULL DEFAULT ''"


@pytest.mark.parametrize(
    ("usable_from", "is_usable"), [(len(schema.MIGRATIONS), True), (len(schema.MIGRATIONS) + 1, False)]
)
def test_a_newer_store_that_only_gained_optional_things_is_used_and_another_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable_from: int, is_usable: bool
) -> None:
    path = tmp_path / "monitoring.db"
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ADDED))
        later.setattr(schema, "USABLE_FROM", (*schema.USABLE_FROM, usable_from))
        schema._expected_tables.cache_clear()
        with open_store(Database(path)) as store:
            store.commit(realistic(session_id="1"), builder)
    schema._expected_tables.cache_clear()
    if not is_usable:
        for only_reads in (False, True):
            with pytest.raises(StoreVersionError, match="newer version"):
                Database(path, only_reads=only_reads)
        return
    with open_store(Database(path)) as store:
        store.commit(realistic(session_id="2"), builder)
        assert [found.record.session_id for found in store.sessions()] == ["2", "1"]
    with open_store(Database(path, only_reads=True)) as store, store.database.read_transaction() as connection:
        assert schema.version(connection) == len(schema.MIGRATIONS) + 1


def test_each_step_says_which_packages_may_still_use_the_store() -> None:
    assert len(schema.USABLE_FROM) == len(schema.MIGRATIONS)
    assert all(oldest <= number for number, oldest in enumerate(schema.USABLE_FROM, start=1))


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_an_interrupt_while_a_store_is_brought_up_to_date_stays_one(tmp_path: Path, statement: str) -> None:
    """It once became an error of the rollback's, for which the host went on without its file, and without an end."""

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            done = super().execute(sql, *arguments)
            if sql == statement:
                raise KeyboardInterrupt
            return done

    connection = sqlite3.connect(tmp_path / "monitoring.db", isolation_level=None, factory=Interrupted)
    with contextlib.closing(connection), pytest.raises(KeyboardInterrupt):
        schema.migrate(connection)
    Database(tmp_path / "monitoring.db").close()
