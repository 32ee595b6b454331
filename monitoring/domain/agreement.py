"""How well the application's measurements agree with readers'. Everything in mm; a difference is application - reader.

Sources: Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical measurement.
Lancet 1986;i:307-310 (bias, limits of agreement, their standard error). Lin LI. A concordance correlation coefficient
to evaluate reproducibility. Biometrics 1989;45:255-268 (CCC, with 1/n variances). Shrout PE, Fleiss JL. Intraclass
correlations: uses in assessing rater reliability. Psychol Bull 1979;86:420-428 (ICC).

Pairs of one patient's two legs, or of repeated exams, are not independent: the intervals are then too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, lgamma, log, log1p, sqrt
from typing import Final, TypeGuard

from monitoring.domain.anatomy import FEMUR, LEG, MEASUREMENTS, TIBIA, is_number, side_and_bone

SHOWN_FROM_PAIRS: Final = 30
VERDICT_FROM_PAIRS: Final = 100
BIAS_LIMIT_MM: Final = 2.0
MAE_LIMIT_MM: Final = 3.0
AGREEMENT_LIMIT_MM: Final = 10.0
ICC_LIMIT: Final = 0.95
CRITERIA: Final = ("bias", "mae", "limits_of_agreement", "icc")

THRESHOLD_SETTINGS: Final = {FEMUR: "femur_threshold", TIBIA: "tibia_threshold", LEG: "total_threshold"}
DEFAULT_THRESHOLDS_CM: Final = {"femur_threshold": 2.0, "tibia_threshold": 2.0, "total_threshold": 5.0}
_MM_PER_CM: Final = 10.0
_ROUNDING_MM: Final = 1e-9  # of decimal input in binary: an error on its limit is within it
LARGEST_MM: Final = 1e6  # a kilometre: no length, and its square can't overflow

Pairs = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ReadingError:
    """One measurement against one reading: ``error_mm`` application - reader, ``within_threshold`` None if unknown."""

    measurement: str
    error_mm: float
    threshold_mm: float | None = None
    within_threshold: bool | None = None


@dataclass(frozen=True, slots=True)
class ICC:
    """Intraclass correlations for single ratings; None where the ratings don't vary enough to have one."""

    icc_1_1: float | None = None
    icc_2_1: float | None = None
    icc_3_1: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
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


