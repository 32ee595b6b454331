"""What these tests share: a host with folders of its own, and no error of the module that hides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitoring import monitor_manager
from tests.durability.hosts import Host


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MONITORING_", "MERCURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MODULE_PERSISTENCE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MONITORING_DATA_PATH", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def swallowed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """What the module kept from this process; it fails the test, unless that asks for `allow_swallowed`."""
    errors: list[Exception] = []
    monkeypatch.setattr(monitor_manager, "on_swallowed", errors.append)
    yield errors
    if "allow_swallowed" not in request.fixturenames and errors:
        raise AssertionError(f"{len(errors)} error(s) were swallowed, the first is the cause above") from errors[0]


@pytest.fixture
def allow_swallowed(swallowed: list[Exception]) -> list[Exception]:
    return swallowed


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
