"""One request, one deadline, one frozen result: whatever the network does, nothing is raised and nothing hangs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from monitoring.metrics import catalogue
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import MAX_ANSWER_BYTES, HttpTransport, Response, gzipped
from tests.support import faults
from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import FaultServer, respond

SOON_SECONDS = 0.5
GENEROUS_SECONDS = 3.0


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    made = HttpTransport()
    yield made
    made.close()


def ask(
    transport: HttpTransport, url: str, seconds: float = 60.0, body: bytes = b"x", headers: dict[str, str] | None = None
) -> Response:
    began = time.monotonic()
    response = transport.request("POST", url, headers or {}, body, Deadline.after(seconds))
    assert_took_at_most(time.monotonic() - began, max(seconds, 0.0) + GENEROUS_SECONDS - SOON_SECONDS)
    return response


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 400, 404, 413, 429, 500, 503, 599])
def test_an_answer_is_its_status_headers_and_body(
    fault_server: FaultServer, transport: HttpTransport, status: int
) -> None:
    fault_server.then = respond(status, b"so", {"X-Reason": "Because"})
    response = ask(transport, fault_server.url)
    assert (response.status, response.error) == (status, None)
    assert response.headers["x-reason"] == "Because"
    assert response.body == (b"" if status == 204 else b"so")


def test_a_request_is_sent_once_as_it_was_given(fault_server: FaultServer, transport: HttpTransport) -> None:
    fault_server.then = respond(503)
    ask(
        transport,
        f"{fault_server.url}/write?db=a%20b&precision=ns",
        body=b"m v=1 1",
        headers={"Authorization": "Token T"},
    )
    (request,) = fault_server.requests
    assert (request.method, request.path, request.query) == ("POST", "/write", {"db": "a b", "precision": "ns"})
    assert (request.body, request.headers["Authorization"]) == (b"m v=1 1", "Token T")


def test_a_connection_is_used_again(fault_server: FaultServer, transport: HttpTransport) -> None:
    for status in (204, 400, 200):
        fault_server.then = respond(status, b"body")
        ask(transport, fault_server.url)
    assert fault_server.connections_accepted == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(transport: HttpTransport) -> None:
    first = FaultServer()
    assert ask(transport, first.url).status == 204
    port = first.port
    first.close()
    assert ask(transport, f"http://127.0.0.1:{port}").error in {"refused", "reset"}


def test_only_the_beginning_of_a_long_answer_is_read(fault_server: FaultServer, transport: HttpTransport) -> None:
    fault_server.script.append(respond(400, b"z" * 1_000_000))
    response = ask(transport, fault_server.url)
    assert (response.status, len(response.body)) == (400, MAX_ANSWER_BYTES)
    assert ask(transport, fault_server.url).status == 204


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_and_not_followed_and_the_token_stays_at_home(
    fault_server: FaultServer, transport: HttpTransport, status: int
) -> None:
    with FaultServer() as elsewhere:
        fault_server.then = faults.redirect(f"{elsewhere.url}/write", status)
        response = ask(transport, fault_server.url, headers={"Authorization": "Token T"})
        assert response.status == status
        assert (elsewhere.requests, elsewhere.connections_accepted) == ([], 0)


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "reasons"),
    [
        (faults.reset(), {"reset"}),
        (faults.hang_up(), {"reset"}),
        (faults.reset_mid_body(), {"reset"}),
        (faults.garbage(), {"bad_answer"}),
        (faults.garbage(b""), {"reset"}),
        (faults.garbage(b"\0" * 100_000), {"bad_answer"}),
        (faults.garbage(b"HTTP/1.1 abc\r\n\r\n"), {"bad_answer"}),
        (faults.garbage(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n"), {"bad_answer", None}),
        (faults.garbage(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"), {"bad_answer"}),
        (faults.garbage(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), {"bad_answer"}),
        (faults.garbage(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"), {"bad_answer"}),
    ],
)
def test_a_broken_answer_has_a_reason(
    fault_server: FaultServer, transport: HttpTransport, behaviour: faults.Behaviour, reasons: set[str | None]
) -> None:
    fault_server.then = behaviour
    response = ask(transport, fault_server.url)
    assert response.error in reasons
    assert response.error is None or (response.status is None and response.error in catalogue.DELIVERY_FAILURE.values)
    fault_server.then = respond(204)
    assert ask(transport, fault_server.url).status == 204, "the next request has a fresh start"


def test_a_connection_reset_before_the_request_is_a_reset(transport: HttpTransport) -> None:
    with FaultServer(reset_on_accept=True) as server:
        assert ask(transport, server.url).error == "reset"


def test_nobody_there_is_refused(transport: HttpTransport) -> None:
    with faults.refused_port() as url:
        assert ask(transport, url).error == "refused"


def test_an_unknown_name_is_dns(transport: HttpTransport) -> None:
    assert ask(transport, "http://no-such-host.invalid:8086/write").error == "dns"


def test_a_plain_server_behind_https_is_tls(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        bad_request = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
        thread = threading.Thread(target=answer_once, args=(plain, bad_request), daemon=True)
        thread.start()
        assert ask(transport, f"https://127.0.0.1:{plain.getsockname()[1]}").error == "tls"
        thread.join(HANGS_SECONDS)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://host:99999/",
        "ftp://host/",
        "http://",
        "http:///x",
        "http://ho st/",
        "http://é" + "x" * 80,
    ],
)
def test_an_address_that_cant_be_used_is_a_failure_like_any(transport: HttpTransport, url: str) -> None:
    response = ask(transport, url)
    assert response.status is None
    assert response.error in catalogue.DELIVERY_FAILURE.values


def test_a_header_that_cant_be_sent_is_a_failure_like_any(fault_server: FaultServer, transport: HttpTransport) -> None:
    response = ask(transport, fault_server.url, headers={"Authorization": "a\nb"})
    assert response.error in catalogue.DELIVERY_FAILURE.values


# --- deadlines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.silence(),
        faults.silence_after_headers(),
        faults.drip_headers(0.02),
        faults.drip_headers(0.02, status=204),
        faults.drip_body(0.02),
        respond(204, after_seconds=30),
    ],
    ids=["silence", "silence after headers", "dripping headers", "dripping headers of a 204", "dripping body", "slow"],
)
def test_a_request_ends_at_its_deadline_whatever_the_server_does(
    fault_server: FaultServer, transport: HttpTransport, behaviour: faults.Behaviour
) -> None:
    fault_server.then = behaviour
    response = ask(transport, fault_server.url, SOON_SECONDS)
    assert (response.status, response.error) == (None, "timeout")


def test_connecting_ends_at_the_deadline(transport: HttpTransport) -> None:
    with faults.black_hole() as url:
        assert ask(transport, url, SOON_SECONDS).error == "timeout"


def known_as(monkeypatch: pytest.MonkeyPatch, name: str, addresses: list[str]) -> None:
    """Let a host name have these addresses."""
    really = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: Any) -> list[Any]:
        asked = addresses if host == name else [host]
        return [found for address in asked for found in really(address, port, *arguments)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_connecting_ends_at_the_deadline_however_many_addresses_a_host_has(
    transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.black_hole() as url:
        known_as(monkeypatch, "many.example", ["127.0.0.1"] * 20)
        assert ask(transport, url.replace("127.0.0.1", "many.example"), SOON_SECONDS).error == "timeout"


def test_an_address_that_is_silent_leaves_time_for_the_next_one(
    transport: HttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.black_hole() as url, socket.create_server(("127.0.0.2", urlsplit(url).port or 0)) as second:
        known_as(monkeypatch, "two.example", ["127.0.0.1", "127.0.0.2"])
        thread = threading.Thread(target=answer_once, args=(second, b"HTTP/1.1 204 No Content\r\n\r\n"), daemon=True)
        thread.start()
        assert ask(transport, url.replace("127.0.0.1", "two.example"), 2.0).status == 204
        thread.join(HANGS_SECONDS)


def answer_once(listener: socket.socket, answer: bytes) -> None:
    with listener.accept()[0] as connection:
        connection.recv(65536)
        connection.sendall(answer)


def test_sending_to_a_server_that_doesnt_read_ends_at_the_deadline(transport: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        assert ask(transport, url, SOON_SECONDS, body=b"x" * 50_000_000).error == "timeout"


def test_a_deadline_that_has_passed_asks_nobody(fault_server: FaultServer, transport: HttpTransport) -> None:
    assert ask(transport, fault_server.url, 0.0).error == "timeout"
    assert ask(transport, fault_server.url, -5.0).error == "timeout"
    assert fault_server.connections_accepted == 0


def test_a_slow_success_within_the_deadline_is_a_success(fault_server: FaultServer, transport: HttpTransport) -> None:
    fault_server.then = respond(204, after_seconds=0.2)
    assert ask(transport, fault_server.url, 20.0).status == 204


def test_no_thread_is_left_behind(fault_server: FaultServer, transport: HttpTransport) -> None:
    before = set(threading.enumerate())
    fault_server.script.extend([respond(204), faults.reset(), faults.silence()])
    for seconds in (5.0, 5.0, 0.1):
        ask(transport, fault_server.url, seconds)
    ours = [thread for thread in set(threading.enumerate()) - before if thread.name != "fault-server"]
    for thread in ours:
        thread.join(HANGS_SECONDS)
    assert not [thread for thread in ours if thread.is_alive()]


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_another_thread_to_be_had_a_request_still_works(
    fault_server: FaultServer, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch, lack: Exception
) -> None:
    assert ask(transport, fault_server.url).status == 204  # its connection has a thread at the server

    def refuses(self: threading.Thread) -> None:
        raise lack

    monkeypatch.setattr(threading.Thread, "start", refuses)
    assert ask(transport, fault_server.url).status == 204


def test_a_transport_can_be_closed_twice_and_used_again(fault_server: FaultServer, transport: HttpTransport) -> None:
    transport.close()
    transport.close()
    assert ask(transport, fault_server.url).status == 204


# --- compression --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"", {}), (b"x" * 100, {}), (b"m v=1 1\n" * 1000, {"Content-Encoding": "gzip"})]
)
def test_a_body_is_compressed_where_that_pays(
    fault_server: FaultServer, transport: HttpTransport, body: bytes, encoding: dict[str, str]
) -> None:
    packed, headers = gzipped(body)
    assert headers == encoding
    assert len(packed) <= len(body)
    ask(transport, fault_server.url, body=packed, headers=headers)
    assert fault_server.requests[0].body == body


def test_the_clients_own_retries_and_redirects_stay_off_for_get_too(
    fault_server: FaultServer, transport: HttpTransport
) -> None:
    fault_server.script.append(faults.reset())
    assert transport.request("GET", fault_server.url, {}, b"", Deadline.after(5)).error == "reset"
    assert len(fault_server.requests) == 1
