from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from monitoring.domain.anatomy import LABELS
from monitoring.domain.disagreement import (
    ImageScores,
    best_detections,
    compare,
    disagreement,
    fuse,
    fused_confidence,
    missed_by_model,
    missed_landmarks,
)
from monitoring.metrics import catalogue
from monitoring.records.session_record import Prediction
from tests.support.predictions import PLACES, agreeing, detections, one_off_by, prediction

MM_FEATURES = (
    "mean_distance", "max_distance", "distance_std", "distance_cv", "high_distance_ratio", "extreme_distance_ratio",
    "model_agreement_rate",
)  # fmt: skip
DETECTION_FEATURES = ("overall_detection_rate", "detection_consistency", "missing_point_ratio")


# --- the oracle -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "localization", "risk", "spatial", "ors", "cds"),
    [
        (2.0, 0, 0, 0.943, 0, 0),
        (2.01, 0.667, 0, 0.948, 0, 0.0125),
        (10, 0.667, 0, 4.714, 0, 0.0125),
        (10.01, 0.667, 0.6668, 4.719, 0, 0.0125),
        (12, 0.667, 0.7000, 5.657, 0, 0.0125),
        (30, 0.667, 1.0, 14.142, 0.01294, 0.01703),
        (110, 0.667, 1.0, 51.854, 0.125, 0.05625),
    ],
)
def test_one_landmark_of_one_model_off_gives_the_published_scores(distance, localization, risk, spatial, ors, cds):
    found = disagreement(one_off_by(distance), 1.0, 1.0)
    point = found.points[1]
    assert point.localization_disagreement == pytest.approx(localization, abs=5e-4)
    assert point.outlier_risk == pytest.approx(risk, abs=5e-5)
    assert point.spatial_uncertainty_mm == pytest.approx(spatial, abs=5e-4)
    assert found.image.ors == pytest.approx(ors, abs=5e-6)
    assert found.image.cds == pytest.approx(cds, abs=5e-6)
    assert found.image.dds == 0
    assert found.image.lds == pytest.approx(point.localization_disagreement / 8)


def test_the_table_features_at_12_mm_are_the_published_ones():
    features = disagreement(one_off_by(12), 1.0, 1.0).features
    assert features.mean_distance == 1.0
    assert features.max_distance == 12.0
    assert features.distance_std == pytest.approx(3.31662, abs=5e-6)
    assert features.distance_cv == pytest.approx(3.31662479 / (1 + 1e-6), abs=5e-9)
    assert features.high_distance_ratio == features.extreme_distance_ratio == pytest.approx(0.08333, abs=5e-6)
    assert features.model_agreement_rate == pytest.approx(0.91667, abs=5e-6)
    assert (features.overall_detection_rate, features.detection_consistency, features.missing_point_ratio) == (1, 1, 0)


def test_points_7_and_8_missed_by_all_give_the_published_detection_features():
    found = disagreement(agreeing(labels=(1, 2, 3, 4, 5, 6)), 1.0, 1.0)
    assert found.features.overall_detection_rate == 0.75
    assert found.features.detection_consistency == pytest.approx(0.56699, abs=5e-6)
    assert found.features.missing_point_ratio == 0.25
    assert found.image.dds == 0.25


@pytest.mark.parametrize(("distance", "agree", "high", "extreme"), [
    (3.0, 1.0, 0.0, 0.0), (3.01, 7 / 8, 0.0, 0.0), (5.0, 7 / 8, 0.0, 0.0), (5.01, 7 / 8, 1 / 8, 0.0),
    (10.0, 7 / 8, 1 / 8, 0.0), (10.01, 7 / 8, 1 / 8, 1 / 8),
])  # fmt: skip
def test_up_to_3_mm_agrees_and_over_5_and_10_mm_counts_as_high_and_extreme(distance, agree, high, extreme):
    x, y = PLACES[1]
    pair = [*agreeing(1), prediction("m1", {**PLACES, 1: (x + distance, y)})]
    features = disagreement(pair, 1.0, 1.0).features
    assert (features.model_agreement_rate, features.high_distance_ratio, features.extreme_distance_ratio) == (
        agree, high, extreme,
    )  # fmt: skip


def test_names_are_those_of_the_catalogue():
    assert set(disagreement(one_off_by(12), 1.0, 1.0).scores()) <= set(catalogue.ENSEMBLE)
    assert len(disagreement(one_off_by(12), 1.0, 1.0).scores()) == 14


# --- known traps ----------------------------------------------------------------------------------


