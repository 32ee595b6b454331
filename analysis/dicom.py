"""Finding the series of a folder, and reading one image with its spacing.

Whatever a file holds, the outcome is an image or a `SeriesStop` with a stated reason.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from analysis.errors import SeriesFailed, SeriesSkipped, SeriesStop
from analysis.landmarks import Spacing

_LOG = logging.getLogger("analysis")
# A detector element is 0.05 to 0.4 mm wide, and no film is longer than a tall adult.
_SPACING_RANGE_MM: Final = (0.01, 5.0)
_LARGEST_FILM_MM: Final = 2500.0
_NATIVE_BITS: Final = 8


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
    """[rows, columns], bone brighter than soft tissue."""
    spacing: Spacing


def find_series(in_dir: Path | str) -> list[SeriesFiles]:
    """The series of a folder, sorted by name; only files ending in .dcm count.

    Raises OSError when the folder can't be listed.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(Path(in_dir).iterdir()):
        if path.suffix.lower() == ".dcm" and path.is_file():
            groups.setdefault(path.stem.split("#", 1)[0], []).append(path)
    return [SeriesFiles(name, tuple(files)) for name, files in sorted(groups.items())]


_LIBRARIES: Final = ("pydicom", "highdicom")


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


def choose_image(files: Iterable[Path]) -> Path:
    """The file with the most pixels, so that a scout or a detail never wins.

    Raises the `SeriesStop` of the first file when no file is an image.
    """
    best: tuple[int, Path] | None = None
    stops: list[SeriesStop] = []
    for path in files:
        try:
            count = _pixel_count(_read_header(path))
        except SeriesStop as stop:
            stops.append(stop)
            continue
        if best is None or count > best[0]:
            best = (count, path)
    if best is not None:
        if stops:
            _LOG.warning("%d files of the series left aside: %s", len(stops), sorted({s.code for s in stops}))
        return best[1]
    if not stops:
        raise SeriesSkipped("not_an_image")
    # A broken file weighs more than one that only isn't an image.
    raise min(stops, key=lambda stop: isinstance(stop, SeriesSkipped))


def read_radiograph(path: Path) -> Radiograph:
    """Read, check and decode one file; raises `SeriesStop`."""
    with quiet_dicom():
        dataset = _read(path)
        _require_plain_image(dataset)
        spacing = read_spacing(dataset)
        _require_all_pixels(dataset)
        return Radiograph(dataset, _bone_bright_pixels(dataset), spacing)


def read_spacing(dataset: Dataset) -> Spacing:
    """PixelSpacing, or ImagerPixelSpacing where that is absent; raises `SeriesSkipped`.

    Both hold two values: first the distance between rows, then between columns (DICOM PS3.3, 10.7.1.3).
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        value = _value(dataset, keyword)
        if value is not None:
            return _checked_spacing(value, dataset)
    raise SeriesSkipped("no_pixel_spacing")


def _value(dataset: Dataset, keyword: str) -> Any:
    """An attribute's value, None where it is absent or empty."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a damaged value may raise anything when it is decoded
        return ()
    return None if value is None or value in ("", []) else value


def _checked_spacing(value: Any, dataset: Dataset) -> Spacing:
    try:
        row_mm, column_mm = (float(part) for part in value)
    except (TypeError, ValueError):
        raise SeriesSkipped("invalid_pixel_spacing") from None
    low, high = _SPACING_RANGE_MM
    if not (low <= row_mm <= high and low <= column_mm <= high):
        raise SeriesSkipped("invalid_pixel_spacing")
    if max(dataset.Rows * row_mm, dataset.Columns * column_mm) > _LARGEST_FILM_MM:
        raise SeriesSkipped("invalid_pixel_spacing")
    return Spacing(row_mm, column_mm)


def _read_header(path: Path) -> Dataset:
    with quiet_dicom():
        return _read(path, stop_before_pixels=True)


def _read(path: Path, *, stop_before_pixels: bool = False) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError:
        raise SeriesFailed("not_dicom") from None
    except Exception:  # a damaged header may raise anything out of the parser
        raise SeriesFailed("unreadable") from None


def _pixel_count(dataset: Dataset) -> int:
    """Rows times columns; raises `SeriesSkipped` where the object isn't an image."""
    try:
        count = int(dataset.Rows) * int(dataset.Columns)
    except Exception:  # absent, or damaged
        count = 0
    if count <= 0:
        raise SeriesSkipped("not_an_image")
    return count


def _require_plain_image(dataset: Dataset) -> None:
    _pixel_count(dataset)
    if _whole(dataset, "NumberOfFrames", 1) > 1:
        raise SeriesSkipped("multi_frame")
    if _whole(dataset, "SamplesPerPixel", 1) > 1:
        raise SeriesSkipped("colour_image")


def _whole(dataset: Dataset, keyword: str, default: int) -> int:
    value = _value(dataset, keyword)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        return default


def _require_all_pixels(dataset: Dataset) -> None:
    """Raise `SeriesFailed` where the file ended before its pixels did."""
    data = dataset.get("PixelData")
    if data is None:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            return
        raise SeriesFailed("no_pixel_data")
    if _is_native(dataset):
        bits = _pixel_count(dataset) * _whole(dataset, "BitsAllocated", 16)
        if len(data) < bits // _NATIVE_BITS:
            raise SeriesFailed("truncated_pixel_data")


def _is_native(dataset: Dataset) -> bool:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        return True
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
    if str(_value(dataset, "PhotometricInterpretation")) == "MONOCHROME1":
        pixels = pixels.max() + pixels.min() - pixels
    return pixels


def _rescaled(pixels: npt.NDArray[np.float32], dataset: Dataset) -> npt.NDArray[np.float32]:
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        return pixels
    return pixels * np.float32(slope) + np.float32(intercept)


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    value = _value(dataset, keyword)
    try:
        number = default if value is None else float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default
