"""`analyze` and `alarms`, as a person and a timer run them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from monitoring.analytics import analysis
from monitoring.analytics.analysis import Alarm, act
from monitoring.cli.commands import app
from monitoring.settings import AnalyticsConfig
from monitoring.store.sessions import Store
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.exams import BIAS, EXAMS, MONDAY_NS, a_site, a_store, exam, exams
from tests.support.volumes import fill, small_volume


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a year in which one model was off from some day on."""
    return a_site(tmp_path_factory.mktemp("site"), exams())


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> int:
    """The evening of the last exam's day, so that the charts hear no silence."""
    now_ns = exam(EXAMS - 1).ended_ns + 4 * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    return now_ns


def run(site: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(site / "task.json")])


def listed(site: Path, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(site, "alarms", "--json", *options).stdout)
    return found


def test_an_alarm_is_told_answered_and_kept(site: Path, now: int) -> None:
    analyzed = run(site, "analyze")
    assert analyzed.exit_code == 0
    assert f"charts of {EXAMS} sessions; 2 false alarms a year are accepted of all together" in analyzed.stdout
    assert "within 30 exams" in analyzed.stdout
    assert "e+0" not in analyzed.stdout  # limits of rates are in the ten thousands
    [line] = [line for line in analyzed.stdout.splitlines() if f" {BIAS}: " in line]
    assert re.search(r"mm over \d\d exams since 2026-08-", line)
    assert line.endswith("; open")
    document = json.loads(run(site, "analyze", "--json").stdout)
    assert document["anew"] == ""
    assert {state["state"] for state in document["charts"]} >= {"watching", "alarm"}

    [alarm] = [alarm for alarm in listed(site) if alarm["chart"] == BIAS]
    [state] = [state for state in document["charts"] if state["chart"] == BIAS]
    words = f"a shift of {state['detectable']:.1f} mm within 30 exams"
    assert alarm["noticed"] == words
    assert f"; open; would have been noticed: {words}\n" in run(site, "alarms").stdout
    assert any(line.startswith(BIAS) and line.endswith(words) for line in analyzed.stdout.splitlines())
    assert MONDAY_NS < alarm["earliest_ns"] <= alarm["change_ns"] <= alarm["latest_ns"] <= alarm["raised_ns"] <= now
    answered = run(site, "alarms", "acknowledge", alarm["alarm_id"], "--by", "physicist", "--note", "weights differ")
    assert (answered.exit_code, answered.stdout.strip().endswith("acknowledged by physicist: weights differ")) == (
        0,
        True,
    )
    assert BIAS not in {alarm["chart"] for alarm in listed(site)}
    rebased = run(site, "alarms", "rebase", alarm["alarm_id"], "--by", "physicist", "--reason", "new weights")
    assert rebased.stdout.strip().endswith("rebased by physicist: new weights")
    [kept] = [alarm for alarm in listed(site, "--all") if alarm["chart"] == BIAS]
    assert (kept["status"], kept["words"]) == ("rebased", "new weights")


def test_of_several_models_alarms_the_one_to_look_at_is_named_and_one_answer_is_given_to_all(
    now: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_site(tmp_path, exams())
    series, model, bone = BIAS.split("/")
    by_chart = {alarm["chart"]: alarm["alarm_id"] for alarm in listed(folder) if alarm["chart"].startswith(series)}
    [line] = [line for line in run(folder, "alarms").stdout.splitlines() if line.startswith("look first")]
    assert f"{bone}: at {model}, which differs most" in line
    assert run(folder, "alarms", "acknowledge", by_chart[BIAS], "--by", "x", "--note", "seen").exit_code == 0
    assert "look first" not in run(folder, "alarms").stdout  # nor at another model, which is only held against it
    ids = [alarm_id for chart, alarm_id in by_chart.items() if chart != BIAS]
    answered = run(folder, "alarms", "acknowledge", *ids, "--by", "physicist", "--note", "weights differ")
    assert answered.stdout.count("acknowledged by physicist: weights differ") == len(ids) > 1
    assert not set(ids) & {alarm["alarm_id"] for alarm in listed(folder)}
    done = run(folder, "alarms", "rebase", ids[0], "ffffffff", ids[1], "--by", "physicist", "--reason", "accepted")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "error: there is no alarm ffffffff\n")
    assert {alarm["status"] for alarm in listed(folder, "--all") if alarm["alarm_id"] in ids} == {"acknowledged"}

    def answered_by_another_first(store: Store, config: AnalyticsConfig, alarm_id: str, *rest: Any) -> Alarm:
        if alarm_id == ids[1]:
            act(store, config, alarm_id, "rebase", "another", "accepted", now)
        return act(store, config, alarm_id, *rest)

    monkeypatch.setattr(analysis, "act", answered_by_another_first)
    done = run(folder, "alarms", "rebase", *ids[:2], "--by", "physicist", "--reason", "accepted")
    words = f"error: there is no open alarm {ids[1]} any more\n"
    assert (done.exit_code, done.stdout.count("rebased"), done.stderr) == (1, 1, words)


