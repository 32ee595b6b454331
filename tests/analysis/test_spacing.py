"""What a header says of its spacing is told: calibrated, the detector's, or not said."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from analysis.landmarks import Spacing
from analysis.spacing import StatedSpacing, read_spacing


def stated(**values: object) -> StatedSpacing:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = 1000, 500
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return read_spacing(dataset)


CASES = {
    "the detector's alone": ({"ImagerPixelSpacing": [0.2, 0.2]}, ("spacing_at_detector", "warning"), "magnified"),
    "equal to the detector's": (
        {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]},
        ("spacing_at_detector", "warning"),
        "magnified",
    ),
    "unlike the detector's": (
        {"PixelSpacing": [0.18, 0.18], "ImagerPixelSpacing": [0.2, 0.2]},
        ("spacing_unexplained", "warning"),
        "At the detector: 0.2 x 0.2 mm.",
    ),
    "unlike along one axis only": (
        {"PixelSpacing": [0.2, 0.18], "ImagerPixelSpacing": [0.2, 0.2]},
        ("spacing_unexplained", "warning"),
        "isn't stated",
    ),
    "calibrated and unlike the detector's": (
        {"PixelSpacing": [0.18, 0.18], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"},
        ("spacing_calibrated", "info"),
        "calibrated (FIDUCIAL)",
    ),
    "alone": ({"PixelSpacing": [0.2, 0.2]}, ("spacing_plane_unstated", "warning"), "may be magnified"),
    "a calibration of another name": (
        {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GUESSED"},
        ("spacing_plane_unstated", "warning"),
        "may be magnified",
    ),
    "a calibration of a spacing that is absent": (
        {"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"},
        ("spacing_at_detector", "warning"),
        "from ImagerPixelSpacing.",
    ),
    "calibrated, without magnification": (
        {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
        None,
        "calibrated (GEOMETRY)",
    ),
    "an unusable spacing of the detector beside it": (
        {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0, 0]},
        ("spacing_plane_unstated", "warning"),
        "from PixelSpacing.",
    ),
}


@pytest.mark.parametrize(("values", "finding", "words"), CASES.values(), ids=CASES)
def test_the_plane_of_a_spacing_is_a_finding_and_said_in_words(values: dict, finding: tuple | None, words: str):
    found = stated(**values)
    assert found.finding == finding
    assert words in found.words


def test_a_rounding_is_no_difference():
    assert stated(PixelSpacing=[0.143, 0.143], ImagerPixelSpacing=[0.14300001, 0.14299]).finding[0] == (
        "spacing_at_detector"
    )


def test_a_stated_magnification_is_told_and_never_applied():
    found = stated(ImagerPixelSpacing=[0.2, 0.2], EstimatedRadiographicMagnificationFactor=1.15)
    assert (found.spacing, found.magnification) == (Spacing(0.2, 0.2), 1.15)
    assert "Stated magnification 1.15, not applied." in found.words


@pytest.mark.parametrize("factor", [0, -1, 1e9])
def test_a_magnification_that_cannot_be_is_not_told(factor: float):
    found = stated(ImagerPixelSpacing=[0.2, 0.2], EstimatedRadiographicMagnificationFactor=factor)
    assert found.magnification is None
