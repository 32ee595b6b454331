"""Lengths that no leg can have, and landmarks that none has so: something is wrong, and a person has to look.

The limits are deliberately wide: femur 60-620 mm, tibia 50-510 mm, femur to tibia 1.05-1.50 (in the
tables of Anderson, Messner and Green 1964 that ratio stays within 1.248-1.273 at every age of boys).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from analysis.landmarks import LABEL, Joint, Landmark, Side
from analysis.measurements import Issue, Measurements, knee_centre

LENGTH_LIMITS_MM: Final = {"FEM": (60.0, 620.0), "TIB": (50.0, 510.0)}
FEMUR_TO_TIBIA_LIMITS: Final = (1.05, 1.50)


def find_implausible(measurements: Measurements) -> list[Issue]:
    """An issue of severity `hard` for each length and each ratio outside its limits."""
    # An issue, not an error: the lengths are delivered, marked, for a person to judge.
    return [*_lengths(measurements), *_ratios(measurements)]


def find_disordered(measurements: Measurements, landmarks: Mapping[int, Landmark]) -> list[Issue]:
    """An issue of severity `hard` for each bone that is upside down, and for legs that lie on each other's side."""
    return [*_upside_down(measurements, landmarks), *_crossed(measurements, landmarks)]


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


def _upside_down(measurements: Measurements, landmarks: Mapping[int, Landmark]) -> Iterator[Issue]:
    for side in Side:
        knee = knee_centre(landmarks, side)
        for bone, joint, sign in (("FEM", Joint.HEAD, 1), ("TIB", Joint.ANKLE, -1)):
            name = f"PLL_{side}_{bone}"
            if knee is not None and name in measurements and sign * (knee[1] - landmarks[LABEL[side, joint]].y) <= 0:
                yield {"code": "landmarks_upside_down", "severity": "hard", "measurement": name}


def _crossed(measurements: Measurements, landmarks: Mapping[int, Landmark]) -> Iterator[Issue]:
    if any(
        landmarks[LABEL[Side.RIGHT, joint]].x >= landmarks[LABEL[Side.LEFT, joint]].x
        for joint in Joint
        if {LABEL[side, joint] for side in Side} <= set(landmarks)
    ):
        yield from ({"code": "sides_crossed", "severity": "hard", "measurement": name} for name in measurements)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _issue(code: str, measurement: str, value: float, limits: tuple[float, float]) -> Issue:
    return {"code": code, "severity": "hard", "measurement": measurement, "value": value, "limits": list(limits)}
