"""What a host pays for its monitoring: the time of each session, of the exit, and sessions that are lost.

The processes of one situation take turns. An exit that takes minutes is waited for beside the rest of the
run, for it does nothing but wait.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks import recovery
from benchmarks.children import Child
from benchmarks.contenders import CONTENDERS, DISK, NOTHING, OURS
from benchmarks.report import Findings, Table, duration, times
from benchmarks.scale import Scale
from benchmarks.situations import SITUATIONS, Backends, backends
from benchmarks.targets import EXIT, EXIT_HEALTHY, LOST, SESSION

_PATIENCE_SECONDS = 4.0
SENDS_TO = {
    OURS: "influx",
    "influxdb-client, synchronous": "influx",
    "influxdb-client, batching": "influx",
    "prometheus-client, push": "gateway",
    "OpenTelemetry SDK, OTLP/HTTP": "otlp",
}


@dataclass(slots=True)
class Cell:
    """One contender in one situation, over all rounds."""

    costs: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    lost: int = 0
    recorded: int = 0
    is_cut_short: bool = False

    @property
    def cost(self) -> float:
        """The median session, the first of each process left out where there are enough."""
        return statistics.median(self.costs)

    @property
    def exit(self) -> float:
        """The median exit."""
        return statistics.median(self.exits)


Cells = dict[tuple[str, str], Cell]


@dataclass(slots=True)
class _Process:
    """One process of a contender, with backends of its own."""

    who: str
    situation: str
    child: Child
    backends: Backends
    stack: ExitStack
    told: dict[str, Any] | None = None


class HostBench:
    """Begins the processes one after another; those that do nothing but wait are waited for at the end."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._cells: Cells = {(who, situation): Cell() for who in CONTENDERS for situation in SITUATIONS}
        self._waiting: list[_Process] = []

    def __enter__(self) -> HostBench:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._waiting:
            process.stack.close()

    def run(self) -> None:
        """All sessions, and the exits that end soon."""
        for situation in SITUATIONS:
            for _ in range(self._scale.rounds if situation == "healthy" else 1):
                for who in CONTENDERS:
                    self._begin(who, situation)

    def _begin(self, who: str, situation: str) -> None:
        stack = ExitStack()
        made = stack.enter_context(backends(situation))
        child = stack.enter_context(Child("sessions", who=who, urls=made.urls, **self._amount()))
        process = _Process(who, situation, child, made, stack)
        self._waiting.append(process)
        process.told = child.told_within(_PATIENCE_SECONDS)
        if situation == "healthy":
            self._settle(self._waiting.pop())
        elif who == OURS and process.told:
            child.wait(self._scale.exit_limit_seconds)  # nobody else's start shall disturb its exit

    def _amount(self) -> dict[str, float]:
        scale = self._scale
        return {"count": scale.sessions, "seconds": scale.situation_seconds, "work_seconds": scale.work_seconds}

    def _settle(self, process: _Process) -> None:
        """Wait for the end of a process, and count what came of its sessions."""
        with process.stack:
            told = process.told or process.child.told()
            cell, limit = self._cells[process.who, process.situation], self._scale.exit_limit_seconds
            is_left = process.child.wait_until(told["closing_at"] + limit)
            costs = told["costs"]
            cell.costs += costs[1:] if len(costs) > 3 else costs
            cell.exits.append(process.child.ended_at - told["closing_at"] if is_left else limit)
            cell.is_cut_short |= not is_left
            cell.recorded += len(costs)
            cell.lost += len(costs) - _kept(process, len(costs))

    def finish(self, findings: Findings) -> None:
        """Wait for the processes that are left, and write down what was found."""
        while self._waiting:
            self._settle(self._waiting.pop(0))
        findings.tables += _tables(self._cells)
        _judge(self._cells, findings)


def _kept(process: _Process, recorded: int) -> int:
    if process.who == OURS:
        return recovery.sessions_after(process.backends)
    count = process.backends.arrived.get(SENDS_TO.get(process.who, ""))
    return min(count(), recorded) if count else 0


def _tables(cells: Cells) -> Iterator[Table]:
    head = ("", *SITUATIONS)
    yield Table(
        "A session on the processing thread", head, [(who, *_costs(cells, who)) for who in (*SENDS_TO, DISK)],
        "Median, and how many times ours. Ours writes to InfluxDB and a Pushgateway, both in that situation, and its"
        " session is on the disk when it begins and when it ends; each of the others has one backend and nothing on the"
        " disk. The last row is the least that a disk asks for that: two durable writes of 4 KiB, and nothing else.",
    )  # fmt: skip
    yield Table(
        "Time added to the exit", head, [(who, *_exits(cells, who)) for who in SENDS_TO],
        "From the call that closes the client to the end of the process, less what that takes without monitoring"
        f" ({duration(_bare_exit(cells))}). With `>` it had not ended, and this run ended it.",
    )  # fmt: skip
    yield Table(
        "Sessions lost", head, [(who, *_losses(cells, who)) for who in SENDS_TO],
        "Counted in the server; ours in both of its servers, once they answered again and `leglength-monitor drain`"
        " had been called.",
    )  # fmt: skip


def _costs(cells: Cells, who: str) -> Iterator[str]:
    for situation in SITUATIONS:
        cost, ours = cells[who, situation].cost, cells[OURS, situation].cost
        yield duration(cost) if who == OURS else f"{duration(cost)} ({times(cost / ours)})"


def _exits(cells: Cells, who: str) -> Iterator[str]:
    for situation in SITUATIONS:
        cell = cells[who, situation]
        yield f"> {cell.exit:.0f} s" if cell.is_cut_short else duration(_added_exit(cells, who, situation))


def _losses(cells: Cells, who: str) -> Iterator[str]:
    for situation in SITUATIONS:
        cell = cells[who, situation]
        yield f"{cell.lost} of {cell.recorded}"


def _bare_exit(cells: Cells) -> float:
    return statistics.median(seconds for situation in SITUATIONS for seconds in cells[NOTHING, situation].exits)


def _added_exit(cells: Cells, who: str, situation: str) -> float:
    return max(0.0, cells[who, situation].exit - _bare_exit(cells))


def _judge(cells: Cells, findings: Findings) -> None:
    for situation in SITUATIONS:
        cell, added = cells[OURS, situation], _added_exit(cells, OURS, situation)
        findings.judge(f"a session, {situation}", SESSION, cell.cost * 1e3, duration(cell.cost))
        limit = EXIT_HEALTHY if situation == "healthy" else EXIT
        findings.judge(f"time added to the exit, {situation}", limit, added, duration(added))
        findings.judge(f"sessions lost, {situation}", LOST, cell.lost, f"{cell.lost} of {cell.recorded}")
