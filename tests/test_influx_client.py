"""Lines arrive once each, bad ones are told from bad requests, and nothing that could still be taken is given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from monitoring.influx_client import InfluxClient, write_url
from monitoring.metrics import catalogue
from monitoring.metrics.line_protocol import Point, line
from monitoring.settings import InfluxDBConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport
from monitoring.transport.sinks import Delivery, Rejection
from tests.support import faults
from tests.support.checked_settings import section_of
from tests.support.clocks import assert_took_at_most
from tests.support.faults import FaultServer, respond
from tests.support.servers import InfluxDB1, PointServer, VmAuth, wait_for_points

NOW_NS = time.time_ns() // 1_000_000_000 * 1_000_000_000
Connect = Callable[..., InfluxClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients for a server's settings, some of them changed."""
    made: list[InfluxClient] = []

    def make(settings: dict[str, Any] | str, **changed: Any) -> InfluxClient:
        settings = {"url": settings} if isinstance(settings, str) else settings
        made.append(InfluxClient(section_of(InfluxDBConfig, **{**settings, **changed}), HttpTransport()))
        return made[-1]

    yield make
    for client in made:
        client.close()


def lines(count: int, measurement: str = "leglength_test", first: int = 0) -> list[bytes]:
    return [
        line(Point(measurement, {"i": f"{n}"}, {"v": n + 0.5}), NOW_NS + n).encode()
        for n in range(first, first + count)
    ]


def deliver(client: InfluxClient, batch: list[bytes], seconds: float = 20.0) -> Delivery:
    delivery = client.send(batch, Deadline.after(seconds))
    assert not delivery.expiry  # nothing ends of an address without TLS, and of a token that is no JWT
    return replace(delivery, expiry=None)


ALL = frozenset(range(10))


# --- real servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10, 3000], ids=["one", "ten", "enough to be zipped"])
def test_a_batch_arrives_whole(point_server: PointServer, connect: Connect, count: int) -> None:
    assert deliver(connect(point_server.write_settings()), lines(count)) == Delivery(frozenset(range(count)))
    found = wait_for_points(point_server, "leglength_test", count)
    assert sorted(point.fields["v"] for point in found) == [n + 0.5 for n in range(count)]


def test_a_repeated_batch_has_no_effect(point_server: PointServer, connect: Connect) -> None:
    client = connect(point_server.write_settings())
    for _ in range(3):
        deliver(client, lines(10))
    assert len(wait_for_points(point_server, "leglength_test", 10)) == 10


def test_a_server_that_wants_a_password_gets_it(influxdb1_factory: Callable[..., InfluxDB1], connect: Connect) -> None:
    server = influxdb1_factory(auth=True)
    user, password = server.writer
    client = connect(server.write_settings(), token=None, username=user, password=password)
    assert deliver(client, lines(10)) == Delivery(ALL)
    assert len(server.read_points("leglength_test")) == 10


def test_version_1_takes_user_and_password_in_place_of_a_token(
    influxdb1_factory: Callable[..., InfluxDB1], connect: Connect
) -> None:
    server = influxdb1_factory(auth=True)
    assert server.write_settings()["token"] == ":".join(server.writer)
    assert deliver(connect(server.write_settings()), lines(10)) == Delivery(ALL)


@pytest.mark.parametrize(
    ("changed", "error"), [({"password": "wrong"}, "unauthorized"), ({"username": None}, "unauthorized")]
)
def test_a_wrong_password_keeps_everything(
    influxdb1_factory: Callable[..., InfluxDB1], connect: Connect, changed: dict[str, Any], error: str
) -> None:
    server = influxdb1_factory(auth=True)
    user, password = server.writer
    settings = server.write_settings() | {"token": None, "username": user, "password": password} | changed
    delivery = deliver(connect(settings), lines(10))
    assert (delivery.accepted, delivery.rejected, delivery.error) == (frozenset(), (), error)
    assert "wrong" not in delivery.detail


def test_a_user_who_may_not_write_there_keeps_everything(
    influxdb1_factory: Callable[..., InfluxDB1], connect: Connect
) -> None:
    server = influxdb1_factory(auth=True)
    server.query("CREATE USER reader WITH PASSWORD 'reader-password'")
    client = connect(server.write_settings(), token=None, username="reader", password="reader-password")
    assert deliver(client, lines(10)).error == "forbidden"


def test_a_database_that_isnt_there_keeps_everything_until_it_is(influxdb1: InfluxDB1, connect: Connect) -> None:
    client = connect(influxdb1.write_settings(), bucket="later")
    missing = deliver(client, lines(10))
    assert (missing.accepted, missing.rejected, missing.error) == (frozenset(), (), "not_found")
    assert "database" in missing.detail
    influxdb1.create_database("later")
    assert deliver(client, lines(10)) == Delivery(ALL)


