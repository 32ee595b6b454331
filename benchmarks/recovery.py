"""After the fault: what the store still holds is drained, and the sessions are counted in a server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import workload
from benchmarks.children import ROOT
from benchmarks.situations import Backends, pushed_sessions, stored_sessions
from tests.support.servers import Pushgateway, VictoriaMetrics

# A process that ended while its backend was silent can't give its lease back; it runs out by itself.
_LEASE_SECONDS = 60.0


def sessions_after(backends: Backends) -> int:
    """How many sessions both servers have, once they answer again and the store is drained into them."""
    store, urls = backends.urls["store"], backends.urls
    if backends.arrived:
        drain(store, urls["influx"], urls["gateway"])
        return min(backends.arrived["influx"](), backends.arrived["gateway"]())
    with VictoriaMetrics() as server, Pushgateway() as gateway:
        drain(store, server.url, gateway.url)
        return min(len(set(stored_sessions(server))), pushed_sessions(gateway))


def drain(store: str, influx_url: str, gateway_url: str) -> None:
    """``leglength-monitor drain``, until nothing waits."""
    config = Path(f"{store}.task.json")
    config.write_text(json.dumps({"process": {"settings": workload.settings(store, influx_url, gateway_url)}}))
    until = time.monotonic() + _LEASE_SECONDS
    while _drain_once(config) != 0 and time.monotonic() < until:
        time.sleep(1.0)


def _drain_once(config: Path) -> int:
    command = [sys.executable, "-c", "from monitoring.cli import main; main()", "drain", "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False).returncode
