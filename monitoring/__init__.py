"""Monitoring for medical-imaging AI that runs as short-lived batch containers.

``MonitorManager`` is all that a host needs; ``LogFilter`` keeps identities out of its log. Importing this package
loads the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring.version import __version__

if TYPE_CHECKING:
    from monitoring.exceptions import (
        BackendConnectionError,
        ConfigurationError,
        MonitoringError,
        RecordError,
        StoreError,
    )
    from monitoring.monitor_manager import ManagedSession, MonitorManager
    from monitoring.privacy.log_filter import LogFilter
    from monitoring.records.session_record import SessionRecord

__all__ = [
    "BackendConnectionError",
    "ConfigurationError",
    "LogFilter",
    "ManagedSession",
    "MonitorManager",
    "MonitoringError",
    "RecordError",
    "SessionRecord",
    "StoreError",
    "__version__",
]

_HOMES = {
    "LogFilter": "privacy.log_filter",
    "ManagedSession": "monitor_manager",
    "MonitorManager": "monitor_manager",
    "SessionRecord": "records.session_record",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'exceptions')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
