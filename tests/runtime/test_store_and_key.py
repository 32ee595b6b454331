"""Which store and which key a process works with, whatever is missing: a home, a folder outside OUT, a usable file."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from monitoring import MonitorManager
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.recordings import stored_ids

UID = "1.2.840.113619.2.55.3"
NOBODYS_UID = 54_321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a passwd entry")


def recorded(settings: dict[str, Any], output_dir: Path | None = None) -> dict[str, Any]:
    """The record of a session under these settings."""
    logger = logging.getLogger("test")
    with MonitorManager({"monitoring": {"enabled": True, **settings}}, logger, output_dir) as manager:
        with manager.session(UID):
            pass
        return manager.session_records()[0]


def unusable_store(folder: Path) -> dict[str, Any]:
    """Settings whose store can't be opened, though its folder can be read and written."""
    (folder / "monitoring.db").mkdir(parents=True)
    return {"store": {"path": str(folder)}}


def test_a_readable_key_names_sessions_also_where_the_store_cannot_be_used(tmp_path: Path) -> None:
    settings = unusable_store(tmp_path)
    (tmp_path / KEY_FILE_NAME).write_text("k" * 32)
    assert recorded(settings)["series_key"] == Pseudonymizer(b"k" * 32).series(UID)


def test_where_there_is_no_key_yet_none_is_made_for_one_run_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = recorded(unusable_store(tmp_path))
    assert "series_key" not in record
    assert not (tmp_path / KEY_FILE_NAME).exists()
    assert sum("carry no keyed hashes" in message for message in caplog.messages) == 1


def test_another_key_than_before_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"store": {"path": str(tmp_path)}}
    first = recorded(settings)
    assert "the site's key" not in caplog.text
    (tmp_path / KEY_FILE_NAME).unlink()
    second = recorded(settings)
    assert sum("the site's key is another" in message for message in caplog.messages) == 1
    assert recorded(settings)["series_key"] == second["series_key"] != first["series_key"]
    assert sum("the site's key is another" in message for message in caplog.messages) == 1


def test_a_store_that_would_lie_in_the_output_goes_to_the_persistence_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    monkeypatch.delenv("MONITORING_DATA_PATH", raising=False)
    monkeypatch.setenv("MODULE_PERSISTENCE_DIR", str(kept))
    record = recorded({"store": {"path": str(out / "store")}}, out)
    assert stored_ids(kept / "monitoring.db") == {record["session_id"]}
    assert not (out / "store").exists()
    assert any("must not lie in the output folder" in message for message in caplog.messages)


# Everything is loaded before the user changes: the interpreter may lie where nobody else may read.
HARDENED = """
import contextlib, io, json, logging, os, sys, tempfile
logging.basicConfig(format="%(message)s", stream=sys.stderr)
from monitoring import MonitorManager
from monitoring.cli import main
import monitoring.cli.commands

def session(section):
    with MonitorManager({"monitoring": section}) as manager:
        with manager.session("1.2.3"):
            pass
        return [manager.is_enabled(), manager.swallowed_errors, len(manager.session_records())]

with tempfile.TemporaryDirectory() as folder:
    session({"enabled": True, "store": {"path": folder}})
    with open(folder + "/task.json", "w") as task:
        json.dump({"process": {"settings": {"monitoring": {"enabled": True, "store": {"path": folder}}}}}, task)
    for config in (task.name, "/nowhere"):
        sys.argv = ["leglength-monitor", "status", "--config", config]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.suppress(SystemExit):
                main()
os.chdir("/")
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
"""
SESSION = "print(json.dumps(session({'enabled': True})))\n"
STATUS = "sys.argv = ['leglength-monitor', 'status', '--config', {task!r}]\nmain()\n"


def run_without_a_home(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As in a hardened container: a number for a user, no passwd entry, no HOME."""
    return subprocess.run(
        [sys.executable, "-c", HARDENED + script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip


@needs_root
def test_a_user_without_a_home_has_monitoring_in_memory(tmp_path: Path) -> None:
    done = run_without_a_home(SESSION)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, 0, 1]
    assert "there is no folder for the store" in done.stderr


@needs_root
def test_a_user_without_a_home_has_a_store_in_the_persistence_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder = tmp_path / "persistence"
    folder.mkdir()
    os.chown(folder, NOBODYS_UID, NOBODYS_UID)
    for parent in folder.parents:
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o005)  # pytest's folders are for their owner alone
    done = run_without_a_home(SESSION, MODULE_PERSISTENCE_DIR=str(folder))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, 0, 1]
    assert (folder / "monitoring.db").exists()


@needs_root
def test_a_command_without_a_folder_for_the_store_ends_with_one_line(tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir="/tmp") as task:
        json.dump({"process": {"settings": {"monitoring": {"enabled": True}}}}, task)
        task.flush()
        Path(task.name).chmod(0o644)
        done = run_without_a_home(STATUS.format(task=task.name))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith("error: there is no folder for the store")
    assert "Traceback" not in done.stderr
