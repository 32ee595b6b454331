from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from analysis.phantom import Phantom
from analysis.phantom.files import write_phantom
from analysis.pipeline import SeriesResult, find_series, load_detectors, process_series
from analysis.settings import AnalysisSettings

SETTINGS = AnalysisSettings(models=("gradient_edges",), series_offset=500, tibia_threshold=0.0)
IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    """An image that is measured once, for all that is looked up in its outputs."""
    return write_phantom(tmp_path_factory.mktemp("source"), phantom, np.random.default_rng(1))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def result(source: Path, outputs: Path) -> SeriesResult:
    (series,) = find_series(source.parent)
    return process_series(series, load_detectors(SETTINGS), SETTINGS, outputs)


def test_outputs_are_named_by_the_input_and_nothing_else_is_left(result: SeriesResult, source: Path, outputs: Path):
    names = {f"{source.stem}{end}" for end in ("_sr.dcm", "_qa.dcm", "_results.json")}
    assert {path.name for path in outputs.iterdir()} == names == set(result.output_files)


def lengths_of(report: Dataset) -> list:
    """The groups of the six lengths; right minus left have groups of their own."""
    return [g for g in report.content.get_image_measurement_groups() if g.tracking_identifier.startswith("PLL_")]


def test_the_report_reads_back_in_mm_with_bone_and_side(result: SeriesResult, source: Path, outputs: Path):
    report = hd.sr.srread(outputs / f"{source.stem}_sr.dcm")
    assert report.SOPClassUID == ComprehensiveSRStorage
    found = {}
    for group in lengths_of(report):
        (measurement,) = group.get_measurements()
        assert (measurement.name.value, measurement.unit.value) == ("410668003", "mm")
        (site,) = group.finding_sites
        found[group.tracking_identifier] = (measurement.value, site.value.meaning, site.laterality.meaning)
    assert set(found) == set(result.measurements)
    for name, (value, bone, side) in found.items():
        assert value == pytest.approx(result.measurements[name]["millimeters"], abs=0.006)
        assert bone == {"FEM": "Femur", "TIB": "Tibia", "LGL": "Lower limb"}[name[-3:]]
        assert side == {"R": "Right", "L": "Left"}[name[4]]


def test_the_report_names_the_device_that_observed(result: SeriesResult, source: Path, outputs: Path):
    report = pydicom.dcmread(outputs / f"{source.stem}_sr.dcm")
    context = {item.ConceptNameCodeSequence[0].CodeValue: item for item in report.ContentSequence}
    assert context["121005"].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert context["121012"].UID.is_valid
    assert context["121013"].TextValue == "leglength"


def test_dicom_outputs_belong_to_the_patient_and_the_study_and_have_their_series(
    result: SeriesResult, source: Path, outputs: Path
):
    dataset = pydicom.dcmread(source)
    for ending, offset in (("_qa.dcm", 500), ("_sr.dcm", 1000)):
        written = pydicom.dcmread(outputs / f"{source.stem}{ending}")
        assert {keyword: written[keyword].value for keyword in IDENTITY} == {k: dataset[k].value for k in IDENTITY}
        assert written.SeriesNumber == dataset.SeriesNumber + offset
        assert written.SeriesInstanceUID != dataset.SeriesInstanceUID
        assert written.SOPInstanceUID != dataset.SOPInstanceUID


def test_the_picture_shows_both_sides_marks_in_their_colours(result: SeriesResult, source: Path, outputs: Path):
    capture = pydicom.dcmread(outputs / f"{source.stem}_qa.dcm")
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    picture = capture.pixel_array.astype(int)
    assert picture.shape == (2000, capture.Columns, 3)
    left_half, right_half = np.array_split(picture[:, : capture.Columns - 620], 2, axis=1)
    blue, yellow = (90, 220, 255), (255, 205, 80)
    assert (left_half == blue).all(axis=2).sum() > 3000
    assert (right_half == yellow).all(axis=2).sum() > 3000
    assert (left_half == yellow).all(axis=2).sum() < 1000  # a label may reach over


def test_a_mark_is_where_its_landmark_is(result: SeriesResult, source: Path, outputs: Path):
    picture = pydicom.dcmread(outputs / f"{source.stem}_qa.dcm").pixel_array.astype(int)
    rows, columns = pydicom.dcmread(source).pixel_array.shape
    scale = 2000 / rows
    ankle = result.landmarks[7]
    x, y = round((ankle.x + 0.5) * (picture.shape[1] - 620) / columns), round((ankle.y + 0.5) * scale)
    assert (picture[y, x - 10 : x + 10] == (90, 220, 255)).all(axis=1).sum() >= 14


def test_the_json_holds_the_numbers_and_no_identity(result: SeriesResult, source: Path, outputs: Path):
    text = (outputs / f"{source.stem}_results.json").read_text()
    values = json.loads(text)
    assert values["measurements"] == result.measurements
    assert values["spacing_mm"] == {"row": 0.5, "column": 0.5}
    assert len(values["landmarks"]) == 8
    assert any(issue["code"] == "tibia_length_difference" for issue in values["issues"])
    dataset = pydicom.dcmread(source)
    for keyword in (*IDENTITY, "SeriesInstanceUID", "SOPInstanceUID", "InstitutionName"):
        if keyword != "PatientSex":
            assert str(dataset[keyword].value) not in text


