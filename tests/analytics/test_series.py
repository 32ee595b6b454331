from __future__ import annotations

from math import log

import pytest

from monitoring.analytics.series import (
    DERIVED,
    GONE_AFTER,
    SERIES,
    Kind,
    Look,
    Measuring,
    Of,
    Points,
    reader_errors,
    segment,
    stratum,
    watched,
)
from monitoring.metrics import catalogue
from monitoring.records.session_record import Failure, ModelPerformance, SessionRecord
from monitoring.settings import ACCEPTED_RATES


def record(**fields: object) -> SessionRecord:
    known = {"session_id": "a", "status": "completed", "started_ns": 1, "ended_ns": 2, "duration_seconds": 3.0}
    return SessionRecord(**{**known, **fields})  # type: ignore[arg-type]


def taken(name: str, look: Look) -> dict[str, float]:
    return dict(Points([series for series in SERIES if series.name == name]).of(look))


def test_each_series_says_what_it_is_and_events_have_an_accepted_rate():
    assert all(each.title and each.unit and each.source and each.notices and each.misses for each in SERIES)
    assert len({each.name for each in SERIES}) == len(SERIES)
    assert {each.name for each in SERIES if each.kind is Kind.EVENT} == set(ACCEPTED_RATES)
    assert {each.of for each in SERIES if each.kind is Kind.NUMBER} == {Of.EXAM}


def test_what_is_derived_is_in_the_catalogue():
    assert {key.partition("{")[0] for key in DERIVED} <= set(catalogue.BY_NAME)
    labels = {key.partition("{")[2].rstrip("}") for key in DERIVED} - {""}
    known = {
        f"{label.name}={value}" for metric in catalogue.METRICS for label in metric.labels for value in label.values
    }
    assert labels <= known


def models(*lengths: float) -> tuple[ModelPerformance, ...]:
    return tuple(ModelPerformance(f"m{n}", measurements_mm={"PLL_R_FEM": mm}) for n, mm in enumerate(lengths))


def test_a_model_is_compared_with_the_mean_of_the_others():
    found = taken("model_difference", Look(record(models=models(300, 306, 303)), {}, {}))
    assert found == {
        "model_difference/m0/PLL_R_FEM": -4.5, "model_difference/m1/PLL_R_FEM": 4.5, "model_difference/m2/PLL_R_FEM": 0,
    }  # fmt: skip
    # Of two, one says all; of one, there is nothing to say.
    assert taken("model_difference", Look(record(models=models(300, 306)), {}, {})) == {
        "model_difference/m0/PLL_R_FEM": -6
    }
    assert taken("model_difference", Look(record(models=models(300)), {}, {})) == {}


def test_errors_against_readers():
    ours = {"PLL_R_FEM": 300.0, "PLL_L_FEM": 310.0, "PLL_R_TIB": 200.0, "PLL_R_LGL": 500.0}
    theirs = {"PLL_R_FEM": 297.0, "PLL_L_FEM": 311.0, "PLL_R_TIB": 206.0, "PLL_R_LGL": 503.0, "PLL_L_TIB": 1.0}
    errors = reader_errors(record(measurements_mm=ours), theirs)
    assert errors == {"PLL_R_FEM": 3, "PLL_L_FEM": -1, "PLL_R_TIB": -6, "PLL_R_LGL": -3}
    look = Look(record(), {}, errors)
    assert taken("reader_error", look) == {
        "reader_error/PLL_R_FEM": 3, "reader_error/PLL_L_FEM": -1, "reader_error/PLL_R_TIB": -6,
    }  # fmt: skip
    assert taken("reader_side_error", look) == {"reader_side_error/femur": 4}
    assert taken("reader_absolute_error", look) == {"reader_absolute_error": pytest.approx(10 / 3)}
    assert taken("reader_error_over_5_mm", look) == {"reader_error_over_5_mm": 1}
    assert taken("reader_error_over_10_mm", look) == {"reader_error_over_10_mm": 0}
    nothing = Look(record(), {}, {})
    assert not any(taken(each.name, nothing) for each in SERIES if each.name.startswith("reader"))


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"status": "failed", "reason": "exception"}, "failed"),
        ({"status": "crashed"}, "crashed"),
        ({"status": "skipped", "reason": "not_dicom"}, "skipped_input"),
        ({"status": "skipped", "reason": "landmarks_missing"}, "skipped_not_measurable"),
        ({"status": "skipped", "reason": "a_code_of_the_hosts"}, "skipped_otherwise"),
        ({"status": "skipped", "failure": Failure("MemoryError")}, "skipped_otherwise"),
        ({"status": "completed"}, ""),
    ],
)
def test_how_a_session_ended_is_one_event_at_most(fields, event):
    look = Look(record(**fields), {}, {})
    found = dict(
        Points([series for series in SERIES if series.of is Of.SESSION and series.kind is Kind.EVENT]).of(look)
    )
    assert {name for name, value in found.items() if value} == ({event} if event else set())


