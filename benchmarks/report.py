"""Tables in Markdown, that read well in a terminal too, and the verdict on each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.targets import Target


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title; the first column names them, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """A Markdown table, padded."""
        widths = [max(len(row[n]) for row in [self.columns, *self.rows]) for n in range(len(self.columns))]
        lines = [_line(self.columns, widths), _rule(widths), *(_line(row, widths) for row in self.rows)]
        return "\n".join([f"## {self.title}", "", *([self.note, ""] if self.note else []), *lines, ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if n == 0 else cell.rjust(width) for n, (cell, width) in _numbered(cells, widths)
    ]
    return "| " + " | ".join([first, *others]) + " |"


def _numbered(cells: Sequence[str], widths: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(cells, widths, strict=True)))


def _rule(widths: Sequence[int]) -> str:
    first, *others = widths
    return "|" + "|".join(["-" * (first + 2), *("-" * (width + 1) + ":" for width in others)]) + "|"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure beside its target."""

    what: str
    target: Target
    figure: float
    shown: str

    @property
    def is_kept(self) -> bool:
        """Whether the target holds."""
        return self.target.holds(self.figure)


@dataclass(slots=True)
class Findings:
    """What a run has found so far."""

    tables: list[Table] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def judge(self, what: str, target: Target, figure: float, shown: str) -> None:
        """Put a figure beside its target."""
        self.verdicts.append(Verdict(what, target, figure, shown))

    def verdict_table(self) -> Table:
        """The targets, missed ones in capitals."""
        rows = [
            (verdict.what, verdict.target.words, verdict.shown, "kept" if verdict.is_kept else "MISSED")
            for verdict in self.verdicts
        ]
        return Table("Targets", ("What", "Target", "Measured", ""), rows)


def milliseconds(seconds: float) -> str:
    """With as many digits as mean anything."""
    return f"{seconds * 1e3:,.{2 if seconds < 0.01 else 1 if seconds < 0.1 else 0}f} ms"


def duration(seconds: float) -> str:
    """Milliseconds below a second."""
    return milliseconds(seconds) if seconds < 1 else f"{seconds:.1f} s"


def times(ratio: float) -> str:
    """A ratio."""
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:,.0f}x"


def rate(per_second: float) -> str:
    """Points or sessions a second."""
    return f"{per_second:,.0f}/s"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all are not larger than."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
