"""Turns whatever a host passes (numpy scalars and arrays, text keys, None, NaN) into plain values, or None.

Nothing here imports numpy: its scalars answer ``item()`` and its arrays ``tolist()``, and that is enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")
# Dotted numbers are a DICOM UID or a date, six digits in a row a patient's or an accession number: never a name here.
_ID_LIKE = re.compile(r"\d+\.\d+\.\d+|\d{6}")
OTHER = "other"
"""The name of what can't be named."""

MOST_ITEMS = 100_000
MOST_SECONDS = 366 * 24 * 3600.0
MOST_MILLIMETERS = 1e9
MOST_PIXELS = 1e9
_MOST_LANDMARKS = 10_000
_ROUNDING = 1e-6  # a float32's, in a score of 1
_MOST_EXACT = 2**53  # beyond it, a float's neighbours are whole, whatever was meant
# What the code of a host's own objects (a tensor on a lost device, a lazy column) may raise when it is asked
# for its value. One value that can't be had must not cost the values beside it.
_HOST_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def finite_float(value: Any) -> float | None:
    """``value`` as a finite float; None for NaN, infinity, bool, text and whatever is not one number."""
    if type(value) is float:  # as nearly all are: a detector's boxes hold thousands
        return value + 0.0 if math.isfinite(value) else None  # -0.0, as round(-0.04, 1) is, says no more than 0.0
    try:
        number = _number(value)
    except _HOST_ERRORS:
        return None
    return number + 0.0 if number is not None and math.isfinite(number) else None


def _number(value: Any) -> float | None:
    if isinstance(value, float):  # numpy.float64
        return float(value)
    if not isinstance(value, _NO_NUMBERS) and hasattr(value, "item"):
        value = value.item()  # raises ValueError for an array of several
    return None if isinstance(value, _NO_NUMBERS) else float(value)


_NO_NUMBERS = (bool, str, bytes, bytearray, memoryview, type(None))


def seconds(value: Any) -> float | None:
    """A duration in seconds, 0 to a year: what is longer is a mistake, and a total would never recover from it."""
    number = finite_float(value)
    return number if number is not None and 0 <= number <= MOST_SECONDS else None


def millimeters(value: Any) -> float | None:
    """A length in millimetres, of either sign."""
    number = finite_float(value)
    return number if number is not None and abs(number) <= MOST_MILLIMETERS else None


def score(value: Any) -> float | None:
    """A detector's score, 0 to 1."""
    number = finite_float(value)
    if number is None or not -_ROUNDING <= number <= 1.0 + _ROUNDING:
        return None
    return min(max(number, 0.0), 1.0)


def landmark_count(value: Any) -> int | None:
    """How many landmarks: the number as it is, or of what there are so many."""
    if isinstance(value, Mapping | list | tuple | set) or bool(getattr(value, "ndim", None)):
        return len(value)
    number = whole_number(value)
    return number if number is not None and 0 <= number <= _MOST_LANDMARKS else None


def whole_number(value: Any) -> int | None:
    """``value`` as an int, also from text ("7") as JSON keys are; None when it is not a whole number."""
    if type(value) is int:
        return value if abs(value) <= _MOST_EXACT else None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d{1,9}", value.strip()) else None
    number = finite_float(value)
    if number is None or abs(number) > _MOST_EXACT or number != int(number):
        return None
    return int(number)


def plain_list(value: Any) -> list[Any]:
    """``value`` (list, tuple, array, generator, scalar, None) as a list of plain Python values, of bounded length."""
    if type(value) is list:
        return value[:MOST_ITEMS]
    if value is None or isinstance(value, str | bytes | Mapping):
        return []
    try:
        if hasattr(value, "tolist"):
            value = value.tolist()
        return list(islice(value, MOST_ITEMS)) if isinstance(value, Iterable) else [value]
    except _HOST_ERRORS:
        return []


def finite_floats(value: Any) -> list[float]:
    """The finite numbers in ``value``, in order."""
    return [number for number in map(finite_float, plain_list(value)) if number is not None]


def plain_mapping(value: Any) -> Mapping[Any, Any]:
    """``value`` when it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def plain_text(value: Any) -> str:
    """``value`` when it is text (also as an enum's member, or in an array of one), otherwise ""."""
    if isinstance(value, str):
        return str.__str__(value).strip()  # not an enum's own "Status.FAILED"
    try:
        return str(value).strip() if hasattr(value, "dtype") else ""
    except _HOST_ERRORS:
        return ""


def shown(value: Any) -> str | None:
    """``value`` as its ``str()`` shows it; None when that fails."""
    try:
        return str(value)
    except _HOST_ERRORS:
        return None


def metric_name(value: Any) -> str | None:
    """``value`` when it can name a stage, a model or a metric: a short identifier that doesn't look like an ID."""
    text = plain_text(value)
    return text if _NAME.match(text) and not looks_like_an_id(text) else None


def looks_like_an_id(text: str) -> bool:
    """Whether a UID, a date or a patient's or an accession number may be in it."""
    return _ID_LIKE.search(text) is not None