def test_what_cannot_be_done_is_one_line(site: Path, now: int, tmp_path: Path) -> None:
    done = run(site, "alarms", "acknowledge", "ffffffff", "--by", "me", "--note", "none")
    assert (done.exit_code, done.stderr) == (2, "error: there is no alarm ffffffff\n")
    assert run(site, "alarms", "rebase", "ffffffff", "--by", "me").exit_code == 2
    section = {"enabled": True, "store": {"path": str(tmp_path)}}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
    none = run(tmp_path, "analyze")
    assert none.exit_code == 1
    assert "there is no store" in none.stderr


def test_an_empty_store_has_no_charts(tmp_path: Path, now: int) -> None:
    done = run(a_site(tmp_path), "analyze")
    assert done.exit_code == 0
    assert "0 charts of 0 sessions" in done.stdout
    assert "no alarm is open" in done.stdout


@pytest.mark.parametrize("is_in_use", [False, True], ids=["alone", "beside a host"])
def test_what_a_full_disk_does_not_keep_is_found_all_the_same(now: int, tmp_path: Path, is_in_use: bool) -> None:
    with small_volume(tmp_path / "volume", 16) as volume:
        folder = a_site(volume / "site", exams())
        with a_store(folder) as store:
            store.state("instance", lambda: "here")
        with a_store(folder) if is_in_use else nullcontext():
            filler = fill(volume)
            assert run(folder, "status").exit_code == 0
            analyzed, listing, answer = (
                run(folder, *words)
                for words in (
                    ["analyze", "--json"],
                    ["alarms", "--json"],
                    ["alarms", "acknowledge", "ffffffff", "--by", "x", "--note", "y"],
                )
            )
            assert (analyzed.exit_code, listing.exit_code, answer.exit_code) == (1, 0, 2 if is_in_use else 1)
            for done in (analyzed, listing):
                assert re.fullmatch(
                    "not kept: can't .*: (No space left on device|database or disk is full)\n", done.stderr
                )
            document = json.loads(analyzed.stdout)
            assert document["not_kept"] in analyzed.stderr
            filler.unlink()
            kept = json.loads(run(folder, "analyze", "--json").stdout)
            assert {**kept, "not_kept": document["not_kept"]} == document
            assert listed(folder) == json.loads(listing.stdout)


KILLED = """
import json, os, signal, sqlite3, sys, time
from monitoring.cli.commands import app
statements, last, now_ns = [], int(sys.argv[1]), int(sys.argv[2])
def begins(statement):
    statements.append(" ".join(statement.split()[:5]))
    if len(statements) == last:
        os.kill(os.getpid(), signal.SIGKILL)
connect = sqlite3.connect
def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(begins)
    return connection
sqlite3.connect, time.time_ns = traced, lambda: now_ns
try:
    app(["analyze", "--json", "--config", sys.argv[3]])
finally:
    begins("the end")
    print(json.dumps(statements), file=sys.stderr)
"""


def killed_look(folder: Path, now: int, last: int = 0) -> subprocess.CompletedProcess[str]:
    """A process of its own, killed when SQLite begins with so many statements; in its end where that is one more."""
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(last), str(now), str(folder / "task.json")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
    )  # fmt: skip


def kept_in(folder: Path) -> list[object]:
    """What the store keeps of the charts, what it counts, and what waits for the backends."""
    with closing(sqlite3.connect(folder / "monitoring.db")) as connection:
        queries = ("alarms", "totals", "outbox", "analysis WHERE name != 'checkpoint'")
        return [connection.execute(f"SELECT * FROM {query}").fetchall() for query in queries]


def test_a_look_that_is_killed_is_as_if_it_had_not_been(now: int, tmp_path: Path) -> None:
    """Killed amid the statements that keep what it found, before it commits them and after: each alarm is told once."""
    fresh = a_site(tmp_path / "fresh", exams())
    with a_store(fresh) as store:
        store.state("instance", lambda: "here")

    def a_copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(fresh, folder)
        section = {
            "enabled": True, "store": {"path": str(folder)},
            "influxdb": {"url": "http://127.0.0.1:9", "org": "x", "bucket": "x"},
        }  # fmt: skip
        (folder / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
        return folder

    never = a_copy("never")
    whole = killed_look(never, now)
    found, statements = json.loads(whole.stdout), json.loads(whole.stderr)
    assert any(kept_in(never)[0])
    assert any(kept_in(never)[2])
    begun = (
        "INSERT OR REPLACE INTO analysis",
        "INSERT OR IGNORE INTO alarms",
        "INSERT INTO outbox",
        "COMMIT",
        "the end",
    )
    moments = [max(i for i, each in enumerate(statements) if each.startswith(words)) for words in begun]
    assert moments == sorted(moments)
    for moment in moments:
        folder = a_copy(str(moment))
        assert killed_look(folder, now, moment + 1).returncode == -signal.SIGKILL
        again = json.loads(run(folder, "analyze", "--json").stdout)
        assert (again["charts"], again["alarms"]) == (found["charts"], found["alarms"])
        assert kept_in(folder) == kept_in(never), statements[moment]
