"""Readers' measurements, as files and settings state them, checked: rows to :class:`Reading`. Pure.

A row names an exam (``accession_number``, ``study_instance_uid`` or ``series_instance_uid``), perhaps a ``reader``, and
lengths under the measurements' names, with the unit in the name (``PLL_R_FEM_mm``, ``PLL_R_FEM (cm)``), in a column
``unit``, or none: mm. Whatever is wrong is told by its place, and neither by an identifier nor by any other value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from monitoring.domain.anatomy import FEMUR, LEG, SIDE_AND_BONE, TIBIA
from monitoring.domain.plausibility import LENGTH_LIMITS_MM
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.records import coerce

SERIES, STUDY, ACCESSION = KINDS = ("series", "study", "accession")
"""What can name an exam, the narrowest first; a reading is kept under the narrowest that it states."""
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
_SHOWN_NAME = re.compile(r"(?!.*\d{4})[A-Za-z][A-Za-z0-9 _.()/%-]{0,39}")
_FROM_MM: Final = {bone: low for bone, (low, _) in LENGTH_LIMITS_MM.items()}
_LIKELY_FROM_MM: Final = {**_FROM_MM, LEG: _FROM_MM[FEMUR] + _FROM_MM[TIBIA]}


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader's measurements of one exam. ``identifiers`` by kind; ``place`` says where they were stated."""

    identifiers: Mapping[str, str] = field(repr=False)
    reader: str = field(repr=False)
    measurements_mm: Mapping[str, float]
    place: str = ""

    @property
    def exam(self) -> tuple[str, str] | None:
        """The narrowest identifier with its kind; None where none is stated."""
        return next(((kind, self.identifiers[kind]) for kind in KINDS if kind in self.identifiers), None)


@dataclass(frozen=True, slots=True)
class KeyedReading:
    """The same without identity: keyed hashes of exam and reader."""

    key: str
    reader: str
    measurements_mm: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was read, what is wrong (a line each; the row is left out), and what is merely noticed."""

    readings: tuple[Reading, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


NOTHING: Final = Parsed()


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds: an identifier's kind, ``reader``, ``unit`` or a measurement; its unit in mm, if stated."""

    holds: str
    unit_mm: float | None = None

    @property
    def is_measurement(self) -> bool:
        """Whether it holds lengths."""
        return self.holds in SIDE_AND_BONE


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by column name. A cell's place is ``place``, ``joint`` and the column's name."""

    place: str
    joint: str
    cells: Mapping[str, Any] = field(repr=False)

    def at(self, name: str) -> str:
        """The place of a cell."""
        return f"{self.place}{self.joint}{name}"


class _Wrong(Exception):  # noqa: N818 - reads as what it is
    """A row that can't be used; the message is its problem."""


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
    unknown: dict[str, None] = {}
    for row in rows:
        unknown.update(dict.fromkeys(name for name in row.cells if column(name) is None))
        try:
            reading = _reading(row, needs_exam)
        except _Wrong as wrong:
            problems.append(str(wrong))
        else:
            readings += [reading] if reading.measurements_mm else []
    joined = join(readings)
    return Parsed(joined.readings, (*problems, *joined.problems), _unknown_columns(list(unknown)))


def join(readings: Iterable[Reading]) -> Parsed:
    """One reading of each exam and reader; two values for one measurement are a problem, and none of them is kept."""
    found: dict[object, Reading] = {}
    problems: list[str] = []
    contradicted = set()
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


def parse_document(document: Any, path: str, needs_exam: bool = True) -> Parsed:
    """Readings of JSON's form: a list of objects, an object with such a list as ``readings``, or one object alone.

    ``path`` is where the document lies, for the problems' places. Without ``needs_exam`` an object that stands alone
    may name no exam.
    """
    if isinstance(document, Mapping) and "readings" in document:
        document, path = document["readings"], f"{path}.readings"
    if isinstance(document, Mapping):
        return parse_rows([_object(document, path)], needs_exam)
    if not isinstance(document, list | tuple):
        return Parsed(problems=(f"{path}: expected a list of objects",))
    places = [f"{path}[{index}]" for index in range(len(document))]
    items = list(zip(document, places, strict=True))
    wrong = [f"{place}: expected an object" for item, place in items if not isinstance(item, Mapping)]
    parsed = parse_rows(_object(item, place) for item, place in items if isinstance(item, Mapping))
    return Parsed(parsed.readings, (*wrong, *parsed.problems), parsed.warnings)


def keyed(reading: Reading, pseudonyms: Pseudonymizer) -> KeyedReading:
    """A reading's form without identity; ``key`` is "" where it names no exam."""
    kind, identifier = reading.exam or ("", "")
    name = {SERIES: pseudonyms.series, STUDY: pseudonyms.study, ACCESSION: pseudonyms.accession}.get(kind)
    return KeyedReading(
        name(identifier) if name else "", pseudonyms.reader(reader_name(reading.reader)), reading.measurements_mm
    )


