"""Rows of readers' measurements: what is understood, and what is refused without quoting it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.readings.parsing import Parsed, Reading, column, join, keyed, parse_csv, parse_document

CANARY = "Zzyzxson-99182736"


def csv(*lines: str, newline: str = "\n") -> Parsed:
    return parse_csv(newline.join(lines).encode(), "r.csv")


def lengths(parsed: Parsed) -> list[dict[str, float]]:
    assert parsed.problems == ()
    return [dict(reading.measurements_mm) for reading in parsed.readings]


def exams(parsed: Parsed) -> list[tuple[str, str] | None]:
    return [reading.exam for reading in parsed.readings]


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["accession_number", "AccessionNumber", "Accession Number", " ACCESSION-NUMBER ", "accession"]
)
def test_an_accession_numbers_column_goes_by_many_names(name: str) -> None:
    assert exams(csv(f"{name},PLL_R_FEM_mm", "A1,400")) == [("accession", "A1")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("StudyInstanceUID", "study"), ("Study Instance UID", "study"), ("study_uid", "study"),
        ("series_instance_uid", "series"), ("SeriesUID", "series"),
    ],
)  # fmt: skip
def test_so_do_a_studys_and_a_series(name: str, kind: str) -> None:
    assert exams(csv(f"{name},PLL_R_FEM_mm", "1.2.3,400")) == [(kind, "1.2.3")]


@pytest.mark.parametrize(
    ("name", "millimeters"),
    [
        ("PLL_R_FEM", 371.25), ("PLL_R_FEM_mm", 371.25), ("PLL_R_FEM (mm)", 371.25), ("pll r fem [mm]", 371.25),
        ("PLL_R_FEM_millimeters", 371.25), ("PLL_R_FEM_cm", 3712.5), ("PLL_R_FEM (cm)", 3712.5),
        ("PLL-R-FEM_centimetres", 3712.5),
    ],
)  # fmt: skip
def test_the_unit_is_stated_in_the_columns_name_and_is_mm_otherwise(name: str, millimeters: float) -> None:
    value = 371.25 if millimeters < 1000 else 37.125
    (found,) = lengths(csv(f"accession,{name}", f"A1,{value}"))
    assert found == {"PLL_R_FEM": 371.25}


@pytest.mark.parametrize("name", ["PLL_R_FEM_inch", "PLL_X_FEM", "PLL_R_HIP", "R_FEM", "patient", "", "PLL_R_FEM_mm_2"])
def test_other_names_are_no_measurements(name: str) -> None:
    assert column(name) is None


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_has_its_column(name: str) -> None:
    found = column(f"{name}_cm")
    assert found is not None
    assert (found.holds, found.unit_mm, found.is_measurement) == (name, 10.0, True)


# --- CSV ------------------------------------------------------------------------------------------


def test_a_table_of_commas_and_one_of_semicolons_with_decimal_commas_say_the_same() -> None:
    one = csv("accession_number,reader,PLL_R_FEM_mm,PLL_L_TIB_cm", "A1,Dr A,371.25,30.5", "A2,Dr A,400,31.0")
    other = csv("accession_number;reader;PLL_R_FEM_mm;PLL_L_TIB_cm", "A1;Dr A;371,25;30,5", "A2;Dr A;400;31.0")
    assert lengths(one) == lengths(other) == [
        {"PLL_R_FEM": 371.25, "PLL_L_TIB": 305.0}, {"PLL_R_FEM": 400.0, "PLL_L_TIB": 310.0},
    ]  # fmt: skip


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b"sep=;\r\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_marks_of_spreadsheets_and_line_ends_make_no_difference(prefix: bytes, newline: str) -> None:
    text = newline.join(["PLL_R_FEM_mm;accession", "371,5;A1", ""])
    assert lengths(parse_csv(prefix + text.encode(), "r.csv")) == [{"PLL_R_FEM": 371.5}]


@pytest.mark.parametrize("separator", ['"', "\r", "", "x", "\u00e9", ";;"])
def test_a_stated_separator_that_can_be_none_is_a_problem_of_the_first_line(separator: str) -> None:
    """Newer versions of Python raise where they are told of such a separator."""
    found = parse_csv(f"sep={separator}\nPLL_R_FEM_mm;accession\n371,5;A1\n".encode(), "r.csv")
    assert found.readings == ()
    assert found.problems[0].startswith("r.csv, line 1: no column names the exam")


def test_quotes_tabs_blank_lines_and_empty_cells_are_understood() -> None:
    quoted = csv(
        '"accession","reader","PLL_R_FEM_mm","PLL_R_TIB_mm"', "", '"A,1","Dr ""A""","400.5",""', " , , ,", "A2"
    )
    assert exams(quoted) == [("accession", "A,1")]
    assert lengths(quoted) == [{"PLL_R_FEM": 400.5}]
    assert lengths(csv("accession\tPLL_R_FEM_mm", "A1\t400,5")) == [{"PLL_R_FEM": 400.5}]


