"""The series that are watched, declared once: what each is, where it comes from, what it can notice and what it can't.

A point is one exam: of each study the first completed session, so that a film that is taken again counts once. Events
that tell of sessions (failed, skipped, crashed) count each series' first session. A series may have parts (a model, a
bone, a stage): each is a chart of its own. Ranks are among the exams of one :func:`segment` and one :func:`stratum`;
events are held to rates that people accept, and so have neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from math import log, nan
from typing import Final, NamedTuple

from msgspec import Struct

from monitoring.domain import agreement
from monitoring.domain.anatomy import FEMUR, SIDES, TIBIA, measurement_name
from monitoring.domain.statistics import is_number, mean
from monitoring.metrics import catalogue
from monitoring.metrics.stop_reasons import reason_class
from monitoring.records.names import plain_name
from monitoring.records.session_record import RecordOutline, SessionRecord
from monitoring.settings import ACCEPTED_RATES

BONES: Final = tuple(measurement_name(side, bone) for bone in (FEMUR, TIBIA) for side in SIDES)
MOST_STRATA: Final = 8
GONE_AFTER: Final = 20
"""A model that was missing in so many exams in a row doesn't measure any more."""
UNTOLD, LATER_STRATA = "device and spacing not told", "devices and spacings that came later"

Record = SessionRecord | RecordOutline
Part = tuple[str, float]
"""Which chart of the series, "" where it has one only; and its point: a value, or 0 or 1 of an event."""


class Kind(StrEnum):
    """What a series' points are, and so by which chart it is watched."""

    NUMBER = "number"
    EVENT = "event"
    SILENCE = "silence"


class Of(StrEnum):
    """Which sessions give a series its points."""

    EXAM = "exam"
    """The first completed session of each study."""
    SESSION = "session"
    """The first session of each series, however it ended."""


class Look(NamedTuple):
    """What is seen of a session: its record, what was derived of it, and what it differs from readers by (mm)."""

    record: Record
    derived: Mapping[str, float]
    errors_mm: Mapping[str, float]


class Series(Struct, frozen=True):
    """One series. ``parts`` takes its points from a session, or names the derived values that they are, by part;
    ``notices`` and ``misses`` are told beside its state. What the exams of one day have in common by nature, as a
    machine's load, is charted ``by_days`` from the first exam on.
    """

    name: str
    title: str
    unit: str
    parts: Callable[[Look], Iterable[Part]] | Mapping[str, str]
    source: str
    notices: str
    misses: str
    kind: Kind = Kind.NUMBER
    of: Of = Of.EXAM
    by_days: bool = False


# --- points -------------------------------------------------------------------------------------


def _derived(metric: catalogue.Metric, *labels: str) -> dict[str, str]:
    """The derived values of a metric, by each value of its only label, or the one that it has by ""."""
    if not labels:
        return {"": metric.name}
    return {label: f"{metric.name}{{{metric.labels[0].name}={label}}}" for label in labels}


def _model_differences(look: Look) -> Iterator[Part]:
    """Each model's length less the mean of the others', by model and bone; of two models that of the first."""
    for bone in BONES:
        lengths = {
            model.model: model.measurements_mm[bone] for model in look.record.models if bone in model.measurements_mm
        }
        total, others = sum(lengths.values()), len(lengths) - 1
        for name in sorted(lengths)[: 1 if others == 1 else None] if others > 0 else ():
            yield f"{name}/{bone}", lengths[name] - (total - lengths[name]) / others


def _errors(look: Look) -> Iterator[Part]:
    yield from ((bone, look.errors_mm[bone]) for bone in BONES if bone in look.errors_mm)


def _side_errors(look: Look) -> Iterator[Part]:
    for bone in (FEMUR, TIBIA):
        right, left = (look.errors_mm.get(measurement_name(side, bone)) for side in SIDES)
        if right is not None and left is not None:
            yield catalogue.BONE_NAMES[bone], right - left


def _absolute_error(look: Look) -> Iterator[Part]:
    if errors := [abs(error) for _, error in _errors(look)]:
        yield "", mean(errors)


def _error_over(limit_mm: float) -> Callable[[Look], Iterator[Part]]:
    def parts(look: Look) -> Iterator[Part]:
        if errors := [abs(error) for _, error in _errors(look)]:
            yield "", float(max(errors) > limit_mm)

    return parts


def _log_ratios(look: Look) -> Iterator[Part]:
    for part, key in _RATIOS.items():
        if (ratio := look.derived.get(key, 0.0)) > 0:
            yield part, log(ratio)


