"""Fresh processes: each figure is taken in one of its own, which tells it as a line of JSON."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TELLING = "benchmark: "  # a line of figures begins so; whatever else is printed is passed over


class Child:
    """A process that runs one task of :mod:`benchmarks.tasks`."""

    def __init__(self, task: str, **arguments: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tasks", task, json.dumps(arguments)],
            cwd=ROOT, env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.ended_at = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(TELLING):
                self._lines.put(json.loads(line.removeprefix(TELLING)))
        self._process.wait()
        self.ended_at = time.monotonic()
        self._lines.put(None)

    def told(self, timeout: float = 300.0) -> dict[str, Any]:
        """What the process tells next; raises when it ends, or takes longer, without telling."""
        try:
            line = self._lines.get(timeout=timeout) if timeout else None
        except queue.Empty:
            line = None
        if line is None:
            self.kill()
            self._errors.seek(0)
            words = self._errors.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"a process of the benchmark told nothing: {self._process.args}\n{words}")
        return line

    def told_within(self, seconds: float) -> dict[str, Any] | None:
        """What the process tells next, or None when it takes longer."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        return line or self.told(0.0)

    def go(self) -> None:
        """Let a task that waits for its start begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait_until(self, instant: float) -> bool:
        """Whether the process ended by itself before this instant of the monotonic clock; otherwise it is ended."""
        self._reader.join(max(0.0, instant - time.monotonic()))
        in_time = self.ended_at > 0
        self.kill()
        return in_time

    def wait(self, seconds: float) -> bool:
        """The same, counted from now."""
        return self.wait_until(time.monotonic() + seconds)

    def kill(self) -> None:
        """End the process, if it hasn't."""
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def run(task: str, timeout: float = 300.0, **arguments: Any) -> dict[str, Any]:
    """The result of a task that tells one thing."""
    with Child(task, **arguments) as child:
        return child.told(timeout)


def environment() -> dict[str, str]:
    """No proxy, no settings of the user's own; what was compiled once stays so, as where it is installed."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {name: value for name, value in kept.items() if not name.startswith(("OTEL_", "INFLUXDB_", "MONITORING_"))}
