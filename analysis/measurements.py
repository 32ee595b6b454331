"""Bone and leg lengths from fused landmarks, and what is remarkable about them.

A length is the vertical distance between two landmarks, in mm, by the row spacing; the knee is
the midpoint of its two points. What can't be measured is missing and comes as an issue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from analysis.landmarks import LABEL, SIDE_WORDS, Joint, Landmark, Side, Spacing
from analysis.settings import AnalysisSettings

MEASUREMENTS: Final = ("PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL", "PLL_L_FEM", "PLL_L_TIB", "PLL_L_LGL")
NOTICE: Final = "Not for clinical use"
"""Stands in every output, and in the README."""
DEFINITION: Final = (
    "Lengths are vertical distances in the image, in mm by the spacing of its rows, and not distances along the bone. "
    "Femur: centre of the femoral head to the knee. Tibia: knee to the middle of the ankle's joint surface. "
    "Leg: femur plus tibia. Knee: middle between the lowest points of both condyles."
)
BONE_WORDS: Final = {"FEM": "femur", "TIB": "tibia", "LGL": "leg"}
_THRESHOLDS: Final = {"FEM": "femur_threshold", "TIB": "tibia_threshold", "LGL": "total_threshold"}
_MM_PER_CM: Final = 10.0

Measurements = dict[str, dict[str, float]]
Issue = dict[str, Any]


def describe(measurement: str) -> str:
    """Words for a measurement's name, such as `right femur`."""
    _, side, bone = measurement.split("_")
    return f"{SIDE_WORDS[Side(side)]} {BONE_WORDS[bone]}"


def measure(landmarks: Mapping[int, Landmark], spacing: Spacing) -> Measurements:
    """`{name: {"millimeters", "centimeters"}}` of what the landmarks allow."""
    lengths: dict[str, float] = {}
    for side in Side:
        lengths.update(_side_lengths(landmarks, spacing, side))
    return {
        name: {"millimeters": lengths[name], "centimeters": lengths[name] / _MM_PER_CM}
        for name in MEASUREMENTS
        if name in lengths
    }


def knee_centre(landmarks: Mapping[int, Landmark], side: Side) -> tuple[float, float] | None:
    """The midpoint (x, y in pixels) of a knee's two points; None unless both were found."""
    lateral = landmarks.get(LABEL[side, Joint.LATERAL_CONDYLE])
    medial = landmarks.get(LABEL[side, Joint.MEDIAL_CONDYLE])
    if lateral is None or medial is None:
        return None
    return (lateral.x + medial.x) / 2, (lateral.y + medial.y) / 2


def _side_lengths(landmarks: Mapping[int, Landmark], spacing: Spacing, side: Side) -> dict[str, float]:
    knee = knee_centre(landmarks, side)
    if knee is None:
        return {}
    ends = {"FEM": LABEL[side, Joint.HEAD], "TIB": LABEL[side, Joint.ANKLE]}
    lengths = {
        f"PLL_{side}_{bone}": abs(landmarks[label].y - knee[1]) * spacing.row_mm
        for bone, label in ends.items()
        if label in landmarks
    }
    if len(lengths) == len(ends):  # a leg with one bone missing has no length, rather than a short one
        lengths[f"PLL_{side}_LGL"] = sum(lengths.values())
    return lengths


def find_issues(measurements: Measurements, settings: AnalysisSettings) -> list[Issue]:
    """Missing measurements and left-right differences beyond the thresholds, as issues."""
    issues: list[Issue] = [
        {"code": "measurement_missing", "severity": "error", "measurement": name}
        for name in MEASUREMENTS
        if name not in measurements
    ]
    for bone, setting in _THRESHOLDS.items():
        difference_mm = left_right_difference_mm(measurements, bone)
        threshold_mm = getattr(settings, setting) * _MM_PER_CM
        if difference_mm is not None and abs(difference_mm) > threshold_mm:
            issues.append(
                {
                    "code": f"{BONE_WORDS[bone]}_length_difference",
                    "severity": "warning",
                    "measurement": f"PLL_{Side.LEFT if difference_mm > 0 else Side.RIGHT}_{bone}",  # the shorter one
                    "difference_mm": abs(difference_mm),
                    "threshold_mm": threshold_mm,
                }
            )
    return issues


def left_right_difference_mm(measurements: Measurements, bone: str) -> float | None:
    """Right minus left in mm; None unless both sides were measured. `bone` is FEM, TIB or LGL."""
    right, left = measurements.get(f"PLL_R_{bone}"), measurements.get(f"PLL_L_{bone}")
    if right is None or left is None:
        return None
    return right["millimeters"] - left["millimeters"]
