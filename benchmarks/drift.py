"""Who notices a change, at which cost, and how often for nothing: the charts beside Evidently and NannyML."""

from __future__ import annotations

import csv
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks import children
from benchmarks.children import ROOT
from benchmarks.report import Findings, Table, duration, times
from benchmarks.scale import Scale
from benchmarks.targets import FALSE_ALARMS

PYTHON: Final = ROOT / ".venv-drift" / "bin" / "python"
SERIES, A_MONTH, REFERENCE_MONTHS = 20, 30, 12
QUIET_MONTHS: Final = 2
"""Between the reference and the shift."""
SHIFT_SD: Final = 1.0
KINDS: Final = ("normal", "lognormal")
OURS: Final = "ours, 2 false alarms a year"
TOOLS: Final = ("evidently", "nannyml")
_NAMES: Final = [f"s{number:02d}" for number in range(SERIES)]
_IMPORT: Final = (
    "import time; began = time.process_time(); import monitoring.analytics.analysis; print(time.process_time() - began)"
)


def run(scale: Scale, findings: Findings) -> None:
    """The same files to each, every one in a process of its own."""
    results: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        _write_all(folder, scale)
        told = children.run("drift_charts", timeout=1_200.0, folder=name)
        command = [sys.executable, "-c", _IMPORT]
        imports = {OURS: float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)}
        words = ["Ours: this package's charts of numbers, as they are configured without a setting."]
        for kind in KINDS:
            results[kind][OURS] = told[kind]
        for tool in TOOLS:
            try:
                answer = _asked(tool, folder)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                words.append(f"{tool} was not measured: {error}.")
                continue
            words.append(", ".join(f"{package} {its}" for package, its in answer["versions"].items()) + ".")
            for kind in KINDS:
                results[kind].update(answer["results"][kind])
                imports.update(dict.fromkeys(answer["results"][kind], answer["import_cpu"]))
    _report(results, imports, words, findings)


def _report(
    results: Mapping[str, Mapping[str, Any]], imports: Mapping[str, float], words: Sequence[str], findings: Findings
) -> None:
    rows = []
    for kind, of_kind in results.items():
        for who, told in of_kind.items():
            a_year = told["alarms"] / told["years"]
            rows.append(
                (f"{who}; {kind}", f"{a_year:.1f} +- {2 * math.sqrt(told['alarms']) / told['years']:.1f}",
                 f"{told['years']:.0f}", _exams(told["delays"]), duration(told["seconds_month"]),
                 times(told["seconds_month"] / of_kind[OURS]["seconds_month"]), duration(imports[who]))
            )  # fmt: skip
        ours = of_kind[OURS]
        found = ours["alarms"] / ours["years"]
        findings.judge(f"false alarms a year, {SERIES} unchanged series, {kind}", FALSE_ALARMS, found, f"{found:.1f}")
    columns = ("", "False alarms a year", "Years", "Exams to notice 1 SD", "A month, CPU", "Beside ours", "Import, CPU")
    note = (
        f"{SERIES} independent series of a site with {A_MONTH} exams a month, in which nothing changes after"
        f" {REFERENCE_MONTHS} months of reference; an alarm is of a series and a month, ours of a series and an exam."
        f" +- is 2 standard errors. Then one series that is {SHIFT_SD:g} SD higher from a month's first exam on: median"
        f" exams until the first alarm, within {_SHIFTED_MONTHS} months; tools that judge months tell at their ends."
        " They are used as their documentation shows them, with their defaults. Evidently's verdict on all columns"
        " together needs half of them, so the columns' own are counted. " + " ".join(words)
    )
    findings.tables.append(Table("Changes noticed, and alarms for nothing", columns, rows, note))


def _exams(delays: Sequence[int | None]) -> str:
    found = sorted(math.inf if delay is None else delay for delay in delays)
    median = statistics.median(found)
    shown = "not noticed" if math.isinf(median) else f"{median:.0f}"
    missed = sum(map(math.isinf, found))
    return f"{shown} ({missed} of {len(found)} not)" if missed else shown


def _asked(tool: str, folder: Path) -> dict[str, Any]:
    """What a tool finds, in its own environment; it sends nothing."""
    if not PYTHON.exists():
        raise RuntimeError(f"there is no {PYTHON.relative_to(ROOT)}, which `make bench` sets up")
    quiet = {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "benchmarks" / "drift_tools.py"), tool, str(folder)],
        env={**children.environment(), **quiet}, cwd=folder, capture_output=True, text=True, check=False, timeout=1_800,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("drift: ")]
    if done.returncode or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it told nothing"])[-1])
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("drift: "))
    return found


# --- the data -----------------------------------------------------------------------------------

_SHIFTED_MONTHS: Final = 12


