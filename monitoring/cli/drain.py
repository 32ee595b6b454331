"""Delivers in the foreground what is stored, for a person or a timer that waits for the end."""

from __future__ import annotations

import logging
from typing import Any

from rich.console import Console

from monitoring.delivery.couriers import Courier, Step
from monitoring.delivery.queue import BackendQueue
from monitoring.delivery.threads import let_errors_pass
from monitoring.exceptions import StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.runtime.active_store import ActiveStore
from monitoring.settings import MonitoringConfig
from monitoring.store.database import Database
from monitoring.store.location import store_path
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.recovery import open_or_recover
from monitoring.transport.deadline import Deadline


def drain(
    config: MonitoringConfig, timeout: float, console: Console | None, requeues_dead: bool = False
) -> dict[str, dict[str, Any]]:
    """Deliver until nothing waits, all backends fail, or ``timeout`` seconds are over; returns what then waits."""
    path = store_path(config.store)
    if not path.exists():
        raise StoreError(f"there is no store at {path} yet")
    database, _ = open_or_recover(path)
    active = ActiveStore(database, config, logging.getLogger("monitoring"), let_errors_pass)
    try:
        deadline = Deadline.after(timeout)
        _prepare(active, requeues_dead)
        # States come last: what is pushed tells how much waits for the logs.
        for _, make in sorted(active.courier_makers.items(), key=lambda item: item[0].is_state):
            _drain_one(make(), database, deadline, console)
        # What waits for a backend that the settings don't name is not theirs to deliver; `status` shows it.
        names = {backend.name for backend in active.courier_makers}
        return {status.name: _result(status) for status in _statuses(database) if status.name in names}
    finally:
        active.abandon()


def _prepare(active: ActiveStore, requeues_dead: bool) -> None:
    """Report crashed sessions and make lines that no module made, so that all of it is delivered."""
    active.store.initialise(zero_changes())
    active.report_crashed()
    active.make_missing_lines()
    for backend in active.courier_makers:
        if requeues_dead and not backend.is_state:
            BackendQueue(active.database, backend.name, owner="").requeue_dead()


def _drain_one(courier: Courier, database: Database, deadline: Deadline, console: Console | None) -> None:
    try:
        step = _repeat(courier, database, deadline, console)
    finally:
        courier.close()
    if console is not None:
        console.print(_last_words(courier.name, step, database))


def _repeat(courier: Courier, database: Database, deadline: Deadline, console: Console | None) -> Step:
    step = Step.DELIVERED
    while step is Step.DELIVERED and not deadline.passed():
        step = courier.step(deadline, ignore_backoff=True)
        if console is not None and console.is_terminal and step is Step.DELIVERED:
            console.print(f"{courier.name}: {_pending(database, courier.name)} waiting")
    return step


def _last_words(name: str, step: Step, database: Database) -> str:
    waiting = _pending(database, name)
    if step is Step.IDLE:
        return f"{name}: nothing waits"
    if step is Step.BUSY:
        return f"{name}: another process delivers; {waiting} waiting"
    if step is Step.FAILED:
        error = next((status.last_error for status in _statuses(database) if status.name == name), None)
        return f"{name}: FAILED, {waiting} waiting: {error}"
    return f"{name}: time is over, {waiting} waiting"


def _pending(database: Database, name: str) -> int:
    return next((status.pending for status in _statuses(database) if status.name == name), 0)


def _statuses(database: Database) -> list[BackendStatus]:
    with database.read_transaction() as connection:
        return backend_statuses(connection)


def _result(status: BackendStatus) -> dict[str, Any]:
    return {
        "pending": status.pending,
        "delivered": status.delivered,
        "dead": status.dead,
        "last_error": status.last_error,
    }
