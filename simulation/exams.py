"""One exam: a child's film as the models of that day see it, and what of it is recorded.

The application's own record of a phantom is varied where it is raw: the landmarks that each model saw, their scores,
the durations, the machine. What follows from these is computed by the application's own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

import run as application
from analysis import ensemble, measurements
from analysis.detectors.protocol import Detections
from analysis.landmarks import LABEL, LABELS, PLACE, Joint, Landmark, Side, Spacing
from analysis.phantom.growth import draw_lengths_mm
from analysis.plausibility import find_disordered, find_implausible
from analysis.result import ModelResult
from analysis.settings import AnalysisSettings
from monitoring.records.session_record import Failure, SessionRecord, Usage
from monitoring.runtime.session import Session

Rng = np.random.Generator
NS = 1_000_000_000
FULL_SPACINGS_MM = (0.143, 0.16, 0.175, 0.2)
VERSIONS = {"application": ("1.4.0", "1.5.0"), "model": ("2.0.1", "2.1.0")}
CHANGED_MODEL = "gradient_edges"
MEASURED = {"good", "one_leg", "scout", "wrong_spacing"}

# Seconds that a stage takes on a film of full size, as measured on two quiet cores; records of small films say less.
STAGE_SECONDS = {"load": 0.06, "inference": 1.5, "measurement": 0.0015, "dicom_generation": 0.4}
MODEL_SHARE = {"intensity_profile": 0.36, "gradient_edges": 0.36, "template_correlation": 0.28}
GIB = 2.0**30
# An invented machine, the same in every run: mean, largest and how much they vary (as a share).
MACHINE = {
    "process_cpu_ratio": (0.8, 1.4, 0.2), "system_cpu_ratio": (0.4, 0.9, 0.2), "container_cpu_ratio": (0.8, 1.5, 0.2),
    "container_cpu_limit_processors": (2.0, 2.0, 0.0), "process_resident_memory_bytes": (0.3 * GIB, 0.45 * GIB, 0.06),
    "process_resident_memory_peak_bytes": (0.46 * GIB, 0.46 * GIB, 0.06),
    "system_memory_available_bytes": (5.5 * GIB, 5.9 * GIB, 0.04),
    "container_memory_used_bytes": (0.4 * GIB, 0.6 * GIB, 0.06),
    "container_memory_limit_bytes": (8 * GIB, 8 * GIB, 0.0), "disk_used_bytes/output": (40 * GIB, 40 * GIB, 0.0),
    "disk_free_bytes/output": (60 * GIB, 60 * GIB, 0.0), "disk_used_bytes/store": (4 * GIB, 4 * GIB, 0.0),
    "disk_free_bytes/store": (16 * GIB, 16 * GIB, 0.0), "gpu_memory_used_bytes/0": (2.1 * GIB, 2.6 * GIB, 0.03),
    "gpu_memory_total_bytes/0": (8 * GIB, 8 * GIB, 0.0), "gpu_utilization_ratio/0": (0.35, 0.8, 0.2),
    "torch_memory_allocated_bytes/0": (1.4 * GIB, 1.9 * GIB, 0.03),
    "torch_memory_reserved_bytes/0": (2.0 * GIB, 2.4 * GIB, 0.03),
}  # fmt: skip
CLEANED_UP_DAYS, FILLED_PER_DAY = 4, 0.01  # the output's volume, and the share of what is free that a day takes
AGE_BANDS = ((2, "0-1"), (5, "2-4"), (9, "5-8"), (13, "9-12"), (18, "13-17"))


@dataclass(frozen=True)
class Circumstances:
    """What an exam meets on its day."""

    kind: str
    day: int
    arrived: datetime
    waiting: int
    is_new_model: bool
    is_new_application: bool
    bias_mm: Mapping[str, float]
    load: float
    """How slow the machine is that day; 1 is as usual."""
    free_share: float
    """What is left of the space that the store's volume had free on the first day."""


@dataclass(frozen=True)
class Child:
    """Who is on the film: invented."""

    key: str
    sex: str
    age: int
    bones_mm: Mapping[tuple[Side, str], float]


def new_child(key: str, rng: Rng) -> Child:
    sex, age = str(rng.choice(["M", "F"])), int(np.clip(round(rng.triangular(2, 11, 17)), 2, 17))
    femur_mm, tibia_mm = draw_lengths_mm(sex, age, rng)
    tibia_mm *= 1 + rng.normal(0, 0.015)
    bones = [(side, bone, mm) for side in Side for bone, mm in (("FEM", femur_mm), ("TIB", tibia_mm))]
    return Child(key, sex, age, {(side, bone): mm * (1 + rng.normal(0, 0.007)) for side, bone, mm in bones})


@dataclass(frozen=True)
class Film:
    """What the models saw of one child, at a film's full size, and how the film is scaled."""

    predictions: dict[str, Detections]
    spacing: Spacing
    rows: float
    columns: float


