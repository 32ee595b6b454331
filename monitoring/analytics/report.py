"""What a report says, computed of what was read (:mod:`monitoring.analytics.material`). Pure.

A chart's icon and colour follow its alarm, by the convention of NHS England's Making Data Count: grey for common cause,
orange for concern, blue for improvement, purple for a change that is neither, H or L for its direction. The picture
beside it shows months with their individuals limits (:mod:`monitoring.analytics.months`); it sets no state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec.structs import replace

from monitoring.analytics.analysis import Alarm, ChartState
from monitoring.analytics.charts import LEARNING_UNTIL, LIMITED_UNTIL
from monitoring.analytics.control_limits import exams_between, individuals, times_between
from monitoring.analytics.intervals import benjamini_hochberg, mean_interval, rate_interval
from monitoring.analytics.limits import WITHIN
from monitoring.analytics.material import Material, Placed
from monitoring.analytics.months import (
    LIMITS_FROM,
    by_month,
    gaps,
    last_whole_month,
    month_of,
    p_value,
)
from monitoring.analytics.reported import (
    NOT_MEASURED,
    SIMULATED,
    AlarmGroup,
    Counted,
    DrilledFault,
    Group,
    Report,
    ReportedAgreement,
    ReportedAlarm,
    ReportedChart,
    ReportedDrill,
    Segment,
    Strange,
    Year,
)
from monitoring.analytics.series import series_of
from monitoring.analytics.states import look_first
from monitoring.analytics.wording import (
    AUDIENCES,
    BONES,
    CLINICIAN,
    HIGHER,
    IN_DAYS,
    LOWER,
    NEITHER,
    REGULATOR,
    change,
    counted,
    day,
    first_sentence,
    icon_of,
    in_unit,
    machine_words,
    noticed,
    points_of,
    title_of,
    trait_of,
)
from monitoring.domain.agreement import compare_readings, verdict
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.records.session_record import STATUSES

_POSSIBLE: Final = {"share": (0.0, 1.0), "s": (0.0,)}  # by unit


def make(material: Material, application: str = "") -> Report:
    """The report on what was read, under the application's name in the settings, if it has one."""
    found, period = material.found, material.period
    current = [state for state in found.charts if state.is_current]
    month = last_whole_month(period, material.now_ns)
    charts = _with_comparisons([_chart(state, material) for state in current], material.points, current, month)
    statuses = Counter(session.status for session in material.sessions)
    per_month: dict[str, Counter[str]] = {}
    for session in material.sessions:
        per_month.setdefault(month_of(session.time_ns), Counter())[session.status] += 1
    drills = tuple(_drills(material))
    mark = f"{SIMULATED[application]}. " if application in SIMULATED else ""
    verdicts = {who: mark + first_sentence(found, who) for who in AUDIENCES}
    report = Report(
        # A regulator's is of all charts.
        verdict=verdicts.pop(REGULATOR),
        verdict_for=verdicts,
        first=f"{period.first}",
        last=f"{period.last}",
        made=day(material.now_ns),
        sessions=len(material.sessions),
        by_status={status: statuses[status] for status in STATUSES},
        failure_interval=rate_interval(len(material.sessions), statuses["failed"]) if material.sessions else None,
        exams=material.exams.total(),
        exams_read=material.exams_read,
        readings=material.readings,
        readers=material.readers,
        charts=tuple(charts),
        alarms=tuple(_alarm(alarm, material) for alarm in _told(material)),
        agreements=tuple(_agreement(name, material.pairs.get(name, ())) for name in MEASUREMENTS),
        months=tuple(Counted(name, {each: counts[each] for each in STATUSES}) for name, counts in per_month.items()),
        years=tuple(_years(material, per_month)),
        strange=tuple(_strange(material)),
        segments=tuple(_segments(material)),
        strata=tuple(_strata(material)),
        losses=material.losses,
        false_alarms_per_year=found.false_alarms_per_year,
        compared_month=month,
        application=application,
        machines=tuple(machine_words(found.machines)),
        drills=drills,
        measured_false_alarms=measured_in_words(drills[0]) if drills else NOT_MEASURED,
    )
    return replace(report, digest=sha256(msgspec.json.encode(report, order="deterministic")).hexdigest())


