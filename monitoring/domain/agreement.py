"""How well the application's measurements agree with readers'. Everything in mm; a difference is application - reader.

Sources: Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical measurement.
Lancet 1986;i:307-310 (bias, limits of agreement, their standard error). Lin LI. A concordance correlation coefficient
to evaluate reproducibility. Biometrics 1989;45:255-268 (CCC, with 1/n variances). Shrout PE, Fleiss JL. Intraclass
correlations: uses in assessing rater reliability. Psychol Bull 1979;86:420-428 (ICC).

Pairs of one patient's two legs, or of repeated exams, are not independent: the intervals are then too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from typing import Final, TypeGuard

from msgspec import Struct
from msgspec.structs import replace

from monitoring.domain.anatomy import FEMUR, LEG, SIDE_AND_BONE, TIBIA
from monitoring.domain.statistics import ROUNDING, is_number, mean, median, t_quantile

# Fewer pairs say more of the sample than of the method. The limits are of the size that is published for such systems
# (mean absolute errors of 2.5 to 3.3 mm) and for readers among themselves (SEM95 4.5 mm femur, 3.1 mm tibia).
SHOWN_FROM_PAIRS: Final = 30
VERDICT_FROM_PAIRS: Final = 100
BIAS_LIMIT_MM: Final = 2.0
MAE_LIMIT_MM: Final = 3.0
AGREEMENT_LIMIT_MM: Final = 10.0
ICC_LIMIT: Final = 0.95
CRITERIA: Final = ("bias", "mae", "limits_of_agreement", "icc")

# The application's own settings and defaults, which are in cm; everything else here is mm.
THRESHOLD_SETTINGS: Final = {FEMUR: "femur_threshold", TIBIA: "tibia_threshold", LEG: "total_threshold"}
DEFAULT_THRESHOLDS_CM: Final = {"femur_threshold": 2.0, "tibia_threshold": 2.0, "total_threshold": 5.0}
_MM_PER_CM: Final = 10.0
LARGEST_MM: Final = 1e6  # a kilometre: no length, and its square can't overflow


class ReadingError(Struct, frozen=True):
    """One measurement against one reading: ``error_mm`` application - reader, ``within_threshold`` None if unknown."""

    measurement: str
    error_mm: float
    threshold_mm: float | None = None
    within_threshold: bool | None = None


class ICC(Struct, frozen=True):
    """Intraclass correlations for single ratings; None where the ratings don't vary enough to have one."""

    icc_1_1: float | None = None
    icc_2_1: float | None = None
    icc_3_1: float | None = None


class Agreement(Struct, frozen=True):
    """``pairs`` pairs were compared, ``dropped`` had a side missing. What needs more pairs than there are is None."""

    pairs: int
    dropped: int
    bias_mm: float | None = None
    sd_mm: float | None = None
    bias_se_mm: float | None = None
    bias_low_mm: float | None = None
    bias_high_mm: float | None = None
    lower_limit_mm: float | None = None
    upper_limit_mm: float | None = None
    mae_mm: float | None = None
    median_absolute_error_mm: float | None = None
    beyond_5_mm_ratio: float | None = None
    beyond_10_mm_ratio: float | None = None
    ccc: float | None = None
    icc: ICC = ICC()


class Verdict(Struct, frozen=True):
    """``too_few`` (under 30 pairs: show nothing), ``provisional`` (under 100), ``met`` or ``not_met``.

    ``failed`` names the criteria that are not met, or can't be judged; it is empty for ``too_few``.
    """

    status: str
    failed: tuple[str, ...] = ()


def reading_errors(
    ours_mm: Mapping[str, float | None],
    reader_mm: Mapping[str, float | None],
    thresholds_cm: Mapping[str, float] = DEFAULT_THRESHOLDS_CM,
) -> tuple[ReadingError, ...]:
    """The error of each of the six measurements that both have, in mm.

    ``thresholds_cm`` holds the application's settings ``femur_threshold``, ``tibia_threshold`` and ``total_threshold``,
    in **cm**; an error is within when its absolute value is no more than its bone's.
    """
    found = []
    for name, (_, bone) in SIDE_AND_BONE.items():
        ours, theirs = ours_mm.get(name), reader_mm.get(name)
        # Missing is missing: no error of 0 is made of it.
        if not _is_length(ours) or not _is_length(theirs):
            continue
        error_mm, threshold_mm, is_within = ours - theirs, None, None
        centimeters = thresholds_cm.get(THRESHOLD_SETTINGS[bone])
        if is_number(centimeters):
            threshold_mm = centimeters * _MM_PER_CM
            # What equals its threshold is within, also where a sum of floats is off in its last digit.
            is_within = abs(error_mm) <= threshold_mm + ROUNDING
        found.append(ReadingError(name, error_mm, threshold_mm, is_within))
    return tuple(found)


