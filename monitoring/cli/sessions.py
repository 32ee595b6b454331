"""``leglength-monitor sessions``, and the import of session records.

Lists what is stored, computes it again, erases one patient's sessions, and reads records back from result.json files,
such as the ones that Mercure archives, and from stores that were put aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct
from msgspec.structs import asdict

from monitoring.analytics.rederivation import Summary, rederive
from monitoring.cli import output
from monitoring.cli.common import (
    DONE,
    NOT_ALL_DONE,
    ConfigOption,
    JsonOption,
    existing_pseudonyms,
    existing_store,
    exit_on_error,
    has_key,
    is_there,
    load_config,
    read_json,
    refuse_as_another_user,
    store_to_import_into,
)
from monitoring.cli.words import rfc3339_nano
from monitoring.exceptions import ConfigurationError, RecordError
from monitoring.metrics.session_writes import BuildWrites
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.privacy.dicom_header import is_context
from monitoring.readings import validation
from monitoring.records.foreign import foreign_record
from monitoring.records.session_record import SessionRecord
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store.database import identity
from monitoring.store.erasure import erase, is_patient_key, not_attributed
from monitoring.store.location import store_path
from monitoring.store.recovery import put_aside
from monitoring.store.salvage import is_database, salvage
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
    with exit_on_error(), existing_store(load_config(config)) as store:
        if is_rederiving and as_json:
            for one in rederive(store, limit):
                typer.echo(json.dumps(one.to_dict()))
        elif is_rederiving:
            output.print_rederived(Summary.of(rederive(store, limit)))
        elif as_json:
            for stored in store.sessions(limit or _LISTED):
                typer.echo(stored.record.to_json())
        else:
            output.print_sessions(store.sessions(limit or _LISTED))


@app.command()
def key(
    kind: Annotated[str, typer.Option(help="What it names: patient, study, series or accession.")] = "patient",
    issuer: Annotated[
        str | None, typer.Option(help="IssuerOfPatientID of the images, for a patient's key, where they state one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the keyed hash of an identifier.

    It is asked for, or read from the standard input. It is no argument, so that it stays out of the shell's history
    and the list of processes.
    """
    with exit_on_error():
        settings = load_config(config)
        pseudonyms = existing_pseudonyms(settings)
        makers: dict[str, Callable[[object], str]] = {
            "patient": partial(pseudonyms.patient, issuer=issuer), "study": pseudonyms.study,
            "series": pseudonyms.series, "accession": pseudonyms.accession,
        }  # fmt: skip
        if kind not in makers:
            raise ConfigurationError(f"--kind must be one of {', '.join(makers)}")
        if sys.stdin.isatty():
            identifier = str(typer.prompt("Identifier", hide_input=True, err=True))
        else:
            identifier = sys.stdin.readline()
        found = makers[kind](identifier.strip())
        if not found:
            raise ConfigurationError("an identifier is needed, on the standard input")
        if is_there(store_path(settings)):
            with existing_store(settings) as store:
                lost = not_attributed(store, pseudonyms.fingerprint).under_another_key
            if lost:
                typer.echo(f"warning: {output.of_another_key(lost)}", err=True)
    typer.echo(found)


