"""A session is lenient about types and strict about what it keeps; what it refuses, it counts."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.records.session_record import Failure, SessionRecord, Usage
from monitoring.runtime.left_out import LeftOutLog
from monitoring.runtime.session import Session
from tests.support.hostile import Column, Hostile, Word

UID = "1.2.840.113619.2.55.3.604688119.868.1234567890.1"
BOXES = [[10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 70.0, 80.0]]


def recorded(*calls: Callable[[Session], None], status: Any = None) -> SessionRecord:
    """The record of a session to which the calls were made; it also survives its way through the store."""
    session = Session("a" * 32)
    for call in calls:
        call(session)
    record = session.freeze(status)
    assert SessionRecord.from_json(record.to_json()) == record
    return record


def predicted(**columns: Any) -> SessionRecord:
    data = {"individual_model_predictions": {"resnet": {"predictions": columns}}}
    return recorded(lambda session: session.record_performance_data(data))


# --- measurements -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        412.5, np.float32(412.5), np.array(412.5), np.array([412.5]), Column([412.5]),
        {"millimeters": 412.5}, {"millimeters": np.float64(412.5), "centimeters": 41.25}, {"centimeters": 41.25},
    ],
)  # fmt: skip
def test_a_measurement_is_kept_in_millimeters_however_it_is_given(value: Any) -> None:
    record = recorded(lambda session: session.record_measurements({"PLL_R_FEM": value}))
    assert record.measurements_mm == {"PLL_R_FEM": 412.5}
    assert record.refused == {}


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        math.inf,
        10**400,
        "412.5",
        b"1",
        True,
        {},
        {"millimeters": None},
        {"inches": 16},
        [1, 2],
        Hostile(),
        {"millimeters": math.nan, "centimeters": 41.25},
        {"centimeters": 1e308},
        {"centimeters": Hostile()},
    ],
)
def test_a_measurement_that_is_none_is_missing_and_costs_the_others_nothing(value: Any) -> None:
    record = recorded(lambda session: session.record_measurements({"PLL_L_FEM": value, "PLL_R_FEM": 400}))
    assert record.measurements_mm == {"PLL_R_FEM": 400.0}
    assert record.refused == {"measurements": 1}


@pytest.mark.parametrize("measurements", [None, [], "text", 5, Hostile(), [("PLL_R_FEM", 1.0)]])
def test_measurements_that_are_no_mapping_are_no_measurements(measurements: Any) -> None:
    assert recorded(lambda session: session.record_measurements(measurements)).measurements_mm == {}


def test_a_negative_and_a_zero_measurement_are_kept_as_reported() -> None:
    record = recorded(lambda session: session.record_measurements({"a": -4, "b": 0}))
    assert record.measurements_mm == {"a": -4.0, "b": 0.0}


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [UID, "Doe^Jane", "knee of Jane", "MRN123456", "", None, 5, b"x", Hostile()])
def test_what_is_no_name_is_kept_as_other_and_counted(name: Any) -> None:
    record = recorded(
        lambda session: session.record_stage(name, 1.0),
        lambda session: session.record_metric(name, 2.0),
        lambda session: session.record_measurements({name: 3.0}),
        lambda session: session.record_model_performance(name, {"landmarks_detected": 8}),
        lambda session: session.record_performance_data(
            {"individual_model_predictions": {name: {"boxes": [], "labels": [], "scores": []}}}
        ),
    )
    assert record.stages_seconds == {"other": 1.0}
    assert record.custom == {"other": 2.0}
    assert record.measurements_mm == {"other": 3.0}
    assert [model.model for model in record.models] == ["other"]
    assert record.refused == {"name": 5}
    if isinstance(name, str) and name:
        assert name not in record.to_json()


def test_names_that_are_not_plain_are_made_plain_and_stay_several() -> None:
    record = recorded(
        lambda session: session.record_metric("Bone Age (months)", 120),
        lambda session: session.record_metric("Bone Age [months]", 121),
        lambda session: session.record_metric("Bone_Age_months", 122),
        lambda session: session.record_stage("Pre-processing (GPU 0)", 1.0),
        lambda session: session.record_measurements({"Femur length, left (mm)": 400.0}),
        lambda session: session.record_model_performance("DenseNet-121 (v2.1)", {"inference_seconds": 1.0}),
    )
    assert sorted(record.custom.values()) == [120.0, 121.0, 122.0]
    assert [name.rpartition("-")[0] for name in record.custom] == ["Bone_Age_months", "Bone_Age_months", ""]
    assert [name.rpartition("-")[0] for name in record.measurements_mm] == ["Femur_length_left_mm"]
    assert [model.model.rpartition("-")[0] for model in record.models] == ["DenseNet-121_v2.1"]
    assert record.refused == {"name": 1}, "GPU is no word of the list, and there is no key"


def test_a_name_of_other_words_is_a_keyed_hash() -> None:
    session = Session(pseudonym=Pseudonymizer(b"a site's own key").name)
    for name in ("knee of Jane", "knee of John", "knee of Jane"):
        session.record_metric(name, 1.0)
    session.record_metric("Doe^Jane", 2.0)
    record = session.freeze()
    assert len(record.custom) == 3
    assert all(name == "other" or name.startswith("name_") for name in record.custom)
    assert "ane" not in record.to_json()
    assert record.refused == {"name": 1}


def test_what_is_left_out_is_said_by_kind_and_key_once_and_never_its_value(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = LeftOutLog(logging.getLogger("monitoring"))
    for _ in range(2):
        session = Session(left_out=log)
        session.record_model_performance("resnet", {"landmark_count": 12345, "confidence_scores": [77.5]})
        session.record_performance_data({"patient": "Jane", UID: 1, "image_metrics": {"dice": 0.5, "lds": None}})
        session.record_performance_data({"uncertainties": {9: {}, 1: {"note": "Jane", "outlier_risk": None}}})
        boxes = {"boxes": [BOXES[0]], "labels": [9], "scores": [0.5]}
        session.record_performance_data({"individual_model_predictions": {"hrnet": boxes}})
        session.record_metric("Bone Age (months)", "Jane")
        session.record_metric("Bone Age (months)", 5)
        session.record_stage("load", math.nan)
        session.note_no_image("unreadable")
    expected = {
        "unknown_key: landmark_count", "confidence_scores: resnet", "unknown_key: patient", "points: label",
        "unknown_key: (not a plain name)", "unknown_key: dice", "unknown_key: note", "labels: hrnet",
        "metric_value: (not a plain name)", "stage_seconds: load", "image: unreadable",
    }  # fmt: skip
    said = {level: [r.message for r in caplog.records if r.levelno == level] for level in (10, 30)}
    (renamed,) = (message for message in said[logging.WARNING] if "not plain is kept as" in message)
    assert renamed.rpartition(" ")[2].startswith("Bone_Age_months-")
    left_out = {f"monitoring: left out: {words}" for words in expected}
    assert sorted(said[logging.WARNING]) == sorted([*left_out, renamed])
    assert sorted(said[logging.DEBUG]) == sorted(said[logging.WARNING])
    assert not [word for word in ("Jane", UID, "12345", "77.5") if word in caplog.text]
    assert sum(session.freeze().refused.values()) == len(expected)


def test_a_host_that_makes_its_names_from_its_studies_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = LeftOutLog(logging.getLogger("monitoring"))
    for number in range(1000):
        log("unknown_key", f"key_{number}")
        log.renamed(f"name_{number}")
    assert len(caplog.records) == 200


def test_an_unreadable_prediction_counts_once_and_its_name_not_at_all() -> None:
    record = recorded(lambda session: session.record_performance_data({"individual_model_predictions": {UID: None}}))
    assert record.refused == {"predictions": 1}


# --- stages and metrics -------------------------------------------------------------------------


def test_the_time_of_a_stage_adds_up() -> None:
    record = recorded(
        lambda session: session.record_stage("inference", 1.5),
        lambda session: session.record_stage("inference", np.float32(0.5)),
    )
    assert record.stages_seconds == {"inference": 2.0}


@pytest.mark.parametrize("seconds", [-0.1, math.nan, None, "1", Hostile()])
def test_a_duration_that_is_none_is_refused(seconds: Any) -> None:
    record = recorded(lambda session: session.record_stage("inference", seconds))
    assert (record.stages_seconds, record.refused) == ({}, {"stage_seconds": 1})


def test_durations_beyond_a_year_are_none_since_no_total_would_recover_from_them() -> None:
    stage = lambda session: session.record_stage("inference", 3e7)  # noqa: E731
    record = recorded(stage, stage, lambda session: session.record_stage("load", 1.7e308))
    assert record.stages_seconds == {"inference": 3e7}
    assert record.refused == {"stage_seconds": 2}
    model = {"inference_seconds": 1e308, "measurements": {"PLL_R_FEM": 1e308}}
    record = recorded(lambda session: session.record_model_performance("resnet", model))
    assert record.refused == {"inference_seconds": 1, "measurements": 1}


def test_a_stage_that_is_no_name_is_counted_once_though_it_is_entered_and_left() -> None:
    record = recorded(lambda session: session.enter_stage(UID), lambda session: session.leave_stage(UID, 1.0))
    assert record.refused == {"name": 1}


def test_the_innermost_stage_that_runs_is_the_current_one() -> None:
    session = Session()
    assert session.current_stage is None
    session.enter_stage("load")
    session.enter_stage("inference")
    assert session.current_stage == "inference"
    session.leave_stage("inference", 1.0)
    assert session.current_stage == "load"
    session.leave_stage("load", 1.0)
    session.leave_stage("load", 1.0)
    assert session.current_stage is None


def test_the_queue_depth_has_a_place_of_its_own() -> None:
    record = recorded(lambda session: session.record_metric("queue_depth", np.int64(4)))
    assert (record.queue_depth, record.custom) == (4.0, {})


def test_a_queue_of_less_than_nothing_is_refused() -> None:
    record = recorded(lambda session: session.record_metric("queue_depth", -1))
    assert (record.queue_depth, record.refused) == (None, {"metric_value": 1})


@pytest.mark.parametrize("tags", [{"patient": "Doe^Jane"}, ["Doe^Jane"], "Doe^Jane", np.array(["a", "b"]), Hostile()])
def test_tags_are_refused_and_the_value_is_kept(tags: Any) -> None:
    record = recorded(lambda session: session.record_metric("contrast", 0.5, tags))
    assert (record.custom, record.refused) == ({"contrast": 0.5}, {"metric_tags": 1})
    assert "Doe" not in record.to_json()


@pytest.mark.parametrize("tags", [None, {}])
def test_no_tags_are_nothing_to_refuse(tags: Any) -> None:
    assert recorded(lambda session: session.record_metric("contrast", 0.5, tags)).refused == {}


# --- models -------------------------------------------------------------------------------------


def test_a_models_report_is_kept_from_plain_and_from_numpy_values_alike() -> None:
    plain = {
        "inference_time": 0.25,
        "landmarks_detected": 8,
        "confidence_scores": [0.5, 1.0],
        "measurements": {"PLL_R_FEM": 400},
    }
    arrays = {
        "inference_seconds": np.float32(0.25),
        "landmarks_detected": np.int64(8),
        "confidence_scores": np.array([0.5, 1.0], np.float32),
        "measurements": {"PLL_R_FEM": {"millimeters": np.array(400)}},
    }
    (first,) = recorded(lambda session: session.record_model_performance("resnet", plain)).models
    (second,) = recorded(lambda session: session.record_model_performance("resnet", arrays)).models
    assert first == second
    assert (first.inference_seconds, first.landmarks_found, first.confidence_scores) == (0.25, 8, (0.5, 1.0))
    assert first.measurements_mm == {"PLL_R_FEM": 400.0}


@pytest.mark.parametrize("metrics", [None, {}, [], "text", 5, {"inference_seconds": None}])
def test_a_model_that_reports_nothing_has_no_figures(metrics: Any) -> None:
    record = recorded(lambda session: session.record_model_performance("resnet", metrics))
    (model,) = record.models
    assert (model.inference_seconds, model.landmarks_found, model.confidence_scores) == (None, None, ())
    assert record.landmarks_found is None
    assert record.refused == {}


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (8, 8),
        ("8", 8),
        (np.float32(8), 8),
        (np.array(8), 8),
        ([1, 2], 2),
        ({1: BOXES}, 1),
        (np.zeros((3, 4)), 3),
        ({1, 2}, 2),
    ],
)
def test_landmarks_are_counted_whether_their_number_or_they_themselves_are_given(value: Any, count: int) -> None:
    record = recorded(lambda session: session.record_model_performance("resnet", {"landmarks_detected": value}))
    assert (record.models[0].landmarks_found, record.landmarks_found, record.refused) == (count, count, {})


@pytest.mark.parametrize("value", [-1, 2.5, math.nan, 10**30, 10**400, "many", b"8", True, Hostile()])
def test_a_number_of_landmarks_that_is_none_is_refused(value: Any) -> None:
    record = recorded(lambda session: session.record_model_performance("resnet", {"landmarks_detected": value}))
    assert (record.models[0].landmarks_found, record.refused) == (None, {"landmarks": 1})


@pytest.mark.parametrize(
    "scores",
    [
        [0.5, math.nan, 0.9],
        [0.5, None, 0.9],
        (score for score in (0.5, "high", 0.9)),
        {1: 0.5, 2: 0.9, 3: 95.0},
        [0.5, -0.2, 0.9],
    ],
)
def test_a_score_that_is_none_is_left_out_and_counted(scores: Any) -> None:
    record = recorded(lambda session: session.record_model_performance("resnet", {"confidence_scores": scores}))
    assert record.models[0].confidence_scores == (0.5, 0.9)
    assert record.refused == {"confidence_scores": 1}


def test_a_score_that_rounding_put_beyond_1_is_1() -> None:
    scores = [np.nextafter(np.float32(1), np.float32(2))]
    record = recorded(lambda session: session.record_model_performance("resnet", {"confidence_scores": scores}))
    assert record.models[0].confidence_scores == (1.0,)


def test_of_two_reports_on_a_model_the_newer_wins_where_it_says_anything() -> None:
    record = recorded(
        lambda session: session.record_model_performance(
            "resnet", {"inference_seconds": 0.5, "measurements": {"a": 1, "b": 2}}
        ),
        lambda session: session.record_model_performance("resnet", {"landmarks_detected": 7, "measurements": {"b": 3}}),
    )
    (model,) = record.models
    assert (model.inference_seconds, model.landmarks_found, model.measurements_mm) == (0.5, 7, {"a": 1.0, "b": 3.0})


# --- predictions --------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [list, np.array, tuple, Column, iter])
def test_predictions_are_kept_from_any_kind_of_sequence(convert: Callable[[Any], Any]) -> None:
    record = predicted(boxes=convert(BOXES), labels=convert([1, 2]), scores=convert([0.5, 0.75]))
    (prediction,) = record.predictions
    assert prediction.boxes == ((10.0, 20.0, 30.0, 40.0), (50.0, 60.0, 70.0, 80.0))
    assert (prediction.labels, prediction.scores) == ((1, 2), (0.5, 0.75))
    assert record.landmarks_found == 2
    assert (record.models[0].landmarks_found, record.models[0].confidence_scores) == (2, (0.5, 0.75))


def test_a_label_that_a_model_gives_twice_is_one_landmark_and_others_than_1_to_8_are_none() -> None:
    record = predicted(boxes=[BOXES[0]] * 4, labels=["1", 1, 9, 0], scores=[0.5] * 4)
    assert record.landmarks_found == 1


def test_a_landmark_that_several_models_found_counts_once() -> None:
    one = {"boxes": BOXES, "labels": [1, 2], "scores": [0.5, 0.5]}
    other = {"boxes": BOXES, "labels": [2, 3], "scores": [0.5, 0.5]}
    data = {"individual_model_predictions": {"a": {"predictions": one}, "b": {"predictions": other}}}
    assert recorded(lambda session: session.record_performance_data(data)).landmarks_found == 3


def test_a_model_that_found_nothing_found_0_landmarks() -> None:
    record = predicted(boxes=np.zeros((0, 4)), labels=np.array([]), scores=[])
    assert (record.landmarks_found, record.refused) == (0, {})


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"boxes": BOXES},
        {"boxes": BOXES, "labels": [1, 2], "scores": [0.5]},
        {"boxes": None, "labels": None, "scores": None},
        {"boxes": [[math.nan] * 4], "labels": [1], "scores": [0.5]},
        {"boxes": [[1, 2, 3, 4, math.nan]], "labels": [1], "scores": [0.5]},
        {"boxes": [BOXES[0]], "labels": ["knee"], "scores": [0.5]},
        {"boxes": [BOXES[0]], "labels": [1], "scores": [math.inf]},
        {"boxes": [Hostile()], "labels": [1], "scores": [0.5]},
        {"boxes": Hostile(), "labels": [1], "scores": [0.5]},
    ],
)
def test_predictions_that_cant_be_read_are_missing_and_not_0_landmarks(columns: dict[str, Any]) -> None:
    record = predicted(**columns)
    assert (record.predictions, record.landmarks_found, record.models) == ((), None, ())
    assert record.refused == {"predictions": 1}


def test_one_detection_that_cant_be_read_costs_the_others_nothing() -> None:
    record = predicted(boxes=[BOXES[0], [math.nan] * 4], labels=[1, 2], scores=[0.5, 0.5])
    assert (record.landmarks_found, record.refused) == (1, {"predictions": 1})


# --- performance data ---------------------------------------------------------------------------


def test_the_ensembles_scores_are_kept_under_the_catalogues_names_only() -> None:
    data = {
        "image_metrics": {"image_DDS": np.float32(0.5), "cds": 0.25, "Jane Doe": 1.0, 5: 1.0, "lds": None, Hostile(): 1}
    }
    record = recorded(lambda session: session.record_performance_data(data))
    assert record.ensemble == {"dds": 0.5, "cds": 0.25}
    # A score of None is one that the host could not compute: it is missing, and nothing was left out.
    assert record.refused == {"unknown_key": 3}


@pytest.mark.parametrize(
    ("issues", "codes"),
    [
        (["low_confidence", "low_confidence"], {"low_confidence": 2}),
        ([{"code": "missing_point", "message": "Jane Doe"}], {"missing_point": 1}),
        ([{"type": "missing_point", "point": 7}], {"missing_point": 1}),
        (["Point 7 of Jane Doe is missing", UID, None, 5, {}, Hostile()], {"other": 6}),
        ("low_confidence", {"low_confidence": 1}),
        ({"code": "missing_point"}, {"missing_point": 1}),
        (("a", "b"), {"a": 1, "b": 1}),
        (None, {}),
        ([], {}),
    ],
)
def test_issues_are_kept_by_code(issues: Any, codes: dict[str, int]) -> None:
    record = recorded(lambda session: session.record_performance_data({"issues": issues}))
    assert record.issues == codes
    assert "Jane" not in record.to_json()


@pytest.mark.parametrize(
    "data",
    [None, [], "text", Hostile(), {"issues": Hostile(), "image_metrics": [1], "individual_model_predictions": 5}],
)
def test_performance_data_that_is_none_leaves_no_trace(data: Any) -> None:
    record = recorded(lambda session: session.record_performance_data(data))
    assert (record.ensemble, record.predictions, record.landmarks_found) == ({}, (), None)


# --- how a session ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("completed", "completed"),
        ("COMPLETED", "completed"),
        (" success ", "completed"),
        (Word.DONE, "completed"),
        (None, "completed"),
        (np.str_("failed"), "failed"),
        ("error", "failed"),
        ("skipped", "skipped"),
    ],
)
def test_a_hosts_word_for_the_end_is_understood(word: Any, status: str) -> None:
    record = recorded(status=word)
    assert (record.status, record.reason, record.refused) == (status, None, {})


@pytest.mark.parametrize("word", ["crashed", "whatever", "", 0, True, Hostile(), UID])
def test_a_word_that_is_not_understood_is_a_failure_with_a_reason(word: Any) -> None:
    record = recorded(status=word)
    assert (record.status, record.reason, record.refused) == ("failed", "unknown_status", {"status": 1})


def test_what_the_session_said_goes_before_the_hosts_word() -> None:
    record = recorded(lambda session: session.skip("no_spacing"), status="completed")
    assert (record.status, record.reason) == ("skipped", "no_spacing")


@pytest.mark.parametrize("reason", ["Jane Doe has no spacing", UID, "", None, 5, Hostile()])
def test_a_reason_is_a_code_or_other(reason: Any) -> None:
    assert recorded(lambda session: session.skip(reason)).reason == "other"
    assert recorded(lambda session: session.fail(reason, stage="load")).failure == Failure("other", "load")


@pytest.mark.parametrize("location", [None, "", "no line", "Jane Doe:5", "module:", "module:x", ":5", Hostile(), 5])
def test_a_location_is_a_module_and_a_line_or_missing(location: Any) -> None:
    record = recorded(lambda session: session.fail("broken", "load", "ValueError", location))
    assert record.failure == Failure("ValueError", "load")


def test_an_exception_is_kept_by_type_stage_and_place_and_never_by_its_words() -> None:
    session = Session()
    session.enter_stage("inference")
    try:
        raise ValueError("Jane Doe")
    except ValueError as error:
        session.note_failure(error)
        session.leave_stage("inference", 1.0)
        session.fail_with(error)
    record = session.freeze()
    assert (record.status, record.reason) == ("failed", "exception")
    assert record.failure is not None
    assert (record.failure.type, record.failure.stage) == ("ValueError", "inference")
    assert str(record.failure.location).startswith(f"{__name__}:")
    assert "Jane" not in record.to_json()


def test_an_exception_that_the_host_handled_leaves_no_failure() -> None:
    assert recorded(lambda session: session.note_failure(ValueError())).failure is None


def test_a_session_is_frozen_once_and_stays_as_it_was() -> None:
    session = Session()
    first = session.freeze("completed", {"process_cpu_ratio": Usage(0.5, 1.0)})
    session.record_metric("late", 1.0)
    session.record_measurements({"PLL_R_FEM": 1.0})
    assert session.freeze("failed") is first
    assert (first.status, first.custom, first.measurements_mm) == ("completed", {}, {})
    assert first.system == {"process_cpu_ratio": Usage(0.5, 1.0)}


def test_an_empty_session_says_nothing_that_it_doesnt_know() -> None:
    plain = recorded().to_dict()
    assert set(plain) == {"session_id", "status", "started_ns", "ended_ns", "duration_seconds", "series_key", "version"}
    assert plain["ended_ns"] >= plain["started_ns"]
    assert plain["duration_seconds"] >= 0


def test_threads_record_into_one_session_and_none_of_it_is_lost(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    session = Session()
    barrier = threading.Barrier(4)
    errors: list[Exception] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for index in range(300):
                session.record_stage("inference", 1.0)
                session.record_metric(f"m{number}_{index % 10}", index)
                session.record_metric("broken", None)
                session.record_performance_data({"issues": ["slow"], "image_metrics": {"dds": 0.5}})
                session.record_context({f"c{number}_{index}": 1.0}, {})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = session.freeze()
    assert errors == []
    assert record.stages_seconds == {"inference": 1200.0}
    assert record.refused == {"metric_value": 1200}
    assert record.issues == {"slow": 1200}
    assert (len(record.custom), len(record.context)) == (40, 1200)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        "millimeters",
        "centimeters",
        "boxes",
        "labels",
        "scores",
        "predictions",
        "issues",
        "image_metrics",
        "image_dds",
        "individual_model_predictions",
        "landmarks_detected",
        "confidence_scores",
        "inference_seconds",
        "measurements",
        "code",
    ]
)
REPORTS = st.recursive(ANYTHING, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=8)


@given(name=ANYTHING, value=REPORTS, more=REPORTS)
def test_whatever_is_recorded_the_record_can_be_stored(name: Any, value: Any, more: Any) -> None:
    record = recorded(
        lambda session: session.record_stage(name, value),
        lambda session: session.record_metric(name, value, more),
        lambda session: session.record_model_performance(name, value),
        lambda session: session.record_measurements(more),
        lambda session: session.record_performance_data(value),
        lambda session: session.fail(name, name if isinstance(name, str) else None),
        status=name,
    )
    json.dumps(record.to_dict(), allow_nan=False)


def test_a_failure_is_of_a_type_that_code_names_and_stands_in_code() -> None:
    """A host may make a class or run text under any name: a patient's, say."""
    made = type("DOE_JANE", (KeyError,), {})
    names: dict[str, Any] = {"__name__": "DOE_JANE", "made": made}
    exec("def load():\n    raise made('x')", names)
    session = Session()
    try:
        names["load"]()
    except KeyError as error:
        session.fail_with(error)
    failure = session.freeze().failure
    assert failure is not None
    assert failure.type == "KeyError"
    assert str(failure.location).startswith(f"{__name__}:")


