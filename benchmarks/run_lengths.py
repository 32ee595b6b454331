"""`make simulate`: what the charts of `monitoring/analytics` do on data of which the truth is known.

Run lengths without a fault, delays and dates with one, and the false alarms of a whole site; seeded, some minutes on
two cores. Where it can be afforded the package's own charts are run; what takes millions of runs is done in numpy by
the same recursions. Everything is printed as it stands in `docs/analytics.md`.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from math import exp, sqrt
from multiprocessing.pool import Pool
from statistics import NormalDist, median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from benchmarks import places
from benchmarks.comparisons import cusum_run_length
from benchmarks.places import START_NS
from monitoring.analytics import charting, limits
from monitoring.analytics.charting import Charting, Progress
from monitoring.analytics.charts import DAY_NS, Budget, Crossing, NumberChart
from monitoring.analytics.limits import DAYS_WEIGHT, MULTIPLES, WEIGHT, likelihood_ratios, limit
from monitoring.analytics.series import BONES, DERIVED
from monitoring.records.session_record import ModelPerformance, RecordOutline, SessionRecord, Usage
from monitoring.settings import ACCEPTED_RATES, AnalyticsConfig
from monitoring.store.analysis import Analysed
from monitoring.store.rows import OutlinedSession

Floats = NDArray[np.float64]
Draw = Callable[[random.Random], float]
NEVER = 10**12
SHIFTS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
BEFORE = (100, 200, 400)


def row(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def head(title: str, *cells: object) -> None:
    print(f"\n{title}\n")
    row(*cells)
    row(*["---"] * len(cells))


# --- limits ---------------------------------------------------------------------------------------


def run_length(at: float, weight: float, nodes: int = 150) -> float:
    """ARL of the two-sided EWMA of standard normal scores from 0: the integral equation at Gauss-Legendre nodes."""
    edge = at * sqrt(weight / (2 - weight))
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = x * edge, w * edge
    kernel = norm.pdf((x[None, :] - (1 - weight) * x[:, None]) / weight) / weight * w[None, :]
    return 1 + float(
        np.sum(w * norm.pdf(x / weight) / weight * np.linalg.solve(np.eye(nodes) - kernel, np.ones(nodes)))
    )


def check_limits() -> None:
    head(
        "Limits by the integral equation, and how far the package's are off",
        "A",
        "L, weight .05",
        "off",
        "L, weight .1",
        "off",
    )
    for every in (360, 900, 1_800, 3_600, 4_500, 10_800, 36_000, 100_000, 1_000_000):
        cells: list[object] = [every]
        for weight in (WEIGHT, DAYS_WEIGHT):
            solved = brentq(lambda at, w=weight, a=every: np.log(run_length(at, w) / a), 1.5, 6.0)
            cells += [f"{solved:.4f}", f"{limit(every, weight) - solved:+.4f}"]
        row(*cells)


def check_cusum() -> None:
    head("A CUSUM of as many exams to a false alarm, of which mean and SD must be known", "k", "A", "h")
    for k in (0.25, 0.5):
        solved = brentq(lambda h, k=k: np.log(cusum_run_length(k, h) / 3_600), 3.0, 20.0)
        row(f"{k:g}", 3_600, f"{solved:.4f}")


# --- run lengths without a fault ------------------------------------------------------------------


def draws(kind: str) -> Draw:
    return {
        "normal": lambda g: g.gauss(0, 1),
        "exponential": lambda g: g.expovariate(1),
        "t4": lambda g: g.gauss(0, 1) / sqrt(g.gammavariate(2, 0.5)),
        "tied (60 % zeros)": lambda g: max(g.gauss(-0.2533, 1), 0.0),
    }[kind]


def chart(every: float, by_days: bool = False, kind: type[NumberChart] = NumberChart) -> NumberChart:
    """One that keeps its limit and its unit, whatever a year brings."""
    weight = DAYS_WEIGHT if by_days else WEIGHT
    return kind(by_days=by_days, limit=limit(every, weight) * sqrt(weight / (2 - weight)), every=every, next_look=NEVER)


def points(
    count: int, draw: Draw, generator: random.Random, a_day: int, share: float, devices: int
) -> Iterator[tuple[int, float, str]]:
    """`share` of the variance is the clinic day's; `devices` differ by 10 SD."""
    common = 0.0
    for number in range(count):
        if number % a_day == 0:
            common = generator.gauss(0, sqrt(share))
        device = generator.randrange(devices)
        value = common + sqrt(1 - share) * draw(generator) + 10 * device
        yield START_NS + number // a_day * DAY_NS + number % a_day, value, str(device)


