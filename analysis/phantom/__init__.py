"""Long-leg radiographs with known truth, for where no real one can be had: tests, benchmarks and the demo.

Nothing that measures an image imports this room.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from analysis.phantom.files import Written, write_bad, write_good
from analysis.phantom.radiograph import Phantom, make_phantom

__all__ = ["Phantom", "Written", "make_phantom", "write_phantoms"]


def write_phantoms(
    folder: Path | str, count: int = 4, *, seed: int = 0, bad: bool = False, truth_path: Path | str | None = None
) -> list[Written]:
    """Fill `folder` with `count` good series and, with `bad`, one of each bad kind.

    The truth goes to `truth_path`, by default `<folder>.truth.json` beside the folder. Equal seeds
    give equal images and UIDs. Raises OSError when something can't be written.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    written = write_good(out, count, rng) + (write_bad(out, rng) if bad else [])
    target = Path(truth_path) if truth_path else out.with_name(f"{out.name}.truth.json")
    target.write_text(json.dumps({"series": [_truth(series) for series in written]}, indent=2) + "\n")
    return written


def _truth(written: Written) -> dict[str, Any]:
    truth: dict[str, Any] = {
        "series": written.series_id,
        "kind": written.kind,
        "expected": written.expected,
    }
    if (phantom := written.phantom) is not None:
        truth |= {
            "sex": phantom.sex,
            "age_years": phantom.age_years,
            "spacing_mm": {"row": phantom.spacing.row_mm, "column": phantom.spacing.column_mm},
            "landmarks_pixels": {str(label): place for label, place in phantom.landmarks.items()},
            "lengths_mm": phantom.lengths_mm,
        }
    return truth
