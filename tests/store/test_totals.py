"""The totals: what replaces what, and that a total stays a number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS, Change, bucket_part
from monitoring.prometheus_client import StoredState
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.rows import checksum

YEAR_NS = 365 * 86_400 * NANOSECONDS
LENGTH = {"measurement": "PLL_R_FEM"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "monitoring.db")
    yield opened
    opened.close()


def measured(database: Database, millimeters: float, time_ns: int) -> float:
    """The gauge after a session of that time."""
    change = Change(catalogue.MEASUREMENT_MM.name, LENGTH, "", millimeters, replaces=True)
    with database.transaction() as connection:
        totals.apply_changes(connection, [change], time_ns)
        return totals.values(connection, catalogue.MEASUREMENT_MM)["PLL_R_FEM",]


def waited(database: Database, *seconds: float) -> float:
    """The sum of a histogram after a session with these."""
    name, labels = catalogue.STAGE_DURATION.name, {"stage": "load"}
    with database.transaction() as connection:
        changes = [Change(name, labels, "sum", value, replaces=False) for value in seconds]
        totals.apply_changes(connection, changes, time.time_ns())
        (row,) = totals.read(connection, name)
    return row.value


def test_an_older_sessions_gauge_doesnt_replace_a_later_one(database: Database) -> None:
    now = time.time_ns()
    assert measured(database, 400.0, now) == 400.0
    assert measured(database, 390.0, now - YEAR_NS) == 400.0
    assert measured(database, 410.0, now) == 410.0


def test_a_clock_that_was_ahead_once_doesnt_keep_its_values_until_then(database: Database) -> None:
    now = time.time_ns()
    assert measured(database, 500.0, now + YEAR_NS) == 500.0
    assert measured(database, 400.0, now) == 400.0
    assert measured(database, 401.0, now + 1) == 401.0


def test_clocks_that_differ_by_minutes_are_taken_at_their_word(database: Database) -> None:
    now = time.time_ns()
    assert measured(database, 400.0, now + 600 * NANOSECONDS) == 400.0
    assert measured(database, 390.0, now) == 400.0


def test_a_sum_that_would_overflow_stays_as_it_is(database: Database) -> None:
    assert waited(database, 1.5) == 1.5
    assert waited(database, 1.7e308, 1.7e308) == 1.5
    assert waited(database, 0.5) == 2.0


def test_each_row_has_the_checksum_of_its_values(database: Database) -> None:
    measured(database, 400.5, 7)
    waited(database, 0.25)
    with database.read_transaction() as connection:
        rows = connection.execute("SELECT * FROM totals").fetchall()
        assert totals.damaged(connection) == []
    assert len(rows) == 2
    assert [row[-1] for row in rows] == [checksum(*row[:-1]) for row in rows]


def test_a_negative_zero_is_no_damage(database: Database) -> None:
    """SQLite keeps -0.0 as 0.0: a checksum that was made before would not hold."""
    assert measured(database, -0.0, 7) == 0.0
    assert waited(database, -0.0) == 0.0
    with database.read_transaction() as connection:
        assert totals.damaged(connection) == []
        assert len(totals.read(connection)) == 2


# --- which version is there -----------------------------------------------------------------------


def informed(database: Database, metric: catalogue.Metric, time_ns: int, **labels: str) -> set[tuple[str, ...]]:
    """What is exported of an info metric after a session of that time."""
    change = Change(metric.name, labels, "", 1.0, replaces=True)
    with database.transaction() as connection:
        totals.apply_changes(connection, [change], time_ns)
        return set(totals.values(connection, metric))


def test_a_newer_version_takes_the_place_of_the_older_one_whatever_else_its_labels_say(database: Database) -> None:
    now = time.time_ns()

    def built(time_ns: int, version: str, monitoring: str) -> set[tuple[str, ...]]:
        return informed(database, catalogue.BUILD_INFO, time_ns, version=version, monitoring_version=monitoring)

    assert built(now, "1.0", "0.1.0") == {("1.0", "0.1.0")}
    assert built(now + 1, "2.0", "0.1.0") == {("2.0", "0.1.0")}
    assert built(now - YEAR_NS, "0.9", "0.0.9") == {("2.0", "0.1.0")}  # imported
    assert built(now + 2, "1.0", "0.1.0") == {("1.0", "0.1.0")}  # put back
    assert built(now + YEAR_NS, "9.0", "0.1.0") == {("1.0", "0.1.0")}  # by a clock that is ahead
    with database.read_transaction() as connection:
        exported = [row for row in totals.read(connection) if row.metric == catalogue.BUILD_INFO.name]
    assert [dict(row.labels)["version"] for row in exported] == ["1.0"]


def test_each_model_has_a_version_of_its_own(database: Database) -> None:
    now = time.time_ns()
    for number, (model, version) in enumerate([("a", "1"), ("b", "1"), ("a", "2")]):
        found = informed(
            database, catalogue.MODEL_INFO, now + number, model=model, version=version, digest="0123456789ab"
        )
    assert found == {("a", "2", "0123456789ab"), ("b", "1", "0123456789ab")}


def test_counts_in_the_buckets_of_an_older_version_still_hold_at_its_bounds(database: Database) -> None:
    """What it counted between the new bounds is told at the next old one above: the new ones begin at 0."""
    older = {0.01: 3.0, 10.0: 5.0, 30.0: 2.0}
    name = catalogue.SESSION_DURATION.name
    with database.transaction() as connection:
        counted = [Change(name, {}, bucket_part(bound), count, replaces=False) for bound, count in older.items()]
        totals.apply_changes(connection, [*counted, Change(name, {}, "sum", 70.0, replaces=False)], time.time_ns())
        newer = [Change(name, {}, bucket_part(bound), 1.0, replaces=False) for bound in (0.0025, 15.0, 20.0)]
        totals.apply_changes(connection, newer, time.time_ns())
        (family,) = StoredState(totals.read(connection, name)).collect()
    cumulative = {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
    expected = {
        "0.001": 0, "0.0025": 1, "0.01": 4, "10.0": 9, "15.0": 10, "20.0": 11, "30.0": 13, "+Inf": 13,
    }  # fmt: skip
    assert {bound: cumulative[bound] for bound in expected} == expected
