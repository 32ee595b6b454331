"""What Python itself would write to the error stream, without the texts in which a study may be quoted.

Of an error that nobody caught, one that had to be ignored, or a warning, a line tells the kind and the places in the
code, which is what it takes to mend it. Messages stay out: they may hold anything that was read from a file.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_MOST_PLACES: Final = 20
_MOST_ERRORS: Final = 10


def log_without_messages(logger: logging.Logger) -> None:
    """From now on, tell of uncaught errors, ignored errors and warnings in `logger`'s lines only."""

    def uncaught(_kind: type[BaseException], error: BaseException, _trace: Any) -> None:
        logger.critical("ended by %s", described(error))

    def uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            logger.critical("a thread ended by %s", described(told.exc_value))

    def ignored(told: Any) -> None:
        if told.exc_value is not None:
            logger.warning("ignored: %s", described(told.exc_value))

    def warned(message: Any, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:  # noqa: ARG001 - its signature
        logger.warning("%s at %s:%d", category.__name__, Path(filename).stem, lineno)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = ignored
    warnings.showwarning = warned


def described(error: BaseException) -> str:
    """`Type at module:line < module:line ...`, innermost first, and the same of the errors behind it."""
    told: list[str] = []
    _tell(error, told, set())
    return ", after ".join(told)


def type_name(error: BaseException) -> str:
    """The error's type, or the nearest one above it that imported code names: a class may be named after anything."""
    kinds = type(error).__mro__
    return next(kind.__name__ for kind in kinds if _find(_namespace(kind.__module__), kind.__qualname__) is kind)


def places(error: BaseException) -> list[str]:
    """`module:line` of each frame in imported code, innermost first."""
    frames = [(frame.f_globals, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    named = [(names.get("__name__"), line) for names, line in frames if _namespace(names.get("__name__")) is names]
    return [f"{name}:{line}" for name, line in reversed(named)]


def _namespace(module: object) -> Mapping[str, Any]:
    return getattr(sys.modules.get(module), "__dict__", {}) if isinstance(module, str) else {}


def _find(names: Mapping[str, Any], path: str) -> object:
    *outer, last = path.split(".")
    for name in outer:
        holder = names.get(name)
        names = vars(holder) if isinstance(holder, type) else {}
    return names.get(last)


def _tell(error: BaseException | None, told: list[str], seen: set[int]) -> None:
    if error is None or id(error) in seen or len(told) >= _MOST_ERRORS:
        return
    seen.add(id(error))
    told.append(f"{type_name(error)} at {' < '.join(places(error)[:_MOST_PLACES]) or '?'}")
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        _tell(part, told, seen)
    _tell(error.__cause__ or (None if error.__suppress_context__ else error.__context__), told, seen)