def test_a_row_without_any_length_is_no_reading() -> None:
    assert csv("accession,PLL_R_FEM_mm", "A1,", "A2,400").readings[0].exam == ("accession", "A2")


def test_a_short_uid_is_no_rounded_number() -> None:
    assert exams(csv("study_uid,PLL_R_FEM_mm", "1.0,400")) == [("study", "1.0")]
    assert csv("study_uid,PLL_R_FEM_mm", "1.2E+45,400").problems


def test_thousands_of_rows_are_read() -> None:
    rows = [f"A{number},{300 + number / 100}" for number in range(5000)]
    assert len(lengths(csv("accession,PLL_R_FEM_mm", *rows))) == 5000


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["accession,PLL_R_FEM_mm", "A1,four"], "r.csv, line 2, PLL_R_FEM_mm: not a number"),
        (["accession,PLL_R_FEM_mm", "", "A1,1_0"], "r.csv, line 3, PLL_R_FEM_mm: not a number"),
        (["accession,PLL_R_FEM_mm", 'A1,"371,2"'], "r.csv, line 2, PLL_R_FEM_mm: not a number"),
        (["accession,PLL_R_FEM_mm", "A1,nan"], "r.csv, line 2, PLL_R_FEM_mm: not a number"),
        (["accession,PLL_R_FEM_mm", "A1,1e999"], "r.csv, line 2, PLL_R_FEM_mm: not a number"),
        (["accession,PLL_R_FEM_mm", "A1,29.9"], "r.csv, line 2, PLL_R_FEM_mm: below 30 mm, is this cm?"),
        (["accession,PLL_R_FEM_cm", "A1,371"], "r.csv, line 2, PLL_R_FEM_cm: over 1500 mm, is the unit right?"),
        (["accession,PLL_R_FEM_mm", "A1,-400"], "r.csv, line 2, PLL_R_FEM_mm: below 30 mm, is this cm?"),
        (
            ["accession,PLL_R_FEM,PLL_R_TIB", "A1,41.2,33.0"],
            "r.csv, line 2, PLL_R_FEM: too short for mm, is this cm? State the unit, as in PLL_R_FEM_cm",
        ),
        (["accession,unit,PLL_R_FEM", "A1,inch,16"], "r.csv, line 2, unit: expected mm or cm"),
        ([",accession,PLL_R_FEM_mm", ",,400"], "r.csv, line 2: names no exam: "),
        (["accession,PLL_R_FEM_mm", "A1,400,7"], "r.csv, line 2: more cells than the header has columns"),
        (["accession,PLL_R_FEM_mm", "1.23E+11,400"], "r.csv, line 2, accession: a spreadsheet has turned it into"),
        (["accession;PLL_R_FEM_mm", "1,23E+11;400"], "r.csv, line 2, accession: a spreadsheet has turned it into"),
        (["accession,PLL_R_FEM_mm", "20231.0,400"], "r.csv, line 2, accession: a spreadsheet has turned it into"),
        (["accession,PLL_R_FEM_mm", '"A1,400'], "r.csv: not a table of text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_row_and_column(lines: list[str], problem: str) -> None:
    parsed = csv(*lines)
    assert parsed.readings == ()
    assert len(parsed.problems) == 1
    assert parsed.problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "r.csv: empty"),
        (["PLL_R_FEM_mm", "400"], "r.csv, line 1: no column names the exam: "),
        (["accession,femur", "A1,400"], "r.csv, line 1: no column holds a measurement, such as PLL_R_FEM_mm"),
        (["accession,PLL_R_FEM_mm,PLL_R_FEM_cm", "A1,400,40"], "r.csv, line 1: two columns for PLL_R_FEM"),
        (["accession,AccessionNumber,PLL_R_FEM_mm", "A1,A1,400"], "r.csv, line 1: two columns for accession"),
    ],
)  # fmt: skip
def test_a_header_that_cant_be_used_is_told(lines: list[str], problem: str) -> None:
    parsed = csv(*lines)
    assert parsed.readings == ()
    assert parsed.problems[0].startswith(problem)


