"""Whether a backend answers the panels as the store's own sessions do, and if not, which points make the difference.

And whether a Grafana's panels ask what this version's do.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from msgspec import Struct, field

from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.panels import Panel, Query, Totals
from monitoring.dashboards.questions import Question, Row, TimedPoint, differences
from monitoring.dashboards.rendering import PAGES, Site, chosen, render
from monitoring.metrics.kinds import ANALYSIS_MEASUREMENTS, OWN_MEASUREMENTS
from monitoring.metrics.line_protocol import Point

_Place = tuple[str, frozenset[tuple[str, str]], int]


class Sent(Struct, frozen=True):
    """A point that was made of a stored session; ``excuse`` says why the backend may lack it, "" where it mustn't."""

    timed: TimedPoint
    excuse: str = ""


class Held(Struct, frozen=True):
    """What a backend holds, beside what it was ``sent`` of the stored sessions.

    ``truth`` are the points that its answers must be made of: what it was sent, but for what is ``excused`` and
    isn't there, and what it holds of sessions that the store has no more (``unknown`` of them).
    """

    sent: int = 0
    truth: list[TimedPoint] = field(default_factory=list)
    lost: list[TimedPoint] = field(default_factory=list)
    changed: list[TimedPoint] = field(default_factory=list)
    excused: Mapping[str, int] = {}
    unknown: int = 0


def compare(sent: Sequence[Sent], held: Iterable[TimedPoint], step_ns: int = 1) -> Held:
    """Point by point; ``step_ns`` is what the backend rounds times down to."""

    def place(timed: TimedPoint) -> _Place:
        # A tag that is empty is none, to InfluxDB.
        tags = frozenset(pair for pair in timed.point.tags.items() if pair[1])
        return timed.point.measurement, tags, timed.time_ns // step_ns

    there = {place(timed): timed for timed in held}
    found = Held()
    excused: Counter[str] = Counter()
    for one in sent:
        other = there.pop(place(one.timed), None)
        # As one that still waits, was refused, or is older than the backend keeps.
        if other is None and one.excuse:
            excused[one.excuse] += 1
            continue
        found.truth.append(one.timed)
        if other is None:
            found.lost.append(one.timed)
        elif not _has_equal_fields(one.timed.point, other.point):
            found.changed.append(one.timed)
    # What the backend has besides is in its answers: sessions that the store has no more, other instances, ourselves.
    found.truth.extend(there.values())
    of_no_session = (*OWN_MEASUREMENTS, *ANALYSIS_MEASUREMENTS)
    unknown = sum(timed.point.measurement not in of_no_session for timed in there.values())
    return Held(len(sent), found.truth, found.lost, found.changed, dict(excused), unknown)


def _has_equal_fields(sent: Point, held: Point) -> bool:
    """To nine digits, since VictoriaMetrics keeps twelve."""
    return all(
        name in held.fields and math.isclose(float(held.fields[name]), float(value), rel_tol=1e-9, abs_tol=1e-9)
        for name, value in sent.fields.items()
    )


class Difference(Struct, frozen=True):
    """What a backend answers a panel otherwise than it should: ``problem`` where it gives no answer at all.

    ``lost`` and ``changed`` are the panel's points that the backend lacks, or has with other values, from ``since_ns``
    on; ``rows`` is how many rows of the answer are wrong.
    """

    page: str
    panel: str
    rows: int = 0
    lost: int = 0
    changed: int = 0
    since_ns: int | None = None
    problem: str = ""


class Verified(Struct, frozen=True):
    """The panels that agree, those that differ, and those of which nothing can be said."""

    agree: int
    differ: tuple[Difference, ...]
    not_compared: int


Ask = Callable[[Query], "list[Row] | str | None"]
"""A backend's answer to a query, None where it can't be compared, or what it complains of."""


