"""``leglength-monitor report``: one file for who reads it, with what the store says of a period.

Its template library comes with the extra ``report``, and is loaded by the command alone.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from monitoring.cli.alarms import say_not_kept, store_to_look_at
from monitoring.cli.common import WRONG_INPUT, ConfigOption, exit_on_error
from monitoring.exceptions import ConfigurationError

if TYPE_CHECKING:
    from monitoring.analytics.reported import Report

_DAYS: Final = 365
_MOST: Final = {
    "MOST_ALARMS": 5, "MOST_SERIES": 14, "MOST_MONTHS": 12, "MOST_STRANGE": 4, "MOST_SEGMENTS": 3, "MOST_STRATA": 4,
    "MOST_FAULTS": 3, "MOST_MACHINES": 5, "MOST_YEARS": 4,
}  # fmt: skip
"""Rows on the page of one reader, so that it is one sheet of A4; all of them stand in the details."""
# Said beside the colour, for who can't see or print it.
_ICONS: Final = {
    "common": "no alarm (common cause)",
    "concern": "concern",
    "improvement": "improvement",
    "neither": "changed, neither better nor worse",
    "learning": "too few exams to alarm",
}
_VERDICTS: Final = {"too_few": "too few", "provisional": "provisional", "met": "met", "not_met": "not met"}
_QUESTIONS: Final = {
    "clinician": "can the measurements be trusted?",
    "operator": "is it up, fast, and ending well?",
    "regulator": "what was watched, how, and with what result?",
}
_FORMULA: Final = ("=", "@", "+", "-", "\t", "\r")  # of texts: numbers are none
_AUDIENCES: Final = tuple(_QUESTIONS)


def report(
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file that is written.")] = Path(
        "report.html"
    ),
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First UTC day; default a year before --to.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last UTC day; default today.")
    ] = None,
    audience: Annotated[
        str | None, typer.Option("--for", help="clinician, operator or regulator; default a page for each.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the report's data, too, as JSON.")] = None,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FOLDER", help="Write its tables, too, as CSV files in here.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write what the store says of a period into one HTML file.

    It holds no script, and asks nothing of the network. First comes a sentence of verdict; then a page for each
    reader, and every chart. It can be printed, on A4.
    """
    # One instant for all of it: a report that is made at midnight has one date.
    now_ns = time.time_ns()
    with exit_on_error():
        if audience is not None and audience not in _AUDIENCES:
            raise ConfigurationError(f"--for is one of {', '.join(_AUDIENCES)}")
        try:
            # Before the store is read: a look at 100,000 sessions would be in vain.
            import jinja2
        except ModuleNotFoundError:
            typer.echo("error: this command needs its extra: pip install 'leglength-monitoring[report]'", err=True)
            raise typer.Exit(WRONG_INPUT) from None
        from monitoring.analytics import report as figures
        from monitoring.analytics.material import Period, gather

        period = Period(*_days(first, last, now_ns))
        with store_to_look_at(config) as (store, settings, build, why_not):
            material = gather(store, settings.analytics, period, now_ns, build)
        say_not_kept(why_not or material.found.not_kept)
        made = figures.make(material, settings.application or "")
        written = {output: _page(jinja2, made, audience)}
        if as_json is not None:
            written[as_json] = figures.as_json(made)
        if as_csv is not None:
            written |= {as_csv / f"{name}.csv": _table(rows) for name, rows in figures.tables(made).items()}
        for path, text in written.items():
            _write(path, text)
            typer.echo(f"wrote {path}")
    typer.echo(made.verdict_for.get(audience or "", made.verdict))


def _days(first: datetime | None, last: datetime | None, now_ns: int) -> tuple[date, date]:
    to = last.date() if last else datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).date()
    since = first.date() if first else to - timedelta(days=_DAYS - 1)
    if since > to:
        raise ConfigurationError(f"--from {since} comes after --to {to}")
    return since, to


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _page(jinja2: Any, made: Report, audience: str | None) -> str:
    from monitoring.analytics.months import LIMITS_FROM
    from monitoring.analytics.pictures import picture, picture_of_gaps
    from monitoring.analytics.report import alarm_groups, groups, measured_in_words
    from monitoring.analytics.reported import SIMULATED
    from monitoring.analytics.wording import counted, in_unit

    folder = files("monitoring.analytics")
    environment = jinja2.Environment(
        # Escaped, since people's notes stand in it; strict, since a misspelt name would be an empty cell.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    numbers = {chart.chart: number for number, chart in enumerate(made.charts)}
    shown = sorted(
        (chart for chart in made.charts if audience in (None, "regulator", chart.audience)),
        # Those that say something come first; sorted keeps the others' order.
        key=lambda chart: chart.state not in ("alarm", "acknowledged"),
    )
    text = template.render(
        report=made,
        verdict=made.verdict_for.get(audience or "", made.verdict),
        audiences=[audience] if audience else list(_AUDIENCES),
        shown=shown,
        told=[alarm for alarm in made.alarms if audience in (None, "regulator", alarm.audience)],
        pictures={
            chart.chart: picture_of_gaps(chart.gaps, chart.gap_unit, chart.gap_limits)
            or picture(chart.months, chart.unit, chart.limits)
            for chart in shown
        },
        loop_id=numbers.__getitem__,
        style=jinja2.utils.markupsafe.Markup((folder / "report.css").read_text(encoding="utf-8")),
        in_unit=in_unit,
        counted=counted,
        groups=groups,
        alarm_groups=alarm_groups,
        measured_in_words=measured_in_words,
        mark=SIMULATED.get(made.application, ""),
        ICONS=_ICONS,
        VERDICTS=_VERDICTS,
        QUESTIONS=_QUESTIONS,
        LIMITS_FROM=LIMITS_FROM,
        **_MOST,
    )
    return str(text)


def _table(rows: Iterable[Mapping[str, object]]) -> str:
    """CSV; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    rows, file = list(rows), io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            texts = {
                name: f"'{cell}" for name, cell in row.items() if isinstance(cell, str) and cell.startswith(_FORMULA)
            }
            writer.writerow({**row, **texts})
    return file.getvalue()
