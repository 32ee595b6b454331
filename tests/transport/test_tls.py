"""TLS to the backends: who isn't who the settings say gets nothing, and the operator reads why."""

from __future__ import annotations

import re
import ssl
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.settings import TlsSettings
from monitoring.transport import tls
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport, Response
from monitoring.transport.reasons import detail
from tests.support import faults
from tests.support.cases import for_each
from tests.support.clocks import assert_took_at_most
from tests.support.faults import FaultServer, respond
from tests.support.tls_fixtures import Connect, told
from tests.support.tls_servers import (
    Authority,
    BrokenHandshakeServer,
    KeyPair,
    TlsFaultServer,
    TlsPushgateway,
    drip_handshake,
)

SOON_SECONDS = 0.5
GENEROUS_SECONDS = 3.0
TOKEN = "t0k3n-that-nobody-else-may-read"


def ask(transport: HttpTransport, url: str, seconds: float = 60.0, body: bytes = b"x") -> Response:
    began = time.monotonic()
    response = transport.request(
        "POST", f"{url}/write", {"Authorization": f"Token {TOKEN}"}, body, Deadline.after(seconds)
    )
    assert_took_at_most(time.monotonic() - began, seconds + GENEROUS_SECONDS - SOON_SECONDS)
    return response


# --- the server's certificate -------------------------------------------------------------------


def test_a_server_of_the_sites_own_authority_is_trusted(authority: Authority, connect: Connect) -> None:
    with TlsFaultServer(authority.server_context()) as server:
        transport = connect(ca_file=authority.ca_file)
        assert [ask(transport, server.url).status for _ in range(3)] == [204, 204, 204]
        assert server.requests[0].headers["Authorization"] == f"Token {TOKEN}"
        assert server.connections_accepted == 1, "the connection is used again"


def test_an_authority_below_another_is_enough(authority: Authority, connect: Connect) -> None:
    below = authority.below()
    with TlsFaultServer(below.server_context()) as server:
        assert ask(connect(ca_file=below.ca_file), server.url).status == 204
        assert ask(connect(ca_file=authority.ca_file), server.url).status == 204


def test_a_servers_own_certificate_may_be_trusted_by_itself(authority: Authority, connect: Connect) -> None:
    pair = authority.key_pair()
    with TlsFaultServer(authority.server_context(pair)) as server:
        assert ask(connect(ca_file=pair.certificate), server.url).status == 204


BAD_CERTIFICATES: dict[str, tuple[Callable[[Authority, Authority], KeyPair], str]] = {
    "of a stranger": (lambda site, stranger: stranger.key_pair(), "an authority that is not trusted here"),
    "self-signed": (lambda site, stranger: stranger.own_key_pair(), "self-signed and not trusted here"),
    "expired": (lambda site, stranger: site.key_pair(valid_for=(-2, -1)), "has expired"),
    "of tomorrow": (lambda site, stranger: site.key_pair(valid_for=(1, 2)), "not valid yet"),
    "for another host": (lambda site, stranger: site.key_pair("influxdb.example.org"), "for another"),
    "for another address": (lambda site, stranger: site.key_pair("192.0.2.7"), "for another IP address"),
}
EACH_BAD_CERTIFICATE = pytest.mark.parametrize("kind", BAD_CERTIFICATES)


@EACH_BAD_CERTIFICATE
def test_a_server_with_a_bad_certificate_gets_no_request_and_the_operator_reads_why(
    authority: Authority, stranger: Authority, connect: Connect, kind: str
) -> None:
    make, words = BAD_CERTIFICATES[kind]
    with TlsFaultServer(authority.server_context(make(authority, stranger))) as server:
        text = told(ask(connect(ca_file=authority.ca_file), server.url))
        assert text.startswith("tls: ")
        assert words in text
        assert server.requests == []


def test_a_host_name_is_checked_as_an_address_is(authority: Authority, connect: Connect) -> None:
    with TlsFaultServer(authority.server_context(authority.key_pair("localhost"))) as server:
        transport = connect(ca_file=authority.ca_file)
        assert ask(transport, server.url.replace("127.0.0.1", "localhost")).status == 204
        assert "for another IP address" in told(ask(transport, server.url))
    with TlsFaultServer(authority.server_context()) as server:
        assert "for another host name" in told(ask(transport, server.url.replace("127.0.0.1", "localhost")))


def test_without_a_ca_file_the_systems_authorities_are_trusted(
    authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsFaultServer(authority.server_context()) as server:
        assert "set ca_file" in told(ask(connect(), server.url))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))  # as OpenSSL itself finds them
        assert ask(connect(), server.url).status == 204


