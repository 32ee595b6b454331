"""What is kept of one session: frozen, typed, versioned, and free of identity by construction.

A session is the processing of one image. Its record is the source of truth: every point and every
total is derived from it, and can be derived again under a newer formula.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from monitoring.exceptions import RecordError

T = TypeVar("T")

RECORD_VERSION = 1
"""Raised when a field changes its meaning; new optional fields don't raise it."""

STATUSES = ("completed", "failed", "skipped", "crashed")


@dataclass(frozen=True, slots=True)
class Failure:
    """Where processing stopped: type, stage and code location, never the message's text."""

    type: str
    stage: str | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class ModelPerformance:
    """What one model did on one image; what the host didn't report is None."""

    model: str
    inference_seconds: float | None = None
    landmarks_found: int | None = None
    confidence_scores: tuple[float, ...] = ()
    measurements_mm: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's detections: ``boxes`` N x (x1, y1, x2, y2) pixels, ``labels`` N, ``scores`` N in 0..1."""

    model: str
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """One system resource over a session: the mean and the largest of its samples."""

    average: float
    maximum: float


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One finished session.

    ``started_ns`` and ``ended_ns`` are UTC nanoseconds; ``duration_seconds`` is measured on the
    monotonic clock. The four keys are keyed hashes (see :mod:`monitoring.privacy.pseudonyms`).
    ``ensemble`` and ``points`` (by landmark label) are what the host computed itself; ``reader_mm`` holds
    readers' measurements by the reader's keyed hash; ``thresholds_cm`` the host's own settings of that name.
    """

    session_id: str
    status: str
    started_ns: int
    ended_ns: int
    duration_seconds: float
    series_key: str = ""
    study_key: str | None = None
    patient_key: str | None = None
    accession_key: str | None = None
    reason: str | None = None
    stopped_in: str | None = None
    failure: Failure | None = None
    stages_seconds: Mapping[str, float] = field(default_factory=dict)
    models: tuple[ModelPerformance, ...] = ()
    measurements_mm: Mapping[str, float] = field(default_factory=dict)
    landmarks_found: int | None = None
    ensemble: Mapping[str, float] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    issues: Mapping[str, int] = field(default_factory=dict)
    system: Mapping[str, Usage] = field(default_factory=dict)
    custom: Mapping[str, float] = field(default_factory=dict)
    queue_depth: float | None = None
    context: Mapping[str, str | float] = field(default_factory=dict)
    reader_mm: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    thresholds_cm: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    version: int = RECORD_VERSION

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is missing."""
        return {name: plain for name in _FIELD_NAMES if (plain := _plain(getattr(self, name))) not in _EMPTY}

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads back to an equal record."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, only: Collection[str] | None = None) -> SessionRecord:
        """Read a record; raises :class:`RecordError` when it is none, or of a newer version.

        ``only`` these fields beside the required ones: an ensemble's predictions take ten times as long to read.
        """
        try:
            data = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"not a session record: {type(error).__name__}") from None
        if only is not None and isinstance(data, dict):
            data = {name: value for name, value in data.items() if name in only or name in _REQUIRED}
        return cls.from_dict(data)

    @property
    def exam_keys(self) -> tuple[str, ...]:
        """The keyed hashes under which a reading may name this exam."""
        return tuple(key for key in (self.series_key, self.study_key, self.accession_key) if key)

    @classmethod
    def from_dict(cls, data: Any) -> SessionRecord:
        """Build a record from :meth:`to_dict`'s form; raises :class:`RecordError`."""
        if not isinstance(data, dict):
            raise RecordError(f"not a session record: {type(data).__name__} instead of an object")
        version = data.get("version")
        if type(version) is not int or not 1 <= version <= RECORD_VERSION:
            shown = version if type(version) is int else "unknown"
            raise RecordError(f"session record of version {shown}; known up to {RECORD_VERSION}")
        try:
            return cls(**{name: read(data[name]) for name, read in _READERS.items() if name in data})
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise RecordError(f"not a session record: {type(error).__name__}") from None


