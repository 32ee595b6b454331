"""The store's tables, as numbered migrations. A released migration is never changed.

A store is brought up to date when it is opened to be written. One of a newer version is used as it is where that only
added what can be left out (:data:`USABLE_FROM`), so that an older image goes on working beside a newer one; any other
is left alone. What the columns mean is told here; which rows carry a checksum, and why, in
``docs/decisions/0012-a-checksum-on-what-leaves-the-store.md``.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache

from monitoring.exceptions import StoreCorruptError, StoreError, StoreVersionError

# `sessions.routed` names the log backends whose lines were made, so that a relay can make them later for a host that
# knew no backend. `state` without a checksum is the revision, where any change means "push again".
_FIRST = """
CREATE TABLE state (key TEXT PRIMARY KEY, value, checksum INTEGER) WITHOUT ROWID;
CREATE TABLE sessions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    timestamp_ns INTEGER NOT NULL UNIQUE,
    ended_ns INTEGER NOT NULL,
    routed TEXT NOT NULL,
    record TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX sessions_by_end ON sessions (ended_ns);
CREATE INDEX sessions_not_routed ON sessions (sequence) WHERE routed = '';
CREATE TABLE open_sessions (
    session_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    updated_ns INTEGER NOT NULL,
    record TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    backend TEXT NOT NULL,
    session_id TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    line_count INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    lines BLOB NOT NULL
);
CREATE INDEX outbox_by_backend ON outbox (backend, id, line_count);
CREATE INDEX outbox_by_session ON outbox (session_id);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    backend TEXT NOT NULL,
    line TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX dead_letters_by_backend ON dead_letters (backend);
CREATE TABLE totals (
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    part TEXT NOT NULL,
    value REAL NOT NULL,
    time_ns INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (metric, labels, part)
) WITHOUT ROWID;
CREATE TABLE vocabulary (label TEXT, value TEXT, PRIMARY KEY (label, value)) WITHOUT ROWID;
CREATE TABLE backends (
    name TEXT PRIMARY KEY,
    lease_owner TEXT,
    lease_until_ns INTEGER NOT NULL DEFAULT 0,
    consecutive_failures INTEGER NOT NULL DEFAULT 0,
    next_attempt_ns INTEGER NOT NULL DEFAULT 0,
    last_success_ns INTEGER,
    last_error TEXT,
    pushed_sequence INTEGER NOT NULL DEFAULT 0,
    pushed_revision INTEGER NOT NULL DEFAULT -1,
    checksum INTEGER
) WITHOUT ROWID;
INSERT INTO state VALUES ('revision', 0, NULL);
"""

# The record's keyed hashes, to find a series' or a patient's other sessions by. `derived` is what was computed of the
# session when it was committed, by which formulas and from which facts of the store: a compressed, checked text.
# This step writes every session anew, once: about 4 s for 100,000 of them with an ensemble's predictions, and as much
# space in the journal as the store has.
_KEYS_AND_READINGS = """
ALTER TABLE sessions ADD COLUMN series_key TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN study_key TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN patient_key TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN accession_key TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN derived BLOB;
UPDATE sessions SET series_key = CASE WHEN json_valid(record) THEN coalesce(json_extract(record, '$.series_key'), '')
    ELSE '' END;
CREATE INDEX sessions_by_series ON sessions (series_key, sequence) WHERE series_key != '';
CREATE INDEX sessions_by_study ON sessions (study_key, sequence) WHERE study_key != '';
CREATE INDEX sessions_by_patient ON sessions (patient_key, ended_ns) WHERE patient_key != '';
CREATE INDEX sessions_by_accession ON sessions (accession_key, sequence) WHERE accession_key != '';
CREATE TABLE readings (
    key TEXT NOT NULL,
    reader TEXT NOT NULL,
    measurements TEXT NOT NULL,
    kept_ns INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (key, reader)
) WITHOUT ROWID
"""

# Whose line was refused, so that erasing a patient finds it by the session. A line ends with its session's own instant,
# by which that of an older letter is found; of a session that has left the store it is not known any more.
# `outbox.counted_lost` is the reason under which a requeued line was counted as lost when it was refused before.
# Age is counted from `sessions.kept_ns` and `vocabulary_seen.seen_ns`, in the time of :mod:`monitoring.store.clock`.
# An older version's session is as old as the latest that was committed until then.
_CAUSES_AND_AGES = """
ALTER TABLE dead_letters ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
UPDATE dead_letters SET session_id = coalesce((SELECT s.session_id FROM sessions AS s WHERE s.timestamp_ns
    = CAST(substr(dead_letters.line, length(rtrim(dead_letters.line, '0123456789')) + 1) AS INTEGER)), '');
