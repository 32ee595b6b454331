"""Checks the ``monitoring`` section of task.json, and explains what is wrong by its path.

A problem never stops the host. A bad backend section switches that backend off and leaves the
other; a bad value elsewhere falls back to its default; an unknown key is a warning with a suggestion.
Each problem is one line that names the setting's path and never shows its value. What is right is declared in
:mod:`monitoring.settings`; what a backend's answers say of the settings is for ``leglength-monitor check``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from monitoring.settings import (
    ACCEPTED_RATES,
    LARGEST_ACCEPTED,
    SECTIONS,
    MonitoringConfig,
    Names,
    Rates,
    Secret,
    Section,
)
from monitoring.transport.small_files import MOST_SECRET_BYTES, read_file

SECTION_PATH = "process.settings.monitoring"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MOST_NAMES = 64
_BACKENDS = ("influxdb", "prometheus")
_TARGETS = frozenset({"url", "gateway_url", "textfile"})  # what makes a section under any other name a backend's
_OFF, _DEFAULT, _STRICTEST = "this backend is off", "the default is used", "the strictest choice is used"
_ON, _NOT_ON = ("true", "yes", "on", "1", "t", "y"), ("false", "no", "off", "0", "f", "n")
_JSON_NAMES: dict[type, str] = {
    type(None): "null", bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list",
}  # fmt: skip
# No file and no request can hold half of a surrogate pair, which JSON can.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_MOST_LEVELS = 16
_TOO_DEEP = object()


class Problem(NamedTuple):
    """One thing that is wrong with the settings: where, what, and what it means."""

    path: str
    message: str
    effect: str = ""
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.effect})" if self.effect else "")


class Checked(NamedTuple):
    """The settings that can be used, and what was wrong with the others."""

    config: MonitoringConfig
    problems: tuple[Problem, ...] = ()
    switched_off: tuple[str, ...] = ()
    """The backends' sections that say themselves that they are not to be used."""

    @property
    def off_by_mistake(self) -> tuple[str, ...]:
        """The backends' sections, as they are named, that are meant to be used and can't be."""
        paths = (problem.path for problem in self.problems if problem.effect == _OFF)
        return tuple(dict.fromkeys(path.removeprefix(f"{SECTION_PATH}.").partition(".")[0] for path in paths))


def check_section(section: Any, environment: Mapping[str, str] | None = None) -> Checked:
    """Validate the ``monitoring`` section; never raises for what a user wrote."""
    if not isinstance(section, Mapping):
        kind = _JSON_NAMES.get(type(section), type(section).__name__)
        problem = Problem(SECTION_PATH, f"must be an object, not {kind}", "monitoring is off")
        return Checked(MonitoringConfig(), (problem,))
    environment = os.environ if environment is None else environment
    problems: list[Problem] = []
    usable: dict[str, Any] = {}
    # Each part by itself, so that one mistake costs what it must and no more.
    for key, value in section.items():
        if key not in MonitoringConfig.__struct_fields__:
            problems.append(_unknown_part(key, value))
        elif value is not None:
            check = _check_part if key in SECTIONS else _check_setting
            found, its_problems = check(key, _TOO_DEEP if _is_deep(value) else value, environment)
            problems += its_problems
            if found is not None:
                usable[key] = found
    # Two applications of one account would else push to one group, and set each other's totals back.
    prometheus = usable.get("prometheus")
    if prometheus is not None and section["prometheus"].get("job_name") is None and "application" in usable:
        usable["prometheus"] = msgspec.structs.replace(prometheus, job_name=usable["application"])
    switched_off = tuple(name for name in _BACKENDS if _is_switched_off(section.get(name)))
    return Checked(MonitoringConfig(**usable), tuple(problems), switched_off)


def _unknown_part(key: Any, value: Any) -> Problem:
    """What no section is called. Where it is a backend's, somebody waits for what is never sent."""
    problem = _unknown(SECTION_PATH, key, MonitoringConfig)
    is_backends = isinstance(value, Mapping) and (_closest(key, MonitoringConfig) in _BACKENDS or _TARGETS & {*value})
    return problem._replace(effect=_OFF, is_error=True) if is_backends and not _is_switched_off(value) else problem


def _is_switched_off(given: Any) -> bool:
    try:
        return isinstance(given, Mapping) and str(given.get("enabled")).strip().lower() in ("false", "0", "no", "off")
    except (ValueError, RecursionError):  # a number of thousands of digits, or what is nested without end
        return False


