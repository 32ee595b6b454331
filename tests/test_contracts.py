"""The import contracts of pyproject.toml hold the house together: each is seen to break."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clocks import HANGS_SECONDS

REPOSITORY = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Both packages and their contracts, free to be broken."""
    for package in ("monitoring", "analysis"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint(repository: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-cache"]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False)


def test_the_contracts_are_kept(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "imported", "contract"),
    [
        ("monitoring/store/added.py", "monitoring.runtime", "Imports in monitoring point down"),
        ("monitoring/transport/added.py", "monitoring.settings", "Imports in monitoring point down"),
        ("monitoring/delivery/added.py", "monitoring.readings", "Imports in monitoring point down"),
        ("monitoring/exceptions.py", "monitoring.transport", "Imports in monitoring point down"),
        ("monitoring/analytics/added.py", "monitoring.runtime", "Imports in monitoring point down"),
        (
            "monitoring/analytics/added.py",
            "monitoring.prometheus_client",
            "Analytics reads the store, and sends nothing",
        ),
        ("monitoring/analytics/added.py", "urllib3", "Analytics reads the store, and sends nothing"),
        ("monitoring/dashboards/__init__.py", "monitoring.store", "Dashboards read the catalogue only"),
        ("monitoring/dashboards/__init__.py", "monitoring.metrics_collector", "Dashboards read the catalogue only"),
        ("monitoring/domain/added.py", "sqlite3", "Pure rooms do no I/O"),
        ("monitoring/metrics/added.py", "pathlib", "Pure rooms do no I/O"),
        ("monitoring/records/added.py", "os", "Pure rooms do no I/O"),
        ("monitoring/metrics_collector.py", "socket", "Pure rooms do no I/O"),
        ("analysis/landmarks.py", "analysis.pipeline", "Imports in analysis point down"),
        ("analysis/detectors/added.py", "analysis.ensemble", "Imports in analysis point down"),
        ("analysis/added_to_pipeline.py", "monitoring", "The application and the module know nothing of each other"),
        ("monitoring/store/added.py", "analysis", "The application and the module know nothing of each other"),
        ("monitoring/analytics/added.py", "simulation.history", "What is simulated is known to neither"),
        ("analysis/phantom/added.py", "simulation.history", "What is simulated is known to neither"),
    ],
)
def test_an_import_that_the_house_forbids_breaks_its_contract(
    copy: Path, file: str, imported: str, contract: str
) -> None:
    path = copy / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as appended:
        appended.write(f"\n\nimport {imported}  # noqa\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout


@pytest.mark.parametrize("package", ["monitoring", "analysis"])
def test_a_new_room_must_be_given_its_floor(copy: Path, package: str) -> None:
    (copy / package / "attic.py").write_text('"""Nobody has said where this lies."""\n')
    done = lint(copy)
    assert done.returncode == 1
    assert f"Imports in {package} point down BROKEN" in done.stdout
    assert f"{package}.attic" in done.stdout


def test_the_catalogue_is_all_that_dashboards_need(copy: Path) -> None:
    (copy / "monitoring" / "dashboards").mkdir(exist_ok=True)
    (copy / "monitoring" / "dashboards" / "__init__.py").write_text("from monitoring.metrics import catalogue\n")
    assert lint(copy).returncode == 0
