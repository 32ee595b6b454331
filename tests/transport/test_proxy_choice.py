"""Which proxy an address goes through: as other programs of the host understand the environment."""

from __future__ import annotations

import contextlib
from urllib.request import proxy_bypass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.transport.proxies import Proxy, UnusableProxyError, proxy_for


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://influxdb:8086", None),
        ({"http_proxy": "http://p:1"}, "http://influxdb:8086", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://influxdb:8086", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://influxdb:8086", None),
        ({"https_proxy": "http://p:1"}, "https://influxdb:8086", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "HTTPS://influxdb:8086", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "https://influxdb:8086", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "http://influxdb:8086", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTP_PROXY": "http://q:2"}, "http://influxdb:8086", "http://q:2"),
        ({"HTTP_PROXY": "http://p:1", "http_proxy": "http://q:2"}, "http://influxdb:8086", "http://q:2"),
        ({"HTTP_PROXY": "http://p:1", "http_proxy": ""}, "http://influxdb:8086", None),
        ({"http_proxy": "p:3128"}, "http://influxdb:8086", "http://p:3128"),
        ({"http_proxy": "http://p:3128/"}, "http://influxdb:8086", "http://p:3128"),
        ({"http_proxy": " http://p:3128 "}, "http://influxdb:8086", "http://p:3128"),
        ({"http_proxy": "https://p"}, "http://influxdb:8086", "https://p"),
        ({"http_proxy": "http://[::1]:3128"}, "http://influxdb:8086", "http://[::1]:3128"),
        ({"ftp_proxy": "http://p:1"}, "http://influxdb:8086", None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(f"{url}/write") == (None if proxy is None else Proxy(proxy))


@pytest.mark.parametrize("host", ["localhost:8086", "127.0.0.1:8086", "[::1]:8086"])
def test_the_machine_itself_is_no_exception_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    assert proxy_for(f"http://{host}") == Proxy("http://p:1")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1,::1")
    assert proxy_for(f"http://{host}") is None


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("*", "influxdb:8086", True),
        ("influxdb", "influxdb:8086", True),
        ("INFLUXDB", "InfluxDB:8086", True),
        ("other, influxdb", "influxdb:8086", True),
        ("influxdb:8086", "influxdb:8086", True),
        ("influxdb:9999", "influxdb:8086", False),
        ("example.org", "influxdb.example.org", True),
        (".example.org", "influxdb.example.org:8086", True),
        ("example.org", "badexample.org", False),
        ("::1", "[::1]:8086", True),
        ("[::1]", "[::1]:8086", True),
        ("10.0.0.0/8", "10.1.2.3:8086", True),
        ("10.0.0.0/8", "11.1.2.3:8086", False),
        ("10.1.2.3/8", "10.200.0.1", True),
        ("fd00::/8", "[fd12::5]:8086", True),
        ("fd00::/8", "10.1.2.3", False),
        ("10.0.0.0/8", "influxdb", False),
        ("10.0.0.0/99,,nonsense/x", "10.1.2.3", False),
        ("", "influxdb", False),
    ],
)
def test_some_hosts_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str, host: str, is_exempt: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv(name, no_proxy)
    assert (proxy_for(f"http://{host}/write") is None) is is_exempt


HOSTS = st.sampled_from(["localhost", "influxdb", "a.example.org", "127.0.0.1", "10.1.2.3", "[::1]"])
NAMES = HOSTS | st.sampled_from(["*", ".org", "example.org", "127.0.0.1:80", "10.0.0.0/8", " ", "::1", "[::1]:80"])


@given(HOSTS, st.lists(NAMES, max_size=3).map(",".join), st.sampled_from(["", ":80", ":8086"]))
def test_whoever_pythons_urllib_exempts_is_exempt(host: str, no_proxy: str, port: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("http_proxy", "http://p:1")
        environment.setenv("no_proxy", no_proxy)
        if proxy_bypass(f"{host}{port}"):
            assert proxy_for(f"http://{host}{port}/write") is None


@given(st.text().filter(lambda text: "\0" not in text and text.isprintable()) | st.from_regex(r"[\w:/@.%\[\]#? -]*"))
def test_no_address_in_the_environment_raises_anything_else(address: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("http_proxy", address.replace("\0", "") or ":")
        with contextlib.suppress(UnusableProxyError):
            found = proxy_for("http://influxdb:8086")
            assert found is not None
            assert "@" not in found.url


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [
        ("user:password", "user:password"),
        ("us%40er:p%3A%2F%23%25", "us@er:p:/#%"),
        ("us%C3%A9r:p%C3%A4ss", "usér:päss"),
        ("user", "user:"),
        ("user:", "user:"),
        (":password", ":password"),
    ],
)
def test_credentials_in_a_proxys_address_are_kept_apart_from_it_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, userinfo: str, credentials: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{userinfo}@p:3128")
    proxy = proxy_for("http://influxdb")
    assert proxy is not None
    assert proxy.url == "http://p:3128"
    assert proxy.credentials == tuple(credentials.split(":", 1))
    assert repr(proxy) == repr(Proxy("http://p:3128"))
