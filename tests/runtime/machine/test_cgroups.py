"""A container's limits and use, read from real trees of files of both versions of control groups."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.runtime.machine.cgroups import Cgroups, ContainerCpu, ContainerMemory

MACHINE = 64e9
MIB = 2**20
ABSURD = 9223372036854771712  # what version 1 says where there is no limit
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime master:9 - cgroup cgroup rw,memory\n"
    "36 31 0:33 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "37 31 0:34 {root} /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"
)


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())


def v2(root: Path, path: str, files: Mapping[str, object], mount_root: str = "/") -> Cgroups:
    """A machine of version 2 whose process is in the group ``path``; files' names are below the mount."""
    write(root, {
        "proc/self/cgroup": f"0::{path}\n",
        "proc/self/mountinfo": f"22 27 0:21 / /proc rw - proc proc rw\n{V2_MOUNT.format(root=mount_root)}\n",
    })  # fmt: skip
    write(root / "sys/fs/cgroup", files)
    return Cgroups(root)


def v1(root: Path, path: str, files: Mapping[str, object], mount_root: str = "/") -> Cgroups:
    write(root, {
        "proc/self/cgroup": f"12:memory:{path}\n4:cpu,cpuacct:{path}\n3:cpuset:{path}\n1:name=systemd:{path}\n0::/\n",
        "proc/self/mountinfo": V1_MOUNTS.format(root=mount_root) + "\n",
    })  # fmt: skip
    write(root / "sys/fs/cgroup", files)
    return Cgroups(root)


def v2_memory(limit: object, current: int, inactive: int, folder: str = "") -> dict[str, object]:
    statistics = f"anon 1\nnot_inactive_file 3\nactive_file 5\ninactive_file {inactive}\nslab 9\n"
    files = {"memory.max": limit, "memory.current": current, "memory.stat": statistics, "cgroup.events": "populated 1"}
    return {f"{folder}{name}": content for name, content in files.items()}


def v1_memory(limit: int, usage: int, inactive: int, folder: str = "", above: int = ABSURD) -> dict[str, object]:
    statistics = f"inactive_file 1\nhierarchical_memory_limit {above}\ntotal_cache 4\ntotal_inactive_file {inactive}\n"
    files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": usage, "memory.stat": statistics}
    return {f"memory/{folder}{name}": f"{content}\n" for name, content in files.items()}


# --- memory ---------------------------------------------------------------------------------------


def test_a_container_of_version_2_has_its_limit_and_its_working_set(tmp_path: Path) -> None:
    groups = v2(tmp_path, "/", v2_memory(500 * MIB, 300 * MIB, 100 * MIB))
    assert groups.memory(MACHINE) == ContainerMemory(200 * MIB, 500 * MIB, 300 * MIB)


def test_a_container_of_version_1_has_its_limit_and_its_working_set(tmp_path: Path) -> None:
    groups = v1(tmp_path, "/docker/abc", v1_memory(500 * MIB, 300 * MIB, 100 * MIB), mount_root="/docker/abc")
    assert groups.memory(MACHINE) == ContainerMemory(200 * MIB, 500 * MIB, 300 * MIB)


@pytest.mark.parametrize("limit", ["max", int(MACHINE), ABSURD, 0])
def test_no_limit_a_limit_beyond_the_machine_and_an_absurd_one_are_none(tmp_path: Path, limit: object) -> None:
    groups = v2(tmp_path, "/a", v2_memory(limit, 300, 100, "a/"))
    assert groups.memory(MACHINE) == ContainerMemory(200.0)


def test_version_1_has_no_limit_where_it_says_an_absurd_one(tmp_path: Path) -> None:
    groups = v1(tmp_path, "/a", v1_memory(ABSURD, 300, 100, "a/"))
    assert groups.memory(float("inf")) == ContainerMemory(200.0)


def test_a_limit_of_a_group_above_counts_with_what_is_used_there(tmp_path: Path) -> None:
    files = v2_memory("max", 100, 0, "pod/box/") | v2_memory(1000, 700, 100, "pod/")
    assert v2(tmp_path, "/pod/box", files).memory(MACHINE) == ContainerMemory(600.0, 1000.0, 400.0)


def test_what_is_left_is_up_to_the_first_limit_that_will_be_met(tmp_path: Path) -> None:
    files = v2_memory(500, 100, 0, "pod/box/") | v2_memory(1000, 900, 0, "pod/")
    assert v2(tmp_path, "/pod/box", files).memory(MACHINE) == ContainerMemory(100.0, 500.0, 100.0)


