"""Charts that raise alarms under one false-alarm budget: of numbers, of events, and of silence. Pure.

A chart takes one point an exam in the order of time, and tells the crossings of its limit. It needs no fitted baseline
and no distribution:

- **Numbers**: each value's rank among the earlier ones of its stratum (a device, a site) becomes a normal score, and
  an exponentially weighted moving average (EWMA) of the scores is held against its limit. Source: Conover WJ,
  Tercero-Gomez VG, Cordero-Franco AE. The sequential normal scores transformation. arXiv:1705.03496.
- **Events**: Shiryaev-Roberts statistics of several larger rates against a rate that people accept. As long as the
  true rate is no larger, an alarm comes once in ``every`` exams or less, whatever else is true. Source: Shin J,
  Ramdas A, Rinaldo A. E-detectors: a nonparametric framework for sequential change detection. arXiv:2203.03532.
- **Silence**: working days without an exam, under exponential gaps.

``every`` (exams, or clinic days) is a chart's mean time between false alarms, dealt out by :func:`alarm_once_in`.
Days are UTC days. What the methods can and can't find is told in ``docs/analytics.md``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil, exp, fsum, inf, log, sqrt
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from monitoring.domain.statistics import mean

FALSE_ALARMS_A_YEAR: Final = 2.0
SHORTEST: Final = 360.0
"""Points between false alarms at the least: a chart of few points would else cry wolf to use up its share."""
LEARNING_UNTIL, LIMITED_UNTIL = 20, 100
FEWEST_BEFORE: Final = 5
WINDOW: Final = 1_000
"""A change is looked for in so many points before its alarm."""
REFERENCE: Final = 10_000
"""So many earlier values of a stratum are ranked against; then they stay as they are. It bounds memory and time."""
WEIGHT, DAYS_WEIGHT = 0.05, 0.1
DAY_NS: Final = 86_400_000_000_000
_YEAR_NS: Final = 365.25 * DAY_NS
_SHORTEST_SPAN_NS: Final = 28 * DAY_NS  # how many exams a year brings can't be told from less
_USUAL_YEAR: Final = 360.0
_LOOKS: Final = (LEARNING_UNTIL, 50, LIMITED_UNTIL)  # then at each doubling
_PROBABLE: Final = 5.94  # -2 ln(1 - sqrt(.9)): see `change_point`
_QUANTILE: Final = NormalDist().inv_cdf

# The limit L of |z| in standard deviations of z, by the mean number of points to a false alarm (the two-sided chart's
# average run length from z = 0, by its integral equation; `make simulate` solves it again).
_LIMITS: Final = {
    WEIGHT: {
        360: 2.478, 720: 2.7597, 1_000: 2.8838, 1_800: 3.0926, 2_700: 3.2281, 3_600: 3.3205, 5_400: 3.4459,
        7_200: 3.5319, 10_800: 3.6492, 18_000: 3.7911, 36_000: 3.9747, 180_000: 4.3684, 1_000_000: 4.7493,
        3_600_000: 5.0138,
    },
    DAYS_WEIGHT: {
        360: 2.6905, 720: 2.9455, 900: 3.0228, 1_800: 3.2503, 3_600: 3.4615, 7_200: 3.6593, 18_000: 3.904,
        36_000: 4.0786, 180_000: 4.4559, 1_000_000: 4.824, 3_600_000: 5.0809,
    },
}  # fmt: skip
# The smallest shift, in standard deviations, that is found with 80 % within so many exams, once so many were ranked,
# where a false alarm comes once in 3,600. Simulated; again by `make simulate`.
_WITHIN: Final = (15, 30, 60, 90)
_FOUND: Final = {
    50: (1.59, 1.06, 0.85, 0.81), 100: (1.41, 0.92, 0.70, 0.63), 200: (1.29, 0.85, 0.61, 0.53),
    400: (1.25, 0.79, 0.57, 0.48),
}  # fmt: skip
MULTIPLES: Final = (2.0, 3.0, 5.0, 10.0)
_LARGEST_RATE: Final = 0.9
# Mean exams to an alarm where the true rate is so many times the accepted one, at one false alarm in 3,600. Simulated.
_EVENT_DELAYS: Final = {
    0.01: (536, 229, 98, 38), 0.02: (335, 136, 56, 21), 0.05: (173, 63, 26, 9), 0.10: (92, 33, 13, 5),
}  # fmt: skip
FEWEST_SILENT_DAYS: Final = 3.0
"""Silence is no alarm before so many working days: public holidays come in twos."""


def alarm_once_in(charts: int, points_a_year: float, false_alarms_a_year: float = FALSE_ALARMS_A_YEAR) -> float:
    """A chart's share of the one budget: the points in which it may alarm once for nothing, 360 at the least."""
    return max(charts * points_a_year / false_alarms_a_year, SHORTEST)


