"""A host that passes a session's id around: `python examples/id_based_way.py [task.json]`.

It means the same as examples/natural_way.py. With monitoring off the id is "" and every call does nothing.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from monitoring import MonitorManager


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
    settings = {"monitoring": {"enabled": True}}
    if len(sys.argv) > 1:
        settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["process"]["settings"]

    monitor = MonitorManager(settings, logging.getLogger("host"))
    session_id = monitor.start_session("1.2.3.4", settings)
    started = time.time()
    scores = [0.97, 0.95]
    monitor.track_processing_time(session_id, "inference", started, time.time())
    monitor.record_model_performance(session_id, "resnet101", {"landmarks_detected": 2, "confidence_scores": scores})
    monitor.record_measurements(session_id, {"PLL_R_FEM": {"millimeters": 371.2}, "PLL_L_FEM": {"millimeters": 368.2}})
    monitor.record_metrics(session_id, "queue_depth", 0)
    monitor.end_session(session_id, "completed")
    monitor.close()


if __name__ == "__main__":
    main()
