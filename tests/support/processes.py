"""Real servers as child processes: one loopback port, one folder, bounded waits, and no orphans."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import urllib3

from tests.support.clocks import HANGS_SECONDS

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral range (32768 and up): while a server is stopped, no outgoing connection of
# somebody else can be given its port.
PORTS = range(20000, 32000)

_http = urllib3.PoolManager(retries=False, maxsize=4, timeout=urllib3.Timeout(total=HANGS_SECONDS))


class MissingServerError(RuntimeError):
    """A program that a test needs is not installed; conftest turns this into a skip, or a failure in CI."""

    def __init__(self, program: str) -> None:
        super().__init__(f"missing server: {program}")
        self.program = program


class ServerStartError(RuntimeError):
    """A server did not become ready; the message holds the end of its log."""


class ServerAnswerError(RuntimeError):
    """A server answered one of the test support's own requests with an error."""


def require(program: str) -> str:
    """The path of a program on PATH, or MissingServerError."""
    path = shutil.which(program)
    if path is None:
        raise MissingServerError(program)
    return path


@functools.cache
def influxd_version(path: str) -> int:
    """The major version of an `influxd`, 0 if it won't say; 1 and 2 are quite different servers."""
    shown = subprocess.run([path, "version"], capture_output=True, text=True, timeout=HANGS_SECONDS, check=False).stdout
    digits = shown.removeprefix("InfluxDB ").lstrip("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def fetch(method: str, url: str, *, ok: range = range(200, 300), **options: Any) -> urllib3.BaseHTTPResponse:
    """One request of the test support's own; ServerAnswerError unless the status is in `ok`."""
    answer = _http.request(method, url, redirect=False, **options)
    if answer.status not in ok:
        raise ServerAnswerError(f"{method} {url}: {answer.status} {answer.data[:500]!r}")
    return answer


def basic_auth(username: str, password: str) -> dict[str, str]:
    """The header of HTTP's basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def wait_until(condition: Callable[[], Any], what: str, timeout: float = HANGS_SECONDS, interval: float = 0.01) -> Any:
    """The first true value of `condition()`; TimeoutError saying `what` was awaited otherwise."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)
    return value


class PortLease:
    """A loopback port that no other test process takes, even while nothing listens on it.

    A lock file keeps the workers of one run, and several runs at once, apart; binding once shows that
    nobody else listens there. What remains is a race with foreign programs: callers try again.
    """

    def __init__(self) -> None:
        self._lock: IO[str] | None = None
        self.number = self._take()

    def _take(self) -> int:
        folder = Path(tempfile.gettempdir()) / f"test-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        for port in random.SystemRandom().sample(PORTS, 200):
            if self._lock_port(folder / str(port)) and _is_free(port):
                return port
            self.release()
        raise ServerStartError(f"no free port found in {PORTS}")

    def _lock_port(self, path: Path) -> bool:
        self._lock = path.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the port back; more than once does no harm."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class ServerProcess:
    """A real server, as a context manager: `with VictoriaMetrics() as server: ... server.url`.

    `stop()` (SIGTERM), `kill()` (SIGKILL) and `start()` simulate an outage: port and folder stay. On leaving
    the context the server is gone, and so is its folder, unless the caller gave one.
    """

    program: ClassVar[str]
    ready_path: ClassVar[str] = "/-/ready"
    path_prefix: str = ""

    def __init__(self, folder: Path | None = None) -> None:
        self.executable = self.find_executable()
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._leases = [PortLease() for _ in range(self.ports_needed)]
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._started_before = False

    ports_needed: ClassVar[int] = 1

    def find_executable(self) -> str:
        """The program's path; MissingServerError where it isn't installed."""
        return require(self.program)

    def command(self) -> list[str]:
        """The arguments after the program; configuration files are written here, too."""
        raise NotImplementedError

    def on_first_start(self) -> None:
        """What a fresh server needs before a test may use it (a user, a database)."""

    @property
    def port(self) -> int:
        """The port of the server's HTTP interface, the same for its whole life."""
        return self._leases[0].number

    @property
    def url(self) -> str:
        """Where a client reaches the server; no slash at the end."""
        return f"http://{LOOPBACK}:{self.port}{self.path_prefix}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.is_running else None

    @property
    def is_running(self) -> bool:
        """True from `start()` to `stop()`, `kill()` or the server's own end."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_path(self) -> Path:
        """The server's log, kept over restarts."""
        return self.folder / f"{self.program}.log"

    def log_tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def start(self) -> Self:
        """Start, or start again on the same port and data, and wait until the server answers."""
        if self.is_running:
            return self
        if self._started_before:
            self._launch()
            return self
        self._launch_on_any_port()
        self._started_before = True
        self.on_first_start()
        return self

    def _launch_on_any_port(self) -> None:
        for _ in range(4):
            try:
                return self._launch()
            except ServerStartError as error:
                if "address already in use" not in str(error):
                    raise
                self._release_ports()
                self._leases = [PortLease() for _ in range(self.ports_needed)]
        return self._launch()

    def _launch(self) -> None:
        arguments = [self.executable, *self.command()]
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        self._process = process
        self._reaper = _start_reaper(process.pid, self.folder if self._own_folder else None)
        try:
            wait_until(self._ready_or_dead, f"{self.program} to be ready")
        except TimeoutError as error:
            self.kill()
            raise ServerStartError(f"{error}; its log ends:\n{self.log_tail()}") from None
        if not self.is_running:
            self.kill()
            raise ServerStartError(f"{self.program} ended at once; its log ends:\n{self.log_tail()}")

    def _ready_or_dead(self) -> bool:
        return not self.is_running or self.is_ready()

    def is_ready(self) -> bool:
        """True when the server answers its readiness page."""
        try:
            answer = _http.request("GET", self.url + self.ready_path, timeout=1.0)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status < 300

    def stop(self) -> None:
        """End the server as an administrator would (SIGTERM); what it has buffered is written."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(HANGS_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL); what it has only buffered is lost."""
        if self._reaper is not None:
            _end_reaper(self._reaper)
            self._reaper = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(HANGS_SECONDS)
            self._process = None

    def close(self) -> None:
        """End the server and drop its folder and ports."""
        self.stop()
        self._release_ports()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _release_ports(self) -> None:
        for lease in self._leases:
            lease.release()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _start_reaper(pid: int, folder: Path | None) -> subprocess.Popen[bytes]:
    """A shell that waits on a pipe from here, and kills the server once this process is gone.

    Linux's parent-death signal would do, but it fires when the starting *thread* ends, and tests restart
    servers from threads.
    """
    removal = 'rm -rf "$1"' if folder else ""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 {pid}; {removal}", "reaper", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end_reaper(reaper: subprocess.Popen[bytes]) -> None:
    # Killed before its pipe closes, so that it can't hit a process that has since got the same pid.
    reaper.kill()
    reaper.wait(HANGS_SECONDS)
    if reaper.stdin is not None:
        reaper.stdin.close()
