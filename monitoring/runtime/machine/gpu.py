"""GPUs: NVIDIA's through NVML, and torch's memory where the host has loaded torch and used a GPU with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from monitoring.metrics import catalogue
from monitoring.records import coerce
from monitoring.runtime.machine.usage import Figure, Figures, Level, Trailing

_LABELS = catalogue.GPU.values
# What a torch that is half imported, built without CUDA or on a lost device may raise.
_TORCH_ERRORS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError,
                 TypeError, ValueError)  # fmt: skip


def open_gpus() -> GpuProbe | None:
    """NVIDIA's GPUs, where nvidia-ml-py, a driver and at least one GPU are. Takes up to seconds, and may hang."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    probe = GpuProbe(pynvml)
    # A driver without a GPU, as on a node that lends its GPUs to other containers: nothing is to be sampled.
    if not probe.labels:
        probe.close()
        return None
    return probe


class GpuProbe:
    """GPUs through NVML that is initialised. A sick driver may hang: for a thread of its own.

    All GPUs of the container, by their index, whatever CUDA_VISIBLE_DEVICES says; instances of a GPU that is divided
    (MIG) count in its stead.
    """

    def __init__(self, nvml: Any) -> None:
        """``nvml`` is the module pynvml."""
        self._nvml = nvml
        devices = zip(_LABELS, _devices(nvml), strict=False)
        self._devices = {label: device for label, device in devices if device is not None}

    @property
    def labels(self) -> tuple[str, ...]:
        """The GPUs' numbers."""
        return tuple(self._devices)

    def read(self) -> Figures:
        """Memory used and in all (bytes) and utilisation (0..1) by GPU; a GPU that doesn't tell has none."""
        figures: dict[str, Figure] = {}
        for label, device in self._devices.items():
            with suppress(self._nvml.NVMLError):
                memory = self._memory(device)
                figures[f"gpu_memory_used_bytes/{label}"] = Level(float(memory.used))
                figures[f"gpu_memory_total_bytes/{label}"] = Level(float(memory.total))
            with suppress(self._nvml.NVMLError):  # of the last second, or less: the driver's own sampling period
                busy = self._nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100.0
                figures[f"gpu_utilization_ratio/{label}"] = Trailing(busy)
        return figures

    def close(self) -> None:
        """Give NVML back; it counts how often it was opened, so that the host's own use of it goes on."""
        self._devices = {}
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _memory(self, device: Any) -> Any:
        """Version 2 counts what the driver keeps for itself apart, as nvidia-smi does; older drivers lack it."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        if version is not None:
            with suppress(self._nvml.NVMLError):
                return self._nvml.nvmlDeviceGetMemoryInfo(device, version=version)
        return self._nvml.nvmlDeviceGetMemoryInfo(device)


def _devices(nvml: Any) -> Iterator[Any]:
    """Handles by index, None for a GPU that can't be had: those behind it keep their index."""
    count = 0
    with suppress(nvml.NVMLError):
        count = nvml.nvmlDeviceGetCount()
    for index in range(count):
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            yield None
        else:
            yield from list(_instances(nvml, device)) or [device]


def _instances(nvml: Any, device: Any) -> Iterator[Any]:
    """The instances of a GPU that is divided; none where it is not, or can't be."""
    count = 0
    with suppress(nvml.NVMLError, AttributeError):  # an older nvidia-ml-py knows nothing of them
        if nvml.nvmlDeviceGetMigMode(device)[0] == nvml.NVML_DEVICE_MIG_ENABLE:
            count = nvml.nvmlDeviceGetMaxMigDeviceCount(device)
    for index in range(count):
        with suppress(nvml.NVMLError):
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)


def torch_figures() -> Figures:
    """Bytes of GPU memory that torch's tensors occupy and that torch holds, by torch's own index of the device.

    Torch is not imported, and CUDA not initialised: both are the host's to do. A peak is the one since the process
    began, or since the host reset it.
    """
    figures: dict[str, Figure] = {}
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    with suppress(*_TORCH_ERRORS):
        if cuda is None or not cuda.is_initialized():
            return figures
        for device, label in zip(range(cuda.device_count()), _LABELS, strict=False):
            for what in ("allocated", "reserved"):
                # Each figure by itself: a device that is lost in between has no peak, and may have no present.
                now = peak = None
                with suppress(*_TORCH_ERRORS):
                    now = coerce.finite_float(getattr(cuda, f"memory_{what}")(device))
                    peak = coerce.finite_float(getattr(cuda, f"max_memory_{what}")(device))
                if now is not None:
                    figures[f"torch_memory_{what}_bytes/{label}"] = Level(now, peak)
    return figures
