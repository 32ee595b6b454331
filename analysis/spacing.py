"""How large a pixel is by the header, and in which plane: the patient's, or the detector's.

Bones are nearer to the tube than the detector is, so their shadows are larger than they are. A spacing at the detector
makes every length too long by a factor that only a calibration knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset

from analysis.dicom_file import number, value_of, whole_number
from analysis.errors import SeriesSkipped
from analysis.landmarks import Spacing

# A detector element is 0.05 to 0.4 mm wide, and no film is longer than a tall adult.
_SPACING_RANGE_MM: Final = (0.01, 5.0)
_LARGEST_FILM_MM: Final = 2500.0
_EQUAL: Final = 1e-3
"""Relative: 1 mm on a metre, less than a magnification and more than a rounding."""
_CALIBRATIONS: Final = ("GEOMETRY", "FIDUCIAL")
_MAGNIFICATIONS: Final = (1.0, 3.0)


@dataclass(frozen=True)
class StatedSpacing:
    """The spacing that lengths are measured by, and all that the header says about it (DICOM PS3.3, 10.7.1)."""

    spacing: Spacing
    """Of the pixels as they are stored."""
    attribute: str
    """PixelSpacing or ImagerPixelSpacing: where it comes from."""
    calibration: str = ""
    """PixelSpacingCalibrationType, GEOMETRY or FIDUCIAL; empty where the header states none."""
    at_detector: Spacing | None = None
    """ImagerPixelSpacing, where it is stated."""
    magnification: float | None = None
    """EstimatedRadiographicMagnificationFactor, where it is stated; it is told, and never applied."""

    @property
    def finding(self) -> tuple[str, str] | None:
        """What a reader of the lengths has to know, as an issue's code and severity."""
        differs = self.at_detector is not None and not _are_equal(self.spacing, self.at_detector)
        if self.calibration:
            return ("spacing_calibrated", "info") if differs else None
        if differs:
            return "spacing_unexplained", "warning"
        return "spacing_at_detector" if self.at_detector else "spacing_plane_unstated", "warning"

    @property
    def words(self) -> str:
        """The spacing, where it comes from and what it means for the lengths, in sentences."""
        told = f"Spacing {_words(self.spacing)} from {self.attribute}"
        told += f", calibrated ({self.calibration})." if self.calibration else "."
        if self.at_detector is not None and self.attribute == "PixelSpacing":
            told += f" At the detector: {_words(self.at_detector)}."
        code, _ = self.finding or ("", "")
        told += _MEANINGS.get(code, "")
        if self.magnification is not None:
            told += f" Stated magnification {self.magnification:g}, not applied."
        return told

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        at_detector = self.at_detector and {"row": self.at_detector.row_mm, "column": self.at_detector.column_mm}
        return {
            "source": self.attribute,
            "calibration": self.calibration or None,
            "at_detector_mm": at_detector,
            "stated_magnification": self.magnification,
            "words": self.words,
        }


_MEANINGS: Final = {
    "spacing_at_detector": " It is the detector's: lengths are magnified, by a factor that isn't corrected.",
    "spacing_unexplained": " It differs from the detector's, and how it was calibrated isn't stated.",
    "spacing_plane_unstated": " Whether it is calibrated isn't stated: lengths may be magnified.",
}


def read_spacing(dataset: Dataset) -> StatedSpacing:
    """PixelSpacing, or ImagerPixelSpacing where that is absent; raises `SeriesSkipped`.

    Both hold two values: first the distance between rows, then between columns (DICOM PS3.3, 10.7.1.3).
    """
    pixel, imager = value_of(dataset, "PixelSpacing"), value_of(dataset, "ImagerPixelSpacing")
    if pixel is None and imager is None:
        raise SeriesSkipped("no_pixel_spacing")
    spacing = _checked(imager if pixel is None else pixel, dataset)
    if spacing is None:
        raise SeriesSkipped("invalid_pixel_spacing")
    calibration = str(value_of(dataset, "PixelSpacingCalibrationType"))
    magnification = number(dataset, "EstimatedRadiographicMagnificationFactor", 0.0)
    return StatedSpacing(
        spacing,
        "ImagerPixelSpacing" if pixel is None else "PixelSpacing",
        calibration if pixel is not None and calibration in _CALIBRATIONS else "",
        None if imager is None else _checked(imager, dataset),
        magnification if _MAGNIFICATIONS[0] <= magnification <= _MAGNIFICATIONS[1] else None,
    )


def _checked(value: Any, dataset: Dataset) -> Spacing | None:
    try:
        row_mm, column_mm = (float(part) for part in value)
    except (TypeError, ValueError):
        return None
    low, high = _SPACING_RANGE_MM
    if not (low <= row_mm <= high and low <= column_mm <= high):
        return None
    height_mm, width_mm = whole_number(dataset, "Rows", 0) * row_mm, whole_number(dataset, "Columns", 0) * column_mm
    if max(height_mm, width_mm) > _LARGEST_FILM_MM:
        return None
    return Spacing(row_mm, column_mm)


def _are_equal(one: Spacing, other: Spacing) -> bool:
    pairs = ((one.row_mm, other.row_mm), (one.column_mm, other.column_mm))
    return all(math.isclose(*pair, rel_tol=_EQUAL) for pair in pairs)


def _words(spacing: Spacing) -> str:
    return f"{spacing.row_mm:.4g} x {spacing.column_mm:.4g} mm"
