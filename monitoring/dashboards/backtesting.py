"""What the alert rules would have said of a store's own history: how often, how long, and at which other thresholds.

What Prometheus would have scraped is made of the totals as they grew: each is seen at the first scrape after it
changed, as if the gateway had always been reached at once. Whatever depends on the way there isn't in the records, and
a rule that asks for it is left out, with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate
from typing import Any

import msgspec
import promql_parser
from msgspec import Struct
from msgspec.structs import asdict

from monitoring.dashboards import promql
from monitoring.dashboards.evaluation import NAME, EvaluationError, Evaluator, Labels, Vector, combined, put, without
from monitoring.dashboards.scraped_series import Grid, Samples
from monitoring.dashboards.thresholds import SPAN, Rule, Thresholds, rendered
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import Kind
from monitoring.metrics.samples import Change, bucket_part

_NANOSECONDS_OF_MS = 1_000_000
_MINUTE_MS = 60_000
_FACTORS, _FACTORS_OF_SPANS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0), (0.5, 2.0)
"""By which a threshold is changed to see what the rule would say then."""


def _span(text: str) -> timedelta:
    return timedelta() if text == "0s" else promql_parser.parse_duration(text)


# --- history ------------------------------------------------------------------------------------


def scraped(
    moments: Iterable[tuple[int, Iterable[Change]]],
    common: Mapping[str, str],
    names: Container[str],
    scrape_ms: int,
    until_ms: int,
) -> dict[Labels, Samples]:
    """The series of these names as scrapes at each whole multiple of ``scrape_ms`` would have seen them.

    ``moments`` are the instants (UTC nanoseconds) in their order, each with the totals' new values, of which the first
    is seen a scrape before the others: the counters at 0; NaN says that a series is no more. ``common`` are the labels
    of all series.
    """
    seen: dict[Labels, list[tuple[int, float | None]]] = {}
    parts: dict[tuple[str, Labels], dict[str, float]] = {}
    latest: dict[tuple[str, ...], tuple[str, Labels]] = {}
    for number, (at_ns, changed) in enumerate(moments):
        # Rounded up, since a change shows at the next scrape.
        scrape = -(-at_ns // (_NANOSECONDS_OF_MS * scrape_ms)) - (number == 0)
        touched: dict[tuple[str, Labels], Mapping[str, float | None]] = {}
        for change in changed:
            key = (change.metric, tuple({**change.labels, **common}.items()))
            state = parts.setdefault(key, {})
            state[change.part] = change.value
            touched[key] = state
            one_per = catalogue.BY_NAME[change.metric].one_per
            if one_per is not None:  # another version takes the place of the one before
                place = (change.metric, *(change.labels[label.name] for label in one_per))
                if latest.get(place, key) != key:
                    # Gone at that very scrape: a push replaces its whole group.
                    touched[latest[place]] = {"": None}
                latest[place] = key
        for (metric, own), values in touched.items():
            for name, value in _exposed(metric, values, names):
                steps = seen.setdefault(tuple(sorted((*own, *name))), [])
                if steps and steps[-1][0] == scrape:
                    steps[-1] = (scrape, value)
                # Only what changes: a quarter of a year by the minute is kept as its few steps.
                elif not steps or steps[-1][1] != value:
                    steps.append((scrape, value))
    return {labels: Samples.of_steps(steps, scrape_ms, until_ms // scrape_ms) for labels, steps in seen.items()}


def _exposed(
    metric: str, parts: Mapping[str, float | None], names: Container[str]
) -> Iterator[tuple[tuple[tuple[str, str], ...], float | None]]:
    """A metric's series as the exposition names them, each with its value."""
    declared = catalogue.BY_NAME[metric]
    if declared.kind is not Kind.HISTOGRAM:
        if metric in names:
            value = parts[""]
            yield ((NAME, metric),), None if value is None or math.isnan(value) else value
        return
    if f"{metric}_sum" in names:
        yield ((NAME, f"{metric}_sum"),), parts.get("sum", 0.0)
    if f"{metric}_bucket" in names or f"{metric}_count" in names:
        bounds = [*declared.buckets, None]
        # The store keeps buckets one by one, Prometheus cumulative.
        counts = list(accumulate(parts.get(bucket_part(bound)) or 0.0 for bound in bounds))
        yield ((NAME, f"{metric}_count"),), counts[-1]
        for bound, count in zip(bounds, counts, strict=True):
            yield ((NAME, f"{metric}_bucket"), ("le", "+Inf" if bound is None else f"{bound:g}")), count


