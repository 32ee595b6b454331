"""GPUs: the real pynvml on a stand-in for the driver, and torch as far as a host has loaded it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from monitoring.metrics import catalogue
from monitoring.runtime.machine.gpu import open_gpus, torch_figures
from monitoring.runtime.machine.usage import Level
from tests.support import nvml_driver

GIB = 2.0**30

# --- NVML -----------------------------------------------------------------------------------------

READ = """
import json
from monitoring.runtime.machine.gpu import open_gpus
probe = open_gpus()
print(json.dumps(probe and {key: figure.value for key, figure in probe.read().items()}))
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pynvml")
    if not nvml_driver.COMPILER:
        pytest.skip("no C compiler to make a stand-in for the driver with")
    return nvml_driver.build(tmp_path_factory.mktemp("nvml"))


def read(driver: Path, gpus: str) -> Any:
    return json.loads(nvml_driver.run_with_gpus(driver, gpus, READ))


def test_gpus_are_read_by_index_in_bytes_and_shares(driver: Path) -> None:
    assert read(driver, "plain,plain") == {
        "gpu_memory_used_bytes/0": GIB, "gpu_memory_total_bytes/0": 80 * GIB, "gpu_utilization_ratio/0": 0.5,
        "gpu_memory_used_bytes/1": 2 * GIB, "gpu_memory_total_bytes/1": 80 * GIB, "gpu_utilization_ratio/1": 0.5,
    }  # fmt: skip


def test_an_older_driver_tells_of_its_memory_with_its_own_share_in_it(driver: Path) -> None:
    assert read(driver, "old")["gpu_memory_used_bytes/0"] == 2 * GIB


def test_utilisation_that_is_not_supported_is_missing_and_the_memory_is_there(driver: Path) -> None:
    assert read(driver, "mute") == {"gpu_memory_used_bytes/0": GIB, "gpu_memory_total_bytes/0": 80 * GIB}


@pytest.mark.parametrize("kind", ["lost", "gone"])
def test_a_gpu_that_vanishes_is_missing_and_the_next_keeps_its_index(driver: Path, kind: str) -> None:
    assert {key.partition("/")[2] for key in read(driver, f"{kind},plain")} == {"1"}


def test_the_instances_of_a_divided_gpu_count_in_its_stead(driver: Path) -> None:
    assert read(driver, "mig,plain") == {
        "gpu_memory_used_bytes/0": GIB, "gpu_memory_total_bytes/0": 10 * GIB,
        "gpu_memory_used_bytes/1": 3 * GIB, "gpu_memory_total_bytes/1": 10 * GIB,
        "gpu_memory_used_bytes/2": 2 * GIB, "gpu_memory_total_bytes/2": 80 * GIB, "gpu_utilization_ratio/2": 0.5,
    }  # fmt: skip


def test_gpus_beyond_the_label_are_left_out(driver: Path) -> None:
    labels = {key.partition("/")[2] for key in read(driver, ",".join(["plain"] * 20))}
    assert labels == set(catalogue.GPU.values)


@pytest.mark.parametrize("gpus", ["-", "", "lost"])
def test_without_a_driver_or_a_gpu_there_is_nothing_to_read(driver: Path, gpus: str) -> None:
    assert read(driver, gpus) is None


def test_an_older_pynvml_that_knows_nothing_of_division_still_tells_of_gpus(driver: Path) -> None:
    script = f"import pynvml\ndel pynvml.nvmlDeviceGetMigMode, pynvml.nvmlMemory_v2\n{READ}"
    assert json.loads(nvml_driver.run_with_gpus(driver, "plain", script))["gpu_memory_used_bytes/0"] == 2 * GIB


def test_nvml_is_opened_once_for_many_sessions_and_given_back_at_the_end(driver: Path, tmp_path: Path) -> None:
    script = f"""
import ctypes, json, threading
from pathlib import Path
from monitoring.runtime.machine.sampler import Sampler
def call(otherwise, made, *arguments):
    return made(*arguments)
sampler = Sampler(0.01, {{"store": Path({str(tmp_path)!r})}}, call)
driver = ctypes.CDLL("libnvidia-ml.so.1")
seen = 0
for attempt in range(1000):
    recording = sampler.begin()
    threading.Event().wait(0.02)
    seen += "gpu_memory_used_bytes/0" in sampler.finish(recording)
    if seen == 3:
        break
open_then = driver.stub_open()
sampler.close()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
print(json.dumps([seen, open_then, driver.stub_open(), driver.stub_opened()]))
"""
    assert json.loads(nvml_driver.run_with_gpus(driver, "plain", script)) == [3, 1, 0, 1]


def test_a_host_that_uses_nvml_itself_keeps_it(driver: Path) -> None:
    script = """
import pynvml
from monitoring.runtime.machine.gpu import open_gpus
pynvml.nvmlInit()
open_gpus().close()
print(pynvml.nvmlDeviceGetCount())
"""
    assert nvml_driver.run_with_gpus(driver, "plain", script).split() == ["1"]


