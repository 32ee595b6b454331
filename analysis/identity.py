"""What names a series' patient and study: every text of its files' headers, and the files' own names.

For a log filter: these are the texts that no line about the series may hold. Whatever a file is, nothing is
raised, and what can't be parsed is searched for text byte by byte.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID

from analysis.dicom_file import MOST_BYTES, quiet_dicom, read_dicom
from analysis.files import read_file

_NO_TEXT: Final = frozenset({"AT", "FD", "FL", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV"})
_MAYBE_TEXT: Final = frozenset({"OB", "UN"})
_LARGEST_VALUE: Final = 64 * 1024
_LONGEST_TEXT: Final = 4096
_SEARCHED: Final = 256 * 1024
"""Bytes of a file that can't be parsed: headers come first."""
_PADDING: Final = string.whitespace + "\0"
_DELIMITERS: Final = set(b"\r\n\t\f\\^=")
_RUN: Final = re.compile(rb"[ -~\x80-\xff]{4,}")
_RUN_IN_BYTES: Final = re.compile(rb"[ -~]{6,}")
_ID_LIKE: Final = re.compile(r"\d+\.\d+\.\d+|\d{6}")
_NUMBER: Final = re.compile(r"[+-]?\d{1,5}|[+-]?\d*\.\d*([eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")
# Words of the standard's defined terms (PS3.3), of every radiograph's description, and of this application's log:
# they name nobody, and a log without them says nothing.
_WORDS: Final = """
abdomen ankle anterior ap application arm axial bilateral body bone both calibrated cassette chest clavicle column
completed computed contrast cr cranial cspine default derived detector diagnostic dicom digital direct distal dx
elbow erect error exam extremity face failed false femur file files film flat foot frontal full generation hand
head hfs hip hips horizontal hu humerus id identity image images inference info inverse ir iso knee knees
landscape lateral left leg legs length lengths limb linear load long lower lspine lumbar lut manual max measured
measurement medial median mixed modality monitoring mono monochrome1 monochrome2 multi no none normal oblique only
original other overview pa patient pelvis phantom portrait position post posterior presentation primary processed
processing projection protocol radiograph radiography raw reason rescale right rotated row scan scout secondary
sequence series session sessions shoulder side sigmoid single skipped skull spine stage standard standing static
stitched study supine table tall test the thorax tibia total true tspine tube unknown unpaired unspecified upper
us vertical view warning weight wholebody wrist xray yes
"""
_EVERYBODYS: Final = frozenset(_WORDS.split())


def identifying_texts(files: Iterable[Path]) -> set[str]:
    """The texts of the files' names and headers that may tell whose they are; names of persons as DICOM parts them."""
    found: set[str] = set()
    with quiet_dicom():
        for path in files:
            found.update(_of_name(path), _of_file(path))
    return {text.strip(_PADDING) for text in found} - {""}


def _of_name(path: Path) -> Iterator[str]:
    yield path.name
    yield path.stem
    for part in path.stem.split("#"):
        yield part
        yield from (word for word in re.split(r"[\s_,-]+", part) if not _is_everybodys(word))
    yield from (folder for folder in path.parent.parts if _ID_LIKE.search(folder) or "^" in folder)


def _of_file(path: Path) -> set[str]:
    try:
        header = read_dicom(path, with_pixels=False).dataset
        return {*_of_dataset(header, ["iso8859"]), *_of_dataset(header.file_meta, ["iso8859"])}
    except Exception:  # a damaged header may raise anything as its values are decoded
        return _of_bytes_of(path)


def _of_bytes_of(path: Path) -> set[str]:
    try:
        runs = [_shown(run) for run in _RUN.findall(read_file(path, MOST_BYTES)[:_SEARCHED])]
    except OSError:
        return set()
    # What follows a value, the next tag's first byte, may be a character too.
    return {text for run in runs for text in (run, run[:-1], *run.split("\\"))}


def _of_dataset(dataset: Dataset, outer: Sequence[str]) -> Iterator[str]:
    known = dataset.original_character_set or outer
    encodings = [known] if isinstance(known, str) else list(known)
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag, keep_deferred=True)
        vr, value = _representation(element), element.value
        if vr == "SQ":
            yield from _of_sequence(dataset, tag, value, encodings)
        elif isinstance(value, bytes):
            yield from _of_bytes(vr, value, encodings)
        elif vr not in _NO_TEXT and value is not None:  # pydicom has converted it, as it does with the character set
            yield from _of_text(vr, "\\".join(map(str, value)) if isinstance(value, list) else str(value))


def _representation(element: Any) -> str:
    """An element's VR, from the dictionary where the file doesn't tell it."""
    if element.VR is not None:
        return str(element.VR)
    try:
        return dictionary_VR(element.tag).split(" ")[0]
    except KeyError:
        return "UN"


def _of_sequence(dataset: Dataset, tag: Any, value: Any, encodings: Sequence[str]) -> Iterator[str]:
    try:
        items = list(dataset[tag].value)
    except Exception:  # a damaged sequence
        yield from _of_bytes("UN", value if isinstance(value, bytes) else b"", encodings)
        return
    for item in items:
        yield from _of_dataset(item, encodings)


def _of_bytes(vr: str, value: bytes, encodings: Sequence[str]) -> Iterator[str]:
    if vr in _NO_TEXT or len(value) > _LARGEST_VALUE:
        return
    value = value.strip(b" \0")
    if vr in _MAYBE_TEXT:
        yield from map(_shown, _RUN_IN_BYTES.findall(value))
        if not _shown(value).isprintable():
            return
    yield from (text for decoded in _decoded(value, encodings) for text in _of_text(vr, decoded))


def _decoded(value: bytes, encodings: Sequence[str]) -> set[str]:
    """The text as declared, and as it is if the declaration is wrong."""
    found = {_shown(value)} if value.isascii() else {_shown(value), value.decode("latin-1")}
    try:
        return found | {decode_bytes(value, encodings, _DELIMITERS)}
    except (LookupError, ValueError):
        return found


def _shown(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _of_text(vr: str, text: str) -> Iterator[str]:
    """A text and its parts, without what says nothing of anybody."""
    text = text[:_LONGEST_TEXT]
    for part in {text, *text.split("\\"), *text.splitlines()}:
        if vr == "PN":
            yield from _of_person(part)
        elif not _is_harmless(vr, part.strip(_PADDING)):
            yield part
            yield from (word for word in part.split() if _ID_LIKE.search(word))
            if vr in ("DA", "DT"):
                yield from _dates(part)


def _of_person(name: str) -> Iterator[str]:
    yield name
    for group in name.split("="):
        yield group
        yield from re.split(r"[\^\s,]+", group)


def _dates(text: str) -> Iterator[str]:
    """A date as people and programs write it."""
    if match := re.match(r"(\d{4})\.?(\d\d)\.?(\d\d)", text.strip()):
        year, month, day = match.groups()
        yield from (f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}")
        yield from (f"{day}{month}{year}", f"{year}, {int(month)}, {int(day)}")


def _is_harmless(vr: str, text: str) -> bool:
    if vr in ("DS", "IS"):
        return all(_NUMBER.fullmatch(number.strip(_PADDING)) for number in text.split("\\"))
    return UID(text).type != "" if vr == "UI" else _is_everybodys(text)


def _is_everybodys(text: str) -> bool:
    """Whether each word of it could stand in the header of any radiograph; of numbers one short one."""
    words = re.findall(r"[^\W_]+", text.lower())
    others = [word for word in words if word not in _EVERYBODYS]
    return len(others) < len(words) and re.fullmatch(r"(\d{1,3})?", " ".join(others)) is not None
