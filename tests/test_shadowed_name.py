"""A host's own folder or file `monitoring` hides the package: what is ours says so."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

IMPORT = "from leglength_monitoring import MonitorManager; print(MonitorManager.__module__)"
COMMAND = "import sys; from leglength_monitoring import main; sys.argv = ['leglength-monitor', 'metrics']; main()"


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a script of the host's: its own folder comes first on the path."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["monitoring/__init__.py", "monitoring.py"])
def test_what_hides_the_package_is_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    plain = run("from monitoring import MonitorManager", tmp_path)
    assert "cannot import name 'MonitorManager' from 'monitoring'" in plain.stderr
    done = run(IMPORT, tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: the name monitoring is taken by ")
    assert str(tmp_path / "monitoring") in last
    assert "rename what takes it" in last
    command = run(COMMAND, tmp_path)
    assert (command.returncode, command.stdout) == (2, "")
    assert command.stderr.startswith("error: the name monitoring is taken by ")
    assert len(command.stderr.splitlines()) == 1


def test_where_nothing_hides_it_both_names_are_the_package(tmp_path: Path) -> None:
    (tmp_path / "monitoring").mkdir()  # without an __init__.py it hides nothing
    done = run(IMPORT, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "monitoring.monitor_manager\n", "")
    command = run(COMMAND, tmp_path)
    assert command.returncode == 0
    assert "leglength_sessions_total" in command.stdout


def test_the_command_and_the_wheel_hold_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"leglength-monitor": "leglength_monitoring:main"}
    assert "leglength_monitoring.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
