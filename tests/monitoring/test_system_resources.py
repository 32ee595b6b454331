"""What the machine does during a session: its mean and its largest, and nothing for what can't be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from monitoring import catalogue, system_resources
from monitoring.events import Usage
from monitoring.system_resources import GpuProbe, Probe, Recording, Sampler
from tests.support.servers import wait_until


def call(made: Callable[[], Any], otherwise: Any) -> Any:
    """A guard that hides nothing."""
    return made()


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[Sampler]:
    made = Sampler(0.01, {"store": tmp_path}, call)
    yield made
    made.close()


def test_a_reading_has_the_catalogues_keys_and_sane_values(tmp_path: Path) -> None:
    reading = Probe({"store": tmp_path}).read()
    assert {key.partition("/")[0] for key in reading} <= set(catalogue.SYSTEM_RESOURCES)
    assert reading["process_resident_memory_bytes"] > 1e6
    assert 0 < reading["system_memory_available_bytes"] <= psutil.virtual_memory().total
    assert 0.0 <= reading["system_cpu_ratio"] <= 1.0
    assert reading["disk_free_bytes/store"] > 0


def test_a_busy_process_is_seen_to_be_busy() -> None:
    probe = Probe({})
    ends = time.process_time() + 0.2
    while time.process_time() < ends:
        pass
    assert probe.read()["process_cpu_ratio"] > 0.2


def test_what_cant_be_read_is_missing_and_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> Any:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", raises)
    monkeypatch.setattr(psutil.Process, "memory_info", raises)
    reading = Probe({"output": tmp_path / "missing", "store": tmp_path}).read()
    assert "system_memory_available_bytes" not in reading
    assert "process_resident_memory_bytes" not in reading
    assert "disk_free_bytes/output" not in reading
    assert "disk_free_bytes/store" in reading
    assert reading["disk_free_bytes/store"] > 0


def test_a_process_that_cant_be_looked_at_has_no_figures_and_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises() -> Any:
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil, "Process", raises)
    assert set(Probe({}).read()) == {"system_cpu_ratio", "system_memory_available_bytes"}


def test_a_recording_keeps_the_mean_and_the_largest() -> None:
    recording = Recording()
    recording.add({"a": 1.0, "b": -5.0})
    recording.add({"a": 3.0})
    assert recording.usages() == {"a": Usage(2.0, 3.0), "b": Usage(-5.0, -5.0)}


def test_a_recording_without_a_reading_has_nothing() -> None:
    assert Recording().usages() == {}


def test_a_session_that_ends_at_once_still_has_a_reading(sampler: Sampler) -> None:
    usages = sampler.finish(sampler.begin())
    assert usages["process_resident_memory_bytes"].average > 0
    assert usages["process_resident_memory_bytes"].maximum >= usages["process_resident_memory_bytes"].average


def test_the_machine_is_sampled_while_a_session_is_open_and_not_after(sampler: Sampler) -> None:
    recording = sampler.begin()
    series = recording._series
    wait_until(lambda: "process_cpu_ratio" in series and series["process_cpu_ratio"].count >= 3, 10, "3 samples")
    sampler.finish(recording)
    count = series["process_cpu_ratio"].count
    time.sleep(0.05)
    assert series["process_cpu_ratio"].count == count


def test_sessions_side_by_side_each_have_their_own_figures(sampler: Sampler) -> None:
    first, second = sampler.begin(), sampler.begin()
    assert sampler.finish(first).keys() == sampler.finish(second).keys()


def test_a_closed_sampler_ends_its_thread(sampler: Sampler) -> None:
    sampler.finish(sampler.begin())
    thread = sampler._thread
    assert thread is not None
    sampler.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_reading_that_fails_costs_the_session_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def guard(made: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return made()
        except LookupError:
            return otherwise

    failing = Sampler(60.0, {}, guard)

    def raises(self: Probe) -> Any:
        raise LookupError

    monkeypatch.setattr(Probe, "read", raises)
    assert failing.finish(failing.begin()) == {}
    failing.close()


def test_without_a_gpu_there_is_nothing_to_read_and_nothing_raised() -> None:
    for key, value in GpuProbe().read().items():
        assert key.startswith("gpu_")
        assert value >= 0


class FakeNvml:
    """As pynvml answers on a machine of two GPUs, one of which keeps its utilisation to itself."""

    class NVMLError(Exception):
        pass

    class _Memory:
        used, total = 4e9, 8e9

    class _Rates:
        gpu = 50

    def nvmlDeviceGetMemoryInfo(self, device: int) -> _Memory:  # noqa: N802 - NVML's name
        return self._Memory()

    def nvmlDeviceGetUtilizationRates(self, device: int) -> _Rates:  # noqa: N802 - NVML's name
        if device:
            raise self.NVMLError
        return self._Rates()


def test_gpus_are_read_by_index_in_bytes_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_resources, "_open_nvml", lambda: (FakeNvml(), [0, 1]))
    assert GpuProbe().read() == {
        "gpu_memory_used_bytes/0": 4e9, "gpu_memory_total_bytes/0": 8e9, "gpu_utilization_ratio/0": 0.5,
        "gpu_memory_used_bytes/1": 4e9, "gpu_memory_total_bytes/1": 8e9,
    }  # fmt: skip
