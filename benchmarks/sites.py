"""`make simulate`, its second part: whole sites that are drilled, volumes that fill, and exams that share their day.

Seeded, like :mod:`benchmarks.run_lengths`, and printed as it stands in `docs/analytics.md`. The sites are those of
`scripts/simulate-history`, with the application's own records of small phantoms.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

from benchmarks.places import START_NS
from benchmarks.run_lengths import chart, draws, head, points, row
from monitoring.analytics import drill as drills
from monitoring.analytics.analysis import NO_BACKENDS
from monitoring.analytics.charts import DAY_NS, Budget, NumberChart
from monitoring.analytics.drill import Drill, Finding, drill
from monitoring.analytics.faults import faults, slower
from monitoring.analytics.machines import disk
from monitoring.settings import AnalyticsConfig
from monitoring.store.database import Database
from monitoring.store.sessions import open_store
from simulation.history import Plan, base_records, simulate

CLINIC_DAYS = [day for day in range(40) if day % 7 < 5]
RUNS = 300

# --- drills ---------------------------------------------------------------------------------------


def drilled(task: tuple[Path, int]) -> tuple[int, Drill]:
    """Sessions of a simulated site, and what came of its drill."""
    phantoms, seed = task
    plan = Plan(now=datetime.fromisoformat("2026-11-20T18:00:00+01:00"), days=100, seed=seed, changes=False)
    # What takes less longer, beside the drill's own faults.
    drills.faults = lambda records: faults(records) | {"the machine takes 1.2 times as long": partial(slower, by=1.2)}
    with tempfile.TemporaryDirectory() as folder, open_store(Database(Path(folder) / "monitoring.db")) as store:
        records = list(simulate(plan, base_records(phantoms)))
        for record in records:
            store.commit(record, NO_BACKENDS)
        return len(records), drill(store, AnalyticsConfig())


def firsts(findings: Sequence[Finding], which: str, of: str = "") -> list[str]:
    """Of each site, after how many exams a fault was first noticed by such a chart; and by which series."""
    alarms = [next((one for one in getattr(each, which) if one.chart.startswith(of)), None) for each in findings]
    series = sorted({one.chart.partition("/")[0] for one in alarms if one})
    return [", ".join(str(one.exams) if one else "–" for one in alarms), ", ".join(series)]


def drills_of_sites(pool: Pool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base_records(Path(folder))  # once, before the processes share them
        found = pool.map(drilled, [(Path(folder), seed) for seed in range(1, 6)], chunksize=1)
    made = [each for _, each in found]
    sizes = ", ".join(f"{count} sessions" for count, _ in found)
    exams = ", ".join(f"{one.exams_before} + {one.exams_with_fault} ({one.read} read)" for one in made)
    head(
        f"Exams to the first alarm at five sites of {sizes}; exams {exams}",
        "fault", "any chart", "by", "without readers", "by", "the model's own chart",
    )  # fmt: skip
    for of_sites in zip(*(one.findings for one in made), strict=True):
        # "the same ... in one kind of exams alone: 0.16 mm per pixel (26 % of them)": each site's own kind.
        fault, _, kind = of_sites[0].fault.partition(": ")
        shares = ", ".join(one.fault.rpartition("(")[2].partition(" ")[0] for one in of_sites)
        cells = [cell for each in ("alarms", "without_readers") for cell in firsts(of_sites, each)]
        if fault.endswith("ankles 5 mm too low"):
            cells += firsts(of_sites, "alarms", f"model_difference/{fault.partition(' ')[0]}/")[:1]
        row(fault + f" ({shares} % of them)" * bool(kind), *cells)
    head("Their false alarms, 2 a year accepted", "", *(f"site {seed}" for seed in range(1, 6)), "together")
    rates = [one.shuffled for one in made]
    years = sum(rate.shuffles * rate.years for rate in rates)
    count = sum(sum(rate.by_chart.values()) for rate in rates)
    row("a year", *(f"{one.alarms_a_year:.1f}" for one in rates), f"{count / years:.1f}: {count} in {years:.0f} years")
    row("+- (2 SE)", *(f"{one.two_errors:.1f}" for one in rates), "")


# --- volumes --------------------------------------------------------------------------------------


def free_space(kind: str, scatter: float, generator: random.Random) -> list[float]:
    """Of each of 400 days; the unit is a day's mean loss, or its SD where there is no loss."""
    if kind == "line":
        return [60 - day + generator.gauss(0, scatter) for day in range(400)]
    if kind == "noise":
        return [6 + generator.gauss(0, 1) for _ in range(400)]
    found, loss = [60.0], float(kind == "walk")
    for _ in range(399):
        found.append(found[-1] - generator.gauss(loss, scatter))
    # Without a mean loss all that matters is how much is left now.
    return found if loss else [free - found[CLINIC_DAYS[-1]] + 20 for free in found]


