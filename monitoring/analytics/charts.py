"""Charts that raise alarms under one false-alarm budget: of numbers, of events, and of silence. Pure.

A chart takes one point an exam in the order of time, and tells the crossings of its limit. It needs no fitted baseline
and no distribution:

- **Numbers**: each value's rank among the earlier ones of its stratum (a device, a site) becomes a normal score, and
  an exponentially weighted moving average (EWMA) of the scores is held against its limit. Source: Conover WJ,
  Tercero-Gomez VG, Cordero-Franco AE. The sequential normal scores transformation. arXiv:1705.03496.
- **Events**: Shiryaev-Roberts statistics of several larger rates against a rate that people accept. As long as no
  exam's chance of an event, given those before it, is larger, an alarm comes once in ``every`` exams or less. Source:
  Shin J, Ramdas A, Rinaldo A. E-detectors: a nonparametric framework for sequential change detection. arXiv:2203.03532.
- **Silence**: working days without an exam, under exponential gaps.

``every`` (exams, or clinic days) is a chart's mean time between false alarms, its share of the one budget
(:mod:`monitoring.analytics.limits`).
Days are UTC days. What the methods can and can't find is told in ``docs/analytics.md``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil, fsum, inf, log, sqrt
from operator import itemgetter, mul
from typing import Final, NamedTuple

from msgspec import Struct, field

from monitoring.analytics import changes, limits
from monitoring.analytics.changes import WINDOW, Before, Extent, Gain, Past, change_point, rate_gain, shift_gain
from monitoring.analytics.limits import DAYS_WEIGHT, WEIGHT, alarm_once_in, detectable_shift, limit
from monitoring.analytics.ranks import Summary, Values, score_among, summary
from monitoring.domain.statistics import mean

LEARNING_UNTIL, LIMITED_UNTIL = 20, 100
DAY_NS: Final = 86_400_000_000_000
_YEAR_NS: Final = 365.25 * DAY_NS
_SHORTEST_SPAN_NS: Final = 28 * DAY_NS  # how many exams a year brings can't be told from less
_USUAL_YEAR: Final = 360.0
_LOOKS: Final = (LEARNING_UNTIL, 50, LIMITED_UNTIL)  # then at each doubling

_LARGEST: Final = 1e300
FEWEST_SILENT_DAYS: Final = 3.0
"""Silence is no alarm before so many working days: public holidays come in twos."""


class Crossing(Struct, frozen=True):
    """A limit was crossed: by the point at ``time_ns``, the chart's ``exams``-th. ``every`` is what it was held to.

    The change is estimated: it lies at ``change_ns``, the first point after it, with about 90 % within ``earliest_ns``
    to ``latest_ns``, and is ``size`` large in the series' unit: of numbers the median difference (Hodges-Lehmann), of
    events that of the shares; against the reference or the accepted share where the change is older than what is
    remembered. ``strata`` are where it sits, none where not in some alone. Both are as they were at the crossing, over
    ``since`` exams; :meth:`Chart.extent` says it of later ones, from what is kept of ``before``. The sign of ``score``
    is its direction. ``every`` is in clinic days where the chart counted them then (``by_days``).
    """

    time_ns: int
    exams: int
    score: float
    limit: float
    every: float
    change_ns: int
    earliest_ns: int
    latest_ns: int
    size: float
    strata: tuple[str, ...] = ()
    by_days: bool = False
    since: int = 0
    before: dict[str, Before] = {}


# --- what all charts share ----------------------------------------------------------------------


class Budget(NamedTuple):
    """The one budget: false alarms a year for all charts together, and how many charts there were at an instant."""

    false_alarms_a_year: float
    charts_at: Callable[[int], int]


class Chart(Struct, kw_only=True):
    """What charts have in common: how many points since when, and how seldom a false alarm may come."""

    exams: int = 0
    first_ns: int = 0
    every: float = 0.0
    next_look: int = 0
    past: list[Past] = field(default_factory=list)
    changed_ns: int = 0
    """The last estimated change, before which no other one is looked for."""

    @property
    def points(self) -> int:
        """How many points were charted: exams, or clinic days that are over."""
        return self.exams

    @property
    def last_ns(self) -> int:
        """The last point's instant."""
        return self.past[-1][0] if self.past else 0

    def _look(self, budget: Budget, points: float = _USUAL_YEAR) -> float:
        """When to look next at how many points a year there are, and this chart's share of the budget until then."""
        self.next_look = next((look for look in _LOOKS if look > self.exams), self.exams * 2)
        a_year = points
        if self.exams:
            a_year = points * _YEAR_NS / max(self.last_ns - self.first_ns, _SHORTEST_SPAN_NS)
        return alarm_once_in(budget.charts_at(self.last_ns or self.first_ns), a_year, budget.false_alarms_a_year)

    def extent(self, before: Mapping[str, Before], since: Sequence[Past], direction: float) -> Extent:
        """How large a change is, and where it sits, by the points since. Silence has neither: nothing is since."""
        raise NotImplementedError

    def _before(self, past: Sequence[Past]) -> dict[str, Before]:
        raise NotImplementedError

    def _crossing(self, score: float, at: float, gain: Gain, by_days: bool = False) -> Crossing:
        """What the chart says where it crosses its limit ``at``."""
        past = self.past[-WINDOW:]
        past = past[bisect_left(past, self.changed_ns, key=itemgetter(0)) :]
        change = change_point([its_score for _, its_score, _, _ in past], gain, score)
        cut, first, last = change.after if change else 0, past[0][0], past[-1][0]
        before = self._before(past[:cut])
        found = self.extent(before, past[cut:], score)
        first, earliest, latest = (past[k][0] for k in change) if change else (first, first, last)
        self.changed_ns = first
        return Crossing(
            last, self.exams, score, at, self.every, first, earliest, latest, found.size, found.strata, by_days,
            found.exams, before,
        )  # fmt: skip

    def _forget(self) -> None:
        """Let the past be not much longer than it is looked at."""
        if len(self.past) >= 2 * WINDOW:
            del self.past[:-WINDOW]


