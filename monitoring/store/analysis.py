"""What the analysis reads and keeps in the store: sessions in the order of time, its checkpoint, alarms, and actions.

Sessions are read in the order of their points' time, which is unique. The checkpoint is what the analysis knew at its
last look, save for the references, the values that further ones are ranked among: each has a row of its own, so that a
look reads and writes those alone that it has points for. Whoever takes a session out of its series
(:mod:`monitoring.store.erasure`) forgets all of it. Alarms stay as they were first found; what people did about one is
kept with the alarm as they saw it. The newest 20 fire drills are kept: their figures are of 150 exams at the least,
name no exam, and so outlast an erasure, as totals do.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from monitoring.store import readings
from monitoring.store.clock import DAY_NS
from monitoring.store.outbox import delete_lines
from monitoring.store.rows import SESSION_COLUMNS, OutlinedSession, checksum, is_intact, outlined_session

_EARLIER = (
    "EXISTS (SELECT 1 FROM sessions AS e WHERE e.{0} = s.{0} AND e.{0} != '' AND e.timestamp_ns < s.timestamp_ns{1})"
)
_COMPLETED = " AND e.status = 'completed'"
# The exam is the study; where a session doesn't know it, the accession number or the series stands for it.
_OF_KNOWN_EXAM = (
    f"CASE WHEN s.study_key != '' THEN {_EARLIER.format('study_key', _COMPLETED)}"
    f" WHEN s.accession_key != '' THEN {_EARLIER.format('accession_key', _COMPLETED)}"
    f" ELSE {_EARLIER.format('series_key', _COMPLETED)} END"
)
_PAGE: Final = (
    f"SELECT {SESSION_COLUMNS}, {_EARLIER.format('series_key', '')}, {_OF_KNOWN_EXAM}"  # noqa: S608 - constants
    " FROM sessions AS s WHERE s.timestamp_ns > ? ORDER BY s.timestamp_ns LIMIT ?"
)
_CHECKPOINT: Final = "checkpoint"
_REFERENCE: Final = "reference "
_UNTOLD: Final = "withdrawal "
_CHANGED: Final = f"name GLOB '{readings.CHANGED}*'"
_ACTION: Final = "alarm, chart, kind, instant_ns, person, words, document"
_AFFECTED: Final = " UNION ALL ".join(
    "SELECT 1 FROM (SELECT substr(name, :from) AS key FROM analysis"  # noqa: S608
    f" WHERE {_CHANGED}) AS r CROSS JOIN sessions AS s ON s.{column} = r.key AND s.{column} != ''"
    " WHERE s.timestamp_ns <= :until_ns"
    for column in ("series_key", "study_key", "accession_key")
)


class Analysed(NamedTuple):
    """A session, the readers' means of its exam (mm), and whether it is its series' first and its exam's first
    completed one.
    """

    stored: OutlinedSession
    reader_mm: Mapping[str, float]
    is_first_of_series: bool
    is_first_of_exam: bool


def sessions_after(connection: sqlite3.Connection, after_ns: int, limit: int) -> tuple[list[Analysed], int | None]:
    """The next sessions in the order of time, without damaged ones; and the last one's instant, None at the end."""
    rows = connection.execute(_PAGE, (after_ns, limit)).fetchall()
    found = [
        (stored, not had_series, stored.record.status == "completed" and not had_exam)
        for *columns, had_series, had_exam in rows
        if (stored := outlined_session(columns)) is not None
    ]
    reader_mm = readings.means_of_readers(connection, [stored.record.exam_keys for stored, *_ in found])
    looked = [Analysed(stored, mm, *firsts) for (stored, *firsts), mm in zip(found, reader_mm, strict=True)]
    return looked, int(rows[-1][3]) if rows else None


def sessions_before(connection: sqlite3.Connection, time_ns: int, limit: int) -> list[Analysed]:
    """The last sessions before an instant, in the order of time, without damaged ones."""
    before = "SELECT timestamp_ns FROM sessions WHERE timestamp_ns < ? ORDER BY timestamp_ns DESC LIMIT ?"
    oldest_ns, count = connection.execute(
        f"SELECT min(timestamp_ns), count(*) FROM ({before})",  # noqa: S608 - a constant
        (time_ns, limit),
    ).fetchone()
    return sessions_after(connection, oldest_ns - 1, count)[0] if count else []


class Seen(Struct, frozen=True):
    """What a look at the store has seen: sessions until an instant and a number."""

    until_ns: int = -1
    sequence: int = 0


