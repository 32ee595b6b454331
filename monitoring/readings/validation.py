"""How well the stored measurements agree with readers': pairs from the store, their statistics, and the gauges.

Which sessions are compared is said in :mod:`monitoring.store.readings`, what is computed in
:mod:`monitoring.domain.agreement`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from monitoring.domain.agreement import (
    SHOWN_FROM_PAIRS,
    VERDICT_FROM_PAIRS,
    Agreement,
    Verdict,
    compare_readings,
    verdict,
)
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.domain.derivation import reading_errors
from monitoring.metrics import catalogue
from monitoring.metrics.samples import Change
from monitoring.records.session_record import SessionRecord
from monitoring.store import readings, totals
from monitoring.store.database import Database
from monitoring.store.readings import Compared

_FEW_READINGS: Final = 500
_REST_NS: Final = 3600 * 1_000_000_000
_KEYS_AT_ONCE: Final = 500
_NAMES: Final = tuple(metric.name for metric in catalogue.VALIDATION.values())


@dataclass(frozen=True, slots=True)
class Validation:
    """One measurement's agreement with readers. ``within_threshold_ratio`` is None without a pair."""

    measurement: str
    agreement: Agreement
    verdict: Verdict
    within_threshold_ratio: float | None = None


@dataclass(slots=True)
class _Pairs:
    ours_mm: list[float] = field(default_factory=list)
    reader_mm: list[float] = field(default_factory=list)
    within: list[bool] = field(default_factory=list)


def validate(sessions: Iterable[Compared]) -> list[Validation]:
    """Compare all measurements, each on its own, in the usual order."""
    pairs = {name: _Pairs() for name in MEASUREMENTS}
    for session in sessions:
        for error in reading_errors(session.record, session.reference_mm):
            of = pairs[error.measurement]
            of.ours_mm.append(session.record.measurements_mm[error.measurement])
            of.reader_mm.append(session.reference_mm[error.measurement])
            if error.within_threshold is not None:
                of.within.append(error.within_threshold)
    return [_validation(name, of) for name, of in pairs.items()]


def _validation(name: str, pairs: _Pairs) -> Validation:
    agreement = compare_readings(pairs.ours_mm, pairs.reader_mm)
    within = sum(pairs.within) / len(pairs.within) if pairs.within else None
    return Validation(name, agreement, verdict(agreement), within)


def gauge_changes(validations: Sequence[Validation]) -> list[Change]:
    """The gauges: the number of pairs always, statistics from 30 pairs on, failed criteria from 100 on."""
    return [
        Change(catalogue.VALIDATION[key].name, {"measurement": found.measurement}, "", float(value), replaces=True)
        for found in validations
        for key, value in _gauges(found)
        if value is not None
    ]


def _gauges(found: Validation) -> Iterator[tuple[str, float | None]]:
    agreement = found.agreement
    yield "pairs", agreement.pairs
    if agreement.pairs >= SHOWN_FROM_PAIRS:
        yield "bias", agreement.bias_mm
        yield "mae", agreement.mae_mm
        yield "lower_limit", agreement.lower_limit_mm
        yield "upper_limit", agreement.upper_limit_mm
        yield "icc", agreement.icc.icc_2_1
        yield "within_threshold", found.within_threshold_ratio
        yield "beyond_5_mm", agreement.beyond_5_mm_ratio
        yield "beyond_10_mm", agreement.beyond_10_mm_ratio
    if agreement.pairs >= VERDICT_FROM_PAIRS:
        yield "criteria_failed", len(found.verdict.failed)


def refresh(database: Database) -> list[Validation]:
    """Compute the gauges anew, and have them pushed where they have changed; raises :class:`StoreError`."""
    found = validate(readings.compared(database))
    changes = gauge_changes(found)
    with database.transaction(durable=False) as connection:
        is_changed = _shown(connection) != {
            (change.metric, change.labels["measurement"]): change.value for change in changes
        }
        # What has too few pairs now must not stay; nor may a clock that was once ahead keep old values.
        connection.executemany("DELETE FROM totals WHERE metric = ?", [(name,) for name in _NAMES])
        totals.apply_changes(connection, changes, time.time_ns())
        if is_changed:
            totals.bump_revision(connection)
    return found


def refresh_after(database: Database, records: Iterable[SessionRecord], is_in_a_hurry: bool = True) -> bool:
    """The same after sessions were committed, when one of them has a reading; whether it was done.

    A run must end soon: in a hurry, and with more than a few hundred readings, it is done once an hour at most.
    """
    keys = [key for record in records for key in record.exam_keys]
    with database.read_transaction() as connection:
        if not _has_reading(connection, keys):
            return False
        if is_in_a_hurry and _has_many_readings(connection) and _is_recent(connection):
            return False
    refresh(database)
    return True


def _has_reading(connection: sqlite3.Connection, keys: Sequence[str]) -> bool:
    if connection.execute("SELECT 1 FROM readings LIMIT 1").fetchone() is None:
        return False
    return any(
        readings.any_kept(connection, keys[start : start + _KEYS_AT_ONCE])
        for start in range(0, len(keys), _KEYS_AT_ONCE)
    )


def _has_many_readings(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT count(*) FROM (SELECT 1 FROM readings LIMIT ?)", (_FEW_READINGS + 1,)).fetchone()
    return int(found[0]) > _FEW_READINGS


def _is_recent(connection: sqlite3.Connection) -> bool:
    pairs = catalogue.VALIDATION["pairs"].name
    then_ns = connection.execute("SELECT max(time_ns) FROM totals WHERE metric = ?", (pairs,)).fetchone()[0]
    return then_ns is not None and 0 <= time.time_ns() - then_ns < _REST_NS


def _shown(connection: sqlite3.Connection) -> dict[tuple[str, str], float]:
    return {
        (name, dict(row.labels)["measurement"]): row.value
        for name in _NAMES
        for row in totals.read_metric(connection, name)
    }
