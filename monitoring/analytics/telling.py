"""Tells both kinds of backends what a look at the store found, within the transaction that keeps it.

A state backend gets the present charts' gauges with the totals: they are replaced as a whole, so that a chart which
went with its segment goes there, too. A log gets a point for each chart, once a UTC day and whenever a state or an
alarm has changed, and one for each alarm: they wait in the outbox as sessions' lines do. An alarm's point has the day
on which the change began, not the exam's instant, and waits under the alarm's ID, so that an erasure finds it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from monitoring.analytics.charts import DAY_NS
from monitoring.analytics.series import Kind as ChartKind
from monitoring.analytics.series import series_of
from monitoring.analytics.states import Alarm, Analysis, ChartState
from monitoring.analytics.wording import CLINICIAN, points_of, trait_of
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.kinds import Kind
from monitoring.metrics.samples import NANOSECONDS, Sample, Vocabulary, limit_cardinality
from monitoring.metrics_collector import SessionWritesBuilder, changes, own_lines
from monitoring.store import clock, totals
from monitoring.store.analysis import alarm_lines, is_told, take_untold
from monitoring.store.outbox import enqueue
from monitoring.store.vocabulary import growing_vocabulary

_AUDIENCES: Final = chart_metrics.AUDIENCE.values
_GAUGES: Final = [(one.name,) for one in chart_metrics.METRICS if one.kind is Kind.GAUGE and one.is_pushed]


def tell(
    connection: sqlite3.Connection,
    found: Analysis,
    alarms: Iterable[tuple[Alarm, bool]],
    new: Iterable[Alarm],
    build: SessionWritesBuilder,
    now_ns: int,
) -> None:
    """Tell of a look; ``alarms`` are all that were ever found, each with whether it is withdrawn, ``new`` the new ones.

    ``build`` knows the log backends and the tags.
    """
    vocabulary = growing_vocabulary(connection, clock.read(connection, clock.look()).now_ns)
    limited = limit_cardinality(said(found, now_ns), vocabulary)
    state = [sample for sample in limited if sample.metric is not catalogue.FOLDED]
    # An alarm that came or went is news even where all states are what they were.
    is_news = _is_news(connection, state, build, now_ns) or bool(found.appeared or found.withdrawn)
    for alarm in new:
        totals.count(connection, chart_metrics.ALARMS, 1, now_ns, audience=audience_of(alarm.chart))
    # All of them, since a chart that went with its segment has no later value that could take its place.
    tell_no_more(connection)
    # What had no room in a label is counted once a set, however often somebody asks for the alarms.
    totals.apply_changes(connection, changes(limited if is_news else state), now_ns)
    if not build.log_backends:
        return
    _log_alarms(connection, tuple(alarms), vocabulary, build, now_ns)
    if is_news:
        _log_charts(connection, found, state, vocabulary, build, now_ns)


def tell_no_more(connection: sqlite3.Connection) -> None:
    """Take the charts' gauges out of what is pushed, until the next look: for a site that looks no more.

    How many alarms were found stays, since a counter that goes would be taken for a new store's.
    """
    connection.executemany("DELETE FROM totals WHERE metric = ?", _GAUGES)
    totals.bump_revision(connection)


def _log_alarms(
    connection: sqlite3.Connection,
    alarms: Sequence[tuple[Alarm, bool]],
    vocabulary: Vocabulary,
    build: SessionWritesBuilder,
    now_ns: int,
) -> None:
    """Each alarm once as found and once as withdrawn: a server may refuse what is older than it keeps, each day."""
    standing = {_place(alarm): alarm for alarm, is_withdrawn in alarms if not is_withdrawn}
    # Alarms whose exams were erased: nothing is left of them but the point that a server may have.
    for chart, unit, midnight_ns in take_untold(connection):
        if (chart, unit, midnight_ns) not in standing:
            sample = Sample(chart_metrics.ALARM["withdrawn"], 1.0, _alarm_labels(chart, unit))
            lines = own_lines(limit_cardinality([sample], vocabulary), midnight_ns, build.tags)
            _enqueue(connection, build, "", lines, now_ns)
    for alarm, is_withdrawn in alarms:
        if not is_told(connection, alarm_lines(alarm.alarm_id), b"withdrawn" if is_withdrawn else b"found"):
            # A chart has one point a day: where another alarm of the same date stands, that is what it says.
            shown = standing.get(_place(alarm), alarm)
            of_alarm = limit_cardinality(_alarm_samples(shown, is_withdrawn and shown is alarm), vocabulary)
            lines = own_lines(of_alarm, _place(shown)[-1], build.tags)
            _enqueue(connection, build, alarm_lines(shown.alarm_id), lines, now_ns)


def _log_charts(
    connection: sqlite3.Connection,
    found: Analysis,
    state: Iterable[Sample],
    vocabulary: Vocabulary,
    build: SessionWritesBuilder,
    now_ns: int,
) -> None:
    counted = {of[0]: value for of, value in totals.values(connection, chart_metrics.ALARMS).items()}
    logged = for_a_log(found, state, counted, vocabulary)
    _enqueue(connection, build, "", own_lines(logged, now_ns, build.tags), now_ns)


def _place(alarm: Alarm) -> tuple[str, str, int]:
    """Where an alarm's point lies: of what chart, in what unit, and the midnight before the change (UTC ns)."""
    return alarm.chart, alarm.unit, alarm.change_ns // DAY_NS * DAY_NS


