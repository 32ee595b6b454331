"""What the commands share: their options and exit codes, and how they find the settings, the store and the site's key.

What a user can mend becomes one line on the error stream here, so that no command shows a traceback for it.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from monitoring.config_validator import SECTION_PATH, Checked, check_section
from monitoring.exceptions import ConfigurationError, MonitoringError, StoreError
from monitoring.metrics.backends import BACKENDS
from monitoring.metrics.samples import zero_changes
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, KEY_VARIABLE, find_key
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store.database import Database
from monitoring.store.location import instance_name, store_path
from monitoring.store.recovery import PutAside, count_put_aside, open_or_recover
from monitoring.store.sessions import Store, open_store
from monitoring.transport.small_files import MOST_DOCUMENT_BYTES, read_from

DONE, NOT_ALL_DONE, WRONG_INPUT = 0, 1, 2
NO_BACKEND = "no backend is in use: name influxdb or prometheus in the settings' monitoring section"

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
        with path.open("rb") as file:  # which may be a pipe: `--config <(...)`
            text = read_from(file, MOST_DOCUMENT_BYTES).decode("utf-8-sig")  # as Windows' editors write it
        return json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except ValueError:  # Python reads no number of more than 4300 digits
        raise ConfigurationError(f"{path}: holds a number with too many digits") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply") from None


def config_path(given: Path | None) -> Path:
    """The settings file: the option, else the environment, else the working folder's."""
    # An empty variable is as good as none: compose files leave them so.
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


def load_reported(given: Path | None) -> Checked:
    """The checked settings; what is wrong with them goes to the error stream, a line each.

    Raises :class:`ConfigurationError` when there are none at all.
    """
    checked = load_checked(given)
    for problem in checked.problems:
        if problem.path == SECTION_PATH:  # no section to work with, such as a list: no default could stand in for it
            raise ConfigurationError(f"{config_path(given)}: {problem}")
        typer.echo(f"{'error' if problem.is_error else 'warning'}: {problem}", err=True)
    return checked


def load_config(given: Path | None) -> MonitoringConfig:
    """The settings to work with, see :func:`load_reported`."""
    return load_reported(given).config


def check_that_all_is_used(checked: Checked) -> None:
    """Raise :class:`ConfigurationError` for settings under which something that was meant to be delivered never is."""
    if not checked.config.enabled:
        raise ConfigurationError(f"{SECTION_PATH}.enabled is not true: monitoring is off")
    if checked.off_by_mistake:
        raise ConfigurationError(f"not used, since the settings are wrong: {', '.join(checked.off_by_mistake)}")
    if not any(backend.settings(checked.config) for backend in BACKENDS):
        raise ConfigurationError(NO_BACKEND)


# --- store --------------------------------------------------------------------------------------


@contextmanager
def existing_store(config: MonitoringConfig, only_reads: bool = True) -> Iterator[Store]:
    """The store that the settings name; raises :class:`StoreError` when there is none yet: looking makes none."""
    path = store_path(config)
    if not is_there(path):
        raise StoreError(f"there is no store at {path} yet")
    # To read by default: a look brings no older store up to date, which would lock its own version out.
    with open_store(Database(path, only_reads=only_reads)) as store:
        yield store


def is_there(path: Path) -> bool:
    """Whether the store is there; raises :class:`StoreError` where the present user may not read it."""
    try:
        path.stat()
    except PermissionError:
        raise StoreError(f"{path} is another user's: {_run_it_as(_nearest(path))}") from None
    except OSError:
        return False
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path} is another user's: {_run_it_as(path)}")
    return True


def refuse_as_another_user(path: Path) -> None:
    """Raise :class:`StoreError` where files that the present user makes would lock the store's owner out of it.

    The store's files are for their owner alone. So root, who may do all, must not make one in a folder of another's.
    """
    there = path if is_there(path) else _nearest(path)
    owner, user = there.stat().st_uid, os.geteuid()
    if owner != user and (there == path or user == 0):  # another's folder may be one that all may write, such as /tmp
        raise StoreError(
            f"{there} belongs to uid {owner}, whom files of uid {user} would lock out: {_run_it_as(there)}"
        )


def _nearest(path: Path) -> Path:
    """The nearest folder above that is there and can be looked at."""
    # One that may not be looked into may hide the rest of the path.
    return next(parent for parent in path.resolve().parents if os.access(parent, os.F_OK))


def _run_it_as(owned: Path) -> str:
    owner = owned.stat().st_uid
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"'#{owner}'"  # as sudo wants a user without a name
    return f"run it as its owner, with `sudo -u {name} leglength-monitor ...`"


@contextmanager
def store_to_import_into(config: MonitoringConfig) -> Iterator[tuple[Store, SessionWritesBuilder]]:
    """The store, made or recovered if need be, and what makes the writes of the sessions that are put into it."""
    path = store_path(config)
    refuse_as_another_user(path)
    database, aside = open_or_recover(path)
    say_put_aside(aside)
    try:
        store = Store(database)
        # Before the first is counted, since Prometheus can't see the step from nothing to one.
        store.initialise(zero_changes(declared=config.metrics.declared))
        yield store, session_writes_builder(config, instance_name(config, store))
    finally:
        database.close()


def say_put_aside(aside: Path | None) -> None:
    """Say of a damaged store that was put aside just now what lies in it, and how to take it back."""
    if aside is not None:
        words = in_words(aside, count_put_aside(aside))
        typer.echo(f"warning: the store was damaged and a new one is begun; {words}", err=True)


def in_words(aside: Path, found: PutAside | None) -> str:
    """What lies in a store that was put aside, and the command that takes it back."""
    if found is not None and found.sessions and found.sessions == found.known:
        return f"{aside}: all of its {found.sessions:,} sessions are in the store; delete it when it isn't needed"
    what = "what lies in it can't be counted"
    if found is not None:
        known = f" ({found.known:,} of them in the store already)" if found.known else ""
        what = f"{found.sessions:,} sessions{known} and {found.waiting_points:,} waiting points can be read"
    return f"{aside}: {what}; take back what can be read with `leglength-monitor import {aside}`"


# --- the site's key -----------------------------------------------------------------------------


def has_key(config: MonitoringConfig) -> bool:
    """Whether the site has a key already, given or made beside the store."""
    is_given = config.privacy.key is not None or bool(os.environ.get(KEY_VARIABLE))
    return is_given or (store_path(config).parent / KEY_FILE_NAME).exists()


def existing_pseudonyms(config: MonitoringConfig) -> Pseudonymizer:
    """Pseudonyms under the key that sessions were recorded under; raises :class:`ConfigurationError` without one.

    A new one would be worse than none: its hashes match no session.
    """
    path = store_path(config)
    store_is_there = is_there(path)  # asked first: where it may not be read, its key may not, either
    if not has_key(config):
        is_lost = store_is_there and _names_sessions(config)
        raise ConfigurationError(
            f"the site's key is lost: {KEY_FILE_NAME} is not in {path.parent}, and sessions were recorded under one;"
            " bring it back from a backup, or name it with privacy.key_file"
            if is_lost
            else f"there is no key {KEY_FILE_NAME} in {path.parent} yet: nothing was recorded under one"
        )
    return Pseudonymizer(find_key(config.privacy, path.parent))


def _names_sessions(config: MonitoringConfig) -> bool:
    with existing_store(config) as store:
        return store.state("key_fingerprint") is not None
