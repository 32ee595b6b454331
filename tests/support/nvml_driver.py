"""A stand-in for NVIDIA's libnvidia-ml.so.1, which the real pynvml loads and calls through ctypes.

Compiled where there is a C compiler. ``NVML_GPUS`` says what its GPUs are like, separated by commas: ``plain``;
``old`` (knows the first version of the memory's struct only); ``mute`` (keeps its utilisation to itself); ``lost``
(gives no handle); ``gone`` (gives one, and then nothing); ``mig`` (divided: instances 0 and 2 of 3). ``-`` is no
driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

_SOURCE = r"""
#include <stdlib.h>
#include <string.h>
typedef struct device { int number; const char *kind; int instance; } *device_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned gpu, memory; } rates_t;
enum { OK = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6, NO_DRIVER = 9, NO_FUNCTION = 13, LOST = 15 };
static const unsigned long long GIB = 1ULL << 30;
static struct device devices[64], instances[64][8];
static int count, open_count, opened;
int stub_open(void) { return open_count; }
int stub_opened(void) { return opened; }
int nvmlInitWithFlags(unsigned flags) {
    const char *given = getenv("NVML_GPUS");
    if (!given || !strcmp(given, "-")) return NO_DRIVER;
    char *text = strdup(given), *word = strtok(text, ",");
    for (count = 0; word; word = strtok(NULL, ","), count++)
        devices[count] = (struct device){count, word, -1};
    open_count++; opened++;
    return OK;
}
int nvmlShutdown(void) { if (!open_count) return UNINITIALIZED; open_count--; return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = count; return open_count ? OK : UNINITIALIZED; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device_t *d) {
    if (!strcmp(devices[i].kind, "lost")) return LOST;
    *d = &devices[i];
    return OK;
}
static int is(device_t d, const char *kind) { return !strcmp(d->kind, kind); }
static unsigned long long total(device_t d) { return (d->instance < 0 ? 80 : 10) * GIB; }
static unsigned long long used(device_t d) { return (1 + d->number + (d->instance < 0 ? 0 : d->instance)) * GIB; }
int nvmlDeviceGetMemoryInfo(device_t d, memory_t *m) {
    if (is(d, "gone")) return LOST;
    *m = (memory_t){total(d), total(d) - used(d) - GIB, used(d) + GIB};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(device_t d, memory_v2_t *m) {
    if (is(d, "gone")) return LOST;
    if (is(d, "old") || m->version != (sizeof *m | 2u << 24)) return NO_FUNCTION;
    *m = (memory_v2_t){m->version, total(d), GIB, total(d) - used(d) - GIB, used(d)};
    return OK;
}
int nvmlDeviceGetUtilizationRates(device_t d, rates_t *r) {
    if (is(d, "gone")) return LOST;
    if (is(d, "mute") || is(d, "mig")) return NOT_SUPPORTED;
    *r = (rates_t){50, 7};
    return OK;
}
int nvmlDeviceGetMigMode(device_t d, unsigned *now, unsigned *pending) {
    if (is(d, "old")) return NOT_SUPPORTED;
    *now = *pending = is(d, "mig");
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(device_t d, unsigned *n) { *n = 3; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device_t d, unsigned i, device_t *instance) {
    if (i == 1) return NOT_FOUND;
    instances[d->number][i] = (struct device){d->number, d->kind, i};
    *instance = &instances[d->number][i];
    return OK;
}
"""


def build(folder: Path) -> Path:
    """Compile it into ``folder``, which is then LD_LIBRARY_PATH."""
    source = folder / "nvml.c"
    source.write_text(_SOURCE)
    assert COMPILER
    command = [COMPILER, "-shared", "-fPIC", "-w", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(command, check=True, timeout=HANGS_SECONDS, capture_output=True)
    return folder


def run_with_gpus(folder: Path, gpus: str, script: str) -> str:
    """What ``script`` prints in an interpreter of its own that finds the driver in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder), "NVML_GPUS": gpus},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
