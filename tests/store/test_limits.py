"""The store keeps within its limits; what leaves first is what is lost least, and every loss is counted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.runtime.active_store import LossLog
from monitoring.store import limits, totals
from tests.support.hosts import Host, with_influxdb, with_pushgateway
from tests.support.servers import InfluxDB1, Pushgateway
from tests.support.store_bench import Bench

DAY_NS = 86_400 * NANOSECONDS


def test_delivered_sessions_leave_first_then_dead_letters_then_what_waits(bench: Bench) -> None:
    for number in range(4):
        bench.commit(number)
    lines = bench.waiting() // 4
    bench.deliver(lines=2 * lines, refused=1)  # two sessions are through, one line of the first is dead
    assert (bench.waiting(), bench.dead()) == (2 * lines, 1)

    bench.enforce()
    assert (bench.sessions, bench.dead(), bench.waiting()) == ({"2", "3"}, 1, 2 * lines)
    bench.enforce()
    assert (bench.sessions, bench.dead(), bench.waiting()) == ({"2", "3"}, 0, 2 * lines)
    assert bench.lost == {"rejected": 1}  # when it was refused, and not once more
    bench.enforce()
    assert (bench.sessions, bench.waiting()) == (set(), 0)
    assert bench.lost == {"rejected": 1, "evicted": 2 * lines}


def test_what_a_state_backend_has_not_been_told_is_not_delivered(bench: Bench) -> None:
    bench.state.register()
    bench.commit(1)
    bench.push()
    bench.commit(2)
    bench.deliver()
    bench.enforce()
    assert bench.sessions == {"2"}
    bench.enforce()  # nothing is left but to let it go; yet its totals stay, and no line of it is lost
    assert (bench.sessions, bench.lost) == (set(), {})
    assert bench.push().sequence == 2


def test_sessions_that_wait_for_a_relay_are_no_delivered_ones(tmp_path: Path) -> None:
    """A host without a backend has made no lines of them yet."""
    bench = Bench(tmp_path, log_backends=())
    bench.commit(1)
    bench.commit(2)
    bench.builder = SessionWritesBuilder({"instance": "test"}, log_backends=("influxdb",))
    bench.commit(3)
    bench.deliver()
    bench.enforce()
    assert (bench.sessions, bench.lost) == ({"1", "2"}, {})
    bench.enforce()
    assert (bench.sessions, bench.lost) == (set(), {"evicted": 2})
    bench.database.close()
    bench.owner.close()


def test_lines_that_were_requeued_are_evicted_too(bench: Bench) -> None:
    bench.commit(1)
    lines = bench.deliver(refused=3)
    bench.log.requeue_dead()
    assert bench.waiting() == 3
    for _ in range(4):
        bench.enforce()
    assert (bench.waiting(), bench.sessions) == (0, set())
    assert bench.lost == {"rejected": 3, "evicted": 3}
    assert lines > 3


def test_lines_that_were_requeued_when_their_session_had_left_are_evicted_too(bench: Bench) -> None:
    bench.commit(1)
    bench.deliver(refused=3)
    bench.enforce()
    assert bench.sessions == set()
    bench.log.requeue_dead()
    assert bench.waiting() == 3
    for _ in range(2):
        bench.enforce()
    assert (bench.waiting(), bench.lost) == (0, {"rejected": 3, "evicted": 3})


def test_the_books_balance_over_eviction_and_delivery(bench: Bench) -> None:
    recorded = 0
    for number in range(30):
        before = bench.waiting() if number else 0
        bench.commit(number)
        recorded += bench.waiting() - before
        if number % 7 == 3:
            bench.deliver(lines=40, refused=2)
        if number % 11 == 10:
            bench.enforce()
    with bench.database.read_transaction() as connection:
        delivered = int(totals.values(connection, catalogue.MONITORING_DELIVERED)[("influxdb",)])
    assert recorded == delivered + bench.waiting() + sum(bench.lost.values())


def test_what_is_older_than_the_retention_expires_and_is_counted_where_it_waited(bench: Bench) -> None:
    kept = limits.Limits(max_bytes=10**9, retention_ns=30 * DAY_NS, min_free_bytes=0)
    bench.commit(1)
    lines = bench.waiting()
    bench.deliver()
    bench.commit(2)
    for _ in range(29):
        bench.pass_days(1)
        bench.enforce(kept)
    assert bench.sessions == {"1", "2"}
    bench.pass_days(2)
    bench.enforce(kept)
    bench.pass_days(1)
    bench.enforce(kept)
    assert bench.sessions == set()
    assert bench.lost == {"expired": lines}


def test_evicting_is_as_quick_however_much_waits(bench: Bench) -> None:
    """A full store with a long queue must not be searched for delivered sessions at every commit."""
    _let_wait(bench, range(2 * limits._OLDEST))
    few = _steps_of_evicting(bench)
    _let_wait(bench, range(2 * limits._OLDEST, 6 * limits._OLDEST))
    assert _steps_of_evicting(bench) <= few + 2


def _let_wait(bench: Bench, numbers: range) -> None:
    with bench.database.transaction() as connection:
        connection.executemany(
            "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum)"
            " VALUES (?1, 'completed', ?1, ?1, 'influxdb', '{}', 0)",
            [(number,) for number in numbers],
        )
        connection.executemany(
            "INSERT INTO outbox (backend, session_id, created_ns, line_count, checksum, lines)"
            " VALUES ('influxdb', ?, 0, 1, 0, x'00')",
            [(number,) for number in numbers],
        )


def _steps_of_evicting(bench: Bench) -> int:
    """In hundreds of instructions of SQLite's virtual machine."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with bench.database.read_transaction() as connection:
        connection.set_progress_handler(count, 100)
        limits._evict_delivered(connection)
        connection.set_progress_handler(None, 0)
    return steps


