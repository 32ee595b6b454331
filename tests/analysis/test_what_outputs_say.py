"""Report, picture and JSON say the same: lengths and their flags, what is missing, what was assumed, and the notice."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from analysis.dicom import read_radiograph
from analysis.landmarks import Landmark, Spacing
from analysis.measurements import DEFINITION, MEASUREMENTS, NOTICE, find_issues, measure
from analysis.outputs import drawing, labels, qa_image, results_json, structured_report
from analysis.outputs.content import ReportContent, issue_words, source_header
from analysis.outputs.panel import panel_lines
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.files import dataset_of
from analysis.plausibility import find_disordered, find_implausible
from analysis.settings import AnalysisSettings
from tests.analysis.conftest import set_header
from tests.support import REPOSITORY

Edit = Callable[..., ReportContent]
STATED = {"PixelSpacingCalibrationType": "GEOMETRY", "PatientOrientation": ["L", "F"]}


@dataclass
class Said:
    """What the three outputs of one content say."""

    report: Dataset
    picture: Dataset
    panel: str
    values: dict[str, Any]

    @classmethod
    def by(cls, content: ReportContent) -> Said:
        lines = panel_lines(content, 10_000, lambda words, size: len(words))
        values = json.loads(results_json.encode(content))
        panel = "\n".join(line.words for line in lines)
        return cls(hd.sr.srread(io.BytesIO(structured_report.encode(content))), qa_image.build(content), panel, values)

    @property
    def groups(self) -> dict[str, Any]:
        return {g.tracking_identifier: g for g in self.report.content.get_image_measurement_groups()}

    @property
    def comments(self) -> list[str]:
        return [item.TextValue for item in self.report.ContentSequence[-1].ContentSequence]

    def flags(self, name: str) -> set[str]:
        return {flag.value.meaning for flag in self.groups[name].get_qualitative_evaluations()}


def content_of(folder: Path, phantom: Phantom, landmarks: dict[int, Landmark] | None = None, **values: Any) -> Any:
    """What the outputs are made from, with the phantom's true landmarks or others, and a header of these values."""
    dataset = dataset_of(phantom, np.random.default_rng(1))
    set_header(dataset, values)
    dataset.save_as(folder / "x.dcm", enforce_file_format=True)
    radiograph, settings = read_radiograph(folder / "x.dcm"), AnalysisSettings(femur_threshold=0.5)
    if landmarks is None:
        landmarks = {label: Landmark(label, x, y, 0.9, 3) for label, (x, y) in phantom.landmarks.items()}
    lengths = measure(landmarks, radiograph.spacing)
    issues = [*find_issues(lengths, settings), *find_implausible(lengths), *find_disordered(lengths, landmarks)]
    return ReportContent(
        radiograph=radiograph,
        header=source_header(radiograph.dataset),
        settings=settings,
        models=("a", "b"),
        landmarks=landmarks,
        measurements=lengths,
        issues=[*issues, *radiograph.issues()],
        image_metrics={},
    )


def moved(phantom: Phantom, **by_mm: float) -> dict[int, Landmark]:
    """The true landmarks, some of them lower (`L7=30` by 30 mm) or gone (`L7=nan`)."""
    shifts = {int(label[1:]): mm / phantom.spacing.row_mm for label, mm in by_mm.items()}
    return {
        label: Landmark(label, x, y + shifts.get(label, 0.0), 0.9, 3)
        for label, (x, y) in phantom.landmarks.items()
        if not np.isnan(shifts.get(label, 0.0))
    }


def test_a_good_image_has_six_lengths_three_differences_and_no_flag(tmp_path: Path, phantom: Phantom):
    content = content_of(tmp_path, phantom)
    assert content.issues == []
    said = Said.by(content)
    assert list(said.groups) == [*MEASUREMENTS, "DIFFERENCE_FEM", "DIFFERENCE_TIB", "DIFFERENCE_LGL"]
    assert all(said.flags(name) == set() for name in MEASUREMENTS)
    assert "Flagged" not in said.panel
    assert (said.values["missing"], said.values["implausible"]) == ([], [])


def test_an_implausible_length_is_one_in_the_report_the_picture_and_the_json(tmp_path: Path, phantom: Phantom):
    said = Said.by(content_of(tmp_path, phantom, moved(phantom, L7=400)))
    assert said.flags("PLL_R_TIB") >= {"Implausible: no leg can have this length"}
    assert "Implausible: no leg has this ratio of femur to tibia" in said.flags("PLL_R_LGL")
    assert said.flags("PLL_L_TIB") <= {"Right and left differ by more than the threshold"}
    (measurement,) = said.groups["PLL_R_TIB"].get_measurements()
    assert measurement.value == pytest.approx(said.values["measurements"]["PLL_R_TIB"]["millimeters"], abs=0.006)
    assert "right tibia: 736.9 mm (implausible)" in said.panel
    assert set(said.values["implausible"]) == {"PLL_R_TIB", "PLL_R_LGL"}
    assert "length_implausible" in said.values["flags"]["PLL_R_TIB"]


