"""Readers' measurements, as tables, documents and settings state them, checked: rows to :class:`Reading`. Pure.

A row names an exam (``accession_number``, ``study_instance_uid`` or ``series_instance_uid``), perhaps a ``reader``, and
lengths under the measurements' names, with the unit in the name (``PLL_R_FEM_mm``, ``PLL_R_FEM (cm)``), in a column
``unit``, or none: mm. Whatever is wrong is told by its place, and neither by an identifier nor by any other value.
Which session a reading belongs to is found in :mod:`monitoring.store.readings`.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from monitoring.domain.anatomy import FEMUR, LEG, SIDE_AND_BONE, TIBIA
from monitoring.domain.plausibility import LENGTH_LIMITS_MM
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.records import coerce

SERIES, STUDY, ACCESSION = KINDS = ("series", "study", "accession")
"""What can name an exam, the narrowest first; a reading is kept under the narrowest that it states."""
# Wider than what plausibility calls impossible: here only another unit is refused, since a reader is not contradicted.
SHORTEST_MM: Final = 30.0
LONGEST_MM: Final = 1500.0
_DECIMALS: Final = 6  # so that 37.13 cm is 371.3 mm, and the same reading in another unit no other one

_READER, _UNIT = "reader", "unit"
_NAMES: Final = {
    "seriesinstanceuid": SERIES, "seriesuid": SERIES,
    "studyinstanceuid": STUDY, "studyuid": STUDY,
    "accessionnumber": ACCESSION, "accessionno": ACCESSION, "accession": ACCESSION,
    "reader": _READER, "readername": _READER, "readerid": _READER,
    "unit": _UNIT, "units": _UNIT,
}  # fmt: skip
_UNITS_MM: Final = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0, "centimetres": 10.0,
}  # fmt: skip
_MEASUREMENT = re.compile(r"pll[ _-]?([rl])[ _-]?(fem|tib|lgl)[ _-]*[(\[]?\s*([a-z]*)\s*[)\]]?")
# What a spreadsheet makes of a long number, and a data frame of a column of numbers with a gap.
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d+", re.IGNORECASE)
_WITH_A_FRACTION = re.compile(r"\d+[.,]0")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_SEPARATORS = ",;\t"
_STATED_SEPARATOR = re.compile(r"sep=([^\w\s\"]|[ \t])\r?\n", re.IGNORECASE)  # a first line that spreadsheets know
_SHOWN_NAME = re.compile(r"(?!.*\d{4})[A-Za-z][A-Za-z0-9 _.()/%-]{0,39}")
_FROM_MM: Final = {bone: low for bone, (low, _) in LENGTH_LIMITS_MM.items()}
# What no stated unit makes likely: a leg of 80 "mm" is 80 cm.
_LIKELY_FROM_MM: Final = {**_FROM_MM, LEG: _FROM_MM[FEMUR] + _FROM_MM[TIBIA]}


class Reading(Struct, frozen=True):
    """One reader's measurements of one exam. ``identifiers`` by kind; ``place`` says where they were stated."""

    identifiers: Mapping[str, str]
    reader: str
    measurements_mm: Mapping[str, float]
    place: str = ""

    def __repr__(self) -> str:  # of the exam and the reader, nothing
        return f"Reading({dict(self.measurements_mm)!r}, {self.place!r})"

    @property
    def exam(self) -> tuple[str, str] | None:
        """The narrowest identifier with its kind; None where none is stated."""
        return next(((kind, self.identifiers[kind]) for kind in KINDS if kind in self.identifiers), None)


class KeyedReading(Struct, frozen=True):
    """The same without identity: keyed hashes of exam and reader."""

    key: str
    reader: str
    measurements_mm: Mapping[str, float]


