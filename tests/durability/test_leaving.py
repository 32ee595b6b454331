"""However a host leaves, what it recorded is kept, and it leaves as it would have without monitoring."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

from monitoring.metrics_collector import SessionWritesBuilder
from tests.support.clocks import HANGS_SECONDS, assert_took_at_most
from tests.support.faults import FaultServer, silence
from tests.support.hosts import Ended, Host, base_settings, wait_for_line, with_influxdb, with_pushgateway
from tests.support.recordings import RECORD_ONE, begin
from tests.support.servers import InfluxDB1, Pushgateway

TERMINATED = -signal.SIGTERM


def without_monitoring(host: Host, script: str) -> Ended:
    """The same host as it ends when monitoring is not configured."""
    settings, host.settings = host.settings, None
    try:
        return host.run(script)
    finally:
        host.settings = settings


def test_a_host_that_never_closes_its_monitoring_delivers_at_its_exit(
    host: Host, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    settings = base_settings(host.store_folder)
    host.settings = with_pushgateway(with_influxdb(settings, influxdb1.write_settings()), pushgateway.url)
    ended = host.run(begin(RECORD_ONE))
    assert ended.code == 0
    assert [point.tags["status"] for point in influxdb1.read_points("leglength_session")] == ["completed"]
    assert pushgateway.value("leglength_sessions_total", status="completed") == 1.0
    assert host.swallowed() == ""


@pytest.mark.parametrize(
    ("ending", "code", "failure"),
    [
        ("sys.exit(3)", 3, "SystemExit"),
        ("sys.exit('no')", 1, "SystemExit"),
        ("raise ValueError('broken')", 1, "ValueError"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_whatever_ends_a_session_passes_through_and_is_kept(host: Host, ending: str, code: int, failure: str) -> None:
    script = begin(f"""
with manager.session("series") as session:
    with session.stage("inference"):
        print("working", flush=True)
        {ending}
""")
    ended, plain = host.run(script), without_monitoring(host, script)
    assert (ended.code, ended.stdout) == (plain.code, plain.stdout) == (code, "working\n")
    assert _without_log(ended.stderr) == _without_log(plain.stderr)
    (record,) = host.records().values()
    assert (record.status, record.reason) == ("failed", "exception")
    assert record.failure is not None
    assert (record.failure.type, record.failure.stage) == (failure, "inference")
    assert host.swallowed() == ""


def _without_log(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "monitoring:" not in line]


def test_os_exit_in_a_session_is_reported_as_crashed_by_the_next_process(host: Host) -> None:
    ended = host.run(begin('say("open", manager.start_session("series"))\nos._exit(0)'))
    (open_id,) = ended.said("open")
    assert host.run(begin("")).code == 0
    assert {name: record.status for name, record in host.records().items()} == {open_id: "crashed"}


# --- SIGTERM --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        'say("ready")\ntime.sleep(600)',
        'open_id = manager.start_session("s")\nsay("open", open_id)\nsay("ready")\ntime.sleep(600)',
        """
with manager.session("s") as session, session.stage("inference"):
    say("open", session.id)
    say("ready")
    time.sleep(600)
""",
    ],
    ids=["idle", "open session", "in a stage"],
)
def test_sigterm_keeps_what_is_open_as_terminated_and_ends_the_process_as_ever(host: Host, state: str) -> None:
    script = begin(RECORD_ONE + state)
    codes, said = [], []
    for settings in (host.settings, None):
        host.settings = settings
        with host.running(script) as process:
            said += [wait_for_line(process, "recorded"), wait_for_line(process, "ready")]
            process.terminate()
            codes.append(process.wait(HANGS_SECONDS))
    assert codes == [TERMINATED, TERMINATED]
    host.settings = base_settings(host.store_folder)
    by_status = Counter((record.status, record.reason) for record in host.records().values())
    expected = {("completed", None): 1} | ({("failed", "terminated"): 1} if "open" in script else {})
    assert by_status == expected
    assert host.swallowed() == ""
    for record in host.records().values():
        if record.reason == "terminated" and "stage" in state:
            assert record.failure is not None
            assert record.failure.stage == "inference"


@pytest.mark.parametrize("state", ["", "manager.start_session('s')"], ids=["idle", "open session"])
def test_a_sigterm_that_another_thread_takes_ends_a_waiting_main_thread(host: Host, state: str) -> None:
    """As one does that comes when the main thread is about to wait: Python notes it, and nothing wakes that thread."""
    script = f"""
{state}
def take():
    time.sleep(0.2)  # the main thread waits by then; one that doesn't yet would end as well
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(600)
threading.Thread(target=take, daemon=True).start()
waited_for = threading.Lock()
waited_for.acquire()
time.sleep(600)
"""
    ended = host.run(begin(script))
    assert ended.code == TERMINATED
    assert [record.reason for record in host.records().values()] == (["terminated"] if state else [])


def test_a_host_that_has_a_wake_up_descriptor_keeps_it(host: Host) -> None:
    ended = host.run("""
