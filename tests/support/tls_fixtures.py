"""For tests of TLS and proxies: two authorities, transports with settings, and what an operator is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from monitoring.metrics import catalogue
from monitoring.settings import TlsSettings
from monitoring.transport.http import HttpTransport, Response
from monitoring.transport.reasons import detail
from tests.support.checked_settings import section_of
from tests.support.tls_servers import Authority

Connect = Callable[..., HttpTransport]


def told(response: Response) -> str:
    """A request's failure in an operator's words."""
    assert response.status is None
    assert response.error in catalogue.DELIVERY_FAILURE.values
    return detail(response.error, response.status, response.hint)


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
