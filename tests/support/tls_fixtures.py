"""Fixtures for tests of TLS and proxies: two authorities, and transports with settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monitoring.settings import TlsSettings
from monitoring.transport.http import HttpTransport
from tests.support.checked_settings import section_of
from tests.support.tls_servers import Authority

Connect = Callable[..., HttpTransport]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The site's own authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody here trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes transports with these settings."""
    made: list[HttpTransport] = []

    def make(**settings: Any) -> HttpTransport:
        made.append(HttpTransport(section_of(TlsSettings, **settings).trust()))
        return made[-1]

    yield make
    for transport in made:
        transport.close()
