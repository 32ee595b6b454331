from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from analysis.errors import FAILURE_REASONS, SKIP_REASONS
from analysis.landmarks import LABELS, Side, Spacing
from analysis.phantom import make_phantom, write_phantoms
from analysis.phantom.growth import draw_lengths_mm
from analysis.pipeline import find_series, load_detectors, process_series
from analysis.settings import AnalysisSettings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    write_phantoms(folder, 1, seed=3, bad=True)
    return folder


def truth_of(folder: Path) -> dict[str, dict]:
    series = json.loads(folder.with_name(f"{folder.name}.truth.json").read_text())["series"]
    return {entry["series"]: entry for entry in series}


def test_every_kind_of_series_ends_as_the_truth_says(made: Path, tmp_path: Path):
    settings = AnalysisSettings()
    detectors, truth = load_detectors(settings), truth_of(made)
    ended = {}
    for series in find_series(made):
        result = process_series(series, detectors, settings, tmp_path)
        ended[series.series_id] = result.reason or result.status
        for name, length in result.measurements.items():
            assert length["millimeters"] == pytest.approx(truth[series.series_id]["lengths_mm"][name], abs=6)
    assert ended == {series: entry["expected"] for series, entry in truth.items()}
    assert {entry["kind"] for entry in truth.values()} == {
        "good", "no spacing", "zero spacing", "truncated", "not a DICOM", "chest", "one leg", "scout and full",
    }  # fmt: skip
    assert set(ended.values()) - {"completed"} <= set(SKIP_REASONS) | set(FAILURE_REASONS)


def test_truth_lies_beside_the_folder_and_not_in_it(made: Path):
    assert {path.suffix for path in made.iterdir()} == {".dcm"}
    good = next(entry for entry in truth_of(made).values() if entry["kind"] == "good")
    assert set(good["landmarks_pixels"]) == {str(label) for label in LABELS}
    assert set(good["lengths_mm"]) == {f"PLL_{side}_{bone}" for side in "RL" for bone in ("FEM", "TIB", "LGL")}


def test_a_phantom_is_a_dx_image_of_an_invented_child(made: Path):
    good = next(series for series, entry in truth_of(made).items() if entry["kind"] == "good")
    dataset = pydicom.dcmread(next(made.glob(f"{good}#*.dcm")))
    assert dataset.SOPClassUID.name == "Digital X-Ray Image Storage - For Presentation"
    assert (dataset.BitsAllocated, dataset.PixelRepresentation, dataset.pixel_array.dtype) == (16, 0, np.uint16)
    assert 2900 < dataset.Rows < 4600
    assert dataset.PatientID.startswith("INVENTED")
    assert "invented" in dataset.InstitutionName
    assert 2 <= int(dataset.PatientAge[:3]) <= 17


def test_equal_seeds_give_equal_files(tmp_path: Path):
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, 1, seed=9)
    (first,), (second,) = ((list((tmp_path / name).iterdir())) for name in ("a", "b"))
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_true_lengths_are_the_vertical_distances_of_the_true_landmarks():
    spacing = Spacing(0.5, 0.7)
    phantom = make_phantom(np.random.default_rng(4), spacing)
    y = {label: place[1] * spacing.row_mm for label, place in phantom.landmarks.items()}
    assert phantom.lengths_mm["PLL_L_FEM"] == pytest.approx((y[4] + y[6]) / 2 - y[2])
    assert phantom.lengths_mm["PLL_R_TIB"] == pytest.approx(y[7] - (y[3] + y[5]) / 2)
    assert phantom.lengths_mm["PLL_R_LGL"] == pytest.approx(y[7] - y[1])


def test_the_patients_right_is_on_the_images_left():
    phantom = make_phantom(np.random.default_rng(4), Spacing(0.5, 0.5))
    x = {label: place[0] for label, place in phantom.landmarks.items()}
    assert x[3] < x[5] < x[6] < x[4]


def test_a_missing_leg_has_no_truth():
    phantom = make_phantom(np.random.default_rng(4), Spacing(1, 1), missing=Side.RIGHT)
    assert set(phantom.landmarks) == {2, 4, 6, 8}
    assert set(phantom.lengths_mm) == {"PLL_L_FEM", "PLL_L_TIB", "PLL_L_LGL"}


def test_drawn_bones_have_the_tables_mean_and_spread():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_lengths_mm("M", 10, rng) for _ in range(3000)])
    assert drawn.mean(axis=0) == pytest.approx([362.9, 285.3], abs=1.5)
    assert drawn[:, 0].std() == pytest.approx(20.57, rel=0.15)
    ratio = drawn[:, 0] / drawn[:, 1]
    assert ratio.min() > 1.15
    assert ratio.max() < 1.40


def test_the_command_writes_series_and_says_what_to_expect(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "analysis.phantom",
        str(tmp_path / "in"),
        "--count",
        "1",
        "--truth",
        str(tmp_path / "t.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (path,) = (tmp_path / "in").iterdir()
    assert done.stdout == f"{path.stem.split('#')[0]}  good: completed\n"
    assert json.loads((tmp_path / "t.json").read_text())["series"][0]["kind"] == "good"


def test_the_command_refuses_nonsense_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for arguments in (["--count", "-1", str(tmp_path / "x")], [str(tmp_path / "file")]):
        done = subprocess.run(
            [sys.executable, "-m", "analysis.phantom", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
