"""Real radiographs that are no long-leg films: left alone for a stated reason, never measured, never a traceback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.application.app import App, Run, assert_clean

# The package pydicom-data installs itself as `data_store`.
EXPECTED = {
    "RG3_UNCR.dcm": ("data_store", {"no_pixel_spacing"}),  # an AP tibia with ankle, no spacing
    "RG1_UNCR.dcm": ("data_store", {"invalid_pixel_spacing"}),  # a chest, spacing 0
    "cat.dcm": ("deid_data", {"landmarks_missing", "low_confidence"}),  # a cat, spacing 0.14
}


def packaged(package: str, pattern: str) -> list[Path]:
    """Files that an installed package carries."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return sorted(path for root in spec.submodule_search_locations for path in Path(root).rglob(pattern))


def assert_all_left_alone(run: Run) -> None:
    assert_clean(run)
    assert {series["status"] for series in run.series} <= {"skipped", "failed"}
    assert all(series["reason"] not in (None, "error") for series in run.series)
    assert run.code == (1 if run.result["counts"]["failed"] else 0)
    assert [path.name for path in run.out.iterdir()] == ["result.json"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_radiograph_of_something_else_is_skipped_for_the_right_reason(name: str, app: App) -> None:
    package, reasons = EXPECTED[name]
    app.add(packaged(package, name)[0])
    run = app.run()
    assert_all_left_alone(run)
    assert run.code == 0
    assert run.series[0]["reason"] in reasons


def test_the_cr_files_of_pydicom_are_left_alone_one_by_one(app: App) -> None:
    app.settings(monitoring={"enabled": True})
    names = [app.add(path, f"{path.name}.dcm") for path in packaged("pydicom", "CR[0-9]/*")]
    run = app.run()
    assert_all_left_alone(run)
    assert len(run.series) == len(names) > 0
    ended = [(series["status"], series["reason"]) for series in run.series]
    assert [(session["status"], session["reason"]) for session in run.sessions] == ended
