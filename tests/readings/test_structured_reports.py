"""Readers' measurements in DICOM structured reports, and whose measurements are not taken for a reader's."""

from __future__ import annotations

import builtins
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from analysis.landmarks import Spacing
from analysis.outputs import structured_report
from analysis.phantom import make_phantom
from analysis.phantom.files import write_phantom
from analysis.pipeline import find_series, load_detectors, process_series
from analysis.settings import AnalysisSettings
from monitoring.exceptions import ConfigurationError
from monitoring.readings.structured_reports import Report, read_report
from tests.support import reading_reports as made
from tests.support.reading_reports import CM, FEMUR, HIP, LEFT, LOWER_LIMB, RIGHT, TIBIA, group

Read = Callable[[Dataset], Report]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return lambda report: read_report(made.saved(report, tmp_path / "report.dcm"), "report.dcm")


def lengths(report: Report) -> dict[str, float]:
    assert (report.refusal, report.parsed.problems) == ("", ())
    (reading,) = report.parsed.readings
    return dict(reading.measurements_mm)


def test_measurements_are_named_by_their_tracking_identifier(read: Read) -> None:
    names = ("PLL_R_FEM", "PLL_R_TIB", "PLL_L_FEM", "PLL_L_TIB", "PLL_R_LGL", "PLL_L_LGL")
    groups = [group(300.5 + number, tracking=name) for number, name in enumerate(names)]
    assert lengths(read(made.report(groups))) == {name: 300.5 + number for number, name in enumerate(names)}


def test_or_by_their_finding_site_and_its_side_in_mm_or_cm(read: Read) -> None:
    groups = [
        group(37.12, CM, site=FEMUR, side=RIGHT), group(300.0, site=TIBIA, side=RIGHT),
        group(370.0, site=FEMUR, side=LEFT), group(67.0, CM, site=LOWER_LIMB, side=LEFT),
    ]  # fmt: skip
    assert lengths(read(made.report(groups))) == {
        "PLL_R_FEM": 371.2, "PLL_R_TIB": 300.0, "PLL_L_FEM": 370.0, "PLL_L_LGL": 670.0,
    }  # fmt: skip


def test_a_distance_counts_as_a_length_and_older_codes_are_known(read: Read) -> None:
    groups = [
        group(371.2, name=Code("121206", "DCM", "Distance"), tracking="PLL_L_FEM"),
        group(300.0, name=Code("G-D7FE", "SRT", "Length"), site=Code("T-12740", "SRT", "Tibia"),
              side=Code("G-A101", "SRT", "Left")),
    ]  # fmt: skip
    assert lengths(read(made.report(groups))) == {"PLL_L_FEM": 371.2, "PLL_L_TIB": 300.0}


@pytest.mark.parametrize(
    "other",
    [
        group(371.2, site=FEMUR),  # which side?
        group(371.2, site=HIP, side=RIGHT),
        group(371.2),
        group(12.0, tracking="PLL_R_FEM", unit=Code("deg", "UCUM", "degree")),
        group(371.2, tracking="PLL_R_FEM", name=Code("G-A220", "SRT", "Width")),
        group(371.2, tracking="PLL_R_FEM", site=FEMUR, side=LEFT),
        group(371.2, tracking="PLL_R_FEM", site=TIBIA, side=RIGHT),
        group(371.2, tracking="PLL_R_FEM", algorithm="leglength"),
        group(371.2, tracking="PLL_R_FEM", derivation=Code("386136009", "SCT", "Standard Deviation")),
    ],
    ids=["side", "site", "nothing", "unit", "width", "contradicting side", "contradicting bone", "algorithm", "SD"],
)
def test_anything_else_is_left_out_and_counted(read: Read, other: Any) -> None:
    found = read(made.report([group(400.0, tracking="PLL_L_FEM"), other]))
    assert lengths(found) == {"PLL_L_FEM": 400.0}
    assert found.left_out == 1
    alone = read(made.report([other]))
    assert (alone.parsed.readings, alone.left_out) == ((), 1)
    assert alone.refusal.startswith("no length of a femur")


def test_a_mean_of_several_is_a_measurement(read: Read) -> None:
    mean = group(371.2, tracking="PLL_R_FEM", derivation=Code("373098007", "SCT", "Mean"))
    assert lengths(read(made.report([mean]))) == {"PLL_R_FEM": 371.2}


def test_the_exam_is_the_series_that_was_measured_and_else_the_study(read: Read) -> None:
    groups = [group(400.0, tracking="PLL_L_FEM")]
    (reading,) = read(made.report(groups)).parsed.readings
    assert reading.exam == ("series", "1.2.826.0.1.7.1")
    assert reading.identifiers == {"series": "1.2.826.0.1.7.1", "study": "1.2.826.0.1.7", "accession": "A1"}
    both = [made.image(), made.image(series="1.2.826.0.1.7.2")]
    both[1].SOPInstanceUID = "1.2.826.0.1.7.2.1"
    (reading,) = read(made.report(groups, both)).parsed.readings
    assert reading.exam == ("study", "1.2.826.0.1.7")


