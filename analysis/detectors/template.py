"""Landmarks by comparing the image with drawn models of a hip, a knee and an ankle.

The models are simple drawings of a right leg's joints; the left leg is looked at in a mirror. They
are tried at several sizes, all three joints of a leg at the same one, and the score is the
normalised cross-correlation: 1 where the image is the drawing, 0 where it has nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.detectors.protocol import Detections, Image
from analysis.detectors.working import (
    CONDYLE_MM,
    Candidate,
    Grid,
    Half,
    Leg,
    Spectrum,
    best_chain,
    detect_legs,
    peaks,
)
from analysis.landmarks import Joint, Spacing

_SIZES: Final = tuple(np.round(np.geomspace(0.36, 1.16, 12), 3))
_STEP_MM: Final = 2
_FEMUR_MM: Final = 450.0
_FIT: Final = 0.2
"""How far a leg's femur may be from what the drawing's size says, as a share."""
_DETREND_MM: Final = 45.0
_LEAST_SCORE: Final = 0.5
"""The drawings fit a clear film to 0.8 or 0.9, and a hip to a lone knee up to 0.45."""


@dataclass(frozen=True)
class _Drawing:
    """A joint of an adult right leg: `paint(x, y)` in mm round the landmark, 1 bone, 0 soft tissue."""

    paint: Callable[[Grid, Grid], Grid]
    left: float
    right: float
    up: float
    down: float


class TemplateCorrelation:
    """The detector by drawn models."""

    name: Final = "template_correlation"

    def detect(self, image: Image, spacing: Spacing) -> Detections:
        """See `analysis.detectors.protocol.Detector`."""
        return detect_legs(image, spacing, _find_leg, _LEAST_SCORE)


def _drawn(*parts: npt.NDArray[Any]) -> Grid:
    """Parts drawn over each other: the brightest counts."""
    drawn: Grid = np.maximum.reduce(parts).astype(np.float32)
    return drawn


def _hip(x: Grid, y: Grid) -> Grid:
    head = np.hypot(x, y) < 23
    neck = (np.abs(0.67 * x + 0.75 * y) < 60) & (np.abs(0.67 * y + 0.75 * x) < 13) & (x < 0)
    shaft = (np.abs(x + 42) < 18) & (y > 0)
    socket = (np.abs(np.hypot(x, y) - 31) < 4) & (y < 5)
    return _drawn(1.0 * head, 0.8 * neck, 0.9 * shaft, 0.6 * socket)


def _knee(x: Grid, y: Grid) -> Grid:
    femur = (np.abs(x) < 40 - np.clip(-y - 25, 0, 60) * 0.4) & (y < -15)
    condyles = np.hypot(np.abs(x) - 20, y + 20) < 20
    tibia = (np.abs(x) < 38 - np.clip(y - 25, 0, 60) * 0.45) & (y > 6)
    return _drawn(1.0 * femur, 1.0 * condyles, 1.0 * tibia)


def _ankle(x: Grid, y: Grid) -> Grid:
    tibia = (np.abs(x) < 21 - np.clip(-y - 10, 0, 30) * 0.25) & (y < 0)
    fibula = (np.abs(x + 24) < 7) & (y < 14)
    talus = np.hypot(x / 19, (y - 17) / 13) < 1
    return _drawn(1.0 * tibia, 0.5 * fibula, 0.9 * talus)


_DRAWINGS: Final = {
    Joint.HEAD: _Drawing(_hip, 68, 40, 42, 80),
    Joint.MEDIAL_CONDYLE: _Drawing(_knee, 54, 54, 60, 60),
    Joint.ANKLE: _Drawing(_ankle, 42, 34, 60, 32),
}


class _View:
    """A grid as all drawings are compared with it."""

    def __init__(self, pixels: Grid) -> None:
        self.pixels, self.squares, self.spectrum = pixels, pixels**2, Spectrum(pixels)


@cache
def _template(joint: Joint, size: float, step: int) -> tuple[Grid, int, int]:
    """A drawing at one size, with the landmark's row and column in it."""
    drawing = _DRAWINGS[joint]
    up, left = round(drawing.up * size / step), round(drawing.left * size / step)
    y, x = np.mgrid[-up : round(drawing.down * size / step) + 1, -left : round(drawing.right * size / step) + 1]
    painted = drawing.paint((x * step / size).astype(np.float32), (y * step / size).astype(np.float32))
    return ndimage.gaussian_filter(painted, 1.2 / step), up, left


