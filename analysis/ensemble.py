"""One position per landmark from what several models saw, and how far the models disagree.

The disagreement scores are those of the deployed application (docs: "Ensemble disagreement"); the watcher has formulas
of its own, since neither half knows the other. Distances are in mm. What can't be computed is None, never 0: a point
that one model saw has no pair and so no localisation disagreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.detectors.protocol import Detections
from analysis.landmarks import LABELS, Landmark, Spacing

_DISAGREEMENT_MM: Final = 2.0
_RISK_LOW_MM: Final = 10.0
_RISK_HIGH_MM: Final = 50.0
_WEIGHTS: Final = {"dds": 0.5, "ors": 0.35, "lds": 0.15}

Predictions = Mapping[str, Detections]


@dataclass(frozen=True)
class Sighting:
    """One model's best detection of one landmark, in pixels."""

    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class PointUncertainty:
    """How far the models disagree about one landmark."""

    detection_disagreement: float
    localization_disagreement: float | None = None
    position_std_x_mm: float | None = None
    position_std_y_mm: float | None = None
    spatial_uncertainty_mm: float | None = None
    confidence_uncertainty: float | None = None
    outlier_risk: float = 0.0


@dataclass(frozen=True)
class ImageScores:
    """Disagreement over a whole image, each 0 to 1."""

    dds: float
    """Detection disagreement: mean over all eight points, unseen ones counting 1."""
    lds: float | None
    """Localisation disagreement: mean over the points that have a pair."""
    ors: float | None
    """Outlier risk: mean over the points that have a spatial uncertainty."""
    cds: float
    """The composite; a missing part leaves its weight to the others."""


def best_sightings(detections: Detections) -> dict[int, Sighting]:
    """The highest-scored usable detection per label.

    Boxes or scores that aren't finite and labels other than 1 to 8 don't count.
    """
    best: dict[int, Sighting] = {}
    for box, label, score in zip(detections.boxes, detections.labels, detections.scores, strict=True):
        usable = int(label) in LABELS and np.isfinite(box).all() and np.isfinite(score)
        if not usable or (int(label) in best and best[int(label)].confidence >= score):
            continue
        x1, y1, x2, y2 = (float(edge) for edge in box)
        best[int(label)] = Sighting((x1 + x2) / 2, (y1 + y2) / 2, min(max(float(score), 0.0), 1.0))
    return best


def sightings_by_label(predictions: Predictions) -> dict[int, list[Sighting]]:
    """Per label, one sighting of each model that saw it; every label has its list."""
    found = [best_sightings(detections) for detections in predictions.values()]
    return {label: [best[label] for best in found if label in best] for label in LABELS}


def fuse(predictions: Predictions, confidence_threshold: float = 0.0) -> dict[int, Landmark]:
    """The landmarks on which the models agree on average.

    Position is the confidence-weighted mean, confidence the plain mean of the models that saw
    it; a landmark below the threshold is left out.
    """
    landmarks: dict[int, Landmark] = {}
    for label, sightings in sightings_by_label(predictions).items():
        confidence = _mean_of_present([seen.confidence for seen in sightings])
        if confidence is not None and confidence >= confidence_threshold:
            x, y = _weights(sightings) @ np.array([(seen.x, seen.y) for seen in sightings])
            landmarks[label] = Landmark(label, float(x), float(y), confidence, len(sightings))
    return landmarks


def _weights(sightings: list[Sighting]) -> npt.NDArray[np.float64]:
    """Weights that sum to 1; equal ones when no model is confident at all."""
    confidences = np.array([s.confidence for s in sightings])
    total = confidences.sum()
    if total <= 0:
        return np.full(len(sightings), 1 / len(sightings))
    weights: npt.NDArray[np.float64] = confidences / total
    return weights


def point_uncertainties(predictions: Predictions, spacing: Spacing) -> dict[int, PointUncertainty]:
    """How far the models disagree about each of the eight landmarks."""
    by_label = sightings_by_label(predictions)
    return {label: _point_uncertainty(seen, len(predictions), spacing) for label, seen in by_label.items()}


