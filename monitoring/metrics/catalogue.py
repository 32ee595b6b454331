"""Every metric, declared once: the collector, both sinks, the command line and ``docs/metrics.md`` read this.

A metric has a name in Prometheus and, where it belongs to one session, a place (measurement, field)
in InfluxDB. Labels have bounded value sets: closed ones list their values here, open ones
(model, stage and metric names that a host chooses) are taken by the store up to a limit and
fold into ``other`` beyond it (:mod:`monitoring.metrics.samples`). No label ever holds a session, a
series, a study or a patient.
"""

from __future__ import annotations

from monitoring.domain.anatomy import FEMUR, LABELS, LEG, MEASUREMENTS, TIBIA
from monitoring.domain.plausibility import RULES, SEVERITIES
from monitoring.exceptions import DELIVERY_FAILURES
from monitoring.metrics import chart_metrics
from monitoring.metrics.backends import BACKENDS, WHAT_ENDS
from monitoring.metrics.kinds import OWN_MEASUREMENTS as OWN_MEASUREMENTS
from monitoring.metrics.kinds import Kind as Kind
from monitoring.metrics.kinds import Label as Label
from monitoring.metrics.kinds import Metric as Metric
from monitoring.metrics.machine_metrics import GPU as GPU
from monitoring.metrics.machine_metrics import SYSTEM as SYSTEM
from monitoring.metrics.machine_metrics import SYSTEM_RESOURCES as SYSTEM_RESOURCES
from monitoring.metrics.machine_metrics import VOLUME as VOLUME
from monitoring.metrics.stop_reasons import REASON_CLASSES
from monitoring.records import coerce
from monitoring.records.names import short_digest, version_code
from monitoring.records.session_record import REFUSED_VALUES, STATUSES

OTHER = coerce.OTHER
"""The value that a label takes when a host's value isn't taken."""


OWN_CODES = ("crashed", "exception", "not_ended", "terminated", "unknown_status", OTHER)
"""The codes that this package itself gives to a session's end."""
STAGES = ("load", "inference", "measurement", "dicom_generation")
NO_STAGE = "none"
STATUS = Label("status", STATUSES)
STAGE = Label("stage", STAGES, closed=False, limit=12)
STOP_STAGE = Label("stage", (*STAGES, NO_STAGE, OTHER), closed=False, limit=12)
STOP_STATUS = Label("status", tuple(status for status in STATUSES if status != "completed"))
STOP_REASON = Label("reason", REASON_CLASSES)
CODE = Label("code", OWN_CODES, closed=False, limit=32)
ISSUE = Label("issue", (), closed=False, limit=32)
MODEL = Label("model", (), closed=False, limit=16)
NO_VERSION = "unknown"
VERSION = Label("version", (NO_VERSION,), closed=False, limit=64, form=version_code)
MONITORING_VERSION = Label("monitoring_version", (NO_VERSION,), closed=False, limit=32, form=version_code)
DIGEST = Label("digest", (NO_VERSION,), closed=False, limit=64, form=short_digest)
AGE_BAND = Label("age_band", ("0-1", "2-4", "5-8", "9-12", "13-17", "18+"))
EXTRA_TAGS = {
    "leglength_session": (STATUS, VERSION),
    "leglength_measurement": (AGE_BAND,),
    "leglength_analysis": (chart_metrics.UNIT,),
}
"""What an InfluxDB measurement carries beside its metrics' labels: the version where it is known, the band of completed
years of age where ``privacy.send_age_band`` asks for it; the unit of a chart's whole point, so that its state and what
would have been noticed are one row."""
DECLARABLE = (STAGE, STOP_STAGE, CODE, ISSUE, MODEL)
"""The labels whose values a host may declare beforehand."""

