"""What a dashboard is made of: panels with their words, queries and thresholds, in rows. Declared only; see rendering.

A panel has one or more answers, the best first: which of them a site sees depends on the backends that it has, and a
panel without one for them is left out there. Images are asked for with a question, totals and what the monitoring says
of itself with PromQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import cycle
from typing import Any, Final

from msgspec import Struct

from monitoring.dashboards.aggregation import LATEST_INSTANT
from monitoring.dashboards.promql import GROUP_LABELS
from monitoring.dashboards.questions import OverRange, Question, Scope, quoted
from monitoring.dashboards.thresholds import Audience
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Metric

# Blue, orange and grey stay apart for the colour-blind, on light and on dark; none means something by itself.
GOOD, NOTE, BAD, QUIET = "#3B82C4", "#E69F00", "#D55E00", "#8E8E8E"
PALETTE = (GOOD, NOTE, "#56B4E9", QUIET, BAD, "#B9770E", "#1F4E79", "#C8C8C8")
"""Of series without a meaning, in the order of their names; the first four suffice mostly."""


def colored(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name of a closed set, the same on every page."""
    return dict(zip(names, cycle(PALETTE), strict=False))


OF_MODELS: Final = {"/^[A-Ga-g]/": GOOD, "/^[H-Nh-n]/": NOTE, "/^[O-Zo-z]/": QUIET}
"""Names of models are open: the initial chooses the hue, and shades of it tell apart what shares one."""

_SCOPE = "<scope>"


class Unit(StrEnum):
    """Grafana's names of the units that occur."""

    SECONDS = "s"
    BYTES = "bytes"
    SHARE = "percentunit"
    MILLIMETERS = "suffix:mm"  # `lengthmm` shows 0.6 mm as 600 µm
    COUNT = "short"
    DAYS = "d"
    # An instant in ms, which Grafana turns into words; it has no bounds.
    AGO = "dateTimeFromNow"

    @property
    def seconds(self) -> int:
        """How many seconds a span's unit has, which the thresholds' spans are shown in."""
        return 86400 if self is Unit.DAYS else 1


class Shown(StrEnum):
    """How a panel shows its answer."""

    STAT = "stat"
    LINES = "lines"
    POINTS = "points"
    BARS = "bars"
    TABLE = "table"
    GAUGES = "gauges"
    TIMELINE = "timeline"


FIRING = 'ALERTS{alertname=~"LegLength.*",alertname!="LegLengthHeartbeat",alertstate="firing"}'
"""What fires of the rules; the heartbeat always does. Not narrowed to instances: some alerts are of none."""
GRAVITY = " or ".join(
    f"{grade} * {FIRING[:-1]},severity={quoted(severity)}}}"
    for grade, severity in ((3, "critical"), (2, "warning"), (1, "info"))
)
"""The same, each with how grave it is."""


def series(metric: Metric, part: str = "", /, **labels: str) -> str:
    """A PromQL selector of the metric on the page's instances; ``part`` of a histogram is bucket, sum or count.

    A label's value is a regular expression where it holds ``|`` or ``(``. Raises ValueError for what is never sent.
    """
    known = {label.name: label for label in metric.labels}
    # At import, so that a panel can't be declared that would always be empty.
    if (
        not metric.is_pushed
        or (metric.kind is Kind.HISTOGRAM) != bool(part)
        or not known.keys() | {"le"} >= labels.keys()
    ):
        raise ValueError(f"{metric.name} is not pushed with {part or 'no part'} and {', '.join(labels) or 'no labels'}")
    matchers = (f"{name}{'=~' if {*'|('} & {*value} else '='}{quoted(value)}" for name, value in labels.items())
    return f"{metric.name}{'_' * bool(part)}{part}{{{','.join([*matchers, _SCOPE])}}}"


