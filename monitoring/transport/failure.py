"""What an exception of the network's means: one of the catalogue's reasons, and words for a person.

Messages are never quoted: they may hold an address with credentials, or what a server said.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from urllib3 import exceptions

from monitoring.transport.proxies import UnusableProxyError
from monitoring.transport.statuses import detail
from monitoring.transport.tls import UnusableFileError, words


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason of the catalogue's, and what it means here in fixed words ("" for the reason's usual ones)."""

    reason: str
    hint: str = ""


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
    (exceptions.NameResolutionError, "dns"),
    (exceptions.SSLError, "tls"),
    (exceptions.TimeoutError, "timeout"),
)

_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d{3})\b")  # http.client's words
_TUNNEL_HINTS = {
    "403": "the proxy does not let requests to this address through (HTTP 403)",
    "407": "the proxy wants a user and password that it accepts (HTTP 407)",
    "502": "the proxy can't reach the address (HTTP 502)",
    "503": "the proxy can't reach the address (HTTP 503)",
    "504": "the proxy can't reach the address in time (HTTP 504)",
}


def failure(error: BaseException) -> Failure:
    """The meaning of what a request raised, from its cause where urllib3 wraps one."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, UnusableFileError):
            return Failure("tls", str(link))
        if isinstance(link, UnusableProxyError):
            return Failure("proxy", str(link))
        if isinstance(link, exceptions.ProxyError):
            return Failure("proxy", _about_proxy(chain))
    return Failure(_reason(chain), _about_tls(chain))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its cause, its cause's cause, each once."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        inner = [item for item in link.args if isinstance(item, BaseException)]
        link = link.__cause__ or (inner[0] if inner else None)


def _reason(chain: list[BaseException]) -> str:
    for link in chain:
        for kind, reason in _URLLIB3_REASONS:
            if isinstance(link, kind) and not isinstance(link, exceptions.NewConnectionError):
                return reason
    for link in reversed(chain):
        for kind, reason in _OS_REASONS:
            if isinstance(link, kind) and not isinstance(link, http.client.RemoteDisconnected):
                return reason
    return "reset" if any(isinstance(link, http.client.RemoteDisconnected) for link in chain) else "bad_answer"


def _about_tls(chain: list[BaseException]) -> str:
    return next((words(link) for link in chain if isinstance(link, ssl.SSLError)), "")


def _about_proxy(chain: list[BaseException]) -> str:
    """Why there is no way through the proxy."""
    status = next((found[1] for link in chain if (found := _TUNNEL_STATUS.search(str(link)))), None)
    if status is not None:
        return _TUNNEL_HINTS.get(status, f"the proxy answers HTTP {status}")
    return f"the proxy can't be used: {detail(_reason(chain), None, _about_tls(chain))}"