MEASUREMENT = Label("measurement", MEASUREMENTS, closed=False, limit=12)
LANDMARK = Label("landmark", tuple(map(str, LABELS)))
BONE_NAMES = {FEMUR: "femur", TIBIA: "tibia", LEG: "leg"}
BONE = Label("bone", tuple(BONE_NAMES.values()))
SIDE_NAMES = {"R": "right", "L": "left"}
SIDE = Label("side", tuple(SIDE_NAMES.values()))
RULE = Label("rule", RULES)
SEVERITY = Label("severity", SEVERITIES)
SUBJECT = Label("subject", ("image", *MEASUREMENTS, *(f"landmark_{label}" for label in LABELS)))
CUSTOM_NAME = Label("name", (), closed=False, limit=64)
BACKEND = Label("backend", tuple(backend.name for backend in BACKENDS))
LOSS = Label("reason", ("corrupt", "disk_full", "evicted", "expired", "rejected"))
DELIVERY_FAILURE = Label("reason", DELIVERY_FAILURES)

# 30.0 is one of them, since shares are exact at a bound and the alert on slow images asks for that one.
STAGE_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip

SESSIONS = Metric(
    "leglength_sessions_total", Kind.COUNTER, "1", "Sessions (images processed) by how they ended.", (STATUS,)
)
SESSION_DURATION = Metric(
    "leglength_session_duration_seconds", Kind.HISTOGRAM, "s", "Total processing time of one image.",
    measurement="leglength_session", field="duration_seconds", buckets=STAGE_BUCKETS,
)  # fmt: skip
# A field each, since InfluxQL has means and sums of fields, and of tags nothing.
SESSION_ENDED = {
    status: Metric(
        f"leglength_session_{status}", Kind.GAUGE, "1", f"1 for a session that ended as {status}, else 0.",
        measurement="leglength_session", field=status, is_pushed=False,
    )
    for status in STATUSES
}  # fmt: skip
BUILD_INFO = Metric(
    "leglength_build_info", Kind.GAUGE, "1",
    "1 for the version of the application, and of this package, that processed the latest image.",
    (VERSION, MONITORING_VERSION), source="the host, the package", one_per=(),
)  # fmt: skip
OPEN_SESSIONS = Metric(
    "leglength_open_sessions", Kind.GAUGE, "1", "Sessions that have begun and not ended, over all processes.",
    (), "leglength_monitoring_store", "open_sessions", source="the store",
)  # fmt: skip
OLDEST_OPEN_SESSION = Metric(
    "leglength_oldest_open_session_seconds", Kind.GAUGE, "s",
    "Time since the oldest open session began; 0 when none is open.",
    (), "leglength_monitoring_store", "oldest_open_session_seconds", source="the store",
)  # fmt: skip
STOPS = Metric(
    "leglength_session_stops_total", Kind.COUNTER, "1",
    "Sessions that were not completed, by the stage that they stopped in and the class of the reason.",
    (STOP_STATUS, STOP_STAGE, STOP_REASON), "leglength_stop", "stops", source="reported by the host",
)  # fmt: skip
# Apart from the classes: codes are the host's, and too many to be labels beside stages.
STOP_CODES = Metric(
    "leglength_session_stop_codes_total", Kind.COUNTER, "1",
    "Sessions that were not completed, by the host's own code for the reason.", (CODE,), source="reported by the host",
)  # fmt: skip
DUPLICATES = Metric(
    "leglength_duplicate_series_total", Kind.COUNTER, "1", "Sessions of a series that the store already had one of.",
    measurement="leglength_session", field="duplicate_series", source="the series' keyed hash",
)  # fmt: skip
HOST_ISSUES = Metric(
    "leglength_host_issues_total", Kind.COUNTER, "1", "Issues that the host itself found, by code.", (ISSUE,),
    "leglength_issue", "issues", source="reported by the host",
)  # fmt: skip
LANDMARKS_FOUND = Metric(
    "leglength_landmarks_found", Kind.GAUGE, "1", "Landmarks (of 8) found by at least one model in the latest image.",
    measurement="leglength_session", field="landmarks_found",
    source="distinct labels 1-8 over the models' predictions",
)  # fmt: skip
# The one metric of the host's own that has a place: it tells a slow application from a busy one.
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
    "leglength_last_success_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which the latest completed session ended.",
)  # fmt: skip
STAGE_DURATION = Metric(
    "leglength_stage_duration_seconds", Kind.HISTOGRAM, "s", "Time spent in one stage of one image's processing.",
    (STAGE,), "leglength_stage", "duration_seconds", STAGE_BUCKETS,
)  # fmt: skip
MODEL_INFERENCE = Metric(
    "leglength_model_inference_seconds", Kind.HISTOGRAM, "s", "Inference time of one model on one image.",
    (MODEL,), "leglength_model", "inference_seconds", STAGE_BUCKETS,
)  # fmt: skip
MODEL_INFO = Metric(
    "leglength_model_info", Kind.GAUGE, "1",
    "1 for the model's version, and the beginning of its weights' checksum, that processed the latest image.",
    (MODEL, VERSION, DIGEST), "leglength_model_info", "info", source="reported by the host", one_per=(MODEL,),
)  # fmt: skip
MODEL_LANDMARKS = Metric(
    "leglength_model_landmarks_found", Kind.GAUGE, "1", "Landmarks that the model found in the latest image.",
    (MODEL,), "leglength_model", "landmarks_found",
)  # fmt: skip
LANDMARK_MISSES = Metric(
    "leglength_landmark_misses_total", Kind.COUNTER, "1", "Images in which no model found the landmark.", (LANDMARK,),
    "leglength_landmark", "misses", source="labels 1-8 that are in no model's predictions",
)  # fmt: skip
# Totals alone: a field for each model and landmark would be two dozen more in each image's points.
MODEL_LANDMARK_MISSES = Metric(
    "leglength_model_landmark_misses_total", Kind.COUNTER, "1", "Images in which the model missed the landmark.",
    (MODEL, LANDMARK), source="labels 1-8 that are not in the model's predictions",
)  # fmt: skip

