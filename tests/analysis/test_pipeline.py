from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest

from analysis import pipeline
from analysis.detectors.protocol import Detections
from analysis.landmarks import LABELS, Spacing
from analysis.phantom.files import write_phantom
from analysis.pipeline import find_series, load_detectors, process_series, summary
from analysis.settings import AnalysisSettings

SETTINGS = AnalysisSettings()


class Fixed:
    """A detector that says what it was told to."""

    def __init__(self, name: str, detections: Detections) -> None:
        self.name, self._detections = name, detections

    def detect(self, image: np.ndarray, spacing: Spacing) -> Detections:
        return self._detections


class Broken:
    name = "broken"

    def detect(self, image: np.ndarray, spacing: Spacing) -> Detections:
        raise ValueError("Invented^Secret said 1.2.3")


def legs(score: float, shift: float = 0.0, labels: tuple[int, ...] = LABELS) -> Detections:
    places = {1: 100, 2: 100, 3: 500, 4: 500, 5: 500, 6: 500, 7: 800, 8: 800}
    boxes = [[50.0 * label, places[label] + shift, 50.0 * label + 10, places[label] + shift + 10] for label in labels]
    return Detections.of(boxes, labels, [score] * len(labels))


def run(inbox: Path, outbox: Path, detectors: list, settings: AnalysisSettings = SETTINGS, **more: object):
    (series,) = find_series(inbox)
    return process_series(series, detectors, settings, outbox, **more)


def test_a_good_series_is_measured_by_all_three_models(dicom_file: Path, inbox: Path, outbox: Path, phantom):
    result = run(inbox, outbox, load_detectors(SETTINGS))
    assert (result.status, result.reason, result.failure) == ("completed", None, None)
    assert result.dicom_path == dicom_file
    assert result.spacing == Spacing(0.5, 0.5)
    for name, truth in phantom.lengths_mm.items():
        assert result.measurements[name]["millimeters"] == pytest.approx(truth, abs=4)
    assert set(result.model_results) == set(SETTINGS.models)
    for model in result.model_results.values():
        assert model.landmarks_detected == 8
        assert len(model.confidence_scores) == 8
        assert model.inference_seconds > 0
        assert set(model.measurements) == set(result.measurements)
    assert set(result.performance) == {
        "uncertainties",
        "point_statistics",
        "issues",
        "image_metrics",
        "individual_model_predictions",
    }
    assert result.performance["image_metrics"]["dds"] == 0


def test_the_hook_is_entered_round_each_stage_in_order(dicom_file: Path, inbox: Path, outbox: Path):
    seen = []

    @contextmanager
    def hook(name: str) -> Iterator[None]:
        seen.append(f"+{name}")
        yield
        seen.append(f"-{name}")

    result = run(inbox, outbox, [Fixed("a", legs(0.9))], stage=hook)
    assert seen == [f"{sign}{name}" for name in pipeline.STAGES for sign in "+-"]
    assert tuple(result.stage_seconds) == pipeline.STAGES
    assert all(seconds >= 0 for seconds in result.stage_seconds.values())


def test_an_unexpected_error_fails_the_series_by_type_and_place_and_never_by_message(
    dicom_file: Path, inbox: Path, outbox: Path, caplog
):
    with caplog.at_level(logging.DEBUG):
        result = run(inbox, outbox, [Fixed("a", legs(0.9)), Broken()])
    assert (result.status, result.reason, result.failed_stage) == ("failed", "error", "inference")
    assert result.failure.startswith("ValueError at tests.analysis.test_pipeline:")
    assert "Secret" not in caplog.text + repr(result) + json.dumps(summary(result))
    assert set(result.stage_seconds) == {"load", "inference"}


def test_an_error_of_one_series_leaves_the_others_alone(inbox: Path, outbox: Path, phantom):
    rng = np.random.default_rng(5)
    write_phantom(inbox, phantom, rng)
    (inbox / "0.dcm").write_bytes(b"broken")
    results = [process_series(s, [Fixed("a", legs(0.9))], SETTINGS, outbox) for s in find_series(inbox)]
    assert [result.status for result in results] == ["failed", "completed"]
    assert results[0].reason == "not_dicom"
    assert results[0].failed_stage == "load"


def test_no_exit_of_the_program_is_swallowed(dicom_file: Path, inbox: Path, outbox: Path):
    class Interrupted(Broken):
        def detect(self, image, spacing):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(inbox, outbox, [Interrupted()])