def as_json(report: Report) -> str:
    """The report's data, for a program; everything but ``digest`` is what that is of."""
    return msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=2).decode()


def tables(report: Report) -> dict[str, list[dict[str, object]]]:
    """The report's tables for spreadsheets, each a list of rows."""
    plain = msgspec.to_builtins(report)
    months, events = (
        [{"chart": chart["chart"], "unit": chart[unit], **one} for chart in plain["charts"] for one in chart[name]]
        for name, unit in (("months", "unit"), ("gaps", "gap_unit"))
    )
    agreements = []
    for one in plain["agreements"]:
        found, (low, high) = one["agreement"], one["interval"] or (None, None)
        row = {
            "measurement": one["measurement"],
            "anytime_low_mm": low,
            "anytime_high_mm": high,
            **found,
            **found["icc"],
        }
        agreements.append({**row, "verdict": one["verdict"]["status"]})
        agreements[-1].pop("icc")
    for chart in plain["charts"]:
        chart["interval_low"], chart["interval_high"] = chart.pop("interval") or (None, None)
        del chart["months"], chart["limits"], chart["gaps"], chart["gap_limits"]
    return {
        "charts": plain["charts"], "chart_months": months, "chart_events": events,
        "alarms": [{**alarm, "strata": "; ".join(alarm["strata"])} for alarm in plain["alarms"]],
        "agreement": agreements,
        "sessions": [{"month": one["month"], **one["by_status"]} for one in plain["months"]],
        "years": [{**one, **one.pop("by_status")} for one in plain["years"]], "segments": plain["segments"],
        "drills": [
            {**{name: one[name] for name in ("day", "version", "is_of_present")}, **fault, "unusual": one["unusual"]}
            for one in plain["drills"]
            for fault in one["faults"]
        ],
    }  # fmt: skip


# --- charts and alarms --------------------------------------------------------------------------


def _alarm(alarm: Alarm, material: Material) -> ReportedAlarm:
    what, since, between = change(alarm)
    first = look_first(alarm, material.found.alarms)
    series = series_of(alarm.chart)
    # Its chart has ended: that of what is in use now, in the same report, has no alarm.
    present = {"", *(state.segment for state in material.found.charts if state.is_current)}
    what += "" if alarm.segment in present else ", under an earlier version"
    icon, letter = icon_of(series, alarm.score)
    return ReportedAlarm(
        alarm_id=alarm.alarm_id, chart=alarm.chart, title=title_of(alarm.chart), icon=icon, letter=letter,
        size=alarm.size, size_exams=alarm.size_exams, unit=alarm.unit, strata=alarm.strata, what=what, since=since,
        between=between, found=day(alarm.raised_ns),
        sure=f"for nothing once in {alarm.once_in:,.0f} points", status=alarm.status,
        answer=f"{alarm.person}: {alarm.words}" if alarm.person else "", segment=alarm.segment,
        audience=trait_of(series).audience, look_first=first.alarm_id if first else "",
    )  # fmt: skip


def _told(material: Material) -> list[Alarm]:
    """Those of the period, the newest first; one that people haven't answered is told whenever it was raised."""
    period = material.period
    return [
        alarm
        for alarm in reversed(material.found.alarms)
        if alarm.status == "open" or period.start_ns <= alarm.raised_ns < period.end_ns
    ]


