"""How a report words its charts and alarms, whose each is, which direction is the better one, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from monitoring.analytics.charts import LEARNING_UNTIL
from monitoring.analytics.limits import WITHIN
from monitoring.analytics.machines import HORIZON_DAYS, Disk, Machines, MemoryOfSegment
from monitoring.analytics.series import SERIES, Of, series_of
from monitoring.analytics.states import Alarm, Analysis, ChartState
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.metrics import catalogue
from monitoring.metrics.backends import WHAT_ENDS

CLINICIAN, OPERATOR, REGULATOR = "clinician", "operator", "regulator"
AUDIENCES: Final = (CLINICIAN, OPERATOR, REGULATOR)
IN_DAYS: Final = frozenset({"crashed"})
"""Events of a machine's time rather than of an exam: rare ones are shown by the days between them."""
HIGHER, LOWER, NEITHER = "higher", "lower", "neither"


class Trait(NamedTuple):
    """Which direction of a series is the better one, whose it is, and what to do about its alarm."""

    better: str
    audience: str
    to_do: str


_MODELS: Final = (
    "Look at recent images beside their landmarks. Ask whether a model, its weights or the image's preparation changed;"
    " if that was meant, re-base with the reason."
)
_BIAS: Final = (
    "Have ten recent exams read again by someone else. If the error stays, compare pixel spacing and calibration with"
    " the modality's, and tell the supplier."
)
_PATIENTS: Final = "Ask whether other patients came, or another protocol. If not, have ten recent exams read."
_SLOW: Final = "Look at the machine's load, memory and processor, and at what was installed about that date."
_GROWN: Final = "Look at what was installed about that date, and for what a process keeps from image to image."
TRAITS: Final[Mapping[str, Trait]] = {
    "model_difference": Trait(NEITHER, CLINICIAN, _MODELS),
    "model_distance": Trait(LOWER, CLINICIAN, _MODELS),
    "disagreement": Trait(LOWER, CLINICIAN, _MODELS),
    "confidence": Trait(HIGHER, CLINICIAN, _MODELS),
    "quality": Trait(HIGHER, CLINICIAN, _MODELS),
    "reader_error": Trait(NEITHER, CLINICIAN, _BIAS),
    "reader_side_error": Trait(NEITHER, CLINICIAN, _BIAS),
    "reader_absolute_error": Trait(LOWER, CLINICIAN, _BIAS),
    "z_score": Trait(NEITHER, CLINICIAN, _PATIENTS),
    "log_femur_tibia": Trait(NEITHER, CLINICIAN, _PATIENTS),
    "side_difference": Trait(NEITHER, CLINICIAN, _PATIENTS),
    "session_seconds": Trait(LOWER, OPERATOR, _SLOW),
    "stage_seconds": Trait(LOWER, OPERATOR, _SLOW),
    "model_seconds": Trait(LOWER, OPERATOR, _SLOW),
    "process_memory": Trait(LOWER, OPERATOR, _GROWN),
    "memory_growth": Trait(LOWER, OPERATOR, _GROWN),
    "gpu_memory": Trait(LOWER, OPERATOR, _GROWN),
    "failed": Trait(LOWER, OPERATOR, "List the failed sessions with their places in the code, and repair the first."),
    "crashed": Trait(LOWER, OPERATOR, "Look for memory that ran out, and for who ended the process."),
    "skipped_input": Trait(LOWER, OPERATOR, "Look at what is routed here, and at the modality's headers."),
    "skipped_not_measurable": Trait(LOWER, OPERATOR, "Look at the skipped images: another protocol, or another cut?"),
    "skipped_otherwise": Trait(LOWER, OPERATOR, "Look at free disk and memory on the machine."),
    "landmark_missed": Trait(LOWER, CLINICIAN, _MODELS),
    "reader_error_over_5_mm": Trait(LOWER, CLINICIAN, _BIAS),
    "reader_error_over_10_mm": Trait(LOWER, CLINICIAN, _BIAS),
    "silence": Trait(LOWER, OPERATOR, "Send a test image along the whole route from the modality."),
}
# A series that nobody gave a reader and a thing to do can't be told.
assert {series.name for series in SERIES} == set(TRAITS)  # noqa: S101
_OF_CUSTOM: Final = Trait(NEITHER, OPERATOR, "Ask whoever built the host what changed then.")


def trait_of(series: str) -> Trait:
    """A series', also of a host's own metric."""
    return TRAITS.get(series, _OF_CUSTOM)


