"""Whatever a file holds, its series ends for a stated reason: seeded mutants of a good file, no two runs differ."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from analysis.detectors.protocol import Detections
from analysis.landmarks import LABELS, Spacing
from analysis.outputs import drawing
from analysis.phantom import Phantom
from analysis.phantom.files import dataset_of
from analysis.pipeline import SeriesFiles, process_series
from analysis.settings import AnalysisSettings

MUTANTS = 120
HEADER_STARTS_AT = 132
CLASSES = sorted(uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "SOP Class")
SYNTAXES = sorted(uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax")
HOSTILE_VALUES = (
    "", "\\", "\0", "0", "-1", "1e400", "nan", "1\\2\\3", "9" * 400, "1.2.3.", "x" * 70_000, "19990230", "ü\udcff",
    "R\\F",
)  # fmt: skip
Random = np.random.Generator


class Anywhere:
    """A detector that finds all landmarks in any picture."""

    name = "anywhere"

    def detect(self, image: np.ndarray, spacing: Spacing) -> Detections:
        rows, columns = image.shape
        heights = {1: 0.1, 2: 0.1, 3: 0.5, 4: 0.5, 5: 0.5, 6: 0.5, 7: 0.9, 8: 0.9}
        places = [((0.3 if label % 2 else 0.7) * columns, heights[label] * rows) for label in LABELS]
        return Detections.of([[x, y, x, y] for x, y in places], LABELS, [0.9] * len(LABELS))


def with_other_bytes(content: bytes, end: int, rng: Random) -> bytes:
    mutant = bytearray(content)
    for place in rng.integers(HEADER_STARTS_AT, end, rng.integers(1, 9)):
        mutant[place] = rng.integers(256)
    return bytes(mutant)


def broken_off(content: bytes, end: int, rng: Random) -> bytes:
    return content[: rng.integers(0, end)]


def with_bytes_between(content: bytes, end: int, rng: Random) -> bytes:
    place = rng.integers(HEADER_STARTS_AT, end)
    return content[:place] + rng.bytes(rng.integers(1, 20)) + content[place:]


def with_other_representation(content: bytes, end: int, rng: Random) -> bytes:
    kinds = (b"SQ", b"UN", b"OB", b"DS", b"UI", b"US", b"PN", b"AT", b"FD", b"LO")
    places = [at for at in range(HEADER_STARTS_AT, end) if content[at : at + 2] in kinds]
    place = int(rng.choice(places))
    return content[:place] + kinds[rng.integers(len(kinds))] + content[place + 2 :]


def edited(content: bytes, edit: Callable[[Dataset], None]) -> bytes:
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        edit(dataset)
        stream = io.BytesIO()
        dataset.save_as(stream)
        return stream.getvalue()
    except Exception:  # what pydicom can't write is no mutant
        return content
    finally:
        pydicom.config.settings.writing_validation_mode = None


def with_hostile_values(content: bytes, end: int, rng: Random) -> bytes:
    def edit(dataset: Dataset) -> None:
        keywords = [element.keyword for element in dataset if element.keyword and element.keyword != "PixelData"]
        for keyword in rng.choice(keywords, 3):
            representation = str(rng.choice([dictionary_VR(keyword), "LO", "UN"]))
            value = HOSTILE_VALUES[rng.integers(len(HOSTILE_VALUES))]
            dataset.add_new(
                keyword, representation, value.encode(errors="replace") if representation == "UN" else value
            )

    return edited(content, edit)


def without_some_elements(content: bytes, end: int, rng: Random) -> bytes:
    def edit(dataset: Dataset) -> None:
        for tag in rng.choice(list(dataset.keys()), 4, replace=False):
            del dataset[int(tag)]

    return edited(content, edit)


def of_another_class(content: bytes, end: int, rng: Random) -> bytes:
    def edit(dataset: Dataset) -> None:
        dataset.SOPClassUID = str(rng.choice([*CLASSES, "1.2.826.0.1.3680043.9.1", "1.2.840.113619.4.26"]))

    return edited(content, edit)


def in_another_syntax(content: bytes, end: int, rng: Random) -> bytes:
    """Only its name is another; pydicom would encode the file anew."""
    start = content.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    name = str(rng.choice(SYNTAXES)).encode()
    name += b"\0" * (len(name) % 2)
    head = content[: start + 6] + len(name).to_bytes(2, "little") + name
    return head + content[start + 8 + length :]


MUTATIONS = (
    with_other_bytes,
    broken_off,
    with_bytes_between,
    with_other_representation,
    with_hostile_values,
    without_some_elements,
    of_another_class,
    in_another_syntax,
)


@pytest.fixture(scope="module")
def original(phantom: Phantom) -> bytes:
    dataset = dataset_of(phantom, np.random.default_rng(1))
    dataset.Rows, dataset.Columns = 60, 30
    dataset.PixelData = np.ascontiguousarray(phantom.pixels[:60, :30]).tobytes()
    dataset.PixelSpacing = dataset.ImagerPixelSpacing = [10.0 / 2.1, 10.0 / 2.1]
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_HEIGHT", 60)
    monkeypatch.setattr(drawing, "_NARROWEST", 30)
    monkeypatch.setattr(drawing, "_PANEL_WIDTH", 20)


def ended(content: bytes, folder: Path) -> tuple[str, str | None, str | None]:
    path = folder / "mutant.dcm"
    path.write_bytes(content)
    result = process_series(SeriesFiles("mutant", (path,)), [Anywhere()], AnalysisSettings(), folder)
    return result.status, result.reason, result.failure


@pytest.mark.usefixtures("_small_pictures")
def test_a_mutant_of_a_good_file_is_measured_or_ends_for_a_stated_reason(original: bytes, outbox: Path) -> None:
    assert ended(original, outbox) == ("completed", None, None)
    rng = np.random.default_rng(2025)
    end = len(original) - 60 * 30 * 2
    unexpected = {}
    for number in range(MUTANTS):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        _, reason, failure = ended(mutation(original, end, rng), outbox)
        if reason == "error":
            unexpected[f"{number}: {mutation.__name__}"] = failure
    assert unexpected == {}