def film_of(base: SessionRecord, child: Child, rng: Rng) -> Film:
    """The base's detections, stretched to the child's bones, each model with errors of its own."""
    stated = Spacing(*(float(base.context[f"{axis}_spacing_mm"]) for axis in ("row", "column")))
    seen = {one.model: Detections.of(one.boxes, one.labels, one.scores) for one in base.predictions}
    fused = ensemble.fuse(seen)
    spacing = Spacing(*[float(rng.choice(FULL_SPACINGS_MM))] * 2)
    zoom = stated.row_mm / spacing.row_mm
    stretch = {side: stretched(fused, side, child, stated) for side in Side}
    difficulty = 6.0 if rng.random() < 0.03 else 1.0
    film_score = rng.normal(0, 0.12)
    predictions = {}
    for model, found in seen.items():
        boxes, labels, scores = [], [], []
        own = difficulty if rng.random() < 0.5 else 1.0
        for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
            if rng.random() < 0.004:  # missed
                continue
            centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
            half = np.array([box[2] - box[0], box[3] - box[1]]) / 2 * zoom
            centre[1] = stretch[PLACE[int(label)][0]](int(label), centre[1]) if int(label) in LABELS else centre[1]
            centre = centre * zoom + rng.normal(0, 0.35 * own / spacing.row_mm, 2)
            boxes.append([*(centre - half), *(centre + half)])
            labels.append(int(label))
            scores.append(shifted_score(float(score), film_score + rng.normal(0, 0.1) - 0.1 * (own - 1)))
        predictions[model] = Detections.of(boxes, labels, scores)
    size = max(float(base.context["rows"]) * zoom, max(box[3] for one in predictions.values() for box in one.boxes))
    return Film(predictions, spacing, float(math.ceil(size)), float(math.ceil(float(base.context["columns"]) * zoom)))


def stretched(
    fused: Mapping[int, Landmark], side: Side, child: Child, spacing: Spacing
) -> Callable[[int, float], float]:
    """What maps a landmark's row on the base's film to that on the child's, bone by bone."""
    knee = measurements.knee_centre(fused, side)
    head, ankle = (fused.get(LABEL[side, joint]) for joint in (Joint.HEAD, Joint.ANKLE))
    if knee is None or head is None or ankle is None:
        return lambda label, y: y  # noqa: ARG005 - as the other
    femur, tibia = (child.bones_mm[side, bone] / spacing.row_mm for bone in ("FEM", "TIB"))
    knee_moves = head.y + femur - knee[1]
    ankle_moves = head.y + femur + tibia - ankle.y
    moves = {Joint.HEAD: 0.0, Joint.LATERAL_CONDYLE: knee_moves, Joint.MEDIAL_CONDYLE: knee_moves}
    # Moved and not scaled: what a model sees beside the fused place stays as far beside it.
    return lambda label, y: y + moves.get(PLACE[label][1], ankle_moves)


def shifted_score(score: float, by: float) -> float:
    """A score moved on the logistic scale, so that it stays within 0 and 1."""
    inside = min(max(score, 0.01), 0.99)
    return 1 / (1 + math.exp(-(math.log(inside / (1 - inside)) + by)))


def with_faults(film: Film, now: Circumstances) -> Film:
    """The film's detections as the models of that day see them: a newer version, or one that is biased."""
    changed = dict(film.predictions)
    for model, found in film.predictions.items():
        longer_mm = now.bias_mm.get(model, 0.0) + (0.4 if now.is_new_model and model == CHANGED_MODEL else 0.0)
        better = 0.25 if now.is_new_model and model == CHANGED_MODEL else 0.0
        heads = np.isin(found.labels, [LABEL[side, Joint.HEAD] for side in Side])
        up = np.zeros_like(found.boxes)
        up[heads] = np.array([0.0, 1.0, 0.0, 1.0]) * longer_mm / film.spacing.row_mm
        scores = [shifted_score(float(score), better) if better else float(score) for score in found.scores]
        changed[model] = Detections(found.boxes - up, found.labels, np.asarray(scores, dtype=np.float64))
    return replace(film, predictions=changed)


def told(film: Film, seconds: Mapping[str, float]) -> SessionRecord:
    """What the application tells the monitoring of these detections, through its own code and the module's."""
    landmarks = ensemble.fuse(film.predictions)
    lengths = measurements.measure(landmarks, film.spacing)
    issues = [
        *measurements.find_issues(lengths, AnalysisSettings()), *find_implausible(lengths),
        *find_disordered(lengths, landmarks),
    ]  # fmt: skip
    performance = {**ensemble.performance_data(film.predictions, landmarks, film.spacing), "issues": issues}
    session = Session()
    session.record_measurements(lengths)
    session.record_performance_data(application.performance_data(performance))
    for name, found in film.predictions.items():
        alone = measurements.measure(ensemble.fuse({"alone": found}), film.spacing)
        session.record_model_performance(name, application.model_metrics(ModelResult(seconds[name], found, alone)))
    return session.freeze("completed")


