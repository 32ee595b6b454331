"""Series of identified patients, and the search for what identifies them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from analysis.phantom import Phantom
from analysis.phantom.files import dataset_of
from tests.support.faults import Request

TEXTS = {
    "PatientName": "Zzyzxson^Quillaboo",
    "PatientID": "PID-7730661",
    "OtherPatientIDs": "OTHER-4410092",
    "PatientBirthDate": "20190317",
    "PatientAddress": "17 Xylophone Lane",
    "PatientComments": "brother of Wolfgrim",
    "AccessionNumber": "ACC99182736",
    "StudyID": "STU55102",
    "StudyDescription": "Kneippstudy",
    "SeriesDescription": "Legseriesq",
    "ProtocolName": "Protoquax",
    "ReferringPhysicianName": "Dr^Vandermolenq",
    "OperatorsName": "Operandiq",
    "InstitutionName": "Clinic of Qwertzingen",
    "InstitutionAddress": "Qwertzplatz 1",
    "StationName": "STATIONX99",
    "DeviceSerialNumber": "SERIAL-8812345",
    "StudyDate": "20220704",
    "StudyTime": "093311",
}
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def identified(phantom: Phantom, number: int) -> FileDataset:
    dataset = dataset_of(phantom, np.random.default_rng(number))
    for keyword, text in TEXTS.items():
        setattr(dataset, keyword, text)
    for keyword in UIDS:
        setattr(dataset, keyword, generate_uid())
    return dataset


def needles(datasets: list[FileDataset]) -> set[str]:
    """All that must appear nowhere; of names and addresses also each word."""
    uids = {str(getattr(dataset, keyword)) for dataset in datasets for keyword in UIDS}
    texts = set(TEXTS.values())
    words = {word for text in texts for word in text.replace("^", " ").split() if len(word) > 5}
    return texts | words | uids | {"Mustermannsdottir"}


def wire(request: Request) -> bytes:
    return request.target.encode() + str(request.headers).encode() + request.body


def bytes_of(folder: Path) -> bytes:
    return b"\0".join(str(path.name).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file())


def found_in(haystack: bytes, unwanted: set[str]) -> list[str]:
    return sorted(needle for needle in unwanted if needle.encode() in haystack)
