"""What the commands share: their options and exit codes, and how they find the settings, the store and the site's key.

What a user can mend becomes one line on the error stream here, so that no command shows a traceback for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from monitoring.config_validator import SECTION_PATH, Checked, check_section
from monitoring.exceptions import ConfigurationError, MonitoringError, StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, KEY_VARIABLE, find_key
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store.database import Database
from monitoring.store.location import instance_name, store_path
from monitoring.store.recovery import open_or_recover
from monitoring.store.sessions import Store, open_store

DONE, NOT_ALL_DONE, WRONG_INPUT = 0, 1, 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="task.json with the settings; default $MONITORING_CONFIG, then ./task.json."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the command with one line and an exit code, instead of a traceback, for what a user can mend."""
    try:
        yield
    except MonitoringError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_INPUT if isinstance(error, ConfigurationError) else NOT_ALL_DONE) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        raise typer.Exit(DONE) from None


# --- settings -----------------------------------------------------------------------------------


def read_json(path: Path, hint: str = "") -> Any:
    """A JSON document; raises :class:`ConfigurationError` with one line that says what is wrong."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # with a byte order mark, as Windows' editors write it
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply") from None


def config_path(given: Path | None) -> Path:
    """The settings file: the option, else the environment, else the working folder's."""
    return given or Path(os.environ.get("MONITORING_CONFIG") or "task.json")


def load_checked(given: Path | None) -> Checked:
    """The checked ``monitoring`` section; raises :class:`ConfigurationError` when there is none."""
    path = config_path(given)
    task = read_json(path, hint="; name the settings with --config")
    settings = task.get("process") if isinstance(task, dict) else None
    settings = settings.get("settings") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and isinstance(settings.get("settings"), dict):
        settings = settings["settings"]  # as some orchestrators nest them
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{path}: process.settings must be an object")
    if settings.get("monitoring") is None:
        raise ConfigurationError(f"{path}: process.settings.monitoring is missing: monitoring is off")
    return check_section(settings["monitoring"])


def load_config(given: Path | None) -> MonitoringConfig:
    """The settings to work with; what is wrong with them goes to the error stream, a line each.

    Raises :class:`ConfigurationError` when there are none at all.
    """
    checked = load_checked(given)
    for problem in checked.problems:
        if problem.path == SECTION_PATH:  # no section to work with, such as a list: no default could stand in for it
            raise ConfigurationError(f"{config_path(given)}: {problem}")
        typer.echo(f"{'error' if problem.is_error else 'warning'}: {problem}", err=True)
    return checked.config


# --- store --------------------------------------------------------------------------------------


@contextmanager
def existing_store(config: MonitoringConfig, only_reads: bool = True) -> Iterator[Store]:
    """The store that the settings name; raises :class:`StoreError` when there is none yet: looking makes none."""
    path = store_path(config.store)
    if not path.exists():
        raise StoreError(f"there is no store at {path} yet")
    with open_store(Database(path, only_reads=only_reads)) as store:
        yield store


@contextmanager
def store_to_import_into(config: MonitoringConfig) -> Iterator[tuple[Store, SessionWritesBuilder]]:
    """The store, made or recovered if need be, and what makes the writes of the sessions that are put into it."""
    database, _ = open_or_recover(store_path(config.store))
    try:
        store = Store(database)
        store.initialise(zero_changes())
        yield store, session_writes_builder(config, instance_name(config, store))
    finally:
        database.close()


# --- the site's key -----------------------------------------------------------------------------


def has_key(config: MonitoringConfig) -> bool:
    """Whether the site has a key already, given or made beside the store."""
    is_given = config.privacy.key is not None or bool(os.environ.get(KEY_VARIABLE))
    return is_given or (store_path(config.store).parent / KEY_FILE_NAME).exists()


def existing_pseudonyms(config: MonitoringConfig) -> Pseudonymizer:
    """Pseudonyms under the key that sessions were recorded under; raises :class:`ConfigurationError` without one.

    A new one would be worse than none: its hashes match no session.
    """
    folder = store_path(config.store).parent
    if not has_key(config):
        raise ConfigurationError(f"there is no key {KEY_FILE_NAME} in {folder} yet: nothing was recorded under one")
    return Pseudonymizer(find_key(config.privacy, folder))
