r"""Finds values in a text however they were written: other capitals and separators, escapes, base64, hexadecimal.

Texts and values are brought to one reading, in which a value is the same whatever wrote it: words in small letters
without accents, one space between them. ``DOE^JANE``, ``Doe, Jane``, ``doe%5Ejane`` and ``"Doe\u005eJane"`` all
read ``doe jane``. Where something is found, it is cut out of the text as it was.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

SHORTEST = 4
"""Values with fewer characters stay: removing every "M" or "DX" would leave no log to read."""

_WORD_STANDS_FOR_ITSELF = 8  # a shorter one counts only as a whole word: "mark" is no part of "landmark"
_NUMBER_STANDS_FOR_ITSELF = 12
_LONG = 12
_LONGEST_ENCODED = 1024  # longer values are looked for in plain and escaped form only
_BASE64_START = 5  # characters that have to agree at least
_WORD = re.compile(r"[^\W_]+")
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{5,}={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")


class Values:
    """Values that are to be found, each with its other forms; what it takes is worked out when it is first needed.

    ``are_names``: a ``^`` parts a person's name, whose parts are values too, in either order.
    """

    def __init__(self, values: Iterable[object], are_names: bool = False) -> None:
        long_enough = (value for value in map(_stripped, values) if len(value) >= SHORTEST)
        self._values = frozenset(long_enough)
        self._are_names = are_names

    def __bool__(self) -> bool:
        return bool(self._values)

    def __or__(self, other: Values) -> Values:
        return Values(self._values | other._values, self._are_names or other._are_names)

    def found_in(self, reading: Reading) -> Iterator[tuple[int, int]]:
        """Where they are in the text, from and to; may overlap."""
        yield from self._as_words(reading)
        yield from self._as_base64(reading)
        for pattern in self._exact:
            yield from (reading.span(*match.span()) for match in pattern.finditer(reading.text))

    def _as_words(self, reading: Reading) -> Iterator[tuple[int, int]]:
        words = reading.words
        for length, starts in self._words.items():
            for at in range(len(words) - length + 1):
                for value in starts.get(words[at : at + length], ()):
                    if words.startswith(value, at) and _counts(value, reading, at):
                        yield reading.span(*reading.place(at, at + len(value)))

    def _as_base64(self, reading: Reading) -> Iterator[tuple[int, int]]:
        starts = self._base64
        for run in _BASE64_RUN.finditer(reading.text):
            text = run[0].translate(_URL_SAFE)
            for at in range(len(text) - _BASE64_START + 1):
                if any(text.startswith(value, at) for value in starts.get(text[at : at + _BASE64_START], ())):
                    yield reading.span(*run.span())
                    break

    @cached_property
    def _forms(self) -> frozenset[str | bytes]:
        if not self._are_names:
            return self._values
        return self._values.union(*(_name_forms(value) for value in self._values if isinstance(value, str)))

    @cached_property
    def _words(self) -> dict[int, dict[str, list[str]]]:
        """Their readings by how they begin: long ones by more characters, since many UIDs begin alike."""
        readings = {words for form in self._forms for text in _texts(form) for words in _readings_of(text)}
        readings |= {raw.hex() for form in self._forms for raw in _encoded(form)}
        telling = [words for words in readings if _is_telling(words)]
        return {
            SHORTEST: _by_start((words for words in telling if len(words) < _LONG), SHORTEST),
            _LONG: _by_start((words for words in telling if len(words) >= _LONG), _LONG),
        }

    @cached_property
    def _exact(self) -> list[re.Pattern[str]]:
        """Those that hold hardly a letter or digit, and would read as nothing: as they are, standing by themselves."""
        texts = {text for value in self._values for text in _texts(value)}
        return [_alone(text) for text in texts if not _is_telling(Reading.of(text).words)]

    @cached_property
    def _base64(self) -> dict[str, list[str]]:
        cores = {core for form in self._forms for raw in _encoded(form) for core in _base64_cores(raw)}
        return _by_start((core for core in cores if len(core) >= _BASE64_START), _BASE64_START)


@dataclass(frozen=True)
class Reading:
    """A text, and where each of its characters begins in the text that it was made from (one more for its end)."""

    text: str
    origin: Sequence[int]

    @classmethod
    def of(cls, text: str) -> Reading:
        """The text as it is."""
        return cls(text, range(len(text) + 1))

    @cached_property
    def words(self) -> str:
        """The words alone, in one form, with one space between them."""
        text = self.text.lower() if self.text.isascii() else self.text
        return " ".join(map(_fold, _WORD.findall(text)))

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of :attr:`words` is in :attr:`text`."""
        starts, ends = self._places
        return starts[start], ends[end - 1]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of :attr:`text` came from."""
        return self.origin[start], self.origin[end]

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """Where each character of :attr:`words` begins and ends in :attr:`text`."""
        starts: list[int] = []
        ends: list[int] = []
        for match in _WORD.finditer(self.text):
            start, end = match.span()
            if ends:  # the space between two words
                starts.append(ends[-1])
                ends.append(start)
            length = len(_fold(match[0]))
            # A word that changes its length is cut out as a whole.
            is_even = length == end - start
            starts.extend(range(start, end) if is_even else [start] * length)
            ends.extend(range(start + 1, end + 1) if is_even else [end] * length)
        return starts, ends


def without(text: str, values: Sequence[Values], replacement: str) -> str:
    """``text`` with ``replacement`` where one of the values was; the very same text where there was none."""
    composed = unicodedata.normalize("NFC", text)
    plain = Reading.of(composed)
    escaped = _unescaped(plain)
    readings = [plain] if escaped.text == composed else [plain, escaped]
    spans = sorted(span for reading in readings for group in values for span in group.found_in(reading))
    return _cut(composed, spans, replacement) if spans else text


def _cut(text: str, spans: Iterable[tuple[int, int]], replacement: str) -> str:
    """``text`` with each stretch of overlapping spans, sorted, replaced."""
    pieces: list[str] = []
    done = -1
    for start, end in spans:
        if start > done:
            pieces += [text[max(done, 0) : start], replacement]
        done = max(done, end)
    return "".join(pieces) + text[done:]


# Values ------------------------------------------------------------------------------------------


def _stripped(value: object) -> str | bytes:
    return value.strip(b" \0\r\n\t") if isinstance(value, bytes) else str(value).strip(" \0\r\n\t")


def _name_forms(name: str) -> set[str]:
    parts = [part.strip() for part in name.split("^") if part.strip()]
    if len(parts) < 2:
        return set()
    family, given = parts[:2]
    return {*parts, f"{given} {family}", f"{family} {given}", f"{family}{given}", f"{given}{family}"}


def _texts(form: str | bytes) -> set[str]:
    if isinstance(form, str):
        return {form}
    try:
        return {form.decode("latin-1"), form.decode()}
    except UnicodeDecodeError:
        return {form.decode("latin-1")}


def _readings_of(text: str) -> set[str]:
    """Its words; where it has accents also without those letters, as after ``encode(errors="replace")``."""
    composed = unicodedata.normalize("NFC", text)
    found = {composed}
    if not composed.isascii():
        losses = [re.sub(r"[^\x00-\x7f]", lost, composed) for lost in ("", "?")]
        found |= {loss for loss in losses if 2 * len("".join(_WORD.findall(loss))) >= len(composed)}
    return {Reading.of(each).words for each in found}


def _encoded(form: str | bytes) -> set[bytes]:
    """The bytes that an encoder may have been given."""
    if len(form) > _LONGEST_ENCODED:
        return set()
    if isinstance(form, bytes):
        return {form}
    cases = {form, form.lower(), form.upper()}
    utf8 = {case.encode("utf-8", "surrogatepass") for case in cases}
    return utf8 if form.isascii() else utf8 | {case.encode("latin-1", "replace") for case in cases}


def _base64_cores(raw: bytes) -> Iterator[str]:
    """What base64 makes of it whatever stands around it: of each alignment the characters that it alone fills."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw).decode()
        yield text[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]


