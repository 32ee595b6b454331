"""One series from its files to its outputs. What a caller needs is here.

detectors = load_detectors(settings)
for series in find_series(in_dir):
    result = process_series(series, detectors, settings, out_dir)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

from analysis import ensemble, measurements
from analysis.crash import places, type_name
from analysis.detectors import registry
from analysis.detectors.protocol import Detections, Detector
from analysis.dicom import Radiograph, SeriesFiles, choose_image, find_series, read_radiograph
from analysis.errors import SeriesFailed, SeriesSkipped, SeriesStop
from analysis.landmarks import Landmark, Side
from analysis.outputs import write_outputs
from analysis.outputs.content import ReportContent, source_header
from analysis.plausibility import find_disordered, find_implausible
from analysis.result import ModelResult, SeriesResult, Status, summary
from analysis.settings import AnalysisSettings

__all__ = [
    "STAGES",
    "ModelResult",
    "SeriesFiles",
    "SeriesResult",
    "StageHook",
    "find_series",
    "load_detectors",
    "model_identities",
    "no_hook",
    "process_series",
    "summary",
]

STAGES: Final = ("load", "inference", "measurement", "dicom_generation")
_LOG = logging.getLogger("analysis")
_LEAST_SUPPORT: Final = 0.35
"""Confidence times the share of models, mean over the landmarks found, below which an image isn't
taken for a long-leg radiograph: a real knee film makes one model of three fairly sure of two legs."""
_MOST_OUTLIER_RISK: Final = 0.5
"""The outlier risk (ORS) above which the models see different things: some 30 mm apart throughout."""


class StageHook(Protocol):
    """Told when a stage begins and, by the context's exit, when it ends."""

    def __call__(self, name: str) -> AbstractContextManager[object]:
        """A context entered round the stage of that name, one of `STAGES`."""


def no_hook(name: str) -> AbstractContextManager[object]:  # noqa: ARG001 - the protocol's
    """Nobody watches."""
    return nullcontext()


def load_detectors(settings: AnalysisSettings, models_dir: Path | str | None = None) -> list[Detector]:
    """The configured detectors, in order; raises `ModelError` before any work is done."""
    return registry.load(settings.models, models_dir)


def model_identities(detectors: Sequence[Detector]) -> dict[str, dict[str, str]]:
    """Each model's `version` and its checkpoint's `digest`, as far as they are known, by the model's name."""
    return registry.identities(detectors)


def process_series(
    series: SeriesFiles,
    detectors: Sequence[Detector],
    settings: AnalysisSettings,
    out_dir: Path | str,
    stage: StageHook = no_hook,
) -> SeriesResult:
    """Measure one series and write its outputs into `out_dir`.

    Never raises an `Exception`: whatever ends this series is in the result, so the others still run.
    """
    run = _Run(series, settings, stage)
    try:
        run.measure(detectors, Path(out_dir))
    except SeriesSkipped as stop:
        return run.stopped("skipped", stop)
    except SeriesFailed as stop:
        return run.stopped("failed", stop)
    except Exception as error:
        return run.stopped("failed", SeriesFailed("error"), _where(error))
    _LOG.info("measured %d of %d lengths", len(run.found["measurements"]), len(measurements.MEASUREMENTS))
    return SeriesResult("completed", stem=run.stem, stage_seconds=run.seconds, **run.found)


