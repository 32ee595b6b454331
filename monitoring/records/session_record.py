"""What is kept of one session: frozen, typed, versioned, and free of identity by construction.

A session is the processing of one image. Its record is the source of truth: every point and every
total is derived from it, and can be derived again under a newer formula. What a field may hold is declared
here once, and msgspec holds everything that is read back to it; :mod:`monitoring.records.coerce` makes a host's values
fit before, and the store (:mod:`monitoring.store.sessions`) answers for the text being the one that was written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from monitoring.exceptions import RecordError

RECORD_VERSION = 1
"""Raised when a field changes its meaning; new optional fields don't raise it."""

COARSE_MM = 5.0
COARSE_NS = 3600 * 1_000_000_000
"""The steps of a coarse record's lengths and instants."""

Status = Literal["completed", "failed", "skipped", "crashed"]
STATUSES: tuple[Status, ...] = get_args(Status)

REFUSED_VALUES = (
    "confidence_scores", "digest", "image", "image_metrics", "inference_seconds", "labels", "landmarks", "measurements",
    "metric_tags", "metric_value", "name", "points", "predictions", "readings", "stage_seconds", "status",
    "thresholds", "unknown_key", "version",
)  # fmt: skip
"""What a session may leave out because it isn't what its name says, or has a name that isn't known."""

_LARGEST_WHOLE = 2**63 - 1  # SQLite's and InfluxDB's integers end there
Whole = Annotated[int, Meta(ge=-_LARGEST_WHOLE, le=_LARGEST_WHOLE)]
Instant = Annotated[int, Meta(ge=0, le=2**62)]  # in the year 2116; nanoseconds of 63 bits end in 2262


class Failure(Struct, frozen=True, omit_defaults=True):
    """Where processing stopped: type, stage and code location, never the message's text."""

    type: str
    stage: str | None = None
    location: str | None = None