class Container:
    class NestedError(Exception):
        """Named by code, within another class."""


@pytest.mark.parametrize("made", [sqlite3.OperationalError, Container.NestedError, np.linalg.LinAlgError])
def test_a_type_that_code_names_is_kept(made: type[Exception]) -> None:
    session = Session()
    session.fail_with(made())
    assert session.freeze().failure == Failure(made.__name__)


@pytest.mark.parametrize(
    ("kind", "location"), [("DOE_JANE", "DOE_JANE:5"), ("MRN1234", f"{__name__}:1234567"), ("Session", "json:\u0665")]
)
def test_what_a_host_says_of_a_failure_is_held_to_names_of_code(kind: str, location: str) -> None:
    record = recorded(lambda session: session.fail("broken", "load", kind, location))
    assert record.failure == Failure("other", "load")
    named = recorded(lambda session: session.fail("broken", "load", "LinAlgError", f"{__name__}:12"))
    assert named.failure == Failure("LinAlgError", "load", f"{__name__}:12")


def test_threads_that_share_a_session_have_each_its_own_stages() -> None:
    session, entered, left = Session(), threading.Event(), threading.Event()
    failures = []

    def work() -> None:
        session.enter_stage("inference")
        entered.set()
        left.wait()
        failures.append(session.current_stage)
        session.leave_stage("inference", 1.0)

    worker = threading.Thread(target=work)
    session.enter_stage("load")
    worker.start()
    entered.wait()
    assert session.current_stage == "load"
    session.leave_stage("load", 1.0)
    assert session.current_stage == "inference"  # this thread runs none
    left.set()
    worker.join()
    assert failures == ["inference"]
    assert session.current_stage is None


