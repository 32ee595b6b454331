"""A store on a read-only mount, such as a snapshot or a backup, can be looked at, and stays as it is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitoring.cli.commands import app
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.exams import a_site, exams
from tests.support.hosts import Host

LOOKS = ("status", "sessions", "sessions --json", "export", "readings", "status --json")


def mounted_read_only(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """What the commands say while `folder` is mounted read-only, for them alone."""
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 99\n'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount + script, "sh", str(folder), sys.executable],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("nothing may be mounted here")
    return done


@pytest.mark.parametrize("was_killed", [False, True], ids=["closed", "killed"])
def test_a_store_on_a_read_only_mount_can_be_looked_at(host: Host, tmp_path: Path, was_killed: bool) -> None:
    """After a kill the newest sessions are in the write-ahead log alone."""
    kill = "os.kill(os.getpid(), signal.SIGKILL)" if was_killed else "monitor.close()"
    host.run(f'monitor = MonitorManager(SETTINGS)\nwith monitor.session("1.2.3"): pass\n{kill}')
    folder, task = host.store_folder, tmp_path / "task.json"
    task.write_text(json.dumps({"process": {"settings": host.task}}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = f'"$2" -m monitoring.cli WORDS --config "{task}"'
    commands = "\n".join(f'{run.replace("WORDS", words)} || echo "FAILED {words}"' for words in LOOKS)
    done = mounted_read_only(folder, commands)
    assert "FAILED" not in done.stdout
    assert done.stderr == ""
    assert json.loads(done.stdout[done.stdout.rindex("\n{") :])["sessions"]["completed"] == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    refused = mounted_read_only(folder, run.replace("WORDS", "check"))
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stdout


def test_what_the_charts_say_can_be_looked_at_on_a_read_only_mount(tmp_path: Path) -> None:
    """It is said that nothing was kept, which is what `analyze` is run for."""
    site = a_site(tmp_path / "site", exams())
    before = {path.name: path.read_bytes() for path in site.iterdir()}
    run = f'"$2" -m monitoring.cli WORDS --config "{site}/task.json"; echo "CODE $?"'
    looks = ("alarms --json", "analyze --json", f"report -o {tmp_path}/report.html")
    done = mounted_read_only(site, "\n".join(run.replace("WORDS", words) for words in looks))
    listed, analyzed, reported, _ = re.split(r"CODE \d\n", done.stdout)
    assert re.findall(r"CODE (\d)", done.stdout) == ["0", "1", "0"]
    remarks = done.stderr.splitlines()
    assert len(remarks) == len(looks)
    assert all(line.startswith("not kept: can't ") and line.endswith("Read-only file system") for line in remarks)
    assert json.loads(analyzed)["not_kept"] == remarks[1].removeprefix("not kept: ")
    assert f"wrote {tmp_path}/report.html" in reported
    assert {path.name: path.read_bytes() for path in site.iterdir()} == before
    assert listed == CliRunner().invoke(app, ["alarms", "--json", "--config", f"{site}/task.json"]).stdout
