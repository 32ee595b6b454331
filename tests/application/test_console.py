"""What a person or an orchestrator sees while it runs, and how it is told where to work."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

from tests.application.app import App, assert_clean, run_on_a_terminal
from tests.support import REPOSITORY
from tests.support.servers import wait_until


def test_a_terminal_shows_a_bar_that_ends_full(app: App, unspaced_file: Path, broken_file: Path) -> None:
    app.add(unspaced_file)
    app.add(broken_file)
    code, shown = run_on_a_terminal(app)
    assert code == 1
    assert "━━━" in shown
    assert "2/2" in shown
    assert "Traceback" not in shown
    assert "2 series: 0 completed, 1 skipped, 1 failed" in shown


def test_elsewhere_progress_is_plain_lines(app: App, unspaced_file: Path, broken_file: Path) -> None:
    app.add(unspaced_file)
    app.add(broken_file)
    run = app.run()
    assert_clean(run)
    assert "\x1b" not in run.log
    assert "━" not in run.log
    assert run.lines_with("series 1 of 2:")
    assert run.lines_with("series 2 of 2:")
    assert run.lines_with("2 series: 0 completed, 1 skipped, 1 failed")


def test_the_folders_can_come_from_mercures_environment(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.environment |= {"MERCURE_IN_DIR": str(app.inbox), "MERCURE_OUT_DIR": str(app.out)}
    run = app.run([])
    assert_clean(run)
    assert run.code == 0
    assert run.series[0]["status"] == "skipped"


def test_arguments_win_over_mercures_environment(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.environment |= {"MERCURE_IN_DIR": "/no/such/folder", "MERCURE_OUT_DIR": "/no/such/folder"}
    assert app.run().code == 0


def test_the_store_goes_to_mercures_persistence_folder_and_nothing_of_it_to_out(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True})
    persistence = app.folder / "persistence"
    persistence.mkdir()
    (persistence / "job.lock").write_text("Mercure's own")
    app.environment |= {"MODULE_PERSISTENCE_DIR": str(persistence), "MONITORING_DATA_PATH": ""}
    run = app.run()
    assert run.code == 0
    assert (persistence / "monitoring.db").exists()
    assert (persistence / "job.lock").read_text() == "Mercure's own"
    assert [path.name for path in app.out.iterdir()] == ["result.json"]


def open_sessions(app: App) -> int:
    """How many sessions the store holds traces of; 0 as long as there is no store."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{app.state}/monitoring.db?mode=ro", uri=True)) as store,
    ):
        return int(store.execute("SELECT count(*) FROM open_sessions").fetchone()[0])
    return 0


def test_a_run_that_is_killed_is_reported_as_crashed_by_the_next_one(
    app: App, phantom_file: Path, unspaced_file: Path
) -> None:
    for number in range(5):
        app.add(phantom_file, f"1.2.3.{number}#1.dcm")
    app.settings(monitoring={"enabled": True})
    process = subprocess.Popen(
        [sys.executable, "run.py", app.inbox, app.out],
        cwd=REPOSITORY,
        env=app.full_environment(),
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: open_sessions(app), "a session to be open", interval=0.02)
    process.kill()
    process.wait()
    assert not (app.out / "result.json").exists()

    for number in range(5):
        (app.inbox / f"1.2.3.{number}#1.dcm").unlink()
    app.add(unspaced_file)
    run = app.run()
    assert run.code == 0
    counts = app.status()["sessions"]
    assert (counts["crashed"], counts["skipped"], counts["failed"]) == (1, 1, 0)
