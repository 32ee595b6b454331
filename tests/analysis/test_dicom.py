from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from analysis.dicom import choose_image, find_series, read_radiograph
from analysis.errors import SeriesFailed, SeriesSkipped, SeriesStop
from analysis.landmarks import Spacing
from analysis.spacing import read_spacing


def edited(path: Path, **values: object) -> Path:
    """The file with attributes changed; None removes one."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def header(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = 1000, 500
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def stop_of(path: Path) -> SeriesStop:
    with pytest.raises(SeriesStop) as caught:
        read_radiograph(path)
    return caught.value


def test_files_are_grouped_by_the_name_before_the_hash(tmp_path: Path):
    for name in ("2.5#a.dcm", "2.5#b.DCM", "1.2.dcm", "task.json", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.dcm").mkdir()
    found = {series.series_id: [path.name for path in series.files] for series in find_series(tmp_path)}
    assert found == {"1.2": ["1.2.dcm"], "2.5": ["2.5#a.dcm", "2.5#b.DCM"]}


def test_spacing_is_row_then_column():
    assert read_spacing(header(PixelSpacing=[0.1, 0.2])).spacing == Spacing(0.1, 0.2)


def test_imager_spacing_is_used_only_where_pixel_spacing_is_absent_or_empty():
    imager = [0.3, 0.4]
    assert read_spacing(header(ImagerPixelSpacing=imager)).spacing == Spacing(0.3, 0.4)
    assert read_spacing(header(PixelSpacing=None, ImagerPixelSpacing=imager)).spacing == Spacing(0.3, 0.4)
    assert read_spacing(header(PixelSpacing=[0.1, 0.1], ImagerPixelSpacing=imager)).spacing == Spacing(0.1, 0.1)
    with pytest.raises(SeriesSkipped):
        read_spacing(header(PixelSpacing=[0, 0], ImagerPixelSpacing=imager))


@pytest.mark.parametrize(
    "spacing",
    [[0, 0], [0.1, 0], [-0.1, 0.1], [float("nan"), 0.1], [float("inf"), 0.1], [0.1], [0.1] * 3, [900, 900], [4, 4]],
)
def test_a_spacing_that_cannot_be_is_refused(spacing: list):
    with pytest.raises(SeriesSkipped) as caught:
        read_spacing(header(PixelSpacing=spacing))
    assert caught.value.code == "invalid_pixel_spacing"


def test_a_spacing_that_is_no_number_is_refused(dicom_file: Path):
    content = dicom_file.read_bytes()
    assert content.count(b"0.5\\0.5 ") == 2
    dicom_file.write_bytes(content.replace(b"0.5\\0.5 ", b"abc\\def "))
    assert stop_of(dicom_file).code == "invalid_pixel_spacing"


def test_no_spacing_is_a_skip_of_its_own(dicom_file: Path):
    stop = stop_of(edited(dicom_file, PixelSpacing=None, ImagerPixelSpacing=None))
    assert (type(stop), stop.code) == (SeriesSkipped, "no_pixel_spacing")


def pixels_of(path: Path, **values: object) -> np.ndarray:
    return read_radiograph(edited(path, **values)).pixels


def test_bone_is_bright_whichever_way_it_was_stored(dicom_file: Path):
    stored = pydicom.dcmread(dicom_file).pixel_array.astype(np.float32)
    assert np.allclose(pixels_of(dicom_file, PhotometricInterpretation="MONOCHROME2"), stored)
    inverted = pixels_of(dicom_file, PhotometricInterpretation="MONOCHROME1")
    assert np.allclose(inverted, stored.max() + stored.min() - stored)


def test_rescale_is_applied_before_inversion_and_nonsense_in_it_ignored(dicom_file: Path):
    plain = pixels_of(dicom_file, PhotometricInterpretation="MONOCHROME1")
    assert np.allclose(pixels_of(dicom_file, RescaleSlope=2, RescaleIntercept=-5), plain * 2 - 5)
    assert np.allclose(pixels_of(dicom_file, RescaleSlope=0, RescaleIntercept=0), plain)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_truncated_pixels_fail(dicom_file: Path, share: float):
    content = dicom_file.read_bytes()
    dicom_file.write_bytes(content[: int(len(content) * share)])
    stop = stop_of(dicom_file)
    assert (type(stop), stop.code) == (SeriesFailed, "truncated_pixel_data")


def test_an_image_without_pixels_fails(dicom_file: Path):
    assert stop_of(edited(dicom_file, PixelData=None)).code == "no_pixel_data"


@pytest.mark.parametrize("content", [b"", b"DICM", b"no DICOM at all" * 50, b"\0" * 200])
def test_what_is_no_dicom_file_fails(tmp_path: Path, content: bytes):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    stop = stop_of(path)
    assert isinstance(stop, SeriesFailed)
    assert stop.code == "not_dicom"


def test_a_file_that_cannot_be_opened_fails(tmp_path: Path):
    stop = stop_of(tmp_path / "gone.dcm")
    assert (type(stop), stop.code) == (SeriesFailed, "unreadable")


def test_pixels_in_an_encoding_that_is_not_what_it_says_fail(dicom_file: Path):
    dataset = pydicom.dcmread(dicom_file)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 not a JPEG " * 40])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.save_as(dicom_file)
    assert stop_of(dicom_file).code == "undecodable_pixel_data"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"NumberOfFrames": 2}, "multi_frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour_image"),
        ({"Rows": None}, "not_an_image"),
        ({"Rows": 0}, "not_an_image"),
    ],
)
def test_what_is_no_plain_grey_image_is_skipped(dicom_file: Path, values: dict, code: str):
    stop = stop_of(edited(dicom_file, **values))
    assert (type(stop), stop.code) == (SeriesSkipped, code)


def test_of_several_images_the_one_with_the_most_pixels_counts(dicom_file: Path, inbox: Path):
    scout = pydicom.dcmread(dicom_file)
    scout.Rows, scout.Columns = 10, 10
    scout.PixelData = b"\0" * 200
    scout.save_as(inbox / "a scout.dcm")
    (inbox / "b broken.dcm").write_bytes(b"x")
    assert choose_image(sorted(inbox.iterdir())) == dicom_file


def test_a_broken_file_weighs_more_than_one_that_is_no_image(dicom_file: Path, inbox: Path):
    edited(dicom_file, Rows=None)
    (inbox / "z.dcm").write_bytes(b"x")
    with pytest.raises(SeriesFailed):
        choose_image(sorted(inbox.iterdir()))
    with pytest.raises(SeriesSkipped):
        choose_image([dicom_file])
    with pytest.raises(SeriesSkipped):
        choose_image([])


def test_a_damaged_header_is_a_stop_and_never_another_exception(dicom_file: Path):
    content = bytearray(dicom_file.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(132, 2200, 6):
            damaged[place] = rng.integers(256)
        dicom_file.write_bytes(damaged)
        with suppress(SeriesStop):  # anything else fails the test
            read_radiograph(choose_image([dicom_file]))


# --- whose images they are ----------------------------------------------------------------------


def beside(path: Path, name: str, **values: object) -> list[Path]:
    """The file, and a coarser image of the same series beside it that says other things."""
    scout = pydicom.dcmread(path)
    scout.Rows, scout.Columns, scout.PixelData = 10, 10, b"\0" * 200
    for keyword, value in values.items():
        setattr(scout, keyword, value)
    scout.save_as(path.with_name(name))
    return sorted([path, path.with_name(name)])


@pytest.mark.parametrize(
    "values",
    [
        {"PatientID": "INVENTED-OTHER"},
        {"PatientName": "Other^Invented"},
        {"PatientBirthDate": "19990101"},
        {"StudyInstanceUID": "1.2.826.0.1.9"},
        {"Rows": 0, "PatientID": "INVENTED-OTHER"},
    ],
    ids=["patient", "name", "birth date", "study", "patient of what is no image"],
)
@pytest.mark.parametrize("name", ["0.dcm", "z.dcm"])
def test_files_of_two_patients_or_studies_in_one_series_stop_it(dicom_file: Path, values: dict, name: str):
    with pytest.raises(SeriesFailed) as caught:
        choose_image(beside(dicom_file, name, **values))
    assert caught.value.code == "mixed_series"


def test_two_issuers_of_one_number_are_two_patients(dicom_file: Path):
    edited(dicom_file, IssuerOfPatientID="INVENTED A")
    with pytest.raises(SeriesFailed, match="mixed_series"):
        choose_image(beside(dicom_file, "z.dcm", IssuerOfPatientID="INVENTED B"))


@pytest.mark.parametrize("values", [{}, {"PatientID": ""}, {"PatientName": None}, {"StudyInstanceUID": ""}])
def test_what_a_file_leaves_unsaid_makes_no_second_patient(dicom_file: Path, values: dict):
    assert choose_image(beside(dicom_file, "z.dcm", **values)) == dicom_file


def test_a_name_written_in_capitals_makes_no_second_patient(dicom_file: Path):
    name = str(pydicom.dcmread(dicom_file).PatientName).upper() + "^^"
    assert choose_image(beside(dicom_file, "z.dcm", PatientName=name)) == dicom_file


# --- what could block, never end, or take all memory --------------------------------------------


def deflated(path: Path, more: bytes = b"") -> Path:
    """The file deflated, with more bytes behind its last element."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream)
    content = stream.getvalue()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    inflated = zlib.decompress(content[meta_end:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(content[:meta_end] + packer.compress(inflated + more) + packer.flush())
    return path


def test_a_deflated_image_is_read_like_any_other(dicom_file: Path):
    plain = read_radiograph(dicom_file).pixels
    assert np.array_equal(read_radiograph(deflated(dicom_file)).pixels, plain)


def test_what_inflates_to_more_than_its_header_says_is_refused_before_memory_is_spent(dicom_file: Path):
    bomb = deflated(dicom_file, b"\0" * 300_000_000)
    assert bomb.stat().st_size < 4_000_000
    tracemalloc.start()
    try:
        with pytest.raises(SeriesFailed, match="image_too_large"):
            choose_image([bomb])
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_run_lengths_that_become_more_than_the_image_are_refused_before_they_do(dicom_file: Path):
    dataset = pydicom.dcmread(dicom_file)
    segment = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 4_000_000
    dataset.Rows, dataset.Columns = 10, 10
    dataset.PixelData = pydicom.encaps.encapsulate([segment])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    dataset.save_as(dicom_file)
    tracemalloc.start()
    try:
        assert stop_of(dicom_file).code == "image_too_large"
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_header_that_states_more_pixels_than_any_film_has_is_refused(dicom_file: Path):
    with pytest.raises(SeriesFailed, match="image_too_large"):
        choose_image([edited(dicom_file, Rows=60_000, Columns=60_000)])
    assert stop_of(dicom_file).code == "image_too_large"


@pytest.mark.parametrize("target", ["pipe", "/dev/zero", "/dev/tty", "/proc/kmsg", "/proc/self/pagemap", "nowhere"])
def test_what_is_no_plain_file_is_broken_input_at_once(inbox: Path, target: str):
    path = inbox / "1.2.dcm"
    if target == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    (series,) = find_series(inbox)
    with pytest.raises(SeriesFailed, match="unreadable"):
        choose_image(series.files)


def test_a_link_to_an_image_is_followed(dicom_file: Path, tmp_path: Path):
    (tmp_path / "a.dcm").symlink_to(dicom_file)
    assert read_radiograph(tmp_path / "a.dcm").spacing == Spacing(0.5, 0.5)


# --- files that break off -----------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_that_breaks_off_in_its_header_is_broken_and_never_only_no_image(dicom_file: Path, syntax: str):
    dataset = pydicom.dcmread(dicom_file)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(dicom_file)
    content = dicom_file.read_bytes()
    header = content.rindex(b"\xe0\x7f\x10\x00")
    for end in np.linspace(0, header + 4, 60).astype(int):
        dicom_file.write_bytes(content[:end])
        with pytest.raises(SeriesFailed):
            choose_image([dicom_file])


def test_a_header_that_breaks_off_within_a_sequence_is_broken(dicom_file: Path):
    dataset = pydicom.dcmread(dicom_file)
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-D", "Leg" * 20
    dataset.ProcedureCodeSequence = [item]
    dataset["ProcedureCodeSequence"].is_undefined_length = True
    dataset.save_as(dicom_file)
    content = dicom_file.read_bytes()
    dicom_file.write_bytes(content[: content.index(b"LegLeg") + 20])
    with pytest.raises(SeriesFailed, match=r"truncated_header|unreadable"):
        choose_image([dicom_file])
