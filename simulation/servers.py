"""Servers of a simulated site as processes of this machine, on loopback alone, and whom its Alertmanager tells."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from rich.markup import escape

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"
READY_SECONDS = 120.0  # a Grafana makes its database at first
ENDS_SECONDS = 10.0
# Below those that Linux gives to outgoing connections, one of which may come before the server.
OTHER_PORTS = range(10_000, 20_000)
COLOURS = {"critical": "bold red", "warning": "yellow", "info": "blue"}


class StackError(Exception):
    """What a person has to know; the stack ends."""


@dataclass
class Server:
    """A program that runs until it is told to end; its words go to a log."""

    name: str
    command: Sequence[str]
    url: str = ""
    ready_path: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, logs: Path) -> None:
        log = logs / f"{self.name}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "no_proxy": LOOPBACK, **self.environment}, cwd=logs.parent,
                # Not in the terminal's group: Ctrl-C reaches this program alone, which ends the others in order.
                start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None:
                raise StackError(f"{self.name} ended at once: {last_words(log)}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} does not answer after {READY_SECONDS:g} s; see {log}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        if not self.url:
            return True
        with suppress(OSError):
            return get(self.url + self.ready_path) is not None
        return False


def end_with_parent() -> None:
    """Linux ends this process once its parent is gone, even by SIGKILL; run between fork and exec."""
    prctl_set_death_signal = 1
    LIBC.prctl(prctl_set_death_signal, signal.SIGTERM)


LIBC = ctypes.CDLL(None)


def end_all(servers: Sequence[Server]) -> None:
    """End what was started here, by its process id, the last one first; by force what doesn't end in time."""
    running = [server.process for server in reversed(servers) if server.process and server.process.poll() is None]
    deadline = time.monotonic() + ENDS_SECONDS
    for process in running:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([str(log), *lines[-5:]])


def get(url: str) -> bytes | None:
    try:
        with OPENER.open(url, timeout=5) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return None


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whoever has a proxy: loopback goes past it


class Ports:
    """Each server's usual port where it is free, else another; nobody else is asked to move.

    What was taken is locked until this program ends: a server may listen half a minute later only, and another stack
    must not come to the same choice meanwhile.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"leglength-stack-ports-{os.getuid()}"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.locks: list[IO[str]] = []

    def take(self, usual: int) -> int:
        for port in (usual, *random.sample(OTHER_PORTS, 100)):
            lock = (self.folder / str(port)).open("w")
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_free(port):
                    self.locks.append(lock)
                    return port
            lock.close()
        raise StackError("no port is free")


def is_free(port: int) -> bool:
    """Also where somebody listens on all interfaces, which lets others bind to one, it is not."""
    with socket.socket() as taker, socket.socket() as caller:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            taker.bind((LOOPBACK, port))
            caller.settimeout(0.2)
            return caller.connect_ex((LOOPBACK, port)) != 0
        return False


def work(command: Sequence[str]) -> None:
    # In a group of its own, as the servers: Ctrl-C ends it from here.
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    try:
        said, _ = process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise StackError(f"{' '.join(command[:3])} ... ended with {process.returncode}:\n{said[-2000:]}")


# --- what arrives -------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Whom the Alertmanager tells: prints each alert as it begins and ends."""

    daemon_threads = True

    def __init__(self, port: int, say: Callable[[str], None]) -> None:
        super().__init__((LOOPBACK, port), ReceiverHandler)
        self.say = say
        self.told: set[tuple[str, str]] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def take(self, alert: Mapping[str, Any]) -> None:
        # The heartbeat comes for ever: once shows that alerts arrive.
        key = (str(alert.get("fingerprint")), str(alert.get("status")) + str(alert.get("startsAt")))
        if key not in self.told:  # the Alertmanager tells a whole group again when one of it changes
            self.told.add(key)
            self.say(in_words(alert))


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        for alert in json.loads(body).get("alerts", ()):
            self.server.take(alert)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """The console is for alerts."""


def in_words(alert: Mapping[str, Any]) -> str:
    labels, notes = alert["labels"], alert["annotations"]
    name, severity = labels["alertname"], labels.get("severity", "")
    clock = time.strftime("%H:%M:%S")
    if name == "LegLengthHeartbeat":
        return f"[dim]{clock}  The heartbeat arrives ({name}): rules are evaluated, and alerts come through.[/]"
    if alert["status"] == "resolved":
        return f"[dim]{clock}[/]  [green]RESOLVED[/]  {escape(name)}"
    colour = COLOURS.get(severity, "")
    first = f"[dim]{clock}[/]  [{colour}]FIRING[/]    {escape(name)}  ({severity}, {labels.get('audience', '')})"
    told = (notes.get("summary"), notes.get("description"))
    lines = [first, *(f"          {escape(text)}" for text in told if text)]
    if runbook := notes.get("runbook_url"):
        lines.append(f"          What to do: {escape(runbook)}")
    return "\n".join(lines)