def test_derived_values_are_taken_as_they_are():
    derived = {
        "leglength_quality_ratio": 0.9, "leglength_femur_tibia_ratio{side=right}": 1.25,
        "leglength_measurement_zscore_unclamped{measurement=PLL_R_FEM}": 0.5,
        "leglength_landmark_misses_total{landmark=1}": 0.0, "leglength_landmark_misses_total{landmark=8}": 1.0,
    }  # fmt: skip
    look = Look(record(), derived, {})
    assert taken("quality", look) == {"quality": 0.9}
    assert taken("z_score", look) == {"z_score/PLL_R_FEM": 0.5}
    assert taken("log_femur_tibia", look) == {"log_femur_tibia/right": log(1.25)}
    assert taken("landmark_missed", look) == {"landmark_missed": 1}
    assert taken("landmark_missed", Look(record(), {}, {})) == {}


def test_a_hosts_own_metrics_are_watched_where_the_settings_name_them():
    own = watched(("dose", "dose", "Bone Age (months)"))[len(SERIES) :]
    assert own[0].name == "custom_dose"
    assert len(own) == 2
    look = Look(record(custom={"dose": 2.5}), {}, {})
    assert Points(own).of(look) == [("custom_dose", 2.5)]
    # What stands for "no value" would make sums of squares overflow, and with them the analysis end.
    assert all(Points(own).of(Look(record(custom={"dose": none}), {}, {})) == [] for none in (1.8e308, -1e200))


def test_what_is_no_number_is_no_point():
    look = Look(record(duration_seconds=float("nan"), stages_seconds={"load": float("inf"), "inference": 1.0}), {}, {})
    assert taken("session_seconds", look) == {}
    assert taken("stage_seconds", look) == {"stage_seconds/inference": 1.0}
    assert taken("quality", Look(record(), {"leglength_quality_ratio": float("nan")}, {})) == {}


def test_a_segment_is_what_measured_and_a_stratum_where():
    two = (ModelPerformance("b", version="2.0", digest="c" * 64), ModelPerformance("a"))
    code, words = segment(record(application_version="1.4.0", models=two), {})
    assert words == "application 1.4.0; a; b 2.0 cccccccccccc"
    assert segment(record(application_version="1.4.0", models=two[::-1]), {}) == (code, words)
    others = [record(application_version="1.5.0", models=two), record(models=two), record(models=two[:1])]
    assert len({code, *(segment(other, {})[0] for other in others)}) == 4
    context = {"manufacturer": "Agfa", "device_model": "DX-D", "row_spacing_mm": 0.14299999, "age_years": 9.0}
    assert stratum(record(context=context)) == "Agfa DX-D, 0.143 mm per pixel"
    named = {"device_model": "other", "body_part": "LOWER LIMB"}
    assert stratum(record(context=named | {"manufacturer": "other"})) == "device not listed, lower limb"
    assert stratum(record(context=named | {"manufacturer": "Agfa"})) == "Agfa, model not listed, lower limb"
    assert stratum(record()) == "device and spacing not told"


def test_a_model_that_failed_on_an_image_still_measures_until_it_is_gone_for_good():
    known: Measuring = {}

    def words(*names: str, version: str = "1.4.0") -> str:
        of_models = tuple(ModelPerformance(name[0], version=name[1:]) for name in names)
        return segment(record(application_version=version, models=of_models), known)[1].partition("; ")[2]

    assert words("a1", "b1") == "a 1; b 1"
    assert {words("a1") for _ in range(GONE_AFTER - 1)} == {"a 1; b 1"}
    assert words("a1", "b1") == "a 1; b 1"  # and the count begins anew
    assert {words("a1") for _ in range(GONE_AFTER - 1)} == {"a 1; b 1"}
    assert words("a1") == words("a1") == "a 1"
    assert words("a1", "b1", "c1") == "a 1; b 1; c 1"
    assert words("a1", "b2") == "a 1; b 2; c 1"  # another version at once
    # Another version of the application may have fewer models from its first exam on; side by side each keeps its own.
    assert words("a1", version="1.5.0") == "a 1"
    assert words("b2", "c1") == "a 1; b 2; c 1"
    assert words(version="1.5.0") == "a 1"
