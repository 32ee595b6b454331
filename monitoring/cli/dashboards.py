"""``leglength-monitor dashboards``: what the dashboards and alert rules are, and the files that servers read.

Its libraries come with the extra ``dashboards`` and are loaded by the commands that need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from msgspec.structs import asdict, replace

from monitoring.cli import output
from monitoring.cli.common import (
    DONE,
    NOT_ALL_DONE,
    WRONG_INPUT,
    ConfigOption,
    JsonOption,
    exit_on_error,
    load_config,
    load_reported,
    read_json,
)
from monitoring.exceptions import ConfigurationError
from monitoring.settings import MonitoringConfig, is_used

if TYPE_CHECKING:
    from monitoring.dashboards.provisioning import Sources
    from monitoring.dashboards.rendering import Site
    from monitoring.dashboards.thresholds import Thresholds

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
        # A module of our own that is missing is a fault, and no extra.
        if error.name is None or error.name.startswith("monitoring"):
            raise
        typer.echo("error: this command needs its extra: pip install 'leglength-monitoring[dashboards]'", err=True)
        raise typer.Exit(WRONG_INPUT) from None


@app.callback()
def dashboards() -> None:
    """Dashboards and alert rules over what is sent."""


@app.command()
def alerts(
    thresholds: ThresholdsOption = None,
    backtest: Annotated[
        str | None, typer.Option("--backtest", help="Say when each would have fired in the time up to now, as 90d.")
    ] = None,
    scrape_interval: Annotated[
        str, typer.Option("--scrape-interval", help="Prometheus' own, for --backtest; 5m at most.")
    ] = "1m",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the alert rules with their thresholds; docs/alerts.md holds what to do about each.

    With --backtest every rule is evaluated over the store's own history, as Prometheus would have done it: how often
    each would have fired and how long, and which other thresholds would change that.
    """
    with exit_on_error(), needs_extra():
        # Here, and in each command: the others start without these libraries.
        from monitoring.dashboards.rule_files import rules_for
        from monitoring.dashboards.thresholds import thresholds_from

        values = thresholds_from({} if thresholds is None else read_json(thresholds))
        rules = [(rule, {name: getattr(values, name) for name in named}) for rule, named in rules_for(values)]
        if backtest is not None:
            from monitoring.cli.backtests import print_backtests

            print_backtests(load_config(config), values, backtest, scrape_interval, as_json)
            return
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


@app.command()
def verify(
    days: Annotated[int, typer.Option(min=1, help="How many days, up to now.")] = 30,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="Prometheus' address, to look at the newest totals, too.")
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Zone of the days, as Europe/Zurich.")] = "UTC",
    grafana: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask through this Grafana, and look at the dashboards it has.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--grafana-token-file", metavar="FILE", help="Holds a token; else $GRAFANA_TOKEN.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--grafana-source", metavar="SERVER=UID", help="Which data source, where several may be meant."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the backends what the dashboards ask, and compare with the store's own sessions.

    Exit 0 when all agrees, 1 when something differs or can't be asked, 2 when settings are wrong. A token that may
    read is taken from $INFLUXDB_READ_TOKEN, else that of the settings; Grafana's data sources have their own.
    """
    with exit_on_error(), needs_extra():
        from monitoring.cli import servers
        from monitoring.cli import verify as verification

        if grafana is None and (token_file is not None or source):
            raise ConfigurationError("--grafana-token-file and --grafana-source belong to --grafana URL")
        if grafana is not None and prometheus is not None:
            raise ConfigurationError("--grafana and --prometheus exclude each other: Grafana asks its own Prometheus")
        settings, zone = load_config(config), _zone(time_zone)
        shown = None if grafana is None else servers.shown(settings, zone.key, grafana, token_file, source or ())
        found = verification.verified(settings, days, zone, prometheus, shown)
        if as_json:
            output.print_json(verification.as_dict(found))
        else:
            verification.print_found(found)
    raise typer.Exit(DONE if found.is_good else NOT_ALL_DONE)


@app.command()
def render(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that is written; made if need be.")],
    influxql: Annotated[bool, typer.Option("--influxql", help="Images from InfluxDB, totals from Prometheus.")] = False,
    metricsql: Annotated[bool, typer.Option("--metricsql", help="Images from VictoriaMetrics instead.")] = False,
    prometheus_only: Annotated[bool, typer.Option("--prometheus-only", help="There is no InfluxDB.")] = False,
    influxdb_only: Annotated[bool, typer.Option("--influxdb-only", help="There is no Prometheus.")] = False,
    time_zone: Annotated[str, typer.Option("--time-zone", help="Zone of the days, as Europe/Zurich.")] = "UTC",
    scrape_interval: Annotated[str, typer.Option(help="Prometheus' own, as 15s.")] = "60s",
    prometheus_url: Annotated[str | None, typer.Option(help="Prometheus; else $PROMETHEUS_URL of Grafana's.")] = None,
    dashboards_path: Annotated[
        Path | None, typer.Option(help="Where Grafana finds DIR/grafana/dashboards, if elsewhere, as in a container.")
    ] = None,
    runbooks: Annotated[
        str | None, typer.Option(help="Where alerts' docs/alerts.md can be read, as an address.")
    ] = None,
    thresholds: ThresholdsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that this command didn't write.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write the files from which servers set themselves up for this site: dashboards, data sources and alert rules.

    Which backends there are is taken from the settings unless it is said. Secrets are left to Grafana's environment.
    """
    flags = {
        "influxql": influxql, "metricsql": metricsql,
        "prometheus-only": prometheus_only, "influxdb-only": influxdb_only,
    }  # fmt: skip
    with exit_on_error(), needs_extra():
        from monitoring.dashboards import provisioning
        from monitoring.dashboards.thresholds import thresholds_from

        checked = load_reported(config)
        # Files without one of the backends would look whole, and replace those that had it.
        if checked.off_by_mistake:
            raise ConfigurationError(f"wrong settings, without {', '.join(checked.off_by_mistake)}: nothing is written")
        settings = checked.config
        kind = _kind([name for name, is_given in flags.items() if is_given], settings)
        limits = thresholds_from({} if thresholds is None else read_json(thresholds))
        pages = dashboards_path or (folder / "grafana" / "dashboards").absolute()
        sources = _sources(settings, prometheus_url, runbooks, pages, scrape_interval)
        texts = provisioning.files(_site(kind, settings, time_zone, limits), sources)
        written = provisioning.write(texts, folder, replaces_foreign=force)
    for path in written:
        typer.echo(f"wrote {path}")
    typer.echo(f"{len(texts) - len(written)} of {len(texts)} files were as they are to be")
    needed = provisioning.needed(sources, texts)
    typer.echo(f"next: put {folder / 'grafana' / 'provisioning'} where Grafana reads its provisioning (in a container:")
    typer.echo("  /etc/grafana/provisioning), and start it" + (f" with {', '.join(needed)} set" if needed else ""))