def _chart(state: ChartState, material: Material) -> ReportedChart:
    trait = trait_of(state.series)
    points = material.points.get(state.chart, [])
    its = [alarm for alarm in material.found.alarms if (alarm.chart, alarm.segment) == (state.chart, state.segment)]
    alarm = its[-1] if its and state.state in ("alarm", "acknowledged") else None
    icon, letter = "learning" if state.state == "learning" else "common", ""
    what, since, to_do = _unchanged(state), "", "Nothing."
    sure = "It can't alarm yet."
    if state.once_in and state.limit is not None:
        of, is_was, it = (state, "is", "it alarms") if alarm is None else (alarm, "was", "that comes")
        score, limit = (in_unit(abs(value or 0.0), "1") for value in (of.score, of.limit))
        # At an alarm the score begins at 0 again.
        by_days = state.by_days if of.by_days is None else of.by_days
        once_in = f"{of.once_in:,.0f} {points_of(state.series, by_days)}"
        sure = f"Its score {is_was} {score}, its limit {limit}; {it} for nothing once in {once_in}."
    # The icon is the alarm's, not the picture's: the picture's own rules flag 18 % of unchanged charts of two years.
    if alarm is not None:
        icon, letter = icon_of(state.series, alarm.score)
        words, since, between = change(alarm)
        what = f"{words[0].upper()}{words[1:]}, found on {day(alarm.raised_ns)}."
        since += "" if state.kind == "silence" else f" (with about 90 % between {between})"
        to_do = _to_do(alarm, material)
    change_ns = alarm.change_ns if alarm else None
    months = by_month(points, state.segment, change_ns)
    # Neither an earlier segment nor what came since the change: limits are of what is usual.
    base = [month.value for month in months if not month.is_earlier and not month.is_changed]
    in_days = state.series in IN_DAYS
    between_events = gaps(points, change_ns, in_days) if state.kind == "event" else []
    base_gaps = [gap.size for gap in between_events if not gap.is_changed]
    # Of the present segment: another version's values are not what this chart is of.
    present = [point.value for point in points if state.segment in ("", point.segment)]
    events = round(sum(present)) if state.kind == "event" else None
    is_silence = state.kind == "silence"
    return ReportedChart(
        chart=state.chart, series=state.series, title=title_of(state.chart), unit=state.unit, kind=state.kind,
        audience=trait.audience, state=state.state, icon=icon, letter=letter, what=what, since=since, sure=sure,
        looked_at=f"{state.exams:,} {points_of(state.series, False)} since {day(state.first_ns)}",
        to_do=to_do, noticed=noticed(state), notices=state.notices, misses=state.misses, exams=state.exams,
        count=len(present), value=sum(present) / len(present) if present and not is_silence else None,
        interval=rate_interval(len(present), events) if events is not None else None, events=events,
        accepted=state.accepted, limit=state.limit, score=state.score, once_in=state.once_in, by_days=state.by_days,
        detectable=state.detectable, first=day(state.first_ns),
        months=() if is_silence else tuple(months),
        limits=individuals(base, *_POSSIBLE.get(state.unit, ()))
        if len(base) >= LIMITS_FROM and not is_silence
        else None,
        gaps=tuple(between_events), gap_unit="days" if in_days else points_of(state.series, state.by_days),
        gap_limits=(times_between if in_days else exams_between)(base_gaps) if len(base_gaps) >= LIMITS_FROM else None,
    )  # fmt: skip


def _to_do(alarm: Alarm, material: Material) -> str:
    if alarm.status != "open":
        return f"Answered by {alarm.person}: {alarm.words}"
    if (first := look_first(alarm, material.found.alarms)) is None:
        return trait_of(series_of(alarm.chart)).to_do
    title = title_of(first.chart, in_sentence=True)
    return f"Look first at {title} ({first.alarm_id}): a model that is off moves this chart, too."


def _unchanged(state: ChartState) -> str:
    points = points_of(state.series, state.by_days)
    if state.state == "learning":
        return f"Too early to say: {state.points} of {LEARNING_UNTIL} {points}, until which it can't alarm."
    if state.state == "limited":
        return f"No change found; under {LIMITED_UNTIL} {points} only large ones show."
    if state.kind == "event" and state.accepted is not None:
        return f"No more often than accepted ({in_unit(state.accepted, 'share')}), as far as it can tell."
    return "No change found."


def alarm_groups(alarms: Iterable[ReportedAlarm]) -> list[AlarmGroup]:
    """One fault moves many charts of a series: its alarms together.

    Those that are open come first, of these those of measurements, and of these the ones to look at first.
    """
    alike: dict[tuple[str, ...], list[ReportedAlarm]] = {}
    order = sorted(alarms, key=lambda each: (each.status != "open", each.audience != CLINICIAN, bool(each.look_first)))
    for alarm in order:
        key = (series_of(alarm.chart), alarm.segment, alarm.status, alarm.answer)
        alike.setdefault(key, []).append(alarm)
    return [AlarmGroup(max(its, key=lambda alarm: abs(alarm.size)), len(its)) for its in alike.values()]


