"""Finding the series of a folder, and reading one image in the standard view with its spacing.

Whatever a file holds, the outcome is an image or a `SeriesStop` with a stated reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID

from analysis.dicom_file import (
    MOST_PIXELS,
    DicomFile,
    number,
    quiet_dicom,
    read_dicom,
    stated_bytes,
    value_of,
    whole_number,
)
from analysis.errors import SeriesFailed, SeriesSkipped, SeriesStop
from analysis.landmarks import Landmark, Spacing
from analysis.orientation import Orientation, read_orientation
from analysis.spacing import StatedSpacing, read_spacing

_LOG = logging.getLogger("analysis")
_NATIVE_BITS: Final = 8
_SMALL_BYTES: Final = 1 << 20
_OWNERS: Final = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series: those whose names agree before the `#`."""

    series_id: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Radiograph:
    """One image ready for the detectors."""

    dataset: Dataset
    pixels: npt.NDArray[np.float32]
    """[rows, columns] in the standard view, bone brighter than soft tissue."""
    spacing: Spacing
    """Of the standard view."""
    stated_spacing: StatedSpacing
    orientation: Orientation
    """How the image as stored lies to the patient."""

    def issues(self) -> list[dict[str, str]]:
        """What its header says, or leaves open, that a reader of the lengths has to know."""
        findings = (self.orientation.finding, self.stated_spacing.finding)
        return [{"code": found[0], "severity": found[1]} for found in findings if found]

    def stored(self, landmark: Landmark) -> Landmark:
        """A landmark of the standard view where it lies in the image as stored."""
        x, y = self.orientation.stored_place(landmark.x, landmark.y, self.pixels.shape)
        return replace(landmark, x=x, y=y)


def find_series(in_dir: Path | str) -> list[SeriesFiles]:
    """The series of a folder, sorted by name; whatever ends in .dcm counts, but for folders.

    A pipe, a device or a link to nothing is broken input, and not to be passed over in silence.
    Raises OSError when the folder can't be listed.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(Path(in_dir).iterdir()):
        if path.suffix.lower() == ".dcm" and not path.is_dir():
            groups.setdefault(path.stem.split("#", 1)[0], []).append(path)
    return [SeriesFiles(name, tuple(files)) for name, files in sorted(groups.items())]


def choose_image(files: Iterable[Path]) -> Path:
    """The file with the most pixels, so that a scout or a detail never wins.

    Raises the `SeriesStop` of the first file when no file is an image, and `SeriesFailed` when the files are of
    several patients or studies: whichever image were chosen, its lengths could go into the wrong record.
    """
    best: tuple[int, Path] | None = None
    stops: list[SeriesStop] = []
    owners: list[dict[str, str]] = []
    for path in files:
        try:
            with quiet_dicom():
                found = read_dicom(path, with_pixels=False)
                owners.append(_owner(found.dataset))
                count = _pixel_count(found)
        except SeriesStop as stop:
            stops.append(stop)
            continue
        if best is None or count > best[0]:
            best = (count, path)
    _require_one_owner(owners)
    if best is not None:
        if stops:
            _LOG.warning("%d files of the series left aside: %s", len(stops), sorted({s.code for s in stops}))
        return best[1]
    if not stops:
        raise SeriesSkipped("not_an_image")
    # A broken file weighs more than one that only isn't an image.
    raise min(stops, key=lambda stop: isinstance(stop, SeriesSkipped))


def _owner(dataset: Dataset) -> dict[str, str]:
    """Whose image a header says it is, as far as it says so; writing is compared, and not its case or padding."""
    texts = {keyword: str(value_of(dataset, keyword) or "").strip(" ^=").casefold() for keyword in _OWNERS}
    return {keyword: text for keyword, text in texts.items() if text}


def _require_one_owner(owners: list[dict[str, str]]) -> None:
    for keyword in _OWNERS:
        if len({owner[keyword] for owner in owners if keyword in owner}) > 1:
            raise SeriesFailed("mixed_series")


def _pixel_count(found: DicomFile) -> int:
    """Rows times columns of one file; raises `SeriesStop` where it isn't an image, or not a whole one."""
    if found.breaks_off:
        raise SeriesFailed("truncated_header")
    if not found.has_pixels and _is_image_class(found.dataset):
        raise SeriesFailed("no_pixel_data")
    return _require_image(found.dataset)


