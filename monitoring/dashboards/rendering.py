"""From declared dashboards to Grafana's classic JSON (schemaVersion 42), for the backends that a site has.

Files are provisioned in it: Grafana 12 passes one of the newer schema over without a word, and 13 migrates the classic.
Grid positions and ids are set here, since the library misplaces panels of mixed heights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from string import Template, ascii_uppercase
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from msgspec import Struct
from msgspec.structs import asdict
from promql_parser import parse_duration

from monitoring.dashboards.aggregation import WEEK
from monitoring.dashboards.charts import NOTICED, LatestOfEach, alarms_began, alarms_were_told
from monitoring.dashboards.fleet import FLEET
from monitoring.dashboards.measurements import MEASUREMENT_PAGE
from monitoring.dashboards.operation import OPERATION
from monitoring.dashboards.panels import (
    BAD,
    FIRING,
    GOOD,
    NOTE,
    QUIET,
    Answer,
    Dashboard,
    Images,
    Panel,
    Query,
    Row,
    Shown,
    Totals,
    Unit,
    series,
)
from monitoring.dashboards.questions import ImageTable, OverRange, PerPeriod, Scope, ShareWithin
from monitoring.dashboards.self_monitoring import SELF_MONITORING
from monitoring.dashboards.thresholds import DEFAULTS, Audience, Thresholds
from monitoring.metrics import catalogue

PAGES: Final = (OPERATION, MEASUREMENT_PAGE, SELF_MONITORING, FLEET)
COLUMNS = 24  # of Grafana's grid
MOST_POINTS = 5000  # of a series: enough for a day's steps in 13 years
TAG = "leglength"
PROMETHEUS, INFLUXDB, VICTORIAMETRICS = "prometheus_datasource", "influxdb_datasource", "victoriametrics_datasource"
SERVERS: Final = {PROMETHEUS: "Prometheus", INFLUXDB: "InfluxDB", VICTORIAMETRICS: "VictoriaMetrics"}
UIDS = {
    PROMETHEUS: "leglength-prometheus", INFLUXDB: "leglength-influxdb", VICTORIAMETRICS: "leglength-victoriametrics",
}  # fmt: skip
"""The data sources by the variable that chooses among them: the one that is provisioned is chosen first."""


class Site(Struct, frozen=True, kw_only=True):
    """What a site has and how it wants its dashboards.

    ``images``: the language of the backend that the images' points go to, None for none. ``totals``: whether there is
    a Prometheus. ``zone``: the days' time zone, by its IANA name. ``application``: whether an application's name is
    sent with everything. ``job``: the job that is chosen first, None for all. ``thresholds``: those of the alert rules,
    which panels show.
    """

    images: Literal["influxql", "metricsql"] | None = "influxql"
    totals: bool = True
    zone: str = "UTC"
    application: bool = False
    job: str | None = None
    thresholds: Thresholds = DEFAULTS

    @property
    def scope(self) -> Scope:
        """The page's variables."""
        return Scope.of_variables(self.zone, ("instance", "application") if self.application else ("instance",))

    @property
    def sources(self) -> dict[str, str]:
        """The variables of the data sources that the site has, and their types."""
        images = {"influxql": {INFLUXDB: "influxdb"}, "metricsql": {VICTORIAMETRICS: "prometheus"}}
        return ({PROMETHEUS: "prometheus"} if self.totals else {}) | images.get(self.images or "", {})

    def bound(self, threshold: float | str, unit: Unit = Unit.SECONDS) -> float:
        """A threshold's value, and a span's in the unit."""
        if not isinstance(threshold, str):
            return threshold
        value = getattr(self.thresholds, threshold.removeprefix("1-"))
        if isinstance(value, str):
            return float(parse_duration(value).total_seconds()) / unit.seconds
        return round(1.0 - value, 9) if threshold.startswith("1-") else float(value)

    def can_ask(self, query: Query) -> bool:
        """Whether one of the site's backends has an answer."""
        if isinstance(query, Totals):
            return self.totals
        return self.images == "influxql" or (self.images == "metricsql" and bool(query.question.metricsql(self.scope)))


