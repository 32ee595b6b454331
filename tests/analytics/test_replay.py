"""The totals, computed again, end where the store's own are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.analytics.replay import totals_over_time
from monitoring.metrics.samples import zero_changes
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.records.session_record import Failure
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.sessions import Store, open_store
from tests.support.records import ENDED_NS, realistic

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three sessions a day apart, kept in another order than that of their time, and the counters at 0."""
    with open_store(Database(tmp_path / "monitoring.db")) as store:
        store.initialise(zero_changes())
        for day in (1, 0, 2):
            ended_ns = ENDED_NS + day * 24 * HOUR_NS
            record = realistic(session_id=f"{day:032x}", started_ns=ended_ns - HOUR_NS, ended_ns=ended_ns)
            if day == 2:
                failed = {"status": "failed", "reason": "not_dicom", "failure": Failure("E", "load")}
                record = realistic(session_id=f"{day:032x}", ended_ns=ended_ns, **failed)
            assert store.commit(record, SessionWritesBuilder())
        yield store


def test_the_last_moment_leaves_what_the_store_holds(store: Store) -> None:
    state = {}
    for moment in totals_over_time(store):
        state |= {(one.metric, tuple(sorted(one.labels.items())), one.part): one.value for one in moment.changed}
    with store.database.read_transaction() as connection:
        kept = {(row.metric, row.labels, row.part): row.value for row in totals.read(connection)}
    assert state == pytest.approx(kept)


def test_the_moments_come_in_the_order_of_time_and_begin_at_0(store: Store) -> None:
    first, *rest = totals_over_time(store)
    assert {total.value for total in first.changed} == {0.0}
    assert first.at_ns == ENDED_NS - HOUR_NS  # the first session's start
    assert [moment.at_ns for moment in rest] == [ENDED_NS + day * 24 * HOUR_NS for day in range(3)]
    completed = [
        total.value
        for moment in rest
        for total in moment.changed
        if total.metric == "leglength_sessions_total" and total.labels == {"status": "completed"}
    ]
    assert completed == [1.0, 2.0]


def test_a_span_holds_its_own_sessions_alone(store: Store) -> None:
    day_ns = 24 * HOUR_NS
    moments = list(totals_over_time(store, ENDED_NS + day_ns, ENDED_NS + 2 * day_ns))
    assert [moment.at_ns for moment in moments[1:]] == [ENDED_NS + day_ns]
    assert not list(totals_over_time(store, ENDED_NS + 3 * day_ns))
