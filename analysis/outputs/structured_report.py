"""The measurements as a DICOM structured report: template TID 1500, lengths in mm.

Each length is a group of its own with its tracking identifier (such as PLL_R_FEM), the coded bone
and side as its finding site, and the image as its source.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ComprehensiveSRStorage, DigitalXRayImageStorageForPresentation, generate_uid

from analysis.dicom_file import dicom_bytes, quiet_dicom
from analysis.outputs.content import (
    CHARACTER_SET,
    MANUFACTURER,
    MODEL_NAME,
    SOFTWARE_VERSION,
    ReportContent,
)

LENGTH: Final = Code("410668003", "SCT", "Length")
MILLIMETER: Final = Code("mm", "UCUM", "millimeter")
_PROCEDURE: Final = Code("363680008", "SCT", "Radiographic imaging procedure")
_LATERALITY: Final = {"R": Code("24028007", "SCT", "Right"), "L": Code("7771000", "SCT", "Left")}
_SITES: Final = {
    "FEM": Code("71341001", "SCT", "Femur"),
    "TIB": Code("12611008", "SCT", "Tibia"),
    "LGL": Code("61685007", "SCT", "Lower limb"),
}
# One identity for this software wherever it runs, so that its reports can be told from others'.
_DEVICE_UID: Final = UID("2.25.279563478209213841025710093175205471003")
_DECIMALS: Final = 2


def encode(content: ReportContent) -> bytes:
    """The report as the bytes of a DICOM file."""
    with quiet_dicom():
        return dicom_bytes(build(content))


def build(content: ReportContent) -> Dataset:
    """The report as a dataset."""
    now = datetime.now(tz=UTC).astimezone()
    report = sr.ComprehensiveSR(
        evidence=[_evidence(content.header)],
        content=_measurement_report(content)[0],
        series_instance_uid=generate_uid(),
        series_number=content.series_number(2),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        series_description="Leg length measurements",
        manufacturer_model_name=MODEL_NAME,
        software_versions=SOFTWARE_VERSION,
        content_date=now.date(),
        content_time=now.time(),
        specific_character_set=CHARACTER_SET,
    )
    _reference_the_class(report, content.header.SOPClassUID)
    assert report.SOPClassUID == ComprehensiveSRStorage  # noqa: S101 - what readers dispatch on
    return report


def _evidence(header: Dataset) -> Dataset:
    """The source as an image of a class that highdicom has a table for: it looks up what to copy there, and no more."""
    evidence = deepcopy(header)
    evidence.SOPClassUID = DigitalXRayImageStorageForPresentation
    return evidence


def _reference_the_class(report: Dataset, sop_class: UID) -> None:
    """Have the report's evidence name the class that the source really is of."""
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    instance.ReferencedSOPClassUID = sop_class


def _measurement_report(content: ReportContent) -> sr.MeasurementReport:
    return sr.MeasurementReport(
        observation_context=_device_context(),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            _group(name, length["millimeters"], content) for name, length in content.measurements.items()
        ],
        title=Code("126000", "DCM", "Imaging Measurement Report"),
    )


def _device_context() -> sr.ObservationContext:
    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=_DEVICE_UID,
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
    )
    observer = sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=attributes
    )
    return sr.ObservationContext(observer_device_context=observer)


def _group(name: str, length_mm: float, content: ReportContent) -> sr.MeasurementsAndQualitativeEvaluations:
    _, side, bone = name.split("_")
    site = sr.FindingSite(anatomic_location=_SITES[bone], laterality=_LATERALITY[side])
    algorithm = sr.AlgorithmIdentification(
        name=MODEL_NAME, version=SOFTWARE_VERSION, parameters=[f"models: {', '.join(content.models)}"]
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=name),
        finding_sites=[site],
        measurements=[
            sr.Measurement(
                name=LENGTH,
                value=round(length_mm, _DECIMALS),
                unit=MILLIMETER,
                algorithm_id=algorithm,
            )
        ],
        source_images=[sr.SourceImageForMeasurementGroup(content.header.SOPClassUID, content.header.SOPInstanceUID)],
    )