def _write_all(folder: Path, scale: Scale) -> None:
    unchanged, shifted = [], []
    for kind in KINDS:
        for seed in range(scale.drift_sites):
            name = f"{kind}-{seed}.csv"
            _write(folder / name, kind, seed, _NAMES, REFERENCE_MONTHS + 12 * scale.drift_years, None)
            unchanged.append(name)
        for seed in range(scale.drift_shifts):
            name = f"{kind}-shifted-{seed}.csv"
            since = REFERENCE_MONTHS + QUIET_MONTHS
            _write(folder / name, kind, 10_000 + seed, _NAMES[:1], since + _SHIFTED_MONTHS, since)
            shifted.append(name)
    plan = {
        "kinds": KINDS, "unchanged": unchanged, "shifted": shifted, "shift_after_months": QUIET_MONTHS,
        "most": {"evidently": scale.drift_evidently_sites},
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


def _write(path: Path, kind: str, seed: int, names: Sequence[str], months: int, since: int | None) -> None:
    """A shift is in SD of the values; a lognormal's SD is sqrt((e - 1) e)."""
    generator = random.Random(f"{kind} {seed}")
    draw = generator.gauss if kind == "normal" else generator.lognormvariate
    sd = 1.0 if kind == "normal" else math.sqrt((math.e - 1) * math.e)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["month", "time", *names])
        for month in range(months):
            by = SHIFT_SD * sd if since is not None and month >= since else 0.0
            for instant in _instants(generator, month):
                writer.writerow([month, instant.isoformat(), *(f"{draw(0.0, 1.0) + by:.9g}" for _ in names)])


def _instants(generator: random.Random, month: int) -> list[datetime]:
    """So many in the opening hours of a month's working days."""
    first = date(2015 + month // 12, month % 12 + 1, 1)
    days = [first + timedelta(days=number) for number in range(28)]
    working = [day for day in days if day.weekday() < 5]
    return sorted(
        datetime(day.year, day.month, day.day, 8, tzinfo=UTC).replace(tzinfo=None)
        + timedelta(seconds=generator.randrange(9 * 3600))
        for day in generator.choices(working, k=A_MONTH)
    )


# --- ours ---------------------------------------------------------------------------------------


def charts(folder: Path) -> dict[str, dict[str, Any]]:
    """What the charts say of the same files."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    return {kind: _of_kind(folder, plan, kind) for kind in plan["kinds"]}


def _of_kind(folder: Path, plan: Mapping[str, Any], kind: str) -> dict[str, Any]:
    unchanged = [list(_read(folder / name)) for name in plan["unchanged"] if name.startswith(kind)]
    alarms, years, months, began = 0, 0.0, [], time.process_time()
    for rows in unchanged:
        found, costs = _charted(rows)
        alarms += sum(number >= REFERENCE_MONTHS * A_MONTH for number in found)
        years += len(rows) / A_MONTH / 12 - REFERENCE_MONTHS / 12
        months += costs
    seconds = (time.process_time() - began) / len(unchanged)
    delays, since = [], (REFERENCE_MONTHS + plan["shift_after_months"]) * A_MONTH
    for name in plan["shifted"]:
        if name.startswith(kind):
            later = [number for number in _charted(list(_read(folder / name)))[0] if number >= since]
            delays.append(later[0] + 1 - since if later else None)
    return {
        "alarms": alarms, "years": years, "seconds_all": seconds, "seconds_month": statistics.median(months),
        "delays": delays,
    }  # fmt: skip


_Row = tuple[int, list[float]]


def _read(path: Path) -> Iterator[_Row]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if row[0] != "month":
                instant = datetime.fromisoformat(row[1]).replace(tzinfo=UTC)
                yield int(instant.timestamp()) * 10**9, [float(cell) for cell in row[2:]]


def _charted(rows: Sequence[_Row]) -> tuple[list[int], list[float]]:
    """The exams at which a chart alarmed, counted from 0; and the CPU seconds of each month after the reference."""
    from monitoring.analytics.charts import Budget, NumberChart

    budget = Budget(2.0, lambda _: SERIES)
    its_charts = [NumberChart() for _ in rows[0][1]]
    number_at = {time_ns: number for number, (time_ns, _) in enumerate(rows)}
    found, costs = [], []
    for start in range(0, len(rows), A_MONTH):
        began, month = time.process_time(), rows[start : start + A_MONTH]
        for at, chart in enumerate(its_charts):
            points = [(time_ns, values[at], "") for time_ns, values in month]
            found += [number_at[crossing.time_ns] for crossing in chart.extend(points, budget)]
        if start >= REFERENCE_MONTHS * A_MONTH:
            costs.append(time.process_time() - began)
    return sorted(found), costs
