"""TLS as users set it: a file that can't be used switches the backend off, and nothing is left unchecked silently."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from monitoring import MonitorManager
from monitoring.cli.commands import app
from monitoring.config_validator import SECTION_PATH, Checked, check_section
from monitoring.settings import InfluxDBConfig, PrometheusConfig, json_schema
from tests.support.faults import FaultServer, respond
from tests.support.tls_servers import Authority, KeyPair, TlsFaultServer

PUSHGATEWAYS_STATUS = '{"data": {"build_information": {}}}'
SECRET = "t0k3n-that-nobody-may-read"
DONE, NOT_ALL_DONE, WRONG_INPUT = 0, 1, 2
NEEDED: dict[str, dict[str, Any]] = {
    "influxdb": {"url": "https://influxdb:8086", "token": SECRET, "org": "x"},
    "prometheus": {"gateway_url": "https://pushgateway:9091"},
}
BOTH_BACKENDS = pytest.mark.parametrize("backend", NEEDED)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The site's own authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    """A client's certificate and key."""
    return authority.key_pair("client")


def checked(backend: str, **tls: Any) -> Checked:
    other = next(name for name in NEEDED if name != backend)
    return check_section({"enabled": True, backend: {**NEEDED[backend], **tls}, other: NEEDED[other]}, {})


def the_error(found: Checked, backend: str) -> str:
    """The one problem, which costs this backend and no other."""
    (problem,) = found.problems
    assert problem.is_error
    assert getattr(found.config, backend) is None
    assert [name for name in NEEDED if getattr(found.config, name) is None] == [backend]
    assert str(problem).endswith(" (this backend is off)")
    assert str(problem).isprintable()
    return str(problem).removeprefix(f"{SECTION_PATH}.{backend}.").removesuffix(" (this backend is off)")


# --- what is right ------------------------------------------------------------------------------


def test_both_backends_have_the_same_settings_after_their_own_and_none_is_set_by_default() -> None:
    names = ["ca_file", "client_cert_file", "client_key_file", "verify_tls"]
    for section in (InfluxDBConfig, PrometheusConfig):
        assert list(json_schema()["$defs"][section.__name__]["properties"])[-4:] == names
        defaults = {field.name: field.default for field in msgspec.structs.fields(section)}
        assert [defaults[name] for name in names] == [None, None, None, True]


