from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from analysis import ensemble, measurements
from analysis.detectors import registry
from analysis.detectors.protocol import Detections, Detector
from analysis.landmarks import LABELS, Spacing
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.radiograph import make_chest
from tests.analysis.conftest import COARSE, bright_bones

COUNT = 8
DETECTORS = [build() for build in registry.BUILT_IN.values()]


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [make_phantom(np.random.default_rng(seed), COARSE) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def found(phantom: Phantom) -> dict[str, Detections]:
    """What each detector finds in the phantom of these tests."""
    image = bright_bones(phantom)
    return {detector.name: detector.detect(image, phantom.spacing) for detector in DETECTORS}


def each(detectors: list[Detector]) -> list:
    return [pytest.param(detector, id=detector.name) for detector in detectors]


def lengths_of(detector: Detector, phantom: Phantom) -> dict[str, float]:
    predictions = {detector.name: detector.detect(bright_bones(phantom), phantom.spacing)}
    found = measurements.measure(ensemble.fuse(predictions), phantom.spacing)
    return {name: length["millimeters"] for name, length in found.items()}


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_femur_and_tibia_are_within_3_mm_of_truth_in_the_median(detector, phantoms):
    errors: dict[str, list[float]] = {"FEM": [], "TIB": []}
    for phantom in phantoms:
        lengths = lengths_of(detector, phantom)
        assert set(lengths) == set(measurements.MEASUREMENTS)
        for name in lengths:
            if name[-3:] in errors:
                errors[name[-3:]].append(abs(lengths[name] - phantom.lengths_mm[name]))
    assert median(errors["FEM"]) < 3
    assert median(errors["TIB"]) < 3


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_a_film_of_realistic_size_and_uneven_spacing_is_measured_as_well(detector):
    phantom = make_phantom(np.random.default_rng(3), Spacing(0.16, 0.184))
    assert phantom.pixels.shape[0] > 3000
    lengths = lengths_of(detector, phantom)
    assert max(abs(lengths[name] - phantom.lengths_mm[name]) for name in lengths) < 6
    assert len(lengths) == 6


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_every_landmark_lies_within_5_mm_of_truth(detector, phantom, found):
    best = ensemble.best_sightings(found[detector.name])
    for label, (x, y) in phantom.landmarks.items():
        assert np.hypot(best[label].x - x, best[label].y - y) * COARSE.row_mm < 5, label


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_a_missing_leg_stays_missing(detector, one_legged):
    found = detector.detect(bright_bones(one_legged), one_legged.spacing)
    assert set(found.labels) == {1, 3, 5, 7}


@pytest.fixture(scope="module")
def chests() -> list[Phantom]:
    return [make_chest(np.random.default_rng(seed)) for seed in range(3)]


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_a_chest_has_no_confident_leg_in_it(detector, chests):
    for chest in chests:
        found = detector.detect(bright_bones(chest), chest.spacing)
        assert found.scores.mean() < 0.3 if found.scores.size else True


@pytest.mark.parametrize("detector", each(DETECTORS))
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((900, 400)),
        np.full((900, 400), 7.0),
        np.random.default_rng(0).random((900, 400)),
        np.random.default_rng(0).random((160, 2000)),
        np.random.default_rng(0).random((2000, 160)),
        np.ones((1, 1)),
        np.random.default_rng(0).random((4, 4)),
        np.random.default_rng(0).random((900, 3)),
        np.tile(np.linspace(0, 1, 400), (900, 1)),
        np.indices((900, 400)).sum(axis=0) % 40 < 20,
    ],
    ids=["black", "even", "noise", "wide", "tall", "one pixel", "few pixels", "few columns", "ramp", "stripes"],
)
def test_pictures_without_legs_end_quietly(detector, image):
    found = detector.detect(image.astype(np.float32), Spacing(1.0, 1.0))
    assert found.boxes.shape == (len(found.labels), 4)
    assert np.isfinite(found.boxes).all()
    assert found.scores.mean() < 0.5 if found.scores.size else True


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_boxes_labels_and_scores_are_in_range(detector, found):
    detections = found[detector.name]
    assert sorted(detections.labels) == list(LABELS)
    assert ((detections.scores >= 0) & (detections.scores <= 1)).all()
    assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()


def test_the_detectors_work_by_different_means_and_so_disagree(phantom, found):
    points = ensemble.point_uncertainties(found, phantom.spacing)
    assert all(point.spatial_uncertainty_mm > 0.05 for point in points.values())


@pytest.mark.parametrize("detector", each(DETECTORS))
def test_detection_follows_the_image_when_it_is_moved(detector, phantom, found):
    """Nothing but pixels is looked at: the same film with a wider border gives moved landmarks."""
    image = bright_bones(phantom)
    border = ((30, 0), (40, 40))
    moved = np.pad(image, border, constant_values=float(np.percentile(image, 1)))
    before = ensemble.best_sightings(found[detector.name])
    after = ensemble.best_sightings(detector.detect(moved, phantom.spacing))
    for label in LABELS:
        assert after[label].y - before[label].y == pytest.approx(30, abs=6)
        assert after[label].x - before[label].x == pytest.approx(40, abs=6)
