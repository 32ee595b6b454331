"""Several processes on one store, and several threads in one process: nothing is lost, doubled or turned back."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from monitoring import MonitorManager
from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer, respond, silence
from tests.support.hosts import Host, base_settings, wait_for_line, with_influxdb, with_pushgateway
from tests.support.servers import InfluxDB1, Pushgateway

PROCESSES, SESSIONS_EACH = 8, 12
RECORD_MANY = f"""
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for number in range({SESSIONS_EACH}):
    with manager.session("series") as session:
        with session.stage("inference"):
            time.sleep(0.02)
    say("ended", session.id)
manager.close()
"""


def run_all(hosts: list[Host], script: str) -> tuple[list[str], str]:
    """Run a script in all of them at once; returns the sessions that ended, and all logs."""
    processes: list[subprocess.Popen[str]] = [host.start(script) for host in hosts]
    try:
        said = [process.communicate(timeout=HANGS_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(hosts)
    ended = [line.split()[1] for stdout, _ in said for line in stdout.splitlines() if line.startswith("ended")]
    return ended, "".join(stderr for _, stderr in said)


class CounterWatch(threading.Thread):
    """Polls a Pushgateway and remembers each counter that went back."""

    def __init__(self, gateway: Pushgateway) -> None:
        super().__init__(daemon=True)
        self.gateway = gateway
        self.done = threading.Event()
        self.polls = 0
        self.turned_back: list[str] = []
        self.highest: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def run(self) -> None:
        while not self.done.is_set():
            self.poll()
            time.sleep(0.005)

    def poll(self) -> None:
        self.polls += 1
        for family in self.gateway.families():
            if family.type not in ("counter", "histogram"):
                continue
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                if sample.value < self.highest.get(key, 0.0):
                    self.turned_back.append(f"{key}: {sample.value} after {self.highest[key]}")
                self.highest[key] = max(sample.value, self.highest.get(key, 0.0))


def test_eight_processes_lose_nothing_and_never_turn_a_counter_back(
    new_host: Callable[[str], Host], tmp_path: Path, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    hosts = [new_host(f"host-{number}") for number in range(PROCESSES)]
    for host in hosts:
        host.store_folder = tmp_path / "shared"
        settings = with_influxdb(base_settings(host.store_folder), influxdb1.write_settings())
        host.settings = with_pushgateway(settings, pushgateway.url)
    watch = CounterWatch(pushgateway)
    watch.start()
    ended, log = run_all(hosts, RECORD_MANY)
    hosts[0].drain()
    watch.done.set()
    watch.join(HANGS_SECONDS)
    watch.poll()
    assert watch.turned_back == []
    assert watch.polls > 20
    stored = hosts[0].stored()
    assert len(ended) == PROCESSES * SESSIONS_EACH
    assert sorted(item.record.session_id for item in stored) == sorted(ended)
    points = influxdb1.read_points("leglength_session")
    assert sorted(point.time_ns for point in points) == sorted(item.timestamp_ns for item in stored)
    assert pushgateway.value("leglength_sessions_total", status="completed") == len(ended)
    assert pushgateway.value("leglength_monitoring_pending_points", backend="influxdb") == 0.0
    assert "kept in memory" not in log
    assert [host.swallowed() for host in hosts] == [""] * PROCESSES


def test_no_line_is_sent_by_two_processes(new_host: Callable[[str], Host], tmp_path: Path) -> None:
    """The lease keeps them apart: with a server that always answers, each line arrives once on the wire."""
    hosts = [new_host(f"host-{number}") for number in range(4)]
    with FaultServer(then=respond(204, after_seconds=0.02)) as server:
        for host in hosts:
            host.store_folder = tmp_path / "shared"
            host.settings = with_influxdb(base_settings(host.store_folder), {"url": server.url})
        ended, _ = run_all(hosts, RECORD_MANY)
        hosts[0].drain()
        lines = Counter(line for request in server.requests for line in request.lines)
    sessions = [line for line in lines if line.startswith("leglength_session,")]
    assert len(sessions) == len(ended)
    assert set(lines.values()) == {1}


def test_a_second_connection_of_a_process_does_not_end_the_locks_of_the_first(host: Host) -> None:
    """Closing any descriptor of a file ends a process' locks on it, so nothing but SQLite may ever open the store.

    Without its lock, the journal is removed under the first by whoever takes himself for the last user.
    """
    script = """
from pathlib import Path
from monitoring.store.database import Database
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
with manager.session("series") as session:
    pass
