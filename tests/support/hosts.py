"""Hosts as processes: a few lines of Python that record sessions, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring.records.session_record import SessionRecord
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.outbox import BackendStatus, backend_statuses
from monitoring.store.rows import StoredSession
from monitoring.store.sessions import Store, open_store
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.command_line import command_line

INSTANCE = "durability"

# What every host begins with. `SETTINGS` is what task.json's process.settings would hold.
_PREAMBLE = """\
import json, logging, os, signal, sys, threading, time
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
SETTINGS = json.loads(os.environ["HOST_SETTINGS"])
from monitoring import MonitorManager, monitor_manager

def swallowed(error):
    import traceback
    with open(os.environ["HOST_SWALLOWED"], "a") as file:
        file.write("".join(traceback.format_exception(error)) + "\\n")

monitor_manager.on_swallowed = swallowed

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once, and whole
"""


@dataclass(frozen=True)
class Ended:
    """How a host ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def words(self) -> list[list[str]]:
        """What it said, a list of words a line."""
        return [line.split() for line in self.stdout.splitlines()]

    def said(self, word: str) -> list[str]:
        """The second words of the lines that begin with `word`."""
        return [words[1] for words in self.words if words[0] == word]


@dataclass
class Host:
    """Runs scripts that share one store; `settings` is the `monitoring` section, None for a host without one."""

    folder: Path
    settings: dict[str, Any] | None = field(default_factory=lambda: {"enabled": True})
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store_folder = self.folder / "host-store"
        self.settings = base_settings(self.store_folder)

    @property
    def store_path(self) -> Path:
        """The store's file."""
        return self.store_folder / "monitoring.db"

    @property
    def task(self) -> dict[str, Any]:
        """task.json's process.settings."""
        return {} if self.settings is None else {"monitoring": self.settings}

    def start(self, script: str, python: str = sys.executable, **options: Any) -> subprocess.Popen[str]:
        """Start a script; the caller ends it."""
        return subprocess.Popen(
            [python, "-c", _PREAMBLE + textwrap.dedent(script)],
            cwd=self.folder, env=self._environment(), text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )  # fmt: skip

    def run(self, script: str, **options: Any) -> Ended:
        """Run a script to its end."""
        started = time.monotonic()
        process = self.start(script, **options)
        try:
            stdout, stderr = process.communicate(timeout=HANGS_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"the host hangs; it said:\n{stdout}\n{stderr}") from None
        return Ended(process.returncode, stdout, stderr, time.monotonic() - started)

    @contextmanager
    def running(self, script: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A script that is killed in the end, if it still runs then."""
        process = self.start(script, **options)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def monitor(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`leglength-monitor ARGUMENTS --config task.json`, in a process of its own."""
        code = "from monitoring.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, arguments), *self._config()]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, timeout=HANGS_SECONDS,
            check=False,
        )  # fmt: skip

    def _config(self) -> list[str]:
        task = self.folder / "task.json"
        task.write_text(json.dumps({"process": {"settings": self.task}}))
        return ["--config", str(task)]

    def drain(self, *arguments: object) -> dict[str, Any]:
        """`drain --json`; fails the test unless all is delivered."""
        done = command_line(["drain", "--json", *arguments, *self._config()], self.folder, self._environment())
        assert done.returncode == 0, f"drain ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        done = command_line(["status", "--json", *self._config()], self.folder, self._environment())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, opened."""
        with open_store(Database(self.store_path)) as store:
            yield store

    def outbox(self) -> dict[str, BackendStatus]:
        """What waits for each backend, and how it fared, without a process that asks."""
        with self.store() as store, store.database.read_transaction() as connection:
            return {status.name: status for status in backend_statuses(connection)}

    def stored(self) -> list[StoredSession]:
        """All sessions of the store, oldest first."""
        with self.store() as store:
            return list(store.sessions(newest_first=False))

    def records(self) -> dict[str, SessionRecord]:
        """The stored records by session id."""
        return {stored.record.session_id: stored.record for stored in self.stored()}

    def totals(self) -> dict[tuple[str, tuple[tuple[str, str], ...], str], float]:
        """The stored Prometheus state."""
        with self.store() as store, store.database.read_transaction() as connection:
            return {(row.metric, row.labels, row.part): row.value for row in totals.read(connection)}

    def swallowed(self) -> str:
        """The tracebacks of what was kept from the hosts so far."""
        path = self.folder / "swallowed"
        return path.read_text() if path.exists() else ""

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
        own = {
            "HOME": str(self.folder),
            "PYTHONPATH": str(REPOSITORY),
            "HOST_SETTINGS": json.dumps(self.task),
            "HOST_SWALLOWED": str(self.folder / "swallowed"),
        }
        return kept | own | self.environment


def base_settings(store_folder: Path, **settings: Any) -> dict[str, Any]:
    """On, with one store, no sampler, and at the exit as much time as a backend that answers takes."""
    return {
        "enabled": True,
        "shutdown_timeout": HANGS_SECONDS,
        "store": {"path": str(store_folder), "min_free_mb": 0},
        "metrics": {"include_system_metrics": False},
    } | settings


def with_influxdb(settings: Mapping[str, Any], section: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The settings with an InfluxDB, under the tests' instance name."""
    return {**settings, "influxdb": {"timeout": HANGS_SECONDS, **section, **more}}


def with_pushgateway(settings: Mapping[str, Any], url: str, **more: Any) -> dict[str, Any]:
    """The settings with a Pushgateway, whose instance is the lines' tag, too."""
    return {**settings, "prometheus": {"gateway_url": url, "instance": INSTANCE, "timeout": HANGS_SECONDS, **more}}


def read_lines(process: subprocess.Popen[str], into: list[str]) -> threading.Thread:
    """Collect what a host says while it runs."""

    def read() -> None:
        into.extend(line.strip() for line in process.stdout or ())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def wait_for_line(process: subprocess.Popen[str], word: str) -> str:
    """The host's next line that begins with `word`; a host that ends before fails the test."""
    for line in process.stdout or ():
        if line.split()[:1] == [word]:
            return line.strip()
    raise AssertionError(f"the host ended without saying {word!r}: {process.stderr.read() if process.stderr else ''}")
