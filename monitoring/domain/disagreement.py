"""How far an ensemble's models disagree about one image, from their raw predictions.

Source: the definitions of the deployed application, with its known faults put right. In short, for M models and
a landmark that n of them saw at positions p with confidences c, w = c / sum c, distances in mm:

- point: ``detection_disagreement`` (M - n) / M; ``localization_disagreement`` share of model pairs further apart
  than 2.0 mm; ``position_std`` sqrt(sum w (p - sum w p)^2) for x and y; ``spatial_uncertainty_mm`` their hypotenuse;
  ``confidence_uncertainty`` population standard deviation / mean; ``outlier_risk`` min(p (1 + s), 1) with p the share
  of pairs over 10 mm and s = clip((largest - 10) / 40, 0, 1), and 0 where there is no pair;
- image: DDS mean of ``detection_disagreement``; LDS mean of ``localization_disagreement``; ORS mean of
  clip((``spatial_uncertainty_mm`` - 10) / 40, 0, 1); CDS 0.5 DDS + 0.35 ORS + 0.15 LDS.

What is missing:

- A landmark that no model saw is full detection disagreement (1) and counts in DDS. It has no position, so it is
  left out of LDS and ORS, as is a landmark that one model alone saw: a mean is over the landmarks with a value.
- Where no landmark has a pair (one model, nothing found) LDS and ORS are None and leave their weight in CDS to DDS.
- Without a usable spacing everything in mm, every share of distances, and so LDS, ORS and CDS, are None; what is
  about detection and confidence is not. Without any model everything is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import fsum, hypot, isfinite, sqrt
from typing import Any, Final, NamedTuple

from msgspec import Struct

from monitoring.domain.anatomy import LABELS
from monitoring.domain.statistics import is_number, mean, population_std
from monitoring.records.session_record import Prediction

DISAGREEMENT_MM: Final = 2.0
RISK_BOUNDS_MM: Final = (10.0, 50.0)
HIGH_DISTANCE_MM: Final = 5.0
EXTREME_DISTANCE_MM: Final = 10.0
AGREEMENT_MM: Final = 3.0
# The application's own weights, so that a host without an ensemble score is told as the others are.
CDS_WEIGHTS: Final = {"dds": 0.5, "ors": 0.35, "lds": 0.15}
_CV_GUARD_MM: Final = 1e-6  # the application's, so that a mean of 0 divides
_FARTHEST_PIXEL: Final = 1e9  # a DICOM image has at most 65,535 rows; squares of what is allowed can't overflow
_LARGEST_SPACING_MM: Final = 1e6


class Detection(NamedTuple):
    """One model's best detection of one landmark: the box's centre in pixels, confidence 0..1."""

    x: float
    y: float
    confidence: float


class BestDetections(NamedTuple):
    """One model's :func:`best_detections`, found once for all that is computed of them."""

    model: str
    by_label: Mapping[int, Detection]


class PointDisagreement(Struct, frozen=True):
    """How far the models disagree about one landmark; ``detected_by`` of them saw it."""

    detected_by: int
    detection_disagreement: float
    localization_disagreement: float | None = None
    position_std_x_mm: float | None = None
    position_std_y_mm: float | None = None
    spatial_uncertainty_mm: float | None = None
    confidence_uncertainty: float | None = None
    outlier_risk: float | None = None


class ImageScores(Struct, frozen=True):
    """Disagreement over a whole image, each 0 (none) to 1."""

    dds: float | None = None
    lds: float | None = None
    ors: float | None = None
    cds: float | None = None


class TableFeatures(Struct, frozen=True):
    """The ten features of the application's tables, over those of 8 landmarks x C(M, 2) pairs that have a distance.

    ``mean_distance``, ``max_distance`` and ``distance_std`` (population) are mm; ``distance_cv`` is
    std / (mean + 1e-6); the rest are shares in 0..1: over 5 mm ``high``, over 10 mm ``extreme``, up to 3 mm
    ``model_agreement_rate``. Without a valid pair all of those are None.
    """

    mean_distance: float | None = None
    max_distance: float | None = None
    distance_std: float | None = None
    distance_cv: float | None = None
    overall_detection_rate: float | None = None
    detection_consistency: float | None = None
    missing_point_ratio: float | None = None
    high_distance_ratio: float | None = None
    extreme_distance_ratio: float | None = None
    model_agreement_rate: float | None = None


class Disagreement(Struct, frozen=True):
    """All that is computed of one image: ``points`` holds every label 1 to 8, or nothing when no model ran."""

    models: int
    points: Mapping[int, PointDisagreement]
    image: ImageScores
    features: TableFeatures

    def scores(self) -> dict[str, float]:
        """The image's scores and features by name, without what is missing."""
        return {**_known(self.image), **_known(self.features)}

    def point_scores(self) -> dict[int, dict[str, float]]:
        """Each landmark's scores by name (:data:`POINT_SCORES`), without what is missing."""
        return {label: _known(point) for label, point in self.points.items()}