def instants(from_ms: int, until_ms: int, scrape_ms: int) -> Grid:
    """When the rules are evaluated: every minute, or so often as it falls together with the scrapes."""
    # A whole number of scrapes, so that each instant has the same samples before it.
    step_ms = -(-_MINUTE_MS // scrape_ms) * scrape_ms
    first, last = -(-from_ms // step_ms), until_ms // step_ms
    return Grid(first * step_ms, step_ms, max(0, last - first + 1))


# --- what a history can't tell ------------------------------------------------------------------

_NOT_KEPT: Mapping[str, str] = {
    "up": "whether Prometheus reached the gateway isn't kept",
    "push_time_seconds": "when the gateway was pushed to isn't kept",
    "push_failure_time_seconds": "when a push failed isn't kept",
    "ALERTS": "it asks for other alerts",
    "absent": "whether Prometheus had the series isn't kept",
    "absent_over_time": "whether Prometheus had the series isn't kept",
    "present_over_time": "whether Prometheus had the series isn't kept",
    "resets": "a store's own history begins with the store",
    **{
        metric.name: "what the monitoring tells of itself is kept for the present only"
        for metric in catalogue.METRICS
        if metric.source in ("the store", "the relay", "the log filter")
    },
    chart_metrics.LAST_RUN.name: "when the charts were looked at earlier isn't kept",
    **{metric.name: "how well readers agreed earlier isn't kept" for metric in catalogue.VALIDATION.values()},
}
"""The metrics and functions that no session's record tells of."""


def asked_for(rules: Iterable[Rule], thresholds: Thresholds) -> frozenset[str]:
    """The series' names that rules ask for."""
    trees = (promql.parse(rendered(rule, thresholds).expression) for rule in rules)
    return frozenset(selector.name or "" for tree in trees for selector in promql.selectors(tree))


def why_untold(rule: Rule) -> str | None:
    """Why the store's history doesn't tell whether a rule would have fired; None where it does."""
    reasons = []

    def examine(node: Any) -> None:
        name = node.func.name if isinstance(node, promql_parser.Call) else getattr(node, "name", None) or ""
        if name in _NOT_KEPT:
            reasons.append(_NOT_KEPT[name])

    promql_parser.walk(promql.parse(rule.expression), examine)
    return reasons[0] if reasons else None


# --- alerts -------------------------------------------------------------------------------------


class Alert(Struct, frozen=True):
    """One alert, from when its condition held: UTC milliseconds. It fires from ``fires_ms`` on, if ever.

    ``until_ms`` is when the condition held no more; None where it still does at the end.
    """

    labels: Labels
    since_ms: int
    fires_ms: int | None
    until_ms: int | None


def alerts(rule: Rule, evaluator: Evaluator, grid: Grid) -> list[Alert]:
    """The alerts of a rendered rule, in the order of time.

    Raises :class:`EvaluationError`, with the rule's name, where the rule can't be evaluated.
    """
    own = {"alertname": rule.name, "severity": rule.severity, "audience": rule.audience}
    # Two series that differ in their values alone are one alert, as in Prometheus.
    conditions: Vector = {}
    try:
        for labels, column in evaluator.vector(rule.expression).items():
            there = combined([column], lambda values: None if values[0] is None else 1.0)
            put(conditions, tuple(sorted({**dict(without(labels, (NAME,))), **own}.items())), there)
    except EvaluationError as error:
        raise EvaluationError(f"{rule.name}: {error}") from None
    # In whole evaluations, since Prometheus looks at no other instants.
    hold = -(-_span(rule.hold) // timedelta(milliseconds=grid.step_ms))
    found = []
    for labels, column in conditions.items():
        for start, end, _ in column.runs(grid.count):
            fires_ms = grid.at(start + hold) if start + hold < end else None
            found.append(Alert(labels, grid.at(start), fires_ms, grid.at(end) if end < grid.count else None))
    return sorted(found, key=lambda alert: (alert.since_ms, alert.labels))


class Episode(Struct, frozen=True):
    """A time during which a rule fired for anything: UTC milliseconds, ``until_ms`` None where it still does."""

    from_ms: int
    until_ms: int | None


def episodes(found: Iterable[Alert]) -> list[Episode]:
    """When at least one of the alerts fired."""
    joined: list[Episode] = []
    for alert in sorted((one for one in found if one.fires_ms is not None), key=lambda one: one.fires_ms or 0):
        last = joined[-1] if joined else None
        if last is None or (last.until_ms is not None and last.until_ms < (alert.fires_ms or 0)):
            joined.append(Episode(alert.fires_ms or 0, alert.until_ms))
        elif last.until_ms is not None and (alert.until_ms is None or alert.until_ms > last.until_ms):
            joined[-1] = Episode(last.from_ms, alert.until_ms)
    return joined


# --- backtest -----------------------------------------------------------------------------------


class Variant(Struct, frozen=True):
    """How often the rule would have fired with another value of one threshold, which is ``known`` to be."""

    threshold: str
    known: float | str
    value: float | str
    times: int


class Backtest(Struct, frozen=True):
    """One rule over the history; ``untold`` says why the history doesn't tell, and then nothing else is known."""

    rule: Rule
    untold: str | None = None
    alerts: tuple[Alert, ...] = ()
    episodes: tuple[Episode, ...] = ()
    variants: tuple[Variant, ...] = ()

    def seconds(self, until_ms: int) -> list[float]:
        """How long each episode lasted, up to the end of the history."""
        return [((until_ms if one.until_ms is None else one.until_ms) - one.from_ms) / 1000 for one in self.episodes]


def backtest(
    rules: Sequence[Rule], thresholds: Thresholds, series: Mapping[Labels, Samples], grid: Grid
) -> Iterator[Backtest]:
    """Each rule's alerts at the instants of ``grid``, and what other thresholds would change.

    Raises :class:`EvaluationError` for a rule that can't be evaluated.
    """
    evaluator = Evaluator(series, grid)
    for declared in rules:
        rule = rendered(declared, thresholds)
        if reason := why_untold(rule):
            yield Backtest(rule, untold=reason)
            continue
        found = alerts(rule, evaluator, grid)
        times = len(episodes(found))
        variants = []
        for name in declared.thresholds:
            for changed in other_values(thresholds, name):
                other = rendered(declared, changed)
                # A threshold may stand in a label's value, which no series need have.
                if promql.check(other.expression):  # as for a bound that no bucket has
                    continue
                others = len(episodes(alerts(other, evaluator, grid)))
                variants.append(Variant(name, getattr(thresholds, name), getattr(changed, name), others))
        telling = [one for one in variants if one.times != times]
        yield Backtest(rule, None, tuple(found), tuple(episodes(found)), tuple(telling))


def other_values(thresholds: Thresholds, name: str) -> Iterator[Thresholds]:
    """The thresholds with other values of one of them, from small to large, as far as it can take them."""
    known = getattr(thresholds, name)
    if isinstance(known, str) and not re.fullmatch(SPAN, known):
        return
    others: dict[Any, None] = {}
    for factor in _FACTORS_OF_SPANS if isinstance(known, str) else _FACTORS:
        if isinstance(known, str):
            minutes = round(_span(known) * factor / timedelta(minutes=1))
            others[promql_parser.display_duration(timedelta(minutes=minutes))] = None
        elif isinstance(known, int):
            # Whole numbers may meet: each is tried once.
            others[round(known * factor)] = None
        else:
            # Two figures, as a person would set it.
            others[float(f"{known * factor:.2g}")] = None
    for value in others:
        try:
            changed = msgspec.convert({**asdict(thresholds), name: value}, Thresholds)
        except msgspec.ValidationError:
            continue
        if value != known:
            yield changed
