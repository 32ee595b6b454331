"""Whatever the machine's clock says, nothing is thrown away by it, and what is old leaves in the end."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from monitoring.metrics.catalogue import Label
from monitoring.store import clock, limits, schema
from monitoring.store.clock import DAY_NS, Sight, StoreTime
from monitoring.store.database import Database
from monitoring.store.sessions import open_store
from monitoring.store.vocabulary import growing_vocabulary
from tests.support.hosts import Host
from tests.support.older_stores import older_store
from tests.support.records import ENDED_NS
from tests.support.store_bench import Bench

YEAR = 365
KEPT = limits.Limits(max_bytes=10**9, retention_ns=30 * DAY_NS, min_free_bytes=0)
IN_1970_NS = 5 * 10**9


@pytest.mark.parametrize("backend", [{}, {"influxdb": {"url": "http://127.0.0.1:9", "timeout": 0.2}}])
def test_hosts_with_wrong_clocks_lose_no_session(host: Host, backend: dict[str, Any]) -> None:
    host.settings = {**host.settings, **backend}
    script = """
real = time.time_ns
time.time_ns, time.time = (lambda: real() + {shift_ns}), (lambda: (real() + {shift_ns}) / 1e9)
with MonitorManager(SETTINGS, logging.getLogger("monitoring")) as manager:
    for _ in range(2):
        with manager.session("series") as session:
            pass
        say("ended", session.id)
