"""What the built-in detectors have in common: a small square-pixelled image, and legs from candidates.

All lengths here are mm. One working pixel is 1 mm, whatever the input's spacing, so that anatomy
has the same size in every image and a film of 4000 rows takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from analysis.detectors.protocol import Detections, Image
from analysis.landmarks import LABEL, Joint, Side, Spacing

Grid = npt.NDArray[np.float32]
PIXEL_MM: Final = 1.0
_SMALLEST_MM: Final = 150
"""No film with both legs of a walking child is smaller."""
CONDYLE_MM: Final = 20.0
"""From the middle of an adult's knee to the lowest point of a condyle."""
_ADULT_FEMUR_MM: Final = 450.0
# What one leg can look like, standing, from a toddler to a tall adult: wider than the plausible
# range of anatomy, because its job is only to tell legs from other pictures.
_FEMUR_MM: Final = (100.0, 620.0)
_RATIO: Final = (1.05, 1.55)
_HEAD_SHARE: Final = (0.036, 0.07)
"""The head's radius as a share of the femur; 0.05 is usual."""
_SLANT: Final = 0.3
_LEG_SHARE: Final = 0.5
"""The least share of the film's height that head to ankle takes."""
_BOX_HALF_MM: Final = {
    Joint.HEAD: 26.0,
    Joint.LATERAL_CONDYLE: 18.0,
    Joint.MEDIAL_CONDYLE: 18.0,
    Joint.ANKLE: 22.0,
}


@dataclass(frozen=True)
class Half:
    """One leg's half of the image, turned so that medial is always to the right."""

    side: Side
    pixels: Grid
    left_mm: float
    """Where the half begins in the image."""
    mirrored: bool

    def to_image_x(self, x: float) -> float:
        """The image's x of the half's x, both in mm."""
        inner = self.pixels.shape[1] - 1 - x if self.mirrored else x
        return self.left_mm + inner


@dataclass(frozen=True)
class Candidate:
    """Where a joint may be in a half, with how sure its detector is (0 to 1)."""

    x: float
    y: float
    score: float
    radius: float | None = None
    """Of a femoral head, where the detector measures it."""


class Spectrum:
    """An image's Fourier transform, by which it is convolved with any number of kernels."""

    def __init__(self, image: Grid) -> None:
        self._sizes = image.shape
        self._shape = [fft.next_fast_len(size, real=True) for size in image.shape]
        self._transformed = fft.rfftn(image, self._shape)

    def convolved(self, kernel: npt.NDArray[np.floating[Any]]) -> Grid:
        """The convolution with a kernel, which is no larger than the image, where it lies wholly inside.

        As `scipy.signal.fftconvolve`, which brings half of scipy with it: a third of a second at the start of each
        process. Transforms are no larger than the image: what goes round its edges reaches no such place.
        """
        inside = tuple(slice(reach - 1, size) for size, reach in zip(self._sizes, kernel.shape, strict=True))
        convolved: Grid = fft.irfftn(self._transformed * fft.rfftn(kernel, self._shape), self._shape)[inside]
        return convolved


Leg = tuple[Mapping[Joint, Candidate], float]
"""A leg's four landmarks in its half, and its femur in mm."""


def detect_legs(
    image: Image, spacing: Spacing, find_leg: Callable[[Half], Leg | None], least_score: float
) -> Detections:
    """What `find_leg` finds in each half of the image, as boxes in the image's pixels.

    A leg is found whole or not at all: one whose weakest landmark scores below `least_score` isn't there.
    """
    small = _working_image(image, spacing)
    if small is None:
        return Detections.of([], [], [])
    boxes, labels, scores = [], [], []
    scale_x, scale_y = image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]
    for half in _halves(small):
        points, femur_mm = find_leg(half) or ({}, 0.0)
        if min((point.score for point in points.values()), default=0.0) < least_score:
            continue
        for joint, point in points.items():
            reach = _BOX_HALF_MM[joint] * size_of(femur_mm)
            x, y = half.to_image_x(point.x) + 0.5, point.y + 0.5
            box = np.array([x - reach, y - reach, x + reach, y + reach])
            boxes.append(box * (scale_x, scale_y, scale_x, scale_y) - 0.5)
            labels.append(LABEL[half.side, joint])
            scores.append(min(max(point.score, 0.0), 1.0))
    return Detections.of(boxes, labels, scores)


