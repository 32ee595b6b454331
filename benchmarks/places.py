"""`make simulate places`: how often an alarm is said to sit where it does, with faults everywhere and on some strata.

The package's own charts; each case's alarms are looked at when they are found, and again as exams come in.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import sqrt
from multiprocessing.pool import Pool
from statistics import median
from typing import Final, NamedTuple

from monitoring.analytics.changes import Extent
from monitoring.analytics.charts import DAY_NS, Budget, EventChart, NumberChart

START_NS = 20_605 * DAY_NS  # a Monday
BUDGET = Budget(2.0, lambda _: 50)
BEFORE, WITH = 240, 400
LATER = (0, 30, 100)
RUNS = 200
COLUMNS = (
    "exams, by stratum", "fault", "on", "alarms", "exams since the change", "rightly, %; 30 and 100 exams later",
    "wrongly, %", "ever wrongly", "size; 100 exams later",
)  # fmt: skip


class Case(NamedTuple):
    """How many exams strata have of one another, how large the fault is, and on which of them."""

    shares: tuple[float, ...]
    fault: float
    on: tuple[int, ...]
    day_share: float = 0.0
    """Of the variance, of four exams a day, on a chart of clinic days."""
    is_event: bool = False
    """The fault is by how much more often one comes than in 5 %."""

    @property
    def right(self) -> tuple[str, ...]:
        return () if len(self.on) == len(self.shares) else tuple(map(str, self.on))

    def is_right(self, extent: Extent) -> bool:
        return extent.strata == self.right

    def is_wrong(self, extent: Extent) -> bool:
        return extent.strata not in ((), self.right)


_ALL: Final = range(8)
CASES = [
    *(
        Case(shares, fault, tuple(_ALL[: len(shares)]))
        for shares in ((1, 1), (1, 1, 1), (1, 1, 1, 1), (1,) * 8, (6, 3, 1), (1, 1, 1, 1, 0.08))
        for fault in (0.5, 1.0, 2.0)
    ),
    *(
        Case(shares, fault, on)
        for shares, on in (
            ((1, 1), (0,)), ((1, 1, 1, 1), (0,)), ((1, 1, 1, 1), (0, 1)), ((1, 1, 1, 1), (0, 1, 2)),
            ((6, 3, 1), (0,)), ((6, 3, 1), (1,)), ((1, 1, 1, 1, 0.08), (0,)),
        )
        for fault in (1.0, 2.0)
    ),
    Case((1, 1, 1, 1), 1.0, (0, 1, 2, 3), day_share=0.2),
    Case((1, 1), 2.0, (0,), day_share=0.2),
    Case((1, 1, 1, 1), 4.0, (0, 1, 2, 3), is_event=True),
    Case((1, 1, 1, 1), 10.0, (0,), is_event=True),
]  # fmt: skip


def points(case: Case, seed: int) -> list[tuple[int, float, str]]:
    generator, found, common = random.Random(seed), [], 0.0
    a_day = 4 if case.day_share else 1
    for number in range(BEFORE + WITH):
        [which] = generator.choices(range(len(case.shares)), case.shares)
        is_moved = number >= BEFORE and which in case.on
        if number % a_day == 0:
            common = generator.gauss(0, sqrt(case.day_share))
        if case.is_event:
            value = float(generator.random() < 0.05 * (case.fault if is_moved else 1))
        else:
            # Strata differ by 10 SD, as devices may.
            value = 10 * which + common + generator.gauss(case.fault * is_moved, sqrt(1 - case.day_share))
        found.append((START_NS + number // a_day * DAY_NS + number % a_day, value, str(which)))
    return found


def alarm(task: tuple[Case, int]) -> tuple[int, list[Extent]] | None:
    """The exams since the estimated change at the first alarm of a fault, and what is said then and each fifth exam
    later; None where none came.
    """
    case, seed = task
    chart = EventChart(accepted=0.05) if case.is_event else NumberChart(by_days=case.day_share > 0)
    every = points(case, seed)
    for crossing in chart.extend(every, BUDGET):
        if crossing.exams <= BEFORE or crossing.score < 0:
            continue
        first = next(at for at, point in enumerate(every) if point[0] == crossing.change_ns)
        since = [(time_ns, 0.0, value, stratum) for time_ns, value, stratum in every[first:]]
        exams = crossing.exams - first
        said = (
            chart.extent(crossing.before, since[: exams + later], crossing.score)
            for later in range(0, LATER[-1] + 1, 5)
            if exams + later <= len(since)
        )
        return exams, list(said)
    return None


def rows(pool: Pool) -> Iterator[tuple[object, ...]]:
    """The table's."""
    for case in CASES:
        found = [each for each in pool.map(alarm, [(case, seed) for seed in range(RUNS)], chunksize=10) if each]
        said = {later: [each[later // 5] for _, each in found if len(each) > later // 5] for later in LATER}
        shares_of = {
            words: " / ".join(f"{100 * sum(map(is_so, its)) / len(its):.0f}" for its in said.values())
            for words, is_so in (("rightly", case.is_right), ("wrongly", case.is_wrong))
        }
        ever = sum(any(map(case.is_wrong, each)) for _, each in found) / len(found)
        sizes = (f"{median(one.size for one in said[later]):.2f}" for later in (LATER[0], LATER[-1]))
        shares = " : ".join(f"{share:g}" for share in case.shares) if len(case.shares) < 8 else "8 equal"
        yield (
            shares + (f", day share {case.day_share:g}, by days" if case.day_share else ""),
            f"x{case.fault:g} of 5 %" if case.is_event else f"{case.fault:g} SD",
            "all" if not case.right else "the second" if case.on == (1,) else f"{len(case.on)} of {len(case.shares)}",
            len(found), f"{median(exams for exams, _ in found):.0f}", *shares_of.values(), f"{ever:.0%}",
            "; ".join(sizes),
        )  # fmt: skip
