from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace

from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.domain.disagreement import PointDisagreement, disagreement, fuse
from monitoring.domain.plausibility import Finding
from monitoring.domain.quality import (
    QUALITY_VERSION,
    WEIGHTS,
    Components,
    Quality,
    assess,
    concerns,
    point_agreement,
    score,
)
from tests.support.predictions import agreeing, one_off_by, prediction

LENGTHS = dict.fromkeys(MEASUREMENTS, 300.0)
NAMES = tuple(WEIGHTS)


def assessed(models, measurements=LENGTHS, findings=()) -> Quality:
    return assess(disagreement(models, 1.0, 1.0), fuse(models), measurements, findings)


def test_the_weights_sum_to_1_and_the_version_is_the_first():
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    assert set(Components.__struct_fields__) == set(WEIGHTS)
    assert QUALITY_VERSION == Quality(None, Components()).version == 1


def test_a_perfect_image_scores_1_and_a_worthless_part_makes_it_0():
    assert score(Components(1, 1, 1, 1)) == 1
    for name in NAMES:
        assert score(replace(Components(1, 1, 1, 1), **{name: 0})) == 0


def test_the_score_is_the_weighted_geometric_mean():
    expected = 0.8**0.35 * 0.5**0.30 * 0.75**0.20 * 0.9**0.15
    assert score(Components(agreement=0.8, plausibility=0.5, completeness=0.75, confidence=0.9)) == pytest.approx(
        expected
    )


def test_what_is_not_known_leaves_its_weight_to_the_rest():
    assert score(Components(agreement=0.8, confidence=0.5)) == pytest.approx((0.8**0.35 * 0.5**0.15) ** (1 / 0.5))
    assert score(Components(completeness=0.25)) == pytest.approx(0.25)
    assert score(Components(agreement=math.nan, completeness=0.25)) == pytest.approx(0.25)


def test_a_component_outside_0_to_1_counts_as_the_nearer_end():
    assert score(Components(agreement=1.7, confidence=0.5)) == score(Components(agreement=1, confidence=0.5))
    assert score(Components(agreement=-0.1, confidence=0.5)) == 0


def test_nothing_known_has_no_score():
    assert score(Components()) is None
    assert assess(None, None, {}, ()) == Quality(None, Components())
    assert assess(disagreement([]), fuse([]), {}, ()) == Quality(None, Components())


shares = st.floats(0, 1)
components = st.builds(Components, *[st.one_of(st.none(), shares)] * 4)


@given(components, st.sampled_from(NAMES), shares)
def test_the_score_lies_in_0_to_1_and_never_falls_when_a_component_rises(given_components, name, other):
    now = getattr(given_components, name)
    low, high = sorted((other if now is None else now, other))
    worse, better = (score(replace(given_components, **{name: value})) for value in (low, high))
    assert 0 <= worse <= better + 1e-12 <= 1 + 1e-12


@given(shares, shares, st.one_of(st.none(), st.floats(0, 100)), st.floats(0, 100))
def test_a_landmark_on_which_models_agree_less_never_agrees_more(missed, more_missed, spread, more_spread):
    missed, more_missed = sorted((missed, more_missed))
    point = PointDisagreement(2, missed, spatial_uncertainty_mm=spread)
    assert 0 <= point_agreement(replace(point, detection_disagreement=more_missed)) <= point_agreement(point) <= 1
    if spread is not None:
        wider = replace(point, spatial_uncertainty_mm=spread + more_spread)
        assert point_agreement(wider) <= point_agreement(point)


def test_a_landmarks_agreement_is_the_share_that_saw_it_times_what_is_left_of_10_mm():
    assert point_agreement(PointDisagreement(2, 1 / 3, spatial_uncertainty_mm=2.5)) == pytest.approx(2 / 3 * 0.75)
    assert point_agreement(PointDisagreement(2, 1 / 3)) == pytest.approx(2 / 3)
    assert point_agreement(PointDisagreement(3, 0, spatial_uncertainty_mm=10.0)) == 0


def test_a_sound_image_is_scored_by_its_confidence_alone():
    found = assessed(agreeing())
    assert found.components == Components(1, 1, 1, pytest.approx(0.9))
    assert found.image == pytest.approx(0.9**0.15)
    assert found.measurements == pytest.approx(dict.fromkeys(MEASUREMENTS, 0.9 ** (0.15 / 0.8)))


def test_one_landmark_in_dispute_costs_the_measurements_that_rest_on_it():
    found = assessed(one_off_by(6.0))
    worse = {name for name, value in found.measurements.items() if value < found.measurements["PLL_L_FEM"] - 1e-9}
    assert worse == {"PLL_R_FEM", "PLL_R_LGL"}
    left = 1 - math.sqrt(8) / 10  # 6 mm off with three models: sqrt(8) mm of uncertainty
    assert found.components.agreement == pytest.approx((4 + 2 * left) / 6)


