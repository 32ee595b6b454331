"""Drawing bodies as X-rays see them: the thickness of each tissue along the ray, in mm.

Coordinates are mm from the image's top left corner, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from analysis.landmarks import Spacing

Grid = npt.NDArray[np.float32]
_MEDULLA = np.float32(0.3)
"""How much of compact bone's attenuation the spongy inside has."""


@dataclass(frozen=True)
class Knot:
    """A cross-section of a tube: the axis at (x, y), the outer radius, the share that is hollow."""

    x: float
    y: float
    radius: float
    hollow: float = 0.6


class Layer:
    """Thickness in mm of one tissue over the image; overlapping shapes take the larger."""

    def __init__(self, rows: int, columns: int, spacing: Spacing) -> None:
        self.thickness: Grid = np.zeros((rows, columns), dtype=np.float32)
        self._y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(spacing.row_mm)
        self._x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(spacing.column_mm)

    def tube(self, knots: Sequence[Knot]) -> None:
        """A shaft along the knots, which go down the image; its ends are cut straight."""
        ys = [knot.y for knot in knots]
        columns = ([k.x for k in knots], [k.radius for k in knots], [k.hollow for k in knots])
        # Bones have no kinks, and a shape-keeping curve adds no bulges of its own.
        curves = [PchipInterpolator(ys, values) for values in columns]
        reach = max(knot.radius for knot in knots)
        xs = [knot.x for knot in knots]

        def chord(x: Grid, y: Grid) -> Grid:
            column = y[:, 0]
            at = [curve(column).astype(np.float32)[:, None] for curve in curves]
            return _shell_chord(np.abs(x - at[0]), at[1], at[1] * at[2])

        self._paint((min(xs) - reach, min(ys)), (max(xs) + reach, max(ys)), chord)

    def ball(
        self, x: float, y: float, radius_x: float, radius_y: float, hollow: float = 0.85, weight: float = 1.0
    ) -> None:
        """An ellipsoid with a shell of compact bone; `hollow` 0 makes it solid.

        `weight` is its depth as a share of its smaller radius, for flat bones.
        """
        depth = np.float32(min(radius_x, radius_y) * weight)

        def chord(grid_x: Grid, grid_y: Grid) -> Grid:
            distance = np.hypot((grid_x - x) / radius_x, (grid_y - y) / radius_y)
            one = np.float32(1.0)
            return _shell_chord(distance, one, one * np.float32(hollow)) * depth

        self._paint((x - radius_x, y - radius_y), (x + radius_x, y + radius_y), chord)

    def rod(self, start: tuple[float, float], end: tuple[float, float], radius: float, hollow: float = 0.7) -> None:
        """A tube with round ends between two points, in any direction."""
        along = np.subtract(end, start).astype(np.float32)
        length_squared = float(along @ along)

        def chord(x: Grid, y: Grid) -> Grid:
            t = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length_squared, 0, 1)
            distance = np.hypot(x - start[0] - t * along[0], y - start[1] - t * along[1])
            return _shell_chord(distance, np.float32(radius), np.float32(radius * hollow))

        low = (min(start[0], end[0]) - radius, min(start[1], end[1]) - radius)
        high = (max(start[0], end[0]) + radius, max(start[1], end[1]) + radius)
        self._paint(low, high, chord)

    def arc(self, centre: tuple[float, float], radii: tuple[float, float], thickness: float, below: float) -> None:
        """A ring of even thickness round `centre`, only where y is less than `below`."""

        def chord(x: Grid, y: Grid) -> Grid:
            distance = np.hypot(x - centre[0], y - centre[1])
            inside = (distance > radii[0]) & (distance < radii[1]) & (y < below)
            band: Grid = inside.astype(np.float32) * np.float32(thickness)
            return band

        outer = radii[1]
        self._paint((centre[0] - outer, centre[1] - outer), (centre[0] + outer, below), chord)

    def cut(self, x: float, y: float, half_width: float, height: float, keep: float) -> None:
        """Thin the tissue to the share `keep` in a horizontal slit, as a growth plate does."""
        rows = np.abs(self._y - y) < height / 2
        columns = np.abs(self._x - x) < half_width
        self.thickness[np.ix_(rows, columns)] *= np.float32(keep)

    def _paint(self, low: tuple[float, float], high: tuple[float, float], chord: Callable[[Grid, Grid], Grid]) -> None:
        rows = slice(*np.searchsorted(self._y, (low[1], high[1])))
        columns = slice(*np.searchsorted(self._x, (low[0], high[0])))
        block = self.thickness[rows, columns]
        if block.size:
            np.maximum(block, chord(self._x[None, columns], self._y[rows, None]), out=block)


def _shell_chord(distance: Grid, outer: Grid | np.float32, inner: Grid | np.float32) -> Grid:
    """The ray's way through compact bone, with the spongy core counted at its share."""
    whole = 2 * np.sqrt(np.maximum(outer**2 - distance**2, 0))
    core = 2 * np.sqrt(np.maximum(inner**2 - distance**2, 0))
    result: Grid = (whole - (1 - _MEDULLA) * core).astype(np.float32)
    return result
