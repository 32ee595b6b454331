"""From settings to what serves the configured backends: what makes their lines, and what carries to each.

Which backends there are, :mod:`monitoring.metrics.backends` declares; nothing here knows one by its name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from monitoring.delivery.couriers import Courier, LineCourier, StateCourier
from monitoring.delivery.queue import BackendQueue
from monitoring.metrics.backends import BACKENDS, Backend, in_use, logs_in_use
from monitoring.metrics_collector import SessionWritesBuilder, own_lines
from monitoring.settings import MonitoringConfig, common_labels
from monitoring.store.database import Database
from monitoring.version import __version__


def session_writes_builder(config: MonitoringConfig, instance: str) -> SessionWritesBuilder:
    """What makes the writes of sessions under these settings."""
    labels = {"instance": instance, **common_labels(config)}
    return SessionWritesBuilder(labels, logs_in_use(config), config.privacy.send_age_band, __version__, in_use(config))


def courier_makers(
    config: MonitoringConfig, database: Database, instance: str, owner: str, heartbeat_seconds: float | None = None
) -> dict[Backend, Callable[[], Courier]]:
    """What makes each configured backend's courier; ``owner`` holds their leases. With ``heartbeat_seconds`` a log is
    told of the monitoring itself also where nothing waits.

    Clients, and the libraries under them, are loaded when a courier is made: in its own thread.
    """
    labels = {"instance": instance, **common_labels(config)}
    used = {backend: backend.settings(config) for backend in BACKENDS}
    return {
        backend: partial(_courier, backend, section, labels, config, database, owner, heartbeat_seconds)
        for backend, section in used.items()
        if section is not None
    }


def _courier(
    backend: Backend,
    section: Any,
    labels: Mapping[str, str],
    config: MonitoringConfig,
    database: Database,
    owner: str,
    heartbeat_seconds: float | None,
) -> Courier:
    queue = BackendQueue(database.sibling(), backend.name, owner)
    queue.forget_dates_but_of(in_use(config))
    with _LOADING:
        client = backend.load_client().open(section, labels)
    if backend.is_state:
        return StateCourier(queue, client, section.timeout)
    # A store in memory counts this run alone.
    own = partial(own_lines, common_tags=labels) if database.path is not None else None
    return LineCourier(queue, client, config.metrics.batch_size, section.timeout, own, heartbeat_seconds)


# A child that is forked while a thread imports has the module locked by a thread that it hasn't: its own import of
# the same would wait for ever. So a fork waits for the clients to be loaded, though not for ever either.
_LOADING = threading.Lock()
_FORK_PATIENCE_SECONDS = 1.0
_forking = threading.local()


def _before_fork() -> None:
    _forking.may_release = _LOADING.acquire(timeout=_FORK_PATIENCE_SECONDS)


def _after_fork() -> None:
    if _forking.may_release:
        _LOADING.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