def _point_uncertainty(sightings: list[Sighting], models: int, spacing: Spacing) -> PointUncertainty:
    missed = (models - len(sightings)) / models if models else 1.0
    if len(sightings) < 2:  # no pair, so no spread
        return PointUncertainty(missed)
    scale = np.array([spacing.column_mm, spacing.row_mm])
    positions = np.array([(s.x, s.y) for s in sightings]) * scale
    distances = np.array([np.hypot(*(a - b)) for a, b in combinations(positions, 2)])
    weights = _weights(sightings)
    std_x, std_y = (float(std) for std in np.sqrt(weights @ (positions - weights @ positions) ** 2))
    confidences = [seen.confidence for seen in sightings]
    confidence = float(np.mean(confidences))
    return PointUncertainty(
        detection_disagreement=missed,
        localization_disagreement=float(np.mean(distances > _DISAGREEMENT_MM)),
        position_std_x_mm=std_x,
        position_std_y_mm=std_y,
        spatial_uncertainty_mm=float(np.hypot(std_x, std_y)),
        confidence_uncertainty=float(np.std(confidences)) / confidence if confidence > 0 else None,
        outlier_risk=_outlier_risk(distances),
    )


def _outlier_risk(distances: npt.NDArray[np.float64]) -> float:
    """The share of pairs that are far apart, more the farther the farthest is: 0 to 1."""
    share = float(np.mean(distances > _RISK_LOW_MM))
    severity = min((float(distances.max()) - _RISK_LOW_MM) / (_RISK_HIGH_MM - _RISK_LOW_MM), 1.0)
    return min(share * (1 + severity), 1.0)


def image_scores(points: Mapping[int, PointUncertainty]) -> ImageScores:
    """The scores of a whole image from those of its eight points."""
    dds = fmean(point.detection_disagreement for point in points.values())
    lds = _mean_of_present([point.localization_disagreement for point in points.values()])
    ors = _mean_of_present([_spatial_risk(point.spatial_uncertainty_mm) for point in points.values()])
    parts = {"dds": dds, "ors": ors, "lds": lds}
    present = {name: value for name, value in parts.items() if value is not None}
    total = sum(_WEIGHTS[name] for name in present)
    cds = sum(_WEIGHTS[name] * value for name, value in present.items()) / total
    return ImageScores(dds=dds, lds=lds, ors=ors, cds=cds)


def _spatial_risk(uncertainty_mm: float | None) -> float | None:
    if uncertainty_mm is None:
        return None
    risk = (uncertainty_mm - _RISK_LOW_MM) / (_RISK_HIGH_MM - _RISK_LOW_MM)
    return min(max(risk, 0.0), 1.0)


def _mean_of_present(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def performance_data(predictions: Predictions, landmarks: Mapping[int, Landmark], spacing: Spacing) -> dict[str, Any]:
    """What a watcher of the ensemble wants to know: disagreement and every model's predictions."""
    points = point_uncertainties(predictions, spacing)
    return {
        "uncertainties": {str(label): asdict(point) for label, point in points.items()},
        "point_statistics": _point_statistics(predictions, landmarks),
        "image_metrics": {
            **asdict(image_scores(points)),
            "models_total": len(predictions),
            "landmarks_found": len(landmarks),
            "mean_confidence": _mean_of_present([landmark.confidence for landmark in landmarks.values()]),
            "mean_support": _mean_of_present(
                [mark.confidence * mark.models / len(predictions) for mark in landmarks.values()]
            ),
        },
        "individual_model_predictions": {
            model: {"predictions": detections.as_lists()} for model, detections in predictions.items()
        },
    }


def _point_statistics(predictions: Predictions, landmarks: Mapping[int, Landmark]) -> dict[str, dict[str, object]]:
    statistics: dict[str, dict[str, object]] = {}
    for label, sightings in sightings_by_label(predictions).items():
        landmark = landmarks.get(label)
        statistics[str(label)] = {
            "models_detecting": len(sightings),
            "models_total": len(predictions),
            "mean_confidence": _mean_of_present([s.confidence for s in sightings]),
            "x_pixels": landmark.x if landmark else None,
            "y_pixels": landmark.y if landmark else None,
        }
    return statistics
