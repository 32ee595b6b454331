"""A host that is written against the id-based calls, with inputs as such hosts really pass them.

Each of these once broke a module of this kind: the session is kept all the same, with every value that is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monitoring import MonitorManager
from monitoring.metrics_collector import samples
from monitoring.records.session_record import SessionRecord
from monitoring.store.database import Database
from monitoring.store.sessions import open_store
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.servers import InfluxDB1, Pushgateway, wait_for_points

LENGTHS = {"PLL_R_FEM": 412.5, "PLL_R_TIB": 330.0, "PLL_L_FEM": 410.0, "PLL_L_TIB": 328.0}
BOXES = [[100.0 * label, 200.0 * label, 100.0 * label + 20, 200.0 * label + 20] for label in range(1, 9)]


class Host:
    """The calls of one image's processing, and the record that they leave."""

    def __init__(self, **monitoring: Any) -> None:
        settings = {"enabled": True, "shutdown_timeout": HANGS_SECONDS, **monitoring}
        self.manager = MonitorManager({"monitoring": settings, "models": ["resnet", "hrnet"]})

    def run(self, use: Callable[[MonitorManager, str], None], status: Any = "completed") -> SessionRecord:
        session_id = self.manager.start_session("1.2.3.4", {"models": ["resnet"]})
        assert session_id
        use(self.manager, session_id)
        self.manager.end_session(session_id, status)
        return self.records()[-1]

    def performance(self, **data: Any) -> SessionRecord:
        return self.run(lambda manager, session_id: manager.record_performance_data(session_id, data))

    def model(self, **metrics: Any) -> SessionRecord:
        return self.run(lambda manager, session_id: manager.record_model_performance(session_id, "resnet", metrics))

    def measurements(self, given: Any) -> SessionRecord:
        return self.run(lambda manager, session_id: manager.record_measurements(session_id, given))

    def records(self) -> list[SessionRecord]:
        return [SessionRecord.from_dict(record) for record in self.manager.session_records()]


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host(metrics={"include_system_metrics": False})
    yield made
    made.manager.close()


def predictions(labels: Any = tuple(range(1, 9)), **changed: Any) -> dict[str, Any]:
    return {"predictions": {"boxes": BOXES[: len(labels)], "labels": labels, "scores": [0.9] * len(labels), **changed}}


# --- values -------------------------------------------------------------------------------------


def test_arrays_and_scalars_of_numpy_are_the_numbers_that_they_hold(host: Host) -> None:
    record = host.performance(
        individual_model_predictions={
            "resnet": {
                "predictions": {
                    "boxes": np.array(BOXES, dtype=np.float32),
                    "labels": np.arange(1, 9, dtype=np.int64),
                    "scores": np.full(8, 0.5, dtype=np.float32),
                }
            }
        },
        image_metrics={"dds": np.float32(0.25), "lds": np.float64(0.5), "ors": np.array(0.125)},
    )
    assert record.predictions[0].labels == tuple(range(1, 9))
    assert record.ensemble == {"dds": 0.25, "lds": 0.5, "ors": 0.125}
    assert record.landmarks_found == 8
    assert record.refused == {}


def test_a_models_figures_may_be_of_numpy(host: Host) -> None:
    record = host.model(
        landmarks_detected=np.int64(7), confidence_scores=np.array([0.5, 1.0], np.float32),
        inference_time=np.float32(0.25), measurements={"PLL_R_FEM": np.float32(412.5)},
    )  # fmt: skip
    (model,) = record.models
    assert (model.landmarks_found, model.confidence_scores, model.inference_seconds) == (7, (0.5, 1.0), 0.25)
    assert model.measurements_mm == {"PLL_R_FEM": 412.5}


