"""Several processes on one store at once, as concurrent jobs on one host are."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import recovery
from benchmarks.children import Child
from benchmarks.contenders import OURS
from benchmarks.report import Findings, Table, milliseconds, quantile, rate
from benchmarks.scale import Scale
from benchmarks.situations import pushed_sessions, stored_sessions
from benchmarks.targets import DUPLICATES, LOST
from tests.support.servers import Pushgateway, VictoriaMetrics

SYNCHRONOUS = "influxdb-client, synchronous"


@dataclass(frozen=True, slots=True)
class Race:
    """What the processes took, and what arrived."""

    who: str
    recorded: int
    rate: float
    costs: list[float]
    lost: int
    duplicates: int
    pushed: int | None


def run(scale: Scale, findings: Findings) -> None:
    """Ours, all processes on one store; and a client that has no store."""
    races = [_race(who, scale) for who in (OURS, SYNCHRONOUS)]
    ours = races[0]
    findings.tables.append(
        Table(
            f"{scale.processes} processes at once",
            ("", "Sessions", "Sessions a second", "Median session", "p99", "Lost", "Duplicates", "Pushed total"),
            [_row(race) for race in races],
            "Back to back, without a pause for the host's own work; ours on one store, delivering meanwhile. A"
            " duplicate is a session's point that the server was sent more than once (it overwrites itself).",
        )
    )
    findings.judge(f"lost with {scale.processes} processes", LOST, ours.lost, f"{ours.lost} of {ours.recorded}")
    findings.judge(f"duplicates with {scale.processes} processes", DUPLICATES, ours.duplicates, str(ours.duplicates))


def _race(who: str, scale: Scale) -> Race:
    with VictoriaMetrics() as metrics, Pushgateway() as gateway, _store() as store:
        urls = {"influx": metrics.url, "gateway": gateway.url, "otlp": "", "store": store}
        told = _run_all(who, urls, scale)
        if who == OURS:
            recovery.drain(store, metrics.url, gateway.url)
        samples = stored_sessions(metrics)
        pushed = pushed_sessions(gateway) if who == OURS else None
    recorded, distinct = scale.processes * scale.sessions_each, len(set(samples))
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    return Race(
        who, recorded, recorded / seconds, [cost for one in told for cost in one["costs"]], recorded - distinct,
        len(samples) - distinct, pushed,
    )  # fmt: skip


@contextmanager
def _store() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield f"{folder}/monitoring.db"


def _run_all(who: str, urls: dict[str, str], scale: Scale) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        racers = [
            stack.enter_context(Child("race", who=who, urls=urls, count=scale.sessions_each))
            for _ in range(scale.processes)
        ]
        for racer in racers:
            racer.told()
        for racer in racers:
            racer.go()
        told = [racer.told() for racer in racers]
        for racer in racers:
            racer.wait(60.0)
    return told


def _row(race: Race) -> tuple[str, ...]:
    return (
        race.who, str(race.recorded), rate(race.rate), milliseconds(statistics.median(race.costs)),
        milliseconds(quantile(race.costs, 0.99)), str(race.lost), str(race.duplicates),
        "-" if race.pushed is None else str(race.pushed),
    )  # fmt: skip
