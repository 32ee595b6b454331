"""CPU, memory, disk and GPU over a session: sampled by a thread, kept as mean and maximum.

Keys are the catalogue's resources, with a label's value behind a slash: ``disk_free_bytes/store``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from monitoring.events import Usage

Reading = Mapping[str, float]
# A machine without /proc, or one that hides it: then there is nothing to say of it.
_UNREADABLE = (psutil.Error, OSError, RuntimeError, ValueError, NotImplementedError)


class Probe:
    """Reads the machine once. CPU figures cover the time since the reading before."""

    def __init__(self, volumes: Mapping[str, Path]) -> None:
        self._volumes = volumes
        self.read()

    def read(self) -> dict[str, float]:
        """What can be read; what can't is missing."""
        return dict(self._readings())

    def _readings(self) -> Iterator[tuple[str, float]]:
        with suppress(*_UNREADABLE):
            yield "process_cpu_ratio", self._process.cpu_percent(None) / 100.0
        with suppress(*_UNREADABLE):
            yield "system_cpu_ratio", psutil.cpu_percent(None) / 100.0
        with suppress(*_UNREADABLE):
            yield "process_resident_memory_bytes", float(self._process.memory_info().rss)
        with suppress(*_UNREADABLE):
            yield "system_memory_available_bytes", float(psutil.virtual_memory().available)
        for volume, path in self._volumes.items():
            with suppress(*_UNREADABLE):
                usage = psutil.disk_usage(str(path))
                yield f"disk_used_bytes/{volume}", float(usage.used)
                yield f"disk_free_bytes/{volume}", float(usage.free)

    @cached_property
    def _process(self) -> psutil.Process:
        return psutil.Process()


class GpuProbe:
    """NVIDIA GPUs through NVML, where the library and a driver are; otherwise it reads nothing."""

    def __init__(self) -> None:
        self._nvml, self._devices = _open_nvml()

    def read(self) -> dict[str, float]:
        """Memory used and in all (bytes) and utilisation (0..1) by GPU index."""
        return dict(self._readings())

    def _readings(self) -> Iterator[tuple[str, float]]:
        for index, device in enumerate(self._devices):
            with suppress(self._nvml.NVMLError):
                memory = self._nvml.nvmlDeviceGetMemoryInfo(device)
                yield f"gpu_memory_used_bytes/{index}", float(memory.used)
                yield f"gpu_memory_total_bytes/{index}", float(memory.total)
            with suppress(self._nvml.NVMLError):
                rates = self._nvml.nvmlDeviceGetUtilizationRates(device)
                yield f"gpu_utilization_ratio/{index}", rates.gpu / 100.0


def _open_nvml() -> tuple[Any, list[Any]]:
    try:
        import pynvml
    except ImportError:
        return None, []
    try:
        pynvml.nvmlInit()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None, []


class _Series:
    """One resource's samples, folded as they come."""

    def __init__(self) -> None:
        self.count, self.total, self.maximum = 0, 0.0, float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.maximum = max(self.maximum, value)

    def usage(self) -> Usage:
        return Usage(self.total / self.count, self.maximum)


class Recording:
    """The samples that fall into one session."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}
        self._lock = threading.Lock()

    def add(self, reading: Reading) -> None:
        """Fold a reading in."""
        with self._lock:
            for key, value in reading.items():
                self._series.setdefault(key, _Series()).add(value)

    def usages(self) -> dict[str, Usage]:
        """Mean and maximum of each resource so far."""
        with self._lock:
            return {key: series.usage() for key, series in self._series.items()}


class Sampler:
    """A thread that samples while sessions are open; each session also gets a reading at its end."""

    def __init__(
        self, interval_seconds: float, volumes: Mapping[str, Path], guard: Callable[[Callable[[], Any], Any], Any]
    ) -> None:
        self._interval = interval_seconds
        self._probe = Probe(volumes)
        self._gpus: GpuProbe | None = None
        self._guard = guard
        self._recordings: set[Recording] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self) -> Recording:
        """Sample for a session from now on."""
        recording = Recording()
        with self._changed:
            self._recordings.add(recording)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leglength-monitoring-sampler", daemon=True)
                self._guard(self._thread.start, None)
            self._changed.notify_all()
        return recording

    def finish(self, recording: Recording) -> dict[str, Usage]:
        """A last reading, and the session's figures."""
        with self._changed:
            self._recordings.discard(recording)
        self._guard(lambda: recording.add(self._probe.read()), None)
        return recording.usages()

    def close(self) -> None:
        """Let the thread end; it is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        # The driver is opened here: it can take a second, and the host must not wait for it.
        self._gpus = self._guard(GpuProbe, None)
        while True:
            with self._changed:
                while not self._recordings and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            self._guard(self._sample, None)
            with self._changed:
                if not self._closed:
                    self._changed.wait(self._interval)

    def _sample(self) -> None:
        reading = self._probe.read()
        if self._gpus is not None:
            reading |= self._gpus.read()
        with self._changed:
            recordings = list(self._recordings)
        for recording in recordings:
            recording.add(reading)
