"""``leglength-monitor status``: what was recorded, what waits for whom, what was refused, lost or put aside.

Looks only: the store is opened to read. Each configured backend has its entry, also one that the store has not met.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from monitoring.cli.common import in_words, is_there
from monitoring.cli.output import print_entry
from monitoring.cli.words import NOT_CONFIGURED, UNUSED_WORDS, USED, age, counted, ends, instant, unit_of, use_of
from monitoring.config_validator import Checked
from monitoring.metrics import catalogue
from monitoring.metrics.backends import BACKENDS, Backend
from monitoring.metrics.samples import NANOSECONDS
from monitoring.records.session_record import STATUSES
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.location import store_path
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.recovery import count_put_aside, put_aside
from monitoring.store.sessions import Store, open_store

_OF_LOSSES = {"corrupt": "values, points or sessions", "disk_full": "sessions"}


def status_as_dict(checked: Checked) -> dict[str, Any]:
    """What the store holds and what the settings make of it; raises :class:`StoreError`."""
    path = store_path(checked.config)
    # Every key from the start: a program finds the same ones whether there is a store or not.
    report: dict[str, Any] = {
        "enabled": checked.config.enabled,
        "store": {"path": str(path), "exists": is_there(path), "size_bytes": 0},
        "sessions": dict.fromkeys(STATUSES, 0),
        "open_sessions": 0,
        "not_routed": 0,
        "outbox": {},
        "losses": {},
        "refused_values": {},
        "put_aside": [],
    }
    asides, in_store = put_aside(path), set[str]()
    statuses: dict[str, BackendStatus] = {}
    expiry: dict[tuple[str, ...], float] = {}
    if report["store"]["exists"]:
        with open_store(Database(path, only_reads=True)) as store:
            report["store"]["size_bytes"] = path.stat().st_size
            report |= _stored_as_dict(store)
            with store.database.read_transaction() as connection:
                # By what the store has met, too: points may wait for a backend that the settings name no more.
                statuses = {found.name: found for found in backend_statuses(connection)}
                expiry = totals.values(connection, catalogue.CERTIFICATE_EXPIRY)
                # Only then: all ids of a large store are read for it.
                if asides:
                    in_store = {row[0] for row in connection.execute("SELECT session_id FROM sessions")}
    counts = {aside: count_put_aside(aside, in_store) for aside in asides}
    report["put_aside"] = [
        {"path": str(aside), "words": in_words(aside, found), **(asdict(found) if found else {})}
        for aside, found in counts.items()
    ]
    for backend in BACKENDS:
        use, status = use_of(backend, checked), statuses.get(backend.name)
        is_meant = use == USED or (use != NOT_CONFIGURED and backend.is_first_of_section)
        if is_meant or status is not None:
            report["outbox"][backend.name] = _backend_as_dict(backend, use, status)
            # Of what isn't in use no certificate need be renewed.
            dates = {kind: end for (name, kind), end in expiry.items() if name == backend.name and use == USED}
            report["outbox"][backend.name]["expiry_timestamp_seconds"] = dates
    return report


def _stored_as_dict(store: Store) -> dict[str, Any]:
    not_routed, sessions = store.not_routed(), store.counts_by_status()
    with store.database.read_transaction() as connection:
        refused = totals.values(connection, catalogue.REFUSED)
        return {
            "sessions": sessions,
            "open_sessions": connection.execute("SELECT count(*) FROM open_sessions").fetchone()[0],
            "not_routed": not_routed,
            "losses": {reason: count for reason, count in totals.losses(connection).items() if count},
            "refused_values": {kind: int(count) for (kind,), count in refused.items() if count},
        }


def _backend_as_dict(backend: Backend, use: str, found: BackendStatus | None) -> dict[str, Any]:
    now = time.time_ns()
    oldest_ns, success_ns = (found.oldest_ns, found.last_success_ns) if found else (None, None)
    return {
        "use": use,
        "unit": unit_of(backend.name),
        "pending": found.pending if found else 0,
        # The charts' gauges, own counts: no session's, so that they aren't counted.
        "has_news": found is not None and found.has_news,
        "dead": found.dead if found else 0,
        "dead_causes": dict(found.dead_causes) if found else {},
        "delivered": found.delivered if found else 0,
        # Not below 0, where the clock was set back since.
        "oldest_seconds": None if oldest_ns is None else max(0.0, (now - oldest_ns) / NANOSECONDS),
        "last_success": None if success_ns is None else f"{instant(success_ns)}+00:00",
        "last_success_seconds": None if success_ns is None else max(0.0, (now - success_ns) / NANOSECONDS),
        "last_error": found.last_error if found else None,
        "consecutive_failures": found.consecutive_failures if found else 0,
        "next_attempt_seconds": max(0.0, (found.next_attempt_ns - now) / NANOSECONDS) if found else 0.0,
    }


def print_status(report: Mapping[str, Any]) -> None:
    """The same for a person."""
    store = report["store"]
    if not report["enabled"]:
        print_entry("Monitoring", "is off (enabled is not true)")
    megabytes = store["size_bytes"] / 1e6
    # A store of few sessions would be "0.0 MB".
    size = f"{megabytes:.1f} MB" if megabytes >= 0.1 else f"{megabytes * 1000:.0f} kB"
    size = size if store["exists"] else "not there yet"
    print_entry("Store", f"{store['path']} ({size})")
    counts = ", ".join(f"{count:,} {name}" for name, count in report["sessions"].items())
    print_entry("Sessions", f"{counts}; {report['open_sessions']:,} open")
    for name, backend in report["outbox"].items():
        _print_backend(name, backend, report["not_routed"])
    if not any(backend["use"] == USED for backend in report["outbox"].values()):
        print_entry("Backends", "none is in use: what is recorded stays in the store")
    for name, backend in report["outbox"].items():
        for cause, count in backend["dead_causes"].items():
            print_entry("Refused", f"{counted(count, 'point')} by {name}: {cause}; see `export --dead`")
    for reason, count in report["losses"].items():
        print_entry("Lost", f"{count:,} {_OF_LOSSES.get(reason, 'points')}: {reason}")
    for kind, count in report["refused_values"].items():
        print_entry("Left out", f"{counted(count, 'value')} that the application passed: {kind}")
    for aside in report["put_aside"]:
        print_entry("Put aside", aside["words"])


def _print_backend(name: str, backend: Mapping[str, Any], not_routed: int) -> None:
    unit = backend["unit"]
    if backend["use"] != USED:
        print_entry(name, UNUSED_WORDS[backend["use"]])
        name = ""
    nothing = "no session waits, newer totals go with the next push" if backend["has_news"] else "nothing waits"
    waits = f"{counted(backend['pending'], unit)} waiting" if backend["pending"] else nothing
    if backend["oldest_seconds"] is not None and backend["pending"]:
        waits += f", the oldest for {age(backend['oldest_seconds'])}"
    if not_routed and unit == "point":
        waits += f"; {counted(not_routed, 'session')} whose points are not made yet"
    print_entry(name, f"{waits}; {backend['delivered']:,} delivered, {backend['dead']:,} refused")
    if backend["last_success"]:
        at = backend["last_success"].removesuffix("+00:00")
        print_entry("", f"last delivery {at} UTC, {age(backend['last_success_seconds'])} ago")
    elif backend["use"] == USED:
        print_entry("", "nothing was ever delivered")
    for kind, end in backend["expiry_timestamp_seconds"].items():
        print_entry("", ends(kind, end, time.time()))
    if backend["last_error"]:
        print_entry("", f"last error: {backend['last_error']}")