def grown(metric: Metric, by: str, behind: str, part: str = "", /, **labels: str) -> str:
    """PromQL: by how much a counter grew, whole, summed by labels (``""``: none); ``behind`` is ``[7d]`` or the"
    " like.
    """
    clause = f" by ({by})" if by else ""
    # Rounded: events are whole, and increase extrapolates by up to 6 % where scrapes were missed.
    return f"sum{clause} (round(increase({series(metric, part, **labels)}{behind})))"


def must_act(audience: str = "") -> str:
    """PromQL: 2 when an alert fires that pages, 1 for one that can wait, 0 for none, -1 when no rules are evaluated."""
    firing = FIRING.replace("}", f',audience="{audience}"}}') if audience else FIRING
    critical, warning = (f"count({firing[:-1]},severity={quoted(each)}}})" for each in ("critical", "warning"))
    # The heartbeat always fires: without it nobody evaluates rules, and "no alert" means nothing.
    evaluated = 'ALERTS{alertname="LegLengthHeartbeat",alertstate="firing"}'
    return f"2 * ({critical} > bool 0) or ({warning} > bool 0) or 0 * count({evaluated}) or vector(-1)"


MUST_ACT: Final[Mapping[float, tuple[str, str]]] = {
    -1: ("Unknown: no rules", QUIET),
    0: ("No", GOOD),
    1: ("Soon", NOTE),
    2: ("Now", BAD),
}
"""What the values of :func:`must_act` mean."""

_OLDEST, _PENDING = series(catalogue.MONITORING_OLDEST), series(catalogue.MONITORING_PENDING)
SINCE_PUSH: Final = f"(time() - push_time_seconds{{{_SCOPE}}})"
"""PromQL: how long ago the Pushgateway was last told, by instance."""
# push_time is one for each group, and bears no backend.
_SAME: Final = f"on ({', '.join(GROUP_LABELS)})"
WAITING: Final = f"({_OLDEST} + {_SAME} group_left () {SINCE_PUSH} or {_OLDEST}) and {_PENDING} > 0"
"""PromQL: how long the oldest session waits, by backend; what is told at a push stands still until the next."""


class Totals(Struct, frozen=True, kw_only=True):
    """A PromQL query. ``legend`` names labels as ``{{label}}``; in a table it is the column's name.

    ``at_end``: asked once, at the range's end; else along it, in steps of ``step`` where one is given.
    ``of_totals``: shows counters as they stand, for open labels, whose first event ``increase`` doesn't see.
    """

    expression: str
    legend: str = ""
    at_end: bool = False
    step: str = ""
    of_totals: bool = False

    def promql(self, scope: Scope) -> str:
        """The expression over the scope's instances."""
        return self.expression.replace(f",{_SCOPE}", scope.promql_filters).replace(
            _SCOPE, scope.promql_filters.removeprefix(",")
        ).replace("$__range", scope.range)  # fmt: skip


class Images(Struct, frozen=True, kw_only=True):
    """A question to the images' log. ``legend`` names tags as ``{{tag}}`` and the column as ``{{column}}``, as it is
    where none is given.
    """

    question: Question
    legend: str = "{{column}}"
    drawn: Shown | None = None


Query = Totals | Images


class Answer(Struct, frozen=True, kw_only=True):
    """Queries to one backend that show what the panel promises; ``note`` says how far they can be off.

    ``shown``, ``unit`` and ``title`` are the panel's where they aren't given; ``is_judged`` is False where its
    thresholds don't apply.
    """

    queries: tuple[Query, ...]
    note: str = ""
    title: str = ""
    shown: Shown | None = None
    unit: Unit | None = None
    is_judged: bool = True


def asked(question: Question, legend: str = "{{column}}", *, note: str = "", **others: Any) -> Answer:
    """An answer that one question to the images' log gives."""
    return Answer(queries=(Images(question=question, legend=legend),), note=note, **others)


