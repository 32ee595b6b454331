"""Which proxy an address is asked through: the environment's, as Python's ``urllib`` understands it.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in capitals too. ``no_proxy`` may name
networks as well (``10.0.0.0/8``), as curl and requests understand it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from monitoring.transport.statuses import basic_authorization


class UnusableProxyError(ValueError):
    """The environment's proxy can't be used. It is not gone around: nobody chose that way for the token."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address without credentials, and the headers that are for it alone."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a backend's address, None where it is reached directly; raises :class:`UnusableProxyError`."""
    parts = urlsplit(url)
    proxies = getproxies()
    name = parts.scheme if parts.scheme in proxies else "all"
    if name not in proxies or _is_exempt(parts, proxies.get("no", "")):
        return None
    return _parsed(f"{name}_proxy", proxies[name].strip())


def _is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    host = parts.hostname or ""
    return bool(proxy_bypass(parts.netloc) or proxy_bypass(host)) or _is_in_a_network(host, no_proxy)


def _is_in_a_network(host: str, no_proxy: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name; it is not looked up here
        return False
    return any(address in network for name in no_proxy.split(",") for network in _networks(name.strip()))


def _networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(name, strict=False)]
    except ValueError:
        return []


def _parsed(variable: str, address: str) -> Proxy:
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(text)
        is_usable = parts.port != 0 and bool(parts.hostname) and re.fullmatch(r"[!-~]+", text) is not None
    except ValueError:
        is_usable = False
    if not is_usable:
        raise UnusableProxyError(f"the address in {variable} is not a valid one")
    if parts.scheme not in ("http", "https"):
        raise UnusableProxyError(f"the address in {variable} must begin with http:// or https://")
    headers = {}
    if parts.username or parts.password:
        credentials = unquote(parts.username or ""), unquote(parts.password or "")
        headers["Proxy-Authorization"] = basic_authorization(*credentials)
    return Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", headers)
