"""The control groups that this process is in, versions 1 and 2: what a container may use of memory and CPU, and does.

Limits of all groups above count as far as they can be seen. A file that is missing, unreadable or garbage makes
its figure missing. The files: https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from msgspec import Struct

from monitoring.runtime.machine.kernel_files import line_after, read_number, read_text, whole_number

_ABSURD_BYTES = 2**62
"""Version 1 says 2^63 less a page where there is no limit."""
_MOST_PROCESSORS = 2**16
_ESCAPED = re.compile(r"\\([0-7]{3})")


class ContainerMemory(Struct, frozen=True):
    """Bytes. ``used`` is the working set: what is in use, less file cache that can be dropped at once.

    ``limit`` is the smallest of all, and ``used`` then what counts against it; ``available`` is what is left until the
    first limit is met. Both are None without a limit.
    """

    used: float | None
    limit: float | None = None
    available: float | None = None


class ContainerCpu(Struct, frozen=True):
    """``seconds`` of CPU used so far; ``limit`` in processors, and the seconds that count against it.

    ``processors`` are the numbers of those that may be used (cpuset), None where nothing is said of it.
    """

    seconds: float | None = None
    limit: float | None = None
    limited_seconds: float | None = None
    processors: frozenset[int] | None = None


class Cgroups:
    """Reads ``/proc/self/cgroup``, ``/proc/self/mountinfo`` and the groups' files, all under ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._found: _Found | None = None

    @property
    def _files(self) -> _Found:
        # No cached_property: before Python 3.12 a thread holds its lock meanwhile, and a child that is forked then
        # would wait for it for ever. Two threads that look at once find the same.
        if self._found is None:
            lines = _lines(self._root / "proc/self/mountinfo")
            self._paths, self._mounts = self._read_paths(), [mount for line in lines if (mount := _mount(line))]
            self._found = _Found(self._memory_groups(), self._cpu_groups(), self._processor_files())
        return self._found

    def memory(self, machine_bytes: float) -> ContainerMemory:
        """``machine_bytes`` is all that there is: a limit that isn't below is none."""
        groups, machine_bytes = self._files.memory, min(machine_bytes, _ABSURD_BYTES)
        limits = [(limit, group) for group in groups for limit in group.limits() if limit < machine_bytes]
        if not limits:
            return ContainerMemory(groups[0].used() if groups and not groups[0].is_root else None)
        used = {group: group.used() for _, group in limits}
        limit, group = min(limits, key=lambda pair: pair[0])
        # The tightest group need not be the one with the lowest limit: its neighbours may use up the one above.
        left = [max(limit - known, 0.0) for limit, group in limits if (known := used[group]) is not None]
        return ContainerMemory(used[group], limit, min(left, default=None))

    def cpu(self) -> ContainerCpu:
        """CPU time used so far, the smallest limit, and the processors that may be used."""
        groups = self._files.cpu
        # Of the nearest group that has a set. The process' own affinity won't do: a thread may be pinned to one.
        sets = (_numbers(read_text(path)) for path in self._files.processors)
        processors = next(filter(None, sets), None)
        limits = [(limit, group) for group in groups if (limit := group.limit()) is not None]
        own = groups[0].seconds() if groups and not groups[0].is_root else None
        if not limits:
            return ContainerCpu(own, processors=processors)
        limit, group = min(limits, key=lambda pair: pair[0])
        return ContainerCpu(own, limit, group.seconds(), processors)

    def _processor_files(self) -> list[str]:
        names = "cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"
        levels = self._levels("cpuset") or self._levels("")
        paths = [folder / name for folder in levels for name in names]
        return [str(path) for path in paths if path.exists()]

    def _memory_groups(self) -> list[_MemoryGroup]:
        """The own group first, then those above."""
        if levels := self._levels("memory"):
            return [_MemoryV1(folder, folder == levels[0]) for folder in levels]
        return [_MemoryV2(folder) for folder in self._levels("")]

    def _cpu_groups(self) -> list[_CpuGroup]:
        if not (levels := self._levels("cpu")):
            return [_CpuV2(folder) for folder in self._levels("")]
        accounts = self._levels("cpuacct")
        same = len(accounts) == len(levels)
        return [_CpuV1(folder, accounts[place] if same else None) for place, folder in enumerate(levels)]

    def _levels(self, controller: str) -> list[Path]:
        """The folders of this process' group and of those above it; "" is version 2's one hierarchy."""
        path = self._paths.get(controller)
        mounts = [mount for mount in self._mounts if controller in mount.controllers]
        if path is None or not mounts:
            return []
        seen = [mount for mount in mounts if PurePosixPath(path).is_relative_to(mount.root)]
        top = self._root / (seen or mounts)[0].point.lstrip("/")
        inner = PurePosixPath(path).relative_to(seen[0].root) if seen else PurePosixPath()
        # A path from outside of this container's namespace isn't there: then the top is what is known of it.
        if ".." in inner.parts or not (top / inner).is_dir():
            inner = PurePosixPath()
        return [top / inner, *(top / above for above in inner.parents)]

    def _read_paths(self) -> dict[str, str]:
        """By controller, of lines as ``4:memory:/docker/abc`` and ``0::/system.slice``."""
        paths: dict[str, str] = {}
        for line in _lines(self._root / "proc/self/cgroup"):
            number, controllers, path = (*line.split(":", 2), "", "")[:3]
            # Version 2's hierarchy is number 0 and names no controller; another without one is of no use.
            if path.startswith("/") and (controllers or number == "0"):
                paths |= dict.fromkeys(controllers.split(","), path)
        return paths