class ConfidenceRange(Struct, frozen=True):
    """Mean, smallest and largest confidence of the fused landmarks, 0..1."""

    average: float
    minimum: float
    maximum: float


POINT_SCORES: Final = tuple(name for name in PointDisagreement.__struct_fields__ if name != "detected_by")
_SCORES: Final[Mapping[type, tuple[str, ...]]] = {
    PointDisagreement: POINT_SCORES,
    ImageScores: ImageScores.__struct_fields__,
    TableFeatures: TableFeatures.__struct_fields__,
}

Fused = dict[int, tuple[float, float, float]]
Detections = Prediction | BestDetections
"""One model's, as it gave them or already looked through; what is computed is the same."""
_Scale = tuple[float, float]  # mm a pixel across (column spacing) and down (row spacing)


def disagreement(
    predictions: Sequence[Detections], row_mm: float | None = None, column_mm: float | None = None
) -> Disagreement:
    """Compare M models' predictions; ``row_mm`` and ``column_mm`` are the image's spacings (mm a pixel, None unknown).

    Boxes that aren't four finite pixels, scores that aren't finite and labels other than 1 to 8 don't count; of a
    model's several boxes with one label the best-scored counts, the first of equals. Raises nothing.
    """
    models = len(predictions)
    if not models:
        return Disagreement(0, {}, ImageScores(), TableFeatures())
    scale: _Scale | None = None
    if (
        row_mm is not None
        and column_mm is not None
        and all(0 < mm <= _LARGEST_SPACING_MM for mm in (row_mm, column_mm))
    ):
        scale = (float(column_mm), float(row_mm))
    # Every label has a point, also one that nobody saw: were it left out, finding nothing would be perfect agreement.
    points: dict[int, PointDisagreement] = {}
    every_distance: list[float] = []
    for label, seen in _by_label(predictions).items():
        distances = []
        if scale is not None:
            across, down = scale
            distances = [hypot((a.x - b.x) * across, (a.y - b.y) * down) for a, b in combinations(seen, 2)]
        points[label] = _point(seen, models, distances, scale)
        every_distance += distances
    image = _image_scores(points, is_in_mm=scale is not None)
    return Disagreement(models, points, image, _features(points, models, every_distance))


def compare(host: Mapping[str, float], ours: Mapping[str, float]) -> dict[str, float]:
    """Absolute differences, by name, of the scores that both have as finite numbers, in the scores' own units."""
    return {
        name: difference
        for name, value in ours.items()
        if is_number(theirs := host.get(name)) and is_number(value) and isfinite(difference := abs(theirs - value))
    }


def best_detections(prediction: Detections) -> BestDetections:
    """One model's best usable detection per label 1 to 8; see :func:`disagreement` for what is usable."""
    if isinstance(prediction, BestDetections):
        return prediction
    best: dict[int, Detection] = {}
    far = _FARTHEST_PIXEL
    for box, label, score in zip(prediction.boxes, prediction.labels, prediction.scores, strict=False):
        if label not in LABELS or not isfinite(score) or len(box) != 4:
            continue
        # A label that a model gives twice would count as two models that agree, and make (M - n) / M negative.
        confidence = min(max(score, 0.0), 1.0)
        if label in best and confidence <= best[label].confidence:
            continue
        # No all() over a generator: this is asked for every detection. NaN fails the comparison too.
        x1, y1, x2, y2 = box
        if -far <= x1 <= far and -far <= y1 <= far and -far <= x2 <= far and -far <= y2 <= far:
            best[label] = Detection((x1 + x2) / 2, (y1 + y2) / 2, confidence)
    return BestDetections(prediction.model, best)


def fuse(predictions: Sequence[Detections]) -> Fused:
    """``{label: (x, y, confidence)}`` of the landmarks that any model saw.

    The centre, in pixels, is the models' mean weighted with their confidences (all alike when none has any); the
    confidence is their plain mean, as in the application.
    """
    fused: Fused = {}
    for label, seen in _by_label(predictions).items():
        if seen:
            weights = _weights(seen)
            x = fsum([weight * detection.x for weight, detection in zip(weights, seen, strict=True)])
            y = fsum([weight * detection.y for weight, detection in zip(weights, seen, strict=True)])
            fused[label] = (x, y, mean([detection.confidence for detection in seen]))
    return fused


def fused_confidence(fused: Mapping[int, tuple[float, float, float]]) -> ConfidenceRange | None:
    """The confidences of :func:`fuse`'s landmarks; None when there is no landmark."""
    confidences = [confidence for _, _, confidence in fused.values()]
    if not confidences:
        return None
    low, high = min(confidences), max(confidences)
    return ConfidenceRange(min(max(mean(confidences), low), high), low, high)  # a rounded mean may leave its range


def missed_landmarks(predictions: Sequence[Detections]) -> tuple[int, ...]:
    """The labels that no model saw; none when no model ran, since then nobody looked."""
    seen = {label for prediction in predictions for label in best_detections(prediction).by_label}
    return tuple(label for label in LABELS if predictions and label not in seen)


