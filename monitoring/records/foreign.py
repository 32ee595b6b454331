"""Reads a session's record that others may have written or changed, such as one out of an archive's result.json.

A stored record is trusted, since its checksum says that this package wrote it. A foreign one is held to what a host's
calls could have recorded: names and codes by their form, keys that are keyed hashes, numbers of a size that spoils no
total. What doesn't hold is left out, as a host's would be; without an id, a status and times there is no record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from monitoring.exceptions import RecordError
from monitoring.records import coerce
from monitoring.records.names import digest_code, version_code
from monitoring.records.session_record import (
    REFUSED_VALUES,
    Failure,
    ModelPerformance,
    Prediction,
    SessionRecord,
    Usage,
)

IsContext = Callable[[str, str | float], bool]
"""Whether a fact of an image is one that the reading of a header could have given."""

_KEY = re.compile(r"[0-9a-f]{32}\Z")
_RESOURCE = re.compile(r"[a-z_]{1,64}(/[a-z0-9]{1,16})?\Z")
# A line's number; a path in its place would tell of the machine, and perhaps of its user.
_PLACE = re.compile(r"\d{1,6}\Z")
_THRESHOLDS = ("femur_threshold", "tibia_threshold", "total_threshold")
_LABELS = frozenset(map(str, range(1, 9)))


def foreign_record(data: Any, is_context: IsContext) -> SessionRecord:
    """The record in :meth:`SessionRecord.to_dict`'s form; raises :class:`RecordError` when it is none.

    Texts that name a person, terminal escapes, markup, and numbers out of all bounds don't come through.
    """
    record = SessionRecord.from_dict(data)
    # It becomes a part of a file's name.
    if not (_KEY.match(record.session_id) or coerce.metric_name(record.session_id)):
        raise RecordError("not a session record: its id is none")
    duration = coerce.seconds(record.duration_seconds)
    if duration is None:
        raise RecordError("not a session record: its duration is none")
    depth = record.queue_depth
    return replace(
        record,
        duration_seconds=duration,
        series_key=_key(record.series_key) or "",
        study_key=_key(record.study_key),
        patient_key=_key(record.patient_key),
        accession_key=_key(record.accession_key),
        reason=_code(record.reason),
        stopped_in=_code(record.stopped_in),
        failure=_failure(record.failure),
        stages_seconds=_named(record.stages_seconds, coerce.seconds),
        models=tuple(map(_model, record.models)),
        measurements_mm=_named(record.measurements_mm, coerce.millimeters),
        landmarks_found=coerce.landmark_count(record.landmarks_found),
        ensemble=_named(record.ensemble, _figure),
        points={label: _named(scores, _figure) for label, scores in sorted(record.points.items()) if label in _LABELS},
        predictions=tuple(map(_prediction, record.predictions)),
        issues=_counts(record.issues),
        system={name: usage for name, usage in record.system.items() if _RESOURCE.match(name) and _is_usage(usage)},
        custom=_named(record.custom, coerce.finite_float),
        queue_depth=depth if depth is not None and 0 <= depth <= coerce.MOST_ITEMS else None,
        application_version=version_code(record.application_version),
        context={name: fact for name, fact in record.context.items() if is_context(name, fact)},
        reader_mm={
            reader: _named(found, coerce.millimeters) for reader, found in record.reader_mm.items() if _key(reader)
        },
        thresholds_cm={
            name: number
            for name, number in record.thresholds_cm.items()
            if name in _THRESHOLDS and 0 < number < coerce.MOST_MILLIMETERS
        },
        refused={name: count for name, count in _counts(record.refused).items() if name in REFUSED_VALUES},
    )


def _key(text: str | None) -> str | None:
    return text if text is not None and _KEY.match(text) else None


def _code(text: str | None) -> str | None:
    return None if text is None else coerce.metric_name(text) or coerce.OTHER


def _failure(failure: Failure | None) -> Failure | None:
    if failure is None:
        return None
    # A module's name and a line are all that our own records hold.
    module, _, line = (failure.location or "").rpartition(":")
    place = failure.location if coerce.metric_name(module) and _PLACE.match(line) else None
    return Failure(_code(failure.type) or coerce.OTHER, _code(failure.stage), place)


def _named(found: Mapping[str, Any], number_of: Callable[[Any], float | None]) -> dict[str, float]:
    """What is a number, under its name; of those whose name is none the last, as a host's."""
    numbers = ((_code(name) or coerce.OTHER, number_of(value)) for name, value in found.items())
    return {name: number for name, number in numbers if number is not None}


def _counts(found: Mapping[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, count in found.items():
        code = _code(name) or coerce.OTHER
        if 0 < count <= coerce.MOST_ITEMS:
            counts[code] = min(counts.get(code, 0) + count, coerce.MOST_ITEMS)
    return counts


def _model(model: ModelPerformance) -> ModelPerformance:
    return ModelPerformance(
        model=_code(model.model) or coerce.OTHER,
        inference_seconds=coerce.seconds(model.inference_seconds),
        landmarks_found=coerce.landmark_count(model.landmarks_found),
        confidence_scores=tuple(score for score in map(coerce.score, model.confidence_scores) if score is not None),
        measurements_mm=_named(model.measurements_mm, coerce.millimeters),
        version=version_code(model.version),
        digest=digest_code(model.digest),
    )


def _prediction(prediction: Prediction) -> Prediction:
    rows = [
        (box, label, score)
        for box, label, score in zip(prediction.boxes, prediction.labels, prediction.scores, strict=True)
        if len(box) == 4 and all(abs(corner) <= coerce.MOST_PIXELS for corner in box) and coerce.score(score) == score
    ]
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Prediction(_code(prediction.model) or coerce.OTHER, boxes, labels, scores)


def _figure(value: Any) -> float | None:
    number = coerce.finite_float(value)
    return number if number is not None and abs(number) <= coerce.MOST_MILLIMETERS else None


def _is_usage(usage: Usage) -> bool:
    figures = (usage.average, usage.maximum, 0.0 if usage.minimum is None else usage.minimum)
    return all(coerce.finite_float(figure) is not None and figure >= 0 for figure in figures)
