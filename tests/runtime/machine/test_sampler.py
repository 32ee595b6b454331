"""What the machine does during a session: sampled at its start and end at least, whatever hangs and whatever fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monitoring import MonitorManager
from monitoring.metrics import catalogue
from monitoring.records.session_record import Usage
from monitoring.runtime.machine import sampler as system_resources
from monitoring.runtime.machine.probes import SystemProbe
from monitoring.runtime.machine.sampler import Sampler
from monitoring.runtime.machine.usage import Figures, Level
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.servers import wait_until
from tests.support.silent_mount import silent_mount

HOUR = 3600.0
QUICK = {
    "process_cpu_ratio", "process_resident_memory_bytes", "process_resident_memory_peak_bytes",
    "system_memory_available_bytes",
}  # fmt: skip


def without_gpus(usages: Mapping[str, Usage]) -> set[str]:
    """What was sampled, on a machine that has a GPU, too."""
    return {name for name in usages if not name.startswith("gpu_")}


def call(otherwise: Any, made: Callable[..., Any], /, *arguments: Any) -> Any:
    """A guard that hides nothing."""
    return made(*arguments)


class Swallowing:
    """A guard as the manager's: what is raised is kept from the host."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __call__(self, otherwise: Any, made: Callable[..., Any], /, *arguments: Any) -> Any:
        try:
            return made(*arguments)
        except Exception as error:
            self.errors.append(error)
            return otherwise


class FakeVolume:
    """A volume that answers as the test says, and counts how often it was asked."""

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read
        self.asked = 0
        self.closed = threading.Event()

    def read(self) -> Figures:
        self.asked += 1
        return self._read()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def make_sampler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sampler]]:
    """Samplers that are closed after the test; of given volumes, if any. They wait as long as it takes."""
    monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", 60.0)
    made: list[Sampler] = []

    def make(interval: float = HOUR, guard: Any = call, **volumes: Any) -> Sampler:
        fakes = {name: volume for name, volume in volumes.items() if not isinstance(volume, Path)}
        real = system_resources.VolumeProbe
        monkeypatch.setattr(system_resources, "VolumeProbe", lambda name, folder: fakes.get(name) or real(name, folder))
        made.append(Sampler(interval, {name: Path() if name in fakes else volumes[name] for name in volumes}, guard))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("leglength-monitoring-")]


