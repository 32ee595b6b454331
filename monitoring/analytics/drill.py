"""The fire drill: faults put into a copy of the site's own last exams, and how many exams the charts need to notice.

The last third of the exams, 120 at most, gets the fault (:mod:`monitoring.analytics.faults`), in memory; the others
come before it as they are.

Exams in which something has already changed can't show what a fault would do: charts that stand near their limits then
cross them by chance. So the drilled exams end before the change of the earliest alarm that lies in them, where enough
are left; and a chart that alarms over them as they are is never said to notice.

Beside it the rate of false alarms that the site really has: its clinic days in random order, so that no change
is left that lasts, but all that exams of one day have in common. A drill reads the store alone; what it found is kept
there afterwards, for the report, with no session in it.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import sqrt
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from monitoring.analytics.analysis import rebasings
from monitoring.analytics.charting import Charting, Point, Progress
from monitoring.analytics.charts import DAY_NS, Crossing
from monitoring.analytics.faults import derived_again, faults, is_usable, with_fault
from monitoring.analytics.ranks import ENCODER, decoder
from monitoring.analytics.series import Kind, Measuring, segment, series_of
from monitoring.analytics.wording import counted
from monitoring.domain.derivation import FORMULA_VERSION
from monitoring.exceptions import StoreError
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store.analysis import Analysed
from monitoring.store.sessions import Store
from monitoring.version import __version__

FEWEST_EXAMS: Final = 150
MOST_EXAMS: Final = 5_000
"""So many sessions at most are looked at: all of a busy site's year would take minutes."""
# Some months: what takes longer than that to notice is "not noticed".
MOST_WITH_FAULT: Final = 120
SHUFFLES: Final = 20
_YEAR_NS: Final = round(365.25 * DAY_NS)
_PAGE: Final = 500


class Alarmed(Struct, frozen=True):
    """A chart and the exam with the fault, counted from 1, at which it raised an alarm."""

    chart: str
    exams: int


class Finding(Struct, frozen=True):
    """What came of one fault: each chart that raised an alarm, the fastest first; none is "not noticed".

    ``without_readers`` are those charts that need no reader. A chart that alarms without the fault is in neither.
    """

    fault: str
    alarms: tuple[Alarmed, ...]
    without_readers: tuple[Alarmed, ...]

    @classmethod
    def of(cls, fault: str, crossings: Mapping[str, Sequence[Crossing]], instants: Sequence[int]) -> Finding:
        """By each chart's crossings, and the instants of the exams with the fault."""
        alarms = [Alarmed(chart, bisect_right(instants, found[0].time_ns)) for chart, found in crossings.items()]
        alarms.sort(key=lambda one: (one.exams, one.chart))
        without_readers = (alarm for alarm in alarms if not alarm.chart.startswith("reader_"))
        return cls(fault, tuple(alarms), tuple(without_readers))


class Shuffled(Struct, frozen=True):
    """The alarms with the clinic days in random order: of ``shuffles`` times ``years``, by chart and a year.

    ``two_errors`` is 2 standard errors of ``alarms_a_year`` as if the shuffles had nothing in common (none: as one).
    """

    shuffles: int
    clinic_days: int
    years: float
    alarms_a_year: float
    two_errors: float
    accepted_a_year: float
    by_chart: Mapping[str, int]


class Drill(Struct, frozen=True):
    """A drill: so many exams as they are, then so many with each fault, of which readers measured ``read``.

    ``segment`` is the code of what measured them. ``left_out`` newer exams are not in it, since an alarm says that
    something changed before them; ``alarms`` are the charts that alarm over its exams as they are.
    """

    segment: str
    exams_before: int
    exams_with_fault: int
    read: int
    findings: tuple[Finding, ...]
    shuffled: Shuffled
    left_out: int = 0
    alarms: tuple[str, ...] = ()

    @property
    def unusual(self) -> str:
        """In words, what was left out of it, and the alarms that lie in it; "" where there is neither."""
        exams, alarms = counted(self.left_out, "exam"), counted(len(self.alarms), "alarm")
        found = {
            f"without the newest {exams}, after a change that raised an alarm": self.left_out,
            f"{alarms} in these exams as they are: charts not counted": self.alarms,
        }
        return "; ".join(words for words, is_so in found.items() if is_so)


