"""How long a child's femur and tibia are: means and standard deviations by sex and age, and z-scores from them.

Boys: Anderson M, Messner MB, Green WT. Distribution of lengths of the normal femur and tibia in children from one
to eighteen years of age. J Bone Joint Surg Am 1964;46:1197-1202; radiographic lengths in cm with both epiphyses.
Girls: the same study, quoted from memory and not checked against the print: ``verified`` is False for them, and
nothing of clinical weight may rest on them until someone has.

Two things to know of the source. Its children were measured in Boston before 1964; Chen et al., J Bone Joint Surg
Am 2023;105:468-478, compare them with today's. And its lengths are those of whole bones on orthoroentgenograms,
while the application measures vertically between the centres of landmarks, so that a z-score has an offset of its
own: fit for plausibility and for following drift, not for diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Final

from msgspec import Struct

from monitoring.domain.anatomy import FEMUR, TIBIA

FIRST_AGE_YEARS: Final = 1
LAST_AGE_YEARS: Final = 18
_MM_PER_CM: Final = 10.0
_SOURCE: Final = "Anderson, Messner & Green, J Bone Joint Surg Am 1964;46:1197-1202"


class GrowthTable(Struct, frozen=True):
    """One bone of one sex: mean and standard deviation in cm at each birthday from 1 to 18."""

    mean_cm: tuple[float, ...]
    sd_cm: tuple[float, ...]
    verified: bool
    source: str = _SOURCE

    def at(self, age_years: float) -> tuple[float, float] | None:
        """Mean and SD in mm at an age, linear between birthdays; None outside 1 to 18."""
        if not FIRST_AGE_YEARS <= age_years <= LAST_AGE_YEARS:
            return None
        # 18 itself is the end of the last interval.
        index = min(int(age_years) - FIRST_AGE_YEARS, len(self.mean_cm) - 2)
        share = age_years - FIRST_AGE_YEARS - index
        return _between(self.mean_cm, index, share), _between(self.sd_cm, index, share)


# fmt: off
TABLES: Final[Mapping[tuple[str, str], GrowthTable]] = {
    (FEMUR, "M"): GrowthTable(
        (14.48, 18.15, 21.09, 23.65, 25.92, 28.09, 30.25, 32.28, 34.36,
         36.29, 38.16, 40.12, 42.17, 44.18, 45.69, 46.66, 47.07, 47.23),
        (0.628, 0.874, 1.031, 1.197, 1.342, 1.506, 1.682, 1.807, 1.933,
         2.057, 2.237, 2.447, 2.765, 2.809, 2.512, 2.244, 2.051, 1.958),
        verified=True,
    ),
    (TIBIA, "M"): GrowthTable(
        (11.60, 14.54, 16.79, 18.67, 20.46, 22.12, 23.76, 25.38, 26.99,
         28.53, 30.10, 31.75, 33.49, 35.18, 36.38, 37.04, 37.22, 37.29),
        (0.620, 0.809, 0.935, 1.091, 1.247, 1.418, 1.632, 1.778, 1.961,
         2.113, 2.301, 2.536, 2.833, 2.865, 2.616, 2.412, 2.316, 2.254),
        verified=True,
    ),
    (FEMUR, "F"): GrowthTable(
        (14.81, 18.23, 21.29, 23.92, 26.32, 28.52, 30.60, 32.72, 34.71,
         36.72, 38.81, 40.74, 42.31, 43.14, 43.47, 43.58, 43.60, 43.63),
        (0.673, 0.888, 1.100, 1.339, 1.437, 1.616, 1.827, 1.936, 2.117,
         2.300, 2.468, 2.507, 2.428, 2.269, 2.197, 2.193, 2.192, 2.195),
        verified=False,
    ),
    (TIBIA, "F"): GrowthTable(
        (11.57, 14.51, 16.81, 18.86, 20.77, 22.53, 24.22, 25.89, 27.56,
         29.28, 31.00, 32.61, 33.83, 34.43, 34.59, 34.63, 34.65, 34.65),
        (0.646, 0.739, 0.893, 1.144, 1.300, 1.458, 1.640, 1.786, 1.993,
         2.193, 2.384, 2.424, 2.374, 2.228, 2.173, 2.151, 2.158, 2.161),
        verified=False,
    ),
}
# fmt: on


def z_score(bone: str, sex: str | None, age_years: float | None, millimeters: float) -> float | None:
    """How many SD ``millimeters`` lies from the mean for ``bone`` (FEM, TIB), ``sex`` (M, F) and exact age in years.

    None outside ages 1 to 18, for another sex or bone, and for what is not a finite number.
    """
    table = TABLES.get((bone, sex or ""))
    if table is None or age_years is None or not isfinite(age_years) or not isfinite(millimeters):
        return None
    reference = table.at(age_years)
    if reference is None:
        return None
    mean_mm, sd_mm = reference
    return (millimeters - mean_mm) / sd_mm


def nearest_z_score(
    bone: str, sex: str | None, age_years: float | None, millimeters: float, span_years: float = 1.0
) -> float | None:
    """The z-score nearest to 0 that an age between ``age_years`` and ``age_years + span_years`` allows.

    For an age in completed years, as DICOM's is: up to a year's growth (about one SD) is then unknown, and a
    child must not be called too tall for it. The span ends at 18 years. None where :func:`z_score` is.
    """
    if age_years is None or not FIRST_AGE_YEARS <= age_years <= LAST_AGE_YEARS:
        return None
    oldest = min(age_years + max(span_years, 0.0), LAST_AGE_YEARS)
    # Between birthdays a z-score is monotone in age, so its extremes lie at these.
    ages = (age_years, *range(int(age_years) + 1, ceil(oldest)), oldest)
    scores = [score for age in ages if (score := z_score(bone, sex, age, millimeters)) is not None]
    if not scores:
        return None
    if min(scores) < 0 < max(scores):  # the mean passes through the length within the span
        return 0.0
    return min(scores, key=abs)


def middle_z_score(bone: str, sex: str | None, age_years: float | None, millimeters: float) -> float | None:
    """The z-score at the middle of a completed year of age: the same scatter for all, for averages and charts.

    :func:`nearest_z_score` is 0 for a third of the children, which makes a mean of them too small. None where
    :func:`z_score` is.
    """
    if age_years is None or not FIRST_AGE_YEARS <= age_years <= LAST_AGE_YEARS:
        return None
    # 17 completed years end at 18, where the table does.
    return z_score(bone, sex, min(age_years + 0.5, LAST_AGE_YEARS), millimeters)


def _between(values_cm: tuple[float, ...], index: int, share: float) -> float:
    low, high = values_cm[index], values_cm[index + 1]
    return (low + (high - low) * share) * _MM_PER_CM
