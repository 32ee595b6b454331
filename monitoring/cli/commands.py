"""The commands of ``leglength-monitor``: exit 0 done, 1 not all done, 2 wrong input.

What they print is made in :mod:`monitoring.cli.output`, what they share stands in :mod:`monitoring.cli.common`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from monitoring import __version__
from monitoring.cli import alarms, dashboards, output, probe, readings, sessions
from monitoring.cli import report as reports
from monitoring.cli.common import (
    DONE,
    NO_BACKEND,
    NOT_ALL_DONE,
    WRONG_INPUT,
    ConfigOption,
    JsonOption,
    check_that_all_is_used,
    existing_store,
    exit_on_error,
    load_checked,
    load_config,
    load_reported,
    refuse_as_another_user,
)
from monitoring.cli.drain import drain as drain_backends
from monitoring.cli.output import console
from monitoring.cli.status import print_status, status_as_dict
from monitoring.cli.words import USED
from monitoring.runtime.relay import Relay
from monitoring.settings import json_schema
from monitoring.store.location import store_path
from monitoring.store.outbox import dead_letters

# A traceback with its variables, or `[...]` of a help text taken for markup, is what rich's ways would add: a variable
# may hold a patient's name.
app = typer.Typer(
    help="Look after what the leg-length monitoring has recorded.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
app.add_typer(sessions.app, name="sessions")
app.add_typer(readings.app, name="readings")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(alarms.app, name="alarms")
app.command()(alarms.analyze)
app.command()(alarms.drill)
app.command()(reports.report)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Look after what the leg-length monitoring has recorded."""
    if version:
        typer.echo(__version__)
        raise typer.Exit(DONE)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, the store and each backend.

    The store is read whole and written to, each backend asked whether it answers and accepts the credentials. Nothing
    is left behind. Exit 0 when all is right, 1 when something failed, 2 when settings are wrong.
    """
    # One by one, so that a person sees each as it comes: a store of hundreds of megabytes takes seconds.
    findings = []
    with exit_on_error():
        checked = load_checked(config)
        # Said before the backends are asked: a silent one takes its timeout to answer.
        for problem in () if as_json else checked.problems:
            console.print(f"{'error' if problem.is_error else 'warning'}: {problem}")
        for finding in probe.store_and_backends(checked.config, partial(typer.echo, err=True)):
            findings.append(finding)
            if not as_json:
                console.print(f"{'ok' if finding.is_good else 'FAILED':<7} {finding.what}: {finding.message}")
    if as_json:
        output.print_json(
            {
                "problems": [problem._asdict() for problem in checked.problems],
                "findings": [asdict(finding) for finding in findings],
            }
        )
    # Wrong settings first: what failed may follow from them.
    if any(problem.is_error for problem in checked.problems):
        raise typer.Exit(WRONG_INPUT)
    raise typer.Exit(DONE if all(finding.is_good for finding in findings) else NOT_ALL_DONE)


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the sessions recorded, and what waits for each backend."""
    with exit_on_error():
        report = status_as_dict(load_reported(config))
    if as_json:
        output.print_json(report)
    else:
        print_status(report)


@app.command()
def drain(
    config: ConfigOption = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to go on at most.")] = 300.0,
    requeue_dead: Annotated[bool, typer.Option("--requeue-dead", help="Send the dead letters once more, too.")] = False,
    begin: Annotated[
        bool, typer.Option("--begin", help="Make the store where there is none, and tell every counter at 0.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Deliver now what is stored, and say what still waits.

    Exit 0 when all is delivered, 1 when something waits, was refused or was put aside, 2 when settings are wrong.
    """
    with exit_on_error():
        checked = load_reported(config)
        # With --json the document is all that stands on the output.
        say = (lambda _: None) if as_json else console.print
        found, is_put_aside = drain_backends(checked, timeout, say, requeue_dead, begin)
    if as_json:
        output.print_json({drained.name: drained.to_dict() for drained in found})
    if not checked.off_by_mistake and not any(drained.use == USED for drained in found):
        typer.echo(f"error: {NO_BACKEND}", err=True)
        raise typer.Exit(WRONG_INPUT)
    # Even where the other backend got all: what was meant to be delivered isn't.
    if checked.off_by_mistake:
        raise typer.Exit(WRONG_INPUT)
    raise typer.Exit(DONE if all(drained.is_done for drained in found) and not is_put_aside else NOT_ALL_DONE)


@app.command()
def relay(
    config: ConfigOption = None,
    interval: Annotated[
        float, typer.Option(min=0.1, max=86_400.0, help="Seconds between two looks at the store.")
    ] = 5.0,
) -> None:
    """Deliver from the host what is stored, until stopped.

    For modules that are gone, or have no network. After each UTC day it charts what was stored, and says new alarms.
    Exit 2 at once where nothing could be delivered.
    """
    # To the error stream, where a service's log is read from.
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s", stream=sys.stderr)
    with exit_on_error():
        # Not load_config, which writes to the error stream: a service's log gets the problems as warnings.
        settings, log = load_checked(config), logging.getLogger("relay")
        for problem in settings.problems:
            log.warning("%s", problem)
        check_that_all_is_used(settings)
        refuse_as_another_user(store_path(settings.config))
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
    """Print all stored sessions, one JSON record a line.

    The oldest first.
    """
    with exit_on_error(), existing_store(load_config(config)) as store:
        if dead:
            with store.database.read_transaction() as connection:
                for letter in dead_letters(connection):
                    typer.echo(json.dumps(asdict(letter)))
        else:
            # Page by page: an archive of years is never whole in memory.
            for stored in store.sessions(newest_first=False):
                typer.echo(stored.record.to_json())


@app.command("import")
def import_results(
    files: Annotated[
        list[Path], typer.Argument(help="result.json files, archives of them, or stores that were put aside.")
    ],
    config: ConfigOption = None,
) -> None:
    """Take sessions back, each once.

    From result.json files, archives of them, and damaged stores that were put aside.
    """
    with exit_on_error():
        counts = sessions.import_records(load_config(config), files)
    typer.echo(f"{counts.new} imported, {counts.known} already there, {counts.unreadable} unreadable")
    if counts.points or counts.readings:
        typer.echo(f"{counts.points} points wait to be delivered; {counts.readings} readings imported")
    raise typer.Exit(NOT_ALL_DONE if counts.unreadable else DONE)


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings' monitoring section."""
    output.print_json(json_schema())


@app.command()
def metrics(as_json: JsonOption = False) -> None:
    """List every metric: its kind, unit and labels.

    With its place in InfluxDB; --json tells its meaning and source, too.
    """
    if as_json:
        output.print_json(output.metrics_as_list())
    else:
        output.print_metrics()
