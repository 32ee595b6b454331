"""The DICOM results as instances: the same again for the same again, where they come from, and valid by dciodvfy."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from analysis.detectors.protocol import Detections
from analysis.landmarks import Side, Spacing
from analysis.outputs import structured_report
from analysis.outputs.content import UID_KEY_VARIABLE, derived_uid
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.files import dataset_of
from analysis.pipeline import SeriesFiles, SeriesResult, process_series
from analysis.settings import AnalysisSettings
from tests.analysis.conftest import set_header
from tests.support.clocks import HANGS_SECONDS
from tests.support.processes import require

MADE = ("Content", "Series", "InstanceCreation", "Contribution")


class AsDrawn:
    """A detector that gives the phantom's true landmarks, a little lower if it is told so."""

    name = "as_drawn"

    def __init__(self, phantom: Phantom, lower: float = 0.0) -> None:
        boxes = [
            [x, y + lower * (label == 7), x, y + lower * (label == 7)] for label, (x, y) in phantom.landmarks.items()
        ]
        self._found = Detections.of(boxes, list(phantom.landmarks), [0.9] * len(boxes))

    def detect(self, image: np.ndarray, spacing: Spacing) -> Detections:
        return self._found


def saved(folder: Path, phantom: Phantom, **values: Any) -> Path:
    dataset = dataset_of(phantom, np.random.default_rng(1))
    set_header(dataset, values)
    path = folder / "1.2#3.dcm"
    dataset.save_as(path)
    return path


def processed(path: Path, out: Path, detector: Any, settings: AnalysisSettings | None = None) -> SeriesResult:
    out.mkdir(exist_ok=True)
    result = process_series(SeriesFiles("1.2", (path,)), [detector], settings or AnalysisSettings(), out)
    assert (result.status, result.failure) == ("completed", None)
    return result


def instances(out: Path) -> dict[str, Dataset]:
    return {path.name[-6:-4]: pydicom.dcmread(path) for path in out.glob("*.dcm")}


def uids(out: Path) -> dict[str, set[str]]:
    """Every UID that an output has made, by output: all but the device's and those of classes and of the source."""
    return {name: set(_uids(dataset)) for name, dataset in instances(out).items()}


def _uids(dataset: Dataset) -> Iterator[str]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _uids(item)
        elif element.VR == "UI":
            yield str(element.value)


def without_times(dataset: Dataset) -> Dataset:
    """Without the moment at which it was made; the study's own dates stay."""
    for element in list(dataset):
        if element.VR in ("DA", "TM", "DT") and element.keyword.startswith(MADE):
            del dataset[element.tag]
        for item in element.value if element.VR == "SQ" else ():
            without_times(item)
    return dataset


def test_a_repeated_run_makes_the_same_instances(tmp_path: Path, phantom: Phantom):
    path = saved(tmp_path, phantom)
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        processed(path, out, AsDrawn(phantom))
    before, after = instances(first), instances(second)
    for name in ("sr", "qa"):
        assert after[name].SOPInstanceUID == before[name].SOPInstanceUID
        assert without_times(after[name]).to_json() == without_times(before[name]).to_json()


def test_each_output_has_its_own_series_and_instance(tmp_path: Path, phantom: Phantom):
    path = saved(tmp_path, phantom)
    processed(path, tmp_path / "out", AsDrawn(phantom))
    found = instances(tmp_path / "out")
    source = pydicom.dcmread(path)
    own = [
        dataset[keyword].value
        for dataset in (*found.values(), source)
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID")
    ]
    assert len(set(own)) == 6
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in own[:4])


def test_what_says_something_else_is_another_instance_of_the_same_series(tmp_path: Path, phantom: Phantom):
    path = saved(tmp_path, phantom)
    processed(path, tmp_path / "first", AsDrawn(phantom))
    processed(path, tmp_path / "other lengths", AsDrawn(phantom, lower=9.0))
    processed(path, tmp_path / "other threshold", AsDrawn(phantom), AnalysisSettings(femur_threshold=0.0))
    first = instances(tmp_path / "first")
    for folder in ("other lengths", "other threshold"):
        for name, dataset in instances(tmp_path / folder).items():
            assert dataset.SOPInstanceUID != first[name].SOPInstanceUID
            assert dataset.SeriesInstanceUID == first[name].SeriesInstanceUID