class InfluxQuery(Dataquery):
    """An InfluxQL query as Grafana's InfluxDB data source keeps it; the library has none."""

    def __init__(self, query: str, result_format: str, alias: str = "", ref_id: str = "", **others: object) -> None:
        self.query, self.result_format, self.alias, self.ref_id = query, result_format, alias, ref_id
        self.datasource, self.others = _reference(INFLUXDB), others

    def to_json(self) -> dict[str, object]:
        """What stands in the file."""
        return {
            "refId": self.ref_id, "rawQuery": True, "query": self.query, "resultFormat": self.result_format,
            "alias": self.alias, "datasource": self.datasource, **self.others,
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
    builder.uid(page.uid).description(page.description).tags([TAG]).readonly().timezone(site.zone)
    builder.time("now-30d", "now").refresh("5m").week_start("monday").tooltip(models.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("Leg length").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    builder.link(others.keep_time(True).include_vars(True).as_dropdown(False).tooltip("The same range and instances"))
    for variable in _variables(site):
        builder.with_variable(variable)
    for annotation in _annotations(page, site):
        builder.annotation(annotation)
    found = builder.build()
    found.schema_version = 42  # whatever a later library writes
    found.panels = list(_laid_out(page.rows, site))
    return found


def _variables(site: Site) -> Iterator[Any]:
    """The data sources, and what narrows a page: jobs (of Prometheus), instances, and applications if told."""
    for name, kind in site.sources.items():
        chosen_first = models.VariableOption(text=UIDS[name], value=UIDS[name], selected=True)
        yield dashboard.DatasourceVariable(name).label(SERVERS[name]).type(kind).current(chosen_first)
    of_points = [("instance", "Instance")] + [("application", "Application")] * site.application
    if site.totals:
        yield _query_variable(
            "job", "Job", f"label_values({catalogue.SESSIONS.name}, job)", PROMETHEUS, chosen_first=site.job
        )
        for name, label in of_points:
            query = f'label_values({catalogue.SESSIONS.name}{{job=~"$job"}}, {name})'
            yield _query_variable(name, label, query, PROMETHEUS)
    else:
        for name, label in of_points:
            query = f'SHOW TAG VALUES FROM "{catalogue.SESSION_DURATION.measurement}" WITH KEY = "{name}"'
            yield _query_variable(name, label, query, INFLUXDB)


def _query_variable(name: str, label: str, query: str, source: str, *, chosen_first: str | None = None) -> Any:
    text, value = ([chosen_first],) * 2 if chosen_first else (["All"], ["$__all"])
    every = models.VariableOption(text=text, value=value, selected=True)
    builder = dashboard.QueryVariable(name).label(label).query(query).datasource(_reference(source)).current(every)
    builder.multi(True).include_all(True).all_value(".+").sort(models.VariableSort.ALPHABETICAL_ASC)
    return builder.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _annotations(page: Dashboard, site: Site) -> Iterator[Any]:
    """Where charts' alarms began; firing alerts, and versions that weren't seen in the month before: InfluxDB has no
    such questions.
    """
    if page.alarms_of:
        yield _alarms(page.alarms_of, site)
    if not site.totals:
        return
    yield _annotation("Alerts", NOTE, FIRING, "{{alertname}}", "{{severity}}: {{instance}}")
    for name, metric, labels in (
        ("Versions", catalogue.BUILD_INFO, "version"),
        ("Models", catalogue.MODEL_INFO, "model, version"),
    ):
        selected = Totals(expression=series(metric)).promql(site.scope)
        group = f"group by (instance, {labels})"
        new = f"{group} ({selected}) unless {group} (last_over_time({selected}[30d] offset 1h))"
        title = " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))
        yield _annotation(name, QUIET, new, title, "new on {{instance}}")


def _alarms(audience: Audience, site: Site) -> Any:
    """An alarm's mark, by the best of the site's backends: only a log knows when the change began."""
    name, began = "An alarm began", alarms_began(audience)
    if site.images == "influxql":
        builder = dashboard.AnnotationQuery().name(name).enable(True).datasource(_reference(INFLUXDB)).icon_color(BAD)
        columns = {"titleColumn": "chart", "textColumn": "size", "tagsColumn": "unit,instance"}
        query = InfluxQuery(began.influxql(site.scope), "table", ref_id="Marks", fromAnnotations=True, **columns)
        return builder.target(_Built(query))  # type: ignore[arg-type]  # a builder by its form
    if site.images:
        (expression,) = began.metricsql(site.scope).values()
        return _annotation(name, BAD, expression, "{{chart}}", "changed on {{instance}}", VICTORIAMETRICS)
    expression = alarms_were_told(audience).promql(site.scope)
    return _annotation("An alarm was told", BAD, expression, "{{chart}}", "alarm on {{instance}}; it began earlier")


def _annotation(name: str, color: str, expression: str, title: str, text: str, source: str = PROMETHEUS) -> Any:
    builder = dashboard.AnnotationQuery().name(name).enable(True).datasource(_reference(source)).icon_color(color)
    return builder.expr(expression).step("1h").title_format(title).text_format(text)


def _reference(source: str) -> common_models.DataSourceRef:
    kind = "influxdb" if source == INFLUXDB else "prometheus"
    return common_models.DataSourceRef(type_val=kind, uid=f"${{{source}}}")


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
            height = max(panel.height for panel, _ in line)
            for place, (panel, answer) in enumerate(line):
                width = panel.width + spare // len(line) + (place < spare % len(line))
                position = models.GridPos(h=height, w=width, x=x, y=y)
                yield _panel(panel, answer, site).id(panel.id).grid_pos(position).build()
                x += width
            y += height


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
    builder.title(answer.title or panel.title).description(described(panel, answer, site))
    builder.unit((answer.unit or panel.unit).value).no_value(panel.empty).max_data_points(MOST_POINTS)
    steps = _steps(panel, answer, shown, site)
    builder.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for setting, value in (("decimals", panel.decimals), ("min", panel.minimum), ("max", panel.maximum)):
        if value is not None:
            getattr(builder, setting)(value)
    if panel.words:
        words = enumerate(panel.words.items())
        mapped = {f"{at:g}": models.ValueMappingResult(*word, index=index) for index, (at, word) in words}
        mappings = [models.ValueMap(options=mapped)]
        if panel.words_in:
            in_color = _value("custom.cellOptions", {"type": "color-text"})
            builder.override_by_name(panel.words_in, [_value("mappings", mappings), in_color])
        else:
            builder.mappings(mappings)
    for name, color in panel.colors.items():
        of_many = name.startswith("/")
        override = builder.override_by_regexp if of_many else builder.override_by_name
        override(name, [_value("color", {"mode": "shades" if of_many else "fixed", "fixedColor": color})])
    for name, unit in panel.units.items():
        whole = [_value("decimals", 0)] if unit is Unit.COUNT else []
        builder.override_by_name(name, [_value("unit", unit.value), *whole])
    targets = [(query, target) for query in answer.queries for target in _targets(query, shown, site)]
    for ref, (query, target) in zip(ascii_uppercase, targets, strict=False):
        target.ref_id = ref
        builder.with_target(_Built(target))
        if isinstance(query, Images) and query.drawn is Shown.POINTS:
            builder.override_by_query(ref, [_value("custom.drawStyle", "points"), _value("custom.pointSize", 4)])
    _suit_to_times(builder, shown, targets, panel)
    return builder.datasource(targets[0][1].datasource)


def _suit_to_times(builder: Any, shown: Shown, targets: list[tuple[Query, Any]], panel: Panel) -> None:
    """What a panel does with its rows' times."""
    if shown is Shown.TABLE:
        _arrange_table(builder, targets, panel)
    elif shown is Shown.BARS and any(target.interval == WEEK.window for _, target in targets if _is_promql(target)):
        builder.bar_alignment(common_models.BarAlignment.CENTER)  # it stands on the week's Thursday
    elif shown is Shown.STAT and any(_has_times(query) for query, _ in targets):
        when = common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/^Time$/").values(False)
        builder.reduce_options(when)


def described(panel: Panel, answer: Answer, site: Site) -> str:
    """All that the panel says of itself, a paragraph each."""
    judged = panel.thresholds_from if answer.is_judged else ""
    parts = (
        panel.description,
        answer.note,
        judged and f"Thresholds: {judged}",
        f"\u201c{panel.empty}\u201d: {panel.empty_means}",
    )
    values = {
        name: value if isinstance(value, str) else f"{value:g}" for name, value in asdict(site.thresholds).items()
    }
    return Template("\n\n".join(filter(None, parts))).safe_substitute(values)


def _steps(panel: Panel, answer: Answer, shown: Shown, site: Site) -> list[models.Threshold]:
    """In a graph the lines, each of its worse side's color; else from 0 on: what is empty has the lowest one's."""
    judged = panel.thresholds if answer.is_judged else ()
    colors = [panel.base if judged else GOOD, *(color for _, color in judged)]
    bounds = [site.bound(bound, answer.unit or panel.unit) for bound, _ in judged]
    if shown in _GRAPHS:
        lines = [max(pair, key=_FROM_GOOD_TO_BAD.index) for pair in pairwise(colors)]
        return [models.Threshold(value=None, color=GOOD), *map(models.Threshold, bounds, lines)]
    return [models.Threshold(value=None, color=QUIET), *map(models.Threshold, [0.0, *bounds], colors)]


_GRAPHS: Final = (Shown.LINES, Shown.POINTS, Shown.BARS)
_FROM_GOOD_TO_BAD: Final = (GOOD, QUIET, NOTE, BAD)


def _value(name: str, value: Any) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)


def _stat(panel: Panel) -> Any:
    color = common_models.BigValueColorMode.BACKGROUND_SOLID if panel.words else common_models.BigValueColorMode.VALUE
    text = common_models.BigValueTextMode.VALUE_AND_NAME if panel.names_beside else common_models.BigValueTextMode.AUTO
    builder = stat.Panel().graph_mode(common_models.BigValueGraphMode.NONE).color_mode(color).text_mode(text)
    return builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


_EMPTY_CELL = _value("noValue", "\u2013")
_WIDTHS = {"alertname": 205, "severity": 75, "status": 90, "chart": 350, NOTICED: 185}
"""Of columns whose words are known, in pixels: they are read whole at any width of the page."""


def _table(panel: Panel) -> Any:
    builder = table.Panel().cell_height(common_models.TableCellHeight.SM).min_width(60)
    if panel.thresholds:
        builder.cell_options(common_models.TableColorTextCellOptions())
    # Grafana reads a label that looks like a number as one: landmark 1 would be 100 %.
    as_text = [_value("unit", "string"), _value("custom.cellOptions", {"type": "auto"}), _EMPTY_CELL]
    builder.override_by_field_type("string", as_text)
    builder.override_by_field_type("time", [_value("custom.width", 160)])
    for name, width in _WIDTHS.items():
        builder.override_by_name(name, [_value("custom.width", width)])
    # A cell without a value isn't a table without one.
    return builder.override_by_field_type("number", [_EMPTY_CELL])


def _gauges(_: Panel) -> Any:
    builder = bargauge.Panel().orientation(common_models.VizOrientation.HORIZONTAL).show_unfilled(True)
    builder.display_mode(common_models.BarGaugeDisplayMode.BASIC)
    return builder.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def _graph(panel: Panel) -> Any:
    builder = timeseries.Panel().line_width(2).point_size(5).span_nulls(True)
    builder.show_points(common_models.VisibilityMode.AUTO).draw_style(common_models.GraphDrawStyle.LINE)
    # What has no color of its own bears an open name, as a model's: hues tell them apart, shades would not.
    builder.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    builder.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    builder.legend(_legend(beside=panel.names_beside))
    drawn = common_models.GraphThresholdsStyleMode.DASHED if panel.thresholds else None
    off = common_models.GraphThresholdsStyleMode.OFF
    return builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(drawn or off))


