"""What a detector is: an image in, boxes with labels and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from analysis.landmarks import Spacing

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detections:
    """What one model saw; row i of each array belongs together."""

    boxes: npt.NDArray[np.float64]
    """[N, 4] as x1, y1, x2, y2 in pixels; the landmark is the centre."""
    labels: npt.NDArray[np.int64]
    """[N], 1 to 8."""
    scores: npt.NDArray[np.float64]
    """[N], 0 to 1."""

    @classmethod
    def of(cls, boxes: Sequence[Sequence[float]], labels: Sequence[int], scores: Sequence[float]) -> Detections:
        """Detections from plain lists, of equal length."""
        return cls(
            np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            np.asarray(labels, dtype=np.int64).reshape(-1),
            np.asarray(scores, dtype=np.float64).reshape(-1),
        )

    def as_lists(self) -> dict[str, list[float] | list[int] | list[list[float]]]:
        """JSON-ready lists under `boxes`, `labels`, `scores`."""
        return {
            "boxes": self.boxes.tolist(),
            "labels": self.labels.tolist(),
            "scores": self.scores.tolist(),
        }


class Detector(Protocol):
    """Finds landmarks in one image."""

    @property
    def name(self) -> str:
        """The model's name in the settings and in every record."""

    def detect(self, image: Image, spacing: Spacing) -> Detections:
        """Look at an image [rows, columns] in which bone is bright."""
