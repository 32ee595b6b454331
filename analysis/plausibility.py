"""Lengths that no leg can have: a landmark or the spacing is wrong, and a person has to look.

The limits are deliberately wide: femur 60-620 mm, tibia 50-510 mm, femur to tibia 1.05-1.50 (in the
tables of Anderson, Messner and Green 1964 that ratio stays within 1.248-1.273 at every age of boys).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analysis.landmarks import Side
from analysis.measurements import Issue, Measurements

LENGTH_LIMITS_MM: Final = {"FEM": (60.0, 620.0), "TIB": (50.0, 510.0)}
FEMUR_TO_TIBIA_LIMITS: Final = (1.05, 1.50)


def find_implausible(measurements: Measurements) -> list[Issue]:
    """An issue of severity `hard` for each length and each ratio outside its limits."""
    # An issue, not an error: the lengths are delivered, marked, for a person to judge.
    return [*_lengths(measurements), *_ratios(measurements)]


def _lengths(measurements: Measurements) -> Iterator[Issue]:
    for bone, limits in LENGTH_LIMITS_MM.items():
        for side in Side:
            name = f"PLL_{side}_{bone}"
            if name in measurements and not _within(measurements[name]["millimeters"], limits):
                yield _issue("length_implausible", name, measurements[name]["millimeters"], limits)


def _ratios(measurements: Measurements) -> Iterator[Issue]:
    for side in Side:
        femur, tibia = measurements.get(f"PLL_{side}_FEM"), measurements.get(f"PLL_{side}_TIB")
        if femur is None or tibia is None:
            continue
        ratio = femur["millimeters"] / tibia["millimeters"] if tibia["millimeters"] else float("inf")
        if not _within(ratio, FEMUR_TO_TIBIA_LIMITS):
            yield _issue("femur_to_tibia_implausible", f"PLL_{side}_LGL", ratio, FEMUR_TO_TIBIA_LIMITS)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _issue(code: str, measurement: str, value: float, limits: tuple[float, float]) -> Issue:
    return {"code": code, "severity": "hard", "measurement": measurement, "value": value, "limits": list(limits)}
