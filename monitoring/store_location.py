"""Where the store lies, and the name under which it reports."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from monitoring.config_validator import MonitoringConfig, StoreConfig
from monitoring.exceptions import StoreError
from monitoring.outbox.database import Database
from monitoring.outbox.store import Store

STORE_FILE = "monitoring.db"


def store_path(config: StoreConfig, environment: Mapping[str, str] | None = None) -> Path:
    """Where the store lies: the setting, else the environment, else the user's state folder."""
    environment = os.environ if environment is None else environment
    chosen = config.path or environment.get("MONITORING_DATA_PATH") or environment.get("MODULE_PERSISTENCE_DIR")
    if chosen is None:
        state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        chosen = Path(state) / "leglength-monitoring"
    path = Path(chosen).expanduser()
    return path if path.suffix == ".db" else path / STORE_FILE


def instance_name(config: MonitoringConfig, store: Store) -> str:
    """The name under which this installation reports: the setting, else one that the store keeps.

    Not the host name of the moment: a container has a new one each time, and each would be a new series.
    """
    if config.prometheus is not None and config.prometheus.instance is not None:
        return config.prometheus.instance
    return str(store.state("instance", _new_instance_name))


def _new_instance_name() -> str:
    in_container = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    return f"leglength-{secrets.token_hex(4)}" if in_container else socket.gethostname() or "leglength"


def open_database(config: StoreConfig, logger: logging.Logger) -> tuple[Database, Path | None]:
    """The store's file; where that can't be used, memory, and the log says so."""
    path = store_path(config)
    try:
        return Database(path), path
    except StoreError as error:
        logger.warning("monitoring: %s; sessions of this run are kept in memory only", error)
        return Database(None), None
