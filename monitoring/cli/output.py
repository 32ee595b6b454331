"""What the commands print: tables and sentences for a person, JSON for a program.

Each kind of answer has its ``..._as_dict`` and its ``print_...`` here, so that the two say the same; what the answers
are made from is gathered by the commands and the rooms below.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer
from msgspec.structs import asdict
from rich.console import Console
from rich.table import Table

from monitoring.analytics.rederivation import Summary
from monitoring.domain import agreement
from monitoring.domain.agreement import SHOWN_FROM_PAIRS, VERDICT_FROM_PAIRS, Verdict
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.metrics import catalogue
from monitoring.metrics.samples import NANOSECONDS
from monitoring.readings.importing import ImportedReadings
from monitoring.readings.validation import Validation
from monitoring.records.session_record import STATUSES
from monitoring.settings import MonitoringConfig
from monitoring.store import readings, totals
from monitoring.store.database import Database
from monitoring.store.erasure import Erased
from monitoring.store.location import store_path
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.rows import StoredSession
from monitoring.store.sessions import open_store

# A pipe or a file has no width: lines stay whole there. No markup: in a path, an address (`http://[::1]:8086`) or a
# record's text rich would take brackets for a style, and raise for one that closes what was never opened.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000)


def print_json(document: Any) -> None:
    """One document, for a program."""
    typer.echo(json.dumps(document, indent=2))


def plain_table(*titles: str) -> Table:
    """A table without lines, whose cells are never cut off."""
    table = Table(box=None)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _number(value: float | None, form: str = ".2f", missing: str = "-") -> str:
    return missing if value is None else format(value, form)


def _instant(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / NANOSECONDS, UTC).isoformat(sep=" ", timespec="seconds")


# --- status -------------------------------------------------------------------------------------


def status_as_dict(config: MonitoringConfig) -> dict[str, Any]:
    """Sessions by status, what waits for each backend, losses by reason; raises :class:`StoreError`."""
    path = store_path(config)
    report: dict[str, Any] = {
        "enabled": config.enabled,
        "store": {"path": str(path), "exists": path.exists(), "size_bytes": 0},
        "sessions": dict.fromkeys(STATUSES, 0),
        "outbox": {},
        "losses": {},
    }
    if not path.exists():
        return report
    with open_store(Database(path, only_reads=True)) as store:
        report["store"]["size_bytes"] = path.stat().st_size
        report["sessions"] = store.counts_by_status()
        with store.database.read_transaction() as connection:
            report["outbox"] = {found.name: _backend_as_dict(found) for found in backend_statuses(connection)}
            report["losses"] = {reason: count for reason, count in totals.losses(connection).items() if count}
    return report


def _backend_as_dict(found: BackendStatus) -> dict[str, Any]:
    now = time.time_ns()
    return {
        "pending": found.pending,
        "dead": found.dead,
        "dead_causes": dict(found.dead_causes),
        "delivered": found.delivered,
        "oldest_seconds": None if found.oldest_ns is None else max(0.0, (now - found.oldest_ns) / NANOSECONDS),
        "last_success": None if found.last_success_ns is None else _instant(found.last_success_ns),
        "last_error": found.last_error,
        "consecutive_failures": found.consecutive_failures,
        "next_attempt_seconds": max(0.0, (found.next_attempt_ns - now) / NANOSECONDS),
    }


def print_status(report: dict[str, Any]) -> None:
    """The same for a person."""
    store = report["store"]
    if not report["enabled"]:
        console.print("Monitoring is off (enabled is false).")
    size = f"{store['size_bytes'] / 1e6:.1f} MB" if store["exists"] else "not there yet"
    console.print(f"Store     {store['path']} ({size})")
    counts = ", ".join(f"{count} {name}" for name, count in report["sessions"].items())
    console.print(f"Sessions  {counts}")
    table = plain_table("backend", "pending", "oldest", "dead", "delivered", "last success", "last error")
    for name, backend in report["outbox"].items():
        oldest = "" if backend["oldest_seconds"] is None else f"{backend['oldest_seconds']:.0f} s"
        numbers = (str(backend["pending"]), oldest, str(backend["dead"]), str(backend["delivered"]))
        table.add_row(name, *numbers, backend["last_success"] or "never", backend["last_error"] or "")
    if report["outbox"]:
        console.print(table)
    for name, backend in report["outbox"].items():
        for cause, count in backend["dead_causes"].items():
            console.print(f"Refused   {count} points by {name}: {cause}; see export --dead", markup=False)
    for reason, count in report["losses"].items():
        console.print(f"Lost      {count} {reason}")


# --- metrics ------------------------------------------------------------------------------------


def metrics_as_list() -> list[dict[str, Any]]:
    """The catalogue."""
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


def print_metrics() -> None:
    """The same for a person."""
    table = plain_table("Prometheus", "kind", "unit", "labels", "InfluxDB")
    for metric in catalogue.METRICS:
        place = f"{metric.measurement}.{metric.field}" if metric.measurement else ""
        table.add_row(metric.name, metric.kind, metric.unit, " ".join(label.name for label in metric.labels), place)
    console.print(table)


# --- sessions -----------------------------------------------------------------------------------


def print_sessions(stored: Iterable[StoredSession]) -> None:
    """One line a session."""
    table = plain_table(
        "ended (UTC)", "session", "status", "reason", "seconds", "landmarks", "femur R/L mm", "tibia R/L mm", "quality"
    )
    for item in stored:
        record = item.record
        found = record.measurements_mm
        lengths = [" / ".join(_number(found.get(f"PLL_{side}_{bone}"), ".1f") for side in "RL") for bone in _BONES]
        quality = item.derived.values.get(catalogue.QUALITY.name) if item.derived is not None else None
        table.add_row(
            _instant(item.timestamp_ns), record.session_id[:12], record.status, record.reason or "",
            f"{record.duration_seconds:.2f}", _number(record.landmarks_found, "d", missing=""), *lengths,
            _number(quality, missing=""),
        )  # fmt: skip
    console.print(table)


_BONES = ("FEM", "TIB")


def print_rederived(summary: Summary) -> None:
    """How many sessions' metrics differ under the present formulas, and by how much."""
    typer.echo(f"{summary.sessions} sessions computed again by formulas of version {FORMULA_VERSION}")
    typer.echo(f"{summary.differing} differ from what was delivered, which stays as it is")
    if summary.unknown:
        typer.echo(f"{summary.unknown} were stored by a version that didn't keep what it had computed")
    table = plain_table("metric", "values that differ", "largest difference")
    for name, (count, largest) in sorted(summary.by_metric.items()):
        table.add_row(name, str(count), f"{largest:.6g}")
    if summary.by_metric:
        console.print(table)


