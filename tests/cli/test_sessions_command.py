"""`leglength-monitor sessions`: what is computed again, an identifier's keyed hash, and one patient's erasure."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from monitoring import MonitorManager
from monitoring.analytics import rederivation
from monitoring.cli.commands import app
from monitoring.cli.common import store_to_import_into
from monitoring.config_validator import check_section
from monitoring.domain import derivation, quality
from monitoring.metrics import catalogue
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.sessions import open_store
from tests.support.predictions import one_off_by
from tests.support.records import realistic

KEY = "a site's own key, of no meaning"
LENGTHS = {"PLL_R_FEM": 412.5, "PLL_L_FEM": 410.0, "PLL_R_TIB": 330.0, "PLL_L_TIB": 328.0}


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.json"
    monitoring = {"enabled": True, "privacy": {"key": KEY}, "metrics": {"include_system_metrics": False}}
    path.write_text(json.dumps({"process": {"settings": {"monitoring": monitoring}}}))
    return path


@pytest.fixture
def run(task: Path) -> Callable[..., Result]:
    def start(*arguments: str, given: str | None = None) -> Result:
        return CliRunner().invoke(app, ["sessions", *arguments, "--config", str(task)], input=given)

    return start


def record(task: Path, times: int = 1, patient: str | None = None) -> None:
    """Sessions of an ensemble of three, one model of which is off on one landmark."""
    settings = json.loads(task.read_text())["process"]["settings"]
    with MonitorManager(settings) as manager:
        runtime = manager._runtime
        assert runtime is not None
        for number in range(times):
            with manager.session(f"series {patient} {number}") as session:
                session.record_measurements(LENGTHS)
                session.record_performance_data({"individual_model_predictions": _predictions()})
                keys = {"patient_key": Pseudonymizer(KEY.encode()).patient(patient)} if patient else {}
                opened = runtime.open_session(session.id)
                assert opened is not None
                opened.record_context({"row_spacing_mm": 0.2, "column_spacing_mm": 0.2}, keys)


def _predictions() -> dict[str, Any]:
    return {
        found.model: {"predictions": {"boxes": found.boxes, "labels": found.labels, "scores": found.scores}}
        for found in one_off_by(20.0)
    }


def test_under_the_same_formulas_nothing_differs(task: Path, run: Callable[..., Result]) -> None:
    record(task, 3)
    done = run("--rederive")
    assert done.exit_code == 0
    assert f"3 sessions computed again by formulas of version {derivation.FORMULA_VERSION}\n" in done.stdout
    assert "0 differ" in done.stdout


def test_under_newer_formulas_it_says_what_differs_and_leaves_what_was_delivered(
    task: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record(task, 2)
    path = tmp_path / "store" / "monitoring.db"
    before = _everything(path)
    old, newer = derivation.FORMULA_VERSION, derivation.FORMULA_VERSION + 1
    monkeypatch.setattr(derivation, "FORMULA_VERSION", newer)
    monkeypatch.setattr(rederivation, "FORMULA_VERSION", newer)
    monkeypatch.setattr(quality, "FULL_DISAGREEMENT_MM", 5.0)
    done = run("--rederive")
    assert "2 differ from what was delivered, which stays as it is" in done.stdout
    assert "leglength_quality_ratio" in done.stdout
    assert "leglength_ensemble_cds_ratio" not in done.stdout

    lines = [json.loads(line) for line in run("--rederive", "--json").stdout.splitlines()]
    assert [(line["formula_before"], line["formula_now"]) for line in lines] == [(old, newer)] * 2
    (before_ratio, now_ratio) = lines[0]["differences"]["leglength_quality_ratio"]
    assert 0 < now_ratio < before_ratio < 1
    assert _everything(path) == before


def _everything(path: Path) -> list[Any]:
    with open_store(Database(path)) as store, store.database.read_transaction() as connection:
        tables = ("sessions", "outbox", "totals", "state")
        return [connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables]


def test_sessions_of_a_version_that_kept_nothing_computed_are_counted(
    task: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    record(task, 2)
    with (
        open_store(Database(tmp_path / "store" / "monitoring.db")) as store,
        store.database.transaction() as connection,
    ):
        connection.execute("UPDATE sessions SET derived = NULL WHERE sequence = 1")
        connection.execute("UPDATE sessions SET derived = x'00ff' WHERE sequence = 2")
    assert "2 were stored by a version that didn't keep what it had computed" in run("--rederive").stdout


def test_an_identifiers_hash_is_the_one_that_sessions_are_kept_under(task: Path, run: Callable[..., Result]) -> None:
    record(task, patient="INVENTED-17")
    listed = json.loads(run("--json").stdout)
    done = run("key", given="INVENTED-17\n")
    assert done.exit_code == 0
    assert done.stdout.strip() == listed["patient_key"] == Pseudonymizer(KEY.encode()).patient("INVENTED-17")
    study = run("key", "--kind", "study", given="1.2.3\n").stdout.strip()
    assert study == Pseudonymizer(KEY.encode()).study("1.2.3")


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("key",), "\n", "an identifier is needed"),
        (("key", "--kind", "name"), "x\n", "--kind must be one of"),
        (("erase", "--patient-key", "INVENTED-17"), None, "32 hexadecimal characters"),
        (("erase", "--patient-key", ""), None, "32 hexadecimal characters"),
    ],
)
def test_wrong_input_is_told_in_one_line_that_does_not_quote_it(
    task: Path, run: Callable[..., Result], arguments: tuple[str, ...], given: str | None, message: str
) -> None:
    record(task)
    done = run(*arguments, given=given)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "INVENTED" not in done.output


def test_without_a_key_no_hash_is_made_up(tmp_path: Path, run: Callable[..., Result], task: Path) -> None:
    task.write_text(json.dumps({"process": {"settings": {"monitoring": {"enabled": True}}}}))
    done = run("key", given="INVENTED-17\n")
    assert done.exit_code == 2
    assert "there is no key monitoring.key" in done.stderr
    assert not (tmp_path / "store" / "monitoring.key").exists()


def test_a_patient_is_erased_and_the_others_stay(task: Path, run: Callable[..., Result]) -> None:
    record(task, 2, patient="INVENTED-17")
    record(task, 1, patient="INVENTED-18")
    key = run("key", given="INVENTED-17\n").stdout.strip()
    rehearsal = run("erase", "--patient-key", key, "--dry-run")
    assert "Would erase: 2 sessions" in rehearsal.stdout
    assert len(run("--json").stdout.splitlines()) == 3

    done = run("erase", "--patient-key", key)
    assert done.exit_code == 0
    assert "Erased: 2 sessions" in done.stdout
    (left,) = run("--json").stdout.splitlines()
    assert json.loads(left)["patient_key"] != key
    assert json.loads(run("erase", "--patient-key", key, "--json").stdout)["sessions"] == 0


def settings_with(task: Path, **privacy: Any) -> None:
    settings = json.loads(task.read_text())
    settings["process"]["settings"]["monitoring"]["privacy"] = privacy
    task.write_text(json.dumps(settings))


def test_sessions_without_a_patients_hash_are_counted_and_not_said_to_be_erased(
    task: Path, run: Callable[..., Result]
) -> None:
    record(task, 1, patient="INVENTED-17")
    record(task, 3)
    key = run("key", given="INVENTED-17\n").stdout.strip()
    for more in (("--dry-run",), ()):
        done = run("erase", "--patient-key", key, *more)
        assert done.exit_code == 1
        assert "Not searched: 3 sessions without a patient's hash" in done.stdout
    told = json.loads(run("erase", "--patient-key", key, "--json").stdout)
    assert (told["sessions"], told["without_patient_key"], told["under_another_key"]) == (0, 3, 0)


def test_sessions_of_an_exam_that_is_known_to_be_anothers_are_not_counted(
    task: Path, run: Callable[..., Result]
) -> None:
    settings = json.loads(task.read_text())["process"]["settings"]
    with MonitorManager(settings) as manager, manager.session("series INVENTED-18 0"):
        pass
    record(task, 1, patient="INVENTED-18")
    key = run("key", given="INVENTED-17\n").stdout.strip()
    done = run("erase", "--patient-key", key)
    assert (done.exit_code, "Not searched" in done.stdout) == (0, False)


def test_a_lost_key_is_said_and_no_erasure_is_complete_until_it_is_back(
    task: Path, run: Callable[..., Result], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings_with(task)
    path = tmp_path / "store" / "monitoring.key"
    with MonitorManager(json.loads(task.read_text())["process"]["settings"]) as manager:
        manager.end_session(manager.start_session("x"))
    first = path.read_text()
    record_under(task, first, "INVENTED-17")
    path.unlink()

    lost = run("key", given="INVENTED-17\n")
    assert (lost.exit_code, "the site's key is lost" in lost.stderr) == (2, True)
    assert not path.exists()

    with MonitorManager(json.loads(task.read_text())["process"]["settings"]) as manager:
        manager.end_session(manager.start_session("y"))
    assert "the site's key is another than before" in caplog.text
    second = path.read_text()
    record_under(task, second, "INVENTED-17")
    key = run("key", given="INVENTED-17\n")
    assert "warning: 1 session recorded under another key of the site" in key.stderr
    assert key.stdout.strip() == Pseudonymizer(second.encode()).patient("INVENTED-17")
    done = run("erase", "--patient-key", key.stdout.strip())
    assert done.exit_code == 1
    assert "Erased: 1 sessions" in done.stdout
    assert "Not searched: 1 session recorded under another key of the site" in done.stdout

    path.write_text(first)  # it was found
    with MonitorManager(json.loads(task.read_text())["process"]["settings"]) as manager:
        manager.end_session(manager.start_session("z"))
    again = run("key", given="INVENTED-17\n")
    assert "warning" not in again.stderr
    told = json.loads(run("erase", "--patient-key", again.stdout.strip(), "--json").stdout)
    assert (told["sessions"], told["under_another_key"]) == (1, 0)


def record_under(task: Path, key: str, patient: str) -> None:
    with MonitorManager(json.loads(task.read_text())["process"]["settings"]) as manager:
        runtime = manager._runtime
        assert runtime is not None
        with manager.session(f"{key} {patient}") as session:
            opened = runtime.open_session(session.id)
            assert opened is not None
            opened.record_context({}, {"patient_key": Pseudonymizer(key.encode()).patient(patient)})


def test_the_points_times_are_told_as_influxdb_2_wants_them(task: Path, run: Callable[..., Result]) -> None:
    record(task, 1, patient="INVENTED-17")
    key = run("key", given="INVENTED-17\n").stdout.strip()
    (nanoseconds,) = json.loads(run("erase", "--patient-key", key, "--dry-run", "--json").stdout)["points_ns"]
    (line,) = [line for line in run("erase", "--patient-key", key).stdout.splitlines() if line.startswith("  ")]
    time, told_ns = line.split()
    assert int(told_ns) == nanoseconds
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", time)
    whole, fraction = time.rstrip("Z").split(".")
    assert int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(fraction) == nanoseconds


def test_a_damaged_store_beside_it_is_said_not_to_have_been_searched(
    task: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    record(task, 1, patient="INVENTED-17")
    (tmp_path / "store" / "monitoring.db.corrupt-1").write_bytes(b"whatever was in it")
    done = run("erase", "--patient-key", run("key", given="INVENTED-17\n").stdout.strip())
    assert done.exit_code == 1
    assert "Not searched: monitoring.db.corrupt-1" in done.stdout


def test_an_erased_patient_counts_no_more_in_the_agreement_with_readers(
    task: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    settings = json.loads(task.read_text())
    settings["process"]["settings"]["reference_readings"] = {"PLL_R_FEM": 411.0}
    task.write_text(json.dumps(settings))
    record(task, 1, patient="INVENTED-17")
    path = tmp_path / "store" / "monitoring.db"
    assert _pairs(path) == 1.0
    run("erase", "--patient-key", run("key", given="INVENTED-17\n").stdout.strip())
    assert _pairs(path) == 0.0


def _pairs(path: Path) -> float:
    with open_store(Database(path)) as store, store.database.read_transaction() as connection:
        return totals.values(connection, catalogue.VALIDATION["pairs"])["PLL_R_FEM",]


# --- records of others --------------------------------------------------------------------------


def test_an_archive_s_texts_neither_end_the_list_nor_reach_the_terminal(
    task: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    record(task)
    hostile = realistic(status="failed", reason="[/red]\x1b[2J", stopped_in="[bold]", ended_ns=time.time_ns()).to_dict()
    archive = tmp_path / "result.json"
    archive.write_text(json.dumps({"monitoring": {"sessions": [hostile, hostile | {"session_id": "../../x"}]}}))
    done = CliRunner().invoke(app, ["import", str(archive), "--config", str(task)])
    assert "1 imported" in done.output
    assert "1 unreadable" in done.output
    for arguments in ([], ["--json"], ["--rederive"]):
        listed = run(*arguments)
        assert listed.exit_code == 0, listed.exception
        assert "\x1b" not in listed.output
        assert "[/red]" not in listed.output


def test_a_stored_text_is_not_taken_for_markup(task: Path, run: Callable[..., Result]) -> None:
    """As a record that was imported before imports were held to a form."""
    record(task)
    config = check_section(json.loads(task.read_text())["process"]["settings"]["monitoring"]).config
    with store_to_import_into(config) as (store, build):
        store.commit(realistic(status="failed", reason="[/red]", ended_ns=time.time_ns()), build)
    done = run()
    assert done.exit_code == 0, done.exception
    assert "[/red]" in done.output
