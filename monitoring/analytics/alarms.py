"""What one chart says: its crossings as alarms, with what people did about them, and its state. Pure.

An alarm is computed at each look, of the chart as it is: only what people did about it is kept. So it says of all exams
how large its change is and where it sits, until it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec.structs import astuple, replace

from monitoring.analytics.changes import WINDOW
from monitoring.analytics.charts import (
    LEARNING_UNTIL,
    LIMITED_UNTIL,
    Chart,
    Crossing,
    EventChart,
    NumberChart,
    SilenceChart,
)
from monitoring.analytics.limits import MULTIPLES, WITHIN, exams_to_alarm
from monitoring.analytics.series import Series
from monitoring.analytics.states import Alarm, ChartState
from monitoring.domain.statistics import mean
from monitoring.store.analysis import Action

ACKNOWLEDGE, REBASE = "acknowledge", "rebase"
NEVER_NS: Final = 2**63


def alarms_of(
    key: str,
    series: Series,
    chart: Chart,
    crossings: Iterable[Crossing],
    done: Sequence[Action],
    listed: Mapping[str, int] = MappingProxyType({}),
) -> list[Alarm]:
    """A chart's crossings as alarms: one lasts until people acknowledge it, or re-base the chart.

    ``listed`` are the instants (UTC ns) since when alarms have been listed, by ID.
    """
    firsts: list[tuple[Crossing, int]] = []
    for crossing in crossings:
        its = _answers(firsts[-1][0], key, crossing.time_ns, done, listed) if firsts and done else []
        if firsts and not any(firsts[-1][0].time_ns <= action.instant_ns < crossing.time_ns for action in its):
            firsts[-1] = firsts[-1][0], firsts[-1][1] + 1
        else:
            firsts.append((crossing, 1))
    ends = [*(crossing.time_ns for crossing, _ in firsts[1:]), NEVER_NS]
    alarms = []
    for (first, times), end_ns in zip(firsts, ends, strict=False):
        alarm_id, its = _id_of(key, first), _answers(first, key, end_ns, done, listed)
        size, exams, strata = first.size, first.since, first.strata
        # As people answered it, be it under another ID, since an erased exam had raised it.
        if answers := [each for each in its if each.alarm_id == alarm_id] or its:
            told = msgspec.json.decode(answers[0].document, type=Alarm)
            size, exams, strata = told.size, told.size_exams, told.strata
        elif end_ns == NEVER_NS and (first.before or isinstance(chart, EventChart)):
            since = [point for point in chart.past[-WINDOW:] if point[0] >= first.change_ns]
            size, exams, strata = astuple(chart.extent(first.before, since, first.score))
        name, _, code = key.partition("@")
        alarm = Alarm(
            alarm_id=alarm_id, chart=name, segment=code, raised_ns=first.time_ns, change_ns=first.change_ns,
            earliest_ns=first.earliest_ns, latest_ns=first.latest_ns, size=size, unit=series.unit, exams=first.exams,
            score=first.score, limit=first.limit, once_in=first.every, since_ns=chart.first_ns, strata=strata,
            by_days=first.by_days, size_exams=exams, first_size=first.size, crossings=times,
        )  # fmt: skip
        alarms.append(with_answer(alarm, its))
    return alarms


def _id_of(key: str, first: Crossing) -> str:
    # Not by chance, so that a look from the start finds the same; eight digits, since people type them.
    return sha256(f"{key} {first.time_ns}".encode()).hexdigest()[:8]


def _answers(first: Crossing, key: str, end_ns: int, done: Iterable[Action], listed: Mapping[str, int]) -> list[Action]:
    """What was done about an alarm by name, or before the next one at ``end_ns`` and before it was listed itself.

    The latter was an answer to the same alarm under another ID. A later one's re-basing is no answer to it, nor is one
    to another alarm that stood beside it; and a session from a clock that is ahead can be answered, too.
    """
    alarm_id = _id_of(key, first)
    end_ns = min(end_ns, listed.get(alarm_id, NEVER_NS))
    return [each for each in done if each.alarm_id == alarm_id or first.time_ns <= each.instant_ns < end_ns]


def without_repeats(crossings: Sequence[Crossing], done: Sequence[Action]) -> list[Crossing]:
    """As a checkpoint keeps them: those that repeat an alarm, which can be no alarm's first, without what was before.

    A fault that nobody answers crosses the limit each few weeks, and what was before takes most of a crossing's room.
    """
    found = list(crossings[:1])
    for last, crossing in pairwise(crossings):
        is_first = any(last.time_ns <= action.instant_ns < crossing.time_ns for action in done)
        found.append(replace(crossing, before={}) if crossing.before and not is_first else crossing)
    return found


def with_answer(alarm: Alarm, done: Sequence[Action]) -> Alarm:
    """An alarm once people have done something about it."""
    if not done:
        return alarm
    # A chart that is re-based says more than that somebody has seen it.
    # The first of several acknowledgements: who answered first stands in the report.
    action = next((each for each in done if each.kind == REBASE), done[0])
    status = "rebased" if action.kind == REBASE else "acknowledged"
    return replace(alarm, status=status, person=action.person, words=action.words)


def state_of(chart: Chart, alarms: Sequence[Alarm], done: Sequence[Action]) -> str:
    """``learning`` to ``acknowledged``, see :class:`ChartState`."""
    if any(alarm.status == "open" for alarm in alarms):
        return "alarm"
    last_ns = max((action.instant_ns for action in done if action.kind == ACKNOWLEDGE), default=None)
    if last_ns is not None and sum(time_ns > last_ns for time_ns, *_ in chart.past) < LIMITED_UNTIL:
        return ACKNOWLEDGE + "d"
    # Events need no baseline: what is accepted is set, and holds from the first exam.
    if isinstance(chart, EventChart) or chart.points >= LIMITED_UNTIL:
        return "watching"
    return "learning" if chart.points < LEARNING_UNTIL else "limited"


def chart_state(
    name: str, code: str, series: Series, chart: Chart, state: str, now_ns: int, is_current: bool
) -> ChartState:
    """What a chart says at an instant, in a state."""
    found = ChartState(
        chart=name, series=series.name, title=series.title, unit=series.unit, kind=series.kind.value, segment=code,
        is_current=is_current, state=state, exams=chart.exams, first_ns=chart.first_ns, last_ns=chart.last_ns,
        points=chart.points, score=0.0, limit=None, once_in=chart.every or None, notices=series.notices,
        misses=series.misses,
    )  # fmt: skip
    if isinstance(chart, NumberChart):
        sd, shift = chart.sd() or None, chart.detectable_sd(WITHIN)  # of equal values no SD is known
        return replace(
            found, score=chart.z, limit=chart.limit if chart.every else None, by_days=chart.by_days,
            detectable=None if sd is None or shift is None else sd * shift, detectable_sd=shift,
            neighbours=chart.dependence.neighbours, day_share=chart.dependence.day_share, strata=len(chart.strata),
            rebased_ns=chart.rebased_ns or None,
        )  # fmt: skip
    if isinstance(chart, EventChart):
        score, delay = mean(chart.statistics), exams_to_alarm(chart.accepted, MULTIPLES[0], chart.every)
        return replace(
            found,
            score=score,
            limit=chart.every,
            detectable=delay,
            events=chart.events,
            accepted=chart.accepted,
            e_value=chart.e_value,
        )
    assert isinstance(chart, SilenceChart)  # noqa: S101
    days = chart.allowed_days if chart.every else None
    return replace(found, score=float(chart.silent_days(now_ns)), limit=days, detectable=days)
