"""The server of faults is faulty in exactly the ways that the tests rely on."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time

import pytest
import urllib3

from tests.support import faults
from tests.support.clients import send, write_lines
from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import FaultServer, respond
from tests.support.servers import VictoriaMetrics

LINE = "reading,site=a length_mm=412.5"


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 599])
def test_a_fault_server_answers_any_status(fault_server: FaultServer, status: int) -> None:
    fault_server.then = respond(status, {"error": "so"}, {"X-A": "b"})
    answer = send("POST", fault_server.url, body=b"x")
    assert answer.status == status
    assert answer.headers["X-A"] == "b"
    assert answer.data == (b"" if status == 204 else b'{"error": "so"}')


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_fault_server_redirects(fault_server: FaultServer, status: int) -> None:
    fault_server.then = faults.redirect("http://127.0.0.1:1/other", status)
    answer = send("POST", fault_server.url)
    assert (answer.status, answer.headers["Location"]) == (status, "http://127.0.0.1:1/other")


def test_a_fault_server_asks_to_retry_later_in_seconds_or_by_date(fault_server: FaultServer) -> None:
    date = faults.http_date(90)
    fault_server.script.extend([faults.retry_later(429, 7), faults.retry_later(503, date)])
    assert send("GET", fault_server.url).headers["Retry-After"] == "7"
    assert send("GET", fault_server.url).headers["Retry-After"] == date
    assert date.endswith(" GMT")


def test_a_script_is_played_once_and_paths_may_be_answered_apart() -> None:
    script = [respond(503), respond(429)]
    with FaultServer(script, then=respond(204), on_path={"/health": respond(404)}) as server:
        paths = ["/w", "/health", "/w", "/w", "/w"]
        assert [send("GET", server.url + path).status for path in paths] == [503, 404, 429, 204, 204]


def test_requests_are_recorded_with_their_unzipped_body(fault_server: FaultServer) -> None:
    zipped = gzip.compress(b"a v=1 1\nb v=2 2\n")
    send("POST", f"{fault_server.url}/write?db=x&p=", body=zipped, headers={"Content-Encoding": "gzip"})
    (request,) = fault_server.wait_for_requests(1)
    assert (request.method, request.path, request.query) == ("POST", "/write", {"db": "x", "p": ""})
    assert request.headers["content-encoding"] == "gzip"
    assert (request.body, request.raw_body) == (b"a v=1 1\nb v=2 2\n", zipped)
    assert request.lines == ["a v=1 1", "b v=2 2"]


def test_a_body_sent_in_chunks_is_recorded_whole(fault_server: FaultServer) -> None:
    send("POST", fault_server.url, body=iter([b"first,", b"second"]), chunked=True)
    assert fault_server.requests[0].body == b"first,second"


def test_a_connection_is_kept_for_several_requests(fault_server: FaultServer) -> None:
    with urllib3.PoolManager(retries=False) as http:
        for _ in range(3):
            http.request("POST", fault_server.url, body=b"x")
    assert [request.connection for request in fault_server.requests] == [1, 1, 1]
    assert fault_server.connections_accepted == 1


def test_a_slow_success_takes_its_time(fault_server: FaultServer) -> None:
    fault_server.then = respond(204, after_seconds=0.3)
    began = time.monotonic()
    assert send("POST", fault_server.url).status == 204
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("behaviour", [faults.silence(), faults.silence_after_headers()])
def test_silence_times_out(fault_server: FaultServer, behaviour: faults.Behaviour) -> None:
    fault_server.then = behaviour
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        send("POST", fault_server.url, timeout=0.2, body=b"x")
    assert fault_server.requests[0].body == b"x"


@pytest.mark.parametrize("behaviour", [faults.drip_headers(0.02), faults.drip_body(0.02)])
def test_a_dripping_answer_outlives_a_timeout_per_read(fault_server: FaultServer, behaviour: faults.Behaviour) -> None:
    fault_server.then = behaviour
    done = threading.Event()

    def ask() -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            send("GET", fault_server.url, timeout=0.2)
        done.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert not done.wait(0.6), "each byte came in time, so the client must still be reading"
    fault_server.close()
    assert done.wait(HANGS_SECONDS)
    asking.join(HANGS_SECONDS)


def test_a_dripped_body_arrives_in_the_end(fault_server: FaultServer) -> None:
    fault_server.then = faults.drip_body(0.01, length=5)
    assert send("GET", fault_server.url).data == b"zzzzz"


@pytest.mark.parametrize("behaviour", [faults.reset(), faults.hang_up(), faults.garbage()])
def test_a_broken_answer_is_a_protocol_error(fault_server: FaultServer, behaviour: faults.Behaviour) -> None:
    fault_server.then = behaviour
    with pytest.raises(urllib3.exceptions.ProtocolError):
        send("POST", fault_server.url, body=b"x")


def test_a_reset_is_a_reset_and_not_a_goodbye(fault_server: FaultServer) -> None:
    fault_server.then = faults.reset()
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_connection_can_be_reset_before_a_request_is_read(fault_server: FaultServer) -> None:
    fault_server.reset_on_accept = True
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", fault_server.port), timeout=5) as client,
    ):
        client.recv(1)
    assert fault_server.requests == []


def test_a_reset_in_the_middle_of_the_body_comes_after_the_status(fault_server: FaultServer) -> None:
    fault_server.then = faults.reset_mid_body(status=200)
    with urllib3.PoolManager(retries=False) as http:
        answer = http.request("GET", fault_server.url, preload_content=False)
        assert answer.status == 200
        with pytest.raises(urllib3.exceptions.ProtocolError):
            answer.read()


def test_a_refused_port_refuses() -> None:
    with faults.refused_port() as url, pytest.raises(urllib3.exceptions.NewConnectionError):
        send("GET", url, timeout=2)


def test_connecting_to_a_black_hole_hangs() -> None:
    with faults.black_hole() as url, pytest.raises(urllib3.exceptions.ConnectTimeoutError):
        send("GET", url, timeout=0.3)


def test_a_fault_server_closes_at_once_whatever_it_is_doing() -> None:
    server = FaultServer(then=faults.silence())
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.wait_for_requests(1)
        began = time.monotonic()
        server.close()
        assert_took_at_most(time.monotonic() - began, 1.0)
        assert client.recv(1) == b""
    assert not [t for t in threading.enumerate() if t.name == "fault-server" and t in server._threads]


def test_a_forwarder_fails_first_and_then_passes_on(victoria_metrics: VictoriaMetrics) -> None:
    with faults.forwarder(victoria_metrics.url, fail_first=2) as proxy:
        settings = victoria_metrics.write_settings() | {"url": proxy.url}
        assert [write_lines(settings, LINE).status for _ in range(3)] == [503, 503, 204]
        assert len(proxy.requests) == 3
    assert victoria_metrics.series_count() == 1


def test_an_answer_can_be_lost_after_the_write_took_effect(victoria_metrics: VictoriaMetrics) -> None:
    lose_answer = faults.forward(victoria_metrics.url, answer=faults.reset())
    with FaultServer(then=lose_answer) as proxy, pytest.raises(urllib3.exceptions.ProtocolError):
        write_lines(victoria_metrics.write_settings() | {"url": proxy.url}, LINE)
    assert victoria_metrics.series_count() == 1
