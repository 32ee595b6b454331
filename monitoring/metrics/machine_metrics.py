"""What is sampled of the machine during a session, as metrics: of each resource its mean, and how near the end it was.

How it is read is :mod:`monitoring.runtime.machine`'s part; a resource that can't be read there has no sample here.
"""

from __future__ import annotations

from monitoring.metrics.kinds import Kind, Label, Metric

# By number: a GPU's own name or UUID would tell which machine it is, and there may be any number of those.
GPU = Label("gpu", tuple(map(str, range(16))))
# By what lies there, not by the path, which may name a person or a site.
VOLUME = Label("volume", ("output", "store"))

_RESOURCES: dict[str, tuple[str, str, tuple[Label, ...]]] = {
    # Without its children: those of a pool would be counted with each of its members.
    "process_cpu_ratio": ("ratio", "CPU of this process without its children, in processors (1 = one is busy)", ()),
    "system_cpu_ratio": (
        "ratio", "CPU in use, as a share of the container's limit or else of the processors open to this process", (),
    ),
    "container_cpu_ratio": ("ratio", "CPU of the container, child processes included, in processors", ()),
    # Beside what is used, since a share of an unknown limit says nothing.
    "container_cpu_limit_processors": ("1", "Processors that the container may use, where that is limited", ()),
    "process_resident_memory_bytes": ("bytes", "Resident memory of this process without its children", ()),
    "process_resident_memory_peak_bytes": ("bytes", "Largest resident memory of this process since it began", ()),
    # From one session's end to the next one's: a leak shows as what each image leaves behind.
    "process_resident_memory_growth_bytes": (
        "bytes", "Resident memory of this process, less what it was when its session before ended", (),
    ),
    "system_memory_available_bytes": (
        "bytes", "Memory that can be had without swapping, within the container's limit", (),
    ),
    "container_memory_used_bytes": (
        "bytes", "Memory of the container, child processes included, without file cache that is not in use", (),
    ),
    "container_memory_limit_bytes": ("bytes", "Memory that the container may use, where that is limited", ()),
    "disk_used_bytes": ("bytes", "Used space of the volume", (VOLUME,)),
    "disk_free_bytes": ("bytes", "Free space of the volume for this user", (VOLUME,)),
    # By all processes, which is what NVML tells within a container; torch's own beside it.
    "gpu_memory_used_bytes": ("bytes", "GPU memory in use, by all processes", (GPU,)),
    "gpu_memory_total_bytes": ("bytes", "GPU memory in all", (GPU,)),
    "gpu_utilization_ratio": ("ratio", "GPU utilisation", (GPU,)),
    "torch_memory_allocated_bytes": ("bytes", "GPU memory that torch's tensors occupy; GPUs in torch's order", (GPU,)),
    "torch_memory_reserved_bytes": ("bytes", "GPU memory that torch holds; GPUs in torch's order", (GPU,)),
}  # fmt: skip
_ONE_FIGURE = (
    "container_cpu_limit_processors", "container_memory_limit_bytes", "process_resident_memory_growth_bytes",
    "process_resident_memory_peak_bytes",
)  # fmt: skip
"""Of these the figure at the session's end is kept, as its ``maximum``; a mean of them would say nothing."""
_OF_WHAT_IS_LEFT = ("disk_free_bytes", "system_memory_available_bytes")
"""Of these the smallest figure is told, and not the largest: it says how near the end was."""
_SOURCES = {
    "container": "control group files", "disk": "statvfs", "gpu": "NVML", "process": "/proc/self",
    "torch": "torch.cuda",
}  # fmt: skip


def _system(resource: str, statistic: str) -> Metric:
    unit, words, labels = _RESOURCES[resource]
    kind = resource.partition("_")[0]
    if resource in _ONE_FIGURE:
        # Without a statistic's name: there is but one figure.
        name, when = resource, "at the end of the latest session"
    else:
        name = f"{resource.removesuffix(unit)}{statistic}_{unit}"
        words_of = {"average": "mean", "minimum": "smallest", "maximum": "largest"}
        when = f"{words_of[statistic]} over the latest session"
    return Metric(
        f"leglength_{name}", Kind.GAUGE, unit, f"{words}: {when}.", labels,
        f"leglength_{kind}" if labels else "leglength_system", name,
        source=_SOURCES.get(kind, "/proc, control group files"),
    )  # fmt: skip


SYSTEM_RESOURCES = tuple(_RESOURCES)
SYSTEM = {
    (resource, statistic): _system(resource, statistic)
    for resource in _RESOURCES
    for statistic in (
        ("maximum",)
        if resource in _ONE_FIGURE
        else ("average", "minimum" if resource in _OF_WHAT_IS_LEFT else "maximum")
    )
}
