"""One patient's sessions are gone from the store, down to its bytes, and nobody else's."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.delivery.queue import BackendQueue
from monitoring.exceptions import StoreError
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.records.session_record import ModelPerformance, SessionRecord
from monitoring.store import readings, totals
from monitoring.store.database import Database
from monitoring.store.erasure import erase
from monitoring.store.locks import LivenessLock
from monitoring.store.sessions import Store
from monitoring.transport.sinks import Delivery, Rejection
from tests.support.records import ENDED_NS, realistic

BUILDER = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
ERASED, KEPT = "e1" * 16, "c2" * 16
WAITING = "SELECT session_id, lines FROM outbox"
DEAD = "SELECT session_id, line FROM dead_letters"
TIMES = "SELECT session_id, timestamp_ns FROM sessions"


class Bench:
    """A store with two patients' sessions in every place where one can be."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "monitoring.db"
        self.database = Database(self.path)
        self.store = Store(self.database)
        self.owner = LivenessLock(self.path)
        self.queue = BackendQueue(self.database, "influxdb", self.owner.token)
        self.numbers = itertools.count()

    def record(self, patient: str, **changed: object) -> SessionRecord:
        number = next(self.numbers)
        keys = {name: f"{patient[:2]}{name[:2]}{number:028d}" for name in ("series_key", "study_key", "accession_key")}
        reader_mm = {f"{patient[:4]}{number:028d}": {"PLL_R_FEM": 400.0}}
        known = {"session_id": f"{patient[:2]}{number:030d}", "ended_ns": ENDED_NS + number * NANOSECONDS}
        return realistic(**{**known, **keys, "patient_key": patient, "reader_mm": reader_mm, **changed})

    def commit(self, patient: str) -> SessionRecord:
        record = self.record(patient)
        self.store.commit(record, BUILDER)
        return record

    def fill(self) -> None:
        """Dead letters and requeued lines of both, then sessions that wait, then ones that are open; and nobody's."""
        with self.database.read_transaction() as connection:
            connection.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite switch it on
        self.store.commit(self.record("", patient_key=None), BUILDER)
        for first_row in (0, 1):  # the second time, the row of requeued lines goes on waiting
            for patient in (ERASED, KEPT):
                self.commit(patient)
            self._refuse_half(first_row)
            if not first_row:
                self.queue.requeue_dead()
        for patient in (ERASED, KEPT, ERASED, KEPT):
            self.commit(patient)
            self.store.keep_open(self.record(patient, status="crashed"), self.owner.token, durable=True)

    def _refuse_half(self, first_row: int) -> None:
        batch = self.queue.next_batch(10**6)
        decided = [index for index, row in enumerate(batch.row_of_line) if row >= first_row]
        rejected = tuple(Rejection(index, "rejected") for index in decided[::2])
        self.queue.settle(batch, Delivery(frozenset(decided[1::2]), rejected))

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        tables = ("sessions", "open_sessions", "outbox", "dead_letters", "readings", "totals")
        with self.database.read_transaction() as connection:
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}

    def bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.path.parent.iterdir())

    def close(self) -> None:
        self.owner.close()
        self.database.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.fill()
    yield made
    made.close()


def test_a_patients_rows_and_bytes_are_gone_and_nobody_elses(bench: Bench) -> None:
    before = bench.rows()
    assert b"e1" * 16 in bench.bytes()
    found = erase(bench.database, ERASED)
    assert (found.sessions, found.open_sessions, found.readings) == (4, 2, 4)
    assert found.waiting_lines > 0
    assert found.dead_letters > 0
    assert len(found.points_ns) == 4

    left = bench.bytes()
    for trace in (ERASED.encode(), b"e1se0", b"e1st0", b"e1ac0", b"e1e10", b"e10000"):
        assert trace not in left
    for instant in found.points_ns:
        assert f" {instant}".encode() not in left
    after = bench.rows()
    kept = [row for row in after["totals"] if row[0] != catalogue.ERASURES.name]
    assert kept == before["totals"], "they are counts over everybody"
    assert [row for row in before["sessions"] if ERASED not in row] == after["sessions"]
    assert [row for row in before["open_sessions"] if KEPT in str(row)] == after["open_sessions"]
    assert [row for row in before["readings"] if not str(row[0]).startswith("e1")] == after["readings"]