_STATISTICS = (("average", "Mean"), ("minimum", "Smallest"), ("maximum", "Largest"))
MODEL_CONFIDENCE = {
    statistic: Metric(
        f"leglength_model_confidence_{statistic}_ratio", Kind.GAUGE, "ratio",
        f"{words} confidence of the model's detections in the latest image.",
        (MODEL,), "leglength_model", f"confidence_{statistic}", source="the model's detection scores",
    )
    for statistic, words in _STATISTICS
}  # fmt: skip
FUSED_CONFIDENCE = {
    statistic: Metric(
        f"leglength_ensemble_confidence_{statistic}_ratio", Kind.GAUGE, "ratio",
        f"{words} confidence of the fused landmarks; a landmark's is the mean of the models that saw it.",
        (), "leglength_ensemble", f"confidence_{statistic}", source="the models' detection scores",
    )
    for statistic, words in _STATISTICS
}  # fmt: skip

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
    suffix = {"mm": "_millimeters", "ratio": "_ratio"}.get(unit, "")
    return key if key.endswith(suffix) else key + suffix


ENSEMBLE = {
    key: Metric(
        f"leglength_ensemble_{_suffixed(key, unit)}", Kind.GAUGE, unit, words,
        measurement="leglength_ensemble", field=_suffixed(key, unit) if unit == "mm" else key,
        source="the host, else computed from the models' predictions (monitoring/domain/disagreement.py)",
    )
    for key, (unit, words) in _ENSEMBLE.items()
}  # fmt: skip

_POINT = {
    "detection_disagreement": ("ratio", "Share of the models that missed the landmark."),
    "localization_disagreement": ("ratio", "Share of model pairs whose positions are further apart than 2.0 mm."),
    "position_std_x_mm": ("mm", "Confidence-weighted standard deviation of the positions across the image."),
    "position_std_y_mm": ("mm", "Confidence-weighted standard deviation of the positions down the image."),
    "spatial_uncertainty_mm": ("mm", "Hypotenuse of the two standard deviations."),
    "confidence_uncertainty": ("ratio", "Population standard deviation of the confidences over their mean."),
    "outlier_risk": (
        "ratio",
        "Lesser of p (1 + s) and 1: p the share of pairs over 10 mm, s how far the largest is from 10 to 50.",
    ),
}
# Each is eight series: of gauges that stand still from image to image few are worth that.
_POINT_PUSHED = ("detection_disagreement", "outlier_risk", "spatial_uncertainty_mm")  # the rest are what these hold
POINT = {
    key: Metric(
        f"leglength_landmark_{_suffixed(key.removesuffix('_mm'), unit)}", Kind.GAUGE, unit, words, (LANDMARK,),
        "leglength_landmark", _suffixed(key.removesuffix("_mm"), unit) if unit == "mm" else key,
        source="the host, else computed from the models' predictions (monitoring/domain/disagreement.py)",
        is_pushed=key in _POINT_PUSHED,
    )
    for key, (unit, words) in _POINT.items()
}  # fmt: skip