def test_with_a_ca_file_the_systems_authorities_are_not_trusted(
    authority: Authority, stranger: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    with TlsFaultServer(authority.server_context()) as server:
        assert told(ask(connect(ca_file=stranger.ca_file), server.url)).startswith("tls: ")
        assert server.requests == []


@pytest.mark.parametrize("content", [None, b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_ca_file_that_goes_bad_later_is_a_failure_and_nothing_else_is_trusted_in_its_place(
    authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_file.read_bytes())
    transport = connect(ca_file=ca_file)
    if content is None:
        ca_file.unlink()
    else:
        ca_file.write_bytes(content)
    with TlsFaultServer(authority.server_context()) as server:
        assert told(ask(transport, server.url)).startswith("tls: ca_file ")
        assert server.connections_accepted == 0
        ca_file.write_bytes(authority.ca_file.read_bytes())
        assert ask(transport, server.url).status == 204, "a file that is mended needs no restart"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONHTTPSVERIFY", "0"),
        ("SSL_NO_VERIFY", "1"),
        ("SSL_VERIFY", "false"),
        ("CURL_CA_BUNDLE", ""),
        ("REQUESTS_CA_BUNDLE", ""),
        ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        ("GIT_SSL_NO_VERIFY", "true"),
        ("SSL_CERT_FILE", ""),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("VERIFY_TLS", "false"),
    ],
)
def test_no_variable_of_the_environment_switches_the_check_off(
    authority: Authority, stranger: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with TlsFaultServer(stranger.server_context()) as server:
        for transport in (connect(), connect(ca_file=authority.ca_file)):
            assert ask(transport, server.url).error == "tls"
        assert server.requests == []


def test_a_host_that_has_switched_pythons_own_check_off_does_not_switch_off_this_one(
    stranger: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    with TlsFaultServer(stranger.server_context()) as server:
        assert ask(connect(), server.url).error == "tls"


def test_the_sessions_keys_are_not_written_to_where_the_environment_says(
    authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with TlsFaultServer(authority.server_context()) as server:
        assert ask(connect(ca_file=authority.ca_file), server.url).status == 204
    assert not (tmp_path / "keys").exists()


# --- verify_tls: false --------------------------------------------------------------------------


@EACH_BAD_CERTIFICATE
def test_without_the_check_any_certificate_will_do_and_nothing_is_printed(
    authority: Authority, stranger: Authority, connect: Connect, kind: str
) -> None:
    pair = BAD_CERTIFICATES[kind][0](authority, stranger)
    with TlsFaultServer(authority.server_context(pair)) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(connect(verify_tls=False), server.url).status == 204


def test_without_the_check_a_client_certificate_is_shown_all_the_same(
    authority: Authority, stranger: Authority, connect: Connect
) -> None:
    pair = authority.key_pair("client")
    with TlsFaultServer(stranger.server_context(demands=authority)) as server:
        settings = {"client_cert_file": pair.certificate, "client_key_file": pair.key}
        assert ask(connect(verify_tls=False, **settings), server.url).status == 204


# --- client certificates ------------------------------------------------------------------------

BOTH_VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@BOTH_VERSIONS
def test_a_client_certificate_that_is_demanded_is_shown(
    authority: Authority, connect: Connect, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    pair = authority.key_pair("client")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    with TlsFaultServer(authority.server_context(demands=authority, versions=version)) as server:
        for settings in (
            {"client_cert_file": pair.certificate, "client_key_file": pair.key},
            {"client_cert_file": both},
        ):
            assert ask(connect(ca_file=authority.ca_file, **settings), server.url).status == 204


@pytest.mark.parametrize("body", [b"x", b"x" * 5_000_000], ids=["small", "large"])
@BOTH_VERSIONS
def test_a_client_certificate_that_is_missing_is_asked_for_in_words(
    authority: Authority, connect: Connect, version: ssl.TLSVersion, body: bytes
) -> None:
    with TlsFaultServer(authority.server_context(demands=authority, versions=version)) as server:
        text = told(ask(connect(ca_file=authority.ca_file), server.url, body=body))
        assert text.startswith("tls: ")
        assert "want" in text
        assert "client certificate" in text
        assert server.requests == []


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda site, stranger: stranger.key_pair("client"), "does not know the authority of the client certificate"),
        (lambda site, stranger: site.key_pair("client", valid_for=(-2, -1)), "the client certificate has expired"),
    ],
    ids=["of a stranger", "expired"],
)
def test_a_client_certificate_that_is_not_accepted_is_told(
    authority: Authority,
    stranger: Authority,
    connect: Connect,
    version: ssl.TLSVersion,
    make: Callable[[Authority, Authority], KeyPair],
    words: str,
) -> None:
    pair = make(authority, stranger)
    with TlsFaultServer(authority.server_context(demands=authority, versions=version)) as server:
        transport = connect(ca_file=authority.ca_file, client_cert_file=pair.certificate, client_key_file=pair.key)
        assert words in told(ask(transport, server.url))
        assert server.requests == []


def test_a_client_certificate_that_is_renewed_needs_no_restart(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    files = {"client_cert_file": tmp_path / "tls.crt", "client_key_file": tmp_path / "tls.key"}

    def put(pair: KeyPair) -> None:
        files["client_cert_file"].write_bytes(pair.certificate.read_bytes())
        files["client_key_file"].write_bytes(pair.key.read_bytes())

    put(authority.key_pair("client", valid_for=(-2, -1)))
    with TlsFaultServer(authority.server_context(demands=authority)) as server:
        transport = connect(ca_file=authority.ca_file, **files)
        assert ask(transport, server.url).error == "tls"
        put(authority.key_pair("client"))
        assert ask(transport, server.url).status == 204


@pytest.mark.parametrize("name", ["client_cert_file", "client_key_file"])
def test_a_client_certificate_that_goes_bad_later_is_a_failure(
    authority: Authority, connect: Connect, name: str
) -> None:
    pair = authority.key_pair("client")
    files = {"client_cert_file": pair.certificate, "client_key_file": pair.key}
    transport = connect(ca_file=authority.ca_file, **files)
    files[name].unlink()
    with TlsFaultServer(authority.server_context()) as server:
        assert told(ask(transport, server.url)).startswith("tls: client_cert_file or client_key_file can't be read")
        assert server.connections_accepted == 0


# --- what is not TLS, or too old ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (respond(400), "what answers there doesn't speak TLS; is the address http://?"),
        (faults.hang_up(), "the server ended the connection before it was secure; does it speak TLS?"),
    ],
    ids=["an answer", "a hang-up"],
)
def test_a_plain_server_at_an_https_address_is_told(connect: Connect, behaviour: faults.Behaviour, words: str) -> None:
    with BrokenHandshakeServer(then=behaviour) as server:
        assert told(ask(connect(), server.url)) == f"tls: {words}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"Client sent an HTTP request to an HTTPS server.\n", "must begin with https://"),
        (b"<center>The plain HTTP request was sent to HTTPS port</center>", "must begin with https://"),
        (b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />", "must begin with https://"),
        (b"<center>No required SSL certificate was sent</center>", "wants a client certificate"),
        (b"<center>The SSL certificate error</center>", "does not accept the client certificate"),
    ],
)
def test_a_400_about_tls_is_not_the_backends(
    fault_server: FaultServer, connect: Connect, body: bytes, words: str
) -> None:
    fault_server.then = respond(400, body)
    assert words in told(ask(connect(), fault_server.url))
    fault_server.then = respond(500, body)
    assert ask(connect(), fault_server.url).status == 500


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("verify_tls", [True, False])
def test_an_older_tls_than_1_2_is_not_spoken(authority: Authority, connect: Connect, verify_tls: bool) -> None:
    settings = {"ca_file": authority.ca_file} if verify_tls else {"verify_tls": False}
    assert tls.client_context(TlsSettings(**settings)).minimum_version is ssl.TLSVersion.TLSv1_2
    with TlsFaultServer(authority.server_context(versions=ssl.TLSVersion.TLSv1_1)) as server:
        assert told(ask(connect(**settings), server.url)) == "tls: the server offers no TLS 1.2 or newer"


