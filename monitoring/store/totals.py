"""The Prometheus state: counters, histograms and gauges over all runs, each value with its checksum.

A backend is told whole totals, never increments; so a wrong one would stay wrong for ever, and a repeat has no
effect. Which samples change which totals is the collector's (:mod:`monitoring.metrics_collector`).
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from math import isfinite

from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Metric
from monitoring.metrics.samples import NANOSECONDS, Change
from monitoring.store.rows import as_bytes, checksum
from monitoring.transport.sinks import Total

_Key = tuple[str, str, str]
_FIND = "SELECT value, time_ns, checksum FROM totals WHERE metric = ? AND labels = ? AND part = ?"
_WRITE = (
    "INSERT INTO totals VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET value = excluded.value, time_ns = excluded.time_ns, checksum = excluded.checksum"
    " WHERE excluded.time_ns >= time_ns OR time_ns > ?"
)
# Python gives its lock away at each row that SQLite works on, and a busy delivery thread keeps it for milliseconds.
_TOGETHER = 32
_WRITE_TOGETHER = _WRITE.replace("(?, ?, ?, ?, ?, ?)", ", ".join(["(?, ?, ?, ?, ?, ?)"] * _TOGETHER))
# Clocks of several machines differ by minutes: those are taken at their word.
_LARGEST_AHEAD_NS = 3600 * NANOSECONDS
_ONE_PER = {
    metric.name: [label.name for label in metric.one_per] for metric in catalogue.METRICS if metric.one_per is not None
}


def apply_changes(connection: sqlite3.Connection, changes: Iterable[Change], time_ns: int) -> None:
    """Add to counters and histograms; replace gauges, unless the value there is of a later time.

    A time over an hour ahead was told by a wrong clock, and holds up nobody. A counter's damaged value stays as it is
    until the store is opened the next time, and begins anew then; one that would be no number any more stays, too.
    """
    # The checksums are not made by a function within SQL: what a host's signal handler raises in such a
    # function, to leave the process, would end there.
    added: dict[_Key, float] = {}
    replaced: dict[_Key, float] = {}
    for change in changes:
        key = (change.metric, labels_key(change.labels), change.part)
        if change.replaces:
            replaced[key] = float(change.value)
        else:
            added[key] = added.get(key, 0.0) + change.value
    rows = [_row(key, value, time_ns) for key, value in replaced.items()]
    for key, amount in added.items():
        value, then_ns, expected = connection.execute(_FIND, key).fetchone() or (0.0, time_ns, None)
        # Nothing added makes a series exist; where it does, nothing needs to be written.
        is_to_change = expected is None or (amount and _checksum(key, value, then_ns) == expected)
        if is_to_change and isfinite(value + amount):
            rows.append(_row(key, value + amount, max(then_ns, time_ns)))
    latest_ns = time.time_ns() + _LARGEST_AHEAD_NS
    alone = len(rows) % _TOGETHER
    for start in range(alone, len(rows), _TOGETHER):
        values = chain.from_iterable(rows[start : start + _TOGETHER])
        connection.execute(_WRITE_TOGETHER, (*values, latest_ns))
    connection.executemany(_WRITE, [(*row, latest_ns) for row in rows[:alone]])


def _row(key: _Key, value: float, time_ns: int) -> tuple[str, str, str, float, int, int]:
    value += 0.0  # SQLite knows no negative zero: it would read back as 0.0, and be taken for damaged
    return (*key, value, time_ns, _checksum(key, value, time_ns))


def _checksum(key: _Key, value: object, time_ns: object) -> int:
    """:func:`checksum` of a row, of which the key's part is made once: a session changes a hundred rows."""
    return zlib.crc32(f"{value!r}\x1f{time_ns!r}".encode(), _key_checksum(key))


@lru_cache(maxsize=4096)
def _key_checksum(key: _Key) -> int:
    return checksum(*key, "")  # with the separator that ends it