def seen(connection: sqlite3.Connection) -> Seen:
    """What there is now."""
    until_ns, sequence = connection.execute(
        "SELECT max(timestamp_ns), (SELECT max(sequence) FROM sessions) FROM sessions"
    ).fetchone()
    return Seen(-1 if until_ns is None else until_ns, sequence or 0)


def earliest_new(connection: sqlite3.Connection, before: Seen) -> int | None:
    """The instant of the earliest session that has come since."""
    # By the sequence: a session that ended before others may be committed, or imported, after them.
    found = connection.execute("SELECT min(timestamp_ns) FROM sessions WHERE sequence > ?", (before.sequence,))
    instant = found.fetchone()[0]
    return None if instant is None else int(instant)


def has_new_readings(connection: sqlite3.Connection, before: Seen) -> bool:
    """Whether a reading has come, or was corrected, of a session that was seen already."""
    where = {"from": len(readings.CHANGED) + 1, "until_ns": before.until_ns}
    return connection.execute(f"{_AFFECTED} LIMIT 1", where).fetchone() is not None


def changed_readings(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
    """The notes of readings that came, or were corrected, since the last look: for :func:`keep_checkpoint`."""
    return connection.execute(f"SELECT name, value FROM analysis WHERE {_CHANGED}").fetchall()  # noqa: S608


def oldest_session(connection: sqlite3.Connection) -> int | None:
    """The instant of the oldest session that is stored."""
    found = connection.execute("SELECT min(timestamp_ns) FROM sessions").fetchone()[0]
    return None if found is None else int(found)


# --- the checkpoint -----------------------------------------------------------------------------


def checkpoint(connection: sqlite3.Connection) -> tuple[bytes | None, int]:
    """What :func:`keep_checkpoint` kept, None where there is none or it is damaged; and which one it is."""
    row = connection.execute("SELECT name, value, checksum FROM analysis WHERE name = ?", (_CHECKPOINT,)).fetchone()
    return (bytes(row[1]) if row is not None and is_intact(row) else None), _which(connection)


def _which(connection: sqlite3.Connection) -> int:
    """Which checkpoint it is: by its checksum, since it may have megabytes; a forgotten one's is not its own."""
    row = connection.execute(
        "SELECT checksum, CASE WHEN length(value) <= 8 THEN value END FROM analysis WHERE name = ?", (_CHECKPOINT,)
    ).fetchone()
    return 0 if row is None else checksum(*row)


class Reference(NamedTuple):
    """A reference's row; the checkpoint that it belongs to holds its checksum."""

    name: str
    value: bytes
    checksum: int

    @classmethod
    def of(cls, name: str, value: bytes) -> Reference:
        """With its checksum."""
        return cls(_REFERENCE + name, value, checksum(_REFERENCE + name, value))


def reference(connection: sqlite3.Connection, name: str, its_checksum: int) -> bytes | None:
    """What :func:`keep_checkpoint` kept under this name; None where it is damaged, or is another checkpoint's."""
    query = "SELECT name, value, checksum FROM analysis WHERE name = ? AND checksum = ?"
    row = connection.execute(query, (_REFERENCE + name, its_checksum)).fetchone()
    return bytes(row[1]) if row is not None and is_intact(row) else None


def keep_checkpoint(
    connection: sqlite3.Connection,
    value: bytes,
    before: int,
    looked_at: Iterable[tuple[str, bytes]] = (),
    references: Iterable[Reference] = (),
    anew: bool = False,
) -> bool:
    """Keep it in place of the one ``before``; False, and it isn't, where another look or an erasure was faster.

    ``references`` are the new ones; unless it was computed ``anew`` it goes on using the others. The notes of readings
    that were ``looked_at`` go, but where the reading has changed once more.
    """
    if _which(connection) != before:  # what was read until now may hold what was erased meanwhile
        return False
    if anew:
        _forget_references(connection)
    rows = [(_CHECKPOINT, value, checksum(_CHECKPOINT, value)), *references]
    connection.executemany("INSERT OR REPLACE INTO analysis VALUES (?, ?, ?)", rows)
    connection.executemany("DELETE FROM analysis WHERE name = ? AND value = ?", looked_at)
    return True


def expect_readings(connection: sqlite3.Connection) -> None:
    """Let readings be noted from now on: of the first look, too, those that come while it is at work."""
    connection.execute("INSERT OR IGNORE INTO analysis VALUES (?, randomblob(8), 0)", (_CHECKPOINT,))


def forget_checkpoint(connection: sqlite3.Connection) -> None:
    """Let the next analysis begin from the first stored session, and one that is at work keep nothing."""
    connection.execute("INSERT OR REPLACE INTO analysis VALUES (?, randomblob(8), 0)", (_CHECKPOINT,))
    _forget_references(connection)


def _forget_references(connection: sqlite3.Connection) -> None:
    connection.execute(f"DELETE FROM analysis WHERE name GLOB '{_REFERENCE}*'")  # noqa: S608 - a constant


def forget_alarms(connection: sqlite3.Connection, instants_ns: Iterable[int]) -> None:
    """Delete what alarms say that name an exam at one of these instants, once its session is gone.

    Of an alarm that another exam raised the ID stays, so that it isn't counted again when it is found again. Lines
    that wait for a backend, or that it refused, go; where an alarm was told, the place of its point stays until
    :func:`take_untold`. What people did stays, and names the next exam instead; an ID that was made of the instant
    becomes one of chance.
    """
    for instant_ns in instants_ns:
        _rename_in_actions(connection, instant_ns)
        columns = "id, document, found_ns, checksum"
        rows = connection.execute(f"SELECT {columns} FROM alarms WHERE document LIKE ?", (f"%{instant_ns}%",))  # noqa: S608
        for alarm_id, document, found_ns, expected in rows.fetchall():
            delete_lines(connection, alarm_lines(alarm_id))
            connection.execute("DELETE FROM dead_letters WHERE session_id = ?", (alarm_lines(alarm_id),))
            told = connection.execute("DELETE FROM analysis WHERE name = ?", (alarm_lines(alarm_id),))
            if told.rowcount and is_intact((alarm_id, document, found_ns, expected)):
                alarm = json.loads(document)
                place = (alarm["chart"], alarm["unit"], alarm["change_ns"] // DAY_NS * DAY_NS)
                kept_place = (_UNTOLD + json.dumps(place), b"")
                connection.execute(
                    "INSERT OR REPLACE INTO analysis VALUES (?, ?, ?)", (*kept_place, checksum(*kept_place))
                )
            connection.execute(
                "DELETE FROM alarms WHERE id = ? AND document LIKE ?", (alarm_id, f'%"raised_ns":{instant_ns},%')
            )
            row = (alarm_id, "", found_ns)
            connection.execute(
                "UPDATE alarms SET document = '', withdrawn_ns = found_ns, checksum = ? WHERE id = ?",
                (checksum(*row), alarm_id),
            )


# --- fire drills --------------------------------------------------------------------------------

MOST_DRILLS: Final = 20
_OF_DRILLS: Final = "name GLOB 'drill *'"


def keep_drill(connection: sqlite3.Connection, value: bytes, made_ns: int) -> None:
    """Keep what a drill found, and of all drills the newest :data:`MOST_DRILLS`."""
    row = (f"drill {made_ns:020d}", value)
    connection.execute("INSERT OR REPLACE INTO analysis VALUES (?, ?, ?)", (*row, checksum(*row)))
    connection.execute(
        f"DELETE FROM analysis WHERE {_OF_DRILLS} AND name NOT IN"  # noqa: S608 - constants
        f" (SELECT name FROM analysis WHERE {_OF_DRILLS} ORDER BY name DESC LIMIT ?)",
        (MOST_DRILLS,),
    )


def drills(connection: sqlite3.Connection) -> list[bytes]:
    """What drills found, the newest first; damaged ones are left out."""
    rows = connection.execute(
        f"SELECT name, value, checksum FROM analysis WHERE {_OF_DRILLS} ORDER BY name DESC"  # noqa: S608 - constants
    )
    return [bytes(row[1]) for row in rows if is_intact(row)]


# --- alarms and what people did about them ------------------------------------------------------


class KeptAlarm(NamedTuple):
    """An alarm as it was first found: its document (JSON), when, and when it was withdrawn, if it was (UTC ns)."""

    alarm_id: str
    document: str
    found_ns: int
    withdrawn_ns: int | None


class Action(NamedTuple):
    """What a person did about an alarm: ``acknowledge`` or ``rebase``, when (UTC ns), who, and a note or reason.

    ``chart`` is the chart's key; ``document`` the alarm as it was then (JSON).
    """

    alarm_id: str
    chart: str
    kind: str
    instant_ns: int
    person: str
    words: str
    document: str


def kept_alarms(connection: sqlite3.Connection) -> dict[str, KeptAlarm]:
    """Every alarm that was ever found, by its ID; damaged ones are left out. An erased one's document is ""."""
    rows = connection.execute("SELECT id, document, found_ns, withdrawn_ns, checksum FROM alarms ORDER BY found_ns, id")
    return {row[0]: KeptAlarm(*row[:4]) for row in rows if is_intact((*row[:3], row[4]))}


def keep_alarms(connection: sqlite3.Connection, found: Iterable[tuple[str, str]], now_ns: int) -> list[str]:
    """Keep alarms (ID, document), and take back the withdrawal of those that are there again; returns the new ones."""
    new = []
    for alarm_id, document in found:
        was_there = connection.execute("SELECT 1 FROM alarms WHERE id = ?", (alarm_id,)).fetchone()
        if not was_there:
            new.append(alarm_id)
        row = (alarm_id, document, now_ns)
        connection.execute("DELETE FROM alarms WHERE id = ? AND document = ''", (alarm_id,))
        connection.execute("INSERT OR IGNORE INTO alarms VALUES (?, ?, ?, NULL, ?)", (*row, checksum(*row)))
        connection.execute("UPDATE alarms SET withdrawn_ns = NULL WHERE id = ?", (alarm_id,))
    return new


def alarm_lines(alarm_id: str) -> str:
    """Under what an alarm's lines wait in the outbox, where a session's wait under the session."""
    return f"alarm {alarm_id}"


def is_told(connection: sqlite3.Connection, what: str, state: bytes) -> bool:
    """Whether it is kept that something was told in this state; from now on it is."""
    row = (what, state)
    kept = connection.execute(
        "INSERT INTO analysis VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value,"
        " checksum = excluded.checksum WHERE value != excluded.value",
        (*row, checksum(*row)),
    )
    return not kept.rowcount


def take_untold(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """The places of erased alarms' points: chart, unit, and the midnight before the change (UTC ns). Forgets them."""
    rows = connection.execute(f"DELETE FROM analysis WHERE name GLOB '{_UNTOLD}*' RETURNING name, value, checksum")  # noqa: S608
    return [tuple(json.loads(row[0].removeprefix(_UNTOLD))) for row in rows.fetchall() if is_intact(row)]


def withdraw_alarms(connection: sqlite3.Connection, ids: Iterable[str], now_ns: int) -> None:
    """Keep that these alarms aren't found any more."""
    rows = [(now_ns, alarm_id) for alarm_id in ids]
    connection.executemany("UPDATE alarms SET withdrawn_ns = ? WHERE id = ?", rows)


def actions(connection: sqlite3.Connection) -> list[Action]:
    """What people did, the earliest first; damaged rows are left out."""
    columns = f"{_ACTION}, checksum"
    rows: Iterator[tuple[object, ...]] = connection.execute(f"SELECT {columns} FROM alarm_actions ORDER BY id")  # noqa: S608
    return [Action(*row[:-1]) for row in rows if is_intact(row)]  # type: ignore[arg-type]


def _rename_in_actions(connection: sqlite3.Connection, instant_ns: int) -> None:
    # A chart that was re-based there begins with the next exam all the same.
    next_ns = connection.execute("SELECT min(timestamp_ns) FROM sessions WHERE timestamp_ns > ?", (instant_ns,))
    instead = next_ns.fetchone()[0]
    ids: dict[str, str] = {}
    for number, *row in connection.execute(
        f"SELECT id, {_ACTION}, checksum FROM alarm_actions WHERE document LIKE ?",  # noqa: S608 - a constant
        (f"%{instant_ns}%",),
    ).fetchall():
        if not is_intact(row):
            connection.execute("DELETE FROM alarm_actions WHERE id = ?", (number,))
            continue
        action = Action(*row[:-1])
        if f'"raised_ns":{instant_ns},' in action.document:
            ids.setdefault(action.alarm_id, secrets.token_hex(4))
        new_id = ids.get(action.alarm_id, action.alarm_id)
        document = action.document.replace(str(instant_ns), str(instead or action.instant_ns))
        document = document.replace(f'"{action.alarm_id}"', f'"{new_id}"')
        action = action._replace(alarm_id=new_id, document=document)
        connection.execute(
            "UPDATE alarm_actions SET alarm = ?, document = ?, checksum = ? WHERE id = ?",
            (new_id, document, checksum(*action), number),
        )


def keep_action(connection: sqlite3.Connection, action: Action) -> None:
    """Keep what a person did; the next analysis begins anew where that changes a chart's past."""
    connection.execute(
        f"INSERT INTO alarm_actions ({_ACTION}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
        (*action, checksum(*action)),
    )
