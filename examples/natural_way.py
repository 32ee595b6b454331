"""A host that records its sessions with `with`: `python examples/natural_way.py [task.json]`.

Without settings it records into the store alone, in the folder that $MONITORING_DATA_PATH names.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from monitoring import MonitorManager


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
    settings = {"monitoring": {"enabled": True}}
    if len(sys.argv) > 1:
        settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["process"]["settings"]

    with MonitorManager(settings, logging.getLogger("host")) as monitor:
        for series_id, spacing_mm in (("1.2.3.4", 0.143), ("1.2.3.5", None)):
            with monitor.session(series_id) as session:
                if spacing_mm is None:
                    session.skip("no_pixel_spacing")
                    continue
                with session.stage("inference"):
                    boxes = [[100, 200, 120, 220], [310, 198, 330, 218]]
                session.record_model_performance(
                    "resnet101", {"landmarks_detected": 2, "confidence_scores": [0.97, 0.95]}
                )
                session.record_performance_data(
                    {
                        "individual_model_predictions": {
                            "resnet101": {"predictions": {"boxes": boxes, "labels": [1, 2], "scores": [0.97, 0.95]}}
                        }
                    }
                )
                session.record_metric("bone_age_months", 118)  # any number of the host's own, its unit in its name
                session.record_measurements({"PLL_R_FEM": 371.2, "PLL_L_FEM": 368.2})  # lengths of legs only, in mm


if __name__ == "__main__":
    main()