# --- numbers ------------------------------------------------------------------------------------


class Dependence(Struct):
    """How much of the scores' scatter neighbours and clinic days have in common: sums, to be added to for ever."""

    count: int = 0
    days: int = 0
    total: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    """Of each score with the one before it."""
    day_squares: float = 0.0
    """Each day's sum of scores, squared, over its number of exams."""
    counts_squared: int = 0
    latest: float = 0.0

    def add(self, scores: Sequence[float]) -> None:
        """Add a day's scores."""
        total, count = fsum(scores), len(scores)
        self.count += count
        self.days += 1
        self.total += total
        self.squares += fsum(map(mul, scores, scores))
        self.products += fsum(map(mul, (self.latest, *scores), scores))
        self.latest = scores[-1]
        self.day_squares += total * total / count
        self.counts_squared += count * count

    @property
    def neighbours(self) -> float:
        """The correlation of neighbouring scores."""
        return self.products / self.squares if self.squares else 0.0

    @property
    def day_share(self) -> float:
        """The share of the variance that exams of one day have in common: the intraclass correlation ICC(1)."""
        between, within, size = self._mean_squares()
        scale = between + (size - 1) * within
        return (between - within) / scale if scale > 0 else 0.0

    @property
    def inflation(self) -> float:
        """How much larger the variance of a day's sum is than that of as many exams of different days."""
        return 1 + (self.count / max(self.days, 1) - 1) * max(self.day_share, 0.0)

    @property
    def is_clear(self) -> bool:
        """Whether either lies beyond two of its standard errors under independence."""
        if self.count and self.neighbours > 2 / sqrt(self.count):
            return True
        _, _, size = self._mean_squares()
        return size > 1.01 and self.day_share > 2 * sqrt(2 / (size * (size - 1) * (self.days - 1)))

    def _mean_squares(self) -> tuple[float, float, float]:
        """Between days, within them, and the exams of a typical day."""
        if self.days < 2 or self.count <= self.days:
            return 0.0, 0.0, 1.0
        between = (self.day_squares - self.total**2 / self.count) / (self.days - 1)
        within = (self.squares - self.day_squares) / (self.count - self.days)
        return between, within, (self.count - self.counts_squared / self.count) / (self.days - 1)


