"""One realistic image: 4 stages, 3 models with 8 detections each, 6 measurements, 14 ensemble scores.

Everyone is given the same: ours the host's calls, the others the values that ours derives from them.
"""

from __future__ import annotations

import time
from typing import Any

from monitoring.domain.derivation import Facts
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Metric
from monitoring.metrics.line_protocol import Point
from monitoring.metrics_collector import points, samples
from monitoring.records.session_record import SessionRecord, Usage
from monitoring.runtime.session import Session

INSTANCE = "leglength-bench"
SESSION_SERIES = "leglength_session"  # the measurement that has exactly one point per session
STAGES = catalogue.STAGES
MODELS = ("resnet101", "resnext101", "mobilenet_v3")
MEASUREMENTS = {
    name: {"millimeters": 371.25 + 13.5 * n, "centimeters": 37.125 + 1.35 * n}
    for n, name in enumerate(catalogue.MEASUREMENTS)
}
SCORES = [0.99 - 0.0125 * n for n in range(8)]
BOXES = [[100.5 + 9 * n, 200.25 + 310 * n, 131.5 + 9 * n, 231.75 + 310 * n] for n in range(8)]
MODEL_METRICS = {
    model: {
        "inference_seconds": 1.25 + 0.5 * n,
        "landmarks_detected": 8,
        "confidence_scores": SCORES,
        "measurements": {name: value["millimeters"] + n for name, value in MEASUREMENTS.items()},
    }
    for n, model in enumerate(MODELS)
}
PERFORMANCE = {
    "image_metrics": {key: 0.125 + 0.0625 * n for n, key in enumerate(catalogue.ENSEMBLE)},
    "individual_model_predictions": {
        model: {"predictions": {"boxes": BOXES, "labels": list(range(1, 9)), "scores": SCORES}} for model in MODELS
    },
    "issues": [{"code": "low_confidence"}],
}
_SYSTEM = {
    "process_cpu_ratio": Usage(0.75, 1.0),
    "system_cpu_ratio": Usage(0.5, 0.875),
    "process_resident_memory_bytes": Usage(2.1e9, 2.4e9),
    "system_memory_available_bytes": Usage(1.1e10, 1.2e10),
    **{f"disk_used_bytes/{volume}": Usage(8.5e10, 8.6e10) for volume in ("output", "store")},
    **{f"disk_free_bytes/{volume}": Usage(1.7e11, 1.8e11) for volume in ("output", "store")},
}


def settings(store: str, influx_url: str = "", gateway_url: str = "", **extra: Any) -> dict[str, Any]:
    """``process.settings`` with the defaults that a user has, but for the addresses."""
    section: dict[str, Any] = {"enabled": True, "store": {"path": store, "max_size_mb": 100_000}, **extra}
    if influx_url:
        section["influxdb"] = {"url": influx_url, "token": "bench-token", "org": "hospital", "bucket": "leglength"}
    if gateway_url:
        section["prometheus"] = {"gateway_url": gateway_url, "job_name": "leglength", "instance": INSTANCE}
    return {"monitoring": section, "models": list(MODELS)}


def record_into(session: Any) -> None:
    """What a host tells of one image, save for its stages."""
    session.record_metric("queue_depth", 3)
    session.record_measurements(MEASUREMENTS)
    session.record_performance_data(PERFORMANCE)
    for model, metrics in MODEL_METRICS.items():
        session.record_model_performance(model, metrics)


def host_session(monitor: Any, series_id: str) -> None:
    """One image's processing without the processing, so that what is timed is the monitoring alone."""
    with monitor.session(series_id) as session:
        for stage in STAGES:
            with session.stage(stage):
                pass
        record_into(session)


def record(with_models: bool = True) -> SessionRecord:
    """The record that such a session leaves."""
    session = Session("5f3a9c1e7b2d4860")
    for stage in STAGES:
        session.record_stage(stage, 0.75)
    record_into(session)
    frozen = session.freeze("completed", _SYSTEM)
    return frozen if with_models else frozen.without_models()


def realistic_points() -> list[Point]:
    """One session's points."""
    one = record()
    return points(samples(one, Facts(sessions_last_hour=12)), one, {"instance": INSTANCE})


def values() -> list[tuple[Metric, dict[str, str], float]]:
    """One session's samples, for clients that keep counters, histograms and gauges."""
    return [
        (sample.metric, dict(sample.labels), sample.value) for sample in samples(record(), Facts(sessions_last_hour=12))
    ]


def metrics() -> list[Metric]:
    """The metrics of those samples, each once."""
    return list({metric.name: metric for metric, _, _ in values()}.values())


def is_counter(metric: Metric) -> bool:
    """A total, that only grows."""
    return metric.kind is Kind.COUNTER


def is_histogram(metric: Metric) -> bool:
    """A distribution over buckets."""
    return metric.kind is Kind.HISTOGRAM


def now_ns() -> int:
    """UTC nanoseconds."""
    return time.time_ns()