class KeptDrill(Struct, frozen=True):
    """A drill as the store keeps it: when it was (UTC ns), and by which version of this package and its formulas."""

    made_ns: int
    version: str
    formulas: int
    found: Drill


_DECODE: Final = msgspec.json.Decoder(KeptDrill)
_DECODE_PROGRESS: Final = decoder(Progress)

# --- the drill ----------------------------------------------------------------------------------


def drill(store: Store, config: AnalyticsConfig, exams: int = 360, shuffles: int = SHUFFLES) -> Drill:
    """Put the faults into the last ``exams``; raises :class:`StoreError` where there are too few of them."""
    sessions = present_sessions(store)
    with store.database.read_transaction() as connection:
        rebased = rebasings(kept.actions(connection))
    # Sessions in between stay where they are, since events and silence are of these.
    every = [number for number, session in enumerate(sessions) if session.is_first_of_exam]
    changed = crossings_of(charted(Charting(Progress(), config, rebased), sessions))
    of_exams = unchanged(sessions, every, [one.change_ns for found in changed.values() for one in found], exams)
    usable = usable_records(sessions, of_exams)
    if len(usable) < FEWEST_EXAMS:
        raise StoreError(
            f"a drill needs {FEWEST_EXAMS} exams of the last year with each model's boxes and their spacing, by the"
            f" models and the application's version in use now; there are {len(usable)}"
        )
    left_out = [number for number in every if number > of_exams[-1]]
    sessions = sessions[: left_out[0] if left_out else None]
    # Two thirds before it: charts must have learnt from what is usual.
    onset = list(usable)[-min(MOST_WITH_FAULT, len(usable) // 3)]
    before, after = sessions[of_exams[0] : onset], sessions[onset:]
    charting = Charting(Progress(), config, rebased)
    charting.take(before)
    # Encoded, so that each fault begins with a copy of its own.
    progress = ENCODER.encode(charting.progress)

    def crossings_with(exams: Sequence[Analysed]) -> dict[str, list[Crossing]]:
        return crossings_of(charted(Charting(_DECODE_PROGRESS.decode(progress), config, rebased), exams))

    instants, findings = [session.stored.timestamp_ns for session in after if session.is_first_of_exam], []
    # By charts that began with the drill's first exam, and by those that had begun before it.
    as_they_are = crossings_with(after).keys() | {
        chart
        for chart, found in changed.items()
        if any(before[0].stored.timestamp_ns < one.change_ns <= instants[-1] for one in found)
    }
    for name, fault in faults(list(usable.values())).items():
        faulty = [
            derived_again(session, with_fault(usable[number], fault)) if number in usable else session
            for number, session in enumerate(after, onset)
        ]
        # What alarms without the fault, though it be later, is near its limit: chance decides when it crosses it.
        crossings = {chart: found for chart, found in crossings_with(faulty).items() if chart not in as_they_are}
        findings.append(Finding.of(name, crossings, instants))
    count_before, count = (sum(session.is_first_of_exam for session in part) for part in (before, after))
    read = sum(session.is_first_of_exam and bool(session.reader_mm) for session in after)
    code, rate = exams_segments(sessions)[-1][1], shuffled(sessions, config, shuffles)
    alarms = tuple(sorted(as_they_are))
    return Drill(code, count_before, count, read, tuple(findings), rate, len(left_out), alarms)


def unchanged(sessions: Sequence[Analysed], every: list[int], changes_ns: Sequence[int], exams: int) -> list[int]:
    """The places of the last ``exams`` of ``every`` one without a change in them; where these are too few, of all."""
    left = every
    while left:
        found = left[-exams:]
        first_ns, last_ns = (sessions[number].stored.timestamp_ns for number in (found[0], found[-1]))
        # A change before all of them is part of what is usual there.
        inside = [at for at in changes_ns if first_ns < at <= last_ns]
        if not inside:
            return found
        left = [number for number in left if sessions[number].stored.timestamp_ns < min(inside)]
        if len(usable_records(sessions, left[-exams:])) < FEWEST_EXAMS:
            break
    return every[-exams:]


def usable_records(sessions: Sequence[Analysed], places: Sequence[int]) -> dict[int, SessionRecord]:
    """By place, the records that a fault can be put into."""
    records = ((number, SessionRecord.from_json(sessions[number].stored.text)) for number in places)
    return {number: record for number, record in records if is_usable(record)}


def keep(store: Store, found: Drill, now_ns: int) -> None:
    """Keep what a drill found; raises :class:`StoreError`."""
    made = KeptDrill(now_ns, __version__, FORMULA_VERSION, found)
    with store.database.transaction() as connection:
        kept.keep_drill(connection, msgspec.json.encode(made), now_ns)


def kept_drills(connection: sqlite3.Connection) -> list[KeptDrill]:
    """The drills that are kept, the newest first, without those of a form that this version doesn't know."""
    found = []
    for value in kept.drills(connection):
        with suppress(msgspec.MsgspecError):
            found.append(_DECODE.decode(value))
    return found


def charted(charting: Charting, sessions: Sequence[Analysed]) -> Charting:
    """With these sessions, whose last day is over."""
    charting.take(sessions)
    # For charts that count days.
    charting.end_day(sessions[-1].stored.timestamp_ns // DAY_NS + 1 if sessions else 0)
    return charting


def crossings_of(charting: Charting) -> dict[str, list[Crossing]]:
    """By chart; without silence, which says nothing of the exams that there are."""
    found = charting.progress.crossings.items()
    return {key.partition("@")[0]: each for key, each in found if each and key not in charting.progress.silence}


def present_sessions(store: Store) -> list[Analysed]:
    """The last year's, 5,000 at most, since what measures now was first seen."""
    found: deque[Analysed] = deque(maxlen=MOST_EXAMS)
    with store.database.read_transaction() as connection:
        until_ns = kept.seen(connection).until_ns
    after_ns: int | None = until_ns - _YEAR_NS
    while after_ns is not None and after_ns < until_ns:
        with store.database.read_transaction() as connection:
            page, after_ns = kept.sessions_after(connection, after_ns, _PAGE)
        found.extend(page)
    sessions = list(found)
    codes = exams_segments(sessions)
    # Only what measures now: a drill over a change of version would be of two applications.
    others = [number for number, code in codes if code != codes[-1][1]]
    return sessions[others[-1] + 1 if others else 0 :]


def exams_segments(sessions: Sequence[Analysed]) -> list[tuple[int, str]]:
    """Each exam's place among the sessions, and its segment's code."""
    known: Measuring = {}
    return [
        (number, segment(one.stored.record, known)[0]) for number, one in enumerate(sessions) if one.is_first_of_exam
    ]


def shuffled(sessions: Sequence[Analysed], config: AnalyticsConfig, shuffles: int) -> Shuffled:
    """The charts over the sessions' clinic days in random order, so many times, each by a seed of its own.

    Instants stay, so silences do too: their chart is left out.
    """
    sorting = Charting(Progress(), config)
    found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for session in sessions:
        sorting.sort(session, found)
    days = sorted({session.stored.timestamp_ns // DAY_NS for session in sessions})
    counts: Counter[str] = Counter()
    for seed in range(shuffles):
        # Whole days, so that what the exams of a day have in common stays together: that is what is measured.
        order = days.copy()
        Random(seed).shuffle(order)  # noqa: S311 - no secret
        goes_to = dict(zip(days, order, strict=True))
        moved = {
            code: {
                name: sorted((goes_to[at // DAY_NS] * DAY_NS + at % DAY_NS, *rest) for at, *rest in points)
                for name, points in by_name.items()
                if sorting.by_name[series_of(name)].kind is not Kind.SILENCE
            }
            for code, by_name in found.items()
        }
        charting = Charting(Progress(), config)
        charting.put(moved)  # type: ignore[arg-type]
        charting.end_day(days[-1] + 1)
        counts.update(
            {key.partition("@")[0]: len(times) for key, times in charting.progress.crossings.items() if times}
        )
    years = (days[-1] + 1 - days[0]) * DAY_NS / _YEAR_NS
    return Shuffled(
        shuffles=shuffles, clinic_days=len(days), years=years, alarms_a_year=counts.total() / (shuffles * years),
        two_errors=2 * sqrt(max(counts.total(), 1)) / (shuffles * years), accepted_a_year=config.false_alarms_per_year,
        by_chart=dict(counts.most_common()),
    )  # fmt: skip
