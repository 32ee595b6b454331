"""Series as Prometheus 2 has scraped them, and its functions of a range of their samples, at many instants at once.

A series is kept as runs of scrapes that saw the same value, and a result as runs of instants that have the same value:
so a quarter of a year by the minute costs what its few changes cost.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct


class Samples(Struct):
    """One series as it was scraped: runs of scrapes, one ``scrape_ms`` after the other, that saw one value.

    ``firsts`` and ``lasts`` are each run's instants in milliseconds; the value None says that the series was gone, as
    Prometheus' stale marker does.
    """

    scrape_ms: int
    firsts: list[int] = []
    lasts: list[int] = []
    values: list[float | None] = []

    @classmethod
    def of_steps(cls, steps: Iterable[tuple[int, float | None]], scrape_ms: int, last: int) -> Samples:
        """What scrapes saw, each of the value that holds from its number on; ``last`` is the last one's number."""
        samples = cls(scrape_ms)
        for (first, value), (following, _) in pairwise([*steps, (last + 1, None)]):
            if first < following:  # that a series has ended is told once
                samples.add(first * scrape_ms, (first if value is None else following - 1) * scrape_ms, value)
        return samples

    def add(self, first_ms: int, last_ms: int, value: float | None) -> None:
        """A further run, after those that are there."""
        self.firsts.append(first_ms)
        self.lasts.append(last_ms)
        self.values.append(value)


