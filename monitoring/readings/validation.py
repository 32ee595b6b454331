"""How well the stored measurements agree with readers': pairs from the store, their statistics, and the gauges.

Which sessions are compared is said in :mod:`monitoring.store.readings`, what is computed in
:mod:`monitoring.domain.agreement`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

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

# A run waits for the comparison at its end: of more than these it is done for later runs, once an hour.
_FEW_READINGS: Final = 500
_REST_NS: Final = 3600 * 1_000_000_000
_KEYS_AT_ONCE: Final = 500
_NAMES: Final = tuple(metric.name for metric in catalogue.VALIDATION.values())


class Validation(Struct, frozen=True):
    """One measurement's agreement with readers. ``within_threshold_ratio`` is None without a pair."""

    measurement: str
    agreement: Agreement
    verdict: Verdict
    within_threshold_ratio: float | None = None


class _Pairs(Struct):
    ours_mm: list[float] = []
    reader_mm: list[float] = []
    within: list[bool] = []


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
    validations = []
    for name, of in pairs.items():
        agreement = compare_readings(of.ours_mm, of.reader_mm)
        within = sum(of.within) / len(of.within) if of.within else None
        validations.append(Validation(name, agreement, verdict(agreement), within))
    return validations


def gauge_changes(validations: Sequence[Validation]) -> list[Change]:
    """The gauges: the number of pairs always, statistics from 30 pairs on, failed criteria from 100 on."""
    changes: list[Change] = []
    for found in validations:
        of, labels = found.agreement, {"measurement": found.measurement}
        gauges: dict[str, float | None] = {"pairs": of.pairs}
        if of.pairs >= SHOWN_FROM_PAIRS:
            gauges |= {
                "bias": of.bias_mm,
                "mae": of.mae_mm,
                "lower_limit": of.lower_limit_mm,
                "upper_limit": of.upper_limit_mm,
                "icc": of.icc.icc_2_1,
                "within_threshold": found.within_threshold_ratio,
                "beyond_5_mm": of.beyond_5_mm_ratio,
                "beyond_10_mm": of.beyond_10_mm_ratio,
            }
        if of.pairs >= VERDICT_FROM_PAIRS:
            gauges["criteria_failed"] = len(found.verdict.failed)
        changes += [
            Change(catalogue.VALIDATION[key].name, labels, "", float(value), replaces=True)
            for key, value in gauges.items()
            if value is not None
        ]
    return changes


def refresh(database: Database) -> list[Validation]:
    """Compute the gauges anew, and have them pushed where they have changed; raises :class:`StoreError`."""
    found = validate(readings.compared(database))
    changes = gauge_changes(found)
    # Not durable: it can be computed again at any time. Read before it is replaced, so that an unchanged validation
    # pushes nothing.
    with database.transaction(durable=False) as connection:
        shown = {
            (name, dict(total.labels)["measurement"]): total.value
            for name in _NAMES
            for total in totals.read(connection, name)
        }
        is_changed = shown != {(change.metric, change.labels["measurement"]): change.value for change in changes}
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
        pages = range(0, len(keys), _KEYS_AT_ONCE)
        if not any(readings.any_kept(connection, keys[start : start + _KEYS_AT_ONCE]) for start in pages):
            return False
        if is_in_a_hurry and _can_wait(connection):
            return False
    refresh(database)
    return True


def _can_wait(connection: sqlite3.Connection) -> bool:
    """Whether there is much to compute, and it was done not long ago."""
    count = "SELECT count(*) FROM (SELECT 1 FROM readings LIMIT ?)"
    is_much = connection.execute(count, (_FEW_READINGS + 1,)).fetchone()[0] > _FEW_READINGS
    pairs = catalogue.VALIDATION["pairs"].name
    then_ns = connection.execute("SELECT max(time_ns) FROM totals WHERE metric = ?", (pairs,)).fetchone()[0]
    return is_much and then_ns is not None and 0 <= time.time_ns() - then_ns < _REST_NS