def test_a_stage_may_end_in_another_thread_and_its_neighbour_goes_on() -> None:
    session = Session()
    thread = threading.Thread(target=session.enter_stage, args=("load",))
    thread.start()
    thread.join()
    session.enter_stage("inference")
    session.leave_stage("load", 1.0)
    assert session.current_stage == "inference"


# --- versions -------------------------------------------------------------------------------------


def test_versions_and_checksums_are_kept_as_codes_and_anything_else_is_refused_and_counted() -> None:
    def models(session: Session) -> None:
        session.record_model_performance("resnet", {"version": "2.1.0", "digest": "AB" * 32})
        session.record_model_performance("resnet", {"inference_seconds": 1.0})  # adds to the first
        session.record_model_performance("hrnet", {"version": "Jane Doe", "digest": UID})
        session.record_model_performance("vit", {"version": None, "digest": None})

    record = recorded(lambda session: session.record_application_version(np.array("1.4.0")), models)
    assert record.application_version == "1.4.0"
    found = {model.model: (model.version, model.digest) for model in record.models}
    assert found == {"resnet": ("2.1.0", "ab" * 32), "hrnet": (None, None), "vit": (None, None)}
    assert record.refused == {"version": 1, "digest": 1}
    refused = recorded(lambda session: session.record_application_version(UID))
    assert (refused.application_version, refused.refused) == (None, {"version": 1})