def _check_setting(key: str, value: Any, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    value, problems = _expanded(f"{SECTION_PATH}.{key}", value, environment)
    if not problems:
        right, errors = read_settings(MonitoringConfig, {key: value})
        if not errors:
            return right[key], []
        problems = [Problem(f"{SECTION_PATH}.{name}", message) for name, message in errors]
    effect = "monitoring is off" if key == "enabled" else "the default is used"
    return None, [problem._replace(effect=effect) for problem in problems]


def _check_part(key: str, given: Any, environment: Mapping[str, str]) -> tuple[Section | None, list[Problem]]:
    """A section of the section; None where it is off, or so wrong that it can't be on."""
    path, model, is_backend = f"{SECTION_PATH}.{key}", SECTIONS[key], key in _BACKENDS
    if not isinstance(given, Mapping):
        effect = _OFF if is_backend else _STRICTEST if model.strictest else _DEFAULT
        message = "is nested too deeply" if given is _TOO_DEEP else "must be an object"
        return None if is_backend else model(**model.strictest), [Problem(path, message, effect)]
    known, problems = _known_keys(path, given, model)
    if is_backend and _is_switched_off(known):
        return None, problems  # what else it says needs not be right
    expanded, unset = _expanded(path, known, environment)
    not_set = {problem.path.removeprefix(f"{path}.").partition(".")[0] for problem in unset}
    right, errors = read_settings(model, {name: value for name, value in expanded.items() if name not in not_set})
    if not (unset or errors):
        section = model(**right)
        errors = list(section.contradictions())
        if not errors:
            cautions = [Problem(f"{path}.{name}", message, is_error=False) for name, message in section.cautions()]
            return section, problems + cautions
    wrong = unset or [Problem(f"{path}.{name}" if name else path, message) for name, message in errors]
    if is_backend:
        return None, problems + [problem._replace(effect=_OFF) for problem in wrong]
    # Each setting that is right for itself is kept; the others have their default, or what is strictest.
    strict = {name: choice for name, choice in model.strictest.items() if name in known and name not in right}
    strictest_paths = {f"{path}.{name}" for name in model.strictest}
    effects = (_STRICTEST if problem.path in strictest_paths else _DEFAULT for problem in wrong)
    problems += [problem._replace(effect=effect) for problem, effect in zip(wrong, effects, strict=True)]
    return model(**{**right, **strict}), problems


def _known_keys(path: str, section: Mapping[Any, Any], model: type[Section]) -> tuple[dict[str, Any], list[Problem]]:
    known = {str(key): value for key, value in section.items() if key in model.__struct_fields__}
    problems = []
    strict: dict[str, Any] = {}
    for key in section:
        if key not in model.__struct_fields__:
            problem, meant = _unknown(path, key, model), _closest(key, model)
            if meant in model.strictest and meant not in known:
                # Who misspells "patient_key": false wants less to be kept, not the default.
                strict[meant] = model.strictest[meant]
                problem = problem._replace(effect=f"ignored, and {_STRICTEST}")
            problems.append(problem)
    return known | strict, problems


def _unknown(path: str, key: Any, model: type[Section]) -> Problem:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "?", str(key))[:60]  # one line, whatever it is
    close = _closest(key, model)
    hint = f"did you mean {close}?" if close else f"known: {', '.join(model.__struct_fields__)}"
    return Problem(f"{path}.{name}", f"unknown setting; {hint}", "ignored", is_error=False)


def _closest(key: Any, model: type[Section]) -> str:
    """The setting that ``key`` may have been meant for; "" where none is like it."""
    import difflib  # only who has made a mistake pays for it

    return next(iter(difflib.get_close_matches(str(key)[:60].lower(), model.__struct_fields__, n=1)), "")


