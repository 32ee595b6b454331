"""Keeps identities and secrets out of every log line, arguments and tracebacks included.

It is a log record factory, so that it sees each record before any handler does. What it removes is told to
it: the values of the current study, and secrets for as long as the process lives. It is the second net:
nothing in this package, nor in the application, logs such a value on purpose.
"""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

REPLACEMENT = "[removed]"
SHORTEST = 4
"""Values with fewer characters stay: removing every "M" or "DX" would leave no log to read."""


class LogFilter:
    """Removes values from log records, in plain and in the forms that encoders give them."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._identities: frozenset[str] = frozenset()
        self._forms: tuple[str, ...] = ()
        self._make: Callable[..., logging.LogRecord] | None = None

    def install(self) -> None:
        """Take the place of the log record factory, in front of the one that is there."""
        if self._make is None:
            self._make = logging.getLogRecordFactory()
            logging.setLogRecordFactory(self._cleaned_record)

    def uninstall(self) -> None:
        """Give the factory's place back, if it is still ours."""
        if self._make is not None and logging.getLogRecordFactory() == self._cleaned_record:
            logging.setLogRecordFactory(self._make)
            self._make = None

    def add_secrets(self, values: Iterable[str]) -> None:
        """Never let these values be logged."""
        self._secrets |= _long_enough(values)
        self._forms = _forms(self._secrets | self._identities)

    @contextmanager
    def study(self, values: Iterable[str]) -> Iterator[None]:
        """Don't let these values be logged while this study is processed."""
        before = self._identities
        self._identities = _long_enough(values)
        self._forms = _forms(self._secrets | self._identities)
        try:
            yield
        finally:
            self._identities = before
            self._forms = _forms(self._secrets | before)

    def clean(self, text: str) -> str:
        """``text`` without the values."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, REPLACEMENT)
        return text

    def _cleaned_record(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        make = self._make or logging.LogRecord
        record = make(*arguments, **named)
        if self._forms:
            self._clean_record(record)
        return record

    def _clean_record(self, record: logging.LogRecord) -> None:
        message = _message(record)
        cleaned = self.clean(message)
        if cleaned != message:
            record.msg, record.args = cleaned, ()
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            cleaned = self.clean(text)
            if cleaned != text:  # formatters use the text where there is one; the exception itself holds the value
                record.exc_text, record.exc_info = cleaned, None
        if record.stack_info:
            record.stack_info = self.clean(record.stack_info)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # the caller's mistake, which logging reports in its own way
        return str(record.msg) + repr(record.args)


def _long_enough(values: Iterable[str]) -> frozenset[str]:
    return frozenset(text for value in values if len(text := str(value).strip()) >= SHORTEST)


def _forms(values: Iterable[str]) -> tuple[str, ...]:
    """Each value in plain, percent, base64, JSON and repr form; the longest first, since one may hold another."""
    found: set[str] = set()
    for value in values:
        found |= {value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
        found.add(base64.b64encode(value.encode("utf-8", "replace")).decode())
    return tuple(sorted(found, key=len, reverse=True))
