"""Delivers in the foreground what is stored, for a person or a timer that waits for the end.

What it reports is what the store says before and after: so it is true also of what another process has delivered
meanwhile. A backend that isn't used is reported, too, where something waits for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import typer
from msgspec import Struct
from msgspec.structs import replace

from monitoring.cli.common import is_there, refuse_as_another_user, say_put_aside
from monitoring.cli.words import NOT_CONFIGURED, OFF_BY_MISTAKE, UNUSED_WORDS, USED, counted, unit_of, use_of
from monitoring.config_validator import Checked
from monitoring.delivery.couriers import Courier, Step
from monitoring.delivery.queue import BackendQueue
from monitoring.delivery.threads import let_errors_pass
from monitoring.exceptions import StoreError
from monitoring.metrics.backends import BACKENDS, Backend
from monitoring.metrics.samples import zero_changes
from monitoring.runtime.active_store import ActiveStore
from monitoring.settings import MonitoringConfig
from monitoring.store.database import Database
from monitoring.store.location import store_path
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.recovery import open_or_recover
from monitoring.transport.deadline import Deadline

Say = Callable[[str], object]


class Drained(Struct, frozen=True):
    """What became of what waited for one backend; ``delivered`` and ``dead`` count since the store was begun."""

    name: str
    use: str
    pending: int = 0
    delivered: int = 0
    dead: int = 0
    last_error: str | None = None
    delivered_now: int = 0
    refused_now: int = 0
    not_routed: int = 0
    """Sessions whose points were not made, since no log backend was in use."""
    failed: bool = False
    """Whether the last try failed, which says of totals what ``pending`` says of points: that they are not told."""

    @property
    def is_done(self) -> bool:
        """Whether all is delivered; what waits for a backend that the settings don't name is nobody's to deliver."""
        return self.use == NOT_CONFIGURED or not (self.pending or self.refused_now or self.not_routed or self.failed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the name."""
        return {name: getattr(self, name) for name in self.__struct_fields__[1:]}


def drain(
    checked: Checked, timeout: float, say: Say, requeues_dead: bool = False, begins: bool = False
) -> tuple[list[Drained], bool]:
    """Deliver until nothing waits, all backends fail, or ``timeout`` seconds are over.

    Returns what became of it, and whether a damaged store was put aside before. ``say`` is told a line a backend. What
    ``begins`` makes the store where there is none, so that all counters are told at 0.
    """
    path = store_path(checked.config)
    if not is_there(path) and not begins:  # nor is one made by who only looks in the wrong place
        raise StoreError(f"there is no store at {path} yet; before the first session `drain --begin` makes one")
    refuse_as_another_user(path)
    database, aside = open_or_recover(path)
    say_put_aside(aside)
    active = ActiveStore(database, checked.config, logging.getLogger("monitoring"), let_errors_pass)
    try:
        deadline = Deadline.after(timeout)
        _prepare(active, checked.config)
        # States come last: what is pushed tells how much waits for the logs.
        in_order = sorted(active.courier_makers, key=lambda backend: backend.is_state)
        found = [_drain_one(active, backend, deadline, say, requeues_dead) for backend in in_order]
        for unused in _unused(active, checked):
            say(f"{unused.name}: {UNUSED_WORDS[unused.use]}; {_waiting(unused)}")
            found.append(unused)
    finally:
        active.abandon()
    return found, aside is not None


def _prepare(active: ActiveStore, config: MonitoringConfig) -> None:
    """Report crashed sessions and make lines that no module made, so that all of it is delivered."""
    # First, so that what is counted below is a step that Prometheus sees.
    active.store.initialise(zero_changes(declared=config.metrics.declared))
    active.report_crashed()
    active.make_missing_lines()


def _unused(active: ActiveStore, checked: Checked) -> list[Drained]:
    """The backends that are not used: those that were meant to be, and any for which something waits."""
    statuses, not_routed = _statuses(active.database), active.store.not_routed()
    found = []
    for backend in BACKENDS:
        use = use_of(backend, checked)
        is_meant = use == OFF_BY_MISTAKE and backend.is_first_of_section
        status = statuses.get(backend.name)
        # Points are made for logs alone; and for one that the settings name, since nobody else would take them.
        not_made = 0 if backend.is_state or use == NOT_CONFIGURED else not_routed
        drained = _drained(status, status, use, not_made) if status else Drained(backend.name, use, not_routed=not_made)
        if backend not in active.courier_makers and (is_meant or drained.pending or drained.not_routed):
            found.append(drained)
    return found


def _drain_one(active: ActiveStore, backend: Backend, deadline: Deadline, say: Say, requeues_dead: bool) -> Drained:
    courier, database = active.courier_makers[backend](), active.database
    try:
        if requeues_dead and not backend.is_state:
            BackendQueue(database, backend.name, owner="").requeue_dead()
        # After the requeuing, so that what is refused once more counts as refused now.
        before = _statuses(database)[backend.name]
        step = _repeat(courier, database, deadline)
    finally:
        courier.close()
    done = replace(_drained(before, _statuses(database)[backend.name], USED), failed=step is Step.FAILED)
    say(f"{backend.name}: {_last_words(done, step)}")
    return done


def _repeat(courier: Courier, database: Database, deadline: Deadline) -> Step:
    step = Step.DELIVERED
    while step is Step.DELIVERED and not deadline.passed():
        # A person has mended something, and doesn't wait for the pause that a failure has left.
        step = courier.step(deadline, ignore_backoff=True)
        if step is Step.DELIVERED and sys.stderr.isatty():  # a large backlog takes minutes
            typer.echo(
                f"{courier.name}: {counted(_statuses(database)[courier.name].pending, unit_of(courier.name))} left",
                err=True,
            )
    return step


def _drained(before: BackendStatus, after: BackendStatus, use: str, not_routed: int = 0) -> Drained:
    return Drained(
        after.name, use, after.pending, after.delivered, after.dead, after.last_error,
        delivered_now=max(0, after.delivered - before.delivered), refused_now=max(0, after.dead - before.dead),
        not_routed=not_routed,
    )  # fmt: skip


def _last_words(done: Drained, step: Step) -> str:
    told = [f"delivered {counted(done.delivered_now, unit_of(done.name))}"] if done.delivered_now else []
    if done.refused_now:
        told.append(f"{counted(done.refused_now, unit_of(done.name))} refused for good (`export --dead` shows why)")
    if step is Step.FAILED:
        return "; ".join(["FAILED", *told, f"{_waiting(done)}: {done.last_error}"])
    if step is Step.BUSY:
        told.append("another process delivers")
    elif step is Step.DELIVERED and done.pending:
        told.append("time is over")
    return "; ".join([*told, _waiting(done)])


def _waiting(done: Drained) -> str:
    waiting = [counted(done.pending, unit_of(done.name))] if done.pending else []
    if done.not_routed:
        waiting.append(f"{counted(done.not_routed, 'session')} whose points are not made yet")
    return f"{' and '.join(waiting)} waiting" if waiting else "nothing waits"


def _statuses(database: Database) -> dict[str, BackendStatus]:
    with database.read_transaction() as connection:
        return {status.name: status for status in backend_statuses(connection)}
