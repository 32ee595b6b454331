"""``leglength-monitor readings``: imports readers' measurements, and says how well the application agrees with them.

The files and folders that a user names are opened here; what a table, a document or a report holds is read by
:mod:`monitoring.readings`, which opens nothing of its own accord.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct, field

from monitoring.cli import output
from monitoring.cli.common import (
    DONE,
    ConfigOption,
    JsonOption,
    existing_store,
    exit_on_error,
    has_key,
    load_config,
    read_json,
    store_to_import_into,
)
from monitoring.exceptions import ConfigurationError
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, find_key
from monitoring.readings.importing import import_readings
from monitoring.readings.parsing import Parsed, Reading, join, keyed, parse_csv, parse_document
from monitoring.readings.structured_reports import Report, read_report
from monitoring.readings.validation import validate
from monitoring.store import readings as stored
from monitoring.store.location import store_path
from monitoring.transport.small_files import MOST_DOCUMENT_BYTES, open_file, read_file

app = typer.Typer(help="Compare the measurements with readers' own.", rich_markup_mode=None)

_TABLES = {".csv", ".tsv", ".txt"}
# Of a table with a wrong column each row is wrong: the first ones tell it.
_MOST_SHOWN = 20


@app.callback(invoke_without_command=True)
def readings(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how well the measurements agree with readers': error, limits of agreement, ICC, and a verdict."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    with exit_on_error(), existing_store(load_config(config)) as store:
        numbers = count()  # sessions are counted as they pass, since they need not all be in memory at once
        compared = zip(stored.compared(store.database), numbers, strict=False)
        validations = validate(session for session, _ in compared)
        with store.database.read_transaction() as connection:
            counts = stored.counts(connection)
    if as_json:
        output.print_json(output.agreement_as_dict(counts, next(numbers), validations))
    else:
        output.print_agreement(counts, next(numbers), validations)


@app.command("import")
def import_files(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="CSV, JSON, DICOM structured reports, or folders of these.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what readers have measured, and compare it with the sessions.

    All is kept, or nothing where something is wrong.
    Identifiers are kept as keyed hashes only. What is imported again has no effect.
    """
    with exit_on_error():
        settings = load_config(config or context.obj)
        found = read_files(files)
        for warning in found.warnings:
            typer.echo(f"warning: {warning}", err=True)
        # A key that was lost makes a new one here, under which nothing that is stored can be found.
        is_new_key = not has_key(settings)  # asked before find_key makes one
        with store_to_import_into(settings) as (store, build):
            pseudonyms = Pseudonymizer(find_key(settings.privacy, store_path(settings).parent))
            if is_new_key and any(True for _ in store.sessions(limit=1)):
                typer.echo(
                    f"warning: {KEY_FILE_NAME} was missing and a new key was made: no session that is stored can match."
                    " Bring the site's key back, and import again",
                    err=True,
                )
            keyed_readings = [keyed(reading, pseudonyms) for reading in found.readings]
            imported = import_readings(store.database, build, keyed_readings)
    if as_json:
        output.print_json(output.imported_as_dict(len(found.readings), found.left_out, found.passed_over, imported))
    else:
        output.print_imported(len(found.readings), found.left_out, found.passed_over, imported)
    raise typer.Exit(DONE)


# --- files --------------------------------------------------------------------------------------


class FileContents(Struct):
    """What files hold. ``passed_over`` counts a folder's reports by why they hold no reading; ``left_out`` counts
    measurements in reports that are no reader's length of a femur, a tibia or a leg.
    """

    readings: list[Reading] = []
    problems: list[str] = []
    warnings: list[str] = []
    passed_over: Counter[str] = field(default_factory=Counter)
    left_out: int = 0

    def add(self, parsed: Parsed, name: str) -> None:
        """Add what one file holds."""
        self.readings += parsed.readings
        self.problems += parsed.problems
        self.warnings += [f"{name}: {warning}" for warning in parsed.warnings]

    def add_report(self, report: Report, name: str) -> None:
        """Add what one structured report holds."""
        self.add(report.parsed, name)
        self.left_out += report.left_out


def read_files(paths: Sequence[Path]) -> FileContents:
    """Read all, or nothing: raises :class:`ConfigurationError` with a line for each thing that is wrong."""
    found = FileContents()
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


def _read(path: Path, found: FileContents) -> None:
    name = str(path)
    if path.is_dir():
        _read_folder(path, found)
    elif path.suffix.lower() in _TABLES:
        found.add(parse_csv(read_file(path, MOST_DOCUMENT_BYTES), name), name)
    elif path.suffix.lower() == ".json":
        found.add(parse_document(read_json(path), name), name)
    elif _is_dicom(path):
        report = read_report(path, name)
        found.add_report(report, name)
        found.problems += [f"{path}: {report.refusal}"] if report.refusal else []
    else:
        found.problems.append(f"{path}: neither CSV, JSON nor DICOM, by its name and its beginning")


def _read_folder(folder: Path, found: FileContents) -> None:
    """A folder's reports. They are told apart by number: their names are often identities."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_dicom(path))
    for number, path in enumerate(files, start=1):
        report = read_report(path, f"{folder}, DICOM file {number} of {len(files)} by name")
        found.add_report(report, str(folder))
        # A folder holds images, too, which nobody would want to hear of.
        if report.refusal and report.is_report:
            found.passed_over[report.refusal] += 1


def _is_dicom(path: Path) -> bool:
    """By its beginning, not its name: archives often name files without a suffix (DICOM PS3.10, 7.1)."""
    with open_file(path) as file:
        return file.read(132)[128:] == b"DICM"