def _by_start(values: Iterable[str], length: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for value in values:
        found[value[:length]].append(value)
    return dict(found)


def _alone(text: str) -> re.Pattern[str]:
    before = r"(?<![^\W_])" if text[0].isalnum() else ""
    after = r"(?![^\W_])" if text[-1].isalnum() else ""
    return re.compile(before + re.escape(text) + after)


def _is_telling(words: str) -> bool:
    return len(words.replace(" ", "")) >= SHORTEST


def _counts(value: str, reading: Reading, at: int) -> bool:
    """Whether this is the value, and not a part of another word or number."""
    if not value.isascii():
        return True
    words, end = reading.words, at + len(value)
    before, after = words[max(at - 1, 0) : at], words[end : end + 1]
    if value.replace(" ", "").isdigit():
        is_alone = not (before.isdigit() or after.isdigit() or _is_part_of_a_number(reading, at, end))
        return is_alone or len(value) >= _NUMBER_STANDS_FOR_ITSELF
    return len(value) >= _WORD_STANDS_FOR_ITSELF or not (before.isalnum() or after.isalnum())


def _is_part_of_a_number(reading: Reading, at: int, end: int) -> bool:
    """Whether these digits are those before or after a decimal point."""
    start, stop = reading.place(at, end)
    return bool(re.search(r"\d[.,]$", reading.text[:start][-2:]) or re.match(r"[.,]\d", reading.text[stop:][:2]))


# Texts -------------------------------------------------------------------------------------------


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word)
    return "".join(character for character in parts if not unicodedata.combining(character)).casefold()


