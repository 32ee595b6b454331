"""The Prometheus state: counters, histograms and gauges over all runs, each value with its checksum."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

from monitoring import catalogue
from monitoring.catalogue import Metric
from monitoring.delivery_result import Row
from monitoring.metrics_collector import Change
from monitoring.outbox.database import checksum

# Whether a row is as it was written, in SQL: as bytes, since damaged text would stop the query.
_INTACT = (
    "checksum = checksum(CAST(metric AS BLOB), CAST(labels AS BLOB), CAST(part AS BLOB),"
    " iif(typeof(value) = 'real', value, NULL), iif(typeof(time_ns) = 'integer', time_ns, NULL))"
)
_APPLY = " ".join(
    (
        "INSERT INTO totals VALUES (?1, ?2, ?3, ?4, ?5, checksum(?1, ?2, ?3, ?4, ?5))",
        "ON CONFLICT (metric, labels, part) DO UPDATE SET",
        "value = iif(?6, ?4, value + ?4), time_ns = max(time_ns, ?5),",
        "checksum = checksum(metric, labels, part, iif(?6, ?4, value + ?4), max(time_ns, ?5))",
        "WHERE (NOT ?6 OR ?5 >= time_ns) AND",
        _INTACT,
    )
)


def apply_changes(connection: sqlite3.Connection, changes: Iterable[Change], time_ns: int) -> None:
    """Add to counters and histograms; replace gauges, unless the value there is of a later time."""
    connection.executemany(
        _APPLY,
        [
            (item.metric, labels_key(item.labels), item.part, float(item.value), time_ns, item.replaces)
            for item in changes
        ],
    )


def count(connection: sqlite3.Connection, metric: Metric, amount: float, time_ns: int, **labels: str) -> None:
    """Add to one of the module's own counters."""
    if amount:
        apply_changes(connection, [Change(metric.name, labels, "", float(amount), replaces=False)], time_ns)


def count_loss(connection: sqlite3.Connection, reason: str, amount: int, time_ns: int) -> None:
    """Every loss is counted, by reason."""
    count(connection, catalogue.MONITORING_DROPPED, amount, time_ns, reason=reason)


def read(connection: sqlite3.Connection) -> list[Row]:
    """Every value whose checksum holds."""
    return [
        Row(metric, tuple(sorted(json.loads(labels).items())), part, value)
        for metric, labels, part, value, time_ns, expected in connection.execute("SELECT * FROM totals")
        if checksum(metric, labels, part, value, time_ns) == expected
    ]


def drop_damaged(connection: sqlite3.Connection) -> int:
    """Delete the values whose checksum doesn't hold, so that they are counted again from 0; returns how many."""
    return connection.execute(f"DELETE FROM totals WHERE NOT coalesce({_INTACT}, 0)").rowcount  # noqa: S608 - a constant


def has_damaged(connection: sqlite3.Connection) -> bool:
    """Whether there is a value whose checksum doesn't hold."""
    damaged = f"SELECT 1 FROM totals WHERE NOT coalesce({_INTACT}, 0) LIMIT 1"  # noqa: S608 - a constant
    return connection.execute(damaged).fetchone() is not None


def values(connection: sqlite3.Connection, metric: Metric) -> dict[tuple[str, ...], float]:
    """A metric's values by its labels' values, in the catalogue's order."""
    names = [label.name for label in metric.labels]
    rows = [row for row in read_metric(connection, metric.name) if not row.part]
    return {tuple(dict(row.labels).get(name, "") for name in names): row.value for row in rows}


def read_metric(connection: sqlite3.Connection, name: str) -> list[Row]:
    """One metric's values whose checksums hold."""
    return [
        Row(metric, tuple(sorted(json.loads(labels).items())), part, value)
        for metric, labels, part, value, time_ns, expected in connection.execute(
            "SELECT * FROM totals WHERE metric = ?", (name,)
        )
        if checksum(metric, labels, part, value, time_ns) == expected
    ]


def bump_revision(connection: sqlite3.Connection) -> None:
    """Mark the state as changed, so that it is pushed again."""
    connection.execute(
        "INSERT INTO state VALUES ('revision', 1, NULL) ON CONFLICT (key) DO UPDATE SET value = value + 1"
    )


def labels_key(labels: Mapping[str, str]) -> str:
    """Labels as one text, the same for equal labels."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