SCORE_UNITS = {key: unit for scores in (_ENSEMBLE, _POINT) for key, (unit, _) in scores.items()}
# One for each unit: a name has one unit, and mm and shares can't share a threshold.
DIFFERENCE = {
    unit: Metric(
        _suffixed("leglength_ensemble_host_difference", unit), Kind.GAUGE, unit,
        "How far the host's own figure lies from the one computed here; of a landmark's score, the largest.",
        (Label("score", tuple(key for key, its_unit in SCORE_UNITS.items() if its_unit == unit)),),
        "leglength_difference", _suffixed("difference", unit),
        source="|host's - ours| (monitoring/domain/disagreement.py)",
    )
    for unit in ("ratio", "mm")
}  # fmt: skip

QUALITY = Metric(
    "leglength_quality_ratio", Kind.GAUGE, "ratio", "Quality of the latest image's measurements, 1 the best.",
    measurement="leglength_quality", field="image", source="monitoring/domain/quality.py",
)  # fmt: skip
QUALITY_COMPONENT = {
    component: Metric(
        f"leglength_quality_{component}_ratio", Kind.GAUGE, "ratio", f"The {component} part of the quality.",
        measurement="leglength_quality", field=component, source="monitoring/domain/quality.py",
    )
    for component in ("agreement", "plausibility", "completeness", "confidence")
}  # fmt: skip
MEASUREMENT_QUALITY = Metric(
    "leglength_measurement_quality_ratio", Kind.GAUGE, "ratio", "Quality of one measurement, 1 the best.",
    (MEASUREMENT,), "leglength_measurement", "quality", source="monitoring/domain/quality.py",
)  # fmt: skip
Z_SCORE = Metric(
    "leglength_measurement_zscore", Kind.GAUGE, "1",
    "Standard deviations from the mean for age and sex; 0 where the completed year of age allows it.",
    (MEASUREMENT,), "leglength_measurement", "zscore",
    source="Anderson, Messner & Green 1964 (monitoring/domain/growth.py)",
)  # fmt: skip
# Beside the other, which is 0 in a third of the images: for means and charts, where that would hide a shift.
Z_SCORE_UNCLAMPED = Metric(
    "leglength_measurement_zscore_unclamped", Kind.GAUGE, "1",
    "Standard deviations from the mean for sex and the middle of the completed year of age: never set to 0.",
    (MEASUREMENT,), "leglength_measurement", "zscore_unclamped",
    source="Anderson, Messner & Green 1964 (monitoring/domain/growth.py)",
)  # fmt: skip
FEMUR_TIBIA = Metric(
    "leglength_femur_tibia_ratio", Kind.GAUGE, "ratio", "Femur's length over the tibia's, in the latest image.",
    (SIDE,), "leglength_femur_tibia", "ratio", source="measurements of one side",
)  # fmt: skip
SIDE_DIFFERENCE = Metric(
    "leglength_side_difference_millimeters", Kind.GAUGE, "mm", "Right minus left in the latest image.", (BONE,),
    "leglength_side_difference", "millimeters", source="measurements of the two sides",
)  # fmt: skip

# Counted by image; of each finding its figures are a point of their own.
FINDINGS = Metric(
    "leglength_findings_total", Kind.COUNTER, "1", "Images that broke a plausibility rule, by rule and severity.",
    (RULE, SEVERITY), source="monitoring/domain/plausibility.py",
)  # fmt: skip
FINDING = {
    key: Metric(
        f"leglength_finding_{key}", Kind.GAUGE, "the rule's own", words, (RULE, SEVERITY, SUBJECT),
        "leglength_finding", key, source="monitoring/domain/plausibility.py", is_pushed=False,
    )
    for key, words in (
        ("value", "What broke the rule."), ("low", "The rule's lower limit."), ("high", "The rule's upper limit."),
    )
}  # fmt: skip

