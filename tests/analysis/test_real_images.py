"""Real pictures that packages carry. None is a long-leg film, so none may be measured as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from analysis.detectors.protocol import Detections, Detector
from analysis.errors import SeriesStop
from analysis.landmarks import Spacing
from analysis.pipeline import SeriesFiles, SeriesResult, load_detectors, process_series
from analysis.settings import AnalysisSettings
from tests.analysis.conftest import packaged

SETTINGS = AnalysisSettings()


def process(path: Path, outbox: Path, settings: AnalysisSettings = SETTINGS) -> SeriesResult:
    return process_series(SeriesFiles("real", (path,)), load_detectors(settings), settings, outbox)


def test_a_real_tibia_without_spacing_is_skipped(outbox: Path):
    (path,) = packaged("data_store", "RG3_UNCR.dcm")
    result = process(path, outbox)
    assert (result.status, result.reason) == ("skipped", "no_pixel_spacing")


def test_a_real_chest_with_zero_spacing_is_skipped(outbox: Path):
    (path,) = packaged("data_store", "RG1_UNCR.dcm")
    result = process(path, outbox)
    assert (result.status, result.reason) == ("skipped", "invalid_pixel_spacing")


class LookingOnce:
    """A detector that is asked about one picture only, in several ensembles."""

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector
        self._found: Detections | None = None

    def detect(self, image: np.ndarray, spacing: Spacing) -> Detections:
        self._found = self._found or self._detector.detect(image, spacing)
        return self._found


@pytest.mark.parametrize("name", ["RG3_UNCR.dcm", "RG1_UNCR.dcm"])
@pytest.mark.parametrize("spacing", [0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
def test_a_knee_or_chest_is_not_measured_with_a_spacing_either(name, spacing, outbox, tmp_path):
    """A knee film once made one model of three sure of two legs."""
    (path,) = packaged("data_store", name)
    dataset = pydicom.dcmread(path)
    dataset.PixelSpacing = [spacing, spacing]
    dataset.save_as(tmp_path / "with.dcm")
    detectors = [LookingOnce(detector) for detector in load_detectors(SETTINGS)]
    for ensemble in (detectors, *([detector] for detector in detectors)):
        result = process_series(SeriesFiles("real", (tmp_path / "with.dcm",)), ensemble, SETTINGS, outbox)
        names = [detector.name for detector in ensemble]
        assert result.status == "skipped", names
        assert result.reason in {"landmarks_missing", "low_confidence"}, names


def test_a_real_film_of_a_cat_is_not_measured(outbox: Path):
    (path,) = packaged("deid_data", "cat.dcm")
    result = process(path, outbox)
    assert result.status == "skipped"
    assert result.reason in {"landmarks_missing", "low_confidence"}
    assert result.model_results


def test_every_file_of_the_dicom_test_sets_ends_with_a_stated_reason(outbox: Path):
    paths = [*packaged("pydicom", "*.dcm"), *packaged("data_store", "*.dcm")]
    assert len(paths) > 60
    for path in paths:
        result = process(path, outbox)
        assert result.status != "completed", path
        assert result.reason in SeriesStop.reasons, path
        assert result.failure is None, (path, result.failure)
    assert list(outbox.iterdir()) == []


def test_a_real_picture_with_imager_spacing_only_is_looked_at(outbox: Path, tmp_path: Path):
    (path,) = packaged("data_store", "RG3_UNCR.dcm")
    dataset = pydicom.dcmread(path)
    dataset.ImagerPixelSpacing = [0.1, 0.1]
    dataset.save_as(tmp_path / "with.dcm")
    result = process(tmp_path / "with.dcm", outbox)
    assert (result.spacing.row_mm, result.reason) == (0.1, "landmarks_missing")


def test_a_real_header_without_pixels_fails(outbox: Path):
    (path,) = packaged("pydicom", "chrJapMulti.dcm")
    result = process(path, outbox)
    assert (result.status, result.reason) == ("failed", "no_pixel_data")
