"""Which proxy an address is asked through: the environment's, as Python's ``urllib`` understands it.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in capitals too, so that a host's programs agree.
``no_proxy`` may name networks as well (``10.0.0.0/8``), as curl and requests understand it: a token that goes through
a proxy which was meant to be left out is the worse surprise.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from msgspec import Struct


class UnusableProxyError(ValueError):
    """The environment's proxy can't be used. It is not gone around: nobody chose that way for the token."""


class Proxy(Struct, frozen=True):
    """A proxy's address, and apart from it the user and password that are for the proxy alone."""

    url: str
    credentials: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a backend's address, None where it is reached directly; raises :class:`UnusableProxyError`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    name = parts.scheme if parts.scheme in proxies else "all"
    if name not in proxies or proxy_bypass(parts.netloc) or proxy_bypass(host):
        return None
    return None if _is_in_a_network(host, proxies.get("no", "")) else _parsed(f"{name}_proxy", proxies[name].strip())


def _is_in_a_network(host: str, no_proxy: str) -> bool:
    """Whether ``no_proxy`` names a network that holds the host's address; a name is not looked up for that."""
    for name in no_proxy.split(","):
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip(), strict=False):
                return True
    return False


def _parsed(variable: str, address: str) -> Proxy:
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(text)
        is_usable = parts.port != 0 and bool(parts.hostname) and re.fullmatch(r"[!-~]+", text) is not None
    except ValueError:
        is_usable = False
    # The address is not quoted: it may hold a password.
    if not is_usable:
        raise UnusableProxyError(f"the address in {variable} is not a valid one")
    if parts.scheme not in ("http", "https"):
        raise UnusableProxyError(f"the address in {variable} must begin with http:// or https://")
    has_credentials = parts.username or parts.password
    return Proxy(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        (unquote(parts.username or ""), unquote(parts.password or "")) if has_credentials else None,
    )
