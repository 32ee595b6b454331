"""Readers' measurements in the store, and the sessions that they are compared with.

An exam is a study; where a session doesn't know its study, the accession number or the series stands for it. Each
measurement of an exam is compared once: in the completed session that was processed last, of those that have it and
for which a reading is known. So a series that is processed again, and a film that was taken again, count once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from monitoring.domain.agreement import LARGEST_MM
from monitoring.domain.statistics import mean
from monitoring.metrics.session_writes import DerivedValues
from monitoring.store.clock import EARLIEST_NS
from monitoring.store.database import Database
from monitoring.store.rows import SESSION_COLUMNS, StoredSession, checksum, is_intact, stored_session

NEWEST_SESSIONS: Final = 10_000
"""How many sessions with a reading are compared at most, the newest."""
NEW, CORRECTED, KNOWN = "new", "corrected", "known"
CHANGED: Final = "reading "
"""With a reading's key, what stands among the analysis' rows: it came, or was corrected, since the last look."""

_PAGE = 500
_SELECT = "SELECT key, reader, measurements, kept_ns, checksum FROM readings"
_KEY_COLUMNS = ("series_key", "study_key", "accession_key")
# CROSS JOIN holds SQLite to this order: it begins with the readings, of which there are few beside sessions.
_OF_ANY_READING = " UNION ".join(
    f"SELECT s.sequence, s.timestamp_ns FROM readings AS r CROSS JOIN sessions AS s ON s.{column} = r.key"  # noqa: S608
    f" WHERE s.{column} != '' AND s.status = 'completed'"
    for column in _KEY_COLUMNS
)
_HAS_NO_SESSION = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM sessions AS s WHERE s.{column} = r.key AND s.{column} != '')"  # noqa: S608
    for column in _KEY_COLUMNS
)


class Compared(StoredSession, frozen=True):
    """A session and the readers' mean of each measurement that is compared in it.

    ``record`` is without its models: ten thousand may be held at once.
    """

    reference_mm: Mapping[str, float] = {}


class Counts(Struct, frozen=True):
    """``readings`` by ``readers`` in the store, of which ``without_session`` wait for their session."""

    readings: int
    readers: int
    without_session: int


def counts(connection: sqlite3.Connection) -> Counts:
    """How many readings there are."""
    readings, readers = connection.execute("SELECT count(*), count(DISTINCT reader) FROM readings").fetchone()
    without = connection.execute(f"SELECT count(*) FROM readings AS r WHERE {_HAS_NO_SESSION}").fetchone()[0]  # noqa: S608
    return Counts(int(readings), int(readers), int(without))


def keep(
    connection: sqlite3.Connection, key: str, reader: str, measurements_mm: Mapping[str, float], now_ns: int
) -> str:
    """Keep a reading, or add to the one that is known: ``new``, ``corrected`` or ``known``."""
    row = connection.execute(f"{_SELECT} WHERE key = ? AND reader = ?", (key, reader)).fetchone()
    # A damaged one is as if it weren't there, and is written anew.
    known: dict[str, float] = json.loads(row[2]) if row is not None and is_intact(row) else {}
    if known and {**known, **measurements_mm} == known:
        return KNOWN
    # Sorted, so that the same measurements are the same bytes in whichever order they came.
    text = json.dumps(dict(sorted({**known, **measurements_mm}.items())), separators=(",", ":"))
    connection.execute(
        "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?)",
        (key, reader, text, now_ns, checksum(key, reader, text, now_ns)),
    )
    _note_change(connection, key)
    return CORRECTED if known else NEW


def keep_missing(connection: sqlite3.Connection, row: Sequence[Any]) -> bool:
    """Keep a row of another store's, whole, unless the reader's measurements of the exam are here; whether it was."""
    is_new = connection.execute("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?)", tuple(row)).rowcount == 1
    if is_new:
        _note_change(connection, row[0])
    return is_new


def _note_change(connection: sqlite3.Connection, key: str) -> None:
    """Note for an analysis that goes on from its last look, if there was one, which reading it must look at."""
    # Not by its instant: a clock may be set back, and of two processes the earlier instant may be committed later.
    was_looked = "EXISTS (SELECT 1 FROM analysis WHERE name = 'checkpoint')"
    connection.execute(
        f"INSERT OR REPLACE INTO analysis SELECT ?, randomblob(8), 0 WHERE {was_looked}",
        (CHANGED + key,),
    )


def by_reader(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """The readers' measurements of what any of the keys names, by reader; damaged ones are left out."""
    return _merged(_readings(connection, set(keys)), keys)


