"""Keeps identities and secrets out of every log line, arguments and tracebacks included.

It sees each record twice: when it is made, before any filter of a host's, and when a handler takes it, which is
where records come by that something else made, and what ``extra=`` added. What it removes is told to it: the
values of the current study, and secrets for as long as the process lives. It is the second net: nothing in this
package, nor in the application, logs such a value on purpose. How a value is recognised is redaction.py's.

    from monitoring import LogFilter

    log_filter = LogFilter()
    log_filter.install()
    with log_filter.study([patient_name, patient_id, path.name]):
        process(path)
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from monitoring.privacy.redaction import SHORTEST, SensitiveValues, redact

__all__ = ["HITS", "REPLACEMENT", "SHORTEST", "LogFilter", "protect"]

REPLACEMENT = "[removed]"
_UNCLEANED = "a log line was left out: it could not be searched for identities and secrets"
# What the code says of itself, and numbers of the record's own. Names of loggers and threads may quote a study.
_CODE = frozenset(
    {
        "created", "filename", "funcName", "levelname", "levelno", "lineno", "module", "msecs", "pathname", "process",
        "relativeCreated", "thread",
    }
)  # fmt: skip
_BY_THEMSELVES = frozenset({"args", "exc_info", "exc_text", "msg", "stack_info"})


class LogFilter:
    """Removes values from log records, in plain and in the forms that encoders give them.

    While it has values to look for, tracebacks reach handlers as text: an exception, and the variables
    of its frames, hold more than can be searched.
    """

    def __init__(self) -> None:
        self._secrets = SensitiveValues(())
        self._studies: dict[object, SensitiveValues] = {}

    def install(self) -> None:
        """Clean every record of this process from now on; proxies' passwords in the environment are secrets too."""
        # Looked at here, since most environments hold none, and secret_values.py takes longer to load than all of this.
        if any(name.lower().endswith("_proxy") or name == "MONITORING_PRIVACY_KEY" for name in os.environ):
            from monitoring.privacy.secret_values import environment_secrets

            self.add_secrets(environment_secrets())
        _installed.add(self)

    def uninstall(self) -> None:
        """Leave the records as they are."""
        _installed.discard(self)

    def add_secrets(self, values: Iterable[str | bytes]) -> None:
        """Never let these values be logged."""
        self._secrets = SensitiveValues([*self._secrets.values, *values])

    def add_secrets_of_settings(self, section: Any) -> None:
        """Never let the secrets of a ``monitoring`` section be logged, whether it is right, wrong or switched off."""
        if isinstance(section, Mapping) and section.keys() - {"enabled"}:  # with this alone there is none to load for
            from monitoring.privacy.secret_values import secrets_in

            self.add_secrets(secrets_in(section))

    @contextmanager
    def study(self, values: Iterable[object]) -> Iterator[None]:
        """Don't let these values be logged while this study is processed; a ``^`` parts a person's name."""
        token = object()
        self._studies[token] = SensitiveValues(values, are_names=True)
        try:
            yield
        finally:
            self._studies.pop(token, None)

    def clean(self, text: str) -> str:
        """``text`` without the values."""
        groups = self._groups()
        return redact(text, groups, REPLACEMENT) if groups else text

    def clean_record(self, record: logging.LogRecord) -> bool:
        """Clean a record in place; one that can't be searched loses its text. Returns whether anything was removed."""
        if not self._groups():
            return False
        try:
            is_hit = self._clean_message(record) | self._clean_traceback(record)
            for name, value in list(vars(record).items()):
                if name not in _CODE and name not in _BY_THEMSELVES:
                    cleaned = self._cleaned(value)
                    is_hit |= cleaned is not value
                    setattr(record, name, cleaned)
        except Exception:  # a host's object whose code fails while it is shown
            vars(record).update(msg=_UNCLEANED, args=(), exc_info=None, exc_text=None, stack_info=None)
            return True
        return is_hit

    def _groups(self) -> list[SensitiveValues]:
        # tuple(): another thread's study may begin or end meanwhile.
        return [group for group in (self._secrets, *tuple(self._studies.values())) if group.values]

    def _clean_message(self, record: logging.LogRecord) -> bool:
        shown = _message(record)
        cleaned = self.clean(shown)
        arguments = record.args if isinstance(record.args, tuple) else None
        plain = (str, int, float, bool, type(None))
        if isinstance(record.msg, str) and arguments is not None and all(type(value) in plain for value in arguments):
            kept = tuple(map(self._cleaned, arguments))
            # A value may be made of several arguments, or stand in the message itself: then the whole text counts.
            with suppress(TypeError, ValueError, KeyError):
                if (record.msg % kept if kept else record.msg) == cleaned:
                    record.args = kept
                    return cleaned != shown
        record.msg, record.args = cleaned, ()
        return cleaned != shown

    def _clean_traceback(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else record.exc_info
        if isinstance(error, BaseException):
            record.exc_text = "".join(traceback.format_exception(error)).rstrip("\n")
        record.exc_info = None
        before = (record.exc_text or None, str(record.stack_info) if record.stack_info else None)
        record.exc_text, record.stack_info = (self.clean(text) if text else None for text in before)
        return (record.exc_text, record.stack_info) != before

    def _cleaned(self, value: Any) -> Any:
        """The value itself where it shows nothing, otherwise its text without what it shows."""
        if value is None or isinstance(value, bool):
            return value
        # A formatter may show it either way: a path's repr() has escapes, and an exception's str() only its message.
        for text in [value] if isinstance(value, str) else [str(value), repr(value)]:
            cleaned = self.clean(text)
            if cleaned != text:
                return cleaned
        return value


def protect(values: Iterable[str | bytes]) -> None:
    """Add secrets to the filters that are installed; does nothing where there is none."""
    secrets = list(values)
    for log_filter in _installed.filters:
        log_filter.add_secrets(secrets)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # the caller's mistake, which logging reports in its own way
        return f"{record.msg} {record.args!r}"


class _Installed:
    """The filters of this process, and what of ``logging`` they stand in front of."""

    def __init__(self) -> None:
        self.filters: tuple[LogFilter, ...] = ()  # a new tuple each time: other threads are going through the old one
        self._make: Callable[..., logging.LogRecord] | None = None
        self._handle: Callable[[logging.Handler, logging.LogRecord], Any] | None = None

    def add(self, log_filter: LogFilter) -> None:
        if log_filter not in self.filters:
            self.filters = (*self.filters, log_filter)
        # What could not be given back, since another stood in front of it, is still ours.
        if self._make is None:
            self._make = logging.getLogRecordFactory()
            logging.setLogRecordFactory(_make_clean)
        if self._handle is None:
            self._handle = logging.Handler.handle
            logging.Handler.handle = _handle_clean  # type: ignore[assignment,method-assign]

    def discard(self, log_filter: LogFilter) -> None:
        self.filters = tuple(one for one in self.filters if one is not log_filter)
        if self.filters:
            return
        if self._make is not None and logging.getLogRecordFactory() is _make_clean:
            logging.setLogRecordFactory(self._make)
            self._make = None
        if self._handle is not None and logging.Handler.handle is _handle_clean:
            logging.Handler.handle = self._handle  # type: ignore[assignment,method-assign]
            self._handle = None

    # Twice: a host's handler or filter may see a record before ours, and extra= is added after the factory.
    def make(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        return self._cleaned((self._make or logging.LogRecord)(*arguments, **named))

    def handle(self, handler: logging.Handler, record: logging.LogRecord) -> Any:
        return self._handle(handler, self._cleaned(record)) if self._handle else False

    def _cleaned(self, record: logging.LogRecord) -> logging.LogRecord:
        is_hit = False
        for log_filter in self.filters:
            is_hit |= log_filter.clean_record(record)
        if is_hit:
            HITS.note(record)
        return record


class Hits:
    """How many records something was removed from, since it was last asked: in memory, since a log line waits for it.

    Who commits sessions takes the count and keeps it in the store.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()  # a signal's handler may log, too
        self._latest = threading.local()

    def note(self, record: logging.LogRecord) -> None:
        """Something was removed from a record; a record is seen twice, and counts once."""
        latest = getattr(self._latest, "record", None)
        if latest is not None and latest() is record:
            return
        self._latest.record = weakref.ref(record)  # what a record holds is not to be kept alive here
        self.add(1)

    def add(self, count: int) -> None:
        """Count so many more."""
        with self._lock:
            self.count += count

    def take(self) -> int:
        """The count, which begins anew."""
        with self._lock:
            count, self.count = self.count, 0
            return count

    def after_fork(self) -> None:
        """In a child process: what was counted is the parent's to tell, and the lock may be held by a thread of its."""
        self.__init__()  # type: ignore[misc]


HITS = Hits()
os.register_at_fork(after_in_child=HITS.after_fork)
_installed = _Installed()


def _make_clean(*arguments: Any, **named: Any) -> logging.LogRecord:
    return _installed.make(*arguments, **named)


def _handle_clean(handler: logging.Handler, record: logging.LogRecord) -> Any:
    return _installed.handle(handler, record)
