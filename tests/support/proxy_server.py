"""A small forward proxy that remembers every byte that it was sent, and misbehaves on command.

with ForwardProxy() as proxy:                        # passes everything on
with ForwardProxy(then=respond(403)) as proxy:       # lets nothing through
with ForwardProxy(credentials="user:password") as proxy:
"""

from __future__ import annotations

import base64
import dataclasses
import select
import socket
import ssl
import time
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import (
    LONGEST_SECONDS,
    Behaviour,
    Exchange,
    Request,
    _read_request,
    forward,
    respond,
)
from tests.support.tls_servers import TlsFaultServer


class ForwardProxy(TlsFaultServer):
    """Passes absolute addresses on, and tunnels by CONNECT; `received` is all that clients sent, tunnels included."""

    def __init__(
        self, *, then: Behaviour | None = None, credentials: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self.received = bytearray()
        self._expected = None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()
        super().__init__(context, then=then or self.pass_on)

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    def pass_on(self, exchange: Exchange) -> None:
        """What a proxy does."""
        request = exchange.request
        if self._expected is not None and request.headers.get("Proxy-Authorization") != self._expected:
            return respond(407, headers={"Proxy-Authenticate": 'Basic realm="proxy"'})(exchange)
        if request.method == "CONNECT":
            return self._tunnel(exchange)
        return _forward(exchange)

    def _tunnel(self, exchange: Exchange) -> None:
        host, _, port = exchange.request.target.rpartition(":")
        try:
            upstream = socket.create_connection((host, int(port)), HANGS_SECONDS)
        except OSError:
            return respond(502)(exchange)
        with upstream:
            exchange.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pump(exchange, upstream)
        return None

    def _pump(self, exchange: Exchange, upstream: socket.socket) -> None:
        """Carry bytes both ways until one side ends."""
        client, deadline = exchange.connection, time.monotonic() + LONGEST_SECONDS
        while not exchange.closing.is_set() and time.monotonic() < deadline:
            for source in select.select([client, upstream], [], [], 0.05)[0]:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    self.received += data
                (upstream if source is client else client).sendall(data)

    def _serve_requests(self, connection: socket.socket, number: int) -> None:
        with connection.makefile("rb") as stream:
            while request := _read_request(_Remembered(stream, self.received), number):
                with self._lock:
                    self.requests.append(request)
                    behave = self._next_behaviour(request)
                exchange = Exchange(request, connection, self._closing)
                behave(exchange)
                if not exchange.keep_alive:
                    return


class _Remembered:
    """A stream whose bytes are kept as they are read."""

    def __init__(self, stream: Any, memory: bytearray) -> None:
        self._stream = stream
        self._memory = memory

    def readline(self, limit: int = -1) -> bytes:
        return self._keep(self._stream.readline(limit))

    def read(self, size: int = -1) -> bytes:
        return self._keep(self._stream.read(size))

    def _keep(self, data: bytes) -> bytes:
        self._memory += data
        return data


def _forward(exchange: Exchange) -> None:
    """The request to its absolute address, without what is for the proxy alone."""
    parts = urlsplit(exchange.request.target)
    onward = Exchange(_onward(exchange.request), exchange.connection, exchange.closing)
    forward(f"{parts.scheme}://{parts.netloc}")(onward)
    exchange.keep_alive = onward.keep_alive


def _onward(request: Request) -> Request:
    parts = urlsplit(request.target)
    headers = Message()
    for name, value in request.headers.items():
        if not name.lower().startswith("proxy-"):
            headers[name] = value
    return dataclasses.replace(request, target=parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
