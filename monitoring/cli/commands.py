"""The commands. Exit 0 done, 1 not all done, 2 wrong input."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from monitoring import __version__
from monitoring.cli import probe, readings, reports, sessions
from monitoring.cli.drain import drain as drain_backends
from monitoring.cli.errors import DONE, NOT_ALL_DONE, WRONG_INPUT, clear_errors, existing_store
from monitoring.cli.importing import import_files
from monitoring.cli.reports import console
from monitoring.cli.settings import ConfigOption, JsonOption, load_checked, load_config
from monitoring.metrics import catalogue
from monitoring.runtime.relay import Relay
from monitoring.settings import MonitoringConfig
from monitoring.store.outbox import dead_letters

app = typer.Typer(
    help="Look after what the leg-length monitoring has recorded.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
app.add_typer(sessions.app, name="sessions")
app.add_typer(readings.app, name="readings")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Look after what the leg-length monitoring has recorded."""
    if version:
        typer.echo(__version__)
        raise typer.Exit(DONE)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check the settings, the store and whether each backend answers and accepts the credentials."""
    with clear_errors():
        checked = load_checked(config)
        for problem in checked.problems:
            console.print(f"{'error' if problem.is_error else 'warning'}: {problem}", markup=False)
        findings = probe.store_and_backends(checked.config)
    for finding in findings:
        console.print(f"{'ok' if finding.is_good else 'FAILED':<7} {finding.what}: {finding.message}", markup=False)
    if any(problem.is_error for problem in checked.problems):
        raise typer.Exit(WRONG_INPUT)
    raise typer.Exit(DONE if all(finding.is_good for finding in findings) else NOT_ALL_DONE)


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the sessions recorded, and what waits for each backend."""
    with clear_errors():
        report = reports.status(load_config(config))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        reports.print_status(report, console)


@app.command()
def drain(
    config: ConfigOption = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to go on at most.")] = 300.0,
    requeue_dead: Annotated[bool, typer.Option("--requeue-dead", help="Send the dead letters once more, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Deliver now what is stored; exit 0 when all is delivered, 1 when something still waits."""
    with clear_errors():
        results = drain_backends(load_config(config), timeout, None if as_json else console, requeue_dead)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    raise typer.Exit(DONE if all(result["pending"] == 0 for result in results.values()) else NOT_ALL_DONE)


@app.command()
def relay(
    config: ConfigOption = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the store.")] = 5.0,
) -> None:
    """Deliver from the host, until stopped: for modules that are gone, or have no network."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s", stream=sys.stderr)
    with clear_errors():
        settings, log = load_checked(config), logging.getLogger("relay")
        for problem in settings.problems:
            log.warning("%s", problem)
        Relay(settings.config, log).run(_stop_at({signal.SIGTERM, signal.SIGINT}), interval)


def _stop_at(signals: set[signal.Signals]) -> threading.Event:
    """An event that one of the signals sets, from a thread: a handler could interrupt the event's own code."""
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # in the threads that start from now on, too

    def wait() -> None:
        signal.sigwait(signals)
        stop.set()

    threading.Thread(target=wait, name="leglength-monitoring-stop", daemon=True).start()
    return stop


@app.command()
def export(
    config: ConfigOption = None,
    dead: Annotated[bool, typer.Option("--dead", help="The dead letters instead of the sessions.")] = False,
) -> None:
    """Print all stored sessions, oldest first, one JSON record a line."""
    with clear_errors(), existing_store(config) as store:
        if dead:
            with store.database.read_transaction() as connection:
                for letter in dead_letters(connection):
                    typer.echo(json.dumps(asdict(letter)))
        else:
            for stored in store.sessions(newest_first=False):
                typer.echo(stored.record.to_json())


@app.command("import")
def import_results(
    files: Annotated[list[Path], typer.Argument(help="result.json files, or archives of them.")],
    config: ConfigOption = None,
) -> None:
    """Read session records back from result.json files, each once."""
    with clear_errors():
        counts = import_files(load_config(config), files)
    typer.echo(f"{counts.new} imported, {counts.known} already there, {counts.unreadable} unreadable")
    raise typer.Exit(NOT_ALL_DONE if counts.unreadable else DONE)


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings' monitoring section."""
    typer.echo(json.dumps(MonitoringConfig.model_json_schema(), indent=2))


@app.command()
def metrics(as_json: JsonOption = False) -> None:
    """List every metric: name, kind, unit, labels, and its place in InfluxDB."""
    if as_json:
        typer.echo(json.dumps(reports.catalogue_rows(), indent=2))
        return
    table = reports.plain_table("Prometheus", "kind", "unit", "labels", "InfluxDB")
    for metric in catalogue.METRICS:
        place = f"{metric.measurement}.{metric.field}" if metric.measurement else ""
        table.add_row(metric.name, metric.kind, metric.unit, " ".join(label.name for label in metric.labels), place)
    console.print(table)