class _Run:
    """One series on its way; `found` gathers what its result will hold."""

    def __init__(self, series: SeriesFiles, settings: AnalysisSettings, hook: StageHook) -> None:
        self.stem = series.files[0].stem if series.files else series.series_id
        self.seconds: dict[str, float] = {}
        self.found: dict[str, Any] = {}
        self._current: str | None = None
        self._landmarks: dict[int, Landmark] = {}
        self._series, self._settings, self._hook = series, settings, hook

    def measure(self, detectors: Sequence[Detector], out_dir: Path) -> None:
        with self._stage("load"):
            radiograph = self._load()
        with self._stage("inference"):
            self.found["model_results"] = _run_models(detectors, radiograph)
        with self._stage("measurement"):
            self._measure(radiograph)
        with self._stage("dicom_generation"):
            self.found["output_files"] = write_outputs(self._content(radiograph), out_dir, self.stem)

    def stopped(self, status: Status, stop: SeriesStop, failure: str | None = None) -> SeriesResult:
        level = logging.ERROR if status == "failed" else logging.WARNING
        where = f" ({failure})" if failure else ""
        _LOG.log(level, "series %s in stage %s: %s%s", status, self._current, stop, where)
        return SeriesResult(
            status,
            stem=self.stem,
            reason=stop.code,
            detail=stop.text,
            failed_stage=self._current,
            failure=failure,
            stage_seconds=self.seconds,
            **self.found,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._current = name
        started = time.monotonic()
        try:
            with self._hook(name):
                yield
        finally:
            self.seconds[name] = time.monotonic() - started

    def _load(self) -> Radiograph:
        path = choose_image(self._series.files)
        self.stem = path.stem
        self.found["dicom_path"] = path
        radiograph = read_radiograph(path)
        self.found |= {
            "spacing": radiograph.spacing,
            "stated_spacing": radiograph.stated_spacing,
            "orientation": radiograph.orientation,
        }
        return radiograph

    def _measure(self, radiograph: Radiograph) -> None:
        found, spacing = self.found, radiograph.spacing
        predictions = {name: model.predictions for name, model in found["model_results"].items()}
        landmarks = ensemble.fuse(predictions, self._settings.confidence_threshold)
        lengths = measurements.measure(landmarks, spacing)
        issues = [
            *measurements.find_issues(lengths, self._settings),
            *find_implausible(lengths),
            *find_disordered(lengths, landmarks),
            *radiograph.issues(),
        ]
        performance = ensemble.performance_data(predictions, landmarks, spacing)
        self._landmarks = landmarks
        stored = {label: radiograph.stored(landmark) for label, landmark in landmarks.items()}
        found.update(landmarks=stored, issues=issues, performance={**performance, "issues": issues})
        _require_measurable(lengths, performance["image_metrics"], predictions)
        if not radiograph.orientation.shows(Side(name[4]) for name in lengths):
            raise SeriesSkipped("laterality_conflict")
        found["measurements"] = lengths

    def _content(self, radiograph: Radiograph) -> ReportContent:
        return ReportContent(
            radiograph=radiograph,
            header=source_header(radiograph.dataset),
            settings=self._settings,
            models=tuple(self.found["model_results"]),
            landmarks=self._landmarks,
            measurements=self.found["measurements"],
            issues=self.found["issues"],
            image_metrics=self.found["performance"]["image_metrics"],
        )


def _run_models(detectors: Sequence[Detector], radiograph: Radiograph) -> dict[str, ModelResult]:
    return {detector.name: _run_model(detector, radiograph) for detector in detectors}


def _run_model(detector: Detector, radiograph: Radiograph) -> ModelResult:
    started = time.monotonic()
    predictions = detector.detect(radiograph.pixels, radiograph.spacing)
    seconds = time.monotonic() - started
    alone = measurements.measure(_alone(predictions), radiograph.spacing)
    return ModelResult(seconds, predictions, alone)


def _alone(predictions: Detections) -> dict[int, Landmark]:
    return ensemble.fuse({"alone": predictions})


def _require_measurable(
    lengths: measurements.Measurements, metrics: dict[str, Any], predictions: ensemble.Predictions
) -> None:
    """Raise `SeriesSkipped` where the image shows no legs, or nothing that the models agree on."""
    if not lengths:
        # Landmarks that only the configured threshold removed were not missing.
        seen = any(ensemble.best_sightings(detections) for detections in predictions.values())
        raise SeriesSkipped("low_confidence" if seen else "landmarks_missing")
    unsure = metrics["mean_support"] < _LEAST_SUPPORT
    if unsure or (metrics["ors"] or 0.0) > _MOST_OUTLIER_RISK:
        raise SeriesSkipped("low_confidence")


def _where(error: Exception) -> str:
    """`Type at module:line` of the innermost frame: enough to find a fault, nothing of the data."""
    return " at ".join([type_name(error), *places(error)[:1]])
