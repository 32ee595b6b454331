"""From settings to couriers: which backends are configured, and what carries to each.

Sinks and the libraries under them are loaded when a courier is made, in that courier's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from monitoring.delivery.couriers import Courier, LineCourier, StateCourier
from monitoring.delivery.queue import BackendQueue
from monitoring.delivery.threads import Route
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.settings import InfluxDBConfig, MonitoringConfig, PrometheusConfig, is_used, site_label
from monitoring.store.database import Database


def session_writes_builder(config: MonitoringConfig, instance: str) -> SessionWritesBuilder:
    """What makes the writes of sessions under these settings."""
    return SessionWritesBuilder({"instance": instance, **site_label(config)}, is_used(config.influxdb))


def routes(config: MonitoringConfig, database: Database, instance: str, owner: str) -> list[Route]:
    """The configured backends, in the order in which their threads start; ``owner`` holds their leases."""
    found: list[Route] = []
    influxdb, prometheus = config.influxdb, config.prometheus
    site = site_label(config)
    if influxdb is not None and influxdb.enabled:
        make: Callable[[], Courier] = partial(_influx_courier, influxdb, config.metrics.batch_size, database, owner)
        found.append(Route("influxdb", make, is_state=False))
    if prometheus is not None and prometheus.enabled:
        if prometheus.gateway_url is not None:
            make = partial(_gateway_courier, prometheus, database, {"instance": instance, **site}, owner)
            found.append(Route("prometheus", make, is_state=True))
        if prometheus.textfile is not None:
            make = partial(_textfile_courier, prometheus.textfile, prometheus.timeout, site, database, owner)
            found.append(Route("textfile", make, is_state=True))
    return found


def _influx_courier(config: InfluxDBConfig, batch_lines: int, database: Database, owner: str) -> Courier:
    from monitoring.influx_client import InfluxClient
    from monitoring.transport.http import HttpTransport

    queue = BackendQueue(database.sibling(), "influxdb", owner)
    return LineCourier(queue, InfluxClient(config, HttpTransport(config.trust())), batch_lines, config.timeout)


def _gateway_courier(config: PrometheusConfig, database: Database, group: Mapping[str, str], owner: str) -> Courier:
    from monitoring.prometheus_client import PrometheusClient
    from monitoring.transport.http import HttpTransport

    queue = BackendQueue(database.sibling(), "prometheus", owner)
    return StateCourier(queue, PrometheusClient(config, HttpTransport(config.trust()), group), config.timeout)


def _textfile_courier(path: Path, timeout: float, labels: Mapping[str, str], database: Database, owner: str) -> Courier:
    from monitoring.prometheus_client import TextfileClient

    return StateCourier(BackendQueue(database.sibling(), "textfile", owner), TextfileClient(path, labels), timeout)