CREATE INDEX dead_letters_by_session ON dead_letters (session_id);
ALTER TABLE outbox ADD COLUMN counted_lost TEXT NOT NULL DEFAULT '';
CREATE TABLE vocabulary_seen (label TEXT, value TEXT, seen_ns INTEGER NOT NULL, PRIMARY KEY (label, value))
    WITHOUT ROWID;
ALTER TABLE sessions ADD COLUMN kept_ns INTEGER;
UPDATE sessions SET kept_ns = until.newest_ns FROM (SELECT sequence, max(CAST(ended_ns AS INTEGER)) OVER
    (ORDER BY sequence) AS newest_ns FROM sessions) AS until WHERE until.sequence = sessions.sequence;
CREATE INDEX sessions_by_kept ON sessions (kept_ns)
"""

# The analysis' checkpoint, the alarms as they were first found, and what people did about them. Of an alarm's row the
# withdrawal may change, and is in no checksum.
_ALARMS = """
CREATE TABLE analysis (name TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE alarms (
    id TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    found_ns INTEGER NOT NULL,
    withdrawn_ns INTEGER,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE alarm_actions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alarm TEXT NOT NULL,
    chart TEXT NOT NULL,
    kind TEXT NOT NULL,
    instant_ns INTEGER NOT NULL,
    person TEXT NOT NULL,
    words TEXT NOT NULL,
    document TEXT NOT NULL,
    checksum INTEGER NOT NULL
)
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _KEYS_AND_READINGS, _CAUSES_AND_AGES, _ALARMS)

USABLE_FROM: tuple[int, ...] = (1, 2, 2, 2)
"""For each migration, the oldest version of the schema whose package still reads and writes the store rightly.

A step that adds tables, indices, or columns with a default keeps the number of the step before, if older packages may
leave them out; of `state`, `open_sessions`, `readings` and `vocabulary` rows are written whole, so no column is added.
The number is kept in the store, under `usable_from` in `state` with the version that it is told of: the older package
can't know it.
"""


def version(connection: sqlite3.Connection) -> int:
    """The store's schema version; 0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection) -> int:
    """The store's version, if this package may write it. Only reads.

    Raises :class:`StoreVersionError` when the store is newer than this package, and no longer usable by it;
    :class:`StoreCorruptError` when its tables aren't those of its version; :class:`StoreError` when it is no store of
    ours.
    """
    found = version(connection)
    if found > len(MIGRATIONS):
        if _is_usable(connection):
            return found
        raise StoreVersionError(
            f"the store was written by a newer version of this package ({found}; this one knows {len(MIGRATIONS)})"
        )
    if found < 0:
        raise StoreCorruptError("the store's version is damaged")
    there, expected = _tables(connection), _expected_tables(found)  # whatever else is there is somebody's own addition
    if there >= expected and (found or not there):
        return found
    if there and not {name for _, name, _ in there} & {name for _, name, _ in _expected_tables(len(MIGRATIONS))}:
        raise StoreError("this is another application's database")
    raise StoreCorruptError("the store's tables are damaged")


def _is_usable(connection: sqlite3.Connection) -> bool:
    """Whether a newer version's store says of itself that this package may use it."""
    names = {(kind, name) for kind, name, _ in _tables(connection)}
    if not names >= {(kind, name) for kind, name, _ in _expected_tables(len(MIGRATIONS))}:
        return False  # whatever it says: what is written by name must be there
    row = connection.execute("SELECT value FROM state WHERE key = 'usable_from'").fetchone()
    of_version, _, oldest = str(row[0] if row else "").partition(":")
    # Of the version that it is now, since a later step may have been made by a package that doesn't keep the number.
    return of_version == str(version(connection)) and oldest.isdecimal() and int(oldest) <= len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the store to the newest version, each step in one transaction; raises what :func:`check` does."""
    while (found := check(connection)) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if check(connection) == found:  # another process may have been first
                _apply(connection, found)
            connection.execute("COMMIT")
        except BaseException:
            # An interrupt may come when the transaction is over, and SQLite ends one itself on a full disk: an error of
            # the rollback's would take the place of what happened.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _apply(connection: sqlite3.Connection, found: int) -> None:
    for statement in filter(str.strip, MIGRATIONS[found].split(";")):
        connection.execute(statement)
    usable_from = ("usable_from", f"{found + 1}:{USABLE_FROM[found]}", None)
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", usable_from)
    connection.execute(f"PRAGMA user_version = {found + 1:d}")


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^'")
    return frozenset((str(kind), str(name), str(sql)) for kind, name, sql in rows)


@lru_cache
def _expected_tables(found: int) -> frozenset[tuple[str, str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        for earlier in range(found):
            _apply(connection, earlier)
        return _tables(connection)
    finally:
        connection.close()
