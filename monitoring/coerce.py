"""Turns whatever a host passes (numpy scalars and arrays, text keys, None, NaN) into plain values, or None.

Nothing here imports numpy: its scalars answer ``item()`` and its arrays ``tolist()``, and that is enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")
# Two or more dots between digits: the shape of a DICOM UID or a date, never of a metric's name.
_UID_LIKE = re.compile(r"\d+\.\d+\.\d+")


def finite_float(value: Any) -> float | None:
    """``value`` as a finite float; None for NaN, infinity, bool, text and whatever is not one number."""
    if isinstance(value, float):  # the usual case, numpy.float64 included
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str | bytes):
        return None
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
        if isinstance(value, bool | str | bytes):
            return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole_number(value: Any) -> int | None:
    """``value`` as an int, also from text ("7") as JSON keys are; None when it is not a whole number."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,9}", value.strip()) else None
    number = finite_float(value)
    return int(number) if number is not None and number == int(number) else None


def plain_list(value: Any) -> list[Any]:
    """``value`` (list, tuple, array, scalar, None) as a list of plain Python values."""
    if value is None or isinstance(value, str | bytes | Mapping):
        return []
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Iterable):
        return list(value)
    return [value]


def finite_floats(value: Any) -> list[float]:
    """The finite numbers in ``value``, in order."""
    return [number for number in map(finite_float, plain_list(value)) if number is not None]


def plain_mapping(value: Any) -> Mapping[Any, Any]:
    """``value`` when it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def metric_name(value: Any) -> str | None:
    """``value`` when it can name a stage, a model or a metric: a short identifier that doesn't look like a UID."""
    text = str(value).strip() if isinstance(value, str) or hasattr(value, "dtype") else ""
    if not _NAME.match(text) or _UID_LIKE.search(text):
        return None
    return text