def _object(item: Mapping[Any, Any], path: str) -> Row:
    return Row(path, ".", {str(name): value for name, value in item.items()})


def _reading(row: Row, needs_exam: bool) -> Reading:
    columns = {name: found for name in row.cells if (found := column(name)) is not None}
    _refuse_twice_the_same(row, columns)
    lengths = list(_lengths(row, columns, _stated_unit(row, columns)))
    identifiers = {
        found.holds: text
        for name, found in columns.items()
        if found.holds in KINDS and (text := _identifier(row, name, found.holds))
    }
    if lengths and needs_exam and not identifiers:
        raise _Wrong(f"{row.place}: names no exam: accession_number, study_instance_uid or series_instance_uid")
    reader = next((_text(row, name) for name, found in columns.items() if found.holds == _READER), "")
    return Reading(identifiers, reader, dict(lengths), row.place)


def _refuse_twice_the_same(row: Row, columns: Mapping[str, Column]) -> None:
    seen: dict[str, str] = {}
    for name, found in columns.items():
        if found.holds in seen:
            raise _Wrong(f"{row.place}: {seen[found.holds]} and {name} hold the same")
        seen[found.holds] = name


def _stated_unit(row: Row, columns: Mapping[str, Column]) -> float | None:
    name = next((name for name, found in columns.items() if found.holds == _UNIT), None)
    text = _text(row, name).lower() if name is not None else ""
    if text and text not in _UNITS_MM:
        raise _Wrong(f"{row.at(name or _UNIT)}: expected mm or cm")
    return _UNITS_MM.get(text)


def _lengths(row: Row, columns: Mapping[str, Column], row_unit_mm: float | None) -> Iterator[tuple[str, float]]:
    """The row's measurements in mm; raises :class:`_Wrong`, also when they look like another unit."""
    found: list[tuple[str, str, float]] = []
    is_unit_stated = False
    for name, of in columns.items():
        if of.is_measurement and not _is_missing(row.cells[name]):
            length, unit_mm = _length(row, name)
            unit_mm = unit_mm or of.unit_mm or row_unit_mm
            is_unit_stated = is_unit_stated or unit_mm is not None
            found.append((name, of.holds, _plausible(row, name, length * (unit_mm or 1.0))))
    if found and not is_unit_stated and all(mm < _LIKELY_FROM_MM[_bone(holds)] for _, holds, mm in found):
        raise _Wrong(f"{row.at(found[0][0])}: too short for mm, is this cm? State the unit, as in {found[0][1]}_cm")
    yield from ((holds, mm) for _, holds, mm in found)


def _bone(measurement: str) -> str:
    return measurement.rpartition("_")[2]


def _length(row: Row, name: str) -> tuple[float, float | None]:
    value, unit_mm = row.cells[name], None
    if isinstance(value, Mapping):
        units = [unit for unit in ("millimeters", "centimeters") if not _is_missing(value.get(unit))]
        if not units:
            raise _Wrong(f"{row.at(name)}: expected millimeters or centimeters in it")
        value, unit_mm = value[units[0]], _UNITS_MM[units[0]]
    number = coerce.finite_float(value)
    if number is None:
        raise _Wrong(f"{row.at(name)}: not a number")
    return number, unit_mm


def _plausible(row: Row, name: str, millimeters: float) -> float:
    if millimeters < SHORTEST_MM:
        raise _Wrong(f"{row.at(name)}: below {SHORTEST_MM:g} mm, is this cm?")
    if millimeters > LONGEST_MM:
        raise _Wrong(f"{row.at(name)}: over {LONGEST_MM:g} mm, is the unit right?")
    return round(millimeters, _DECIMALS)


def _identifier(row: Row, name: str, kind: str) -> str:
    value = row.cells[name]
    if isinstance(value, float):
        raise _Wrong(f"{row.at(name)}: a number with a fraction can't name an exam; write it as text")
    text = str(value).strip() if isinstance(value, int) and not isinstance(value, bool) else _text(row, name)
    if _ROUNDED.fullmatch(text) or (kind == ACCESSION and _WITH_A_FRACTION.fullmatch(text)):
        raise _Wrong(
            f"{row.at(name)}: a spreadsheet has turned it into a rounded number, which matches no exam;"
            " format the column as text"
        )
    return text


def _text(row: Row, name: str) -> str:
    value = row.cells[name]
    if _is_missing(value):
        return ""
    if not isinstance(value, str):
        raise _Wrong(f"{row.at(name)}: expected text")
    return value.strip()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _unknown_columns(names: Sequence[str]) -> tuple[str, ...]:
    """A warning; a name that may be a value in the wrong place is counted instead of shown."""
    shown = [name.strip() for name in names if _SHOWN_NAME.fullmatch(name.strip())]
    hidden = len(names) - len(shown)
    words = [*shown, *([f"{hidden} more"] if hidden else [])]
    return (f"not used: {', '.join(words)}",) if words else ()
