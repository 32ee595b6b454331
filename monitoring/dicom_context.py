"""What a DICOM header says of an image that identifies nobody: an allow-list, not a scrubbed copy.

Attribute names and value forms are those of DICOM PS3.3 and PS3.5. Everything else in the header is
never read into a variable that outlives the call.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

from monitoring import coerce

_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_AGE_BANDS = ((2, "0-1"), (5, "2-4"), (9, "5-8"), (13, "9-12"), (18, "13-17"))
_BODY_PARTS = {
    "LEG",
    "EXTREMITY",
    "KNEE",
    "HIP",
    "ANKLE",
    "FEMUR",
    "TIBIA",
    "LOWER LIMB",
    "PELVIS",
    "CHEST",
    "WHOLEBODY",
}


def read_context(path: Any) -> dict[str, str | float]:
    """The context of the image in ``path``; empty when it can't be read, or pydicom is not installed."""
    try:
        from pydicom import dcmread
    except ImportError:
        return {}
    try:
        # These tags only: pydicom logs the values that it finds odd, such as an image's UID.
        header = dcmread(Path(path), stop_before_pixels=True, specific_tags=list(_TAGS))
    except _unreadable():
        return {}
    return context(header)


def _unreadable() -> tuple[type[Exception], ...]:
    """What pydicom raises for broken files and values."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        BytesLengthException, InvalidDicomError, ArithmeticError, AttributeError, EOFError, LookupError, OSError,
        RuntimeError, TypeError, ValueError, struct.error, zlib.error,
    )  # fmt: skip


_OLDEST_TOLD = 90  # older ages identify by themselves (45 CFR 164.514): they are kept as this one
_OLDEST_BELIEVED = 120
_TAGS = (
    "PatientAge", "PatientSex", "BodyPartExamined", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing",
)  # fmt: skip


def context(header: Any) -> dict[str, str | float]:
    """``header`` is a pydicom Dataset. Ages are completed years (90 for all above), spacings mm, sizes pixels."""
    found: dict[str, str | float | None] = {
        **_age(str(_value(header, "PatientAge") or "")),
        "sex": _one_of(_value(header, "PatientSex"), {"M", "F", "O"}),
        "body_part": _one_of(_value(header, "BodyPartExamined"), _BODY_PARTS),
        "rows": _positive(_value(header, "Rows")),
        "columns": _positive(_value(header, "Columns")),
        **(_spacing(_value(header, "PixelSpacing")) or _spacing(_value(header, "ImagerPixelSpacing"))),
    }
    return {key: value for key, value in found.items() if value is not None}


def _value(header: Any, keyword: str) -> Any:
    """A value is converted when it is asked for, so that each may fail for itself."""
    try:
        return header.get(keyword)
    except _unreadable():
        return None


def _positive(value: Any) -> float | None:
    number = coerce.finite_float(value)
    return number if number is not None and number > 0 else None


def _age(text: str) -> dict[str, str | float | None]:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return {}
    years = int(int(match[1]) * _YEARS_PER_UNIT[match[2]])
    if years > _OLDEST_BELIEVED:
        return {}
    years = min(years, _OLDEST_TOLD)
    band = next((band for limit, band in _AGE_BANDS if years < limit), "18+")
    return {"age_years": float(years), "age_band": band}


def _one_of(value: Any, allowed: set[str]) -> str | None:
    text = str(value or "").strip().upper()
    return text if text in allowed else None


def _spacing(value: Any) -> dict[str, str | float | None]:
    numbers = coerce.finite_floats(value)
    if len(numbers) != 2 or min(numbers) <= 0:
        return {}
    return {"row_spacing_mm": numbers[0], "column_spacing_mm": numbers[1]}