def compare_readings(
    ours_mm: Sequence[float | None],
    reader_mm: Sequence[float | None],
    limit_sd: float = 1.96,
    confidence: float = 0.95,
) -> Agreement:
    """Agreement over pairs, the i-th of both sequences being one pair; ValueError when their lengths differ.

    Limits of agreement are bias +- ``limit_sd`` SD (2 in the paper of 1986); the interval of the bias has level
    ``confidence`` by the t-distribution. A pair of which one side is None, not finite or beyond a kilometre is dropped.
    """
    both = zip(ours_mm, reader_mm, strict=True)
    pairs = [(ours, theirs) for ours, theirs in both if _is_length(ours) and _is_length(theirs)]
    count, dropped = len(pairs), len(ours_mm) - len(pairs)
    if not pairs:
        return Agreement(0, dropped)
    differences = [ours - theirs for ours, theirs in pairs]
    errors, bias = [abs(difference) for difference in differences], mean(differences)
    found = Agreement(
        pairs=count,
        dropped=dropped,
        bias_mm=bias,
        mae_mm=mean(errors),
        median_absolute_error_mm=median(errors),
        beyond_5_mm_ratio=sum(error > 5.0 + ROUNDING for error in errors) / count,
        beyond_10_mm_ratio=sum(error > 10.0 + ROUNDING for error in errors) / count,
        ccc=concordance(pairs),
        icc=intraclass(pairs),
    )
    # One pair has a difference, and no spread.
    if count < 2:
        return found
    sd = sqrt(fsum((difference - bias) ** 2 for difference in differences) / (count - 1))
    se = sd / sqrt(count)
    margin = t_quantile((1 + confidence) / 2, count - 1) * se
    return replace(
        found,
        sd_mm=sd,
        bias_se_mm=se,
        bias_low_mm=bias - margin,
        bias_high_mm=bias + margin,
        lower_limit_mm=bias - limit_sd * sd,
        upper_limit_mm=bias + limit_sd * sd,
    )


def verdict(agreement: Agreement) -> Verdict:
    """Whether the criteria are met: |bias| <= 2 mm, MAE <= 3 mm, limits within +-10 mm, ICC(2,1) >= 0.95.

    From 100 pairs on it is a verdict; from 30 on ``provisional``, with what fails so far; below that it is none.
    """
    if agreement.pairs < SHOWN_FROM_PAIRS:
        return Verdict("too_few")
    met = {
        "bias": _at_most(agreement.bias_mm, BIAS_LIMIT_MM),
        "mae": _at_most(agreement.mae_mm, MAE_LIMIT_MM),
        "limits_of_agreement": _at_most(agreement.lower_limit_mm, AGREEMENT_LIMIT_MM)
        and _at_most(agreement.upper_limit_mm, AGREEMENT_LIMIT_MM),
        "icc": agreement.icc.icc_2_1 is not None and agreement.icc.icc_2_1 >= ICC_LIMIT,
    }
    failed = tuple(name for name in CRITERIA if not met[name])
    if agreement.pairs < VERDICT_FROM_PAIRS:
        return Verdict("provisional", failed)
    return Verdict("not_met" if failed else "met", failed)


def concordance(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Lin's concordance correlation coefficient, -1..1; None without variation or with fewer than two pairs."""
    if len(pairs) < 2:
        return None
    mean_a, mean_b = mean([a for a, _ in pairs]), mean([b for _, b in pairs])
    # 1/n, as Lin has it: with 1/(n - 1) it would be another coefficient.
    var_a = mean([(a - mean_a) ** 2 for a, _ in pairs])
    var_b = mean([(b - mean_b) ** 2 for _, b in pairs])
    covariance = mean([(a - mean_a) * (b - mean_b) for a, b in pairs])
    scatter = var_a + var_b + (mean_a - mean_b) ** 2
    return 2 * covariance / scatter if scatter > 0 else None


def intraclass(ratings: Sequence[Sequence[float]]) -> ICC:
    """ICC(1,1), ICC(2,1) and ICC(3,1) of n targets x k raters, by Shrout and Fleiss's mean squares.

    ``ratings`` holds n rows of k finite numbers; ValueError when they differ in length. ICC() for n or k under 2.
    """
    n, k = len(ratings), len(ratings[0]) if ratings else 0
    if any(len(row) != k for row in ratings):
        raise ValueError("every target needs a rating by every rater")
    # Mean squares between need two targets, those within two raters.
    if n < 2 or k < 2:
        return ICC()
    rows = [mean(row) for row in ratings]
    columns = [mean(column) for column in zip(*ratings, strict=True)]
    grand = mean(rows)
    cells = [
        (value, row, column)
        for values, row in zip(ratings, rows, strict=True)
        for value, column in zip(values, columns, strict=True)
    ]
    between = k * fsum((row - grand) ** 2 for row in rows) / (n - 1)
    judges = n * fsum((column - grand) ** 2 for column in columns) / (k - 1)
    within = fsum((value - row) ** 2 for value, row, _ in cells) / (n * (k - 1))
    residual = fsum((value - row - column + grand) ** 2 for value, row, column in cells) / ((n - 1) * (k - 1))
    return ICC(
        icc_1_1=_ratio(between - within, between + (k - 1) * within),
        icc_2_1=_ratio(between - residual, between + (k - 1) * residual + k * (judges - residual) / n),
        icc_3_1=_ratio(between - residual, between + (k - 1) * residual),
    )


def _is_length(value: float | None) -> TypeGuard[float]:
    return is_number(value) and abs(value) <= LARGEST_MM


def _ratio(numerator: float, denominator: float) -> float | None:
    # Ratings that don't vary have no correlation, and not one of 0 or 1.
    return numerator / denominator if denominator > 0 else None


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and abs(value) <= limit