def run_script(script: str, *arguments: str) -> Any:
    """The JSON that ``script`` prints last, in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- start and end --------------------------------------------------------------------------------


def test_a_session_that_ends_at_once_is_sampled_at_its_start_and_end(
    make_sampler: Callable[..., Sampler], tmp_path: Path
) -> None:
    sampler = make_sampler(store=tmp_path)
    usages = sampler.finish(sampler.begin())
    assert set(usages) >= QUICK
    assert {key.partition("/")[0] for key in usages} <= set(catalogue.SYSTEM_RESOURCES)
    assert all(usage.maximum >= usage.average >= 0 for usage in usages.values())


def test_a_volume_is_sampled_at_the_start_and_at_the_end_of_each_session(make_sampler: Callable[..., Sampler]) -> None:
    levels = iter(range(1000))
    volume = FakeVolume(lambda: {"disk_free_bytes/store": Level(float(next(levels)))})
    sampler = make_sampler(store=volume)
    for session in (1, 2):
        recording = sampler.begin()
        wait_until(lambda: volume.asked == 2 * session - 1, "the sample of the start")  # noqa: B023
        assert sampler.finish(recording)["disk_free_bytes/store"].maximum == 2 * session - 1
    assert volume.asked == 4


def test_between_start_and_end_there_is_a_sample_at_each_interval(make_sampler: Callable[..., Sampler]) -> None:
    volume = FakeVolume(lambda: {"disk_free_bytes/store": Level(1.0)})
    sampler = make_sampler(0.01, store=volume)
    recording = sampler.begin()
    wait_until(lambda: volume.asked >= 5, "samples in between")
    sampler.finish(recording)
    asked = volume.asked
    time.sleep(0.05)
    assert volume.asked <= asked + 1  # one may have been on its way


def test_an_interval_longer_than_the_session_asks_for_no_sample_in_between(
    make_sampler: Callable[..., Sampler],
) -> None:
    volume = FakeVolume(lambda: {"disk_free_bytes/store": Level(1.0)})
    sampler = make_sampler(HOUR, store=volume)
    recording = sampler.begin()
    wait_until(lambda: volume.asked == 1, "the sample of the start")
    time.sleep(0.05)
    assert volume.asked == 1
    sampler.finish(recording)


def test_sessions_side_by_side_each_have_their_own_figures(
    make_sampler: Callable[..., Sampler], tmp_path: Path
) -> None:
    sampler = make_sampler(0.01, store=tmp_path)
    recordings = [sampler.begin() for _ in range(20)]
    usages = [sampler.finish(recording) for recording in recordings]
    assert all(set(usage) >= QUICK for usage in usages)
    processors = os.cpu_count() or 1
    assert all(usage["process_cpu_ratio"].maximum <= processors + 1 for usage in usages)
    assert all(0 <= usage["system_cpu_ratio"].maximum <= 1 for usage in usages if "system_cpu_ratio" in usage)


def test_sessions_begun_and_ended_by_many_threads_at_once_all_have_figures(
    make_sampler: Callable[..., Sampler], tmp_path: Path
) -> None:
    sampler = make_sampler(0.01, store=tmp_path)
    usages: list[dict[str, Usage]] = []
    threads = [
        threading.Thread(target=lambda: usages.append(sampler.finish(sampler.begin()))) for _ in range(20)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_SECONDS)
    assert len(usages) == 20
    assert all(set(usage) >= QUICK for usage in usages)
    assert sorted(our_threads()) == sorted(set(our_threads()))


# --- the figures are the session's ----------------------------------------------------------------


def test_cpu_used_before_the_session_is_not_its_own(make_sampler: Callable[..., Sampler]) -> None:
    sampler = make_sampler()
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    recording = sampler.begin()
    time.sleep(0.2)
    assert sampler.finish(recording)["process_cpu_ratio"].maximum < 0.5


def test_cpu_used_in_the_session_is_counted_though_no_sample_falls_into_it(
    make_sampler: Callable[..., Sampler],
) -> None:
    sampler = make_sampler(HOUR)
    started = time.monotonic()
    recording = sampler.begin()
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    usage = sampler.finish(recording)["process_cpu_ratio"]
    longest = time.monotonic() - started
    assert usage.average >= 0.3 / longest


SPIKE = """
import json, threading
from pathlib import Path
from monitoring.runtime.machine.sampler import Sampler
sampler = Sampler(3600.0, {}, lambda _, made, *arguments: made(*arguments))
for size in (200, 200, 0):
    recording = sampler.begin()
    block = b"x" * (size << 20)
    del block
    usages = sampler.finish(recording)
    usage, peak = usages["process_resident_memory_bytes"], usages["process_resident_memory_peak_bytes"]
    print(json.dumps([usage.average, usage.maximum, peak.maximum]))
"""


def test_a_spike_of_memory_between_two_samples_is_the_sessions_maximum_and_not_the_next_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPIKE], cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=True
    )
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first[1] > first[0] + 150 * 2**20
    assert first[2] == first[1]
    assert third[1] < 150 * 2**20 < third[2]  # the peak is the process', the maximum the session's
    assert second[2] >= first[2]


GROWTH = """
import json, os
from monitoring.runtime.machine.sampler import Sampler
sampler = Sampler(3600.0, {}, lambda _, made, *arguments: made(*arguments))
kept, growths = [], []
def session(inside, between):
    recording = sampler.begin()
    kept.append(b"x" * (inside << 20))
    usage = sampler.finish(recording).get("process_resident_memory_growth_bytes")
    growths.append(usage and usage.maximum)
    kept.append(b"x" * (between << 20))
session(100, 0)
session(40, 30)
session(0, 0)
kept.clear()
session(0, 0)
if os.fork():
    os.wait()
else:
    growths.clear()
    session(0, 0)
