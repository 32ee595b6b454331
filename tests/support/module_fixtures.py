"""Fixtures for tests of the module: no state of the user's own, no error that hides, and hosts as processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitoring import monitor_manager
from monitoring.metrics import samples
from tests.support.hosts import Host
from tests.support.store_bench import Bench


class OutsideTheCatalogueError(Exception):
    """Something was emitted that the catalogue doesn't know."""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store, the settings and the persistence folder of whoever runs the tests stay out of reach."""
    for name in [name for name in os.environ if name.startswith(("MONITORING_", "MERCURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MODULE_PERSISTENCE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MONITORING_DATA_PATH", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def swallowed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Whatever the manager kept from the host fails the test, unless it asks for `allow_swallowed`."""
    errors: list[Exception] = []
    monkeypatch.setattr(monitor_manager, "on_swallowed", errors.append)
    yield errors
    if "allow_swallowed" not in request.fixturenames and errors:
        raise AssertionError(f"{len(errors)} error(s) were swallowed, the first is the cause above") from errors[0]


@pytest.fixture
def allow_swallowed(swallowed: list[Exception]) -> list[Exception]:
    """The errors that were swallowed so far, none of which fails this test."""
    return swallowed


@pytest.fixture(autouse=True)
def outside_the_catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was emitted outside the catalogue fails the test, unless it asks for `allow_outside_the_catalogue`."""
    found: list[str] = []
    monkeypatch.setattr(samples, "on_violation", found.append)
    yield found
    if "allow_outside_the_catalogue" not in request.fixturenames and found:
        raise OutsideTheCatalogueError("; ".join(sorted(set(found))))


@pytest.fixture
def allow_outside_the_catalogue(outside_the_catalogue: list[str]) -> list[str]:
    """What was emitted outside the catalogue so far, none of which fails this test."""
    return outside_the_catalogue


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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A store driven by hand, with what waits in it for two backends."""
    made = Bench(tmp_path)
    yield made
    made.database.close()
    made.owner.close()
