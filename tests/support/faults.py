"""A server that misbehaves on command: every way in which a backend can fail, on loopback, bounded.

    with FaultServer([respond(503, headers={"Retry-After": "1"}), reset()], then=respond(204)) as server:
        ...                                  # first request: 503; second: connection reset; later ones: 204
        assert [request.path for request in server.requests] == [...]

A behaviour is a function of an Exchange: it answers one request, or fails to. Anything that has this shape
can be put into a script. `refused_port()` and `black_hole()` are addresses that never get as far.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import select
import socket
import struct
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import Any, Self

from tests.support.clocks import HANGS_SECONDS
from tests.support.processes import LOOPBACK, wait_until

# No behaviour lasts longer, whatever the test does; every wait also ends when the server closes.
LONGEST_SECONDS = HANGS_SECONDS


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: Message
    raw_body: bytes
    connection: int
    arrived_at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        """The path without its query."""
        return urllib.parse.urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the last of each name."""
        pairs = urllib.parse.parse_qsl(urllib.parse.urlsplit(self.target).query, keep_blank_values=True)
        return dict(pairs)

    @property
    def body(self) -> bytes:
        """The body, unzipped if it was sent so."""
        zipped = self.headers.get("Content-Encoding", "") == "gzip"
        return gzip.decompress(self.raw_body) if zipped else self.raw_body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def lines(self) -> list[str]:
        """The body's lines that are not empty: points, in a write request."""
        return [line for line in self.text.split("\n") if line]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Exchange:
    """What a behaviour works with: the request and the raw connection."""

    def __init__(self, request: Request, connection: socket.socket, closing: threading.Event) -> None:
        self.request = request
        self.connection = connection
        self.closing = closing
        self.keep_alive = False

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send a status line and headers."""
        self.send(_head(status, headers))

    def sleep(self, seconds: float) -> bool:
        """Wait; False when the server closes meanwhile."""
        return not self.closing.wait(min(seconds, LONGEST_SECONDS))

    def hold(self) -> None:
        """Keep the connection open and say nothing until the client gives up or the server closes."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while not self.closing.is_set() and time.monotonic() < deadline:
            readable, _, _ = select.select([self.connection], [], [], 0.05)
            if readable and not self.connection.recv(65536):
                return

    def drip(self, data: bytes, interval_seconds: float) -> None:
        """Send a byte at a time."""
        for byte in data:
            self.send(bytes([byte]))
            if not self.sleep(interval_seconds):
                return

    def reset(self) -> None:
        """Drop the connection with a RST rather than a goodbye."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


Behaviour = Callable[[Exchange], None]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Whatever"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _framed(status: int, headers: Mapping[str, str] | None, body: bytes) -> dict[str, str]:
    framing = {} if status == 204 or status < 200 else {"Content-Length": str(len(body))}
    return framing | dict(headers or {})


def respond(
    status: int,
    body: bytes | str | dict[str, Any] = b"",
    headers: Mapping[str, str] | None = None,
    *,
    after_seconds: float = 0.0,
) -> Behaviour:
    """A whole answer; a dict is sent as JSON. `respond(204, after_seconds=1)` is a slow success."""
    payload = json.dumps(body).encode() if isinstance(body, dict) else body
    payload = payload.encode() if isinstance(payload, str) else payload

    def behave(exchange: Exchange) -> None:
        if after_seconds and not exchange.sleep(after_seconds):
            return
        sent_body = b"" if status == 204 or exchange.request.method == "HEAD" else payload
        exchange.send(_head(status, _framed(status, headers, payload)) + sent_body)
        exchange.keep_alive = True

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    """301, 302, 307 or 308 to somewhere else."""
    return respond(status, headers={"Location": location})


def retry_later(status: int = 503, retry_after: str | float = 1) -> Behaviour:
    """429 or 503 with Retry-After: seconds, or an HTTP date (see `http_date`)."""
    return respond(status, headers={"Retry-After": str(retry_after)})


def http_date(seconds_from_now: float) -> str:
    """An instant as HTTP writes it, to whole seconds."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds_from_now))


def silence() -> Behaviour:
    """The request is read, and no byte ever comes back."""
    return Exchange.hold


def silence_after_headers(status: int = 200) -> Behaviour:
    """Headers that promise a body, and then nothing."""

    def behave(exchange: Exchange) -> None:
        exchange.send_head(status, {"Content-Length": "100"})
        exchange.hold()

    return behave


def drip_headers(interval_seconds: float = 1.0, status: int = 200) -> Behaviour:
    """Headers without end, a byte at a time: each byte is in time, the answer never is."""

    def behave(exchange: Exchange) -> None:
        exchange.send(f"HTTP/1.1 {status} Slow\r\nX-Endless: ".encode())
        exchange.drip(b"z" * 100_000, interval_seconds)

    return behave


def drip_body(interval_seconds: float = 1.0, status: int = 200, length: int = 100_000) -> Behaviour:
    """Whole headers, then a body a byte at a time."""

    def behave(exchange: Exchange) -> None:
        exchange.send_head(status, {"Content-Length": str(length)})
        exchange.drip(b"z" * length, interval_seconds)

    return behave


def reset() -> Behaviour:
    """The request is read, then the connection is reset without an answer."""
    return Exchange.reset


