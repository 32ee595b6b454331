"""What a look at the stored sessions finds: each chart's state, the alarms, and what is seen of the machine. Pure.

How it is found is :mod:`monitoring.analytics.analysis`' part, how it is worded and told that of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from monitoring.analytics.charting import FirstSeen
from monitoring.analytics.machines import Machines
from monitoring.analytics.series import series_of


class Alarm(Struct, frozen=True):
    """A chart's limit was crossed; further crossings until people acknowledge it are the same alarm's.

    ``chart`` is ``series`` or ``series/part``; instants are UTC ns: of the exam that crossed the limit, of the first
    one after the change as it is estimated, and the range that holds the change with about 90 %. ``size`` is in
    ``unit``, over the ``size_exams`` exams since the change, the last 500 at most (0: not known, as in documents of
    before), of the ``strata`` in which the change sits, or of all (). All three are kept up to date until the alarm is
    answered, or is found again and left behind; ``first_size`` is as it was estimated when it was found.
    ``since_ns`` is the chart's first exam. ``once_in`` counts clinic days where the chart did
    (``by_days``), which documents of before don't say. ``status`` is ``open``, or what people did: ``acknowledged``,
    ``rebased``, by ``person`` with their ``words``.
    """

    alarm_id: str
    chart: str
    segment: str
    raised_ns: int
    change_ns: int
    earliest_ns: int
    latest_ns: int
    size: float
    unit: str
    exams: int
    score: float
    limit: float
    once_in: float
    since_ns: int
    strata: tuple[str, ...] = ()
    by_days: bool | None = None
    size_exams: int = 0
    first_size: float | None = None
    crossings: int = 1
    status: str = "open"
    person: str = ""
    words: str = ""


def each_once(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Without those that are an earlier one under another ID, found again by a chart that has lost its first exams.

    The earlier one stands, for one other, and takes over the answer to it.
    """
    stand: dict[str, Alarm] = {}
    again: set[str] = set()
    # By the chart's first exam: of two that are one the fuller chart's is the earlier.
    for alarm in sorted(alarms, key=lambda each: (each.since_ns, each.raised_ns)):
        same = next((each for each in stand.values() if each.alarm_id not in again and _is_same(each, alarm)), None)
        if same is None:
            stand[alarm.alarm_id] = alarm
            continue
        again.add(same.alarm_id)
        if same.status == "open":
            answered = replace(same, status=alarm.status, person=alarm.person, words=alarm.words)
            stand[same.alarm_id] = answered
    return list(stand.values())


def _is_same(earlier: Alarm, later: Alarm) -> bool:
    """Of one chart and direction, with ranges of the change that overlap; a re-based chart began anew on purpose."""
    return (
        (earlier.chart, earlier.segment, earlier.score > 0) == (later.chart, later.segment, later.score > 0)
        and earlier.since_ns < later.since_ns
        and earlier.earliest_ns <= later.latest_ns
        and later.earliest_ns <= earlier.latest_ns
        and earlier.status != "rebased"
    )


DIFFERENCE: Final = "model_difference"
# What one model that is off moves beside the charts of lengths.
_FOLLOW: Final = frozenset({"model_distance", "disagreement", "quality"})
# Each range holds its change with 90 %, so that those of one fault may just miss each other.
_APART_NS: Final = 7 * 86400 * 10**9


def look_first(alarm: Alarm, among: Iterable[Alarm]) -> Alarm | None:
    """The alarm of a model that may be what moved this one's chart; None where there is none, or it is this one.

    Each model's length is held against the mean of the others, which one that is off moves as well, by less: of one
    bone the largest difference is its own. Spread, agreement and quality follow.
    """
    series, bone = series_of(alarm.chart), alarm.chart.rpartition("/")[2]
    if series != DIFFERENCE and series not in _FOLLOW:
        return None
    alike = [
        each
        for each in among
        if each.chart.startswith(f"{DIFFERENCE}/")
        and each.segment == alarm.segment
        and (series != DIFFERENCE or each.chart.endswith(f"/{bone}"))
        and each.earliest_ns <= alarm.latest_ns + _APART_NS
        and alarm.earliest_ns <= each.latest_ns + _APART_NS
    ]
    most = max(alike, key=lambda each: abs(each.size), default=alarm)
    return None if most.alarm_id == alarm.alarm_id else most


class ChartState(Struct, frozen=True):
    """What one chart says now.

    ``state`` is ``learning`` (under 20 ``points``: it can't alarm), ``limited`` (under 100), ``watching``, ``alarm``
    or ``acknowledged`` (until 100 further exams). A point is an exam, or a clinic day that is over (``by_days``, where
    exams depend on one another). ``score`` is held against ``limit``; a false alarm comes once in ``once_in`` points.
    ``detectable`` is what would have been noticed: of numbers the smallest shift that is found with 80 % within 30
    points, in the unit, and ``detectable_sd`` in standard deviations; of events the mean number of exams until a
    doubled rate shows; of silence the working days. ``events`` are those of an event chart,
    and ``e_value`` the evidence of all its exams that the rate is larger than accepted, to be held against other sites'
    (:func:`monitoring.analytics.intervals.e_bh`); ``neighbours`` and ``day_share`` are the measured dependence.
    """

    chart: str
    series: str
    title: str
    unit: str
    kind: str
    segment: str
    is_current: bool
    state: str
    exams: int
    first_ns: int
    last_ns: int
    score: float
    limit: float | None
    once_in: float | None
    by_days: bool = False
    points: int = 0
    detectable: float | None = None
    detectable_sd: float | None = None
    events: int | None = None
    e_value: float | None = None
    accepted: float | None = None
    neighbours: float | None = None
    day_share: float | None = None
    strata: int = 1
    rebased_ns: int | None = None
    notices: str = ""
    misses: str = ""


class Analysis(Struct, frozen=True):
    """Everything that the stored sessions say at one look.

    ``anew`` is why it was computed from the first session, "" where it went on from the last look; ``appeared`` and
    ``withdrawn`` are the IDs of alarms that weren't there at the last look, and that aren't any more; ``not_kept`` is
    why the store has kept nothing of this look, "" where it has.
    """

    charts: tuple[ChartState, ...]
    alarms: tuple[Alarm, ...]
    segments: Mapping[str, FirstSeen]
    strata: Mapping[str, FirstSeen]
    sessions: int
    false_alarms_per_year: float
    machines: Machines = Machines()
    anew: str = ""
    appeared: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    not_kept: str = ""