def verify(
    site: Site,
    ask: Ask,
    held: Held,
    time_range: TimeRange,
    zone: tzinfo,
    outdated: Mapping[tuple[str, int], Difference] = {},
) -> Verified:
    """Ask what each panel asks, and compare; what is ``outdated`` differs without being asked."""
    agree = not_compared = 0
    differ = list(dict.fromkeys(outdated.values()))
    answers: dict[str, list[Row] | str | None] = {}
    for page in PAGES:
        for panel in (panel for row in page.rows for panel in row.panels):
            answer = chosen(panel, site)
            if answer is None or (page.uid, panel.id) in outdated:
                continue
            states: list[Difference | bool] = []
            for query in answer.queries:
                # Panels share queries: each is asked once.
                key = repr(query)
                if key not in answers:
                    answers[key] = ask(query)
                states.append(_judged(page.title, panel, query, answers[key], held, time_range, zone))
            found = [state for state in states if isinstance(state, Difference)]
            # One line for a panel: its queries are about the same images.
            differ += found[:1]
            agree += not found and True in states
            not_compared += not found and True not in states
    return Verified(agree, tuple(differ), not_compared)


def _judged(
    page: str,
    panel: Panel,
    query: Query,
    given: list[Row] | str | None,
    held: Held,
    time_range: TimeRange,
    zone: tzinfo,
) -> Difference | bool:
    """How an answer differs; True where it doesn't, False where that can't be told."""
    if isinstance(given, str):
        return Difference(page, panel.title, problem=given)
    # Of totals the store knows what they are now, not what they were at each instant.
    if given is None or isinstance(query, Totals):
        return False
    question = query.question
    wrong = differences(question.answer(held.truth, time_range, zone), given)
    if not wrong:
        return True
    lost, changed = (list(_asked_of(question, timed)) for timed in (held.lost, held.changed))
    since_ns = min((timed.time_ns for timed in (*lost, *changed)), default=None)
    return Difference(page, panel.title, len(wrong), len(lost), len(changed), since_ns)


def _asked_of(question: Question, points: Iterable[TimedPoint]) -> Iterator[TimedPoint]:
    """The points that a question is about."""
    fields = {metric.field for metric in question.metrics.values()}
    for timed in points:
        point = timed.point
        is_asked = all(point.tags.get(name, "") in values for name, values in question.where.items())
        if point.measurement == question.measurement and is_asked and fields & point.fields.keys():
            yield timed


# --- a Grafana's panels -------------------------------------------------------------------------


class PanelQueries(Struct, frozen=True):
    """A panel's title, and its targets as a page's JSON holds them."""

    title: str
    targets: list[dict[str, Any]]


def outdated(site: Site, pages: Mapping[str, Mapping[int, PanelQueries]]) -> dict[tuple[str, int], Difference]:
    """The panels, by page and id, whose queries in Grafana aren't those of this version, or whose page isn't there.

    ``pages`` are what a Grafana has, by uid. What it adds to a target when a page is saved there makes no difference.
    """
    found: dict[tuple[str, int], Difference] = {}
    for page in PAGES:
        panels = json.loads(render(page, site))["panels"]
        wanted = {
            panel["id"]: PanelQueries(panel["title"], panel["targets"]) for panel in panels if panel["type"] != "row"
        }
        if (there := pages.get(page.uid)) is None:
            missing = Difference(page.title, "all panels", problem="the dashboard isn't in Grafana: provision it")
            found |= {(page.uid, number): missing for number in wanted}
            continue
        for number in wanted.keys() | there.keys():
            ours, theirs = wanted.get(number), there.get(number)
            if ours is None or theirs is None or not _asks_the_same(ours.targets, theirs.targets):
                title = (ours or theirs or PanelQueries("", [])).title
                found[page.uid, number] = Difference(page.title, title, problem=_OUTDATED)
    return dict(sorted(found.items()))


_OUTDATED = "the dashboard in Grafana is another version, or for other settings: render again"


def _asks_the_same(wanted: list[dict[str, Any]], there: list[dict[str, Any]]) -> bool:
    pairs = zip(wanted, there, strict=False)
    # Grafana adds keys of its own when a page is saved there; a hidden target is not asked.
    is_same = all(theirs | ours == theirs and not theirs.get("hide") for ours, theirs in pairs)
    return is_same and len(wanted) == len(there)