class Grid(Struct, frozen=True):
    """The instants at which an expression is evaluated."""

    start_ms: int
    step_ms: int
    count: int

    def at(self, index: int) -> int:
        """An instant, in milliseconds."""
        return self.start_ms + index * self.step_ms

    def first_from(self, ms: int) -> int:
        """The index of the first instant that isn't before ``ms``; from 0 to ``count``."""
        return min(max(-((self.start_ms - ms) // self.step_ms), 0), self.count)


class Column(NamedTuple):
    """Values at all instants: each of ``values`` from its index in ``starts`` on, None where there is none."""

    starts: list[int]
    values: list[float | None]

    def runs(self, count: int) -> Iterator[tuple[int, int, float]]:
        """Where there are values: (from, to before, value), up to ``count`` instants."""
        for start, end, value in zip(self.starts, [*self.starts[1:], count], self.values, strict=True):
            if value is not None:
                yield start, end, value

    def append(self, index: int, value: float | None) -> None:
        """``value`` from ``index`` on, in place of what was said of it before."""
        starts, values = self
        if starts and starts[-1] == index:
            starts.pop()
            values.pop()
        if not values or values[-1] != value:
            starts.append(index)
            values.append(value)


# --- ranges of samples --------------------------------------------------------------------------


class Depends(Enum):
    """What of a range's samples makes a difference to a function."""

    ON_RUNS = 1
    """Which values there are, in their order."""
    ON_ENDS = 2
    """That, how many samples there are, and how far the first and the last lie from the range's ends."""
    ON_INCREASE = 3
    """The same, where nothing is extrapolated to before a counter was 0."""
    ON_SHARES = 4
    """How many samples there are of each value."""


class Window(NamedTuple):
    """The samples of one range: those of runs ``low`` to ``high`` from ``first_ms`` to ``last_ms``.

    ``start_ms`` and ``end_ms`` are the range's own; ``falls`` are the runs that are less than the one before.
    """

    samples: Samples
    falls: Sequence[int]
    low: int
    high: int
    first_ms: int
    last_ms: int
    samples_held: int
    start_ms: int
    end_ms: int

    @classmethod
    def between(
        cls, samples: Samples, falls: Sequence[int], counted: Sequence[int], start_ms: int, end_ms: int
    ) -> Window | None:
        """Those from one instant to another, both included; ``counted`` are the samples before each run."""
        low = bisect_left(samples.lasts, start_ms)
        high = bisect_right(samples.firsts, end_ms) - 1
        if low > high:
            return None
        scrape, low_ms, high_ms = samples.scrape_ms, samples.firsts[low], samples.firsts[high]
        before = max(0, -((low_ms - start_ms) // scrape))
        after = (min(samples.lasts[high], end_ms) - high_ms) // scrape
        held = counted[high] + after + 1 - counted[low] - before
        if held < 1:  # the range lies between two scrapes
            return None
        first_ms, last_ms = low_ms + before * scrape, high_ms + after * scrape
        return cls(samples, falls, low, high, first_ms, last_ms, held, start_ms, end_ms)

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last sample's value."""
        return self.samples.values[self.low], self.samples.values[self.high]  # type: ignore[return-value]

    @property
    def values(self) -> list[float]:
        """Of each run; none is None."""
        return self.samples.values[self.low : self.high + 1]  # type: ignore[return-value]

    def before_falls(self) -> list[float]:
        """The values from which the next one fell."""
        falls = self.falls[bisect_right(self.falls, self.low) : bisect_right(self.falls, self.high)]
        return [self.samples.values[run - 1] for run in falls]  # type: ignore[misc]

    def each(self) -> Iterator[float]:
        """Every sample's value."""
        for run, value in enumerate(self.values, self.low):
            first = max(self.samples.firsts[run], self.first_ms)
            last = min(self.samples.lasts[run], self.last_ms)
            yield from [value] * ((last - first) // self.samples.scrape_ms + 1)

    def stays(self, depends: Depends, value: float | None, step_ms: int) -> bool:
        """Whether a function keeps its value while the range's ends, ``step_ms`` by step, stay within their runs."""
        samples, scrape = self.samples, self.samples.scrape_ms
        if depends is Depends.ON_RUNS:
            return True
        grows = self.end_ms < samples.lasts[self.high] + scrape
        in_step = grows and step_ms % scrape == 0
        # As much comes in at one end as goes out at the other.
        is_steady = in_step and self.start_ms > samples.firsts[self.low] - scrape
        if depends is Depends.ON_SHARES:
            return is_steady and self.low == self.high
        is_of_zero = depends is Depends.ON_INCREASE and self.ends[0] == 0 and self.end_ms == self.last_ms
        # One sample more or less leaves the two that a difference needs.
        is_enough = value is not None and self.samples_held > 2
        return is_steady or (is_enough and ((grows and value == 0) or (in_step and is_of_zero)))


def _differences(
    window: Window, instants: int, step_ms: int, *, is_counter: bool, per_second: bool
) -> Iterator[float | None]:
    """``increase``, ``rate`` or ``delta`` of a range and of those after it, whose ends lie within the same runs.

    The difference is extrapolated to the range's ends where these are near.
    """
    samples, scrape = window.samples, window.samples.scrape_ms
    low_ms, high_ms, high_last_ms = samples.firsts[window.low], samples.firsts[window.high], samples.lasts[window.high]
    first, last = window.ends
    changed = last - first
    for before in window.before_falls() if is_counter else ():
        changed += before
    start_ms, end_ms = window.start_ms, window.end_ms
    # What the moving ends leave of the runs between them stays.
    between = window.samples_held - (window.last_ms - high_ms) // scrape + (window.first_ms - low_ms) // scrape
    for _ in range(instants):
        before = max(0, -((low_ms - start_ms) // scrape))
        after = (min(high_last_ms, end_ms) - high_ms) // scrape
        held = between + after - before
        if held < 2 or changed == 0:
            yield None if held < 2 else changed
        else:
            first_ms, last_ms = low_ms + before * scrape, high_ms + after * scrape
            covered = sampled = (last_ms - first_ms) / 1000
            gap = sampled / (held - 1)
            to_start = (first_ms - start_ms) / 1000
            if is_counter and changed > 0 and first >= 0:
                to_start = min(to_start, sampled * (first / changed))  # a counter isn't taken to less than 0
            to_end = (end_ms - last_ms) / 1000
            covered += to_start if to_start < gap * 1.1 else gap / 2
            covered += to_end if to_end < gap * 1.1 else gap / 2
            factor = covered / sampled
            yield changed * (factor / ((end_ms - start_ms) / 1000) if per_second else factor)
        start_ms += step_ms
        end_ms += step_ms


def _total(values: Iterable[float]) -> float:
    """A compensated sum, after Neumaier."""
    total = lost = 0.0
    for value in values:
        following = total + value
        lost += (total - following) + value if abs(total) >= abs(value) else (value - following) + total
        total = following
    return total if math.isinf(total) else total + lost


def _mean(values: Iterable[float]) -> float:
    """The running mean, compensated in the same way."""
    mean = lost = 0.0
    for number, value in enumerate(values, 1):
        step = value / number - mean / number
        following = mean + step
        lost += (mean - following) + step if abs(mean) >= abs(step) else (step - following) + mean
        mean = following
    return mean + lost


class OverTime(NamedTuple):
    """A function of a range."""

    value: Callable[[Window], float | None]
    depends: Depends = Depends.ON_RUNS
    keeps_name: bool = False
    following: Callable[[Window, int, int], Iterator[float | None]] | None = None
    """The values of a range and of those after it, so many in all and as far apart, while its runs stay the same."""


def _extrapolating(depends: Depends, *, is_counter: bool, per_second: bool = False) -> OverTime:
    following = partial(_differences, is_counter=is_counter, per_second=per_second)
    return OverTime(lambda window: next(following(window, 1, 0)), depends, following=following)


OVER_TIME: Mapping[str, OverTime] = {
    "increase": _extrapolating(Depends.ON_INCREASE, is_counter=True),
    "rate": _extrapolating(Depends.ON_INCREASE, is_counter=True, per_second=True),
    "delta": _extrapolating(Depends.ON_ENDS, is_counter=False),
    "resets": OverTime(lambda window: float(len(window.before_falls()))),
    "changes": OverTime(lambda window: float(sum(now != before for before, now in pairwise(window.values)))),
    "max_over_time": OverTime(lambda window: max(window.values)),
    "min_over_time": OverTime(lambda window: min(window.values)),
    "last_over_time": OverTime(lambda window: window.ends[1], keeps_name=True),
    "present_over_time": OverTime(lambda _: 1.0),
    "count_over_time": OverTime(lambda window: float(window.samples_held), Depends.ON_ENDS),
    "sum_over_time": OverTime(lambda window: _total(window.each()), Depends.ON_SHARES),
    "avg_over_time": OverTime(lambda window: _mean(window.each()), Depends.ON_SHARES),
}


def over_time(samples: Samples, function: OverTime, range_ms: int, offset_ms: int, grid: Grid) -> Column:
    """A function of the range before each instant."""
    scrape = samples.scrape_ms
    there, counted = Samples(scrape), [0]
    # Between these instants both ends of the range stay within their runs, or outside of any.
    edges = {0, grid.count}
    for first, last, value in zip(samples.firsts, samples.lasts, samples.values, strict=True):
        if value is not None:
            there.add(first, last, value)
            counted.append(counted[-1] + (last - first) // scrape + 1)
            edges |= {grid.first_from(ms + offset_ms) for ms in (first, last + scrape)}
            edges |= {grid.first_from(ms + offset_ms + range_ms) for ms in (first - scrape + 1, last + 1)}
    values = there.values
    falls = [run for run in range(1, len(values)) if values[run] < values[run - 1]]  # type: ignore[operator]
    found = Column([], [])
    for begin, end in pairwise(sorted(edges)):
        for index in range(begin, end):
            end_ms = grid.at(index) - offset_ms
            window = Window.between(there, falls, counted, end_ms - range_ms, end_ms)
            value = None if window is None else function.value(window)
            found.append(index, value)
            # Where the range is shorter than the scrapes' interval, it may hold none of a run that it lies in.
            if range_ms >= scrape and (window is None or window.stays(function.depends, value, grid.step_ms)):
                break
            if window is not None and window.samples_held > 2 and function.following and range_ms >= scrape:
                for later, value in enumerate(function.following(window, end - index, grid.step_ms), index):
                    found.append(later, value)
                break
    return found
