"""Whatever a backend does, the host doesn't notice, nothing is lost, and each point arrives once afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import (
    Behaviour,
    FaultServer,
    black_hole,
    drip_body,
    drip_headers,
    forward,
    garbage,
    hang_up,
    http_date,
    redirect,
    refused_port,
    reset,
    reset_mid_body,
    respond,
    retry_later,
    silence,
    silence_after_headers,
)
from tests.support.hosts import Ended, Host, base_settings, with_influxdb, with_pushgateway
from tests.support.servers import InfluxDB1, Pushgateway

SESSIONS = 3
SHUTDOWN_SECONDS = 1.0
REQUEST_SECONDS = 120.0  # so long that only shutdown_timeout can end the wait
MONITORING_SECONDS = 3.0  # for its start, its commits and its exit
SECRETS = {"token": "invented-token", "username": "pusher", "password": "invented-password"}

HOST = f"""
monitor = MonitorManager(SETTINGS)
for number in range({SESSIONS}):
    with monitor.session(f"series-{{number}}") as session:
        with session.stage("inference"):
            pass
        session.record_measurements({{"PLL_R_FEM": 300.0 + number}})
    say("measured", number)
monitor.close()
say("done")
sys.exit(3)
"""
STATUSES = (400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 504)
FAULTS: dict[str, Behaviour] = {
    **{f"status {status}": respond(status, b"no") for status in STATUSES},
    "status 202": respond(202),
    "301": redirect("http://127.0.0.1:9/elsewhere", 301),
    "307": redirect("http://127.0.0.1:9/elsewhere", 307),
    "retry after seconds": retry_later(429, 1),
    "retry after a date": retry_later(503, http_date(1)),
    "silence before the headers": silence(),
    "silence after the headers": silence_after_headers(500),
    "a byte a second in the headers": drip_headers(1.0),
    "a byte a second in the body": drip_body(1.0, status=500),
    "reset": reset(),
    "reset in mid-body": reset_mid_body(500),
    "hang up": hang_up(),
    "garbage": garbage(),
    "an answer that doesn't end": drip_body(0.2),
    "204 after 0.3 s": respond(204, after_seconds=0.3),
}
TAKES_IT = {"204 after 0.3 s"}
"""What a log backend takes for an acceptance; a Pushgateway answers 200 or 202."""


def run_against(host: Host, url: str, shutdown_seconds: float = SHUTDOWN_SECONDS) -> Ended:
    settings = base_settings(host.store_folder, shutdown_timeout=shutdown_seconds)
    influxdb = {"url": url, "bucket": "any", "token": SECRETS["token"], "timeout": REQUEST_SECONDS}
    user = {name: SECRETS[name] for name in ("username", "password")}
    host.settings = with_pushgateway(with_influxdb(settings, influxdb), url, timeout=REQUEST_SECONDS, **user)
    return host.run(HOST)


@pytest.fixture(scope="module")
def unmonitored(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The same host without monitoring."""
    host = Host(tmp_path_factory.mktemp("unmonitored"))
    host.settings = None
    return host.run(HOST)


def assert_unnoticed(ended: Ended, alone: Ended, host: Host) -> None:
    """The same output and exit code, in time, and no secret in the log, in which each backend's state is said once."""
    assert (ended.code, ended.stdout) == (alone.code, alone.stdout) == (3, alone.stdout)
    assert_took_at_most(ended.seconds, alone.seconds + SHUTDOWN_SECONDS + MONITORING_SECONDS)
    assert not [secret for secret in SECRETS.values() if secret in ended.stderr]
    for backend in ("influxdb", "prometheus"):
        assert ended.stderr.count(f"monitoring: {backend}:") <= 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert host.swallowed() == ""
    assert len(host.stored()) == SESSIONS


def deliver_for_real(host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway) -> None:
    settings = with_influxdb(base_settings(host.store_folder), influxdb1.write_settings())
    host.settings = with_pushgateway(settings, pushgateway.url)
    host.drain()