def _is_news(connection: sqlite3.Connection, state: Iterable[Sample], build: SessionWritesBuilder, now_ns: int) -> bool:
    """Whether the last look was on another day or told other logs, or states or open alarms were others."""
    compared = [
        (metric.name, *labels.values(), value)
        for metric, value, labels in state
        if metric in (chart_metrics.STATE, chart_metrics.OPEN_ALARMS)
    ]
    told = msgspec.json.encode((now_ns // DAY_NS, build.log_backends, compared))
    return not is_told(connection, "charts", sha256(told).digest())


def _enqueue(
    connection: sqlite3.Connection, build: SessionWritesBuilder, owner: str, lines: list[bytes], now_ns: int
) -> None:
    for backend in build.log_backends if lines else ():
        enqueue(connection, backend, owner, now_ns, b"\n".join(lines), len(lines))


# --- what is said -------------------------------------------------------------------------------


def said(found: Analysis, now_ns: int) -> Iterator[Sample]:
    """What a look found, as the gauges that tell of it."""
    yield Sample(chart_metrics.LAST_RUN, now_ns / NANOSECONDS)
    yield Sample(chart_metrics.SESSIONS, float(found.sessions))
    yield Sample(chart_metrics.BUDGET, found.false_alarms_per_year)
    for disk in found.machines.disks:
        if disk.full_ns is not None:
            yield Sample(chart_metrics.DISK_FULL, disk.full_ns / NANOSECONDS, {"volume": disk.volume})
    opened = [audience_of(alarm.chart) for alarm in found.alarms if alarm.status == "open"]
    for audience in _AUDIENCES:
        yield Sample(chart_metrics.OPEN_ALARMS, float(opened.count(audience)), {"audience": audience})
    for chart in _present(found):
        labels = {"chart": chart.chart, "audience": audience_of(chart.series)}
        yield Sample(chart_metrics.STATE, float(chart_metrics.STATES.index(chart.state)), labels)
        yield Sample(chart_metrics.SCORE, chart.score, labels)
        yield Sample(chart_metrics.EXAMS, float(chart.exams), labels)
        if chart.limit is not None:
            yield Sample(chart_metrics.LIMIT, chart.limit, labels)
        if chart.detectable is not None:
            yield Sample(chart_metrics.DETECTABLE, chart.detectable, {**labels, "unit": _unit(chart)})


def for_a_log(
    found: Analysis,
    state: Iterable[Sample],
    counted: Mapping[str, float],
    vocabulary: Vocabulary = lambda _, value: value,
) -> list[Sample]:
    """The gauges of :func:`said` as a log takes them, with the alarms ``counted`` until then by audience.

    A chart's fields are one point, which has the unit of what it would have noticed as a tag.
    """
    logged = [Sample(chart_metrics.ALARMS, counted.get(one, 0.0), {"audience": one}) for one in _AUDIENCES]
    units = {vocabulary(chart_metrics.CHART, chart.chart): _unit(chart) for chart in _present(found)}
    for sample in state:
        is_of_chart = sample.metric.measurement == chart_metrics.STATE.measurement
        own = {**sample.labels, "unit": units[sample.labels["chart"]]} if is_of_chart else sample.labels
        logged.append(sample._replace(labels=own))
    return logged


def _present(found: Analysis) -> list[ChartState]:
    """The charts that are told: of those for which the label has no room the last one is shown, so alarms come last."""
    return sorted((chart for chart in found.charts if chart.is_current), key=lambda chart: chart.state == "alarm")


def _alarm_samples(alarm: Alarm, is_withdrawn: bool) -> Iterator[Sample]:
    labels = _alarm_labels(alarm.chart, alarm.unit)
    # Of a point that is sent once: the size as it is now would be another one each day.
    first_size = alarm.size if alarm.first_size is None else alarm.first_size
    values = {"size": first_size, "exams": float(alarm.exams), "withdrawn": float(is_withdrawn)}
    for key, value in values.items():
        yield Sample(chart_metrics.ALARM[key], value, labels)


def _alarm_labels(chart: str, unit: str) -> dict[str, str]:
    return {"chart": chart, "audience": audience_of(chart), "unit": unit}


def audience_of(chart: str) -> str:
    """Whom an alarm of a chart, or of a series, is for."""
    return "clinical" if trait_of(series_of(chart)).audience == CLINICIAN else "operator"


def _unit(chart: ChartState) -> str:
    """What a chart would have noticed is counted in."""
    if chart.kind == ChartKind.NUMBER:
        return chart.unit
    return points_of(chart.series, chart.by_days) if chart.kind == ChartKind.EVENT else "days"