class ModelPerformance(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one model did on one image; what the host didn't report is None.

    ``version`` and ``digest``, its weights' checksum, are codes (:func:`monitoring.records.names.version_code`).
    """

    model: str
    inference_seconds: float | None = None
    landmarks_found: Whole | None = None
    confidence_scores: tuple[float, ...] = ()
    measurements_mm: Mapping[str, float] = {}
    version: str | None = None
    digest: str | None = None


class Prediction(Struct, frozen=True):
    """One model's detections: ``boxes`` N x (x1, y1, x2, y2) pixels, ``labels`` N, ``scores`` N in 0..1.

    Raises ValueError where they differ in number: which score is which landmark's would be a guess.
    """

    model: str
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[Whole, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.boxes) == len(self.labels) == len(self.scores):
            raise ValueError("boxes, labels and scores differ in number")


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """One system resource over a session: mean and largest of its samples; of what is left, the smallest too."""

    average: float
    maximum: float
    minimum: float | None = None


def _this_version() -> int:
    return RECORD_VERSION


class SessionRecord(Struct, frozen=True, omit_defaults=True):
    """One finished session.

    ``started_ns`` and ``ended_ns`` are UTC nanoseconds; ``duration_seconds`` is measured on the
    monotonic clock. The four keys are keyed hashes (see :mod:`monitoring.privacy.pseudonyms`);
    ``application_version`` is the host's own. ``ensemble`` and ``points`` (by landmark label) are what the host
    computed itself; ``reader_mm`` holds readers' measurements by the reader's keyed hash; ``thresholds_cm`` the
    host's own settings of that name.
    """

    session_id: str
    status: Status
    started_ns: Instant
    ended_ns: Instant
    duration_seconds: float
    series_key: str = ""
    study_key: str | None = None
    patient_key: str | None = None
    accession_key: str | None = None
    reason: str | None = None
    stopped_in: str | None = None
    failure: Failure | None = None
    stages_seconds: Mapping[str, float] = {}
    models: tuple[ModelPerformance, ...] = ()
    measurements_mm: Mapping[str, float] = {}
    landmarks_found: Whole | None = None
    ensemble: Mapping[str, float] = {}
    points: Mapping[str, Mapping[str, float]] = {}
    predictions: tuple[Prediction, ...] = ()
    issues: Mapping[str, Whole] = {}
    system: Mapping[str, Usage] = {}
    custom: Mapping[str, float] = {}
    queue_depth: float | None = None
    application_version: str | None = None
    context: Mapping[str, str | float] = {}
    reader_mm: Mapping[str, Mapping[str, float]] = {}
    thresholds_cm: Mapping[str, float] = {}
    refused: Mapping[str, Whole] = {}
    version: int = msgspec.field(default_factory=_this_version)  # a made default is written, a plain one left out

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is missing."""
        plain: dict[str, Any] = msgspec.json.decode(self.to_json())
        return plain

    def to_json(self) -> str:
        """One line of JSON that :meth:`from_json` reads back to an equal record.

        Raises ValueError for a number that is not finite.
        """
        text = msgspec.json.encode(self).decode()
        if "null" in text:  # msgspec's word for NaN too, which would not be read back
            json.dumps(msgspec.to_builtins(self), allow_nan=False)
        return text

    def without_models(self) -> SessionRecord:
        """The record without what each model did, which is nine tenths of its size."""
        return replace(self, models=(), predictions=())

    def coarsened(self) -> SessionRecord:
        """The record with what would tell the report that it belongs to made coarse, or left out.

        Lengths, the readers' too, are to the next 5 mm, and both instants to the hour that they are in. Boxes go, since
        lengths can be computed of them, and the image's size, which few images share.
        """
        return replace(
            self,
            started_ns=self.started_ns - self.started_ns % COARSE_NS,
            ended_ns=self.ended_ns - self.ended_ns % COARSE_NS,
            measurements_mm=_coarse_mm(self.measurements_mm),
            models=tuple(replace(model, measurements_mm=_coarse_mm(model.measurements_mm)) for model in self.models),
            predictions=(),
            reader_mm={reader: _coarse_mm(lengths_mm) for reader, lengths_mm in self.reader_mm.items()},
            context={name: value for name, value in self.context.items() if name not in ("rows", "columns")},
        )

    @property
    def exam_keys(self) -> tuple[str, ...]:
        """The keyed hashes under which a reading may name this exam."""
        return tuple(key for key in (self.series_key, self.study_key, self.accession_key) if key)

    @classmethod
    def from_json(cls, text: str | bytes) -> SessionRecord:
        """Read a record; raises :class:`RecordError` when it is none, or of a newer version.

        Fields of later releases are passed over. The error names no value: a record may hold anything by mistake.
        """
        return _read(text, _RECORD)

    @classmethod
    def from_dict(cls, data: Any) -> SessionRecord:
        """Build a record from :meth:`to_dict`'s form; raises :class:`RecordError`."""
        try:
            text = json.dumps(data, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"not a session record: {type(error).__name__}") from None
        return cls.from_json(text)


class ModelOutline(Struct, frozen=True, gc=False):
    """The same of a model: without its scores."""

    model: str
    inference_seconds: float | None = None
    measurements_mm: Mapping[str, float] = {}
    version: str | None = None
    digest: str | None = None


class RecordOutline(Struct, frozen=True, gc=False):
    """What is looked at when many sessions are: a record without raw predictions, which are most of it."""

    session_id: str
    status: Status
    duration_seconds: float
    series_key: str = ""
    study_key: str | None = None
    accession_key: str | None = None
    reason: str | None = None
    failure: Failure | None = None
    stages_seconds: Mapping[str, float] = {}
    models: tuple[ModelOutline, ...] = ()
    measurements_mm: Mapping[str, float] = {}
    system: Mapping[str, Usage] = {}
    custom: Mapping[str, float] = {}
    application_version: str | None = None
    context: Mapping[str, str | float] = {}
    version: Any = None

    @property
    def exam_keys(self) -> tuple[str, ...]:
        """The same as the record's."""
        return tuple(key for key in (self.series_key, self.study_key, self.accession_key) if key)

    @classmethod
    def from_json(cls, text: str | bytes) -> RecordOutline:
        """Read a record's; raises :class:`RecordError` as :meth:`SessionRecord.from_json` does."""
        # In one pass over the text: it is gone through for its version alone only where that isn't enough.
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            if _is_known((found := _OUTLINE.decode(text)).version):
                return found
        return _read(text, _OUTLINE)


def _coarse_mm(lengths_mm: Mapping[str, float]) -> dict[str, float]:
    return {name: round(length / COARSE_MM) * COARSE_MM for name, length in lengths_mm.items()}


class _VersionAlone(Struct):
    """Read before the rest, which a later version may have changed."""

    version: Any = None


_VERSION_ALONE = msgspec.json.Decoder(_VersionAlone)
_RECORD = msgspec.json.Decoder(SessionRecord)
_OUTLINE = msgspec.json.Decoder(RecordOutline)
_Read = TypeVar("_Read")


def _is_known(version: object) -> bool:
    return type(version) is int and 1 <= version <= RECORD_VERSION


def _read(text: str | bytes, decoder: msgspec.json.Decoder[_Read]) -> _Read:
    try:
        version = _VERSION_ALONE.decode(text).version
        if _is_known(version):
            return decoder.decode(text)
    # RecursionError: thousands of brackets.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordError(f"not a session record: {type(error).__name__}") from None
    shown = version if type(version) is int else "unknown"
    raise RecordError(f"session record of version {shown}; known up to {RECORD_VERSION}")