def _expanded(path: str, value: Any, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """Replace ``${NAME}`` in texts by the environment's value."""
    if isinstance(value, Mapping):
        pairs = {key: _expanded(f"{path}.{key}", item, environment) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, [p for _, problems in pairs.values() for p in problems]
    if not isinstance(value, str):
        return value, []
    # The first one alone: a line names one thing to mend.
    absent = [name for name in _VARIABLE.findall(value) if name not in environment]
    if absent:
        return value, [Problem(path, f"the environment variable {absent[0]} is not set")]
    # Not expanded again: a password may hold "${".
    return _VARIABLE.sub(lambda found: environment[found[1]], value), []


def _is_deep(value: Any) -> bool:
    """Whether walking through ``value`` could use up the stack; one that holds itself is deep without end."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        inner = [
            item.values() if isinstance(item, Mapping) else item for item in level if isinstance(item, Mapping | list)
        ]
        level = list({id(item): item for items in inner for item in items}.values())
    return bool(level)


# --- What a user wrote, as what its setting is declared to be -----------------------------------


def read_settings(model: type[Section], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The settings that are right, in their own types; and the names of the others, each with its cause.

    ``null`` is left out, numbers and switches may be text, a secret may be in its file. No cause holds a value.
    """
    right: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    declared = {field.name: field for field in msgspec.structs.fields(model)}
    for name, field in declared.items():
        try:
            if given.get(name) is not None:
                right[name] = _read(field.type, given[name])
            elif field.required and model is not MonitoringConfig:
                errors.append((name, "is missing"))
        except ValueError as error:
            errors.append((name, str(error)))
    secret, file = model.secret_file or ("", "")
    if file in right and secret not in right:
        try:
            right[secret] = _read(declared[secret].type, _text_in(right[file]))
        except ValueError as error:
            del right[file]
            errors.append((file, str(error)))
    return right, errors


def _text_in(path: Path) -> str:
    """What a secret's file holds."""
    try:
        text = read_file(path, MOST_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("can't be read: not text") from None
    if not text:
        raise ValueError("is empty")
    return text


def _read(declared: Any, value: Any) -> Any:
    """``value`` as the annotated type ``declared``; raises ValueError with what is wrong, in words for a user."""
    kind: Any = declared
    rules: list[Any] = []
    while (origin := get_origin(kind)) in (Annotated, Union, UnionType):
        if origin is Annotated:
            kind, *more = get_args(kind)
            rules = more + rules
        else:
            kind = next(item for item in get_args(kind) if item is not NoneType)
    found = _CONVERSIONS[kind](value) if kind in _CONVERSIONS else value
    limits = [rule for rule in rules if isinstance(rule, msgspec.Meta)]
    try:
        if not isinstance(found, Path | Secret):
            msgspec.convert(found, declared)
    except msgspec.ValidationError:  # its own words may hold the value
        raise ValueError(f"must be {_range(kind, limits)}") from None
    for check in rules:
        if not isinstance(check, msgspec.Meta):
            found = check(found)
    return found


def _range(kind: Any, limits: Iterable[msgspec.Meta]) -> str:
    """What a value of the right type must be besides."""
    if get_origin(kind) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kind))
    over, low, high, shortest, longest = (
        next((found for limit in limits if (found := getattr(limit, name)) is not None), None)
        for name in ("gt", "ge", "le", "min_length", "max_length")
    )
    if shortest is not None:
        return f"text of {shortest} {'or more' if longest is None else f'to {longest}'} characters"
    if over is not None:
        return f"over {over:g} and up to {high:g}"
    return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"


def _switch(value: Any) -> bool:
    if isinstance(value, str):
        value = {**dict.fromkeys(_ON, True), **dict.fromkeys(_NOT_ON, False)}.get(value.lower())
    if not isinstance(value, int | float) or value not in (0, 1):
        raise ValueError("must be true or false")
    return bool(value)


def _number(value: Any, what: str = "a number") -> float:
    if isinstance(value, bool):
        raise ValueError(f"must be {what}, not true/false")
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"must be {what}")
    return number


def _whole(value: Any) -> int:
    number = _number(value, "a whole number")
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


def _text(value: Any) -> str:
    if not isinstance(value, str) or _HALF_A_PAIR.search(value):
        raise ValueError("must be text")
    return value


def _names(value: Any) -> Names:
    if not isinstance(value, list | tuple) or len(value) > _MOST_NAMES:
        raise ValueError(f"must be a list of up to {_MOST_NAMES} names")
    return tuple(_text(name) for name in value)


def _rates(value: Any) -> Rates:
    if not isinstance(value, Mapping) or not ACCEPTED_RATES.keys() >= value.keys():
        raise ValueError(f"must be an object with shares, by name: {', '.join(ACCEPTED_RATES)}")
    found = {name: _number(rate) for name, rate in value.items() if rate is not None}
    if not all(0 < rate <= LARGEST_ACCEPTED for rate in found.values()):
        raise ValueError(f"must hold shares over 0 and up to {LARGEST_ACCEPTED:g}")
    return found


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("must be text")
    try:  # an empty one would be the working folder
        is_usable = bool(str(value).strip()) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        is_usable = False
    if not is_usable:
        raise ValueError("must be a path")
    return Path(value)


def _secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(_text(value))


_CONVERSIONS: dict[Any, Callable[[Any], Any]] = {
    bool: _switch, float: _number, int: _whole, str: _text, Path: _path, Secret: _secret,
    Names: _names, Rates: _rates,
}  # fmt: skip
