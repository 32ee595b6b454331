"""A picture for the reader's eye: the radiograph with landmarks and lengths drawn in.

It carries no text from the header, so that a copy of the pixels alone names nobody.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from analysis.dicom_file import dicom_bytes, quiet_dicom
from analysis.orientation import STANDARD
from analysis.outputs.content import MANUFACTURER, MODEL_NAME, SOFTWARE_VERSION, ReportContent
from analysis.outputs.drawing import draw_picture

_LONGEST_DESCRIPTION: Final = 1024
_SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")


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
    meta.MediaStorageSOPInstanceUID = content.uid("instance", "picture", content.fingerprint)
    capture = FileDataset("", _copied_header(content.header), file_meta=meta, preamble=b"\0" * 128)
    capture.SOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    capture.SeriesInstanceUID = content.uid("series", "picture", str(content.series_number(1)))
    capture.SeriesNumber = content.series_number(1)
    capture.InstanceNumber = 1
    _describe(capture)
    _derive(capture, content)
    return capture


def _copied_header(header: Dataset) -> Dataset:
    copied = deepcopy(header)  # to update is to share the elements, and writing into one would change both
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
    capture.ContentDate = capture.SeriesDate = now.strftime("%Y%m%d")
    capture.ContentTime = capture.SeriesTime = now.strftime("%H%M%S")


def _derive(capture: FileDataset, content: ReportContent) -> None:
    """From which image it was made, what was done, and which legs it shows."""
    orientation = content.radiograph.orientation
    # The picture is in the standard view, which is a statement only where the header states an orientation.
    capture.PatientOrientation = "" if orientation.is_assumed else list(STANDARD)
    if orientation.laterality == "B" or {name[4] for name in content.measurements} == {"R", "L"}:
        capture.ImageLaterality = "B"
    else:
        capture.Laterality = orientation.laterality
    capture.DerivationDescription = " ".join(content.statements)[:_LONGEST_DESCRIPTION]
    source = Dataset()
    source.ReferencedSOPClassUID = content.header.SOPClassUID
    source.ReferencedSOPInstanceUID = content.header.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [_coded(_SOURCE_IMAGE)]
    capture.SourceImageSequence = [source]


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _set_pixels(capture: FileDataset, picture: npt.NDArray[np.uint8]) -> None:
    capture.Rows, capture.Columns, capture.SamplesPerPixel = picture.shape
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    data = picture.tobytes()
    capture.PixelData = data + b"\0" * (len(data) % 2)  # DICOM values have an even length