@BOTH_VERSIONS
def test_both_newer_versions_are_spoken(authority: Authority, connect: Connect, version: ssl.TLSVersion) -> None:
    with TlsFaultServer(authority.server_context(versions=version)) as server:
        assert ask(connect(ca_file=authority.ca_file), server.url).status == 204


# --- deadlines and faults -----------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [faults.silence(), drip_handshake(0.02)], ids=["silence", "dripping"])
def test_a_handshake_ends_at_the_deadline(connect: Connect, behaviour: faults.Behaviour) -> None:
    with BrokenHandshakeServer(then=behaviour) as server:
        assert ask(connect(), server.url, SOON_SECONDS).error == "timeout"
        assert len(server.wait_for_requests(1)) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        faults.silence(),
        faults.silence_after_headers(),
        faults.drip_headers(0.02),
        faults.drip_body(0.02),
        respond(204, after_seconds=30),
    ],
    ids=["silence", "silence after headers", "dripping headers", "dripping body", "slow"],
)
def test_a_request_over_tls_ends_at_its_deadline(
    authority: Authority, connect: Connect, behaviour: faults.Behaviour
) -> None:
    with TlsFaultServer(authority.server_context(), then=behaviour) as server:
        transport = connect(ca_file=authority.ca_file)
        assert ask(transport, server.url, SOON_SECONDS).error == "timeout"
        server.then = respond(204)
        assert ask(transport, server.url).status == 204, "the next request has a fresh start"


