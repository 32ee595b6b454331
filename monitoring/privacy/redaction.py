r"""Redacts known values in a text: in other capitals, with other separators or accents, and behind escapes.

Text and values are normalised alike, to words in small letters without accents, one space between them: ``DOE^JANE``,
``Doe, Jane``, ``doe%5Ejane`` and ``"Doe\u005eJane"`` are all ``doe jane``. Understood are the escapes that reach a
log: percent-encoding, and those of JSON and ``repr``. Base64, hexadecimal and markup are not: nothing that logs here
writes them (docs/privacy.md). Which values count, and in which records they are looked for, is log_filter.py's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

SHORTEST = 4
"""Values with fewer characters stay: removing every "M" or "DX" would leave no log to read."""

_SHORTEST_CASELESS = 2
_WORD_STANDS_FOR_ITSELF = 8  # a shorter one counts only as a whole word: "mark" is no part of "landmark"
_NUMBER_STANDS_FOR_ITSELF = 12
_PADDING = " \0\r\n\t"
# An accent may be a character of its own, as in the names of files that macOS wrote.
_WORD = re.compile(r"[^\W_]+(?:[\u0300-\u036f\u3099\u309a]+[^\W_]*)*")
# Two backslashes: JSON in JSON; a third is a text's own. "%25" is an escaped percent sign: an address in an address.
_ESCAPES = re.compile(
    r"(?P<bytes>(?:(?:\\{1,2}x|%(?:25)*)[0-9a-fA-F]{2})+)|(?P<utf16>(?:\\{1,2}u[0-9a-fA-F]{4})+)"
    r"|\\{1,2}U(?P<code_point>00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|\\[bfnrt]"
)
_CODE = re.compile(r"(?:\\+[xu]|%(?:25)*)([0-9a-fA-F]{2,4})")


class SensitiveValues:
    """Values that are to be found; their other forms are worked out when they are first looked for.

    ``are_names``: a ``^`` parts a person's name (DICOM PS3.5, 6.2), whose parts are values too, in either order.
    """

    def __init__(self, values: Iterable[object], are_names: bool = False) -> None:
        # Bytes are logged as repr() shows them; its escapes are undone like any others.
        texts = (repr(value)[2:-1] if isinstance(value, bytes) else str(value).strip(_PADDING) for value in values)
        self.values = frozenset(text for text in texts if len(text) >= SHORTEST or _is_telling(text))
        self._are_names = are_names
        self._forms: tuple[dict[str, list[str]], list[re.Pattern[str]]] | None = None

    def found_in(self, text: _Text) -> Iterator[tuple[int, int]]:
        """Where they are in the text that was given, from and to; may overlap."""
        # No cached_property, here and below: before Python 3.12 a thread holds its lock meanwhile, and a child that is
        # forked then would wait for it for ever.
        if self._forms is None:
            self._forms = self._by_end(), self._verbatim()
        words, (by_end, verbatim) = text.words, self._forms
        for length in {len(key) for key in by_end}:
            for end in range(length, len(words) + 1):
                for value in by_end.get(words[end - length : end], ()):
                    if words.endswith(value, 0, end) and _stands_alone(text, end - len(value), end):
                        yield text.given(*text.place(end - len(value), end))
        for pattern in verbatim:
            yield from (text.given(*match.span()) for match in pattern.finditer(text.text))

    def _by_end(self) -> dict[str, list[str]]:
        """The values' words by their last characters, since UIDs begin alike."""
        texts = self.values.union(*map(_name_forms, self.values)) if self._are_names else self.values
        plain = [_Text(text) for text in texts]
        found: dict[str, list[str]] = defaultdict(list)
        # What looks like an escape in a value, as in a password with "%20", is undone in the text, and so here too.
        for words in {text.words for text in plain} | {text.unescaped().words for text in plain}:
            if _is_telling(words):
                found[words[-SHORTEST:]].append(words)
        return dict(found)

    def _verbatim(self) -> list[re.Pattern[str]]:
        """Values with hardly a letter or digit have no words to compare: as they are, standing by themselves."""
        texts = [re.escape(text) for text in self.values if not _is_telling(_Text(text).words)]
        before, after = r"(?:(?<![^\W_])|(?=[\W_]))", r"(?:(?![^\W_])|(?<=[\W_]))"
        return [re.compile(before + text + after) for text in texts]


