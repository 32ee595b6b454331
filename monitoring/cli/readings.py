"""``leglength-monitor readings``: imports readers' measurements, and says how well the application agrees with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from monitoring.cli import reports
from monitoring.cli.errors import DONE, clear_errors, existing_store
from monitoring.cli.keys import has_key
from monitoring.cli.reading_files import Found, read_files
from monitoring.cli.reports import console
from monitoring.cli.settings import ConfigOption, JsonOption, load_config
from monitoring.domain import agreement
from monitoring.domain.agreement import SHOWN_FROM_PAIRS, VERDICT_FROM_PAIRS, Verdict
from monitoring.metrics.samples import zero_changes
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.site_key import KEY_FILE_NAME, find_key
from monitoring.readings.importing import Imported, import_readings
from monitoring.readings.parsing import keyed
from monitoring.readings.validation import Validation, validate
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store import readings as stored
from monitoring.store.location import instance_name, store_path
from monitoring.store.recovery import open_or_recover
from monitoring.store.sessions import Store

app = typer.Typer(help="Compare the measurements with readers'; import what they measured.", rich_markup_mode=None)

_CRITERIA = {
    "bias_limit_mm": agreement.BIAS_LIMIT_MM,
    "mae_limit_mm": agreement.MAE_LIMIT_MM,
    "agreement_limit_mm": agreement.AGREEMENT_LIMIT_MM,
    "icc_limit": agreement.ICC_LIMIT,
    "shown_from_pairs": SHOWN_FROM_PAIRS,
    "verdict_from_pairs": VERDICT_FROM_PAIRS,
}


@app.callback(invoke_without_command=True)
def readings(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show how well the measurements agree with readers': error, limits of agreement, ICC, and a verdict."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    with clear_errors(), existing_store(config) as store:
        report = _report(store)
    if as_json:
        typer.echo(json.dumps(_as_dict(*report), indent=2))
    else:
        _print_report(*report)


@app.command("import")
def import_files(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="CSV, JSON, DICOM structured reports, or folders of these.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what readers have measured, all or nothing, and compare it with the sessions that are there.

    Identifiers are kept as keyed hashes only. What is imported again has no effect.
    """
    with clear_errors():
        settings = load_config(config or context.obj)
        found = read_files(files)
        for warning in found.warnings:
            typer.echo(f"warning: {warning}", err=True)
        imported = _import(settings, found)
    if as_json:
        typer.echo(json.dumps(_imported_as_dict(found, imported), indent=2))
    else:
        _print_imported(found, imported)
    raise typer.Exit(DONE)


def _import(config: MonitoringConfig, found: Found) -> Imported:
    path = store_path(config.store)
    is_new_key = not has_key(config)
    database, _ = open_or_recover(path)
    try:
        store = Store(database)
        store.initialise(zero_changes())
        pseudonyms = Pseudonymizer(find_key(config.privacy, path.parent))
        if is_new_key and any(True for _ in store.sessions(limit=1)):
            typer.echo(
                f"warning: {KEY_FILE_NAME} was missing and a new key was made: no session that is stored can match."
                " Bring the site's key back, and import again",
                err=True,
            )
        build = session_writes_builder(config, instance_name(config, store))
        return import_readings(database, build, [keyed(reading, pseudonyms) for reading in found.readings])
    finally:
        database.close()


def _imported_as_dict(found: Found, imported: Imported) -> dict[str, Any]:
    return {
        "readings": len(found.readings),
        **{state: imported.kept[state] for state in (stored.NEW, stored.CORRECTED, stored.KNOWN)},
        "sessions_compared": imported.sessions,
        "without_session": imported.without_session,
        "not_compared": imported.not_compared,
        "reports_passed_over": sum(found.passed_over.values()),
        "measurements_left_out": found.left_out,
    }


def _print_imported(found: Found, imported: Imported) -> None:
    kept = ", ".join(f"{imported.kept[state]} {words}" for state, words in _KEPT_WORDS.items())
    typer.echo(f"readings: {len(found.readings)} ({kept})")
    typer.echo(f"sessions compared with them: {imported.sessions}")
    if imported.without_session:
        typer.echo(f"without a session: {imported.without_session} (kept, and compared when it comes)")
    if imported.not_compared:
        typer.echo(f"not compared: {imported.not_compared} ({_NOT_COMPARED})")
    if found.left_out:
        typer.echo(f"measurements left out: {found.left_out} (no reader's length of a femur, a tibia or a leg)")
    for reason, count in found.passed_over.items():
        typer.echo(f"reports left out: {count} ({reason})")


