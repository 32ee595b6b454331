"""The measurements as a DICOM structured report: template TID 1500, lengths in mm.

Each length is a group of its own with its tracking identifier (such as PLL_R_FEM), the coded bone
and side as its finding site, the image as its source, and whatever is flagged about it. A length that
is missing has a group without a number. Right minus left are groups of their own (such as DIFFERENCE_FEM).
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, ComprehensiveSRStorage, DigitalXRayImageStorageForPresentation

from analysis.dicom_file import dicom_bytes, quiet_dicom
from analysis.measurements import BONE_WORDS, MEASUREMENTS
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
_SCHEME: Final = "99LEGLENGTH"
_METHOD: Final = Code("VERTICAL", _SCHEME, "Vertical distance in the image, not along the bone")
_DIFFERENCE: Final = Code("RIGHTMINUSLEFT", _SCHEME, "Right minus left length")
_FLAG: Final = Code("FLAG", _SCHEME, "Flag")
_FLAGS: Final = {
    "measurement_missing": Code("MISSING", _SCHEME, "Not measured"),
    "length_implausible": Code("IMPLAUSIBLE", _SCHEME, "Implausible: no leg can have this length"),
    "femur_to_tibia_implausible": Code("RATIO", _SCHEME, "Implausible: no leg has this ratio of femur to tibia"),
    "landmarks_upside_down": Code("UPSIDEDOWN", _SCHEME, "Implausible: the landmarks are upside down"),
    "sides_crossed": Code("CROSSED", _SCHEME, "Implausible: right and left landmarks are crossed"),
    **{
        f"{bone}_length_difference": Code("DIFFERENCE", _SCHEME, "Right and left differ by more than the threshold")
        for bone in BONE_WORDS.values()
    },
}


def encode(content: ReportContent) -> bytes:
    """The report as the bytes of a DICOM file."""
    with quiet_dicom():
        return dicom_bytes(build(content))


def build(content: ReportContent) -> Dataset:
    """The report as a dataset."""
    now = datetime.now(tz=UTC).astimezone()
    (root,) = _measurement_report(content)
    # Without its items, which highdicom would copy, parse and search four times: half of what a report costs.
    items, root.ContentSequence = root.ContentSequence, sr.ContentSequence([])
    report = sr.ComprehensiveSR(
        evidence=[_evidence(content.header)],
        content=root,
        series_instance_uid=content.uid("series", "report", str(content.series_number(2))),
        series_number=content.series_number(2),
        sop_instance_uid=content.uid("instance", "report", content.fingerprint),
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
    report.ContentSequence = items
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
    differences = {bone: mm for bone, mm in content.differences_mm.items() if mm is not None}
    report = sr.MeasurementReport(
        observation_context=_device_context(),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            *(_length_group(name, content) for name in MEASUREMENTS),
            *(_difference_group(bone, difference_mm, content) for bone, difference_mm in differences.items()),
        ],
        title=Code("126000", "DCM", "Imaging Measurement Report"),
    )
    report[0].ContentSequence.append(_statements(content))
    return report


def _statements(content: ReportContent) -> sr.ContainerContentItem:
    """What a reader has to know beside the numbers, where TID 1500 has texts about the whole."""
    contains = sr.RelationshipTypeValues.CONTAINS
    comments = [
        sr.TextContentItem(Code("121106", "DCM", "Comment"), statement, contains) for statement in content.statements
    ]
    container = sr.ContainerContentItem(Code("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type=contains)
    container.ContentSequence = sr.ContentSequence(comments)
    return container


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


def _length_group(name: str, content: ReportContent) -> sr.MeasurementsAndQualitativeEvaluations:
    _, side, bone = name.split("_")
    length = content.measurements.get(name)
    site = sr.FindingSite(anatomic_location=_SITES[bone], laterality=_LATERALITY[side])
    return _group(
        name,
        site,
        content,
        measurements=length and [_millimetres(LENGTH, length["millimeters"], content)],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(_FLAG, _FLAGS[issue["code"]]) for issue in content.flags(name)
        ],
    )


def _difference_group(
    bone: str, difference_mm: float, content: ReportContent
) -> sr.MeasurementsAndQualitativeEvaluations:
    site = sr.FindingSite(anatomic_location=_SITES[bone])
    measurement = _millimetres(_DIFFERENCE, difference_mm, content)
    return _group(f"DIFFERENCE_{bone}", site, content, measurements=[measurement])


def _group(
    name: str, site: sr.FindingSite, content: ReportContent, **found: Any
) -> sr.MeasurementsAndQualitativeEvaluations:
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=content.uid("tracking", name), identifier=name),
        finding_sites=[site],
        source_images=[sr.SourceImageForMeasurementGroup(content.header.SOPClassUID, content.header.SOPInstanceUID)],
        **{part: items for part, items in found.items() if items},
    )


def _millimetres(name: Code, millimetres: float, content: ReportContent) -> sr.Measurement:
    algorithm = sr.AlgorithmIdentification(
        name=MODEL_NAME, version=SOFTWARE_VERSION, parameters=[f"models: {', '.join(content.models)}"]
    )
    return sr.Measurement(
        name=name, value=round(millimetres, _DECIMALS), unit=MILLIMETER, method=_METHOD, algorithm_id=algorithm
    )