def test_a_field_of_the_wrong_type_is_refused_alone(influxdb1: InfluxDB1, connect: Connect) -> None:
    client = connect(influxdb1.write_settings())
    deliver(client, lines(1, first=500))
    batch = [
        *lines(20),
        f'leglength_test,i=x v="text" {NOW_NS}'.encode(),
        *lines(20, first=20),
        b"no line protocol",
        *lines(9, first=40),
    ]
    delivery = deliver(client, batch)
    assert delivery.rejected == (Rejection(20, "rejected", "type conflict"), Rejection(41, "rejected", "malformed"))
    assert delivery.accepted == frozenset(range(51)) - {20, 41}
    assert delivery.error is None
    assert len(influxdb1.read_points("leglength_test")) == 50


def test_points_beyond_the_retention_have_expired(influxdb1: InfluxDB1, connect: Connect) -> None:
    influxdb1.query('ALTER RETENTION POLICY "autogen" ON "leglength" DURATION 1d SHARD DURATION 1h')
    batch = lines(10)
    for index in (0, 4):
        batch[index] = f"leglength_test,i=old{index} v=1 {NOW_NS - 10 * 86_400_000_000_000}".encode()
    delivery = deliver(connect(influxdb1.write_settings()), batch)
    assert delivery.rejected == tuple(Rejection(index, "expired", "beyond retention") for index in (0, 4))
    assert (delivery.accepted, delivery.error) == (ALL - {0, 4}, None)


def test_a_batch_that_has_expired_as_a_whole_goes_without_holding_up_others(
    influxdb1: InfluxDB1, connect: Connect
) -> None:
    influxdb1.query('ALTER RETENTION POLICY "autogen" ON "leglength" DURATION 1d SHARD DURATION 1h')
    batch = [f"leglength_test,i={i} v=1 {NOW_NS - 10 * 86_400_000_000_000}".encode() for i in range(10)]
    delivery = deliver(connect(influxdb1.write_settings()), batch)
    expired = tuple(Rejection(index, "expired", "beyond retention") for index in range(10))
    assert delivery == Delivery(rejected=expired)


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "page",
    [
        b"<html>The client's browser is too old</html>",
        b"<p>See our retention policy</p>",
        b'{"error": "the request lies outside the allowed time range"}',
    ],
)
def test_anybodys_words_of_age_are_no_verdict_on_every_line(
    fault_server: FaultServer, connect: Connect, status: int, page: bytes
) -> None:
    """A proxy's page that says "too old" once made dead letters of all that waited."""
    fault_server.then = respond(status, page)
    delivery = deliver(connect(fault_server.url), lines(30))
    assert (delivery.accepted, delivery.rejected, delivery.error) == (frozenset(), (), "http_4xx")
    assert delivery.detail == f"HTTP {status}: every line is refused: beyond retention"


def test_another_servers_words_of_age_count_where_it_takes_the_other_lines(
    fault_server: FaultServer, connect: Connect
) -> None:
    def behave(exchange: faults.Exchange) -> None:
        is_old = b"i=4 " in exchange.request.body
        return respond(400, b"timestamp is too old" if is_old else b"")(exchange) if is_old else respond(204)(exchange)

    fault_server.then = behave
    delivery = deliver(connect(fault_server.url), lines(10))
    assert delivery == Delivery(ALL - {4}, (Rejection(4, "expired", "beyond retention"),))


# As InfluxDB 2.7 and 1.6 say it; of version 3, its documentation.
CONFLICTS = [
    b'{"code":"unprocessable entity","message":"failure writing points to database: partial write: %b"}'
    % rb"field type conflict: input field \"duration_seconds\" on measurement \"leglength_session\" is type float",
    b'{"error":"partial write: %b, already exists as type integer dropped=1"}'
    % rb"field type conflict: input field \"duration_seconds\" on measurement \"leglength_session\" is type float",
    b'{"error":"partial write of line protocol occurred","data":[{"error_message":"%b"}]}'
    % b"invalid column type for column 'duration_seconds', expected iox::column_type::field::integer",
]


@pytest.mark.parametrize("body", CONFLICTS)
def test_a_type_conflict_is_told_with_the_field_that_it_is_about(
    fault_server: FaultServer, connect: Connect, body: bytes
) -> None:
    def behave(exchange: faults.Exchange) -> None:
        return respond(422, body)(exchange) if b"i=4 " in exchange.request.body else respond(204)(exchange)

    fault_server.then = behave
    cause = "type conflict in field duration_seconds"
    assert deliver(connect(fault_server.url), lines(10)).rejected == (Rejection(4, "rejected", cause),)
    fault_server.then = respond(422, body)
    assert deliver(connect(fault_server.url), lines(3)).detail == f"HTTP 422: every line is refused: {cause}"


