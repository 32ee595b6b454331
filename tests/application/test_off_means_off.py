"""Without a monitoring section: no module, thread, file or socket of the monitoring's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.application.app import App, Run

# Not sqlite3: highdicom imports it, for the application. That no database is opened is seen below.
THIRD_PARTIES = {"msgspec", "psutil", "urllib3", "prometheus_client", "typer"}
OFF: list[dict[str, Any]] = [{}, {"monitoring": {"enabled": False}}, {"monitoring": None}]
# Tells every thread, socket and database that the process makes, in a file.
WATCHER = """
import json, runpy, sys, threading
seen, target = [], sys.argv.pop(1)
def watch(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "sqlite3.connect"):
        seen.append(event)
def start(thread, start=threading.Thread.start):
    seen.append("thread")
    start(thread)
sys.addaudithook(watch)
threading.Thread.start = start
sys.argv[0] = "run.py"
try:
    runpy.run_path("run.py", run_name="__main__")
finally:
    with open(target, "w") as file:
        json.dump(seen, file)
"""


def imported(run: Run) -> set[str]:
    """The top-level modules that `-X importtime` tells of."""
    names = (line.rpartition("|")[2].strip() for line in run.lines_with("import time:"))
    return {name.partition(".")[0] for name in names}


def watched(app: App) -> list[str]:
    target = app.folder / "seen.json"
    run = app.run([target, app.inbox, app.out], python=("-c", WATCHER), fresh=True)
    assert run.code == 0, run.log
    return json.loads(target.read_text())


@pytest.mark.parametrize("settings", OFF, ids=json.dumps)
def test_nothing_is_imported_for_monitoring_that_is_off(
    settings: dict[str, Any], app: App, unspaced_file: Path
) -> None:
    app.add(unspaced_file)
    app.settings(**settings)
    run = app.run(python=("-X", "importtime", "run.py"))
    assert run.code == 0
    assert "monitoring" in imported(run)
    assert not THIRD_PARTIES & imported(run)
    assert len([name for name in run.lines_with("monitoring.") if "import time:" in name]) <= 2


def test_monitoring_that_is_on_does_import_them(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True})
    assert {"msgspec", "psutil"} <= imported(app.run(python=("-X", "importtime", "run.py")))


@pytest.mark.parametrize("settings", OFF, ids=json.dumps)
def test_no_thread_socket_database_or_file_is_made_for_monitoring_that_is_off(
    settings: dict[str, Any], app: App, unspaced_file: Path
) -> None:
    app.add(unspaced_file)
    app.settings(**settings)
    assert watched(app) == []
    assert not app.state.exists()
    assert list(app.home.rglob("*")) == []


def test_monitoring_that_is_on_makes_threads_and_a_store_where_it_was_told(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True, "prometheus": {"gateway_url": "http://127.0.0.1:1"}})
    assert {"thread", "sqlite3.connect", "socket.connect"} <= set(watched(app))
    assert (app.state / "monitoring.db").exists()
    assert list(app.home.rglob("*")) == []