def reset_mid_body(status: int = 200) -> Behaviour:
    """Headers and a part of the body, then a reset."""

    def behave(exchange: Exchange) -> None:
        exchange.send_head(status, {"Content-Length": "100"})
        exchange.send(b"half an ans")
        # A RST overtakes what the client has not read yet: give it the time to.
        exchange.sleep(0.05)
        exchange.reset()

    return behave


def hang_up() -> Behaviour:
    """The request is read, then the connection is closed politely without an answer."""
    return lambda exchange: None


def garbage(data: bytes = b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\xfe") -> Behaviour:
    """An answer that is not HTTP."""
    return lambda exchange: exchange.send(data)


def forward(upstream_url: str, answer: Behaviour | None = None) -> Behaviour:
    """Pass the request on to a real server; its answer comes back, or is replaced by `answer`.

    `forward(url, answer=reset())` is a write that took effect and whose answer was lost.
    """

    def behave(exchange: Exchange) -> None:
        try:
            status, headers, body = _ask_upstream(upstream_url, exchange.request)
        except OSError as error:
            return respond(502, f"upstream: {error}")(exchange)
        return (answer or respond(status, body, headers))(exchange)

    return behave


def _ask_upstream(url: str, request: Request) -> tuple[int, dict[str, str], bytes]:
    parts = urllib.parse.urlsplit(url)
    upstream = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=HANGS_SECONDS)
    dropped = {"host", "connection", "transfer-encoding", "content-length"}
    headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
    try:
        upstream.request(request.method, parts.path.rstrip("/") + request.target, request.raw_body, headers)
        answer = upstream.getresponse()
        body = answer.read()
    finally:
        upstream.close()
    kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
    return answer.status, kept, body


class FaultServer:
    """Serves a script of behaviours, one per request over all connections, and `then` for ever after.

    `on_path` answers some paths apart, without using up the script: `on_path={"/health": respond(404)}`.
    With `reset_on_accept`, connections are reset before a request is read. Everything may be changed while
    it runs. Requests are recorded as soon as they were read whole.
    """

    def __init__(
        self,
        script: Iterable[Behaviour] = (),
        *,
        then: Behaviour | None = None,
        on_path: Mapping[str, Behaviour] | None = None,
        reset_on_accept: bool = False,
    ) -> None:
        self.script = deque(script)
        self.then = then or respond(204)
        self.on_path = dict(on_path or {})
        self.reset_on_accept = reset_on_accept
        self.requests: list[Request] = []
        self.connections_accepted = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self._listener.settimeout(0.2)
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept_all)

    @property
    def url(self) -> str:
        """Where it listens; no slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    def wait_for_requests(self, count: int) -> list[Request]:
        """The requests once there are at least `count`."""
        wait_until(lambda: len(self.requests) >= count, f"{count} requests")
        return list(self.requests)

    def close(self) -> None:
        """End every connection and thread; more than once does no harm."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept() at once
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name="fault-server")
        self._threads.append(thread)
        thread.start()

    def _accept_all(self) -> None:
        for number in itertools.count(1):
            connection = self._accept()
            if connection is None:
                return
            self.connections_accepted = number
            self._spawn(self._serve, connection, number)

    def _accept(self) -> socket.socket | None:
        while not self._closing.is_set():
            try:
                return self._listener.accept()[0]
            except TimeoutError:
                continue
            except OSError:  # closed
                return None
        return None

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(LONGEST_SECONDS)
        with self._lock:
            self._connections.add(connection)
        try:
            # A client that gives up is what most of these tests are about.
            with contextlib.suppress(OSError, ValueError):
                self._serve_requests(connection, number)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _serve_requests(self, connection: socket.socket, number: int) -> None:
        if self.reset_on_accept:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with connection.makefile("rb") as stream:
            while request := _read_request(stream, number):
                with self._lock:
                    self.requests.append(request)
                    behave = self._next_behaviour(request)
                exchange = Exchange(request, connection, self._closing)
                behave(exchange)
                if not exchange.keep_alive or request.headers.get("Connection", "").lower() == "close":
                    return

    def _next_behaviour(self, request: Request) -> Behaviour:
        if request.path in self.on_path:
            return self.on_path[request.path]
        return self.script.popleft() if self.script else self.then


def forwarder(
    upstream_url: str, *, fail_first: int = 0, failure: Behaviour | None = None, **options: Any
) -> FaultServer:
    """A FaultServer before a real server; its first requests fail (with a 503 unless told otherwise)."""
    script = [failure or respond(503)] * fail_first
    return FaultServer(script, then=forward(upstream_url), **options)


def _read_request(stream: Any, connection: int) -> Request | None:
    """The next request on a connection, None at its end."""
    words = stream.readline(65536).decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = http.client.parse_headers(stream)
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = b"".join(_read_chunks(stream))
    else:
        body = stream.read(int(headers.get("Content-Length", 0)))
    return Request(words[0], words[1], headers, body, connection)


def _read_chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline().split(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()


@contextlib.contextmanager
def refused_port() -> Iterator[str]:
    """A URL where connections are refused; the port is held, so that nobody else comes to listen there."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{holder.getsockname()[1]}"


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A URL where connecting hangs: a listener that never accepts, its backlog filled."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(16):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
            _, writable, _ = select.select([], [filler], [], 0.2)
            if not writable:
                break
        else:
            raise RuntimeError("the listener's backlog does not fill up")
        yield f"http://{LOOPBACK}:{address[1]}"
