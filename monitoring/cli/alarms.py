"""`leglength-monitor analyze`, `drill`, `alarms`: what the charts of stored sessions say, and what people answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from monitoring.cli import output
from monitoring.cli.common import (
    NOT_ALL_DONE,
    ConfigOption,
    JsonOption,
    existing_store,
    exit_on_error,
    load_config,
    refuse_as_another_user,
)
from monitoring.exceptions import ConfigurationError, StoreCorruptError, StoreError, StoreVersionError
from monitoring.metrics.backends import in_use
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig
from monitoring.store.location import instance_name, store_path
from monitoring.store.sessions import Store

if TYPE_CHECKING:
    from monitoring.analytics.analysis import Analysis

app = typer.Typer(help="List the alarms, acknowledge one, or let its chart begin anew.", rich_markup_mode=None)

IdsArgument = Annotated[
    list[str], typer.Argument(metavar="IDS...", help="The alarms' IDs, as `alarms` lists them: one cause, one answer.")
]
ByOption = Annotated[str, typer.Option("--by", help="Who says so; a role will do. It stands in reports.")]


def analyze(
    config: ConfigOption = None,
    is_ending: Annotated[
        bool, typer.Option("--end", help="Tell of no chart any more: for a site that gives the analysis up.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Chart what was stored since the last look, and tell it.

    With what each of them would have noticed. For a timer, once a night: it reads the store alone, and keeps there
    what it found. Exits 1 where that can't be kept, as on a full disk.
    """
    if is_ending:
        _end(config, as_json)
        return
    found = _look(config)
    if as_json:
        output.print_json(output.analysis_as_dict(found))
    else:
        output.print_analysis(found)
    if found.not_kept:
        raise typer.Exit(NOT_ALL_DONE)


def _end(config: Path | None, as_json: bool) -> None:
    from monitoring.analytics.telling import tell_no_more

    with exit_on_error(), _store_to_write(load_config(config)) as store, store.database.transaction() as connection:
        tell_no_more(connection)
    if as_json:
        output.print_json({"told": False})
    else:
        typer.echo("no chart is told any more, from the next push on: `leglength-monitor drain` pushes now")


def drill(
    exams: Annotated[
        int,
        typer.Option(min=150, max=5000, help="Of how many of the last exams; a third, 120 at most, gets the fault."),
    ] = 360,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put faults into a copy of the last exams: are they noticed?

    After how many exams the charts alarm, and how many false alarms a year there are, by shuffling the clinic
    days. It changes no session; what it found is kept in the store, the last 20 times, for `report`. Exits 1
    where that can't be kept, as in a store that is read-only.
    """
    from monitoring.analytics import drill as drills

    not_kept = ""
    with exit_on_error():
        settings = load_config(config)
        with existing_store(settings) as store:
            # Opened to read, so that nobody waits for it meanwhile.
            found = drills.drill(store, settings.analytics, exams)
        try:
            with _store_to_write(settings) as store:
                drills.keep(store, found, time.time_ns())
        except StoreError as error:
            not_kept = str(error)
    if as_json:
        output.print_json(msgspec.to_builtins(found))
    else:
        output.print_drill(found)
    if not_kept:
        typer.echo(f"not kept for the report: {not_kept}", err=True)
        raise typer.Exit(NOT_ALL_DONE)


@app.callback(invoke_without_command=True)
def alarms(
    context: typer.Context,
    config: ConfigOption = None,
    every: Annotated[bool, typer.Option("--all", help="Those that people have answered, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the open alarms, the oldest first."""
    # `alarms --config X acknowledge` is as good as `alarms acknowledge --config X`.
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    found = _look(config)
    listed = [alarm for alarm in found.alarms if every or alarm.status == "open"]
    if as_json:
        output.print_json([output.alarm_as_dict(alarm, found.charts) for alarm in listed])
    else:
        output.print_alarms(listed, found.alarms, found.charts)


@app.command()
def acknowledge(
    context: typer.Context,
    alarm_ids: IdsArgument,
    by: ByOption,
    note: Annotated[str, typer.Option("--note", help="What was found, and done. Name no patient: reports show it.")],
    config: ConfigOption = None,
) -> None:
    """Say that alarms were looked at.

    Their charts go on as they are, and alarm again if the fault does.
    """
    _act(config or context.obj, alarm_ids, "acknowledge", by, note)


@app.command()
def rebase(
    context: typer.Context,
    alarm_ids: IdsArgument,
    by: ByOption,
    reason: Annotated[
        str, typer.Option("--reason", help="Why the change is accepted. Name no patient: reports show it.")
    ],
    config: ConfigOption = None,
) -> None:
    """Accept a change: an alarm's chart begins anew at its estimated date.

    What comes later is compared with what came since, and no longer with what was before.
    """
    _act(config or context.obj, alarm_ids, "rebase", by, reason)


def _act(config: Path | None, alarm_ids: Iterable[str], kind: str, person: str, words: str) -> None:
    from monitoring.analytics.analysis import act, analyse, answerable

    alarm_ids = tuple(dict.fromkeys(alarm_ids))
    with exit_on_error():
        settings = load_config(config)
        with _store_to_write(settings) as store:
            build = session_writes_builder(settings, instance_name(settings, store))
            found = analyse(store, settings.analytics, time.time_ns(), build)
            # All before the first is answered: exit 2 says that nothing was done.
            for alarm_id in alarm_ids:
                answerable(found, alarm_id, kind, person, words)
            for alarm_id in alarm_ids:
                try:
                    alarm = act(store, settings.analytics, alarm_id, kind, person, words, time.time_ns(), build)
                except ConfigurationError as error:
                    # Somebody else answered it meanwhile, or the re-basing before it took it back.
                    typer.echo(f"error: {error} any more", err=True)
                    raise typer.Exit(NOT_ALL_DONE) from None
                output.print_alarms([alarm])


def _look(config: Path | None) -> Analysis:
    from monitoring.analytics.analysis import analyse

    with store_to_look_at(config) as (store, settings, build, why_not):
        found = analyse(store, settings.analytics, time.time_ns(), build)
    say_not_kept(why_not or found.not_kept)
    return msgspec.structs.replace(found, not_kept=why_not or found.not_kept)


def say_not_kept(why: str) -> None:
    """Say of a look why the store has kept nothing of it, if it hasn't."""
    if why:
        typer.echo(f"not kept: {why}", err=True)


@contextmanager
def store_to_look_at(
    config: Path | None,
) -> Iterator[tuple[Store, MonitoringConfig, SessionWritesBuilder, str]]:
    """The store, in which a look at it is kept, the settings, and what makes the lines that tell of it.

    A store that can't be written is opened to read; the last part says why, "" where it can be.
    """
    with exit_on_error(), ExitStack() as opened:
        settings, why_not = load_config(config), ""
        build = SessionWritesBuilder(backends=in_use(settings))
        try:
            store = opened.enter_context(_store_to_write(settings))
            build = session_writes_builder(settings, instance_name(settings, store))
        # Reading it would not help: what is damaged, or of another version, has no charts to show.
        except (StoreCorruptError, StoreVersionError):
            raise
        except StoreError as error:
            store, why_not = opened.enter_context(existing_store(settings)), str(error)
        yield store, settings, build, why_not


@contextmanager
def _store_to_write(settings: MonitoringConfig) -> Iterator[Store]:
    refuse_as_another_user(store_path(settings))
    with existing_store(settings, only_reads=False) as store:
        yield store
