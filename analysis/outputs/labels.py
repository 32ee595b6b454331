"""Where the words on a picture go: beside what they name, and over nothing else that has to be seen.

Pure geometry, in the picture's pixels. Each label has places that it may take, best first; it takes the one that covers
least of what was placed before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

Point = tuple[float, float]
_WEIGHT_OUTSIDE: Final = 100.0
"""An image's edge cuts words off: that is worse than covering anything."""
_STEPS_ALONG_A_BONE: Final = (0.5, 0.44, 0.56, 0.38, 0.62, 0.32, 0.68, 0.26, 0.74, 0.2, 0.8)
_STEPS_AWAY: Final = (0.0, 1.2, -1.2, 2.4, -2.4, 3.6, -3.6, 4.8, -4.8)
"""In heights of the label, up and down."""


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """Its own."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def nearest(self, x: float, y: float) -> Point:
        """The point of it that is nearest to another."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


@dataclass
class Layout:
    """What a picture of this size holds so far."""

    width: float
    height: float
    labels: list[Box] = field(default_factory=list)
    _obstacles: list[tuple[Box, float]] = field(default_factory=list)

    def keep_clear(self, box: Box, weight: float) -> None:
        """Labels to come avoid this box, the more so the heavier it is."""
        self._obstacles.append((box, weight))

    def place(self, size: Point, corners: Iterable[Point]) -> Box:
        """A label of this width and height at the best of these places of its upper left corner."""
        boxes = [Box(x, y, x + size[0], y + size[1]) for x, y in corners]
        free = (box for box in boxes if self._cost(box) == 0)
        best = next(free, None) or min(boxes, key=self._cost)
        self.labels.append(best)
        self.keep_clear(best, _WEIGHT_OUTSIDE / 2)
        return best

    def _cost(self, box: Box) -> float:
        outside = box.area - box.overlap(Box(0, 0, self.width, self.height))
        return outside * _WEIGHT_OUTSIDE + sum(box.overlap(other) * weight for other, weight in self._obstacles)


def places_at_a_point(at: Point, size: Point, gap: float, outward: int) -> Iterator[Point]:
    """Upper left corners round a point: outward (-1 is to the left) and inward, then below, above and further away."""
    (x, y), (width, height) = at, size
    sideways = [x - gap - width, x + gap] if outward < 0 else [x + gap, x - gap - width]
    for steps in _STEPS_AWAY:
        yield from ((left, y - height / 2 + steps * height) for left in sideways)
        if steps:
            yield x - width / 2, y - height / 2 + steps * height


def places_along(start: Point, end: Point, size: Point, gap: float, outward: int) -> Iterator[Point]:
    """Upper left corners beside a line: about its middle first, and on its outer side before its inner one."""
    width, height = size
    for side in (outward, -outward):
        for share in _STEPS_ALONG_A_BONE:
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            yield (x - gap - width if side < 0 else x + gap), y - height / 2


def boxes_along(start: Point, end: Point, half: float, count: int = 40) -> Sequence[Box]:
    """Small boxes on a line, to be kept clear."""
    points = [tuple(a + (b - a) * step / count for a, b in zip(start, end, strict=True)) for step in range(count + 1)]
    return [Box(x - half, y - half, x + half, y + half) for x, y in points]
