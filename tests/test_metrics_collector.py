"""From a record to samples, points and changes: exactly these, and the same ones each time."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from monitoring.domain.derivation import Facts
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import OTHER, Kind, Label
from monitoring.metrics.line_protocol import encode
from monitoring.metrics.samples import Change, Sample, bucket_part, zero_changes
from monitoring.metrics.session_writes import TransactionContext
from monitoring.metrics_collector import SessionWritesBuilder, changes, points, samples
from monitoring.records.session_record import STATUSES, ModelPerformance, SessionRecord, Usage
from tests.support.records import ENDED_NS, RECORDS, realistic


def _of_each_landmark(name: str, **labels: str) -> list[tuple[str, float, dict[str, str]]]:
    """0 for the landmark that the only model saw, 1 for the others."""
    return [(name, float(label != 1), {**labels, "landmark": str(label)}) for label in range(1, 9)]


# The only model saw one landmark, with 0.5: completeness 1/8 and confidence 1/2, nothing implausible.
QUALITY = ((1 / 8) ** 0.20 * 0.5**0.15) ** (1 / 0.65)
EXPECTED = [
    ("leglength_sessions_total", 1.0, {"status": "completed"}),
    ("leglength_session_duration_seconds", 3.5, {}),
    ("leglength_session_completed", 1.0, {}),
    ("leglength_session_failed", 0.0, {}),
    ("leglength_session_skipped", 0.0, {}),
    ("leglength_session_crashed", 0.0, {}),
    ("leglength_last_run_timestamp_seconds", ENDED_NS / 1e9, {}),
    ("leglength_last_success_timestamp_seconds", ENDED_NS / 1e9, {}),
    ("leglength_landmarks_found", 8.0, {}),
    ("leglength_queue_depth", 3.0, {}),
    ("leglength_throughput_sessions_per_hour", 12.0, {}),
    ("leglength_stage_duration_seconds", 0.25, {"stage": "load"}),
    ("leglength_stage_duration_seconds", 2.5, {"stage": "inference"}),
    ("leglength_stage_duration_seconds", 0.005, {"stage": "measurement"}),
    ("leglength_stage_duration_seconds", 0.5, {"stage": "dicom_generation"}),
    ("leglength_model_inference_seconds", 1.25, {"model": "resnet"}),
    ("leglength_model_landmarks_found", 8.0, {"model": "resnet"}),
    ("leglength_model_confidence_average_ratio", 0.75, {"model": "resnet"}),
    ("leglength_model_confidence_minimum_ratio", 0.5, {"model": "resnet"}),
    ("leglength_model_confidence_maximum_ratio", 1.0, {"model": "resnet"}),
    ("leglength_measurement_millimeters", 412.5, {"measurement": "PLL_R_FEM"}),
    ("leglength_measurement_millimeters", 410.0, {"measurement": "PLL_L_FEM"}),
    ("leglength_ensemble_dds_ratio", 0.0, {}),
    ("leglength_ensemble_overall_detection_rate_ratio", 0.125, {}),
    ("leglength_ensemble_detection_consistency_ratio", pytest.approx(1 - (7 / 64) ** 0.5), {}),
    ("leglength_ensemble_missing_point_ratio", 0.875, {}),
    ("leglength_ensemble_mean_distance_millimeters", 1.5, {}),
    ("leglength_ensemble_host_difference_ratio", 0.875, {"score": "dds"}),
    ("leglength_ensemble_host_difference_ratio", 0.0, {"score": "detection_disagreement"}),
    ("leglength_ensemble_confidence_average_ratio", 0.5, {}),
    ("leglength_ensemble_confidence_minimum_ratio", 0.5, {}),
    ("leglength_ensemble_confidence_maximum_ratio", 0.5, {}),
    *_of_each_landmark("leglength_landmark_detection_disagreement_ratio"),
    *_of_each_landmark("leglength_landmark_misses_total"),
    *_of_each_landmark("leglength_model_landmark_misses_total", model="resnet"),
    ("leglength_quality_ratio", pytest.approx(QUALITY), {}),
    ("leglength_quality_plausibility_ratio", 1.0, {}),
    ("leglength_quality_completeness_ratio", 0.125, {}),
    ("leglength_quality_confidence_ratio", 0.5, {}),
    ("leglength_measurement_quality_ratio", 0.0, {"measurement": "PLL_R_FEM"}),
    ("leglength_measurement_quality_ratio", 0.0, {"measurement": "PLL_L_FEM"}),
    ("leglength_side_difference_millimeters", 2.5, {"bone": "femur"}),
    ("leglength_process_cpu_average_ratio", 0.5, {}),
    ("leglength_process_cpu_maximum_ratio", 1.5, {}),
    ("leglength_disk_free_average_bytes", 1e9, {"volume": "store"}),
    ("leglength_disk_free_minimum_bytes", 5e8, {"volume": "store"}),
    ("leglength_gpu_utilization_average_ratio", 0.25, {"gpu": "0"}),
    ("leglength_gpu_utilization_maximum_ratio", 0.75, {"gpu": "0"}),
    ("leglength_custom", 0.4, {"name": "contrast"}),
    ("leglength_host_issues_total", 1.0, {"issue": "low_confidence"}),
    ("leglength_monitoring_refused_values_total", 1.0, {"value": "name"}),
]


def test_a_realistic_record_gives_exactly_these_samples() -> None:
    found = [
        (sample.metric.name, sample.value, dict(sample.labels))
        for sample in samples(realistic(), Facts(sessions_last_hour=12))
    ]
    assert found == EXPECTED


def test_a_realistic_record_gives_exactly_these_points() -> None:
    lines = sorted(
        encode(point).replace(r",instance=ward\ 3", "")
        for point in points(samples(realistic(), Facts(sessions_last_hour=12)), realistic(), {"instance": "ward 3"})
    )
    assert lines == [
        "leglength_custom,name=contrast value=0.4",
        "leglength_difference,score=dds difference_ratio=0.875",
        "leglength_difference,score=detection_disagreement difference_ratio=0.0",
        "leglength_disk,volume=store disk_free_average_bytes=1000000000.0,disk_free_minimum_bytes=500000000.0",
        (
            "leglength_ensemble "
            "dds=0.0,overall_detection_rate=0.125,detection_consistency=0.6692810861169262,"
            "missing_point_ratio=0.875,mean_distance_millimeters=1.5,confidence_average=0.5,"
            "confidence_minimum=0.5,confidence_maximum=0.5"
        ),
        "leglength_gpu,gpu=0 gpu_utilization_average_ratio=0.25,gpu_utilization_maximum_ratio=0.75",
        "leglength_issue,issue=low_confidence issues=1.0",
        "leglength_landmark,landmark=1 detection_disagreement=0.0,misses=0.0",
        *(f"leglength_landmark,landmark={label} detection_disagreement=1.0,misses=1.0" for label in range(2, 9)),
        "leglength_measurement,measurement=PLL_L_FEM millimeters=410.0,quality=0.0",
        "leglength_measurement,measurement=PLL_R_FEM millimeters=412.5,quality=0.0",
        (
            "leglength_model,model=resnet "
            "inference_seconds=1.25,landmarks_found=8.0,confidence_average=0.75,"
            "confidence_minimum=0.5,confidence_maximum=1.0"
        ),
        "leglength_quality image=0.449425486597771,plausibility=1.0,completeness=0.125,confidence=0.5",
        (
            "leglength_session,status=completed "
            "duration_seconds=3.5,completed=1.0,failed=0.0,skipped=0.0,crashed=0.0,landmarks_found=8.0,"
            "queue_depth=3.0,throughput_sessions_per_hour=12.0"
        ),
        "leglength_side_difference,bone=femur millimeters=2.5",
        "leglength_stage,stage=dicom_generation duration_seconds=0.5",
        "leglength_stage,stage=inference duration_seconds=2.5",
        "leglength_stage,stage=load duration_seconds=0.25",
        "leglength_stage,stage=measurement duration_seconds=0.005",
        "leglength_system process_cpu_average_ratio=0.5,process_cpu_maximum_ratio=1.5",
    ]


def test_no_point_and_no_change_names_the_session_or_the_series() -> None:
    record = realistic()
    written = "".join(encode(point) for point in points(samples(record), record, {"instance": "ward"}))
    written += repr(changes(samples(record)))
    assert record.series_key not in written
    assert record.session_id not in written


def test_a_session_that_knows_nothing_gives_no_value_that_it_doesnt_know() -> None:
    bare = SessionRecord("id", "failed", 0, ENDED_NS, 0.5)
    names = [sample.metric.name for sample in samples(bare)]
    assert names == [
        "leglength_sessions_total", "leglength_session_duration_seconds",
        *(f"leglength_session_{status}" for status in STATUSES), "leglength_last_run_timestamp_seconds",
        "leglength_session_stops_total", "leglength_session_stop_codes_total",
    ]  # fmt: skip
    session, stop = points(samples(bare), bare, {"instance": "ward"})
    assert session.fields == {"duration_seconds": 0.5, "completed": 0.0, "failed": 1.0, "skipped": 0.0, "crashed": 0.0}
    assert stop.tags == {"instance": "ward", "status": "failed", "stage": "none", "reason": "other"}


@pytest.mark.parametrize("status", STATUSES)
def test_only_a_completed_session_is_a_success(status: str) -> None:
    found = {sample.metric for sample in samples(realistic(status=status))}
    assert (catalogue.LAST_SUCCESS in found) == (status == "completed")
    assert catalogue.LAST_RUN in found


def test_a_resource_and_a_score_that_the_catalogue_doesnt_know_are_passed_over() -> None:
    record = realistic(system={"unheard_of/x": Usage(1.0, 1.0), "": Usage(1.0, 1.0)}, ensemble={"unheard_of": 1.0})
    assert not [sample for sample in samples(record) if "unheard" in repr((sample.metric.name, sample.labels))]


def test_a_measurement_on_a_bucket_s_bound_falls_into_it() -> None:
    changed = changes(samples(realistic(duration_seconds=0.5)))
    parts = {(change.part, change.value) for change in changed if change.metric == "leglength_session_duration_seconds"}
    assert parts == {("le:0.5", 1.0), ("sum", 0.5)}


def test_a_measurement_beyond_all_buckets_falls_into_the_last() -> None:
    changed = changes(samples(realistic(duration_seconds=1e6)))
    parts = {change.part for change in changed if change.metric == "leglength_session_duration_seconds"}
    assert parts == {"le:+Inf", "sum"}


def test_counters_and_histograms_grow_and_gauges_are_replaced() -> None:
    for change in changes(samples(realistic(), Facts(sessions_last_hour=12))):
        assert change.replaces == (catalogue.BY_NAME[change.metric].kind is Kind.GAUGE)
    assert Change("leglength_sessions_total", {"status": "completed"}, "", 1.0, replaces=False) in changes(
        samples(realistic())
    )


def test_the_zeros_are_every_counter_and_histogram_that_is_known_beforehand_and_no_gauge() -> None:
    zeros = zero_changes(("resnet",))
    assert all(change.value == 0.0 and not change.replaces for change in zeros)
    named = {(change.metric, tuple(change.labels.values())) for change in zeros}
    assert {("leglength_sessions_total", (status,)) for status in STATUSES} <= named
    assert {("leglength_stage_duration_seconds", (stage,)) for stage in catalogue.STAGES} <= named
    assert ("leglength_model_inference_seconds", ("resnet",)) in named
    assert {catalogue.BY_NAME[metric].kind for metric, _ in named} == {Kind.COUNTER, Kind.HISTOGRAM}
    assert len(named) == len(zeros)


def test_buckets_are_named_so_that_no_two_are_the_same() -> None:
    names = [bucket_part(bound) for bound in (*catalogue.STAGE_BUCKETS, None)]
    assert len(set(names)) == len(names)
    assert names[0] == "le:0.001"


def test_what_cant_be_is_left_out_so_that_no_total_falls() -> None:
    record = realistic(
        duration_seconds=-1.0, stages_seconds={"load": -0.5, "inference": 2.5}, issues={"a": -3, "b": 2},
        models=(ModelPerformance("resnet", -0.1),), refused={"name": -1}, custom={"balance": -4.0},
        measurements_mm={"PLL_R_FEM": 1.7e308, "PLL_L_FEM": -1.7e308},
    )  # fmt: skip
    found = samples(record)
    assert all(math.isfinite(sample.value) for sample in found)
    assert all(sample.value >= 0 for sample in found if sample.metric.kind is not Kind.GAUGE)
    named = {(sample.metric.name, *sample.labels.values()): sample.value for sample in found}
    assert named["leglength_custom", "balance"] == -4.0
    assert named["leglength_host_issues_total", "b"] == 2.0
    assert ("leglength_stage_duration_seconds", "inference") in named
    assert ("leglength_stage_duration_seconds", "load") not in named
    assert ("leglength_side_difference_millimeters", "femur") not in named


def test_times_and_counts_that_were_folded_together_add_up_in_a_point() -> None:
    folded = [
        Sample(catalogue.HOST_ISSUES, 2.0, {"issue": OTHER}),
        Sample(catalogue.HOST_ISSUES, 3.0, {"issue": OTHER}),
        Sample(catalogue.STAGE_DURATION, 0.5, {"stage": OTHER}),
        Sample(catalogue.STAGE_DURATION, 0.25, {"stage": OTHER}),
        Sample(catalogue.CUSTOM, 1.0, {"name": OTHER}),
        Sample(catalogue.CUSTOM, 4.0, {"name": OTHER}),
        Sample(catalogue.MODEL_INFERENCE, 1.7e308, {"model": OTHER}),
        Sample(catalogue.MODEL_INFERENCE, 1.7e308, {"model": OTHER}),
    ]
    made = {point.measurement: point.fields for point in points(folded, realistic(), {})}
    assert made["leglength_issue"] == {"issues": 5.0}
    assert made["leglength_stage"] == {"duration_seconds": 0.75}
    assert made["leglength_custom"] == {"value": 4.0}
    assert math.isfinite(float(made["leglength_model"]["inference_seconds"]))


def test_confidence_that_overflows_is_still_a_number() -> None:
    huge = ModelPerformance("resnet", confidence_scores=(1.7e308, 1.7e308))
    assert all(math.isfinite(sample.value) for sample in samples(realistic(models=(huge,))))


@given(RECORDS)
def test_deriving_changes_nothing_and_gives_the_same_each_time(record: SessionRecord) -> None:
    before = copy.deepcopy(record)
    first = samples(record, Facts(sessions_last_hour=3))
    assert samples(record, Facts(sessions_last_hour=3)) == first
    assert points(first, record, {"instance": "ward"}) == points(first, record, {"instance": "ward"})
    assert changes(first) == changes(first)
    assert record == before
    assert all(math.isfinite(sample.value) for sample in first)


@given(RECORDS)
def test_no_two_points_of_a_record_share_a_series(record: SessionRecord) -> None:
    series = [
        (point.measurement, tuple(sorted(point.tags.items())))
        for point in points(samples(record), record, {"instance": "w"})
    ]
    assert len(set(series)) == len(series)


def test_other_is_a_label_value_like_any() -> None:
    (change,) = [c for c in changes(samples(realistic(custom={OTHER: 1.0}))) if c.metric == "leglength_custom"]
    assert change.labels == {"name": "other"}


# --- tags beside the labels, versions -------------------------------------------------------------

VERSIONED = realistic(
    application_version="2.1.0", context={"age_band": "5-8", "age_years": 7.0, "sex": "M"},
    models=(ModelPerformance("resnet", version="3", digest="0123456789ab" + "c" * 52), ModelPerformance("vit", 1.0)),
    measurements_mm={"PLL_R_FEM": 300.0, "PLL_R_TIB": 240.0},
)  # fmt: skip


def written(
    record: SessionRecord, label_value: Callable[[Label, str], str] = lambda _, value: value, **more: Any
) -> Any:
    builder = SessionWritesBuilder({"instance": "w"}, log_backends=("influxdb",), version="0.1.0", **more)
    writes = builder(record, TransactionContext(ENDED_NS, Facts(), label_value))
    return writes.lines["influxdb"][0].decode().splitlines(), list(writes.changes)


def series_of(lines: list[str], measurement: str) -> list[str]:
    return [line.split()[0] for line in lines if re.match(rf"{measurement}[, ]", line)]


def test_versions_are_told_to_both_kinds_of_backend() -> None:
    lines, changed = written(VERSIONED)
    assert series_of(lines, "leglength_session") == ["leglength_session,instance=w,status=completed,version=2.1.0"]
    (info,) = series_of(lines, "leglength_model_info")  # of the model that says nothing, nothing
    assert info == "leglength_model_info,digest=0123456789ab,instance=w,model=resnet,version=3"
    told = {change.metric: change.labels for change in changed if change.metric.endswith("_info")}
    assert told == {
        "leglength_build_info": {"version": "2.1.0", "monitoring_version": "0.1.0"},
        "leglength_model_info": {"model": "resnet", "version": "3", "digest": "0123456789ab"},
    }


def test_a_host_that_states_no_version_has_no_tag_for_it() -> None:
    lines, changed = written(realistic())
    assert series_of(lines, "leglength_session") == ["leglength_session,instance=w,status=completed"]
    assert series_of(lines, "leglength_model_info") == []
    (build,) = [change.labels for change in changed if change.metric == "leglength_build_info"]
    assert build == {"version": "unknown", "monitoring_version": "0.1.0"}


def test_the_version_s_tag_is_held_to_the_label_s_limit() -> None:
    lines, _ = written(VERSIONED, lambda label, value: OTHER if label is catalogue.VERSION else value)
    assert series_of(lines, "leglength_session") == ["leglength_session,instance=w,status=completed,version=other"]


def test_the_age_band_is_a_tag_of_measurements_only_where_the_settings_ask_for_it() -> None:
    quiet, _ = written(VERSIONED)
    assert "age_band" not in "\n".join(quiet)
    telling, _ = written(VERSIONED, sends_age_band=True)
    assert [line for line in telling if "age_band" in line] == [
        line for line in telling if "leglength_measurement," in line
    ]
    assert series_of(telling, "leglength_measurement")[0].startswith("leglength_measurement,age_band=5-8,instance=w,")
    odd = realistic(context={"age_band": "Jane Doe"})
    assert "age_band" not in "\n".join(written(odd, sends_age_band=True)[0])


def test_both_z_scores_and_the_ratio_of_a_side_stand_where_they_are_looked_for() -> None:
    lines, _ = written(VERSIONED)
    (femur,) = [line for line in lines if line.startswith("leglength_measurement,") and "PLL_R_FEM" in line]
    assert re.search(r"zscore=[-\d.]+,zscore_unclamped=[-\d.]+ ", femur)
    assert [line for line in lines if line.startswith("leglength_femur_tibia,")] == [
        f"leglength_femur_tibia,instance=w,side=right ratio=1.25 {ENDED_NS}"
    ]
