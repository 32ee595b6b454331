"""Lines that a backend refused for good: why is kept and said, and they can be sent again without being lost twice."""

from __future__ import annotations

import json
import urllib.request

from monitoring.metrics import catalogue
from monitoring.store import totals
from monitoring.store.outbox import backend_statuses, dead_letters
from monitoring.transport.sinks import Delivery, Rejection
from tests.support.hosts import Host, base_settings, with_influxdb
from tests.support.servers import InfluxDB1
from tests.support.store_bench import Bench

FIELD = "duration_seconds"
CONFLICT = f"type conflict in field {FIELD}"


def refuse(bench: Bench, *rejections: tuple[str, str]) -> None:
    """Of the next lines the first ones, each for a reason and a cause; the others are taken."""
    batch = bench.log.next_batch(10**6)
    rejected = tuple(Rejection(index, *why) for index, why in enumerate(rejections))
    bench.log.settle(batch, Delivery(frozenset(range(len(rejected), len(batch.lines))), rejected))


def lost(bench: Bench) -> dict[str, int]:
    with bench.database.read_transaction() as connection:
        return {reason: count for reason, count in totals.losses(connection).items() if count}


def counted(bench: Bench, metric: catalogue.Metric = catalogue.MONITORING_DROPPED) -> float:
    with bench.database.read_transaction() as connection:
        return sum(totals.values(connection, metric).values())


def test_a_dead_letter_keeps_the_class_of_what_the_server_said(bench: Bench) -> None:
    bench.commit(1)
    refuse(bench, ("rejected", CONFLICT), ("expired", "beyond retention"), ("rejected", ""))
    with bench.database.read_transaction() as connection:
        letters = [(letter.reason, letter.cause) for letter in dead_letters(connection)]
        (status,) = backend_statuses(connection)
    assert letters == [("rejected", CONFLICT), ("expired", "beyond retention"), ("rejected", "")]
    assert status.dead_causes == {CONFLICT: 1, "beyond retention": 1, "rejected": 1}
    assert (status.dead, lost(bench)) == (3, {"rejected": 2, "expired": 1})


def test_what_is_refused_twice_is_lost_once_and_not_at_all_when_it_is_taken(bench: Bench) -> None:
    bench.commit(1)
    refuse(bench, *[("rejected", CONFLICT)] * 3)
    assert (bench.log.requeue_dead(), bench.waiting()) == (3, 3)
    refuse(bench, *[("rejected", CONFLICT)] * 2)  # the third is taken now
    assert (lost(bench), bench.dead()) == ({"rejected": 2}, 2)
    assert counted(bench) == 3  # a counter never goes back: Prometheus would take it for a restart
    assert bench.log.requeue_dead() == 2
    refuse(bench)
    assert (lost(bench), counted(bench), counted(bench, catalogue.MONITORING_RECOVERED)) == ({}, 3, 3)


def test_requeued_lines_that_leave_otherwise_are_lost_once(bench: Bench) -> None:
    bench.commit(1)
    refuse(bench, *[("rejected", CONFLICT)] * 3)
    bench.log.requeue_dead()
    for _ in range(4):
        bench.enforce()
    assert lost(bench) == {"evicted": 3}


def test_a_type_conflict_is_said_shown_and_healed(host: Host, influxdb1: InfluxDB1) -> None:
    """As docs/operations.md tells the way out: delete the foreign points, and send the dead letters once more."""
    host.settings = with_influxdb(base_settings(host.store_folder), influxdb1.write_settings())
    foreign = f"leglength_session,who=somebody {FIELD}=3i"  # now: another shard may have another type
    with urllib.request.urlopen(f"{influxdb1.url}/write?db=leglength", foreign.encode()) as answer:
        assert answer.status == 204
    script = """
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with manager.session("series") as session:
    session.record_measurements({"PLL_R_FEM": 400.0})
manager.close()
"""
    ended = host.run(script)
    assert f"point(s) refused for good by influxdb: {CONFLICT}; export --dead shows them" in ended.stderr
    letter = json.loads(host.monitor("export", "--dead").stdout)
    assert (letter["reason"], letter["cause"]) == ("rejected", CONFLICT)
    assert host.status()["outbox"]["influxdb"]["dead_causes"] == {CONFLICT: 1}
    assert host.status()["losses"] == {"rejected": 1}
    influxdb1.query("DROP MEASUREMENT leglength_session")
    host.drain("--requeue-dead")
    assert (host.status()["losses"], host.status()["outbox"]["influxdb"]["dead"]) == ({}, 0)
    assert len(influxdb1.read_points("leglength_session")) == 1
