"""What is read of a DICOM header: facts of an image that identify nobody, by an allow-list, and keyed hashes.

Attribute names and value forms are those of DICOM PS3.3 and PS3.5. Whatever is in the file, nothing is raised and
nothing is said: pydicom warns of the values that it finds odd, and logs them, by quoting them. How an identifier
becomes a hash is pseudonyms.py's; which words a device may have is radiography_devices.py's.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from msgspec import Struct

from monitoring.metrics.catalogue import AGE_BAND, OTHER
from monitoring.privacy.radiography_devices import VENDORS, device_model, manufacturer
from monitoring.records import coerce
from monitoring.transport.small_files import open_file

if TYPE_CHECKING:
    from monitoring.privacy.pseudonyms import Pseudonymizer
    from monitoring.settings import PrivacyConfig

_IDENTIFIERS = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "AccessionNumber")
_ATTRIBUTES = (
    "PatientAge", "PatientSex", "BodyPartExamined", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing",
    "Manufacturer", "ManufacturerModelName", *_IDENTIFIERS,
)  # fmt: skip
_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_AGE_LIMITS = (2, 5, 9, 13, 18)
_OLDEST_TOLD = 90  # older ages identify by themselves (45 CFR 164.514): they are kept as this one
_OLDEST_BELIEVED = 120
_SEXES = frozenset({"M", "F", "O"})
_BODY_PARTS = frozenset(
    {"LEG", "EXTREMITY", "KNEE", "HIP", "ANKLE", "FEMUR", "TIBIA", "LOWER LIMB", "PELVIS", "CHEST", "WHOLEBODY"}
)
_NUMBERS = {
    "age_years": _OLDEST_TOLD, "rows": 65_535, "columns": 65_535, "row_spacing_mm": 1e3, "column_spacing_mm": 1e3,
}  # fmt: skip
_TERMS: Mapping[str, Collection[str | float]] = {
    "age_band": AGE_BAND.values, "sex": _SEXES, "body_part": _BODY_PARTS,
    "manufacturer": (*(vendor.name for vendor in VENDORS), OTHER),
    "device_model": (*(family for vendor in VENDORS for family in vendor.families), OTHER),
}  # fmt: skip
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_PADDING = b" \0"  # DICOM PS3.5, 6.2
_META_STARTS_AT, _META_GROUP, _MOST_META_BYTES = 132, 0x0002, 4096  # DICOM PS3.10, 7.1
_MOST_HEADER_BYTES = 1 << 24
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")


class ImageFacts(Struct, frozen=True):
    """What is kept of a header: ``context``, and the keyed hashes ``study_key``, ``patient_key``, ``accession_key``."""

    context: dict[str, str | float] = {}
    keys: dict[str, str] = {}


def read_image(path: Any, pseudonyms: Pseudonymizer, privacy: PrivacyConfig) -> ImageFacts:
    """The facts of the image in ``path``, read once; empty when it can't be read, or pydicom is not installed."""
    with quiet_pydicom():
        header = read_header(path, _ATTRIBUTES)
        if header is None:
            return ImageFacts()
        uid, patient, issuer, accession = (text_of(header, keyword) for keyword in _IDENTIFIERS)
        keys = {
            "study_key": pseudonyms.study(uid),
            "patient_key": pseudonyms.patient(patient, issuer) if privacy.patient_key else "",
            "accession_key": pseudonyms.accession(accession),
        }
        return ImageFacts(context(header, privacy), {name: key for name, key in keys.items() if key})


def context(header: Any, privacy: PrivacyConfig | None = None) -> dict[str, str | float]:
    """``header`` is a pydicom Dataset. Ages are completed years (90 for all above), spacings mm, sizes pixels.

    Without ``privacy`` all that its settings can leave out is there.
    """
    found: dict[str, str | float | None] = {
        **_age(str(value_of(header, "PatientAge") or ""), privacy.age if privacy else "years"),
        "sex": _one_of(value_of(header, "PatientSex"), _SEXES),
        "body_part": _one_of(value_of(header, "BodyPartExamined"), _BODY_PARTS),
        "rows": _positive(value_of(header, "Rows")),
        "columns": _positive(value_of(header, "Columns")),
        # The imager's spacing is at the detector, not corrected for magnification (PS3.3, 10.7.1.3): second choice.
        **(_spacing(value_of(header, "PixelSpacing")) or _spacing(value_of(header, "ImagerPixelSpacing"))),
    }
    if privacy is None or privacy.device:
        maker, model = (text_of(header, keyword).strip() for keyword in ("Manufacturer", "ManufacturerModelName"))
        found["manufacturer"] = manufacturer(maker) if maker else None
        found["device_model"] = device_model(maker, model) if model else None
    return {name: fact for name, fact in found.items() if fact is not None}