def test_a_host_keeps_its_store_within_its_size_and_says_what_it_lost(host: Host, pushgateway: Pushgateway) -> None:
    host.settings["store"] |= {"max_size_mb": 1}
    host.settings = with_influxdb(host.settings, {"url": "http://127.0.0.1:9"})
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
boxes = [[float(i), 1.0, 2.0, 3.0] for i in range(120)]
predictions = {"predictions": {"boxes": boxes, "labels": [1] * 120, "scores": [0.5] * 120}}
for number in range(600):
    with manager.session("series") as session:
        session.record_performance_data({"individual_model_predictions": {"resnet": predictions}})
say("ended", session.id)
manager.close()
"""
    ended = host.run(script)
    assert ended.code == 0
    assert host.store_path.stat().st_size < 2_500_000
    report = host.status()
    lost, waiting = report["losses"]["evicted"], report["outbox"]["influxdb"]["pending"]
    assert report["sessions"]["completed"] == 600
    assert lost > 0
    assert ended.said("ended")[0] in host.records()
    per_session = (lost + waiting) / 600
    assert per_session == int(per_session)
    host.settings = with_pushgateway({**host.settings, "influxdb": {"enabled": False}}, pushgateway.url)
    assert host.monitor("drain").returncode == 1  # the lines still wait, for a backend that is off
    assert pushgateway.value("leglength_monitoring_dropped_total", reason="evicted") == lost


def test_a_retention_in_the_settings_is_kept_by_the_host(host: Host, influxdb1: InfluxDB1) -> None:
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with manager.session("series") as session:
    pass
say("ended", session.id)
time.sleep(0.3)
manager.close()
"""
    host.settings["store"] |= {"retention_days": 0.2 / 86_400}
    first, second = (host.run(script).said("ended")[0] for _ in range(2))
    assert set(host.records()) == {second}
    assert first != second
    assert host.status()["sessions"]["completed"] == 2


def test_a_loss_is_said_once_for_its_reason_and_earlier_ones_are_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    bench.commit(1)
    bench.enforce()  # lost before the log looks
    losses = LossLog(bench.database, logging.getLogger("losses"))
    losses.say_new()
    assert caplog.messages == []
    for number in (2, 3):
        bench.commit(number)
        bench.enforce()
        losses.say_new()
    (message,) = caplog.messages
    assert "reason evicted" in message