def test_a_child_process_opens_nvml_for_itself(driver: Path) -> None:
    script = f"""
import os, sys
from monitoring.runtime.machine.gpu import open_gpus
open_gpus().read()
pid = os.fork()
if pid == 0:
{READ.replace(chr(10), chr(10) + "    ")}
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
"""
    assert "gpu_utilization_ratio/0" in json.loads(nvml_driver.run_with_gpus(driver, "plain", script))


def test_without_the_library_there_is_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpus() is None


# --- torch ----------------------------------------------------------------------------------------


class Cuda:
    """torch.cuda's part that is read, of a process that has two devices and uses the first."""

    def __init__(self, devices: int = 2) -> None:
        self.devices = devices
        self.calls: list[str] = []

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return self.devices

    def memory_allocated(self, device: int) -> int:
        return 0 if device else 1000

    def memory_reserved(self, device: int) -> int:
        return 0 if device else 4000

    def max_memory_allocated(self, device: int) -> int:
        return 0 if device else 3000

    def max_memory_reserved(self, device: int) -> int:
        return 0 if device else 4000


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def set_cuda(torch: ModuleType, cuda: object) -> None:
    torch.cuda = cuda  # type: ignore[attr-defined]


def test_torchs_memory_is_read_by_device_with_its_peaks(torch: ModuleType) -> None:
    set_cuda(torch, Cuda())
    assert torch_figures() == {
        "torch_memory_allocated_bytes/0": Level(1000.0, 3000.0), "torch_memory_reserved_bytes/0": Level(4000.0, 4000.0),
        "torch_memory_allocated_bytes/1": Level(0.0, 0.0), "torch_memory_reserved_bytes/1": Level(0.0, 0.0),
    }  # fmt: skip
    assert {key.partition("/")[0] for key in torch_figures()} <= set(catalogue.SYSTEM_RESOURCES)


def test_a_torch_that_isnt_loaded_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == "torch":
                pytest.fail("torch was imported")

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert torch_figures() == {}
    assert "torch" not in sys.modules


def test_cuda_that_the_host_has_not_used_is_not_touched(torch: ModuleType) -> None:
    """Whatever else of torch.cuda is asked might initialise it, and that takes memory and seconds."""
    set_cuda(torch, SimpleNamespace(is_initialized=lambda: False))
    assert torch_figures() == {}


def test_devices_beyond_the_label_are_left_out(torch: ModuleType) -> None:
    set_cuda(torch, Cuda(devices=20))
    assert len(torch_figures()) == 2 * len(catalogue.GPU.values)


def raising(error: BaseException) -> Any:
    def call(*_: object) -> Any:
        raise error

    return call


def odd_cuda(changes: Mapping[str, object]) -> Cuda:
    cuda = Cuda()
    for name, value in changes.items():
        setattr(cuda, name, value)
    return cuda


@pytest.mark.parametrize(
    "cuda",
    [
        None,
        object(),
        SimpleNamespace(),
        odd_cuda({"is_initialized": raising(AssertionError("Torch not compiled with CUDA enabled"))}),
        odd_cuda({"device_count": raising(RuntimeError("Found no NVIDIA driver"))}),
        odd_cuda({"device_count": lambda: None}),
        odd_cuda({"memory_allocated": raising(RuntimeError("lost")), "memory_reserved": raising(RuntimeError("lost"))}),
        odd_cuda({"memory_allocated": lambda device: "much", "memory_reserved": lambda device: float("nan")}),
    ],
)
def test_a_torch_that_is_odd_or_half_imported_has_no_figures(torch: ModuleType, cuda: object) -> None:
    set_cuda(torch, cuda)
    assert torch_figures() == {}


def test_a_torch_in_the_middle_of_its_import_has_no_figures(torch: ModuleType) -> None:
    assert torch_figures() == {}


def test_a_torch_whose_import_is_forbidden_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert torch_figures() == {}


@pytest.mark.parametrize("max_memory", [None, raising(RuntimeError("no peaks"))])
def test_a_torch_without_peaks_has_its_levels(torch: ModuleType, max_memory: object) -> None:
    set_cuda(torch, odd_cuda({"max_memory_allocated": max_memory}))
    assert torch_figures()["torch_memory_allocated_bytes/0"] == Level(1000.0)


def test_one_device_that_is_lost_leaves_the_other(torch: ModuleType) -> None:
    def allocated(device: int) -> int:
        if device == 0:
            raise RuntimeError("CUDA error: device is lost")
        return 5

    set_cuda(torch, odd_cuda({"memory_allocated": allocated}))
    assert "torch_memory_allocated_bytes/0" not in torch_figures()
    assert torch_figures()["torch_memory_allocated_bytes/1"] == Level(5.0, 0.0)