def told(
    expression: str, legend: str = "", *, at_end: bool = False, step: str = "", note: str = "", of_totals: bool = False,
    **others: Any,
) -> Answer:  # fmt: skip
    """An answer that one PromQL query gives."""
    query = Totals(expression=expression, legend=legend, at_end=at_end, step=step, of_totals=of_totals)
    return Answer(queries=(query,), note=note, **others)


def days_until(metric: Metric, *by: str) -> str:
    """PromQL: the days until the soonest of the instants that a gauge tells by labels, 0 once it is over."""
    # Not below 0: what has ended, or is full, is no better known by how long ago.
    return f"clamp_min((min by ({', '.join(by)}) ({series(metric)}) - time()) / {Unit.DAYS.seconds}, 0)"


def grown_in_range(metric: Metric, by: str = "", legend: str = "", *, more: str = "", **labels: str) -> Answer:
    """An answer that says by how much a counter grew in the page's range; ``more`` PromQL is put behind that."""
    # Asked once, at the range's end: along it, each step would look a whole range back.
    return told(f"{grown(metric, by, '[$__range]', **labels)}{more}", legend, at_end=True, note=OF_SCRAPES)


def asked_when(metric: Metric, by: tuple[str, ...], legend: str, note: str = "") -> Answer:
    """The second best answer to how long ago, or in how long, the instant is that a gauge tells: the instant itself."""
    # InfluxQL can't take now() from a value, and Grafana shows an instant as a span. Thresholds are of spans.
    question = OverRange(metrics={"instant": metric}, by=by, statistic=LATEST_INSTANT)
    return asked(question, legend, note=note, unit=Unit.AGO, is_judged=False)


def latest_told(metrics: Mapping[str, Metric], by: str = "", **others: Any) -> Answer:
    """The second best answer to what each image measured, where Prometheus is all that a site has."""
    clause, legend = (f" by ({by})", f"{{{{{by}}}}}") if by else ("", "")
    queries = tuple(
        Totals(expression=f"max{clause} ({series(metric)})", legend=legend or name) for name, metric in metrics.items()
    )
    return Answer(queries=queries, note=_OF_THE_LATEST, **others)


_OF_THE_LATEST = (
    "Prometheus is told of the latest image: of several between two scrapes it sees the last one only, and shows that"
    " one until the next comes."
)
OF_SCRAPES: Final = "Where scrapes were missed, it may be some per cent off."
IN_WEEKS = "A bar stands on its week's Thursday and shows Monday to Sunday."


class Panel(Struct, frozen=True, kw_only=True):
    """One panel.

    ``thresholds`` are lower bounds, each a number or the name of one of the rules' thresholds (``1-name``: what is left
    of a share), and their colours; below them is ``base``. ``thresholds_from`` says where they come from, and may hold
    ``$name``. ``empty`` is shown in place of values that aren't there, and ``empty_means`` explains it. ``words`` stand
    for values, in a table those of the column ``words_in``; ``colors`` belong to series and ``units`` to columns by
    name; a color to shades of it, too, by a regular expression between slashes. A table has its columns in ``order``,
    and the rows with the largest values of ``sorted_by`` first. ``names_beside``: the series' names stand beside a
    graph, since they are many, and with a number also where it is the only one. ``width`` is of 24 columns.
    """

    id: int
    title: str
    description: str
    shown: Shown
    unit: Unit
    answers: tuple[Answer, ...]
    width: int
    height: int = 8
    base: str = GOOD
    thresholds: tuple[tuple[float | str, str], ...] = ()
    thresholds_from: str = ""
    empty: str = "No data"
    empty_means: str
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    words: Mapping[float, tuple[str, str]] = {}
    words_in: str = ""
    order: tuple[str, ...] = ()
    sorted_by: str = ""
    names_beside: bool = False
    colors: Mapping[str, str] = {}
    units: Mapping[str, Unit] = {}


class Row(Struct, frozen=True):
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(Struct, frozen=True, kw_only=True):
    """One page; ``uid`` is its address in Grafana for good. ``alarms_of``: whose charts' alarms are marked on it."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    alarms_of: Audience | None = None