class _Found(Struct, frozen=True):
    """What concerns this process: its own group first, then those above."""

    memory: list[_MemoryGroup]
    cpu: list[_CpuGroup]
    processors: list[str]


class _Mount(Struct, frozen=True):
    """Where a hierarchy is: ``root`` is the group that is seen at ``point``."""

    root: str
    point: str
    controllers: tuple[str, ...]


def _mount(line: str) -> _Mount | None:
    """Of ``31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory``; None for other file systems."""
    before, _, after = line.partition(" - ")
    fields, kinds = before.split(" "), after.split(" ")
    # Some lines have more fields before the dash than others: only its place is certain.
    if len(fields) < 5 or len(kinds) < 3 or kinds[0] not in ("cgroup", "cgroup2"):
        return None
    controllers = ("",) if kinds[0] == "cgroup2" else tuple(kinds[2].split(","))
    return _Mount(_unescaped(fields[3]), _unescaped(fields[4]), controllers)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


class _MemoryGroup:
    """One group's memory. The paths are joined once: a sample is taken on the host's thread."""

    def __init__(self, folder: Path, limit: str, used: str, inactive: str, is_root: bool) -> None:
        self._limit, self._used, self._statistics = (f"{folder}/{name}" for name in (limit, used, "memory.stat"))
        self._inactive = inactive
        self.is_root = is_root

    def limits(self) -> list[float]:
        """Bytes; none, one, or several."""
        limit = read_number(self._limit)
        return [limit] if limit else []

    def used(self) -> float | None:
        """The working set in bytes, as Kubernetes counts it and evicts by it."""
        used, inactive = read_number(self._used), _statistic(self._statistics, self._inactive)
        return None if used is None or inactive is None else max(used - inactive, 0.0)


class _MemoryV1(_MemoryGroup):
    def __init__(self, folder: Path, is_own: bool) -> None:
        names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        super().__init__(folder, *names, is_root=_is_root_v1(folder))
        self._is_own = is_own

    def limits(self) -> list[float]:
        """The own group also tells of those above that can't be seen from here."""
        above = _statistic(self._statistics, "hierarchical_memory_limit") if self._is_own else None
        return [*super().limits(), *([above] if above else [])]


class _MemoryV2(_MemoryGroup):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "memory.max", "memory.current", "inactive_file", is_root=_is_root_v2(folder))


class _CpuV1:
    def __init__(self, folder: Path, account: Path | None) -> None:
        self._quota, self._period = f"{folder}/cpu.cfs_quota_us", f"{folder}/cpu.cfs_period_us"
        self._usage = f"{account}/cpuacct.usage" if account else None
        self.is_root = _is_root_v1(folder)

    def limit(self) -> float | None:
        return _ratio(read_number(self._quota), read_number(self._period))

    def seconds(self) -> float | None:
        nanoseconds = read_number(self._usage) if self._usage else None
        return None if nanoseconds is None else nanoseconds / 1e9


class _CpuV2:
    def __init__(self, folder: Path) -> None:
        self._limit, self._statistics = f"{folder}/cpu.max", f"{folder}/cpu.stat"
        self.is_root = _is_root_v2(folder)

    def limit(self) -> float | None:
        """Of "50000 100000", microseconds in each period; or "max 100000"."""
        words = read_text(self._limit).split()
        # "max" is no number, and so no limit.
        return _ratio(*map(whole_number, words)) if len(words) == 2 else None

    def seconds(self) -> float | None:
        microseconds = _statistic(self._statistics, "usage_usec")
        return None if microseconds is None else microseconds / 1e6


_CpuGroup = _CpuV1 | _CpuV2


def _ratio(quota: float | None, period: float | None) -> float | None:
    return quota / period if quota and period else None


def _is_root_v1(folder: Path) -> bool:
    """Whether it is the whole machine's group, and no container's."""
    return (folder / "release_agent").exists()


def _is_root_v2(folder: Path) -> bool:
    return not (folder / "cgroup.events").exists()


def _statistic(path: str, name: str) -> float | None:
    return whole_number(line_after(f"{name} ", read_text(path)))


def _numbers(text: str) -> frozenset[int]:
    """Of "0-3,7"; nothing for garbage."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        lowest, highest = whole_number(first), whole_number(last if dash else first)
        if lowest is None or highest is None or highest > _MOST_PROCESSORS:
            return frozenset()
        numbers.update(range(int(lowest), int(highest) + 1))
    return frozenset(numbers)


def _lines(path: Path) -> list[str]:
    return read_text(str(path)).splitlines()
