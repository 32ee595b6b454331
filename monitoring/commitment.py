"""What a session's commit writes: exact line-protocol bytes, the changes of the totals, and what was derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitoring import catalogue
from monitoring.admission import admitted
from monitoring.backends import is_used, site_label
from monitoring.config_sections import MonitoringConfig
from monitoring.derivation import FORMULA_VERSION
from monitoring.derived_values import DerivedValues
from monitoring.events import SessionRecord
from monitoring.exceptions import EncodingError
from monitoring.line_protocol import Point, line
from monitoring.metrics_collector import Change, Sample, changes, points, samples
from monitoring.outbox.store import CommitContext, Commitment


@dataclass(frozen=True, slots=True)
class CommitmentBuilder:
    """Builds commitments for one installation: the tags of all its points, and whether a log backend takes lines."""

    tags: Mapping[str, str] = field(default_factory=dict)
    writes_lines: bool = False

    @classmethod
    def of(cls, config: MonitoringConfig, instance: str) -> CommitmentBuilder:
        """For these settings."""
        return cls({"instance": instance, **site_label(config)}, is_used(config.influxdb))

    def __call__(self, record: SessionRecord, context: CommitContext) -> Commitment:
        """Derive a session's samples once, and write them down for each kind of backend."""
        found = admitted(samples(record, context.facts), context.admit)
        lines, refused = self.lines(found, record, context.timestamp_ns)
        derived = DerivedValues.of(FORMULA_VERSION, context.facts, found)
        return Commitment(lines, [*changes(found), *_loss(refused)], derived)

    def lines(
        self, found: Sequence[Sample], record: SessionRecord, timestamp_ns: int
    ) -> tuple[dict[str, tuple[bytes, int]], int]:
        """The samples' lines for each log backend, encoded and counted; and how many can't be written."""
        if not self.writes_lines:
            return {}, 0
        made = points(found, record, self.tags)
        encoded = [text for point in made if (text := _line(point, timestamp_ns)) is not None]
        lines = {"influxdb": ("\n".join(encoded).encode(), len(encoded))} if encoded else {}
        return lines, len(made) - len(encoded)


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
