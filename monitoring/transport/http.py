"""One HTTP request under one deadline -> a frozen result, never an exception.

The connections keep to the deadline in all that they do (:mod:`monitoring.transport.connections`); TLS is verified
(:mod:`monitoring.transport.tls`), and the environment's proxies are used (:mod:`monitoring.transport.proxies`).
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import urllib3

from monitoring.transport import tls
from monitoring.transport.connections import Watchdog, bounded
from monitoring.transport.deadline import Deadline
from monitoring.transport.failure import failure
from monitoring.transport.proxies import Proxy, proxy_for

MAX_ANSWER_BYTES = 64 * 1024
_GZIP_FROM_BYTES = 1024
_FORWARDED = "the answer came through the proxy that the environment names"


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: ``status`` when a server answered, else ``error`` (one of the catalogue's reasons).

    ``body`` is at most 64 KiB. It may quote the request, so it is classified and never logged. ``hint`` says in
    fixed words what the reason's usual ones don't.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None
    hint: str = ""


class Transport(Protocol):
    """As narrow as can be, so that a test double is as honest as the real one."""

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """One request, no retry, no redirect. Never raises for what the network does."""

    def close(self) -> None:
        """Give back the connections."""


class HttpTransport:
    """The real transport: urllib3's pool, verified TLS, the environment's proxies, and a total deadline.

    Certificate files and the environment are looked at when the first request is made, and again after a
    failure: a renewed certificate needs no restart.
    """

    def __init__(self, settings: tls.Trust | None = None) -> None:
        self._settings = settings or tls.Trust()
        self._routes: dict[str, _Route] = {}

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """See :class:`Transport`."""
        if deadline.passed():
            return Response(error="timeout")
        with Watchdog(deadline) as watchdog:
            try:
                response = self._ask(method, url, headers, body, deadline)
            except (urllib3.exceptions.HTTPError, OSError, ValueError, Warning) as error:  # a host may raise warnings
                self.close()  # a connection that gave no whole answer is not used again
                why = failure(error)
                return Response(error="timeout") if deadline.passed() else Response(error=why.reason, hint=why.hint)
        if watchdog.has_bitten:  # the answer's end is the watchdog's doing, so it may not be all of it
            return Response(error="timeout")
        return response

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        route = self._route(url)
        with route.manager.request(
            method, url, body=body, headers=dict(headers), redirect=False, retries=False,
            timeout=urllib3.Timeout(total=deadline.remaining()), preload_content=False,
        ) as answer:  # fmt: skip
            content = answer.read(MAX_ANSWER_BYTES, decode_content=True)
            if len(content) < MAX_ANSWER_BYTES:
                answer.drain_conn()
                answer.release_conn()  # reused only when it was read to its end
        complaint = tls.complaint(answer.status, content)
        if complaint:
            return Response(error="tls", hint=complaint)
        fields = {key.lower(): value for key, value in answer.headers.items()}
        return Response(answer.status, fields, content, hint=route.hint)

    def _route(self, url: str) -> _Route:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._routes:
            self._routes[origin] = _new_route(url, self._settings)
        return self._routes[origin]

    def close(self) -> None:
        """See :class:`Transport`."""
        for route in self._routes.values():
            route.manager.clear()
        self._routes.clear()


@dataclass(frozen=True, slots=True)
class _Route:
    """The way to an address: its connections, and what an answer that comes this way should be read with."""

    manager: urllib3.PoolManager
    hint: str = ""


def _new_route(url: str, settings: tls.Trust) -> _Route:
    proxy = proxy_for(url)
    is_secure = urlsplit(url).scheme == "https"
    context = tls.client_context(settings) if is_secure else None
    if proxy is None:
        return _Route(bounded(urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=context)))
    return _Route(bounded(_proxied(proxy, settings, context)), "" if is_secure else _FORWARDED)


def _proxied(proxy: Proxy, settings: tls.Trust, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Through a proxy: https:// addresses by CONNECT, so that it sees neither token nor data."""
    to_proxy = None
    if proxy.url.startswith("https:"):
        to_proxy = tls.client_context(settings, shows_certificate=False)
    return urllib3.ProxyManager(
        proxy.url, proxy_headers=proxy.headers, proxy_ssl_context=to_proxy, ssl_context=context or to_proxy,
        num_pools=1, maxsize=1,
    )  # fmt: skip


def gzipped(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body and the headers to send it with, compressed where that pays."""
    if len(body) < _GZIP_FROM_BYTES:
        return body, {}
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush(), {"Content-Encoding": "gzip"}