print(json.dumps(growths), flush=True)
os._exit(0)
"""


def test_what_a_session_leaves_in_memory_is_told_from_the_second_of_a_process_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    of_child, (first, second, third, after_release) = map(json.loads, done.stdout.splitlines())
    assert first is None
    assert second == pytest.approx(40 * 2**20, abs=8 * 2**20)
    assert third == pytest.approx(30 * 2**20, abs=8 * 2**20)  # what the host keeps between two counts as well
    assert after_release == pytest.approx(-170 * 2**20, abs=8 * 2**20)
    assert of_child == [None]  # its memory is not its parent's, grown


# --- what hangs -----------------------------------------------------------------------------------


def test_a_volume_that_hangs_costs_the_session_its_figures_and_no_other(
    make_sampler: Callable[..., Sampler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    stuck = FakeVolume(lambda: {"disk_free_bytes/output": Level(float(release.wait()))})
    sampler = make_sampler(output=stuck, store=tmp_path)
    monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", 0.008)
    try:
        recording = sampler.begin()
        wait_until(lambda: stuck.asked == 1, "the volume to be asked")
        usages = sampler.finish(recording)
    finally:
        release.set()
    assert set(usages) >= QUICK
    assert "disk_free_bytes/output" not in usages


def test_what_hangs_is_waited_for_once_and_again_when_it_answers(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    stuck = FakeVolume(lambda: {"disk_free_bytes/output": Level(float(release.wait()))})
    sampler = make_sampler(output=stuck)
    monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", 0.008)
    try:
        recording = sampler.begin()
        wait_until(lambda: stuck.asked == 1, "the volume to be asked")
        sampler.finish(recording)
        monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", HOUR)
        sampler.finish(sampler.begin())  # for ever, if it were waited for
    finally:
        release.set()
    wait_until(lambda: sampler._slow_lanes[0].is_prompt, "the answer")
    assert "disk_free_bytes/output" in sampler.finish(sampler.begin())


def test_a_source_that_is_slow_each_time_is_waited_for_once(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()

    def slow() -> Figures:
        may_answer.wait()
        time.sleep(0.005)
        return {"disk_free_bytes/output": Level(1.0)}

    sampler = make_sampler(output=FakeVolume(slow))
    monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", 0.001)
    lane = sampler._slow_lanes[0]
    try:
        for session in (1, 2, 3):
            may_answer.set()
            recording = sampler.begin()
            wait_until(lambda: lane.answered >= 2 * session - 1, "the sample of the start")  # noqa: B023
            assert lane.is_prompt == (session == 1)
            may_answer.clear()
            sampler.finish(recording)  # for ever, if it were waited for until it answers
            assert not lane.is_prompt
    finally:
        may_answer.set()  # its thread would outlive the test, and another one waits until there is none


@pytest.mark.skipif(os.getuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and /dev/fuse")
def test_a_share_whose_server_is_gone_holds_up_neither_the_session_nor_the_exit(tmp_path: Path) -> None:
    script = """
