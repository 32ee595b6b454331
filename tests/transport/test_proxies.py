"""The environment's proxies: used as other programs use them, told apart from the backend, and trusted with nothing."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import MonitorManager
from monitoring.influx_client import InfluxClient
from monitoring.prometheus_client import PrometheusClient
from monitoring.settings import InfluxDBConfig, PrometheusConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport, Response
from monitoring.transport.proxies import UnusableProxyError, proxy_for
from monitoring.transport.reasons import detail
from monitoring.transport.sinks import Delivery, Snapshot
from tests.support import faults
from tests.support.checked_settings import section_of
from tests.support.clocks import assert_took_at_most
from tests.support.faults import Behaviour, Exchange, FaultServer, respond
from tests.support.proxy_server import ForwardProxy
from tests.support.tls_fixtures import Connect, told
from tests.support.tls_servers import Authority, BrokenHandshakeServer, TlsFaultServer, drip_handshake

SOON_SECONDS = 0.5
GENEROUS_SECONDS = 3.0
TOKEN = "t0k3n-that-no-proxy-may-read"
PASSWORD = "pr0xy-p4ssw0rd"

Through = Callable[[str], None]


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Through:
    """Names a proxy in the environment, for both kinds of addresses."""

    def use(address: str) -> None:
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("https_proxy", address)

    return use


@pytest.fixture(params=["http", "https"])
def backend(request: pytest.FixtureRequest, authority: Authority) -> Iterator[TlsFaultServer]:
    """A backend at an address of each kind in turn; the ca_file for it is the authority's."""
    with TlsFaultServer(authority.server_context() if request.param == "https" else None) as server:
        yield server


def ask(transport: HttpTransport, url: str, seconds: float = 60.0, body: bytes = b"x") -> Response:
    began = time.monotonic()
    headers = {"Authorization": f"Token {TOKEN}"}
    response = transport.request("POST", f"{url}/write?db=a%20b", headers, body, Deadline.after(seconds))
    assert_took_at_most(time.monotonic() - began, seconds + GENEROUS_SECONDS - SOON_SECONDS)
    return response


def is_secure(server: FaultServer) -> bool:
    return server.url.startswith("https:")


# --- addresses that can't be used ---------------------------------------------------------------

BROKEN = [
    "http://[::1",
    "http://p:99999",
    "http://p:port",
    "http://p:0",
    "http://",
    "://p",
    ":",
    "http://pro xy:1",
    "http://p\n:1",
    "http://pröxy:1",
    "ftp://p:1",
    "socks5://p:1080",
    "file:///etc/passwd",
    f"http://user:{PASSWORD}@",
    f"http://user:{PASSWORD}@[p",
    f"http://user:{PASSWORD}#x@p:1",
    f"socks5h://user:{PASSWORD}@p:1",
    f"http://user:{PASSWORD}@p:1:2",
]


@pytest.mark.parametrize("address", BROKEN)
def test_a_proxy_that_cant_be_one_is_a_failure_and_is_not_gone_around(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through, address: str
) -> None:
    through(address)
    with pytest.raises(UnusableProxyError) as caught:
        proxy_for(backend.url)
    assert PASSWORD not in str(caught.value)
    text = told(ask(connect(ca_file=authority.ca_file), backend.url))
    assert text.startswith(f"proxy: the address in {urlsplit(backend.url).scheme}_proxy ")
    assert backend.connections_accepted == 0


# --- through it ---------------------------------------------------------------------------------


