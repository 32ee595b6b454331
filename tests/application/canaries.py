"""DICOM files in which every text is a canary, and the search for canaries in whatever form they may take."""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

# What the application needs to read the pixels, or what holds one of a few words of the standard: a canary there
# would make another series of it, not a named one.
FUNCTIONAL = {
    "SpecificCharacterSet", "SOPClassUID", "PhotometricInterpretation", "PresentationLUTShape", "PixelSpacing",
    "ImagerPixelSpacing", "PatientOrientation", "SeriesNumber", "InstanceNumber", "NumberOfFrames", "ImageType",
}  # fmt: skip
GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4008)
TEXTS = ("LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS")
LONGEST = {"SH": 16, "CS": 16, "AE": 16}
_BEGINNING = 6  # bytes by which forms are found quickly
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


class Canaries:
    """Makes texts that occur nowhere else, and remembers them."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}
        """Each canary with where it was put."""

    def text(self, where: str) -> str:
        """Twelve capitals and digits, which no vowel lets be a word."""
        number, letters = len(self.all), ""
        for _ in range(5):
            number, digit = divmod(number * 7 + 3, len(_ALPHABET))
            letters += _ALPHABET[digit]
        return self._kept(f"QZ{letters}{len(self.all):05d}", where)

    def name(self, where: str) -> str:
        """A person's name of two components, the one with letters beyond ASCII."""
        family, given = self.text(where), self.text(where)
        return f"{self._kept(family + 'Äß', where)}^{given}"

    def uid(self, where: str) -> str:
        return self._kept(f"1.2.826.0.1.{7_700_000 + len(self.all)}.{9_900_000 - len(self.all)}", where)

    def date(self, where: str) -> str:
        """A day of the 13th century, of which there is one for each of the first ten thousand canaries."""
        number = len(self.all)
        return self._kept(f"12{number // 336 % 100:02d}{number // 28 % 12 + 1:02d}{number % 28 + 1:02d}", where)

    def time(self, where: str) -> str:
        number = len(self.all)
        return self._kept(f"{number % 23:02d}{number % 59:02d}{number % 57:02d}.{730000 + number:06d}", where)

    def _kept(self, canary: str, where: str) -> str:
        self.all[canary] = where
        return canary


def fill(dataset: FileDataset, canaries: Canaries, where: str) -> None:
    """Give every text element of the usual groups a canary, nested and private ones included."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if tag >> 16 in GROUPS and keyword and keyword not in FUNCTIONAL and not retired:
            value = _value(vr, canaries, f"{where} {keyword}")
            if value is not None:
                dataset.add_new(Tag(tag), vr, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.OtherPatientIDsSequence = Sequence([_nested(canaries, f"{where} nested")])
    block = dataset.private_block(0x0099, canaries.text(f"{where} private creator"), create=True)
    for offset, vr in enumerate(("LO", "PN", "UT", "UI", "DA")):
        value = _value(vr, canaries, f"{where} private {vr}")
        block.add_new(offset, vr, value)
    block.add_new(9, "UN", canaries.text(f"{where} private UN").encode())


def _nested(canaries: Canaries, where: str) -> Dataset:
    item = Dataset()
    item.PatientID, item.IssuerOfPatientID = canaries.text(f"{where} ID"), canaries.text(f"{where} issuer")
    return item


def _value(vr: str, canaries: Canaries, where: str) -> str | None:
    if vr == "PN":
        return canaries.name(where)
    if vr in TEXTS:
        return canaries.text(where)
    makers = {"UI": canaries.uid, "DA": canaries.date, "TM": canaries.time}
    return makers[vr](where) if vr in makers else None


def forms(canary: str) -> Iterator[bytes]:
    """Every form in which a text may turn up: as it is, in percents, in base64 at each offset, in JSON, in markup."""
    for text in {canary, canary.lower(), canary.upper(), canary.title()}:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.encode("latin-1", "ignore")
        yield json.dumps(text)[1:-1].encode()
        yield repr(text)[1:-1].encode()
        yield html.escape(text).encode()
        for percents in (quote(text), quote(text, safe=""), quote_plus(text)):
            yield percents.encode()
            yield percents.lower().encode()
    yield canary.encode().hex().encode()
    yield canary.encode().hex().upper().encode()
    yield from _base64_forms(canary.encode())


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """What stays the same of the encoded text wherever it begins in what was encoded."""
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * offset + data)
            yield encoded[4 if offset else 0 : len(encoded) - 4]


class Search:
    """Looks for canaries; made once, since there are thousands of forms."""

    def __init__(self, canaries: Iterable[str]) -> None:
        self._forms: dict[bytes, str] = {}
        for canary in canaries:
            for form in forms(canary):
                if len(form) >= _BEGINNING:
                    self._forms.setdefault(form, canary)
        self._by_start: dict[bytes, list[bytes]] = {}
        for form in self._forms:
            self._by_start.setdefault(form[:_BEGINNING], []).append(form)

    def found_in(self, haystack: bytes) -> set[str]:
        """The canaries that are somewhere in it, also within what was compressed."""
        found: set[str] = set()
        for text in (haystack, *_unpacked(haystack)):
            beginnings = {text[index : index + _BEGINNING] for index in range(len(text))}
            for start in beginnings & self._by_start.keys():
                found |= {self._forms[form] for form in self._by_start[start] if _is_in(form, text)}
        return found


def _is_in(form: bytes, text: bytes) -> bool:
    """A date is only digits, and any eight digits are somewhere within a long number: it must stand by itself."""
    if form.isdigit():
        return re.search(rb"(?<![\d.])" + form + rb"(?![\d.])", text) is not None
    return form in text


def _unpacked(haystack: bytes) -> Iterator[bytes]:
    """What gzip and zlib streams within it hold."""
    for magic, unpack in ((b"\x1f\x8b\x08", _gunzip), (b"\x78\x01", _inflate), (b"\x78\x9c", _inflate)):
        start = haystack.find(magic)
        while start >= 0:
            yield unpack(haystack[start : start + 1_000_000])
            start = haystack.find(magic, start + 1)


def _gunzip(data: bytes) -> bytes:
    return _inflate(data, wbits=31)


def _inflate(data: bytes, wbits: int = 15) -> bytes:
    try:
        return zlib.decompressobj(wbits).decompress(data, 1_000_000)
    except zlib.error:
        return b""


def bytes_of(folder: Path) -> bytes:
    """Every file in a folder with its name."""
    return b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in folder.rglob("*") if path.is_file())
