"""Reads the machine once: this process, the processors, the memory, the container, the volumes.

:class:`SystemProbe` reads what the kernel has at hand, and never hangs. :class:`VolumeProbe` may: a network
file system whose server is gone answers nobody.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from monitoring.runtime.machine.cgroups import Cgroups, ContainerCpu
from monitoring.runtime.machine.kernel_files import line_after, read_text, whole_number
from monitoring.runtime.machine.usage import Figure, Figures, Latest, Level, Work

# A machine without /proc, or one that hides it: then there is nothing to say of it.
_UNREADABLE = (psutil.Error, OSError, RuntimeError, ValueError, NotImplementedError, AttributeError)
_KIB = 1024.0


class SystemProbe:
    """CPU and memory of this process, of its container and of the machine. Keeps nothing between two calls.

    The process' figures are its own, without its children: their resident memory can't be added up, since they share
    pages. The container's figures hold them.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """``root`` is where ``proc`` and the mounts of the control groups are."""
        self._status = f"{root}/proc/self/status"
        self._cgroups = Cgroups(root)

    def read_process(self) -> Figures:
        """What this process has used so far; within some ten microseconds."""
        return dict(self._process())

    def read(self) -> Figures:
        """All there is; what can't be read is missing."""
        return dict((*self._process(), *self._cpu(), *self._memory()))

    def _process(self) -> Iterator[tuple[str, Figure]]:
        # Over all processors: a process that keeps two busy uses 2.0 of them.
        yield "process_cpu_ratio", Work(time.process_time(), time.monotonic())
        status = read_text(self._status)
        # Lines as ``VmRSS:     1764 kB``.
        kib = [whole_number(line_after(f"{name}:", status).removesuffix(" kB")) for name in ("VmRSS", "VmHWM")]
        resident, peak = (None if number is None else number * _KIB for number in kib)
        if resident is not None:
            yield "process_resident_memory_bytes", Level(resident, peak)
        if peak is not None:
            yield "process_resident_memory_peak_bytes", Latest(peak)

    def _cpu(self) -> Iterator[tuple[str, Figure]]:
        container, now = self._cgroups.cpu(), time.monotonic()
        limit = _binding_limit(container)
        if container.seconds is not None:
            yield "container_cpu_ratio", Work(container.seconds, now)
        if limit is not None:
            yield "container_cpu_limit_processors", Latest(limit)
        if limit is not None and limit == container.limit:
            if container.limited_seconds is not None:
                yield "system_cpu_ratio", Work(container.limited_seconds, now, limit, 1.0, ("container", limit))
            return
        with suppress(*_UNREADABLE):
            yield "system_cpu_ratio", _machine_work(container.processors)

    def _memory(self) -> Iterator[tuple[str, Figure]]:
        with suppress(*_UNREADABLE):
            machine = psutil.virtual_memory()
            container = self._cgroups.memory(float(machine.total))
            # Whichever ends first: the kernel kills at the container's limit, and at the machine's.
            left = float(machine.available)
            if container.available is not None:
                left = min(left, container.available)
            yield "system_memory_available_bytes", Level(left, is_left=True)
            if container.used is not None:
                yield "container_memory_used_bytes", Level(container.used)
            if container.limit is not None:
                yield "container_memory_limit_bytes", Latest(container.limit)


class VolumeProbe:
    """Space on the volume of a folder, or of its nearest parent as long as the folder isn't made yet."""

    def __init__(self, volume: str, folder: Path) -> None:
        self._volume = volume
        self._folder = folder
        with suppress(OSError):  # the working folder is gone
            self._folder = folder.absolute()
        self._was_there = False

    def read(self) -> Figures:
        """Bytes used, and free for this user; nothing of a volume that has vanished, or that can't be asked."""
        with suppress(*_UNREADABLE):
            place = self._place()
            space = psutil.disk_usage(str(place)) if place else None
            if space and space.total > 0:  # 0: a file system that has no notion of space
                return {
                    f"disk_used_bytes/{self._volume}": Level(float(space.used)),
                    f"disk_free_bytes/{self._volume}": Level(float(space.free), is_left=True),
                }
        return {}

    def close(self) -> None:
        """Nothing is open."""

    def _place(self) -> Path | None:
        if _is_there(self._folder):
            self._was_there = True
            return self._folder
        if self._was_there:  # gone with its volume: what lies above is another one
            return None
        return next(filter(_is_there, self._folder.parents), None)


def _is_there(folder: Path) -> bool:
    """Unlike ``exists()``, raises OSError when that can't be said: no answer is not an absence."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _binding_limit(container: ContainerCpu) -> float | None:
    """In processors: the container's quota, or its set of processors where that is less; None when neither limits."""
    machine = os.cpu_count() or 0
    usable = len(container.processors) if container.processors else machine
    if container.limit is not None and container.limit < usable:
        return container.limit
    return float(usable) if usable < machine else None


def _machine_work(usable: frozenset[int] | None) -> Work:
    """Busy time of the processors that may be used, whoever uses them; waiting for a disk is not busy."""
    times = [psutil.cpu_times()]
    if usable and len(usable) < (os.cpu_count() or 0):
        each = psutil.cpu_times(percpu=True)
        # With a processor that is offline, the others can't be told apart by their place in the list.
        if len(each) == os.sysconf("SC_NPROCESSORS_CONF") > max(usable):
            times = [each[number] for number in sorted(usable)]
    idle = sum(one.idle + one.iowait for one in times)
    busy = sum(one.user + one.nice + one.system + one.irq + one.softirq + one.steal for one in times)
    # The kernel's idle time may go back by a step, which would make the share more than all.
    return Work(busy, busy + idle, most=1.0, counter=("machine", len(times), usable))
