"""The results as JSON, for the systems that don't read DICOM. It holds no header value."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from analysis.json_values import json_safe
from analysis.landmarks import name_of
from analysis.measurements import BONE_WORDS, left_right_difference_mm
from analysis.outputs.content import SOFTWARE_VERSION, ReportContent


def encode(content: ReportContent) -> bytes:
    """The results as the bytes of a JSON file."""
    return (json.dumps(json_safe(build(content)), indent=2, allow_nan=False) + "\n").encode()


def build(content: ReportContent) -> dict[str, Any]:
    """Lengths in mm and cm, landmarks in pixels, spacing in mm."""
    return {
        "version": SOFTWARE_VERSION,
        "models": list(content.models),
        "measurements": content.measurements,
        "differences_mm": {
            bone: left_right_difference_mm(content.measurements, code) for code, bone in BONE_WORDS.items()
        },
        "issues": content.issues,
        "landmarks": [{"name": name_of(landmark.label), **asdict(landmark)} for landmark in content.landmarks.values()],
        "spacing_mm": {
            "row": content.radiograph.spacing.row_mm,
            "column": content.radiograph.spacing.column_mm,
        },
        "image_metrics": dict(content.image_metrics),
    }