_FIELD_NAMES = tuple(item.name for item in fields(SessionRecord))
_REQUIRED = frozenset({"version", "session_id", "status", "started_ns", "ended_ns", "duration_seconds"})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_PARTS = {kind: tuple(item.name for item in fields(kind)) for kind in (Failure, ModelPerformance, Prediction, Usage)}
_EMPTY: tuple[Any, ...] = (None, (), [], {})
_LARGEST_WHOLE = 2**63 - 1
_LARGEST_INSTANT_NS = 2**62  # in the year 2116; SQLite's and InfluxDB's integers end in 2262


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    pairs = ((name, _plain(getattr(value, name))) for name in _PARTS[kind])
    return {name: plain for name, plain in pairs if plain is not None}


# The readers of the record's fields: each raises TypeError, ValueError or KeyError for what is not of its type.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half a surrogate pair is no text: no store and no server would take it
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    if abs(value) > _LARGEST_WHOLE:
        raise ValueError
    return value


def _instant(value: Any) -> int:
    if not 0 <= _whole(value) <= _LARGEST_INSTANT_NS:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _status(value: Any) -> str:
    if value not in STATUSES:
        raise ValueError
    return str(value)


def _context_value(value: Any) -> str | float:
    return value if isinstance(value, str) else _number(value)


def _optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else read(value)


def _tuple_of(read: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def read_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(map(read, value))

    return read_all


def _mapping_of(read: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    def read_all(value: Any) -> dict[str, T]:
        return {_text(name): read(item) for name, item in value.items()}

    return read_all


_numbers = _tuple_of(_number)
_optional_text, _optional_number, _optional_whole = _optional(_text), _optional(_number), _optional(_whole)


def _read_failure(data: Any) -> Failure:
    return Failure(_text(data["type"]), _optional_text(data.get("stage")), _optional_text(data.get("location")))


def _read_model(data: Any) -> ModelPerformance:
    return ModelPerformance(
        model=_text(data["model"]),
        inference_seconds=_optional_number(data.get("inference_seconds")),
        landmarks_found=_optional_whole(data.get("landmarks_found")),
        confidence_scores=_numbers(data.get("confidence_scores", ())),
        measurements_mm=_mapping_of(_number)(data.get("measurements_mm", {})),
    )


def _read_prediction(data: Any) -> Prediction:
    boxes, labels, scores = _tuple_of(_numbers)(data["boxes"]), data["labels"], _numbers(data["scores"])
    if not len(boxes) == len(labels) == len(scores):
        raise ValueError
    return Prediction(_text(data["model"]), boxes, _tuple_of(_whole)(labels), scores)


def _read_usage(data: Any) -> Usage:
    return Usage(_number(data["average"]), _number(data["maximum"]))


_READERS: dict[str, Callable[[Any], Any]] = {
    "session_id": _text,
    "status": _status,
    "started_ns": _instant,
    "ended_ns": _instant,
    "duration_seconds": _number,
    "series_key": _text,
    "study_key": _optional_text,
    "patient_key": _optional_text,
    "accession_key": _optional_text,
    "reason": _optional_text,
    "stopped_in": _optional_text,
    "failure": _optional(_read_failure),
    "stages_seconds": _mapping_of(_number),
    "models": _tuple_of(_read_model),
    "measurements_mm": _mapping_of(_number),
    "landmarks_found": _optional_whole,
    "ensemble": _mapping_of(_number),
    "points": _mapping_of(_mapping_of(_number)),
    "predictions": _tuple_of(_read_prediction),
    "issues": _mapping_of(_whole),
    "system": _mapping_of(_read_usage),
    "custom": _mapping_of(_number),
    "queue_depth": _optional_number,
    "context": _mapping_of(_context_value),
    "reader_mm": _mapping_of(_mapping_of(_number)),
    "thresholds_cm": _mapping_of(_number),
    "refused": _mapping_of(_whole),
    "version": _whole,
}
