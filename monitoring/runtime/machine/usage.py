"""What is read of the machine at one moment, and how it is folded to a session's average and extremes: pure.

Keys are the catalogue's resources, with a label's value behind a slash: ``disk_free_bytes/store``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

from monitoring.records.session_record import Usage

SHORTEST_SPAN_SECONDS = 0.1
"""Work is not divided by less, unless the whole session is shorter: the kernel counts it in steps of up to 10 ms."""


class Level(Struct, frozen=True):
    """What is so at the moment. ``peak`` is the highest since the process began, where the source keeps that.

    ``is_left`` marks what can come to an end: of it the smallest is kept, too.
    """

    value: float
    peak: float | None = None
    is_left: bool = False


class Trailing(Struct, frozen=True):
    """What was so on average in the moment before."""

    value: float


class Work(Struct, frozen=True):
    """A count that only grows, beside its clock: the share of two is (done2 - done1) / (clock2 - clock1) / capacity.

    A share is never over ``most``. ``counter`` says what is counted: counts of another can't be subtracted.
    """

    done: float
    clock: float
    capacity: float = 1.0
    most: float = math.inf
    counter: Hashable = None


class Latest(Struct, frozen=True):
    """What holds for the whole session once it is over: a limit, a peak."""

    value: float


Figure = Level | Trailing | Work | Latest
Figures = Mapping[str, Figure]

F = TypeVar("F", Level, Trailing, Work, Latest)


class _Fold(Generic[F]):
    """One resource's figures, folded as they come; ``at`` is their moment on the monotonic clock."""

    def __init__(self, figure: F, at: float) -> None:
        self.first: F = figure
        self.last: F = figure
        self.first_at = self.last_at = at

    def add(self, figure: F, at: float) -> None:
        """Take a further figure; one that is older than the last is too late, and is left out."""
        # Threads answer when they can: a sample that was overtaken would count its span twice.
        if at >= self.last_at:
            self.span(figure, at - self.last_at)
            self.last, self.last_at = figure, at

    def goes_on_with(self, figure: F) -> bool:  # noqa: ARG002 - for those that may not
        """Whether the figure can be compared with the last one; if not, the fold begins anew."""
        return True

    def span(self, figure: F, seconds: float) -> None:
        """What the span from the last figure to this one adds."""

    def usage(self) -> Usage | None:
        """The figures so far; None when they say nothing."""
        raise NotImplementedError


class _Levels(_Fold[Level]):
    """Averaged over time, each span by the mean of its ends: samples are not evenly spaced."""

    def __init__(self, figure: Level, at: float) -> None:
        super().__init__(figure, at)
        self._area, self._maximum, self._minimum = 0.0, figure.value, figure.value

    def span(self, figure: Level, seconds: float) -> None:
        self._area += seconds * (self.last.value + figure.value) / 2
        self._maximum, self._minimum = max(self._maximum, figure.value), min(self._minimum, figure.value)
        # Only a peak that has risen was reached in this span, and not before the session.
        if figure.peak is not None and self.last.peak is not None and figure.peak > self.last.peak:
            self._maximum = max(self._maximum, figure.peak)

    def usage(self) -> Usage:
        seconds = self.last_at - self.first_at
        # By rounding alone an average may pass the outermost of what it was made of.
        average = self._area / seconds if seconds > 0 else (self.first.value + self.last.value) / 2
        average = min(max(average, self._minimum), self._maximum)
        return Usage(average, self._maximum, self._minimum if self.last.is_left else None)


class _Trails(_Fold[Trailing]):
    """The first figure tells of the time before the session: it counts only where there is no other."""

    def __init__(self, figure: Trailing, at: float) -> None:
        super().__init__(figure, at)
        self._area, self._maximum = 0.0, -math.inf

    def span(self, figure: Trailing, seconds: float) -> None:
        self._area += seconds * figure.value
        self._maximum = max(self._maximum, figure.value)

    def usage(self) -> Usage:
        seconds = self.last_at - self.first_at
        if seconds <= 0:
            return Usage(self.last.value, self.last.value)
        return Usage(min(self._area / seconds, self._maximum), self._maximum)


class _Works(_Fold[Work]):
    """The average is the work of the whole session by its time, and no mean of samples: nothing falls between them."""

    def __init__(self, figure: Work, at: float) -> None:
        super().__init__(figure, at)
        self._mark, self._mark_at, self._maximum = figure, at, -math.inf

    def goes_on_with(self, figure: Work) -> bool:
        return bool(figure.counter == self.last.counter)

    def span(self, figure: Work, seconds: float) -> None:
        if self.last_at + seconds - self._mark_at >= SHORTEST_SPAN_SECONDS:
            self._maximum = max(self._maximum, _share(self._mark, figure) or 0.0)
            self._mark, self._mark_at = figure, self.last_at + seconds

    def usage(self) -> Usage | None:
        average = _share(self.first, self.last)
        return None if average is None else Usage(average, max(average, self._maximum))


class _Lasts(_Fold[Latest]):
    def usage(self) -> Usage:
        return Usage(self.last.value, self.last.value)


_FOLDS: dict[type[Figure], Callable[[Any, float], _Fold[Any]]] = {
    Level: _Levels, Trailing: _Trails, Work: _Works, Latest: _Lasts,
}  # fmt: skip


class Recording:
    """What was read of the machine during one session. Thread-safe, also where a signal's handler comes in between."""

    def __init__(self) -> None:
        self._folds: dict[str, _Fold[Any]] = {}
        self._lock = threading.RLock()

    def add(self, figures: Figures, at: float) -> None:
        """Fold figures in that were read at ``at``, seconds of the monotonic clock."""
        with self._lock:
            for key, figure in figures.items():
                fold = self._folds.get(key)
                # A processor that went offline, or a container moved to another group, is another counter.
                if fold is not None and fold.goes_on_with(figure):
                    fold.add(figure, at)
                else:
                    self._folds[key] = _FOLDS[type(figure)](figure, at)

    def usages(self) -> dict[str, Usage]:
        """Average and maximum of each resource so far; of what holds for the whole session, both are the last."""
        with self._lock:
            usages = {key: fold.usage() for key, fold in self._folds.items()}
        return {
            key: usage
            for key, usage in usages.items()
            if usage is not None and math.isfinite(usage.average) and math.isfinite(usage.maximum)
        }


def _share(earlier: Work, later: Work) -> float | None:
    """None when the clock has not moved."""
    possible = (later.clock - earlier.clock) * later.capacity
    if possible <= 0:
        return None
    return min(max((later.done - earlier.done) / possible, 0.0), later.most)