def test_a_field_that_isnt_ours_is_not_named(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = respond(422, CONFLICTS[0].replace(b"duration_seconds", b"Jane_Doe"))
    assert deliver(connect(fault_server.url), lines(3)).detail == "HTTP 422: every line is refused: type conflict"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"code":"not found","message":"bucket \\"x\\" not found"}', "the bucket does not exist"),
        (
            b'{"message":"organization name \\"bucket\\" not found"}',
            "the organisation does not exist",
        ),
        (b'{"error":"database not found: \\"x\\""}', "the database does not exist"),
        (b"404 page not found\n", "this write API is not at this address; check url and api"),
        (b"<html>bucket</html>", "the address, organisation, bucket or database does not exist"),
    ],
)
def test_what_isnt_there_is_told_as_the_server_says_it(
    fault_server: FaultServer, connect: Connect, body: bytes, said: str
) -> None:
    fault_server.then = respond(404, body)
    client = connect(fault_server.url)
    assert deliver(client, lines(3)).detail == client.probe() == f"HTTP 404: {said}"


@pytest.mark.parametrize("count", [1, 3, 30])
def test_a_wrong_token_behind_a_proxy_that_answers_400_keeps_everything(
    victoria_metrics: Any, vmauth_factory: Callable[..., VmAuth], connect: Connect, count: int
) -> None:
    proxy = vmauth_factory(victoria_metrics.url)
    assert deliver(connect(proxy.write_settings()), lines(10)) == Delivery(ALL)
    delivery = deliver(connect(proxy.write_settings(), token="a-wrong-token"), lines(count))
    assert (delivery.accepted, delivery.rejected) == (frozenset(), ())
    assert delivery.error in {"unauthorized", "http_4xx"}
    assert "a-wrong-token" not in delivery.detail


def test_a_missing_token_keeps_everything(
    victoria_metrics: Any, vmauth_factory: Callable[..., VmAuth], connect: Connect
) -> None:
    client = connect(vmauth_factory(victoria_metrics.url).write_settings(), token=None)
    assert deliver(client, lines(10)).error == "unauthorized"


def test_a_write_whose_answer_is_lost_is_kept_and_its_repeat_has_no_effect(
    influxdb1: InfluxDB1, connect: Connect
) -> None:
    lose_once = [faults.forward(influxdb1.url, answer=faults.reset())]
    with FaultServer(lose_once, then=faults.forward(influxdb1.url)) as proxy:
        client = connect(influxdb1.write_settings(), url=proxy.url)
        lost = deliver(client, lines(10))
        assert (lost.accepted, lost.rejected, lost.error) == (frozenset(), (), "reset")
        assert deliver(client, lines(10)) == Delivery(ALL)
    assert len(influxdb1.read_points("leglength_test")) == 10


# --- a server of faults -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (202, "bad_answer"),
        (302, "redirect"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (408, "timeout"),
        (418, "http_4xx"),
        (429, "rate_limited"),
        (500, "http_5xx"),
        (502, "http_5xx"),
        (503, "unavailable"),
    ],
)
def test_what_may_pass_keeps_everything_after_one_request(
    fault_server: FaultServer, connect: Connect, status: int, error: str
) -> None:
    fault_server.then = respond(status, {"error": "Jane Doe"}, {"Location": fault_server.url})
    delivery = deliver(connect(fault_server.url), lines(10))
    assert (delivery.accepted, delivery.rejected, delivery.error) == (frozenset(), (), error)
    assert error in catalogue.DELIVERY_FAILURE.values
    assert str(status) in delivery.detail
    assert "Jane" not in delivery.detail
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("status", [400, 422, 413])
@pytest.mark.parametrize("count", [1, 5, 500])
def test_a_server_that_refuses_everything_keeps_everything_after_a_few_requests(
    fault_server: FaultServer, connect: Connect, status: int, count: int
) -> None:
    fault_server.then = respond(status, {"error": "organization name is invalid"})
    delivery = deliver(connect(fault_server.url), lines(count))
    assert (delivery.accepted, delivery.rejected) == (frozenset(), ())
    assert delivery.error is not None
    assert len(fault_server.requests) <= 40


def _pickily(largest: int, bad: bytes = b"") -> faults.Behaviour:
    """A server that takes so many lines at once and none that holds ``bad``."""

    def behave(exchange: faults.Exchange) -> None:
        if len(exchange.request.lines) > largest:
            return respond(413)(exchange)
        return respond(400 if bad and bad in exchange.request.body else 204)(exchange)

    return behave


