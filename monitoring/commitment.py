"""What a session's commit writes: exact line-protocol bytes, and the changes of the totals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitoring import catalogue
from monitoring.config_sections import MonitoringConfig
from monitoring.events import SessionRecord
from monitoring.exceptions import EncodingError
from monitoring.line_protocol import Point, line
from monitoring.metrics_collector import Change, Sample, changes, points, samples
from monitoring.outbox.store import CommitContext, Commitment


@dataclass(frozen=True, slots=True)
class CommitmentBuilder:
    """Builds commitments for one installation: its instance name, and whether a log backend takes lines."""

    instance: str
    writes_lines: bool

    @classmethod
    def of(cls, config: MonitoringConfig, instance: str) -> CommitmentBuilder:
        """For these settings."""
        return cls(instance, config.influxdb is not None and config.influxdb.enabled)

    def __call__(self, record: SessionRecord, context: CommitContext) -> Commitment:
        """Derive a session's samples once, and write them down for each kind of backend."""
        derived = [_admitted(sample, context) for sample in samples(record, context.sessions_last_hour)]
        lines: dict[str, tuple[bytes, int]] = {}
        refused = 0
        if self.writes_lines:
            found = points(derived, record, self.instance)
            encoded = [text for point in found if (text := _line(point, context.timestamp_ns)) is not None]
            refused = len(found) - len(encoded)
            if encoded:
                lines["influxdb"] = ("\n".join(encoded).encode(), len(encoded))
        return Commitment(lines, [*changes(derived), *_loss(refused)])


def _line(point: Point, timestamp_ns: int) -> str | None:
    """A point's line; None when it can't be written without changing it, so that it alone is lost."""
    try:
        return line(point, timestamp_ns)
    except EncodingError:
        return None


def _loss(refused: int) -> list[Change]:
    if not refused:
        return []
    return [Change(catalogue.MONITORING_DROPPED.name, {"reason": "rejected"}, "", float(refused), replaces=False)]


def _admitted(sample: Sample, context: CommitContext) -> Sample:
    if not sample.labels:
        return sample
    labels = {label.name: context.admit(label, sample.labels[label.name]) for label in sample.metric.labels}
    return sample if labels == sample.labels else replace(sample, labels=labels)