def reader_lengths_mm(film: Film, rng: Rng) -> dict[str, dict[str, float]]:
    """What people measured on the same film: one reader or both, and 0.6 mm longer than the models on average."""
    lengths = measurements.measure(ensemble.fuse(film.predictions), film.spacing)
    readers = [digest("reader", name) for name in ("first", "second")]
    found = {}
    for reader in readers if rng.random() < 0.4 else readers[:1]:
        bones = {
            name: round(one["millimeters"] + 0.6 + rng.normal(0, 1.3), 1)
            for name, one in lengths.items()
            if not name.endswith("LGL")
        }
        legs = {f"PLL_{side}_LGL": [bones.get(f"PLL_{side}_{bone}") for bone in ("FEM", "TIB")] for side in Side}
        found[reader] = bones | {
            name: round(femur_mm + tibia_mm, 1)
            for name, (femur_mm, tibia_mm) in legs.items()
            if femur_mm is not None and tibia_mm is not None
        }
    return found


def digest(*parts: object) -> str:
    """A key as the module's own look, of no identity."""
    return blake2b("/".join(map(str, ("simulated", *parts))).encode(), digest_size=16).hexdigest()


def machine(now: Circumstances, rng: Rng) -> dict[str, Usage]:
    found = {}
    for name, (average, largest, spread) in MACHINE.items():
        factor = math.exp(rng.normal(0, spread)) if spread else 1.0
        if name == "disk_free_bytes/output":
            factor = 1 - FILLED_PER_DAY * (now.day % CLEANED_UP_DAYS)
        if name == "disk_free_bytes/store":
            factor = now.free_share
        ceiling = 1.0 if name in ("system_cpu_ratio", "gpu_utilization_ratio/0") else math.inf
        figures = {"average": min(average * factor, ceiling), "maximum": min(largest * factor, ceiling)}
        if name.partition("/")[0].endswith(("available_bytes", "free_bytes")):
            figures["minimum"] = (2 * average - largest) * factor
        found[name] = Usage(**figures)
    return found


def exam(base: SessionRecord, child: Child, now: Circumstances, key: str, rng: Rng) -> SessionRecord:
    """One session, as the application would have recorded it; ``key`` makes its ids."""
    pace = now.load * math.exp(rng.normal(0, 0.15))
    stages = {
        name: STAGE_SECONDS[name] * pace * math.exp(rng.normal(0, 0.12))
        for name in base.stages_seconds
    }  # fmt: skip
    found = base
    changed: dict[str, Any] = {}
    if now.kind in MEASURED:
        film = film_of(base, child, rng)
        if now.kind == "wrong_spacing":  # a film that states half of its scale
            film = replace(film, spacing=Spacing(film.spacing.row_mm / 2, film.spacing.column_mm / 2))
        if rng.random() < 0.35:
            changed["reader_mm"] = reader_lengths_mm(film, rng)
        film = with_faults(film, now)
        found = told(film, {model: stages["inference"] * share for model, share in MODEL_SHARE.items()})
        changed["context"] = {
            **base.context, **told_of(child), "rows": film.rows, "columns": film.columns,
            "row_spacing_mm": film.spacing.row_mm, "column_spacing_mm": film.spacing.column_mm,
        }  # fmt: skip
    elif "age_years" in base.context:
        changed["context"] = {**base.context, **told_of(child)}
    if now.kind == "crashed":
        changed |= {"status": "crashed", "reason": "crashed", "stopped_in": "inference"}
        changed["failure"] = Failure("Crashed", "inference")
        stages = {"load": stages["load"]}
    changed |= {"models": with_versions(found, now)} if found.models else {}
    return timed(msgspec.structs.replace(found, **changed), stages, now, key, child, rng)


def told_of(child: Child) -> dict[str, str | float]:
    band = next(band for below, band in AGE_BANDS if child.age < below)
    return {"age_years": float(child.age), "age_band": band, "sex": child.sex}


def with_versions(record: SessionRecord, now: Circumstances) -> tuple[Any, ...]:
    """The models with their versions, of which one changes half-way."""
    found = []
    for model in record.models:
        is_new = now.is_new_model and model.model == CHANGED_MODEL
        weights = digest("weights", model.model, is_new)
        found.append(msgspec.structs.replace(model, version=VERSIONS["model"][is_new], digest=weights))
    return tuple(found)


def timed(
    record: SessionRecord, stages: Mapping[str, float], now: Circumstances, key: str, child: Child, rng: Rng
) -> SessionRecord:
    seconds = sum(stages.values()) + abs(rng.normal(0.01, 0.004))
    started_ns = nanoseconds(now.arrived)
    return msgspec.structs.replace(
        record,
        session_id=digest("session", key),
        series_key=digest("series", key),
        study_key=digest("study", key) if "age_years" in record.context else None,
        patient_key=digest("patient", child.key) if "age_years" in record.context else None,
        accession_key=digest("accession", key) if "age_years" in record.context else None,
        started_ns=started_ns,
        ended_ns=started_ns + round(seconds * NS),
        duration_seconds=seconds,
        stages_seconds=dict(stages),
        system=machine(now, rng),
        queue_depth=float(now.waiting),
        application_version=VERSIONS["application"][now.is_new_application],
    )


def nanoseconds(instant: datetime) -> int:
    """UTC nanoseconds, exact to the microsecond."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