def missed_by_model(predictions: Sequence[Detections]) -> dict[str, tuple[int, ...]]:
    """The labels that each model missed, by the model's name; of several with one name, what any of them missed."""
    found: dict[str, tuple[int, ...]] = {}
    for prediction in predictions:
        missed = {*found.get(prediction.model, ()), *missed_landmarks([prediction])}
        found[prediction.model] = tuple(sorted(missed))
    return found


def _known(part: Any) -> dict[str, float]:
    values = ((name, getattr(part, name)) for name in _SCORES[type(part)])
    return {name: value for name, value in values if value is not None}


def _by_label(predictions: Sequence[Detections]) -> dict[int, list[Detection]]:
    found = [best_detections(prediction).by_label for prediction in predictions]
    return {label: [best[label] for best in found if label in best] for label in LABELS}


def _point(seen: Sequence[Detection], models: int, distances: list[float], scale: _Scale | None) -> PointDisagreement:
    # One model alone has no spread of any kind: None, for a 0 would say that it agrees with somebody.
    missed, relative_spread = (models - len(seen)) / models, None
    if len(seen) > 1:
        confidences = [detection.confidence for detection in seen]
        average = mean(confidences)
        relative_spread = population_std(confidences) / average if average > 0 else None
    if scale is None or not distances:
        risk = None if scale is None else 0.0
        return PointDisagreement(len(seen), missed, confidence_uncertainty=relative_spread, outlier_risk=risk)
    weights = _weights(seen)
    std_x = _weighted_std([detection.x for detection in seen], weights) * scale[0]
    std_y = _weighted_std([detection.y for detection in seen], weights) * scale[1]
    risky = _share([distance > RISK_BOUNDS_MM[0] for distance in distances])
    return PointDisagreement(
        detected_by=len(seen),
        detection_disagreement=missed,
        localization_disagreement=_share([distance > DISAGREEMENT_MM for distance in distances]),
        position_std_x_mm=std_x,
        position_std_y_mm=std_y,
        spatial_uncertainty_mm=hypot(std_x, std_y),
        confidence_uncertainty=relative_spread,
        outlier_risk=min(risky * (1 + _excess(max(distances))), 1.0),
    )


def _weights(seen: Sequence[Detection]) -> list[float]:
    """Weights that sum to 1: by confidence, or equal ones when no model has any."""
    total = fsum([detection.confidence for detection in seen])
    if total <= 0:
        return [1 / len(seen)] * len(seen)
    return [detection.confidence / total for detection in seen]


def _weighted_std(values: list[float], weights: list[float]) -> float:
    offsets = [value - values[0] for value in values]  # so that positions that agree have a spread of exactly 0
    # fsum, so that the order of the models makes no difference to the last digit.
    centre = fsum([weight * offset for weight, offset in zip(weights, offsets, strict=True)])
    return sqrt(fsum([weight * (offset - centre) ** 2 for weight, offset in zip(weights, offsets, strict=True)]))


def _excess(distance_mm: float) -> float:
    """Where a distance lies between the bounds of risk: 0 at the lower, 1 at the upper."""
    low, high = RISK_BOUNDS_MM
    return min(max((distance_mm - low) / (high - low), 0.0), 1.0)


def _image_scores(points: Mapping[int, PointDisagreement], is_in_mm: bool) -> ImageScores:
    dds = mean([point.detection_disagreement for point in points.values()])
    if not is_in_mm:
        return ImageScores(dds)
    scores = {"dds": dds}
    shares = [point.localization_disagreement for point in points.values()]
    if known := [share for share in shares if share is not None]:
        scores["lds"] = mean(known)
    uncertainties = [point.spatial_uncertainty_mm for point in points.values()]
    if known := [_excess(uncertainty) for uncertainty in uncertainties if uncertainty is not None]:
        scores["ors"] = mean(known)
    total = fsum([CDS_WEIGHTS[name] for name in scores])
    composite = min(fsum([CDS_WEIGHTS[name] * score for name, score in scores.items()]) / total, 1.0)
    return ImageScores(dds, scores.get("lds"), scores.get("ors"), composite)


def _features(points: Mapping[int, PointDisagreement], models: int, distances: list[float]) -> TableFeatures:
    rates = [point.detected_by / models for point in points.values()]
    detection = {
        "overall_detection_rate": mean(rates),
        "detection_consistency": 1.0 - population_std(rates),
        "missing_point_ratio": _share([point.detected_by == 0 for point in points.values()]),
    }
    if not distances:
        return TableFeatures(**detection)
    average, std = mean(distances), population_std(distances)
    return TableFeatures(
        **detection,
        mean_distance=average,
        max_distance=max(distances),
        distance_std=std,
        distance_cv=std / (average + _CV_GUARD_MM),
        high_distance_ratio=_share([distance > HIGH_DISTANCE_MM for distance in distances]),
        extreme_distance_ratio=_share([distance > EXTREME_DISTANCE_MM for distance in distances]),
        model_agreement_rate=_share([distance <= AGREEMENT_MM for distance in distances]),
    )


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)