class NumberChart(Chart, kw_only=True):
    """An EWMA of sequential normal scores: of each exam's, or of the clinic days' where exams depend on one another.

    ``z`` starts at 0 with exam (or day) 21, and again after each crossing.
    """

    z: float = 0.0
    limit: float = inf
    """Of |z|."""
    rebased_ns: int = 0
    """The estimated change from which people let the chart begin anew."""
    by_days: bool = False
    earlier: dict[str, Values] = field(default_factory=dict)
    """By stratum, sorted. Strata that no further point is of may be left out: their summaries are enough."""
    summaries: dict[str, Summary] = field(default_factory=dict)
    earlier_days: list[float] = field(default_factory=list)
    dependence: Dependence = field(default_factory=Dependence)
    day: int = 0
    day_scores: list[float] = field(default_factory=list)

    @property
    def points(self) -> int:
        """Exams, or clinic days that are over."""
        return self.dependence.days if self.by_days else self.exams

    def extend(self, points: Iterable[tuple[int, float, str]], budget: Budget) -> Iterator[Crossing]:
        """Chart further points (UTC ns, value, stratum), in the order of time."""
        # In local names, but where others look at them: a busy site's points come by the million.
        earlier, past, scores, keep = self.earlier, self.past, self.day_scores, 1.0 - WEIGHT
        ends_ns, exams, z, look = (self.day + 1) * DAY_NS, self.exams, self.z, self.next_look or LEARNING_UNTIL
        by_exams, edge = not self.by_days, inf if self.by_days else self.limit
        for time_ns, value, stratum in points:
            if time_ns >= ends_ns:
                self.exams, self.z = exams, z
                yield from self.end_day()
                self.day, z = time_ns // DAY_NS, self.z
                self.first_ns, ends_ns = self.first_ns or time_ns, (self.day + 1) * DAY_NS
            score = score_among(
                earlier[stratum] if stratum in earlier else earlier.setdefault(stratum, Values("d")), value
            )
            exams += 1
            scores.append(score)
            past.append((time_ns, score, value, stratum))
            if by_exams and exams > LEARNING_UNTIL:
                z = keep * z + WEIGHT * score
                if not -edge <= z <= edge:
                    self.exams, self.z = exams, z
                    yield self._alarm(edge)
                    z = self.z
            if exams >= look:
                self.exams, self.z = exams, z
                self._set_limit(budget)
                z, look = self.z, self.next_look
                by_exams, edge = not self.by_days, inf if self.by_days else self.limit
        self.exams, self.z = exams, z

    def end_day(self) -> Iterator[Crossing]:
        """What the last day says as a whole; called when no exam of it can come any more."""
        count, total = len(self.day_scores), fsum(self.day_scores)
        if not count:
            return
        self.dependence.add(self.day_scores)
        self.day_scores.clear()
        self._forget()
        # sqrt(n) x the day's mean has the same spread for few exams and for many, if these are independent.
        score = score_among(self.earlier_days, total / sqrt(count))
        if self.by_days:
            is_charted = self.dependence.days > LEARNING_UNTIL
            self.z = (1.0 - DAYS_WEIGHT) * self.z + DAYS_WEIGHT * score if is_charted else 0.0
            if abs(self.z) > self.limit:
                yield self._alarm(self.limit)

    def _set_limit(self, budget: Budget) -> None:
        # From exam 100 on, and never back: a chart that changed to and fro would have no run length to speak of. At few
        # exams: a change that lasts looks like dependence, too, and z would begin anew in the midst of it.
        if not self.by_days and self.exams >= LIMITED_UNTIL and self.dependence.is_clear:
            self.by_days, self.z = True, 0.0
        weight = DAYS_WEIGHT if self.by_days else WEIGHT
        self.every = self._look(budget, self.dependence.days + 1 if self.by_days else self.exams)
        self.limit = limit(self.every, weight) * sqrt(weight / (2 - weight))

    def _alarm(self, at: float) -> Crossing:
        inflation = self._inflation
        found = self._crossing(self.z, at, lambda *sums: shift_gain(*sums) / inflation, self.by_days)
        self.z = 0.0
        return found

    @property
    def _inflation(self) -> float:
        return self.dependence.inflation if self.by_days else 1.0

    def extent(self, before: Mapping[str, Before], since: Sequence[Past], direction: float) -> Extent:
        """How large a shift is, and where it sits, by the exams since."""
        return changes.extent_of_numbers(before, since, direction, self._inflation)

    def _before(self, past: Sequence[Past]) -> dict[str, Before]:
        if past:
            return changes.of_numbers(past)
        # The change is as old as what is remembered, so that all of what is ranked among stands for before.
        known = {stratum: self.summary(stratum) for stratum in self.strata}
        return {stratum: Before(each.count, changes.evenly(each.spread)) for stratum, each in known.items()}

    def detectable_sd(self, within: int) -> float | None:
        """The smallest shift, in SD of the exams, that is found with 80 % within so many exams, or clinic days."""
        if not self.by_days:
            return detectable_shift(self.exams, within, self.every)
        days = self.dependence
        shift, a_day = detectable_shift(days.days, within, self.every, DAYS_WEIGHT), days.count / max(days.days, 1)
        # A day's point scatters by what its exams have in common, too, and moves with the root of their number.
        return None if shift is None else shift * sqrt(days.inflation / a_day)

    def summary(self, stratum: str) -> Summary:
        """What is known of a stratum's values, also where these are left out."""
        values, known = self.earlier.get(stratum), self.summaries.get(stratum)
        if values is not None and (known is None or known.count != len(values)):
            self.summaries[stratum] = known = summary(values)
        assert known is not None  # noqa: S101
        return known

    @property
    def strata(self) -> list[str]:
        """Those that had a point, in the order in which they came."""
        return list(dict.fromkeys((*self.summaries, *self.earlier)))

    def sd(self) -> float | None:
        """The standard deviation of the values ranked against, within their strata, in the series' unit."""
        squares, degrees = 0.0, 0
        for its in map(self.summary, self.strata):
            squares += its.squares
            degrees += its.count - 1
        return sqrt(squares / degrees) if degrees > 0 else None