def test_a_batch_that_is_too_large_is_halved_until_it_fits(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = _pickily(largest=7)
    assert deliver(connect(fault_server.url), lines(100)) == Delivery(frozenset(range(100)))
    taken = {text for request in fault_server.requests if len(request.lines) <= 7 for text in request.lines}
    assert taken == {text.decode() for text in lines(100)}


def test_a_bad_line_is_found_in_a_full_batch_with_few_requests(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = _pickily(5000, b"i=1234 ")
    delivery = deliver(connect(fault_server.url), lines(5000))
    assert delivery.rejected == (Rejection(1234, "rejected"),)
    assert len(delivery.accepted) == 4999
    assert len(fault_server.requests) < 40


@pytest.mark.parametrize("bad", [0, 1, 5, 9])
def test_one_bad_line_is_found_wherever_it_is(fault_server: FaultServer, connect: Connect, bad: int) -> None:
    fault_server.then = _pickily(5000, f"i={bad} ".encode())
    assert deliver(connect(fault_server.url), lines(10)) == Delivery(ALL - {bad}, (Rejection(bad, "rejected"),))


def test_what_was_taken_before_a_failure_stays_taken(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.script.extend([respond(413), respond(204), respond(204)])
    fault_server.then = faults.retry_later(503, 7)
    delivery = deliver(connect(fault_server.url), lines(10))
    assert delivery.error == "unavailable"
    assert delivery.retry_after_seconds == 7.0
    assert delivery.accepted
    assert delivery.accepted < ALL
    sent = [request.lines for request in fault_server.requests[1:3]]
    assert {lines(10)[index].decode() for index in delivery.accepted} == {text for part in sent for text in part}


@pytest.mark.parametrize("form", [7, "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_says_when_to_come_back(fault_server: FaultServer, connect: Connect, status: int, form: Any) -> None:
    fault_server.then = faults.retry_later(status, faults.http_date(90) if form == "date" else form)
    seconds = deliver(connect(fault_server.url), lines(1)).retry_after_seconds
    assert seconds is not None
    assert 6 < seconds < 8 if form == 7 else 60 < seconds < 92


def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(
    fault_server: FaultServer, connect: Connect
) -> None:
    with FaultServer() as elsewhere:
        fault_server.then = faults.redirect(f"{elsewhere.url}/api/v2/write", 307)
        delivery = deliver(connect(fault_server.url, token="T"), lines(1))
        assert (delivery.accepted, delivery.error) == (frozenset(), "redirect")
        assert elsewhere.requests == []


def test_bisecting_ends_at_the_deadline(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = respond(413, after_seconds=0.1)
    began = time.monotonic()
    delivery = deliver(connect(fault_server.url), lines(5000), 0.5)
    assert_took_at_most(time.monotonic() - began, 3.0)
    assert delivery.error == "timeout"


def test_a_requests_own_timeout_is_kept_where_it_is_sooner(fault_server: FaultServer, connect: Connect) -> None:
    fault_server.then = faults.silence()
    began = time.monotonic()
    assert deliver(connect(fault_server.url, timeout=0.5), lines(1), 60.0).error == "timeout"
    assert_took_at_most(time.monotonic() - began, 3.0)


@pytest.mark.parametrize(
    ("api", "path", "query", "scheme"),
    [
        ("v1", "/in/write", {"db": "legs & more", "precision": "ns"}, "Token"),
        ("v2", "/in/api/v2/write", {"org": "a b", "bucket": "legs & more", "precision": "ns"}, "Token"),
        ("v3", "/in/api/v3/write_lp", {"db": "legs & more", "precision": "nanosecond"}, "Bearer"),
    ],
)
def test_each_version_has_its_path_its_names_and_its_way_to_show_a_token(
    fault_server: FaultServer, connect: Connect, api: str, path: str, query: dict[str, str], scheme: str
) -> None:
    deliver(connect(f"{fault_server.url}/in", api=api, org="a b", bucket="legs & more", token="T"), lines(1))
    (request,) = fault_server.requests
    assert (request.path, request.query) == (path, query)
    assert request.headers["Authorization"] == f"{scheme} T"


def test_an_address_never_holds_a_secret() -> None:
    config = section_of(InfluxDBConfig, url="http://h", token="T0KEN", username="u", password="PASS", api="v1")
    assert not {"T0KEN", "PASS"} & set(write_url(config).replace("=", "&").split("&"))
    assert "T0KEN" not in write_url(config)


def test_an_empty_batch_says_nothing_of_any_line(fault_server: FaultServer, connect: Connect) -> None:
    delivery = deliver(connect(fault_server.url), [])
    assert (delivery.accepted, delivery.rejected) == (frozenset(), ())
