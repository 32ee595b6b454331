"""The picture for a reader's eye: the radiograph in the standard view, with landmarks, bones and words drawn in.

What is said beside it, in the panel at its right, is `panel`'s; where words go is `labels`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from analysis.landmarks import LABEL, PLACE, Joint, Landmark, Side
from analysis.measurements import BONE_WORDS, knee_centre
from analysis.outputs.content import ReportContent
from analysis.outputs.labels import Box, Layout, Point, boxes_along, places_along, places_at_a_point
from analysis.outputs.panel import SIDE_COLOURS, Colour, Line, panel_lines

_HEIGHT: Final = 2000
_NARROWEST: Final = 560
_WIDEST: Final = 2400
_TEXT: Final = 30
_LINE: Final = 34
_LARGE: Final = 72
_MARGIN: Final = 24
_PANEL_WIDTH: Final = 620
_ARM: Final = 18
"""Half a cross, in picture pixels."""
_STROKE: Final = 3
_FAR: Final = 3 * _ARM
"""A label further than this from its landmark gets a line to it."""
_CROSS_WEIGHT: Final = 20.0
_BONE_WEIGHT: Final = 1.0
_SHADOW: Final = (0, 0, 0)
_SHORT: Final = {
    Joint.HEAD: "head",
    Joint.LATERAL_CONDYLE: "lateral",
    Joint.MEDIAL_CONDYLE: "medial",
    Joint.ANKLE: "ankle",
}


@dataclass(frozen=True)
class _Sheet:
    """The picture being drawn, and the scale from the standard view's pixels to its own."""

    draw: ImageDraw.ImageDraw
    scale_x: float
    scale_y: float
    layout: Layout

    def place(self, x: float, y: float) -> Point:
        return (x + 0.5) * self.scale_x, (y + 0.5) * self.scale_y

    def text(
        self, at: Point, words: str, colour: Colour, *, size: int = _TEXT, anchor: str = "lm", stroke: int = _STROKE
    ) -> None:
        self.draw.text(
            at, words, fill=colour, font=_font(size), anchor=anchor, stroke_width=stroke, stroke_fill=_SHADOW
        )

    def line(self, start: Point, end: Point, colour: Colour, width: int = 3) -> None:
        self.draw.line((start, end), fill=_SHADOW, width=width + 3)
        self.draw.line((start, end), fill=colour, width=width)

    def size(self, words: str) -> Point:
        """The room that words in one or more lines take, with their stroke."""
        lines = words.split("\n")
        width = max(self.draw.textlength(line, font=_font(_TEXT)) for line in lines)
        return width + 2 * _STROKE, len(lines) * _LINE + 2 * _STROKE


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def draw_picture(content: ReportContent) -> npt.NDArray[np.uint8]:
    """The picture [rows, columns, 3]: the image at most 2000 pixels high, a table at its right."""
    return draw_with_layout(content)[0]


def draw_with_layout(content: ReportContent) -> tuple[npt.NDArray[np.uint8], Layout]:
    """The picture, and where its labels lie."""
    base = _scaled_base(content)
    lines = panel_lines(content, _PANEL_WIDTH - 2 * _MARGIN, lambda words, size: _font(size).getlength(words))
    panel_height = 2 * _MARGIN + sum(line.height for line in lines)
    canvas = Image.new("RGB", (base.width + _PANEL_WIDTH, max(base.height, panel_height)))
    canvas.paste(base, (0, 0))
    rows, columns = content.radiograph.pixels.shape
    layout = Layout(base.width, base.height)
    sheet = _Sheet(ImageDraw.Draw(canvas), base.width / columns, base.height / rows, layout)
    _draw_side_markers(sheet, is_assumed=content.radiograph.orientation.is_assumed)
    _draw_legs(sheet, content)
    _draw_panel(sheet, lines)
    return np.asarray(canvas), layout


