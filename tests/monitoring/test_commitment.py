"""What a session's commit writes, and what becomes of a point that can't be written."""

from __future__ import annotations

import pytest

from monitoring import commitment
from monitoring.commitment import CommitmentBuilder
from monitoring.derivation import Facts
from monitoring.exceptions import EncodingError
from monitoring.line_protocol import Point
from monitoring.metrics_collector import Change
from monitoring.outbox.store import CommitContext
from tests.monitoring.samples import realistic

CONTEXT = CommitContext(timestamp_ns=10**18, facts=Facts(sessions_last_hour=1), admit=lambda _, value: value)
WRITE = commitment.line


def losses(changes: object) -> list[Change]:
    assert isinstance(changes, list)
    return [change for change in changes if change.metric == "leglength_monitoring_dropped_total"]


def test_every_point_becomes_a_line_with_the_sessions_time() -> None:
    made = CommitmentBuilder({"instance": "here"}, writes_lines=True)(realistic(), CONTEXT)
    encoded, count = made.lines["influxdb"]
    assert count == len(encoded.splitlines()) > 5
    assert all(line.endswith(b" 1000000000000000000") for line in encoded.splitlines())
    assert losses(made.changes) == []


def test_without_a_log_backend_no_line_is_made() -> None:
    assert CommitmentBuilder({"instance": "here"}, writes_lines=False)(realistic(), CONTEXT).lines == {}


def test_a_point_that_cannot_be_written_is_lost_alone_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CommitmentBuilder({"instance": "here"}, writes_lines=True)(realistic(), CONTEXT).lines["influxdb"][1]

    def refuse_stages(point: Point, timestamp_ns: int) -> str:
        if point.measurement == "leglength_stage":
            raise EncodingError("no")
        return WRITE(point, timestamp_ns)

    monkeypatch.setattr(commitment, "line", refuse_stages)
    made = CommitmentBuilder({"instance": "here"}, writes_lines=True)(realistic(), CONTEXT)
    (loss,) = losses(made.changes)
    assert made.lines["influxdb"][1] == whole - round(loss.value)
    assert loss.labels == {"reason": "rejected"}