def assert_arrived_once(host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway) -> None:
    stored = {item.timestamp_ns: item.record for item in host.stored()}
    points = influxdb1.query("SELECT duration_seconds FROM leglength_session", influxdb1.database)
    assert {point["time"]: point["duration_seconds"] for point in points} == {
        time_ns: record.duration_seconds for time_ns, record in stored.items()
    }
    assert len(points) == len(stored) == SESSIONS
    assert pushgateway.value("leglength_sessions_total", status="completed") == SESSIONS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_at_fault_costs_the_host_nothing_and_gets_everything_later(
    host: Host, fault: str, influxdb1: InfluxDB1, pushgateway: Pushgateway, unmonitored: Ended
) -> None:
    with FaultServer(then=FAULTS[fault]) as server:
        # What is taken, is in time; a busy machine may need longer than a second for it.
        ended = run_against(host, server.url, HANGS_SECONDS / 3 if fault in TAKES_IT else SHUTDOWN_SECONDS)
    assert_unnoticed(ended, unmonitored, host)
    waiting = host.outbox()["influxdb"]
    if fault not in TAKES_IT:
        assert waiting.pending > 0, "lines were given up because of a fault that passes"
        assert waiting.dead == 0
        deliver_for_real(host, influxdb1, pushgateway)
        assert_arrived_once(host, influxdb1, pushgateway)
    else:
        assert waiting.pending == 0


def test_connections_that_are_reset_before_a_request_is_read_cost_the_host_nothing(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway, unmonitored: Ended
) -> None:
    with FaultServer(reset_on_accept=True) as server:
        ended = run_against(host, server.url)
    assert_unnoticed(ended, unmonitored, host)
    deliver_for_real(host, influxdb1, pushgateway)
    assert_arrived_once(host, influxdb1, pushgateway)


@contextmanager
def _refused() -> Iterator[str]:
    with refused_port() as url:
        yield url


@pytest.mark.parametrize("unreachable", [_refused, black_hole], ids=["refused", "a black hole with a full backlog"])
def test_a_backend_out_of_reach_costs_the_host_nothing_and_gets_everything_later(
    host: Host,
    unreachable: Callable[[], AbstractContextManager[str]],
    influxdb1: InfluxDB1,
    pushgateway: Pushgateway,
    unmonitored: Ended,
) -> None:
    with unreachable() as url:
        ended = run_against(host, url)
    assert_unnoticed(ended, unmonitored, host)
    deliver_for_real(host, influxdb1, pushgateway)
    assert_arrived_once(host, influxdb1, pushgateway)


def test_a_name_that_takes_for_ever_to_look_up_does_not_hold_the_exit(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway, unmonitored: Ended
) -> None:
    slow_dns = "import socket; socket.getaddrinfo = lambda *_, **__: time.sleep(600)\n"
    settings = base_settings(host.store_folder, shutdown_timeout=SHUTDOWN_SECONDS)
    settings = with_influxdb(settings, {"url": "http://name.invalid:8086"}, timeout=REQUEST_SECONDS)
    host.settings = with_pushgateway(settings, "http://name.invalid:9091", timeout=REQUEST_SECONDS)
    ended = host.run(slow_dns + HOST)
    assert_unnoticed(ended, unmonitored, host)
    deliver_for_real(host, influxdb1, pushgateway)
    assert_arrived_once(host, influxdb1, pushgateway)


@pytest.mark.parametrize("lost_answer", [reset(), silence(), respond(500, b"no")], ids=["reset", "silence", "500"])
def test_a_write_whose_answer_was_lost_is_repeated_without_effect(
    host: Host, lost_answer: Behaviour, influxdb1: InfluxDB1, pushgateway: Pushgateway, unmonitored: Ended
) -> None:
    with FaultServer(then=forward(influxdb1.url, answer=lost_answer)) as server:
        settings = base_settings(host.store_folder, shutdown_timeout=SHUTDOWN_SECONDS)
        settings = with_influxdb(settings, {**influxdb1.write_settings(), "url": server.url})
        host.settings = with_pushgateway(settings, pushgateway.url)
        ended = host.run(HOST)
    assert_unnoticed(ended, unmonitored, host)
    assert host.outbox()["influxdb"].pending > 0
    deliver_for_real(host, influxdb1, pushgateway)
    assert_arrived_once(host, influxdb1, pushgateway)
