"""Without a monitoring section: no module, thread, file or socket of the monitoring's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.application.app import App

# Not sqlite3: highdicom imports it, for the application. That no database is opened is seen below.
THIRD_PARTIES = {"msgspec", "psutil", "urllib3", "prometheus_client", "typer"}
OURS = {
    "monitoring.exceptions",
    "monitoring.monitor_manager",
    "monitoring.privacy",
    "monitoring.privacy.log_filter",
    "monitoring.privacy.redaction",
    "monitoring.version",
}
OFF: list[dict[str, Any]] = [{}, {"monitoring": {"enabled": False}}, {"monitoring": None}]
# Tells every module, thread, socket and database that the process loads or makes, in a file. The application has no use
# for requests, which pydicom loads where it is installed: it would load urllib3, and make a socket, on its own.
WATCHER = """
import json, runpy, sys, threading
seen, target = [], sys.argv.pop(1)
def watch(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "sqlite3.connect"):
        seen.append(event)
def start(thread, start=threading.Thread.start):
    seen.append("thread")
    start(thread)
sys.modules["requests"] = None
already = set(sys.modules)
sys.addaudithook(watch)
threading.Thread.start = start
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
finally:
    with open(target, "w") as file:
        json.dump({"seen": seen, "imported": sorted(set(sys.modules) - already), "already": sorted(already)}, file)
"""


def watched(app: App) -> tuple[list[str], set[str]]:
    """What a run made, and the modules that it loaded."""
    target = app.folder / "seen.json"
    run = app.run([target, app.inbox, app.out], python=("-c", WATCHER), fresh=True)
    assert run.code == 0, run.log
    told = json.loads(target.read_text())
    # What the interpreter's own site loads before any code of ours would hide the same module being loaded by us.
    assert not THIRD_PARTIES & set(told["already"])
    return told["seen"], set(told["imported"])


@pytest.mark.parametrize("settings", OFF, ids=json.dumps)
def test_monitoring_that_is_off_loads_no_module_and_makes_no_thread_socket_database_or_file(
    settings: dict[str, Any], app: App, unspaced_file: Path
) -> None:
    app.add(unspaced_file)
    app.settings(**settings)
    made, imported = watched(app)
    assert made == []
    assert not THIRD_PARTIES & imported
    assert {name for name in imported if name.startswith("monitoring.")} <= OURS
    assert not app.state.exists()
    assert list(app.home.rglob("*")) == []


def test_monitoring_that_is_on_does_all_that_where_it_was_told(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True, "prometheus": {"gateway_url": "http://127.0.0.1:1"}})
    made, imported = watched(app)
    assert {"thread", "sqlite3.connect", "socket.connect"} <= set(made)
    assert {"msgspec", "psutil"} <= imported
    assert (app.state / "monitoring.db").exists()
    assert list(app.home.rglob("*")) == []
