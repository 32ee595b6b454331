"""One reading of the machine: it is the container's where there is one, and nothing for what can't be read."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from monitoring.metrics import catalogue
from monitoring.records.session_record import Usage
from monitoring.runtime.machine.probes import SystemProbe, VolumeProbe
from monitoring.runtime.machine.usage import Latest, Level, Recording, Work

MIB = 2**20


def container(root: Path, files: Mapping[str, str]) -> SystemProbe:
    """A machine's root folder whose process is in a container of version 2."""
    given = {
        "proc/self/status": f"Name:\tpython\nVmHWM:\t{300 * 1024} kB\nVmRSS:\t{200 * 1024} kB\nThreads:\t3\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/cgroup.events": "populated 1\n",
    } | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in given.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SystemProbe(root)


LIMITED = {
    "memory.max": str(500 * MIB), "memory.current": str(400 * MIB), "memory.stat": f"inactive_file {100 * MIB}\n",
    "cpu.max": "50000 100000", "cpu.stat": "usage_usec 1000000\n",
}  # fmt: skip


def usage_between(first: SystemProbe, second: SystemProbe) -> dict[str, Usage]:
    recording = Recording()
    for probe in (first, second):
        recording.add(probe.read(), time.monotonic())
        time.sleep(0.02)
    return recording.usages()


# --- the process and the machine ------------------------------------------------------------------


def test_a_reading_has_the_catalogues_keys_and_sane_values() -> None:
    reading = SystemProbe().read()
    assert {key.partition("/")[0] for key in reading} <= set(catalogue.SYSTEM_RESOURCES)
    memory, available = reading["process_resident_memory_bytes"], reading["system_memory_available_bytes"]
    assert isinstance(memory, Level)
    assert isinstance(available, Level)
    assert memory.peak is not None
    assert 1e6 < memory.value <= memory.peak
    assert reading["process_resident_memory_peak_bytes"] == Latest(memory.peak)
    assert 0 < available.value <= psutil.virtual_memory().total


def test_resident_memory_is_what_psutil_says() -> None:
    reading = SystemProbe().read_process()["process_resident_memory_bytes"]
    assert isinstance(reading, Level)
    assert reading.value == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_cpu_is_counted_on_from_reading_to_reading() -> None:
    first = SystemProbe().read()["process_cpu_ratio"]
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    second = SystemProbe().read()["process_cpu_ratio"]
    assert isinstance(first, Work)
    assert isinstance(second, Work)
    assert second.done - first.done >= 0.05
    assert second.clock > first.clock


def test_what_cant_be_read_is_missing_and_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object, **__: object) -> Any:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", raises)
    monkeypatch.setattr(psutil, "cpu_times", raises)
    assert set(SystemProbe(tmp_path).read()) == {"process_cpu_ratio"}


def test_resident_memory_and_its_peak_are_told_in_bytes(tmp_path: Path) -> None:
    reading = container(tmp_path, {}).read_process()
    assert reading["process_resident_memory_bytes"] == Level(200.0 * MIB, 300.0 * MIB)
    assert reading["process_resident_memory_peak_bytes"] == Latest(300.0 * MIB)


@pytest.mark.parametrize("status", ["", "VmRSS:\t-5 kB\nVmHWM:\tmuch\n", "VmRSS:", "VmRSS:\t" + "9" * 5000 + " kB"])
def test_garbage_of_the_process_is_missing(tmp_path: Path, status: str) -> None:
    probe = container(tmp_path, {})
    (tmp_path / "proc/self/status").write_text(status)
    assert set(probe.read_process()) == {"process_cpu_ratio"}


# --- the container --------------------------------------------------------------------------------


def test_available_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    reading = container(tmp_path, LIMITED).read()
    assert reading["system_memory_available_bytes"] == Level(200.0 * MIB, is_left=True)
    assert reading["container_memory_used_bytes"] == Level(300.0 * MIB)
    assert reading["container_memory_limit_bytes"] == Latest(500.0 * MIB)


def test_available_memory_is_the_machines_where_that_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8e9, available=7.0))
    assert container(tmp_path, LIMITED).read()["system_memory_available_bytes"] == Level(7.0, is_left=True)


def test_system_cpu_is_the_containers_share_of_its_limit(tmp_path: Path) -> None:
    reading = container(tmp_path, LIMITED).read()
    assert reading["container_cpu_limit_processors"] == Latest(0.5)
    work = reading["system_cpu_ratio"]
    assert isinstance(work, Work)
    assert (work.done, work.capacity, work.most) == (1.0, 0.5, 1.0)


def test_a_container_that_uses_its_whole_limit_is_seen_to_be_busy(tmp_path: Path) -> None:
    idle = container(tmp_path / "1", LIMITED)
    usages = usage_between(idle, container(tmp_path / "2", LIMITED | {"cpu.stat": "usage_usec 60000000\n"}))
    assert usages["system_cpu_ratio"] == Usage(1.0, 1.0)
    assert usages["container_cpu_ratio"].average > 100  # 59 s of CPU within milliseconds: the files are invented


