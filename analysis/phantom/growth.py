"""How long children's bones are: means and standard deviations by age and sex, with epiphyses.

Radiographic lengths in cm for ages 1 to 18. Boys: Anderson, Messner & Green, J Bone Joint Surg Am
1964;46:1197-1202. Girls: the same series, quoted from memory and unverified.
"""

from __future__ import annotations

from typing import Final

import numpy as np

# fmt: off
_MEANS: Final[dict[tuple[str, str], tuple[float, ...]]] = {
    ("M", "FEM"): (14.48, 18.15, 21.09, 23.65, 25.92, 28.09, 30.25, 32.28, 34.36,
                   36.29, 38.16, 40.12, 42.17, 44.18, 45.69, 46.66, 47.07, 47.23),
    ("M", "TIB"): (11.60, 14.54, 16.79, 18.67, 20.46, 22.12, 23.76, 25.38, 26.99,
                   28.53, 30.10, 31.75, 33.49, 35.18, 36.38, 37.04, 37.22, 37.29),
    ("F", "FEM"): (14.81, 18.23, 21.29, 23.92, 26.32, 28.52, 30.60, 32.72, 34.71,
                   36.72, 38.81, 40.74, 42.31, 43.14, 43.47, 43.58, 43.60, 43.63),
    ("F", "TIB"): (11.57, 14.51, 16.81, 18.86, 20.77, 22.53, 24.22, 25.89, 27.56,
                   29.28, 31.00, 32.61, 33.83, 34.43, 34.59, 34.63, 34.65, 34.65),
}
_DEVIATIONS: Final[dict[tuple[str, str], tuple[float, ...]]] = {
    ("M", "FEM"): (.628, .874, 1.031, 1.197, 1.342, 1.506, 1.682, 1.807, 1.933,
                   2.057, 2.237, 2.447, 2.765, 2.809, 2.512, 2.244, 2.051, 1.958),
    ("M", "TIB"): (.620, .809, .935, 1.091, 1.247, 1.418, 1.632, 1.778, 1.961,
                   2.113, 2.301, 2.536, 2.833, 2.865, 2.616, 2.412, 2.316, 2.254),
    ("F", "FEM"): (.673, .888, 1.100, 1.339, 1.437, 1.616, 1.827, 1.936, 2.117,
                   2.300, 2.468, 2.507, 2.428, 2.269, 2.197, 2.193, 2.192, 2.195),
    ("F", "TIB"): (.646, .739, .893, 1.144, 1.300, 1.458, 1.640, 1.786, 1.993,
                   2.193, 2.384, 2.424, 2.374, 2.228, 2.173, 2.151, 2.158, 2.161),
}
# fmt: on
_MM_PER_CM: Final = 10.0
_TALLEST_Z: Final = 2.0


def draw_lengths_mm(sex: str, age_years: int, rng: np.random.Generator) -> tuple[float, float]:
    """A femur and a tibia of one child in mm; `sex` M or F, age 1 to 18, else KeyError, IndexError.

    Both bones share one z-score: a tall child is tall in both.
    """
    z = float(np.clip(rng.normal(), -_TALLEST_Z, _TALLEST_Z))
    femur, tibia = (
        _MM_PER_CM * (_MEANS[sex, bone][age_years - 1] + z * _DEVIATIONS[sex, bone][age_years - 1])
        for bone in ("FEM", "TIB")
    )
    return femur, tibia