def test_sessions_that_ended_before_the_patient_was_known_are_found_by_their_series_and_study(bench: Bench) -> None:
    known = bench.commit(ERASED)
    early = [
        bench.record("", patient_key=None, status="failed", series_key=known.series_key),
        bench.record("", patient_key=None, status="skipped", study_key=known.study_key),
        bench.record("", patient_key=None, status="crashed", accession_key=known.accession_key),
    ]
    others = bench.record(KEPT, study_key=known.study_key)  # whatever it means, it is another patient's
    for record in (*early, others):
        bench.store.commit(record, BUILDER)
    begun = bench.record("", patient_key=None, status="crashed", series_key=known.series_key)
    bench.store.keep_open(begun, bench.owner.token, durable=True)

    rehearsed = erase(bench.database, ERASED, is_rehearsal=True)
    found = erase(bench.database, ERASED)
    assert found == rehearsed
    assert (found.sessions, found.open_sessions) == (5 + 3, 2 + 1)
    left = {row[1] for name in ("sessions", "open_sessions") for row in bench.rows()[name]} | {
        row[0] for row in bench.rows()["open_sessions"]
    }
    assert left.isdisjoint({*(record.session_id for record in early), begun.session_id})
    assert others.session_id in left
    assert known.series_key.encode() not in bench.bytes()


def test_readings_of_an_exam_that_is_still_open_go_with_it(bench: Bench) -> None:
    begun = bench.record(ERASED, status="crashed", reader_mm={})
    bench.store.keep_open(begun, bench.owner.token, durable=True)
    with bench.database.transaction() as connection:
        readings.keep(connection, str(begun.study_key), "0f" * 16, {"PLL_R_FEM": 401.0}, 1)
    found = erase(bench.database, ERASED)
    assert found.readings == 4 + 1
    assert b"0f" * 16 not in bench.bytes()


def test_an_open_session_whose_record_cant_be_read_is_found_by_its_text(bench: Bench) -> None:
    with bench.database.transaction() as connection:
        connection.execute("UPDATE open_sessions SET record = replace(record, '{', '')")
    assert erase(bench.database, ERASED).open_sessions == 2
    assert ERASED.encode() not in bench.bytes()


def test_the_latest_values_go_when_they_are_the_patients(bench: Bench) -> None:
    last = bench.commit(ERASED)
    with bench.database.read_transaction() as connection:
        assert totals.values(connection, catalogue.MEASUREMENT_MM)
        before = totals.values(connection, catalogue.SESSIONS), totals.values(connection, catalogue.LAST_RUN)
    erase(bench.database, ERASED)
    with bench.database.read_transaction() as connection:
        assert totals.values(connection, catalogue.MEASUREMENT_MM) == {}
        assert totals.values(connection, catalogue.Z_SCORE) == {}
        after = totals.values(connection, catalogue.SESSIONS), totals.values(connection, catalogue.LAST_RUN)
    assert after == before, "counts, and when the site's last run was, are nobody's"
    assert last.ended_ns not in [row[4] for row in bench.rows()["totals"] if "measurement" in str(row[0])]


def test_it_is_told_to_the_state_backends(bench: Bench) -> None:
    state = BackendQueue(bench.database, "prometheus", bench.owner.token)
    state.register()
    state.settle_state(state.snapshot(), Delivery())
    assert not state.has_news()
    erase(bench.database, ERASED)
    assert state.has_news()


HOLD_A_CHECKPOINT = """
import fcntl, sys, time
with open(sys.argv[1] + "-shm", "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 121)  # WAL_CKPT_LOCK, https://www.sqlite.org/walformat.html
    print("begun", flush=True)
    time.sleep(0.5)
"""