mine, theirs = os.pipe()
os.set_blocking(theirs, False)
signal.set_wakeup_fd(theirs)
manager = MonitorManager(SETTINGS)
say("kept", signal.set_wakeup_fd(theirs) == theirs)
manager.close()
say("kept", signal.set_wakeup_fd(-1) == theirs)
second = MonitorManager(SETTINGS)
signal.set_wakeup_fd(theirs)  # later than we
second.close()
say("kept", signal.set_wakeup_fd(-1) == theirs)
before = set(threading.enumerate())
third = MonitorManager(SETTINGS)
(watcher,) = set(threading.enumerate()) - before
third.close()
say("kept", signal.set_wakeup_fd(-1) == -1)
watcher.join(60)
say("lives", watcher.is_alive())
""")
    assert ended.said("kept") == ["True"] * 4
    assert ended.said("lives") == ["False"]


def test_sigterm_while_a_backend_is_silent_ends_the_process_within_the_timeout(host: Host) -> None:
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url, "token": "t", "org": "o"}, timeout=600.0)
        host.settings["shutdown_timeout"] = 1.0
        with host.running(begin(RECORD_ONE + "time.sleep(600)")) as process:
            wait_for_line(process, "recorded")
            server.wait_for_requests(1)  # in mid-flush
            process.terminate()
            assert process.wait(HANGS_SECONDS) == TERMINATED
    assert [record.status for record in host.records().values()] == ["completed"]


def test_sigterm_during_the_exit_of_a_host_still_ends_it_by_the_signal(host: Host) -> None:
    with FaultServer(then=silence()) as server:
        host.settings = with_influxdb(host.settings, {"url": server.url, "token": "t", "org": "o"}, timeout=600.0)
        host.settings["shutdown_timeout"] = 3.0
        with host.running(
            begin(RECORD_ONE + "say('closing'); manager.close(); say('closed'); time.sleep(600)")
        ) as process:
            wait_for_line(process, "closing")
            process.terminate()
            assert process.wait(HANGS_SECONDS) == TERMINATED
    assert [record.status for record in host.records().values()] == ["completed"]


_CHILDREN = """
import random
from monitoring.runtime import runtime, failover  # imported once, for all children
seed, count = int(os.environ["SEED"]), int(os.environ["COUNT"])
chance = random.Random(seed)

def child(tell):
    {before}
    os.write(tell, b"1")
    manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
    {after}
    os.write(tell, b"2")
    while True:
        with manager.session("series") as session:
            say("started", session.id)
            with session.stage("inference"):
                session.record_metric("contrast", 0.5)
        say("ended", session.id)

for number in range(count):
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(tell)
    os.close(tell)
    os.read(told, 1)
    if number % 4:
        os.read(told, 1)  # up; the others are hit while they come up, or soon after
    else:
        say("early", pid)
    time.sleep(chance.uniform(0.0, 0.05))
    os.kill(pid, signal.{signal})
    os.close(told)
    deadline = time.monotonic() + {hangs}
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            say("code", os.waitstatus_to_exitcode(status))
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            say("code", "hangs")
            break
        time.sleep(0.002)
"""


def storm(host: Host, count: int, before: str = "pass", after: str = "pass", number: str = "SIGTERM") -> Ended:
    """Signals at random instants over children that do nothing but record sessions."""
    host.environment |= {"SEED": "20240607", "COUNT": str(count)}
    return host.run(_CHILDREN.format(before=before, after=after, signal=number, hangs=HANGS_SECONDS / 2))


def assert_nothing_lost(host: Host, ended: Ended) -> Counter[str]:
    """Every session that ended is kept as such; the others are kept as something else. Returns all statuses."""
    host.run(begin(""))
    host.run(begin(""))  # each process reports a bounded number of crashed sessions
    records = host.records()
    completed = {name for name, record in records.items() if record.status == "completed"}
    assert set(ended.said("ended")) <= completed
    assert set(ended.said("started")) <= set(records)
    return Counter(f"{record.status}/{record.reason}" for record in records.values())


def test_sigterm_in_the_middle_of_our_own_code_never_hangs_and_never_loses_a_session(host: Host) -> None:
    ended = storm(host, count=60)
    assert Counter(ended.said("code")) == {str(TERMINATED): 60}
    statuses = assert_nothing_lost(host, ended)
    assert set(statuses) <= {"completed/None", "failed/terminated", "failed/not_ended"}
    assert statuses["failed/terminated"] > 5
    assert host.swallowed() == ""


def test_a_hosts_own_handler_that_closes_the_monitoring_and_exits_never_hangs(host: Host) -> None:
    """It interrupts our code in the main thread, with a transaction open, and calls into it again."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: (manager.close(), sys.exit(7)))"
    ended = storm(host, count=60, after=handler)
    codes = Counter(ended.said("code"))
    assert codes["hangs"] == 0
    # Some of those that came up were hit before the handler was there, and all others after.
    assert codes["7"] >= 60 - len(ended.said("early")), codes
    assert_nothing_lost(host, ended)
    assert host.swallowed() == ""