def limit(every: float, weight: float = WEIGHT) -> float:
    """L: an alarm is |z| > L sqrt(weight / (2 - weight)). Interpolated in ln ``every``, and so extended upwards."""
    return _interpolated(_LIMITS[weight], max(every, SHORTEST))


def detectable_shift(exams: int, within: int = 30, every: float = 3_600.0) -> float | None:
    """The smallest shift, in SD, that is found with 80 % within 15, 30, 60 or 90 exams; None before exam 50.

    Interpolated in ln ``exams``; for another ``every`` in proportion to the limit. From 400 exams on it stays.
    """
    if exams < min(_FOUND):
        return None
    column = _WITHIN.index(within)
    found = _interpolated({ranked: shifts[column] for ranked, shifts in _FOUND.items()}, min(exams, max(_FOUND)))
    return found * limit(every) / limit(3_600.0)


def exams_to_alarm(accepted: float, multiple: float) -> float:
    """Mean exams until an event chart tells that the rate is 2, 3, 5 or 10 times the accepted one, at A = 3,600.

    Interpolated in the logarithms of both; an ``accepted`` rate outside 0.01 to 0.1 is taken as the nearest of these.
    """
    column = MULTIPLES.index(multiple)
    table = {rate: log(delays[column]) for rate, delays in _EVENT_DELAYS.items()}
    return exp(_interpolated(table, min(max(accepted, min(table)), max(table))))


def _interpolated(table: Mapping[Any, float], at: float) -> float:
    """Between a table's rows, in the logarithm of its key; beyond its end with its last slope."""
    keys = sorted(table)
    upper = min(max(bisect_left(keys, at), 1), len(keys) - 1)
    low, high = keys[upper - 1], keys[upper]
    share = log(at / low) / log(high / low)
    return table[low] + share * (table[high] - table[low])


# --- a change, once an alarm is there -----------------------------------------------------------


class Change(NamedTuple):
    """So many points lie before the change; it is at ``earliest`` to ``latest`` with about 90 %."""

    after: int
    earliest: int
    latest: int


Gain = Callable[[float, int, float, int], float]
"""Twice the log likelihood that a change after k points gains: of the sums and numbers before it, and in all."""


def shift_gain(before: float, k: int, total: float, count: int) -> float:
    """Of a shift in the mean of normal scores: (mean before - mean after)^2 k (n - k) / n."""
    return float((before / k - (total - before) / (count - k)) ** 2 * k * (count - k) / count)


def rate_gain(before: float, k: int, total: float, count: int) -> float:
    """Of another rate of events."""
    found = 0.0
    for events, exams in ((before, k), (total - before, count - k)):
        found += sum(part * log(part / exams) for part in (events, exams - events) if part)
    return 2 * found  # without the part that is the same for every k


def change_point(values: Sequence[float], gain: Gain = shift_gain) -> Change | None:
    """Where the mean changed: after the k of 5 and more points that gains most; None for less than 6 values.

    The range holds each k whose log likelihood is at most 2.97 below the largest: on either side of the true one the
    ratio is a random walk that ever exceeds x with a probability of exp(-x) or less, and (1 - exp(-2.97))^2 = 0.90.
    """
    count, total, before = len(values), fsum(values), 0.0
    gains = {}
    for k, value in enumerate(values[: count - 1], 1):
        before += value
        if k >= FEWEST_BEFORE:
            gains[k] = gain(before, k, total, count)
    if not gains:
        return None
    best = max(gains, key=gains.__getitem__)
    probable = [k for k in gains if gains[k] >= gains[best] - _PROBABLE]
    return Change(best, probable[0], probable[-1])