def test_version_1_tells_of_limits_above_that_cant_be_seen(tmp_path: Path) -> None:
    files = v1_memory(ABSURD, 300, 100, above=800)
    assert v1(tmp_path, "/x", files, mount_root="/x").memory(MACHINE) == ContainerMemory(200.0, 800.0, 600.0)


def test_a_container_over_its_limit_has_nothing_left_and_not_less(tmp_path: Path) -> None:
    assert v2(tmp_path, "/", v2_memory(100, 150, 0)).memory(MACHINE).available == 0.0


def test_cache_that_is_larger_than_the_use_makes_no_negative_use(tmp_path: Path) -> None:
    assert v2(tmp_path, "/", v2_memory(100, 50, 80)).memory(MACHINE).used == 0.0


def test_the_whole_machines_group_is_no_container(tmp_path: Path) -> None:
    files = v1_memory(ABSURD, 5000, 0) | {"memory/release_agent": "", "cpu,cpuacct/release_agent": ""}
    groups = v1(tmp_path, "/", files | {"cpu,cpuacct/cpuacct.usage": "5000000000"})
    assert groups.memory(MACHINE) == ContainerMemory(None)
    assert groups.cpu() == ContainerCpu()
    rest = tmp_path / "v2"
    assert v2(rest, "/", {"cpu.stat": "usage_usec 5000000\n"}).memory(MACHINE) == ContainerMemory(None)
    assert v2(rest, "/", {}).cpu() == ContainerCpu()


# --- CPU ------------------------------------------------------------------------------------------


def test_a_quota_of_version_2_is_a_number_of_processors(tmp_path: Path) -> None:
    files = {"cpu.max": "150000 100000\n", "cpu.stat": "usage_usec 2500000\nuser_usec 1\n", "cgroup.events": ""}
    assert v2(tmp_path, "/", files).cpu() == ContainerCpu(2.5, 1.5, 2.5)


def test_a_quota_of_version_1_is_a_number_of_processors(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpuacct.usage": "2500000000\n",
    }  # fmt: skip
    assert v1(tmp_path, "/box", files, mount_root="/box").cpu() == ContainerCpu(2.5, 0.5, 2.5)


@pytest.mark.parametrize("limit", ["max 100000", "max", "", "100000 0", "0 100000", "1 2 3", "x y"])
def test_no_quota_is_no_limit(tmp_path: Path, limit: str) -> None:
    files = {"cpu.max": limit, "cpu.stat": "usage_usec 1000000\n", "cgroup.events": ""}
    assert v2(tmp_path, "/", files).cpu() == ContainerCpu(1.0)


