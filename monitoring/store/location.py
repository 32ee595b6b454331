"""Where the store lies, and the name under which it reports."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.settings import MonitoringConfig
from monitoring.store.sessions import Store

STORE_FILE = "monitoring.db"


def store_paths(config: MonitoringConfig, environment: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Where the store may lie, the best first: the setting, else the environment, else the user's state folder.

    None at all where nothing is set and the user has no home, as in a hardened container.
    """
    environment = os.environ if environment is None else environment
    # The second is Mercure's: a folder of the module's that outlives its containers.
    variables = (environment.get("MONITORING_DATA_PATH"), environment.get("MODULE_PERSISTENCE_DIR"))
    for chosen in (config.store.path, *(Path(folder) for folder in variables if folder)):
        with suppress(RuntimeError):  # "~" of a user that has no home
            if chosen is not None:
                path = chosen.expanduser()
                # Either the file or its folder may be named.
                yield path if path.suffix == ".db" else path / STORE_FILE
    with suppress(RuntimeError):
        # XDG Base Directory Specification
        state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        yield Path(state) / f"{config.application or 'leglength'}-monitoring" / STORE_FILE


def store_path(config: MonitoringConfig, environment: Mapping[str, str] | None = None) -> Path:
    """Where the store lies; raises :class:`StoreError` when it can't be told."""
    found = next(store_paths(config, environment), None)
    if found is None:
        raise StoreError("there is no folder for the store: the user has no home; set store.path")
    return found


def lies_in(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies in ``folder``, however both are written."""
    return path.resolve().is_relative_to(folder.resolve())


def instance_name(config: MonitoringConfig, store: Store) -> str:
    """The name under which this installation reports: the setting, else one that the store keeps.

    Not the host name of the moment: a container has a new one each time, and each would be a new series.
    """
    if config.prometheus is not None and config.prometheus.instance is not None:
        return config.prometheus.instance
    # In memory no name is kept: each container would have its own, and new series with it.
    if store.database.path is None and in_container():
        return "leglength"
    return str(store.state("instance", _new_instance_name))


def known_instance(config: MonitoringConfig, store: Store) -> str:
    """:func:`instance_name` for who only reads the store; raises :class:`ConfigurationError` where it keeps none."""
    is_set = config.prometheus is not None and config.prometheus.instance is not None
    if not is_set and store.state("instance") is None:
        raise ConfigurationError(
            "prometheus.instance: not set, and the store keeps none; set the name that its sessions were sent under"
        )
    return instance_name(config, store)


def _new_instance_name() -> str:
    # A container's host name is its ID, another each time; a machine's stays.
    name = f"leglength-{secrets.token_hex(4)}" if in_container() else os.uname().nodename
    # What a line of InfluxDB's can't hold as a tag.
    return name if name.isprintable() and "\\" not in name and name else "leglength"


def in_container() -> bool:
    """Whether this process runs in a Docker or Podman container."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def is_gone_with_the_container(path: Path) -> bool:
    """Whether the store lies on the container's own file system, which is removed with it."""
    try:
        return in_container() and path.parent.stat().st_dev == Path("/").stat().st_dev
    except OSError:
        return False
