"""Puts sessions on the charts, in the order of time: what the charts know afterwards holds no session.

The number of charts that share the budget is counted as it was at each point's instant, and a chart's share of it is
looked at again at fixed numbers of exams; so a chart says the same whatever pieces its points come in.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from monitoring.analytics.charts import DAY_NS, Budget, Crossing, EventChart, NumberChart, SilenceChart
from monitoring.analytics.machines import DayFree, add_free
from monitoring.analytics.ranks import Values
from monitoring.analytics.series import (
    DERIVED,
    LATER_STRATA,
    MOST_STRATA,
    Kind,
    Look,
    Measuring,
    Of,
    Points,
    least_free,
    reader_errors,
    segment,
    series_of,
    watched,
)
from monitoring.analytics.series import stratum as stratum_of
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.exceptions import RecordError
from monitoring.metrics.session_writes import DerivedReader, DerivedValues
from monitoring.metrics_collector import computed
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store.analysis import Analysed
from monitoring.store.rows import OutlinedSession

NO_SEGMENT: Final = ""
Point = tuple[int, float, str]
"""UTC ns, value, stratum."""
_TOGETHER: Final = 2_500  # sessions, whose points go on one chart after another: what it ranks among stays in the cache


class FirstSeen(Struct, frozen=True):
    """A segment or a stratum, in words, and when it was first seen (UTC ns)."""

    words: str
    first_ns: int
    last_ns: int = 0


class Progress(Struct):
    """What the charts know of the sessions so far: what the checkpoint holds. Charts are keyed ``chart@segment``."""

    numbers: dict[str, NumberChart] = {}
    events: dict[str, EventChart] = {}
    silence: dict[str, SilenceChart] = {}
    crossings: dict[str, list[Crossing]] = {}
    begun: dict[str, list[int]] = {}
    """When each segment's charts had their first point, sorted."""
    segments: dict[str, FirstSeen] = {}
    strata: dict[str, FirstSeen] = {}
    segment: str = NO_SEGMENT
    measuring: Measuring = {}
    sessions: int = 0
    disks: dict[str, DayFree] = {}
    """By volume."""


Where = tuple[str, str]
"""A chart's key and a stratum: where values are ranked among each other."""
ReadReferences = Callable[[Sequence[Where]], Iterable[Values]]