import json, sys
from pathlib import Path
from monitoring.runtime.machine.sampler import Sampler
sampler = Sampler(0.01, {"output": Path(sys.argv[1]), "store": Path("/")}, lambda _, made, *arguments: made(*arguments))
usages = [sampler.finish(sampler.begin()) for _ in range(50)]
sampler.close()
print(json.dumps([sorted(usage) for usage in usages]))
"""
    folder = tmp_path / "share"
    folder.mkdir()
    try:
        with silent_mount(folder):
            sessions = run_script(script, str(folder))
    except OSError as error:
        pytest.skip(f"can't mount: {error}")
    assert all(set(names) >= QUICK for names in sessions)
    assert any("disk_free_bytes/store" in names for names in sessions)
    assert not any("disk_free_bytes/output" in names for names in sessions)


# --- what fails -----------------------------------------------------------------------------------


def test_a_reading_that_fails_costs_the_session_nothing_else(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> Any:
        raise LookupError

    monkeypatch.setattr(SystemProbe, "read", raises)
    guard = Swallowing()
    broken, whole = FakeVolume(raises), FakeVolume(lambda: {"disk_free_bytes/store": Level(1.0)})
    sampler = make_sampler(guard=guard, output=broken, store=whole)
    recording = sampler.begin()
    wait_until(lambda: whole.asked == 1, "the sample of the start")
    usages = sampler.finish(recording)
    quick = QUICK - {"process_cpu_ratio", "system_memory_available_bytes"}
    assert without_gpus(usages) == {*quick, "disk_free_bytes/store"}
    assert {type(error) for error in guard.errors} == {LookupError}
    assert broken.asked <= 2  # at the start and at the end, and not until it answers


def test_a_torch_that_fails_in_an_unheard_of_way_leaves_the_systems_figures(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnheardOfError(Exception):
        pass

    def raises() -> Any:
        raise UnheardOfError

    monkeypatch.setattr(system_resources, "torch_figures", raises)
    sampler = make_sampler(guard=Swallowing())
    assert set(sampler.finish(sampler.begin())) >= QUICK


def test_a_failure_at_the_start_and_at_the_end_is_no_failure_of_the_session(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> Any:
        raise LookupError

    guard = Swallowing()
    sampler = make_sampler(guard=guard)
    monkeypatch.setattr(sampler, "_ask", raises)
    assert without_gpus(sampler.finish(sampler.begin())) <= QUICK
    assert len(guard.errors) == 2


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_no_thread_can_be_had_the_hosts_own_samples_what_never_hangs(
    make_sampler: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lack: Exception
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise lack

    guard = Swallowing()
    sampler = make_sampler(guard=guard, store=tmp_path)
    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        recording = sampler.begin()
        time.sleep(0.05)
        usages = sampler.finish(recording)
    assert set(usages) >= {*QUICK, "system_cpu_ratio"}
    assert "disk_free_bytes/store" not in usages
    assert {type(error) for error in guard.errors} == {type(lack)}
    recording = sampler.begin()  # now one can be had
    wait_until(lambda: len(our_threads()) >= 2, "the threads")
    wait_until(lambda: sampler._slow_lanes[0].answered, "the sample of the start")
    assert "disk_free_bytes/store" in sampler.finish(recording)


def test_a_closed_sampler_ends_its_threads_and_closes_what_they_read(make_sampler: Callable[..., Sampler]) -> None:
    volume = FakeVolume(lambda: {"disk_free_bytes/store": Level(1.0)})
    sampler = make_sampler(store=volume)
    recording = sampler.begin()
    wait_until(lambda: volume.asked == 1, "the sample of the start")
    sampler.finish(recording)
    sampler.close()
    assert volume.closed.wait(HANGS_SECONDS)
    wait_until(lambda: not our_threads(), "the threads' end")


# --- in the manager -------------------------------------------------------------------------------


def recorded(settings: Mapping[str, Any], output_dir: Path) -> dict[str, Any]:
    monitor = MonitorManager(
        {"monitoring": {"enabled": True, **settings}}, logging.getLogger("test"), output_dir=output_dir
    )
    try:
        with monitor.session("1.2.3"):
            time.sleep(0.05)
        return monitor.session_records()[0]
    finally:
        monitor.close()


def test_a_sessions_record_holds_the_machine_whatever_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_resources, "PATIENCE_SECONDS", 60.0)
    system = recorded({"metrics": {"collection_interval": 3600}}, tmp_path / "out")["system"]
    assert set(system) >= {*QUICK, "disk_free_bytes/output", "disk_used_bytes/store"}


def test_without_system_metrics_nothing_is_read_and_no_thread_started(tmp_path: Path) -> None:
    before = our_threads()
    record = recorded({"metrics": {"include_system_metrics": False}}, tmp_path)
    assert "system" not in record
    assert not {"system", "output", "store", "gpus"} & {
        name.removeprefix("leglength-monitoring-") for name in our_threads() if name not in before
    }


FORK = """
import json, logging, os, sys
from monitoring import MonitorManager
monitor = MonitorManager({"monitoring": {"enabled": True}}, logging.getLogger("host"))
block = b"x" * (300 << 20)
monitor.start_session("parent")
del block
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    with monitor.session("child"):
        pass
    os.write(writing, json.dumps(monitor.session_records()).encode())
    monitor.close()
    os._exit(0)
os.waitpid(pid, 0)
records = json.loads(os.read(reading, 1 << 20))
monitor.close()
print(json.dumps(records))
"""


def test_a_forked_child_tells_of_itself_and_not_of_its_parent() -> None:
    (record,) = run_script(FORK)
    assert set(record["system"]) >= QUICK
    assert record["system"]["process_resident_memory_peak_bytes"]["maximum"] < 290 * 2**20