"""
    recorded: list[str] = []
    for shift_ns in (0, 400 * DAY_NS, IN_1970_NS - time.time_ns(), 0):
        ended = host.run(script.format(shift_ns=shift_ns))
        recorded += ended.said("ended")
        assert "reason" not in ended.stderr
    assert list(host.records()) == recorded
    assert host.status()["losses"] == {}
    assert host.swallowed() == ""


def now(bench: Bench) -> StoreTime:
    with bench.database.transaction() as connection:
        return clock.advance(connection, bench.sight)


@pytest.mark.parametrize("is_started_again", [True, False])
def test_a_clock_a_year_ahead_makes_nothing_old(bench: Bench, is_started_again: bool) -> None:
    bench.commit(1)
    bench.deliver()
    bench.commit(2)
    ahead_ns = bench.sight.wall_ns + YEAR * DAY_NS
    bench.sight = bench.sight._replace(wall_ns=ahead_ns)
    if is_started_again:
        bench.start_again(ahead_ns)
    bench.commit(3)
    for _ in range(100):  # looking often is no reason to believe it
        bench.enforce(KEPT)
    assert bench.sessions == {"1", "2", "3"}
    assert bench.lost == {}
    bench.start_again(ENDED_NS + DAY_NS)  # and back again
    bench.commit(4)
    bench.enforce(KEPT)
    assert bench.sessions == {"1", "2", "3", "4"}


def test_sessions_that_were_recorded_under_a_clock_of_1970_stay(bench: Bench) -> None:
    bench.commit(1)
    bench.start_again(IN_1970_NS)
    bench.commit(2)
    bench.start_again(ENDED_NS + DAY_NS)
    bench.commit(3)
    bench.enforce(KEPT)
    assert bench.sessions == {"1", "2", "3"}
    for _ in range(35):
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert bench.sessions == set()


def test_a_store_that_was_begun_in_1970_keeps_its_sessions_for_their_time(bench: Bench) -> None:
    bench.sight = Sight(IN_1970_NS, 0, "a start")
    bench.commit(1)
    bench.sight = Sight(ENDED_NS, 10**9, "a start")  # the network has set the clock
    bench.enforce(KEPT)
    bench.commit(2)
    for _ in range(28):
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert bench.sessions == {"1", "2"}
    for _ in range(4):
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert bench.sessions == set()


def test_after_a_year_in_which_nobody_used_the_store_only_what_is_delivered_is_old(bench: Bench) -> None:
    bench.commit(1)
    bench.deliver()
    bench.commit(2)
    waiting = bench.waiting()
    bench.pass_days(YEAR)
    bench.enforce(KEPT)
    assert (bench.sessions, bench.lost) == ({"2"}, {})
    for _ in range(35):  # a month in which it could be delivered
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert (bench.sessions, bench.lost) == (set(), {"expired": waiting})


def test_after_a_year_in_which_the_machine_was_off_all_is_a_day_older(bench: Bench) -> None:
    bench.commit(1)
    bench.deliver()
    bench.start_again(ENDED_NS + YEAR * DAY_NS)
    bench.enforce(KEPT)
    assert bench.sessions == {"1"}
    assert now(bench).now_ns == ENDED_NS + DAY_NS


def test_time_goes_by_exactly_while_the_machine_runs_and_its_clock_is_right(bench: Bench) -> None:
    bench.commit(1)
    for days in (0.001, 1, 3, 0.5):
        bench.pass_days(days)
        assert now(bench).now_ns == bench.sight.wall_ns


def test_the_right_time_is_reached_again(bench: Bench) -> None:
    now(bench)
    bench.start_again(ENDED_NS + 20 * DAY_NS)
    assert now(bench).now_ns == bench.sight.wall_ns - 19 * DAY_NS
    for _ in range(195):
        bench.pass_days(1)
        now(bench)
    assert now(bench) == StoreTime(bench.sight.wall_ns, bench.sight.wall_ns)


def test_a_damaged_clock_begins_where_the_newest_session_was_kept(bench: Bench) -> None:
    bench.commit(1)
    with bench.database.transaction() as connection:
        connection.execute("UPDATE state SET value = 'nonsense' WHERE key = 'clock'")
    bench.start_again(ENDED_NS + YEAR * DAY_NS)
    assert now(bench).now_ns == ENDED_NS + DAY_NS


def test_an_older_stores_sessions_are_no_older_than_those_before_them(tmp_path: Path) -> None:
    """Of three that an older version has kept the second was recorded in 1970."""
    path = tmp_path / "monitoring.db"
    older_store(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE sessions SET ended_ns = ? WHERE sequence = 2", (IN_1970_NS,))
    connection.close()
    with open_store(Database(path)) as store, store.database.read_transaction() as connection:
        kept = [row[0] for row in connection.execute("SELECT kept_ns FROM sessions ORDER BY sequence")]
        assert kept == [ENDED_NS, ENDED_NS, ENDED_NS + 2]
        assert schema.version(connection) == len(schema.MIGRATIONS)
        sight = Sight(ENDED_NS + YEAR * DAY_NS, 0, "")
        assert clock.read(connection, sight).now_ns == ENDED_NS + 2 + DAY_NS


def test_what_an_older_version_commits_into_a_newer_store_grows_old_from_now_on(bench: Bench) -> None:
    bench.commit(1)
    bench.deliver()
    with bench.database.transaction() as connection:
        connection.execute("UPDATE sessions SET kept_ns = NULL")
    bench.pass_days(20)
    bench.enforce(KEPT)
    for _ in range(29):
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert bench.sessions == {"1"}
    for _ in range(3):
        bench.pass_days(1)
        bench.enforce(KEPT)
    assert bench.sessions == set()


def test_a_label_forgets_what_it_has_not_seen_for_the_retention(bench: Bench) -> None:
    label = Label("model", (), closed=False, limit=2)

    def take(*names: str) -> list[str]:
        with bench.database.transaction() as connection:
            vocabulary = growing_vocabulary(connection, clock.advance(connection, bench.sight).now_ns)
            return [vocabulary(label, name) for name in names]

    assert take("first", "second", "third") == ["first", "second", "other"]
    with bench.database.transaction() as connection:
        connection.execute("INSERT INTO totals VALUES ('m', '{\"model\":\"first\"}', '', 1.0, 0, 0)")
        connection.execute("INSERT INTO totals VALUES ('m', '{\"model\":\"second\"}', '', 1.0, 0, 0)")
    bench.pass_days(20)
    assert take("second", "third") == ["second", "other"]
    bench.pass_days(11)
    bench.enforce(KEPT)
    assert take("third", "second", "first") == ["third", "second", "other"]
    with bench.database.read_transaction() as connection:
        left = connection.execute("SELECT labels FROM totals WHERE metric = 'm'").fetchall()
    assert left == [('{"model":"second"}',)]


def test_an_older_versions_values_are_seen_now(bench: Bench) -> None:
    with bench.database.transaction() as connection:
        connection.execute("INSERT INTO vocabulary VALUES ('model', 'first')")
    for days, left in ((0, 1), (29, 1), (2, 0)):
        bench.pass_days(days)
        bench.enforce(KEPT)
        with bench.database.read_transaction() as connection:
            assert connection.execute("SELECT count(*) FROM vocabulary").fetchone() == (left,)