def _legend(*, beside: bool = False) -> Any:
    place = common_models.LegendPlacement.RIGHT if beside else common_models.LegendPlacement.BOTTOM
    legend = common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST)
    return legend.placement(place)


def _points(panel: Panel) -> Any:
    builder = _graph(panel).draw_style(common_models.GraphDrawStyle.POINTS)
    return builder.show_points(common_models.VisibilityMode.ALWAYS)


def _bars(panel: Panel) -> Any:
    builder = _graph(panel).draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    builder.bar_alignment(common_models.BarAlignment.AFTER)
    return builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))


def _timeline(_: Panel) -> Any:
    builder = statetimeline.Panel().show_value(common_models.VisibilityMode.NEVER).legend(_legend()).merge_values(True)
    builder.build().options.per_page = 0  # type: ignore[attr-defined]  # no pages: the builder refuses this number
    return builder.row_height(0.85).fill_opacity(90).line_width(0)


_BUILDERS = {
    Shown.STAT: _stat,
    Shown.TABLE: _table,
    Shown.GAUGES: _gauges,
    Shown.LINES: _graph,
    Shown.POINTS: _points,
    Shown.BARS: _bars,
    Shown.TIMELINE: _timeline,
}


def _arrange_table(builder: Any, targets: list[tuple[Query, Any]], panel: Panel) -> None:
    """One table of all queries: a value under its name, hidden without one, and times only where they say when."""
    names: dict[str, str] = {}
    hidden: dict[str, bool] = {}
    order = list(panel.order)
    for query, target in targets:
        if _is_promql(target):
            column = f"Value #{target.ref_id}" if len(targets) > 1 else "Value"
            if target.legend_format:
                names[column] = target.legend_format
            else:
                hidden[column] = True
        if isinstance(query, Images) and isinstance(query.question, ImageTable | LatestOfEach):
            order = order or ["Time", *query.question.by, *query.question.columns]
            if isinstance(query.question, ImageTable) and query.question.smallest:  # InfluxDB has them by their times
                builder.sort_by([common.TableSortByFieldState().display_name(query.question.columns[0])])
        else:
            hidden["Time"] = True
    if len(targets) > 1:
        builder.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    if panel.sorted_by:
        builder.sort_by([common.TableSortByFieldState().display_name(panel.sorted_by).desc(True)])
    unnamed = {name: column for column, name in names.items()}
    options = {
        "excludeByName": hidden,
        "indexByName": {name: at for at, name in enumerate(map(unnamed.get, order, order))},
        "renameByName": names,
    }
    builder.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))