class Past(NamedTuple):
    """One point of a chart's last :data:`WINDOW`: its instant (UTC ns), score, value and stratum."""

    time_ns: int
    score: float
    value: float
    stratum: str


class Crossing(Struct, frozen=True):
    """A limit was crossed: by the point at ``time_ns``, the chart's ``exams``-th. ``every`` is what it was held to.

    The change is estimated: it lies at ``change_ns``, the first point after it, with about 90 % within ``earliest_ns``
    to ``latest_ns``, and is ``size`` large in the series' unit. ``strata`` are where it sits, none where in all.
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


def _crossing(chart: Chart, score: float, at: float, gain: Gain) -> Crossing:
    """What a chart says where it crosses its limit ``at``; it goes on remembering what lies after the change."""
    past, last = chart.past[-WINDOW:], chart.last_ns
    change = change_point([point.score for point in past], gain)
    if change is None:
        ends = (past[0].time_ns, past[0].time_ns, last)
        return Crossing(last, chart.exams, score, at, chart.every, *ends, 0.0)
    before, after = past[: change.after], past[change.after :]
    chart.past[:] = after
    shifts, weights, moved = [], [], []
    for stratum in sorted({point.stratum for point in after}):
        theirs = [[point for point in part if point.stratum == stratum] for part in (before, after)]
        if all(theirs):
            shifts.append(mean([point.value for point in theirs[1]]) - mean([point.value for point in theirs[0]]))
            weights.append(len(theirs[1]))
            rise = mean([point.score for point in theirs[1]]) - mean([point.score for point in theirs[0]])
            if rise * score > 0 and abs(rise) * sqrt(len(theirs[1])) > 2.0:
                moved.append(stratum)
    size = fsum(shift * weight for shift, weight in zip(shifts, weights, strict=True)) / max(sum(weights), 1)
    if len(moved) == len({point.stratum for point in past}):
        moved = []
    first, earliest, latest = (past[k].time_ns for k in change)
    return Crossing(last, chart.exams, score, at, chart.every, first, earliest, latest, size, tuple(moved))


# --- what all charts share ----------------------------------------------------------------------


class Budget(NamedTuple):
    """The one budget: false alarms a year for all charts together, and how many charts there were at an instant."""

    false_alarms_a_year: float
    charts_at: Callable[[int], int]


class Chart(Struct, kw_only=True):
    """What charts have in common: how many points since when, and how seldom a false alarm may come."""

    exams: int = 0
    first_ns: int = 0
    last_ns: int = 0
    every: float = 0.0
    next_look: int = 0
    past: list[Past] = field(default_factory=list)

    def _look(self, budget: Budget, points: float = _USUAL_YEAR) -> float:
        """When to look next at how many points a year there are, and this chart's share of the budget until then."""
        self.next_look = next((look for look in _LOOKS if look > self.exams), self.exams * 2)
        a_year = points
        if self.exams:
            a_year = points * _YEAR_NS / max(self.last_ns - self.first_ns, _SHORTEST_SPAN_NS)
        return alarm_once_in(budget.charts_at(self.last_ns), a_year, budget.false_alarms_a_year)

    def _remember(self, point: Past) -> None:
        self.past.append(point)
        if len(self.past) >= 2 * WINDOW:  # a list's front is cut off seldom, since that moves the rest
            del self.past[:-WINDOW]


# --- numbers ------------------------------------------------------------------------------------


