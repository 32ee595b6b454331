"""What a session's commit writes, and what becomes of a point that can't be written."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest

from monitoring import metrics_collector as collector
from monitoring.analytics.rederivation import rederive
from monitoring.domain import disagreement
from monitoring.domain.derivation import Facts
from monitoring.exceptions import EncodingError, RecordError
from monitoring.metrics.line_protocol import Point
from monitoring.metrics.samples import Change
from monitoring.metrics.session_writes import DerivedReader, DerivedValues, TransactionContext
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.store.database import Database
from monitoring.store.locks import LivenessLock
from monitoring.store.sessions import open_store
from tests.support.records import realistic

CONTEXT = TransactionContext(timestamp_ns=10**18, facts=Facts(sessions_last_hour=1), vocabulary=lambda _, value: value)
WRITE = collector.line


def losses(changes: object) -> list[Change]:
    assert isinstance(changes, list)
    return [change for change in changes if change.metric == "leglength_monitoring_dropped_total"]


def test_every_point_becomes_a_line_with_the_sessions_time() -> None:
    made = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))(realistic(), CONTEXT)
    encoded, count = made.lines["influxdb"]
    assert count == len(encoded.splitlines()) > 5
    assert all(line.endswith(b" 1000000000000000000") for line in encoded.splitlines())
    assert losses(made.changes) == []


def test_without_a_log_backend_no_line_is_made() -> None:
    assert SessionWritesBuilder({"instance": "here"}, log_backends=())(realistic(), CONTEXT).lines == {}


def test_a_point_that_cannot_be_written_is_lost_alone_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))(realistic(), CONTEXT).lines[
        "influxdb"
    ][1]

    def refuse_stages(point: Point, timestamp_ns: int) -> str:
        if point.measurement == "leglength_stage":
            raise EncodingError("no")
        return WRITE(point, timestamp_ns)

    monkeypatch.setattr(collector, "line", refuse_stages)
    made = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))(realistic(), CONTEXT)
    (loss,) = losses(made.changes)
    assert made.lines["influxdb"][1] == whole - round(loss.value)
    assert loss.labels == {"reason": "rejected"}


@pytest.fixture
def broken_formula(monkeypatch: pytest.MonkeyPatch, allow_outside_the_catalogue: list[str]) -> list[str]:
    """A fault in the formulas; and what the tests are told of it."""

    def fail(*_: object) -> None:
        raise OverflowError("intermediate overflow in fsum")

    monkeypatch.setattr(disagreement, "fuse", fail)
    return allow_outside_the_catalogue


def test_a_formula_that_fails_costs_no_session_what_the_record_states_itself(broken_formula: list[str]) -> None:
    made = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))(realistic(), CONTEXT)
    changed = {change.metric: change.value for change in made.changes}
    assert changed["leglength_sessions_total"] == 1.0
    assert changed["leglength_monitoring_formula_failures_total"] == 1.0
    assert changed["leglength_ensemble_mean_distance_millimeters"] == 1.5, "the host's own figure"
    assert b"leglength_measurement,instance=here,measurement=PLL_R_FEM millimeters=412.5 " in made.lines["influxdb"][0]
    assert not [name for name in changed if "quality" in name or "misses" in name]
    assert made.derived is None
    (told,) = broken_formula
    assert told.startswith(f"OverflowError at {__name__}:")


def test_a_process_that_died_in_a_session_of_which_nothing_can_be_computed_is_reported(
    broken_formula: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "monitoring.db"
    with open_store(Database(path)) as store:
        owner = LivenessLock(path)
        store.keep_open(realistic(status="crashed"), owner.token, durable=True)
        owner.close()
        assert store.report_crashed(SessionWritesBuilder()) == 1
        assert store.counts_by_status()["crashed"] == 1
        assert [stored.derived for stored in store.sessions()] == [None]
    assert broken_formula != []


def test_a_formula_that_fails_now_is_told_as_values_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allow_outside_the_catalogue: list[str]
) -> None:
    with open_store(Database(tmp_path / "monitoring.db")) as store:
        store.commit(realistic(), SessionWritesBuilder())
        monkeypatch.setattr(disagreement, "fuse", None)  # "NoneType" object is not callable
        (found,) = rederive(store)
    assert found.differences["leglength_quality_ratio"][1] is None
    assert "leglength_measurement_millimeters{measurement=PLL_R_FEM}" not in found.differences
    assert len(allow_outside_the_catalogue) == 1


KEPT = DerivedValues(
    7, Facts(earlier_runs=2, earlier_mm={"PLL_R_FEM": 411.0}), {"a{b=c}": 0.1, "large": 2.0**53, "small": -1e-300}
)


def test_derived_values_are_read_back_to_the_last_bit_all_or_some_of_them() -> None:
    data = KEPT.to_bytes()
    assert DerivedValues.from_bytes(data) == KEPT
    some = DerivedReader(["small", "another"])
    for _ in range(2):  # by the remembered list of names, too
        assert some(data) == DerivedValues(KEPT.formula, KEPT.facts, {"small": -1e-300})
    empty = DerivedValues(1)
    assert DerivedValues.from_bytes(empty.to_bytes()) == empty


def test_derived_values_of_before_are_read_the_same() -> None:
    compressed_json = zlib.compress(msgspec.json.encode(KEPT), level=1)
    assert DerivedValues.from_bytes(compressed_json) == KEPT
    assert DerivedReader(["large"])(compressed_json) == DerivedReader(["large"])(KEPT.to_bytes())


def test_no_damaged_byte_becomes_another_value() -> None:
    data = KEPT.to_bytes()
    damaged = [
        data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :] for place in range(len(data)) for bit in (1, 128)
    ]
    cut_off = [data[:length] for length in range(len(data))]
    for each in (*damaged, *cut_off, data + b"x", b"\x78 no zlib", zlib.compress(b"no json")):
        with pytest.raises(RecordError):
            DerivedValues.from_bytes(each)
