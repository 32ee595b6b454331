"""InfluxDB line protocol: what goes in comes back equal, or is refused with a reason.

Source: the line protocol reference of InfluxDB 1 and 2. Numbers are always floats, since a field's
type must never change; backslashes and control characters in names are refused, because servers
disagree on how they unescape them; line breaks are refused everywhere, so that one point stays one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

from monitoring.exceptions import EncodingError

_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_KEY = re.compile(r'"|^_|^time\Z')
_UNSAFE_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
MAX_STRING_BYTES = 64 * 1024  # InfluxDB's limit
_MAX_NAME = 256
_EARLIEST_NS, _LATEST_NS = -(2**63) + 2, 2**63 - 2  # InfluxDB keeps the outermost instants for itself


class Point(Struct, frozen=True):
    """One point without its timestamp: measurement, tag set, and fields (finite floats or short text)."""

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, float | str]


# Names repeat from session to session, values of open labels do so within their limits: hence the caches.
@lru_cache(maxsize=4096)
def _name(text: str, special: str) -> str:
    """Escape a measurement, a key or a tag value; raises :class:`EncodingError`."""
    if not text or len(text) > _MAX_NAME:
        raise EncodingError("a name or tag value is empty or too long")
    if _UNSAFE.search(text):
        raise EncodingError("a name or tag value holds a backslash or a control character")
    for character in special:
        text = text.replace(character, "\\" + character)
    return text


@lru_cache(maxsize=4096)
def _key(text: str) -> str:
    """Escape a tag's or a field's key. VictoriaMetrics loses a line's timestamp after a quote in one."""
    if _UNSAFE_KEY.search(text):
        raise EncodingError("a key is time, begins with an underscore, or holds a quote")
    return _name(text, ",= ")


def _field(value: float | str) -> str:
    # As nearly all are; repr is the shortest text that reads back as the very float.
    if type(value) is float and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        if _UNSAFE_TEXT.search(value) or len(value.encode()) > MAX_STRING_BYTES:
            raise EncodingError("a text field holds a control character or is longer than 64 KiB")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise EncodingError("a field is no number that fits a float") from None
    if not math.isfinite(number):
        raise EncodingError("a field is NaN or infinite")
    return repr(number)


def encode(point: Point) -> str:
    """``measurement,tag=value field=1.5`` without the timestamp, tags sorted by key; raises :class:`EncodingError`."""
    if point.measurement.startswith(("_", "#")):
        raise EncodingError("a measurement begins with an underscore or a hash sign")
    if not point.fields:
        raise EncodingError("a point has no field")
    if not point.tags.keys().isdisjoint(point.fields):
        raise EncodingError("a tag and a field have the same key")
    # Sorted, so that a repeat is the same bytes; servers find a series faster by it, too.
    tags = "".join([f",{_key(key)}={_name(value, ',= ')}" for key, value in sorted(point.tags.items())])
    values = ",".join([f"{_key(key)}={_field(value)}" for key, value in point.fields.items()])
    return f"{_name(point.measurement, ', ')}{tags} {values}"


def line(point: Point, timestamp_ns: int) -> str:
    """The whole line with its timestamp, in nanoseconds since 1970 UTC; raises :class:`EncodingError`."""
    if not _EARLIEST_NS <= timestamp_ns <= _LATEST_NS:
        raise EncodingError("a timestamp is out of range")
    return f"{encode(point)} {timestamp_ns:d}"
