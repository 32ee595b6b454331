"""Each backend, declared once: its name, its section of the settings, what it is, and the client that speaks to it.

The ``backend`` label, the store's bookkeeping, the delivery and ``check`` all read :data:`BACKENDS`: a further
backend is its client's own file and one line here. What a client offers is :class:`Client`; how lines and totals
are handed to it, :mod:`monitoring.transport.sinks` says.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from msgspec import Struct


class Backend(Struct, frozen=True):
    """``section`` of the settings switches it on, where ``target`` in it says where the backend is.

    A state takes the newest totals and forgets the older ones; a log takes each session's lines.
    """

    name: str
    section: str
    target: str
    is_state: bool
    client: str

    def settings(self, config: Any) -> Any:
        """Its section of the checked settings; None where it isn't used."""
        section = getattr(config, self.section)
        is_used = section is not None and section.enabled and getattr(section, self.target) is not None
        return section if is_used else None

    @property
    def is_first_of_section(self) -> bool:
        """Whether it stands for its section, where two backends share one."""
        return self is next(backend for backend in BACKENDS if backend.section == self.section)

    def load_client(self) -> Any:
        """The client's class, see the module's docstring.

        Imported by name, and only by who is about to ask the backend: a host waits for no HTTP library.
        """
        module, _, name = self.client.partition(":")
        return getattr(import_module(module), name)


# In the order in which their threads start.
BACKENDS = (
    Backend("influxdb", "influxdb", "url", False, "monitoring.influx_client:InfluxClient"),
    Backend("prometheus", "prometheus", "gateway_url", True, "monitoring.prometheus_client:PrometheusClient"),
    Backend("textfile", "prometheus", "textfile", True, "monitoring.prometheus_client:TextfileClient"),
)
WHAT_ENDS = {
    "server": "the server's certificate", "client": "the client certificate",
    "ca": "the authority's certificate in ca_file", "token": "the token",
}  # fmt: skip
"""What deliveries depend on and has an end, by the kind that it is told under."""
STATES = frozenset(backend.name for backend in BACKENDS if backend.is_state)


def in_use(config: Any) -> tuple[str, ...]:
    """The names of the backends that these settings switch on."""
    return tuple(backend.name for backend in BACKENDS if backend.settings(config))


def logs_in_use(config: Any) -> tuple[str, ...]:
    """Of these the logs."""
    return tuple(name for name in in_use(config) if name not in STATES)