def _scaled_base(content: ReportContent) -> Image.Image:
    """The radiograph as grey with square pixels."""
    pixels, spacing = content.radiograph.pixels, content.radiograph.spacing
    low, high = np.percentile(pixels[::4, ::4], (1, 99.7))
    grey = np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1) * 255
    width_mm, height_mm = pixels.shape[1] * spacing.column_mm, pixels.shape[0] * spacing.row_mm
    width = round(min(max(_HEIGHT * width_mm / height_mm, _NARROWEST), _WIDEST))
    height = min(max(round(width * height_mm / width_mm), 1), _HEIGHT)
    image = Image.fromarray(grey.astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
    return image.convert("RGB")


def _draw_side_markers(sheet: _Sheet, *, is_assumed: bool) -> None:
    """R and L, with a question mark where nothing but convention says so."""
    mark, top, width = "?" if is_assumed else "", _MARGIN + _LARGE / 2, sheet.layout.width
    sheet.text((_MARGIN, top), f"R{mark}", SIDE_COLOURS[Side.RIGHT], size=_LARGE)
    sheet.text((width - _MARGIN, top), f"L{mark}", SIDE_COLOURS[Side.LEFT], size=_LARGE, anchor="rm")
    room = _MARGIN + 1.5 * _LARGE
    sheet.layout.keep_clear(Box(0, 0, room, room), _CROSS_WEIGHT)
    sheet.layout.keep_clear(Box(width - room, 0, width, room), _CROSS_WEIGHT)


def _draw_legs(sheet: _Sheet, content: ReportContent) -> None:
    """Lines and crosses first, and all words after them, so that these can keep clear of those."""
    bones = list(_bones(sheet, content))
    for start, end, _, colour in bones:
        sheet.line(start, end, colour)
        for box in boxes_along(start, end, half=3):
            sheet.layout.keep_clear(box, _BONE_WEIGHT)
    for landmark in content.landmarks.values():
        _draw_cross(sheet, landmark)
    for landmark in content.landmarks.values():
        _name_landmark(sheet, landmark)
    for start, end, words, colour in bones:
        outward = -1 if colour == SIDE_COLOURS[Side.RIGHT] else 1
        size = sheet.size(words)
        box = sheet.layout.place(size, places_along(start, end, size, _MARGIN, outward))
        _write(sheet, box, words, colour)


def _bones(sheet: _Sheet, content: ReportContent) -> list[tuple[Point, Point, str, Colour]]:
    """The lines from head and ankle to the knee, with their lengths in words."""
    bones = []
    for side in Side:
        knee = knee_centre(content.landmarks, side)
        for joint, bone in ((Joint.HEAD, "FEM"), (Joint.ANKLE, "TIB")):
            length = content.measurements.get(f"PLL_{side}_{bone}")
            if knee is not None and length is not None:
                end = content.landmarks[LABEL[side, joint]]
                # With its side, for a print without colours; in two lines, which fit beside their own bone.
                words = f"{side} {BONE_WORDS[bone]}\n{length['millimeters']:.1f} mm"
                bones.append((sheet.place(end.x, end.y), sheet.place(*knee), words, SIDE_COLOURS[side]))
    return bones


def _draw_cross(sheet: _Sheet, landmark: Landmark) -> None:
    side, _ = PLACE[landmark.label]
    x, y = sheet.place(landmark.x, landmark.y)
    sheet.line((x - _ARM, y), (x + _ARM, y), SIDE_COLOURS[side])
    sheet.line((x, y - _ARM), (x, y + _ARM), SIDE_COLOURS[side])
    sheet.layout.keep_clear(Box(x - _ARM, y - _ARM, x + _ARM, y + _ARM), _CROSS_WEIGHT)


def _name_landmark(sheet: _Sheet, landmark: Landmark) -> None:
    side, joint = PLACE[landmark.label]
    at, words = sheet.place(landmark.x, landmark.y), f"{landmark.label} {_SHORT[joint]}"
    # The medial condyle's outer side is the lateral one's place.
    outward = (-1 if side is Side.RIGHT else 1) * (-1 if joint is Joint.MEDIAL_CONDYLE else 1)
    size = sheet.size(words)
    box = sheet.layout.place(size, places_at_a_point(at, size, _ARM + 8, outward))
    near = box.nearest(*at)
    if abs(near[0] - at[0]) + abs(near[1] - at[1]) > _FAR:
        sheet.line(at, near, SIDE_COLOURS[side], width=1)
    _write(sheet, box, words, SIDE_COLOURS[side])


def _write(sheet: _Sheet, box: Box, words: str, colour: Colour) -> None:
    for row, line in enumerate(words.split("\n")):
        sheet.text((box.left + _STROKE, box.top + _STROKE + (row + 0.5) * _LINE), line, colour)


def _draw_panel(sheet: _Sheet, lines: list[Line]) -> None:
    """On black, where a shadow would not be seen and took most of the picture's time."""
    x, y = sheet.layout.width + _MARGIN, float(_MARGIN)
    for line in lines:
        sheet.text((x, y + line.height / 2), line.words, line.colour, size=line.size, stroke=0)
        y += line.height
