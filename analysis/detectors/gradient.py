"""Landmarks from edges alone: where brightness changes and in which direction, never how bright it is.

Femoral heads are found as circles whose edges all point to one centre (a Hough transform), joints
as a pair of long horizontal edges: bone ends, and a few mm lower bone begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from scipy import ndimage

from analysis.detectors.protocol import Detections, Image
from analysis.detectors.working import (
    CONDYLE_MM,
    Candidate,
    Grid,
    Half,
    Leg,
    best_chain,
    detect_legs,
    peaks,
    size_of,
)
from analysis.landmarks import Joint, Spacing

_HEAD_RADII_MM: Final = range(8, 29, 1)
_GAPS_MM: Final = range(3, 10)
_EDGE_SCALE_MM: Final = 1.3
_LEAST_SCORE: Final = 0.4
"""Edges of a clear film score 0.7 to 0.9; those of a lone knee reach 0.35."""


class GradientEdges:
    """The detector by edges."""

    name: Final = "gradient_edges"

    def detect(self, image: Image, spacing: Spacing) -> Detections:
        """See `analysis.detectors.protocol.Detector`."""
        return detect_legs(image, spacing, _find_leg, _LEAST_SCORE)


def _find_leg(half: Half) -> Leg | None:
    down, across = _unit_gradient(half.pixels)
    heads = _circles(down, across)
    joints = _joint_lines(down)
    chain = best_chain(heads, joints, joints, half.pixels.shape[0])
    if chain is None:
        return None
    head, knee, ankle = chain
    femur = knee.y - head.y
    return _points(down, head, knee, ankle, size_of(femur)), femur


def _unit_gradient(pixels: Grid) -> tuple[Grid, Grid]:
    """The gradient down and across, squashed so that strong edges count no more than clear ones."""
    down = ndimage.gaussian_filter(pixels, _EDGE_SCALE_MM, order=(1, 0))
    across = ndimage.gaussian_filter(pixels, _EDGE_SCALE_MM, order=(0, 1))
    strength = np.hypot(down, across)
    # Noise sets the scale: an edge counts fully well above the image's typical gradient.
    scale = strength + 2 * float(np.median(strength)) + 0.004
    return down / scale, across / scale


def _circles(down: Grid, across: Grid) -> list[Candidate]:
    """Circle centres in the upper half; the score is the share of the rim that points inward."""
    top = down.shape[0] // 2
    rim = [(float(np.sin(angle)), float(np.cos(angle))) for angle in np.linspace(0, 2 * np.pi, 48, endpoint=False)]
    # A rim point at +(x, y) from the centre brightens towards the centre: its gradient is -(x, y).
    inward = [np.clip(-(down[:top] * np.float32(y) + across[:top] * np.float32(x)), 0, None) for y, x in rim]
    # With zeros all round and in one line, any move by whole pixels is a piece of that line, and quick to add.
    margin, columns = max(_HEAD_RADII_MM), down.shape[1]
    width = columns + 2 * margin
    lines = [np.pad(gradient, margin).ravel() for gradient in inward]
    last = (top - 1) * width + columns
    found = []
    for radius in _HEAD_RADII_MM:
        votes: Grid = np.zeros(top * width, dtype=np.float32)
        for (y, x), line in zip(rim, lines, strict=True):
            start = (margin + round(radius * y)) * width + margin + round(radius * x)
            votes[:last] += line[start : start + last]
        share = votes.reshape(top, width)[:, :columns] / np.float32(len(rim))
        found += [replace(peak, radius=float(radius)) for peak in peaks(share, 5, radius, 0.15)]
    return found


def _shifted(grid: Grid, down: int, right: int) -> Grid:
    """The grid moved by whole pixels, zero where nothing moved in."""
    moved = np.zeros_like(grid)
    height, width = grid.shape
    if abs(down) >= height or abs(right) >= width:
        return moved
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = grid[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return moved


def _joint_lines(down: Grid) -> list[Candidate]:
    """Where bone ends and, a joint's gap lower, begins again, over the width of a joint."""
    ends, begins = np.clip(-down, 0, None), np.clip(down, 0, None)
    best = np.zeros_like(down)
    for gap in _GAPS_MM:
        pair = np.sqrt(ends * _shifted(begins, -gap, 0))
        np.maximum(best, pair, out=best)
    lines = ndimage.uniform_filter1d(ndimage.maximum_filter1d(best, 3, axis=0), 22, axis=1)
    return peaks(lines, 14, 8, 0.1)


def _points(down: Grid, head: Candidate, knee: Candidate, ankle: Candidate, size: float) -> Mapping[Joint, Candidate]:
    """The four landmarks, with the ends of the bones at their sharpest edge."""
    centre = _joint_centre(down, knee, size, 40)
    ankle_x = _joint_centre(down, ankle, size, 21)
    return {
        Joint.HEAD: head,
        Joint.LATERAL_CONDYLE: _bone_end(down, centre - CONDYLE_MM * size, knee.y, size),
        Joint.MEDIAL_CONDYLE: _bone_end(down, centre + CONDYLE_MM * size, knee.y, size),
        Joint.ANKLE: _bone_end(down, ankle_x, ankle.y, size),
    }


def _joint_centre(down: Grid, joint: Candidate, size: float, half_width: float) -> float:
    """The middle of a joint line: where a window as wide as the joint holds most of its edges."""
    row = round(joint.y)
    band = np.abs(down[max(row - 6, 0) : row + 14]).max(axis=0)
    window = max(3, round(2 * half_width * size))
    fit = ndimage.gaussian_filter1d(ndimage.uniform_filter1d(band, window, mode="constant"), 2)
    reach = round(28 * size)
    first = max(round(joint.x) - reach, 0)
    return float(first + int(fit[first : round(joint.x) + reach + 1].argmax()))


def _bone_end(down: Grid, x: float, y: float, size: float) -> Candidate:
    """The strongest end of bone in a narrow column near a row, to a fraction of a mm."""
    half = max(1, round(4 * size))
    column = min(max(round(x), half), down.shape[1] - half - 1)
    reach = max(6, round(12 * size))
    first = max(round(y) - reach, 1)
    ends = -down[first : round(y) + reach, column - half : column + half + 1].mean(axis=1)
    row = int(ends.argmax())
    return Candidate(x, first + row + _peak_offset(ends, row), float(max(ends[row], 0.0)))


def _peak_offset(values: Grid, index: int) -> float:
    """Where between its neighbours a maximum lies, by a parabola: -0.5 to 0.5."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, at, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * at + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
