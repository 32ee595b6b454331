"""Children that are forked at any instant, and hosts that can have no thread."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer
from tests.support.hosts import Host, wait_for_line, with_influxdb
from tests.support.recordings import RECORD_ONE, begin
from tests.support.servers import InfluxDB1

# --- forks ----------------------------------------------------------------------------------------

_FORKS = f"""
HANGS = {HANGS_SECONDS / 3}
stop = False
def work():
    while not stop:
        with manager.session("parent") as session:
            with session.stage("inference"):
                pass
        say("parent", session.id)
worker = threading.Thread(target=work)
worker.start()
outer = manager.start_session("open in the parent")
say("outer", outer)
time.sleep(0.1)
for number in range(40):
    pid = os.fork()
    if pid == 0:
        with manager.session("child") as session:
            pass
        say("child", session.id)
        manager.end_session(outer)  # not this process's
        if number % 2:
            os._exit(0)
        sys.exit(0)
    deadline = time.monotonic() + HANGS
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            say("hangs", number)
            os.waitpid(pid, 0)
            break
        time.sleep(0.002)
stop = True
worker.join()
manager.end_session(outer, "skipped")
"""


def test_children_forked_while_locks_are_held_record_their_own_sessions(host: Host, influxdb1: InfluxDB1) -> None:
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    ended = host.run(begin(_FORKS))
    assert (ended.code, ended.said("hangs")) == (0, [])
    records = host.records()
    assert set(ended.said("child")) | set(ended.said("parent")) | set(ended.said("outer")) == set(records)
    assert records[ended.said("outer")[0]].status == "skipped"
    assert Counter(record.status for record in records.values())["crashed"] == 0
    assert len(ended.said("child")) == 40
    host.drain()
    assert len(influxdb1.read_points("leglength_session")) == len(records)
    assert host.swallowed() == ""


def test_a_child_that_outlives_its_parent_keeps_its_place_in_the_store(host: Host) -> None:
    """It must not rely on locks that were the parent's: they end with that, and the journal could be taken away."""
    script = begin("""
with manager.session("parent") as session:
    pass
say("ended", session.id)
if os.fork():
    sys.exit(0)
with manager.session("child") as session:
    pass
say("ended", session.id)
for _ in range(30_000):
    if os.path.exists("go"):
        break
    time.sleep(0.01)
with manager.session("child") as session:
    pass
say("ended", session.id)
os.kill(os.getpid(), signal.SIGKILL)
""")
    with host.running(script) as process:
        ended = {wait_for_line(process, "ended").split()[1] for _ in range(2)}
        assert process.wait(HANGS_SECONDS) == 0  # the parent, whose exit closes the store
        assert set(host.records()) == ended  # so does this
        (host.folder / "go").touch()
        ended.add(wait_for_line(process, "ended").split()[1])
    assert set(host.records()) == ended


def test_children_of_multiprocessing_keep_their_sessions(host: Host) -> None:
    """They leave by os._exit, without any exit handler."""
    script = begin("""
import multiprocessing
def work(number):
    with manager.session("child") as session:
        with session.stage("inference"):
            pass
    say("child", session.id)
    return number
with manager.session("parent") as session:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        say("done", sum(pool.map(work, range(12), chunksize=1)))
say("parent", session.id)
""")
    ended = host.run(script)
    assert (ended.code, ended.said("done")) == (0, ["66"])
    assert set(ended.said("child")) | set(ended.said("parent")) == set(host.records())
    assert {record.status for record in host.records().values()} == {"completed"}


def test_a_forked_child_is_ended_by_sigterm_as_without_us_until_it_uses_the_monitoring(host: Host) -> None:
    """Pools end their workers so, and wait for them: one that only notes the signal would hold them up."""
    script = begin("""
def ends(in_child):
    pid = os.fork()
    if pid == 0:
        in_child()
        time.sleep(600)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def at_once():
    say("default", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    say("descriptor", signal.set_wakeup_fd(-1))
    os.kill(os.getpid(), signal.SIGTERM)
def after_a_session():
    with manager.session("child"):
        pass
    say("default", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    manager.start_session("open")
    os.kill(os.getpid(), signal.SIGTERM)
say("ended", ends(at_once))
say("ended", ends(after_a_session))
say("parent's", signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
""")
    ended = host.run(script)
    assert ended.said("default") == ["True", "False"]
    assert ended.said("descriptor") == ["-1"]
    assert ended.said("ended") == [str(-signal.SIGTERM)] * 2
    assert ended.said("parent's") == ["True"]
    assert sorted((record.status, record.reason) for record in host.records().values()) == [
        ("completed", None), ("failed", "terminated"),
    ]  # fmt: skip


def test_a_child_killed_in_a_session_is_reported_though_its_parent_lives(host: Host) -> None:
    script = begin("""
manager.start_session("open in the parent")
pid = os.fork()
if pid == 0:
    say("child", manager.start_session("child"))
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
other = MonitorManager(SETTINGS)
for record in other._runtime.store.active.store.sessions():
    say("reported", record.record.session_id)
""")
    ended = host.run(script)
    assert ended.said("reported") == ended.said("child")