def _stop(status: str, *classes: str) -> Callable[[Look], Iterator[Part]]:
    """1 where a session ended so, for a reason of these classes if any are named; 0 where it ended otherwise."""

    def parts(look: Look) -> Iterator[Part]:
        record = look.record
        is_it = record.status == status
        if is_it and classes:
            is_it = reason_class(record.reason, record.failure.type if record.failure else None) in classes
        yield "", float(is_it)

    return parts


def _landmark_missed(look: Look) -> Iterator[Part]:
    misses = [look.derived[key] for key in _MISSES if key in look.derived]
    if misses:
        yield "", float(any(misses))


def _largest(resource: str) -> Callable[[Look], Iterator[Part]]:
    """A resource's largest figure over the session; its only one where no more is kept."""

    def parts(look: Look) -> Iterator[Part]:
        if resource in look.record.system:
            yield "", look.record.system[resource].maximum

    return parts


def _gpu_memory(look: Look) -> Iterator[Part]:
    """What torch holds is this process' alone, and as large as what it ever needed; others are seen by the GPU."""
    system = look.record.system
    for gpu in catalogue.GPU.values[:_MOST_GPUS]:
        usage = system.get(f"torch_memory_reserved_bytes/{gpu}") or system.get(f"gpu_memory_used_bytes/{gpu}")
        if usage is not None:
            yield gpu, usage.maximum


def least_free(record: Record) -> Iterator[tuple[str, float]]:
    """The least free bytes of each volume while the session lasted."""
    for volume in catalogue.VOLUME.values:
        usage = record.system.get(f"disk_free_bytes/{volume}")
        if usage is not None and usage.minimum is not None:
            yield volume, usage.minimum


_MOST_GPUS: Final = 4
MEMORY: Final = ("process_memory", "memory_growth", "gpu_memory")
"""The series of memory, which are compared from segment to segment, too."""
_MISSES: Final = tuple(_derived(catalogue.LANDMARK_MISSES, *catalogue.LANDMARK.values).values())
_RATIOS: Final = _derived(catalogue.FEMUR_TIBIA, *catalogue.SIDE_NAMES.values())

# --- the table ----------------------------------------------------------------------------------

