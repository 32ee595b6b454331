"""What a run ran on: without it, figures in seconds mean little."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.report import milliseconds

_PACKAGES = (
    "influxdb-client", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "msgspec", "prometheus-client",
    "psutil", "urllib3",
)  # fmt: skip
_SERVERS = ("victoria-metrics", "prometheus-pushgateway")  # Debian's packages


def described() -> list[str]:
    """Date, machine and versions, one fact a line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"{_processor()}, {os.cpu_count()} processors, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}",
        f"temporary folder on {_filesystem(tempfile.gettempdir())}; a durable write of 4 KiB: {_sync()} (median)",
        f"load average at the start {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        ", ".join(map(_server_version, _SERVERS)),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: str) -> str:
    shown = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or "?"


def _sync() -> str:
    costs = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(30):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            costs.append(time.perf_counter() - began)
    return milliseconds(statistics.median(costs))


def _server_version(package: str) -> str:
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{package} {shown.stdout.strip() or '?'}"
