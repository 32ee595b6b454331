"""The label values that a store has seen: an open label takes new ones until it is full, then ``other``.

The bound holds over all runs and processes, so that no series' number grows with the studies; which labels are open,
and how far, is the catalogue's decision (:mod:`monitoring.metrics.catalogue`).
"""

from __future__ import annotations

import sqlite3

from monitoring.metrics.catalogue import OTHER, Label
from monitoring.metrics.samples import Vocabulary
from monitoring.records import coerce


def stored_vocabulary(connection: sqlite3.Connection) -> Vocabulary:
    """What the store's labels hold by now, without taking any further value."""
    known: dict[str, set[str]] = {}
    for name, value in connection.execute("SELECT label, value FROM vocabulary"):
        known.setdefault(name, set()).add(value)
    return lambda label, value: value if value in label.values or value in known.get(label.name, ()) else OTHER


def growing_vocabulary(connection: sqlite3.Connection) -> Vocabulary:
    """The same, and what there is room for is taken, within the transaction that is open."""
    known: dict[str, set[str]] = {}

    def value_taken(label: Label, value: str) -> str:
        """``value`` when the label may hold it, ``other`` once the label is full or closed to it."""
        if value in label.values or value == OTHER:
            return value
        # What isn't a metric's name by its form could be anybody's: no free text becomes a label.
        if label.closed or coerce.metric_name(value) != value:
            return OTHER
        if label.name not in known:
            rows = connection.execute("SELECT value FROM vocabulary WHERE label = ?", (label.name,))
            known[label.name] = {row[0] for row in rows}
        if value in known[label.name]:
            return value
        if len(known[label.name]) >= label.limit:
            return OTHER
        connection.execute("INSERT INTO vocabulary (label, value) VALUES (?, ?)", (label.name, value))
        known[label.name].add(value)
        return value

    return value_taken