def test_an_interrupt_at_any_instant_leaves_nothing_locked(host: Host) -> None:
    """KeyboardInterrupt is raised in the middle of our code, which the host survives."""
    before = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    ended = storm(host, count=40, before=before, number="SIGINT")
    assert Counter(ended.said("code")) == {str(-signal.SIGINT): 40}
    assert_nothing_lost(host, ended)


def test_after_an_interrupt_sigterm_still_works(host: Host) -> None:
    script = begin(
        """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it runs in the background
    say("ready")
    interrupted = 0
    while interrupted < 40:
        try:
            while True:
                with manager.session("series") as session:
                    with session.stage("inference"):
                        pass
        except KeyboardInterrupt:
            interrupted += 1
            say("interrupted", interrupted)
    session_id = manager.start_session("last")
    say("last", session_id)
    time.sleep(600)
    """.replace("\n    ", "\n")
    )
    chance = random.Random(7)
    with host.running(script) as process:
        wait_for_line(process, "ready")
        for _ in range(40):
            time.sleep(chance.uniform(0.005, 0.05))  # back in its loop, somewhere
            process.send_signal(signal.SIGINT)
            wait_for_line(process, "interrupted")
        last = wait_for_line(process, "last").split()[1]
        process.terminate()
        assert process.wait(HANGS_SECONDS) == TERMINATED
    record = host.records()[last]
    assert (record.status, record.reason) == ("failed", "terminated")


def test_a_handler_that_the_host_installed_before_is_left_alone(host: Host) -> None:
    script = begin("""
with manager.session("series") as session:
    say("open", session.id)
    say("ready", signal.getsignal(signal.SIGTERM) is handler)
    time.sleep(600)
""")
    before = "handler = lambda *_: sys.exit(9)\nsignal.signal(signal.SIGTERM, handler)\n"
    with host.running(before + script) as process:
        assert wait_for_line(process, "ready") == "ready True"
        process.terminate()
        assert process.wait(HANGS_SECONDS) == 9
    (record,) = host.records().values()
    assert (record.status, record.failure and record.failure.type) == ("failed", "SystemExit")


def test_a_handler_that_the_host_installs_later_stays_after_the_close(host: Host) -> None:
    script = begin("""
handler = lambda *_: sys.exit(9)
signal.signal(signal.SIGTERM, handler)
manager.close()
say("ready", signal.getsignal(signal.SIGTERM) is handler)
""")
    assert host.run(script).said("ready") == ["True"]


def test_closing_gives_the_signal_back(host: Host) -> None:
    script = begin("manager.close()\nsay('ready', signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)")
    assert host.run(script).said("ready") == ["True"]


def test_a_finalizer_that_ends_a_session_in_the_middle_of_another_does_not_hang(host: Host) -> None:
    """The garbage collector runs a host's `__del__` wherever it likes, our transactions included."""
    script = begin(f"""
import gc, faulthandler
faulthandler.dump_traceback_later({HANGS_SECONDS / 2}, exit=True)
ended = []
class Work:
    def __init__(self):
        self.cycle = self
        self.session_id = manager.start_session("inner")
    def __del__(self):
        manager.end_session(self.session_id)
        ended.append(self.session_id)
gc.set_threshold(60)
for _ in range(30):
    Work()
    with manager.session("outer") as session:
        with session.stage("inference"):
            pass
    ended.append(session.id)
gc.set_threshold(700)
gc.collect()
manager.close()
for name in ended:
    say("ended", name)
""")
    ended = host.run(script)
    assert ended.code == 0, ended.stderr
    records = host.records()
    assert set(ended.said("ended")) == set(records)
    assert Counter(record.status for record in records.values()) == {"completed": 60}
    assert host.swallowed() == ""


@pytest.mark.parametrize("ending", ["manager.close()", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_thousands_of_open_sessions_do_not_hold_up_the_exit(host: Host, ending: str) -> None:
    """What there is no time to end is in the store all the same, and the next processes report it."""
    host.settings["shutdown_timeout"] = 1.0
    script = f"""
manager = MonitorManager(SETTINGS, logging.getLogger("monitoring"))
for _ in range(1000):
    say("begun", manager.start_session("series"))
began = time.monotonic()
{ending}
say("seconds", time.monotonic() - began)
"""
    ended = host.run(script)
    begun = ended.said("begun")
    assert len(begun) == 1000
    assert "session(s) are still open at the exit; the next runs report them as crashed" in ended.stderr
    reason = "terminated" if "SIGTERM" in ending else "not_ended"
    if "close" in ending:
        assert_took_at_most(float(ended.said("seconds")[0]), 1.5)
    failed = {name for name, record in host.records().items() if record.reason == reason}
    assert 20 <= len(failed) < 1000
    with host.store() as store:  # as the next runs do, some at each, and a relay all at once
        store.report_crashed(SessionWritesBuilder({"instance": "test"}))
    found = host.records()
    assert {record.status for name, record in found.items() if name not in failed} == {"crashed"}
    assert set(found) == set(begun)