def test_a_landmark_that_no_model_saw_is_full_detection_disagreement_and_has_no_localization():
    found = disagreement(agreeing(labels=LABELS[:7]), 1.0, 1.0)
    unseen = found.points[8]
    assert (unseen.detected_by, unseen.detection_disagreement, unseen.outlier_risk) == (0, 1.0, 0.0)
    assert unseen.localization_disagreement is None
    assert unseen.spatial_uncertainty_mm is None
    assert unseen.confidence_uncertainty is None


def test_nothing_found_at_all_is_full_disagreement_and_not_none():
    found = disagreement(agreeing(labels=()), 1.0, 1.0)
    assert found.image == ImageScores(dds=1.0, lds=None, ors=None, cds=1.0)
    assert found.features.missing_point_ratio == 1.0
    assert found.features.mean_distance is None


def test_means_are_over_the_landmarks_that_have_a_value():
    partly = [prediction("a", {1: (0.0, 0.0), 2: (50.0, 0.0)}), prediction("b", {1: (100.0, 0.0)})]
    image = disagreement(partly, 1.0, 1.0).image
    assert image.lds == 1.0
    assert image.ors == 1.0  # 50 mm of uncertainty at the one landmark that both saw
    assert image.dds == pytest.approx((0 + 0.5 + 6) / 8)
    assert image.cds == pytest.approx(0.5 * 6.5 / 8 + 0.35 + 0.15)


def test_a_label_that_one_model_gives_twice_counts_once_with_its_best_score():
    twice = detections("a", (1, 0, 0, 0.3), (1, 20, 20, 0.8), (1, 90, 90, 0.5))
    found = disagreement([twice, detections("b", (1, 20, 20, 0.8))], 1.0, 1.0)
    assert found.points[1].detection_disagreement == 0
    assert found.points[1].spatial_uncertainty_mm == 0
    assert found.image.dds == 7 / 8


def test_of_two_detections_alike_in_score_the_first_counts():
    assert fuse([detections("a", (1, 10, 10, 0.8), (1, 90, 90, 0.8))])[1][:2] == (10.0, 10.0)


def test_a_landmark_that_one_model_alone_saw_has_no_spread_of_any_kind():
    point = disagreement([detections("a", (1, 0, 0, 0.9)), detections("b")], 1.0, 1.0).points[1]
    assert astuple(point) == (1, 0.5, None, None, None, None, None, 0.0)


def test_models_that_have_no_confidence_weigh_alike_instead_of_dividing_by_zero():
    point = disagreement([detections("a", (1, 0, 0, 0.0)), detections("b", (1, 6, 8, 0.0))], 1.0, 1.0).points[1]
    assert (point.position_std_x_mm, point.position_std_y_mm, point.spatial_uncertainty_mm) == (3.0, 4.0, 5.0)
    assert point.confidence_uncertainty is None


def test_a_model_without_confidence_has_no_weight_beside_one_with():
    found = [detections("a", (1, 0, 0, 0.0)), detections("b", (1, 6, 8, 0.5))]
    assert disagreement(found, 1.0, 1.0).points[1].spatial_uncertainty_mm == 0
    assert fuse(found)[1] == (6.0, 8.0, 0.25)


def test_confidence_uncertainty_is_the_population_deviation_over_the_mean():
    found = [detections("a", (1, 0, 0, 0.2)), detections("b", (1, 0, 0, 0.6))]
    assert disagreement(found, 1.0, 1.0).points[1].confidence_uncertainty == pytest.approx(0.2 / 0.4)


@pytest.mark.parametrize("score", [-0.4, 1.7])
def test_a_score_outside_0_to_1_counts_as_the_nearer_end(score):
    ((_, _, confidence),) = fuse([detections("a", (1, 4, 4, score))]).values()
    assert confidence == (0.0 if score < 0 else 1.0)


@pytest.mark.parametrize(
    "unusable",
    [
        Prediction("b", ((math.nan, 0, 1, 1),), (1,), (0.9,)),
        Prediction("b", ((0, 0, math.inf, 1),), (1,), (0.9,)),
        Prediction("b", ((1e300, 0, 1e300, 1),), (1,), (0.9,)),
        Prediction("b", ((0, 0, 2, 2),), (1,), (math.nan,)),
        Prediction("b", ((0, 0, 2),), (1,), (0.9,)),
        Prediction("b", ((0, 0, 2, 2),), (0,), (0.9,)),
        Prediction("b", ((0, 0, 2, 2),), (9,), (0.9,)),
    ],
)
def test_a_detection_that_is_not_one_of_numbers_or_of_a_landmark_is_no_detection(unusable):
    found = disagreement([detections("a", (1, 0, 0, 0.9)), unusable], 1.0, 1.0)
    assert found.points[1].detection_disagreement == 0.5
    assert found.features.mean_distance is None


