"""What one image's processing records: lenient about types, strict about what is kept.

A value that is not what its name says (text for millimetres, NaN, a UID as a stage name) is left
out and counted in the record's ``refused``, so that missing stays missing and is still noticed. How a value of a
host's is made plain, :mod:`monitoring.records.coerce` knows; what becomes of the finished record is not decided here.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from monitoring.exceptions import code_location, is_code_location, is_type_name, type_name
from monitoring.metrics import catalogue
from monitoring.records import coerce
from monitoring.records.names import Pseudonym, digest_code, plain_name, version_code
from monitoring.records.session_record import Failure, ModelPerformance, Prediction, SessionRecord, Status, Usage
from monitoring.runtime.left_out import LeftOutLog

_STATUS_WORDS: dict[str, Status] = {
    "completed": "completed", "complete": "completed", "success": "completed", "ok": "completed", "done": "completed",
    "failed": "failed", "failure": "failed", "error": "failed",
    "skipped": "skipped", "skip": "skipped",
}  # fmt: skip
_COLUMNS = ("boxes", "labels", "scores")
# The legs' landmarks; other labels are a host's own, and no landmark here.
_LABELS = range(1, 9)
_MODEL_KEYS = frozenset(
    {
        "confidence_scores", "digest", "inference_seconds", "inference_time", "landmarks_detected", "landmarks_found",
        "measurements", "version",
    }
)  # fmt: skip
_PERFORMANCE_KEYS = frozenset(
    {"image_metrics", "individual_model_predictions", "issues", "point_statistics", "uncertainties"}
)


class _Draft(Struct):
    """The record while it grows."""

    stages_seconds: dict[str, float] = {}
    models: dict[str, ModelPerformance] = {}
    measurements_mm: dict[str, float] = {}
    ensemble: dict[str, float] = {}
    points: dict[str, dict[str, float]] = {}
    predictions: dict[str, Prediction] = {}
    issues: Counter[str] = field(default_factory=Counter)
    custom: dict[str, float] = {}
    context: dict[str, str | float] = {}
    keys: dict[str, str] = {}
    reader_mm: dict[str, dict[str, float]] = {}
    thresholds_cm: dict[str, float] = {}
    refused: Counter[str] = field(default_factory=Counter)
    queue_depth: float | None = None
    application_version: str | None = None


class Session:
    """Records one image's processing and freezes it to a :class:`SessionRecord`, once. Thread-safe."""

    def __init__(
        self,
        series_key: str = "",
        session_id: str | None = None,
        left_out: LeftOutLog | None = None,
        pseudonym: Pseudonym | None = None,
    ) -> None:
        """``left_out`` is told what isn't kept as it is; ``pseudonym`` names what may not be shown."""
        self._left_out = left_out
        self._pseudonym = pseudonym
        self.session_id = session_id or uuid.uuid4().hex
        self.series_key = series_key
        # Both clocks: the instant is for people and may jump, the duration must not.
        self.started_ns = time.time_ns()
        self.started_monotonic = time.monotonic()
        self._draft = _Draft()
        self._active_stages: list[tuple[int, str]] = []  # of each the thread that it runs in
        self._status: Status | None = None
        self._reason: str | None = None
        self._failure: Failure | None = None
        self._stopped_in: str | None = None
        # Re-entrant, since a finalizer of the host's may record in the middle of a record.
        self._lock = threading.RLock()
        self._frozen: SessionRecord | None = None

    def enter_stage(self, name: Any) -> None:
        """A stage begins, in this thread."""
        with self._lock:
            self._active_stages.append((threading.get_ident(), self._stage(name)))

    def leave_stage(self, name: Any, seconds: Any) -> None:
        """The innermost stage of that name ends, of this thread's where it runs one, after ``seconds``."""
        ending = (threading.get_ident(), self._stage(name))
        with self._lock:
            same = [place for place, stage in enumerate(self._active_stages) if stage[1] == ending[1]]
            own = [place for place in same if self._active_stages[place] == ending]
            if same:  # a generator may be left in another thread than it was entered in
                del self._active_stages[(own or same)[-1]]
        self.record_stage(name, seconds)

    @property
    def current_stage(self) -> str | None:
        """The innermost stage that is running: this thread's, or the session's where this thread runs none."""
        with self._lock:
            own = [name for thread, name in self._active_stages if thread == threading.get_ident()]
            running = own or [name for _, name in self._active_stages]
            return running[-1] if running else None

    def record_stage(self, name: Any, seconds: Any) -> None:
        """Add ``seconds`` to a stage's time."""
        duration = coerce.seconds(seconds)
        if duration is None:
            self._refuse("stage_seconds", name)
            return
        with self._lock:
            stage = self._name(name, "stage")
            # Added up, since a stage may run once per model or per image part; two huge ones make infinity.
            total = coerce.seconds(self._draft.stages_seconds.get(stage, 0.0) + duration)
            if total is None:
                self._refuse("stage_seconds", name)
            else:
                self._draft.stages_seconds[stage] = total

    def record_interval(self, name: Any, start_time: Any, end_time: Any) -> None:
        """Add the seconds between two instants to a stage's time."""
        start, end = coerce.finite_float(start_time), coerce.finite_float(end_time)
        self.record_stage(name, None if start is None or end is None else end - start)

    def record_metric(self, name: Any, value: Any, tags: Any = None) -> None:
        """Keep a number of the host's own; ``queue_depth`` goes to its place in the catalogue."""
        number = coerce.finite_float(value)
        if number is None:
            self._refuse("metric_value", name)
            return
        if not (tags is None or (isinstance(tags, Mapping) and len(tags) == 0)):
            self._refuse("metric_tags", name)  # free text that would label a series: not in the catalogue, so not kept
        with self._lock:
            if coerce.plain_text(name) != "queue_depth":
                self._draft.custom[self._name(name, "metric")] = number
            elif number >= 0:
                self._draft.queue_depth = number
            else:
                self._refuse("metric_value", name)

    def record_model_performance(self, model_name: Any, metrics: Any) -> None:
        """Keep a model's inference time (s), landmarks, confidence scores, measurements (mm), version and checksum."""
        given = coerce.plain_mapping(metrics)
        seconds = next((given[key] for key in ("inference_seconds", "inference_time") if key in given), None)
        duration = coerce.seconds(seconds)
        # Left out is not refused: only what was given and isn't what its name says.
        if seconds is not None and duration is None:
            self._refuse("inference_seconds", model_name)
        landmarks = given.get("landmarks_detected", given.get("landmarks_found"))
        count = coerce.landmark_count(landmarks)
        if count is None and landmarks is not None:
            self._refuse("landmarks", model_name)
        values = given.get("confidence_scores")
        listed = coerce.plain_list(list(values.values()) if isinstance(values, Mapping) else values)
        scores = tuple(score for score in map(coerce.score, listed) if score is not None)
        # Text is a list of characters to Python, and no list of scores to anybody.
        if len(scores) < len(listed) or isinstance(values, str | bytes):
            self._refuse("confidence_scores", model_name)
        measurements_mm = self._millimeters(given.get("measurements"))
        version, digest = version_code(given.get("version")), digest_code(given.get("digest"))
        for key, code in (("version", version), ("digest", digest)):
            if code is None and given.get(key) is not None:
                self._refuse(key, model_name)
        name = self._name(model_name, "model")
        performance = ModelPerformance(name, duration, count, scores, measurements_mm, version, digest)
        # By the name as given: two models whose names can't be kept both become "other", and are still two.
        key = self._model_key(model_name)
        self._refuse_unknown(given, _MODEL_KEYS)
        with self._lock:
            self._draft.models[key] = _merged(self._draft.models.get(key), performance)

    def record_measurements(self, measurements: Any) -> None:
        """Keep the image's measurements: ``{name: {"millimeters": mm}}`` or ``{name: mm}``."""
        kept = self._millimeters(measurements)
        with self._lock:
            self._draft.measurements_mm.update(kept)

    def record_performance_data(self, performance_data: Any) -> None:
        """Keep the ensemble's image and point scores, the models' raw predictions and the issues' codes."""
        data = coerce.plain_mapping(performance_data)
        self._refuse_unknown(data, _PERFORMANCE_KEYS)
        for key, value in coerce.plain_mapping(data.get("image_metrics")).items():
            name = coerce.plain_text(key).lower().removeprefix("image_")
            number = coerce.finite_float(value)
            if name not in catalogue.ENSEMBLE:
                self._refuse("unknown_key", key)
            elif value is not None:  # a score that a host could not compute is missing, and no mistake
                self._keep_score(self._draft.ensemble, name, number, "image_metrics")
        for section in ("uncertainties", "point_statistics"):
            # Two sections, one meaning: hosts divide a landmark's figures among them as they like.
            for point, scores in coerce.plain_mapping(data.get(section)).items():
                self._record_point(point, scores)
        for model, entry in coerce.plain_mapping(data.get("individual_model_predictions")).items():
            self._record_prediction(model, entry)
        issues = data.get("issues")
        for issue in [issues] if isinstance(issues, str | Mapping) else coerce.plain_list(issues):
            code = issue.get("code", issue.get("type")) if isinstance(issue, Mapping) else issue
            with self._lock:
                self._draft.issues[coerce.metric_name(code) or catalogue.OTHER] += 1

    def record_context(self, context: Mapping[str, str | float], keys: Mapping[str, str]) -> None:
        """Keep what the DICOM header says of the image, already free of identity, and its keyed hashes."""
        with self._lock:
            self._draft.context.update(context)
            self._draft.keys.update(keys)

    def record_reading(self, reader: str, measurements_mm: Mapping[str, float]) -> None:
        """Keep a reader's measurements; ``reader`` is a keyed hash."""
        with self._lock:
            self._draft.reader_mm[reader] = dict(measurements_mm)

    def record_application_version(self, version: Any) -> None:
        """Keep the host's own version, a code."""
        code = version_code(version)
        if code is None:
            self._refuse("version", "application")
        self._draft.application_version = code

    def record_thresholds(self, thresholds_cm: Mapping[str, float]) -> None:
        """Keep the host's settings ``femur_threshold``, ``tibia_threshold`` and ``total_threshold``."""
        with self._lock:
            self._draft.thresholds_cm.update(thresholds_cm)

    def note_no_image(self, cause: str) -> None:
        """Nothing could be read of the image's header, for a cause given as a short code."""
        self._refuse("image", cause)

    def skip(self, reason: Any, stage: Any = None) -> None:
        """End as skipped, for ``reason`` (a short code, not a sentence)."""
        self._status, self._reason = "skipped", self._code(reason)
        self._stopped_in = plain_name(stage, self._pseudonym) or self.current_stage

    def fail(
        self, reason: Any, stage: str | None = None, error_type: str | None = None, location: str | None = None
    ) -> None:
        """End as failed, for ``reason`` (a short code, not a sentence)."""
        self._status, self._reason = "failed", self._code(reason)
        self._stopped_in = plain_name(stage, self._pseudonym)
        kind = coerce.plain_text(error_type)
        if kind or coerce.plain_text(stage):
            place = coerce.plain_text(location)
            self._failure = Failure(
                self._code(reason) if not kind else kind if is_type_name(kind) else catalogue.OTHER,
                self._stopped_in,
                place if is_code_location(place) else None,
            )

    def fail_with(self, error: BaseException) -> None:
        """End as failed because of ``error``, of which type and code location are kept."""
        self.note_failure(error)
        self._status, self._reason = "failed", "exception"

    def note_failure(self, error: BaseException) -> None:
        """Remember where ``error`` came from; the innermost stage that sees it first is the one that failed."""
        # An error passes through the stages around it; the innermost one, which sees it first, is where it happened.
        if self._failure is None:
            self._failure = Failure(type_name(error), self.current_stage, code_location(error))

    def trace(self) -> SessionRecord:
        """The record that would be reported if the process died now."""
        with self._lock:
            # As crashed, since that is what it will be read as, if ever.
            return self._record("crashed", "crashed", Failure("Crashed", self.current_stage), {})

    def freeze(self, status: Any = None, system: Mapping[str, Usage] | None = None) -> SessionRecord:
        """The finished record, the same one each time; ``status`` is the host's word where it has one."""
        with self._lock:
            # Once: a commit that failed is tried again with the same record, and so with the same points.
            if self._frozen is None:
                final = self._final_status(status)
                failure = self._failure if final == "failed" else None
                self._frozen = self._record(final, self._reason, failure, system or {})
            return self._frozen

    def _record(
        self, status: Status, reason: str | None, failure: Failure | None, system: Mapping[str, Usage]
    ) -> SessionRecord:
        draft = self._draft
        models = _completed_models(draft.models, draft.predictions)
        counts = [model.landmarks_found for model in models.values() if model.landmarks_found is not None]
        return SessionRecord(
            session_id=self.session_id,
            status=status,
            started_ns=self.started_ns,
            ended_ns=time.time_ns(),
            duration_seconds=time.monotonic() - self.started_monotonic,
            series_key=self.series_key,
            study_key=draft.keys.get("study_key"),
            patient_key=draft.keys.get("patient_key"),
            accession_key=draft.keys.get("accession_key"),
            reason=reason,
            stopped_in=None if status == "completed" else failure.stage if failure is not None else self._stopped_in,
            failure=failure,
            stages_seconds=dict(draft.stages_seconds),
            models=tuple(models.values()),
            measurements_mm=dict(draft.measurements_mm),
            landmarks_found=len(_landmark_labels(draft.predictions.values()))
            if draft.predictions
            else max(counts, default=None),
            ensemble=dict(draft.ensemble),
            points={point: dict(scores) for point, scores in draft.points.items()},
            predictions=tuple(draft.predictions.values()),
            issues=dict(draft.issues),
            system=dict(system),
            custom=dict(draft.custom),
            queue_depth=draft.queue_depth,
            application_version=draft.application_version,
            context=dict(draft.context),
            reader_mm=dict(draft.reader_mm),
            thresholds_cm=dict(draft.thresholds_cm),
            refused=dict(draft.refused),
        )

    def _final_status(self, status: Any) -> Status:
        if status is not None and self._status is None:
            self._status = _STATUS_WORDS.get(coerce.plain_text(status).lower())
            if self._status is None:
                self._refuse("status", "end_session")
                self._status, self._reason = "failed", "unknown_status"
        if self._status is None:
            self._status = "completed"
        return self._status

    def _keep_score(self, kept: dict[str, float], name: str, number: float | None, what: str) -> None:
        with self._lock:
            if number is None:
                self._refuse(what, name)
            else:
                kept[name] = number

    def _record_point(self, point: Any, scores: Any) -> None:
        label = coerce.whole_number(point)
        if label not in _LABELS:
            self._refuse("points", "label")
            return
        for key, value in coerce.plain_mapping(scores).items():
            name = coerce.plain_text(key).lower()
            if name not in catalogue.POINT:
                self._refuse("unknown_key", key)
            if name not in catalogue.POINT or value is None:
                continue
            number = coerce.finite_float(value)
            kept = self._draft.points.setdefault(str(label), {}) if number is not None else {}
            self._keep_score(kept, name, number, "points")

    def _record_prediction(self, model_name: Any, entry: Any) -> None:
        given = coerce.plain_mapping(entry)
        given = coerce.plain_mapping(given.get("predictions", given))
        columns = [coerce.plain_list(given.get(key)) for key in _COLUMNS]
        rows = [row for row in map(_detection, *columns) if row is not None]
        # Columns of unequal length can't be told apart by row: whose score would it be?
        if any(given.get(key) is None for key in _COLUMNS) or len({len(column) for column in columns}) != 1:
            self._refuse("predictions", model_name)
            return
        if len(rows) < len(columns[0]):
            self._refuse("predictions", model_name)
            if not rows:  # nothing readable is not the same as nothing found
                return
        boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
        if any(label not in _LABELS for label in labels):  # kept as they are, though no landmark has them
            self._refuse("labels", model_name)
        name = self._name(model_name, "model")
        with self._lock:
            self._draft.predictions[self._model_key(model_name)] = Prediction(name, boxes, labels, scores)

    def _millimeters(self, measurements: Any) -> dict[str, float]:
        kept = {}
        for name, value in coerce.plain_mapping(measurements).items():
            millimeters = value.get("millimeters") if isinstance(value, Mapping) else value
            number = coerce.millimeters(millimeters)
            if isinstance(value, Mapping) and "millimeters" not in value:
                centimeters = coerce.finite_float(value.get("centimeters"))
                number = None if centimeters is None else coerce.millimeters(centimeters * 10.0)
            if number is None:
                self._refuse("measurements", name)
            else:
                kept[self._name(name, "measurement")] = number
        return kept

    def _name(self, value: Any, of: str) -> str:
        name = plain_name(value, self._pseudonym)
        if name is None:
            self._refuse("name", of)
        elif name != coerce.plain_text(value) and self._left_out is not None:
            self._left_out.renamed(name)
        return name or catalogue.OTHER

    def _model_key(self, given: Any) -> str:
        """What tells a session's models apart: two that can't be named are still two. Never kept."""
        return plain_name(given, self._pseudonym) or f"unnamed {coerce.shown(given)}"

    def _stage(self, name: Any) -> str:
        return plain_name(name, self._pseudonym) or catalogue.OTHER

    def _code(self, reason: Any) -> str:
        return coerce.metric_name(reason) or catalogue.OTHER

    def _refuse_unknown(self, given: Mapping[Any, Any], known: frozenset[str]) -> None:
        for key in given:
            if not (isinstance(key, str) and key in known):
                self._refuse("unknown_key", key)

    def _refuse(self, what: str, key: Any) -> None:
        """Count what is left out; ``key`` says where it was in the host's code."""
        with self._lock:
            self._draft.refused[what] += 1
        if self._left_out is not None:
            self._left_out(what, coerce.plain_text(key))


