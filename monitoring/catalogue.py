"""Every metric, declared once: the collector, both sinks, the command line and ``docs/metrics.md`` read this.

A metric has a name in Prometheus and, where it belongs to one session, a place (measurement, field)
in InfluxDB. Labels have bounded value sets: closed ones list their values here, open ones
(model, stage and metric names that a host chooses) are admitted by the store up to a limit and
fold into ``other`` beyond it. No label ever holds a session, a series, a study or a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from monitoring.events import STATUSES

OTHER = "other"
"""The value that a label takes when a host's value isn't admitted."""


class Kind(StrEnum):
    """How a metric behaves in Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its values; ``closed`` ones take no others, open ones up to ``limit`` distinct others."""

    name: str
    values: tuple[str, ...]
    closed: bool = True
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``measurement`` and ``field`` are its place in InfluxDB, None when it has none there."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    measurement: str | None = None
    field: str | None = None
    buckets: tuple[float, ...] = ()
    source: str = "measured"

    def known_series(self) -> Iterator[dict[str, str]]:
        """Every label combination that is known beforehand, to be exported at 0 from the first push."""
        names = [label.name for label in self.labels]
        for values in product(*(label.values for label in self.labels)):
            yield dict(zip(names, values, strict=True))


STAGES = ("load", "inference", "measurement", "dicom_generation")
MEASUREMENTS = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")
BACKENDS = ("influxdb", "prometheus", "textfile")

STATUS = Label("status", STATUSES)
STAGE = Label("stage", STAGES, closed=False, limit=12)
MODEL = Label("model", (), closed=False, limit=16)
MEASUREMENT = Label("measurement", MEASUREMENTS, closed=False, limit=12)
VOLUME = Label("volume", ("output", "store"))
GPU = Label("gpu", tuple(map(str, range(16))))
CUSTOM_NAME = Label("name", (), closed=False, limit=64)
BACKEND = Label("backend", BACKENDS)
LOSS = Label("reason", ("corrupt", "disk_full", "evicted", "expired", "rejected"))
DELIVERY_FAILURE = Label(
    "reason",
    (
        "bad_answer", "dns", "forbidden", "http_4xx", "http_5xx", "internal", "not_found", "rate_limited", "redirect",
        "refused", "reset", "timeout", "tls", "unauthorized", "unavailable", "unreachable",
    ),
)  # fmt: skip

STAGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

SESSIONS = Metric(
    "leglength_sessions_total", Kind.COUNTER, "1", "Sessions (images processed) by how they ended.", (STATUS,)
)
SESSION_DURATION = Metric(
    "leglength_session_duration_seconds", Kind.HISTOGRAM, "s", "Total processing time of one image.",
    measurement="leglength_session", field="duration_seconds", buckets=STAGE_BUCKETS,
)  # fmt: skip
LANDMARKS_FOUND = Metric(
    "leglength_landmarks_found", Kind.GAUGE, "1", "Landmarks (of 8) found by at least one model in the latest image.",
    measurement="leglength_session", field="landmarks_found",
    source="distinct labels 1-8 over the models' predictions",
)  # fmt: skip
QUEUE_DEPTH = Metric(
    "leglength_queue_depth", Kind.GAUGE, "1", "Series still waiting in this run when the latest session ended.",
    measurement="leglength_session", field="queue_depth", source="reported by the host",
)  # fmt: skip
THROUGHPUT = Metric(
    "leglength_throughput_sessions_per_hour", Kind.GAUGE, "1/h",
    "Sessions finished in the hour up to the latest session's end, that one included.",
    measurement="leglength_session", field="throughput_sessions_per_hour", source="counted in the store",
)  # fmt: skip
LAST_RUN = Metric(
    "leglength_last_run_timestamp_seconds", Kind.GAUGE, "s", "Unix time at which the latest session ended."
)
LAST_SUCCESS = Metric(
    "leglength_last_success_timestamp_seconds",
    Kind.GAUGE,
    "s",
    "Unix time at which the latest completed session ended.",
)
STAGE_DURATION = Metric(
    "leglength_stage_duration_seconds", Kind.HISTOGRAM, "s", "Time spent in one stage of one image's processing.",
    (STAGE,), "leglength_stage", "duration_seconds", STAGE_BUCKETS,
)  # fmt: skip
MODEL_INFERENCE = Metric(
    "leglength_model_inference_seconds", Kind.HISTOGRAM, "s", "Inference time of one model on one image.",
    (MODEL,), "leglength_model", "inference_seconds", STAGE_BUCKETS,
)  # fmt: skip
MODEL_LANDMARKS = Metric(
    "leglength_model_landmarks_found", Kind.GAUGE, "1", "Landmarks that the model found in the latest image.",
    (MODEL,), "leglength_model", "landmarks_found",
)  # fmt: skip


def _confidence(statistic: str, words: str) -> Metric:
    return Metric(
        f"leglength_model_confidence_{statistic}_ratio", Kind.GAUGE, "ratio",
        f"{words} confidence of the model's detections in the latest image.",
        (MODEL,), "leglength_model", f"confidence_{statistic}", source="the model's detection scores",
    )  # fmt: skip


MODEL_CONFIDENCE = {
    "average": _confidence("average", "Mean"),
    "minimum": _confidence("minimum", "Smallest"),
    "maximum": _confidence("maximum", "Largest"),
}

MEASUREMENT_MM = Metric(
    "leglength_measurement_millimeters", Kind.GAUGE, "mm", "The latest image's measurement.",
    (MEASUREMENT,), "leglength_measurement", "millimeters",
    source="vertical distance between landmarks by the row spacing",
)  # fmt: skip

_ENSEMBLE = {
    "dds": ("ratio", "Detection disagreement score: mean over points of (M-n)/M."),
    "lds": ("ratio", "Localization disagreement score: mean share of model pairs further apart than 2.0 mm."),
    "ors": ("ratio", "Outlier risk score: mean of clip((spatial uncertainty in mm - 10)/40, 0, 1)."),
    "cds": ("ratio", "Composite disagreement score: 0.5 DDS + 0.35 ORS + 0.15 LDS."),
    "mean_distance": ("mm", "Mean distance between two models' positions of one landmark."),
    "max_distance": ("mm", "Largest distance between two models' positions of one landmark."),
    "distance_std": ("mm", "Population standard deviation of the pairwise distances."),
    "distance_cv": ("ratio", "Coefficient of variation of the pairwise distances."),
    "overall_detection_rate": ("ratio", "Mean over landmarks of the share of models that found it."),
    "detection_consistency": ("ratio", "1 - population standard deviation of the detection rates."),
    "missing_point_ratio": ("ratio", "Share of the 8 landmarks that no model found."),
    "high_distance_ratio": ("ratio", "Share of pairwise distances over 5 mm."),
    "extreme_distance_ratio": ("ratio", "Share of pairwise distances over 10 mm."),
    "model_agreement_rate": ("ratio", "Share of pairwise distances up to 3 mm."),
}


def _suffixed(key: str, unit: str) -> str:
    suffix = {"mm": "_millimeters", "ratio": "_ratio"}[unit]
    return key if key.endswith(suffix) else key + suffix


ENSEMBLE = {
    key: Metric(
        f"leglength_ensemble_{_suffixed(key, unit)}", Kind.GAUGE, unit, words,
        measurement="leglength_ensemble", field=_suffixed(key, unit) if unit == "mm" else key,
        source="the host's ensemble",
    )
    for key, (unit, words) in _ENSEMBLE.items()
}  # fmt: skip

_SYSTEM: dict[str, tuple[str, str, tuple[Label, ...]]] = {
    "process_cpu_ratio": ("ratio", "CPU of this process, in processors (1 = one processor busy)", ()),
    "system_cpu_ratio": ("ratio", "CPU of the machine, as a share of all its processors", ()),
    "process_resident_memory_bytes": ("bytes", "Resident memory of this process", ()),
    "system_memory_available_bytes": ("bytes", "Memory that can be had without swapping", ()),
    "disk_used_bytes": ("bytes", "Used space of the volume", (VOLUME,)),
    "disk_free_bytes": ("bytes", "Free space of the volume for this user", (VOLUME,)),
    "gpu_memory_used_bytes": ("bytes", "GPU memory in use, by all processes", (GPU,)),
    "gpu_memory_total_bytes": ("bytes", "GPU memory in all", (GPU,)),
    "gpu_utilization_ratio": ("ratio", "GPU utilisation", (GPU,)),
}


def _system(resource: str, statistic: str) -> Metric:
    unit, words, labels = _SYSTEM[resource]
    adjective = "mean" if statistic == "average" else "largest"
    name = f"{resource.removesuffix(unit)}{statistic}_{unit}"
    return Metric(
        f"leglength_{name}", Kind.GAUGE, unit, f"{words}: {adjective} over the latest session.",
        labels, "leglength_gpu" if GPU in labels else "leglength_disk" if VOLUME in labels else "leglength_system",
        name, source="NVML" if GPU in labels else "psutil",
    )  # fmt: skip


SYSTEM_RESOURCES = tuple(_SYSTEM)
SYSTEM = {
    (resource, statistic): _system(resource, statistic) for resource in _SYSTEM for statistic in ("average", "maximum")
}

CUSTOM = Metric(
    "leglength_custom", Kind.GAUGE, "as reported", "The latest value of a metric of the host's own.",
    (CUSTOM_NAME,), "leglength_custom", "value", source="reported by the host",
)  # fmt: skip

MONITORING_PENDING = Metric(
    "leglength_monitoring_pending_points", Kind.GAUGE, "1",
    "Stored and not yet delivered: points for InfluxDB, sessions for Prometheus.", (BACKEND,), source="the store",
)  # fmt: skip
MONITORING_OLDEST = Metric(
    "leglength_monitoring_oldest_pending_seconds", Kind.GAUGE, "s",
    "Age of the oldest session that waits for delivery; 0 when none does.", (BACKEND,), source="the store",
)  # fmt: skip
MONITORING_DELIVERED = Metric(
    "leglength_monitoring_delivered_total", Kind.COUNTER, "1",
    "Delivered: points to InfluxDB, sessions to Prometheus.", (BACKEND,), source="the store",
)  # fmt: skip
MONITORING_DEAD = Metric(
    "leglength_monitoring_dead_points", Kind.GAUGE, "1", "Points that a backend refused for good, kept aside.",
    (BACKEND,), source="the store",
)  # fmt: skip
MONITORING_FAILURES = Metric(
    "leglength_monitoring_delivery_failures_total", Kind.COUNTER, "1", "Failed delivery attempts by reason.",
    (BACKEND, DELIVERY_FAILURE), source="the store",
)  # fmt: skip
MONITORING_DROPPED = Metric(
    "leglength_monitoring_dropped_total", Kind.COUNTER, "1",
    "Losses by reason: points for InfluxDB that will never be delivered, sessions lost with the store.",
    (LOSS,), source="the store",
)  # fmt: skip
MONITORING_LAST_DELIVERY = Metric(
    "leglength_monitoring_last_delivery_timestamp_seconds", Kind.GAUGE, "s", "Unix time of the latest delivery.",
    (BACKEND,), source="the store",
)  # fmt: skip

RELAY_LAST_SEEN = Metric(
    "leglength_monitoring_relay_last_seen_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which a relay last looked after the store.", source="the relay",
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    SESSIONS, SESSION_DURATION, LANDMARKS_FOUND, QUEUE_DEPTH, THROUGHPUT, LAST_RUN, LAST_SUCCESS, STAGE_DURATION,
    MODEL_INFERENCE, MODEL_LANDMARKS, *MODEL_CONFIDENCE.values(), MEASUREMENT_MM, *ENSEMBLE.values(), *SYSTEM.values(),
    CUSTOM, MONITORING_PENDING, MONITORING_OLDEST, MONITORING_DELIVERED, MONITORING_DEAD, MONITORING_FAILURES,
    MONITORING_DROPPED, MONITORING_LAST_DELIVERY, RELAY_LAST_SEEN,
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}