@BOTH_BACKENDS
def test_files_that_are_right_are_taken_without_a_word(
    authority: Authority, pair: KeyPair, tmp_path: Path, backend: str
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    several = tmp_path / "several.pem"
    several.write_bytes(b"# the site's\n" + authority.ca_file.read_bytes() + authority.below().ca_file.read_bytes())
    for tls in (
        {"ca_file": str(authority.ca_file)},
        {"ca_file": str(several)},
        {"client_cert_file": str(pair.certificate), "client_key_file": str(pair.key)},
        {"client_cert_file": str(both)},
        {"client_cert_file": str(both), "client_key_file": str(both), "ca_file": str(several), "verify_tls": True},
        {"verify_tls": "yes", "ca_file": None},
    ):
        found = checked(backend, **tls)
        assert found.problems == ()
        section = getattr(found.config, backend)
        assert section.ca_file == (Path(tls["ca_file"]) if tls.get("ca_file") else None)  # type: ignore[arg-type]
        assert section.verify_tls


def test_a_path_may_come_from_the_environment(authority: Authority) -> None:
    section = {"enabled": True, "influxdb": {**NEEDED["influxdb"], "ca_file": "${SITE_CA}"}}
    found = check_section(section, {"SITE_CA": str(authority.ca_file)})
    assert found.problems == ()
    assert found.config.influxdb is not None
    assert found.config.influxdb.ca_file == authority.ca_file


# --- what is wrong ------------------------------------------------------------------------------


def damaged(certificate: bytes) -> bytes:
    return certificate[: len(certificate) // 2]


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda right: b"",
    "text": lambda right: SECRET.encode(),
    "bytes": lambda right: b"\x00\xff" * 100,
    "cut short": damaged,
    "the second is cut short": lambda right: right + damaged(right),
    "garbled": lambda right: right.replace(b"MII", b"XXX"),
}


@BOTH_BACKENDS
@pytest.mark.parametrize("name", ["ca_file", "client_cert_file"])
@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_without_certificates_switches_the_backend_off(
    authority: Authority, tmp_path: Path, backend: str, name: str, content: str
) -> None:
    path = tmp_path / "file.pem"
    path.write_bytes(CONTENTS[content](authority.ca_file.read_bytes()))
    text = the_error(checked(backend, **{name: str(path)}), backend)
    assert text == f"{name}: holds no certificate in PEM form, or a damaged one"


@BOTH_BACKENDS
@pytest.mark.parametrize("name", ["ca_file", "client_cert_file", "client_key_file"])
def test_a_file_that_cant_be_read_switches_the_backend_off(
    pair: KeyPair, tmp_path: Path, backend: str, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    certificate = {"client_cert_file": str(pair.certificate)} if name == "client_key_file" else {}
    for path, why in (
        (tmp_path / "nowhere" / SECRET, "No such file or directory"),
        (tmp_path, "not a file"),
        (tmp_path / "pipe", "not a file"),
        (Path("/dev/zero"), "not a file"),
    ):
        text = the_error(checked(backend, **certificate, **{name: str(path)}), backend)
        assert text == f"{name}: can't be read: {why}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["ca_file", "client_cert_file"])
def test_a_file_that_may_not_be_read_is_told(authority: Authority, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.pem"
    path.write_bytes(authority.ca_file.read_bytes())
    path.chmod(0)
    assert the_error(checked("influxdb", **{name: str(path)}), "influxdb").endswith("can't be read: Permission denied")


def test_a_private_key_in_place_of_an_authority_is_no_certificate(pair: KeyPair) -> None:
    assert the_error(checked("influxdb", ca_file=str(pair.key)), "influxdb").startswith("ca_file: holds no certificate")


def encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    scheme = serialization.BestAvailableEncryption(b"the key's password")
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme
    )


def test_a_key_that_is_not_one_or_needs_a_password_is_told_and_nobody_is_asked(pair: KeyPair, tmp_path: Path) -> None:
    path = tmp_path / "file.key"
    for content in (b"", SECRET.encode(), pair.certificate.read_bytes(), encrypted(pair.key.read_bytes())):
        path.write_bytes(content)
        found = checked("influxdb", client_cert_file=str(pair.certificate), client_key_file=str(path))
        text = the_error(found, "influxdb")
        assert text == "client_key_file: holds no private key in PEM form, or one that needs a password"


@BOTH_BACKENDS
def test_a_key_of_another_certificate_is_told(authority: Authority, pair: KeyPair, backend: str) -> None:
    other = authority.key_pair("client")
    found = checked(backend, client_cert_file=str(pair.certificate), client_key_file=str(other.key))
    assert the_error(found, backend) == "client_key_file: is not the key of client_cert_file"


@BOTH_BACKENDS
def test_a_key_without_a_certificate_and_a_certificate_without_a_key_are_told(pair: KeyPair, backend: str) -> None:
    lonely_key = the_error(checked(backend, client_key_file=str(pair.key)), backend)
    assert lonely_key == "client_key_file: needs client_cert_file"
    lonely_certificate = the_error(checked(backend, client_cert_file=str(pair.certificate)), backend)
    assert lonely_certificate == "client_key_file: is missing, and client_cert_file holds no private key"


# --- verify_tls: false --------------------------------------------------------------------------


@BOTH_BACKENDS
@pytest.mark.parametrize("value", [False, "false", "no", 0])
def test_without_the_check_the_backend_is_on_and_a_warning_says_what_that_means(backend: str, value: Any) -> None:
    found = checked(backend, verify_tls=value)
    (problem,) = found.problems
    assert not problem.is_error
    assert str(problem).startswith(f"{SECTION_PATH}.{backend}.verify_tls: ")
    assert "anyone on the way can read the token" in str(problem)
    assert getattr(found.config, backend).verify_tls is False


@BOTH_BACKENDS
def test_no_check_and_an_authority_to_check_against_are_a_contradiction(authority: Authority, backend: str) -> None:
    found = checked(backend, verify_tls=False, ca_file=str(authority.ca_file))
    text = the_error(found, backend)
    assert text == "verify_tls: must not be false beside ca_file: leave one of the two out"


@BOTH_BACKENDS
def test_a_bad_authority_is_not_made_good_by_switching_the_check_off(backend: str) -> None:
    text = the_error(checked(backend, verify_tls=False, ca_file="/nowhere/ca.pem"), backend)
    assert text.startswith("ca_file: can't be read")


def test_a_backend_that_is_switched_off_is_not_warned_of() -> None:
    section = {"enabled": True, "influxdb": {**NEEDED["influxdb"], "enabled": False, "verify_tls": False}}
    assert check_section(section, {}).problems == ()


# --- hosts and the command line -----------------------------------------------------------------


def test_a_host_with_a_bad_authority_delivers_to_the_other_backend_and_trusts_nobody_in_its_place(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    context = authority.server_context()
    with TlsFaultServer(context, then=respond(200)) as gateway, TlsFaultServer(context) as influxdb:
        section = {
            "enabled": True,
            "influxdb": {"url": influxdb.url, "token": SECRET, "ca_file": "/nowhere/ca.pem"},
            "prometheus": {"gateway_url": gateway.url, "ca_file": str(authority.ca_file)},
        }
        with MonitorManager({"monitoring": section}) as monitor, monitor.session("1.2.840.1"):
            pass
        assert gateway.requests != []
        assert influxdb.connections_accepted == 0
    assert f"{SECTION_PATH}.influxdb.ca_file: can't be read" in caplog.text
    assert SECRET not in caplog.text


def test_a_host_without_the_check_is_warned_at_each_start(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with TlsFaultServer(authority.server_context()) as server:
        section = {"enabled": True, "influxdb": {"url": server.url, "token": SECRET, "verify_tls": False}}
        for count in (1, 2):
            with MonitorManager({"monitoring": section}) as monitor, monitor.session("1.2.840.1"):
                pass
            warnings = [record for record in caplog.records if "anyone on the way" in record.getMessage()]
            assert [record.levelno for record in warnings] == [logging.WARNING] * count
        assert server.requests != []


def check(tmp_path: Path, **monitoring: Any) -> tuple[int, str]:
    """`leglength-monitor check`: its exit code and what it prints."""
    task = tmp_path / "task.json"
    task.write_text(json.dumps({"process": {"settings": {"monitoring": {"enabled": True, **monitoring}}}}))
    done = CliRunner().invoke(app, ["check", "--config", str(task)])
    return done.exit_code, done.stdout


@BOTH_BACKENDS
def test_check_tells_a_bad_certificate_in_words(authority: Authority, tmp_path: Path, backend: str) -> None:
    address = {"influxdb": "url", "prometheus": "gateway_url"}[backend]
    expired = authority.server_context(authority.key_pair(valid_for=(-2, -1)))
    for context, words in (
        (authority.server_context(), None),
        (expired, "tls: the server's certificate has expired"),
        (authority.server_context(demands=authority), "tls: the server wants a client certificate"),
        (authority.server_context(authority.key_pair("elsewhere")), "tls: the server's certificate is for another"),
    ):
        with TlsFaultServer(context, then=respond(200, PUSHGATEWAYS_STATUS)) as server:
            section = {**NEEDED[backend], address: server.url, "ca_file": str(authority.ca_file)}
            code, text = check(tmp_path, **{backend: section})
            assert code == (DONE if words is None else NOT_ALL_DONE)
            expected = f"ok      {backend}: " if words is None else f"FAILED  {backend}: {server.url}: {words}"
            assert expected in text
            assert SECRET not in text


def test_check_tells_a_client_certificate_that_a_server_wants_by_a_400(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    fault_server.then = respond(400, b"<center>No required SSL certificate was sent</center>")
    code, text = check(tmp_path, influxdb={"url": fault_server.url})
    assert code == NOT_ALL_DONE
    assert "tls: the server wants a client certificate" in text


def test_check_warns_of_a_check_that_is_switched_off_and_shows_the_client_certificate(
    authority: Authority, pair: KeyPair, tmp_path: Path
) -> None:
    files = {"client_cert_file": str(pair.certificate), "client_key_file": str(pair.key)}
    with TlsFaultServer(authority.server_context(demands=authority)) as server:
        code, text = check(tmp_path, influxdb={"url": server.url, "verify_tls": False, **files})
        assert code == DONE
        assert text.startswith(f"warning: {SECTION_PATH}.influxdb.verify_tls: the backend's certificate is not checked")
        code, text = check(tmp_path, influxdb={"url": server.url, "ca_file": "/nowhere", **files})
        assert code == WRONG_INPUT
        assert text.startswith(f"error: {SECTION_PATH}.influxdb.ca_file: can't be read: No such file or directory")
        assert len(server.requests) == 1
