"""Phantoms that several tests look at, made once: coarse ones, so that the tests stay quick."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from analysis.landmarks import Side, Spacing
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.files import write_phantom

COARSE = Spacing(0.5, 0.5)


def bright_bones(phantom: Phantom) -> np.ndarray:
    """The phantom's pixels as a detector gets them."""
    pixels = phantom.pixels.astype(np.float32)
    return 4095 - pixels if phantom.inverted else pixels


def set_header(dataset: Dataset, values: Mapping[str, Any]) -> None:
    """Give a header these elements; None takes one away."""
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make_phantom(np.random.default_rng(7), COARSE)


@pytest.fixture(scope="session")
def one_legged() -> Phantom:
    return make_phantom(np.random.default_rng(8), COARSE, missing=Side.LEFT)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def dicom_file(inbox: Path, phantom: Phantom) -> Path:
    return write_phantom(inbox, phantom, np.random.default_rng(1))


def packaged(package: str, pattern: str) -> list[Path]:
    """Files that an installed package carries; pydicom's own lookup might go to the network."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return sorted(path for root in spec.submodule_search_locations for path in Path(root).rglob(pattern))