def groups(charts: Iterable[ReportedChart]) -> list[Group]:
    """Charts by series, in their order."""
    by_series: dict[str, list[ReportedChart]] = {}
    for chart in charts:
        by_series.setdefault(chart.series, []).append(chart)
    found = []
    for series, its in by_series.items():
        states = Counter(chart.state for chart in its)
        # Each kind of change once: four bones that rose are one icon.
        changed = [(chart.icon, chart.letter) for chart in its if chart.letter]
        told = [chart for chart in its if chart.detectable is not None]
        words = told[0].noticed if told else "nothing yet"
        if len(told) > 1 and its[0].kind == "number":
            shifts = _range([chart.detectable or 0.0 for chart in told], its[0].unit)
            words = f"a shift of {shifts} within {_within(told)}"
        found.append(
            Group(
                series, title_of(series), tuple(dict.fromkeys(changed)) or ((its[0].icon, ""),),
                ", ".join(f"{count} {state}" for state, count in states.items()), words, len(its),
            )
        )  # fmt: skip
    return found


def _within(charts: Iterable[ChartState | ReportedChart]) -> str:
    """In how many points a shift shows; charts of one series may count exams and days."""
    points = {points_of(chart.series, chart.by_days) for chart in charts}
    return f"{WITHIN} {' or '.join(sorted(points, reverse=True))}"


def _range(values: Sequence[float], unit: str) -> str:
    low, high = (in_unit(of(values), unit) for of in (min, max))
    return low if low == high else f"{low} to {high}"


# --- tables -------------------------------------------------------------------------------------


def _with_comparisons(
    charts: Sequence[ReportedChart],
    points: Mapping[str, Sequence[Placed]],
    states: Sequence[ChartState],
    month: str | None,
) -> list[ReportedChart]:
    """Each chart with its p-value of the month; which are discoveries is decided over all of them."""
    values: list[float | None] = [
        None
        if month is None or state.kind == "silence"
        else p_value(points.get(state.chart, ()), state.segment, month, state.kind == "event")
        for state in states
    ]
    # Of those that have a p-value: a chart of few points is no test that was made.
    there = [number for number, value in enumerate(values) if value is not None]
    discoveries = {there[at] for at in benjamini_hochberg([value for value in values if value is not None])}
    return [
        replace(chart, p=value, is_discovery=number in discoveries)
        for number, (chart, value) in enumerate(zip(charts, values, strict=True))
    ]


