"""The results as JSON, for the systems that don't read DICOM. It holds no header value."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from analysis.json_values import json_safe
from analysis.landmarks import name_of
from analysis.measurements import BONE_WORDS, DEFINITION, MEASUREMENTS, NOTICE
from analysis.outputs.content import SOFTWARE_VERSION, ReportContent


def encode(content: ReportContent) -> bytes:
    """The results as the bytes of a JSON file."""
    return (json.dumps(json_safe(build(content)), indent=2, allow_nan=False) + "\n").encode()


def build(content: ReportContent) -> dict[str, Any]:
    """Lengths in mm and cm, landmarks in pixels of the image as stored, its spacing in mm."""
    return {
        "version": SOFTWARE_VERSION,
        "notice": NOTICE,
        "definition": DEFINITION,
        "models": list(content.models),
        "measurements": content.measurements,
        "differences_mm": {BONE_WORDS[code]: difference_mm for code, difference_mm in content.differences_mm.items()},
        "missing": content.missing,
        "flags": {name: [issue["code"] for issue in content.flags(name)] for name in MEASUREMENTS},
        "implausible": content.implausible,
        "issues": content.issues,
        "landmarks": [
            {"name": name_of(landmark.label), **asdict(content.radiograph.stored(landmark))}
            for landmark in content.landmarks.values()
        ],
        "orientation": content.radiograph.orientation.as_json(),
        "spacing_mm": {
            "row": content.radiograph.stated_spacing.spacing.row_mm,
            "column": content.radiograph.stated_spacing.spacing.column_mm,
        },
        "spacing": content.radiograph.stated_spacing.as_json(),
        "image_metrics": dict(content.image_metrics),
    }