@dataclass(frozen=True, slots=True)
class Verdict:
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
    return tuple(
        _reading_error(name, ours - theirs, thresholds_cm)
        for name in MEASUREMENTS
        if _is_length(ours := ours_mm.get(name)) and _is_length(theirs := reader_mm.get(name))
    )


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
    kept: Pairs = tuple(
        (float(ours), float(theirs))
        for ours, theirs in zip(ours_mm, reader_mm, strict=True)
        if _is_length(ours) and _is_length(theirs)
    )
    dropped = len(ours_mm) - len(kept)
    if not kept:
        return Agreement(0, dropped)
    differences = [ours - theirs for ours, theirs in kept]
    absolute = sorted(map(abs, differences))
    return Agreement(
        pairs=len(kept),
        dropped=dropped,
        **_bias(differences, limit_sd, confidence),
        mae_mm=_mean(absolute),
        median_absolute_error_mm=_median(absolute),
        beyond_5_mm_ratio=_share_beyond(5.0, absolute),
        beyond_10_mm_ratio=_share_beyond(10.0, absolute),
        ccc=concordance(kept),
        icc=intraclass(kept),
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
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    mean_a, mean_b = _mean(first), _mean(second)
    var_a = _mean([(a - mean_a) ** 2 for a in first])
    var_b = _mean([(b - mean_b) ** 2 for b in second])
    covariance = _mean([(a - mean_a) * (b - mean_b) for a, b in pairs])
    scatter = var_a + var_b + (mean_a - mean_b) ** 2
    return 2 * covariance / scatter if scatter > 0 else None


def intraclass(ratings: Sequence[Sequence[float]]) -> ICC:
    """ICC(1,1), ICC(2,1) and ICC(3,1) of n targets x k raters, by Shrout and Fleiss's mean squares.

    ``ratings`` holds n rows of k finite numbers; ValueError when they differ in length. ICC() for n or k under 2.
    """
    targets, raters = len(ratings), len(ratings[0]) if ratings else 0
    if any(len(row) != raters for row in ratings):
        raise ValueError("every target needs a rating by every rater")
    if targets < 2 or raters < 2:
        return ICC()
    between, within, judges, residual = _mean_squares(ratings)
    return ICC(
        icc_1_1=_ratio(between - within, between + (raters - 1) * within),
        icc_2_1=_ratio(between - residual, between + (raters - 1) * residual + raters * (judges - residual) / targets),
        icc_3_1=_ratio(between - residual, between + (raters - 1) * residual),
    )


def t_quantile(probability: float, degrees: float) -> float:
    """The t-distribution's quantile for 0 < ``probability`` < 1 and ``degrees`` > 0 of freedom; ValueError else.

    By bisection of :func:`t_cdf`; for probabilities of 0.001 to 0.999 right to a relative 1e-10 (checked against
    scipy from 1 to 10 million degrees of freedom).
    """
    if not 0 < probability < 1 or not degrees > 0:
        raise ValueError("a quantile needs 0 < probability < 1 and degrees > 0")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    if probability == 0.5:
        return 0.0
    centre, low, high = probability - 0.5, 0.0, 1.0
    while _centre_probability(high, degrees) < centre and high < 1e150:
        low, high = high, high * 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _centre_probability(middle, degrees) < centre else (low, middle)
    return high


def t_cdf(t: float, degrees: float) -> float:
    """The t-distribution's cumulative probability at ``t`` for ``degrees`` > 0 of freedom."""
    centre = _centre_probability(abs(t), degrees)
    return 0.5 + centre if t > 0 else 0.5 - centre


def _centre_probability(t: float, degrees: float) -> float:
    """P(0 < T < t): half the regularized incomplete beta function I_y(1/2, degrees/2) at y = t^2 / (degrees + t^2).

    By Lentz's continued fraction (Abramowitz and Stegun 26.5.8, 26.7.1), on the side where it converges fast.
    """
    a, b, odds = 0.5, degrees / 2, t * t / degrees
    if odds <= 0 or odds == inf:
        return 0.0 if odds <= 0 else 0.5
    y, rest = odds / (1 + odds), 1 / (1 + odds)  # each by itself: 1 - y would lose the digits of a small rest
    front = exp(_log_gamma_step(b) - lgamma(a) + a * log(y) - b * log1p(odds))
    if y < (a + 1) / (a + b + 2):
        return 0.5 * front * _beta_fraction(a, b, y) / a
    return 0.5 - 0.5 * front * _beta_fraction(b, a, rest) / b


def _log_gamma_step(b: float) -> float:
    """log(gamma(b + 1/2) / gamma(b)); by its asymptotic series where the difference of two logarithms loses digits."""
    if b < 50:
        return lgamma(b + 0.5) - lgamma(b)
    return log(b) / 2 - 1 / (8 * b) + 1 / (192 * b**3) - 1 / (640 * b**5)


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny, c = 1e-300, 1.0
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return fraction


def _away_from_zero(value: float, least: float) -> float:
    return value if abs(value) > least else least


def _is_length(value: float | None) -> TypeGuard[float]:
    return is_number(value) and abs(value) <= LARGEST_MM


def _reading_error(name: str, error_mm: float, thresholds_cm: Mapping[str, float]) -> ReadingError:
    parts = side_and_bone(name)
    centimeters = thresholds_cm.get(THRESHOLD_SETTINGS[parts[1]]) if parts else None
    if not is_number(centimeters):
        return ReadingError(name, error_mm)
    threshold_mm = centimeters * _MM_PER_CM
    return ReadingError(name, error_mm, threshold_mm, abs(error_mm) <= threshold_mm + _ROUNDING_MM)


def _bias(differences: Sequence[float], limit_sd: float, confidence: float) -> dict[str, float]:
    bias, count = _mean(differences), len(differences)
    if count < 2:
        return {"bias_mm": bias}
    sd = sqrt(fsum((difference - bias) ** 2 for difference in differences) / (count - 1))
    se = sd / sqrt(count)
    margin = t_quantile((1 + confidence) / 2, count - 1) * se
    return {
        "bias_mm": bias,
        "sd_mm": sd,
        "bias_se_mm": se,
        "bias_low_mm": bias - margin,
        "bias_high_mm": bias + margin,
        "lower_limit_mm": bias - limit_sd * sd,
        "upper_limit_mm": bias + limit_sd * sd,
    }


def _mean_squares(ratings: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Between targets, within targets, between judges, residual."""
    targets, raters = len(ratings), len(ratings[0])
    rows = [_mean(row) for row in ratings]
    columns = [_mean(column) for column in zip(*ratings, strict=True)]
    grand = _mean(rows)
    between = raters * fsum((row - grand) ** 2 for row in rows)
    judges = targets * fsum((column - grand) ** 2 for column in columns)
    within = fsum((value - mean) ** 2 for row, mean in zip(ratings, rows, strict=True) for value in row)
    residual = fsum(
        (value - mean - column + grand) ** 2
        for row, mean in zip(ratings, rows, strict=True)
        for value, column in zip(row, columns, strict=True)
    )
    return (
        between / (targets - 1),
        within / (targets * (raters - 1)),
        judges / (raters - 1),
        residual / ((targets - 1) * (raters - 1)),
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and abs(value) <= limit


def _share_beyond(limit_mm: float, absolute: Sequence[float]) -> float:
    return sum(error > limit_mm + _ROUNDING_MM for error in absolute) / len(absolute)


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