def print_erased(found: Erased, is_rehearsal: bool, put_aside: Sequence[str]) -> None:
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


# --- readings -----------------------------------------------------------------------------------

_KEPT_WORDS = {readings.NEW: "new", readings.CORRECTED: "corrected", readings.KNOWN: "known already"}
_NOT_COMPARED = "the session was not completed or measured something else, or the exam's later one is compared"


def imported_as_dict(
    count: int, left_out: int, passed_over: dict[str, int], imported: ImportedReadings
) -> dict[str, Any]:
    """What became of ``count`` readings; ``left_out`` measurements and ``passed_over`` reports were none."""
    return {
        "readings": count,
        **{state: imported.kept[state] for state in _KEPT_WORDS},
        "sessions_compared": imported.sessions,
        "without_session": imported.without_session,
        "not_compared": imported.not_compared,
        "reports_passed_over": sum(passed_over.values()),
        "measurements_left_out": left_out,
    }


def print_imported(count: int, left_out: int, passed_over: dict[str, int], imported: ImportedReadings) -> None:
    """The same for a person."""
    kept = ", ".join(f"{imported.kept[state]} {words}" for state, words in _KEPT_WORDS.items())
    typer.echo(f"readings: {count} ({kept})")
    typer.echo(f"sessions compared with them: {imported.sessions}")
    if imported.without_session:
        typer.echo(f"without a session: {imported.without_session} (kept, and compared when it comes)")
    if imported.not_compared:
        typer.echo(f"not compared: {imported.not_compared} ({_NOT_COMPARED})")
    if left_out:
        typer.echo(f"measurements left out: {left_out} (no reader's length of a femur, a tibia or a leg)")
    for reason, reports in passed_over.items():
        typer.echo(f"reports left out: {reports} ({reason})")


