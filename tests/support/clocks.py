"""Times on a machine that may be busy with other things: what hangs, and what took longer than it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

# What has not come by now never will, though ten times as many processes as processors want to run. Nothing is tested
# by it: a time that is tested is held against a reference that is measured beside it.
HANGS_SECONDS = 300.0

# Half a second of work: what takes less gets a busy processor sooner than a whole start of a host does.
_WORK = "sum(number * number for number in range(6_000_000))"


def slowness() -> float:
    """How much longer a process takes here and now than the processor time that it uses; at least 1."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", _WORK])
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return max(1.0, (time.monotonic() - began) / (usage.ru_utime + usage.ru_stime))


def assert_took_at_most(took_seconds: float, seconds: float) -> None:
    """`seconds` is for a machine that does nothing else; a busy one has as much more as it is slower just now."""
    if took_seconds > seconds:
        allowed = seconds * slowness()
        assert took_seconds <= allowed, f"took {took_seconds:.1f} s; {allowed:.1f} s would be slow for this machine"


def moved_clock(folder: Path) -> dict[str, str] | None:
    """An environment in which a process's wall clock is $CLOCK_AHEAD_SECONDS ahead; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library, source = folder / "moved_clock.so", Path(__file__).with_name("moved_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_AHEAD_SECONDS": "0"}
