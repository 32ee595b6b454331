"""Asks the store and the backends whether they would take what is sent."""

from __future__ import annotations

from msgspec import Struct

from monitoring.exceptions import StoreError
from monitoring.metrics.backends import BACKENDS
from monitoring.settings import MonitoringConfig
from monitoring.store.database import Database
from monitoring.store.location import store_path


class Probed(Struct, frozen=True):
    """One thing that was tried, and what came of it."""

    what: str
    is_good: bool
    message: str


def store_and_backends(config: MonitoringConfig) -> list[Probed]:
    """Try the store and each configured backend; nothing is written to a backend."""
    if not config.enabled:
        return [Probed("monitoring", True, "is off (enabled is false)")]
    path = store_path(config)
    try:
        Database(path).close()
        probed = [Probed("store", True, str(path))]
    except StoreError as error:
        probed = [Probed("store", False, str(error))]
    for backend in BACKENDS:
        section = backend.settings(config)
        if section is not None:
            place = str(getattr(section, backend.target))
            client = backend.load_client().open(section, {})
            trouble = client.probe()
            client.close()
            probed.append(Probed(backend.name, trouble is None, f"{place}: {trouble}" if trouble else place))
    return probed