def _working_image(image: Image, spacing: Spacing) -> Grid | None:
    """The image at 1 mm a pixel, values 0 to 1; None where it is too small to hold legs."""
    height = round(image.shape[0] * spacing.row_mm / PIXEL_MM)
    width = round(image.shape[1] * spacing.column_mm / PIXEL_MM)
    if min(height, width) < _SMALLEST_MM:
        return None
    small = _area_mean(_area_mean(image, height, 0), width, 1)
    low, high = np.percentile(small, (0.5, 99.5))
    if high <= low:
        return None
    scaled: Grid = np.clip((small - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def _area_mean(image: Image, size: int, axis: int) -> Image:
    """Resample one axis to `size` by the mean over each new pixel's area."""
    edges = np.linspace(0, image.shape[axis], size + 1)
    running = np.zeros([length + (number == axis) for number, length in enumerate(image.shape)])
    if axis == 0:
        # As `cumsum`, which goes down one column after the other: a large film takes ten times as long.
        for row, pixels in enumerate(image):
            np.add(running[row], pixels, out=running[row + 1])
    else:
        np.cumsum(image, axis=1, dtype=np.float64, out=running[:, 1:])
    low = np.floor(edges).astype(int)
    high = np.minimum(low + 1, image.shape[axis])
    part = (edges - low).reshape((-1, 1) if axis == 0 else (1, -1))
    sums = running.take(low, axis) * (1 - part) + running.take(high, axis) * part
    mean: Image = (np.diff(sums, axis=axis) * (size / image.shape[axis])).astype(np.float32)
    return mean


def _halves(small: Grid) -> list[Half]:
    """The right and left leg's halves, parted where the image is emptiest between the legs."""
    width = small.shape[1]
    columns = ndimage.uniform_filter1d(small[small.shape[0] // 3 :].mean(axis=0), max(5, width // 30))
    first, last = int(0.4 * width), int(0.6 * width)
    # A slight pull to the centre decides where the gap between the legs is wide and flat.
    pull = 0.1 * np.abs(np.linspace(-1, 1, last - first))
    middle = first + int(np.argmin(columns[first:last] + pull * columns.mean()))
    return [
        Half(Side.RIGHT, small[:, :middle], 0.0, mirrored=False),
        Half(Side.LEFT, np.ascontiguousarray(small[:, middle:][:, ::-1]), float(middle), mirrored=True),
    ]


def peaks(score_map: Grid, count: int, apart_mm: int, least: float) -> list[Candidate]:
    """The highest local maxima of a map, at least `apart_mm` from each other, best first."""
    top = ndimage.maximum_filter(score_map, size=2 * apart_mm + 1)
    ys, xs = np.nonzero((score_map == top) & (score_map > least))
    order = np.argsort(score_map[ys, xs])[::-1][:count]
    return [Candidate(float(xs[i]), float(ys[i]), float(score_map[ys[i], xs[i]])) for i in order]


def best_chain(
    heads: Sequence[Candidate], knees: Sequence[Candidate], ankles: Sequence[Candidate], height_mm: float
) -> tuple[Candidate, Candidate, Candidate] | None:
    """The head, knee and ankle of the highest sum of scores that could be one child's leg."""
    best, best_score = None, 0.0
    for head in heads:
        for knee in knees:
            if not _is_femur(head, knee):
                continue
            for ankle in ankles:
                score = head.score + knee.score + ankle.score
                if score > best_score and _is_leg(head, knee, ankle, height_mm):
                    best, best_score = (head, knee, ankle), score
    return best


def _is_femur(head: Candidate, knee: Candidate) -> bool:
    length = knee.y - head.y
    if length <= 0:
        return False
    if head.radius is not None and not _HEAD_SHARE[0] <= head.radius / length <= _HEAD_SHARE[1]:
        return False
    return _FEMUR_MM[0] <= length <= _FEMUR_MM[1] and abs(knee.x - head.x) <= _SLANT * length


def _is_leg(head: Candidate, knee: Candidate, ankle: Candidate, height_mm: float) -> bool:
    femur, tibia = knee.y - head.y, ankle.y - knee.y
    return (
        tibia > 0
        and _RATIO[0] <= femur / tibia <= _RATIO[1]
        and abs(ankle.x - knee.x) <= _SLANT * tibia
        and femur + tibia >= _LEG_SHARE * height_mm
    )


def size_of(femur_mm: float) -> float:
    """A leg's size as a share of an adult's, by which joint widths scale."""
    return femur_mm / _ADULT_FEMUR_MM