def test_legs_that_are_crossed_or_upside_down_are_flagged_in_the_report(tmp_path: Path, phantom: Phantom):
    true = moved(phantom)
    crossed = true | {7: dataclasses.replace(true[7], x=true[8].x), 8: dataclasses.replace(true[8], x=true[7].x)}
    assert "Implausible: right and left landmarks are crossed" in Said.by(content_of(tmp_path, phantom, crossed)).flags(
        "PLL_L_LGL"
    )
    upside_down = Said.by(content_of(tmp_path, phantom, moved(phantom, L8=-600)))
    assert "Implausible: the landmarks are upside down" in upside_down.flags("PLL_L_TIB")


def test_a_missing_length_is_said_to_be_missing_everywhere(tmp_path: Path, phantom: Phantom):
    said = Said.by(content_of(tmp_path, phantom, moved(phantom, L8=float("nan"))))
    for name in ("PLL_L_TIB", "PLL_L_LGL"):
        assert said.groups[name].get_measurements() == []
        assert said.flags(name) == {"Not measured"}
    assert said.panel.count("left tibia: not measured") == 1
    assert said.values["missing"] == ["PLL_L_TIB", "PLL_L_LGL"]
    assert set(said.groups) >= {"DIFFERENCE_FEM"}
    assert not {"DIFFERENCE_TIB", "DIFFERENCE_LGL"} & set(said.groups)
    assert "tibia: not measured" in said.panel


def test_right_minus_left_is_the_same_number_in_all(tmp_path: Path, phantom: Phantom):
    content = content_of(tmp_path, phantom, moved(phantom, L8=12, L2=-20))
    said = Said.by(content)
    for bone, word in (("FEM", "femur"), ("TIB", "tibia"), ("LGL", "leg")):
        right, left = (content.measurements[f"PLL_{side}_{bone}"]["millimeters"] for side in "RL")
        (measurement,) = said.groups[f"DIFFERENCE_{bone}"].get_measurements()
        assert measurement.value == pytest.approx(right - left, abs=0.006)
        assert measurement.name.meaning == "Right minus left length"
        assert said.values["differences_mm"][word] == pytest.approx(right - left)
        assert f"{word}: {right - left:+.1f} mm" in said.panel


def test_all_say_how_a_length_is_defined_and_that_it_is_not_for_clinical_use(tmp_path: Path, phantom: Phantom):
    said = Said.by(content_of(tmp_path, phantom))
    for text in (f"{NOTICE}.", DEFINITION):
        assert text in said.comments
        assert text.removesuffix(".") in said.panel
        assert text in said.picture.DerivationDescription
    assert (said.values["notice"], said.values["definition"]) == (NOTICE, DEFINITION)
    assert "vertical" in DEFINITION
    assert "not distances along the bone" in DEFINITION
    (measurement,) = said.groups["PLL_R_FEM"].get_measurements()
    assert "Vertical distance" in measurement.method.meaning


def test_the_readme_says_the_same_of_clinical_use():
    assert NOTICE in (REPOSITORY / "README.md").read_text()


ASSUMED = {"PatientOrientation": None}
MIRRORED = {"PatientOrientation": ["R", "F"]}
AT_DETECTOR = {"PixelSpacing": None, "PixelSpacingCalibrationType": None, "PixelSpacingCalibrationDescription": None}
UNEXPLAINED = AT_DETECTOR | {"PixelSpacing": [0.5, 0.5], "ImagerPixelSpacing": [0.55, 0.55]}


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        (ASSUMED, "orientation_assumed", "assumed"),
        (MIRRORED, "orientation_mapped", "R\\F"),
        (AT_DETECTOR, "spacing_at_detector", "lengths are magnified"),
        (UNEXPLAINED, "spacing_unexplained", "how it was calibrated isn't stated"),
    ],
    ids=["assumed", "mirrored", "at the detector", "unexplained"],
)
def test_what_the_header_leaves_open_is_said_in_all_and_is_a_finding(
    tmp_path: Path, phantom: Phantom, values: dict, code: str, words: str
):
    said = Said.by(content_of(tmp_path, phantom, **values))
    assert code in {issue["code"] for issue in said.values["issues"]}
    assert any(words in comment for comment in said.comments)
    assert words in said.panel
    assert words in said.picture.DerivationDescription
    assert words in said.values["orientation"]["words"] + said.values["spacing"]["words"]
    (severity,) = {issue["severity"] for issue in said.values["issues"] if issue["code"] == code}
    assert (issue_words({"code": code}) in said.panel) == (severity == "warning")


