"""From declared dashboards to Grafana's classic JSON (schemaVersion 42), for the backends that a site has.

Grafana from version 10 on reads it, and files are provisioned in it: version 12 passes a file of the newer schema over
without a word. Grid positions and ids are set here, since the library misplaces panels of mixed heights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from string import ascii_uppercase
from typing import Any, Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from msgspec import Struct

from monitoring.dashboards.panels import GOOD, Answer, Dashboard, Images, Panel, Query, Row, Shown, Totals
from monitoring.dashboards.questions import ImageTable, OverRange, PerPeriod, Scope, ShareWithin

COLUMNS = 24
MOST_POINTS = 5000  # of a series: enough for a day's steps in 13 years
PROMETHEUS, INFLUXDB, VICTORIAMETRICS = "prometheus_datasource", "influxdb_datasource", "victoriametrics_datasource"


class Site(Struct, frozen=True, kw_only=True):
    """What a site has and how it wants its dashboards.

    ``images``: the language of the backend that the images' points go to, None for none. ``totals``: whether there is
    a Prometheus. ``zone``: the days' time zone, by its IANA name. ``application``: whether an application's name is
    sent with everything.
    """

    images: Literal["influxql", "metricsql"] | None = "influxql"
    totals: bool = True
    zone: str = "UTC"
    application: bool = False

    @property
    def scope(self) -> Scope:
        """The page's variables."""
        return Scope.of_variables(self.zone, ("instance", "application") if self.application else ("instance",))

    def can_ask(self, query: Query) -> bool:
        """Whether one of the site's backends has an answer."""
        if isinstance(query, Totals):
            return self.totals
        return self.images == "influxql" or (self.images == "metricsql" and bool(query.question.metricsql(self.scope)))


class InfluxQuery(Dataquery):
    """An InfluxQL query as Grafana's InfluxDB data source keeps it; the library has none."""

    def __init__(self, query: str, result_format: str, alias: str) -> None:
        self.query, self.result_format, self.alias, self.ref_id = query, result_format, alias, ""
        self.datasource = common_models.DataSourceRef(type_val="influxdb", uid=f"${{{INFLUXDB}}}")

    def to_json(self) -> dict[str, object]:
        """What stands in the file."""
        return {
            "refId": self.ref_id, "rawQuery": True, "query": self.query, "resultFormat": self.result_format,
            "alias": self.alias, "datasource": self.datasource,
        }  # fmt: skip


def render(page: Dashboard, site: Site) -> str:
    """A page's JSON as a file of Grafana's provisioning holds it."""
    return json.dumps(built(page, site), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def chosen(panel: Panel, site: Site) -> Answer | None:
    """The first of the panel's answers that the site's backends have; None where they have none."""
    return next((answer for answer in panel.answers if all(map(site.can_ask, answer.queries))), None)


def built(page: Dashboard, site: Site) -> models.Dashboard:
    """A page as the library's model."""
    builder = dashboard.Dashboard(page.title)
    builder.uid(page.uid).description(page.description).tags(["leglength"]).readonly().timezone(site.zone)
    builder.time("now-30d", "now").refresh("5m").week_start("monday").tooltip(models.DashboardCursorSync.CROSSHAIR)
    found = builder.build()
    found.schema_version = 42
    found.panels = list(_laid_out(page.rows, site))
    return found


def _laid_out(rows: Iterable[Row], site: Site) -> Iterator[Any]:
    """The panels that the site can answer, in lines of 24 columns; what is left out leaves no gap."""
    y = 0
    for number, row in enumerate(rows, start=1):
        panels = [(panel, answer) for panel in row.panels if (answer := chosen(panel, site))]
        if not panels:
            continue
        title = dashboard.Row(row.title).id(1000 + number).grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=y)).build()
        yield title
        y += 1
        for line in _lines(panels):
            x, spare = 0, COLUMNS - sum(panel.width for panel, _ in line)
            for place, (panel, answer) in enumerate(line):
                width = panel.width + spare // len(line) + (place < spare % len(line))
                position = models.GridPos(h=panel.height, w=width, x=x, y=y)
                yield _panel(panel, answer, site).id(panel.id).grid_pos(position).build()
                x += width
            y += max(panel.height for panel, _ in line)


def _lines(panels: Iterable[tuple[Panel, Answer]]) -> Iterator[list[tuple[Panel, Answer]]]:
    line: list[tuple[Panel, Answer]] = []
    for panel, answer in panels:
        if sum(each.width for each, _ in line) + panel.width > COLUMNS:
            yield line
            line = []
        line.append((panel, answer))
    if line:
        yield line


# --- panels -------------------------------------------------------------------------------------