def test_one_model_alone_has_no_distances_rather_than_none_between_models():
    found = disagreement(agreeing(1), 1.0, 1.0)
    assert found.image == ImageScores(dds=0.0, lds=None, ors=None, cds=0.0)
    assert set(found.scores()) == {"dds", "cds", *DETECTION_FEATURES}
    assert found.points[1].position_std_x_mm is None
    assert found.points[1].outlier_risk == 0.0


def test_two_models_that_never_saw_the_same_landmark_have_no_valid_pair():
    found = disagreement([detections("a", (1, 0, 0, 0.9)), detections("b", (2, 0, 0, 0.9))], 1.0, 1.0)
    assert all(getattr(found.features, name) is None for name in MM_FEATURES)
    assert found.image.lds is None


@pytest.mark.parametrize(
    "spacing", [(None, None), (1.0, None), (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1)]
)
def test_without_a_spacing_what_is_in_mm_is_missing_and_detection_is_not(spacing):
    found = disagreement(one_off_by(12), *spacing)
    assert found.image == ImageScores(dds=0.0)
    assert set(found.scores()) == {"dds", *DETECTION_FEATURES}
    assert astuple(found.points[1]) == (3, 0.0, None, None, None, None, pytest.approx(0), None)


def test_without_models_everything_is_missing():
    found = disagreement([], 1.0, 1.0)
    assert (found.models, found.points, found.scores()) == (0, {}, {})


def test_row_spacing_is_for_y_and_column_spacing_for_x():
    point = disagreement([detections("a", (1, 0, 0, 0.5)), detections("b", (1, 6, 8, 0.5))], 0.5, 2.0).points[1]
    assert (point.position_std_x_mm, point.position_std_y_mm) == (6.0, 2.0)


# --- the fused result, and what differs from the host's -------------------------------------------


def test_the_fused_centre_leans_to_the_more_confident_model():
    fused = fuse([detections("a", (1, 0, 0, 0.75)), detections("b", (1, 4, 8, 0.25), (3, 1, 2, 0.6))])
    assert fused == {1: (1.0, 2.0, 0.5), 3: (1.0, 2.0, 0.6)}
    confidence = fused_confidence(fused)
    assert confidence is not None
    assert (confidence.average, confidence.minimum, confidence.maximum) == (pytest.approx(0.55), 0.5, 0.6)


def test_no_landmark_has_no_confidence():
    assert fused_confidence(fuse([])) is None


def test_an_average_never_leaves_its_range():
    confidence = fused_confidence(dict.fromkeys((1, 2, 3), (0.0, 0.0, 0.003)))
    assert confidence is not None
    assert confidence.minimum <= confidence.average <= confidence.maximum


def test_missed_landmarks_are_those_that_no_model_saw_and_per_model_those_it_missed():
    models = [prediction("a", {1: (0, 0), 3: (0, 0)}), prediction("b", {3: (0, 0), 8: (0, 0)})]
    assert missed_landmarks(models) == (2, 4, 5, 6, 7)
    assert missed_by_model(models) == {"a": (2, 4, 5, 6, 7, 8), "b": (1, 2, 4, 5, 6, 7)}
    assert missed_landmarks([]) == ()


def test_models_of_one_name_missed_what_any_of_them_missed():
    both = [detections("other", (1, 0, 0, 0.5), (3, 0, 0, 0.5)), detections("other", (1, 0, 0, 0.5), (8, 0, 0, 0.5))]
    assert missed_by_model(both) == {"other": (2, 3, 4, 5, 6, 7, 8)}
    assert missed_by_model(both[::-1]) == missed_by_model(both)
    assert disagreement(both, 1.0, 1.0).models == 2


def test_differences_are_absolute_and_only_of_what_both_have():
    host = {"dds": 0.5, "lds": 0.1, "max_distance": math.nan, "custom": 1.0}
    ours = {"dds": 0.25, "lds": 0.4, "max_distance": 3.0, "cds": 0.2}
    assert compare(host, ours) == {"dds": 0.25, "lds": pytest.approx(0.3)}


# --- properties -----------------------------------------------------------------------------------

whole = st.integers(0, 4000).map(float)  # whole pixels, so that a shift rounds nothing
confidences = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])
sighting = st.tuples(whole, whole, confidences)
models = st.lists(st.dictionaries(st.sampled_from(LABELS), sighting, max_size=8), min_size=1, max_size=5)