_NOT_COMPARED = "the session was not completed or measured something else, or the exam's later one is compared"
_KEPT_WORDS = {stored.NEW: "new", stored.CORRECTED: "corrected", stored.KNOWN: "known already"}

_Report = tuple[stored.Counts, int, list[Validation]]


def _report(store: Store) -> _Report:
    sessions = 0

    def counted(found: Iterable[stored.Compared]) -> Iterator[stored.Compared]:
        nonlocal sessions
        for session in found:
            sessions += 1
            yield session

    validations = validate(counted(stored.compared(store.database)))
    with store.database.read_transaction() as connection:
        return stored.counts(connection), sessions, validations


def _as_dict(counts: stored.Counts, sessions: int, validations: list[Validation]) -> dict[str, Any]:
    return {
        **asdict(counts),
        "sessions_compared": sessions,
        "newest_sessions": stored.NEWEST_SESSIONS,
        "criteria": _CRITERIA,
        "measurements": {found.measurement: _validation_as_dict(found) for found in validations},
    }


def _validation_as_dict(found: Validation) -> dict[str, Any]:
    numbers = asdict(found.agreement)
    return {
        **numbers.pop("icc"),
        **numbers,
        "within_threshold_ratio": found.within_threshold_ratio,
        "verdict": asdict(found.verdict),
    }


def _print_report(counts: stored.Counts, sessions: int, validations: list[Validation]) -> None:
    console.print(
        f"readings: {counts.readings}, readers: {counts.readers}, sessions compared: {sessions},"
        f" readings without a session: {counts.without_session}"
    )
    if sessions >= stored.NEWEST_SESSIONS:
        console.print(f"Only the newest {stored.NEWEST_SESSIONS} sessions are compared.")
    console.print(_table(validations))
    console.print(
        f"Errors are measurement - readers' mean, in mm. Met: |bias| <= {agreement.BIAS_LIMIT_MM:g}, MAE <="
        f" {agreement.MAE_LIMIT_MM:g}, limits of agreement within +-{agreement.AGREEMENT_LIMIT_MM:g}, ICC(2,1) >="
        f" {agreement.ICC_LIMIT:g}; judged from {VERDICT_FROM_PAIRS} pairs on, shown from {SHOWN_FROM_PAIRS} on."
    )


def _table(validations: list[Validation]) -> Table:
    table = reports.plain_table(
        "measurement", "pairs", "bias (95 % CI)", "SD", "limits of agreement", "MAE", "median", "ICC(2,1)", "CCC",
        "within threshold", "> 5 mm", "> 10 mm", "verdict",
    )  # fmt: skip
    for found in validations:
        pairs = found.agreement.pairs
        cells = _cells(found) if pairs >= SHOWN_FROM_PAIRS else [""] * 10
        table.add_row(found.measurement, str(pairs), *cells, verdict_in_words(found.verdict, pairs))
    return table


def _cells(found: Validation) -> list[str]:
    of = found.agreement
    return [
        f"{_number(of.bias_mm, '+.2f')} ({_number(of.bias_low_mm, '+.2f')} to {_number(of.bias_high_mm, '+.2f')})",
        _number(of.sd_mm),
        f"{_number(of.lower_limit_mm, '+.2f')} to {_number(of.upper_limit_mm, '+.2f')}",
        _number(of.mae_mm),
        _number(of.median_absolute_error_mm),
        _number(of.icc.icc_2_1, ".3f"),
        _number(of.ccc, ".3f"),
        _number(found.within_threshold_ratio, ".1%"),
        _number(of.beyond_5_mm_ratio, ".1%"),
        _number(of.beyond_10_mm_ratio, ".1%"),
    ]


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def verdict_in_words(verdict: Verdict, pairs: int) -> str:
    """The verdict for a person, with what is not met, or how many pairs are missing."""
    failed = ", ".join(name.replace("_", " ") for name in verdict.failed)
    if verdict.status == "too_few":
        return f"too few: {pairs} of {SHOWN_FROM_PAIRS}"
    if verdict.status == "provisional":
        so_far = f"not met so far: {failed}" if failed else "met so far"
        return f"provisional ({SHOWN_FROM_PAIRS} to {VERDICT_FROM_PAIRS - 1}), {so_far}"
    return f"not met: {failed}" if failed else "met"
