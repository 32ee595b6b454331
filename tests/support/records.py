"""Session records for the tests: one as a real run makes it, and a strategy for any that can exist."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from monitoring.records.session_record import STATUSES, Failure, ModelPerformance, Prediction, SessionRecord, Usage

ENDED_NS = 1_700_000_000_123_456_789


def realistic(**changed: Any) -> SessionRecord:
    """A completed session of two models."""
    record = SessionRecord(
        session_id="5e" * 16,
        status="completed",
        started_ns=ENDED_NS - 3_500_000_000,
        ended_ns=ENDED_NS,
        duration_seconds=3.5,
        series_key="ab" * 16,
        study_key="bc" * 16,
        patient_key="cd" * 16,
        accession_key="de" * 16,
        stages_seconds={"load": 0.25, "inference": 2.5, "measurement": 0.005, "dicom_generation": 0.5},
        models=(
            ModelPerformance("resnet", 1.25, 8, (0.5, 0.75, 1.0), {"PLL_R_FEM": 411.0}),
            ModelPerformance("hrnet", None, None, ()),
        ),
        measurements_mm={"PLL_R_FEM": 412.5, "PLL_L_FEM": 410.0},
        landmarks_found=8,
        ensemble={"dds": 0.0, "mean_distance": 1.5},
        points={"1": {"detection_disagreement": 0.0}},
        predictions=(Prediction("resnet", ((1.0, 2.0, 3.0, 4.0),), (1,), (0.5,)),),
        issues={"low_confidence": 1},
        system={
            "process_cpu_ratio": Usage(0.5, 1.5),
            "disk_free_bytes/store": Usage(1e9, 2e9, 5e8),
            "gpu_utilization_ratio/0": Usage(0.25, 0.75),
        },
        custom={"contrast": 0.4},
        queue_depth=3.0,
        context={"age_band": "5-8", "age_years": 7.0},
        reader_mm={"ef" * 16: {"PLL_R_FEM": 411.0}},
        thresholds_cm={"femur_threshold": 1.0},
        refused={"name": 1},
    )
    return replace(record, **changed)


NAMES = st.text("abcdefgXYZ_-.0123", min_size=1, max_size=12) | st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float)
WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)
INSTANTS = st.integers(0, 2**62)
MODELS = st.builds(
    ModelPerformance,
    model=NAMES,
    inference_seconds=st.none() | NUMBERS,
    landmarks_found=st.none() | WHOLE,
    confidence_scores=st.lists(NUMBERS, max_size=3).map(tuple),
    measurements_mm=st.dictionaries(NAMES, NUMBERS, max_size=3),
    version=st.none() | NAMES,
    digest=st.none() | NAMES,
)
DETECTIONS = st.lists(st.tuples(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), WHOLE, NUMBERS), max_size=3)


def _prediction(model: str, rows: Any) -> Prediction:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Prediction(model, boxes, labels, scores)


RECORDS = st.builds(
    SessionRecord,
    session_id=NAMES,
    status=st.sampled_from(STATUSES),
    started_ns=INSTANTS,
    ended_ns=INSTANTS,
    duration_seconds=NUMBERS,
    series_key=NAMES,
    study_key=st.none() | NAMES,
    patient_key=st.none() | NAMES,
    accession_key=st.none() | NAMES,
    reason=st.none() | NAMES,
    stopped_in=st.none() | NAMES,
    failure=st.none() | st.builds(Failure, NAMES, st.none() | NAMES, st.none() | NAMES),
    stages_seconds=st.dictionaries(NAMES, NUMBERS, max_size=3),
    models=st.lists(MODELS, max_size=3).map(tuple),
    measurements_mm=st.dictionaries(NAMES, NUMBERS, max_size=3),
    landmarks_found=st.none() | WHOLE,
    ensemble=st.dictionaries(NAMES, NUMBERS, max_size=3),
    points=st.dictionaries(NAMES, st.dictionaries(NAMES, NUMBERS, max_size=2), max_size=2),
    predictions=st.lists(st.builds(_prediction, NAMES, DETECTIONS), max_size=2).map(tuple),
    issues=st.dictionaries(NAMES, WHOLE, max_size=3),
    system=st.dictionaries(NAMES, st.builds(Usage, NUMBERS, NUMBERS, st.none() | NUMBERS), max_size=2),
    custom=st.dictionaries(NAMES, NUMBERS, max_size=3),
    queue_depth=st.none() | NUMBERS,
    application_version=st.none() | NAMES,
    context=st.dictionaries(NAMES, NAMES | NUMBERS, max_size=3),
    reader_mm=st.dictionaries(NAMES, st.dictionaries(NAMES, NUMBERS, max_size=2), max_size=2),
    thresholds_cm=st.dictionaries(NAMES, NUMBERS, max_size=2),
    refused=st.dictionaries(NAMES, WHOLE, max_size=3),
)