def _agreement(name: str, pairs: Sequence[tuple[float, float]]) -> ReportedAgreement:
    agreement = compare_readings([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    interval = mean_interval([ours - theirs for ours, theirs in pairs])
    return ReportedAgreement(name, BONES[name], agreement, verdict(agreement), interval)


def _years(material: Material, per_month: Mapping[str, Counter[str]]) -> Iterable[Year]:
    period, exams, sessions = material.period, Counter[int](), dict[int, Counter[str]]()
    for (year, *_), count in material.exams.items():
        exams[year] += count
    for month, counts in per_month.items():
        sessions.setdefault(int(month[:4]), Counter()).update(counts)
    raised = [alarm for alarm in material.found.alarms if period.start_ns <= alarm.raised_ns < period.end_ns]
    for year, counts in sorted(sessions.items()):
        its = [alarm.status for alarm in raised if day(alarm.raised_ns)[:4] == str(year)]
        yield Year(year, {each: counts[each] for each in STATUSES}, exams[year], len(its), its.count("open"))


def _strata(material: Material) -> Iterable[tuple[int, str, int]]:
    """Year, stratum in words, and exams of all segments."""
    exams: Counter[tuple[int, str]] = Counter()
    for (year, _, words), count in material.exams.items():
        exams[year, words] += count
    return ((*where, count) for where, count in sorted(exams.items()))


def _segments(material: Material) -> Iterable[Segment]:
    found, exams = material.found, Counter[str]()
    for (_, code, _), count in material.exams.items():
        exams[code] += count
    current = {state.segment for state in found.charts if state.is_current}
    for code, seen in found.segments.items():
        alarms = [alarm for alarm in found.alarms if alarm.segment == code]
        left = sum(alarm.status == "open" for alarm in alarms)
        told: dict[str, list[ChartState]] = {}
        for state in found.charts:
            if state.segment == code and state.unit == "mm" and state.detectable is not None:
                told.setdefault(state.title, []).append(state)
        noticed_first = "nothing: too few exams"
        if told:
            title, its = next(iter(told.items()))
            shifts = _range([state.detectable or 0.0 for state in its], "mm")
            noticed_first = f"{shifts} of {title}, within {_within(its)}"
        yield Segment(
            code, seen.words, day(seen.first_ns), day(seen.last_ns), code in current, exams[code], len(alarms),
            verdict=counted(left, "open alarm") if left else "no open alarm",
            noticed=noticed_first,
        )  # fmt: skip


def _drills(material: Material) -> Iterable[ReportedDrill]:
    current = {state.segment for state in material.found.charts if state.is_current}
    for kept in material.drills:
        found, shuffled = kept.found, kept.found.shuffled
        faults = []
        for finding in found.findings:
            firsts = [
                f"after {counted(alarms[0].exams, 'exam')}: {title_of(alarms[0].chart, in_sentence=True)}"
                if alarms
                else ""
                for alarms in (finding.alarms, finding.without_readers)
            ]
            faults.append(DrilledFault(finding.fault, *firsts))
        yield ReportedDrill(
            day(kept.made_ns), kept.version, found.segment in current, found.exams_before, found.exams_with_fault,
            found.read, tuple(faults), shuffled.alarms_a_year, shuffled.two_errors, shuffled.accepted_a_year,
            shuffled.clinic_days, shuffled.shuffles, found.unusual,
        )  # fmt: skip


def measured_in_words(drill: ReportedDrill) -> str:
    """The rate of false alarms that a drill measured, with its error, when, and of what."""
    of = "" if drill.is_of_present else ", of an earlier segment than the one in use"
    return (
        f"{drill.false_alarms_a_year:.1f} a year (+- {drill.two_errors:.1f}, two standard errors):"
        f" {counted(drill.clinic_days, 'clinic day')} in {counted(drill.shuffles, 'random order')}, on {drill.day}{of}"
    )


# Of 1,000 exams ten are so by chance in each series: two series at once make it odd.
_EXTREME: Final = 0.01
_FEWEST_RANKED: Final = 100
_LARGE_ERROR_MM: Final = 10.0
_MOST_STRANGE: Final = 6


def _strange(material: Material) -> Iterable[Strange]:
    """Exams in the worse hundredth of two series or more, or far from the readers; the oddest first.

    Where no direction is the better one, both ends are the worse hundredth.
    """
    reasons: dict[int, dict[str, str]] = {}
    for chart, points in material.points.items():
        series = series_of(chart)
        trait = trait_of(series)
        # Durations say nothing of an exam's measurement, and events have no extremes.
        if trait.audience != CLINICIAN or all(point.value in (0.0, 1.0) for point in points):
            continue
        reach = 0 if len(points) < _FEWEST_RANKED else int(len(points) * _EXTREME / (1 + (trait.better == NEITHER)))
        ordered = sorted(points, key=lambda point: point.value)
        # Of equal values none is odder than the others: those as the first one within count as within.
        low, high = (ordered[at].value for at in (reach, -reach - 1))
        ends = {"smallest": [each for each in ordered[:reach] if each.value < low] if trait.better != LOWER else []}
        ends["largest"] = [each for each in ordered if each.value > high] if trait.better != HIGHER and reach else []
        for end, outermost in ends.items():
            for point in outermost:
                reasons.setdefault(point.time_ns, {})[series] = f"{title_of(chart)}: among the {end} of {len(points):,}"
        for point in points if series == "reader_error" else ():
            if abs(point.value) > _LARGE_ERROR_MM:
                error = in_unit(point.value, "mm", is_change=True)
                reasons.setdefault(point.time_ns, {})["far"] = f"{title_of(chart)}: {error}"
    ids = {session.time_ns: session.session_id for session in material.sessions}
    odd = [(time_ns, told) for time_ns, told in reasons.items() if len(told) > 1 or "far" in told]
    odd.sort(key=lambda one: (-len(one[1]), -one[0]))
    for time_ns, told in odd[:_MOST_STRANGE]:
        yield Strange(ids[time_ns], day(time_ns), tuple(told.values()))
