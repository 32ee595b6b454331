"""Where a picture's lines and marks lie: the monthly chart of a series, and sessions by month. Pure.

The report's template draws them as SVG with the page's own colours, so that one picture serves light, dark and print.
All lengths are in the picture's own unit, a CSS pixel where it isn't scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from monitoring.analytics.control_limits import Limits
from monitoring.analytics.months import Month, months_between
from monitoring.analytics.wording import in_unit

WIDTH: Final = 340
HEIGHT: Final = 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 8, 20


class Mark(Struct, frozen=True):
    """A month's value: where, ``common``, ``changed`` or ``earlier``, and in words."""

    x: float
    y: float
    kind: str
    words: str


class Level(Struct, frozen=True):
    """A horizontal line: ``centre`` or ``limit``, with the value at the left."""

    y: float
    kind: str
    words: str


class Picture(Struct, frozen=True):
    """A monthly chart. ``lines`` join months that follow one another; ``words`` say the same as it does."""

    marks: tuple[Mark, ...]
    lines: tuple[str, ...]
    levels: tuple[Level, ...]
    first: str
    last: str
    words: str
    valid_from: float
    """Where the limits begin: at the first month of the present segment."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    foot: int = HEIGHT - _BOTTOM


def picture(months: Sequence[Month], unit: str, found: Limits | None) -> Picture | None:
    """The picture of a chart's months; None without any."""
    if not months:
        return None
    values = [month.value for month in months]
    low, high = min(values), max(values)
    if found is not None:
        low, high = min(low, found.low), max(high, found.high)
    if unit == "share":  # no share is below 0, whatever the limits say
        low = 0.0
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = (0.0 if unit == "share" else low - room), high + room
    span = max(months_between(months[0].month, months[-1].month), 1)

    def y_of(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    marks, lines, line, before = [], [], "", None
    for month in months:
        x = round(_LEFT + 8 + months_between(months[0].month, month.month) / span * (WIDTH - _LEFT - _RIGHT - 16), 1)
        kind = "earlier" if month.is_earlier else "changed" if month.is_changed else "common"
        y = y_of(month.value)
        marks.append(Mark(x, y, kind, f"{month.month}: {in_unit(month.value, unit)} of {month.count}"))
        follows = before is not None and before.is_earlier == month.is_earlier
        if follows and before is not None and months_between(before.month, month.month) == 1:
            line += f" L{x} {y}"
        else:
            lines.append(line)
            line = f"M{x} {y}"
        before = month
    lines.append(line)
    levels = []
    if found is not None:
        levels = [
            Level(y_of(value), kind, in_unit(value, unit))
            for value, kind in ((found.high, "limit"), (found.centre, "centre"), (found.low, "limit"))
            if unit != "share" or value >= 0
        ]
    else:
        levels = [
            Level(y_of(value), "edge", in_unit(value, unit)) for value in dict.fromkeys((max(values), min(values)))
        ]
    told = "; ".join(mark.words for mark in marks)
    if found is not None:
        told += (
            f". Centre {in_unit(found.centre, unit)}, limits {in_unit(found.low, unit)} and {in_unit(found.high, unit)}"
        )
    return Picture(
        tuple(marks), tuple(line for line in lines if " L" in line), tuple(levels), months[0].month, months[-1].month,
        f"By month: {told}.", next((mark.x for mark in marks if mark.kind != "earlier"), _LEFT + 8.0) - 8,
    )  # fmt: skip