def crossings(task: tuple[str, float, bool, int, float, int, int, int]) -> tuple[int, int]:
    """Points charted and alarms of one run."""
    kind, every, by_days, a_day, share, devices, count, seed = task
    found = chart(every, by_days)
    alarms = sum(
        1 for _ in found.extend(points(count, draws(kind), random.Random(seed), a_day, share, devices), _BUDGET)
    )
    return (count // a_day if by_days else count) - 20, alarms


_BUDGET = Budget(2.0, lambda _: 25)


def run_lengths(pool: Pool) -> None:
    head("Exams (or days) to a false alarm", "data", "A", "measured", "+- (2 SE)")
    every_exam = [
        (kind, 3_600.0, False, 1, 0.0, 1, 5_000) for kind in ("normal", "exponential", "t4", "tied (60 % zeros)")
    ]
    every_exam += [("normal", 4_500.0, False, 1, 0.0, 1, 5_000), ("normal", 3_600.0, False, 1, 0.0, 3, 5_000)]
    by_days = [("normal", 900.0, True, 4, share, 1, 6_000) for share in (0.0, 0.1, 0.2, 0.4)]
    unprotected = [("normal", 3_600.0, False, 4, share, 1, 4_000) for share in (0.1, 0.2)]
    for case in (*every_exam, *by_days, *unprotected):
        kind, every, is_days, _, share, devices, _ = case
        runs = 200 if case in (*every_exam, *by_days) else 60
        results = pool.map(crossings, [(*case, seed) for seed in range(runs)], chunksize=10)
        charted, alarms = (sum(column) for column in zip(*results, strict=True))
        words = kind + (f", {devices} devices" if devices > 1 else "") + (", by days" if is_days else "")
        words += f", day share {share:g}" if share or is_days else ""
        row(words, f"{every:g}", f"{charted / alarms:.0f}", f"{2 * charted / alarms / sqrt(alarms):.0f}")


# --- with a fault ---------------------------------------------------------------------------------


def fault(task: tuple[int, float, float, int]) -> tuple[int, float, bool, float]:
    """Exams to the alarm, the date's error in exams, whether its range holds it, and the size; after a quiet time."""
    before, shift, every, seed = task
    generator, found = random.Random(seed), chart(every)
    past = [(START_NS + number * DAY_NS, generator.gauss(0, 1), "") for number in range(before)]
    list(found.extend(past, _BUDGET))
    time_ns = START_NS + before * DAY_NS
    while True:
        alarm: Crossing | None = next(found.extend([(time_ns, generator.gauss(shift, 1), "")], _BUDGET), None)
        if alarm is not None or found.exams > before + 2_000:
            break
        time_ns += DAY_NS
    if alarm is None:
        return 2_000, 2_000.0, False, 0.0
    truth = START_NS + before * DAY_NS
    error = abs(alarm.change_ns - truth) / DAY_NS
    return found.exams - before, error, alarm.earliest_ns <= truth <= alarm.latest_ns, alarm.size


def delays(pool: Pool) -> None:
    runs = 300
    head("Median exams to the alarm, one false alarm in 4,500", "after exams", *(f"{shift:g} SD" for shift in SHIFTS))
    dates: dict[float, list[tuple[int, float, bool, float]]] = {}
    for before in BEFORE:
        cells: list[object] = [before]
        for shift in SHIFTS:
            found = pool.map(fault, [(before, shift, 4_500.0, seed) for seed in range(runs)], chunksize=20)
            cells.append(f"{median(exams for exams, *_ in found):.0f}")
            dates.setdefault(shift, []).extend(found if before > 100 else [])
        row(*cells)
    head("The estimated date", "shift", "median error, exams", "90 % within", "range holds it", "median size, SD")
    for shift in (0.5, 1.0, 2.0):
        errors = sorted(error for _, error, _, _ in dates[shift])
        held = sum(is_held for _, _, is_held, _ in dates[shift]) / len(errors)
        row(
            f"{shift:g} SD", f"{median(errors):.1f}", f"{errors[int(0.9 * len(errors))]:.0f}", f"{held:.0%}",
            f"{median(size for *_, size in dates[shift]):.2f}",
        )  # fmt: skip


def scores_of(data: Floats) -> Floats:
    """Sequential normal scores of continuous data, a run in each row."""
    count = data.shape[1]
    ranks = np.empty_like(data)
    for n in range(count):
        ranks[:, n] = (data[:, :n] < data[:, n : n + 1]).sum(axis=1) + 0.5
    return np.asarray(norm.ppf(ranks / np.arange(1, count + 1)))


def found_within(
    before: int, shift: float, noise: Floats, weight: float, at: float, within: Sequence[int]
) -> list[float]:
    """The share of runs with an alarm within so many points of the shift, of those without one before it."""
    data = noise.copy()
    data[:, before:] += shift
    scores, z = scores_of(data), np.zeros(len(data))
    alarmed = np.full(len(data), NEVER)
    edge = at * sqrt(weight / (2 - weight))
    for n in range(20, scores.shape[1]):
        z = (1 - weight) * z + weight * scores[:, n]
        crossed = np.abs(z) > edge
        if n >= before:
            alarmed = np.where(crossed & (alarmed == NEVER), n - before + 1, alarmed)
        z[crossed] = 0.0
    return [float((alarmed <= m).mean()) for m in within]


def smallest(task: tuple[int, int, float, float, int]) -> float:
    """The shift that is found with 80 % within so many points, by halving."""
    before, within, weight, every, runs = task
    noise = np.random.default_rng(before * 1000 + within).standard_normal((runs, before + within))
    low, high = 0.2, 4.0
    for _ in range(8):
        middle = (low + high) / 2
        share = found_within(before, middle, noise, weight, limit(every, weight), [within])[0]
        low, high = (low, middle) if share >= 0.8 else (middle, high)
    return (low + high) / 2


def detectable(pool: Pool) -> None:
    within = (15, 30, 60, 90)
    cases = [(weight, every) for weight in (WEIGHT, DAYS_WEIGHT) for every in (3_600.0, 36_000.0)]
    for weight, every in cases:
        unit = "exams" if weight == WEIGHT else "clinic days"
        title = f"The smallest shift (SD) found with 80 % within so many {unit}, one false alarm in {every:g}"
        head(title, f"after {unit}", *within)
        rows = (50, 100, 200, 400) if every == 3_600 or weight == DAYS_WEIGHT else (100, 400)
        tasks = [(before, m, weight, every, 1_000) for before in rows for m in within]
        found = pool.map(smallest, tasks, chunksize=1)
        for number, before in enumerate(rows):
            row(before, *(f"{shift:.2f}" for shift in found[number * len(within) : (number + 1) * len(within)]))


def where_alarms_sit(pool: Pool) -> None:
    head("Where an alarm is said to sit", *places.COLUMNS)
    for cells in places.rows(pool):
        row(*cells)


# --- events ---------------------------------------------------------------------------------------


def event_run(
    accepted: float, rate: float, every: float, runs: int, count: int, seed: int, warm: int
) -> tuple[float, float]:
    """Mean exams to the first alarm after `warm` exams at the accepted rate, and the share without any by `count`."""
    generator = np.random.default_rng(seed)
    steps = np.array(likelihood_ratios(accepted))  # K x (without, with)
    r, delay = np.zeros((runs, len(steps))), np.full(runs, float(count))
    open_ = np.ones(runs, dtype=bool)
    for n in range(warm + count):
        happens = generator.random(runs) < (rate if n >= warm else accepted)
        r = (1 + r) * np.where(happens[:, None], steps[:, 1], steps[:, 0])
        crossed = r.mean(axis=1) >= every
        r[crossed] = 0.0
        if n >= warm:
            delay[open_ & crossed] = n - warm + 1
            open_ &= ~crossed
            if not open_.any():
                break
    return float(delay.mean()), float(open_.mean())


def events() -> None:
    head("Events: mean exams to an alarm", "accepted", "A", "none (must be A or more)", *(f"x{m:g}" for m in MULTIPLES))
    for every in (360.0, 3_600.0, 36_000.0):
        for accepted in (0.001, 0.01, 0.02, 0.05, 0.10, 0.20, 0.40):
            still, left = event_run(
                accepted, accepted, every, 1_000, round(4 * every) if every < 10_000 else 20_000, 1, 0
            )
            # Where runs were cut off: from the rate of alarms, as exponential waiting has it.
            length = still / (1 - left) if left else still
            faster = [
                event_run(accepted, accepted * multiple, every, 1_000, 20_000, 2, 200)[0]
                for multiple in MULTIPLES
                if accepted * multiple < 0.9
            ]
            row(f"{accepted:g}", f"{every:g}", f"{length:.0f}", *(f"{delay:.0f}" for delay in faster))


# --- a whole site ---------------------------------------------------------------------------------


def site_year(task: tuple[int, str, float, float, float]) -> tuple[float, dict[str, int], int, int]:
    """A site without a fault: years, false alarms by series, charts, charts by days."""
    seed, kind, share, a_day, years = task
    generator = random.Random(seed)
    charting_ = Charting(Progress(), AnalyticsConfig())
    sessions, day, common = [], 0, 0.0
    while day < 365 * years:
        if day % 7 < 5:
            common = generator.gauss(0, sqrt(share))
            sessions += [
                _session(generator, kind, share, common, day, number) for number in range(_poisson(generator, a_day))
            ]
        day += 1
    charting.derived_values = lambda stored: stored.derived_bytes  # type: ignore[assignment,return-value]
    charting_.take(sessions)
    progress = charting_.progress
    alarms: dict[str, int] = {}
    for key, found in progress.crossings.items():
        name = key.partition("@")[0].partition("/")[0]
        alarms[name] = alarms.get(name, 0) + len(found)
    by_days = sum(each.by_days for each in progress.numbers.values())
    return years, alarms, len(progress.crossings), by_days


def _poisson(generator: random.Random, rate: float) -> int:
    count, product = 0, generator.random()
    while product > exp(-rate):
        count, product = count + 1, product * generator.random()
    return count


# Of one GPU, as most sites have.
_MEMORY = ("process_resident_memory_bytes", "process_resident_memory_growth_bytes", "torch_memory_reserved_bytes/0")


def _session(generator: random.Random, kind: str, share: float, common: float, day: int, number: int) -> Analysed:
    """Rates as accepted; a sixth of the exams is read; numbers share the clinic day's part of their variance."""

    def value() -> float:
        x = common + sqrt(1 - share) * generator.gauss(0, 1)
        return x if kind == "normal" else exp(x)

    time_ns = START_NS + day * DAY_NS + number * 1_000 + generator.randrange(1_000)
    rates = [
        ACCEPTED_RATES[name]
        for name in ("failed", "crashed", "skipped_input", "skipped_not_measurable", "skipped_otherwise")
    ]
    reasons = ["exception", "not_ended", "not_dicom", "landmarks_missing", "some_code"]
    statuses = ["failed", "crashed", "skipped", "skipped", "skipped"]
    point, which = generator.random(), None
    for at, rate in enumerate(rates):
        if point < rate:
            which = at
            break
        point -= rate
    ours = {bone: value() for bone in BONES}
    models = tuple(
        ModelPerformance(name, inference_seconds=value(), measurements_mm={bone: value() for bone in BONES})
        for name in "abc"
    )
    derived = {key: value() for key in DERIVED}
    missed = generator.random() < ACCEPTED_RATES["landmark_missed"]
    derived |= {key: float(missed) for key in DERIVED if "misses" in key}
    derived |= {key: exp(0.01 * value()) for key in DERIVED if "femur_tibia" in key}
    record = SessionRecord(
        session_id="", status="completed" if which is None else statuses[which],  # type: ignore[arg-type]
        started_ns=time_ns, ended_ns=time_ns, duration_seconds=value(),
        reason=None if which is None else reasons[which],
        stages_seconds={name: value() for name in ("load", "inference", "measurement", "dicom_generation")},
        measurements_mm=ours, models=models,
        system={name: Usage(0.0, value()) for name in _MEMORY},
    )  # fmt: skip
    stored = OutlinedSession(time_ns, RecordOutline.from_json(record.to_json()), derived, "")
    reader_mm = {bone: mm - _error(generator) for bone, mm in ours.items()} if generator.random() < 1 / 6 else {}
    return Analysed(stored, reader_mm, True, which is None)


# One bone of four is off by more than 5 mm as often as is accepted.
_WITHIN_5_MM = (1 - ACCEPTED_RATES["reader_error_over_5_mm"]) ** 0.25
_READER_SD = 5 / NormalDist().inv_cdf((1 + _WITHIN_5_MM) / 2)


def _error(generator: random.Random) -> float:
    return generator.gauss(0, _READER_SD)


def whole_sites(pool: Pool) -> None:
    head(
        "A site without a fault, budget 2 a year",
        "data",
        "exams a working day",
        "site-years",
        "charts",
        "by days",
        "false alarms a year",
        "+- (2 SE)",
    )
    few, many = 30 * 12 / 261, 6.0
    cases = [("normal", 0.0, few, 3.0), ("lognormal", 0.0, few, 3.0), ("normal", 0.1, few, 3.0)]
    cases += [
        ("normal", 0.2, few, 3.0),
        ("normal", 0.0, many, 1.0),
        ("normal", 0.1, many, 1.0),
        ("normal", 0.2, many, 1.0),
    ]
    for kind, share, a_day, each_years in cases:
        found = pool.map(site_year, [(seed, kind, share, a_day, each_years) for seed in range(40)], chunksize=2)
        years = sum(each[0] for each in found)
        per_site = [sum(alarms.values()) for _, alarms, _, _ in found]
        spread = sqrt(np.var(per_site, ddof=1) * len(found)) / years
        charts, by_days = (sum(each[at] for each in found) / len(found) for at in (2, 3))
        words = kind + (f", day share {share:g}" if share else "")
        row(
            words,
            f"{a_day:.1f}",
            f"{years:.0f}",
            f"{charts:.0f}",
            f"{by_days:.1f}",
            f"{sum(per_site) / years:.2f}",
            f"{2 * spread:.2f}",
        )


def main() -> int:
    began = time.perf_counter()
    wanted = sys.argv[1:]
    with Pool(2) as pool:
        parts: dict[str, Callable[[], None]] = {
            "limits": check_limits,
            "cusum": check_cusum,
            "run_lengths": lambda: run_lengths(pool),
            "delays": lambda: delays(pool),
            "detectable": lambda: detectable(pool),
            "places": lambda: where_alarms_sit(pool),
            "events": events,
            "sites": lambda: whole_sites(pool),
        }
        for name, part in parts.items():
            if not wanted or name in wanted:
                part()
    print(f"\n{time.perf_counter() - began:.0f} s")
    assert limits.SHORTEST == 360
    return 0


if __name__ == "__main__":
    sys.exit(main())