def predictions_of(found: list[dict[int, tuple[float, float, float]]], dx: float = 0, dy: float = 0):
    return [
        detections(f"m{index}", *((label, x + dx, y + dy, score) for label, (x, y, score) in one.items()))
        for index, one in enumerate(found)
    ]


def all_values(found) -> dict[str, float | None]:
    points = {
        (label, index): value for label, point in found.points.items() for index, value in enumerate(astuple(point))
    }
    return {**points, **found.scores()}


@given(models, st.randoms(use_true_random=False))
def test_the_order_of_models_and_of_labels_is_of_no_matter(found, random):
    shuffled = [dict(random.sample(list(one.items()), len(one))) for one in random.sample(found, len(found))]
    first, second = (disagreement(predictions_of(given), 0.2, 0.25) for given in (found, shuffled))
    assert all_values(first) == pytest.approx(all_values(second), abs=1e-9)


@given(models, whole, whole)
def test_moving_every_landmark_alike_changes_nothing(found, dx, dy):
    first, second = (
        disagreement(predictions_of(found), 0.2, 0.25),
        disagreement(predictions_of(found, dx, dy), 0.2, 0.25),
    )
    assert all_values(first) == pytest.approx(all_values(second), abs=1e-9)


@given(models, st.sampled_from([0.25, 2.0, 8.0]))
def test_distances_scale_with_the_spacing(found, factor):
    first, second = (disagreement(predictions_of(found), 0.25 * by, 0.25 * by) for by in (1, factor))
    for label in LABELS:
        for name in ("position_std_x_mm", "position_std_y_mm", "spatial_uncertainty_mm"):
            before, after = (getattr(of.points[label], name) for of in (first, second))
            assert (before is None) == (after is None)
            assert before is None or after == pytest.approx(before * factor)
    for name in ("mean_distance", "max_distance", "distance_std"):
        before, after = (getattr(of.features, name) for of in (first, second))
        assert before is None or after == pytest.approx(before * factor)


anything = st.floats(allow_nan=True, allow_infinity=True)
row = st.tuples(st.lists(anything, min_size=3, max_size=5).map(tuple), st.integers(-1, 10), anything)
spacings = st.one_of(st.none(), anything, st.sampled_from([0.1, 1.0]))


@given(st.lists(st.lists(row, max_size=10), max_size=4), spacings, spacings)
def test_whatever_the_models_say_each_value_is_a_number_in_its_range_or_missing(found, row_mm, column_mm):
    given_predictions = [
        Prediction(f"m{index}", tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows))
        for index, rows in enumerate(found)
    ]
    result = disagreement(given_predictions, row_mm, column_mm)
    for name, value in all_values(result).items():
        assert value is None or (math.isfinite(value) and value >= 0), name
    assert all(0 <= value <= 1 for name, value in result.scores().items() if name not in MM_FEATURES[:4])
    for point in result.points.values():
        ratios = (point.detection_disagreement, point.localization_disagreement, point.outlier_risk)
        assert all(value is None or 0 <= value <= 1 for value in ratios)


@given(st.lists(st.lists(row, max_size=10), max_size=4), spacings, spacings)
def test_detections_that_were_looked_through_before_give_the_same(found, row_mm, column_mm):
    given_predictions = [
        Prediction(f"m{index % 2}", tuple(r[0] for r in rows), tuple(r[1] for r in rows), tuple(r[2] for r in rows))
        for index, rows in enumerate(found)
    ]
    seen = [best_detections(prediction) for prediction in given_predictions]
    assert disagreement(seen, row_mm, column_mm) == disagreement(given_predictions, row_mm, column_mm)
    assert fuse(seen) == fuse(given_predictions)
    assert missed_landmarks(seen) == missed_landmarks(given_predictions)
    assert missed_by_model(seen) == missed_by_model(given_predictions)


@given(models)
def test_a_fused_landmark_lies_among_those_it_was_fused_from(found):
    for label, (x, y, confidence) in fuse(predictions_of(found)).items():
        seen = [one[label] for one in found if label in one]
        for value, of in zip((x, y, confidence), zip(*seen, strict=True), strict=True):
            assert min(of) - 1e-9 <= value <= max(of) + 1e-9


def test_eight_models_take_little_time():
    models = [*agreeing(7), one_off_by(12)[2]]
    best = min(_seconds(models) for _ in range(30))
    assert best < 0.003  # about 0.5 ms by itself; the slack is for a busy machine


def _seconds(models: list[Prediction]) -> float:
    start = time.perf_counter()
    disagreement(models, 0.2, 0.2)
    return time.perf_counter() - start