def test_a_file_without_a_header_gives_nothing_of_its_first_patient_away() -> None:
    parsed = csv(f"{CANARY},Dr Vandermolenq,371.2", f"{CANARY}2,Dr B,400")
    assert parsed.problems
    assert "Zzyzx" not in repr(parsed)
    assert "Vander" not in repr(parsed)


def test_text_that_is_not_utf8_is_told() -> None:
    assert parse_csv("accession;Länge".encode("latin-1"), "r.csv").problems == (
        "r.csv: not UTF-8 text; save it as CSV UTF-8",
    )


def test_a_stated_unit_is_believed_even_for_a_very_short_bone() -> None:
    assert lengths(csv("accession,PLL_R_FEM_mm", "A1,41.2")) == [{"PLL_R_FEM": 41.2}]
    assert lengths(csv("accession,unit,PLL_R_FEM", "A1,mm,41.2")) == [{"PLL_R_FEM": 41.2}]
    assert lengths(csv("accession,PLL_R_FEM,PLL_L_FEM", "A1,55,300")) == [{"PLL_R_FEM": 55.0, "PLL_L_FEM": 300.0}]


def test_a_unit_column_counts_for_its_row_where_the_columns_name_states_none() -> None:
    parsed = csv("accession,units,PLL_R_FEM,PLL_R_TIB_mm", "A1,cm,41.2,300", "A2,mm,412,300", "A3,,412,300")
    assert lengths(parsed) == [{"PLL_R_FEM": 412.0, "PLL_R_TIB": 300.0}] * 3


def test_columns_that_are_not_used_are_named_unless_they_look_like_a_value() -> None:
    parsed = csv(f"accession,PLL_R_FEM_mm,Patient Name,{CANARY},,remarks", "A1,400,x,y,,z")
    assert lengths(parsed) == [{"PLL_R_FEM": 400.0}]
    assert parsed.warnings == ("not used: Patient Name, remarks, 1 more",)


# --- exams and readers ------------------------------------------------------------------------------


def test_the_narrowest_identifier_names_the_exam() -> None:
    parsed = csv("accession,study_uid,series_uid,PLL_R_FEM_mm", "A1,1.2,1.2.3,400", "A2,1.3,,400", "A3,,,400")
    assert exams(parsed) == [("series", "1.2.3"), ("study", "1.3"), ("accession", "A3")]


def test_the_same_twice_counts_once_and_two_halves_make_one_reading() -> None:
    parsed = csv(
        "accession,reader,PLL_R_FEM_mm,PLL_R_TIB_mm",
        "A1,Dr A,400,", "A1,dr  a,400,", "A1,Dr A,,300", "A1,Dr B,402,",
    )  # fmt: skip
    assert lengths(parsed) == [{"PLL_R_FEM": 400.0, "PLL_R_TIB": 300.0}, {"PLL_R_FEM": 402.0}]


def test_two_values_for_one_exam_and_reader_are_told_and_none_is_taken() -> None:
    parsed = csv("accession,reader,PLL_R_FEM_mm", "A1,Dr A,400", "A2,Dr A,410", "A1,Dr A,401")
    assert parsed.problems == ("r.csv, line 4: another PLL_R_FEM than in r.csv, line 2, for one exam and reader",)
    assert exams(parsed) == [("accession", "A2")]


def test_two_files_contradict_each_other_as_two_rows_do() -> None:
    one = Reading({"accession": "A1"}, "Dr A", {"PLL_R_FEM": 400.0}, "a.csv, line 2")
    other = Reading({"accession": "A1"}, "Dr A", {"PLL_R_FEM": 401.0}, "b.csv, line 7")
    assert join([one, other]).problems == (
        "b.csv, line 7: another PLL_R_FEM than in a.csv, line 2, for one exam and reader",
    )
    assert len(join([one, one]).readings) == 1


def test_the_same_length_in_two_units_is_the_same_reading() -> None:
    parsed = csv("accession,unit,PLL_R_FEM", "A1,cm,41.51", "A1,mm,415.1")
    assert lengths(parsed) == [{"PLL_R_FEM": 415.1}]


def test_the_keyed_form_holds_no_identity_and_knows_readers_whatever_their_spelling() -> None:
    pseudonyms = Pseudonymizer(b"k" * 32)
    one, other = (
        keyed(Reading({"accession": CANARY}, name, {"PLL_R_FEM": 400.0}), pseudonyms)
        for name in ("Dr. Vandermolenq", " dr.  VANDERMOLENQ")
    )
    assert one == other
    assert one.key == pseudonyms.accession(CANARY)
    assert "Zzyzx" not in repr(one)
    assert "ander" not in repr(one)
    assert keyed(Reading({"accession": CANARY}, "Dr B", {}), pseudonyms).reader != one.reader
    assert len({one.key, pseudonyms.study(CANARY), pseudonyms.series(CANARY), pseudonyms.reader(CANARY)}) == 4


