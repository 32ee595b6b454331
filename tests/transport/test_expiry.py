"""When certificates and tokens end: read of real ones, and of what is none without a complaint."""

from __future__ import annotations

import base64
import datetime as dt
import random
import ssl
from pathlib import Path

import pytest

from monitoring.metrics.backends import WHAT_ENDS
from monitoring.transport.deadline import Deadline
from monitoring.transport.expiry import CA, CLIENT, SERVER, TOKEN, certificate, certificates, of_connection, of_token
from monitoring.transport.http import HttpTransport, Response
from tests.support.proxy_server import ForwardProxy
from tests.support.tls_fixtures import Connect
from tests.support.tls_servers import Authority, TlsFaultServer, TlsPushgateway, end_of, jwt


def openssl_says(path: Path) -> list[float]:
    """The ends of the file's certificates, as Python's ssl module reads them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return [ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()]


def ask(transport: HttpTransport, url: str) -> Response:
    return transport.request("POST", f"{url}/write", {}, b"x", Deadline.after(5.0))


# --- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [1, 10, 23, 24, 60])
def test_the_end_is_the_one_that_other_libraries_read(authority: Authority, years: int) -> None:
    """Up to 2049 certificates write two digits of the year, from then on four."""
    pair = authority.key_pair(valid_for=(-1, years))
    assert certificates(pair.certificate)[0].ends == end_of(pair)


def test_the_systems_authorities_are_read_as_openssl_reads_them() -> None:
    path = next(
        filter(Path.exists, map(Path, ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"))), None
    )
    if path is None:
        pytest.skip("this machine has no file of authorities")
    assert sorted(each.ends for each in certificates(path)) == sorted(openssl_says(path))


def test_what_is_no_certificate_has_no_end(authority: Authority, tmp_path: Path) -> None:
    pair = authority.key_pair()
    der = ssl.PEM_cert_to_DER_cert(authority.ca_file.read_text())
    assert certificate(der) is not None
    for cut in range(0, len(der), 7):
        assert certificate(der[:cut]) is None
    generator = random.Random(1)
    for _ in range(3000):  # whatever a peer sends: nothing is raised
        damaged = bytearray(der)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(200)] = generator.randrange(256)
        certificate(bytes(damaged))
    damaged_block = "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "mixed.pem").write_text(
        f"# a note\n{damaged_block}{pair.certificate.read_text()}{pair.key.read_text()}"
    )
    assert [each.ends for each in certificates(tmp_path / "mixed.pem")][:1] == [end_of(pair)]
    assert certificates(None) == certificates(pair.key) == ()


# --- connections ----------------------------------------------------------------------------------


def test_an_answer_by_tls_says_when_each_certificate_ends(authority: Authority, connect: Connect) -> None:
    pair, client = authority.key_pair(valid_for=(-1, 2)), authority.key_pair("client", valid_for=(-1, 3))
    with TlsFaultServer(authority.server_context(pair, demands=authority)) as server:
        settings = {"client_cert_file": client.certificate, "client_key_file": client.key}
        transport = connect(ca_file=authority.ca_file, **settings)
        expected = {SERVER: end_of(pair), CLIENT: end_of(client), CA: certificates(authority.ca_file)[0].ends}
        assert [ask(transport, server.url).expiry for _ in range(2)] == [
            expected,
            expected,
        ]  # and when it is used again
        assert "example" not in repr(ask(transport, server.url).expiry)


def test_a_certificate_that_nobody_verifies_ends_as_well(stranger: Authority, connect: Connect) -> None:
    pair = stranger.key_pair(valid_for=(-3, -2))
    with TlsFaultServer(stranger.server_context(pair)) as server:
        assert ask(connect(verify_tls=False), server.url).expiry == {SERVER: end_of(pair)}


def test_without_tls_and_without_an_answer_nothing_is_said(authority: Authority, connect: Connect) -> None:
    with TlsFaultServer(None) as server:
        assert ask(connect(ca_file=authority.ca_file), server.url).expiry == {}
    assert ask(connect(ca_file=authority.ca_file), server.url).expiry == {}


@pytest.mark.parametrize("proxy_speaks_tls", [False, True])
def test_through_a_proxy_it_is_the_backends_certificate(
    authority: Authority, connect: Connect, monkeypatch: pytest.MonkeyPatch, proxy_speaks_tls: bool
) -> None:
    pair = authority.key_pair(valid_for=(-1, 2))
    context = authority.server_context() if proxy_speaks_tls else None
    with ForwardProxy(context=context) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with TlsFaultServer(authority.server_context(pair)) as server:
            assert ask(connect(ca_file=authority.ca_file), server.url).expiry[SERVER] == end_of(pair)
        with TlsFaultServer(None) as server:  # the proxy's own says nothing of the backend
            answer = ask(connect(ca_file=authority.ca_file), server.url)
            assert (answer.status, answer.expiry) == (204, {})


def test_of_many_authorities_the_one_counts_that_issued_the_servers(authority: Authority, stranger: Authority) -> None:
    pair = authority.key_pair()
    der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    ours, theirs = certificates(authority.ca_file), certificates(stranger.ca_file)
    renewed = ours[0]._replace(ends=ours[0].ends + 1e6)
    assert of_connection(der, (), (*theirs, *ours))[CA] == ours[0].ends
    assert of_connection(der, (), (*theirs, *ours, renewed))[CA] == renewed.ends
    assert of_connection(der, (), theirs)[CA] == theirs[0].ends  # the server sends one in between
    assert CA not in of_connection(der, (), (*theirs, theirs[0]._replace(ends=1.0)))
    assert CA not in of_connection(der, (), certificates(pair.certificate))  # trusted by itself: told once
    first, second = ours[0]._replace(ends=5.0), ours[0]._replace(ends=3.0)
    assert of_connection(None, (first, second)) == {CLIENT: 3.0}


@pytest.mark.servers
def test_a_real_pushgateways_certificate(authority: Authority, connect: Connect) -> None:
    with TlsPushgateway(authority) as gateway:
        answer = ask(connect(ca_file=authority.ca_file), gateway.url)
        now = dt.datetime.now(dt.UTC).timestamp()
        assert answer.expiry[SERVER] == pytest.approx(now + 365 * 86_400, abs=300)


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", range(4))
def test_a_json_web_token_says_when_it_ends(padding: int) -> None:
    assert of_token(jwt({"exp": 1_900_000_000, "sub": "x" * padding})) == {TOKEN: 1.9e9}
    assert of_token(jwt({"exp": 1_900_000_000.5})) == {TOKEN: 1_900_000_000.5}


@pytest.mark.parametrize(
    "token",
    [
        "", "a-plain-token", "user:password", "a.b.c", "..", jwt([1]), jwt({}), jwt({"exp": "tomorrow"}),
        jwt({"exp": True}), jwt({"exp": -5}), jwt({"exp": 10**300}), jwt({"exp": float("nan")}),
        "x." + "[" * 50_000 + ".y",
        "a." + base64.urlsafe_b64encode(b"[" * 20_000).decode() + ".b",
        "a." + base64.b64encode(b"\xff\xfe").decode() + ".b",
    ],
)  # fmt: skip
def test_other_tokens_have_no_end_that_is_known(token: str) -> None:
    assert of_token(token) == {}


def test_each_kind_has_its_words() -> None:
    assert set(WHAT_ENDS) == {SERVER, CLIENT, CA, TOKEN}
