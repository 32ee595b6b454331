from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import ensemble
from analysis.detectors.protocol import Detections
from analysis.landmarks import LABELS, Spacing

SQUARE = Spacing(1.0, 1.0)


def at(points: dict[int, tuple[float, float]], score: float = 0.9) -> Detections:
    boxes = [[x - 5, y - 5, x + 5, y + 5] for x, y in points.values()]
    return Detections.of(boxes, list(points), [score] * len(points))


def agreeing(models: int = 3, labels: tuple[int, ...] = LABELS) -> dict[str, Detections]:
    points = {label: (100.0 * label, 50.0 * label) for label in labels}
    return {f"m{index}": at(points) for index in range(models)}


def one_off_by(distance: float) -> dict[str, Detections]:
    """Three models that agree, but for one landmark of one model."""
    predictions = agreeing()
    points = {label: (100.0 * label, 50.0 * label) for label in LABELS}
    points[1] = (points[1][0] + distance, points[1][1])
    return {**predictions, "m2": at(points)}


@pytest.mark.parametrize(
    ("distance", "localization", "risk", "spatial", "ors", "cds"),
    [
        (2.0, 0, 0, 0.943, 0, 0),
        (10, 0.667, 0, 4.714, 0, 0.0125),
        (10.01, 0.667, 0.6668, 4.719, 0, 0.0125),
        (12, 0.667, 0.7000, 5.657, 0, 0.0125),
        (30, 0.667, 1.0, 14.142, 0.01294, 0.01703),
        (110, 0.667, 1.0, 51.854, 0.125, 0.05625),
    ],
)
def test_disagreement_matches_the_oracle(distance, localization, risk, spatial, ors, cds):
    points = ensemble.point_uncertainties(one_off_by(distance), SQUARE)
    assert points[1].localization_disagreement == pytest.approx(localization, abs=5e-4)
    assert points[1].outlier_risk == pytest.approx(risk, abs=5e-5)
    assert points[1].spatial_uncertainty_mm == pytest.approx(spatial, abs=5e-4)
    scores = ensemble.image_scores(points)
    assert scores.ors == pytest.approx(ors, abs=5e-6)
    assert scores.cds == pytest.approx(cds, abs=5e-6)
    assert scores.dds == 0


def test_distances_use_row_spacing_down_and_column_spacing_across():
    predictions = agreeing(2)
    points = {label: (100.0 * label + 3, 50.0 * label + 4) for label in LABELS}
    uncertainty = ensemble.point_uncertainties({**predictions, "m1": at(points)}, Spacing(2.0, 0.5))[1]
    assert uncertainty.position_std_x_mm == pytest.approx(1.5 / 2)
    assert uncertainty.position_std_y_mm == pytest.approx(8.0 / 2)


def test_nothing_found_is_full_detection_disagreement_and_not_zero():
    predictions = {name: at({}) for name in ("a", "b", "c")}
    scores = ensemble.image_scores(ensemble.point_uncertainties(predictions, SQUARE))
    assert (scores.dds, scores.lds, scores.ors, scores.cds) == (1.0, None, None, 1.0)


def test_points_that_no_model_saw_count_in_the_mean():
    seen = agreeing(3, labels=(1, 2, 3, 4, 5, 6))
    scores = ensemble.image_scores(ensemble.point_uncertainties(seen, SQUARE))
    assert scores.dds == pytest.approx(2 / 8)


def test_one_model_alone_has_no_localisation_disagreement_rather_than_zero():
    uncertainty = ensemble.point_uncertainties(agreeing(1), SQUARE)[1]
    assert uncertainty.detection_disagreement == 0
    assert uncertainty.localization_disagreement is None
    assert uncertainty.spatial_uncertainty_mm is None
    assert uncertainty.outlier_risk == 0


def test_a_label_seen_twice_by_one_model_counts_once_with_its_best_box():
    twice = Detections.of([[0, 0, 2, 2], [10, 10, 12, 12], [20, 20, 22, 22]], [1, 1, 1], [0.3, 0.8, 0.5])
    predictions = {"a": twice, "b": at({1: (11.0, 11.0)})}
    assert ensemble.point_uncertainties(predictions, SQUARE)[1].detection_disagreement == 0
    landmark = ensemble.fuse(predictions)[1]
    assert (landmark.x, landmark.y, landmark.models) == (11.0, 11.0, 2)


def test_fused_position_leans_to_the_more_confident_model():
    landmark = ensemble.fuse({"a": at({1: (0.0, 0.0)}, 0.75), "b": at({1: (4.0, 8.0)}, 0.25)})[1]
    assert (landmark.x, landmark.y, landmark.confidence) == (1.0, 2.0, 0.5)


def test_no_confidence_at_all_weighs_equally_instead_of_dividing_by_zero():
    predictions = {"a": at({1: (0.0, 0.0)}, 0.0), "b": at({1: (4.0, 8.0)}, 0.0)}
    landmark = ensemble.fuse(predictions)[1]
    assert (landmark.x, landmark.y, landmark.confidence) == (2.0, 4.0, 0.0)
    assert ensemble.point_uncertainties(predictions, SQUARE)[1].confidence_uncertainty is None


def test_detections_that_are_not_numbers_or_not_landmarks_do_not_count():
    boxes = [[math.nan, 0, 1, 1], [0, 0, math.inf, 1], [0, 0, 2, 2], [0, 0, 2, 2], [4, 4, 6, 6]]
    detections = Detections.of(boxes, [1, 2, 9, 0, 3], [0.9, 0.9, 0.9, 0.9, math.nan])
    assert ensemble.best_sightings(detections) == {}


def test_landmarks_below_the_threshold_are_left_out():
    predictions = {"a": at({1: (0.0, 0.0)}, 0.4), "b": at({1: (0.0, 0.0), 2: (9.0, 9.0)}, 0.7)}
    assert set(ensemble.fuse(predictions, 0.6)) == {2}


def test_performance_data_has_the_shape_that_a_watcher_reads():
    predictions = one_off_by(12)
    data = ensemble.performance_data(predictions, ensemble.fuse(predictions), SQUARE)
    assert set(data) == {"uncertainties", "point_statistics", "image_metrics", "individual_model_predictions"}
    assert set(data["uncertainties"]) == set(data["point_statistics"]) == {str(label) for label in LABELS}
    assert {"dds", "lds", "ors", "cds"} <= set(data["image_metrics"])
    assert set(data["individual_model_predictions"]["m0"]["predictions"]) == {"boxes", "labels", "scores"}


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
detection = st.tuples(st.lists(numbers, min_size=4, max_size=4), st.integers(-2, 11), numbers)


@given(st.lists(st.lists(detection, max_size=12), max_size=4))
def test_whatever_the_models_say_every_score_is_a_number_in_range_or_missing(models):
    predictions = {
        f"m{index}": Detections.of([d[0] for d in found], [d[1] for d in found], [d[2] for d in found])
        for index, found in enumerate(models)
    }
    scores = ensemble.image_scores(ensemble.point_uncertainties(predictions, SQUARE))
    for value in (scores.dds, scores.lds, scores.ors, scores.cds):
        assert value is None or 0 <= value <= 1 + 1e-9