def test_a_limit_that_is_changed_in_a_session_begins_anew(tmp_path: Path) -> None:
    first = container(tmp_path / "1", LIMITED)
    usages = usage_between(first, container(tmp_path / "2", LIMITED | {"cpu.max": "20000 100000"}))
    assert "system_cpu_ratio" not in usages
    assert usages["container_cpu_limit_processors"] == Usage(0.2, 0.2)


def test_a_limit_whose_use_cant_be_read_is_not_the_machines(tmp_path: Path) -> None:
    reading = container(tmp_path, LIMITED | {"cpu.stat": ""}).read()
    assert "system_cpu_ratio" not in reading
    assert "container_cpu_ratio" not in reading


def test_a_quota_beyond_the_machine_is_no_limit(tmp_path: Path) -> None:
    reading = container(tmp_path, {"cpu.max": "100000000 100000", "cpu.stat": "usage_usec 1\n"}).read()
    assert "container_cpu_limit_processors" not in reading
    work = reading["system_cpu_ratio"]
    assert isinstance(work, Work)
    assert work.capacity == 1.0


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a set of one processor is the whole machine")
def test_a_container_held_to_some_processors_is_limited_to_these(tmp_path: Path) -> None:
    reading = container(tmp_path, {"cpuset.cpus.effective": "0"}).read()
    assert reading["container_cpu_limit_processors"] == Latest(1.0)
    one, all_of_them = reading["system_cpu_ratio"], SystemProbe(tmp_path / "nothing").read()["system_cpu_ratio"]
    assert isinstance(one, Work)
    assert isinstance(all_of_them, Work)
    assert one.clock < all_of_them.clock


def test_where_a_processor_is_offline_the_whole_machine_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 128)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    one = container(tmp_path, {"cpuset.cpus.effective": "0"}).read()["system_cpu_ratio"]
    assert isinstance(one, Work)
    assert one.clock == pytest.approx(sum(psutil.cpu_times()[:8]), rel=0.01)


def test_no_limit_is_no_figure(tmp_path: Path) -> None:
    reading = container(tmp_path, {"memory.max": "max", "cpu.max": "max 100000"}).read()
    assert not {key for key in reading if key.startswith("container_")}


# --- volumes --------------------------------------------------------------------------------------


def test_a_volumes_space_is_that_of_statvfs(tmp_path: Path) -> None:
    reading = VolumeProbe("store", tmp_path).read()
    space = os.statvfs(tmp_path)
    free, used = reading["disk_free_bytes/store"], reading["disk_used_bytes/store"]
    assert isinstance(free, Level)
    assert isinstance(used, Level)
    assert free.value == pytest.approx(space.f_bavail * space.f_frsize, rel=0.01)
    assert used.value == pytest.approx((space.f_blocks - space.f_bfree) * space.f_frsize, rel=0.01)


def test_a_folder_that_is_not_made_yet_lies_on_its_nearest_parents_volume(tmp_path: Path) -> None:
    probe = VolumeProbe("output", Path("/dev/shm/not/made/yet"))
    shm, root = os.statvfs("/dev/shm"), os.statvfs("/")
    reading = probe.read()["disk_free_bytes/output"]
    assert isinstance(reading, Level)
    assert shm.f_blocks * shm.f_frsize != root.f_blocks * root.f_frsize
    assert reading.value == pytest.approx(shm.f_bavail * shm.f_frsize, rel=0.05)
    assert VolumeProbe("output", tmp_path / "a/b").read().keys() == VolumeProbe("output", tmp_path).read().keys()


def test_a_file_in_the_place_of_a_parent_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert VolumeProbe("output", tmp_path / "file/folder").read()


def test_a_folder_that_was_there_and_is_gone_has_no_figures(tmp_path: Path) -> None:
    """Its volume may be gone with it, and then what lies above is another one."""
    folder = tmp_path / "out"
    folder.mkdir()
    probe = VolumeProbe("output", folder)
    assert probe.read()
    folder.rmdir()
    assert probe.read() == {}
    folder.mkdir()
    assert probe.read()


def test_a_relative_folder_stays_where_it_was_when_the_host_moves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    probe = VolumeProbe("output", Path("out"))
    assert probe.read()
    monkeypatch.chdir("/")
    assert probe.read()


def test_a_working_folder_that_is_gone_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    VolumeProbe("output", Path("out")).read()


def test_a_file_system_without_a_notion_of_space_has_no_figures() -> None:
    assert VolumeProbe("output", Path("/proc")).read() == {}


@pytest.mark.parametrize("folder", ["/proc/self/fd/not-a-number/..", "a\0b", "x" * 5000])
def test_a_folder_that_cant_be_asked_has_no_figures_and_raises_nothing(folder: str) -> None:
    VolumeProbe("output", Path(folder)).read()
