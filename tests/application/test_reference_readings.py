"""Readers' measurements in run.py's settings and from files: compared, delivered, and without any identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from analysis.phantom import Phantom
from analysis.phantom.files import dataset_of
from tests.application.app import App, Run, with_backends
from tests.application.identity import bytes_of, found_in, wire
from tests.support import reading_reports as made
from tests.support.faults import FaultServer
from tests.support.servers import InfluxDB1, Pushgateway

SERIES, STUDY, ACCESSION = "1.2.826.0.77.1.1", "1.2.826.0.77.1", "ACC99182736"
READER = "Vandermolenq^Ria"
NAMES = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")
ON = {"enabled": True}


def film(phantom: Phantom, number: int = 1) -> Dataset:
    dataset = dataset_of(phantom, np.random.default_rng(number), SERIES if number == 1 else f"1.2.826.0.77.{number}.1")
    dataset.StudyInstanceUID = STUDY if number == 1 else f"1.2.826.0.77.{number}"
    dataset.AccessionNumber = ACCESSION if number == 1 else f"ACC{number}"
    return dataset


def put(app: App, dataset: Dataset) -> None:
    path = app.inbox / f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def one_film(app: App, small_phantom: Phantom) -> App:
    put(app, film(small_phantom))
    return app


def reading(**named: Any) -> dict[str, Any]:
    return {"reader": READER, "PLL_R_FEM": {"millimeters": 200.0}, "PLL_R_TIB_cm": 15.0, **named}


def errors(run: Run) -> list[dict[str, float]]:
    """The readers' measurements that each session was compared with."""
    return [next(iter(session.get("reader_mm", {}).values()), {}) for session in run.sessions]


def pairs(app: App) -> dict[str, int]:
    found = app.json_of("readings")["measurements"]
    return {name: agreement["pairs"] for name, agreement in found.items() if agreement["pairs"]}


@pytest.mark.parametrize(
    "named", [{"accession_number": ACCESSION}, {"study_instance_uid": STUDY}, {"series_instance_uid": SERIES}]
)
def test_a_readings_exam_is_found_by_any_of_its_names(one_film: App, named: dict[str, str]) -> None:
    others = [reading(accession_number="ACC1", PLL_R_FEM=100.0), reading(series_instance_uid="1.2", PLL_R_FEM=101.0)]
    one_film.settings(monitoring=ON, reference_readings=[*others, reading(**named)])
    run = one_film.run()
    assert run.code == 0
    assert errors(run) == [{"PLL_R_FEM": 200.0, "PLL_R_TIB": 150.0}]
    assert pairs(one_film) == {"PLL_R_FEM": 1, "PLL_R_TIB": 1}
    assert [line for line in run.log.splitlines() if "WARNING" in line and "inside the container" not in line] == []


def test_one_object_without_a_name_counts_for_every_series_of_the_run(app: App, small_phantom: Phantom) -> None:
    for number in (1, 2):
        put(app, film(small_phantom, number))
    app.settings(monitoring=ON, reference_readings=reading())
    assert errors(app.run()) == [{"PLL_R_FEM": 200.0, "PLL_R_TIB": 150.0}] * 2
    assert pairs(app) == {"PLL_R_FEM": 2, "PLL_R_TIB": 2}


def test_without_a_reading_nothing_is_compared(one_film: App) -> None:
    one_film.settings(monitoring=ON, reference_readings=[reading(accession_number="ACC1")])
    assert errors(one_film.run()) == [{}]
    assert pairs(one_film) == {}


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("ACC99182736", "process.settings.reference_readings: expected a list of objects"),
        (
            [reading(accession_number=ACCESSION, PLL_R_FEM="two")],
            "process.settings.reference_readings[0].PLL_R_FEM: not",
        ),
        (
            [reading(accession_number="X"), reading(), reading(accession_number=ACCESSION, PLL_R_FEM=7)],
            "process.settings.reference_readings[1]: names no exam",
        ),
        (reading(PLL_L_FEM_mm=7), "process.settings.reference_readings.PLL_L_FEM_mm: below 30 mm, is this cm?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_changes_nothing_else(one_film: App, setting: Any, path: str) -> None:
    one_film.settings(monitoring=ON, reference_readings=setting)
    run = one_film.run()
    assert (run.code, [series["status"] for series in run.series]) == (0, ["completed"])
    (line,) = run.lines_with("reference_readings")
    assert line.startswith("WARNING")
    assert path in line
    assert found_in(run.log.encode(), {ACCESSION, SERIES, STUDY, "Vandermolenq"}) == []
    assert errors(run) == [{}]
    assert set(run.sessions[0]["measurements_mm"]) == set(NAMES)


@pytest.mark.parametrize(("thresholds", "within"), [({}, 1.0), ({"femur_threshold": 0.5, "tibia_threshold": 1}, 0.0)])
def test_the_thresholds_of_the_settings_judge_the_errors(
    one_film: App, thresholds: dict[str, float], within: float
) -> None:
    one_film.settings(monitoring=ON, reference_readings=reading(), **thresholds)
    (session,) = one_film.run().sessions
    assert session.get("thresholds_cm", {}) == thresholds
    found = one_film.json_of("readings")["measurements"]["PLL_R_FEM"]
    assert found["bias_mm"] == pytest.approx(session["measurements_mm"]["PLL_R_FEM"] - 200.0, abs=1e-9)
    assert 5 < abs(found["bias_mm"]) < 20
    assert found["within_threshold_ratio"] == within


def test_without_monitoring_the_setting_means_nothing(one_film: App) -> None:
    one_film.settings(reference_readings=[reading(accession_number=ACCESSION)])
    run = one_film.run()
    assert run.code == 0
    assert "reference_readings" not in run.log
    assert not one_film.state.exists()


def test_a_runs_error_is_delivered_and_the_validation_is_pushed_as_it_ends(
    one_film: App, influxdb1: InfluxDB1, pushgateway: Pushgateway
) -> None:
    one_film.settings(
        monitoring=with_backends(influxdb1.write_settings(), {"gateway_url": pushgateway.url}),
        reference_readings=[reading(accession_number=ACCESSION)],
    )
    run = one_film.run()
    femur = run.sessions[0]["measurements_mm"]["PLL_R_FEM"]
    (point,) = [p for p in influxdb1.read_points("leglength_reading") if p.tags["measurement"] == "PLL_R_FEM"]
    assert point.fields["error_millimeters"] == pytest.approx(femur - 200.0)
    (session,) = influxdb1.read_points("leglength_session")
    assert point.time_ns == session.time_ns
    assert pushgateway.value("leglength_validation_pairs", measurement="PLL_R_FEM") == 1.0
    assert pushgateway.value("leglength_validation_pairs", measurement="PLL_L_FEM") == 0.0
    assert pushgateway.value("leglength_validation_bias_millimeters", measurement="PLL_R_FEM") is None


def test_a_file_that_comes_later_says_what_the_setting_would_have_said(
    one_film: App, tmp_path: Path, influxdb1: InfluxDB1
) -> None:
    one_film.settings(monitoring=with_backends(influxdb1.write_settings()))
    run = one_film.run()
    measured = run.sessions[0]["measurements_mm"]
    assert influxdb1.read_points("leglength_reading") == []
    table = tmp_path / "r.csv"
    table.write_text(f"Accession Number;PLL_R_FEM_mm\n{ACCESSION};200,5\n", encoding="utf-8-sig")
    done = one_film.monitor("readings", "import", table)
    assert (done.returncode, done.stderr) == (0, "")
    assert one_film.monitor("drain").returncode == 0
    (point,) = influxdb1.read_points("leglength_reading")
    (session,) = influxdb1.read_points("leglength_session")
    assert point.fields["error_millimeters"] == pytest.approx(measured["PLL_R_FEM"] - 200.5)
    assert point.time_ns == session.time_ns


def test_the_applications_own_report_is_never_taken_for_a_readers(one_film: App) -> None:
    one_film.settings(monitoring=ON)
    run = one_film.run()
    assert list(run.out.glob("*.dcm"))
    done = one_film.monitor("readings", "import", run.out)
    assert done.returncode == 2
    assert "no reading was found" in done.stderr
    assert pairs(one_film) == {}


def test_no_identity_of_exam_or_reader_gets_anywhere(
    one_film: App, small_phantom: Phantom, tmp_path: Path, fault_server: FaultServer
) -> None:
    influxdb = {"url": fault_server.url, "token": "t", "org": "o", "bucket": "b"}
    one_film.settings(
        monitoring=with_backends(influxdb, {"gateway_url": fault_server.url}),
        reference_readings=[
            reading(accession_number=ACCESSION),
            reading(study_instance_uid="1.2.826.0.88", PLL_R_FEM="x"),
        ],
    )
    run = one_film.run()
    unwanted = {ACCESSION, SERIES, STUDY, "1.2.826.0.88", "1.2.826.0.99", "ACC5550123", "Vandermolenq", "Wolfgrimm"}
    table, document, report = tmp_path / "r.csv", tmp_path / "r.json", tmp_path / "r.dcm"
    table.write_text(f"accession,reader,PLL_R_FEM_mm\n{ACCESSION},Dr Wolfgrimm,201\nACC5550123,Dr Wolfgrimm,300\n")
    document.write_text(json.dumps([reading(study_instance_uid="1.2.826.0.99"), reading(series_instance_uid=SERIES)]))
    made.saved(
        made.report([made.group(203.0, tracking="PLL_R_FEM")], [film(small_phantom)], made.person(READER)), report
    )
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(
        f"accession,reader,PLL_R_FEM_mm\n{ACCESSION},Wolfgrimm,Wolfgrimm\nACC5550123,Wolfgrimm,3\n1.2E+30,,9\n"
    )
    headless = tmp_path / "headless.csv"
    headless.write_text(f"{ACCESSION},Dr Wolfgrimm,201\n")
    said = [run.log, json.dumps(run.result["monitoring"])]
    for arguments in (
        ["readings", "import", table], ["readings", "import", document, "--json"], ["readings", "import", report],
        ["readings", "import", wrong], ["readings", "import", headless], ["readings"], ["readings", "--json"],
        ["sessions", "--json"], ["export"], ["status", "--json"], ["drain"],
    ):  # fmt: skip
        done = one_film.monitor(*arguments)
        assert done.returncode == (2 if arguments[-1] in (wrong, headless) else 0), (arguments, done.stderr)
        said += [done.stdout, done.stderr]
    assert pairs(one_film) == {"PLL_R_FEM": 1, "PLL_R_TIB": 1}
    sent = b"".join(map(wire, fault_server.requests))
    assert b"leglength_reading" in sent
    needles = {needle.lower() for needle in unwanted}  # a reader's name is compared in small letters
    for haystack in ("".join(said).encode(), bytes_of(one_film.state), sent):
        assert found_in(haystack.lower(), needles) == []
    given = b"".join(path.read_bytes() for path in (table, document, report)) + bytes_of(one_film.inbox)
    assert found_in(given, unwanted) == sorted(unwanted)
