"""A record reads back equal to what was written; what is no record is a RecordError and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitoring.exceptions import RecordError
from monitoring.records.session_record import RECORD_VERSION, SessionRecord, Usage
from tests.support.cases import for_each
from tests.support.records import ENDED_NS, RECORDS, realistic


@given(RECORDS)
def test_a_record_reads_back_equal(record: SessionRecord) -> None:
    assert SessionRecord.from_json(record.to_json()) == record
    assert SessionRecord.from_dict(record.to_dict()) == record


def test_a_record_is_one_line_of_plain_json() -> None:
    text = realistic().to_json()
    assert "\n" not in text
    assert json.loads(text)["version"] == RECORD_VERSION


def test_every_field_of_a_record_is_read_back() -> None:
    whole = realistic(reason="x", stopped_in="load", failure=None, application_version="2.1.0")
    written = whole.to_dict()
    read = SessionRecord.from_dict(written)
    missing = set(SessionRecord.__struct_fields__) - set(written) - {"failure"}
    assert missing == set()
    assert read == whole


def test_what_is_missing_is_left_out_and_reads_back_as_missing() -> None:
    record = realistic(landmarks_found=None, queue_depth=None, measurements_mm={}, models=(), reason=None)
    assert not {"landmarks_found", "queue_depth", "measurements_mm", "models", "reason"} & set(record.to_dict())
    assert SessionRecord.from_json(record.to_json()).landmarks_found is None


def test_no_landmark_found_is_not_the_same_as_missing() -> None:
    assert SessionRecord.from_json(realistic(landmarks_found=0).to_json()).landmarks_found == 0


def test_a_field_of_a_later_release_is_passed_over() -> None:
    data = realistic().to_dict() | {"invented_later": {"x": 1}}
    assert SessionRecord.from_dict(data) == realistic()


@pytest.mark.parametrize("version", [0, RECORD_VERSION + 1, -1, "1", 1.0, True, None, [], {}])
def test_a_record_of_an_unknown_version_is_refused(version: Any) -> None:
    with pytest.raises(RecordError, match="version"):
        SessionRecord.from_dict(realistic().to_dict() | {"version": version})


def test_a_record_without_a_version_is_refused() -> None:
    data = realistic().to_dict()
    del data["version"]
    with pytest.raises(RecordError, match="version"):
        SessionRecord.from_dict(data)


FIELDS = [name for name in SessionRecord.__struct_fields__ if name != "version"]
WRONG: list[Any] = [5, True, 1.5, "Jane Doe", [1], {"a": "b"}, {"a": {"b": "c"}}, [{"x": 1}], [[1]]]


@for_each("name", FIELDS)
def test_a_field_of_the_wrong_type_is_refused_without_being_quoted(name: str) -> None:
    right = realistic().to_dict()
    refused = [error for value in WRONG if (error := _refusal(right | {name: value}))]
    assert "Jane" not in "".join(refused)
    # Text and numbers each have a form that is right; nothing takes more than three of these.
    assert len(refused) >= len(WRONG) - 3


def _refusal(data: Any) -> str:
    try:
        SessionRecord.from_dict(data)
    except RecordError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["session_id", "status", "started_ns", "ended_ns", "duration_seconds"])
def test_a_record_without_what_every_session_has_is_refused(name: str) -> None:
    data = realistic().to_dict()
    del data[name]
    with pytest.raises(RecordError):
        SessionRecord.from_dict(data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(number: str) -> None:
    text = realistic().to_json().replace('"duration_seconds":3.5', f'"duration_seconds":{number}')
    assert number in text
    with pytest.raises(RecordError):
        SessionRecord.from_json(text)


def test_predictions_of_unequal_length_are_refused() -> None:
    data = realistic().to_dict()
    data["predictions"][0]["labels"] = [1, 2]
    with pytest.raises(RecordError):
        SessionRecord.from_dict(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.text() | st.binary() | JSON.map(json.dumps))
@example("[" * 100_000)
@example("1" * 5000)
@example(b"\xff\xfe")
@example("")
def test_garbage_is_a_record_error(text: str | bytes) -> None:
    with pytest.raises(RecordError):
        SessionRecord.from_json(text)


@given(st.dictionaries(st.sampled_from([*FIELDS, "version"]), JSON))
def test_a_record_with_anything_in_its_fields_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        record = SessionRecord.from_dict(realistic().to_dict() | changes)
    except RecordError:
        return
    assert SessionRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("data", [None, [], "text", 5, object()])
def test_what_is_no_object_is_a_record_error(data: Any) -> None:
    with pytest.raises(RecordError):
        SessionRecord.from_dict(data)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_never_written(number: float) -> None:
    for record in (realistic(custom={"x": number}), realistic(queue_depth=number)):
        with pytest.raises(ValueError, match="not JSON compliant"):
            record.to_json()


def test_a_name_that_looks_like_a_missing_value_is_written_as_any_other() -> None:
    record = realistic(custom={"null": 1.0, "a:null": 2.0})
    assert SessionRecord.from_json(record.to_json()) == record


def test_half_a_character_is_refused_wherever_it_stands() -> None:
    for changes in ({"reason": "\ud800"}, {"context": {"sex": "\ud800"}}, {"custom": {"\udc00": 1.0}}):
        with pytest.raises(RecordError):
            SessionRecord.from_dict(realistic().to_dict() | changes)


def test_a_coarse_record_has_no_exact_length_and_no_exact_time() -> None:
    exact = realistic(
        started_ns=ENDED_NS - 4_000_000_000_000, measurements_mm={"PLL_R_FEM": 412.6, "PLL_L_FEM": 409.9},
        context={"age_years": 7.0, "rows": 3072.0, "columns": 1024.0, "row_spacing_mm": 0.143},
    )  # fmt: skip
    coarse = exact.coarsened()
    assert coarse.measurements_mm == {"PLL_R_FEM": 415.0, "PLL_L_FEM": 410.0}
    assert coarse.models[0].measurements_mm == {"PLL_R_FEM": 410.0}
    assert coarse.reader_mm == {"ef" * 16: {"PLL_R_FEM": 410.0}}
    assert coarse.predictions == ()
    assert coarse.context == {"age_years": 7.0, "row_spacing_mm": 0.143}
    hour_ns = 3600 * 10**9
    assert (coarse.started_ns % hour_ns, coarse.ended_ns % hour_ns) == (0, 0)
    assert 0 <= exact.ended_ns - coarse.ended_ns < hour_ns
    assert 0 <= exact.started_ns - coarse.started_ns < hour_ns
    assert coarse.coarsened() == coarse
    assert coarse.duration_seconds == exact.duration_seconds


def test_a_record_of_a_package_that_knew_no_versions_and_no_smallest_figure_is_read() -> None:
    written = realistic(system={"disk_free_bytes/store": Usage(1e9, 2e9)}).to_json()
    assert "version" not in written.replace('"version":1', "")
    assert "minimum" not in written
    read = SessionRecord.from_json(written)
    assert (read.application_version, read.models[0].version, read.models[0].digest) == (None, None, None)
    assert read.system["disk_free_bytes/store"].minimum is None