def read_radiograph(path: Path) -> Radiograph:
    """Read, check and decode one file; raises `SeriesStop`."""
    with quiet_dicom():
        dataset = read_dicom(path).dataset
        _require_plain_image(dataset)
        _require_all_pixels(dataset)
        stated, orientation = read_spacing(dataset), read_orientation(dataset)
        pixels = orientation.standard_view(_bone_bright_pixels(dataset))
        return Radiograph(dataset, pixels, orientation.standard_spacing(stated.spacing), stated, orientation)


def _is_image_class(dataset: Dataset) -> bool:
    """Whether the file says that it is an image, be it only in its file meta information, which comes first."""
    classes = [
        value_of(dataset.file_meta, "MediaStorageSOPClassUID"),
        value_of(dataset, "SOPClassUID"),
    ]
    return any("Image Storage" in UID(str(found)).name for found in classes if found)


def _require_image(dataset: Dataset) -> int:
    """Rows times columns; raises `SeriesStop` where the object isn't an image, or none that can be worked on."""
    count = max(whole_number(dataset, "Rows", 0), 0) * max(whole_number(dataset, "Columns", 0), 0)
    if count == 0:
        raise SeriesSkipped("not_an_image")
    if count > MOST_PIXELS:
        raise SeriesFailed("image_too_large")
    return count


def _require_plain_image(dataset: Dataset) -> None:
    _require_image(dataset)
    if whole_number(dataset, "NumberOfFrames", 1) > 1:
        raise SeriesSkipped("multi_frame")
    if whole_number(dataset, "SamplesPerPixel", 1) > 1:
        raise SeriesSkipped("colour_image")


def _require_all_pixels(dataset: Dataset) -> None:
    """Raise `SeriesFailed` where the file ended before its pixels did."""
    data = value_of(dataset, "PixelData")
    if data is None:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            return
        raise SeriesFailed("no_pixel_data")
    if not isinstance(data, bytes):
        raise SeriesFailed("undecodable_pixel_data")
    if _is_native(dataset):
        bits = _require_image(dataset) * whole_number(dataset, "BitsAllocated", 16)
        if len(data) < bits // _NATIVE_BITS:
            raise SeriesFailed("truncated_pixel_data")
    elif len(data) > 2 * stated_bytes(dataset) + _SMALL_BYTES:
        # No compression makes an image larger than that; run lengths could become 64 times as much.
        raise SeriesFailed("image_too_large")


def _is_native(dataset: Dataset) -> bool:
    stated = value_of(dataset.file_meta, "TransferSyntaxUID")
    if stated is None:
        return True
    syntax = UID(str(stated))
    if not syntax.is_transfer_syntax:
        raise SeriesFailed("undecodable_pixel_data")
    return not syntax.is_encapsulated


def _bone_bright_pixels(dataset: Dataset) -> npt.NDArray[np.float32]:
    try:
        pixels = np.asarray(dataset.pixel_array, dtype=np.float32)
    except Exception:  # decoders raise their own types
        raise SeriesFailed("undecodable_pixel_data") from None
    if pixels.ndim != 2:  # rows and columns
        raise SeriesSkipped("multi_frame")
    pixels = np.nan_to_num(_rescaled(pixels, dataset), copy=False)
    if str(value_of(dataset, "PhotometricInterpretation")) == "MONOCHROME1":
        pixels = pixels.max() + pixels.min() - pixels
    return pixels


def _rescaled(pixels: npt.NDArray[np.float32], dataset: Dataset) -> npt.NDArray[np.float32]:
    slope, intercept = number(dataset, "RescaleSlope", 1.0), number(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        return pixels
    return pixels * np.float32(slope) + np.float32(intercept)
