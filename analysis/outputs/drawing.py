"""Drawing landmarks, bones and a table of lengths over a radiograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from analysis.landmarks import LABEL, PLACE, Joint, Landmark, Side
from analysis.measurements import BONE_WORDS, describe, knee_centre, left_right_difference_mm
from analysis.outputs.content import ReportContent

_HEIGHT: Final = 2000
_NARROWEST: Final = 560
_WIDEST: Final = 2400
_TEXT: Final = 30
_LARGE: Final = 72
_MARGIN: Final = 24
_PANEL_WIDTH: Final = 620
_ARM: Final = 18
"""Half a cross, in picture pixels."""
_COLOURS: Final = {Side.RIGHT: (90, 220, 255), Side.LEFT: (255, 205, 80)}
_INK: Final = (235, 235, 235)
_FAINT: Final = (165, 165, 165)
_WARNING: Final = (255, 120, 100)
_SHADOW: Final = (0, 0, 0)
_SHORT: Final = {
    Joint.HEAD: "head",
    Joint.LATERAL_CONDYLE: "lat",
    Joint.MEDIAL_CONDYLE: "med",
    Joint.ANKLE: "ankle",
}
Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class _Sheet:
    """The picture being drawn, and the scale from the input's pixels to its own."""

    draw: ImageDraw.ImageDraw
    scale_x: float
    scale_y: float
    image_width: int

    def place(self, x: float, y: float) -> Point:
        return (x + 0.5) * self.scale_x, (y + 0.5) * self.scale_y

    def text(self, at: Point, words: str, colour: Colour, *, size: int = _TEXT, anchor: str = "lm") -> None:
        self.draw.text(at, words, fill=colour, font=_font(size), anchor=anchor, stroke_width=3, stroke_fill=_SHADOW)

    def line(self, start: Point, end: Point, colour: Colour, width: int = 3) -> None:
        self.draw.line((start, end), fill=_SHADOW, width=width + 3)
        self.draw.line((start, end), fill=colour, width=width)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def draw_picture(content: ReportContent) -> npt.NDArray[np.uint8]:
    """The picture [rows, columns, 3]: the image at most 2000 pixels high, a table at its right."""
    base = _scaled_base(content)
    canvas = Image.new("RGB", (base.width + _PANEL_WIDTH, base.height))
    canvas.paste(base, (0, 0))
    rows, columns = content.radiograph.pixels.shape
    sheet = _Sheet(ImageDraw.Draw(canvas), base.width / columns, base.height / rows, base.width)
    for side in Side:
        _draw_side(sheet, content, side)
    for landmark in content.landmarks.values():
        _draw_landmark(sheet, landmark)
    _draw_side_markers(sheet)
    _draw_panel(sheet, content)
    return np.asarray(canvas)


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


def _draw_side(sheet: _Sheet, content: ReportContent, side: Side) -> None:
    """The lines head to knee and knee to ankle, with their lengths beside the middle."""
    knee = knee_centre(content.landmarks, side)
    if knee is None:
        return
    for joint, bone in ((Joint.HEAD, "FEM"), (Joint.ANKLE, "TIB")):
        end, name = content.landmarks.get(LABEL[side, joint]), f"PLL_{side}_{bone}"
        if end is not None and name in content.measurements:
            _draw_bone(sheet, (end.x, end.y), knee, _bone_words(content, name), side)


def _bone_words(content: ReportContent, name: str) -> str:
    return f"{BONE_WORDS[name[-3:]]} {content.measurements[name]['millimeters']:.1f} mm"


def _draw_bone(sheet: _Sheet, end: Point, knee: Point, words: str, side: Side) -> None:
    start, stop = sheet.place(*end), sheet.place(*knee)
    sheet.line(start, stop, _COLOURS[side])
    middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
    _outward_text(sheet, middle, words, side, gap=_MARGIN)


def _outward_text(sheet: _Sheet, at: Point, words: str, side: Side, gap: float) -> None:
    """Text away from the other leg, turned inward where it would leave the image."""
    width = sheet.draw.textlength(words, font=_font(_TEXT))
    leftward = side is Side.RIGHT
    if leftward and at[0] - gap - width < 0:
        leftward = False
    elif not leftward and at[0] + gap + width > sheet.image_width:
        leftward = True
    x, anchor = (at[0] - gap, "rm") if leftward else (at[0] + gap, "lm")
    sheet.text((x, at[1]), words, _COLOURS[side], anchor=anchor)


def _draw_landmark(sheet: _Sheet, landmark: Landmark) -> None:
    side, joint = PLACE[landmark.label]
    x, y = sheet.place(landmark.x, landmark.y)
    sheet.line((x - _ARM, y), (x + _ARM, y), _COLOURS[side])
    sheet.line((x, y - _ARM), (x, y + _ARM), _COLOURS[side])
    if joint is Joint.MEDIAL_CONDYLE:  # its words would run into the lateral one's
        sheet.text((x, y + _ARM + _TEXT), str(landmark.label), _COLOURS[side], anchor="mm")
        return
    _outward_text(sheet, (x, y), f"{landmark.label} {_SHORT[joint]}", side, gap=_ARM + 8)


def _draw_side_markers(sheet: _Sheet) -> None:
    top = _MARGIN + _LARGE / 2
    sheet.text((_MARGIN, top), "R", _COLOURS[Side.RIGHT], size=_LARGE)
    at = (sheet.image_width - _MARGIN, top)
    sheet.text(at, "L", _COLOURS[Side.LEFT], size=_LARGE, anchor="rm")


def _draw_panel(sheet: _Sheet, content: ReportContent) -> None:
    x, y = sheet.image_width + _MARGIN, _MARGIN + _TEXT
    for words, colour in _panel_lines(content):
        sheet.text((x, y), words, colour)
        y += round(_TEXT * 1.5)


def _panel_lines(content: ReportContent) -> list[tuple[str, Colour]]:
    lines: list[tuple[str, Colour]] = [("Leg length QA", _INK), ("", _INK)]
    lines += [(_length_words(content, name), _COLOURS[Side(name[4])]) for name in content.measurements]
    lines += [("", _INK), ("Right minus left", _INK)]
    for code, bone in BONE_WORDS.items():
        difference = left_right_difference_mm(content.measurements, code)
        lines.append((f"{bone}: {'not measured' if difference is None else f'{difference:+.1f} mm'}", _INK))
    lines += _issue_lines(content)
    lines += [("", _INK), ("Landmark: confidence, models", _FAINT)]
    lines += [(_landmark_words(landmark), _FAINT) for landmark in content.landmarks.values()]
    return [*lines, ("", _INK), ("Check before clinical use", _FAINT)]


def _length_words(content: ReportContent, name: str) -> str:
    return f"{describe(name)}: {content.measurements[name]['millimeters']:.1f} mm"


def _issue_lines(content: ReportContent) -> list[tuple[str, Colour]]:
    if not content.issues:
        return []
    lines = [(_issue_words(issue), _WARNING) for issue in content.issues]
    return [("", _INK), ("Flagged", _WARNING), *lines]


def _issue_words(issue: dict[str, object]) -> str:
    what = str(issue["code"]).replace("_", " ")
    return f"{what}: {describe(str(issue['measurement']))}"


def _landmark_words(landmark: Landmark) -> str:
    side, joint = PLACE[landmark.label]
    return f"{landmark.label} {side} {_SHORT[joint]}: {landmark.confidence:.2f}, {landmark.models}"
