"""Finds the readings in files and folders: CSV, JSON, and DICOM structured reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitoring.cli.settings import read_json
from monitoring.exceptions import ConfigurationError
from monitoring.readings.csv_files import parse_csv
from monitoring.readings.parsing import Parsed, Reading, join, parse_document
from monitoring.readings.structured_reports import Report, read_report

_TABLES = {".csv", ".tsv", ".txt"}
_MOST_SHOWN = 20


@dataclass(slots=True)
class Found:
    """What files hold. ``passed_over`` counts a folder's reports by why they hold no reading; ``left_out`` counts
    measurements in reports that are no reader's length of a femur, a tibia or a leg.
    """

    readings: list[Reading] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def read_files(paths: Sequence[Path]) -> Found:
    """Read all, or nothing: raises :class:`ConfigurationError` with a line for each thing that is wrong."""
    found = Found()
    for path in paths:
        try:
            _read(path, found)
        except OSError as error:
            found.problems.append(f"{path}: {error.strerror}")
    joined = join(found.readings)
    problems = [*found.problems, *joined.problems]
    if not problems and not joined.readings:
        problems = ["no reading was found"]
    if problems:
        more = [f"and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
        raise ConfigurationError("\n".join([*problems[:_MOST_SHOWN], *more, "Nothing was imported."]))
    found.readings = list(joined.readings)
    return found


def _read(path: Path, found: Found) -> None:
    if path.is_dir():
        _read_folder(path, found)
    elif path.suffix.lower() in _TABLES:
        _add(parse_csv(path.read_bytes(), str(path)), str(path), found)
    elif path.suffix.lower() == ".json":
        _add(parse_document(read_json(path), str(path)), str(path), found)
    elif _is_dicom(path):
        report = read_report(path, str(path))
        _add_report(report, str(path), found)
        found.problems += [f"{path}: {report.refusal}"] if report.refusal else []
    else:
        found.problems.append(f"{path}: neither CSV, JSON nor DICOM, by its name and its beginning")


def _read_folder(folder: Path, found: Found) -> None:
    """A folder's reports. They are told apart by number: their names are often identities."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_dicom(path))
    for number, path in enumerate(files, start=1):
        report = read_report(path, f"{folder}, DICOM file {number} of {len(files)} by name")
        _add_report(report, str(folder), found)
        if report.refusal and report.is_report:
            found.passed_over[report.refusal] += 1


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _add(parsed: Parsed, name: str, found: Found) -> None:
    found.readings += parsed.readings
    found.problems += parsed.problems
    found.warnings += [f"{name}: {warning}" for warning in parsed.warnings]


def _add_report(report: Report, name: str, found: Found) -> None:
    _add(report.parsed, name, found)
    found.left_out += report.left_out