@pytest.mark.parametrize(
    "given",
    [
        LENGTHS,
        {name: {"millimeters": mm, "centimeters": mm / 10, "pixels": 3000} for name, mm in LENGTHS.items()},
        {name: {"centimeters": mm / 10} for name, mm in LENGTHS.items()},
        {name: np.float64(mm) for name, mm in LENGTHS.items()},
        {name: {"millimeters": np.float32(mm)} for name, mm in LENGTHS.items()},
        OrderedDict(LENGTHS),
        UserDict(LENGTHS),
    ],
    ids=["numbers", "dicts", "centimetres", "numpy", "numpy in dicts", "ordered", "of its own kind"],
)
def test_measurements_are_dicts_or_plain_numbers(host: Host, given: Any) -> None:
    assert host.measurements(given).measurements_mm == pytest.approx(LENGTHS)


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), "", "n/a", {}, {"millimeters": None}, [], True])
def test_what_is_no_length_is_missing_and_the_others_stay(host: Host, nothing: Any) -> None:
    record = host.measurements({**LENGTHS, "PLL_R_LGL": nothing})
    assert record.measurements_mm == LENGTHS
    assert record.refused == {"measurements": 1}


@pytest.mark.parametrize("key", [1, "1", np.int64(1), 1.0], ids=repr)
def test_a_points_key_is_a_number_or_text(host: Host, key: Any) -> None:
    record = host.performance(uncertainties={key: {"spatial_uncertainty_mm": 2.5, "detection_disagreement": 0}})
    assert record.points == {"1": {"spatial_uncertainty_mm": 2.5, "detection_disagreement": 0.0}}


def test_a_points_scores_may_be_missing_nan_or_of_another_name(host: Host) -> None:
    record = host.performance(
        uncertainties={
            1: {"spatial_uncertainty_mm": None, "outlier_risk": float("nan"), "note": "Jane", "position_std_x_mm": 1.5},
            "9": {"outlier_risk": 0.5},
            "knee": {"outlier_risk": 0.5},
            2: None,
        },
        point_statistics={"3": {"outlier_risk": np.float32(0.5), "mean_confidence": 0.5}},
    )
    assert record.points == {"1": {"position_std_x_mm": 1.5}, "3": {"outlier_risk": 0.5}}
    assert record.refused == {"points": 3, "unknown_key": 2}


@pytest.mark.parametrize(
    ("issues", "kept"),
    [
        (["low_confidence"], {"low_confidence": 1}),
        ([{"code": "low_confidence", "message": "Jane Doe's knee"}], {"low_confidence": 1}),
        ([{"type": "asymmetry", "value": 12.5}, {"type": "asymmetry"}], {"asymmetry": 2}),
        ("low_confidence", {"low_confidence": 1}),
        ({"code": "low_confidence"}, {"low_confidence": 1}),
        (["the left femur of Jane Doe is too long"], {"other": 1}),
        ([None, 3, {}], {"other": 3}),
        (None, {}),
        ([], {}),
    ],
)
def test_issues_are_dicts_or_strings_and_only_their_codes_are_kept(host: Host, issues: Any, kept: Any) -> None:
    record = host.performance(issues=issues)
    assert record.issues == kept
    assert "Jane" not in record.to_json()


# --- shapes -------------------------------------------------------------------------------------


def test_a_single_model_is_an_ensemble_of_one(host: Host) -> None:
    record = host.performance(individual_model_predictions={"resnet": predictions()})
    found = {sample.metric.name for sample in samples(record)}
    assert "leglength_ensemble_dds_ratio" in found
    assert "leglength_ensemble_mean_distance_millimeters" not in found, "there is no pair"


def test_an_ensembles_scores_are_computed_where_the_host_gives_none(host: Host) -> None:
    record = host.performance(individual_model_predictions={"resnet": predictions(), "hrnet": predictions([1, 2])})
    values = {sample.metric.name: sample.value for sample in samples(record) if not sample.labels}
    assert values["leglength_ensemble_dds_ratio"] == pytest.approx(6 * 0.5 / 8)
    assert record.ensemble == {}


def test_predictions_without_the_inner_level_are_read_too(host: Host) -> None:
    record = host.performance(individual_model_predictions={"resnet": predictions()["predictions"]})
    assert record.landmarks_found == 8