READING_ERROR = Metric(
    "leglength_reading_error_millimeters", Kind.GAUGE, "mm",
    "Measurement minus the readers' mean in the latest compared image.",
    (MEASUREMENT,), "leglength_reading", "error_millimeters", source="monitoring/domain/agreement.py",
)  # fmt: skip
READING_WITHIN = Metric(
    "leglength_reading_within_threshold", Kind.GAUGE, "1",
    "1 when the error is within the threshold of the settings (cm), else 0; latest compared image.",
    (MEASUREMENT,), "leglength_reading", "within_threshold", source="monitoring/domain/agreement.py",
)  # fmt: skip

# Over all compared images: the totals alone can tell that, a point is of one image.
VALIDATION = {
    key: Metric(
        f"leglength_validation_{_suffixed(key, unit)}", Kind.GAUGE, unit, words, (MEASUREMENT,),
        source="monitoring/domain/agreement.py, over all compared images in the store",
    )
    for key, unit, words in (
        ("pairs", "1", "Images of which a reader's measurement is known."),
        ("bias", "mm", "Mean of measurement minus readers' mean."),
        ("mae", "mm", "Mean absolute error."),
        ("lower_limit", "mm", "Lower limit of agreement, bias - 1.96 SD."),
        ("upper_limit", "mm", "Upper limit of agreement, bias + 1.96 SD."),
        ("icc", "ratio", "Intraclass correlation ICC(2,1)."),
        ("within_threshold", "ratio", "Share of errors within the threshold of the settings."),
        ("beyond_5_mm", "ratio", "Share of absolute errors over 5 mm."),
        ("beyond_10_mm", "ratio", "Share of absolute errors over 10 mm."),
        ("criteria_failed", "1", "Criteria that are not met; from 100 images on only."),
    )
}  # fmt: skip

CUSTOM = Metric(
    "leglength_custom", Kind.GAUGE, "as reported", "The latest value of a metric of the host's own.",
    (CUSTOM_NAME,), "leglength_custom", "value", source="reported by the host",
)  # fmt: skip

REFUSED = Metric(
    "leglength_monitoring_refused_values_total", Kind.COUNTER, "1",
    "Values that a host passed and that were not what their name says, so that they were left out.",
    (Label("value", REFUSED_VALUES),),
)  # fmt: skip
FORMULA_FAILURES = Metric(
    "leglength_monitoring_formula_failures_total", Kind.COUNTER, "1",
    "Sessions of which nothing could be computed, since a formula failed: a fault of this package.",
)  # fmt: skip
_OF_BACKEND, _OF_STORE = "leglength_monitoring", "leglength_monitoring_store"
MONITORING_PENDING = Metric(
    "leglength_monitoring_pending_points", Kind.GAUGE, "1",
    "Stored and not yet delivered: points for InfluxDB, sessions for Prometheus.",
    (BACKEND,), _OF_BACKEND, "pending_points", source="the store",
)  # fmt: skip
MONITORING_OLDEST = Metric(
    "leglength_monitoring_oldest_pending_seconds", Kind.GAUGE, "s",
    "Age of the oldest session that waits for delivery; 0 when none does.",
    (BACKEND,), _OF_BACKEND, "oldest_pending_seconds", source="the store",
)  # fmt: skip
MONITORING_DELIVERED = Metric(
    "leglength_monitoring_delivered_total", Kind.COUNTER, "1",
    "Delivered: points to InfluxDB, sessions to Prometheus.", (BACKEND,), _OF_BACKEND, "delivered", source="the store",
)  # fmt: skip
MONITORING_DEAD = Metric(
    "leglength_monitoring_dead_points", Kind.GAUGE, "1", "Points that a backend refused for good, kept aside.",
    (BACKEND,), _OF_BACKEND, "dead_points", source="the store",
)  # fmt: skip
MONITORING_FAILURES = Metric(
    "leglength_monitoring_delivery_failures_total", Kind.COUNTER, "1", "Failed delivery attempts by reason.",
    (BACKEND, DELIVERY_FAILURE), "leglength_monitoring_failure", "failures", source="the store",
)  # fmt: skip
MONITORING_DROPPED = Metric(
    "leglength_monitoring_dropped_total", Kind.COUNTER, "1",
    "Losses by reason: points for InfluxDB that will never be delivered, sessions lost with the store.",
    (LOSS,), "leglength_monitoring_loss", "dropped", source="the store",
)  # fmt: skip
# A counter beside the losses, which as a counter can't be taken back.
MONITORING_RECOVERED = Metric(
    "leglength_monitoring_recovered_total", Kind.COUNTER, "1",
    "Points that were counted as dropped for this reason, were sent once more, and are counted otherwise since.",
    (LOSS,), "leglength_monitoring_loss", "recovered", source="the store",
)  # fmt: skip
MONITORING_LAST_DELIVERY = Metric(
    "leglength_monitoring_last_delivery_timestamp_seconds", Kind.GAUGE, "s", "Unix time of the latest delivery.",
    (BACKEND,), _OF_BACKEND, "last_delivery_timestamp_seconds", source="the store",
)  # fmt: skip
CERTIFICATE_EXPIRY = Metric(
    "leglength_monitoring_certificate_expiry_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which a certificate, or the token, ends that the latest answer of the backend depended on.",
    (BACKEND, Label("kind", tuple(WHAT_ENDS))), "leglength_monitoring_certificate", "expiry_timestamp_seconds",
    source="the TLS connection, the settings' files, a token's exp claim",
)  # fmt: skip
# How often, never what: what was removed must not be told by how it is counted.
LOG_FILTER_HITS = Metric(
    "leglength_monitoring_log_filter_hits_total", Kind.COUNTER, "1",
    "Log records of the host's processes that the log filter removed something from.",
    (), _OF_STORE, "log_filter_hits", source="the log filter",
)  # fmt: skip
ERASURES = Metric(
    "leglength_monitoring_erasures_total", Kind.COUNTER, "1", "Erasures of a patient that found anything.",
    (), _OF_STORE, "erasures", source="the store",
)  # fmt: skip
RELAY_LAST_SEEN = Metric(
    "leglength_monitoring_relay_last_seen_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which a relay last looked after the store.",
    (), _OF_STORE, "relay_last_seen_timestamp_seconds", source="the relay",
)  # fmt: skip

