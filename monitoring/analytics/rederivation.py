"""Computes stored sessions' metrics again under the present formulas, and says what differs from what was delivered.

Only reads: what was delivered stays as it is, in the backends and in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.metrics.samples import limit_cardinality
from monitoring.metrics.session_writes import DerivedValues, changed
from monitoring.metrics_collector import computed
from monitoring.store.sessions import Store
from monitoring.store.vocabulary import stored_vocabulary

Difference = tuple[float | None, float | None]


class Rederived(Struct, frozen=True):
    """One session: the formulas' version that it was delivered under, and (before, now) of each value that differs."""

    session_id: str
    formula_before: int | None
    differences: Mapping[str, Difference] = {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "session_id": self.session_id,
            "formula_before": self.formula_before,
            "formula_now": FORMULA_VERSION,
            "differences": {name: list(pair) for name, pair in self.differences.items()},
        }


def rederive(store: Store, limit: int | None = None) -> Iterator[Rederived]:
    """The stored sessions, newest first, computed again; raises :class:`StoreError`."""
    with store.database.read_transaction() as connection:
        vocabulary = stored_vocabulary(connection)
    for stored in store.sessions(limit):
        session_id, before = stored.record.session_id, stored.derived
        # Told, not left out: of it nothing can be said.
        if before is None:
            yield Rederived(session_id, None)
            continue
        # From the facts of then: what the store knows of other sessions by now is not what the formulas would change.
        found, _ = computed(stored.record, before.facts)
        now = DerivedValues.of(FORMULA_VERSION, before.facts, limit_cardinality(found, vocabulary))
        yield Rederived(session_id, before.formula, changed(before.values, now.values))


class Summary(Struct):
    """Many sessions' differences, by metric."""

    sessions: int = 0
    differing: int = 0
    unknown: int = 0
    """Sessions of a version that didn't keep what it had computed."""
    by_metric: dict[str, tuple[int, float]] = {}
    """How many values differ, and the largest difference among those that both have."""

    @classmethod
    def of(cls, found: Iterable[Rederived]) -> Summary:
        """Count them."""
        summary = cls()
        for one in found:
            summary.sessions += 1
            summary.unknown += one.formula_before is None
            summary.differing += bool(one.differences)
            for name, (before, now) in one.differences.items():
                metric = name.partition("{")[0]
                count, largest = summary.by_metric.get(metric, (0, 0.0))
                # A value that came or went has no size of a difference; it counts as one that differs.
                difference = 0.0 if before is None or now is None else abs(now - before)
                summary.by_metric[metric] = (count + 1, max(largest, difference))
        return summary