def _panel(panel: Panel, answer: Answer, site: Site) -> Any:
    """The library's builder for a panel, but for its place."""
    shown = answer.shown or panel.shown
    builder = _BUILDERS[shown](panel)
    builder.title(answer.title or panel.title).description(described(panel, answer))
    builder.unit((answer.unit or panel.unit).value).no_value(panel.empty).max_data_points(MOST_POINTS)
    steps = [models.Threshold(value=None, color=GOOD), *(models.Threshold(*step) for step in panel.thresholds)]
    builder.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for setting, value in (("decimals", panel.decimals), ("min", panel.minimum), ("max", panel.maximum)):
        if value is not None:
            getattr(builder, setting)(value)
    if panel.words:
        words = enumerate(panel.words.items())
        mapped = {f"{at:g}": models.ValueMappingResult(*word, index=index) for index, (at, word) in words}
        builder.mappings([models.ValueMap(options=mapped)])
    for name, color in panel.colors.items():
        builder.override_by_name(name, [_value("color", {"mode": "fixed", "fixedColor": color})])
    for name, unit in panel.units.items():
        builder.override_by_name(name, [_value("unit", unit.value)])
    targets = [target for query in answer.queries for target in _targets(query, shown, site)]
    for ref, target in zip(ascii_uppercase, targets, strict=False):
        target.ref_id = ref
        builder.with_target(_Built(target))
    if shown is Shown.TABLE:
        _arrange_table(builder, answer, targets)
    return builder.datasource(targets[0].datasource)


def described(panel: Panel, answer: Answer) -> str:
    """All that the panel says of itself, a paragraph each."""
    parts = (
        panel.description,
        answer.note,
        panel.thresholds_from and f"Thresholds: {panel.thresholds_from}",
        f"\u201c{panel.empty}\u201d: {panel.empty_means}",
    )
    return "\n\n".join(filter(None, parts))


def _value(name: str, value: Any) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)


def _stat(panel: Panel) -> Any:
    color = common_models.BigValueColorMode.BACKGROUND_SOLID if panel.words else common_models.BigValueColorMode.VALUE
    builder = stat.Panel().graph_mode(common_models.BigValueGraphMode.NONE).color_mode(color)
    return builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def _table(_: Panel) -> Any:
    return table.Panel().cell_height(common_models.TableCellHeight.SM)


def _gauges(_: Panel) -> Any:
    builder = bargauge.Panel().orientation(common_models.VizOrientation.HORIZONTAL).show_unfilled(True)
    builder.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    return builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def _graph(panel: Panel) -> Any:
    builder = timeseries.Panel().line_width(2).point_size(5).span_nulls(True)
    builder.show_points(common_models.VisibilityMode.AUTO).draw_style(common_models.GraphDrawStyle.LINE)
    builder.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.SHADES).fixed_color(GOOD))
    builder.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    builder.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .placement(common_models.LegendPlacement.BOTTOM)
        .display_mode(common_models.LegendDisplayMode.LIST)
    )
    drawn = common_models.GraphThresholdsStyleMode.DASHED if panel.thresholds else None
    off = common_models.GraphThresholdsStyleMode.OFF
    return builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(drawn or off))


def _points(panel: Panel) -> Any:
    builder = _graph(panel).draw_style(common_models.GraphDrawStyle.POINTS)
    return builder.show_points(common_models.VisibilityMode.ALWAYS)


def _bars(panel: Panel) -> Any:
    builder = _graph(panel).draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    builder.bar_alignment(common_models.BarAlignment.AFTER)
    return builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))


_BUILDERS = {
    Shown.STAT: _stat,
    Shown.TABLE: _table,
    Shown.GAUGES: _gauges,
    Shown.LINES: _graph,
    Shown.POINTS: _points,
    Shown.BARS: _bars,
}


def _arrange_table(builder: Any, answer: Answer, targets: list[Any]) -> None:
    """One table of all queries, without the times of what has none, each value under its name."""
    names: dict[str, str] = {}
    for query, ref in zip(answer.queries, ascii_uppercase, strict=False):
        if isinstance(query, Totals):
            names |= {f"Value #{ref}": query.legend, "Value": query.legend}
    if len(targets) > 1:
        builder.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    keeps_time = any(isinstance(query, Images) and isinstance(query.question, ImageTable) for query in answer.queries)
    options = {"excludeByName": {} if keeps_time else {"Time": True}, "indexByName": {}, "renameByName": names}
    builder.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))


# --- queries ------------------------------------------------------------------------------------


class _Built:
    """A query that is built already, where the library wants a builder."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def build(self) -> Any:
        return self.target


def _targets(query: Query, shown: Shown, site: Site) -> Iterator[Any]:
    """A query as the data sources keep it: one for each expression."""
    scope, is_table = site.scope, shown is Shown.TABLE
    if isinstance(query, Totals):
        yield _prometheus(PROMETHEUS, query.promql(scope), query.legend, query.at_end, query.step, is_table)
    elif site.images == "influxql":
        alias = re.sub(r"\{\{(\w+)\}\}", r"$tag_\1", query.legend) or "$col"
        yield InfluxQuery(query.question.influxql(scope), "table" if is_table else "time_series", alias)
    else:
        question = query.question
        step = question.period.window if isinstance(question, PerPeriod | ShareWithin) else ""
        for column, expression in question.metricsql(scope).items():
            at_end = isinstance(question, OverRange)
            yield _prometheus(VICTORIAMETRICS, expression, query.legend or column, at_end, step, is_table)


def _prometheus(source: str, expression: str, legend: str, at_end: bool, step: str, is_table: bool) -> Any:
    return prometheus_models.Dataquery(
        datasource=common_models.DataSourceRef(type_val="prometheus", uid=f"${{{source}}}"),
        editor_mode=prometheus_models.QueryEditorMode.CODE,
        expr=expression,
        format_val=prometheus_models.PromQueryFormat("table" if is_table else "time_series"),
        instant=at_end,
        range_val=not at_end,
        legend_format=legend,
        interval=step or None,
    )
