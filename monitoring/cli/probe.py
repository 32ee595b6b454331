"""Asks the store and the backends whether they would take what is sent.

Nothing is made and nothing is left behind: a store that isn't there yet is only made sure of, and one of an older
version is only read. What each backend is asked, its client knows.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from monitoring.cli.common import is_there, refuse_as_another_user
from monitoring.cli.words import ends
from monitoring.exceptions import StoreError
from monitoring.metrics.backends import BACKENDS
from monitoring.settings import MonitoringConfig
from monitoring.store.location import store_path
from monitoring.store.recovery import examine

# Some sessions' worth: a volume with a few blocks left would take a single byte.
_PROBE_BYTES = 1 << 16


class Probed(Struct, frozen=True):
    """One thing that was tried, and what came of it."""

    what: str
    is_good: bool
    message: str


def store_and_backends(config: MonitoringConfig, say: Callable[[str], object]) -> Iterator[Probed]:
    """Try the store and each configured backend, one after the other; ``say`` is told what is waited for."""
    if not config.enabled:
        yield Probed("monitoring", True, "is off (enabled is false)")
        return
    say("looking through the store")
    yield _store(config)
    for backend in BACKENDS:
        section = backend.settings(config)
        if section is not None:
            place = str(getattr(section, backend.target))
            say(f"asking {backend.name} at {place}, for {section.timeout:g} s at most")
            # The very client that delivers, so that what it is told here is what a delivery would be told.
            client = backend.load_client().open(section, {})
            trouble = client.probe()
            client.close()
            dates = [ends(kind, end, time.time()) for kind, end in (client.expiry or {}).items()]
            said = [f"{place}: {trouble}" if trouble else place, *dates]
            yield Probed(backend.name, trouble is None, "; ".join(said))


def _store(config: MonitoringConfig) -> Probed:
    try:
        path = store_path(config)
        refuse_as_another_user(path)
        if is_there(path):
            remark = "" if examine(path) else " (of an older version; the next run brings it up to date)"
        else:
            _try_to_write(next(folder for folder in path.parents if folder.exists()))
            remark = " (not there yet; the first session makes it)"
    except StoreError as error:
        return Probed("store", False, str(error))
    return Probed("store", True, f"{path}{remark}")


def _try_to_write(folder: Path) -> None:
    """Write a file that has no name; raises :class:`StoreError`."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            # Only then has a full or broken volume said no.
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"can't write in {folder}: {error.strerror}") from None
