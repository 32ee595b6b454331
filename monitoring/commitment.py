"""What a session's commit writes: exact line-protocol bytes, and the changes of the totals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitoring.config_validator import MonitoringConfig
from monitoring.events import SessionRecord
from monitoring.line_protocol import line
from monitoring.metrics_collector import Sample, changes, points, samples
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
        if self.writes_lines:
            encoded = [line(point, context.timestamp_ns) for point in points(derived, record, self.instance)]
            lines["influxdb"] = ("\n".join(encoded).encode(), len(encoded))
        return Commitment(lines, changes(derived))


def _admitted(sample: Sample, context: CommitContext) -> Sample:
    if not sample.labels:
        return sample
    labels = {label.name: context.admit(label, sample.labels[label.name]) for label in sample.metric.labels}
    return sample if labels == sample.labels else replace(sample, labels=labels)
