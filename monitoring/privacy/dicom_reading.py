"""Reads values of a DICOM header with pydicom, whatever is in the file, and without a word about it.

pydicom warns of the values that it finds odd, and logs them, by quoting them: nothing of that gets out of here.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from monitoring.records import coerce

_REPLACED = "\N{REPLACEMENT CHARACTER}"
_PADDING = b" \0"  # DICOM PS3.5, 6.2


def read_header(path: Any, keywords: Sequence[str]) -> Any:
    """The pydicom Dataset of these attributes of the file; None when it can't be read, or pydicom isn't installed."""
    try:
        from pydicom import dcmread
    except ImportError:
        return None
    try:
        return dcmread(Path(path), stop_before_pixels=True, specific_tags=list(keywords))
    except _unreadable():
        return None


def value(header: Any, keyword: str) -> Any:
    """An attribute's value in its type, converted when it is asked for, so that each may fail for itself."""
    try:
        return header.get(keyword)
    except _unreadable():
        return None


def text(header: Any, keyword: str) -> str:
    """An attribute's text as it lies in the file, whatever pydicom thinks of it; "" where there is none."""
    from pydicom.datadict import tag_for_keyword

    try:
        element = header.get_item(tag_for_keyword(keyword))
    except _unreadable():
        return ""
    found = getattr(element, "value", None)
    if isinstance(found, bytes):
        return _decoded(found.strip(_PADDING), header)
    return "" if found is None else coerce.shown(found) or ""


def _decoded(found: bytes, header: Any) -> str:
    from pydicom.charset import decode_bytes

    known = header.original_character_set
    try:
        shown = decode_bytes(found, [known] if isinstance(known, str) else list(known), set())
    except _unreadable():
        shown = _REPLACED
    # What doesn't fit its declared character set is taken byte for byte, so that no two values read the same.
    return found.decode("latin-1") if _REPLACED in shown else shown


def _unreadable() -> tuple[type[Exception], ...]:
    """What pydicom raises for broken files and values."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        BytesLengthException, InvalidDicomError, ArithmeticError, AttributeError, EOFError, LookupError, OSError,
        RuntimeError, TypeError, ValueError, struct.error, zlib.error,
    )  # fmt: skip


@contextmanager
def silence() -> Iterator[None]:
    """Keep pydicom's warnings away meanwhile, and its log lines of this thread.

    Not by ``warnings.catch_warnings``: of two threads in it, the last to leave brings back the other's filters.
    """
    rule = ("ignore", None, Warning, re.compile(r"pydicom(\.|\Z)"), 0)
    logger, mute = logging.getLogger("pydicom"), _Mute(threading.get_ident())
    before = cast(list[Any], warnings.filters)
    before.insert(0, rule)
    logger.addFilter(mute)
    try:
        yield
    finally:
        logger.removeFilter(mute)
        for rules in (before, cast(list[Any], warnings.filters)):
            with suppress(ValueError):
                rules.remove(rule)


class _Mute(logging.Filter):
    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging's signature
        return threading.get_ident() != self._thread
