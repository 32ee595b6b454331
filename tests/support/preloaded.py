"""Processes of one program that don't load its libraries again: forked from one that has loaded those and nothing else.

numpy, scipy and highdicom take a second of processor time, which a process of one image spends mostly on them. What is
ours is not loaded before the fork: each process imports run.py, analysis/ and monitoring/ for itself, handles its own
exceptions, signals and exit, and ends as an interpreter ends. Tests of the imports themselves start a fresh process.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY

LIBRARIES = (
    "highdicom", "numpy", "pydicom", "scipy.ndimage",
    "msgspec", "psutil", "pydantic.fields", "pynvml", "rich.console", "rich.table", "typer", "urllib3",
)  # fmt: skip


class Child:
    """A process of the program, as `subprocess.Popen` would show it."""

    def __init__(self, pid: int, answers: socket.socket, done: threading.Lock) -> None:
        self.pid, self._answers, self._done = pid, answers, done
        self.returncode: int | None = None

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, 9)

    def wait(self) -> int:
        """Its exit code, as Popen's; the next process can be started then."""
        if self.returncode is None:
            self.returncode = _receive(self._answers)["code"]
            self._done.release()
        return self.returncode


class Preloaded:
    """Starts one process of a program at a time; made once in a test process, with which it ends."""

    def __init__(self, library: str = "") -> None:
        """`library` is what the dynamic linker loads first into each of them ($LD_PRELOAD)."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        # One thread for linear algebra: a pool of threads would not live on in what is forked.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | ({"LD_PRELOAD": library} if library else {})
        with theirs:
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())],
                cwd=REPOSITORY, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def start(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], stdout: int, stderr: int) -> Child:
        """Run a script of `cwd`, or `-c` and code, with arguments; the descriptors may be closed afterwards."""
        self._one_at_a_time.acquire()
        message = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)})
        socket.send_fds(self._ours, [message.encode()], [stdout, stderr])
        return Child(_receive(self._ours)["pid"], self._ours, self._one_at_a_time)


@functools.cache
def preloaded(library: str = "") -> Preloaded:
    """This test process's own."""
    return Preloaded(library)


def _receive(answers: socket.socket) -> dict[str, int]:
    return json.loads(answers.recv(1000))


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request, and return in the child; when nobody can ask any more, the process ends."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1_000_000, 2)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            requests.close()
            for number, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(json.dumps({"pid": pid}).encode())
        _, status = os.waitpid(pid, 0)
        requests.send(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())


def _main() -> None:
    """Become the process that was asked for."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    for library in LIBRARIES:
        importlib.import_module(library)
    # Its tables of the standard, too: a fifth of what an image costs is their reading.
    standard = importlib.import_module("highdicom._standard_utils")
    for table in ("get_sop_class_iod_map", "get_iod_module_map", "get_module_attribute_map"):
        getattr(standard, table)()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    gc.freeze()  # what the libraries made is not searched again at the exit of each process
    asked = _serve(requests)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]  # where the script lies
    first, *rest = asked["arguments"]
    if first == "-c":
        sys.argv = [first, *rest[1:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _main()