class _Text:
    """A text, its words in the form that is compared, and where each character begins and ends in what was given."""

    def __init__(self, text: str, starts: Sequence[int] | None = None, ends: Sequence[int] | None = None) -> None:
        self.text = text
        self.words = " ".join(map(_folded, _WORD.findall(text)))
        self._starts: Sequence[int] = range(len(text)) if starts is None else starts
        self._ends: Sequence[int] = range(1, len(text) + 1) if ends is None else ends
        self._places: list[tuple[int, int]] | None = None

    def unescaped(self) -> _Text:
        """What it was before it was escaped; itself where nothing is. Escapes in a row are cut out together."""
        pieces: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for match in _ESCAPES.finditer(self.text):
            start, end = match.span()
            meant = _meant(match)
            pieces += [self.text[done:start], meant]
            starts += [*range(done, start), *[start] * len(meant)]
            ends += [*range(done + 1, start + 1), *[end] * len(meant)]
            done = end
        if not done:
            return self
        size = len(self.text)
        return _Text(
            "".join(pieces) + self.text[done:], [*starts, *range(done, size)], [*ends, *range(done + 1, size + 1)]
        )

    def given(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of :attr:`text` is in what was given."""
        return self._starts[start], self._ends[end - 1]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of :attr:`words` is in :attr:`text`; a word that folding made longer or shorter is one part."""
        if self._places is None:
            self._places = self._found_places()
        return self._places[start][0], self._places[end - 1][1]

    def _found_places(self) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for match in _WORD.finditer(self.text):
            start, end = match.span()
            length = len(_folded(match[0]))
            places += [(at, at + 1) for at in range(start, end)] if length == end - start else [(start, end)] * length
            places.append((end, end))  # the space
        return places


def redact(text: str, groups: Iterable[SensitiveValues], replacement: str) -> str:
    """``text`` with ``replacement`` where one of the values was; the very same text where there was none."""
    plain = _Text(text)
    unescaped = plain.unescaped()
    # Both, since a backslash or a percent sign before a value need not be an escape: "C:\names", "50%Beesley".
    texts = [plain] if unescaped is plain else [plain, unescaped]
    pieces: list[str] = []
    done = -1
    for start, end in sorted(span for group in groups for each in texts for span in group.found_in(each)):
        if start > done:
            pieces += [text[max(done, 0) : start], replacement]
        done = max(done, end)
    return "".join(pieces) + text[done:] if pieces else text


def _name_forms(name: str) -> set[str]:
    parts = [part.strip() for part in name.split("^") if part.strip()]
    if len(parts) < 2:
        return set()
    family, given = parts[:2]
    return {*parts, f"{given} {family}", f"{family} {given}", f"{family}{given}", f"{given}{family}"}


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word)
    return "".join(character for character in parts if not unicodedata.combining(character)).casefold()


def _meant(escapes: re.Match[str]) -> str:
    codes = [int(code, 16) for code in _CODE.findall(escapes[0])]
    if escapes["utf16"]:
        return "".join(map(chr, codes)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if escapes["bytes"]:
        try:
            return bytes(codes).decode()
        except UnicodeDecodeError:
            return bytes(codes).decode("latin-1")  # as in "M\xfcller"
    return chr(int(escapes["code_point"], 16)) if escapes["code_point"] else " "


def _is_telling(words: str) -> bool:
    letters = "".join(filter(str.isalnum, words))
    # Without letter case two characters say as much as four of other scripts: most Chinese names have two or three.
    is_caseless = letters.isalpha() and letters.upper() == letters.lower()
    return len(letters) >= (_SHORTEST_CASELESS if is_caseless else SHORTEST)


def _stands_alone(text: _Text, start: int, end: int) -> bool:
    """Whether these words are a value by themselves, and not a part of another word or number."""
    value = text.words[start:end]
    if not value.isascii():
        return True  # other scripts need not part words
    if value.replace(" ", "").isdigit():
        first, last = text.place(start, end)
        before, after = text.text[max(first - 2, 0) : first], text.text[last : last + 2]
        # Nor is it the digits before or after a decimal point.
        is_part = re.search(r"\d[.,]?\Z", before) or re.match(r"[.,]?\d", after)
        return is_part is None or len(value) >= _NUMBER_STANDS_FOR_ITSELF
    is_within = text.words[max(start - 1, 0) : start].isalnum() or text.words[end : end + 1].isalnum()
    return not is_within or len(value) >= _WORD_STANDS_FOR_ITSELF
