"""One HTTP request under one deadline: a frozen :class:`Response`, never an exception.

How connections keep to the deadline is :mod:`monitoring.transport.connections`' business, whom to trust that of
:mod:`monitoring.transport.tls`, and which way to go that of :mod:`monitoring.transport.proxies`. What an answer means
for the data is not decided here (:mod:`monitoring.transport.reasons`).
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlsplit

import urllib3
from msgspec import Struct
from urllib3 import exceptions

from monitoring.transport import expiry, tls
from monitoring.transport.connections import Watchdog, bounded
from monitoring.transport.deadline import Deadline
from monitoring.transport.proxies import UnusableProxyError, proxy_for
from monitoring.transport.reasons import detail, policy

MAX_ANSWER_BYTES = 64 * 1024
_GZIP_FROM_BYTES = 1024
_FORWARDED = "the answer came through the proxy that the environment names"


class Response(Struct, frozen=True):
    """What came back: ``status`` when a server answered, else ``error`` (one of the counted reasons).

    ``body`` is at most 64 KiB, or what its transport is told. It may quote the request, so it is classified and never
    logged. ``hint`` says in fixed words what the reason's usual ones don't. ``expiry`` is told with an answer by TLS.
    """

    status: int | None = None
    headers: Mapping[str, str] = {}
    body: bytes = b""
    error: str | None = None
    hint: str = ""
    expiry: expiry.Expiry = {}


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

    def __init__(self, trust: tls.Trust | None = None, most_bytes: int = MAX_ANSWER_BYTES) -> None:
        """An answer's body is cut after ``most_bytes``."""
        self._trust = trust or tls.Trust()
        self._most_bytes = most_bytes
        self._routes: dict[str, _Route] = {}

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        """See :class:`Transport`."""
        if deadline.passed():
            return Response(error="timeout")
        with Watchdog(deadline) as watchdog:
            try:
                response = self._ask(method, url, headers, body, watchdog)
            except (exceptions.HTTPError, OSError, ValueError, Warning) as error:  # a host may raise warnings
                self.close()  # a connection that gave no whole answer is not used again
                response = Response(error="timeout") if deadline.passed() else _failed(error)
        # An answer that the watchdog cut off looks like a whole one where no length was told.
        return Response(error="timeout") if watchdog.has_fired else response

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, watchdog: Watchdog) -> Response:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._routes:
            self._routes[origin] = _Route.to(url, self._trust)
        route = self._routes[origin]
        with route.manager.request(
            method, url, body=body, headers=dict(headers), redirect=False, retries=False,
            timeout=urllib3.Timeout(total=watchdog.deadline.remaining()), preload_content=False,
        ) as answer:  # fmt: skip
            content = answer.read(self._most_bytes, decode_content=True)
            if len(content) < self._most_bytes:
                answer.drain_conn()
                answer.release_conn()  # reused only when it was read to its end
        if complaint := tls.complaint(answer.status, content):
            return Response(error="tls", hint=complaint)
        fields = {key.lower(): value for key, value in answer.headers.items()}
        ends = {}
        if parts.scheme == "https":  # else the certificate is the proxy's
            ends = expiry.of_connection(watchdog.certificate, route.shown, route.trusted)
        return Response(answer.status, fields, content, hint=route.hint, expiry=ends)

    def close(self) -> None:
        """See :class:`Transport`."""
        for route in self._routes.values():
            route.manager.clear()
        self._routes.clear()