def test_a_request_arrives_through_a_proxy_and_its_connection_is_used_again(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    transport = connect(ca_file=authority.ca_file)
    with ForwardProxy() as proxy:
        through(proxy.url)
        backend.script.extend([respond(204), respond(400, b"so"), respond(200)])
        assert [ask(transport, backend.url).status for _ in range(3)] == [204, 400, 200]
        assert {request.query["db"] for request in backend.requests} == {"a b"}
        assert [request.headers["Authorization"] for request in backend.requests] == [f"Token {TOKEN}"] * 3
        assert proxy.connections_accepted == 1
        methods = [request.method for request in proxy.requests]
        assert methods == (["CONNECT"] if is_secure(backend) else ["POST"] * 3)


def test_an_exempt_backend_is_reached_directly(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    with ForwardProxy() as proxy:
        through(proxy.url)
        assert ask(connect(ca_file=authority.ca_file), backend.url).status == 204
        assert proxy.connections_accepted == 0


def test_a_proxy_that_wants_credentials_gets_them_and_the_backend_does_not(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    with ForwardProxy(credentials=f"user:{PASSWORD}") as proxy:
        through(f"http://user:{PASSWORD}@{proxy.address}")
        transport = connect(ca_file=authority.ca_file)
        assert [ask(transport, backend.url).status for _ in range(2)] == [204, 204]
        assert all("Proxy-Authorization" not in request.headers for request in backend.requests)


@pytest.mark.parametrize("userinfo", ["", "user:a-wrong-one@"])
def test_a_proxy_that_does_not_accept_the_credentials_is_told(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through, userinfo: str
) -> None:
    with ForwardProxy(credentials=f"user:{PASSWORD}") as proxy:
        through(f"http://{userinfo}{proxy.address}")
        response = ask(connect(ca_file=authority.ca_file), backend.url)
        text = told(response) if is_secure(backend) else detail("proxy", response.status, response.hint)
        assert "the proxy wants a user and password that it accepts" in text
        assert "407" in text
        assert backend.requests == []


def test_the_environment_is_read_again_after_a_failure(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    transport = connect(ca_file=authority.ca_file)
    with faults.refused_port() as nobody, ForwardProxy() as proxy:
        through(nobody)
        assert ask(transport, backend.url).error == "proxy"
        through(proxy.url)
        assert ask(transport, backend.url).status == 204


# --- what a proxy does wrong --------------------------------------------------------------------


def test_a_proxy_that_is_not_there_is_told_from_a_backend_that_is_not(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    transport = connect(ca_file=authority.ca_file)
    with faults.refused_port() as nobody:
        through(nobody)
        refused = told(ask(transport, backend.url))
        assert refused == "proxy: the proxy can't be used: refused: nothing listens at this address"
        through("http://no-such-proxy.invalid:3128")
        assert told(ask(transport, backend.url)) == "proxy: the proxy can't be used: dns: the host's name is unknown"
    assert backend.connections_accepted == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "does not let requests to this address through (HTTP 403)"),
        (502, "can't reach the address (HTTP 502)"),
        (503, "can't reach the address (HTTP 503)"),
        (504, "can't reach the address in time (HTTP 504)"),
        (500, "the proxy answers HTTP 500"),
        (302, "the proxy answers HTTP 302"),
    ],
)
def test_a_proxy_that_lets_nothing_through_is_told(
    authority: Authority, connect: Connect, through: Through, status: int, words: str
) -> None:
    with ForwardProxy(then=respond(status, b"<html>", {"Location": "http://127.0.0.1:1/"})) as proxy:
        through(proxy.url)
        assert words in told(ask(connect(ca_file=authority.ca_file), "https://127.0.0.1:1"))
        answer = ask(connect(), "http://127.0.0.1:1")
        assert answer.status == status
        assert "through the proxy that the environment names" in detail("unavailable", answer.status, answer.hint)


@pytest.mark.parametrize(
    "behaviour",
    [faults.reset(), faults.hang_up(), faults.garbage(), faults.garbage(b"HTTP/1.1 abc\r\n\r\n")],
    ids=["reset", "hang up", "garbage", "no status"],
)
def test_a_broken_answer_to_connect_is_the_proxys(connect: Connect, through: Through, behaviour: Behaviour) -> None:
    with ForwardProxy(then=behaviour) as proxy:
        through(proxy.url)
        assert told(ask(connect(), "https://127.0.0.1:1")).startswith("proxy: the proxy can't be used: ")


def test_a_bad_certificate_behind_a_proxy_is_the_backends(
    stranger: Authority, authority: Authority, connect: Connect, through: Through
) -> None:
    with TlsFaultServer(stranger.server_context()) as server, ForwardProxy() as proxy:
        through(proxy.url)
        text = told(ask(connect(ca_file=authority.ca_file), server.url))
        assert text.startswith("tls: the server's certificate is from an authority that is not trusted here")
        assert server.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_told_and_not_followed(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through, status: int
) -> None:
    with ForwardProxy() as proxy, FaultServer() as elsewhere:
        through(proxy.url)
        backend.then = faults.redirect(f"{elsewhere.url}/write", status)
        assert ask(connect(ca_file=authority.ca_file), backend.url).status == status
        assert (elsewhere.requests, elsewhere.connections_accepted) == ([], 0)
        assert len(proxy.requests) == 1


# --- proxies that speak TLS ---------------------------------------------------------------------


def test_a_proxy_at_an_https_address_is_asked_over_tls(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    with ForwardProxy(context=authority.server_context(), credentials=f"user:{PASSWORD}") as proxy:
        through(f"https://user:{PASSWORD}@{proxy.address}")
        transport = connect(ca_file=authority.ca_file)
        assert [ask(transport, backend.url).status for _ in range(2)] == [204, 204]


def test_a_proxy_with_a_bad_certificate_gets_no_request(
    backend: TlsFaultServer, authority: Authority, stranger: Authority, connect: Connect, through: Through
) -> None:
    with ForwardProxy(context=stranger.server_context()) as proxy:
        through(proxy.url)
        text = told(ask(connect(ca_file=authority.ca_file), backend.url))
        assert text.startswith("proxy: the proxy can't be used: tls: the server's certificate is from an authority")
        assert bytes(proxy.received) == b""


def test_without_the_check_a_proxys_certificate_is_not_checked_either(
    backend: TlsFaultServer, stranger: Authority, connect: Connect, through: Through
) -> None:
    with ForwardProxy(context=stranger.server_context()) as proxy:
        through(proxy.url)
        assert ask(connect(verify_tls=False), backend.url).status == 204


def test_the_client_certificate_is_not_shown_to_a_proxy(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through
) -> None:
    pair = authority.key_pair("client")
    with ForwardProxy(context=authority.server_context(demands=authority)) as proxy:
        through(proxy.url)
        settings = {"client_cert_file": pair.certificate, "client_key_file": pair.key}
        assert ask(connect(ca_file=authority.ca_file, **settings), backend.url).status is None
        assert bytes(proxy.received) == b""


def test_a_client_certificate_reaches_the_backend_through_a_proxy(
    authority: Authority, connect: Connect, through: Through
) -> None:
    pair = authority.key_pair("client")
    settings = {"client_cert_file": pair.certificate, "client_key_file": pair.key}
    for context in (None, authority.server_context()):
        with (
            TlsFaultServer(authority.server_context(demands=authority)) as server,
            ForwardProxy(context=context) as proxy,
        ):
            through(proxy.url)
            assert ask(connect(ca_file=authority.ca_file, **settings), server.url).status == 204


# --- deadlines ----------------------------------------------------------------------------------


def lets_in_and_is_silent(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    exchange.hold()


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.silence(),
        faults.drip_headers(0.02),
        faults.silence_after_headers(),
        lets_in_and_is_silent,
    ],
    ids=["silence", "dripping headers", "silence after headers", "silence in the tunnel"],
)
def test_a_request_ends_at_its_deadline_whatever_the_proxy_does(
    backend: TlsFaultServer, authority: Authority, connect: Connect, through: Through, behaviour: Behaviour
) -> None:
    with ForwardProxy(then=behaviour) as proxy:
        through(proxy.url)
        transport = connect(ca_file=authority.ca_file)
        response = ask(transport, backend.url, SOON_SECONDS)
        assert response.error == "timeout" or (response.status, backend.url[:5]) == (200, "http:")
        proxy.then = proxy.pass_on
        assert ask(transport, backend.url).status == 204, "the next request has a fresh start"


@pytest.mark.parametrize("behaviour", [faults.silence(), drip_handshake(0.02)], ids=["silence", "dripping"])
@pytest.mark.parametrize("is_the_proxys", [True, False])
def test_a_handshake_with_or_through_a_proxy_ends_at_the_deadline(
    connect: Connect, through: Through, behaviour: Behaviour, is_the_proxys: bool
) -> None:
    with BrokenHandshakeServer(then=behaviour) as broken, ForwardProxy() as proxy:
        through(broken.url if is_the_proxys else proxy.url)
        assert ask(connect(), broken.url, SOON_SECONDS).error == "timeout"
        assert len(broken.wait_for_requests(1)) == 1


def test_connecting_to_a_proxy_ends_at_the_deadline(connect: Connect, through: Through) -> None:
    with faults.black_hole() as nowhere:
        through(nowhere)
        assert ask(connect(), "https://127.0.0.1:1", SOON_SECONDS).error == "timeout"


def test_a_backend_that_drips_through_a_tunnel_in_a_tls_proxy_ends_at_the_deadline(
    authority: Authority, connect: Connect, through: Through
) -> None:
    context = authority.server_context()
    with TlsFaultServer(context, then=faults.drip_headers(0.02)) as server, ForwardProxy(context=context) as proxy:
        through(proxy.url)
        assert ask(connect(ca_file=authority.ca_file), server.url, SOON_SECONDS).error == "timeout"


# --- secrets ------------------------------------------------------------------------------------


def send_influx(url: str, ca_file: str, token: str, api: str) -> Delivery:
    config = section_of(InfluxDBConfig, url=url, ca_file=ca_file, token=token, api=api, timeout=5.0)
    client = InfluxClient(config, HttpTransport(config.trust()))
    try:
        return client.send([b"m v=1 1"], Deadline.after(5.0))
    finally:
        client.close()


def send_prometheus(url: str, ca_file: str, token: str, api: str) -> Delivery:
    settings = {"gateway_url": url, "ca_file": ca_file, "username": "pusher", "password": token, "timeout": 5.0}
    config = section_of(PrometheusConfig, **settings)
    client = PrometheusClient(config, HttpTransport(config.trust()), {"instance": "ward3"})
    try:
        return client.send(Snapshot((), 1, 1), Deadline.after(5.0))
    finally:
        client.close()


def spellings(*secrets: str) -> list[bytes]:
    """A secret as it is, and as Basic authentication carries it."""
    plain = [secret.encode() for secret in secrets]
    return plain + [base64.b64encode(prefix + text)[8:-4] for text in plain for prefix in (b"", b"u:", b"pusher:")]


def sent_to(server: FaultServer) -> bytes:
    """All that a server was sent."""
    requests = server.requests
    return b"".join(f"{r.method} {r.target}\n{r.headers}".encode() + r.raw_body for r in requests)


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
ANSWERS = st.sampled_from([204, 301, 302, 307, 308, 401, 407, 500])


@pytest.mark.parametrize("sink", [send_influx, send_prometheus])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SECRETS, SECRETS, ANSWERS, st.sampled_from(["v1", "v2", "v3"]), st.booleans(), st.booleans())
def test_no_secret_gets_to_where_it_is_not_for(
    authority: Authority,
    backend: TlsFaultServer,
    caplog: pytest.LogCaptureFixture,
    sink: Callable[..., Delivery],
    token: str,
    password: str,
    status: int,
    api: str,
    knows_the_password: bool,
    speaks_tls: bool,
) -> None:
    token, password = f"u:token-of-the-backend-{token}", f"password-of-the-proxy-{password}"
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    backend.requests.clear()
    userinfo = f"u:{quote(password, safe='')}" if knows_the_password else "u:another-one-altogether"
    context = authority.server_context() if speaks_tls else None
    with (
        pytest.MonkeyPatch.context() as environment,
        ForwardProxy(credentials=f"u:{password}", context=context) as proxy,
        FaultServer() as elsewhere,
    ):
        backend.then = faults.redirect(f"{elsewhere.url}/write", status) if 300 <= status < 400 else respond(status)
        environment.setenv("ALL_PROXY", f"{urlsplit(proxy.url).scheme}://{userinfo}@{proxy.address}")
        delivery = sink(backend.url, str(authority.ca_file), token, api)
        assert elsewhere.connections_accepted == 0
        told = f"{delivery}{caplog.text}".encode()
        for secret in spellings(token, password, userinfo):
            assert secret not in told
        for secret in spellings(password):
            assert secret not in sent_to(backend)
        if is_secure(backend):
            for secret in spellings(token):
                assert secret not in bytes(proxy.received)
        assert (delivery.error is None) == (status == 204 and knows_the_password)
        assert bool(backend.requests) == knows_the_password
        assert knows_the_password or delivery.error == "proxy"


def test_a_host_with_a_broken_proxy_in_its_environment_works_as_ever(
    through: Through, caplog: pytest.LogCaptureFixture, fault_server: FaultServer
) -> None:
    through(f"socks5://user:{PASSWORD}@p:1080")
    section = {"enabled": True, "influxdb": {"url": fault_server.url}, "prometheus": {"gateway_url": fault_server.url}}
    with MonitorManager({"monitoring": section}) as monitor, monitor.session("1.2.840.1"):
        pass
    lines = [record.getMessage() for record in caplog.records]
    for backend in ("influxdb", "prometheus"):
        expected = f"monitoring: {backend}: proxy: the address in http_proxy must begin with http:// or https://; "
        assert len([line for line in lines if line.startswith(expected)]) == 1
    assert PASSWORD not in caplog.text
    assert fault_server.connections_accepted == 0
