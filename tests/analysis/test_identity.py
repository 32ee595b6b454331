"""Every text of a header that may tell whose it is gets found, wherever and however it stands there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from analysis.identity import identifying_texts
from analysis.phantom import Phantom
from analysis.phantom.files import dataset_of
from tests.analysis.conftest import packaged

EVERYBODYS = {
    "Modality": "DX",
    "BodyPartExamined": "LEG",
    "PhotometricInterpretation": "MONOCHROME2",
    "ImageType": ["DERIVED", "PRIMARY", "POST_PROCESSED"],
    "StudyDescription": "Long leg (standing), AP",
    "SeriesDescription": "Series",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "PatientSex": "F",
    "SeriesNumber": 1000,
    "PixelSpacing": [0.143, 0.1435],
    "WindowCenter": "2048",
    "KVP": "70.5",
}


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the tests themselves write
        yield


def saved(folder: Path, syntax: str = ExplicitVRLittleEndian, name: str = "x.dcm", **attributes: Any) -> Path:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return save(folder / name, dataset, syntax)


def save(path: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.4711"
    dataset.file_meta.SourceApplicationEntityTitle = "SENDER7"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_texts_of_every_kind_are_found_nested_and_private_ones_too(tmp_path: Path, syntax: str) -> None:
    item, inner = Dataset(), Dataset()
    inner.PatientID = "INNERMOST-9"
    item.PatientID, item.OtherPatientIDsSequence = "NESTED-7", Sequence([inner])
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID, dataset.StudyInstanceUID = "Doe^Jane", "PID-7", "1.2.826.0.1.99"
    dataset.PatientBirthDate, dataset.StudyTime = "20190317", "093311.5"
    dataset.PatientComments, dataset.StationName, dataset.RequestingService = (
        "brother\r\nof Wolfgrim",
        "ST1",
        "AE\\BE77",
    )
    dataset.OtherPatientIDsSequence = Sequence([item])
    block = dataset.private_block(0x99, "CREATOR OF PRIVATE", create=True)
    block.add_new(1, "LO", "private-text")
    block.add_new(2, "UN", b"text in unknown")
    block.add_new(3, "OB", b"\0\1\2CSA header with Somebody\0\3")
    block.add_new(4, "SQ", Sequence([item]))
    found = identifying_texts([save(tmp_path / "x.dcm", dataset, syntax)])
    assert found >= {
        "Doe^Jane", "PID-7", "1.2.826.0.1.99", "20190317", "093311.5", "of Wolfgrim", "brother", "ST1", "BE77",
        "NESTED-7", "INNERMOST-9", "CREATOR OF PRIVATE", "private-text", "text in unknown",
        "CSA header with Somebody", "SENDER7", "1.2.826.0.1.4711",
    }  # fmt: skip


def test_what_every_radiograph_says_is_not_among_them(tmp_path: Path) -> None:
    plain = identifying_texts([saved(tmp_path)])
    assert not [text for text in plain if text.startswith("1.2.840.10008.")]
    assert identifying_texts([saved(tmp_path, **EVERYBODYS)]) - plain == {"F"}  # which is too short to be removed


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Series^Image"),
        ("PatientName", "Standing"),
        ("PatientID", "123 456"),
        ("PatientID", "patient 123 456"),
        ("PatientID", "12-34-56"),
        ("StudyInstanceUID", "1.2.3.4"),
        ("StudyDescription", "Standing Wolfgrim"),
    ],
)
def test_what_may_tell_somebody_is_found_even_if_it_is_made_of_everybodys_words(
    tmp_path: Path, keyword: str, value: str
) -> None:
    assert value in identifying_texts([saved(tmp_path, **{keyword: value})])


def test_a_person_s_name_is_found_in_its_parts_and_writings(tmp_path: Path) -> None:
    path = saved(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert identifying_texts([path]) >= {"Yamada^Tarou", "山田^太郎", "やまだ^たろう", "Yamada", "Tarou"}
    assert identifying_texts([saved(tmp_path, OperatorsName="Doe, Jane Marie")]) >= {"Doe", "Jane", "Marie"}


@pytest.mark.parametrize(
    ("declared", "raw", "text"),
    [
        ("ISO_IR 100", "Käthe77".encode("latin-1"), "Käthe77"),
        ("ISO_IR 192", "Käthe77".encode(), "Käthe77"),
        ("ISO_IR 6", "Käthe77".encode(), "Käthe77"),
        ("ISO_IR 192", "Käthe77".encode("latin-1"), "Käthe77"),
        ("ISO_IR 144", "Люкceмб".encode("iso8859_5"), "Люкceмб"),
        ("\\ISO 2022 IR 87", b"ABCD\x1b$B;3ED\x1b(B", "ABCD山田"),
        ("GB18030", "王小东".encode("gb18030"), "王小东"),
        ("NO SUCH SET", b"plain77", "plain77"),
    ],
)
def test_texts_are_decoded_as_declared_and_as_they_are(tmp_path: Path, declared: str, raw: bytes, text: str) -> None:
    mark = b"Q" * (len(raw) + len(raw) % 2)
    path = saved(tmp_path, SpecificCharacterSet="S" * 16, PatientID=mark.decode())
    content = path.read_bytes().replace(b"S" * 16, declared.encode().ljust(16))
    path.write_bytes(content.replace(mark, raw.ljust(len(mark))))
    assert text in identifying_texts([path])


def test_a_date_is_found_as_people_write_it(tmp_path: Path) -> None:
    found = identifying_texts([saved(tmp_path, PatientBirthDate="20190317", AcquisitionDateTime="20220704093311.5")])
    assert found >= {"20190317", "2019-03-17", "17.03.2019", "03/17/2019", "2019, 3, 17", "2022-07-04"}


@pytest.mark.parametrize("value", ["12345678", "CANARY77"])
def test_a_number_is_found_where_it_may_be_an_identifier(tmp_path: Path, value: str) -> None:
    path = saved(tmp_path, SeriesNumber="11111111")
    path.write_bytes(path.read_bytes().replace(b"11111111", value.encode()))
    assert value in identifying_texts([path])


def test_the_files_name_its_parts_and_telling_folders_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "1.2.826.5" / "Doe^Jane" / "incoming"
    folder.mkdir(parents=True)
    path = folder / "Mustermann_Ada_left-leg#1.2.3.dcm"
    path.write_bytes(b"")
    found = identifying_texts([path])
    assert found >= {path.name, path.stem, "Mustermann_Ada_left-leg", "Mustermann", "1.2.3", "1.2.826.5", "Doe^Jane"}
    assert not found & {"left", "leg", "incoming", "tmp"}


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"Somebody^Else " * 9, b"\0\1Somebody^Else\0\xff\2"])
def test_of_what_is_no_dicom_file_the_readable_parts_are_found(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.dcm").write_bytes(content)
    found = "|".join(identifying_texts([tmp_path / "x.dcm"]))
    assert ("Somebody^Else" in found) == (b"Somebody" in content)


def test_a_file_that_is_gone_or_a_folder_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "folder77.dcm").mkdir()
    found = identifying_texts([tmp_path / "nobody77.dcm", tmp_path / "folder77.dcm"])
    assert found >= {"nobody77", "folder77"}


def test_wherever_a_file_was_cut_off_nothing_is_raised_and_what_is_left_is_found(
    tmp_path: Path, phantom: Phantom
) -> None:
    dataset = dataset_of(phantom, np.random.default_rng(1))
    dataset.AccessionNumber = "ACC-770011"
    path = tmp_path / "x.dcm"
    dataset.save_as(path, enforce_file_format=True)
    header = path.read_bytes()[:3000]
    position = header.index(b"ACC-770011") + 10
    for length in range(0, len(header), 7):
        path.write_bytes(header[:length])
        found = identifying_texts([path])
        assert ("ACC-770011" in found) or length < position


def test_no_damaged_file_raises(tmp_path: Path) -> None:
    item = Dataset()
    item.PatientID = "NESTED"
    path = saved(tmp_path, PatientName="Doe^Jane", OtherPatientIDsSequence=Sequence([item]), Rows=5, StudyTime="1011")
    whole, damaged = path.read_bytes(), tmp_path / "damaged.dcm"

    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.integers(128, len(whole) - 1), st.integers(0, 255)), max_size=8))
    def check(changes: list[tuple[int, int]]) -> None:
        content = bytearray(whole)
        for index, byte in changes:
            content[index] = byte
        damaged.write_bytes(content)
        assert damaged.name in identifying_texts([damaged])

    check()


@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm", "rtplan.dcm", "chrH31.dcm", "emri_small.dcm"])
def test_the_files_that_pydicom_comes_with_are_read_without_a_word(
    name: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    recwarn.clear()
    (path,) = packaged("data_store" if name == "emri_small.dcm" else "pydicom", name)
    assert path.stem in identifying_texts([path])
    assert (caplog.text, recwarn.list) == ("", [])
