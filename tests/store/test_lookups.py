"""What a commit asks the store about other sessions: the right ones, and a bounded number of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.domain.derivation import Facts
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.records.session_record import SessionRecord
from monitoring.store import lookups, readings
from monitoring.store.database import Database
from monitoring.store.sessions import Store
from tests.support.records import ENDED_NS, realistic

DAY_NS = 86_400 * NANOSECONDS
BUILDER = SessionWritesBuilder({"instance": "here"}, log_backends=())


class Archive:
    """A store that is filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(Database(folder / "monitoring.db"))
        self._number = 0

    def record(self, days: float = 0.0, **changed: Any) -> SessionRecord:
        """A session that ended so many days after the first, of a series and study of its own."""
        self._number += 1
        ended_ns = ENDED_NS + round(days * DAY_NS) + self._number
        own = {"series_key": f"{self._number:032x}", "study_key": f"5{self._number:031x}", "reader_mm": {}}
        times = {"session_id": str(self._number), "ended_ns": ended_ns, "started_ns": ended_ns - NANOSECONDS}
        return realistic(**{**own, **times, **changed})

    def add(self, days: float = 0.0, **changed: Any) -> SessionRecord:
        record = self.record(days, **changed)
        assert self.store.commit(record, BUILDER)
        return record

    def facts(self, record: SessionRecord) -> Facts:
        with self.store.database.read_transaction() as connection:
            return lookups.facts(connection, record)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.store.database.close()


def test_an_empty_store_knows_nothing_but_the_session_itself(archive: Archive) -> None:
    assert archive.facts(archive.record()) == Facts(sessions_last_hour=1, earlier_runs=0)


def test_earlier_runs_of_the_same_series_are_counted(archive: Archive) -> None:
    for status in ("completed", "failed"):
        archive.add(series_key="aa" * 16, status=status)
    archive.add()
    assert archive.facts(archive.record(1, series_key="aa" * 16)).earlier_runs == 2
    assert archive.facts(archive.record(-1, series_key="aa" * 16)).earlier_runs == 0
    assert archive.facts(archive.record(1, series_key="")).earlier_runs is None