class Parsed(Struct, frozen=True):
    """What was read, what is wrong (a line each; the row is left out), and what is merely noticed."""

    readings: tuple[Reading, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Column(Struct, frozen=True):
    """What a column holds: an identifier's kind, ``reader``, ``unit`` or a measurement; its unit in mm, if stated."""

    holds: str
    unit_mm: float | None = None

    @property
    def is_measurement(self) -> bool:
        """Whether it holds lengths."""
        return self.holds in SIDE_AND_BONE


class _InvalidRowError(Exception):
    """A row that can't be used; the message is its problem."""


class Row(Struct, frozen=True):
    """One row: its cells by column name. A cell's place is ``place``, ``joint`` and the column's name.

    What reads a cell raises when it holds something else, with the place and without the value.
    """

    place: str
    joint: str
    cells: Mapping[str, Any]

    def __repr__(self) -> str:  # cells hold identities
        return f"Row({self.place!r}, {self.joint!r})"

    def at(self, name: str) -> str:
        """The place of a cell."""
        return f"{self.place}{self.joint}{name}"

    def text(self, name: str) -> str:
        """A cell's text, "" for an empty one."""
        value = self.cells[name]
        if _is_missing(value):
            return ""
        if not isinstance(value, str):
            raise _InvalidRowError(f"{self.at(name)}: expected text")
        return value.strip()

    def identifier(self, name: str, kind: str) -> str:
        """A cell's identifier of a ``kind`` (:data:`KINDS`), as text or a whole number."""
        value = self.cells[name]
        if isinstance(value, float):
            raise _InvalidRowError(f"{self.at(name)}: a number with a fraction can't name an exam; write it as text")
        text = str(value).strip() if isinstance(value, int) and not isinstance(value, bool) else self.text(name)
        if _ROUNDED.fullmatch(text) or (kind == ACCESSION and _WITH_A_FRACTION.fullmatch(text)):
            raise _InvalidRowError(
                f"{self.at(name)}: a spreadsheet has turned it into a rounded number, which matches no exam;"
                " format the column as text"
            )
        return text

    def length(self, name: str, unit_mm: float | None) -> tuple[float, bool]:
        """A cell's length in mm, by a unit of its own, else ``unit_mm``, else mm; and whether a unit is stated."""
        value = self.cells[name]
        if isinstance(value, Mapping):
            unit = next((unit for unit in ("millimeters", "centimeters") if not _is_missing(value.get(unit))), None)
            if unit is None:
                raise _InvalidRowError(f"{self.at(name)}: expected millimeters or centimeters in it")
            value, unit_mm = value[unit], _UNITS_MM[unit]
        number = coerce.finite_float(value)
        if number is None:
            raise _InvalidRowError(f"{self.at(name)}: not a number")
        millimeters = number * (unit_mm or 1.0)
        if millimeters < SHORTEST_MM:
            raise _InvalidRowError(f"{self.at(name)}: below {SHORTEST_MM:g} mm, is this cm?")
        if millimeters > LONGEST_MM:
            raise _InvalidRowError(f"{self.at(name)}: over {LONGEST_MM:g} mm, is the unit right?")
        return round(millimeters, _DECIMALS), unit_mm is not None


@lru_cache(maxsize=256)
def column(name: str) -> Column | None:
    """What a column of this name holds; None when it is none of ours."""
    text = name.strip().lower()
    known = _NAMES.get(re.sub(r"[^a-z]", "", text))
    if known is not None:
        return Column(known)
    match = _MEASUREMENT.fullmatch(text)
    if match is None or (match[3] and match[3] not in _UNITS_MM):
        return None
    return Column(f"PLL_{match[1]}_{match[2]}".upper(), _UNITS_MM.get(match[3]))


def parse_rows(rows: Iterable[Row], needs_exam: bool = True) -> Parsed:
    """Check rows; those of one exam and reader become one reading, and must not contradict each other.

    Without ``needs_exam`` a row may name no exam.
    """
    problems: list[str] = []
    readings: list[Reading] = []
    unused: dict[str, None] = {}
    for row in rows:
        unused.update(dict.fromkeys(name.strip() for name in row.cells if column(name) is None))
        try:
            reading = _reading(row, needs_exam)
        except _InvalidRowError as error:
            problems.append(str(error))
        else:
            readings += [reading] if reading.measurements_mm else []
    joined = join(readings)
    # A name that may be a value in the wrong place is counted instead of shown.
    words = [name for name in unused if _SHOWN_NAME.fullmatch(name)]
    if len(words) < len(unused):
        words.append(f"{len(unused) - len(words)} more")
    warnings = (f"not used: {', '.join(words)}",) if words else ()
    return Parsed(joined.readings, (*problems, *joined.problems), warnings)


def _reading(row: Row, needs_exam: bool) -> Reading:
    columns: dict[str, tuple[str, Column]] = {}
    for name in row.cells:
        if (found := column(name)) is not None:
            first, _ = columns.setdefault(found.holds, (name, found))
            if first != name:
                raise _InvalidRowError(f"{row.place}: {first} and {name} hold the same")
    lengths = _lengths(row, columns)
    named = {kind: row.identifier(columns[kind][0], kind) for kind in KINDS if kind in columns}
    identifiers = {kind: text for kind, text in named.items() if text}
    if lengths and needs_exam and not identifiers:
        raise _InvalidRowError(
            f"{row.place}: names no exam: accession_number, study_instance_uid or series_instance_uid"
        )
    reader = row.text(columns[_READER][0]) if _READER in columns else ""
    return Reading(identifiers, reader, lengths, row.place)


def _lengths(row: Row, columns: Mapping[str, tuple[str, Column]]) -> dict[str, float]:
    """The row's measurements in mm; refused when no unit is stated and they look like another one."""
    row_unit = row.text(columns[_UNIT][0]).lower() if _UNIT in columns else ""
    if row_unit and row_unit not in _UNITS_MM:
        raise _InvalidRowError(f"{row.at(columns[_UNIT][0])}: expected mm or cm")
    found: dict[str, float] = {}
    is_unit_stated = False
    for holds, (name, of) in columns.items():
        if of.is_measurement and not _is_missing(row.cells[name]):
            found[holds], is_stated = row.length(name, of.unit_mm or _UNITS_MM.get(row_unit))
            is_unit_stated = is_unit_stated or is_stated
    if found and not is_unit_stated and all(mm < _LIKELY_FROM_MM[SIDE_AND_BONE[name][1]] for name, mm in found.items()):
        first = next(iter(found))
        raise _InvalidRowError(
            f"{row.at(columns[first][0])}: too short for mm, is this cm? State the unit, as in {first}_cm"
        )
    return found


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def join(readings: Iterable[Reading]) -> Parsed:
    """One reading of each exam and reader; two values for one measurement are a problem, and none of them is kept."""
    found: dict[object, Reading] = {}
    problems: list[str] = []
    contradicted = set()
    # Neither value of a contradiction is kept: which of them was meant, only their author knows.
    for number, reading in enumerate(readings):
        key = (reading.exam or number, reader_name(reading.reader))
        known = found.setdefault(key, reading)
        for name, millimeters in reading.measurements_mm.items():
            if known.measurements_mm.get(name, millimeters) != millimeters:
                problems.append(f"{reading.place}: another {name} than in {known.place}, for one exam and reader")
                contradicted.add(key)
        if known is not reading:
            both = {**reading.measurements_mm, **known.measurements_mm}
            found[key] = Reading({**reading.identifiers, **known.identifiers}, known.reader, both, known.place)
    return Parsed(tuple(reading for key, reading in found.items() if key not in contradicted), tuple(problems))


def reader_name(text: str) -> str:
    """A reader's name as it is compared: without regard to case and spaces."""
    return " ".join(text.split()).casefold()


def parse_csv(data: bytes, name: str) -> Parsed:
    """Readings of a table of text: comma, semicolon or tab between columns, UTF-8, a header row.

    ``name`` is the file's, for the problems' places. Where a semicolon or a tab parts the columns, a decimal comma is
    understood.
    """
    import csv  # not above: a run whose settings state readings has no use for it

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Parsed(problems=(f"{name}: not UTF-8 text; save it as CSV UTF-8",))
    stated = _STATED_SEPARATOR.match(text)
    first_line = re.sub(r'"[^"]*"', "", next(filter(str.strip, text.split("\n")), ""))
    separator = stated[1] if stated else max(_SEPARATORS, key=first_line.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        # A line that isn't blank is numbered by where it ends.
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error:
        return Parsed(problems=(f"{name}: not a table of text",))
    lines = lines[1:] if stated else lines
    if not lines:
        return Parsed(problems=(f"{name}: empty",))
    # All of a bad header is told at once, and no row: its cells would be read under the wrong names.
    (number, header), *rest = lines
    if problems := [f"{name}, line {number}: {problem}" for problem in _header_problems(header)]:
        return Parsed(problems=tuple(problems))
    long = [f"{name}, line {number}" for number, cells in rest if any(cell.strip() for cell in cells[len(header) :])]
    rows = (Row(f"{name}, line {number}", ", ", _named(header, cells, separator != ",")) for number, cells in rest)
    parsed = parse_rows(row for row in rows if row.place not in long)
    problems = [f"{place}: more cells than the header has columns" for place in long]
    return Parsed(parsed.readings, (*problems, *parsed.problems), parsed.warnings)


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    """What makes a header useless. Its names are not shown: where it is missing, they are a patient's values."""
    columns = [found for name in header if (found := column(name)) is not None]
    if not any(found.holds in KINDS for found in columns):
        yield "no column names the exam: accession_number, study_instance_uid or series_instance_uid is needed"
    if not any(found.is_measurement for found in columns):
        yield "no column holds a measurement, such as PLL_R_FEM_mm"
    for twice, times in sorted(Counter(found.holds for found in columns).items()):
        if times > 1:
            yield f"two columns for {twice}"


def _named(header: Sequence[str], cells: Sequence[str], has_decimal_commas: bool) -> dict[str, object]:
    """Cells by their column's name, lengths as numbers where they are some."""
    named: dict[str, object] = {}
    for name, cell in zip(header, cells, strict=False):
        found, text = column(name), cell.strip()
        if has_decimal_commas and "." not in text:
            text = text.replace(",", ".")
        is_length = found is not None and found.is_measurement and _NUMBER.fullmatch(text)
        if name.strip():
            named[name] = float(text) if is_length else cell
    return named


def parse_document(document: Any, path: str, needs_exam: bool = True) -> Parsed:
    """Readings of JSON's form: a list of objects, an object with such a list as ``readings``, or one object alone.

    ``path`` is where the document lies, for the problems' places. Without ``needs_exam`` an object that stands alone
    may name no exam.
    """
    if isinstance(document, Mapping) and "readings" in document:
        document, path = document["readings"], f"{path}.readings"
    if isinstance(document, Mapping):
        return parse_rows([Row(path, ".", {str(name): value for name, value in document.items()})], needs_exam)
    if not isinstance(document, list | tuple):
        return Parsed(problems=(f"{path}: expected a list of objects",))
    rows: list[Row] = []
    problems: list[str] = []
    for index, item in enumerate(document):
        if isinstance(item, Mapping):
            rows.append(Row(f"{path}[{index}]", ".", {str(name): value for name, value in item.items()}))
        else:
            problems.append(f"{path}[{index}]: expected an object")
    parsed = parse_rows(rows)
    return Parsed(parsed.readings, (*problems, *parsed.problems), parsed.warnings)


def keyed(reading: Reading, pseudonyms: Pseudonymizer) -> KeyedReading:
    """A reading's form without identity; ``key`` is "" where it names no exam."""
    kind, identifier = reading.exam or ("", "")
    name = {SERIES: pseudonyms.series, STUDY: pseudonyms.study, ACCESSION: pseudonyms.accession}.get(kind)
    return KeyedReading(
        name(identifier) if name else "", pseudonyms.reader(reader_name(reading.reader)), reading.measurements_mm
    )
