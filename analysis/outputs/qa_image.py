"""A picture for the reader's eye: the radiograph with landmarks and lengths drawn in.

It carries no text from the header, so that a copy of the pixels alone names nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from analysis.dicom_file import dicom_bytes, quiet_dicom
from analysis.outputs.content import MANUFACTURER, MODEL_NAME, SOFTWARE_VERSION, ReportContent
from analysis.outputs.drawing import draw_picture


def encode(content: ReportContent) -> bytes:
    """The picture as the bytes of a DICOM file."""
    with quiet_dicom():
        return dicom_bytes(build(content))


def build(content: ReportContent) -> FileDataset:
    """The secondary capture: 8 bit RGB, square pixels."""
    capture = _new_capture(content)
    _set_pixels(capture, draw_picture(content))
    return capture


def _new_capture(content: ReportContent) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    capture = FileDataset("", _copied_header(content.header), file_meta=meta, preamble=b"\0" * 128)
    capture.SOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    capture.SeriesInstanceUID = generate_uid()
    capture.SeriesNumber = content.series_number(1)
    capture.InstanceNumber = 1
    _describe(capture)
    return capture


def _copied_header(header: Dataset) -> Dataset:
    copied = Dataset()
    copied.update(header)
    for keyword in ("Rows", "Columns"):
        del copied[keyword]
    return copied


def _describe(capture: FileDataset) -> None:
    now = datetime.now(tz=UTC).astimezone()
    capture.Modality = "OT"
    capture.ConversionType = "WSD"
    capture.SeriesDescription = "Leg length QA"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.Manufacturer = MANUFACTURER
    capture.ManufacturerModelName = MODEL_NAME
    capture.SoftwareVersions = SOFTWARE_VERSION
    capture.PatientOrientation = ["L", "F"]
    capture.ContentDate = capture.SeriesDate = now.strftime("%Y%m%d")
    capture.ContentTime = capture.SeriesTime = now.strftime("%H%M%S")


def _set_pixels(capture: FileDataset, picture: npt.NDArray[np.uint8]) -> None:
    capture.Rows, capture.Columns, capture.SamplesPerPixel = picture.shape
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    data = picture.tobytes()
    capture.PixelData = data + b"\0" * (len(data) % 2)  # DICOM values have an even length
