"""What the package shows to a host, and what it costs a host to import it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import monitoring
from monitoring import exceptions
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

THIRD_PARTY = (
    "msgspec",
    "numpy",
    "prometheus_client",
    "psutil",
    "pydicom",
    "pynvml",
    "rich",
    "torch",
    "typer",
    "urllib3",
)


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert sorted(monitoring.__all__, key=str) == list(monitoring.__all__)
    assert dir(monitoring) == sorted(monitoring.__all__)
    for name in monitoring.__all__:
        assert getattr(monitoring, name) is not None


def test_the_public_errors_are_the_tree_that_the_docstring_draws() -> None:
    drawn = str(exceptions.__doc__)
    for name, error in inspect.getmembers(exceptions, inspect.isclass):
        assert issubclass(error, exceptions.MonitoringError)
        assert error.__name__ in drawn
        assert error.__doc__, name


def test_the_old_name_of_the_connection_error_is_the_same_error() -> None:
    assert exceptions.ConnectionError is exceptions.BackendConnectionError
    assert not issubclass(exceptions.BackendConnectionError, OSError)


def test_a_name_that_isnt_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        monitoring.no_such_name  # noqa: B018 - asked for on purpose


def _modules_after(code: str, cwd: Path) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "settings",
    [
        "{}",
        "None",
        "{'monitoring': None}",
        "{'monitoring': {}}",
        "{'monitoring': {'enabled': 'false', 'influxdb': {}}}",
    ],
)
def test_switched_off_nothing_but_the_standard_library_is_imported_and_no_file_is_made(
    tmp_path: Path, settings: str
) -> None:
    code = f"""
import threading
from monitoring import MonitorManager
with MonitorManager({settings}) as monitor:
    assert not monitor.is_enabled()
    with monitor.session("1.2.3") as session, session.stage("load"):
        session.record_metric("x", 1)
assert threading.active_count() == 1
"""
    found = _modules_after(code, tmp_path) - {"monitoring", "__main__"}
    # What the interpreter itself loads at its start (a .pth file's, a coverage hook) is none of our doing.
    assert found - set(sys.stdlib_module_names) - _modules_after("", tmp_path) == set()
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_is_not_importing_its_parts(tmp_path: Path) -> None:
    loaded = _modules_after("import monitoring", tmp_path)
    assert "sqlite3" not in loaded
    assert not set(THIRD_PARTY) & (loaded - _modules_after("", tmp_path))
