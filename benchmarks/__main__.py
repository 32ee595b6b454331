"""``python -m benchmarks [--quick] [PART ...]``: run, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import analysis, backlog, commits, crowd, drift, encodings, machine, starts
from benchmarks.children import ROOT
from benchmarks.host import HostBench
from benchmarks.report import Findings, Table
from benchmarks.scale import FULL, QUICK, Scale
from benchmarks.targets import ANCHORS

PARTS: dict[str, Callable[[Scale, Findings], None]] = {
    "start": starts.run,
    "encoding": encodings.run,
    "crowd": crowd.run,
    "commits": commits.run,
    "backlog": backlog.run,
    "analysis": analysis.run,
    "drift": drift.run,
}
HOST = "host"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """A whole run is written to the page; a quick or a partial one only where ``--output`` names."""
    given = _arguments()
    scale = QUICK if given.quick else FULL
    parts = given.parts or [HOST, *PARTS]
    began, facts, findings = time.monotonic(), machine.described(), Findings()
    _run(parts, scale, findings)
    page = _page(findings, facts, time.monotonic() - began, given.quick)
    print(page)
    output = given.output or (None if given.quick or given.parts else PAGE)
    if output is not None:
        output.write_text(page, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {HOST}, {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the amounts, within two minutes")
    parser.add_argument("--output", type=Path, help=f"where to write the page (a whole run: {PAGE.name})")
    given = parser.parse_args()
    if unknown := set(given.parts) - {HOST, *PARTS}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return given


def _run(parts: list[str], scale: Scale, findings: Findings) -> None:
    """The part about the host comes first, since some of its processes take minutes to leave."""
    with HostBench(scale) as host:
        if HOST in parts:
            _say(HOST)
            host.run()
        later = Findings()
        for name in (name for name in PARTS if name in parts):
            _say(name)
            PARTS[name](scale, later)
        if HOST in parts:
            _say("the exits that are left")
            host.finish(findings)
    findings.tables += later.tables
    findings.verdicts += later.verdicts


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what} ...", flush=True)


def _page(findings: Findings, facts: list[str], seconds: float, is_quick: bool) -> str:
    anchors = Table("Before", ("What users had", "Measured then"), ANCHORS)
    tables = [findings.verdict_table(), *findings.tables, anchors]
    head = "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`; medians of one run, side by side. Figures of two runs compare only as ratios.",
            "",
            *(["**Quick: a twentieth of the amounts.**", ""] if is_quick else []),
            *(f"- {fact}" for fact in [*facts, f"the run took {seconds / 60:.1f} min"]),
            "",
        ]
    )
    return "\n".join([head, *(table.markdown() for table in tables)])


if __name__ == "__main__":
    main()
