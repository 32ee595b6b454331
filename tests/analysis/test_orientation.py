"""Right stays right however the image lies; what isn't said is assumed in words; what can't be told isn't measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from analysis.dicom import read_radiograph
from analysis.errors import SeriesSkipped
from analysis.landmarks import Landmark, Spacing
from analysis.orientation import Orientation, read_orientation
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.files import dataset_of
from analysis.pipeline import SeriesFiles, SeriesResult, load_detectors, process_series
from analysis.settings import AnalysisSettings
from tests.analysis.conftest import set_header

SETTINGS = AnalysisSettings(models=("gradient_edges",))
ALL = [(a, b) for a, b in ("LF", "RF", "LH", "RH", "FL", "FR", "HL", "HR")]
TOLD_APART_MM = 4.0


@pytest.fixture(scope="module")
def uneven() -> Phantom:
    """A small child whose femora differ by more than twice the detectors' error, on pixels that aren't square."""
    found = make_phantom(np.random.default_rng(25), Spacing(0.7, 0.9))
    assert found.lengths_mm["PLL_L_FEM"] - found.lengths_mm["PLL_R_FEM"] > 2 * TOLD_APART_MM
    return found


def stored_as(pixels: np.ndarray, row: str, column: str) -> np.ndarray:
    """A standard view as a device stores it that says row\\column: written down independently of the code."""
    return {
        "LF": pixels,
        "RF": pixels[:, ::-1],
        "LH": pixels[::-1],
        "RH": pixels[::-1, ::-1],
        "FL": pixels.T,
        "FR": pixels[:, ::-1].T,
        "HL": pixels[::-1].T,
        "HR": pixels[::-1, ::-1].T,
    }[row + column]


def saved(folder: Path, phantom: Phantom, row: str = "L", column: str = "F", **values: object) -> Path:
    dataset = dataset_of(phantom, np.random.default_rng(3))
    pixels = np.ascontiguousarray(stored_as(phantom.pixels, row, column))
    dataset.Rows, dataset.Columns, dataset.PixelData = *pixels.shape, pixels.tobytes()
    dataset.PatientOrientation = [row, column]
    if row in "FH":
        dataset.PixelSpacing = dataset.ImagerPixelSpacing = list(dataset.PixelSpacing)[::-1]
    set_header(dataset, values)
    path = folder / "1.2#3.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def measured(path: Path, outbox: Path) -> SeriesResult:
    return process_series(SeriesFiles("1.2", (path,)), load_detectors(SETTINGS), SETTINGS, outbox)


@pytest.mark.parametrize(("row", "column"), ALL)
def test_right_is_right_however_the_image_was_stored(tmp_path, outbox, uneven: Phantom, row: str, column: str):
    result = measured(saved(tmp_path, uneven, row, column), outbox)
    assert result.status == "completed"
    for name, truth in uneven.lengths_mm.items():
        assert result.measurements[name]["millimeters"] == pytest.approx(truth, abs=TOLD_APART_MM), name
    codes = {issue["code"] for issue in result.issues}
    assert ("orientation_mapped" in codes) == ((row, column) != ("L", "F"))


@pytest.mark.parametrize(("row", "column"), ALL)
def test_landmarks_are_told_where_they_lie_in_the_image_as_stored(row: str, column: str):
    image = np.zeros((40, 30), dtype=np.float32)
    image[10, 7] = 1
    stored = stored_as(image, row, column)
    orientation = Orientation(row, column, "PatientOrientation")
    assert np.array_equal(orientation.standard_view(stored), image)
    x, y = orientation.stored_place(7, 10, image.shape)
    assert stored[int(y), int(x)] == 1


def test_a_landmark_keeps_what_else_is_known_of_it(tmp_path, uneven: Phantom):
    radiograph = read_radiograph(saved(tmp_path, uneven, "R", "F"))
    moved = radiograph.stored(Landmark(1, 3.0, 5.0, 0.9, 2))
    assert moved == Landmark(1, radiograph.pixels.shape[1] - 4.0, 5.0, 0.9, 2)


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "empty", [{}, {"PatientOrientation": None}, {"PatientOrientation": ""}, {"ViewPosition": "AP"}]
)
def test_without_an_orientation_the_standard_view_is_assumed_and_said_to_be(empty: dict):
    orientation = read_orientation(header(**empty))
    assert orientation.is_assumed
    assert orientation.finding == ("orientation_assumed", "warning")
    assert "assumed" in orientation.words


def test_an_image_that_states_an_orientation_is_not_assumed_to_have_one():
    orientation = read_orientation(header(PatientOrientation=["L", "F"], ViewPosition="PA"))
    assert not orientation.is_assumed
    assert orientation.finding is None


@pytest.mark.parametrize(
    ("cosines", "letters"),
    [
        ([1, 0, 0, 0, 0, -1], ("L", "F")),
        ([-1, 0, 0, 0, 0, -1], ("R", "F")),
        ([1, 0, 0, 0, 0, 1], ("L", "H")),
        ([0, 0, -1, 1, 0, 0], ("F", "L")),
        ([0.9999, 0.01, 0, 0, 0, -1], ("L", "F")),
    ],
)
def test_the_direction_cosines_of_a_localizer_are_read_where_letters_are_missing(cosines, letters):
    orientation = read_orientation(header(ImageOrientationPatient=cosines))
    assert (orientation.row, orientation.column) == letters
    assert orientation.source == "ImageOrientationPatient"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"PatientOrientation": ["A", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["P", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["LA", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["L", "F"], "ViewPosition": "LL"}, "not_frontal"),
        ({"ViewPosition": "LATERAL"}, "not_frontal"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not_frontal"),
        ({"PatientOrientation": ["L", "R"]}, "orientation_unclear"),
        ({"PatientOrientation": ["F", "H"]}, "orientation_unclear"),
        ({"PatientOrientation": ["LH", "FR"]}, "orientation_unclear"),
        ({"PatientOrientation": ["L"]}, "orientation_unclear"),
        ({"PatientOrientation": "LF"}, "orientation_unclear"),
        ({"PatientOrientation": ["L", ""]}, "orientation_unclear"),
        ({"PatientOrientation": ["X", "F"]}, "orientation_unclear"),
        ({"PatientOrientation": ["L", "F", "H"]}, "orientation_unclear"),
        ({"ImageOrientationPatient": [0.9, 0.43, 0, 0, 0, -1]}, "orientation_unclear"),
        ({"ImageOrientationPatient": [1, 0, 0]}, "orientation_unclear"),
        ({"ViewPosition": "PA"}, "orientation_unclear"),
        ({"FieldOfViewHorizontalFlip": "YES"}, "orientation_unclear"),
        ({"FieldOfViewRotation": 180}, "orientation_unclear"),
    ],
)
def test_what_leaves_the_sides_open_is_not_measured(values: dict, code: str):
    with pytest.raises(SeriesSkipped) as caught:
        read_orientation(header(**values))
    assert caught.value.code == code


def test_a_flip_of_the_detector_says_nothing_beside_a_stated_orientation():
    stated = header(PatientOrientation=["L", "F"], FieldOfViewHorizontalFlip="YES", FieldOfViewRotation=180)
    assert read_orientation(stated).finding is None


@pytest.mark.parametrize("values", [{"ImageLaterality": "L"}, {"Laterality": "L"}])
def test_lengths_of_a_leg_that_the_image_does_not_show_end_the_series(tmp_path, outbox, uneven: Phantom, values: dict):
    result = measured(saved(tmp_path, uneven, **values), outbox)
    assert (result.status, result.reason, result.measurements) == ("skipped", "laterality_conflict", {})
    assert list(outbox.iterdir()) == []


@pytest.mark.parametrize(
    "values", [{"ImageLaterality": "B", "Laterality": "L"}, {"ImageLaterality": "U"}, {"Laterality": ""}]
)
def test_an_image_of_both_legs_or_of_unsaid_ones_is_measured(tmp_path, outbox, uneven: Phantom, values: dict):
    assert measured(saved(tmp_path, uneven, **values), outbox).status == "completed"


def test_a_right_leg_alone_is_measured_where_the_image_shows_the_right(tmp_path, outbox, one_legged: Phantom):
    result = measured(saved(tmp_path, one_legged, ImageLaterality="R"), outbox)
    assert set(result.measurements) == {"PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"}
    left = measured(saved(tmp_path, one_legged, ImageLaterality="L"), outbox)
    assert (left.status, left.reason) == ("skipped", "laterality_conflict")


def test_pydicom_gives_orientations_as_the_tests_do(tmp_path, uneven: Phantom):
    assert list(pydicom.dcmread(saved(tmp_path, uneven, "R", "F")).PatientOrientation) == ["R", "F"]
