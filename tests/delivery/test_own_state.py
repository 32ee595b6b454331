"""What the monitoring says of itself to a log: beside what waits, kept nowhere, and true of the moment of sending."""

from __future__ import annotations

from functools import partial

import pytest

from monitoring.delivery import couriers
from monitoring.delivery.couriers import LineCourier, StateCourier, Step
from monitoring.delivery.queue import BackendQueue
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS, Sample
from monitoring.metrics_collector import SessionWritesBuilder, own_lines
from monitoring.records.session_record import COARSE_NS
from monitoring.transport.deadline import Deadline
from monitoring.transport.sinks import Delivery, Rejection, Snapshot
from tests.support.hosts import Host, with_influxdb
from tests.support.recordings import RECORD_FOUR, points
from tests.support.records import ENDED_NS, realistic
from tests.support.servers import InfluxDB1, wait_until
from tests.support.store_bench import Bench

HOUR_NS = 3600 * NANOSECONDS
Told = tuple[int, dict[str, float]]


class TakingSink:
    """Takes every line, or answers what it is told to."""

    name = "influxdb"

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.answers: list[Delivery] = []

    def send(self, lines: list[bytes], _: Deadline) -> Delivery:
        self.requests.append([line.decode() for line in lines])
        return self.answers.pop(0) if self.answers else Delivery(frozenset(range(len(lines))))

    def close(self) -> None:
        pass

    def told(self, request: int, series: str) -> list[Told]:
        """When, and the fields, of the points of a series in a request."""
        found = []
        for line in self.requests[request]:
            head, fields, time_ns = line.rsplit(" ", 2)
            if head == series:
                found.append((int(time_ns), {name: float(value) for name, _, value in map(_parted, fields.split(","))}))
        return found


def _parted(field: str) -> tuple[str, str, str]:
    return field.partition("=")


OF_BACKEND = "leglength_monitoring,backend=influxdb,instance=w"
OF_STORE = "leglength_monitoring_store,instance=w"


class Carried:
    """A courier over a bench, an hour after its first session's end."""

    def __init__(
        self, bench: Bench, batch_lines: int = 10**6, heartbeat_seconds: float | None = None, owner: str = ""
    ) -> None:
        self.now_ns = ENDED_NS + HOUR_NS
        self.sink = TakingSink()
        queue = BackendQueue(bench.database, "influxdb", owner or bench.owner.token, lambda: self.now_ns)
        own = partial(own_lines, common_tags={"instance": "w"})
        self.courier = LineCourier(queue, self.sink, batch_lines, 10.0, own, heartbeat_seconds)

    def step(self) -> Step:
        return self.courier.step(Deadline.after(60.0), ignore_backoff=True)

    def lines(self) -> list[int]:
        """How many lines of sessions each request had, and behind it how many of the monitoring's own."""
        return [
            sum(line.startswith("leglength_monitoring") == is_own for line in request)
            for request in self.sink.requests
            for is_own in (False, True)
        ]


def test_it_travels_with_what_waits_and_leaves_nothing_behind(bench: Bench) -> None:
    bench.commit(0)
    waiting, carried = bench.waiting(), Carried(bench)
    assert [carried.step(), carried.step()] == [Step.DELIVERED, Step.IDLE]
    assert bench.waiting() == bench.dead() == 0
    assert bench.lost == {}
    assert carried.sink.told(0, OF_BACKEND) == [
        (
            carried.now_ns,
            {
                "pending_points": 0, "oldest_pending_seconds": 0, "dead_points": 0, "delivered": waiting,
                "last_delivery_timestamp_seconds": carried.now_ns / NANOSECONDS,
            },
        )
    ]  # fmt: skip
    assert len(carried.sink.requests) == 1  # nothing is asked of the server for it alone


