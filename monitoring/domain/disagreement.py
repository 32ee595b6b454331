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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import fsum, hypot, isfinite, sqrt
from typing import Final

from monitoring.domain.anatomy import LABELS, is_number
from monitoring.records.session_record import Prediction

DISAGREEMENT_MM: Final = 2.0
RISK_BOUNDS_MM: Final = (10.0, 50.0)
HIGH_DISTANCE_MM: Final = 5.0
EXTREME_DISTANCE_MM: Final = 10.0
AGREEMENT_MM: Final = 3.0
CDS_WEIGHTS: Final = {"dds": 0.5, "ors": 0.35, "lds": 0.15}
_CV_GUARD_MM: Final = 1e-6  # the application's, so that a mean of 0 divides
_FARTHEST_PIXEL: Final = 1e9  # a DICOM image has at most 65,535 rows; squares of what is allowed can't overflow
_LARGEST_SPACING_MM: Final = 1e6


@dataclass(frozen=True, slots=True)
class Sighting:
    """One model's best detection of one landmark: the box's centre in pixels, confidence 0..1."""

    x: float
    y: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model saw: its :func:`best_sightings`, found once for all that is computed of them."""

    model: str
    sightings: Mapping[int, Sighting]


@dataclass(frozen=True, slots=True)
class PointDisagreement:
    """How far the models disagree about one landmark; ``detected_by`` of them saw it."""

    detected_by: int
    detection_disagreement: float
    localization_disagreement: float | None = None
    position_std_x_mm: float | None = None
    position_std_y_mm: float | None = None
    spatial_uncertainty_mm: float | None = None
    confidence_uncertainty: float | None = None
    outlier_risk: float | None = None


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Disagreement over a whole image, each 0 (none) to 1."""

    dds: float | None = None
    lds: float | None = None
    ors: float | None = None
    cds: float | None = None


@dataclass(frozen=True, slots=True)
class TableFeatures:
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


@dataclass(frozen=True, slots=True)
class Disagreement:
    """All that is computed of one image: ``points`` holds every label 1 to 8, or nothing when no model ran."""

    models: int
    points: Mapping[int, PointDisagreement]
    image: ImageScores
    features: TableFeatures

    def scores(self) -> dict[str, float]:
        """The image's scores and features by name, without what is missing."""
        found = ((item.name, getattr(part, item.name)) for part in (self.image, self.features) for item in fields(part))
        return {name: value for name, value in found if value is not None}


@dataclass(frozen=True, slots=True)
class ConfidenceRange:
    """Mean, smallest and largest confidence of the fused landmarks, 0..1."""

    average: float
    minimum: float
    maximum: float


Fused = dict[int, tuple[float, float, float]]
Detections = Prediction | Seen
"""One model's, as it gave them or already looked through; what is computed is the same."""
_Scale = tuple[float, float]  # mm a pixel across (column spacing) and down (row spacing)


def look(predictions: Iterable[Prediction]) -> tuple[Seen, ...]:
    """Look through the models' detections, each once."""
    return tuple(Seen(prediction.model, best_sightings(prediction)) for prediction in predictions)


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
    scale = _usable_scale(row_mm, column_mm)
    by_label = _sightings_by_label(predictions)
    distances = {label: _pair_distances(seen, scale) if scale else [] for label, seen in by_label.items()}
    points = {label: _point(seen, models, distances[label], scale) for label, seen in by_label.items()}
    every_distance = [distance for of_point in distances.values() for distance in of_point]
    return Disagreement(
        models, points, _image_scores(points, scale is not None), _features(points, models, every_distance)
    )


def compare(host: Mapping[str, float], ours: Mapping[str, float]) -> dict[str, float]:
    """Absolute differences, by name, of the scores that both have as finite numbers, in the scores' own units."""
    return {
        name: difference
        for name, value in ours.items()
        if is_number(value) and is_number(theirs := host.get(name)) and isfinite(difference := abs(theirs - value))
    }