BROKEN_HEADERS = {
    "nothing known": dict.fromkeys(
        (
            *IDENTITY,
            "SeriesInstanceUID",
            "StudyID",
            "StudyDate",
            "StudyTime",
            "SeriesNumber",
            "ReferringPhysicianName",
            "SpecificCharacterSet",
        )
    ),
    "all empty": dict.fromkeys((*IDENTITY, "StudyID", "StudyDate", "StudyTime", "SeriesNumber"), ""),
    "nonsense": {
        "StudyDate": "20241399",
        "StudyTime": "noon",
        "PatientSex": "female",
        "PatientBirthDate": "1.1.2010",
        "StudyInstanceUID": "1.2.x..3",
        "PatientID": "A\\B" * 40,
        "AccessionNumber": "9" * 40,
        "SeriesNumber": 2**31 - 1,
    },
    "umlauts and groups": {"PatientName": "Müller^Jörg=ミュラー^ヨルク", "PatientID": "ÄÖÜ"},
    "negative number": {"SeriesNumber": -2000},
}


@pytest.mark.parametrize("values", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS)
def test_a_missing_or_invalid_header_still_gives_valid_outputs(
    dicom_file: Path, inbox: Path, outbox: Path, values: dict
):
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        dataset = pydicom.dcmread(dicom_file)
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), value)
        dataset.save_as(dicom_file)
    finally:
        pydicom.config.settings.writing_validation_mode = None
    (series,) = find_series(inbox)
    result = process_series(series, load_detectors(SETTINGS), SETTINGS, outbox)
    assert (result.status, result.failure) == ("completed", None)
    written = [pydicom.dcmread(outbox / f"{dicom_file.stem}{end}") for end in ("_sr.dcm", "_qa.dcm")]
    assert written[0].StudyInstanceUID == written[1].StudyInstanceUID
    for dataset in written:
        assert dataset.StudyInstanceUID.is_valid
        assert 1 <= dataset.SeriesNumber < 2**31
        assert isinstance(dataset.PatientID, str | None)  # one value, not two parted by a backslash
        str(dataset)
    if "\\" in (values.get("PatientID") or ""):
        assert written[0].PatientID == written[1].PatientID == ("A " + "BA " * 39 + "B")[:64].strip()
    if values.get("PatientName"):
        assert written[0].PatientName == written[1].PatientName == values["PatientName"]


def test_nothing_half_written_is_left_when_a_writer_fails(dicom_file: Path, inbox: Path, outbox: Path, monkeypatch):
    from analysis.outputs import results_json

    def broken(content: object) -> dict:
        raise OSError("disk full")

    monkeypatch.setattr(results_json, "build", broken)
    (series,) = find_series(inbox)
    result = process_series(series, load_detectors(SETTINGS), SETTINGS, outbox)
    assert (result.status, result.reason, result.failed_stage) == ("failed", "error", "dicom_generation")
    assert list(outbox.iterdir()) == []


def test_a_file_name_of_240_characters_has_outputs_with_a_shortened_one(dicom_file: Path, inbox: Path, outbox: Path):
    long = dicom_file.rename(inbox / f"{'9' * 236}#1.dcm")
    (series,) = find_series(inbox)
    result = process_series(series, load_detectors(SETTINGS), SETTINGS, outbox)
    assert (result.status, result.stem) == ("completed", long.stem)
    assert {path.name for path in outbox.iterdir()} == set(result.output_files)


@pytest.mark.parametrize("sop_class", ["1.2.840.113619.4.26", "1.2.840.10008.5.1.4.1.1.9999", "1.2.840.10008.1.1"])
def test_a_class_that_the_library_does_not_know_is_reported_on_and_named(
    dicom_file: Path, inbox: Path, outbox: Path, sop_class: str
):
    dataset = pydicom.dcmread(dicom_file)
    dataset.SOPClassUID = sop_class
    dataset.save_as(dicom_file)
    (series,) = find_series(inbox)
    result = process_series(series, load_detectors(SETTINGS), SETTINGS, outbox)
    assert (result.status, result.failure) == ("completed", None)
    report = hd.sr.srread(outbox / f"{dicom_file.stem}_sr.dcm")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert instance.ReferencedSOPClassUID == sop_class
    assert {keyword: report[keyword].value for keyword in IDENTITY} == {k: dataset[k].value for k in IDENTITY}


def test_a_link_where_an_output_is_to_lie_is_not_written_through(
    dicom_file: Path, inbox: Path, outbox: Path, tmp_path: Path
):
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    for ending in ("_sr.dcm", "_qa.dcm", "_results.json"):
        (outbox / f"{dicom_file.stem}{ending}").symlink_to(victim)
        (outbox / f".{dicom_file.stem}{ending}.partial").symlink_to(victim)
    (series,) = find_series(inbox)
    assert process_series(series, load_detectors(SETTINGS), SETTINGS, outbox).status == "completed"
    assert victim.read_bytes() == b"untouched"
    assert not any(path.is_symlink() for path in outbox.iterdir())
