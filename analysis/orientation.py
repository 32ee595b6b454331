r"""Which side of an image is the patient's right, and which end the head: by the header, or by a stated assumption.

Everything behind this works on the standard view, in which the patient's right is at the image's left and the head up
(PatientOrientation L\F). An image that the header says is mirrored or turned is brought there first; one of which it
doesn't say enough ends its series, for lengths under the wrong side's name are worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from analysis.dicom_file import number, value_of
from analysis.errors import SeriesSkipped
from analysis.landmarks import Side, Spacing

Pixels = npt.NDArray[np.float32]
STANDARD: Final = ("L", "F")
_SIDEWAYS, _UPRIGHT = frozenset("LR"), frozenset("HF")
_LATERALITIES: Final = frozenset("LRBU")
# PS3.3 names these of ViewPosition; people add words. A decubitus view (LLD, RLD) is a frontal one of a lying patient.
_NOT_FRONTAL: Final = frozenset({"LL", "RL", "LLO", "RLO", "LAT", "LATERAL", "OBL", "OBLIQUE", "ML", "LM", "AXIAL"})
# Row and column direction of ImageOrientationPatient: x grows to the left, y to the back, z to the head.
_AXES: Final = (("L", "R"), ("P", "A"), ("H", "F"))
_ALONG_AN_AXIS: Final = 0.999
"""Cosine: 2.5 degrees, which shortens a length by less than a thousandth."""


@dataclass(frozen=True)
class Orientation:
    """The direction in the patient of an image's rows and of its columns, as PatientOrientation gives them."""

    row: str = STANDARD[0]
    """L, R, H or F: where in the patient the stored image's right edge lies."""
    column: str = STANDARD[1]
    """The same of its lower edge."""
    source: str = ""
    """The attribute that says so; empty where none does and the standard view is assumed."""
    laterality: str = ""
    """R, L or B for both, where the header states which legs the image shows."""

    @property
    def is_assumed(self) -> bool:
        """Whether the header states no orientation."""
        return not self.source

    @property
    def finding(self) -> tuple[str, str] | None:
        """What a reader of the lengths has to know, as an issue's code and severity."""
        if self.is_assumed:
            return "orientation_assumed", "warning"
        return None if (self.row, self.column) == STANDARD else ("orientation_mapped", "info")

    @property
    def words(self) -> str:
        """Where the sides come from, in a sentence."""
        if self.is_assumed:
            return "Orientation not stated: the patient's right is assumed at the image's left (L\\F, AP)."
        stated = f"{self.source} is {self.row}\\{self.column}"
        if (self.row, self.column) == STANDARD:
            return f"{stated}: the patient's right is at the image's left."
        return f"{stated}: mirrored or turned to L\\F before sides were named."

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        stated = {"row": self.row, "column": self.column, "laterality": self.laterality or None}
        return {**stated, "source": self.source or None, "is_assumed": self.is_assumed, "words": self.words}

    def shows(self, sides: Iterable[Side]) -> bool:
        """Whether the image can show all of these sides' legs by the header."""
        return self.laterality in ("", "B") or set(sides) <= {Side(self.laterality)}

    def standard_view(self, pixels: Pixels) -> Pixels:
        """The pixels with the patient's right at the left and the head up."""
        turned = pixels.T if self._is_turned else pixels
        return np.ascontiguousarray(turned[:: -1 if self._is_head_down else 1, :: -1 if self._is_mirrored else 1])

    def standard_spacing(self, spacing: Spacing) -> Spacing:
        """The stored image's spacing as the standard view has it."""
        return Spacing(spacing.column_mm, spacing.row_mm) if self._is_turned else spacing

    def stored_place(self, x: float, y: float, shape: Sequence[int]) -> tuple[float, float]:
        """Where a place in a standard view of this shape (rows, columns) lies in the image as stored."""
        rows, columns = shape
        x, y = columns - 1 - x if self._is_mirrored else x, rows - 1 - y if self._is_head_down else y
        return (y, x) if self._is_turned else (x, y)

    @property
    def _is_turned(self) -> bool:
        return self.row in _UPRIGHT

    @property
    def _is_mirrored(self) -> bool:
        return "R" in (self.row, self.column)

    @property
    def _is_head_down(self) -> bool:
        return "H" in (self.row, self.column)


def read_orientation(dataset: Dataset) -> Orientation:
    """What the header says, or the standard view where it says nothing against that; raises `SeriesSkipped`."""
    view = str(value_of(dataset, "ViewPosition") or "").upper()
    if _NOT_FRONTAL & set(view.replace("_", " ").split()):
        raise SeriesSkipped("not_frontal")
    laterality = _laterality(dataset)
    for keyword, letters_of in (("PatientOrientation", _letters), ("ImageOrientationPatient", _letters_of_cosines)):
        stated = value_of(dataset, keyword)
        if stated is not None:
            row, column = _checked(letters_of(stated))
            return Orientation(row, column, keyword, laterality)
    # What the header says of the detector says how the pixels lie to the patient only together with PatientOrientation.
    is_flipped = str(value_of(dataset, "FieldOfViewHorizontalFlip") or "NO").upper() != "NO"
    is_rotated = number(dataset, "FieldOfViewRotation", 0.0) % 360 != 0
    if is_flipped or is_rotated or view == "PA":
        raise SeriesSkipped("orientation_unclear")
    return Orientation(laterality=laterality)


def _letters(stated: Any) -> list[str]:
    return [] if isinstance(stated, str) else [str(part).strip().upper() for part in stated]


def _letters_of_cosines(stated: Any) -> list[str]:
    """The axes of ImageOrientationPatient's two directions; empty unless both lie along one."""
    try:
        cosines = np.asarray([float(part) for part in stated]).reshape(2, 3)
    except (TypeError, ValueError):
        return []
    axes = np.abs(cosines).argmax(axis=1)
    largest = cosines[(0, 1), axes]
    if not (np.abs(largest) >= _ALONG_AN_AXIS).all():
        return []
    return [_AXES[axis][int(cosine < 0)] for axis, cosine in zip(axes, largest, strict=True)]


def _checked(letters: Sequence[str]) -> tuple[str, str]:
    """One direction to a side and one to head or foot; raises `SeriesSkipped` for any other two."""
    if len(letters) == 2 and {"A", "P"} & set("".join(letters)):
        raise SeriesSkipped("not_frontal")
    if len(letters) != 2 or not ({letters[0]} | {letters[1]}) <= _SIDEWAYS | _UPRIGHT:
        raise SeriesSkipped("orientation_unclear")
    if len(_SIDEWAYS & set(letters)) != 1:
        raise SeriesSkipped("orientation_unclear")
    return letters[0], letters[1]


def _laterality(dataset: Dataset) -> str:
    """ImageLaterality, else the series' Laterality; empty where neither says which legs are shown."""
    for keyword in ("ImageLaterality", "Laterality"):
        stated = str(value_of(dataset, keyword) or "").strip().upper()
        if stated in _LATERALITIES:
            return "" if stated == "U" else stated
    return ""
