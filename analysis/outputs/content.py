"""What the writers have in common: the content of a report, and the patient's and study's header.

DICOM outputs belong to the patient, so the header is copied. Inputs with a missing or invalid
header are common enough that every value is checked and, where the standard wants one, filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, generate_uid

from analysis.dicom import Radiograph
from analysis.landmarks import Landmark
from analysis.measurements import Issue, Measurements
from analysis.settings import AnalysisSettings

MANUFACTURER: Final = "Leg length analysis"
MODEL_NAME: Final = "leglength"
SOFTWARE_VERSION: Final = "0.1.0"
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
    "Laterality": r"[RL]",
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

    def series_number(self, times: int) -> int:
        """The input's SeriesNumber plus `times` the offset, within what DICOM can hold."""
        number = int(self.header.SeriesNumber) + times * self.settings.series_offset
        return min(max(number, 1), _LARGEST_SERIES_NUMBER)


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
        setattr(header, keyword, uid if uid.is_valid else generate_uid())
    sop_class = UID(_text(dataset, "SOPClassUID"))
    header.SOPClassUID = sop_class if sop_class.is_valid else _PLAIN_DX
    number = _text(dataset, "SeriesNumber")
    header.SeriesNumber = int(number) if re.fullmatch(r"[+-]?\d{1,9}", number) else 0
    header.Rows, header.Columns = dataset.Rows, dataset.Columns
