"""What a dashboard is made of: panels with their words, queries and thresholds, in rows. Declared only; see rendering.

A panel has one or more answers, the best first: which of them a site sees depends on the backends that it has, and a
panel without one for them is left out there. Images are asked for with a question, totals and what the monitoring says
of itself with PromQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from monitoring.dashboards.questions import Question, Scope, quoted
from monitoring.metrics.catalogue import Kind, Metric

# Blue, orange and grey stay apart for the colour-blind, on light and on dark; none means something by itself.
GOOD, NOTE, BAD, QUIET = "#3B82C4", "#E69F00", "#D55E00", "#8E8E8E"

_SCOPE = "<scope>"


class Unit(StrEnum):
    """Grafana's names of the units that occur."""

    SECONDS = "s"
    BYTES = "bytes"
    SHARE = "percentunit"
    MILLIMETERS = "lengthmm"
    COUNT = "short"
    AGO = "dateTimeFromNow"


class Shown(StrEnum):
    """How a panel shows its answer."""

    STAT = "stat"
    LINES = "lines"
    POINTS = "points"
    BARS = "bars"
    TABLE = "table"
    GAUGES = "gauges"


def series(metric: Metric, part: str = "", /, **labels: str) -> str:
    """A PromQL selector of the metric on the page's instances; ``part`` of a histogram is bucket, sum or count.

    A label's value is a regular expression where it holds ``|`` or ``(``. Raises ValueError for what is never sent.
    """
    known = {label.name: label for label in metric.labels}
    if (
        not metric.is_pushed
        or (metric.kind is Kind.HISTOGRAM) != bool(part)
        or not known.keys() | {"le"} >= labels.keys()
    ):
        raise ValueError(f"{metric.name} is not pushed with {part or 'no part'} and {', '.join(labels) or 'no labels'}")
    matchers = (f"{name}{'=~' if {*'|('} & {*value} else '='}{quoted(value)}" for name, value in labels.items())
    return f"{metric.name}{'_' * bool(part)}{part}{{{','.join([*matchers, _SCOPE])}}}"


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
    """A question to the images' log. ``legend`` names tags as ``{{tag}}``; empty, each column bears its own name."""

    question: Question
    legend: str = ""
    drawn: Shown | None = None


Query = Totals | Images


class Answer(Struct, frozen=True, kw_only=True):
    """Queries to one backend that show what the panel promises; ``note`` says how far they can be off.

    ``shown``, ``unit`` and ``title`` are the panel's where they aren't given.
    """

    queries: tuple[Query, ...]
    note: str = ""
    title: str = ""
    shown: Shown | None = None
    unit: Unit | None = None


class Panel(Struct, frozen=True, kw_only=True):
    """One panel. ``thresholds`` are lower bounds and their colours, and ``thresholds_from`` says where they come from.

    ``empty`` is shown in place of values that aren't there, and ``empty_means`` explains it. ``words`` stand for
    values, ``colors`` belong to series and ``units`` to columns by name. ``width`` is of 24 columns.
    """

    id: int
    title: str
    description: str
    shown: Shown
    unit: Unit
    answers: tuple[Answer, ...]
    width: int
    height: int = 8
    thresholds: tuple[tuple[float, str], ...] = ()
    thresholds_from: str = ""
    empty: str = "No data"
    empty_means: str
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    words: Mapping[float, tuple[str, str]] = {}
    colors: Mapping[str, str] = {}
    units: Mapping[str, Unit] = {}


class Row(Struct, frozen=True):
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(Struct, frozen=True, kw_only=True):
    """One page; ``uid`` is its address in Grafana for good."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
