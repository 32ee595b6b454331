"""What the writers have in common: the content of a report, and the patient's and study's header.

DICOM outputs belong to the patient, so the header is copied. Inputs with a missing or invalid
header are common enough that every value is checked and, where the standard wants one, filled in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from analysis.dicom import Radiograph
from analysis.dicom_file import value_of
from analysis.landmarks import Landmark
from analysis.measurements import (
    BONE_WORDS,
    DEFINITION,
    MEASUREMENTS,
    NOTICE,
    Issue,
    Measurements,
    left_right_difference_mm,
)
from analysis.settings import AnalysisSettings

MANUFACTURER: Final = "Leg length analysis"
MODEL_NAME: Final = "leglength"
SOFTWARE_VERSION: Final = "0.1.0"
UID_KEY_VARIABLE: Final = "LEGLENGTH_UID_KEY"
CHARACTER_SET: Final = "ISO_IR 192"
_LARGEST_SERIES_NUMBER: Final = 2**31 - 1
_LONGEST = {"PatientName": 64, "PatientID": 64, "AccessionNumber": 16, "StudyID": 16}
_LONGEST_DEFAULT: Final = 64
_TEXTS: Final = (*_LONGEST, "StudyDescription", "ReferringPhysicianName", "IssuerOfPatientID")
_FORMATS: Final = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": r"[FMO]",
    "PatientAge": r"\d{3}[DWMY]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "BurnedInAnnotation": r"YES|NO",
}
# Type 2 attributes: present even when nothing is known.
_REQUIRED: Final = (
    *_LONGEST,
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_PLAIN_DX: Final = "1.2.840.10008.5.1.4.1.1.1.1"


@dataclass(frozen=True)
class ReportContent:
    """Everything that the outputs of one series are made from."""

    radiograph: Radiograph
    header: Dataset
    """From `source_header`: the input's identity, checked; it names the series' study."""
    settings: AnalysisSettings
    models: tuple[str, ...]
    landmarks: Mapping[int, Landmark]
    measurements: Measurements
    issues: list[Issue]
    image_metrics: Mapping[str, Any]

    @property
    def missing(self) -> list[str]:
        """The measurements that could not be taken."""
        return [name for name in MEASUREMENTS if name not in self.measurements]

    @property
    def differences_mm(self) -> dict[str, float | None]:
        """Right minus left by bone: FEM, TIB and LGL."""
        return {bone: left_right_difference_mm(self.measurements, bone) for bone in BONE_WORDS}

    def flags(self, name: str) -> list[Issue]:
        """The issues of one measurement."""
        return [issue for issue in self.issues if issue.get("measurement") == name]

    @property
    def implausible(self) -> list[str]:
        """The measurements that no leg can have."""
        return [name for name in MEASUREMENTS if any(issue["severity"] == "hard" for issue in self.flags(name))]

    @property
    def statements(self) -> list[str]:
        """What a reader of any output has to know beside the numbers, in sentences."""
        radiograph = self.radiograph
        return [f"{NOTICE}.", radiograph.orientation.words, radiograph.stated_spacing.words, DEFINITION]

    def uid(self, *role: str) -> UID:
        """The UID of one thing that is made of this image: the same whenever it is made again."""
        return derived_uid(self.header.SOPInstanceUID, *role)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the outputs say: outputs that say something else are other instances."""
        said = {
            "version": SOFTWARE_VERSION,
            "settings": asdict(self.settings),
            "models": self.models,
            "lengths": {name: round(length["millimeters"], 2) for name, length in self.measurements.items()},
            "landmarks": [
                (mark.label, round(mark.x, 1), round(mark.y, 1), round(mark.confidence, 2), mark.models)
                for mark in self.landmarks.values()
            ],
            "issues": [issue["code"] for issue in self.issues],
            "statements": self.statements,
        }
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def series_number(self, times: int) -> int:
        """The input's SeriesNumber plus `times` the offset, within what DICOM can hold."""
        number = int(self.header.SeriesNumber) + times * self.settings.series_offset
        return min(max(number, 1), _LARGEST_SERIES_NUMBER)


