"""A record that others may have changed is held to what a host's calls could have recorded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given

from monitoring.domain.derivation import Facts
from monitoring.exceptions import RecordError
from monitoring.metrics_collector import computed
from monitoring.privacy.dicom_header import is_context
from monitoring.records import coerce
from monitoring.records.foreign import foreign_record
from monitoring.records.session_record import ModelPerformance, SessionRecord, Usage
from tests.support.records import RECORDS, realistic

HOSTILE = (
    "Doe^Jane", "1.2.840.113619.2.55.3.604688119.868", "MRN0012345", "\x1b[2J\x1b]0;owned\x07", "[/red]", "[bold]x",
    "../../etc/passwd", "a b", "line\nbreak", "\u202eevil", "", "x" * 500,
)  # fmt: skip


def read(record: SessionRecord | dict[str, Any]) -> SessionRecord:
    return foreign_record(record if isinstance(record, dict) else record.to_dict(), is_context)


def test_what_this_package_exports_is_read_back_equal() -> None:
    record = realistic(
        reason="bad_input", stopped_in="load", application_version="2.1.0-rc1",
        models=(ModelPerformance("resnet", 1.25, 8, (0.5,), version="3", digest="ab" * 32),),
        context={"age_band": "5-8", "age_years": 0.0, "sex": "F", "manufacturer": "Agfa", "device_model": "other"},
        refused={"name": 1, "points": 2},
    )  # fmt: skip
    assert read(record) == record


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_foreign_record_comes_through_that_no_host_could_have_recorded(text: str) -> None:
    plain = realistic().to_dict()
    plain["points"] = {text: {"outlier_risk": 0.5}, "1": {text: 0.5}}
    plain["models"] = [{"model": text, "measurements_mm": {text: 1.0}, "version": text, "digest": text}]
    plain["application_version"] = text
    plain["predictions"] = [{"model": text, "boxes": [], "labels": [], "scores": []}]
    plain["failure"] = {"type": text, "stage": text, "location": f"{text}:12"}
    plain["context"] = {text: 1.0, "sex": text, "body_part": text, "manufacturer": text, "age_years": text}
    plain["reader_mm"] = {text: {"PLL_R_FEM": 1.0}, "ef" * 16: {text: 400.0}}
    plain["system"] = {text: {"average": 1.0, "maximum": 1.0}, f"disk_free_bytes/{text}": {"average": 1, "maximum": 1}}
    for name in ("series_key", "study_key", "patient_key", "accession_key", "reason", "stopped_in"):
        plain[name] = text
    for name in ("stages_seconds", "measurements_mm", "ensemble", "custom", "issues", "refused", "thresholds_cm"):
        plain[name] = {text: 1}
    record = read(plain)
    assert text == "" or json.dumps(text)[1:-1] not in record.to_json()
    assert record.context == {}
    assert record.custom == record.measurements_mm == {"other": 1.0}
    assert record.reader_mm == {"ef" * 16: {"other": 400.0}}
    assert (record.reason, record.failure.type) == ("other", "other")  # type: ignore[union-attr]
    samples, is_complete = computed(record, Facts())
    assert samples
    assert is_complete


@pytest.mark.parametrize("text", HOSTILE)
def test_a_session_s_id_becomes_a_part_of_a_file_s_name(text: str) -> None:
    with pytest.raises(RecordError):
        read(realistic().to_dict() | {"session_id": text})


def test_no_sum_is_spoilt_for_ever() -> None:
    plain = realistic().to_dict()
    plain["stages_seconds"] = {"load": 1e308, "inference": -1.0, "measurement": 2.0}
    plain["models"] = [{"model": "a", "inference_seconds": 1e308, "landmarks_found": 10**12, "confidence_scores": [7]}]
    plain["issues"] = {"blurred": 2**62, "rotated": -5, "noisy": 3}
    plain["refused"] = {"name": 2**62}
    plain["system"] = {
        "process_cpu_ratio": {"average": -1.0, "maximum": 1e308},
        "disk_free_bytes/store": {"average": 1.0, "maximum": 2.0, "minimum": -1.0},
    }
    plain["measurements_mm"] = {"PLL_R_FEM": 1e308, "PLL_L_FEM": 400.0}
    plain["queue_depth"] = 1e308
    record = read(plain)
    assert record.stages_seconds == {"measurement": 2.0}
    (model,) = record.models
    assert (model.inference_seconds, model.landmarks_found, model.confidence_scores) == (None, None, ())
    assert (record.issues, record.refused, record.system) == ({"noisy": 3}, {}, {})
    assert (record.measurements_mm, record.queue_depth) == ({"PLL_L_FEM": 400.0}, None)
    for duration in (1e308, -1.0):
        with pytest.raises(RecordError):
            read(realistic().to_dict() | {"duration_seconds": duration})


@given(RECORDS)
def test_whatever_a_record_holds_what_is_read_is_bounded_and_read_again_the_same(record: SessionRecord) -> None:
    try:
        found = read(record)
    except RecordError:
        return
    assert read(found) == found
    names = {*found.stages_seconds, *found.measurements_mm, *found.custom, *found.issues, *found.ensemble}
    assert all(coerce.metric_name(name) == name for name in names)
    assert all(0 <= seconds <= coerce.MOST_SECONDS for seconds in found.stages_seconds.values())
    assert all(math.isfinite(score) and 0 <= score <= 1 for model in found.models for score in model.confidence_scores)
    assert all(isinstance(usage, Usage) and usage.average >= 0 for usage in found.system.values())
