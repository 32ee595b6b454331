"""Predictions and exams for the tests of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitoring.domain.anatomy import LABELS
from monitoring.records.session_record import Prediction

Positions = Mapping[int, tuple[float, float]]
PLACES: Positions = {
    1: (300.0, 200.0), 2: (700.0, 200.0),
    3: (280.0, 1200.0), 5: (360.0, 1200.0), 4: (720.0, 1200.0), 6: (640.0, 1200.0),
    7: (330.0, 2000.0), 8: (670.0, 2000.0),
}  # fmt: skip


def prediction(model: str, places: Positions, score: float = 0.9) -> Prediction:
    boxes = tuple((x - 5.0, y - 5.0, x + 5.0, y + 5.0) for x, y in places.values())
    return Prediction(model, boxes, tuple(places), (score,) * len(places))


def detections(model: str, *found: tuple[int, float, float, float]) -> Prediction:
    """From (label, x, y, score)."""
    boxes = tuple((x - 5.0, y - 5.0, x + 5.0, y + 5.0) for _, x, y, _ in found)
    return Prediction(model, boxes, tuple(row[0] for row in found), tuple(row[3] for row in found))


def agreeing(models: int = 3, labels: Sequence[int] = LABELS) -> list[Prediction]:
    places = {label: PLACES[label] for label in labels}
    return [prediction(f"m{index}", places) for index in range(models)]


def one_off_by(pixels: float, label: int = 1) -> list[Prediction]:
    """Three models that agree, but for one landmark of the last."""
    x, y = PLACES[label]
    return [*agreeing(2), prediction("m2", {**PLACES, label: (x + pixels, y)})]
