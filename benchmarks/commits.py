"""A session's cost by how much the store holds already."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import children, stores
from benchmarks.report import Findings, Table, milliseconds, times
from benchmarks.scale import Scale
from benchmarks.targets import COMMIT_GROWTH

_SESSIONS = 40


def run(scale: Scale, findings: Findings) -> None:
    """The same sessions into each store, the stores in turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        paths = {count: Path(folder) / f"{count}.db" for count in scale.stored_sessions}
        for count, path in paths.items():
            stores.fill(path, count, with_lines=False)
        told: dict[int, list[dict[str, Any]]] = {count: [] for count in paths}
        for _ in range(max(2, scale.rounds)):
            for count, path in paths.items():
                told[count].append(children.run("commits", path=str(path), count=_SESSIONS))
        sizes = {count: path.stat().st_size / 1e6 for count, path in paths.items()}
    _report(told, sizes, findings)


def _report(told: dict[int, list[dict[str, Any]]], sizes: dict[int, float], findings: Findings) -> None:
    costs = {
        count: statistics.median(cost for one in rounds for cost in one["costs"]) for count, rounds in told.items()
    }
    opened = {count: statistics.median(one["opened"] for one in rounds) for count, rounds in told.items()}
    first, last = min(costs), max(costs)
    rows = [
        (
            f"{n:,}",
            f"{sizes[n]:,.1f} MB",
            milliseconds(costs[n]),
            times(costs[n] / costs[first]),
            milliseconds(opened[n]),
        )
        for n in costs
    ]
    findings.tables.append(
        Table(
            "A session by the store's size",
            ("Sessions stored", "File", "Median session", "ratio", "Construction"),
            rows,
            "Whole sessions, without backends. The stored ones are as without model metrics, 30 s apart.",
        )
    )
    growth = costs[last] / costs[first]
    findings.judge(f"a session with {last:,} stored, beside {first:,}", COMMIT_GROWTH, growth, times(growth))