def day(time_ns: int) -> str:
    """``2026-06-01``, UTC."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d}"


def in_unit(value: float, unit: str, is_change: bool = False) -> str:
    """A value with its unit; a change has its sign."""
    sign = "+" if is_change else ""
    if unit == "share":
        return f"{100 * value:{sign}.1f} {'percentage points' if is_change else '%'}"
    # In MB at any size, so that two versions' figures can be compared at a glance.
    if unit == "bytes":
        return f"{value / 1e6:{sign},{'.0f' if abs(value) >= 1e9 else '.4g'}} MB"
    # Two figures: as 0.0 it would be taken for nothing.
    if unit in ("mm", "s") and 0 < abs(value) < 0.1:
        return f"{value:{sign}.2g} {unit}"
    if unit in ("mm", "s", "SD"):
        return f"{value:{sign}.{1 if unit == 'mm' else 2}f} {unit}"
    figure = f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"
    return f"{figure}{'' if unit in ('1', 'ratio', 'as reported') else f' {unit}'}"


def title_of(chart: str, in_sentence: bool = False) -> str:
    """A chart's name in words, its parts (a model, a bone, a stage) behind it; with a capital where it begins."""
    name, *parts = chart.split("/")
    title = _TITLES.get(name, f"the host's own {name.removeprefix('custom_')}")
    # A stage or a model has the host's own name.
    words = [BONES.get(part, part.replace("_", " ")) for part in parts]
    first = title[0] if in_sentence else title[0].upper()
    return f"{first}{title[1:]}{': ' if words else ''}{', '.join(words)}"


_TITLES: Final = {series.name: series.title for series in SERIES}
BONES: Final = {name: f"{catalogue.SIDE_NAMES[name[4]]} {catalogue.BONE_NAMES[name[6:]]}" for name in MEASUREMENTS}


def points_of(series: str, by_days: bool) -> str:
    """What the points of a series' chart are."""
    if by_days:
        return "clinic days"
    return "sessions" if _OF.get(series) is Of.SESSION else "exams"


_OF: Final = {series.name: series.of for series in SERIES}


def noticed(state: ChartState) -> str:
    """What a chart would have told of, and how soon."""
    if state.detectable is None:
        return "nothing yet"
    points = points_of(state.series, state.by_days)
    if state.kind == "number":
        return f"a shift of {in_unit(state.detectable, state.unit)} within {WITHIN} {points}"
    if state.kind == "event":
        rate = in_unit(state.accepted or 0.0, "share")
        return f"twice the accepted {rate}, on average after {state.detectable:,.0f} {points}"
    return f"{state.detectable:g} working days without a session"


def icon_of(series: str, change: float) -> tuple[str, str]:
    """The icon of an alarm, and H or L: whether a change by so much is a concern, an improvement, or neither."""
    better, letter = trait_of(series).better, "H" if change > 0 else "L"
    if better == NEITHER:
        return "neither", letter
    # Said as such: an alarm is a change, and not each is for the worse.
    return "improvement" if (better == HIGHER) == (change > 0) else "concern", letter


def change(alarm: Alarm) -> tuple[str, str, str]:
    """What happened, since when, and between which days the change lies, of an alarm."""
    between = f"{day(alarm.earliest_ns)} and {day(alarm.latest_ns)}"
    if alarm.chart == "silence":
        return f"no session for {alarm.size:g} working days", day(alarm.change_ns), between
    where = f", in {alarm.strata[0]}" if alarm.strata else ""
    if len(alarm.strata) > 1:
        where = f", in {len(alarm.strata)} kinds of device, view and spacing"
    return f"changed by {size_of(alarm)}{where}", day(alarm.change_ns), between


def size_of(alarm: Alarm) -> str:
    """How large a change is, and over how many exams since: the fewer they are, the less is known of it."""
    size = in_unit(alarm.size, alarm.unit, is_change=True)
    unit = "session" if _OF.get(series_of(alarm.chart)) is Of.SESSION else "exam"
    return f"{size} over {counted(alarm.size_exams, unit)}" if alarm.size_exams else size


def first_sentence(found: Analysis, audience: str) -> str:
    """A report's verdict, for whom it is: of their charts, and how many alarms others have to answer.

    A regulator's is of all charts.
    """
    # The newest first, where nothing else decides.
    opened = [alarm for alarm in reversed(found.alarms) if alarm.status == "open"]
    # An alarm outlasts its sessions until somebody answers it.
    if not found.sessions and not opened:
        return "Nothing can be said yet: no session is stored."
    charts = [state for state in found.charts if state.is_current]
    others = ""
    if audience != REGULATOR:
        its = [alarm for alarm in opened if trait_of(series_of(alarm.chart)).audience == audience]
        charts = [state for state in charts if trait_of(state.series).audience == audience]
        if len(its) < len(opened):
            other = CLINICIAN if audience == OPERATOR else OPERATOR
            others = f"; the {other} has {counted(len(opened) - len(its), 'alarm')} to answer"
        opened = its
    words = _of_alarms(opened) if opened else _without_alarm(found, charts, audience)
    return f"{words}{others}."