def score_among(earlier: list[float], value: float) -> float:
    """A value's sequential normal score, N((smaller + equal / 2 + 1 / 2) / n); it is then one of ``earlier``."""
    low = bisect_left(earlier, value)
    high = bisect_right(earlier, value, low)
    count = len(earlier) + 1
    if count <= REFERENCE:
        earlier.insert(high, value)
    return _QUANTILE((low + high + 1) / (2 * count))


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
    by_days: bool = False
    earlier: dict[str, list[float]] = field(default_factory=dict)
    earlier_days: list[float] = field(default_factory=list)
    dependence: Dependence = field(default_factory=Dependence)
    day: int = 0
    day_total: float = 0.0
    day_count: int = 0

    def extend(self, points: Iterable[tuple[int, float, str]], budget: Budget) -> Iterator[Crossing]:
        """Chart further points (UTC ns, value, stratum), in the order of time."""
        earlier, dependence, keep = self.earlier, self.dependence, 1.0 - WEIGHT
        for time_ns, value, stratum in points:
            if time_ns // DAY_NS != self.day:
                yield from self.end_day()
                self.day = time_ns // DAY_NS
            score = score_among(earlier.setdefault(stratum, []), value)
            self.exams += 1
            self.first_ns, self.last_ns = self.first_ns or time_ns, time_ns
            self.day_total += score
            self.day_count += 1
            dependence.count += 1
            dependence.total += score
            dependence.squares += score * score
            dependence.products += score * dependence.latest
            dependence.latest = score
            self._remember(Past(time_ns, score, value, stratum))
            if not self.by_days:
                self.z = keep * self.z + WEIGHT * score if self.exams > LEARNING_UNTIL else 0.0
                if abs(self.z) > self.limit:
                    yield self._alarm(self.limit)
            if self.exams >= (self.next_look or LEARNING_UNTIL):
                self._set_limit(budget)

    def end_day(self) -> Iterator[Crossing]:
        """What the last day says as a whole; called when no exam of it can come any more."""
        count, total = self.day_count, self.day_total
        if not count:
            return
        self.day_count, self.day_total = 0, 0.0
        self.dependence.days += 1
        self.dependence.day_squares += total * total / count
        self.dependence.counts_squared += count * count
        # sqrt(n) x the day's mean has the same spread for few exams and for many, if these are independent.
        score = score_among(self.earlier_days, total / sqrt(count))
        if self.by_days:
            is_charted = self.dependence.days > LEARNING_UNTIL
            self.z = (1.0 - DAYS_WEIGHT) * self.z + DAYS_WEIGHT * score if is_charted else 0.0
            if abs(self.z) > self.limit:
                yield self._alarm(self.limit)

    def _set_limit(self, budget: Budget) -> None:
        # From exam 100 on, and never back: a chart that changed to and fro would have no run length to speak of.
        if not self.by_days and self.exams >= LIMITED_UNTIL and self.dependence.is_clear:
            self.by_days, self.z = True, 0.0
        weight = DAYS_WEIGHT if self.by_days else WEIGHT
        self.every = self._look(budget, self.dependence.days + 1 if self.by_days else self.exams)
        self.limit = limit(self.every, weight) * sqrt(weight / (2 - weight))

    def _alarm(self, at: float) -> Crossing:
        found = _crossing(self, self.z, at, shift_gain)
        self.z = 0.0
        return found

    def sd(self) -> float | None:
        """The standard deviation of the values ranked against, within their strata, in the series' unit."""
        squares, degrees = 0.0, 0
        for values in self.earlier.values():
            centre = mean(values)
            squares += fsum((value - centre) ** 2 for value in values)
            degrees += len(values) - 1
        return sqrt(squares / degrees) if degrees > 0 else None


# --- events -------------------------------------------------------------------------------------


