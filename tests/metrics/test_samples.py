"""What lies outside the catalogue is folded into other, counted, and a fault of this package."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from monitoring.metrics import catalogue, samples
from monitoring.metrics.catalogue import OTHER, Label
from monitoring.metrics.samples import Sample, limit_cardinality
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.sessions import Store
from tests.support.records import realistic


def of_the_label(label: Label, value: str) -> str:
    """As the store does for a label that has no room left."""
    return value if value in label.values or value == OTHER else OTHER


def folded(found: list[Sample]) -> dict[str, float]:
    return {sample.labels["label"]: sample.value for sample in found if sample.metric is catalogue.FOLDED}


def test_what_is_in_the_catalogue_goes_through_as_it_is(outside_the_catalogue: list[str]) -> None:
    given = [Sample(catalogue.SESSIONS, 1.0, {"status": "failed"}), Sample(catalogue.SESSION_DURATION, 2.0)]
    assert limit_cardinality(given, of_the_label) == given
    assert outside_the_catalogue == []


def test_a_value_outside_a_closed_label_is_folded_and_counted_and_is_a_fault(
    allow_outside_the_catalogue: list[str],
) -> None:
    first, *rest = limit_cardinality([Sample(catalogue.SESSIONS, 1.0, {"status": "lost"})], of_the_label)
    assert first == Sample(catalogue.SESSIONS, 1.0, {"status": OTHER})
    assert folded(rest) == {"status": 1.0}
    assert allow_outside_the_catalogue == ["leglength_sessions_total, label status"]


def test_a_label_that_was_left_out_is_a_fault_too(allow_outside_the_catalogue: list[str]) -> None:
    found = limit_cardinality([Sample(catalogue.SESSIONS, 1.0)], of_the_label)
    assert found[0].labels == {"status": OTHER}
    assert folded(found) == {"status": 1.0}
    assert allow_outside_the_catalogue != []


def test_a_label_that_the_metric_does_not_have_is_left_out(outside_the_catalogue: list[str]) -> None:
    found = limit_cardinality([Sample(catalogue.SESSIONS, 1.0, {"status": "failed", "patient": "x"})], of_the_label)
    assert found[0].labels == {"status": "failed"}


def test_a_hosts_name_for_which_there_is_no_room_is_folded_and_counted_and_is_no_fault(
    outside_the_catalogue: list[str],
) -> None:
    given = [Sample(catalogue.CUSTOM, 1.0, {"name": name}) for name in ("one", "two")]
    found = limit_cardinality(given, of_the_label)
    assert [sample.labels for sample in found[:2]] == [{"name": OTHER}] * 2
    assert folded(found) == {"name": 2.0}
    assert outside_the_catalogue == []


def test_a_metric_that_is_not_declared_becomes_an_other_of_the_hosts_own(
    allow_outside_the_catalogue: list[str],
) -> None:
    invented = replace(catalogue.CUSTOM, name="leglength_invented")
    found = limit_cardinality([Sample(invented, 7.0, {"name": "x"})], of_the_label)
    assert found[0] == Sample(catalogue.CUSTOM, 7.0, {"name": OTHER})
    assert folded(found) == {"metric": 1.0}
    assert allow_outside_the_catalogue == ["leglength_invented"]


def test_in_production_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "on_violation", None)
    found = limit_cardinality([Sample(catalogue.SESSIONS, 1.0, {"status": "lost"})], of_the_label)
    assert found[0].labels == {"status": OTHER}


def test_every_label_that_can_be_folded_is_a_value_that_can_be_counted() -> None:
    names = {label.name for metric in catalogue.METRICS if metric is not catalogue.FOLDED for label in metric.labels}
    assert names | {"metric"} == set(catalogue.FOLDED.labels[0].values)


def test_the_store_holds_open_labels_to_their_limits_and_counts_what_it_folds(tmp_path: Path) -> None:
    store = Store(Database(tmp_path / "monitoring.db"))
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",))
    for number in range(100):
        custom = {f"name_{number}_{index}": 1.0 for index in range(5)}
        store.commit(realistic(session_id=str(number), custom=custom), builder)
    with store.database.read_transaction() as connection:
        names = totals.values(connection, catalogue.CUSTOM)
        lost = totals.values(connection, catalogue.FOLDED)
        lines = b"\n".join(row[0] for row in connection.execute("SELECT lines FROM outbox"))
    store.database.close()
    assert len(names) == catalogue.CUSTOM_NAME.limit + 1
    assert lost["name",] == 500 - catalogue.CUSTOM_NAME.limit
    tagged = {line.split(b" ")[0] for line in lines.split(b"\n") if line.startswith(b"leglength_custom")}
    assert len(tagged) == catalogue.CUSTOM_NAME.limit + 1


def test_a_name_that_is_one_only_when_trimmed_is_no_name(tmp_path: Path) -> None:
    store = Store(Database(tmp_path / "monitoring.db"))
    record = realistic(custom={"contrast": 1.0, "contrast ": 2.0, "contrast\x1c": 3.0})
    store.commit(record, SessionWritesBuilder({"instance": "here"}, log_backends=("influxdb",)))
    with store.database.read_transaction() as connection:
        names = totals.values(connection, catalogue.CUSTOM)
        lost = totals.values(connection, catalogue.MONITORING_DROPPED)
    store.database.close()
    assert set(names) == {("contrast",), (OTHER,)}
    assert lost == {}