_FORK_IN_THE_MIDDLE = """
import importlib, os, signal, threading, time
module = importlib.import_module("{module}")
once, inside, leave = module.{inner}, threading.Event(), threading.Event()
def held(*arguments):
    inside.set()
    leave.wait()
    return once(*arguments)
{made}
module.{inner} = held
threading.Thread(target=lambda: {work}, daemon=True).start()
inside.wait()
pid = os.fork()
if pid == 0:
    module.{inner} = once
    {work}
    os._exit(0)
ends = time.monotonic() + {hangs}
while not (found := os.waitpid(pid, os.WNOHANG))[0]:
    if time.monotonic() > ends:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        say("hangs", pid)
        os._exit(1)
    time.sleep(0.002)
say("code", os.waitstatus_to_exitcode(found[1]))
os._exit(0)
"""


@pytest.mark.parametrize(
    ("module", "inner", "made", "work"),
    [
        ("monitoring.runtime.machine.cgroups", "_lines", "groups = module.Cgroups()", "groups.cpu()"),
        (
            "monitoring.privacy.redaction", "_is_telling", "values = [module.SensitiveValues(['Beesley'])]",
            "module.redact('Beesley', values, '-')",
        ),
    ],
    ids=["control groups", "the log's filter"],
)  # fmt: skip
def test_a_child_forked_while_a_thread_looks_for_the_first_time_waits_for_nobody(
    host: Host, module: str, inner: str, made: str, work: str
) -> None:
    script = _FORK_IN_THE_MIDDLE.format(module=module, inner=inner, made=made, work=work, hangs=HANGS_SECONDS / 3)
    ended = host.run(script)
    assert ended.said("code") == ["0"], (ended.stdout, ended.stderr)


# --- no threads, other interpreters ---------------------------------------------------------------


def test_where_no_thread_can_be_had_everything_is_kept_for_later(host: Host, influxdb1: InfluxDB1) -> None:
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    host.settings["metrics"]["include_system_metrics"] = True
    ended = host.run(
        'def refuse(self):\n    raise RuntimeError("can\'t start new thread")\nthreading.Thread.start = refuse\n'
        + begin(RECORD_ONE)
    )
    assert ended.code == 0
    assert len(ended.said("recorded")) == 1
    assert influxdb1.read_points("leglength_session") == []
    assert host.drain()["influxdb"]["pending"] == 0
    assert len(influxdb1.read_points("leglength_session")) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become a user whose limits count")
def test_a_user_whose_threads_are_used_up_is_not_disturbed(new_host: Callable[[str], Host]) -> None:
    folder = Path("/tmp") / f"durability-{os.getpid()}-{random.randrange(10**9)}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        host = Host(folder)
        # Everything is imported while the interpreter's own folder can still be read.
        nobody = "import resource, uuid, monitoring.runtime.runtime, monitoring.influx_client\n"
        nobody += "import monitoring.runtime.termination\n"
        nobody += "import encodings.idna, multiprocessing.synchronize, traceback\n"
        nobody += "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\nos.setgid(65534)\nos.setuid(65534)\n"
        with FaultServer() as server:
            host.settings = with_influxdb(host.settings, {"url": server.url, "token": "t", "org": "o"})
            ended = host.run(nobody + begin(RECORD_ONE + "print('result')"))
            assert (ended.code, ended.words[-1:]) == (0, [["result"]]), ended.stderr
            assert server.requests == []
        assert len(host.records()) == 1
    finally:
        shutil.rmtree(folder)


_FORK_WHILE_CLIENTS_LOAD = f"""
HANGS = {HANGS_SECONDS / 3}
while "urllib3" not in sys.modules:  # the delivery has begun to load what it needs
    time.sleep(0.0005)
pid = os.fork()
if pid == 0:
    import prometheus_client, urllib3  # as a host's own child may
    os._exit(0)
deadline = time.monotonic() + HANGS
while not os.waitpid(pid, os.WNOHANG)[0]:
    if time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
        say("hangs")
        os._exit(1)
    time.sleep(0.002)
"""


def test_a_child_forked_while_the_clients_are_loaded_can_load_the_same(host: Host, influxdb1: InfluxDB1) -> None:
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    ended = host.run(begin(_FORK_WHILE_CLIENTS_LOAD))
    assert (ended.code, ended.stdout) == (0, ""), ended.stderr


NEWER_PYTHONS = [
    python for python in sorted(Path("/root/.pyenv/versions").glob("3.1[2-9]*/bin/python")) if python.exists()
] if os.access("/root", os.X_OK) else []  # fmt: skip


@pytest.mark.parametrize("python", NEWER_PYTHONS, ids=lambda python: python.parts[-3])
def test_newer_interpreters_leave_without_a_word_of_threads(host: Host, python: Path, influxdb1: InfluxDB1) -> None:
    probe = subprocess.run(
        [python, "-c", "import msgspec, urllib3, prometheus_client, psutil"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("its packages are not installed")
    host.settings = with_influxdb(host.settings, influxdb1.write_settings())
    ended = host.run(begin(RECORD_ONE), python=str(python))
    assert ended.code == 0
    assert "Traceback" not in ended.stderr
    assert len(influxdb1.read_points("leglength_session")) == 1


def test_this_interpreter_is_one_of_those_supported() -> None:
    assert sys.version_info >= (3, 11)
