"""The eight landmarks, the six measurements, and which landmark enters which measurement.

Odd labels are the patient's right: 1 and 2 femoral heads, 3 and 5 right knee, 4 and 6 left knee, 7 and 8
ankles. A knee's centre is the midpoint of its two points. Positions are pixels, x to the image's right and
y down, and a radiograph shows the patient's right on the image's left.
"""

from __future__ import annotations

from typing import Final

LABELS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
SIDES: Final = ("R", "L")
HEAD: Final = {"R": 1, "L": 2}
KNEE: Final = {"R": (3, 5), "L": (4, 6)}
ANKLE: Final = {"R": 7, "L": 8}

FEMUR: Final = "FEM"
TIBIA: Final = "TIB"
LEG: Final = "LGL"
MEASUREMENTS: Final = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")
SIDE_AND_BONE: Final = {name: (name[4], name[6:]) for name in MEASUREMENTS}


def measurement_name(side: str, bone: str) -> str:
    """``PLL_R_FEM`` and its like; ``side`` R or L, ``bone`` FEM, TIB or LGL."""
    return f"PLL_{side}_{bone}"


# Looked up for every landmark of every session, so made once.
_LANDMARKS: Final = {
    name: (*((HEAD[side],) if bone != TIBIA else ()), *KNEE[side], *((ANKLE[side],) if bone != FEMUR else ()))
    for name, (side, bone) in SIDE_AND_BONE.items()
}


def landmarks_of(measurement: str) -> tuple[int, ...]:
    """The labels on which a measurement rests; none when it is none of the six."""
    return _LANDMARKS.get(measurement, ())
