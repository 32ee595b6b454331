"""What the fresh processes do: ``python -m benchmarks.tasks NAME ARGUMENTS``; each tells its figures as JSON."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.children import TELLING
from benchmarks.contenders import CONTENDERS, influx_point


def tell(**figures: Any) -> None:
    """One line for the parent."""
    print(TELLING + json.dumps(figures), flush=True)


def sessions(who: str, urls: dict[str, str], count: int, seconds: float, work_seconds: float) -> None:
    """Sessions with a pause for the host's own work between them, then the exit; fewer when time is over."""
    contender = CONTENDERS[who](urls)
    costs: list[float] = []
    until = time.monotonic() + seconds
    while not costs or (len(costs) < count and time.monotonic() < until):
        if costs:
            time.sleep(work_seconds)
        began = time.perf_counter()
        contender.session(len(costs))
        costs.append(time.perf_counter() - began)
    tell(costs=costs, closing_at=time.monotonic())  # the last one is still to be delivered
    contender.close()


def race(who: str, urls: dict[str, str], count: int) -> None:
    """Sessions without a pause, from a start that all processes wait for."""
    contender = CONTENDERS[who](urls)
    tell(ready=True)
    sys.stdin.readline()
    costs, began = [], time.monotonic()
    for number in range(count):
        start = time.perf_counter()
        contender.session(number)
        costs.append(time.perf_counter() - start)
    tell(costs=costs, began=began, ended=time.monotonic())
    contender.close()


def encoding(seconds: float) -> None:
    """Points a second on one core, in rounds of both in turn, so that a busy machine hits both."""
    from monitoring.metrics.line_protocol import line

    points, now = workload.realistic_points(), workload.now_ns()
    theirs = [influx_point(point, now) for point in points]
    rounds = {
        "encode": lambda: [line(point, now) for point in points],
        "encode influxdb-client": lambda: [point.to_line_protocol() for point in theirs],
        "derive and encode": _derivation(),
        "build and encode influxdb-client": lambda: [influx_point(p, now).to_line_protocol() for p in points],
    }
    tell(points=len(points), rates=_rates(rounds, len(points), seconds))


def _derivation() -> Any:
    """From a finished record to its lines, as a commit does it, without the store."""
    from monitoring.domain.derivation import Facts
    from monitoring.metrics.line_protocol import line
    from monitoring.metrics_collector import points, samples

    record, now = workload.record(), workload.now_ns()
    return lambda: [
        line(point, now)
        for point in points(samples(record, Facts(sessions_last_hour=12)), record, {"instance": workload.INSTANCE})
    ]


def _rates(rounds: dict[str, Any], count: int, seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in rounds}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, work in rounds.items():
            began = time.process_time()
            for _ in range(200):
                work()
            found[name].append(200 * count / (time.process_time() - began))
    return found


def drain(config: str) -> None:
    """``leglength-monitor drain`` on a stored backlog."""
    from monitoring.cli import main

    sys.argv = ["leglength-monitor", "drain", "--config", config, "--timeout", "600", "--json"]
    began, cpu = time.monotonic(), time.process_time()
    try:
        main()
    except SystemExit as end:
        tell(
            seconds=time.monotonic() - began, cpu=time.process_time() - cpu, peak_mib=peak_mib(),
            is_done=end.code in (0, None),
        )  # fmt: skip


def influx_backlog(lines: str, url: str, as_points: bool, batch_size: int) -> None:
    """influxdb-client batching over the same points, with batches of the documented optimum."""
    from influxdb_client import InfluxDBClient
    from influxdb_client.client.write_api import WriteOptions

    make = _rebuilder() if as_points else str
    began, cpu = time.monotonic(), time.process_time()
    with (
        Path(lines).open(encoding="utf-8") as file,
        InfluxDBClient(url=url, token="bench-token", org="hospital", timeout=60_000) as client,
        client.write_api(write_options=WriteOptions(batch_size=batch_size)) as write_api,
    ):
        for line in file:
            write_api.write(bucket="leglength", record=make(line.rstrip("\n")))
    tell(seconds=time.monotonic() - began, cpu=time.process_time() - cpu, peak_mib=peak_mib(), is_done=True)


def _rebuilder() -> Any:
    """From a line to the same point as the client's own object: made from ready parts, so that no parsing is timed."""
    points = workload.realistic_points()
    turn = iter(())

    def make(line: str) -> Any:
        nonlocal turn
        point = next(turn, None)
        if point is None:
            turn = iter(points)
            point = next(turn)
        return influx_point(point, int(line.rpartition(" ")[2]))

    return make


def commits(path: str, count: int) -> None:
    """Whole sessions into a store that holds a number of them already; no backend, so that nothing else runs."""
    from monitoring import MonitorManager

    began = time.perf_counter()
    monitor = MonitorManager(workload.settings(path, metrics={"include_system_metrics": False}))
    opened = time.perf_counter() - began
    costs = []
    for number in range(count):
        start = time.perf_counter()
        workload.host_session(monitor, f"1.2.826.0.2.{number}")
        costs.append(time.perf_counter() - start)
        time.sleep(0.005)
    tell(costs=costs, opened=opened)
    monitor.close()


def looks(path: str, now_ns: int, count: int) -> None:
    """The charts of a whole store, then of so many further exams, one by one."""
    from benchmarks import exams
    from monitoring.analytics.analysis import analyse
    from monitoring.settings import AnalyticsConfig
    from monitoring.store.database import Database
    from monitoring.store.sessions import Store

    store, config = Store(Database(Path(path))), AnalyticsConfig()
    began, cpu = time.monotonic(), time.process_time()
    found = analyse(store, config, now_ns)
    tell(
        seconds=time.monotonic() - began, cpu=time.process_time() - cpu, peak_mib=peak_mib(), charts=len(found.charts)
    )  # fmt: skip
    costs, cpus = [], 0.0
    for number in range(count):
        with store.database.transaction() as connection:
            exams.add_one_like(connection, 10**9 + number, now_ns + number * 10**9)
        began, cpu = time.monotonic(), time.process_time()
        found = analyse(store, config, now_ns + number * 10**9)
        costs.append(time.monotonic() - began)
        cpus += time.process_time() - cpu
        assert not found.anew, found.anew
    tell(costs=costs, cpu=cpus, peak_mib=peak_mib())
    store.database.close()


def drift_charts(folder: str) -> None:
    """What the charts say of the files that other tools are given, too."""
    from benchmarks import drift

    tell(**drift.charts(Path(folder)))


def year_report(config: str, today: str) -> None:
    """``leglength-monitor report`` from its process' start to its end; nobody has looked at the store before."""
    page = Path(config).with_name("report.html")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "monitoring.cli", "report", "--config", config, "--to", today, "-o", str(page)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    tell(
        seconds=time.monotonic() - began, cpu=used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=used.ru_maxrss / 1024, bytes=page.stat().st_size,
    )  # fmt: skip


def peak_mib() -> float:
    """The peak resident memory of this program; the kernel's per-process figure would include the parent's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


TASKS = {
    task.__name__: task
    for task in (sessions, race, encoding, drain, influx_backlog, commits, looks, drift_charts, year_report)
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