def test_how_much_had_waited_is_told_when_the_backend_answers_again(bench: Bench) -> None:
    bench.commit(0)
    bench.commit(1)
    waiting, carried = bench.waiting(), Carried(bench)
    carried.sink.answers = [Delivery(error="refused"), Delivery(error="timeout")]
    assert [carried.step(), carried.step(), carried.step()] == [Step.FAILED, Step.FAILED, Step.DELIVERED]
    before, after = carried.sink.told(2, OF_BACKEND)
    assert (before[1]["pending_points"], after[1]["pending_points"]) == (waiting, 0)
    assert before[1]["oldest_pending_seconds"] == pytest.approx(3600.0, abs=0.01)
    assert after[1]["oldest_pending_seconds"] == 0
    assert after[0] - before[0] >= 1_000_000  # two points, also where a server keeps milliseconds
    failed = "leglength_monitoring_failure,backend=influxdb,instance=w,reason="
    for reason in ("refused", "timeout"):
        assert [fields for _, fields in carried.sink.told(2, f"{failed}{reason}")] == [{"failures": 1}]
    bench.commit(2)
    carried.step()
    assert len(carried.sink.told(3, OF_BACKEND)) == 1


def test_a_state_that_is_told_a_moment_later_doesnt_wait_and_one_that_is_not_told_does(bench: Bench) -> None:
    bench.state.register()
    bench.commit(0)
    carried = Carried(bench)
    of_state = OF_BACKEND.replace("influxdb", "prometheus")
    for request, (after_ns, waiting) in enumerate([(NANOSECONDS, (0, 0)), (HOUR_NS, (2, 3600))]):
        carried.now_ns = ENDED_NS + after_ns
        carried.step()
        ((_, told),) = carried.sink.told(request, of_state)
        assert (told["pending_points"], told["oldest_pending_seconds"]) == waiting
        bench.commit(1)


def test_a_long_backlog_is_not_slowed_by_it(bench: Bench) -> None:
    for number in range(5):
        bench.commit(number)
    carried = Carried(bench, batch_lines=1)
    assert [carried.step() for _ in range(6)] == [Step.DELIVERED] * 5 + [Step.IDLE]
    own = carried.lines()[1::2]
    assert len(own) == 5
    assert [bool(count) for count in own] == [True, False, False, False, True]
    first, last = (carried.sink.told(request, OF_BACKEND)[0][1] for request in (0, 4))
    sent = carried.lines()[0]
    assert (first["pending_points"], last["pending_points"]) == (4 * sent, 0)
    assert (first["oldest_pending_seconds"], last["oldest_pending_seconds"]) == (3599.0, 0.0)
    assert (first["delivered"], last["delivered"]) == (sent, 5 * sent)


def test_a_server_that_refuses_it_refuses_no_session_s_point(bench: Bench) -> None:
    bench.commit(0)
    waiting, carried = bench.waiting(), Carried(bench)
    refused = tuple(Rejection(index, "rejected", "type conflict") for index in range(waiting, waiting + 3))
    carried.sink.answers = [Delivery(frozenset(range(waiting)), refused)]
    assert [carried.step(), carried.step()] == [Step.DELIVERED, Step.IDLE]
    assert (bench.waiting(), bench.dead(), bench.lost) == (0, 0, {})


def test_only_who_has_a_heartbeat_tells_it_where_nothing_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.commit(0)
    bench.deliver()
    silent, beating = Carried(bench, owner="another"), Carried(bench, heartbeat_seconds=60.0)
    assert (silent.step(), silent.sink.requests) == (Step.IDLE, [])
    assert beating.step() is Step.IDLE
    assert silent.courier._queue.try_lease(10.0)  # nobody who delivers waits for it
    silent.courier._queue.release()
    assert [beating.step(), len(beating.sink.requests), beating.lines()[0]] == [Step.IDLE, 1, 0]
    clock = couriers.time.monotonic() + 61.0
    monkeypatch.setattr(couriers.time, "monotonic", lambda: clock)
    beating.sink.answers = [Delivery(error="refused")]
    assert [beating.step(), beating.step(), len(beating.sink.requests)] == [Step.FAILED, Step.IDLE, 3]
    assert bench.waiting() == 0