def test_a_request_on_a_connection_that_is_used_again_ends_at_its_deadline(
    authority: Authority, connect: Connect
) -> None:
    with TlsFaultServer(authority.server_context()) as server:
        transport = connect(ca_file=authority.ca_file)
        assert ask(transport, server.url).status == 204
        server.then = faults.drip_headers(0.02)
        assert ask(transport, server.url, SOON_SECONDS).error == "timeout"
        assert server.connections_accepted == 1


def test_sending_over_tls_to_a_server_that_doesnt_read_ends_at_the_deadline(
    authority: Authority, connect: Connect
) -> None:
    with TlsFaultServer(authority.server_context()) as server:
        server._serve_requests = lambda connection, number: server._closing.wait(20)  # type: ignore[method-assign]
        response = ask(connect(ca_file=authority.ca_file), server.url, SOON_SECONDS, body=b"x" * 50_000_000)
        assert response.error == "timeout"


@pytest.mark.parametrize(
    ("behaviour", "reasons"),
    [
        (faults.reset(), {"reset"}),
        (faults.hang_up(), {"reset", "tls"}),
        (faults.garbage(), {"tls"}),
        (faults.garbage(b"\x15\x03\x03\x00\x02\x02\x50"), {"tls"}),
    ],
    ids=["reset", "hang up", "garbage", "an alert"],
)
def test_a_broken_handshake_has_a_reason(connect: Connect, behaviour: faults.Behaviour, reasons: set[str]) -> None:
    with BrokenHandshakeServer(then=behaviour) as server:
        assert ask(connect(), server.url).error in reasons


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere_is_secure", [True, False])
def test_a_redirect_over_tls_is_told_and_not_followed(
    authority: Authority, connect: Connect, status: int, elsewhere_is_secure: bool
) -> None:
    context = authority.server_context() if elsewhere_is_secure else None
    with TlsFaultServer(context) as elsewhere, TlsFaultServer(authority.server_context()) as server:
        server.then = faults.redirect(f"{elsewhere.url}/write", status)
        assert ask(connect(ca_file=authority.ca_file), server.url).status == status
        assert (elsewhere.requests, elsewhere.connections_accepted) == ([], 0)


def test_making_a_transport_reads_no_file_and_opens_no_connection(authority: Authority, connect: Connect) -> None:
    pair = authority.key_pair("client")
    settings = TlsSettings(ca_file=authority.ca_file, client_cert_file=pair.certificate, client_key_file=pair.key)
    pair.certificate.unlink()
    pair.key.unlink()
    HttpTransport(settings.trust()).close()


# --- a real server ------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_real_pushgateway_with_tls_is_reached_and_told_apart_from_one_without(
    authority: Authority, connect: Connect
) -> None:
    with TlsPushgateway(authority) as gateway:
        url = f"{gateway.url}/metrics/job/test"
        push = (connect(ca_file=authority.ca_file), "PUT", url, {}, b"answer 42\n")
        transport, *request = push
        assert transport.request(*request, Deadline.after(5)).status == 200  # type: ignore[arg-type]
        assert b"\nanswer{" in gateway.ask("/metrics").data
        assert "authority that is not trusted" in told(ask(connect(), gateway.url))
        assert "must begin with https://" in told(ask(connect(), gateway.url.replace("https:", "http:")))


@pytest.mark.servers
def test_a_real_pushgateway_that_demands_a_client_certificate_gets_one(authority: Authority, connect: Connect) -> None:
    pair = authority.key_pair("client")
    with TlsPushgateway(authority, demands_certificate=True) as gateway:
        settings = {"client_cert_file": pair.certificate, "client_key_file": pair.key}
        assert ask(connect(ca_file=authority.ca_file, **settings), gateway.url).status == 404
        assert "client certificate" in told(ask(connect(ca_file=authority.ca_file), gateway.url))


# --- words --------------------------------------------------------------------------------------


@for_each("code", range(120))
def test_every_code_of_a_failed_check_has_words(code: int) -> None:
    error = ssl.SSLCertVerificationError(1, f"a secret of the server's {TOKEN}")
    error.verify_code = code
    assert tls.words(error)
    assert TOKEN not in tls.words(error)


def test_an_error_without_a_code_has_the_usual_words() -> None:
    assert tls.words(ssl.SSLError(1, TOKEN)) == ""
    assert re.fullmatch(r"tls: \w.+", detail("tls", None, ""))