def count(connection: sqlite3.Connection, metric: Metric, amount: float, time_ns: int, **labels: str) -> None:
    """Add to one of the module's own counters."""
    if amount:
        apply_changes(connection, [Change(metric.name, labels, "", float(amount), replaces=False)], time_ns)


def count_loss(connection: sqlite3.Connection, reason: str, amount: int, time_ns: int) -> None:
    """Every loss is counted, by reason."""
    count(connection, catalogue.MONITORING_DROPPED, amount, time_ns, reason=reason)


def losses(connection: sqlite3.Connection) -> dict[str, int]:
    """What is lost, by reason: what was counted so, less what was sent once more and is not lost after all."""
    found = values(connection, catalogue.MONITORING_DROPPED)
    recovered = values(connection, catalogue.MONITORING_RECOVERED)
    return {reason: max(0, int(count - recovered.get((reason,), 0.0))) for (reason,), count in found.items()}


def read(connection: sqlite3.Connection, name: str | None = None) -> list[Total]:
    """Every value whose checksum holds, or one metric's; of what says which version is there the latest alone.

    The others stay in the store until their version is forgotten: what is read is decided here, once, and no commit
    pays for it. A time that is ahead was told by a wrong clock, and comes last.
    """
    latest_ns = time.time_ns() + _LARGEST_AHEAD_NS
    found: list[Total] = []
    newest: dict[tuple[str, ...], tuple[tuple[bool, int, str], Total]] = {}
    of_one = ("SELECT * FROM totals WHERE metric = ?", (name,))
    rows = connection.execute(*of_one) if name else connection.execute("SELECT * FROM totals")
    for metric, labels, part, value, time_ns, expected in rows:
        if _checksum((metric, labels, part), value, time_ns) != expected:
            continue
        total = Total(metric, _label_items(labels), part, value)
        names = _ONE_PER.get(metric)
        if names is None:
            found.append(total)
            continue
        key = (metric, *(dict(total.labels).get(name, "") for name in names))
        rank = (time_ns <= latest_ns, time_ns, labels)
        if key not in newest or newest[key][0] < rank:
            newest[key] = (rank, total)
    return found + [total for _, total in newest.values()]


def damaged(connection: sqlite3.Connection) -> list[tuple[bytes, bytes, bytes]]:
    """The keys of the values whose checksum doesn't hold."""
    return [
        (as_bytes(metric), as_bytes(labels), as_bytes(part))
        for metric, labels, part, value, time_ns, expected in connection.execute("SELECT * FROM totals")
        if _checksum((metric, labels, part), value, time_ns) != expected
    ]


def drop(connection: sqlite3.Connection, keys: Iterable[tuple[bytes, bytes, bytes]]) -> None:
    """Delete values, so that they are counted again from 0."""
    # By their bytes: damaged text can't be looked up as text.
    connection.executemany(
        "DELETE FROM totals WHERE CAST(metric AS BLOB) = ? AND CAST(labels AS BLOB) = ? AND CAST(part AS BLOB) = ?",
        keys,
    )


def values(connection: sqlite3.Connection, metric: Metric) -> dict[tuple[str, ...], float]:
    """A metric's values by its labels' values, in the catalogue's order."""
    names = [label.name for label in metric.labels]
    return {
        tuple(dict(total.labels).get(name, "") for name in names): total.value
        for total in read(connection, metric.name)
        if not total.part
    }


def bump_revision(connection: sqlite3.Connection) -> None:
    """Mark the state as changed, so that it is pushed again."""
    connection.execute(
        "INSERT INTO state VALUES ('revision', 1, NULL)"
        " ON CONFLICT (key) DO UPDATE SET value = coalesce(CAST(value AS INTEGER), 0) + 1"
    )


def labels_key(labels: Mapping[str, str]) -> str:
    """Labels as one text, the same for equal labels."""
    return _labels_key(tuple(labels.items()))


@lru_cache(maxsize=4096)
def _labels_key(items: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(items), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def _label_items(key: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(json.loads(key).items()))