def test_the_oldest_open_session_is_told_and_of_a_coarse_record_how_long_it_has_lasted_at_least(bench: Bench) -> None:
    carried = Carried(bench)
    for session_id, started_ns in (("one", carried.now_ns - HOUR_NS - 1), ("two", carried.now_ns - 5 * NANOSECONDS)):
        bench.store.keep_open(realistic(session_id=session_id, started_ns=started_ns), bench.owner.token, durable=True)
    bench.commit(0)
    carried.step()
    ((_, told),) = carried.sink.told(0, OF_STORE)
    assert (told["open_sessions"], told["oldest_open_session_seconds"]) == (2, pytest.approx(3600.0))

    coarse = realistic(session_id="one", started_ns=carried.now_ns - HOUR_NS - 1).coarsened()
    bench.store.keep_open(coarse, bench.owner.token, durable=True)
    snapshot = {total.metric: total.value for total in bench.state.snapshot().totals if not total.labels}
    assert snapshot[catalogue.OPEN_SESSIONS.name] == 2
    bench.commit(1)
    carried.step()
    ((_, told),) = carried.sink.told(1, OF_STORE)
    assert told["oldest_open_session_seconds"] <= 3600.0
    assert (coarse.started_ns + COARSE_NS - carried.now_ns) / NANOSECONDS < 3600.0


def test_a_process_that_hangs_tells_it_itself_each_minute_though_it_commits_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its delivery's threads go on: no relay is needed where a process reaches its backends."""
    now = couriers.time.monotonic()
    clock = ManualClock(now)
    monkeypatch.setattr(couriers.time, "monotonic", clock)
    bench.commit(0)
    carried, pushes = Carried(bench), PushedSink()
    pushing = StateCourier(bench.state, pushes, 10.0)
    told = []
    for seconds, is_open in ((0, False), (59, True), (61, True), (100, True), (125, True), (190, False)):
        clock.now = now + seconds
        if is_open:
            bench.store.keep_open(realistic(session_id="hangs"), bench.owner.token, durable=True)
        else:
            bench.store.commit(realistic(session_id="hangs", status="failed"), SessionWritesBuilder())
        for _ in range(4):
            carried.step()
            pushing.step(Deadline.after(60.0))
        told.append((len(carried.sink.requests), len(pushes.snapshots)))
    before, *after = told
    assert [(logs - before[0], states - before[1]) for logs, states in after] == [
        (0, 0),
        (1, 1),
        (1, 1),
        (2, 2),
        (2, 2),
    ]


class PushedSink:
    """Takes every snapshot."""

    name = "prometheus"

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def send(self, snapshot: Snapshot, _: Deadline) -> Delivery:
        self.snapshots.append(snapshot)
        return Delivery()

    def close(self) -> None:
        pass


class ManualClock:
    """A monotonic clock that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_point_that_cant_be_written_holds_up_no_other() -> None:
    state = [Sample(catalogue.MONITORING_PENDING, 1.0, {"backend": "influxdb"}), Sample(catalogue.ERASURES, 2.0)]
    assert own_lines(state, 7, {"instance": "w\\"}) == []
    state[0] = Sample(catalogue.MONITORING_PENDING, 1.0, {"backend": "back\\slash"})
    assert own_lines(state, 7, {"instance": "w"}) == [b"leglength_monitoring_store,instance=w erasures=2.0 7"]


def test_a_damaged_trace_is_open_too(bench: Bench) -> None:
    bench.store.keep_open(realistic(session_id="one"), bench.owner.token, durable=True)
    with bench.database.transaction() as connection:
        connection.execute("UPDATE open_sessions SET record = 'broken'")
    snapshot = {total.metric: total.value for total in bench.state.snapshot().totals if not total.labels}
    assert snapshot[catalogue.OPEN_SESSIONS.name] == 1
    assert snapshot[catalogue.OLDEST_OPEN_SESSION.name] == 0


def test_an_outage_of_a_real_server_is_seen_in_it_afterwards(host: Host, influxdb1: InfluxDB1) -> None:
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    influxdb1.stop()
    assert host.run(RECORD_FOUR).code == 0
    waited = host.status()["outbox"]["influxdb"]["pending"]
    influxdb1.start()
    host.drain()
    wait_until(lambda: len(points(influxdb1)) == 4, "the sessions")
    told = sorted(influxdb1.read_points("leglength_monitoring"), key=lambda point: point.time_ns)
    fields = [dict(point.fields) for point in told if point.tags["backend"] == "influxdb"]
    assert [one["pending_points"] for one in fields] == [waited, 0]
    assert fields[0]["oldest_pending_seconds"] > 0
    assert fields[1]["delivered"] == waited > 0
    assert sum(point.fields["failures"] for point in influxdb1.read_points("leglength_monitoring_failure")) >= 1
