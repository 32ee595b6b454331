"""Structured reports as a reader's workstation writes them (TID 1500), made with highdicom. All identities invented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from analysis.landmarks import Spacing
from analysis.outputs.content import source_header
from analysis.phantom import make_phantom
from analysis.phantom.files import dataset_of

LENGTH = Code("410668003", "SCT", "Length")
MM, CM = Code("mm", "UCUM", "millimeter"), Code("cm", "UCUM", "centimeter")
FEMUR, TIBIA = Code("71341001", "SCT", "Femur"), Code("12611008", "SCT", "Tibia")
LOWER_LIMB, HIP = Code("61685007", "SCT", "Lower limb"), Code("24136001", "SCT", "Hip joint")
RIGHT, LEFT = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")


def image(accession: str = "A1", study: str = "1.2.826.0.1.7", series: str = "1.2.826.0.1.7.1") -> Dataset:
    """The header of the film that was read."""
    phantom = make_phantom(np.random.default_rng(3), Spacing(0.7, 0.7))
    header = source_header(dataset_of(phantom, np.random.default_rng(1), series))
    header.AccessionNumber, header.StudyInstanceUID = accession, study
    return header


def group(
    value: float,
    unit: Code = MM,
    *,
    tracking: str = "lesion 1",
    site: Code | None = None,
    side: Code | None = None,
    name: Code = LENGTH,
    derivation: Code | None = None,
    algorithm: str | None = None,
) -> sr.MeasurementsAndQualitativeEvaluations:
    """One measurement in a group of its own."""
    by = sr.AlgorithmIdentification(name=algorithm, version="1") if algorithm else None
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=tracking),
        finding_sites=[sr.FindingSite(anatomic_location=site, laterality=side)] if site is not None else None,
        measurements=[sr.Measurement(name=name, value=value, unit=unit, derivation=derivation, algorithm_id=by)],
    )


def person(name: str = "Rita^Reader") -> sr.ObserverContext:
    """A reader."""
    return sr.ObserverContext(Code("121006", "DCM", "Person"), sr.PersonObserverIdentifyingAttributes(name=name))


def device() -> sr.ObserverContext:
    """Software."""
    return sr.ObserverContext(
        Code("121007", "DCM", "Device"), sr.DeviceObserverIdentifyingAttributes(uid=generate_uid())
    )


def report(
    groups: Sequence[Any],
    evidence: Sequence[Dataset] | None = None,
    reader: sr.ObserverContext | None = None,
    by_device: sr.ObserverContext | None = None,
) -> sr.ComprehensiveSR:
    """A measurement report, by a person unless told otherwise."""
    if reader is None and by_device is None:
        reader = person()
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=reader, observer_device_context=by_device),
        procedure_reported=Code("363680008", "SCT", "Radiographic imaging procedure"),
        imaging_measurements=list(groups),
    )
    return sr.ComprehensiveSR(
        evidence=list(evidence or [image()]), content=content[0], series_instance_uid=generate_uid(), series_number=1,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="Maker", is_complete=True, is_final=False,
    )  # fmt: skip


def saved(made: Dataset, path: Path) -> Path:
    """The report's file."""
    made.save_as(path, enforce_file_format=True)
    return path