_ANY_PATIENTS: Final = "little: patients differ far more than faults do"
SERIES: Final[tuple[Series, ...]] = (
    Series(
        "model_difference", "one model's length less the mean of the others'", "mm", _model_differences,
        "the models' own measurements", "one model that places a landmark otherwise than before (5 mm are 2 SD)",
        "what all models do alike: scale, a common bias; which of two models it is",
    ),
    Series(
        "model_distance", "mean distance between two models' landmarks", "mm",
        _derived(catalogue.ENSEMBLE["mean_distance"]), "the models' predictions",
        "models that scatter more (1.5 times: 1.7 SD), one that is off (0.7 SD)", "what all models do alike",
    ),
    Series(
        "disagreement", "composite disagreement score (CDS)", "ratio", _derived(catalogue.ENSEMBLE["cds"]),
        "the models' predictions", "landmarks that fewer models find, or find far apart", "what all models do alike",
    ),
    Series(
        "confidence", "mean confidence of the fused landmarks", "ratio",
        _derived(catalogue.FUSED_CONFIDENCE["average"]), "the models' detection scores",
        "images unlike the earlier ones, damaged weights", "confident mistakes",
    ),
    Series(
        "quality", "quality of the measurements", "ratio", _derived(catalogue.QUALITY), "monitoring/domain/quality.py",
        "worse agreement, confidence, completeness or plausibility at once", "confident mistakes",
    ),
    Series(
        "reader_error", "measurement less the readers' mean", "mm", _errors, "readers' measurements",
        "a common bias: scale by 2 % is 2 to 2.6 SD, 3 mm at the ankle 1.1 SD, 2 mm at the knee 0.7 SD",
        "anything of exams that nobody read",
    ),
    Series(
        "reader_side_error", "right less left: measurement less the readers' mean", "mm", _side_errors,
        "readers' measurements", "an error of one side", "an error of both sides alike",
    ),
    Series(
        "reader_absolute_error", "mean absolute error of the four bones", "mm", _absolute_error,
        "readers' measurements", "scale by 2 % (4.9 SD), more scatter, sides that are swapped now and then",
        "small biases of one bone",
    ),
    Series(
        "z_score", "SD from the mean for age and sex", "SD",
        _derived(catalogue.Z_SCORE_UNCLAMPED, *BONES), "monitoring/domain/growth.py",
        "scale by 10 % and more, another kind of patients", _ANY_PATIENTS,
    ),
    Series(
        "log_femur_tibia", "logarithm of femur : tibia", "1", _log_ratios, "measurements of one side",
        "a knee that is placed too high or too low (2 mm: 0.3 SD)", "scale, which changes both bones alike",
    ),
    Series(
        "side_difference", "right less left", "mm", _derived(catalogue.SIDE_DIFFERENCE, "femur", "tibia"),
        "measurements of the two sides", "a bias of one side (3 mm: 0.5 SD)", "an error of both sides alike",
    ),
    Series(
        "session_seconds", "processing time of one image", "s",
        lambda look: [("", look.record.duration_seconds)], "measured", "a machine or a model that became slower",
        "rare long runs: they are an exam each", by_days=True,
    ),
    Series(
        "stage_seconds", "time of one stage", "s", lambda look: look.record.stages_seconds.items(), "measured",
        "the stage that became slower", "rare long runs: they are an exam each", by_days=True,
    ),
    Series(
        "model_seconds", "inference time of one model", "s",
        lambda look: [
            (model.model, model.inference_seconds)
            for model in look.record.models
            if model.inference_seconds is not None
        ],
        "measured", "the model that became slower", "rare long runs: they are an exam each", by_days=True,
    ),
    Series(
        "process_memory", "largest resident memory while one image was processed", "bytes",
        _largest("process_resident_memory_bytes"), "/proc/self",
        "more memory for the same images, a process that grows from image to image where that grew worse",
        "what a new version takes more: it begins a segment (see Machines); child processes", by_days=True,
    ),
    Series(
        "memory_growth", "resident memory after one image more of the same process", "bytes",
        _largest("process_resident_memory_growth_bytes"), "/proc/self",
        "a leak that began: each image leaves more behind than before",
        "a leak that was there from the version's first image; processes of one image each", by_days=True,
    ),
    Series(
        "gpu_memory", "largest GPU memory while one image was processed", "bytes", _gpu_memory,
        "torch, else NVML", "more memory for the same images, another process on the GPU (by NVML)",
        "what a new version takes more; GPUs beyond the first four", by_days=True,
    ),
    Series(
        "failed", "sessions that failed", "share", _stop("failed"), "how sessions end",
        "a threefold rate of 5 % in 63 sessions, a doubled one in 173",
        "rates below the accepted one, however they change",
        Kind.EVENT, Of.SESSION,
    ),
    Series(
        "crashed", "sessions whose process died", "share", _stop("crashed"), "how sessions end",
        "a threefold rate of 1 % in 229 sessions", "rates below the accepted one, however they change",
        Kind.EVENT, Of.SESSION,
    ),
    Series(
        "skipped_input", "sessions skipped for what arrived", "share", _stop("skipped", "input"), "how sessions end",
        "series of another kind that are sent, a modality that writes other headers", "a fault after the input",
        Kind.EVENT, Of.SESSION,
    ),
    Series(
        "skipped_not_measurable", "sessions skipped since the image shows too little", "share",
        _stop("skipped", "not_measurable"), "how sessions end", "images unlike those that were learnt from",
        "images that are measured wrongly", Kind.EVENT, Of.SESSION,
    ),
    Series(
        "skipped_otherwise", "sessions skipped for another reason", "share",
        _stop("skipped", "error", "resource", "interrupted", "other"), "how sessions end",
        "machines that are short of room", "what is not skipped", Kind.EVENT, Of.SESSION,
    ),
    Series(
        "landmark_missed", "images with a landmark that no model found", "share", _landmark_missed,
        "the models' predictions", "images unlike those that were learnt from",
        "landmarks that are found at a wrong place",
        Kind.EVENT, Of.SESSION,
    ),
    Series(
        "reader_error_over_5_mm", "exams with a bone off by more than 5 mm", "share", _error_over(5.0),
        "readers' measurements", "more large errors than are accepted", "anything of exams that nobody read",
        Kind.EVENT,
    ),
    Series(
        "reader_error_over_10_mm", "exams with a bone off by more than 10 mm", "share", _error_over(10.0),
        "readers' measurements", "more gross errors than are accepted", "anything of exams that nobody read",
        Kind.EVENT,
    ),
    Series(
        "silence", "working days without a session", "days", lambda _: [("", 1.0)], "when sessions end",
        "a route, a network or a machine that is gone", "holidays; a busier site that lost one of its routes",
        Kind.SILENCE, Of.SESSION,
    ),
)  # fmt: skip
assert {series.name for series in SERIES if series.kind is Kind.EVENT} == set(ACCEPTED_RATES)  # noqa: S101


