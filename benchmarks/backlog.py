"""A stored backlog into VictoriaMetrics, beside influxdb-client's batching with the same points."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import children, stores, workload
from benchmarks.report import Findings, Table, rate, times
from benchmarks.scale import Scale
from benchmarks.targets import DRAIN_RATIO, LOST_POINTS, MEMORY_GROWTH
from tests.support.processes import fetch
from tests.support.servers import VictoriaMetrics

BATCH_LINES = 5000  # the documented optimum, and ours; the client's own default is 1000
OURS, POINTS, LINES = "ours", "influxdb-client, its points", "influxdb-client, ready lines"


@dataclass(frozen=True, slots=True)
class Run:
    """One delivery of a backlog."""

    who: str
    points: int
    seconds: float
    cpu: float
    peak_mib: float
    missing_values: int

    @property
    def rate(self) -> float:
        """Points a second, by the clock on the wall."""
        return self.points / self.seconds


def run(scale: Scale, findings: Findings) -> None:
    """A tenth of the backlog and all of it, each into a server of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        small, large = (_Backlog(Path(folder), count) for count in (scale.backlog_points // 10, scale.backlog_points))
        runs = [
            _deliver(OURS, small, small.drain),
            _deliver(OURS, large, large.drain),
            _deliver(POINTS, large, lambda url: large.send(url, as_points=True)),
            _deliver(LINES, large, lambda url: large.send(url, as_points=False)),
        ]
    _report(runs, findings)


class _Backlog:
    """A store whose lines wait, and the same lines as text."""

    def __init__(self, folder: Path, points: int) -> None:
        sessions = -(-points // len(workload.realistic_points()))
        self._store, self._lines = folder / f"{points}.db", folder / f"{points}.lines"
        stores.fill(self._store, sessions, with_lines=True)
        self.points = sessions * len(workload.realistic_points())
        self.values = stores.waiting_lines(self._store, self._lines)

    def drain(self, url: str) -> dict[str, Any]:
        config = self._store.with_suffix(".json")
        config.write_text(json.dumps({"process": {"settings": workload.settings(str(self._store), url)}}))
        return children.run("drain", config=str(config))

    def send(self, url: str, as_points: bool) -> dict[str, Any]:
        lines = str(self._lines)
        return children.run("influx_backlog", lines=lines, url=url, as_points=as_points, batch_size=BATCH_LINES)


def _deliver(who: str, backlog: _Backlog, deliver: Callable[[str], dict[str, Any]]) -> Run:
    with VictoriaMetrics() as server:
        told = deliver(server.url)
        missing = backlog.values - _values_in(server)
    return Run(who, backlog.points, told["seconds"], told["cpu"], told["peak_mib"], missing)


def _values_in(server: VictoriaMetrics) -> int:
    """The values that the server took in over InfluxDB's protocol, but for what a drain says of the monitoring."""
    text = fetch("GET", f"{server.url}/metrics").data.decode()
    found = re.search(r'^vm_rows_inserted_total\{type="influx"\} (\S+)$', text, re.MULTILINE)
    own = sum(len(series["values"]) for series in server.export('{__name__=~"leglength_monitoring_.+"}'))
    return int(float(found.group(1))) - own if found else 0


def _report(runs: list[Run], findings: Findings) -> None:
    small, large, points, lines = runs
    findings.tables.append(
        Table(
            "A stored backlog into VictoriaMetrics",
            ("", "Points", "Points a second", "CPU of the client", "Peak memory", "Values missing", "ours is"),
            [_row(one, large) for one in runs],
            f"Batches of {BATCH_LINES:,}; values are counted in the server. Ours reads its store; the client is given"
            " what a file holds, as its own points (as a host would make them) and as lines that are ready to send.",
        )
    )
    for other in (points, lines):
        ratio = large.rate / other.rate
        findings.judge(f"draining, beside {other.who}", DRAIN_RATIO, ratio, f"{times(ratio)} ({rate(large.rate)})")
    growth = large.peak_mib / small.peak_mib
    shown = f"{times(growth)} ({small.peak_mib:.0f} to {large.peak_mib:.0f} MiB)"
    findings.judge(f"memory, {large.points:,} points beside {small.points:,}", MEMORY_GROWTH, growth, shown)
    findings.judge("values missing after the drain", LOST_POINTS, large.missing_values, str(large.missing_values))


def _row(one: Run, ours: Run) -> tuple[str, ...]:
    ratio = "" if one.who == OURS else f"{times(ours.rate / one.rate)} as fast"
    return (
        one.who, f"{one.points:,}", rate(one.rate), f"{one.cpu:.1f} s", f"{one.peak_mib:.0f} MiB",
        f"{one.missing_values:,}", ratio,
    )  # fmt: skip
