"""Every real server that the tests can start, under one name."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.influx_servers import (
    InfluxDB1,
    InfluxDB2,
    VictoriaMetrics,
    influxdb2_is_available,
    wait_for_points,
)
from tests.support.points import Point, PointServer
from tests.support.processes import (
    MissingServerError,
    PortLease,
    ServerAnswerError,
    ServerProcess,
    ServerStartError,
    basic_auth,
    fetch,
    require,
    wait_until,
)
from tests.support.prometheus_servers import (
    Alertmanager,
    Prometheus,
    Pushgateway,
    ScrapeTarget,
    VmAuth,
    amtool,
    promtool,
)

# Each server that speaks InfluxDB's write protocol and is installed.
POINT_SERVERS: dict[str, Callable[[], PointServer]] = {"victoria_metrics": VictoriaMetrics, "influxdb1": InfluxDB1}
if influxdb2_is_available():
    POINT_SERVERS["influxdb2"] = InfluxDB2

__all__ = [
    "POINT_SERVERS",
    "Alertmanager",
    "InfluxDB1",
    "InfluxDB2",
    "MissingServerError",
    "Point",
    "PointServer",
    "PortLease",
    "Prometheus",
    "Pushgateway",
    "ScrapeTarget",
    "ServerAnswerError",
    "ServerProcess",
    "ServerStartError",
    "VictoriaMetrics",
    "VmAuth",
    "amtool",
    "basic_auth",
    "fetch",
    "influxdb2_is_available",
    "promtool",
    "require",
    "wait_for_points",
    "wait_until",
]