class _Route(Struct, frozen=True):
    """The way to an address: its connections, and what an answer that comes this way should be read with."""

    manager: urllib3.PoolManager
    hint: str = ""
    shown: tuple[expiry.Certificate, ...] = ()
    """The client's certificate, with those above it in its file."""
    trusted: tuple[expiry.Certificate, ...] = ()
    """Those of the settings' own authorities."""

    @classmethod
    def to(cls, url: str, trust: tls.Trust) -> _Route:
        """Direct or through a proxy: https:// addresses by CONNECT, so that it sees neither token nor data."""
        proxy = proxy_for(url)
        is_secure = urlsplit(url).scheme == "https"
        context = tls.client_context(trust) if is_secure else None
        # Read together with the context, so that what is told is what is in use.
        dates = [expiry.certificates(path) for path in (trust.client_cert_file, trust.ca_file) if is_secure]
        if proxy is None:
            return cls(bounded(urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=context)), "", *dates)
        to_proxy = None
        if proxy.url.startswith("https:"):
            to_proxy = tls.client_context(trust, shows_certificate=False)
        headers = {} if proxy.credentials is None else {"Proxy-Authorization": basic_authorization(*proxy.credentials)}
        manager = urllib3.ProxyManager(
            proxy.url, proxy_headers=headers, proxy_ssl_context=to_proxy, ssl_context=context or to_proxy,
            num_pools=1, maxsize=1,
        )  # fmt: skip
        return cls(bounded(manager), "" if is_secure else _FORWARDED, *dates)


# --- headers ------------------------------------------------------------------------------------


def basic_authorization(username: str, password: str) -> str:
    """HTTP Basic credentials (RFC 7617), UTF-8."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def retry_after_seconds(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """The Retry-After header in seconds, from either of its forms (RFC 9110, 10.2.3); None when absent or garbage."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}\s*", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now())
    except (TypeError, ValueError, OverflowError):
        return None


def gzipped(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body and the headers to send it with, compressed where that pays."""
    if len(body) < _GZIP_FROM_BYTES:
        return body, {}
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush(), {"Content-Encoding": "gzip"}


# --- what an exception means --------------------------------------------------------------------

_REASONS_OF_URLLIB3: tuple[tuple[type[BaseException], str], ...] = (
    (exceptions.SSLError, "tls"),
    (exceptions.TimeoutError, "timeout"),
)
_REASONS_OF_PYTHON: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (TimeoutError, "timeout"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (http.client.HTTPException, "bad_answer"),
    (OSError, "unreachable"),
)

_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})\b")  # http.client's words
_TUNNEL_HINTS = {
    "403": "the proxy does not let requests to this address through (HTTP 403)",
    "407": "the proxy wants a user and password that it accepts (HTTP 407)",
    "502": "the proxy can't reach the address (HTTP 502)",
    "503": "the proxy can't reach the address (HTTP 503)",
    "504": "the proxy can't reach the address in time (HTTP 504)",
}


def _failed(error: BaseException) -> Response:
    """What a request raised, by its cause where urllib3 wraps one; no message is quoted: it may hold credentials."""
    if isinstance(error, tls.UnusableFileError):
        return Response(error="tls", hint=str(error))
    if isinstance(error, UnusableProxyError):
        return Response(error="proxy", hint=str(error))
    chain = list(_chain(error))
    reason = _reason(chain)
    about_tls = next((tls.words(link) for link in chain if isinstance(link, ssl.SSLError)), "")
    if not any(isinstance(link, exceptions.ProxyError) for link in chain):
        return Response(error=reason, hint=about_tls)
    status = next((found[1] for link in chain if (found := _TUNNEL_STATUS.search(str(link)))), None)
    if status is None:
        return Response(error="proxy", hint=f"the proxy can't be used: {detail(reason, None, about_tls)}")
    return Response(error="proxy", hint=_TUNNEL_HINTS.get(status, f"the proxy answers HTTP {status}"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its cause, its cause's cause, each once; urllib3 keeps some causes among the arguments."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        inner = [item for item in link.args if isinstance(item, BaseException)]
        link = link.__cause__ or (inner[0] if inner else None)


def _reason(chain: list[BaseException]) -> str:
    for link in chain:
        for kind, reason in _REASONS_OF_URLLIB3:
            # A connection that is refused is a NewConnectionError, which urllib3 derives from its timeouts.
            if isinstance(link, kind) and not isinstance(link, exceptions.NewConnectionError):
                return reason
    for link in reversed(chain):  # the innermost is the operating system's
        for kind, reason in _REASONS_OF_PYTHON:
            if isinstance(link, kind):
                return reason
    return "bad_answer"


def failure_detail(response: Response) -> str:
    """Why an answer is not the one that was hoped for, in a person's words."""
    reason = response.error or (policy(response.status).reason if response.status else "unreachable")
    return detail(reason, response.status, response.hint)
