"""TLS as a client: from the settings to a context, and OpenSSL's errors in an operator's words.

A file that can't be used is an error: nothing here falls back to another file, to the system's authorities,
or to no verification. The settings' check and the first request ask the same functions.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from monitoring.transport.small_files import MOST_CERTIFICATE_BYTES, read_file


class Trust(Struct, frozen=True):
    """How an https:// address is trusted, and with which certificate it is asked; see the settings of these names."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    verify_tls: bool = True


class UnusableFileError(ValueError):
    """A certificate or key file that can't be used: says why, and never quotes it."""


def client_context(settings: Trust, *, shows_certificate: bool = True) -> ssl.SSLContext:
    """TLS 1.2 or newer, verified against ``ca_file``, else against the system's authorities (as OpenSSL finds them).

    Without ``shows_certificate`` the client certificate is left out: it is the backend's business alone.
    Raises :class:`UnusableFileError`.
    """
    context = _bare_context()
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_file is None:
        context.load_default_certs()
    else:
        with _named("ca_file"):
            _load_certificates(context, settings.ca_file)
    if shows_certificate and settings.client_cert_file is not None:
        context.post_handshake_auth = True  # under TLS 1.3 some servers ask for it after the handshake only
        with _named("client_cert_file or client_key_file"):
            _load_key_pair(context, settings.client_cert_file, settings.client_key_file)
    return context


def check_certificates(path: Path) -> None:
    """Raise :class:`UnusableFileError` unless the file holds certificates in PEM form, and none that is damaged."""
    _load_certificates(_bare_context(), path)


def check_key_pair(certificate: Path, key: Path | None) -> None:
    """Raise :class:`UnusableFileError` unless the key (in the certificate's file where None) is the certificate's."""
    _load_key_pair(_bare_context(), certificate, key)


def _bare_context() -> ssl.SSLContext:
    """A client's context that trusts nobody yet; it verifies certificates and host names."""
    # Not ssl.create_default_context(): it writes the session's keys where $SSLKEYLOGFILE says, and its flags differ
    # by Python version, so that a certificate that is good today could be refused after an upgrade.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the issuing authority's certificate is enough in ca_file
    return context


def _load_certificates(context: ssl.SSLContext, path: Path) -> None:
    with _readable(path):
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError:
            raise UnusableFileError("holds no certificate in PEM form, or a damaged one") from None
    if not context.cert_store_stats()["x509"]:
        raise UnusableFileError("holds no certificate")


def _load_key_pair(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    with _readable(certificate, *filter(None, [key])):
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password=b"")
        except ssl.SSLError as error:
            raise UnusableFileError(_about_key(error.reason, is_apart=key is not None)) from None


def _about_key(reason: str | None, *, is_apart: bool) -> str:
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return "is not the key of client_cert_file"
    if reason is not None and "PEM" not in reason:
        return f"can't be used: {reason.lower().replace('_', ' ')}"
    if is_apart:
        return "holds no private key in PEM form, or one that needs a password"
    return "is missing, and client_cert_file holds no private key"


@contextmanager
def _readable(*paths: Path) -> Iterator[None]:
    try:
        for path in paths:  # OpenSSL would wait for a pipe's writer, and read without end
            read_file(path, MOST_CERTIFICATE_BYTES)
        yield
    except OSError as error:
        raise UnusableFileError(f"can't be read: {error.strerror}") from None


@contextmanager
def _named(setting: str) -> Iterator[None]:
    try:
        yield
    except UnusableFileError as error:
        raise UnusableFileError(f"{setting} {error}") from None


# --- what went wrong ----------------------------------------------------------------------------

_UNTRUSTED = "the server's certificate is from an authority that is not trusted here; set ca_file"
# OpenSSL's X509_V_ERR_*, see its X509_STORE_CTX_get_error(3).
_VERIFICATION = {
    **dict.fromkeys((2, 19, 20, 21), _UNTRUSTED),
    9: "the server's certificate is not valid yet, or the clock here is wrong",
    10: "the server's certificate has expired, or its authority's has",
    18: "the server's certificate is self-signed and not trusted here; set ca_file",
    23: "the server's certificate has been revoked",
    26: "the certificate is not one for a server",
    62: "the server's certificate is for another host name",
    64: "the server's certificate is for another IP address",
    **dict.fromkeys((66, 67, 68), "the server's certificate is too weak"),
}

_CERTIFICATE_WANTED = "the server wants a client certificate; set client_cert_file and client_key_file"
_CERTIFICATE_REFUSED = "the server does not accept the client certificate"
# Parts of OpenSSL's reason codes, the first that fits counts. Alerts (RFC 8446, 6.2) are what the server says.
_REASONS = (
    (("CERTIFICATE_REQUIRED",), _CERTIFICATE_WANTED),
    (("UNKNOWN_CA",), "the server does not know the authority of the client certificate"),
    (("CERTIFICATE_EXPIRED",), "the client certificate has expired"),
    (
        ("ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED"),
        _CERTIFICATE_REFUSED,
    ),
    (
        ("HANDSHAKE_FAILURE",),
        "the server refuses the connection; it may want a client certificate, or other ciphers",
    ),
    (("UNRECOGNIZED_NAME",), "the server has no certificate for this host name"),
    (("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"), "the server offers no TLS 1.2 or newer"),
    (
        ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"),
        "what answers there doesn't speak TLS; is the address http://?",
    ),
    (("EOF",), "the server ended the connection before it was secure; does it speak TLS?"),
)


def words(error: ssl.SSLError) -> str:
    """What a failed handshake means, in fixed words; nothing of the server's certificate is quoted."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        return _VERIFICATION.get(code, f"the server's certificate can't be verified (OpenSSL's code {code})")
    reason = "EOF" if isinstance(error, ssl.SSLEOFError) else getattr(error, "reason", None) or ""
    return next((meaning for parts, meaning in _REASONS if any(part in reason for part in parts)), "")


_HTTPS_WANTED = "the server speaks TLS there; the address must begin with https://"
_COMPLAINTS = (
    (b"Client sent an HTTP request to an HTTPS server", _HTTPS_WANTED),  # Go: InfluxDB, Pushgateway
    (b"plain HTTP request was sent to HTTPS port", _HTTPS_WANTED),  # nginx
    (b"speaking plain HTTP to an SSL-enabled server port", _HTTPS_WANTED),  # Apache
    (b"No required SSL certificate was sent", _CERTIFICATE_WANTED),  # nginx
    (b"The SSL certificate error", _CERTIFICATE_REFUSED),  # nginx
)


def complaint(status: int, body: bytes) -> str:
    """What a 400 says about TLS, "" for any other answer: it is the TLS server's answer, not the backend's."""
    if status != 400:
        return ""
    return next((meaning for said, meaning in _COMPLAINTS if said in body), "")
