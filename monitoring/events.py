"""What is kept of one session: frozen, typed, versioned, and free of identity by construction.

A session is the processing of one image. Its record is the source of truth: every point and every
total is derived from it, and can be derived again under a newer formula.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from monitoring.exceptions import RecordError

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
    monotonic clock. ``series_key`` is a keyed hash (see :mod:`monitoring.privacy`).
    """

    session_id: str
    status: str
    started_ns: int
    ended_ns: int
    duration_seconds: float
    series_key: str = ""
    reason: str | None = None
    failure: Failure | None = None
    stages_seconds: Mapping[str, float] = field(default_factory=dict)
    models: tuple[ModelPerformance, ...] = ()
    measurements_mm: Mapping[str, float] = field(default_factory=dict)
    landmarks_found: int | None = None
    ensemble: Mapping[str, float] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    issues: Mapping[str, int] = field(default_factory=dict)
    system: Mapping[str, Usage] = field(default_factory=dict)
    custom: Mapping[str, float] = field(default_factory=dict)
    queue_depth: float | None = None
    context: Mapping[str, str | float] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    version: int = RECORD_VERSION

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is missing."""
        return {name: plain for name in _FIELD_NAMES if (plain := _plain(getattr(self, name))) not in _EMPTY}

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads back to an equal record."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> SessionRecord:
        """Read a record; raises :class:`RecordError` when it is none, or of a newer version."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecordError(f"not a session record: {error}") from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> SessionRecord:
        """Build a record from :meth:`to_dict`'s form; raises :class:`RecordError`."""
        if not isinstance(data, dict):
            raise RecordError(f"not a session record: {type(data).__name__} instead of an object")
        if data.get("version", 0) not in range(1, RECORD_VERSION + 1):
            raise RecordError(f"session record of version {data.get('version')!r}; known up to {RECORD_VERSION}")
        try:
            return cls(**{name: _typed(name, value) for name, value in data.items() if name in _FIELD_NAMES})
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RecordError(f"not a session record: {type(error).__name__}") from None


_FIELD_NAMES = tuple(item.name for item in fields(SessionRecord))
_EMPTY: tuple[Any, ...] = (None, (), [], {})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Failure | ModelPerformance | Prediction | Usage):
        pairs = ((item.name, _plain(getattr(value, item.name))) for item in fields(value))
        return {name: plain for name, plain in pairs if plain is not None}
    return value


def _typed(name: str, value: Any) -> Any:
    reader = _READERS.get(name)
    return reader(value) if reader else value


def _read_model(data: dict[str, Any]) -> ModelPerformance:
    return ModelPerformance(**{**data, "confidence_scores": tuple(data.get("confidence_scores", ()))})


def _read_prediction(data: dict[str, Any]) -> Prediction:
    return Prediction(
        model=data["model"],
        boxes=tuple(tuple(box) for box in data["boxes"]),
        labels=tuple(data["labels"]),
        scores=tuple(data["scores"]),
    )


_READERS: dict[str, Callable[[Any], Any]] = {
    "failure": lambda value: Failure(**value),
    "models": lambda value: tuple(map(_read_model, value)),
    "predictions": lambda value: tuple(map(_read_prediction, value)),
    "system": lambda value: {name: Usage(**usage) for name, usage in value.items()},
}
