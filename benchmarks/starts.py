"""What a process pays to begin: import and construction, monitoring off and on, beside the other clients."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import workload
from benchmarks.children import ROOT, environment
from benchmarks.report import Findings, Table, milliseconds, times
from benchmarks.scale import Scale
from benchmarks.targets import MODULES_OFF, START_OFF, START_ON

OFF, ON = "ours, off (no `monitoring` section)", "ours, on (store, InfluxDB and Pushgateway)"
OFF_IN_APPLICATION = "ours, off, in the application"
_APPLICATION = "import analysis.pipeline"  # what run.py has imported when it constructs the monitor
_OURS = "from monitoring import MonitorManager; m = MonitorManager({settings})"
_INFLUX = "from influxdb_client import InfluxDBClient; c = InfluxDBClient('http://127.0.0.1:9', 't', org='o')"
_SYNCHRONOUS = "from influxdb_client.client.write_api import SYNCHRONOUS; w = c.write_api(write_options=SYNCHRONOUS)"
_PUSH = "from prometheus_client import CollectorRegistry, push_to_gateway; r = CollectorRegistry()"
_OTEL = """
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
p = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter('http://127.0.0.1:9/v1/metrics'))])
"""
ROUNDS_EACH = 5


def run(scale: Scale, findings: Findings) -> None:
    """Every program in turn, in fresh processes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        programs = _programs(folder)
        for code in programs.values():
            _measure(*code)  # compiles what is not compiled yet, and makes the store
        told: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
        for _ in range(scale.rounds * ROUNDS_EACH):
            for name, code in programs.items():
                told[name].append(_measure(*code))
    _report(told, findings)


def _programs(folder: str) -> dict[str, tuple[str, str]]:
    """What is timed, and what is imported before."""
    on = workload.settings(f"{folder}/monitoring.db", "http://127.0.0.1:9", "http://127.0.0.1:9")
    off = _OURS.format(settings={})
    return {
        OFF_IN_APPLICATION: (off, _APPLICATION),
        OFF: (off, ""),
        ON: (_OURS.format(settings=on), ""),
        "influxdb-client, synchronous": (f"{_INFLUX}; {_SYNCHRONOUS}", ""),
        "influxdb-client, batching": (f"{_INFLUX}; w = c.write_api()", ""),
        "prometheus-client, push": (_PUSH, ""),
        "OpenTelemetry SDK, OTLP/HTTP": (_OTEL, ""),
    }


def _measure(code: str, before: str) -> dict[str, Any]:
    # The client's exit is not the question here, and may take minutes where nothing listens.
    command = [sys.executable, "-m", "benchmarks.cold", code, before]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        process.kill()
    return found


def _report(told: dict[str, list[dict[str, Any]]], findings: Findings) -> None:
    times_of = {name: [one["seconds"] for one in rounds] for name, rounds in told.items()}
    least, medians = ({name: of(found) for name, found in times_of.items()} for of in (min, statistics.median))
    modules = {name: rounds[0]["modules"] for name, rounds in told.items()}
    rows = [
        (name, milliseconds(medians[name]), milliseconds(least[name]), times(least[name] / least[ON]), str(len(loaded)))
        for name, loaded in modules.items()
    ]
    findings.tables.append(
        Table(
            "Import and construction",
            ("", "Median", "Least", "Beside ours, on", "Third-party packages"),
            rows,
            f"Of {len(told[ON])} fresh processes each. The targets are held against the least: what a busy machine"
            " adds is not the package's. In the application, everything that it imports itself is there already.",
        )
    )
    off, on, loaded = least[OFF_IN_APPLICATION], least[ON], modules[OFF]
    findings.judge("import and construction, off", START_OFF, off * 1e3, milliseconds(off))
    findings.judge("third-party modules loaded, off", MODULES_OFF, len(loaded), ", ".join(loaded) or "none")
    findings.judge("import and construction, on", START_ON, on * 1e3, milliseconds(on))
