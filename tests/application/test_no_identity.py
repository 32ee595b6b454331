"""No patient identity reaches the log, the records, the store or the wire, however the series ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.phantom import Phantom
from monitoring.store.database import Database
from tests.application.app import App, Run, with_backends
from tests.application.identity import bytes_of, found_in, identified, needles, wire
from tests.support.faults import FaultServer, respond


@pytest.fixture
def identified_app(app: App, small_phantom: Phantom) -> tuple[App, set[str]]:
    """Series that are measured, skipped and failed, and a file named after its patient."""
    measured, skipped, failed = (identified(small_phantom, number) for number in range(3))
    del skipped.PixelSpacing, skipped.ImagerPixelSpacing
    for dataset in (measured, skipped, failed):
        path = app.inbox / f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:100_000])
    (app.inbox / "Mustermannsdottir^Ada.dcm").write_bytes(b"Mustermannsdottir^Ada " * 50)
    return app, needles([measured, skipped, failed])


@pytest.mark.parametrize("answer", [204, 400])
def test_no_identity_is_in_the_log_the_records_the_store_or_on_the_wire(
    answer: int, identified_app: tuple[App, set[str]], fault_server: FaultServer
) -> None:
    app, unwanted = identified_app
    fault_server.then = respond(answer, b"Zzyzxson says the server" if answer != 204 else b"")
    influxdb = {"url": fault_server.url, "token": "t", "org": "o", "bucket": "b"}
    app.settings(monitoring=with_backends(influxdb, {"gateway_url": fault_server.url}))
    run = app.run()
    assert [series["status"] for series in run.series].count("failed") == 2

    assert found_in(run.log.encode(), unwanted) == []
    assert found_in(json.dumps(run.result["monitoring"]).encode(), unwanted) == []
    assert found_in(bytes_of(app.state), unwanted) == []
    assert fault_server.requests
    assert found_in(b"".join(map(wire, fault_server.requests)), unwanted) == []
    if answer == 400:
        for command in (["export"], ["sessions"], ["status"], ["drain"], ["check"]):
            shown = app.monitor(*command)
            assert found_in((shown.stdout + shown.stderr).encode(), unwanted) == [], command


def test_the_search_finds_what_is_there(identified_app: tuple[App, set[str]]) -> None:
    app, unwanted = identified_app
    assert found_in(bytes_of(app.inbox), unwanted) == sorted(unwanted)


def test_one_series_has_one_pseudonym_and_another_site_has_another(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True})
    runs: list[Run] = [app.run(), app.run()]
    app.state = app.folder / "state of another site"
    runs.append(app.run())
    first, again, elsewhere = (run.sessions[0]["series_key"] for run in runs)
    assert first == again != elsewhere
    assert len(first) == 32


def test_the_store_and_its_key_are_for_their_owner_only(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True})
    app.run()
    assert app.state.stat().st_mode & 0o077 == 0
    assert [path.name for path in app.state.iterdir() if path.stat().st_mode & 0o077] == []


def test_a_store_that_was_copied_back_is_for_its_owner_only_again(app: App, unspaced_file: Path) -> None:
    """With the journal of a process that still has it open."""
    app.add(unspaced_file)
    app.settings(monitoring={"enabled": True})
    app.run()
    path = app.state / "monitoring.db"
    opened = Database(path)
    with opened.transaction() as connection:
        connection.execute("UPDATE state SET value = value WHERE key = 'revision'")
    files = [path, path.with_name("monitoring.db-wal"), path.with_name("monitoring.db-shm")]
    for file in files:
        file.chmod(0o644)
    Database(path).close()
    assert [file.name for file in files if file.stat().st_mode & 0o077] == []
    opened.close()


def test_coarse_records_hold_no_length_and_no_time_of_the_report(app: App, phantom_file: Path) -> None:
    app.add(phantom_file)
    app.settings(monitoring={"enabled": True})
    exact = app.run().sessions[0]["measurements_mm"]
    app.state = app.folder / "state of a cautious site"
    app.settings(monitoring={"enabled": True, "privacy": {"precision": "coarse"}})
    (session,) = app.run().sessions
    coarse = session["measurements_mm"]
    assert any(length % 5.0 for length in exact.values())
    assert coarse.keys() == exact.keys()
    assert all(abs(length - exact[name]) <= 2.5 and length % 5.0 == 0.0 for name, length in coarse.items())
    assert "predictions" not in session
    database = Database(app.state / "monitoring.db")
    with database.read_transaction() as connection:
        (kept,) = connection.execute("SELECT timestamp_ns, ended_ns, kept_ns FROM sessions").fetchall()
        gauges = connection.execute("SELECT value FROM totals WHERE metric = 'leglength_measurement_millimeters'")
        assert {value % 5.0 for (value,) in gauges} == {0.0}
    database.close()
    instants = {session["started_ns"], session["ended_ns"], *kept}
    assert {instant % (3600 * 10**9) for instant in instants} == {0}
