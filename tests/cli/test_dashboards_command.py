"""`leglength-monitor dashboards`: what the alert rules would have said of the store's own sessions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitoring.cli.commands import app
from monitoring.cli.common import store_to_import_into
from monitoring.config_validator import check_section
from monitoring.records.session_record import Failure
from tests.support.records import realistic

DAY_NS = 86_400_000_000_000
FAILED = {"status": "failed", "reason": "not_dicom", "failure": Failure("E", "load")}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    monitoring = {"enabled": True, "store": {"path": str(tmp_path), "min_free_mb": 0}}
    task = tmp_path / "task.json"
    task.write_text(json.dumps({"process": {"settings": {"monitoring": monitoring}}}))

    def start(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["dashboards", *arguments, "--config", str(task)])

    return start


def commit(folder: Path, days_ago: list[float], first: int, **changed: object) -> list[int]:
    """Sessions that ended so many days ago; returns the instants in nanoseconds."""
    now_ns = time.time_ns()
    ends = [now_ns - round(days * DAY_NS) for days in days_ago]
    config = check_section({"enabled": True, "store": {"path": str(folder), "min_free_mb": 0}}).config
    with store_to_import_into(config) as (store, build):
        for number, ended_ns in enumerate(ends, first):
            record = realistic(session_id=f"{number:032x}", started_ns=ended_ns - 10**9, ended_ns=ended_ns, **changed)
            assert store.commit(record, build)
    return ends


def test_a_day_of_failures_would_have_fired_once_and_at_other_thresholds_not(
    tmp_path: Path, run: Callable[..., Result]
) -> None:
    commit(tmp_path, [*range(20, 11, -1), *range(8, 0, -1)], first=0)
    failed = commit(tmp_path, [10.2, 10.1, 10.0], first=100, **FAILED)
    done = run("alerts", "--backtest", "90d", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["sessions"] == 20
    rules = {rule["rule"]: rule for rule in document["rules"]}
    told = rules["LegLengthAllFail"]
    assert (told["severity"], told["times"], len(told["alerts"])) == ("critical", 1, 1)
    (episode,) = told["episodes"]
    # From the first scrape after the third failure until the first one has left the window, a minute more or less.
    for text, expected_ns in ((episode["from"], failed[2]), (episode["until"], failed[0] + DAY_NS)):
        assert abs(datetime.fromisoformat(f"{text}+00:00").timestamp() - expected_ns / 1e9) <= 120
    others = {(one["threshold"], one["value"]): one["times"] for one in told["other_thresholds"]}
    assert others["failures", 4] == 0
    assert ("failures", 2) not in others  # it would have fired as often, and longer
    assert rules["LegLengthCrashed"]["times"] == 0


def test_a_person_reads_the_same(tmp_path: Path, run: Callable[..., Result]) -> None:
    commit(tmp_path, [3.0, 2.0, 1.0], first=0)
    commit(tmp_path, [0.3, 0.2, 0.1], first=100, **FAILED)
    done = run("alerts", "--backtest", "30d", "--scrape-interval", "30s")
    assert done.exit_code == 0, done.output
    assert "6 sessions, a scrape each 30s" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LegLengthCrashed")]
    assert line.split()[2] == "0"
    assert "failures 3: " in done.stdout


def test_rules_are_listed_without_a_store(run: Callable[..., Result]) -> None:
    done = run("alerts")
    assert done.exit_code == 0
    assert "LegLengthAllFail" in done.stdout
    assert {rule["name"] for rule in json.loads(run("alerts", "--json").stdout)} >= {"LegLengthAllFail"}


def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, run: Callable[..., Result]) -> None:
    done = run("alerts", "--backtest", "90d")
    assert (done.exit_code, done.output) == (1, f"error: there is no store at {tmp_path / 'monitoring.db'} yet\n")
    commit(tmp_path, [], first=0)
    done = run("alerts", "--backtest", "1d", "--json")
    assert (done.exit_code, "no session yet" in done.output) == (1, True)
    for wrong in (("--backtest", "soon"), ("--backtest", "1d", "--scrape-interval", "10m"), ("--backtest", "0s")):
        done = run("alerts", *wrong)
        assert (done.exit_code, done.output.count("\n")) == (2, 1)
        assert wrong[-2] in done.output