def derived_uid(*parts: str) -> UID:
    """The UID that belongs to these parts: a keyed hash of them as a UUID (DICOM PS3.5, B.2; RFC 9562, version 8)."""
    key = os.environ.get(UID_KEY_VARIABLE, "").encode(errors="surrogateescape") or b"leglength"
    digest = bytearray(hmac.digest(key, "\0".join(parts).encode(errors="surrogatepass"), "sha256")[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
    return UID(f"2.25.{int.from_bytes(digest, 'big')}")


_ISSUE_WORDS: Final = {
    "measurement_missing": "not measured",
    "femur_length_difference": "right and left differ by more than the threshold",
    "tibia_length_difference": "right and left differ by more than the threshold",
    "leg_length_difference": "right and left differ by more than the threshold",
    "length_implausible": "implausible, no leg can have this length",
    "femur_to_tibia_implausible": "implausible, no leg has this ratio of femur to tibia",
    "landmarks_upside_down": "implausible, the landmarks are upside down",
    "sides_crossed": "implausible, landmarks of right and left are crossed",
    "orientation_assumed": "right and left are assumed, not stated",
    "orientation_mapped": "the image was stored mirrored or turned",
    "spacing_at_detector": "pixel spacing of the detector, lengths are magnified",
    "spacing_unexplained": "pixel spacing differs from the detector's without an explanation",
    "spacing_plane_unstated": "pixel spacing of an unstated plane, lengths may be magnified",
    "spacing_calibrated": "pixel spacing is calibrated",
}


def issue_words(issue: Issue) -> str:
    """An issue in words, without the measurement that it is about."""
    code = str(issue["code"])
    return _ISSUE_WORDS.get(code, code.replace("_", " "))


def source_header(dataset: Dataset) -> Dataset:
    """The input's patient, study and instance, fit to be referenced and copied from."""
    header = Dataset()
    header.SpecificCharacterSet = CHARACTER_SET
    for keyword in _TEXTS:
        _set_if(header, keyword, _clean_text(_text(dataset, keyword), keyword))
    for keyword, pattern in _FORMATS.items():
        value = _text(dataset, keyword)
        _set_if(header, keyword, value if re.fullmatch(pattern, value) and _is_real(keyword, value) else "")
    for keyword in _REQUIRED:
        if keyword not in header:
            setattr(header, keyword, "")
    _set_references(header, dataset)
    return header


def _set_if(header: Dataset, keyword: str, value: str) -> None:
    if value:
        setattr(header, keyword, value)


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that doesn't fit its type raises on access
        return ""
    # A stray backslash parts a value in two; where one belongs, the parts are put together again.
    parts = value if isinstance(value, MultiValue) else [value]
    return " ".join(str(part) for part in parts if part is not None).strip()


def _clean_text(text: str, keyword: str) -> str:
    """Without control characters, and no longer than the attribute may be."""
    printable = "".join(character for character in text if character.isprintable())
    return printable[: _LONGEST.get(keyword, _LONGEST_DEFAULT)].strip()


def _is_real(keyword: str, value: str) -> bool:
    if not keyword.endswith("Date"):
        return True
    try:
        datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _set_references(header: Dataset, dataset: Dataset) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uid = UID(_text(dataset, keyword))
        setattr(header, keyword, uid if uid.is_valid else derived_uid(keyword, uid, _pixels_hash(dataset)))
    sop_class = UID(_text(dataset, "SOPClassUID"))
    header.SOPClassUID = sop_class if sop_class.is_valid else _PLAIN_DX
    number = _text(dataset, "SeriesNumber")
    header.SeriesNumber = int(number) if re.fullmatch(r"[+-]?\d{1,9}", number) else 0
    header.Rows, header.Columns = dataset.Rows, dataset.Columns


def _pixels_hash(dataset: Dataset) -> str:
    """What stands for an image without a valid UID, so that it gets the same one in every run."""
    pixels = value_of(dataset, "PixelData")
    return hashlib.sha256(pixels if isinstance(pixels, bytes) else b"").hexdigest()