def test_a_label_that_comes_twice_counts_once(host: Host) -> None:
    record = host.performance(individual_model_predictions={"resnet": predictions([1, 1, 1, 2])})
    assert record.landmarks_found == 2
    values = [sample.value for sample in samples(record) if sample.metric.name == "leglength_ensemble_dds_ratio"]
    assert values == [pytest.approx(6 / 8)]


@pytest.mark.parametrize(
    "entry",
    [None, {}, {"predictions": None}, predictions(scores=None), predictions([1, 2], scores=[0.5]), "none", 5],
    ids=["none", "empty", "empty inside", "no scores", "too few scores", "text", "number"],
)
def test_predictions_of_which_pieces_are_missing_leave_the_other_models_whole(host: Host, entry: Any) -> None:
    record = host.performance(individual_model_predictions={"resnet": entry, "hrnet": predictions()})
    assert [prediction.model for prediction in record.predictions] == ["hrnet"]
    assert record.refused == {"predictions": 1}


def test_nan_among_boxes_and_scores_costs_that_detection_alone(host: Host) -> None:
    broken = predictions([1, 2, 3], scores=[0.9, float("nan"), 0.9])
    broken["predictions"]["boxes"] = [BOXES[0], BOXES[1], [float("nan"), 1.0, 2.0, 3.0]]
    record = host.performance(individual_model_predictions={"resnet": broken})
    assert record.predictions[0].labels == (1,)
    assert all(np.isfinite(sample.value) for sample in samples(record))


def test_a_skipped_result_without_anything_is_a_session_too(host: Host) -> None:
    record = host.run(lambda manager, session_id: manager.record_performance_data(session_id, None), "skipped")
    assert record.status == "skipped"
    assert {sample.metric.name for sample in samples(record)} >= {"leglength_sessions_total"}
    assert not [sample for sample in samples(record) if sample.metric.name.endswith("_ratio")]


def test_the_same_series_twice_in_one_second_is_two_sessions(host: Host) -> None:
    first = host.measurements(LENGTHS)
    second = host.measurements(LENGTHS)
    assert first.session_id != second.session_id
    assert first.series_key == second.series_key
    with open_store(Database(host.manager._runtime.store.path)) as store:  # type: ignore[union-attr]
        stored = {item.record.session_id: item for item in store.sessions()}
    assert len({item.timestamp_ns for item in stored.values()}) == 2
    assert stored[second.session_id].derived.facts.earlier_runs == 1  # type: ignore[union-attr]


def test_both_sessions_of_one_second_arrive_whole_in_both_backends(
    influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    host = Host(influxdb=influxdb1.write_settings(), prometheus={"gateway_url": pushgateway.url})
    for _ in range(2):
        host.measurements(LENGTHS)
    host.manager.close()
    assert len(wait_for_points(influxdb1, "leglength_session", 2)) == 2
    assert pushgateway.value("leglength_sessions_total", status="completed") == 2.0
    assert pushgateway.value("leglength_duplicate_series_total") == 1.0


def test_sessions_that_run_side_by_side_and_out_of_order_end_on_their_own(host: Host) -> None:
    first, second = host.manager.start_session("a"), host.manager.start_session("b")
    host.manager.track_processing_time(second, "load", 1.0, 2.0)
    host.manager.end_session(second)
    host.manager.track_processing_time(first, "load", time.time(), time.time() + 3)
    host.manager.track_processing_time(second, "load", 1.0, 9.0)
    host.manager.end_session(first, "failed")
    by_id = {record.session_id: record for record in host.records()}
    assert by_id[second].stages_seconds == {"load": 1.0}
    assert by_id[first].stages_seconds == {"load": pytest.approx(3, abs=0.01)}


def test_custom_metrics_of_any_name_reach_both_backends(influxdb1: InfluxDB1, pushgateway: Pushgateway) -> None:
    host = Host(influxdb=influxdb1.write_settings(), prometheus={"gateway_url": pushgateway.url})

    def use(manager: MonitorManager, session_id: str) -> None:
        manager.record_metrics(session_id, "contrast", np.float32(0.5), tags={})
        manager.record_metrics(session_id, "snr.db-2", 3, tags=None)
        manager.record_metrics(session_id, "1.2.840.113619.2.5", 7.0)

    host.run(use)
    host.manager.close()
    points = wait_for_points(influxdb1, "leglength_custom", 3)
    assert {point.tags["name"]: point.fields["value"] for point in points} == {
        "contrast": 0.5, "snr.db-2": 3.0, "other": 7.0,
    }  # fmt: skip
    pushed = {sample.labels["name"]: sample.value for sample in pushgateway.samples("leglength_custom")}
    assert pushed == pytest.approx({"contrast": 0.5, "snr.db-2": 3.0, "other": 7.0})


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "off", False, 0, None, ""])
def test_a_switch_that_is_off_in_any_form_is_off(word: Any) -> None:
    manager = MonitorManager({"monitoring": {"enabled": word}})
    assert not manager.is_enabled()
    assert manager.start_session("1.2.3.4", {}) == ""
    manager.end_session("", "completed")


