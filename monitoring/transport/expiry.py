"""When what a request depends on ends: the server's, the client's and the authority's certificate, and a token.

Dates are read and nothing is verified here: whom to trust is :mod:`monitoring.transport.tls`' business. Of a
certificate its end alone leaves this module, of a token the same; neither is quoted or kept.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from monitoring.transport.small_files import MOST_CERTIFICATE_BYTES, read_file

SERVER, CLIENT, CA, TOKEN = "server", "client", "ca", "token"

Expiry = Mapping[str, float]
"""Unix time in seconds, by kind; of what has no end, or tells none, there is none."""

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_LATEST_SECONDS: Final = 253_402_300_799  # the end of the year 9999
# DER's tags (ITU-T X.690), and the places in a certificate's first part (RFC 5280, 4.1).
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_ISSUER, _VALIDITY, _SUBJECT = 2, 3, 4
_FORMS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


class Certificate(NamedTuple):
    """When a certificate ends (Unix time), and its issuer's and its own name, as they are encoded."""

    ends: float
    issuer: bytes
    subject: bytes


@lru_cache(maxsize=256)
def certificate(der: bytes) -> Certificate | None:
    """What is read of a certificate; None for what is none."""
    try:
        ((_, whole),) = _elements(der)
        fields = [content for tag, content in _elements(next(_elements(whole))[1]) if tag != _VERSION]
        _, (tag, end) = _elements(fields[_VALIDITY])
        ends = datetime.strptime(end.decode(), _FORMS[tag]).replace(tzinfo=UTC)
        if tag == _UTC_TIME and ends.year >= 2050:  # RFC 5280, 4.1.2.5.1: Python's century turns at 69
            ends = ends.replace(year=ends.year - 100)
        return Certificate(ends.timestamp(), fields[_ISSUER], fields[_SUBJECT])
    except (ValueError, LookupError, StopIteration):
        return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """DER's elements that lie side by side: tag and content; raises ValueError or IndexError where it is none."""
    at = 0
    while at < len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[at + 2 : start])
        at = start + length
        if at > len(data):
            raise ValueError("an element is cut off")
        yield tag, data[start:at]


def certificates(path: Path | None) -> tuple[Certificate, ...]:
    """Those in a PEM file, none without one; raises OSError."""
    if path is None:
        return ()
    found = []
    for block in _PEM.findall(read_file(path, MOST_CERTIFICATE_BYTES)):
        with suppress(ValueError):
            found.append(certificate(base64.b64decode(block)))
    return tuple(filter(None, found))


def of_connection(
    server: bytes | None, client: Sequence[Certificate] = (), trusted: Sequence[Certificate] = ()
) -> dict[str, float]:
    """Of a TLS connection: the server's own certificate (DER), the first to end that the client shows, the authority's.

    That is the one of ``trusted`` which issued the server's certificate, the latest where several have its name, or the
    only one there is: a file of many authorities always holds some that end and concern nobody here.
    """
    found: dict[str, float] = {}
    leaf = None if server is None else certificate(server)
    if leaf is not None:
        found[SERVER] = leaf.ends
        above = [each for each in trusted if each.subject == leaf.issuer] or trusted[: len(trusted) == 1]
        if above and leaf not in above:
            found[CA] = max(each.ends for each in above)
    if client:
        found[CLIENT] = min(each.ends for each in client)
    return found


def of_token(token: str) -> dict[str, float]:
    """Of a token that is a JSON Web Token with an ``exp`` claim (RFC 7519, 4.1.4); of any other nothing is known."""
    payload, end = token.split(".")[1:-1], None
    with suppress(ValueError, RecursionError):
        if len(payload) == 1:
            claims = json.loads(base64.urlsafe_b64decode(payload[0] + "=" * (-len(payload[0]) % 4)))
            end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, int | float) and not isinstance(end, bool) and 0 < end <= _LATEST_SECONDS:
        return {TOKEN: float(end)}
    return {}