def test_the_picture_states_an_orientation_only_where_the_image_does(tmp_path: Path, phantom: Phantom):
    stated = Said.by(content_of(tmp_path, phantom, **MIRRORED))
    assert stated.picture.PatientOrientation == ["L", "F"]
    assert stated.values["orientation"]["row"] == "R"
    assumed = Said.by(content_of(tmp_path, phantom, **ASSUMED))
    assert not assumed.picture.PatientOrientation
    assert assumed.values["orientation"]["is_assumed"] is True
    assert not np.array_equal(assumed.picture.pixel_array[:100, :150], stated.picture.pixel_array[:100, :150])  # R?


def test_the_pictures_laterality_is_what_is_known_of_it(tmp_path: Path, phantom: Phantom, one_legged: Phantom):
    both = Said.by(content_of(tmp_path, phantom)).picture
    assert (both.get("ImageLaterality"), "Laterality" in both) == ("B", False)
    right = Said.by(content_of(tmp_path, one_legged, ImageLaterality="R")).picture
    assert (right.get("Laterality"), "ImageLaterality" in right) == ("R", False)
    unknown = Said.by(content_of(tmp_path, one_legged)).picture
    assert (unknown["Laterality"].value or "", "ImageLaterality" in unknown) == ("", False)


def test_landmarks_of_a_mirrored_image_are_told_in_its_own_pixels(tmp_path: Path, phantom: Phantom):
    plain, mirrored = content_of(tmp_path, phantom), content_of(tmp_path, phantom, **MIRRORED)
    columns = phantom.pixels.shape[1]
    for before, after in zip(
        results_json.build(plain)["landmarks"], results_json.build(mirrored)["landmarks"], strict=True
    ):
        assert after["x"] == pytest.approx(columns - 1 - before["x"])
        assert after["y"] == before["y"]


# --- the picture's layout -----------------------------------------------------------------------


def assert_legible(content: ReportContent, count: int) -> None:
    _, layout = drawing.draw_with_layout(content)
    assert len(layout.labels) == count
    image = labels.Box(0, 0, layout.width, layout.height)
    for index, box in enumerate(layout.labels):
        assert box.overlap(image) == pytest.approx(box.area), "words leave the image"
        for other in layout.labels[index + 1 :]:
            assert box.overlap(other) == 0, "words lie on each other"
    for landmark in content.landmarks.values():
        rows, columns = content.radiograph.pixels.shape
        x, y = (landmark.x + 0.5) * layout.width / columns, (landmark.y + 0.5) * layout.height / rows
        cross = labels.Box(x - 18, y - 18, x + 18, y + 18)
        assert all(box.overlap(cross) == 0 for box in layout.labels), "words lie on a landmark"


@pytest.mark.parametrize("seed", range(10))
def test_words_lie_beside_what_they_name_and_over_nothing_else(tmp_path: Path, seed: int):
    assert_legible(content_of(tmp_path, make_phantom(np.random.default_rng(seed), Spacing(1.0, 1.0))), 8 + 4)


@pytest.mark.parametrize("share", [0.35, 0.6, 2.0])
def test_words_keep_apart_where_the_image_is_narrow_or_wide(tmp_path: Path, phantom: Phantom, share: float):
    columns = round(phantom.pixels.shape[1] * share)
    places = {label: (x * share, y) for label, (x, y) in phantom.landmarks.items()}
    pixels = np.resize(phantom.pixels, (phantom.pixels.shape[0], columns))
    other = dataclasses.replace(phantom, pixels=pixels, landmarks=places)
    assert_legible(content_of(tmp_path, other), 8 + 4)


def test_every_landmark_has_words(tmp_path: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    monkeypatch.setattr(drawing, "_write", lambda sheet, box, words, colour: written.append(words))
    drawing.draw_picture(content_of(tmp_path, phantom))
    assert {words for words in written if words[0].isdigit()} == {
        "1 head", "2 head", "3 lateral", "4 lateral", "5 medial", "6 medial", "7 ankle", "8 ankle",
    }  # fmt: skip


def test_a_wide_image_has_room_for_the_whole_panel(tmp_path: Path, phantom: Phantom):
    wide = dataclasses.replace(phantom, pixels=np.resize(phantom.pixels, (200, 900)), landmarks={}, lengths_mm={})
    content = content_of(tmp_path, wide, {})
    picture = drawing.draw_picture(content)
    assert picture[-20:, -600:].max() == 0  # the last line of the panel lies above
    assert picture.shape[0] > 800


def test_a_picture_reads_back(tmp_path: Path, phantom: Phantom):
    path = tmp_path / "picture.dcm"
    path.write_bytes(qa_image.encode(content_of(tmp_path, phantom)))
    source = pydicom.dcmread(tmp_path / "x.dcm")
    (reference,) = pydicom.dcmread(path).SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID


def test_a_report_reads_back(tmp_path: Path, phantom: Phantom):
    path = tmp_path / "report.dcm"
    path.write_bytes(structured_report.encode(content_of(tmp_path, phantom)))
    assert len(hd.sr.srread(path).content.get_image_measurement_groups()) == 9