def test_a_checkpoint_of_another_process_is_waited_for(bench: Bench) -> None:
    command = [sys.executable, "-c", HOLD_A_CHECKPOINT, str(bench.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        erase(bench.database, ERASED)
    assert ERASED.encode() not in bench.bytes()


def test_every_line_of_the_others_is_still_there_and_can_be_delivered(bench: Bench) -> None:
    batch = bench.queue.next_batch(10**6)
    dead = [row[2] for row in bench.rows()["dead_letters"]]
    found = erase(bench.database, ERASED)
    gone = tuple(f" {instant}".encode() for instant in found.points_ns)
    left = bench.queue.next_batch(10**6)
    assert sorted(left.lines) == sorted(line for line in batch.lines if not line.endswith(gone))
    assert len(left.lines) < len(batch.lines)
    kept_letters = [row[2] for row in bench.rows()["dead_letters"]]
    assert kept_letters == [line for line in dead if not str(line).encode().endswith(gone)]
    assert found.waiting_lines == len(batch.lines) - len(left.lines)
    assert found.dead_letters == len(dead) - len(kept_letters)


def test_a_refused_line_belongs_to_its_session_wherever_it_lies(bench: Bench) -> None:
    def named() -> set[tuple[object, bytes]]:
        with bench.database.read_transaction() as connection:
            lines = [(name, one) for name, row in connection.execute(WAITING) for one in row.split(b"\n")]
            lines += [(name, one.encode()) for name, one in connection.execute(DEAD)]
            times = {str(time).encode(): name for name, time in connection.execute(TIMES)}
        return {(name, times[line.rpartition(b" ")[2]]) for name, line in lines}

    assert {name == owner for name, owner in named()} == {True}
    bench.queue.requeue_dead()
    assert {name == owner for name, owner in named()} == {True}
    assert bench.rows()["dead_letters"] == []


def test_a_rehearsal_counts_the_same_and_changes_nothing(bench: Bench) -> None:
    before = bench.rows()
    rehearsed = erase(bench.database, ERASED, is_rehearsal=True)
    assert bench.rows() == before
    assert erase(bench.database, ERASED) == rehearsed


@pytest.mark.parametrize("key", ["", "00" * 16])
def test_an_unknown_patient_and_no_patient_erase_nothing(bench: Bench, key: str) -> None:
    before = bench.rows()
    found = erase(bench.database, key)
    assert (found.sessions, found.open_sessions, found.waiting_lines, found.dead_letters, found.readings) == (0,) * 5
    assert bench.rows() == before


def test_a_second_time_finds_nothing(bench: Bench) -> None:
    erase(bench.database, ERASED)
    assert erase(bench.database, ERASED).sessions == 0


def test_while_another_process_reads_the_old_content_it_says_so(bench: Bench) -> None:
    bench.database.be_patient(0.2)
    bench.database.close()
    bench.database = Database(bench.path, 0.2)
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM sessions").fetchone()
    try:
        with pytest.raises(StoreError, match=r"other processes use it|locked"):
            erase(bench.database, ERASED)
    finally:
        other.execute("ROLLBACK")
        other.close()
    erase(bench.database, ERASED)
    assert ERASED.encode() not in bench.bytes()


def test_an_erasure_is_counted_once_and_one_that_finds_nothing_or_is_a_rehearsal_is_not(bench: Bench) -> None:
    def counted() -> float:
        with bench.database.read_transaction() as connection:
            return totals.values(connection, catalogue.ERASURES).get((), 0.0)

    erase(bench.database, ERASED, is_rehearsal=True)
    erase(bench.database, "00" * 16)
    assert counted() == 0
    erase(bench.database, ERASED)
    assert counted() == 1
    erase(bench.database, ERASED)
    assert counted() == 1


def test_which_version_is_there_stays_when_the_patient_it_was_told_with_is_erased(bench: Bench) -> None:
    model = ModelPerformance("resnet", 1.0, version="2.0", digest="ab" * 32)
    latest = bench.record(ERASED, application_version="2.0", models=(model,))
    bench.store.commit(latest, BUILDER)
    erase(bench.database, ERASED)
    with bench.database.read_transaction() as connection:
        assert set(totals.values(connection, catalogue.BUILD_INFO)) == {("2.0", "unknown")}
        assert set(totals.values(connection, catalogue.MODEL_INFO)) == {("resnet", "2.0", "abababababab")}