say("ended", session.id)
Database(Path(SETTINGS["monitoring"]["store"]["path"]) / "monitoring.db").close()
say("ready")
sys.stdin.read(1)
with manager.session("series") as session:
    pass
say("ended", session.id)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with host.running(script, stdin=subprocess.PIPE) as process:
        ended = {wait_for_line(process, "ended").split()[1]}
        wait_for_line(process, "ready")
        assert set(host.records()) == ended  # opens and closes the store
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        ended.add(wait_for_line(process, "ended").split()[1])
        process.wait(HANGS_SECONDS)
    assert set(host.records()) == ended


def test_a_killed_processs_lease_is_taken_over_at_once(host: Host, influxdb1: InfluxDB1) -> None:
    """A lease outlasts a request's timeout; nobody waits that long for a dead process."""
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url}, timeout=600.0)
        with host.running(RECORD_MANY.replace("manager.close()", "time.sleep(600)")) as process:
            wait_for_line(process, "ended")
            server.wait_for_requests(1)  # it holds the lease now
            process.send_signal(signal.SIGKILL)
            process.wait(HANGS_SECONDS)
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    host.drain()  # fails where the lease is respected, as the next test shows
    assert len(influxdb1.read_points("leglength_session")) == len(host.records())


def test_a_living_processs_lease_is_respected(host: Host, influxdb1: InfluxDB1) -> None:
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url}, timeout=600.0)
        with host.running(RECORD_MANY.replace("manager.close()", "time.sleep(600)")) as process:
            wait_for_line(process, "ended")
            server.wait_for_requests(1)
            host.settings = with_influxdb(host.settings, influxdb1.write_settings())
            done = host.monitor("drain")
            assert done.returncode == 1
            assert "another process delivers" in done.stdout
            assert influxdb1.read_points("leglength_session") == []


def test_a_host_that_leaves_while_a_backend_is_silent_leaves_no_lease_behind(host: Host, influxdb1: InfluxDB1) -> None:
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url}, timeout=600.0)
        host.settings["shutdown_timeout"] = 1.0
        script = RECORD_MANY.replace("manager.close()", "sys.stdin.read(1); manager.close()")
        with host.running(script, stdin=subprocess.PIPE) as process:
            server.wait_for_requests(1)
            assert process.stdin is not None
            process.stdin.write("x")
            process.stdin.flush()
            assert process.wait(HANGS_SECONDS) == 0
        assert len(server.requests) == 1
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    assert host.drain()["influxdb"]["pending"] == 0


def test_killed_processes_leave_no_files_behind(host: Host) -> None:
    """Each had a liveness lock beside the store, whose file the next process removes."""
    for _ in range(3):
        with host.running(RECORD_MANY.replace("manager.close()", "time.sleep(600)")) as process:
            wait_for_line(process, "ended")
        assert len(list(host.store_folder.glob("*.alive-*"))) == 1
    assert host.run(RECORD_MANY).code == 0
    assert list(host.store_folder.glob("*.alive-*")) == []


def test_threads_of_one_process_record_at_once(tmp_path: Path) -> None:
    count, each = 8, 15
    ended: list[str] = []
    with FaultServer() as server:
        settings = with_influxdb(base_settings(tmp_path / "store"), {"url": server.url})
        with MonitorManager({"monitoring": settings}) as manager:

            def work(thread: int) -> None:
                for number in range(each):
                    with manager.session(f"series-{thread}") as session, session.stage("inference"):
                        session.record_metric("thread_number", thread * 1000 + number)
                    ended.append(session.id)

            threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(HANGS_SECONDS)
            records = manager.session_records()
        delivered = [line for request in server.requests for line in request.lines]
    assert len(set(ended)) == count * each
    assert sorted(record["session_id"] for record in records) == sorted(ended)
    numbers = {record["custom"]["thread_number"] for record in records}
    assert len(numbers) == count * each
    assert {record["status"] for record in records} == {"completed"}
    assert all(set(record["stages_seconds"]) == {"inference"} for record in records)
    assert len({line for line in delivered if line.startswith("leglength_session,")}) == count * each


def test_a_session_ended_by_two_threads_is_kept_once(tmp_path: Path) -> None:
    with MonitorManager({"monitoring": base_settings(tmp_path / "store")}) as manager:
        for _ in range(20):
            session_id = manager.start_session("series")
            barrier = threading.Barrier(4)

            def end(session_id: str = session_id, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(HANGS_SECONDS)
                manager.end_session(session_id)

            threads = [threading.Thread(target=end) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(HANGS_SECONDS)
        assert len(manager.session_records()) == 20
