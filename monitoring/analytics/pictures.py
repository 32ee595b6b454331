"""Where a picture's lines and marks lie: a chart by month, or from one rare event to the next. Pure.

The report's template draws them as SVG with the page's own colours, so that one picture serves light, dark and print.
All lengths are in the picture's own unit, a CSS pixel where it isn't scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from monitoring.analytics.control_limits import Limits
from monitoring.analytics.months import Gap, Month, months_between
from monitoring.analytics.wording import in_unit

WIDTH: Final = 340
HEIGHT: Final = 130
# More would be too narrow to be told apart on A4.
MOST_GAPS: Final = 40
_LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 62, 8, 8, 20, 10


class Mark(Struct, frozen=True):
    """A value: where, ``common``, ``changed`` or ``earlier``, and in words."""

    x: float
    y: float
    kind: str
    words: str


class Level(Struct, frozen=True):
    """A horizontal line: ``centre`` or ``limit``, with the value at the left, at ``words_y``."""

    y: float
    words_y: float
    kind: str
    words: str


class Picture(Struct, frozen=True):
    """A chart. ``lines`` join what follows one another; ``title`` says what it shows, ``words`` the same as it does."""

    marks: tuple[Mark, ...]
    lines: tuple[str, ...]
    levels: tuple[Level, ...]
    first: str
    last: str
    title: str
    words: str
    valid_from: float
    """Where the limits begin: at the first mark of the present segment."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    foot: int = HEIGHT - _BOTTOM


def picture(months: Sequence[Month], unit: str, found: Limits | None) -> Picture | None:
    """The picture of a chart's months; None without any."""
    marks = [
        (
            months_between(months[0].month, each.month), each.value,
            "earlier" if each.is_earlier else "changed" if each.is_changed else "common",
            f"{each.month}: {in_unit(each.value, unit)} of {each.count}",
        )
        for each in months
    ]  # fmt: skip
    least = 0.0 if unit == "share" else None  # no share is below 0, whatever the limits say
    return _drawn(marks, (months[0].month, months[-1].month), unit, unit, found, least, "By month") if months else None


def picture_of_gaps(gaps: Sequence[Gap], unit: str, found: Limits | None) -> Picture | None:
    """The same of the exams, or days, between rare events, the newest 40; None without any."""
    newest = gaps[-MOST_GAPS:]
    marks = [
        (number, each.size, "changed" if each.is_changed else "common", f"{each.day}: after {in_unit(each.size, unit)}")
        for number, each in enumerate(newest)
    ]
    words = f"{unit.capitalize()} from one event to the next"
    return _drawn(marks, (newest[0].day, newest[-1].day), unit, "1", found, 0.0, words) if newest else None


def _drawn(
    placed: Sequence[tuple[int, float, str, str]],
    ends: tuple[str, str],
    unit: str,
    at_levels: str,
    found: Limits | None,
    least: float | None,
    title: str,
) -> Picture:
    """Marks at whole steps: where, value, kind and words; a line joins those one step apart.

    ``at_levels`` is the unit beside the levels, where there is little room.
    """
    values = [value for _, value, *_ in placed] + list(found or ())
    low, high = min(values), max(values)
    # Where all values are equal, some room all the same: a line in the middle.
    room = (high - (low if least is None else least)) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = low - room if least is None else least, high + room
    span = max(placed[-1][0], 1)

    def y_of(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    marks = [
        Mark(round(_LEFT + 8 + step / span * (WIDTH - _LEFT - _RIGHT - 16), 1), y_of(value), kind, words)
        for step, value, kind, words in placed
    ]
    told = "; ".join(mark.words for mark in marks)
    if found is not None:
        told += (
            f". Centre {in_unit(found.centre, unit)}, limits {in_unit(found.low, unit)} and {in_unit(found.high, unit)}"
        )
    return Picture(
        tuple(marks), _lines([step for step, *_ in placed], marks), _levels(values, found, y_of, at_levels), *ends,
        title, f"{title}: {told}.", next((mark.x for mark in marks if mark.kind != "earlier"), _LEFT + 8.0) - 8,
    )  # fmt: skip


def _lines(steps: Sequence[int], marks: Sequence[Mark]) -> tuple[str, ...]:
    """SVG's paths; a gap in time, or another segment, is a gap in the line."""
    lines: list[str] = []
    before: tuple[int, bool] | None = None
    for step, mark in zip(steps, marks, strict=True):
        if before == (step - 1, mark.kind == "earlier"):
            lines[-1] += f" L{mark.x} {mark.y}"
        else:
            lines.append(f"M{mark.x} {mark.y}")
        before = step, mark.kind == "earlier"
    return tuple(line for line in lines if " L" in line)


def _levels(
    values: Sequence[float], found: Limits | None, y_of: Callable[[float], float], unit: str
) -> tuple[Level, ...]:
    """Of the limits and their centre; without them of the largest and the smallest value."""
    lines_at = [(max(values), "edge"), (min(values), "edge")][: len(set(values))]
    if found is not None:
        lines_at = [(found.high, "limit"), (found.centre, "centre"), (found.low, "limit")]
    levels: list[Level] = []
    for value, kind in lines_at:
        y = y_of(value)
        words_y = max(y, levels[-1].words_y + _LINE) if levels else y  # limits may lie close to one another
        levels.append(Level(y, words_y, kind, in_unit(value, unit)))
    return tuple(levels)
