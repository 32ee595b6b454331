"""What these tests share: a host with folders of its own, and no error of the module that hides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability.hosts import Host
from tests.support.module_fixtures import (  # noqa: F401 - fixtures
    allow_outside_the_catalogue,
    allow_swallowed,
    outside_the_catalogue,
    own_state,
    swallowed,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose monitoring has no backend until a test names one."""
    return Host(tmp_path)


@pytest.fixture
def new_host(tmp_path: Path) -> Callable[[str], Host]:
    """Several hosts in one test."""

    def make(name: str) -> Host:
        folder = tmp_path / name
        folder.mkdir()
        return Host(folder)

    return make
