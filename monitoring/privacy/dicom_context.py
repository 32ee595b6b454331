"""What a DICOM header says of an image that identifies nobody: an allow-list, not a scrubbed copy.

Attribute names and value forms are those of DICOM PS3.3 and PS3.5. Everything else in the header is
never read into a variable that outlives the call.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring.privacy import dicom_reading
from monitoring.privacy.dicom_reading import text, value
from monitoring.privacy.radiography_devices import device_model, manufacturer
from monitoring.records import coerce

if TYPE_CHECKING:
    from monitoring.privacy.pseudonyms import Pseudonymizer
    from monitoring.settings import PrivacyConfig

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


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is kept of a header: ``context``, and the keyed hashes ``study_key``, ``patient_key``, ``accession_key``."""

    context: dict[str, str | float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def read_image(path: Any, pseudonyms: Pseudonymizer, privacy: PrivacyConfig) -> ImageFacts:
    """The facts of the image in ``path``, read once; empty when it can't be read, or pydicom is not installed."""
    with dicom_reading.silence():
        header = dicom_reading.read_header(path, _ATTRIBUTES)
        if header is None:
            return ImageFacts()
        return ImageFacts(context(header, privacy), _keys(header, pseudonyms, privacy))


_OLDEST_TOLD = 90  # older ages identify by themselves (45 CFR 164.514): they are kept as this one
_OLDEST_BELIEVED = 120
_IDENTIFIERS = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "AccessionNumber")
_ATTRIBUTES = (
    "PatientAge", "PatientSex", "BodyPartExamined", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing",
    "Manufacturer", "ManufacturerModelName", *_IDENTIFIERS,
)  # fmt: skip


def context(header: Any, privacy: PrivacyConfig | None = None) -> dict[str, str | float]:
    """``header`` is a pydicom Dataset. Ages are completed years (90 for all above), spacings mm, sizes pixels.

    Without ``privacy`` all that its settings can leave out is there.
    """
    found: dict[str, str | float | None] = {
        **_age(str(value(header, "PatientAge") or ""), privacy.age if privacy else "years"),
        "sex": _one_of(value(header, "PatientSex"), {"M", "F", "O"}),
        "body_part": _one_of(value(header, "BodyPartExamined"), _BODY_PARTS),
        "rows": _positive(value(header, "Rows")),
        "columns": _positive(value(header, "Columns")),
        **(_spacing(value(header, "PixelSpacing")) or _spacing(value(header, "ImagerPixelSpacing"))),
        **(_device(header) if privacy is None or privacy.device else {}),
    }
    return {key: value for key, value in found.items() if value is not None}


def _keys(header: Any, pseudonyms: Pseudonymizer, privacy: PrivacyConfig) -> dict[str, str]:
    uid, patient, issuer, accession = (text(header, keyword) for keyword in _IDENTIFIERS)
    found = {
        "study_key": pseudonyms.study(uid),
        "patient_key": pseudonyms.patient(patient, issuer) if privacy.patient_key else "",
        "accession_key": pseudonyms.accession(accession),
    }
    return {name: key for name, key in found.items() if key}


def _device(header: Any) -> dict[str, str | float | None]:
    maker, model = text(header, "Manufacturer").strip(), text(header, "ManufacturerModelName").strip()
    return {
        "manufacturer": manufacturer(maker) if maker else None,
        "device_model": device_model(maker, model) if model else None,
    }


def _positive(found: Any) -> float | None:
    number = coerce.finite_float(found)
    return number if number is not None and number > 0 else None


def _age(age: str, told: str) -> dict[str, str | float | None]:
    match = _AGE.fullmatch(age.strip())
    if match is None or told == "none":
        return {}
    years = int(int(match[1]) * _YEARS_PER_UNIT[match[2]])
    if years > _OLDEST_BELIEVED:
        return {}
    years = min(years, _OLDEST_TOLD)
    band = next((band for limit, band in _AGE_BANDS if years < limit), "18+")
    return {"age_years": float(years) if told == "years" else None, "age_band": band}


def _one_of(found: Any, allowed: set[str]) -> str | None:
    term = str(found or "").strip().upper()
    return term if term in allowed else None


def _spacing(found: Any) -> dict[str, str | float | None]:
    numbers = coerce.finite_floats(found)
    if len(numbers) != 2 or min(numbers) <= 0:
        return {}
    return {"row_spacing_mm": numbers[0], "column_spacing_mm": numbers[1]}