def test_the_reader_is_the_person_who_observed_or_else_who_verified(read: Read) -> None:
    groups = [group(400.0, tracking="PLL_L_FEM")]
    assert read(made.report(groups)).parsed.readings[0].reader == "Rita^Reader"
    anonymous = made.report(groups)
    anonymous.ContentSequence = [item for item in anonymous.ContentSequence if item.ValueType != "PNAME"]
    assert read(anonymous).parsed.readings[0].reader == ""
    verifier = Dataset()
    verifier.VerifyingObserverName = "Vera^Verifier"
    anonymous.VerifyingObserverSequence = [verifier]
    assert read(anonymous).parsed.readings[0].reader == "Vera^Verifier"


def test_a_report_by_a_device_alone_is_no_readers_but_with_a_person_it_is(read: Read) -> None:
    groups = [group(400.0, tracking="PLL_L_FEM")]
    by_software = read(made.report(groups, by_device=made.device()))
    assert by_software.parsed.readings == ()
    assert by_software.refusal.startswith("made by a device")
    assert lengths(read(made.report(groups, reader=made.person(), by_device=made.device())))


def test_the_applications_own_report_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    phantom = make_phantom(np.random.default_rng(3), Spacing(0.7, 0.7))
    write_phantom(folder, phantom, np.random.default_rng(1), "1.2.826.0.1.1")
    settings = AnalysisSettings()
    (series,) = find_series(folder)
    process_series(series, load_detectors(settings), settings, tmp_path)
    reports = [found for path in tmp_path.glob("*.dcm") if (found := read_report(path, path.name)).is_report]
    assert [found.refusal for found in reports] == ["made by a device, such as this application: no reader's"]
    assert structured_report.LENGTH.value == made.LENGTH.value


def test_an_algorithms_measurement_that_a_person_signed_is_still_the_algorithms(read: Read) -> None:
    found = read(made.report([group(400.0, tracking="PLL_L_FEM", algorithm="leglength")], reader=made.person()))
    assert (found.parsed.readings, found.left_out) == ((), 1)


def test_two_values_for_one_measurement_and_lengths_that_no_leg_has_are_problems(read: Read) -> None:
    twice = read(made.report([group(400.0, tracking="PLL_L_FEM"), group(401.0, tracking="PLL_L_FEM")]))
    assert twice.parsed.problems == ("report.dcm: two values for PLL_L_FEM",)
    same = read(made.report([group(400.0, tracking="PLL_L_FEM"), group(40.0, CM, site=FEMUR, side=LEFT)]))
    assert lengths(same) == {"PLL_L_FEM": 400.0}
    short = read(made.report([group(4.0, tracking="PLL_L_FEM")]))
    assert short.parsed.problems == ("report.dcm, PLL_L_FEM_mm: below 30 mm, is this cm?",)


def test_what_is_no_report_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_bytes(b"this is no DICOM file\n" * 20)
    phantom = make_phantom(np.random.default_rng(3), Spacing(0.7, 0.7))
    for path in (tmp_path / "text.dcm", write_phantom(tmp_path, phantom, np.random.default_rng(1), "1.2.826.0.1.1")):
        found = read_report(path, "x")
        assert (found.is_report, found.refusal) == (False, "no DICOM structured report")


def test_a_report_that_is_cut_off_anywhere_raises_nothing_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = made.saved(made.report([group(400.0, tracking="PLL_L_FEM")]), tmp_path / "whole.dcm")
    content = path.read_bytes()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for length in range(0, len(content), max(1, len(content) // 97)):
            path.write_bytes(content[:length])
            assert all(reading.measurements_mm for reading in read_report(path, "x").parsed.readings)
    assert caplog.records == []


def test_nothing_is_said_about_odd_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = made.report([group(400.0, tracking="PLL_L_FEM")])
    long = DataElement("CodeValue", "SH", "Zzyzxson Quillaboo is too long", validation_mode=config.IGNORE)
    number = report.ContentSequence[-1].ContentSequence[0].ContentSequence[-1]
    number.ConceptNameCodeSequence[0].add(long)
    path = made.saved(report, tmp_path / "odd.dcm")
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = read_report(path, "x")
    assert (found.parsed.readings, found.left_out) == ((), 1)
    assert (caplog.records, warned) == ([], [])


def test_without_pydicom_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"need pydicom: pip install 'leglength-monitoring\[dicom\]'"):
        read_report(tmp_path / "x.dcm", "x")