def test_version_1_has_no_quota_where_it_says_minus_one(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    assert v1(tmp_path, "/box", files, mount_root="/box").cpu() == ContainerCpu()


def test_the_smallest_quota_above_counts_with_what_is_used_there(tmp_path: Path) -> None:
    files = {
        "pod/box/cpu.max": "max 100000", "pod/box/cpu.stat": "usage_usec 1000000", "pod/box/cgroup.events": "",
        "pod/cpu.max": "200000 100000", "pod/cpu.stat": "usage_usec 3000000",
    }  # fmt: skip
    assert v2(tmp_path, "/pod/box", files).cpu() == ContainerCpu(1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,7\n", {0, 1, 2, 3, 7}), ("5", {5}), ("\n", None), ("max", None), ("3-", None), ("0-99999999", None)],
)
def test_a_set_of_processors_is_read_and_garbage_is_none(tmp_path: Path, text: str, numbers: set[int] | None) -> None:
    assert v2(tmp_path, "/", {"cpuset.cpus.effective": text}).cpu().processors == numbers


def test_the_set_of_processors_is_that_of_the_nearest_group_that_has_one(tmp_path: Path) -> None:
    files = {"pod/box/cpu.stat": "", "pod/cpuset.cpus.effective": "1-2", "cpuset.cpus.effective": "0-7"}
    assert v2(tmp_path, "/pod/box", files).cpu().processors == {1, 2}
    first = v1(tmp_path / "v1", "/a", {"cpuset/a/cpuset.cpus": "3", "cpuset/cpuset.effective_cpus": "0-3"})
    assert first.cpu().processors == {3}


# --- where the groups are ---------------------------------------------------------------------------


def test_controllers_of_version_1_beside_an_empty_version_2_are_used(tmp_path: Path) -> None:
    """As systemd's hybrid hierarchy has it."""
    groups = v1(tmp_path, "/a", v1_memory(1000, 300, 100, "a/"))
    with (tmp_path / "proc/self/mountinfo").open("a") as mounts:
        mounts.write("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
    assert groups.memory(MACHINE) == ContainerMemory(200.0, 1000.0, 800.0)


def test_a_path_that_the_container_doesnt_show_is_the_top_of_what_it_shows(tmp_path: Path) -> None:
    """Docker with version 1 names the machine's path, and mounts the container's own group."""
    for place, path in enumerate(("/docker/abc", "/../../elsewhere", "/not/there")):
        root = tmp_path / str(place)
        assert v2(root, path, v2_memory("max", 300, 100)).memory(MACHINE) == ContainerMemory(200.0)


def test_a_group_below_the_mounts_own_is_found(tmp_path: Path) -> None:
    groups = v2(tmp_path, "/docker/abc/inner", v2_memory(1000, 300, 100, "inner/"), mount_root="/docker/abc")
    assert groups.memory(MACHINE) == ContainerMemory(200.0, 1000.0, 800.0)


def test_a_mount_with_a_blank_in_its_path_is_found(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/self/cgroup": "0::/\n", "proc/self/mountinfo": r"30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw",
    })  # fmt: skip
    write(tmp_path / "my groups", v2_memory(1000, 300, 100))
    assert Cgroups(tmp_path).memory(MACHINE).limit == 1000.0


@pytest.mark.parametrize("missing", ["proc/self/cgroup", "proc/self/mountinfo", "sys"])
def test_without_control_groups_there_is_nothing_to_say(tmp_path: Path, missing: str) -> None:
    v2(tmp_path, "/", v2_memory(1000, 300, 100))
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    assert Cgroups(tmp_path).memory(MACHINE) == ContainerMemory(None)
    assert Cgroups(tmp_path).cpu() == ContainerCpu()


# --- files that are not as they should be -----------------------------------------------------------


@pytest.mark.parametrize("gone", ["memory.current", "memory.stat"])
def test_use_that_cant_be_read_is_missing_and_the_limit_is_there(tmp_path: Path, gone: str) -> None:
    groups = v2(tmp_path, "/", v2_memory(1000, 300, 100))
    (tmp_path / "sys/fs/cgroup" / gone).unlink()
    assert groups.memory(MACHINE) == ContainerMemory(None, 1000.0, None)


def test_a_group_that_vanishes_between_two_readings_is_missing(tmp_path: Path) -> None:
    groups = v2(tmp_path, "/", v2_memory(1000, 300, 100) | {"cpu.stat": "usage_usec 1000000"})
    assert groups.memory(MACHINE).limit == 1000.0
    assert groups.cpu().seconds == 1.0
    (tmp_path / "sys/fs/cgroup").rename(tmp_path / "gone")
    assert groups.memory(MACHINE) == ContainerMemory(None)
    assert groups.cpu() == ContainerCpu()


def test_a_file_that_is_there_and_cant_be_read_is_missing(tmp_path: Path) -> None:
    groups = v2(tmp_path, "/", v2_memory(1000, 300, 100))
    (tmp_path / "sys/fs/cgroup/memory.current").unlink()
    (tmp_path / "sys/fs/cgroup/memory.current").symlink_to("/proc/self/mem")  # opens, and reads as an I/O error
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir()
    assert groups.memory(MACHINE) == ContainerMemory(None, 1000.0, None)
    assert groups.cpu() == ContainerCpu()


GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        b"", b"max", b"-1", b"9" * 5000, b"1e9", b"nan", b"\xff\xfe", b"\xb2", b"12 34", b"0 0", b"1_000",
    ]),
)  # fmt: skip
FILES = ["memory.max", "memory.current", "memory.stat", "cpu.max", "cpu.stat", "cpuset.cpus.effective"]


@settings(max_examples=60)
@given(st.fixed_dictionaries(dict.fromkeys(FILES, GARBAGE)), GARBAGE, GARBAGE)
def test_garbage_in_any_file_raises_nothing_and_is_no_negative_number(
    files: dict[str, bytes], cgroup: bytes, mountinfo: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sound, broken = Path(folder) / "sound", Path(folder) / "broken"
        groups = [v2(sound, "/", files), v2(broken, "/", files)]
        write(broken, {"proc/self/cgroup": b"0::/\n" + cgroup, "proc/self/mountinfo": mountinfo})
        for found in groups:
            memory, cpu = found.memory(MACHINE), found.cpu()
            known = [memory.used, memory.limit, memory.available, cpu.seconds, cpu.limit, cpu.limited_seconds]
            assert all(value is None or 0 <= value < 1e25 for value in known)