def test_the_latest_earlier_exam_of_the_same_patient_is_compared(archive: Archive) -> None:
    archive.add(0, measurements_mm={"PLL_R_FEM": 300.0})
    archive.add(100, measurements_mm={"PLL_R_FEM": 310.0})
    archive.add(150, measurements_mm={"PLL_R_FEM": 999.0}, patient_key="another")
    archive.add(160, measurements_mm={"PLL_R_FEM": 998.0}, patient_key=None)
    facts = archive.facts(archive.record(300))
    assert facts.earlier_mm == {"PLL_R_FEM": 310.0}
    assert facts.days_since_earlier == pytest.approx(200, abs=1e-3)
    assert archive.facts(archive.record(300, patient_key=None)).earlier_mm == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "failed"},
        {"status": "skipped"},
        {"measurements_mm": {}},
        {"study_key": "the same study"},
        {"series_key": "the same series"},
        {"context": {"age_years": 12.0}},
        {"patient_key": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_is_no_earlier_exam_is_passed_over(archive: Archive, changed: dict[str, Any]) -> None:
    archive.add(0, **changed)
    now = archive.record(10, study_key="the same study", series_key="the same series", context={"age_years": 11.0})
    assert archive.facts(now).earlier_mm == {}


def test_a_damaged_earlier_exam_is_passed_over(archive: Archive) -> None:
    archive.add(0, measurements_mm={"PLL_R_FEM": 300.0})
    archive.add(1)
    with archive.store.database.transaction() as connection:
        connection.execute("UPDATE sessions SET record = replace(record, '412.5', '999.5') WHERE session_id = '2'")
    assert archive.facts(archive.record(2)).earlier_mm == {"PLL_R_FEM": 300.0}


def test_readings_are_found_by_series_study_and_accession_and_averaged_over_readers(archive: Archive) -> None:
    record = archive.record()
    with archive.store.database.transaction() as connection:
        for key, reader, millimeters in (
            (record.series_key, "first", 400.0),
            (str(record.accession_key), "second", 404.0),
            ("of another exam", "first", 1.0),
        ):
            assert readings.keep(connection, key, reader, {"PLL_R_FEM": millimeters}, 1) == readings.NEW
    assert archive.facts(record).reader_mm == {"PLL_R_FEM": 402.0}


def test_the_same_reading_is_kept_once_and_a_later_one_corrects_it_and_adds_to_it(archive: Archive) -> None:
    with archive.store.database.transaction() as connection:
        assert readings.keep(connection, "key", "reader", {"a": 1.0, "b": 2.0}, 1) == readings.NEW
        assert readings.keep(connection, "key", "reader", {"b": 2.0, "a": 1.0}, 2) == readings.KNOWN
        assert readings.keep(connection, "key", "reader", {"a": 1.5, "c": 3.0}, 3) == readings.CORRECTED
        assert readings.by_reader(connection, ("key",)) == {"reader": {"a": 1.5, "b": 2.0, "c": 3.0}}


def test_a_damaged_reading_is_not_compared_with(archive: Archive) -> None:
    with archive.store.database.transaction() as connection:
        readings.keep(connection, "key", "reader", {"a": 1.0}, 1)
        connection.execute("UPDATE readings SET measurements = replace(measurements, '1.0', '9.0')")
        assert readings.by_reader(connection, ("key",)) == {}


def test_a_sessions_own_readings_are_kept_for_the_series(archive: Archive) -> None:
    record = archive.add(reader_mm={"reader": {"PLL_R_FEM": 401.0}})
    again = archive.record(1, series_key=record.series_key)
    assert archive.facts(again).reader_mm == {"PLL_R_FEM": 401.0}


def test_a_session_that_is_there_already_counts_once_in_its_hour(archive: Archive) -> None:
    archive.add()
    record = archive.add()
    archive.add(1)
    assert archive.facts(record).sessions_last_hour == 2


def test_readings_that_are_no_length_cost_no_session(archive: Archive) -> None:
    absurd = {"PLL_R_FEM": 1.7e308, "PLL_L_FEM": 400.0}
    record = archive.add(reader_mm={"first": absurd, "second": absurd})
    assert archive.facts(record).reader_mm == {"PLL_L_FEM": 400.0}


def test_a_damaged_key_doesnt_make_anothers_exam_the_patients(archive: Archive) -> None:
    archive.add(0, measurements_mm={"PLL_R_FEM": 300.0})
    archive.add(1, patient_key="another")
    with archive.store.database.transaction() as connection:
        connection.execute("UPDATE sessions SET patient_key = ? WHERE session_id = '2'", ("cd" * 16,))
    assert archive.facts(archive.record(2)).earlier_mm == {"PLL_R_FEM": 300.0}


@pytest.mark.parametrize(
    "alike",
    [
        {"series_key": "ab" * 16},
        {"patient_key": "cd" * 16, "study_key": "bc" * 16},
        {"patient_key": "cd" * 16, "status": "failed"},
    ],
    ids=["series", "study", "failures"],
)
def test_what_is_asked_costs_the_same_however_often_one_exam_was_run(archive: Archive, alike: dict[str, Any]) -> None:
    def fill(number: int) -> None:
        rows = [archive.record(0.1, **alike) for _ in range(number)]
        with archive.store.database.transaction() as connection:
            connection.executemany(
                "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum,"
                " series_key, study_key, patient_key) VALUES (?, ?, ?, ?, '', '{}', 0, ?, ?, ?)",
                [
                    (row.session_id, row.status, row.ended_ns, row.ended_ns, row.series_key, row.study_key,
                     row.patient_key)
                    for row in rows
                ],
            )  # fmt: skip

    fill(200)
    few = _steps(archive, archive.record(1, **alike))
    fill(2000)
    assert _steps(archive, archive.record(1, **alike)) < 2 * few


def test_the_sessions_of_an_hour_are_counted_without_reading_them(archive: Archive) -> None:
    asked: list[str] = []
    with archive.store.database.read_transaction() as connection:
        connection.set_trace_callback(asked.append)
        lookups.facts(connection, archive.record())
        connection.set_trace_callback(None)
        (query,) = [text for text in asked if "count(*)" in text and "ended_ns >" in text]
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert any("COVERING INDEX sessions_by_end" in row[3] for row in plan)


def _steps(archive: Archive, record: SessionRecord) -> int:
    """How many instructions of SQLite's a session's questions take."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with archive.store.database.read_transaction() as connection:
        connection.set_progress_handler(count, 1)
        lookups.facts(connection, record)
        connection.set_progress_handler(None, 1)
    return steps


def test_a_runs_reading_adds_to_what_the_same_reader_was_imported_with(archive: Archive) -> None:
    record = archive.record(reader_mm={"reader": {"PLL_R_FEM": 401.0}})
    with archive.store.database.transaction() as connection:
        readings.keep(connection, record.series_key, "reader", {"PLL_R_TIB": 330.0}, 1)
    assert archive.store.commit(record, BUILDER)
    with archive.store.database.read_transaction() as connection:
        found = readings.by_reader(connection, record.exam_keys)
    assert found == {"reader": {"PLL_R_FEM": 401.0, "PLL_R_TIB": 330.0}}