def agreement_as_dict(counts: readings.Counts, sessions: int, validations: Sequence[Validation]) -> dict[str, Any]:
    """How well ``sessions`` compared ones agree with readers, and by which criteria that is judged."""
    measurements = {}
    for found in validations:
        numbers = msgspec.to_builtins(found.agreement)
        measurements[found.measurement] = {
            **numbers.pop("icc"),
            **numbers,
            "within_threshold_ratio": found.within_threshold_ratio,
            "verdict": asdict(found.verdict),
        }
    return {
        **asdict(counts),
        "sessions_compared": sessions,
        "newest_sessions": readings.NEWEST_SESSIONS,
        "criteria": {
            "bias_limit_mm": agreement.BIAS_LIMIT_MM,
            "mae_limit_mm": agreement.MAE_LIMIT_MM,
            "agreement_limit_mm": agreement.AGREEMENT_LIMIT_MM,
            "icc_limit": agreement.ICC_LIMIT,
            "shown_from_pairs": SHOWN_FROM_PAIRS,
            "verdict_from_pairs": VERDICT_FROM_PAIRS,
        },
        "measurements": measurements,
    }


def print_agreement(counts: readings.Counts, sessions: int, validations: Sequence[Validation]) -> None:
    """The same for a person; statistics of a few pairs are left out, since they say nothing."""
    console.print(
        f"readings: {counts.readings}, readers: {counts.readers}, sessions compared: {sessions},"
        f" readings without a session: {counts.without_session}"
    )
    if sessions >= readings.NEWEST_SESSIONS:
        console.print(f"Only the newest {readings.NEWEST_SESSIONS} sessions are compared.")
    table = plain_table(
        "measurement", "pairs", "bias (95 % CI)", "SD", "limits of agreement", "MAE", "median", "ICC(2,1)", "CCC",
        "within threshold", "> 5 mm", "> 10 mm", "verdict",
    )  # fmt: skip
    for found in validations:
        pairs = found.agreement.pairs
        cells = _statistics(found) if pairs >= SHOWN_FROM_PAIRS else [""] * 10
        table.add_row(found.measurement, str(pairs), *cells, verdict_in_words(found.verdict, pairs))
    console.print(table)
    console.print(
        f"Errors are measurement - readers' mean, in mm. Met: |bias| <= {agreement.BIAS_LIMIT_MM:g}, MAE <="
        f" {agreement.MAE_LIMIT_MM:g}, limits of agreement within +-{agreement.AGREEMENT_LIMIT_MM:g}, ICC(2,1) >="
        f" {agreement.ICC_LIMIT:g}; judged from {VERDICT_FROM_PAIRS} pairs on, shown from {SHOWN_FROM_PAIRS} on."
    )


def _statistics(found: Validation) -> list[str]:
    of = found.agreement
    return [
        f"{_number(of.bias_mm, '+.2f')} ({_number(of.bias_low_mm, '+.2f')} to {_number(of.bias_high_mm, '+.2f')})",
        _number(of.sd_mm),
        f"{_number(of.lower_limit_mm, '+.2f')} to {_number(of.upper_limit_mm, '+.2f')}",
        _number(of.mae_mm),
        _number(of.median_absolute_error_mm),
        _number(of.icc.icc_2_1, ".3f"),
        _number(of.ccc, ".3f"),
        _number(found.within_threshold_ratio, ".1%"),
        _number(of.beyond_5_mm_ratio, ".1%"),
        _number(of.beyond_10_mm_ratio, ".1%"),
    ]


def verdict_in_words(verdict: Verdict, pairs: int) -> str:
    """The verdict for a person, with what is not met, or how many pairs are missing."""
    failed = ", ".join(name.replace("_", " ") for name in verdict.failed)
    if verdict.status == "too_few":
        return f"too few: {pairs} of {SHOWN_FROM_PAIRS}"
    if verdict.status == "provisional":
        so_far = f"not met so far: {failed}" if failed else "met so far"
        return f"provisional ({SHOWN_FROM_PAIRS} to {VERDICT_FROM_PAIRS - 1}), {so_far}"
    return f"not met: {failed}" if failed else "met"