@given(st.floats(0, 60), st.floats(0, 60))
def test_the_further_one_model_is_off_the_lower_the_score(distance, more):
    near, far = sorted((distance, more))
    better, worse = assessed(one_off_by(near)).image, assessed(one_off_by(far)).image
    assert worse is not None
    assert better is not None
    assert worse <= better + 1e-9


def test_a_single_model_has_no_agreement_to_be_scored_by():
    found = assessed(agreeing(1))
    assert found.components.agreement is None
    assert found.image == pytest.approx(0.9 ** (0.15 / 0.65))


def test_without_predictions_completeness_and_plausibility_remain():
    found = assess(None, None, {"PLL_R_FEM": 300.0, "PLL_R_TIB": 240.0, "PLL_R_LGL": 540.0}, ())
    assert found.components == Components(plausibility=1, completeness=0.5)
    assert found.image == pytest.approx(0.5 ** (0.2 / 0.5))
    assert found.measurements == {"PLL_R_FEM": 1, "PLL_R_TIB": 1, "PLL_R_LGL": 1}


def test_plausibility_that_was_not_checked_is_missing_and_not_perfect():
    assert assess(None, None, {"PLL_R_FEM": 300.0}, None).components.plausibility is None


def test_completeness_is_the_lower_share_of_landmarks_and_measurements():
    six = agreeing(labels=(1, 2, 3, 4, 5, 6))
    assert assessed(six).components.completeness == 0.75
    assert assessed(six, {"PLL_R_FEM": 300.0}).components.completeness == pytest.approx(1 / 6)


def test_models_that_found_nothing_score_0():
    found = assessed(agreeing(labels=()), {})
    assert (found.image, found.measurements, found.components.confidence) == (0.0, {}, None)


def test_a_measurements_confidence_is_its_weakest_landmarks():
    places = agreeing()[0]
    models = [
        structs.replace(places, scores=(0.2, *places.scores[1:])),
        structs.replace(places, model="b", scores=(0.2, *places.scores[1:])),
    ]
    found = assessed(models).measurements
    assert found["PLL_R_FEM"] == found["PLL_R_LGL"] == pytest.approx(0.2 ** (0.15 / 0.8))
    assert found["PLL_R_TIB"] == pytest.approx(0.9 ** (0.15 / 0.8))


# --- plausibility ---------------------------------------------------------------------------------


def finding(severity="soft", rule="length_for_age", **of) -> Finding:
    return Finding(rule, severity, 1.0, **of)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], 1.0),
        ([finding("info", "asymmetry")], 1.0),
        ([finding()], 0.5),
        ([finding(measurement="PLL_R_FEM"), finding(measurement="PLL_L_FEM")], 0.5),
        ([finding(), finding(rule="shrinkage")], 0.25),
        ([finding("hard")], 0.0),
    ],
)
def test_soft_rules_halve_plausibility_hard_ones_end_it_and_info_is_free(findings, expected):
    assert assessed(agreeing(), findings=findings).components.plausibility == expected


@given(
    st.lists(
        st.builds(
            Finding,
            rule=st.sampled_from(["length_for_age", "shrinkage", "asymmetry"]),
            severity=st.sampled_from(["info", "soft", "hard"]),
            value=st.just(1.0),
            measurement=st.sampled_from([None, *MEASUREMENTS]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_one_more_finding_never_raises_a_score(findings):
    fewer, more = assessed(agreeing(), findings=findings[:-1]), assessed(agreeing(), findings=findings)
    assert fewer.image is not None
    assert more.image is not None
    assert more.image <= fewer.image
    assert all(more.measurements[name] <= fewer.measurements[name] for name in MEASUREMENTS)


@pytest.mark.parametrize(
    ("of", "measurements"),
    [
        ({}, set(MEASUREMENTS)),
        ({"measurement": "PLL_R_FEM"}, {"PLL_R_FEM", "PLL_R_LGL"}),
        ({"measurement": "PLL_L_LGL"}, {"PLL_L_FEM", "PLL_L_TIB", "PLL_L_LGL"}),
        ({"landmark": 3}, {"PLL_R_FEM", "PLL_R_TIB", "PLL_R_LGL"}),
        ({"landmark": 8}, {"PLL_L_TIB", "PLL_L_LGL"}),
        ({"landmark": 7, "rule": "sides_crossed"}, {"PLL_R_TIB", "PLL_R_LGL", "PLL_L_TIB", "PLL_L_LGL"}),
    ],
)
def test_a_finding_concerns_what_shares_a_bone_or_a_landmark_with_it(of, measurements):
    assert {name for name in MEASUREMENTS if concerns(finding(**of), name)} == measurements


def test_a_hard_finding_costs_its_own_measurements_only():
    found = assessed(agreeing(), findings=[finding("hard", measurement="PLL_R_FEM")])
    assert {name for name, value in found.measurements.items() if value == 0} == {"PLL_R_FEM", "PLL_R_LGL"}
    assert found.image == 0


def test_a_measurement_that_is_no_number_is_not_there():
    found = assessed([prediction("a", {})], {"PLL_R_FEM": math.nan, "PLL_X_FEM": 3.0})
    assert found.measurements == {}
