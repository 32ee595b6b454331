"""One HTTP request under one deadline -> a frozen result, never an exception.

urllib3's timeouts bound each socket operation, not the request: a server that sends one byte a
second would hold it for ever. A watchdog therefore closes the socket at the deadline. Looking up a
name can't be interrupted at all; the delivery thread that waits for it is a daemon, and nobody waits
for that thread longer than its own deadline.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import urllib3

from monitoring.deadline import Deadline

MAX_ANSWER_BYTES = 64 * 1024
_GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: ``status`` when a server answered, else ``error`` (one of the catalogue's reasons).

    ``body`` is at most 64 KiB. It may quote the request, so it is classified and never logged.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None


class Transport(Protocol):
    """As narrow as can be, so that a test double is as honest as the real one."""

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """One request, no retry, no redirect. Never raises for what the network does."""

    def close(self) -> None:
        """Give back the connections."""


class HttpTransport:
    """The real transport: urllib3's pool, verified TLS, and a total deadline."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(num_pools=2, maxsize=1, retries=False)
        self._pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """See :class:`Transport`."""
        seconds = deadline.remaining()
        if seconds <= 0:
            return Response(error="timeout")
        with _Watchdog(deadline) as dog:
            try:
                with self._pool.request(
                    method, url, body=body, headers=dict(headers), redirect=False, retries=False,
                    timeout=urllib3.Timeout(total=seconds), preload_content=False,
                ) as answer:  # fmt: skip
                    content = answer.read(MAX_ANSWER_BYTES, decode_content=True)
                    if len(content) < MAX_ANSWER_BYTES:
                        answer.drain_conn()
                        answer.release_conn()  # reused only when it was read to its end
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                self._pool.clear()  # a connection that gave no whole answer is not used again
                return Response(error="timeout" if deadline.passed() else _reason(error))
        if dog.has_bitten:  # the answer's end is the watchdog's doing, so it may not be all of it
            return Response(error="timeout")
        return Response(answer.status, {key.lower(): value for key, value in answer.headers.items()}, content)

    def close(self) -> None:
        """See :class:`Transport`."""
        self._pool.clear()


def gzipped(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body and the headers to send it with, compressed where that pays."""
    if len(body) < _GZIP_FROM_BYTES:
        return body, {}
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush(), {"Content-Encoding": "gzip"}


_watched = threading.local()


class _Watchdog:
    """Shuts the request's socket down when the deadline passes, whatever the socket is waiting for."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None
        self.has_bitten = False

    def __enter__(self) -> _Watchdog:
        _watched.dog = self
        return self

    def watch(self, connection: object) -> None:
        sock = getattr(connection, "sock", None)
        if sock is None or any(sock is known for known in self._sockets):
            return
        self._sockets.append(sock)
        if self._timer is None:
            self._timer = threading.Timer(self._deadline.remaining(), self._bite)
            self._timer.daemon = True
            # Without another thread the socket timeouts still bound each operation.
            with suppress(RuntimeError):
                self._timer.start()

    def _bite(self) -> None:
        self.has_bitten = True
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _watched.dog = None
        if self._timer is not None:
            self._timer.cancel()


class _Watched:
    """Tells the watchdog of the connection's socket before it waits for the answer's first byte."""

    def getresponse(self) -> urllib3.response.HTTPResponse:
        dog = getattr(_watched, "dog", None)
        if dog is not None:
            dog.watch(self)
        return super().getresponse()  # type: ignore[misc, no-any-return]  # a mixin: the next class has it


class _WatchedHTTPConnection(_Watched, urllib3.connection.HTTPConnection):  # type: ignore[misc]  # see above
    pass


class _WatchedHTTPSConnection(_Watched, urllib3.connection.HTTPSConnection):  # type: ignore[misc]  # see above
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_OS_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (TimeoutError, "timeout"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (http.client.HTTPException, "bad_answer"),
    (OSError, "unreachable"),
)
_URLLIB3_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (urllib3.exceptions.NameResolutionError, "dns"),
    (urllib3.exceptions.SSLError, "tls"),
    (urllib3.exceptions.TimeoutError, "timeout"),
)


def _reason(error: BaseException) -> str:
    """The catalogue's reason for an exception, from its cause where urllib3 wraps one."""
    for kind, reason in _URLLIB3_REASONS:
        if isinstance(error, kind) and not isinstance(error, urllib3.exceptions.NewConnectionError):
            return reason
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        inner = [item for item in cause.args if isinstance(item, BaseException)]
        cause = cause.__cause__ or (inner[0] if inner else None)
    for link in reversed(chain):
        for kind, reason in _OS_REASONS:
            if isinstance(link, kind) and not isinstance(link, http.client.RemoteDisconnected):
                return reason
    return "reset" if any(isinstance(link, http.client.RemoteDisconnected) for link in chain) else "bad_answer"
