"""PromQL held to the catalogue: an expression that asks for what is never sent is found before a server is asked.

Totals jump once a push, so what may be asked of them is little: :func:`check` says which of its rules an expression
breaks. Panels and alert rules both go through it.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import promql_parser
from msgspec import Struct
from promql_parser import Call, Matcher, MatchOp, MatrixSelector, SubqueryExpr, VectorSelector

from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Label, Metric

GROUP_LABELS: Final = ("job", "instance", "application", "site")
"""The labels of a push's group, which every series bears; the last two where the settings name them."""

SHORTEST_WINDOW: Final = timedelta(hours=1)
"""Over less, an ``increase`` of totals that jump once a push is extrapolated from one or two scrapes."""

_FOREIGN: Final = {
    "push_time_seconds": GROUP_LABELS,
    "push_failure_time_seconds": GROUP_LABELS,
    "up": GROUP_LABELS,
    "ALERTS": (*GROUP_LABELS, "alertname", "alertstate", "severity", "audience"),
}
"""What the Pushgateway and Prometheus add of their own; all are gauges."""

_OF_COUNTERS: Final = ("increase", "rate", "resets")
# Whether a counter is there at all may be asked of its total.
_OF_PRESENCE: Final = ("absent", "absent_over_time", "present_over_time")
# Any length does: what is checked doesn't depend on it, but that it is none of a minute.
_GRAFANA_SPANS: Final = {"$__range": "30d", "$__interval": "1d"}


class Source(Struct, frozen=True):
    """What a name in PromQL stands for; ``metric`` is None for the few that others add."""

    metric: Metric | None
    labels: frozenset[str]

    @property
    def is_counter(self) -> bool:
        """Whether it counts up, as the parts of a histogram do."""
        return self.metric is not None and self.metric.kind is not Kind.GAUGE

    def label(self, name: str) -> Label | None:
        """The catalogue's label of this name."""
        return next((label for label in self.metric.labels if label.name == name), None) if self.metric else None


def _sources() -> dict[str, Source]:
    found = {name: Source(None, frozenset(labels)) for name, labels in _FOREIGN.items()}
    for metric in catalogue.METRICS:
        labels = frozenset((*GROUP_LABELS, *(label.name for label in metric.labels)))
        if metric.kind is Kind.HISTOGRAM:
            # Under no other name: a histogram's own is never sent.
            found[f"{metric.name}_bucket"] = Source(metric, labels | {"le"})
            found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = Source(metric, labels)
        elif metric.is_pushed:
            found[metric.name] = Source(metric, labels)
    return found


SOURCES: Final = _sources()
"""Everything that can be asked for, by its name in PromQL."""


def parse(expression: str) -> Any:
    """The expression's tree, Grafana's ``$__range`` and ``$__interval`` given a length; ValueError if it is none."""
    for name, span in _GRAFANA_SPANS.items():
        expression = expression.replace(f"[{name}", f"[{span}")
    return promql_parser.parse(expression)


def selectors(tree: Any) -> list[VectorSelector]:
    """Every selector below a node, in its order."""
    found: list[VectorSelector] = []
    promql_parser.walk(tree, lambda node: found.append(node) if isinstance(node, VectorSelector) else None)
    return found


def check(expression: str, *, totals: bool = False, shortest_window: timedelta = SHORTEST_WINDOW) -> list[str]:
    """What is wrong with a PromQL expression, in a sentence each; empty when nothing is.

    Metrics, labels and the values of closed labels must be the catalogue's. Counters, and the parts of histograms, are
    asked for their ``increase``, ``rate`` or ``resets`` over ``shortest_window`` or more, or whether they are there;
    gauges never are. ``totals``: the expression means to show a counter's total as it stands.
    """
    if "$__rate_interval" in expression:
        return ["$__rate_interval is too short for totals that jump once a push: use $__range, or hours"]
    try:
        tree = parse(expression)
    except ValueError as error:
        return [f"not PromQL: {error}"]
    examined = _Examination(totals, shortest_window)
    examined.visit(tree, "")
    return list(dict.fromkeys(examined.problems))


