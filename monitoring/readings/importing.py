"""Puts readings into the store, and tells the backends of sessions that were committed before their reading came.

The error belongs to the exam's time: its lines carry the session's own timestamp, so that a repeat overwrites itself.
What a session was told before is kept in its derived values; so a reading is told once, however often it comes.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from monitoring.domain.derivation import reading_errors
from monitoring.metrics.session_writes import DerivedValues
from monitoring.metrics_collector import SessionWritesBuilder, changes, reading_samples
from monitoring.readings import validation
from monitoring.readings.parsing import KeyedReading
from monitoring.store import clock, readings, totals
from monitoring.store.database import Database
from monitoring.store.outbox import enqueue
from monitoring.store.readings import Compared

# What was done stays when the import is interrupted, and the same import goes on from there.
_PIECE: Final = 100  # a running host waits for the store no longer than for one of these


class ImportedReadings(Struct):
    """What became of the readings: ``kept`` by what they were (``new``, ``corrected``, ``known``), and who waits.

    ``sessions`` were compared; ``without_session`` wait for theirs; ``not_compared`` have one, but with nothing of
    theirs to compare: it was not completed, measured something else, or a later series of the exam is compared.
    """

    kept: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    without_session: int = 0
    not_compared: int = 0
    told: int = 0


def import_readings(database: Database, build: SessionWritesBuilder, found: Sequence[KeyedReading]) -> ImportedReadings:
    """Keep readings, compare them with the sessions that are there, and refresh the validation's gauges.

    Raises :class:`StoreError`; what was done until then stays, and the same import goes on from there.
    """
    imported = ImportedReadings()
    sequences: set[int] = set()
    for start in range(0, len(found), _PIECE):
        with database.transaction() as connection:
            _import_piece(connection, build, found[start : start + _PIECE], imported, sequences)
    imported.sessions = len(sequences)
    validation.refresh(database)
    return imported


def _import_piece(
    connection: sqlite3.Connection,
    build: SessionWritesBuilder,
    piece: Sequence[KeyedReading],
    imported: ImportedReadings,
    sequences: set[int],
) -> None:
    now_ns = clock.advance(connection, clock.look()).now_ns
    states = [readings.keep(connection, item.key, item.reader, item.measurements_mm, now_ns) for item in piece]
    imported.kept.update(states)
    changed = {item.key for item, state in zip(piece, states, strict=True) if state != readings.KNOWN}
    keys = {item.key for item in piece}
    matched: set[str] = set()
    # Also sessions of the same exam that no reading here names: another film may now be the one that is compared.
    for session in readings.compared_with(connection, keys):
        own = keys.intersection(session.record.exam_keys)
        if own:
            matched |= own
            sequences.add(session.sequence)
        imported.told += _tell(connection, build, session, not changed.isdisjoint(own), now_ns)
    waiting = keys - matched - readings.known_keys(connection, keys)
    imported.without_session += sum(item.key in waiting for item in piece)
    imported.not_compared += sum(item.key not in matched | waiting for item in piece)


def _tell(
    connection: sqlite3.Connection, build: SessionWritesBuilder, session: Compared, is_changed: bool, now_ns: int
) -> bool:
    """Enqueue what is new in a session's comparison; whether there was anything."""
    derived, news = session.derived, dict(session.reference_mm)
    if derived is not None:
        news = {name: mean for name, mean in news.items() if derived.facts.reader_mm.get(name) != mean}
    if not news or (derived is None and not is_changed):  # a version that knew no readings kept nothing to compare with
        return False
    found = list(reading_samples(reading_errors(session.record, news)))
    if session.is_routed:  # what is not will be routed with all that is derived of it
        lines, _ = build.lines(found, session.record, session.timestamp_ns)
        for backend, (encoded, count) in lines.items():
            enqueue(connection, backend, session.record.session_id, now_ns, encoded, count)
    if derived is not None and (build.log_backends or not session.is_routed):
        facts = replace(derived.facts, reader_mm={**derived.facts.reader_mm, **news})
        values = {**derived.values, **DerivedValues.of(derived.formula, facts, found).values}
        readings.set_derived(connection, session.sequence, DerivedValues(derived.formula, facts, values))
    # At the exam's time, so that an older exam's reading does not pass for the latest comparison.
    totals.apply_changes(connection, changes(found), session.timestamp_ns)
    totals.bump_revision(connection)
    return True
