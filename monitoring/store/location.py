"""Where the store lies, and the name under which it reports."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from monitoring.settings import MonitoringConfig, StoreConfig
from monitoring.store.sessions import Store

STORE_FILE = "monitoring.db"


def store_path(config: StoreConfig, environment: Mapping[str, str] | None = None) -> Path:
    """Where the store lies: the setting, else the environment, else the user's state folder."""
    environment = os.environ if environment is None else environment
    chosen = config.path or environment.get("MONITORING_DATA_PATH") or environment.get("MODULE_PERSISTENCE_DIR")
    return _store_file(Path(chosen)) if chosen else state_path(environment)


def state_path(environment: Mapping[str, str] | None = None) -> Path:
    """The store in the user's state folder (XDG Base Directory Specification)."""
    environment = os.environ if environment is None else environment
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return _store_file(Path(state) / "leglength-monitoring")


def lies_in(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies in ``folder``, however both are written."""
    return path.resolve().is_relative_to(folder.resolve())


def _store_file(chosen: Path) -> Path:
    path = chosen.expanduser()
    return path if path.suffix == ".db" else path / STORE_FILE


def instance_name(config: MonitoringConfig, store: Store) -> str:
    """The name under which this installation reports: the setting, else one that the store keeps.

    Not the host name of the moment: a container has a new one each time, and each would be a new series.
    """
    if config.prometheus is not None and config.prometheus.instance is not None:
        return config.prometheus.instance
    if store.database.path is None and in_container():
        return "leglength"
    return str(store.state("instance", _new_instance_name))


def _new_instance_name() -> str:
    name = f"leglength-{secrets.token_hex(4)}" if in_container() else socket.gethostname()
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
