"""The errors of this package.

::

    MonitoringError
    ├── ConfigurationError          a setting can't be used; the message names its path
    ├── RecordError                 a stored or imported session record can't be read
    ├── EncodingError               a point can't be written in line protocol without changing it
    ├── StoreError                  the store can't be opened or written
    │   ├── StoreCorruptError       the store's file is damaged
    │   └── StoreVersionError       the store was written by a newer version
    └── BackendConnectionError      a backend can't be reached (raised by commands only, never into a host)

None of these reaches a host: :class:`monitoring.MonitorManager` swallows and counts them.
"""

from __future__ import annotations


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


def code_location(error: BaseException) -> str | None:
    """``module:line`` of the innermost frame: names of code, never of data."""
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