_DECLARED: tuple[Metric, ...] = (
    SESSIONS, SESSION_DURATION, *SESSION_ENDED.values(), BUILD_INFO, STOPS, STOP_CODES, DUPLICATES, HOST_ISSUES,
    LANDMARKS_FOUND, QUEUE_DEPTH, THROUGHPUT, LAST_RUN, LAST_SUCCESS, OPEN_SESSIONS, OLDEST_OPEN_SESSION,
    STAGE_DURATION, MODEL_INFO, MODEL_INFERENCE, MODEL_LANDMARKS, *MODEL_CONFIDENCE.values(),
    MODEL_LANDMARK_MISSES, LANDMARK_MISSES, *POINT.values(), *FUSED_CONFIDENCE.values(), *ENSEMBLE.values(),
    *DIFFERENCE.values(), MEASUREMENT_MM, MEASUREMENT_QUALITY, Z_SCORE, Z_SCORE_UNCLAMPED,
    FEMUR_TIBIA, SIDE_DIFFERENCE, QUALITY, *QUALITY_COMPONENT.values(), FINDINGS, *FINDING.values(), READING_ERROR,
    READING_WITHIN, *VALIDATION.values(), *SYSTEM.values(), CUSTOM, MONITORING_PENDING, MONITORING_OLDEST,
    MONITORING_DELIVERED, MONITORING_DEAD, MONITORING_FAILURES, MONITORING_DROPPED, MONITORING_RECOVERED,
    MONITORING_LAST_DELIVERY, CERTIFICATE_EXPIRY, LOG_FILTER_HITS, ERASURES, RELAY_LAST_SEEN, REFUSED, FORMULA_FAILURES,
    *chart_metrics.METRICS,
)  # fmt: skip

_LABEL_NAMES = {label.name for metric in _DECLARED for label in metric.labels}
# Last, since its label's values are the names of all the others' labels.
FOLDED = Metric(
    "leglength_monitoring_folded_values_total", Kind.COUNTER, "1",
    "Values outside their label's set, and samples of metrics that aren't declared, that were folded into other.",
    (Label("label", tuple(sorted({"metric", *_LABEL_NAMES}))),),
)  # fmt: skip
METRICS: tuple[Metric, ...] = (*_DECLARED, FOLDED)
BY_NAME = {metric.name: metric for metric in METRICS}