class Charting:
    """Puts sessions, in the order of time, on the charts."""

    def __init__(
        self,
        progress: Progress,
        config: AnalyticsConfig,
        rebased: Iterable[tuple[str, int]] = (),
        read: ReadReferences | None = None,
    ) -> None:
        """``rebased`` are charts' keys and the instants from which people let them begin anew; ``read`` brings what
        ``progress`` has left out.
        """
        self.progress = progress
        self._read = read
        self._config = config
        series = watched(config.custom)
        self._points = {of: Points(each for each in series if each.of is of) for of in Of}
        self.by_name = {each.name: each for each in series}
        self._numbers = {each.name for each in series if each.kind is Kind.NUMBER}
        self._rebased: dict[str, list[int]] = defaultdict(list)
        for key, change_ns in rebased:
            insort(self._rebased[key], change_ns)

    def take(self, sessions: Iterable[Analysed]) -> None:
        """Chart further sessions."""
        found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
        for number, session in enumerate(sessions, 1):
            self.sort(session, found)
            if number % _TOGETHER == 0:
                self.put(found)
                found.clear()
        self.put(found)

    def put(self, found: Mapping[str, Mapping[str, Sequence[Point]]]) -> None:
        """Chart further points, by segment and chart, each in the order of time."""
        by_key: dict[str, list[Point]] = {}
        for code, by_name in found.items():
            for name, its_points in by_name.items():
                is_number = series_of(name) in self._numbers
                by_key.setdefault(f"{name}@{code if is_number else NO_SEGMENT}", []).extend(its_points)
        for key, its_points in by_key.items():
            if len(found) > 1:
                its_points.sort(key=_instant)  # events of several segments are one chart's
            if key not in self.progress.crossings:
                self.progress.crossings[key] = []
                insort(self.progress.begun.setdefault(key.partition("@")[2], []), its_points[0][0])
        charts = ((key, self.progress.numbers.get(key)) for key in by_key)
        left_out = [(key, chart.summaries.keys() - chart.earlier.keys()) for key, chart in charts if chart]
        self.bring(
            (key, stratum)
            for key, strata in left_out
            if strata
            for stratum in strata & {where for _, _, where in by_key[key]}
        )
        for key, its_points in by_key.items():
            self.progress.crossings[key] += self._extend(key, its_points)

    def bring(self, wanted: Iterable[Where]) -> None:
        """Have at hand what is ranked among there, where it was left out."""
        numbers = self.progress.numbers
        left_out = [(key, stratum) for key, stratum in wanted if stratum not in numbers[key].earlier]
        if left_out and self._read is not None:
            for (key, stratum), values in zip(left_out, self._read(left_out), strict=True):
                numbers[key].earlier[stratum] = values

    def sort(self, session: Analysed, found: dict[str, dict[str, list[Point]]]) -> None:
        """Put a session's points, by segment and chart, into ``found``."""
        stored, progress = session.stored, self.progress
        record, time_ns = stored.record, stored.timestamp_ns
        progress.sessions += 1
        wanted = [Of.SESSION] if session.is_first_of_series or not record.series_key else []
        if session.is_first_of_exam:
            wanted.append(Of.EXAM)
            progress.segment, words = segment(record, progress.measuring)
            known = progress.segments.get(progress.segment) or FirstSeen(words, time_ns)
            progress.segments[progress.segment] = FirstSeen(known.words, known.first_ns, time_ns)
        if not wanted:
            return
        where = self._stratum(stratum_of(record), time_ns)
        look = Look(record, derived_values(stored), reader_errors(record, session.reader_mm))
        for volume, free_bytes in least_free(record):
            add_free(progress.disks, volume, time_ns // DAY_NS, free_bytes)
        by_name = found[progress.segment]
        for of in wanted:
            for name, value in self._points[of].of(look):
                by_name[name].append((time_ns, value, where))

    def _stratum(self, words: str, time_ns: int) -> str:
        strata = self.progress.strata
        if words not in strata and len(strata) >= MOST_STRATA:
            words = LATER_STRATA
        known = strata.get(words) or FirstSeen(words, time_ns)
        strata[words] = FirstSeen(words, known.first_ns, time_ns)
        return words

    def _extend(self, key: str, its_points: Sequence[Point]) -> Iterator[Crossing]:
        progress, budget = self.progress, Budget(self._config.false_alarms_per_year, self._charts_at(key))
        series = self.by_name[series_of(key.partition("@")[0])]
        if series.kind is Kind.SILENCE:
            yield from progress.silence.setdefault(key, SilenceChart()).extend(its_points, budget)
        elif series.kind is Kind.EVENT:
            chart = progress.events.setdefault(key, EventChart(accepted=self._config.accepted(series.name)))
            yield from chart.extend(its_points, budget)
        else:
            for rebased_ns in (*self._rebased[key], None):
                cut = bisect_right(its_points, rebased_ns - 1, key=_instant) if rebased_ns is not None else None
                yield from progress.numbers.setdefault(key, NumberChart(by_days=series.by_days)).extend(
                    its_points[:cut], budget
                )
                its_points = its_points[cut:] if cut is not None else ()
                if rebased_ns is not None and its_points and progress.numbers[key].rebased_ns < rebased_ns:
                    progress.numbers[key] = NumberChart(by_days=series.by_days, rebased_ns=rebased_ns)

    def _charts_at(self, key: str) -> Callable[[int], int]:
        """How many charts share the budget at an instant: those without a segment, and those of one segment."""
        begun, code = self.progress.begun, key.partition("@")[2]
        segments = [begun[code]] if code else [begun[each] for each in begun if each]

        def charts_at(time_ns: int) -> int:
            of_segment = max((bisect_right(instants, time_ns) for instants in segments), default=0)
            return of_segment + bisect_right(begun.get(NO_SEGMENT, ()), time_ns)

        return charts_at

    def end_day(self, today: int) -> None:
        """Count the days before today as over."""
        for key, chart in self.progress.numbers.items():
            if chart.day < today:
                self.progress.crossings[key] += chart.end_day()


def _instant(point: Point) -> int:
    return point[0]


_READ_WANTED: Final = DerivedReader(DERIVED)


def derived_values(stored: OutlinedSession) -> Mapping[str, float]:
    """A session's derived values under the present formulas: those kept that series are made of, or all again."""
    facts = Facts()
    with suppress(RecordError):
        if isinstance(stored.derived_bytes, bytes):
            found = _READ_WANTED(stored.derived_bytes)
            if found.formula == FORMULA_VERSION:
                return found.values
            facts = found.facts
    samples, _ = computed(SessionRecord.from_json(stored.text), facts)
    return DerivedValues.of(FORMULA_VERSION, facts, samples).values