def test_a_reading_shows_neither_its_exam_nor_its_reader() -> None:
    assert "Zzyzx" not in repr(Reading({"accession": CANARY}, CANARY, {"PLL_R_FEM": 400.0}))


# --- JSON -----------------------------------------------------------------------------------------


def test_json_is_a_list_or_an_object_with_one_and_lengths_may_state_their_unit() -> None:
    rows = [
        {"accession_number": "A1", "reader": "Dr A", "PLL_R_FEM": 371.5, "PLL_R_TIB_cm": 30.5, "PLL_L_FEM": None},
        {"StudyInstanceUID": "1.2", "PLL_R_FEM": {"millimeters": 371.5}, "PLL_R_TIB": {"centimeters": 30.5}},
        {"accession_number": 4711, "unit": "cm", "PLL_R_FEM": 37.15, "PLL_R_TIB": 30.5},
    ]
    for document in (rows, {"readings": rows}):
        parsed = parse_document(json.loads(json.dumps(document)), "r.json")
        assert lengths(parsed) == [{"PLL_R_FEM": 371.5, "PLL_R_TIB": 305.0}] * 3
        assert exams(parsed) == [("accession", "A1"), ("study", "1.2"), ("accession", "4711")]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("A1", "r.json: expected a list of objects"),
        ({"readings": {"a": 1}.get("b")}, "r.json.readings: expected a list of objects"),
        ([{"accession": "A1", "PLL_R_FEM": 400}, 7], "r.json[1]: expected an object"),
        ([{"accession": "A1", "PLL_R_FEM": "400"}], "r.json[0].PLL_R_FEM: not a number"),
        ([{"accession": "A1", "PLL_R_FEM": True}], "r.json[0].PLL_R_FEM: not a number"),
        ([{"accession": "A1", "PLL_R_FEM": [400]}], "r.json[0].PLL_R_FEM: not a number"),
        ([{"accession": "A1", "PLL_R_FEM": {"inches": 16}}], "r.json[0].PLL_R_FEM: expected millimeters or centi"),
        ([{"accession": "A1", "PLL_R_FEM": {"centimeters": 371}}], "r.json[0].PLL_R_FEM: over 1500 mm"),
        ([{"accession": 1.23e11, "PLL_R_FEM": 400}], "r.json[0].accession: a number with a fraction can't"),
        ([{"accession": ["A1"], "PLL_R_FEM": 400}], "r.json[0].accession: expected text"),
        ([{"accession": "A1", "reader": 7, "PLL_R_FEM": 400}], "r.json[0].reader: expected text"),
        ([{"PLL_R_FEM": 400}], "r.json[0]: names no exam"),
        ([{"accession": "A1", "PLL_R_FEM": 400, "PLL_R_FEM_mm": 400}], "r.json[0]: PLL_R_FEM and PLL_R_FEM_mm hold"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_told_by_its_path(document: Any, problem: str) -> None:
    parsed = parse_document(document, "r.json")
    assert [found for found in parsed.problems if not found.startswith(problem)] == []
    assert len(parsed.problems) == 1


def test_one_object_alone_may_name_no_exam_where_that_is_understood() -> None:
    parsed = parse_document({"PLL_R_FEM": 371.5}, "s", needs_exam=False)
    assert (exams(parsed), lengths(parsed)) == ([None], [{"PLL_R_FEM": 371.5}])
    assert parse_document([{"PLL_R_FEM": 371.5}], "s", needs_exam=False).problems


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just("1.2E+9"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["accession", "readings", "unit", "reader", "PLL_R_FEM", "PLL_L_TIB_cm", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_no_document_raises_and_every_reading_is_plausible(document: Any, needs_exam: bool) -> None:
    parsed = parse_document(document, "d", needs_exam)
    assert all(30 <= mm <= 1500 for reading in parsed.readings for mm in reading.measurements_mm.values())
    assert all(reading.exam for reading in parsed.readings) or not needs_exam


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"accession,PLL_R_FEM\n{text}".encode()))
def test_no_table_raises(data: bytes) -> None:
    parsed = parse_csv(data, "r.csv")
    assert parsed.readings or parsed.problems or data