class _Examination:
    """One expression's problems, gathered on the way down its tree."""

    def __init__(self, totals: bool, shortest: timedelta) -> None:
        self.problems: list[str] = []
        self.totals = totals
        self.shortest = shortest

    def visit(self, node: Any, function: str) -> None:
        """Examine what lies below ``node``, which is given to ``function`` (if to any)."""
        if isinstance(node, VectorSelector):
            self.examine(node, function)
        elif isinstance(node, MatrixSelector):
            if function in _OF_COUNTERS and node.range < self.shortest:
                self.problems.append(f"{function} over less than {self.shortest} is extrapolated from too few scrapes")
            self.visit(node.vector_selector, function)
        elif isinstance(node, Call):
            for argument in node.args:
                self.visit(argument, node.func.name)
        elif hasattr(node, "lhs"):
            self.examine_labels(node, *_matched_on(node.modifier))
            self.visit(node.lhs, "")
            # `a unless b` and `a and b` ask only whether b is there.
            self.visit(node.rhs, "absent" if str(node.op) in ("and", "unless") else "")
        elif hasattr(node, "expr"):
            self.examine_labels(node, *(getattr(getattr(node, "modifier", None), "labels", None) or ()))
            # A subquery holds values of instants: the function around it isn't asked of the counter itself.
            self.visit(node.expr, "" if isinstance(node, SubqueryExpr) else function)

    def examine(self, selector: VectorSelector, function: str) -> None:
        """One selector: its name, its labels, and what it is given to."""
        name = selector.name or ""
        source = SOURCES.get(name)
        if source is None:
            self.problems.append(f"{name or selector}: no such metric is sent")
            return
        if source.is_counter and not self.totals and function not in (*_OF_COUNTERS, *_OF_PRESENCE):
            self.problems.append(f"{name}: a counter is asked for its increase, its rate, its resets, or its presence")
        if not source.is_counter and function in (*_OF_COUNTERS, "irate"):
            self.problems.append(f"{name}: a gauge has no {function}")
        for matcher in selector.matchers.matchers:
            if matcher.name not in source.labels:
                self.problems.append(f"{name}: has no label {matcher.name}")
            elif not all(_is_met(source, matcher, value) for value in _alternatives(matcher)):
                self.problems.append(f"{name}: {matcher} names a value that {matcher.name} never takes")

    def examine_labels(self, node: Any, *names: str) -> None:
        """The labels that a node groups or matches by are those of something below it."""
        known = {label for each in selectors(node) for label in SOURCES.get(each.name or "", _UNKNOWN).labels}
        self.problems += [
            f"nothing here has a label {name} to group or match by" for name in names if name not in known
        ]


_UNKNOWN: Final = Source(None, frozenset())


def _matched_on(modifier: Any) -> list[str]:
    if modifier is None:
        return []
    return [*(modifier.matching.labels if modifier.matching else ()), *(modifier.group_labels or ())]


def _alternatives(matcher: Matcher) -> list[str]:
    """The values that a matcher names: each of ``a|b`` by itself, so that a misspelt one of them is seen."""
    # In any other pattern | may stand within brackets.
    is_plain = matcher.op in (MatchOp.Equal, MatchOp.NotEqual) or not re.fullmatch(r"[\w|]+", matcher.value)
    return [matcher.value] if is_plain else matcher.value.split("|")


def _is_met(source: Source, matcher: Matcher, value: str) -> bool:
    """Whether the label can have such a value; an open label can have any, and so can a dashboard's ``$variable``."""
    is_pattern = matcher.op in (MatchOp.Re, MatchOp.NotRe)
    if matcher.name == "le" and source.metric is not None:
        # A gateway in front of Prometheus 2 makes 30 of our 30.0: only a pattern finds both.
        bounds = [(f"{bound:g}", repr(bound)) for bound in source.metric.buckets] + [("+Inf", "+Inf")]
        forms = [
            {re.fullmatch(value, form) is not None if is_pattern else value == form for form in both} for both in bounds
        ]
        return {True} in forms
    label = source.label(matcher.name)
    if label is None or not label.closed or not value or "$" in value:
        return True
    return any(re.fullmatch(value, known) if is_pattern else value == known for known in label.values)
