"""The eight landmarks, which side and joint each belongs to, and where they are in an image.

Odd labels are the patient's right. On a radiograph the patient's right is on the image's left.
The two points of a knee are the lowest points of its femoral condyles: 3 and 4 the lateral
ones, 5 and 6 the medial ones. Only their midpoint enters a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """The patient's side."""

    RIGHT = "R"
    LEFT = "L"


class Joint(StrEnum):
    """The anatomical place of a landmark."""

    HEAD = "femoral head"
    LATERAL_CONDYLE = "lateral condyle"
    MEDIAL_CONDYLE = "medial condyle"
    ANKLE = "ankle"


_JOINTS: Final = (Joint.HEAD, Joint.LATERAL_CONDYLE, Joint.MEDIAL_CONDYLE, Joint.ANKLE)
LABEL: Final[dict[tuple[Side, Joint], int]] = {
    (side, joint): 2 * order + first
    for order, joint in enumerate(_JOINTS)
    for first, side in ((1, Side.RIGHT), (2, Side.LEFT))
}
PLACE: Final = {label: place for place, label in LABEL.items()}
LABELS: Final = tuple(sorted(PLACE))
SIDE_WORDS: Final = {Side.RIGHT: "right", Side.LEFT: "left"}


def name_of(label: int) -> str:
    """Words for a label, such as `right femoral head`; KeyError unless it is 1 to 8."""
    side, joint = PLACE[label]
    return f"{SIDE_WORDS[side]} {joint}"


@dataclass(frozen=True)
class Spacing:
    """Millimetres from one pixel's centre to the next, down a column and along a row."""

    row_mm: float
    column_mm: float


@dataclass(frozen=True)
class Landmark:
    """Where the ensemble puts one landmark: pixels from the centre of the first pixel."""

    label: int
    x: float
    y: float
    confidence: float
    models: int
    """How many models saw it."""