def best_sightings(prediction: Detections) -> Mapping[int, Sighting]:
    """One model's best usable detection per label 1 to 8; see :func:`disagreement` for what is usable."""
    if isinstance(prediction, Seen):
        return prediction.sightings
    best: dict[int, Sighting] = {}
    for box, label, score in zip(prediction.boxes, prediction.labels, prediction.scores, strict=False):
        if label not in LABELS or not isfinite(score):
            continue
        confidence = min(max(score, 0.0), 1.0)
        if (label not in best or confidence > best[label].confidence) and _is_box(box):
            best[label] = Sighting((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, confidence)
    return best


def fuse(predictions: Sequence[Detections]) -> Fused:
    """``{label: (x, y, confidence)}`` of the landmarks that any model saw.

    The centre, in pixels, is the models' mean weighted with their confidences (all alike when none has any); the
    confidence is their plain mean, as in the application.
    """
    return {label: _fused(seen) for label, seen in _sightings_by_label(predictions).items() if seen}


def fused_confidence(fused: Mapping[int, tuple[float, float, float]]) -> ConfidenceRange | None:
    """The confidences of :func:`fuse`'s landmarks; None when there is no landmark."""
    confidences = [confidence for _, _, confidence in fused.values()]
    if not confidences:
        return None
    low, high = min(confidences), max(confidences)
    return ConfidenceRange(min(max(_mean(confidences), low), high), low, high)  # a rounded mean may leave its range


def missed_landmarks(predictions: Sequence[Detections]) -> tuple[int, ...]:
    """The labels that no model saw; none when no model ran, since then nobody looked."""
    seen = {label for prediction in predictions for label in best_sightings(prediction)}
    return tuple(label for label in LABELS if predictions and label not in seen)


def missed_by_model(predictions: Sequence[Detections]) -> dict[str, tuple[int, ...]]:
    """The labels that each model missed, by the model's name; of several with one name, what any of them missed."""
    found: dict[str, tuple[int, ...]] = {}
    for prediction in predictions:
        missed = {*found.get(prediction.model, ()), *missed_landmarks([prediction])}
        found[prediction.model] = tuple(sorted(missed))
    return found


def _is_box(box: Sequence[float]) -> bool:
    if len(box) != 4:
        return False
    # No all() over a generator: this is asked for every detection. NaN fails the comparison too.
    x1, y1, x2, y2 = box
    far = _FARTHEST_PIXEL
    return -far <= x1 <= far and -far <= y1 <= far and -far <= x2 <= far and -far <= y2 <= far


def _usable_scale(row_mm: float | None, column_mm: float | None) -> _Scale | None:
    if row_mm is None or column_mm is None:
        return None
    usable = all(0 < spacing <= _LARGEST_SPACING_MM for spacing in (row_mm, column_mm))
    return (float(column_mm), float(row_mm)) if usable else None


def _sightings_by_label(predictions: Iterable[Detections]) -> dict[int, list[Sighting]]:
    found = [best_sightings(prediction) for prediction in predictions]
    return {label: [best[label] for best in found if label in best] for label in LABELS}


def _pair_distances(seen: Sequence[Sighting], scale: _Scale) -> list[float]:
    across, down = scale
    return [hypot((a.x - b.x) * across, (a.y - b.y) * down) for a, b in combinations(seen, 2)]


def _point(seen: Sequence[Sighting], models: int, distances: list[float], scale: _Scale | None) -> PointDisagreement:
    missed = (models - len(seen)) / models
    confidence_uncertainty = _relative_spread([sighting.confidence for sighting in seen]) if len(seen) > 1 else None
    if not distances or scale is None:
        risk = None if scale is None else 0.0
        return PointDisagreement(len(seen), missed, confidence_uncertainty=confidence_uncertainty, outlier_risk=risk)
    std_x, std_y = _position_std(seen, scale)
    return PointDisagreement(
        detected_by=len(seen),
        detection_disagreement=missed,
        localization_disagreement=_share(distance > DISAGREEMENT_MM for distance in distances),
        position_std_x_mm=std_x,
        position_std_y_mm=std_y,
        spatial_uncertainty_mm=hypot(std_x, std_y),
        confidence_uncertainty=confidence_uncertainty,
        outlier_risk=_outlier_risk(distances),
    )


def _weights(seen: Sequence[Sighting]) -> list[float]:
    """Weights that sum to 1: by confidence, or equal ones when no model has any."""
    total = fsum(sighting.confidence for sighting in seen)
    if total <= 0:
        return [1 / len(seen)] * len(seen)
    return [sighting.confidence / total for sighting in seen]


def _position_std(seen: Sequence[Sighting], scale: _Scale) -> tuple[float, float]:
    weights = _weights(seen)
    return (
        _weighted_std([sighting.x for sighting in seen], weights) * scale[0],
        _weighted_std([sighting.y for sighting in seen], weights) * scale[1],
    )


def _weighted_std(values: list[float], weights: list[float]) -> float:
    offsets = [value - values[0] for value in values]  # so that positions that agree have a spread of exactly 0
    centre = fsum(weight * offset for weight, offset in zip(weights, offsets, strict=True))
    return sqrt(fsum(weight * (offset - centre) ** 2 for weight, offset in zip(weights, offsets, strict=True)))


def _fused(seen: Sequence[Sighting]) -> tuple[float, float, float]:
    weights = _weights(seen)
    x = fsum(weight * sighting.x for weight, sighting in zip(weights, seen, strict=True))
    y = fsum(weight * sighting.y for weight, sighting in zip(weights, seen, strict=True))
    return x, y, _mean([sighting.confidence for sighting in seen])


def _relative_spread(values: list[float]) -> float | None:
    mean = _mean(values)
    return _population_std(values) / mean if mean > 0 else None


def _outlier_risk(distances: list[float]) -> float:
    low, _ = RISK_BOUNDS_MM
    share = _share(distance > low for distance in distances)
    return min(share * (1 + _excess(max(distances))), 1.0)


def _excess(distance_mm: float) -> float:
    """Where a distance lies between the bounds of risk: 0 at the lower, 1 at the upper."""
    low, high = RISK_BOUNDS_MM
    return min(max((distance_mm - low) / (high - low), 0.0), 1.0)


def _image_scores(points: Mapping[int, PointDisagreement], in_mm: bool) -> ImageScores:
    dds = _mean([point.detection_disagreement for point in points.values()])
    if not in_mm:
        return ImageScores(dds)
    lds = _mean_of_known(point.localization_disagreement for point in points.values())
    uncertainties = (point.spatial_uncertainty_mm for point in points.values())
    ors = _mean_of_known(None if value is None else _excess(value) for value in uncertainties)
    return ImageScores(dds, lds, ors, _composite({"dds": dds, "ors": ors, "lds": lds}))


def _composite(parts: Mapping[str, float | None]) -> float:
    known = {name: value for name, value in parts.items() if value is not None}
    total = fsum(CDS_WEIGHTS[name] for name in known)
    return min(fsum(CDS_WEIGHTS[name] * value for name, value in known.items()) / total, 1.0)


def _features(points: Mapping[int, PointDisagreement], models: int, distances: list[float]) -> TableFeatures:
    rates = [point.detected_by / models for point in points.values()]
    detection = {
        "overall_detection_rate": _mean(rates),
        "detection_consistency": 1.0 - _population_std(rates),
        "missing_point_ratio": _share(point.detected_by == 0 for point in points.values()),
    }
    if not distances:
        return TableFeatures(**detection)
    mean, std = _mean(distances), _population_std(distances)
    return TableFeatures(
        **detection,
        mean_distance=mean,
        max_distance=max(distances),
        distance_std=std,
        distance_cv=std / (mean + _CV_GUARD_MM),
        high_distance_ratio=_share(distance > HIGH_DISTANCE_MM for distance in distances),
        extreme_distance_ratio=_share(distance > EXTREME_DISTANCE_MM for distance in distances),
        model_agreement_rate=_share(distance <= AGREEMENT_MM for distance in distances),
    )


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _population_std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / len(values))


def _share(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / len(listed)
