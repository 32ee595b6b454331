"""`make stack` as a newcomer has it: what it prints answers, what it says to type works, and nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from simulation.servers import Ports
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.processes import MissingServerError, PortLease, fetch, wait_until

pytestmark = pytest.mark.servers
PROGRAMS = ("influxd", "prometheus", "promtool", "prometheus-pushgateway", "prometheus-alertmanager")
BROKEN, MENDED = r"for i in 1 2 3; do \S+ run\.py \S+/broken \S+; done", r"^ *(\S+ run\.py \S+/good \S+)$"


@dataclass
class Console:
    """A running stack and what it has printed so far."""

    process: subprocess.Popen[bytes]
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.text or self.process.poll() is not None, words, 2 * HANGS_SECONDS, 0.1)
        assert words in self.text, self.text

    def type(self, pattern: str) -> None:
        """Type a command that is printed, as it is printed, in the repository's root."""
        found = re.search(pattern, self.text, re.MULTILINE)
        assert found, self.text
        command = found[found.re.groups]
        subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, timeout=HANGS_SECONDS, check=False)

    def servers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ends(self, how: Callable[[], object]) -> int:
        """Its exit code once none of its processes is left."""
        servers = self.servers()
        assert len(servers) >= 6
        how()
        code = self.process.wait(HANGS_SECONDS)
        wait_until(lambda: not any(server.is_running() for server in servers), "the servers to end")
        return code


# Answers as a Grafana does once it is up, and fails where its configuration isn't what one would want to read.
GRAFANA = """#!{python}
import configparser, http.server, os, pathlib, sys
options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
config = configparser.ConfigParser()
config.read(options["config"])
provisioning = pathlib.Path(config["paths"]["provisioning"])
assert sys.argv[1] == "server" and pathlib.Path(options["homepath"], "bin/grafana").exists()
assert config["server"]["http_addr"] == "127.0.0.1" and os.environ["INFLUXDB_READ_TOKEN"]
sources = (provisioning / "datasources/leglength.yaml").read_text()
assert "http://127.0.0.1:" in sources and "$PROMETHEUS_URL" not in sources, sources
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(config["server"]["http_port"])), Handler).serve_forever()
"""


@contextmanager
def started(folder: Path, phantom_folder: Path, terminal: int | None = None) -> Iterator[Console]:
    """A stack with a short past, as `make stack` starts it."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise MissingServerError(program)
    printed = folder.with_suffix(".printed")
    grafana = folder.with_suffix(".grafana")
    (grafana / "bin").mkdir(parents=True, exist_ok=True)
    (grafana / "bin/grafana").write_text(GRAFANA.replace("{python}", sys.executable))
    (grafana / "bin/grafana").chmod(0o755)
    command = [sys.executable, "-u", "scripts/stack", "--folder", folder, "--days", 12, "--phantoms", phantom_folder]
    options: dict[str, Any] = {}
    if terminal is not None:  # as by make in a terminal's window: the terminal tells make alone when it is closed
        makefile = folder.with_suffix(".make")
        makefile.write_text(f"all:\n\t{' '.join(map(str, command))}\n")
        command = ["make", "-f", makefile]
        take_over = partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0)
        options = {"stdin": terminal, "start_new_session": True, "preexec_fn": take_over}
    with printed.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "GRAFANA_HOME": str(grafana)}, **options,
        )  # fmt: skip
    console = Console(process, printed)
    try:
        console.wait_for("What the Alertmanager tells")
        yield console
    finally:
        process.kill()  # and Linux ends the servers
        process.wait()


def test_two_stacks_at_once_choose_different_ports_though_no_server_listens_yet() -> None:
    lease = PortLease()
    one, another = Ports(), Ports()
    assert one.take(lease.number) == lease.number
    assert another.take(lease.number) != lease.number
    lease.release()


def rows(address: str) -> list[Any]:
    """What InfluxDB answers to one query."""
    found = fetch("GET", address).json()["results"][0].get("series", [])
    return [cells for series in found for cells in series["values"]]


def test_a_newcomer_sees_data_breaks_the_application_gets_the_alert_and_mends_it(
    tmp_path: Path, phantom_folder: Path
) -> None:
    folder = tmp_path / "stack"
    with started(folder, phantom_folder) as console:
        urls = dict(re.findall(r"^(\w+) +(http://127\.0\.0\.1:\d+)", console.text, re.MULTILINE))
        assert set(urls) == {"grafana", "prometheus", "alertmanager", "pushgateway", "influxdb"}
        fetch("GET", urls["grafana"] + "/api/health")
        asked = "/api/v1/query?query=count_over_time(leglength_sessions_total{status='completed'}[7d])"
        (series,) = fetch("GET", urls["prometheus"] + asked).json()["data"]["result"]
        assert float(series["value"][1]) > 7 * 24  # an hourly past
        count = "/query?db=leglength&q=SELECT count(duration_seconds) FROM leglength_session"
        wait_until(lambda: "series" in fetch("GET", urls["influxdb"] + count).data.decode(), "points in InfluxDB")
        nights = urls["influxdb"] + "/query?db=leglength&q=SELECT sessions FROM leglength_analysis_look"
        wait_until(lambda: len(rows(nights)) > 7, "a nightly past of the charts in InfluxDB")

        assert f"{urls['grafana']}/d/leglength-operation\n" in console.text
        assert "### LegLengthAllFail\n" in (REPOSITORY / "docs/alerts.md").read_text()

        console.type(BROKEN)
        console.wait_for("FIRING    LegLengthAllFail")
        console.wait_for("#leglengthallfail")
        console.type(MENDED)
        console.wait_for("RESOLVED  LegLengthAllFail")
        assert console.ends(lambda: console.process.send_signal(signal.SIGINT)) == 0
        assert "has ended" in console.text

    # It goes on with the first one's data, and ends when a server ends, or the terminal is closed.
    with started(folder, phantom_folder) as console:
        assert "simulated sessions" not in console.text
        (pushgateway,) = [server for server in console.servers() if "pushgateway" in server.cmdline()[0]]
        assert console.ends(pushgateway.kill) == 1
        assert "pushgateway has ended" in console.text
    ours, its = pty.openpty()
    with started(folder, phantom_folder, its) as console:
        os.close(its)
        console.ends(lambda: os.close(ours))