def _of_alarms(opened: Sequence[Alarm]) -> str:
    # What changes measurements comes first, and of that the series that says most of where. Where one model is off,
    # the others differ from the mean with it: the largest change is the model's own.
    order = list(TRAITS)
    first = min(
        opened,
        key=lambda alarm: (
            trait_of(series_of(alarm.chart)).audience != CLINICIAN,
            order.index(series_of(alarm.chart)) if series_of(alarm.chart) in TRAITS else len(order),
            alarm.raised_ns,
        ),
    )
    alike = [alarm for alarm in opened if series_of(alarm.chart) == series_of(first.chart)]
    told, since = _told(max(alike, key=lambda alarm: abs(alarm.size)))
    more = f"; {len(opened) - 1} more open" if len(opened) > 1 else ""
    return f"{counted(len(opened), 'alarm')} to answer: {told} since {since}{more}"


def _told(alarm: Alarm) -> tuple[str, str]:
    what, since, _ = change(alarm)
    return what if alarm.chart == "silence" else f"{title_of(alarm.chart, in_sentence=True)} {what}", since


def _without_alarm(found: Analysis, charts: Sequence[ChartState], audience: str) -> str:
    if answered := [state for state in charts if state.state == "acknowledged"]:
        # Each chart's newest; of the first series the largest, as of those that are open.
        newest = {(alarm.chart, alarm.segment): alarm for alarm in found.alarms}
        alike = [newest[one.chart, one.segment] for one in answered if one.series == answered[0].series]
        told, since = _told(max(alike, key=lambda alarm: abs(alarm.size)))
        more = f"; {len(answered) - 1} more" if len(answered) > 1 else ""
        return f"No alarm is open; acknowledged, and perhaps not over: {told} since {since}{more}"
    # Events can alarm from the first exam on, so that they say nothing of whether what is measured was learnt.
    numbers = [state for state in charts if state.kind == "number"]
    if all(state.state == "learning" for state in numbers):
        most = max(numbers, key=lambda state: state.points, default=None)
        points, unit = (most.points, points_of(most.series, most.by_days)) if most else (0, "exams")
        what, watched = _LEARNT[audience]
        return (
            f"Too early to say whether {what} change: {points} of {LEARNING_UNTIL} {unit}; {watched} are watched,"
            " without an alarm"
        )
    able = sum(state.state != "learning" for state in charts)
    return (
        f"No change found: {able} of {counted(len(charts), 'chart')} watch, none has an open alarm; what they would"
        " have noticed, and what not, stands beside each"
    )


_LEARNT: Final = {
    CLINICIAN: ("measurements", "landmarks that no model finds"),
    OPERATOR: ("durations and memory", "sessions and their ends"),
    REGULATOR: ("measurements", "sessions and their ends"),
}


def counted(number: int, unit: str) -> str:
    """``1 exam``, ``4,802 exams``."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def machine_words(found: Machines) -> list[tuple[str, str]]:
    """What is known of the machine, each thing by its name: forecasts and comparisons, none of which is an alarm."""
    disks = [(f"disk: {each.volume}", _disk_words(each)) for each in found.disks]
    of_memory = [(title_of(each.chart), _memory_words(each)) for each in found.memory]
    soonest = sorted(found.endings, key=lambda each: each.ends_ns)
    endings = [(each.backend, f"{WHAT_ENDS[each.kind]} ends on {day(each.ends_ns)}") for each in soonest]
    return [*disks, *endings, *of_memory]


def _disk_words(found: Disk) -> str:
    free = f"{found.free_bytes / 1e9:,.1f} GB free at the least on {day(found.last_ns)}"
    if not found.is_watched:
        return f"{free}; nothing can be foreseen: too few days with sessions, or none of late"
    if found.full_ns is None or found.earliest_ns is None or found.latest_ns is None or found.bytes_a_day is None:
        return f"{free}; no clear trend towards full within {HORIZON_DAYS} days"
    return (
        f"{free}; full on {day(found.full_ns)} (between {day(found.earliest_ns)} and {day(found.latest_ns)}) if it goes"
        f" on to lose {found.bytes_a_day / 1e9:.3g} GB a day, as since {day(found.since_ns)}"
    )


def _memory_words(found: MemoryOfSegment) -> str:
    words = f"{in_unit(found.median_bytes, 'bytes')} in the middle of {counted(found.exams, 'exam')}"
    if found.difference_bytes is None:
        return words
    return f"{words}; {in_unit(found.difference_bytes, 'bytes', is_change=True)} against segment {found.before_segment}"
