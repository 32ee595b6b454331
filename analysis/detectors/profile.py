"""Landmarks from brightness along lines: no edges, no shapes.

The bones' axis is the brightest smooth path down the leg. Along it a joint is a dip to soft tissue's
brightness; how deep it dips is the score. The femoral head is a disc brighter than the ring round it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    size_of,
)
from analysis.landmarks import Joint, Spacing

_END_SHARE: Final = 0.8
"""How far down into the dip a rounded bone end lies: the last thin rim of a condyle is nearly there."""
_DEEPEST_DIP: Final = 1.2
"""A joint's dip ends at soft tissue; what goes on to the dark is the image's or the foot's end."""
_LEAST_CONTRAST: Final = 0.05
_HEAD_RADII_MM: Final = range(8, 29, 2)
_RING_MM: Final = 5
"""Room for the ring round a disc."""
_Profile = npt.NDArray[np.float32]
_LEAST_SCORE: Final = 0.3
"""Dips and discs of a clear film score 0.45 to 0.6."""


class IntensityProfile:
    """The detector by brightness profiles."""

    name: Final = "intensity_profile"

    def detect(self, image: Image, spacing: Spacing) -> Detections:
        """See `analysis.detectors.protocol.Detector`."""
        return detect_legs(image, spacing, _find_leg, _LEAST_SCORE)


def _find_leg(half: Half) -> Leg | None:
    pixels = ndimage.gaussian_filter(half.pixels, 0.8)
    axis = _bone_axis(pixels)
    joints = _dips(pixels, axis)
    heads = _discs(pixels)
    chain = best_chain(heads, joints, joints, pixels.shape[0])
    if chain is None:
        return None
    head, knee, ankle = chain
    femur = knee.y - head.y
    return _points(pixels, head, knee, ankle, size_of(femur)), femur


def _bone_axis(pixels: Grid) -> npt.NDArray[np.int64]:
    """The column of the bones in each row: the path down with the greatest sum of brightness."""
    ridge = ndimage.gaussian_filter(pixels, (3, 6)) - ndimage.gaussian_filter(pixels, (3, 24))
    best = ridge.astype(np.float64)
    came = np.zeros(best.shape, dtype=np.int8)
    options = np.full((3, best.shape[1]), -np.inf)
    for row in range(1, best.shape[0]):
        above = best[row - 1]
        options[0, 1:] = above[:-1] - 0.002
        options[1] = above
        options[2, :-1] = above[1:] - 0.002
        came[row] = options.argmax(axis=0)
        best[row] += options.max(axis=0)
    axis = np.empty(best.shape[0], dtype=np.int64)
    axis[-1] = best[-1].argmax()
    for row in range(best.shape[0] - 1, 0, -1):
        axis[row - 1] = axis[row] + came[row, axis[row]] - 1
    return axis


def _dips(pixels: Grid, axis: npt.NDArray[np.int64]) -> list[Candidate]:
    """Where the bone along the axis is interrupted."""
    band = _band(pixels, axis, 22)
    profile = band.mean(axis=1)
    # Dark beyond the image's ends, so that the gap below the foot isn't closed by its own reflection.
    filled = ndimage.grey_closing(profile, 21, mode="constant", cval=0.0)
    depth = (filled - profile) / np.maximum(filled - _soft_tissue(pixels, axis), 0.03)
    rows = _maxima(depth, 0.1, _DEEPEST_DIP, 8)
    return [Candidate(float(axis[row]), float(row), float(min(depth[row], 1.0))) for row in rows]


def _maxima(values: npt.NDArray[np.floating[Any]], lowest: float, highest: float, apart: int) -> list[int]:
    """Where there are local maxima of such heights, none closer than that to a higher one; of a plateau its middle.

    As `scipy.signal.find_peaks`, without what that brings with it (see `Spectrum`).
    """
    values = values.astype(np.float64)
    steps = np.flatnonzero(np.diff(values))
    rises = values[steps] < values[steps + 1]
    tops = np.flatnonzero(rises[:-1] & ~rises[1:])
    middles = (steps[tops] + 1 + steps[tops + 1]) // 2
    middles = middles[(values[middles] >= lowest) & (values[middles] <= highest)]
    found: list[int] = []
    for middle in middles[np.argsort(values[middles])[::-1]].tolist():
        if all(abs(middle - other) >= apart for other in found):
            found.append(middle)
    return sorted(found)


def _band(pixels: Grid, axis: npt.NDArray[np.int64], reach: int) -> Grid:
    """The strip [rows, 2 reach + 1] round the axis, the image's edge repeated beyond it."""
    columns = np.clip(axis[:, None] + np.arange(-reach, reach + 1), 0, pixels.shape[1] - 1)
    return np.take_along_axis(pixels, columns, axis=1)


