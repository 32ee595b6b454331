"""Phantoms as DICOM files with an invented patient, and the bad files that real inboxes hold.

Every identity in here is invented, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from analysis.landmarks import Side
from analysis.phantom.radiograph import Phantom, Pixels, make_chest, make_phantom

_FAMILY_NAMES: Final = ("Phantom", "Invented", "Madeup", "Nobody", "Fictional")
_GIVEN_NAMES: Final = ("Avery", "Quinn", "Robin", "Sasha", "Toni")
_MAKERS: Final = ("Phantom Imaging", "Invented X-Ray")
_EXAM_YEAR: Final = 2024
_SCOUT_STEP: Final = 8


@dataclass(frozen=True)
class Written:
    """One series on disk and what it is good for."""

    series_id: str
    kind: str
    expected: str
    """How processing should end: `completed`, or the reason code of a skip or failure."""
    phantom: Phantom | None = None


def write_phantom(folder: Path, phantom: Phantom, rng: np.random.Generator, series_uid: str | None = None) -> Path:
    """Write one phantom as `<SeriesUID>#<SOPUID>.dcm`; returns the path."""
    return _save(folder, dataset_of(phantom, rng, series_uid))


def _save(folder: Path, dataset: FileDataset) -> Path:
    path = folder / f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def dataset_of(phantom: Phantom, rng: np.random.Generator, series_uid: str | None = None) -> FileDataset:
    """A DX image of an invented patient."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(rng)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = _uid(rng)
    dataset.SeriesInstanceUID = UID(series_uid) if series_uid else _uid(rng)
    _set_patient(dataset, phantom, rng)
    _set_exam(dataset, rng)
    _set_image(dataset, phantom)
    return dataset


def _uid(rng: np.random.Generator) -> UID:
    return generate_uid(entropy_srcs=[rng.bytes(16).hex()])


def _set_patient(dataset: FileDataset, phantom: Phantom, rng: np.random.Generator) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"{rng.choice(_FAMILY_NAMES)}^{rng.choice(_GIVEN_NAMES)}"
    dataset.PatientID = f"INVENTED-{rng.integers(10**6):06d}"
    dataset.PatientBirthDate = f"{_EXAM_YEAR - phantom.age_years}0101"
    dataset.PatientSex = phantom.sex
    dataset.PatientAge = f"{phantom.age_years:03d}Y"
    dataset.PatientComments = "Computer-made phantom, no person"


def _set_exam(dataset: FileDataset, rng: np.random.Generator) -> None:
    dataset.AccessionNumber = f"FAKE{rng.integers(10**8):08d}"
    dataset.StudyID = f"FAKE{rng.integers(10**4):04d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{_EXAM_YEAR}0615"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = f"{rng.integers(8, 18):02d}3000"
    dataset.ReferringPhysicianName = "Invented^Doctor"
    dataset.OperatorsName = "Invented^Operator"
    dataset.InstitutionName = "Hospital of Nowhere (invented)"
    dataset.InstitutionAddress = "1 Imaginary Street"
    dataset.StationName = "PHANTOM1"
    dataset.Manufacturer = str(rng.choice(_MAKERS))
    dataset.ManufacturerModelName = "LongLeg 1"
    dataset.DeviceSerialNumber = f"FAKE-{rng.integers(10**5):05d}"
    dataset.StudyDescription, dataset.SeriesDescription = "Long leg (phantom)", "AP bilateral"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "LEG", "AP"
    dataset.SeriesNumber, dataset.InstanceNumber = int(rng.integers(1, 5)), 1
    dataset.PatientOrientation, dataset.BurnedInAnnotation = ["L", "F"], "NO"


def _set_image(dataset: FileDataset, phantom: Phantom) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.PixelSpacing = [round(phantom.spacing.row_mm, 6), round(phantom.spacing.column_mm, 6)]
    dataset.ImagerPixelSpacing = dataset.PixelSpacing
    dataset.PixelSpacingCalibrationType = "GEOMETRY"
    dataset.PixelSpacingCalibrationDescription = "Parallel rays: no magnification"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if phantom.inverted else "MONOCHROME2"
    dataset.PresentationLUTShape = "INVERSE" if phantom.inverted else "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    _set_pixels(dataset, phantom.pixels)


def _set_pixels(dataset: FileDataset, pixels: Pixels) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()


def write_good(folder: Path, count: int, rng: np.random.Generator) -> list[Written]:
    """`count` series that can be measured."""
    written = []
    for _ in range(count):
        phantom = make_phantom(rng)
        path = write_phantom(folder, phantom, rng)
        written.append(Written(path.stem.split("#")[0], "good", "completed", phantom))
    return written


def write_bad(folder: Path, rng: np.random.Generator) -> list[Written]:
    """One series of each kind that goes wrong, or nearly."""
    return [write(folder, rng) for write in _BAD]


def _without_spacing(folder: Path, rng: np.random.Generator) -> Written:
    dataset = dataset_of(make_phantom(rng), rng)
    del dataset.PixelSpacing, dataset.ImagerPixelSpacing
    _save(folder, dataset)
    return Written(dataset.SeriesInstanceUID, "no spacing", "no_pixel_spacing")


def _with_zero_spacing(folder: Path, rng: np.random.Generator) -> Written:
    dataset = dataset_of(make_phantom(rng), rng)
    dataset.PixelSpacing = [0, 0]
    _save(folder, dataset)
    return Written(dataset.SeriesInstanceUID, "zero spacing", "invalid_pixel_spacing")


def _truncated(folder: Path, rng: np.random.Generator) -> Written:
    """A transfer that broke off: the file ends in the middle of its pixels."""
    path = write_phantom(folder, make_phantom(rng), rng)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return Written(path.stem.split("#")[0], "truncated", "truncated_pixel_data")


def _not_dicom(folder: Path, rng: np.random.Generator) -> Written:
    series = _uid(rng)
    (folder / f"{series}#{_uid(rng)}.dcm").write_bytes(b"this is no DICOM file\n" * 20)
    return Written(series, "not a DICOM", "not_dicom")


def _chest(folder: Path, rng: np.random.Generator) -> Written:
    # The same picture each time, so that it always ends for the same of its two possible reasons.
    path = write_phantom(folder, make_chest(np.random.default_rng(0)), rng)
    return Written(path.stem.split("#")[0], "chest", "landmarks_missing")


def _one_leg(folder: Path, rng: np.random.Generator) -> Written:
    phantom = make_phantom(rng, missing=Side.LEFT)
    path = write_phantom(folder, phantom, rng)
    return Written(path.stem.split("#")[0], "one leg", "completed", phantom)


def _with_scout(folder: Path, rng: np.random.Generator) -> Written:
    """A series of two images: a coarse scout beside the full one."""
    phantom = make_phantom(rng)
    full = dataset_of(phantom, rng)
    _save(folder, full)
    scout = deepcopy(full)  # of the same patient and study
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = _uid(rng)
    _set_pixels(scout, phantom.pixels[::_SCOUT_STEP, ::_SCOUT_STEP])
    scout.PixelSpacing = [round(mm * _SCOUT_STEP, 6) for mm in astuple(phantom.spacing)]
    _save(folder, scout)
    return Written(full.SeriesInstanceUID, "scout and full", "completed", phantom)


_BAD: Final[tuple[Callable[[Path, np.random.Generator], Written], ...]] = (
    _without_spacing,
    _with_zero_spacing,
    _truncated,
    _not_dicom,
    _chest,
    _one_leg,
    _with_scout,
)
