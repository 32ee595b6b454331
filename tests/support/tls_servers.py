"""TLS for tests: an authority of the test's own, servers with good and bad certificates, and broken handshakes.

    authority = Authority(folder)                        # authority.ca_file is its certificate
    with TlsFaultServer(authority.server_context()) as server:
        ...                                              # a FaultServer, at an https:// address

Everything is made anew for each run; nothing is trusted by the machine.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import socket
import ssl
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import trustme
import urllib3
from cryptography import x509

from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import Behaviour, Exchange, FaultServer, Request
from tests.support.processes import LOOPBACK
from tests.support.prometheus_servers import Pushgateway

YEAR = dt.timedelta(days=365)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def end_of(pair: KeyPair) -> float:
    """When the certificate ends, in Unix time."""
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc.timestamp()


def jwt(claims: object) -> str:
    """A JSON Web Token that nobody has signed."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


class Authority:
    """A certificate authority, and the certificates that it signs."""

    def __init__(self, folder: Path, ca: trustme.CA | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = ca or trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self._number = itertools.count()

    def below(self) -> Authority:
        """An authority that this one has signed."""
        return Authority(self.folder / f"below-{next(self._number)}", self.ca.create_child_ca())

    def key_pair(self, name: str = LOOPBACK, *, valid_for: tuple[int, int] = (-1, 1)) -> KeyPair:
        """A certificate for a host (or a client) of this name, valid from .. to in years from now."""
        now = dt.datetime.now(dt.UTC)
        issued = self.ca.issue_cert(name, not_before=now + valid_for[0] * YEAR, not_after=now + valid_for[1] * YEAR)
        number = next(self._number)
        made = KeyPair(self.folder / f"{number}.pem", self.folder / f"{number}.key")
        made.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        made.key.write_bytes(issued.private_key_pem.bytes())
        return made

    def own_key_pair(self) -> KeyPair:
        """The authority's own certificate, which nobody else has signed."""
        key = self.folder / "ca.key"
        key.write_bytes(self.ca.private_key_pem.bytes())
        return KeyPair(self.ca_file, key)

    def server_context(
        self, pair: KeyPair | None = None, *, demands: Authority | None = None, versions: Any = None
    ) -> ssl.SSLContext:
        """A server's context; `demands` names the authority whose client certificates it wants."""
        pair = pair or self.key_pair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if demands is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(demands.ca_file)
        if versions is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL itself refuses the old versions
            context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, versions
        return context


class TlsFaultServer(FaultServer):
    """A FaultServer that speaks TLS; its requests are what came after a handshake that the client accepted."""

    def __init__(self, context: ssl.SSLContext | None, *arguments: Any, **options: Any) -> None:
        self._context = context
        self.handshake_errors: list[str] = []
        super().__init__(*arguments, **options)

    @property
    def url(self) -> str:
        """Where it listens; no slash at the end."""
        return f"{'http' if self._context is None else 'https'}://{LOOPBACK}:{self.port}"

    def _serve(self, connection: socket.socket, number: int) -> None:
        if self._context is not None:
            connection.settimeout(30)
            try:
                connection = self._context.wrap_socket(connection, server_side=True)
            except OSError as error:
                self.handshake_errors.append(str(error))
                return connection.close()
        return super()._serve(connection, number)


class BrokenHandshakeServer(FaultServer):
    """Takes the client's first message, and then does `then` in place of a handshake: hold, drip, reset, ..."""

    @property
    def url(self) -> str:
        """Where it listens; no slash at the end."""
        return f"https://{LOOPBACK}:{self.port}"

    def _serve_requests(self, connection: socket.socket, number: int) -> None:
        hello = Request("", "", Message(), connection.recv(65536), number)
        self.requests.append(hello)
        self.then(Exchange(hello, connection, self._closing))


def drip_handshake(interval_seconds: float) -> Behaviour:
    """A TLS record of a length that is allowed, a byte at a time: each byte is in time, the handshake never is."""
    record = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc\x03\x03" + b"z" * 16_000
    return lambda exchange: exchange.drip(record, interval_seconds)


class TlsPushgateway(Pushgateway):
    """A real Pushgateway at an https:// address, which may demand a client certificate."""

    def __init__(self, authority: Authority, *, demands_certificate: bool = False) -> None:
        super().__init__()
        self._authority = authority
        self._pair = authority.key_pair()
        self._demands_certificate = demands_certificate

    @property
    def url(self) -> str:
        """Where a client reaches the server; no slash at the end."""
        return super().url.replace("http:", "https:")

    def command(self) -> list[str]:
        """As usual, with TLS."""
        tls = {"cert_file": str(self._pair.certificate), "key_file": str(self._pair.key)}
        if self._demands_certificate:
            tls |= {
                "client_auth_type": "RequireAndVerifyClientCert",
                "client_ca_file": str(self._authority.ca_file),
            }
        config = self.folder / "web.yml"
        config.write_text(json.dumps({"tls_server_config": tls}))
        return [*super().command(), f"--web.config.file={config}"]

    def is_ready(self) -> bool:
        """Whether it answers who has a certificate."""
        try:
            return self.ask(self.ready_path).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def ask(self, path: str) -> urllib3.BaseHTTPResponse:
        """A GET by a plain client that has a certificate."""
        pair = {"cert_file": str(self._pair.certificate), "key_file": str(self._pair.key)}
        trusted = {"ca_certs": str(self._authority.ca_file), **pair}
        with urllib3.PoolManager(retries=False, timeout=HANGS_SECONDS, **trusted) as http:
            return http.request("GET", self.url + path)