def _soft_tissue(pixels: Grid, axis: npt.NDArray[np.int64]) -> _Profile:
    """The brightness beside the bones, row by row."""
    band = _band(pixels, axis, 55)
    beside: _Profile = ndimage.median_filter(np.percentile(band, 25, axis=1), 31)
    return beside


def _discs(pixels: Grid) -> list[Candidate]:
    """Discs of femoral-head size, scored by how far they outshine the ring round them."""
    top = pixels[: pixels.shape[0] // 2]
    reach = max(_HEAD_RADII_MM) + _RING_MM
    spectra = [Spectrum(np.pad(values, reach, mode="reflect")) for values in (top, top**2)]
    found = []
    for radius in _HEAD_RADII_MM:
        discs = peaks(_disc_contrast(spectra, radius, reach), 6, radius, 0.05)
        found += [replace(disc, radius=float(radius)) for disc in discs]
    return found


def _disc_contrast(spectra: Sequence[Spectrum], radius: int, reach: int) -> Grid:
    """Disc minus ring, against how uneven disc and ring are: 0 to 1.

    The spectra are those of brightness and of its square, `reach` mm wider on each side than the result.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(x, y)
    disc, ring = distance <= radius, (distance > radius) & (distance <= radius + 3.5)
    areas = [(area / area.sum()).astype(np.float32) for area in (disc, ring)]
    means, squares = ([spectrum.convolved(area) for area in areas] for spectrum in spectra)
    contrast = np.maximum(means[0] - means[1], 0)
    spread = sum(np.sqrt(np.maximum(square - mean**2, 0)) for mean, square in zip(means, squares, strict=True))
    result: Grid = (contrast / (contrast + spread + 0.02)).astype(np.float32)
    return result


def _points(pixels: Grid, head: Candidate, knee: Candidate, ankle: Candidate, size: float) -> Mapping[Joint, Candidate]:
    """The four landmarks, each joint looked at again now that the leg's size is known."""
    centre = _bone_centre(pixels, knee, size, above=(12, 32))
    ankle_x = _bone_centre(pixels, ankle, size, above=(4, 22))
    return {
        Joint.HEAD: head,
        Joint.LATERAL_CONDYLE: _lower_end(pixels, centre - CONDYLE_MM * size, knee.y, size),
        Joint.MEDIAL_CONDYLE: _lower_end(pixels, centre + CONDYLE_MM * size, knee.y, size),
        Joint.ANKLE: _lower_end(pixels, ankle_x, ankle.y, size),
    }


def _bone_centre(pixels: Grid, joint: Candidate, size: float, above: tuple[int, int]) -> float:
    """The middle of the bone that ends at a joint, from its brightness across the leg."""
    rows = slice(max(round(joint.y - above[1] * size), 0), max(round(joint.y - above[0] * size), 1))
    reach = 60 * size
    columns = np.arange(max(round(joint.x - reach), 0), min(round(joint.x + reach), pixels.shape[1] - 1) + 1)
    across = ndimage.gaussian_filter1d(pixels[rows, columns[0] : columns[-1] + 1].mean(axis=0), 1.5)
    # Both flanks of the bone are steep; the middle lies between its half-height points.
    level = (np.percentile(across, 95) + np.percentile(across, 40)) / 2
    inside = columns[across > level]
    return float((inside[0] + inside[-1]) / 2) if inside.size else joint.x


def _lower_end(pixels: Grid, x: float, y: float, size: float) -> Candidate:
    """Where the bone above a joint ends in a narrow column: well down into the dip."""
    half = max(2.0, 6 * size)
    reach = max(12, round(26 * size))
    profile = _column_profile(pixels, x, half)
    first = max(round(y) - reach, 0)
    window = profile[first : round(y) + max(8, round(12 * size))]
    dip = int(window.argmin())
    bone = float(window[: max(dip, 1)].max())
    level = bone + _END_SHARE * (float(window[dip]) - bone)
    row = dip
    while row > 0 and window[row] < level:
        row -= 1
    rise = float(window[row] - window[min(row + 1, len(window) - 1)])
    part = (float(window[row]) - level) / rise if rise > 0 else 0.0
    beside = _beside(pixels, x, first + dip, size)
    score = (bone - float(window[dip])) / max(bone - beside, _LEAST_CONTRAST)
    return Candidate(x, first + row + min(part, 1.0), min(score, 1.0))


def _column_profile(pixels: Grid, x: float, half: float) -> _Profile:
    low, high = max(round(x - half), 0), max(round(x + half) + 1, 1)
    profile: _Profile = pixels[:, low:high].mean(axis=1) if low < pixels.shape[1] else pixels[:, -1]
    return profile


def _beside(pixels: Grid, x: float, row: int, size: float) -> float:
    """Soft tissue's brightness near a joint: the darker flank, but not the air beyond the skin."""
    rows = pixels[max(row - 3, 0) : row + 4]
    flanks = [_column_profile(rows, x + sign * 32 * size, 4 * size) for sign in (-1, 1)]
    return float(min(flank.mean() for flank in flanks))