# --- events -------------------------------------------------------------------------------------


class EventChart(Chart, kw_only=True):
    """Shiryaev-Roberts statistics against a rate that people accept, one for each of :data:`MULTIPLES` of it.

    They start at 0, and again after each crossing of their mean.
    """

    accepted: float
    events: int = 0
    statistics: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    """What they would be if no crossing had set them back."""

    def extend(self, points: Iterable[tuple[int, float, str]], budget: Budget) -> Iterator[Crossing]:
        """Chart further exams (UTC ns, above 0 if the event came, stratum), in the order of time."""
        ratios = limits.likelihood_ratios(self.accepted)
        steps = [[pair[is_event] for pair in ratios] for is_event in (False, True)]
        statistics, running = (kept or [0.0] * len(ratios) for kept in (self.statistics, self.running))
        for time_ns, value, stratum in points:
            is_event = value > 0
            self.first_ns = self.first_ns or time_ns
            if self.exams >= self.next_look:
                self.every = self._look(budget, self.exams or _USUAL_YEAR)
            self.exams += 1
            self.events += is_event
            self.past.append((time_ns, float(is_event), float(is_event), stratum))
            for number, step in enumerate(steps[is_event]):
                statistics[number] = (1 + statistics[number]) * step
                running[number] = (1 + running[number]) * step
            if is_event:  # without one they only shrink towards what they began with
                running = [min(each, _LARGEST) for each in running]
            if (score := sum(statistics) / len(statistics)) >= self.every:
                yield self._crossing(score, self.every, rate_gain)
                statistics[:] = [0.0] * len(ratios)
            if len(self.past) >= 2 * WINDOW:
                self._forget()
        self.statistics, self.running = statistics, running

    def extent(self, before: Mapping[str, Before], since: Sequence[Past], direction: float) -> Extent:
        """How much more often the event came, and where, by the exams since."""
        del direction  # none alarms where it comes less often
        return changes.extent_of_events(before, since, self.accepted)

    def _before(self, past: Sequence[Past]) -> dict[str, Before]:
        return changes.of_events(past)

    @property
    def e_value(self) -> float:
        """Evidence against "the rate is no larger than accepted", for :func:`monitoring.analytics.intervals.e_bh`.

        ``running``'s mean over the number of exams: 1 on average where it is as large as accepted.
        """
        return mean(self.running) / self.exams if self.exams else 1.0


