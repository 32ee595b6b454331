"""Finds and reads the settings that a command needs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from monitoring.config_validator import SECTION_PATH, Checked, check_section
from monitoring.exceptions import ConfigurationError
from monitoring.settings import MonitoringConfig

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="task.json with the settings; default $MONITORING_CONFIG, then ./task.json."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def config_path(given: Path | None) -> Path:
    """The settings file: the option, else the environment, else the working folder's."""
    return given or Path(os.environ.get("MONITORING_CONFIG") or "task.json")


def read_json(path: Path, hint: str = "") -> Any:
    """A JSON document; raises :class:`ConfigurationError` with one line that says what is wrong."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}{hint}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply") from None


def load_settings(given: Path | None) -> dict[str, Any]:
    """``process.settings`` of the file; raises :class:`ConfigurationError` with one line that says what is wrong."""
    path = config_path(given)
    task = read_json(path, hint="; name the settings with --config")
    settings = task.get("process") if isinstance(task, dict) else None
    settings = settings.get("settings") if isinstance(settings, dict) else None
    if isinstance(settings, dict) and isinstance(settings.get("settings"), dict):
        settings = settings["settings"]  # as some orchestrators nest them
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{path}: process.settings must be an object")
    return settings


def load_checked(given: Path | None) -> Checked:
    """The checked ``monitoring`` section; raises :class:`ConfigurationError` when there is none."""
    section = load_settings(given).get("monitoring")
    if section is None:
        raise ConfigurationError(f"{config_path(given)}: process.settings.monitoring is missing: monitoring is off")
    return check_section(section)


def load_config(given: Path | None) -> MonitoringConfig:
    """The settings to work with; what is wrong with them goes to the error stream, a line each.

    Raises :class:`ConfigurationError` when there are none at all.
    """
    checked = load_checked(given)
    for problem in checked.problems:
        if problem.path == SECTION_PATH:
            raise ConfigurationError(f"{config_path(given)}: {problem}")
        typer.echo(f"{'error' if problem.is_error else 'warning'}: {problem}", err=True)
    return checked.config
