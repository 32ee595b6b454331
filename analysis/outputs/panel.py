"""What stands beside the picture: every length or that it is missing, what is flagged, and what was assumed.

It says the same as the structured report and the JSON file, in the words of `content`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from analysis.landmarks import PLACE, Landmark, Side
from analysis.measurements import BONE_WORDS, MEASUREMENTS, NOTICE, describe
from analysis.outputs.content import ReportContent, issue_words

Colour = tuple[int, int, int]
SIDE_COLOURS: Final[dict[Side, Colour]] = {Side.RIGHT: (90, 220, 255), Side.LEFT: (255, 205, 80)}
INK: Final = (235, 235, 235)
FAINT: Final = (165, 165, 165)
WARNING: Final = (255, 120, 100)
_TEXT: Final = 30
_SMALL: Final = 24
_LEADING: Final = 1.45


@dataclass(frozen=True)
class Line:
    """One line of the panel."""

    words: str
    colour: Colour = INK
    size: int = _TEXT

    @property
    def height(self) -> int:
        """With the room to the next line."""
        return round(self.size * _LEADING)


def panel_lines(content: ReportContent, width: float, measure: Callable[[str, int], float]) -> list[Line]:
    """The panel's lines, each no wider than `width` by `measure(words, size)` as far as single words allow."""
    return [Line(words, line.colour, line.size) for line in _lines(content) for words in _wrapped(line, width, measure)]


def _wrapped(line: Line, width: float, measure: Callable[[str, int], float]) -> Iterator[str]:
    words = ""
    for word in line.words.split(" "):
        longer = f"{words} {word}" if words else word
        if words and measure(longer, line.size) > width:
            yield words
            longer = word
        words = longer
    yield words


def _lines(content: ReportContent) -> Iterator[Line]:
    yield Line("Leg length QA")
    yield Line(NOTICE, WARNING)
    yield Line("")
    yield from (_length_line(content, name) for name in MEASUREMENTS)
    yield Line("")
    yield Line("Right minus left")
    for code, bone in BONE_WORDS.items():
        difference = content.differences_mm[code]
        yield Line(f"{bone}: {'not measured' if difference is None else f'{difference:+.1f} mm'}")
    yield from _flag_lines(content)
    yield Line("")
    yield Line("Landmark: confidence, models", FAINT, _SMALL)
    yield from (Line(_landmark_words(landmark), FAINT, _SMALL) for landmark in content.landmarks.values())
    for statement in content.statements[1:]:  # the first, the notice, is at the top
        yield Line("", FAINT, _SMALL // 2)
        yield Line(statement, FAINT, _SMALL)


def _length_line(content: ReportContent, name: str) -> Line:
    length = content.measurements.get(name)
    if length is None:
        return Line(f"{describe(name)}: not measured", WARNING)
    words = f"{describe(name)}: {length['millimeters']:.1f} mm"
    if name in content.implausible:
        return Line(f"{words} (implausible)", WARNING)
    return Line(words, SIDE_COLOURS[Side(name[4])])


def _flag_lines(content: ReportContent) -> Iterator[Line]:
    """What a person has to look at; the missing lengths stand above, and what is only told below."""
    flagged = [i for i in content.issues if i["severity"] != "info" and i["code"] != "measurement_missing"]
    if flagged:
        yield Line("")
        yield Line("Flagged", WARNING)
    for issue in flagged:
        about = f"{describe(issue['measurement'])}: " if "measurement" in issue else ""
        yield Line(f"{about}{issue_words(issue)}", WARNING, _SMALL)


def _landmark_words(landmark: Landmark) -> str:
    side, joint = PLACE[landmark.label]
    return f"{landmark.label} {side} {joint}: {landmark.confidence:.2f}, {landmark.models}"
