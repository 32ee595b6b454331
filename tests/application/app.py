"""run.py as its users have it: a process, two folders, an environment; and what it left behind."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pydicom
from pydicom.dataset import Dataset

from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.command_line import command_line
from tests.support.preloaded import Child, preloaded

_TIMES_AND_UIDS = {"UI", "DA", "TM", "DT"}


@dataclass(frozen=True)
class Run:
    """One finished run: how it ended, and each line of its log with the second at which it came."""

    code: int
    stdout: str
    lines: list[tuple[float, str]]
    seconds: float
    out: Path
    result: dict[str, Any]  # OUT/result.json; empty where there is none

    @property
    def log(self) -> str:
        """The whole log."""
        return "".join(line for _, line in self.lines)

    @property
    def errors(self) -> list[str]:
        """The log's error lines."""
        return [line.strip() for _, line in self.lines if line.startswith("ERROR")]

    def lines_with(self, words: str) -> list[str]:
        """The log's lines that hold these words."""
        return [line.strip() for _, line in self.lines if words in line]

    @property
    def seconds_after_the_work(self) -> float:
        """From the last line about the last series to the end of the process: commit, result.json, delivery, exit."""
        last = max(at for at, line in self.lines if " of 6 lengths" in line or "series skipped" in line)
        return self.seconds - last

    @property
    def series(self) -> list[dict[str, Any]]:
        """The series of result.json."""
        return self.result["series"]

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The session records of result.json's monitoring part."""
        return self.result["monitoring"]["sessions"]


@dataclass
class App:
    """The application with folders of its own; the store lies in `state`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inbox, self.out = self.folder / "in", self.folder / "out"
        self.state, self.home = self.folder / "state", self.folder / "home"
        for made in (self.inbox, self.out, self.home):
            made.mkdir(exist_ok=True)

    def settings(self, **settings: Any) -> None:
        """Write IN/task.json."""
        self.task({"process": {"settings": settings}})

    def task(self, task: Any) -> None:
        """Write IN/task.json as a whole; text is written as it is."""
        (self.inbox / "task.json").write_text(task if isinstance(task, str) else json.dumps(task))

    def add(self, path: Path, name: str | None = None) -> Path:
        """Put a copy of a file into IN."""
        target = self.inbox / (name or path.name)
        target.write_bytes(path.read_bytes())
        return target

    def new_out(self, name: str) -> None:
        """Use another, empty OUT from now on."""
        self.out = self.folder / name
        self.out.mkdir()

    def full_environment(self) -> dict[str, str]:
        """Nothing of the caller's but what a process needs; DNS gives up soon where nobody answers."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
        own = {
            "HOME": str(self.home),
            "MONITORING_DATA_PATH": str(self.state),
            "RES_OPTIONS": "timeout:1 attempts:1",
        }
        return kept | own | self.environment

    def run(
        self, arguments: Sequence[object] | None = None, python: Sequence[str] = ("run.py",), fresh: bool = False
    ) -> Run:
        """Run it; `python` is what comes after the interpreter's name.

        A script, or `-c` and code, is forked from a process that has loaded the application's libraries, unless a
        `fresh` process is asked for.
        """
        if arguments is None:
            arguments = [self.inbox, self.out]
        command = [*python, *map(str, arguments)]
        started = time.monotonic()
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        process: subprocess.Popen[bytes] | Child
        if fresh or python[0] not in ("run.py", "-c"):
            process = subprocess.Popen(
                [sys.executable, *command], cwd=REPOSITORY, env=self.full_environment(), stdin=subprocess.DEVNULL,
                stdout=their_out, stderr=their_err,
            )  # fmt: skip
        else:
            library = self.environment.get("LD_PRELOAD", "")
            process = preloaded(library).start(command, REPOSITORY, self.full_environment(), their_out, their_err)
        os.close(their_out)
        os.close(their_err)
        lines: list[tuple[float, str]] = []
        reader = threading.Thread(target=_read, args=(os.fdopen(err), lines, started))
        reader.start()
        killer = threading.Timer(HANGS_SECONDS, process.kill)
        killer.start()
        try:
            with os.fdopen(out) as stream:
                stdout = stream.read()
            code = process.wait()
        finally:
            killer.cancel()
            reader.join()
        return Run(code, stdout, lines, time.monotonic() - started, self.out, _result(self.out / "result.json"))

    def monitor(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`leglength-monitor ARGUMENTS --config IN/task.json`, in a process of its own."""
        code = "from monitoring.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, arguments), "--config", str(self.inbox / "task.json")]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.full_environment(),
            capture_output=True,
            text=True,
            timeout=HANGS_SECONDS,
            check=False,
        )

    def json_of(self, *arguments: object) -> Any:
        """What `leglength-monitor ARGUMENTS --json` prints."""
        words = [*arguments, "--json", "--config", self.inbox / "task.json"]
        done = command_line(words, REPOSITORY, self.full_environment())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def status(self) -> dict[str, Any]:
        """`leglength-monitor status --json`."""
        return self.json_of("status")


def _result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _read(stream: IO[str], lines: list[tuple[float, str]], started: float) -> None:
    with stream:
        lines.extend((time.monotonic() - started, line) for line in stream)


def outputs(folder: Path) -> dict[str, Any]:
    """What an OUT folder holds, apart from times, UIDs and the monitoring's own part: to be compared."""
    return {path.name: _comparable(path) for path in sorted(folder.iterdir())}


def _comparable(path: Path) -> Any:
    if path.suffix == ".dcm":
        return _dataset(pydicom.dcmread(path))
    content = json.loads(path.read_text())
    if path.name == "result.json":
        content.pop("monitoring", None)
        for series in content["series"]:
            series["stage_seconds"] = sorted(series["stage_seconds"])
            for model in series["models"].values():
                model.pop("inference_seconds")
    return content


def _dataset(dataset: Dataset) -> dict[str, Any]:
    kept = {}
    for element in dataset:
        if element.VR == "SQ":
            kept[element.keyword] = [_dataset(item) for item in element.value]
        elif element.VR not in _TIMES_AND_UIDS:
            kept[element.keyword or str(element.tag)] = element.value
    return kept


def assert_clean(run: Run) -> None:
    """No traceback, nothing on the output stream, nothing but log lines."""
    assert "Traceback" not in run.log
    assert run.stdout == ""
    assert [line for _, line in run.lines if not line.startswith(("INFO ", "WARNING ", "ERROR "))] == []


def with_backends(influxdb: Mapping[str, Any] | None = None, prometheus: Mapping[str, Any] | None = None) -> Any:
    """A `monitoring` section that is on; at the exit there is as much time as a backend that answers takes."""
    backends = {"influxdb": influxdb, "prometheus": prometheus}
    used = {name: dict(section) for name, section in backends.items() if section is not None}
    return {"enabled": True, "shutdown_timeout": HANGS_SECONDS} | used


def run_on_a_terminal(app: App, python: Sequence[str] = ("run.py",)) -> tuple[int, str]:
    """The exit code, and what the terminal showed."""
    ours, theirs = pty.openpty()
    environment = app.full_environment() | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, *python, app.inbox, app.out], cwd=REPOSITORY, env=environment,
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal whose other side is gone reads as an error
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    return process.wait(HANGS_SECONDS), shown.decode()
