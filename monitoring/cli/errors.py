"""What the commands have in common: their exit codes, and one clear line for what a user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from monitoring.cli.settings import ConfigOption, load_config
from monitoring.exceptions import ConfigurationError, MonitoringError, StoreError
from monitoring.store.database import Database
from monitoring.store.location import store_path
from monitoring.store.sessions import Store, open_store

DONE, NOT_ALL_DONE, WRONG_INPUT = 0, 1, 2


@contextmanager
def clear_errors() -> Iterator[None]:
    """One line on the error stream instead of a traceback, for what a user can mend."""
    try:
        yield
    except ConfigurationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except MonitoringError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(NOT_ALL_DONE) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        raise typer.Exit(DONE) from None


@contextmanager
def existing_store(config: ConfigOption) -> Iterator[Store]:
    """The store that the settings name; raises :class:`StoreError` when there is none yet."""
    path = store_path(load_config(config).store)
    if not path.exists():
        raise StoreError(f"there is no store at {path} yet")
    with open_store(Database(path)) as store:
        yield store