def test_no_landmarks_skip_the_series_with_what_the_models_said(dicom_file: Path, inbox: Path, outbox: Path):
    result = run(inbox, outbox, [Fixed("a", legs(0.9, labels=())), Fixed("b", legs(0.9, labels=()))])
    assert (result.status, result.reason) == ("skipped", "landmarks_missing")
    assert set(result.model_results) == {"a", "b"}
    assert result.performance["image_metrics"]["dds"] == 1
    assert result.measurements == {}
    assert list(outbox.iterdir()) == []


@pytest.mark.parametrize(
    ("detectors", "settings"),
    [
        ([Fixed("a", legs(0.2)), Fixed("b", legs(0.2))], SETTINGS),
        ([Fixed("a", legs(0.9)), Fixed("b", legs(0.9, shift=200))], SETTINGS),
        ([Fixed("a", legs(0.9)), *(Fixed(name, legs(0.9, labels=())) for name in "bc")], SETTINGS),
        ([Fixed("a", legs(0.7))], AnalysisSettings(confidence_threshold=0.8)),
    ],
    ids=[
        "models are unsure",
        "models see different things",
        "one model of three sees legs",
        "below the configured threshold",
    ],
)
def test_landmarks_that_cannot_be_trusted_are_not_measured(dicom_file, inbox, outbox, detectors, settings):
    result = run(inbox, outbox, detectors, settings)
    assert (result.status, result.reason, result.measurements) == ("skipped", "low_confidence", {})
    assert list(outbox.iterdir()) == []


def test_one_missing_leg_is_an_issue_and_the_other_is_measured(inbox: Path, outbox: Path, one_legged):
    write_phantom(inbox, one_legged, np.random.default_rng(2))
    result = run(inbox, outbox, load_detectors(SETTINGS))
    assert result.status == "completed"
    assert set(result.measurements) == {"PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"}
    missing = {issue["measurement"] for issue in result.issues}
    assert missing == {"PLL_L_FEM", "PLL_L_TIB", "PLL_L_LGL"}
    assert result.performance["issues"] == result.issues


def test_a_leg_difference_is_flagged(dicom_file: Path, inbox: Path, outbox: Path):
    uneven = dataclasses.replace(legs(0.9))
    uneven.boxes[7] += (0, 60, 0, 60)  # the left ankle 30 mm lower
    result = run(inbox, outbox, [Fixed("a", uneven)], AnalysisSettings(total_threshold=2.9))
    assert {issue["code"] for issue in result.issues} == {"tibia_length_difference", "leg_length_difference"}


def test_an_output_folder_that_is_not_there_fails_the_series(dicom_file: Path, inbox: Path, tmp_path: Path):
    result = run(inbox, tmp_path / "nowhere", [Fixed("a", legs(0.9))])
    assert (result.status, result.failed_stage) == ("failed", "dicom_generation")
    assert result.failure.startswith("FileNotFoundError at ")


def test_the_summary_is_json_and_names_the_series_by_its_file(dicom_file: Path, inbox: Path, outbox: Path):
    values = summary(run(inbox, outbox, [Fixed("a", legs(0.9))]))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["series"] == dicom_file.stem
    assert values["models"]["a"]["landmarks_detected"] == 8


def test_nothing_of_the_patient_reaches_log_or_result(dicom_file: Path, inbox: Path, outbox: Path, caplog):
    source = pydicom.dcmread(dicom_file)
    private = [
        str(source[keyword].value)
        for keyword in (
            "PatientName",
            "PatientID",
            "AccessionNumber",
            "StudyInstanceUID",
            "SOPInstanceUID",
            "InstitutionName",
        )
    ]
    with caplog.at_level(logging.DEBUG):
        good = run(inbox, outbox, load_detectors(SETTINGS))
        content = dicom_file.read_bytes()
        dicom_file.write_bytes(content[:-5000])
        bad = run(inbox, outbox, load_detectors(SETTINGS))
    assert (good.status, bad.status) == ("completed", "failed")
    shown = caplog.text + "".join(
        repr(dataclasses.replace(r, stem="", dicom_path=None, output_files=())) for r in (good, bad)
    )
    assert [value for value in private if value in shown] == []


def test_the_application_knows_nothing_of_who_watches_it():
    import subprocess
    import sys

    code = "import sys, analysis.pipeline; sys.exit(any(name.split('.')[0] == 'monitoring' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