def watched(custom: Iterable[str] = ()) -> tuple[Series, ...]:
    """The table, with a series for each of the host's own metrics that the settings name."""
    names = dict.fromkeys(name for name in map(plain_name, custom) if name)
    return (*SERIES, *map(_custom, names))


def _custom(name: str) -> Series:
    return Series(
        f"custom_{name}", f"the host's own {name}", "as reported",
        lambda look: [("", look.record.custom[name])] if name in look.record.custom else (),
        "reported by the host", "what the host's metric shows", "what it doesn't show",
    )  # fmt: skip


def series_of(chart: str) -> str:
    """The series of a chart's name."""
    return chart.partition("/")[0]


class _ChartNames(dict[str, str]):
    """By part the chart's name, ``series`` or ``series/part``: the same string at each session, which has a hash."""

    def __init__(self, series: str) -> None:
        super().__init__({"": series})

    def __missing__(self, part: str) -> str:
        self[part] = found = f"{self['']}/{part}"
        return found


class Points:
    """Takes the points of some series from sessions: what is the same for each is looked up once."""

    LARGEST: Final = 1e100
    """Beyond it, as a host's "no value" may be (1.8e308), squares overflow, so that no chart could be computed."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._derived: list[tuple[str, str]] = []
        self._made: list[tuple[_ChartNames, Callable[[Look], Iterable[Part]]]] = []
        for each in series:
            names = _ChartNames(each.name)
            if callable(each.parts):
                self._made.append((names, each.parts))
            else:
                self._derived += [(key, names[part]) for part, key in each.parts.items()]

    def of(self, look: Look) -> list[tuple[str, float]]:
        """A session's: the chart's name, and the value; without what is not finite, or beyond :attr:`LARGEST`."""
        value_of, most = look.derived.get, self.LARGEST
        found = [(name, value) for key, name in self._derived if -most <= (value := value_of(key, nan)) <= most]
        for names, parts in self._made:
            for part, value in parts(look):
                if -most <= value <= most:
                    found.append((names[part], value))
        return found


DERIVED: Final = (
    *(key for each in SERIES if isinstance(each.parts, Mapping) for key in each.parts.values()),
    *_RATIOS.values(),
    *_MISSES,
)
"""The derived values that the series are made of."""


def reader_errors(record: Record, reader_mm: Mapping[str, float]) -> dict[str, float]:
    """Measurement - readers' mean, mm, of the six measurements that both have."""
    if not reader_mm:
        return {}
    return {error.measurement: error.error_mm for error in agreement.reading_errors(record.measurements_mm, reader_mm)}


# --- segments and strata ------------------------------------------------------------------------


Measuring = dict[str, dict[str, tuple[str, int]]]
"""By the application's version its models: what each is in words, and in how many exams in a row it was missing."""


def segment(record: Record, known: Measuring) -> tuple[str, str]:
    """What measured an exam, in words and as a short code: the application's version, and each model's and weights'.

    ``known`` is what measured the exams before it, in the order of time, and is brought up to date. A model that is
    missing in an exam (it failed on that image) still belongs to what measures, until it was missing in
    :data:`GONE_AFTER` exams of this version in a row; one that comes is there at once.
    """
    application = f"application {record.application_version or 'of unknown version'}"
    before = known.get(application, {})
    missing = {name: (words, exams + 1) for name, (words, exams) in before.items() if exams + 1 < GONE_AFTER}
    models = {model.model: (_model_words(model.model, model.version, model.digest), 0) for model in record.models}
    known[application] = models = missing | models
    words = "; ".join((application, *sorted(its_words for its_words, _ in models.values())))
    return _short_code(words), words


# A site's exams share a few of both for months.
@lru_cache
def _model_words(name: str, version: str | None, digest: str | None) -> str:
    return " ".join(filter(None, (name, version, (digest or "")[:12])))


@lru_cache
def _short_code(words: str) -> str:
    return sha256(words.encode()).hexdigest()[:8]


def stratum(record: Record) -> str:
    """Device, view and pixel spacing, in words: exams of different ones are not ranked against each other."""
    context = record.context
    maker, model = (context.get(name) for name in ("manufacturer", "device_model"))
    words = [str(name) for name in (maker, model) if name and name != catalogue.OTHER]
    device = " ".join(words) or ("device not listed" if maker or model else "")
    if maker not in (None, catalogue.OTHER) and model == catalogue.OTHER:
        device += ", model not listed"
    spacing = context.get("row_spacing_mm")
    told = f"{spacing:.4g} mm per pixel" if is_number(spacing) else ""
    return ", ".join(filter(None, (device, str(context.get("body_part") or "").lower(), told))) or UNTOLD