def test_sections_that_are_null_are_as_if_they_were_not_there() -> None:
    sections = dict.fromkeys(("influxdb", "prometheus", "metrics", "store", "privacy", "shutdown_timeout"))
    host = Host(**sections)
    assert host.measurements(LENGTHS).measurements_mm == LENGTHS
    host.manager.close()


def test_a_timeout_may_be_text_and_a_gateway_may_lie_under_a_prefix(
    pushgateway_factory: Callable[..., Pushgateway],
) -> None:
    gateway = pushgateway_factory(route_prefix="/metrics/gateway")
    host = Host(prometheus={"gateway_url": gateway.url, "timeout": "120"}, shutdown_timeout="120.0")
    host.measurements(LENGTHS)
    host.manager.close()
    assert gateway.value("leglength_measurement_millimeters", measurement="PLL_R_FEM") == 412.5


def test_a_gateway_without_a_scheme_is_one_over_http(pushgateway: Pushgateway) -> None:
    host = Host(prometheus={"gateway_url": pushgateway.url.removeprefix("http://"), "job_name": "any"})
    host.measurements(LENGTHS)
    host.manager.close()
    assert pushgateway.value("leglength_sessions_total", status="completed", job="any") == 1.0


WITHOUT_PACKAGES = """
import json, sys
for name in ("pydicom", "pynvml", "torch", "numpy", "typer", "rich", "scipy"):
    sys.modules[name] = None
from monitoring import MonitorManager
with MonitorManager({"monitoring": {"enabled": True}}) as manager:
    session_id = manager.start_session("1.2.3.4", {})
    manager.record_measurements(session_id, {"PLL_R_FEM": 412.5}, sys.argv[1])
    manager.end_session(session_id)
    print(json.dumps(manager.session_records()), manager.swallowed_errors)
"""


def test_without_the_optional_packages_all_but_the_images_context_is_kept(tmp_path: Path) -> None:
    path = pydicom.data.get_testdata_file("CT_small.dcm")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, str(path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=True,
    )  # fmt: skip
    records, swallowed = done.stdout.strip().rsplit(" ", 1)
    (record,) = json.loads(records)
    assert swallowed == "0"
    assert record["measurements_mm"] == {"PLL_R_FEM": 412.5}
    assert "context" not in record
    assert "process_resident_memory_bytes" in record["system"]


@pytest.mark.parametrize("path", ["/nowhere/image.dcm", "", 5, b"\xff", Path(__file__)], ids=repr)
def test_a_path_that_leads_to_no_image_costs_the_measurements_nothing(host: Host, path: Any) -> None:
    record = host.run(lambda manager, session_id: manager.record_measurements(session_id, LENGTHS, path))
    assert record.measurements_mm == LENGTHS
    assert record.context == {}


def test_an_images_context_and_keys_come_with_its_path(host: Host) -> None:
    path = pydicom.data.get_testdata_file("CT_small.dcm")
    record = host.run(lambda manager, session_id: manager.record_measurements(session_id, LENGTHS, path))
    assert record.context["rows"] == 128.0
    assert len(record.patient_key or "") == len(record.study_key or "") == 32
