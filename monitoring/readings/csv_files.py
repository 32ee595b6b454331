"""Readings as a table of text: comma, semicolon or tab between columns, UTF-8, a header row. Pure.

Where a semicolon or a tab parts the columns, a decimal comma is understood.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from monitoring.readings.parsing import KINDS, Column, Parsed, Row, column, parse_rows

_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STATED_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # a first line that spreadsheets understand

_Line = tuple[int, Sequence[str]]


def parse_csv(data: bytes, name: str) -> Parsed:
    """Readings of a CSV file's content; ``name`` is the file's, for the problems' places."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Parsed(problems=(f"{name}: not UTF-8 text; save it as CSV UTF-8",))
    try:
        lines = list(_lines(text))
    except csv.Error:
        return Parsed(problems=(f"{name}: not a table of text",))
    if not lines:
        return Parsed(problems=(f"{name}: empty",))
    (number, header), *rest = lines
    problems = [f"{name}, line {number}: {problem}" for problem in _header_problems(header)]
    if problems:
        return Parsed(problems=tuple(problems))
    return _parsed(header, rest, name, has_decimal_commas=_separator(text) != ",")


def _separator(text: str) -> str:
    stated = _STATED_SEPARATOR.match(text)
    if stated:
        return stated[1]
    header = re.sub(r'"[^"]*"', "", next(filter(str.strip, text.split("\n")), ""))
    return max(_SEPARATORS, key=header.count)


def _lines(text: str) -> Iterator[_Line]:
    """Each row that isn't blank, with the number of the line that it ends on."""
    stated = _STATED_SEPARATOR.match(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    for cells in reader:
        if any(cell.strip() for cell in cells) and not (stated and reader.line_num == 1):
            yield reader.line_num, cells


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    """What makes a header useless. Its names are not shown: where it is missing, they are a patient's values."""
    columns = [found for name in header if (found := column(name)) is not None]
    if not any(found.holds in KINDS for found in columns):
        yield "no column names the exam: accession_number, study_instance_uid or series_instance_uid is needed"
    if not any(found.is_measurement for found in columns):
        yield "no column holds a measurement, such as PLL_R_FEM_mm"
    for twice in sorted({found.holds for found in columns if _count(columns, found) > 1}):
        yield f"two columns for {twice}"


def _count(columns: Sequence[Column], of: Column) -> int:
    return sum(other.holds == of.holds for other in columns)


def _parsed(header: Sequence[str], lines: Iterable[_Line], name: str, has_decimal_commas: bool) -> Parsed:
    problems: list[str] = []
    rows: list[Row] = []
    for number, cells in lines:
        place = f"{name}, line {number}"
        if any(cell.strip() for cell in cells[len(header) :]):
            problems.append(f"{place}: more cells than the header has columns")
        else:
            rows.append(Row(place, ", ", _named(header, cells, has_decimal_commas)))
    parsed = parse_rows(rows)
    return Parsed(parsed.readings, (*problems, *parsed.problems), parsed.warnings)


def _named(header: Sequence[str], cells: Sequence[str], has_decimal_commas: bool) -> dict[str, object]:
    named: dict[str, object] = {}
    for name, cell in zip(header, cells, strict=False):
        found = column(name)
        if name.strip():
            is_length = found is not None and found.is_measurement
            named[name] = _number(cell, has_decimal_commas) if is_length else cell
    return named


def _number(cell: str, has_decimal_commas: bool) -> float | str:
    """A cell's number; the cell itself, when it is none."""
    text = cell.strip()
    if has_decimal_commas and "." not in text:
        text = text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else cell
