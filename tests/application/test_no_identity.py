"""No patient identity reaches the log, the records, the store or the wire, however the series ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.phantom import Phantom
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
