"""Stores of many exams: a few thousand simulated sessions, in another order and under other keys as often as needed."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.metrics.session_writes import DerivedValues
from monitoring.metrics_collector import computed
from monitoring.records.session_record import SessionRecord
from monitoring.store import readings
from monitoring.store.database import Database
from monitoring.store.rows import checksum

SEED = 1
NOW = datetime(2026, 11, 20, 18, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
DIFFERENT = 3_000
SENT_TWICE = 0.015
_SECOND_NS = 10**9
_OPENS_NS, _OPEN_NS = 8 * 3600 * _SECOND_NS, 9 * 3600 * _SECOND_NS
_SESSION = (
    "INSERT INTO sessions (session_id, status, timestamp_ns, ended_ns, routed, record, checksum, series_key, study_key,"
    " patient_key, accession_key, derived, kept_ns) VALUES (?, ?, ?, ?, 'influxdb', ?, ?, ?, ?, ?, ?, ?, ?)"
)

Pool = Sequence[tuple[SessionRecord, bytes]]
"""Sessions, each with what is derived of it."""


def pool(folder: Path) -> Pool:
    """Sessions of a clinic without a fault, nine tenths of them measured by three models; equal ones at each call."""
    from simulation.history import Plan, base_records, simulate  # whose memory is not the analysis'

    plan = Plan(NOW, days=DIFFERENT // 10, seed=SEED, fewest_a_day=14, most_a_day=20, outage=False, changes=False)
    found = []
    for record in simulate(plan, base_records(folder)):
        facts = Facts(reader_mm=readings.mean_of_readers(record.reader_mm))
        derived = DerivedValues.of(FORMULA_VERSION, facts, computed(record, facts)[0])
        found.append((record, derived.to_bytes()))
    return found[:DIFFERENT]


def fill(path: Path, exams: Pool, count: int, a_day: float) -> int:
    """A store of ``count`` delivered sessions, so many each working day until now; returns the last one's instant."""
    generator = random.Random(SEED)
    instants = sorted(_instants(generator, count, a_day))
    database = Database(path)
    with database.transaction() as connection:
        connection.execute("PRAGMA cache_size = -500000")
        key = ""
        for number, ended_ns in enumerate(instants):
            record, derived = generator.choice(exams)
            if not key or generator.random() >= SENT_TWICE:
                key = f"{number:032x}"
            add(connection, *_varied(record, derived, generator), number, key, ended_ns)
    database.close()
    return instants[-1]


def _varied(record: SessionRecord, derived: bytes, generator: random.Random) -> tuple[SessionRecord, bytes]:
    """The same exam but for its last digits: equal values would be ranked in another time than an exam's own."""
    factor = 1.0 - 1e-4 * generator.random()

    def other(values: Mapping[str, float]) -> dict[str, float]:
        return {name: value if value == int(value) else value * factor for name, value in values.items()}

    kept = DerivedValues.from_bytes(derived)
    seconds = [None if model.inference_seconds is None else model.inference_seconds * factor for model in record.models]
    models = [
        replace(model, inference_seconds=its_seconds, measurements_mm=other(model.measurements_mm))
        for model, its_seconds in zip(record.models, seconds, strict=True)
    ]
    made = replace(
        record, models=tuple(models), measurements_mm=other(record.measurements_mm),
        stages_seconds=other(record.stages_seconds), duration_seconds=record.duration_seconds * factor,
    )  # fmt: skip
    return made, replace(kept, values=other(kept.values)).to_bytes()


def add(
    connection: sqlite3.Connection, record: SessionRecord, derived: bytes, number: int, key: str, ended_ns: int
) -> None:
    """A session's rows, as its commit leaves them once its lines are delivered."""
    its_key = {name: key if getattr(record, name) else None for name in ("study_key", "patient_key", "accession_key")}
    started_ns = ended_ns - round(record.duration_seconds * _SECOND_NS)
    made = replace(
        record, session_id=f"{number:032x}", series_key=key, started_ns=started_ns, ended_ns=ended_ns, **its_key
    )
    text = made.to_json()
    keys = [made.series_key, made.study_key or "", made.patient_key or "", made.accession_key or ""]
    row = (made.session_id, made.status, ended_ns, ended_ns, text, checksum(ended_ns, text), *keys, derived, ended_ns)
    connection.execute(_SESSION, row)
    for reader, measurements_mm in made.reader_mm.items():
        readings.keep(connection, key, reader, measurements_mm, ended_ns)


def add_one_like(connection: sqlite3.Connection, number: int, ended_ns: int) -> None:
    """One more exam, as one that is stored already."""
    text, derived = connection.execute(
        "SELECT record, derived FROM sessions WHERE status = 'completed' ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    add(connection, SessionRecord.from_json(text), derived, number, f"{number:032x}", ended_ns)


def _instants(generator: random.Random, count: int, a_day: float) -> Iterator[int]:
    """Within the opening hours of working days, the last day first."""
    day, owed, left = NOW.replace(hour=0), 0.0, count
    while left:
        day -= timedelta(days=1)
        if day.weekday() >= 5:
            continue
        owed += a_day
        taken = min(int(owed), left)
        owed, left = owed - taken, left - taken
        start_ns = int(day.timestamp()) * _SECOND_NS + _OPENS_NS
        yield from (start_ns + at for at in generator.sample(range(_OPEN_NS), taken))