def is_context(name: str, fact: str | float) -> bool:
    """Whether :func:`context` could have found this fact, in whatever header."""
    if name in _NUMBERS:
        number = coerce.finite_float(fact)
        return number is not None and 0 <= number <= _NUMBERS[name] and (number > 0 or name == "age_years")
    return fact in _TERMS.get(name, ())


def _age(age: str, told: str) -> dict[str, str | float | None]:
    match = _AGE.fullmatch(age.strip())
    if match is None or told == "none":
        return {}
    years = int(int(match[1]) * _YEARS_PER_UNIT[match[2]])
    if years > _OLDEST_BELIEVED:
        return {}
    years = min(years, _OLDEST_TOLD)
    band = AGE_BAND.values[bisect_right(_AGE_LIMITS, years)]
    return {"age_years": float(years) if told == "years" else None, "age_band": band}


def _one_of(found: Any, allowed: frozenset[str]) -> str | None:
    term = str(found or "").strip().upper()
    return term if term in allowed else None


def _positive(found: Any) -> float | None:
    number = coerce.finite_float(found)
    return number if number is not None and number > 0 else None


def _spacing(found: Any) -> dict[str, str | float | None]:
    numbers = coerce.finite_floats(found)
    if len(numbers) != 2 or min(numbers) <= 0:
        return {}
    return {"row_spacing_mm": numbers[0], "column_spacing_mm": numbers[1]}


# Reading, for every file that is read ------------------------------------------------------------


def read_header(path: Any, keywords: Sequence[str]) -> Any:
    """The pydicom Dataset of these attributes of the file; None when it can't be read, or pydicom isn't installed."""
    try:
        from pydicom import dcmread
    except ImportError:
        return None
    try:
        with open_file(Path(path)) as file:
            return dcmread(_inflated(file), stop_before_pixels=True, specific_tags=list(keywords))
    except _unreadable():
        return None


def _inflated(file: BinaryIO) -> BinaryIO:
    """The file; of a deflated one its header alone, inflated: pydicom inflates all, ten megabytes to ten gigabytes."""
    from pydicom.filereader import read_dataset

    beginning = file.read(_META_STARTS_AT + _MOST_META_BYTES)
    file.seek(0)
    if _DEFLATED not in beginning:
        return file
    stream = BytesIO(beginning)
    stream.seek(_META_STARTS_AT)
    read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP)
    file.seek(stream.tell())
    header = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_MOST_HEADER_BYTES), _MOST_HEADER_BYTES)
    return BytesIO(beginning[: stream.tell()].replace(_DEFLATED, _EXPLICIT) + header)


def value_of(header: Any, keyword: str) -> Any:
    """An attribute's value in its type, converted when it is asked for, so that each may fail for itself."""
    try:
        return header.get(keyword)
    except _unreadable():
        return None


def text_of(header: Any, keyword: str) -> str:
    """An attribute's text as it lies in the file, whatever pydicom thinks of it; "" where there is none."""
    from pydicom.datadict import tag_for_keyword

    try:
        element = header.get_item(tag_for_keyword(keyword))
    except _unreadable():
        return ""
    found = getattr(element, "value", None)
    if isinstance(found, bytes):
        return _decoded(found.strip(_PADDING), header)
    return "" if found is None else coerce.shown(found) or ""


def _decoded(found: bytes, header: Any) -> str:
    from pydicom.charset import decode_bytes

    known = header.original_character_set
    try:
        shown = decode_bytes(found, [known] if isinstance(known, str) else list(known), set())
    except _unreadable():
        shown = _REPLACED
    # What doesn't fit its declared character set is taken byte for byte, so that no two values read the same.
    return found.decode("latin-1") if _REPLACED in shown else shown


def _unreadable() -> tuple[type[Exception], ...]:
    """What pydicom raises for broken files and values; a function, since pydicom is loaded for the first image only."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        BytesLengthException, InvalidDicomError, ArithmeticError, AttributeError, EOFError, LookupError, OSError,
        RuntimeError, TypeError, ValueError, struct.error, zlib.error,
    )  # fmt: skip


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings away meanwhile, and its log lines of this thread.

    Not by ``warnings.catch_warnings``: of two threads in it, the last to leave brings back the other's filters.
    """
    thread = threading.get_ident()

    def is_of_another_thread(_record: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    rule = ("ignore", None, Warning, re.compile(r"pydicom(\.|\Z)"), 0)
    logger = logging.getLogger("pydicom")
    before = cast(list[Any], warnings.filters)
    before.insert(0, rule)
    logger.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another_thread)
        # A host's catch_warnings may have put a copy in its place meanwhile: the rule goes from both.
        for rules in (before, cast(list[Any], warnings.filters)):
            with suppress(ValueError):
                rules.remove(rule)
