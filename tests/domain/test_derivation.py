"""What is computed of a record: the domain's values, the host's own before ours, and nothing for what is missing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from monitoring.domain.derivation import Derived, Facts, derive
from monitoring.records.session_record import SessionRecord
from tests.support.predictions import PLACES, agreeing, one_off_by, prediction
from tests.support.records import realistic

CONTEXT = {"row_spacing_mm": 1.0, "column_spacing_mm": 1.0, "rows": 2400.0, "columns": 1000.0}
LENGTHS = {"PLL_R_FEM": 412.5, "PLL_L_FEM": 410.0, "PLL_R_TIB": 330.0, "PLL_L_TIB": 328.0}


def exam(**changed: Any) -> SessionRecord:
    known = {"predictions": tuple(agreeing()), "context": CONTEXT, "measurements_mm": LENGTHS}
    return realistic(**{**known, "ensemble": {}, "points": {}, **changed})


def derived(facts: Facts | None = None, **changed: Any) -> Derived:
    return derive(exam(**changed), facts or Facts())


@pytest.mark.parametrize(
    ("distance", "cds", "risk", "spatial"),
    [(2.0, 0.0, 0.0, 0.943), (12.0, 0.0125, 0.7, 5.657), (30.0, 0.01703, 1.0, 14.142), (110.0, 0.05625, 1.0, 51.854)],
)
def test_a_model_that_is_off_on_one_landmark_gives_the_known_scores(
    distance: float, cds: float, risk: float, spatial: float
) -> None:
    found = derived(predictions=tuple(one_off_by(distance)))
    assert found.ensemble["cds"] == pytest.approx(cds, abs=5e-6)
    assert found.points[1]["outlier_risk"] == pytest.approx(risk, abs=5e-5)
    assert found.points[1]["spatial_uncertainty_mm"] == pytest.approx(spatial, abs=5e-4)
    assert found.points[2]["outlier_risk"] == 0.0


def test_the_ten_features_come_with_the_four_scores() -> None:
    found = derived(predictions=tuple(one_off_by(12.0)))
    assert len(found.ensemble) == 14
    assert found.ensemble["distance_std"] == pytest.approx(3.31662, abs=5e-6)
    assert found.ensemble["model_agreement_rate"] == pytest.approx(0.91667, abs=5e-6)


def test_the_hosts_own_figures_win_and_their_difference_from_ours_is_told() -> None:
    found = derived(
        predictions=tuple(one_off_by(12.0)), ensemble={"cds": 0.5, "lds": 0.0833}, points={"1": {"outlier_risk": 0.2}}
    )
    assert found.ensemble["cds"] == 0.5
    assert found.points[1]["outlier_risk"] == 0.2
    assert found.points[1]["spatial_uncertainty_mm"] == pytest.approx(5.657, abs=5e-4)
    assert found.differences["cds"] == pytest.approx(0.4875)
    assert found.differences["outlier_risk"] == pytest.approx(0.5)
    assert set(found.differences) == {"cds", "lds", "outlier_risk"}


def test_of_a_landmarks_score_the_largest_difference_is_told() -> None:
    found = derived(points={"1": {"outlier_risk": 0.1}, "2": {"outlier_risk": 0.3}, "3": {"outlier_risk": 0.2}})
    assert found.differences == {"outlier_risk": pytest.approx(0.3)}


def test_without_predictions_the_hosts_figures_are_all_there_is() -> None:
    found = derived(predictions=(), ensemble={"cds": 0.5}, points={"7": {"outlier_risk": 0.2}, "9": {"x": 1.0}})
    assert found.ensemble == {"cds": 0.5}
    assert found.points == {7: {"outlier_risk": 0.2}}
    assert found.differences == {}
    assert found.fused_confidence is None
    assert found.missed == ()
    assert found.missed_by_model == {}


def test_without_a_spacing_nothing_in_mm_is_made_up() -> None:
    found = derived(predictions=tuple(one_off_by(12.0)), context={})
    assert set(found.ensemble) == {
        "dds", "overall_detection_rate", "detection_consistency", "missing_point_ratio",
    }  # fmt: skip
    assert "spatial_uncertainty_mm" not in found.points[1]


def test_landmarks_that_nobody_found_are_missed_and_make_the_scores_worse() -> None:
    found = derived(predictions=tuple(agreeing(3, labels=(1, 2, 3, 4, 5, 6))))
    assert found.missed == (7, 8)
    assert found.missed_by_model == {"m0": (7, 8), "m1": (7, 8), "m2": (7, 8)}
    assert found.ensemble["dds"] == 0.25
    assert found.points[7] == {"detection_disagreement": 1.0, "outlier_risk": 0.0}


def test_the_fused_confidence_is_over_the_landmarks() -> None:
    found = derived().fused_confidence
    assert found is not None
    assert (found.minimum, found.average, found.maximum) == pytest.approx((0.9, 0.9, 0.9))


def test_a_patients_earlier_exam_shows_a_leg_that_shrank() -> None:
    facts = Facts(earlier_mm={**LENGTHS, "PLL_R_FEM": 425.0}, days_since_earlier=200.0)
    assert [finding.measurement for finding in derived(facts).findings if finding.rule == "shrinkage"] == ["PLL_R_FEM"]
    assert not [finding for finding in derived().findings if finding.rule == "shrinkage"]


def test_a_hard_finding_takes_the_quality_and_what_was_not_measured_has_none() -> None:
    fine = {**CONTEXT, "row_spacing_mm": 0.2, "column_spacing_mm": 0.2}
    lengths = {**LENGTHS, "PLL_R_LGL": 742.5, "PLL_L_LGL": 738.0}
    good = derived(context=fine, measurements_mm=lengths)
    bad = derived(context=fine, measurements_mm={**lengths, "PLL_R_FEM": 900.0})
    assert good.quality is not None
    assert bad.quality is not None
    assert good.findings == ()
    assert good.quality.image == pytest.approx(0.9**0.15)  # all agree and all is there; the models are 90 % sure
    assert bad.quality.image == 0.0
    assert bad.quality.measurements["PLL_L_FEM"] > 0.9
    assert derived(status="skipped", measurements_mm={}).quality is None


def test_landmarks_outside_the_image_are_found_in_the_models_predictions() -> None:
    below = {**PLACES, 8: (670.0, 9000.0)}
    found = derived(predictions=tuple(prediction(f"m{index}", below) for index in range(3)))
    assert [(finding.rule, finding.landmark) for finding in found.findings if finding.severity == "hard"] == [
        ("outside_image", 8)
    ]


def test_lengths_are_judged_by_age_and_sex_only_where_both_are_known() -> None:
    boy = derived(context={**CONTEXT, "age_years": 11.0, "sex": "M"})
    assert set(boy.z_scores) == set(LENGTHS)
    assert abs(boy.z_scores["PLL_R_FEM"]) < 1
    assert derived(context={**CONTEXT, "age_years": 11.0}).z_scores == {}
    assert derived(context={**CONTEXT, "sex": "M"}).z_scores == {}


def test_the_sides_difference_is_right_minus_left() -> None:
    assert derived().side_differences_mm == {"FEM": 2.5, "TIB": 2.0}
    assert derived(measurements_mm={"PLL_R_FEM": 412.5}).side_differences_mm == {}


def test_readers_give_errors_within_the_hosts_thresholds_in_cm() -> None:
    facts = Facts(reader_mm={"PLL_R_FEM": 402.0, "PLL_R_TIB": 330.5})
    errors = {
        error.measurement: error for error in derived(facts, thresholds_cm={"femur_threshold": 1.0}).reading_errors
    }
    assert errors["PLL_R_FEM"].error_mm == pytest.approx(10.5)
    assert errors["PLL_R_FEM"].within_threshold is False
    assert errors["PLL_R_TIB"].within_threshold is True
    assert set(errors) == {"PLL_R_FEM", "PLL_R_TIB"}


def test_facts_are_read_back_as_they_were_written() -> None:
    facts = Facts(3, 1, {"PLL_R_FEM": 1.5}, 20.5, {"PLL_L_FEM": 2.5})
    written = msgspec.to_builtins(facts)
    assert msgspec.convert(written, Facts) == facts
    assert msgspec.convert({**written, "of_another_version": 1}, Facts) == facts
    assert msgspec.to_builtins(Facts()) == {}


def test_femur_over_tibia_is_told_by_side_where_both_are_lengths() -> None:
    assert derived().femur_tibia_ratios == {"R": 412.5 / 330.0, "L": 410.0 / 328.0}
    odd = {"PLL_R_FEM": 412.5, "PLL_R_TIB": 0.0, "PLL_L_FEM": -1.0, "PLL_L_TIB": 328.0}
    assert derived(measurements_mm=odd).femur_tibia_ratios == {}
    assert derived(measurements_mm={"PLL_R_FEM": 412.5}).femur_tibia_ratios == {}


def test_both_z_scores_are_told_of_the_same_measurements() -> None:
    found = derived(context={**CONTEXT, "age_years": 12.0, "sex": "M"})
    assert found.z_scores.keys() == found.unclamped_z_scores.keys() == LENGTHS.keys()
    assert found.unclamped_z_scores["PLL_R_FEM"] != found.z_scores["PLL_R_FEM"]