def mean_of_readers(readings: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each measurement's mean over the readers who took it; what is longer than a kilometre is none."""
    taken: dict[str, list[float]] = {}
    for measurements in readings.values():
        for name, millimeters in measurements.items():
            if abs(millimeters) <= LARGEST_MM:
                taken.setdefault(name, []).append(millimeters)
    return {name: mean(values) for name, values in taken.items()}


def means_of_readers(connection: sqlite3.Connection, exams: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """The mean of each exam's readers, exams being told by their keys."""
    kept = _readings(connection, {key for keys in exams for key in keys})
    return [mean_of_readers(_merged(kept, keys)) for keys in exams] if kept else [{}] * len(exams)


def compared(database: Database, newest: int = NEWEST_SESSIONS) -> Iterator[Compared]:
    """Every session that is compared, the newest first. No view of the store is held while the caller works."""
    with database.read_transaction() as connection:
        sequences = connection.execute(f"{_OF_ANY_READING} ORDER BY 2 DESC LIMIT ?", (newest,)).fetchall()
    taken: set[tuple[str, str]] = set()
    for start in range(0, len(sequences), _PAGE):
        with database.read_transaction() as connection:
            page = list(_compare(connection, [row[0] for row in sequences[start : start + _PAGE]], taken))
        yield from page


def compared_with(connection: sqlite3.Connection, keys: Iterable[str]) -> list[Compared]:
    """What is compared of the exams that readings under these keys are of."""
    exams = {exam for row in _sessions_of(connection, set(keys)) if (exam := next(filter(None, row[2:]), ""))}
    return list(_compare(connection, [row[0] for row in _sessions_of(connection, exams)], set()))


def known_keys(connection: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
    """Those of the keys that name a session, however it ended."""
    wanted = list(set(keys))
    return {
        row[0]
        for column in _KEY_COLUMNS
        for row in connection.execute(
            f"SELECT DISTINCT {column} FROM sessions WHERE {column} != '' AND {column} IN ({_marks(wanted)})",  # noqa: S608
            wanted,
        )
    }


def forget_before(connection: sqlite3.Connection, before_ns: int) -> None:
    """Delete readings that were kept before an instant, and whose session isn't there, or no longer."""
    connection.execute(
        # What was kept under a clock of 1970 isn't known to be old.
        f"DELETE FROM readings AS r WHERE kept_ns < ? AND kept_ns >= ? AND {_HAS_NO_SESSION}",  # noqa: S608 - a constant
        (before_ns, EARLIEST_NS),
    )


def any_kept(connection: sqlite3.Connection, keys: Sequence[str]) -> bool:
    """Whether there is a reading under one of the keys."""
    query = f"SELECT 1 FROM readings WHERE key IN ({_marks(keys)}) LIMIT 1"  # noqa: S608
    return connection.execute(query, keys).fetchone() is not None


def set_derived(connection: sqlite3.Connection, sequence: int, derived: DerivedValues) -> None:
    """Replace what was derived of a session, once more is known of it."""
    # The row's checksum stays as it is: these bytes have zlib's own.
    connection.execute("UPDATE sessions SET derived = ? WHERE sequence = ?", (derived.to_bytes(), sequence))


def _sessions_of(connection: sqlite3.Connection, keys: set[str]) -> list[tuple[int, int, str, str, str]]:
    """The completed sessions under any of the keys: sequence, time; then study, accession and series."""
    wanted = list(keys)
    union = " UNION ".join(
        f"SELECT sequence, timestamp_ns, study_key, accession_key, series_key FROM sessions WHERE {column} != ''"  # noqa: S608
        f" AND status = 'completed' AND {column} IN ({_marks(wanted)})"
        for column in _KEY_COLUMNS
    )
    return connection.execute(f"{union} ORDER BY 2 DESC LIMIT {NEWEST_SESSIONS}", wanted * len(_KEY_COLUMNS)).fetchall()


def _compare(
    connection: sqlite3.Connection, sequences: Sequence[int], taken: set[tuple[str, str]]
) -> Iterator[Compared]:
    """Compare sessions, the newest first; ``taken`` is what newer ones had of an exam, and grows."""
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS} FROM sessions WHERE sequence IN ({_marks(sequences)})",  # noqa: S608
        sequences,
    )
    stored = [
        Compared(one.sequence, one.timestamp_ns, one.record.without_models(), one.is_routed, one.derived_bytes)
        for one in map(stored_session, rows)
        if one is not None
    ]
    stored.sort(key=lambda found: found.timestamp_ns, reverse=True)
    means_mm = means_of_readers(connection, [found.record.exam_keys for found in stored])
    for found, reader_mm in zip(stored, means_mm, strict=True):
        record = found.record
        exam = record.study_key or record.accession_key or record.series_key
        names = [name for name in reader_mm if name in record.measurements_mm and (exam, name) not in taken]
        taken.update((exam, name) for name in names)
        if names:
            yield replace(found, reference_mm={name: reader_mm[name] for name in names})


_Kept = tuple[int, str, dict[str, float]]


def _readings(connection: sqlite3.Connection, keys: set[str]) -> dict[str, list[_Kept]]:
    """The readings under each key: when it was kept, the reader, the measurements."""
    wanted = list(keys)
    found: dict[str, list[_Kept]] = {}
    for row in connection.execute(f"{_SELECT} WHERE key IN ({_marks(wanted)})", wanted):
        if is_intact(row):
            key, reader, text, kept_ns, _ = row
            found.setdefault(key, []).append((kept_ns, reader, json.loads(text)))
    return found


def _merged(readings: Mapping[str, list[_Kept]], keys: Iterable[str]) -> dict[str, dict[str, float]]:
    """By reader, whatever the key; what was kept last counts."""
    merged: dict[str, dict[str, float]] = {}
    kept = [item for key in keys for item in readings.get(key, ())]
    for _, reader, measurements in sorted(kept, key=lambda item: item[0]):
        merged.setdefault(reader, {}).update(measurements)
    return merged


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
