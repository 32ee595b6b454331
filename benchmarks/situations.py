"""How the backends do: healthy, refused, silent, slow, 503. And how many sessions each server has in the end."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import workload
from tests.support import faults
from tests.support.faults import FaultServer, Request
from tests.support.servers import Pushgateway, VictoriaMetrics

SESSIONS_TOTAL = "leglength_sessions_total"
SITUATIONS = ("healthy", "refused", "silent", "slow 1 s", "503")
ANSWERING = ("healthy", "slow 1 s")
_DURATIONS = '{__name__="leglength_session_duration_seconds"}'


@dataclass(slots=True)
class Backends:
    """Where a contender's process sends to, and the counts of what arrived there."""

    urls: dict[str, str]
    arrived: dict[str, Callable[[], int]] = field(default_factory=dict)


@contextlib.contextmanager
def backends(situation: str) -> Iterator[Backends]:
    """Backends of one contender's own, in this situation."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        made = {"healthy": _healthy, "refused": _refused}.get(situation, _faulty)(stack, situation)
        made.urls["store"] = str(Path(folder) / "monitoring.db")
        yield made


def _healthy(stack: contextlib.ExitStack, _: str) -> Backends:
    metrics, gateway = stack.enter_context(VictoriaMetrics()), stack.enter_context(Pushgateway())
    sink = stack.enter_context(FaultServer(then=faults.respond(200)))
    return Backends(
        {"influx": metrics.url, "gateway": gateway.url, "otlp": sink.url},
        {
            "influx": lambda: len(stored_sessions(metrics)),
            "gateway": lambda: pushed_sessions(gateway),
            "otlp": lambda: otlp_count(sink.requests),
        },
    )


def _refused(stack: contextlib.ExitStack, _: str) -> Backends:
    url = stack.enter_context(faults.refused_port())
    return Backends(dict.fromkeys(("influx", "gateway", "otlp"), url))


def _faulty(stack: contextlib.ExitStack, situation: str) -> Backends:
    behaviour = {
        "silent": faults.silence(),
        "slow 1 s": faults.respond(200, after_seconds=1.0),
        "503": faults.respond(503),
    }[situation]
    servers = {name: stack.enter_context(FaultServer(then=behaviour)) for name in ("influx", "gateway", "otlp")}
    servers["influx"].then = faults.respond(204, after_seconds=1.0) if situation == "slow 1 s" else behaviour
    arrived: dict[str, Callable[[], int]] = {}
    if situation in ANSWERING:
        arrived = {
            "influx": lambda: line_count(servers["influx"].requests),
            "gateway": lambda: push_count(servers["gateway"].requests),
            "otlp": lambda: otlp_count(servers["otlp"].requests),
        }
    return Backends({name: server.url for name, server in servers.items()}, arrived)


def stored_sessions(server: VictoriaMetrics) -> list[tuple[int, float]]:
    """Every stored sample of the metric that has one per session, repeats included."""
    return [
        pair
        for series in server.export(_DURATIONS)
        for pair in zip(series["timestamps"], series["values"], strict=True)
    ]


def pushed_sessions(gateway: Pushgateway) -> int:
    """The sessions total that was pushed last."""
    return int(gateway.value(SESSIONS_TOTAL, status="completed") or 0)


def line_count(requests: list[Request]) -> int:
    """The sessions in line protocol that was answered: the points of the measurement that has one each."""
    lines = {line for request in requests for line in request.lines}
    return sum(line.startswith(f"{workload.SESSION_SERIES},") for line in lines)


def push_count(requests: list[Request]) -> int:
    """The sessions total in the last push, in the text format."""
    if not requests:
        return 0
    found = [
        float(line.rpartition(" ")[2])
        for line in requests[-1].lines
        if line.startswith(SESSIONS_TOTAL) and '"completed"' in line
    ]
    return int(sum(found))


def otlp_count(requests: list[Request]) -> int:
    """The sessions total in the last export."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    latest = 0
    for request in requests:
        export = ExportMetricsServiceRequest.FromString(_unzipped(request))
        latest = max([latest, *_totals(export)])
    return latest


def _totals(export: object) -> Iterator[int]:
    for resource in export.resource_metrics:  # type: ignore[attr-defined]
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == SESSIONS_TOTAL:
                    yield from (int(point.as_double or point.as_int) for point in metric.sum.data_points)


def _unzipped(request: Request) -> bytes:
    return gzip.decompress(request.raw_body) if request.raw_body[:2] == b"\x1f\x8b" else request.raw_body