class EventChart(Chart, kw_only=True):
    """Shiryaev-Roberts statistics against a rate that people accept, one for each of :data:`MULTIPLES` of it.

    They start at 0, and again after each crossing of their mean.
    """

    accepted: float
    events: int = 0
    statistics: list[float] = field(default_factory=list)
    never_reset: float = 0.0
    """Their mean if no crossing had set them back; over the number of exams it is an e-value of "rate <= accepted"."""
    running: list[float] = field(default_factory=list)

    def extend(self, points: Iterable[tuple[int, bool, str]], budget: Budget) -> Iterator[Crossing]:
        """Chart further exams (UTC ns, whether the event came, stratum), in the order of time."""
        ratios = likelihood_ratios(self.accepted)
        self.statistics = self.statistics or [0.0] * len(ratios)
        self.running = self.running or [0.0] * len(ratios)
        for time_ns, is_event, stratum in points:
            self.first_ns, self.last_ns = self.first_ns or time_ns, time_ns
            if self.exams >= self.next_look:
                self.every = self._look(budget, self.exams or _USUAL_YEAR)
            self.exams += 1
            self.events += is_event
            self._remember(Past(time_ns, float(is_event), float(is_event), stratum))
            steps = [pair[is_event] for pair in ratios]
            self.statistics = [(1 + found) * step for found, step in zip(self.statistics, steps, strict=True)]
            self.running = [min((1 + found) * step, 1e300) for found, step in zip(self.running, steps, strict=True)]
            if (score := mean(self.statistics)) >= self.every:
                yield _crossing(self, score, self.every, rate_gain)
                self.statistics = [0.0] * len(ratios)

    @property
    def e_value(self) -> float:
        """Evidence against "the rate is no larger than accepted", for :func:`monitoring.analytics.intervals.e_bh`."""
        return mean(self.running) / self.exams if self.exams else 1.0


def likelihood_ratios(accepted: float) -> list[tuple[float, float]]:
    """Of each larger rate below 0.9 to the accepted one: without the event, and with it."""
    rates = [accepted * multiple for multiple in MULTIPLES if accepted * multiple < _LARGEST_RATE]
    return [((1 - rate) / (1 - accepted), rate / accepted) for rate in rates]


# --- silence ------------------------------------------------------------------------------------


def working_days_before(day: int) -> int:
    """How many days from Monday to Friday lie before a day since 1970-01-01 (a Thursday), from a Monday on."""
    weeks, rest = divmod(day + 3, 7)
    return weeks * 5 + min(rest, 5)


class SilenceChart(Chart, kw_only=True):
    """Whole working days without an exam: an alarm at ln(``every``) / exams a working day, three days at the least."""

    def extend(self, points: Iterable[tuple[int, float, str]], budget: Budget) -> Iterator[Crossing]:
        """Take further exams, in the order of time; a silence that an exam ended is told, too."""
        for time_ns, value, stratum in points:
            yield from self.until(time_ns)
            self.first_ns, self.last_ns = self.first_ns or time_ns, time_ns
            self.exams += 1
            self._remember(Past(time_ns, 0.0, value, stratum))
            if self.exams >= (self.next_look or LEARNING_UNTIL):
                self.every = self._look(budget, self.exams)

    @property
    def allowed_days(self) -> float:
        """Whole working days without an exam that are no alarm yet; endless before exam 20."""
        if not self.every:
            return inf
        past = self.past[-WINDOW:]
        days = [working_days_before(past[at].time_ns // DAY_NS) for at in (0, -1)]
        a_day = len(past) / max(days[1] - days[0], 1)
        return float(ceil(max(log(self.every) / a_day, FEWEST_SILENT_DAYS)))

    def silent_days(self, now_ns: int) -> int:
        """The whole working days between the last exam's day and today."""
        last, today = self.last_ns // DAY_NS, now_ns // DAY_NS
        return max(working_days_before(today) - working_days_before(last + 1), 0)

    def until(self, now_ns: int) -> Iterator[Crossing]:
        """The alarm that the silence since the last exam has become, if it has: from the day after the allowed ones."""
        if self.exams and self.silent_days(now_ns) >= (allowed := self.allowed_days):
            weeks, rest = divmod(working_days_before(self.last_ns // DAY_NS + 1) + int(allowed) - 1, 5)
            began_ns = (weeks * 7 + rest - 3 + 1) * DAY_NS
            ends = (self.last_ns, self.last_ns, self.last_ns)
            yield Crossing(began_ns, self.exams, float(self.silent_days(now_ns)), allowed, self.every, *ends, allowed)