def test_another_image_has_other_uids_throughout(tmp_path: Path, phantom: Phantom):
    for number in "12":
        path = saved(tmp_path, phantom, SOPInstanceUID=f"1.2.826.0.1.{number}")
        processed(path, tmp_path / number, AsDrawn(phantom))
    first, second = uids(tmp_path / "1"), uids(tmp_path / "2")
    for name in first:
        shared = {uid for uid in first[name] & second[name] if uid.startswith("2.25.")}
        assert shared <= {str(structured_report._DEVICE_UID)}


@pytest.mark.parametrize(
    "values",
    [{"SOPInstanceUID": "1.2.x..3"}, {"StudyInstanceUID": None, "SeriesInstanceUID": ""}],
    ids=["an invalid one", "none at all"],
)
def test_an_image_without_valid_uids_gets_the_same_ones_again(tmp_path: Path, phantom: Phantom, values: dict):
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        path = saved(tmp_path, phantom, **values)
    finally:
        pydicom.config.settings.writing_validation_mode = None
    for folder in ("first", "second"):
        processed(path, tmp_path / folder, AsDrawn(phantom))
    assert uids(tmp_path / "first") == uids(tmp_path / "second")


def test_uids_are_of_their_parts_and_of_the_key(monkeypatch: pytest.MonkeyPatch):
    assert derived_uid("a", "b") == derived_uid("a", "b")
    assert len({derived_uid("a", "b"), derived_uid("ab"), derived_uid("b", "a"), derived_uid("a", "b", "")}) == 4
    plain = derived_uid("a", "b")
    monkeypatch.setenv(UID_KEY_VARIABLE, "the site's")
    assert derived_uid("a", "b") != plain
    for number in range(200):
        uid = derived_uid(str(number))
        assert uid.is_valid
        value = int(uid.removeprefix("2.25."))
        assert (value >> 76 & 0xF, value >> 62 & 0x3) == (8, 2)  # RFC 9562: version 8 of the usual variant
    assert isinstance(plain, UID)


# --- dciodvfy -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dciodvfy() -> str:
    return require("dciodvfy")


def errors_of(path: Path, dciodvfy: str) -> list[str]:
    done = subprocess.run([dciodvfy, path], capture_output=True, text=True, timeout=HANGS_SECONDS, check=False)
    assert {"SCImage", "ComprehensiveSR"} & set(done.stderr.splitlines()), done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


VALIDATED: dict[str, dict[str, Any]] = {
    "as it should be": {},
    "orientation assumed": {"PatientOrientation": None},
    "mirrored, of the detector's spacing": {"PatientOrientation": ["R", "F"], "PixelSpacing": None},
    "little known": dict.fromkeys(
        (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "SeriesNumber",
        ),
        "",
    ),
    "of a class that few know": {"SOPClassUID": "1.2.840.113619.4.26"},
    "umlauts": {"PatientName": "Müller^Jörg=ミュラー^ヨルク", "PatientID": "ÄÖÜ"},
    "both legs by the header": {"ImageLaterality": "B"},
}


@pytest.mark.parametrize("values", VALIDATED.values(), ids=VALIDATED)
def test_report_and_picture_are_valid(tmp_path: Path, phantom: Phantom, values: dict, dciodvfy: str):
    result = processed(saved(tmp_path, phantom, **values), tmp_path / "out", AsDrawn(phantom))
    for name in result.output_files[:2]:
        assert errors_of(tmp_path / "out" / name, dciodvfy) == []


def test_report_and_picture_of_one_leg_and_of_implausible_lengths_are_valid(tmp_path: Path, dciodvfy: str):
    one_leg = make_phantom(np.random.default_rng(8), Spacing(0.7, 0.7), missing=Side.LEFT)
    for folder, lower, laterality in (("one", 0.0, "R"), ("unstated", 0.0, ""), ("implausible", 600.0, "R")):
        path = saved(tmp_path, one_leg, Laterality=laterality)
        result = processed(path, tmp_path / folder, AsDrawn(one_leg, lower))
        for name in result.output_files[:2]:
            assert errors_of(tmp_path / folder / name, dciodvfy) == []


def test_the_validator_finds_what_is_wrong(tmp_path: Path, phantom: Phantom, dciodvfy: str):
    result = processed(saved(tmp_path, phantom), tmp_path / "out", AsDrawn(phantom))
    broken = pydicom.dcmread(tmp_path / "out" / result.output_files[1])
    del broken.ConversionType
    stream = io.BytesIO()
    broken.save_as(stream)
    (tmp_path / "broken.dcm").write_bytes(stream.getvalue())
    assert any("ConversionType" in error for error in errors_of(tmp_path / "broken.dcm", dciodvfy))
