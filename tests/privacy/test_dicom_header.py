"""Of a DICOM header only what identifies nobody is kept, and no header can break anything."""

from __future__ import annotations

import logging
import os
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from monitoring.privacy.dicom_header import ImageFacts, context, quiet_pydicom, read_image
from monitoring.privacy.pseudonyms import Pseudonymizer
from monitoring.privacy.radiography_devices import VENDORS, device_model, manufacturer
from monitoring.settings import PrivacyConfig

NAMES = Pseudonymizer(b"0123456789abcdef")
KEYS = ("study_key", "patient_key", "accession_key")

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
    "Manufacturer": "Jane's SIEMENS",
    "ManufacturerModelName": "Ysio of Jane",
    "StudyInstanceUID": "1.2.826.0.1.55",
}
KEPT_OF_THE_DEVICE = {"manufacturer": "Siemens Healthineers", "device_model": "Ysio"}


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for name, value in (IDENTIFYING | attributes).items():
        setattr(dataset, name, value)
    dataset.SeriesInstanceUID = generate_uid()
    return dataset


def saved(folder: Path, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
    dataset = header(**attributes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.save_as(folder / "image.dcm", enforce_file_format=True)
    return folder / "image.dcm"


def facts(path: Any, **privacy: Any) -> ImageFacts:
    return read_image(path, NAMES, PrivacyConfig(**privacy))


def read_context(path: Any) -> dict[str, str | float]:
    return facts(path).context


FULL = {
    "PatientAge": "007Y",
    "PatientSex": "F",
    "BodyPartExamined": "LEG",
    "Rows": 3000,
    "Columns": 1000,
    "PixelSpacing": [0.14, 0.15],
}


def test_a_header_is_kept_as_age_sex_part_size_spacing_and_kind_of_device(tmp_path: Path) -> None:
    expected = {
        "age_years": 7.0, "age_band": "5-8", "sex": "F", "body_part": "LEG", "rows": 3000.0, "columns": 1000.0,
        "row_spacing_mm": 0.14, "column_spacing_mm": 0.15, **KEPT_OF_THE_DEVICE,
    }  # fmt: skip
    assert context(header(**FULL)) == expected
    assert read_context(saved(tmp_path, **FULL)) == expected
    assert read_context(str(tmp_path / "image.dcm")) == expected


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.dcm"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    assert facts(path) == ImageFacts()


def test_a_deflated_file_is_inflated_as_far_as_its_header_goes(tmp_path: Path) -> None:
    path = saved(tmp_path, DeflatedExplicitVRLittleEndian, PatientAge="010Y")
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")  # DICOM PS3.10, 7.1: the group's length comes first
    header = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + (1 << 30).to_bytes(4, "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 24)
    bomb = deflate.compress(header + pixels) + b"".join(deflate.compress(zeros) for _ in range(16)) + deflate.flush()
    path.write_bytes(content[:start] + bomb)
    tracemalloc.start()
    try:
        assert read_context(path)["age_years"] == 10
        assert tracemalloc.get_traced_memory()[1] < 100_000_000  # of the 268 that it inflates to
    finally:
        tracemalloc.stop()


def test_nothing_that_identifies_is_kept() -> None:
    kept = str(context(header(**FULL)))
    assert not [value for value in IDENTIFYING.values() if value in kept]
    assert not [word for word in ("Doe", "Jane", "2016", "1.2.") if word in kept]


AGES = {
    "000D": (0, "0-1"), "364D": (0, "0-1"), "051W": (0, "0-1"), "023M": (1, "0-1"), "024M": (2, "2-4"),
    "004Y": (4, "2-4"), "005Y": (5, "5-8"), "008Y": (8, "5-8"), "009Y": (9, "9-12"), "012Y": (12, "9-12"),
    "013Y": (13, "13-17"), "017Y": (17, "13-17"), "018Y": (18, "18+"), "089Y": (89, "18+"), "095Y": (90, "18+"),
}  # fmt: skip


def test_an_age_is_completed_years_and_a_band() -> None:
    found = {age: context(header(PatientAge=age)) for age in AGES}
    assert {age: (facts["age_years"], facts["age_band"]) for age, facts in found.items()} == AGES


@pytest.mark.filterwarnings("ignore")
def test_an_age_that_is_none_is_missing() -> None:
    for age in (None, "", "7", "7Y", "Y007", "007X", "-07Y", "999Y", "Doe^Jane", "20160131"):
        assert not {"age_years", "age_band"} & set(context(header(PatientAge=age))), age


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
    assert len(read_context(tmp_path / "image.dcm")) == 10
    for length in range(len(whole)):
        (tmp_path / "image.dcm").write_bytes(whole[:length])
        found = facts(tmp_path / "image.dcm")
        assert len(found.context) <= 10
        assert set(found.keys) <= set(KEYS)


@pytest.mark.parametrize("path", [None, 5, b"x", "", "/nowhere.dcm", "/", __file__, "a\0b", [], object()])
def test_what_is_no_image_has_no_context(path: Any) -> None:
    assert facts(path) == ImageFacts({}, {})


def test_the_images_that_pydicom_comes_with_can_be_read() -> None:
    for name in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "693_J2KI.dcm"):
        path = get_testdata_file(name)
        assert isinstance(read_context(path), dict)
        assert str(pydicom.dcmread(str(path)).PatientID) not in read_context(path).values()


def test_no_damaged_file_raises(tmp_path: Path) -> None:
    whole = saved(tmp_path, **FULL).read_bytes()
    damaged = tmp_path / "damaged.dcm"

    @settings(max_examples=150)
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
            found = facts(damaged)
            assert set(found.keys) <= set(KEYS)
            assert set(found.context) <= {
                "age_years", "age_band", "sex", "body_part", "rows", "columns", "row_spacing_mm", "column_spacing_mm",
                *KEPT_OF_THE_DEVICE,
            }  # fmt: skip

    check()


# --- keyed hashes --------------------------------------------------------------------------------


def test_study_patient_and_accession_are_kept_as_keyed_hashes(tmp_path: Path) -> None:
    assert facts(saved(tmp_path, **FULL)).keys == {
        "study_key": NAMES.study("1.2.826.0.1.55"),
        "patient_key": NAMES.patient("MRN0012345"),
        "accession_key": NAMES.accession("ACC77"),
    }


def test_no_identifier_is_in_what_is_kept(tmp_path: Path) -> None:
    shown = repr(facts(saved(tmp_path, **FULL)))
    assert not [value for value in IDENTIFYING.values() if value in shown]
    assert "Jane" not in shown


@pytest.mark.parametrize(
    ("keyword", "key"),
    [("StudyInstanceUID", "study_key"), ("PatientID", "patient_key"), ("AccessionNumber", "accession_key")],
)
@pytest.mark.parametrize("value", ["", "  ", None])
@pytest.mark.filterwarnings("ignore")
def test_an_identifier_that_the_header_lacks_has_no_key(tmp_path: Path, keyword: str, key: str, value: Any) -> None:
    assert set(facts(saved(tmp_path, **{keyword: value})).keys) == set(KEYS) - {key}


def test_the_issuer_of_the_patients_number_counts(tmp_path: Path) -> None:
    plain = facts(saved(tmp_path)).keys
    issued = facts(saved(tmp_path, IssuerOfPatientID="Mercy ")).keys
    assert issued["patient_key"] == NAMES.patient("MRN0012345", "Mercy") != plain["patient_key"]
    assert issued["accession_key"] == plain["accession_key"]


@pytest.mark.parametrize("encoding", [("ISO_IR 100", "latin-1"), ("ISO_IR 192", "utf-8"), ("ISO_IR 192", "latin-1")])
def test_an_identifier_in_any_character_set_is_the_one_that_a_person_writes(
    tmp_path: Path, encoding: tuple[str, str]
) -> None:
    declared, used = encoding
    path = saved(tmp_path, SpecificCharacterSet=declared, AccessionNumber="Q" * 8)
    path.write_bytes(path.read_bytes().replace(b"Q" * 8, "Käthe7".encode(used).ljust(8)))
    assert facts(path).keys["accession_key"] == NAMES.accession("Käthe7")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_a_file_in_another_encoding_has_the_same_facts(tmp_path: Path, syntax: str) -> None:
    expected = facts(saved(tmp_path, **FULL))
    assert len(expected.keys) == 3
    assert facts(saved(tmp_path, syntax, **FULL)) == expected


@pytest.mark.parametrize(
    ("privacy", "missing"),
    [
        ({"age": "band"}, {"age_years"}),
        ({"age": "none"}, {"age_years", "age_band"}),
        ({"device": False}, {"manufacturer", "device_model"}),
        ({"patient_key": False}, {"patient_key"}),
        ({"age": "none", "device": False, "patient_key": False},
         {"age_years", "age_band", "manufacturer", "device_model", "patient_key"}),
    ],
)  # fmt: skip
def test_the_privacy_settings_leave_out_more(tmp_path: Path, privacy: dict[str, Any], missing: set[str]) -> None:
    path = saved(tmp_path, **FULL)
    all_of_it, less = facts(path), facts(path, **privacy)
    assert less.context == {name: value for name, value in all_of_it.context.items() if name not in missing}
    assert less.keys == {name: value for name, value in all_of_it.keys.items() if name not in missing}


# --- silence -------------------------------------------------------------------------------------


def odd(folder: Path) -> Path:
    """A file whose values pydicom complains of, by quoting them."""
    path = saved(folder, **FULL, SpecificCharacterSet="ISO_IR 192")
    content = path.read_bytes()
    for plain, canary in (
        (b"007Y", b"CNRY"), (b"MRN0012345", b"MRN\xff\xfe12345"), (b"ISO_IR 192", b"CANARYCSET"),
        (b"1.2.826.0.1.55", b"1.2.826.CANARY"), (b"0.14\\0.15", b"CAN\\ARY77"),
    ):  # fmt: skip
        assert plain in content
        content = content.replace(plain, canary)
    path.write_bytes(content)
    return path


def test_reading_odd_values_says_nothing_and_leaves_the_hosts_warnings_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    path = odd(tmp_path)
    logger = logging.getLogger("pydicom")
    before = (list(warnings.filters), list(logger.filters), logger.level)
    recwarn.clear()
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        found = facts(path)
    assert (caplog.text, recwarn.list) == ("", [])
    assert set(found.keys) == set(KEYS)
    assert (list(warnings.filters), list(logger.filters), logger.level) == before
    pydicom.dcmread(path).get("StudyInstanceUID")
    said = str([warning.message for warning in recwarn.list])
    assert "CANARYCSET" in said, "pydicom does quote it"
    assert "1.2.826.CANARY" in said, "pydicom does quote it"


def test_another_threads_log_lines_are_not_kept_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def other() -> None:
        logging.getLogger("pydicom").warning("of the host")

    with quiet_pydicom():
        logging.getLogger("pydicom").warning("of this thread")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert caplog.messages == ["of the host"]


def test_two_threads_that_read_at_once_leave_no_rule_behind() -> None:
    before = list(warnings.filters)
    alone = quiet_pydicom()
    alone.__enter__()
    with warnings.catch_warnings():
        alone.__exit__(None, None, None)
    assert list(warnings.filters) == before
    first, second = quiet_pydicom(), quiet_pydicom()
    first.__enter__()
    with warnings.catch_warnings():  # copies the rules, and brings back the old ones
        second.__enter__()
        first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert list(warnings.filters) == before


# --- devices -------------------------------------------------------------------------------------


DEVICES = {
    ("SIEMENS", "Ysio Max"): ("Siemens Healthineers", "Ysio"),
    ("Siemens Healthineers", "MULTIX Impact"): ("Siemens Healthineers", "Multix"),
    ("SIEMENS ", "AXIOM Luminos dRF"): ("Siemens Healthineers", "Luminos"),
    ("Siemens AG", "Fluorospot Compact FD"): ("Siemens Healthineers", "Fluorospot"),
    ('"GE Healthcare"', '"Definium 8000"'): ("GE HealthCare", "Definium"),
    ("GE MEDICAL SYSTEMS", "Discovery XR656"): ("GE HealthCare", "Discovery XR"),
    ("GE_Healthcare", "Optima XR220amx"): ("GE HealthCare", "Optima XR"),
    ("Philips Medical Systems", "digitalDIAGNOST"): ("Philips", "DigitalDiagnost"),
    ("PHILIPS", "Digital Diagnost C90"): ("Philips", "DigitalDiagnost"),
    ("Philips", "ProGrade"): ("Philips", "ProGrade"),
    ("Canon Inc.", "CXDI Control Software NE"): ("Canon", "CXDI"),
    ("FUJIFILM Corporation", "FDR-Go PLUS"): ("Fujifilm", "FDR"),
    ("FUJI PHOTO FILM Co., ltd.", "FCR XG-1"): ("Fujifilm", "FCR"),
    ("CARESTREAM HEALTH", "DRX-Evolution"): ("Carestream", "DRX"),
    ("KODAK", "Kodak DirectView CR 975"): ("Carestream", "DirectView"),
    ("Agfa-Gevaert AG", "DX-D 300"): ("Agfa", "DX-D"),
    ("Samsung Electronics", "GC85A"): ("Samsung", "GC85"),
    ("KONICA MINOLTA", "AeroDR SYSTEM"): ("Konica Minolta", "AeroDR"),
    ("SHIMADZU", "RADspeed Pro"): ("Shimadzu", "RadSpeed"),
    ("EOS imaging", "EOSedge"): ("EOS imaging", "EOSedge"),
    ("EOS imaging", "EOS"): ("EOS imaging", "EOS"),
    ("Phantom Imaging", "LongLeg 1"): ("other", "other"),
    ("Siemens", "LongLeg 1"): ("Siemens Healthineers", "other"),
    ("Philips", "Ysio"): ("Philips", "other"),
    ("Gemini General Clinic", "Doe^Jane"): ("other", "other"),
    ("Videos Ltd", "EOS"): ("other", "other"),
    ("", "Ysio"): ("other", "other"),
}


def test_a_device_is_named_in_the_vocabularys_own_words() -> None:
    assert {device: (manufacturer(device[0]), device_model(*device)) for device in DEVICES} == DEVICES


def test_no_word_of_a_device_comes_from_the_file() -> None:
    names = {vendor.name for vendor in VENDORS} | {"other"}
    families = {family for vendor in VENDORS for family in vendor.families} | {"other"}

    @given(st.text(max_size=300), st.text(max_size=300), st.sampled_from([*VENDORS, None]))
    def check(maker: str, model: str, vendor: Any) -> None:
        maker += f" {vendor.spellings[0]}" if vendor else ""
        model += f" {next(iter(vendor.families.values()))[0]}" if vendor and vendor.families else ""
        assert manufacturer(maker) in names
        assert device_model(maker, model) in families

    check()


def test_each_vendor_is_found_by_its_own_name_and_each_family_by_its_own() -> None:
    for vendor in VENDORS:
        assert manufacturer(vendor.name) == vendor.name
        assert manufacturer(vendor.spellings[0].upper()) == vendor.name
        for family, spellings in vendor.families.items():
            assert [device_model(vendor.name, spelling) for spelling in spellings] == [family] * len(spellings)


def test_a_device_that_the_header_lacks_is_missing_and_one_without_a_name_of_its_own_is_other() -> None:
    assert "manufacturer" not in context(header(Manufacturer=None, ManufacturerModelName=""))
    assert "device_model" not in context(header(ManufacturerModelName=" "))
    assert context(header(Manufacturer="Nobody"))["device_model"] == "other"