def volumes() -> None:
    head(
        f"Full volumes: 40 days with {len(CLINIC_DAYS)} clinic days, {RUNS} times each",
        "free space", "scatter", "a date is told", "range holds the day",
    )  # fmt: skip
    cases = [("line", scatter) for scatter in (0.5, 1.0, 2.0, 5.0)] + [("walk", scatter) for scatter in (0.5, 1.0)]
    for kind, scatter in [*cases, ("walk without a mean loss", 1.0), ("noise", 1.0)]:
        told, held = 0, 0
        for seed in range(RUNS):
            days = free_space(kind, scatter, random.Random(seed))
            found = disk("", {day: days[day] for day in CLINIC_DAYS}, 40)
            if found.full_ns is None or found.earliest_ns is None or found.latest_ns is None:
                continue
            told += 1
            is_full = 60 if kind == "line" else next((day for day, free in enumerate(days) if free <= 0), 10**6)
            held += found.earliest_ns <= is_full * DAY_NS <= found.latest_ns
        # Where nothing fills there is no day to hold.
        is_filling = kind in ("line", "walk")
        row(kind, f"{scatter:g}", f"{told / RUNS:.1%}", f"{held / max(told, 1):.0%}" if is_filling else "")


# --- exams that share their day -------------------------------------------------------------------


class AsOfSingleExams(NumberChart):
    """One whose ranges of dates are as of exams that have nothing in common."""

    _inflation = 1.0


def range_by_days(task: tuple[float, bool, int]) -> bool | None:
    """Whether the range holds a step of an SD after 100 clinic days of 6 exams; None where none was noticed."""
    share, is_inflated, seed = task
    found, truth = (
        chart(900.0, by_days=True, kind=NumberChart if is_inflated else AsOfSingleExams),
        START_NS + 100 * DAY_NS,
    )
    every = points(6 * 300, draws("normal"), random.Random(seed), 6, share, 1)
    shifted = ((time_ns, value + (time_ns >= truth), where) for time_ns, value, where in every)
    alarms = (one for one in found.extend(shifted, Budget(2.0, lambda _: 25)) if one.time_ns >= truth)
    alarm = next(alarms, None)
    return None if alarm is None else alarm.earliest_ns <= truth <= alarm.latest_ns


def goes_over(seed: int) -> bool:
    """Whether a chart counts days after three years of 1.4 exams a working day that have nothing in common."""
    generator, found = random.Random(seed), NumberChart()
    days = [day for day in range(3 * 365) if day % 7 < 5]
    times = sorted(START_NS + generator.choice(days) * DAY_NS + generator.randrange(DAY_NS) for _ in range(1_096))
    list(found.extend(((time_ns, generator.gauss(0, 1), "") for time_ns in times), Budget(2.0, lambda _: 50)))
    return found.by_days


def shared_days(pool: Pool) -> None:
    head("The range of a change by clinic days holds a step of an SD", "day share", "range", "held")
    for is_inflated in (True, False):
        for share in (0.0, 0.25, 0.4):
            found = pool.map(range_by_days, [(share, is_inflated, seed) for seed in range(RUNS)], chunksize=10)
            held = [one for one in found if one is not None]
            row(f"{share:g}", "as it is" if is_inflated else "as of single exams", f"{sum(held) / len(held):.0%}")
    gone = pool.map(goes_over, range(2 * RUNS), chunksize=20)
    head("Charts of independent exams that go over to days within three years", "charts", "go over")
    row(len(gone), f"{sum(gone) / len(gone):.1%}")


def main() -> int:
    began = time.perf_counter()
    parts: dict[str, Callable[[Pool], None]] = {
        "drills": drills_of_sites,
        "volumes": lambda _: volumes(),
        "days": shared_days,
    }
    for name, part in parts.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            # New processes for each: the drills' have another list of faults.
            with Pool(2) as pool:
                part(pool)
    print(f"\n{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
