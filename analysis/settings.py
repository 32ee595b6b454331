"""The application's settings: `process.settings` of task.json, checked without any third party.

| setting              | unit | default               | meaning                                      |
|----------------------|------|-----------------------|----------------------------------------------|
| models               |      | the three built in    | names of the detectors, each once            |
| series_offset        |      | 1000                  | added to SeriesNumber: once QA, twice report |
| femur_threshold      | cm   | 2.0                   | left-right difference that is flagged        |
| tibia_threshold      | cm   | 2.0                   | the same for the tibiae                      |
| total_threshold      | cm   | 5.0                   | the same for the whole legs                  |
| confidence_threshold | 0..1 | 0.0                   | landmarks less certain than this are dropped |
| exit_zero_with_failures |   | false                 | exit 0 where some series failed, some did not |

`monitoring` and `reference_readings` are the monitoring's, which uses the thresholds, too.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from analysis.errors import SettingsError
from analysis.files import read_file

BUILT_IN_MODELS: Final = ("intensity_profile", "gradient_edges", "template_correlation")
TASK_FILE: Final = "task.json"
_PATH: Final = "process.settings"
_MOST_TASK_BYTES: Final = 1 << 24
_MOST_LEVELS: Final = 64
_LONGEST_SHOWN: Final = 80
_NOT_OURS: Final = frozenset({"monitoring", "reference_readings", "settings"})


@dataclass(frozen=True)
class AnalysisSettings:
    """What the application was told to do; thresholds in cm, `confidence_threshold` in 0..1."""

    models: tuple[str, ...] = BUILT_IN_MODELS
    series_offset: int = 1000
    femur_threshold: float = 2.0
    tibia_threshold: float = 2.0
    total_threshold: float = 5.0
    confidence_threshold: float = 0.0
    exit_zero_with_failures: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_task(cls, task: Mapping[str, Any]) -> AnalysisSettings:
        """Check a whole task.json; raises `SettingsError` with every problem in it."""
        return cls.from_mapping(settings_section(task))

    @classmethod
    def from_mapping(cls, section: Mapping[str, Any]) -> AnalysisSettings:
        """Check one `process.settings` object; raises `SettingsError` with every problem."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        for key, check in _CHECKS.items():
            if key in section:
                values[key] = check(f"{_PATH}.{key}", section[key], problems)
        if problems:
            raise SettingsError(problems)
        return cls(**values, warnings=_unknown_keys(section))


def load_task(in_dir: Path | str) -> dict[str, Any]:
    """Read `in_dir`/task.json; without that file, {}.

    Raises `SettingsError` (file, line and column) when it isn't a JSON object in UTF-8.
    """
    path = Path(in_dir) / TASK_FILE
    try:
        task = json.loads(read_file(path, _MOST_TASK_BYTES).decode("utf-8-sig"))
        _require_shallow(task)
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SettingsError([f"{path}: {where}: not valid JSON: {error.msg}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: byte {error.start}: not valid UTF-8"]) from None
    except ValueError:  # Python reads no number of more than 4300 digits
        raise SettingsError([f"{path}: holds a number with too many digits"]) from None
    except RecursionError:
        raise SettingsError([f"{path}: nested too deeply"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: can't be read: {error.strerror}"]) from None
    if not isinstance(task, dict):
        raise SettingsError([f"{path}: expected an object, got {_type_name(task)}"])
    return task


def _require_shallow(task: object) -> None:
    """Raise RecursionError for what is nested so deeply that whoever walks through it may run out of stack."""
    level = [task]
    for _ in range(_MOST_LEVELS):
        level = [item for value in level for item in _items(value)]
        if not level:
            return
    raise RecursionError


def _items(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def settings_section(task: Mapping[str, Any]) -> dict[str, Any]:
    """`process.settings` of a task; absent or null is {}, once more in `settings` is unwrapped.

    Raises `SettingsError` when `process` or `process.settings` is no object.
    """
    process = _object_in(task, "process", "process")
    settings = _object_in(process, "settings", _PATH)
    inner = _object_in(settings, "settings", f"{_PATH}.settings")
    outer = {key: value for key, value in settings.items() if key != "settings"}
    return {**outer, **inner}


def _object_in(parent: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError([f"{path}: expected an object, got {_type_name(value)}"])
    return value


def _type_name(value: object) -> str:
    """What a reader of JSON calls the value's type."""
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _check_models(path: str, value: object, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        problems.append(f"{path}: expected a list of model names, got {_type_name(value)}")
        return ()
    if not value:
        problems.append(f"{path}: expected at least one model name, got an empty list")
    for index, name in enumerate(value):
        where = f"{path}[{index}]"
        if not isinstance(name, str) or not name.strip():
            kind = "an empty string" if isinstance(name, str) else _type_name(name)
            problems.append(f"{where}: expected a model name, got {kind}")
        elif name in value[:index]:
            problems.append(f"{where}: the model {name!r} is named twice")
    return tuple(value)


def _check_offset(path: str, value: object, problems: list[str]) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        problems.append(f"{path}: expected a whole number, got {_describe(value)}")
        return 0
    if not 0 <= value <= _MAX_OFFSET:
        problems.append(f"{path}: expected a whole number of 0 to {_MAX_OFFSET}, got another")
    return value


def _check_switch(path: str, value: object, problems: list[str]) -> bool:
    if not isinstance(value, bool):
        problems.append(f"{path}: expected true or false, got {_type_name(value)}")
    return value is True


# SeriesNumber is an IS, at most 2**31 - 1, and the offset is added to it twice.
_MAX_OFFSET: Final = 1_000_000_000


def _number(low: float, high: float) -> Callable[[str, object, list[str]], float]:
    """A check for a finite number within `low` to `high`."""
    wanted = f"a number of {low:g} to {high:g}" if high < math.inf else f"a number of {low:g} or more"

    def check(path: str, value: object, problems: list[str]) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{path}: expected {wanted}, got {_describe(value)}")
            return low
        try:
            number = float(value)
        except OverflowError:  # JSON knows no largest number
            number = math.inf
        if not math.isfinite(number) or not low <= number <= high:
            problems.append(f"{path}: expected {wanted}, got {number:g}")
        return number

    return check


def _describe(value: object) -> str:
    if isinstance(value, float):
        return "a number with a fraction" if math.isfinite(value) else f"{value}"
    return _type_name(value)


_CHECKS: Final[dict[str, Callable[[str, object, list[str]], Any]]] = {
    "models": _check_models,
    "series_offset": _check_offset,
    "femur_threshold": _number(0, math.inf),
    "tibia_threshold": _number(0, math.inf),
    "total_threshold": _number(0, math.inf),
    "confidence_threshold": _number(0, 1),
    "exit_zero_with_failures": _check_switch,
}


def _unknown_keys(section: Mapping[str, Any]) -> tuple[str, ...]:
    known = [field.name for field in fields(AnalysisSettings) if field.name != "warnings"]
    unknown = sorted(key for key in section if key not in known and key not in _NOT_OURS)
    return tuple(_unknown_key(key, [*known, "monitoring", "reference_readings"]) for key in unknown)


def shown(text: str) -> str:
    """A text of somebody else's within one line: control characters escaped, and cut where it is long."""
    return repr(text[:_LONGEST_SHOWN])[1:-1] + ("..." if len(text) > _LONGEST_SHOWN else "")


def _unknown_key(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{_PATH}.{shown(key)}: unknown setting, ignored{hint}"