@app.command("erase")
def erase_patient(
    patient_key: Annotated[str, typer.Option("--patient-key", help="The patient's keyed hash: see `sessions key`.")],
    config: ConfigOption = None,
    is_rehearsal: Annotated[bool, typer.Option("--dry-run", help="Only count what would be erased.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase one patient's sessions from the store.

    With what waits to be delivered of them, and the readers' measurements. Exit 1 where the store holds sessions that
    can't be told to be the patient's or not.
    """
    # It is copied from a terminal or a mail.
    wanted = patient_key.strip().lower()
    with exit_on_error():
        if not is_patient_key(wanted):
            raise ConfigurationError("--patient-key: must have 32 hexadecimal characters; `sessions key` makes it")
        settings = load_config(config)
        refuse_as_another_user(store_path(settings))
        with existing_store(settings, only_reads=False) as store:
            found = erase(store.database, wanted, is_rehearsal)
            if not is_rehearsal:
                validation.refresh(store.database)  # without this patient's pairs
            # A lost key hinders no erasure: the hash was made when it was there.
            fingerprint = existing_pseudonyms(settings).fingerprint if has_key(settings) else ""
            others = not_attributed(store, fingerprint)
        # A damaged store can't be searched for the patient, so it is named, and not all is done.
        not_searched = [path.name for path in put_aside(store_path(settings))]
    if as_json:
        told = {**found.to_dict(), "points_times": [rfc3339_nano(one) for one in found.points_ns], **asdict(others)}
        output.print_json({**told, "erased": not is_rehearsal, "put_aside": not_searched})
    else:
        output.print_erased(found, is_rehearsal, others, not_searched)
    is_all_told = not (not_searched or others.without_patient_key or others.under_another_key)
    raise typer.Exit(DONE if is_all_told else NOT_ALL_DONE)


# --- import -------------------------------------------------------------------------------------


class ImportCounts(Struct):
    """What became of the records that were found; ``points`` and ``readings`` are those of stores."""

    new: int = 0
    known: int = 0
    unreadable: int = 0
    points: int = 0
    readings: int = 0


def import_records(config: MonitoringConfig, paths: list[Path]) -> ImportCounts:
    """Commit the files' session records, each once however often it is imported; the store is made if need be.

    A store that was put aside gives back what can be read of it. Raises :class:`ConfigurationError` for another file
    that is no JSON, before anything is committed.
    """
    stores = [path for path in paths if is_database(path)]
    if any(identity(path) == identity(store_path(config)) for path in stores):
        raise ConfigurationError("the store can't be imported into itself")
    # All files are read first: one that is broken must not leave half of an archive imported, unnoticed.
    found = [record for path in paths if path not in stores for record in _records(read_json(path))]
    counts = ImportCounts()
    committed: list[SessionRecord] = []
    with store_to_import_into(config) as (store, build):
        for data in found:
            try:
                record = foreign_record(data, is_context)
                record = record.coarsened() if config.privacy.precision == "coarse" else record
            except RecordError:
                counts.unreadable += 1
                continue
            if store.commit(record, build):  # not, where its session is stored already
                committed.append(record)
            else:
                counts.known += 1
        counts.new = len(committed)
        for path in stores:
            committed += _take_back(config, store, build, path, counts)
        # Their readings may have come long ago, and wait for them.
        validation.refresh_after(store.database, committed, is_in_a_hurry=False)
    return counts


def _take_back(
    config: MonitoringConfig, store: Store, build: SessionWritesBuilder, path: Path, counts: ImportCounts
) -> list[SessionRecord]:
    """Take back what can be read of a store that was put aside; returns the sessions that are new."""

    def builder(instance: str | None) -> BuildWrites:
        # Points that are made again must be the same ones: under the name that the file was delivered under.
        is_given = config.prometheus is not None and config.prometheus.instance is not None
        return build if instance is None or is_given else session_writes_builder(config, instance)

    found = salvage(path, store, builder, lambda record: foreign_record(record.to_dict(), is_context))
    counts.new += found.sessions + found.crashed
    counts.known += found.known
    counts.unreadable += found.unreadable
    counts.points += found.points
    counts.readings += found.readings
    return found.records


def _records(document: Any) -> Iterator[Any]:
    """The records under any ``{"monitoring": {"sessions": [...]}}``, however an archive wraps the file."""
    if isinstance(document, list):
        for item in document:
            yield from _records(item)
    elif isinstance(document, dict):
        section = document.get("monitoring")
        if isinstance(section, dict) and isinstance(section.get("sessions"), list):
            yield from section["sessions"]
        else:
            for item in document.values():
                yield from _records(item)
