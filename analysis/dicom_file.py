"""One DICOM file from its bytes to a dataset and back, within bounds and with what is broken about it said.

Every DICOM file of the application is read here, so that no file can block, exhaust memory, or pass for whole
when it breaks off. What the dataset means is `dicom`'s business.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from analysis.errors import SeriesFailed
from analysis.files import FileTooLarge, read_file

MOST_PIXELS: Final = 100_000_000
"""Four times a film of 43 x 120 cm at 0.14 mm."""
MOST_BYTES: Final = 5 * MOST_PIXELS
"""Of a file, and of what it inflates to: the largest image with 4 bytes a pixel, and its header."""
_META_STARTS_AT: Final = 132
_META_GROUP: Final = 0x0002
_PIXEL_GROUP: Final = 0x7FE0
_PIXEL_TAG_BEGINS: Final = (b"\xe0\x7f", b"\x7f\xe0")
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_TAG_AND_LENGTH_BYTES: Final = 8
_MOST_HEADER_BYTES: Final = 1 << 24
_DEFLATED: Final = DeflatedExplicitVRLittleEndian.encode()
_EXPLICIT: Final = ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0")
_LIBRARIES: Final = ("pydicom", "highdicom")


@dataclass(frozen=True)
class DicomFile:
    """What one file held."""

    dataset: FileDataset
    breaks_off: bool
    """The file ended within an element, other than that of its pixels."""
    has_pixels: bool
    """There is an element with pixels, whole or not."""


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Keep the DICOM libraries' warnings and log lines away: they quote values of the header."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def mute_dicom() -> None:
    """Keep them away for the rest of the process, wherever the libraries are used."""
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=rf"{name}(\.|\Z)")


def read_dicom(path: Path, *, with_pixels: bool = True) -> DicomFile:
    """Read a file as far as it goes; raises `SeriesFailed` where that gives no dataset.

    A deflated file is inflated, and its dataset then says Explicit VR Little Endian.
    """
    try:
        content = _inflated(read_file(path, MOST_BYTES))
        stream = _Stream(content)
        dataset = pydicom.dcmread(stream, stop_before_pixels=True)
        breaks_off = stream.fell_short or _is_cut(dataset)
        has_pixels = content[stream.tell() : stream.tell() + 2] in _PIXEL_TAG_BEGINS
        if with_pixels and has_pixels:
            dataset = pydicom.dcmread(io.BytesIO(content))
    except FileTooLarge:
        raise SeriesFailed("image_too_large") from None
    except InvalidDicomError:
        raise SeriesFailed("not_dicom") from None
    except Exception:  # a damaged header may raise anything out of the parser
        raise SeriesFailed("unreadable") from None
    return DicomFile(dataset, breaks_off and not has_pixels, has_pixels)


class _Stream(io.BytesIO):
    """Notes whether it ended within something that was being read: pydicom takes the rest for the whole."""

    fell_short = False

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        # At a clean end pydicom looks for one more element's tag and length, and finds nothing.
        if size is not None and len(part) < size and (part or size != _TAG_AND_LENGTH_BYTES):
            self.fell_short = True
        return part


def _is_cut(dataset: Dataset) -> bool:
    """Whether a value is shorter than it says, or nothing is left: an end within a sequence loses all of it."""
    elements = list(dataset.values())
    return not elements or any(
        isinstance(element, RawDataElement)
        and isinstance(element.value, bytes)
        and len(element.value) < element.length < _UNDEFINED_LENGTH
        for element in elements
    )


def _inflated(content: bytes) -> bytes:
    """The file's bytes, inflated where they are deflated; raises `FileTooLarge`.

    pydicom inflates without a bound, and ten megabytes can become ten gigabytes. Here the header, which comes first,
    says how much its pixels may take.
    """
    stream = io.BytesIO(content)
    stream.seek(_META_STARTS_AT)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return content
    start = stream.tell()
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    header = inflate.decompress(content[start:], _MOST_HEADER_BYTES)
    allowed = _MOST_HEADER_BYTES + stated_bytes(
        read_dataset(io.BytesIO(header), False, True, stop_when=lambda tag, _vr, _length: tag.group == _PIXEL_GROUP)
    )
    pixels = inflate.decompress(inflate.unconsumed_tail, min(allowed, MOST_BYTES))
    if inflate.unconsumed_tail:
        raise FileTooLarge(errno.EFBIG, "inflates to more than its header says")
    return content[:start].replace(_DEFLATED, _EXPLICIT) + header + pixels


def dicom_bytes(dataset: Dataset) -> bytes:
    """A dataset as the bytes of a DICOM file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def stated_bytes(dataset: Dataset) -> int:
    """The size of an image's pixels by its header; 0 where it states none."""
    bits = [whole_number(dataset, keyword, 1) for keyword in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")]
    return max(math.prod(bits), 0) * whole_number(dataset, "BitsAllocated", 16) // 8


def value_of(dataset: Dataset, keyword: str) -> Any:
    """An attribute's value; None where it is absent or empty, () where it can't be decoded."""
    try:
        value = dataset.get(keyword)
        return None if value is None or value in ("", []) else value
    except Exception:  # a damaged value may raise anything when it is decoded
        return ()


def whole_number(dataset: Dataset, keyword: str, default: int) -> int:
    """An attribute's value as an int; the default where it is absent or not one number."""
    value = value_of(dataset, keyword)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def number(dataset: Dataset, keyword: str, default: float) -> float:
    """The same as a finite float."""
    value = value_of(dataset, keyword)
    try:
        found = default if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return found if math.isfinite(found) else default
