"""The label values that a store has seen: an open label takes new ones until it is full, then ``other``.

The bound holds over all runs and processes, so that no series' number grows with the studies; which labels are open,
and how far, is the catalogue's decision (:mod:`monitoring.metrics.catalogue`).
"""

from __future__ import annotations

import sqlite3

from monitoring.metrics.catalogue import OTHER, Label
from monitoring.metrics.samples import Vocabulary
from monitoring.store import totals
from monitoring.store.clock import DAY_NS

# To the day: what each session names is not written at each.
_SEE = (
    "INSERT INTO vocabulary_seen VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET seen_ns = excluded.seen_ns WHERE seen_ns <= ?"
)
_FORGOTTEN = (
    "SELECT v.label, v.value FROM vocabulary AS v JOIN vocabulary_seen AS s ON s.label = v.label AND s.value = v.value"
    " WHERE s.seen_ns < ?"
)


def stored_vocabulary(connection: sqlite3.Connection) -> Vocabulary:
    """What the store's labels hold by now, without taking any further value."""
    known: dict[str, set[str]] = {}
    for name, value in connection.execute("SELECT label, value FROM vocabulary"):
        known.setdefault(name, set()).add(value)
    return lambda label, value: value if value in label.values or value in known.get(label.name, ()) else OTHER


def growing_vocabulary(connection: sqlite3.Connection, now_ns: int) -> Vocabulary:
    """The same, and what there is room for is taken, within the transaction that is open.

    ``now_ns`` is the store's time, which is remembered for each value that is used, to the day.
    """
    known: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()  # a session's samples name each of its models a dozen times

    def value_taken(label: Label, value: str) -> str:
        """``value`` when the label may hold it, ``other`` once the label is full or closed to it."""
        if value in label.values or value == OTHER or (not label.closed and (label.name, value) in seen):
            return value
        # What isn't a metric's name by its form could be anybody's: no free text becomes a label.
        if label.closed or label.form(value) != value:
            return OTHER
        if label.name not in known:
            rows = connection.execute("SELECT value FROM vocabulary WHERE label = ?", (label.name,))
            known[label.name] = {row[0] for row in rows}
        if value in known[label.name]:
            connection.execute(_SEE, (label.name, value, now_ns, now_ns - DAY_NS))
            seen.add((label.name, value))
            return value
        if len(known[label.name]) >= label.limit:
            return OTHER
        connection.execute("INSERT INTO vocabulary (label, value) VALUES (?, ?)", (label.name, value))
        connection.execute(_SEE, (label.name, value, now_ns, now_ns))
        known[label.name].add(value)
        seen.add((label.name, value))
        return value

    return value_taken


def has_forgotten(connection: sqlite3.Connection, before_ns: int) -> bool:
    """Whether there are values that were last seen before an instant of the store's."""
    unseen = "SELECT 1 FROM vocabulary AS v WHERE (label, value) NOT IN (SELECT label, value FROM vocabulary_seen)"
    return any(
        connection.execute(query, parameters).fetchone()
        for query, parameters in ((unseen, ()), (_FORGOTTEN, (before_ns,)))
    )


def forget(connection: sqlite3.Connection, before_ns: int, now_ns: int) -> None:
    """Make room in the labels: values go that were last seen before an instant, with their totals.

    An older version's values count as seen now. Without the totals, their series would grow with the years.
    """
    connection.execute("INSERT OR IGNORE INTO vocabulary_seen SELECT label, value, ? FROM vocabulary", (now_ns,))
    for label, value in connection.execute(_FORGOTTEN, (before_ns,)).fetchall():
        for table in ("vocabulary", "vocabulary_seen"):
            connection.execute(f"DELETE FROM {table} WHERE label = ? AND value = ?", (label, value))  # noqa: S608
        # Of labels that are damaged SQLite's JSON functions would make an error.
        connection.execute(
            "DELETE FROM totals WHERE CASE WHEN json_valid(labels) THEN json_extract(labels, ?) = ? END",
            (f'$."{label}"', value),
        )
        totals.bump_revision(connection)