_ESCAPE = re.compile(
    r"(?P<nothing>\x00|\\+(?:x00|u0000)|%(?:25)*00)"  # between the letters of UTF-16
    r"|\\+u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\+u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\+u(?P<four>[0-9a-fA-F]{4})|\\+U(?P<eight>000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})"
    r"|\\+x(?P<two>[0-9a-fA-F]{2})|\\+(?P<octal>[0-3][0-7]{2})|(?P<control>\\+[abefnrtv])"
    r"|%(?:25)*(?P<percent>[0-9a-fA-F]{2})"
    r"|(?P<entity>&(?:\#\d{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});)"
)
# What a program shows that takes UTF-8 for Windows' or Latin letters.
_WINDOWS = {bytes([code]).decode("cp1252", "ignore"): code for code in range(0x80, 0xA0)}
_MISREAD = re.compile(rf"[\x80-\xff{''.join(_WINDOWS)}]{{2,}}")


Meant = Callable[[re.Match[str]], Iterable[tuple[str, int]]]
"""What a match stands for: characters, each with its offset in the match."""


def _unescaped(reading: Reading) -> Reading:
    """The text before something escaped it: percent, JSON, Python, C, HTML, or UTF-8 that was taken for Latin-1."""
    return _replaced(_replaced(reading, _ESCAPE, _meant), _MISREAD, _reread)


def _meant(match: re.Match[str]) -> list[tuple[str, int]]:
    kind, text = str(match.lastgroup), str(match[str(match.lastgroup)])
    if kind == "nothing":
        return []
    if kind == "control":
        return [(" ", 0)]
    if kind == "entity":
        import html  # it brings a table of two thousand names

        return [(character, 0) for character in html.unescape(text)]
    if kind == "low":
        pair = bytes.fromhex(str(match["high"]) + text)
        return [(pair.decode("utf-16-be"), 0)]
    return [(chr(int(text, 8 if kind == "octal" else 16)), 0)]


def _reread(match: re.Match[str]) -> Iterator[tuple[str, int]]:
    codes = bytes(_WINDOWS.get(character, ord(character)) for character in match[0])
    try:
        text = codes.decode()
    except UnicodeDecodeError:
        yield from zip(match[0], range(len(codes)), strict=True)
        return
    offset = 0
    for character in text:
        yield character, offset
        offset += len(character.encode())


def _replaced(reading: Reading, pattern: re.Pattern[str], meant: Meant) -> Reading:
    pieces: list[str] = []
    origin: list[int] = []
    done = 0
    for match in pattern.finditer(reading.text):
        pieces.append(reading.text[done : match.start()])
        origin.extend(reading.origin[done : match.start()])
        for character, offset in meant(match):
            pieces.append(character)
            origin.append(reading.origin[match.start() + offset])
        done = match.end()
    if not done:
        return reading
    return Reading("".join(pieces) + reading.text[done:], [*origin, *reading.origin[done:]])
