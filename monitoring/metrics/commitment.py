"""What a commit writes, and what it is told: between the collector, which makes it, and the store, which keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from monitoring.domain.derivation import Facts
from monitoring.metrics.admission import Admit
from monitoring.metrics.derived_values import DerivedValues
from monitoring.metrics.samples import Change
from monitoring.records.session_record import SessionRecord


@dataclass(frozen=True, slots=True)
class Commitment:
    """What one session adds to the store: lines (encoded, counted) per log backend, changes of the totals, and
    what was derived of it.
    """

    lines: Mapping[str, tuple[bytes, int]]
    changes: Iterable[Change]
    derived: DerivedValues | None = None


@dataclass(frozen=True, slots=True)
class CommitContext:
    """What the session's points depend on and only the transaction knows."""

    timestamp_ns: int
    facts: Facts
    admit: Admit


Build = Callable[[SessionRecord, CommitContext], Commitment]
