"""The eight landmarks, the six measurements, and which landmark enters which measurement.

Odd labels are the patient's right: 1 and 2 femoral heads, 3 and 5 right knee, 4 and 6 left knee, 7 and 8
ankles. A knee's centre is the midpoint of its two points. Positions are pixels, x to the image's right and
y down, and a radiograph shows the patient's right on the image's left.
"""

from __future__ import annotations

from math import isfinite
from typing import Final, TypeGuard

LABELS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
SIDES: Final = ("R", "L")
HEAD: Final = {"R": 1, "L": 2}
KNEE: Final = {"R": (3, 5), "L": (4, 6)}
ANKLE: Final = {"R": 7, "L": 8}

FEMUR: Final = "FEM"
TIBIA: Final = "TIB"
LEG: Final = "LGL"
MEASUREMENTS: Final = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")
_PREFIX: Final = "PLL"


def measurement_name(side: str, bone: str) -> str:
    """``PLL_R_FEM`` and its like; ``side`` R or L, ``bone`` FEM, TIB or LGL."""
    return f"{_PREFIX}_{side}_{bone}"


_PARTS: Final = {measurement_name(side, bone): (side, bone) for bone in (FEMUR, TIBIA, LEG) for side in SIDES}


def side_and_bone(measurement: str) -> tuple[str, str] | None:
    """The parts of a measurement's name; None when it is none of the six."""
    return _PARTS.get(measurement)


def landmarks_of(measurement: str) -> tuple[int, ...]:
    """The labels on which a measurement rests; none when it is none of the six."""
    parts = side_and_bone(measurement)
    if parts is None:
        return ()
    side, bone = parts
    head = (HEAD[side],) if bone != TIBIA else ()
    ankle = (ANKLE[side],) if bone != FEMUR else ()
    return head + KNEE[side] + ankle


def side_of(label: int) -> str:
    """R for odd labels, L for even ones."""
    return "R" if label % 2 else "L"


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite int or float (a bool is neither)."""
    if type(value) is float:  # as nearly all are
        return isfinite(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
