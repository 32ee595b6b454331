"""What the commands show, for a person and for a program."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.records.session_record import STATUSES
from monitoring.settings import MonitoringConfig
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.erasure import Erased
from monitoring.store.location import store_path
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.rows import StoredSession
from monitoring.store.sessions import open_store

# A pipe or a file has no width: lines stay whole there.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def status(config: MonitoringConfig) -> dict[str, Any]:
    """Sessions by status, what waits for each backend, losses by reason."""
    path = store_path(config.store)
    report: dict[str, Any] = {
        "enabled": config.enabled,
        "store": {"path": str(path), "exists": path.exists(), "size_bytes": 0},
        "sessions": dict.fromkeys(STATUSES, 0),
        "outbox": {},
        "losses": {},
    }
    if not path.exists():
        return report
    with open_store(Database(path)) as store:
        report["store"]["size_bytes"] = path.stat().st_size
        report["sessions"] = store.counts_by_status()
        with store.database.read_transaction() as connection:
            report["outbox"] = {found.name: _backend(found) for found in backend_statuses(connection)}
            losses = totals.values(connection, catalogue.MONITORING_DROPPED)
            report["losses"] = {reason: int(count) for (reason,), count in losses.items() if count}
    return report


def _backend(found: BackendStatus) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "pending": found.pending,
        "dead": found.dead,
        "delivered": found.delivered,
        "oldest_seconds": None if found.oldest_ns is None else max(0.0, (now - found.oldest_ns) / NANOSECONDS),
        "last_success": None if found.last_success_ns is None else _instant(found.last_success_ns),
        "last_error": found.last_error,
        "consecutive_failures": found.consecutive_failures,
        "next_attempt_seconds": max(0.0, (found.next_attempt_ns - now) / NANOSECONDS),
    }


def print_status(report: dict[str, Any], console: Console) -> None:
    """The report for a person."""
    store = report["store"]
    if not report["enabled"]:
        console.print("Monitoring is off (enabled is false).")
    size = f"{store['size_bytes'] / 1e6:.1f} MB" if store["exists"] else "not there yet"
    console.print(f"Store     {store['path']} ({size})", markup=False)
    counts = ", ".join(f"{count} {name}" for name, count in report["sessions"].items())
    console.print(f"Sessions  {counts}")
    table = plain_table("backend", "pending", "oldest", "dead", "delivered", "last success", "last error")
    for name, backend in report["outbox"].items():
        oldest = "" if backend["oldest_seconds"] is None else f"{backend['oldest_seconds']:.0f} s"
        numbers = (str(backend["pending"]), oldest, str(backend["dead"]), str(backend["delivered"]))
        table.add_row(name, *numbers, backend["last_success"] or "never", backend["last_error"] or "")
    if report["outbox"]:
        console.print(table)
    for reason, count in report["losses"].items():
        console.print(f"Lost      {count} {reason}")


def plain_table(*titles: str) -> Table:
    """A table without lines, whose cells are never cut off."""
    table = Table(box=None)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def sessions_table(stored: Iterable[StoredSession]) -> Table:
    """One line a session."""
    table = plain_table(
        "ended (UTC)", "session", "status", "reason", "seconds", "landmarks", "femur R/L mm", "tibia R/L mm", "quality"
    )
    for item in stored:
        record = item.record
        lengths = [_pair(record.measurements_mm, bone) for bone in ("FEM", "TIB")]
        landmarks = "" if record.landmarks_found is None else str(record.landmarks_found)
        reason = record.reason or ""
        table.add_row(
            _instant(item.timestamp_ns), record.session_id[:12], record.status, reason,
            f"{record.duration_seconds:.2f}", landmarks, *lengths, _quality(item),
        )  # fmt: skip
    return table


def _quality(stored: StoredSession) -> str:
    found = stored.derived.values.get(catalogue.QUALITY.name) if stored.derived is not None else None
    return "" if found is None else f"{found:.2f}"


def _pair(measurements: Any, bone: str) -> str:
    values = [measurements.get(f"PLL_{side}_{bone}") for side in "RL"]
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)


def _instant(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / NANOSECONDS, UTC).isoformat(sep=" ", timespec="seconds")


def catalogue_rows() -> list[dict[str, Any]]:
    """The catalogue, JSON-ready."""
    return [
        {
            "name": metric.name,
            "kind": metric.kind.value,
            "unit": metric.unit,
            "help": metric.help,
            "labels": {label.name: list(label.values) for label in metric.labels},
            "measurement": metric.measurement,
            "field": metric.field,
            "source": metric.source,
        }
        for metric in catalogue.METRICS
    ]


def print_erased(found: Erased, is_rehearsal: bool, put_aside: Sequence[str], console: Console) -> None:
    """What was erased, and what must be done elsewhere."""
    counts = (
        f"{found.sessions} sessions, {found.open_sessions} open ones, {found.waiting_lines} undelivered points,"
        f" {found.dead_letters} dead letters, {found.readings} readings"
    )
    console.print(f"{'Would erase' if is_rehearsal else 'Erased'}: {counts}")
    if found.points_ns:
        console.print("What InfluxDB already has names nobody; to delete it there too, these are the points' times:")
        for instant in found.points_ns:
            console.print(f"  {_instant(instant)} UTC  ({instant} ns)")
    for name in put_aside:
        console.print(f"Not searched: {name}, a damaged store that was put aside; delete it when it isn't needed")
