"""The errors of this package.

::

    MonitoringError
    ├── ConfigurationError          a setting can't be used; the message names its path
    ├── RecordError                 a stored or imported session record can't be read
    ├── EncodingError               a point can't be written in line protocol without changing it
    ├── StoreError                  the store can't be opened or written
    │   ├── StoreReadError          a read failed, perhaps for a moment only
    │   ├── StoreCorruptError       the store's file is damaged
    │   └── StoreVersionError       the store was written by a newer version
    └── BackendConnectionError      a backend can't be reached (raised by commands only, never into a host)

None of these reaches a host: :class:`monitoring.MonitorManager` swallows and counts them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class MonitoringError(Exception):
    """The root of this package's errors."""


class ConfigurationError(MonitoringError):
    """A setting can't be used; the message names its path and never its value when that is a secret."""


class RecordError(MonitoringError):
    """A session record can't be read back: unknown version, or not a record."""


class EncodingError(MonitoringError):
    """A name or value can't be written in line protocol without changing it."""


class StoreError(MonitoringError):
    """The store can't be opened or written."""


class StoreReadError(StoreError):
    """The store's file could not be read, as happens for a moment: it is looked at again."""


class StoreCorruptError(StoreError):
    """The store's file is damaged, or is no store."""


class StoreVersionError(StoreError):
    """The store was written by a newer version of this package and is left untouched."""


class BackendConnectionError(MonitoringError):
    """A backend can't be reached."""


# The name that existing hosts import.
ConnectionError = BackendConnectionError  # noqa: A001 - an alias under the name that hosts already catch

DELIVERY_FAILURES = (
    "bad_answer", "dns", "forbidden", "http_4xx", "http_5xx", "internal", "not_found", "proxy", "rate_limited",
    "redirect", "refused", "reset", "timeout", "tls", "unauthorized", "unavailable", "unreachable",
)  # fmt: skip
"""Why a delivery fails, as it is counted by the catalogue and told by the transport: there are no other reasons."""


# --- Names of code, never of data -----------------------------------------------------------------
# Any text can be made the name of a class or of a module: what is told is a name only where imported code holds it.

_LONGEST_LINE_NUMBER = 5  # digits: six in a row may be a patient's number


def type_name(error: BaseException) -> str:
    """The error's type, or the nearest one above it that imported code names."""
    kinds = type(error).__mro__
    return next(kind.__name__ for kind in kinds if _find(_namespace(kind.__module__), kind.__qualname__) is kind)


def code_location(error: BaseException) -> str | None:
    """``module:line`` of the innermost frame in imported code."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        namespace = trace.tb_frame.f_globals
        if _namespace(namespace.get("__name__")) is namespace:
            found = f"{namespace['__name__']}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def is_type_name(text: str) -> bool:
    """Whether imported code has an exception of this name."""
    found = (_namespace(module).get(text) for module in list(sys.modules))
    return any(isinstance(kind, type) and issubclass(kind, BaseException) for kind in found)


def is_code_location(text: str) -> bool:
    """Whether ``text`` is ``module:line`` of an imported module."""
    module, _, line = text.rpartition(":")
    return module in sys.modules and line.isascii() and line.isdigit() and len(line) <= _LONGEST_LINE_NUMBER


def _namespace(module: object) -> Mapping[str, Any]:
    found = sys.modules.get(module) if isinstance(module, str) else None
    return getattr(found, "__dict__", {})


def _find(names: Mapping[str, Any], path: str) -> object:
    *outer, last = path.split(".")
    for name in outer:
        holder = names.get(name)
        names = vars(holder) if isinstance(holder, type) else {}
    return names.get(last)