def _has_times(query: Query) -> bool:
    """Whether the times of its rows are images'."""
    return isinstance(query, Images) and isinstance(query.question, ImageTable | LatestOfEach)


def _is_promql(target: Any) -> bool:
    return isinstance(target, prometheus_models.Dataquery)


# --- queries ------------------------------------------------------------------------------------


class _Built:
    """A query that is built already, where the library wants a builder."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def build(self) -> Any:
        return self.target


def _targets(query: Query, shown: Shown, site: Site) -> Iterator[Any]:
    """A query as the data sources keep it: one for each expression."""
    scope, is_table = site.scope, shown is Shown.TABLE or _has_times(query)
    if isinstance(query, Totals):
        yield _prometheus(PROMETHEUS, query.promql(scope), query.legend, query.at_end, query.step, is_table)
    elif site.images == "influxql":
        alias = re.sub(r"\{\{(\w+)\}\}", r"$tag_\1", query.legend.replace("{{column}}", "$col"))
        yield InfluxQuery(query.question.influxql(scope), "table" if is_table else "time_series", alias)
    else:
        question = query.question
        step = question.period.window if isinstance(question, PerPeriod | ShareWithin) else ""
        for column, expression in question.metricsql(scope).items():
            at_end = isinstance(question, OverRange)
            yield _prometheus(
                VICTORIAMETRICS, expression, query.legend.replace("{{column}}", column), at_end, step, is_table
            )


def _prometheus(source: str, expression: str, legend: str, at_end: bool, step: str, is_table: bool) -> Any:
    return prometheus_models.Dataquery(
        datasource=_reference(source),
        editor_mode=prometheus_models.QueryEditorMode.CODE,
        expr=expression,
        format_val=prometheus_models.PromQueryFormat("table" if is_table else "time_series"),
        instant=at_end,
        range_val=not at_end,
        legend_format=legend,
        interval=step or None,
    )
