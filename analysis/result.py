"""What came out of one series: frozen, and free of identity but for its file's name.

Between the pipeline, which makes it, and whoever reports it: the run's `result.json`, and the monitoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from analysis.detectors.protocol import Detections
from analysis.json_values import json_safe
from analysis.landmarks import Landmark, Spacing
from analysis.measurements import BONE_WORDS, MEASUREMENTS, NOTICE, Issue, Measurements, left_right_difference_mm
from analysis.orientation import Orientation
from analysis.spacing import StatedSpacing

Status = Literal["completed", "failed", "skipped"]


@dataclass(frozen=True)
class ModelResult:
    """What one model did with one image."""

    inference_seconds: float
    predictions: Detections
    measurements: Measurements
    """What this model alone would have measured."""

    @property
    def landmarks_detected(self) -> int:
        """How many of the eight landmarks it saw."""
        return len(set(self.predictions.labels.tolist()))

    @property
    def confidence_scores(self) -> list[float]:
        """The scores of all its detections, 0 to 1."""
        scores: list[float] = self.predictions.scores.tolist()
        return scores


@dataclass(frozen=True)
class SeriesResult:
    """How one series ended; what was found before it was skipped or failed is kept."""

    status: Status
    stem: str
    reason: str | None = None
    """A code of `analysis.errors`; None when completed."""
    detail: str = ""
    """The reason in words, free of identity."""
    failed_stage: str | None = None
    failure: str | None = None
    """An unexpected exception as `Type at module:line`, never its message."""
    dicom_path: Path | None = None
    spacing: Spacing | None = None
    """Of the standard view."""
    stated_spacing: StatedSpacing | None = None
    orientation: Orientation | None = None
    landmarks: Mapping[int, Landmark] = field(default_factory=dict)
    measurements: Measurements = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    model_results: Mapping[str, ModelResult] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    """`uncertainties`, `point_statistics`, `issues`, `image_metrics`, `individual_model_predictions`."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    output_files: tuple[str, ...] = ()


def summary(result: SeriesResult) -> dict[str, Any]:
    """One series as JSON-safe values; the stem names it, so it stays with the patient's task."""
    values: dict[str, Any] = json_safe(
        {
            "series": result.stem,
            "status": result.status,
            "reason": result.reason,
            "detail": result.detail,
            "failed_stage": result.failed_stage,
            "failure": result.failure,
            "notice": NOTICE,
            "measurements": result.measurements,
            "missing": [name for name in MEASUREMENTS if result.measurements and name not in result.measurements],
            "differences_mm": {
                bone: left_right_difference_mm(result.measurements, code) for code, bone in BONE_WORDS.items()
            },
            "issues": result.issues,
            "orientation": result.orientation and result.orientation.as_json(),
            "spacing": result.stated_spacing and result.stated_spacing.as_json(),
            "landmarks": [asdict(landmark) for landmark in result.landmarks.values()],
            "models": {
                name: {"inference_seconds": model.inference_seconds, "landmarks_detected": model.landmarks_detected}
                for name, model in result.model_results.items()
            },
            "image_metrics": result.performance.get("image_metrics", {}),
            "stage_seconds": dict(result.stage_seconds),
            "output_files": result.output_files,
        }
    )
    return values
