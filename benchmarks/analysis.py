"""What the charts cost: a look at many stored sessions, one more exam, and a year's report by the command."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import children, exams
from benchmarks.report import Findings, Table, duration, milliseconds, quantile, rate
from benchmarks.scale import Scale
from benchmarks.targets import ANALYSIS, ANALYSIS_MEMORY, INCREMENT, YEARS_REPORT

BUSY_A_DAY = 77.0  # 100,000 in five years
ONE_BY_ONE = 20
MONTHLY = (30, 400)
_WORKING_DAYS = 261


def run(scale: Scale, findings: Findings) -> None:
    """Each in a fresh process, on stores of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        pool = exams.pool(folder / "phantoms")
        path = folder / "many.db"
        exams.fill(path, pool, scale.analysed_sessions, BUSY_A_DAY)
        rows = _looks(path, scale.analysed_sessions, findings)
        for monthly in MONTHLY:
            path, count = folder / f"{monthly}" / "monitoring.db", monthly * 12
            exams.fill(path, pool, count, count / _WORKING_DAYS)
            told = children.run("year_report", config=_config(path), today=exams.NOW.date().isoformat())
            rows.append(
                (f"a year's report, {monthly} exams a month", duration(told["seconds"]), duration(told["cpu"]),
                 f"{told['peak_mib']:.0f} MiB", f"{told['bytes'] / 1e3:,.0f} kB of HTML")
            )  # fmt: skip
            what = f"a year's report, {monthly} exams a month"
            findings.judge(what, YEARS_REPORT, told["cpu"], duration(told["cpu"]))
    findings.tables.append(
        Table(
            "Analysis and report",
            ("", "Time", "CPU", "Peak memory", ""),
            rows,
            "Simulated exams with three models, a third of them read. The first look is one from the first session on;"
            f" reports begin with it. One more exam: median, and 95th percentile, of {ONE_BY_ONE}. A report's time is"
            " that of the whole command, with the start of its process. Targets are held against the CPU's time: what a"
            " busy machine adds is not the package's.",
        )
    )


def _looks(path: Path, count: int, findings: Findings) -> list[tuple[str, ...]]:
    with children.Child("looks", path=str(path), now_ns=exams.NOW_NS, count=ONE_BY_ONE) as child:
        whole, further = child.told(1_200.0), child.told(600.0)
    seconds, median = whole["seconds"], statistics.median(further["costs"])
    findings.judge(f"analysing {count:,} sessions", ANALYSIS, whole["cpu"], duration(whole["cpu"]))
    findings.judge(f"memory, {count:,} sessions", ANALYSIS_MEMORY, whole["peak_mib"], f"{whole['peak_mib']:.0f} MiB")
    each = further["cpu"] / len(further["costs"])
    findings.judge("one more exam", INCREMENT, each * 1e3, milliseconds(each))
    slow = quantile(further["costs"], 0.95)
    return [
        (f"{count:,} sessions, the first look", duration(seconds), duration(whole["cpu"]),
         f"{whole['peak_mib']:.0f} MiB", f"{rate(count / seconds)}, {whole['charts']} charts"),
        ("one more exam", milliseconds(median), milliseconds(each),
         f"{further['peak_mib']:.0f} MiB", f"95th percentile {milliseconds(slow)}"),
    ]  # fmt: skip


def _config(store: Path) -> str:
    path = store.parent / "task.json"
    settings = {"monitoring": {"enabled": True, "store": {"path": str(store)}}}
    path.write_text(json.dumps({"process": {"settings": settings}}), encoding="utf-8")
    return str(path)