def _correlation(view: _View, joint: Joint, size: float, step: int) -> Grid:
    """Normalised cross-correlation with the landmark at each pixel; 0 where the drawing doesn't fit in."""
    template, up, left = _template(joint, size, step)
    pixels = view.pixels
    if any(t > p for t, p in zip(template.shape, pixels.shape, strict=True)):
        return np.zeros_like(pixels)
    zero_mean = template - template.mean()
    raw = view.spectrum.convolved(zero_mean[::-1, ::-1])
    mean, mean_square = (_mean_under(template, values) for values in (pixels, view.squares))
    variance = np.maximum(mean_square - mean**2, 1e-5)
    values = raw / (np.sqrt(variance * template.size) * np.linalg.norm(zero_mean))
    result = np.zeros_like(pixels)
    result[up : up + values.shape[0], left : left + values.shape[1]] = np.clip(values, 0, 1)
    return result


def _mean_under(template: Grid, pixels: Grid) -> Grid:
    """The mean of what lies under a drawing, wherever it fits in."""
    first = [size // 2 for size in template.shape]
    rows, columns = (
        slice(start, start + length - size + 1)
        for start, length, size in zip(first, pixels.shape, template.shape, strict=True)
    )
    mean: Grid = ndimage.uniform_filter(pixels, template.shape)[rows, columns]
    return mean


def _find_leg(half: Half) -> Leg | None:
    smooth = ndimage.gaussian_filter(half.pixels, 0.8)
    flat = smooth - ndimage.gaussian_filter(half.pixels, _DETREND_MM)  # no drawing has soft tissue's slow changes
    coarse = _View(flat[::_STEP_MM, ::_STEP_MM])
    chains = [(size, chain) for size in _SIZES if (chain := _chain(coarse, float(size))) is not None]
    if not chains:
        return None
    size, chain = max(chains, key=lambda found: sum(candidate.score for candidate in found[1]))
    return _points(flat, chain, float(size)), chain[1].y - chain[0].y


def _chain(coarse: _View, size: float) -> tuple[Candidate, Candidate, Candidate] | None:
    """The best head, knee and ankle at one size, in mm."""
    heads, knees, ankles = (
        [
            Candidate(peak.x * _STEP_MM, peak.y * _STEP_MM, peak.score)
            for peak in peaks(_correlation(coarse, joint, size, _STEP_MM), 6, 6, 0.2)
        ]
        for joint in _DRAWINGS
    )
    chain = best_chain(heads, knees, ankles, coarse.pixels.shape[0] * _STEP_MM)
    if chain is None or abs((chain[1].y - chain[0].y) / (_FEMUR_MM * size) - 1) > _FIT:
        return None
    return chain


def _points(flat: Grid, chain: tuple[Candidate, Candidate, Candidate], size: float) -> Mapping[Joint, Candidate]:
    head, knee, ankle = (_refined(flat, joint, near, size) for joint, near in zip(_DRAWINGS, chain, strict=True))
    lateral, medial = (Candidate(knee.x + sign * CONDYLE_MM * size, knee.y, knee.score) for sign in (-1, 1))
    return {Joint.HEAD: head, Joint.LATERAL_CONDYLE: lateral, Joint.MEDIAL_CONDYLE: medial, Joint.ANKLE: ankle}


def _refined(flat: Grid, joint: Joint, near: Candidate, size: float) -> Candidate:
    """The best place within a few mm, at full resolution and the neighbouring sizes."""
    found = [_best_near(flat, joint, near, size * factor) for factor in (0.9, 0.95, 1.0, 1.05, 1.1)]
    return max(found, key=lambda candidate: candidate.score)


def _best_near(flat: Grid, joint: Joint, near: Candidate, size: float) -> Candidate:
    drawing, reach = _DRAWINGS[joint], 10
    top = max(int(near.y - drawing.up * size) - reach, 0)
    left = max(int(near.x - drawing.left * size) - reach, 0)
    bottom, right = int(near.y + drawing.down * size) + reach, int(near.x + drawing.right * size) + reach
    fit = _correlation(_View(flat[top:bottom, left:right]), joint, round(size, 4), 1)
    row, column = np.unravel_index(int(fit.argmax()), fit.shape)
    return Candidate(float(left + column), float(top + row), float(fit[row, column]))
