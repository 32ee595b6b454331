"""urllib3's connections under one deadline: name, address, proxy, TLS, request and answer together.

urllib3's timeouts bound each socket operation, not the request: a proxy or server that sends one byte a
second would hold it for ever, and a host with many addresses is given the whole time for each. Here the
addresses share the time that is left, and a watchdog shuts the connection down at the deadline. Looking up
a name can't be interrupted at all; the delivery thread that waits for it is a daemon, and nobody waits for
that thread longer than its own deadline.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import urllib3
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.util.connection import allowed_gai_family, create_connection

from monitoring.transport.deadline import Deadline

# urllib3 makes connections deep within a request; this is how they find the watchdog of the request in their thread.
_current = threading.local()


class Watchdog:
    """Shuts the request's connection down when the deadline passes, whatever it is waiting for."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.has_fired = False
        self.certificate: bytes | None = None
        """The server's (DER), once the request has a connection by TLS: also one that nobody verified."""
        self._held: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Watchdog:
        _current.watchdog = self
        return self

    def watch(self, descriptor: int) -> None:
        """Hold on to a connection by a descriptor of its own: TLS takes over the one that a socket has.

        With a duplicate, a descriptor that was closed and given to another file is never shut down by mistake.
        """
        with self._lock:
            if descriptor not in self._held:
                self._held[descriptor] = socket.socket(fileno=os.dup(descriptor))
        if self._timer is None:
            self._timer = threading.Timer(self.deadline.remaining(), self._fire)
            self._timer.daemon = True
            # No thread, or no memory for one, can be had: the socket timeouts still bound each operation.
            with suppress(RuntimeError, MemoryError):
                self._timer.start()

    def _fire(self) -> None:
        with self._lock:
            self.has_fired = True
            for held in self._held.values():
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)  # unlike close, it ends a read that waits in another thread

    def __exit__(self, *_: object) -> None:
        del _current.watchdog
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            for held in self._held.values():
                held.close()
            self._held.clear()


def _connect(host: str, port: int, deadline: Deadline, options: Any) -> socket.socket:
    """A connection to the first of the host's addresses that answers within its share of the time."""
    found = socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for index, (*_, address) in enumerate(found):
        share = deadline.remaining() / (len(found) - index)
        try:
            return create_connection((str(address[0]), port), share, socket_options=options)
        except OSError as error:
            failure = error
    raise failure


class _HTTPConnection(urllib3.connection.HTTPConnection):
    """Connects within the deadline, and tells a proxy's failures from the backend's."""

    def _new_conn(self) -> socket.socket:
        watchdog: Watchdog = _current.watchdog
        try:
            sock = _connect(self._dns_host, self.port, watchdog.deadline, self.socket_options)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(self, "no connection") from error
        watchdog.watch(sock.fileno())
        return sock

    def _tunnel(self) -> None:
        connection: Any = super()  # http.client's method, which type stubs leave out
        try:
            connection._tunnel()
        except (OSError, HTTPException) as error:
            raise ProxyError("no tunnel", error) from error


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""

    def send(self, data: Any) -> None:
        """A server that hangs up meanwhile may have said why: urllib3 goes on to read that after a broken pipe."""
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection

    def _validate_conn(self, conn: Any) -> None:
        """Watch a connection that is used again: it was made under an earlier request's watchdog."""
        if not conn.is_closed:
            _current.watchdog.watch(conn.sock.fileno())


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection

    def _validate_conn(self, conn: Any) -> None:
        """As above; urllib3's own would print a warning for ``verify_tls: false``, which the settings' check tells."""
        if conn.is_closed:
            conn.connect()
        watchdog: Watchdog = _current.watchdog
        watchdog.certificate = conn.sock.getpeercert(binary_form=True)
        watchdog.watch(conn.sock.fileno())


def bounded(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """The manager, with connections that keep to the deadline; it works inside a :class:`Watchdog` only."""
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager
