"""`leglength-monitor readings import`: what is kept, which sessions are told of it, and that all else stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import reading_reports as made
from tests.support.reading_site import KEY, NOWHERE, STARTED_NS, Site
from tests.support.servers import InfluxDB1, Pushgateway

HEADER = "accession_number,reader,PLL_R_FEM_mm,PLL_L_TIB_mm"
OURS = {"PLL_R_FEM": 400.0, "PLL_L_TIB": 300.0}
SECOND = 1_000_000_000


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, {"influxdb": NOWHERE})


def of_number(line: str) -> tuple[str, dict[str, float], int]:
    """The measurement, the fields and the time of one line."""
    tags, values, time_ns = line.split(" ")
    labels = dict(tag.split("=") for tag in tags.split(",")[1:])
    return (
        labels["measurement"],
        {k: float(v) for k, v in (pair.split("=") for pair in values.split(","))},
        int(time_ns),
    )


# --- what is kept -----------------------------------------------------------------------------------


def test_readings_are_counted_as_new_corrected_and_known(site: Site) -> None:
    site.session(OURS, accession="A1")
    first = site.read(HEADER, "A1,Dr A,402,300", "A2,Dr A,410,")
    assert (first["readings"], first["new"], first["corrected"], first["known"]) == (2, 2, 0, 0)
    assert (first["sessions_compared"], first["without_session"], first["not_compared"]) == (1, 1, 0)
    second = site.read(HEADER, "A1,Dr A,401,300", "A2,Dr A,410,", "A1,Dr B,405,")
    assert (second["new"], second["corrected"], second["known"]) == (1, 1, 1)
    again = site.read(HEADER, "A1,Dr A,401,300", "A2,Dr A,410,", "A1,Dr B,405,")
    assert (again["new"], again["corrected"], again["known"]) == (0, 0, 3)
    assert site.report()["readings"] == 3
    assert site.report()["readers"] == 2


def test_a_later_file_adds_to_a_reading_and_corrects_only_what_it_states(site: Site) -> None:
    site.session(OURS, accession="A1")
    site.read(HEADER, "A1,Dr A,402,")
    assert site.read(HEADER, "A1,Dr A,,303")["corrected"] == 1
    assert site.pairs() == {"PLL_R_FEM": 1, "PLL_L_TIB": 1}
    assert site.report()["measurements"]["PLL_R_FEM"]["bias_mm"] == -2.0


def test_what_is_said_to_a_person_names_numbers_only(site: Site) -> None:
    site.session(OURS, accession="A1")
    site.session(OURS, accession="A3", status="failed")
    done = site.run(
        "readings", "import", site.file(HEADER + ",remarks", "A1,Dr A,402,300,x", "A2,Dr A,410,,y", "A3,B,4e2,,")
    )
    assert done.code == 0
    said = done.out.splitlines()
    assert said[:3] == [
        "readings: 3 (3 new, 0 corrected, 0 known already)",
        "sessions compared with them: 1",
        "without a session: 1 (kept, and compared when it comes)",
    ]
    assert said[3].startswith("not compared: 1 (the session was not completed or measured something else, or")
    assert done.err == f"warning: {site.folder / 'r.csv'}: not used: remarks\n"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["A1,Dr A,402,", "A2,Dr A,40.2,", "A3,Dr A,4.02,"], "line 4, PLL_R_FEM_mm: below 30 mm, is this cm?"),
        (["A1,Dr A,402,", "1.23E+11,Dr A,402,"], "line 3, accession_number: a spreadsheet has turned it"),
        (["A1,Dr A,402,", "A1,Dr A,403,"], "line 3: another PLL_R_FEM than in"),
        ([], "no reading was found"),
    ],
)
def test_a_file_with_anything_wrong_is_wrong_input_and_changes_nothing(
    site: Site, lines: list[str], problem: str
) -> None:
    site.session(OURS, accession="A1")
    before = site.store_path.read_bytes()
    good = site.file(HEADER, "A1,Dr Good,402,", name="good.csv")
    done = site.run("readings", "import", good, site.file(HEADER, *lines))
    if lines:
        assert done.code == 2
        assert problem in done.err
        assert done.err.endswith("Nothing was imported.\n")
        assert "Traceback" not in done.err
        assert site.store_path.read_bytes() == before
    else:
        assert site.run("readings", "import", site.file(HEADER)).code == 2


@pytest.mark.parametrize("name", ["missing.csv", "missing.json", "missing.dcm", "text.doc", "bad.json"])
def test_a_file_that_cant_be_read_is_wrong_input_in_one_line(site: Site, name: str) -> None:
    site.file("{", name="bad.json")
    site.file("words", name="text.doc")
    done = site.run("readings", "import", site.folder / name)
    assert done.code == 2
    assert name in done.err
    assert "Traceback" not in done.err


def test_json_and_tables_may_come_together_and_must_agree(site: Site) -> None:
    table = site.file(HEADER, "A1,Dr A,402,")
    rows = [{"accession_number": "A1", "reader": "Dr A", "PLL_L_TIB": {"centimeters": 30.3}}]
    document = site.file(json.dumps({"readings": rows}), name="r.json")
    site.session(OURS, accession="A1")
    assert site.run("readings", "import", table, document, "--json").json["readings"] == 1
    assert site.pairs() == {"PLL_R_FEM": 1, "PLL_L_TIB": 1}
    rows[0]["PLL_R_FEM"] = 999  # type: ignore[assignment]
    assert site.run("readings", "import", table, site.file(json.dumps(rows), name="r.json")).code == 2


def test_without_a_store_one_is_made_and_the_readings_wait_in_it(site: Site) -> None:
    assert site.read(HEADER, "A1,Dr A,402,299")["without_session"] == 1
    assert site.store_path.stat().st_mode & 0o077 == 0
    site.session(OURS, accession="A1")
    assert {of_number(line)[0]: of_number(line)[1]["error_millimeters"] for line in site.lines()} == {
        "PLL_R_FEM": -2.0, "PLL_L_TIB": 1.0,
    }  # fmt: skip


def test_a_key_that_was_made_anew_is_warned_of(tmp_path: Path) -> None:
    site = Site(tmp_path, {"privacy": {}})
    site.session(OURS, accession="A1")
    done = site.run("readings", "import", site.file(HEADER, "A1,Dr A,402,"))
    assert done.code == 0
    assert done.err.startswith("warning: monitoring.key was missing and a new key was made: no session")
    assert site.run("readings", "import", site.file(HEADER, "A1,Dr A,402,")).err == ""


def test_the_readings_command_needs_a_store(site: Site) -> None:
    done = site.run("readings")
    assert (done.code, done.out) == (1, "")
    assert "there is no store at" in done.err


# --- late matches -----------------------------------------------------------------------------------


def test_a_reading_that_comes_later_is_told_at_the_exams_own_time_and_nothing_else_is_sent(site: Site) -> None:
    site.session(OURS, accession="A1", thresholds_cm={"femur_threshold": 0.1})
    site.session(OURS, accession="A2")
    before = site.query("SELECT lines FROM outbox ORDER BY id")
    told = site.read(HEADER, "A1,Dr A,402,299.5")
    assert told["sessions_compared"] == 1
    assert site.query("SELECT lines FROM outbox ORDER BY id")[: len(before)] == before
    assert [of_number(line) for line in site.lines()] == [
        ("PLL_R_FEM", {"error_millimeters": -2.0, "within_threshold": 0.0}, STARTED_NS + SECOND),
        ("PLL_L_TIB", {"error_millimeters": 0.5, "within_threshold": 1.0}, STARTED_NS + SECOND),
    ]
    added = site.query("SELECT session_id, lines FROM outbox ORDER BY id")[len(before) :]
    assert [session_id for session_id, _ in added] == ["session1"]
    assert all(line.startswith(b"leglength_reading,") for _, lines in added for line in lines.split(b"\n"))


def test_a_session_that_was_not_completed_has_no_error_whichever_came_first(site: Site) -> None:
    site.read(HEADER, "A1,Dr A,402,299.5")
    site.session(OURS, accession="A1", status="failed")
    assert site.read(HEADER, "A1,Dr A,402,299.5")["not_compared"] == 1
    assert site.lines() == []
    assert "leglength_reading_error_millimeters" not in str(site.derived("session1").values)


def test_it_is_told_once_and_again_only_when_the_readers_mean_changes(site: Site) -> None:
    site.session(OURS, accession="A1")
    site.read(HEADER, "A1,Dr A,402,300")
    revision = site.revision()
    site.read(HEADER, "A1,Dr A,402,300")
    assert len(site.lines()) == 2
    assert site.revision() == revision
    site.read(HEADER, "A1,Dr B,404,")
    assert [of_number(line)[:2] for line in site.lines()[2:]] == [
        ("PLL_R_FEM", {"error_millimeters": -3.0, "within_threshold": 1.0})
    ]
    assert site.revision() > revision


def test_the_order_of_session_and_reading_makes_no_difference(tmp_path: Path) -> None:
    before, after = Site(tmp_path / "before", {"influxdb": NOWHERE}), Site(tmp_path / "after", {"influxdb": NOWHERE})
    for site in (before, after):
        site.folder.mkdir()
    row = "A1,Dr A,402.25,299"
    before.read(HEADER, row)
    before.session(OURS, accession="A1")
    after.session(OURS, accession="A1")
    after.read(HEADER, row)
    assert [of_number(line) for line in before.lines()] == [of_number(line) for line in after.lines()] != []
    assert before.derived("session1") == after.derived("session1")
    assert before.gauges("leglength_reading") == after.gauges("leglength_reading") != {}


def test_what_was_derived_of_the_session_says_what_was_told(site: Site) -> None:
    site.session(OURS, accession="A1")
    before = site.derived("session1")
    site.read(HEADER, "A1,Dr A,402,300")
    after = site.derived("session1")
    assert after.facts.reader_mm == {"PLL_R_FEM": 402.0, "PLL_L_TIB": 300.0}
    new = {name: value for name, value in after.values.items() if name not in before.values}
    assert new["leglength_reading_error_millimeters{measurement=PLL_R_FEM}"] == -2.0
    assert all(name.startswith("leglength_reading_") for name in new)
    assert {name: after.values[name] for name in before.values} == before.values


@pytest.mark.parametrize("has_backend", [False, True])
def test_a_session_that_nobody_has_routed_yet_gets_its_readings_lines_with_all_others(
    tmp_path: Path, has_backend: bool
) -> None:
    site = Site(tmp_path)
    site.session(OURS, accession="A1")
    site.settings = {"influxdb": NOWHERE} if has_backend else {}
    site.read(HEADER, "A1,Dr A,402,")
    assert site.query("SELECT * FROM outbox") == []
    site.settings = {"influxdb": NOWHERE}
    site.run("drain", "--timeout", "0")
    assert [of_number(line)[1]["error_millimeters"] for line in site.lines()] == [-2.0]


def test_an_import_without_the_backend_does_not_use_up_what_it_is_to_be_told(site: Site) -> None:
    site.session(OURS, accession="A1")
    site.settings = {}
    site.read(HEADER, "A1,Dr A,402,")
    assert site.lines() == []
    site.settings = {"influxdb": NOWHERE}
    assert site.read(HEADER, "A1,Dr A,402,")["known"] == 1
    assert [of_number(line)[1]["error_millimeters"] for line in site.lines()] == [-2.0]


def test_a_session_without_derived_values_is_told_when_its_reading_is_new(site: Site) -> None:
    site.session(OURS, accession="A1")
    database = site.database()
    with database.transaction() as connection:
        connection.execute("UPDATE sessions SET derived = NULL")
    database.close()
    for _ in range(2):
        site.read(HEADER, "A1,Dr A,402,")
        assert len(site.lines()) == 1


def test_the_latest_comparison_is_pushed_and_an_older_exams_does_not_overwrite_it(site: Site) -> None:
    site.session(OURS, accession="A1")
    site.session(OURS, accession="A2")
    site.read(HEADER, "A2,Dr A,401,")
    site.read(HEADER, "A1,Dr A,410,")
    assert site.gauges("leglength_reading_error") == {("leglength_reading_error_millimeters", "PLL_R_FEM"): -1.0}


def test_a_session_is_matched_by_its_series_its_study_or_its_accession_number(site: Site) -> None:
    for number in range(1, 5):
        site.session(OURS, series=f"1.2.{number}.1", study=f"1.2.{number}", accession=f"A{number}")
    counts = site.read(
        "series_uid,study_uid,accession,PLL_R_FEM_mm", "1.2.1.1,,,401", ",1.2.2,,402", ",,A3,403", "A4,A4,1.2.4,404"
    )
    assert (counts["sessions_compared"], counts["without_session"]) == (3, 1)
    assert sorted(of_number(line)[1]["error_millimeters"] for line in site.lines()) == [-3.0, -2.0, -1.0]


def test_padding_that_dicom_adds_makes_no_difference(site: Site) -> None:
    site.session(OURS, accession="A1 ")
    assert site.read("accession,PLL_R_FEM_mm", " A1  ,401")["sessions_compared"] == 1


def test_a_damaged_session_or_reading_is_left_out(site: Site) -> None:
    for number in (1, 2, 3):
        site.session(OURS, accession=f"A{number}")
    site.read(HEADER, "A1,Dr A,402,", "A2,Dr A,402,", "A3,Dr A,402,")
    database = site.database()
    with database.transaction() as connection:
        connection.execute("UPDATE sessions SET record = replace(record, '400.0', '900.0') WHERE sequence = 1")
        connection.execute(
            "UPDATE readings SET measurements = '{\"PLL_R_FEM\":777.0}' WHERE key = ?",
            (site.pseudonyms.accession("A2"),),
        )
    database.close()
    assert site.pairs() == {"PLL_R_FEM": 1}
    assert site.read(HEADER, "A2,Dr A,402,")["new"] == 1
    assert site.pairs() == {"PLL_R_FEM": 2}


def test_readings_leave_with_their_sessions_and_waiting_ones_by_their_age(site: Site) -> None:
    site.read(HEADER, "A1,Dr A,402,", "A9,Dr A,402,")
    site.session(OURS, accession="A1")
    site.settings = {"influxdb": NOWHERE, "store": {"path": str(site.store_path), "retention_days": 1.0}}
    database = site.database()
    from monitoring.store import limits

    kept = limits.Limits(10**12, 86_400 * SECOND, 0)
    with database.transaction() as connection:
        connection.execute("UPDATE sessions SET kept_ns = kept_ns - ?", (400 * 86_400 * SECOND,))
    assert limits.enforce(database, kept, 5)  # the session is years old, the readings are not
    with database.read_transaction() as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM readings").fetchone() == (2,)
    database.close()
    site.session(OURS, accession="A2")
    database = site.database()
    with database.transaction() as connection:
        connection.execute("UPDATE readings SET kept_ns = kept_ns - ?", (400 * 86_400 * SECOND,))
        connection.execute("UPDATE sessions SET kept_ns = kept_ns - ?", (400 * 86_400 * SECOND,))
    assert limits.enforce(database, kept, 5)
    with database.read_transaction() as connection:
        assert connection.execute("SELECT count(*) FROM readings").fetchone() == (0,)
    database.close()


# --- structured reports -----------------------------------------------------------------------------


def test_a_readers_structured_report_is_compared_with_the_series_that_it_measured(site: Site) -> None:
    site.session(OURS, series="1.2.826.0.1.7.1", study="1.2.826.0.1.7", accession="A1")
    path = made.saved(made.report([made.group(40.2, made.CM, tracking="PLL_R_FEM")]), site.folder / "sr.dcm")
    done = site.run("readings", "import", path, "--json")
    assert (done.code, done.json["sessions_compared"]) == (0, 1)
    assert [of_number(line)[1]["error_millimeters"] for line in site.lines()] == [-2.0]


def test_of_a_folder_the_readers_reports_are_taken_and_the_others_are_counted(site: Site) -> None:
    folder = site.folder / "reports"
    (folder / "more").mkdir(parents=True)
    length = [made.group(402.0, tracking="PLL_R_FEM"), made.group(5.0, tracking="lesion")]
    made.saved(made.report(length), folder / "more" / "1.2.3.dcm")
    made.saved(made.report(length, by_device=made.device()), folder / "1.2.4")
    made.saved(made.report([made.group(5.0)]), folder / "1.2.5")
    shutil.copy(site.file("words", name="text.txt"), folder / "text.txt")
    done = site.run("readings", "import", folder, "--json")
    assert done.json["readings"] == 1
    assert done.json["reports_passed_over"] == 2
    assert done.json["measurements_left_out"] == 2
    assert "reports left out: 1 (made by a device" in site.run("readings", "import", folder).out


def test_a_devices_report_that_is_named_is_wrong_input(site: Site) -> None:
    report = made.report([made.group(402.0, tracking="PLL_R_FEM")], by_device=made.device())
    done = site.run("readings", "import", made.saved(report, site.folder / "own.dcm"))
    assert done.code == 2
    assert "own.dcm: made by a device, such as this application: no reader's" in done.err


def test_a_wrong_report_in_a_folder_is_named_by_number(site: Site) -> None:
    folder = site.folder / "reports"
    folder.mkdir()
    made.saved(made.report([made.group(4.0, tracking="PLL_R_FEM")]), folder / "1.2.840.77.dcm")
    done = site.run("readings", "import", folder)
    assert done.code == 2
    assert f"{folder}, DICOM file 1 of 1 by name, PLL_R_FEM_mm: below 30 mm" in done.err
    assert "1.2.840.77" not in done.err


# --- the backends -----------------------------------------------------------------------------------


def test_both_backends_are_told_by_drain(tmp_path: Path, influxdb1: InfluxDB1, pushgateway: Pushgateway) -> None:
    site = Site(tmp_path, {"influxdb": influxdb1.write_settings(), "prometheus": {"gateway_url": pushgateway.url}})
    for number in range(30):
        site.session(OURS, accession=f"A{number}")
    assert site.run("drain").code == 0
    assert influxdb1.read_points("leglength_reading") == []
    site.read(HEADER, *(f"A{number},Dr A,{401 + number % 2},300" for number in range(30)))
    assert site.run("drain").code == 0
    points = influxdb1.read_points("leglength_reading")
    assert len(points) == 60
    femurs = [point for point in points if point.tags["measurement"] == "PLL_R_FEM"]
    assert [point.fields["error_millimeters"] for point in femurs] == [-1.0, -2.0] * 15
    assert [point.time_ns for point in femurs] == [STARTED_NS + number * SECOND for number in range(1, 31)]
    assert pushgateway.value("leglength_validation_bias_millimeters", measurement="PLL_R_FEM") == -1.5
    assert pushgateway.value("leglength_validation_pairs", measurement="PLL_R_FEM") == 30.0
    site.read(HEADER, *(f"A{number},Dr A,{401 + number % 2},300" for number in range(30)))
    site.read(HEADER, "A0,Dr A,403,300")
    assert site.run("drain").code == 0
    assert len(influxdb1.read_points("leglength_reading")) == 60
    assert pushgateway.value("leglength_validation_bias_millimeters", measurement="PLL_R_FEM") == pytest.approx(
        -47 / 30
    )


def test_sessions_that_are_imported_later_count_at_once(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    other.folder.mkdir()
    records: list[Any] = [other.session(OURS, accession=f"A{number}").to_dict() for number in range(30)]
    site.read(HEADER, *(f"A{number},Dr A,402,300" for number in range(30)))
    result = site.file(json.dumps({"monitoring": {"sessions": records}}), name="result.json")
    assert site.run("import", result).code == 0
    assert site.gauges("leglength_validation_bias")["leglength_validation_bias_millimeters", "PLL_R_FEM"] == -2.0
    assert KEY not in site.store_path.read_bytes().decode("latin-1")