# --- silence ------------------------------------------------------------------------------------


def working_days_before(day: int) -> int:
    """How many days from Monday to Friday lie before a day since 1970-01-01 (a Thursday), from a Monday on."""
    weeks, rest = divmod(day + 3, 7)
    return weeks * 5 + min(rest, 5)


def silent_days_between(last: int, day: int) -> int:
    """How many days from Monday to Friday lie whole between two days."""
    return max(working_days_before(day) - working_days_before(last + 1), 0)


class SilenceChart(Chart, kw_only=True):
    """Whole working days without an exam: alarm at ln(``every``) / exams a day, three at the least, twice the usual."""

    usual_days: int = 0  # nine in ten silences between two days with exams are no longer

    def extend(self, points: Iterable[tuple[int, float, str]], budget: Budget) -> Iterator[Crossing]:
        """Take further exams, in the order of time; a silence that an exam ended is told, too."""
        for time_ns, value, stratum in points:
            if time_ns // DAY_NS != self.last_ns // DAY_NS:
                yield from self.until(time_ns)
            self.first_ns = self.first_ns or time_ns
            self.exams += 1
            self.past.append((time_ns, 0.0, value, stratum))
            self._forget()
            if len(self.past) > 1 and self.past[-2][0] // DAY_NS != time_ns // DAY_NS:
                days = sorted({then_ns // DAY_NS for then_ns, *_ in self.past[-WINDOW:]})
                gaps = sorted(silent_days_between(*pair) for pair in pairwise(days))
                self.usual_days = gaps[9 * (len(gaps) - 1) // 10]
            if self.exams >= (self.next_look or LEARNING_UNTIL):
                self.every = self._look(budget, self.exams)

    @property
    def allowed_days(self) -> float:
        """Whole working days without an exam that are no alarm yet; endless before exam 20."""
        if not self.every:
            return inf
        past = self.past[-WINDOW:]
        days = [working_days_before(past[at][0] // DAY_NS) for at in (0, -1)]
        a_day = len(past) / max(days[1] - days[0], 1)
        return float(ceil(max(log(self.every) / a_day, FEWEST_SILENT_DAYS, 2 * (self.usual_days + 1))))

    def silent_days(self, now_ns: int) -> int:
        """The whole working days between the last exam's day and today."""
        return silent_days_between(self.last_ns // DAY_NS, now_ns // DAY_NS)

    def until(self, now_ns: int) -> Iterator[Crossing]:
        """The alarm that the silence since the last exam has become, if it has: from the day after the allowed ones."""
        # What is allowed is never less than three, and asked at each of many thousand exams.
        silent = self.silent_days(now_ns) if self.exams else 0
        if silent >= FEWEST_SILENT_DAYS and silent >= (allowed := self.allowed_days):
            last_ns = self.last_ns
            weeks, rest = divmod(working_days_before(last_ns // DAY_NS + 1) + int(allowed) - 1, 5)
            began_ns = (weeks * 7 + rest - 3 + 1) * DAY_NS
            change = (last_ns, last_ns, last_ns)
            yield Crossing(began_ns, self.exams, float(silent), allowed, self.every, *change, allowed)
