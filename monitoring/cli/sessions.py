"""``leglength-monitor sessions``: lists what is stored, computes it again, and erases one patient's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from monitoring.analytics.rederivation import Summary, rederive
from monitoring.cli import reports
from monitoring.cli.errors import DONE, NOT_ALL_DONE, clear_errors, existing_store
from monitoring.cli.keys import existing_pseudonyms
from monitoring.cli.reports import console
from monitoring.cli.settings import ConfigOption, JsonOption, load_config
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.exceptions import ConfigurationError
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.readings import validation
from monitoring.store.erasure import erase, is_patient_key
from monitoring.store.location import store_path
from monitoring.store.sessions import Store

app = typer.Typer(help="List stored sessions; erase one patient's.", rich_markup_mode=None)
_LISTED = 20


@app.callback(invoke_without_command=True)
def sessions(
    context: typer.Context,
    config: ConfigOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many, newest first; default {_LISTED}, or all.")
    ] = None,
    is_rederiving: Annotated[
        bool,
        typer.Option("--rederive", help="Compute the metrics again, and say what differs from what was delivered."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List stored sessions, newest first; with --json one whole record a line."""
    if context.invoked_subcommand is not None:
        return
    with clear_errors(), existing_store(config) as store:
        if is_rederiving:
            _rederive(store, limit, as_json)
        elif as_json:
            for stored in store.sessions(limit or _LISTED):
                typer.echo(stored.record.to_json())
        else:
            console.print(reports.sessions_table(store.sessions(limit or _LISTED)))


def _rederive(store: Store, limit: int | None, as_json: bool) -> None:
    if as_json:
        for one in rederive(store, limit):
            typer.echo(json.dumps(one.to_dict()))
        return
    summary = Summary.of(rederive(store, limit))
    typer.echo(f"{summary.sessions} sessions computed again by formulas of version {FORMULA_VERSION}")
    typer.echo(f"{summary.differing} differ from what was delivered, which stays as it is")
    if summary.unknown:
        typer.echo(f"{summary.unknown} were stored by a version that didn't keep what it had computed")
    table = reports.plain_table("metric", "values that differ", "largest difference")
    for name, (count, largest) in sorted(summary.by_metric.items()):
        table.add_row(name, str(count), f"{largest:.6g}")
    if summary.by_metric:
        console.print(table)


@app.command()
def key(
    kind: Annotated[str, typer.Option(help="What it names: patient, study, series or accession.")] = "patient",
    issuer: Annotated[
        str | None, typer.Option(help="IssuerOfPatientID of the images, for a patient's key, where they state one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the keyed hash of an identifier, which is asked for, or read from the standard input.

    It is no argument, so that it stays out of the shell's history and the list of processes.
    """
    with clear_errors():
        make = _pseudonym_maker(existing_pseudonyms(load_config(config)), kind, issuer)
        found = make(_asked_for().strip())
        if not found:
            raise ConfigurationError("an identifier is needed, on the standard input")
    typer.echo(found)


def _pseudonym_maker(pseudonyms: Pseudonymizer, kind: str, issuer: str | None) -> Callable[[object], str]:
    makers: dict[str, Callable[[object], str]] = {
        "patient": partial(pseudonyms.patient, issuer=issuer), "study": pseudonyms.study, "series": pseudonyms.series,
        "accession": pseudonyms.accession,
    }  # fmt: skip
    if kind not in makers:
        raise ConfigurationError(f"--kind must be one of {', '.join(makers)}")
    return makers[kind]


def _asked_for() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Identifier", hide_input=True, err=True))
    return sys.stdin.readline()


@app.command("erase")
def erase_patient(
    patient_key: Annotated[str, typer.Option("--patient-key", help="The patient's keyed hash: see `sessions key`.")],
    config: ConfigOption = None,
    is_rehearsal: Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase one patient's sessions from the store, with what waits to be delivered and the readers' measurements."""
    wanted = patient_key.strip().lower()
    with clear_errors():
        if not is_patient_key(wanted):
            raise ConfigurationError("--patient-key: must have 32 hexadecimal characters; `sessions key` makes it")
        with existing_store(config) as store:
            found = erase(store.database, wanted, is_rehearsal)
            if not is_rehearsal:
                validation.refresh(store.database)  # without this patient's pairs
        put_aside = sorted(path.name for path in store_path(load_config(config).store).parent.glob("*.corrupt-*"))
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "erased": not is_rehearsal, "put_aside": put_aside}, indent=2))
    else:
        reports.print_erased(found, is_rehearsal, put_aside, console)
    raise typer.Exit(NOT_ALL_DONE if put_aside else DONE)