def _kind(given: list[str], settings: MonitoringConfig) -> str:
    """Which backends the dashboards are for: what is asked for, else what the settings have."""
    if len(given) > 1:
        raise ConfigurationError(f"--{given[0]} and --{given[1]} exclude each other")
    if given:
        return given[0]
    has_images, has_totals = is_used(settings.influxdb), is_used(settings.prometheus)
    if not has_images and not has_totals:
        raise ConfigurationError("the settings have no backend to look at: name influxdb or prometheus")
    # VictoriaMetrics can't be told from InfluxDB by the settings: who has it says so.
    return "influxql" if has_images and has_totals else "influxdb-only" if has_images else "prometheus-only"


def _site(kind: str, settings: MonitoringConfig, zone: str, thresholds: Thresholds) -> Site:
    from monitoring.dashboards.rendering import Site

    job = settings.prometheus.job_name if settings.prometheus is not None else None
    return Site(
        images=None if kind == "prometheus-only" else "metricsql" if kind == "metricsql" else "influxql",
        totals=kind != "influxdb-only", zone=_zone(zone).key, application=settings.application is not None, job=job,
        thresholds=thresholds,
    )  # fmt: skip


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ConfigurationError(f"--time-zone {name}: there is no such zone; it is named as Europe/Zurich") from None


def _sources(
    settings: MonitoringConfig, prometheus_url: str | None, runbooks: str | None, pages: Path, scrape_interval: str
) -> Sources:
    from monitoring.dashboards.provisioning import Sources

    # It goes into a data source as it is, where Grafana would find it wrong, panel by panel.
    if not re.fullmatch(r"[1-9][0-9]*(ms|[smh])", scrape_interval):
        raise ConfigurationError(f"--scrape-interval {scrape_interval}: must be a number and a unit, as 15s")
    if "@" in (prometheus_url or ""):
        raise ConfigurationError("--prometheus-url: must not hold credentials, which would stand in a file")
    found = {"dashboards_path": str(pages), "scrape_interval": scrape_interval}
    if prometheus_url:
        found["prometheus_url"] = prometheus_url
    if influxdb := settings.influxdb:
        found |= {"images_url": influxdb.url, "database": influxdb.bucket}
        if influxdb.token is None and influxdb.token_file is None:
            # "" where nobody is asked: None would stand for a token.
            found["user"] = influxdb.username or ""
    # Grafana reads $NAME in these files from its environment, and $$ as a dollar sign.
    sources = Sources(**{name: text.replace("$", "$$") for name, text in found.items()})
    return replace(sources, runbooks=runbooks) if runbooks else sources
