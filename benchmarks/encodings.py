"""From values to line protocol, on one core."""

from __future__ import annotations

import statistics

from benchmarks import children
from benchmarks.report import Findings, Table, rate, times
from benchmarks.scale import Scale
from benchmarks.targets import ENCODING

_ROWS = {
    "ready points to lines": ("encode", "encode influxdb-client"),
    "values to points to lines": ("derive and encode", "build and encode influxdb-client"),
}


def run(scale: Scale, findings: Findings) -> None:
    """Both clients in turn, in one process, by its CPU time."""
    told = children.run("encoding", seconds=scale.encoding_seconds)
    medians = {name: statistics.median(rates) for name, rates in told["rates"].items()}
    rows = [
        (words, rate(medians[ours]), rate(medians[theirs]), times(medians[ours] / medians[theirs]))
        for words, (ours, theirs) in _ROWS.items()
    ]
    findings.tables.append(
        Table(
            "Encoding",
            ("Points a second, one core", "ours", "influxdb-client", "ratio"),
            rows,
            f"The {told['points']} points of one realistic session. Ours derives them from the session's record.",
        )
    )
    findings.judge("encoding, a core", ENCODING, medians["encode"], rate(medians["encode"]))
