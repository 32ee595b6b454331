"""What is compared: each is given the same sessions, and is used as its own documentation shows."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any, Protocol

from benchmarks import workload

_BUCKET, _ORG, _TOKEN = "leglength", "hospital", "bench-token"


class Contender(Protocol):
    """A client, from its construction to the end of its process."""

    def session(self, number: int) -> None:
        """Tell of one image on the processing thread; what fails is not passed on to the host."""

    def close(self) -> None:
        """What has to be called at the exit, so that nothing is lost that needn't be."""


class Nothing:
    """No monitoring: what an exit costs anyway."""

    def __init__(self, urls: dict[str, str]) -> None:
        pass

    def session(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


class Disk:
    """Two durable writes a session, one at its start and one at its end: what any promise to keep it costs."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._descriptor = os.open(urls["store"], os.O_CREAT | os.O_RDWR, 0o600)

    def session(self, number: int) -> None:
        for write in (2 * number, 2 * number + 1):
            os.pwrite(self._descriptor, b"x" * 4096, write * 4096)
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Ours:
    """This package, with InfluxDB and a Pushgateway: twice the backends that any of the others has."""

    def __init__(self, urls: dict[str, str]) -> None:
        from monitoring import MonitorManager

        settings = workload.settings(urls["store"], urls["influx"], urls["gateway"])
        self._monitor = MonitorManager(settings, logging.getLogger("bench"))

    def session(self, number: int) -> None:
        workload.host_session(self._monitor, f"1.2.826.0.1.{number}")

    def close(self) -> None:
        self._monitor.close()


class InfluxSynchronous:
    """influxdb-client, SYNCHRONOUS: one write a session, its points in it."""

    def __init__(self, urls: dict[str, str]) -> None:
        from influxdb_client import InfluxDBClient

        self._client = InfluxDBClient(url=urls["influx"], token=_TOKEN, org=_ORG)
        self._points = workload.realistic_points()
        self._write_api = self._open()

    def _open(self) -> Any:
        from influxdb_client.client.write_api import SYNCHRONOUS

        return self._client.write_api(write_options=SYNCHRONOUS)

    def session(self, number: int) -> None:  # noqa: ARG002 - the protocol's
        with contextlib.suppress(Exception):
            self._write_api.write(bucket=_BUCKET, record=self._made(workload.now_ns()))

    def _made(self, time_ns: int) -> list[Any]:
        return [influx_point(point, time_ns) for point in self._points]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._write_api.close()
            self._client.close()


class InfluxBatching(InfluxSynchronous):
    """influxdb-client, batching, as its documentation's first example: every option at its default."""

    def _open(self) -> Any:
        return self._client.write_api()


class PrometheusPush:
    """prometheus-client: a registry, pushed at the end of each session, with the library's default timeout."""

    def __init__(self, urls: dict[str, str]) -> None:
        from prometheus_client import CollectorRegistry

        self._gateway = urls["gateway"]
        self._registry = CollectorRegistry()
        self._values = workload.values()
        self._collectors = {metric.name: self._collector(metric) for metric in workload.metrics()}

    def _collector(self, metric: Any) -> Any:
        from prometheus_client import Counter, Gauge, Histogram

        names = [label.name for label in metric.labels]
        if workload.is_histogram(metric):
            return Histogram(metric.name, metric.help, names, registry=self._registry, buckets=metric.buckets)
        kind = Counter if workload.is_counter(metric) else Gauge
        return kind(metric.name, metric.help, names, registry=self._registry)

    def session(self, number: int) -> None:  # noqa: ARG002 - the protocol's
        from prometheus_client import push_to_gateway

        for metric, labels, value in self._values:
            self._keep(metric, labels, value)
        with contextlib.suppress(Exception):
            push_to_gateway(self._gateway, "leglength", self._registry, {"instance": workload.INSTANCE})

    def _keep(self, metric: Any, labels: dict[str, str], value: float) -> None:
        collector = self._collectors[metric.name]
        child = collector.labels(**labels) if labels else collector
        if workload.is_histogram(metric):
            child.observe(value)
        elif workload.is_counter(metric):
            child.inc(value)
        else:
            child.set(value)

    def close(self) -> None:
        pass


class OpenTelemetry:
    """The OpenTelemetry SDK: metrics, a periodic reader with its default interval, OTLP over HTTP."""

    def __init__(self, urls: dict[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{urls['otlp']}/v1/metrics"))
        self._provider = MeterProvider(metric_readers=[reader])
        self._meter = self._provider.get_meter("bench")
        self._values = workload.values()
        self._instruments = {metric.name: self._instrument(metric) for metric in workload.metrics()}

    def _instrument(self, metric: Any) -> Any:
        if workload.is_histogram(metric):
            return self._meter.create_histogram(metric.name, metric.unit, metric.help).record
        if workload.is_counter(metric):
            return self._meter.create_counter(metric.name, metric.unit, metric.help).add
        return self._meter.create_gauge(metric.name, metric.unit, metric.help).set

    def session(self, number: int) -> None:  # noqa: ARG002 - the protocol's
        for metric, labels, value in self._values:
            self._instruments[metric.name](value, labels)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._provider.shutdown()


def influx_point(point: Any, time_ns: int) -> Any:
    """The same point, as a user of influxdb-client builds it."""
    from influxdb_client import Point, WritePrecision

    made = Point(point.measurement)
    for key, value in point.tags.items():
        made.tag(key, value)
    for key, value in point.fields.items():
        made.field(key, value)
    return made.time(time_ns, WritePrecision.NS)


OURS, NOTHING, DISK = "ours", "no monitoring", "two durable writes, alone"
CONTENDERS: dict[str, Any] = {
    NOTHING: Nothing,
    OURS: Ours,
    DISK: Disk,
    "influxdb-client, synchronous": InfluxSynchronous,
    "influxdb-client, batching": InfluxBatching,
    "prometheus-client, push": PrometheusPush,
    "OpenTelemetry SDK, OTLP/HTTP": OpenTelemetry,
}
