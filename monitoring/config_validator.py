"""Checks the ``monitoring`` section of task.json, and explains what is wrong by its path.

A problem never stops the host. A bad backend section switches that backend off and leaves the
other; a bad value elsewhere falls back to its default; an unknown key is a warning with a suggestion.
Each problem is one line that names the setting's path and never shows its value.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from monitoring.settings import (
    InfluxDBConfig,
    MetricsConfig,
    MonitoringConfig,
    PrivacyConfig,
    PrometheusConfig,
    Section,
    StoreConfig,
    TlsSettings,
)

SECTION_PATH = "process.settings.monitoring"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings: where, what, and what it means."""

    path: str
    message: str
    effect: str = ""
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.effect})" if self.effect else "")


@dataclass(frozen=True, slots=True)
class Checked:
    """The settings that can be used, and what was wrong with the others."""

    config: MonitoringConfig
    problems: tuple[Problem, ...] = ()


_BACKENDS = ("influxdb", "prometheus")


def check_section(section: Any, environment: Mapping[str, str] | None = None) -> Checked:
    """Validate the ``monitoring`` section; never raises for what a user wrote."""
    if not isinstance(section, Mapping):
        return Checked(
            MonitoringConfig(),
            (Problem(SECTION_PATH, f"must be an object, not {_kind(section)}", "monitoring is off"),),
        )
    problems: list[Problem] = []
    usable: dict[str, Any] = {}
    for key, value in section.items():
        if key not in MonitoringConfig.model_fields:
            problems.append(_unknown(SECTION_PATH, key, MonitoringConfig))
        elif value is not None:
            found = _check_setting(key, value, os.environ if environment is None else environment)
            problems += found.problems
            if found.value is not _UNUSABLE:
                usable[key] = found.value
    return Checked(MonitoringConfig(**usable), tuple(problems))


_UNUSABLE = object()


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any
    problems: list[Problem]


def _check_setting(key: str, value: Any, environment: Mapping[str, str]) -> _Found:
    path = f"{SECTION_PATH}.{key}"
    problems: list[Problem] = []
    section = _section_class(key)
    if section is not None and isinstance(value, Mapping):
        value, problems = _known_keys(path, value, section)
        if key in _BACKENDS and _is_off(value):
            return _Found(_UNUSABLE, problems)  # what else it says needs not be right
    value, errors = _expanded(path, value, environment)
    if not errors:
        usable, errors = _validated(key, value)
        if not errors:
            return _Found(usable, problems + _dangers(path, usable))
    problems += [replace(error, effect=_effect(key, value, error.path)) for error in errors]
    if section is None or key in _BACKENDS:
        return _Found(_UNUSABLE, problems)
    return _Found(_salvaged(key, section, value, {error.path for error in errors}), problems)


def _salvaged(key: str, section: type[Section], value: Any, bad_paths: Collection[str]) -> Any:
    """The section with each setting that is right for itself; the others have their default, or what is strictest."""
    if not isinstance(value, Mapping):
        return section(**section.strictest)
    bad = {path.removeprefix(f"{SECTION_PATH}.{key}.").partition(".")[0] for path in bad_paths}
    right = {name: item for name, item in value.items() if name not in bad and not _validated(key, {name: item})[1]}
    strict = {name: choice for name, choice in section.strictest.items() if name in value.keys() - right.keys()}
    found, still_wrong = _validated(key, {**strict, **right})
    return section(**section.strictest) if still_wrong else found


def _dangers(path: str, usable: Any) -> list[Problem]:
    """What is allowed, and is said at each start so that nobody forgets it."""
    if not isinstance(usable, TlsSettings) or usable.verify_tls:
        return []
    message = "the backend's certificate is not checked: anyone on the way can read the token; for test benches only"
    return [Problem(f"{path}.verify_tls", message, is_error=False)]


def _is_off(backend: Mapping[str, Any]) -> bool:
    enabled = backend.get("enabled")
    return enabled is False or str(enabled).strip().lower() in ("false", "0", "no", "off")


def _validated(key: str, value: Any) -> tuple[Any, list[Problem]]:
    """The setting in its own type, or what is wrong with it."""
    try:
        return getattr(MonitoringConfig(**{key: value}), key), []
    except ValidationError as error:
        return _UNUSABLE, [_problem(details) for details in error.errors(include_input=False, include_url=False)]


def _problem(details: Any) -> Problem:
    path = ".".join([SECTION_PATH, *map(str, details["loc"])])
    message = _MESSAGES.get(details["type"]) or str(details["msg"]).removeprefix("Value error, ")
    return Problem(path, message[:1].lower() + message[1:])


# pydantic's own words, where they would puzzle a reader of JSON.
_MESSAGES = {
    "model_type": "must be an object",
    "missing": "is missing",
    "string_type": "must be text",
    "path_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
}


def _effect(key: str, value: Any, bad_path: str) -> str:
    if key in _BACKENDS:
        return "this backend is off"
    section = _section_class(key)
    if section is not None and section.strictest:
        setting = bad_path.removeprefix(f"{SECTION_PATH}.{key}.").partition(".")[0]
        if setting in section.strictest or not isinstance(value, Mapping):
            return _STRICTEST
    return "monitoring is off" if key == "enabled" else "the default is used"


_STRICTEST = "the strictest choice is used"


def _section_class(key: str) -> type[Section] | None:
    sections: dict[str, type[Section]] = {
        "influxdb": InfluxDBConfig,
        "prometheus": PrometheusConfig,
        "metrics": MetricsConfig,
        "store": StoreConfig,
        "privacy": PrivacyConfig,
    }
    return sections.get(key)


def _known_keys(path: str, section: Mapping[Any, Any], model: type[Section]) -> tuple[dict[str, Any], list[Problem]]:
    known = {str(key): value for key, value in section.items() if key in model.model_fields}
    problems = []
    strict: dict[str, Any] = {}
    for key in section:
        if key not in model.model_fields:
            problem, meant = _unknown(path, key, model), _closest(key, model)
            if meant in model.strictest and meant not in known:
                # Who misspells "patient_key": false wants less to be kept, not the default.
                strict[meant] = model.strictest[meant]
                problem = replace(problem, effect=f"ignored, and {_STRICTEST}")
            problems.append(problem)
    return known | strict, problems


def _unknown(path: str, key: Any, model: type[Section]) -> Problem:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "?", str(key))[:60]  # one line, whatever it is
    close = _closest(key, model)
    hint = f"did you mean {close}?" if close else f"known: {', '.join(model.model_fields)}"
    return Problem(f"{path}.{name}", f"unknown setting; {hint}", "ignored", is_error=False)


def _closest(key: Any, model: type[Section]) -> str:
    """The setting that ``key`` may have been meant for; "" where none is like it."""
    return next(iter(difflib.get_close_matches(str(key)[:60].lower(), model.model_fields, n=1)), "")


def _expanded(path: str, value: Any, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """Replace ``${NAME}`` in texts by the environment's value."""
    if isinstance(value, Mapping):
        pairs = {key: _expanded(f"{path}.{key}", item, environment) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, [p for _, problems in pairs.values() for p in problems]
    if not isinstance(value, str):
        return value, []
    absent = [name for name in _VARIABLE.findall(value) if name not in environment]
    if absent:
        return value, [Problem(path, f"the environment variable {absent[0]} is not set")]
    return _VARIABLE.sub(lambda found: environment[found[1]], value), []


def _kind(value: Any) -> str:
    return {
        type(None): "null", bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list",
    }.get(type(value), type(value).__name__)  # fmt: skip