def _detection(box: Any, label: Any, score: Any) -> tuple[tuple[float, ...], int, float] | None:
    given = coerce.plain_list(box)
    corners = tuple([number for number in map(coerce.finite_float, given) if number is not None])
    kept_label, kept_score = coerce.whole_number(label), coerce.score(score)
    if len(given) != 4 or len(corners) != 4 or kept_label is None or kept_score is None:
        return None
    return corners, kept_label, kept_score


def _merged(old: ModelPerformance | None, new: ModelPerformance) -> ModelPerformance:
    """Two reports on one model: the newer wins where it says anything."""
    if old is None:
        return new
    return ModelPerformance(
        model=new.model,
        inference_seconds=old.inference_seconds if new.inference_seconds is None else new.inference_seconds,
        landmarks_found=old.landmarks_found if new.landmarks_found is None else new.landmarks_found,
        confidence_scores=new.confidence_scores or old.confidence_scores,
        measurements_mm={**old.measurements_mm, **new.measurements_mm},
        version=new.version or old.version,
        digest=new.digest or old.digest,
    )


def _completed_models(
    models: Mapping[str, ModelPerformance], predictions: Mapping[str, Prediction]
) -> dict[str, ModelPerformance]:
    """The models' reports, with what their raw predictions tell where the host said nothing."""
    completed = dict(models)
    for key, prediction in predictions.items():
        known = completed.get(key, ModelPerformance(prediction.model))
        found = len(_landmark_labels([prediction])) if known.landmarks_found is None else known.landmarks_found
        scores = known.confidence_scores or prediction.scores
        completed[key] = replace(known, landmarks_found=found, confidence_scores=scores)
    return completed


def _landmark_labels(predictions: Any) -> set[int]:
    return {label for prediction in predictions for label in prediction.labels if 1 <= label <= 8}
