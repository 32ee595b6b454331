"""Of a DICOM header only what identifies nobody is kept, and no header can break anything."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monitoring.dicom_context import context, read_context

IDENTIFYING = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN0012345",
    "PatientBirthDate": "20160131",
    "AccessionNumber": "ACC77",
    "PatientAddress": "Elm",
    "ReferringPhysicianName": "House^Greg",
    "InstitutionName": "Mercy",
    "StudyDescription": "legs of Jane",
    "StudyDate": "20240115",
}


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for name, value in (IDENTIFYING | attributes).items():
        setattr(dataset, name, value)
    dataset.SeriesInstanceUID = generate_uid()
    return dataset


def saved(folder: Path, **attributes: Any) -> Path:
    dataset = header(**attributes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.save_as(folder / "image.dcm", enforce_file_format=True)
    return folder / "image.dcm"


FULL = {
    "PatientAge": "007Y",
    "PatientSex": "F",
    "BodyPartExamined": "LEG",
    "Rows": 3000,
    "Columns": 1000,
    "PixelSpacing": [0.14, 0.15],
}


def test_a_header_is_kept_as_age_sex_part_size_and_spacing(tmp_path: Path) -> None:
    expected = {
        "age_years": 7.0, "age_band": "5-8", "sex": "F", "body_part": "LEG", "rows": 3000.0, "columns": 1000.0,
        "row_spacing_mm": 0.14, "column_spacing_mm": 0.15,
    }  # fmt: skip
    assert context(header(**FULL)) == expected
    assert read_context(saved(tmp_path, **FULL)) == expected
    assert read_context(str(tmp_path / "image.dcm")) == expected


def test_nothing_that_identifies_is_kept() -> None:
    kept = str(context(header(**FULL)))
    assert not [value for value in IDENTIFYING.values() if value in kept]
    assert not [word for word in ("Doe", "Jane", "2016", "1.2.") if word in kept]


@pytest.mark.parametrize(
    ("age", "years", "band"),
    [
        ("000D", 0, "0-1"),
        ("364D", 0, "0-1"),
        ("051W", 0, "0-1"),
        ("023M", 1, "0-1"),
        ("024M", 2, "2-4"),
        ("004Y", 4, "2-4"),
        ("005Y", 5, "5-8"),
        ("008Y", 8, "5-8"),
        ("009Y", 9, "9-12"),
        ("012Y", 12, "9-12"),
        ("013Y", 13, "13-17"),
        ("017Y", 17, "13-17"),
        ("018Y", 18, "18+"),
        ("089Y", 89, "18+"),
        ("095Y", 90, "18+"),
    ],
)
def test_an_age_is_completed_years_and_a_band(age: str, years: float, band: str) -> None:
    found = context(header(PatientAge=age))
    assert (found["age_years"], found["age_band"]) == (years, band)


@pytest.mark.parametrize("age", [None, "", "7", "7Y", "Y007", "007X", "-07Y", "999Y", "Doe^Jane", "20160131"])
def test_an_age_that_is_none_is_missing(age: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not {"age_years", "age_band"} & set(context(header(PatientAge=age)))


@pytest.mark.parametrize("spacing", [None, [], [0.14], [0.0, 0.0], [-0.1, 0.1], [0.14, 0.14, 0.14]])
def test_a_spacing_that_is_none_is_missing_and_the_imagers_takes_its_place(spacing: Any) -> None:
    assert "row_spacing_mm" not in context(header(PixelSpacing=spacing))
    found = context(header(PixelSpacing=spacing, ImagerPixelSpacing=[0.2, 0.3]))
    assert (found["row_spacing_mm"], found["column_spacing_mm"]) == (0.2, 0.3)


@pytest.mark.parametrize(("name", "value"), [("PatientSex", "JANE"), ("BodyPartExamined", "LEG OF JANE"), ("Rows", 0)])
def test_a_value_that_is_not_on_the_list_is_missing(name: str, value: Any) -> None:
    assert "Jane" not in str(context(header(**{**FULL, name: value}))).title()
    assert len(context(header(**{**FULL, name: value}))) == len(context(header(**FULL))) - 1


def test_one_value_that_cant_be_read_costs_the_others_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, **FULL)
    broken = path.read_bytes().replace(b"0.14\\0.15", b"0.14\\xxxx")
    assert broken != path.read_bytes()
    path.write_bytes(broken)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_context(path)
    assert (found["age_years"], found["rows"]) == (7.0, 3000.0)
    assert "row_spacing_mm" not in found


def test_reading_logs_no_value_even_where_pydicom_finds_one_odd(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    path = saved(tmp_path, **FULL)
    uid = str(pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID)
    odd = f"x{uid[1:]}"
    path.write_bytes(path.read_bytes().replace(uid.encode(), odd.encode()))
    recwarn.clear()
    caplog.clear()
    found = read_context(path)
    assert found["rows"] == 3000.0
    assert (caplog.text, recwarn.list) == ("", [])
    assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID == odd
    assert odd in str(recwarn.list[0].message), "pydicom does find it odd"


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_was_cut_off_anywhere_raises_nothing(tmp_path: Path) -> None:
    whole = saved(tmp_path, **FULL).read_bytes()
    assert len(read_context(tmp_path / "image.dcm")) == 8
    for length in range(len(whole)):
        (tmp_path / "image.dcm").write_bytes(whole[:length])
        assert len(read_context(tmp_path / "image.dcm")) <= 8


@pytest.mark.parametrize("path", [None, 5, b"x", "", "/nowhere.dcm", "/", __file__, "a\0b", [], object()])
def test_what_is_no_image_has_no_context(path: Any) -> None:
    assert read_context(path) == {}


def test_the_images_that_pydicom_comes_with_can_be_read() -> None:
    for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "693_J2KI.dcm"):
        path = get_testdata_file(name)
        assert isinstance(read_context(path), dict)
        assert str(pydicom.dcmread(str(path)).PatientID) not in read_context(path).values()


def test_no_damaged_file_raises(tmp_path: Path) -> None:
    whole = saved(tmp_path, **FULL).read_bytes()
    damaged = tmp_path / "damaged.dcm"

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(128, len(whole) - 1), st.integers(0, 255)), max_size=8),
        st.integers(0, len(whole)),
    )
    def check(changes: list[tuple[int, int]], length: int) -> None:
        content = bytearray(whole)
        for index, byte in changes:
            content[index] = byte
        damaged.write_bytes(content[:length])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert set(read_context(damaged)) <= {
                "age_years", "age_band", "sex", "body_part", "rows", "columns", "row_spacing_mm", "column_spacing_mm"
            }  # fmt: skip

    check()
