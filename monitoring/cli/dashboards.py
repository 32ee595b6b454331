"""``leglength-monitor dashboards``: what the dashboards and alert rules are, and the files that servers read.

Its libraries come with the extra ``dashboards`` and are loaded by the commands that need them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from monitoring.cli import output
from monitoring.cli.common import WRONG_INPUT, JsonOption, exit_on_error, read_json

app = typer.Typer(help="Dashboards and alert rules over what is sent.", no_args_is_help=True, rich_markup_mode=None)

ThresholdsOption = Annotated[
    Path | None,
    typer.Option("--thresholds", help="JSON file with this site's thresholds; the rest keep their defaults."),
]


@contextmanager
def needs_extra() -> Iterator[None]:
    """Say in one line what is missing to run the command."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("monitoring"):
            raise
        typer.echo("error: this command needs its extra: pip install 'leglength-monitoring[dashboards]'", err=True)
        raise typer.Exit(WRONG_INPUT) from None


@app.callback()
def dashboards() -> None:
    """Dashboards and alert rules over what is sent."""


@app.command()
def alerts(thresholds: ThresholdsOption = None, as_json: JsonOption = False) -> None:
    """List the alert rules with their thresholds; docs/alerts.md holds what to do about each."""
    with exit_on_error(), needs_extra():
        from monitoring.dashboards.rule_files import rules_for
        from monitoring.dashboards.thresholds import thresholds_from

        values = thresholds_from({} if thresholds is None else read_json(thresholds))
        rules = [(rule, {name: getattr(values, name) for name in named}) for rule, named in rules_for(values)]
    if as_json:
        output.print_json([{**asdict(rule), "thresholds": own} for rule, own in rules])
        return
    output.print_table(
        ("ALERT", "SEVERITY", "AUDIENCE", "FOR"),
        (
            (rule.name, rule.severity, rule.audience, rule.hold, ", ".join(f"{key} {own[key]}" for key in own))
            for rule, own in rules
        ),
        has_notes=True,
    )
