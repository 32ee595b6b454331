"""What a session's commit writes: exact line-protocol bytes, the changes of the totals, and what was derived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitoring.code_location import code_location
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.exceptions import EncodingError
from monitoring.metrics import catalogue
from monitoring.metrics.admission import admitted, report
from monitoring.metrics.derived_values import DerivedValues
from monitoring.metrics.line_protocol import Point, line
from monitoring.metrics_collector import Change, Sample, changes, points, samples, stated_samples
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.routes import is_used, site_label
from monitoring.settings import MonitoringConfig
from monitoring.store.sessions import CommitContext, Commitment

_FORMULA_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


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
        all_samples, is_complete = computed(record, context.facts)
        found = admitted(all_samples, context.admit)
        lines, refused = self.lines(found, record, context.timestamp_ns)
        derived = DerivedValues.of(FORMULA_VERSION, context.facts, found) if is_complete else None
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


def computed(record: SessionRecord, facts: Facts) -> tuple[list[Sample], bool]:
    """All that is sent of a session; False, and what the record states itself, where a formula fails.

    No session must be lost for a fault in a formula; and each that can't be committed would come again as crashed.
    """
    try:
        return samples(record, facts), True
    except _FORMULA_ERRORS as error:
        report(f"{type(error).__name__} at {code_location(error)}")
        return [*stated_samples(record, facts), Sample(catalogue.FORMULA_FAILURES, 1.0)], False


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
