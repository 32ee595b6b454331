"""What the tests of run.py share: small phantoms, made once a worker, and one run without monitoring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.landmarks import Spacing
from analysis.phantom import Phantom, make_phantom
from analysis.phantom.files import dataset_of, write_phantom
from tests.application.app import App, Run

COARSE = Spacing(0.7, 0.7)
SMALL_CHILD_SEED = 3  # three years old: a film of 48 x 22 cm


@pytest.fixture(scope="session")
def small_phantom() -> Phantom:
    return make_phantom(np.random.default_rng(SMALL_CHILD_SEED), COARSE)


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory: pytest.TempPathFactory, small_phantom: Phantom) -> Path:
    """A series that can be measured."""
    folder = tmp_path_factory.mktemp("phantom")
    return write_phantom(folder, small_phantom, np.random.default_rng(1), "1.2.826.0.1.1")


@pytest.fixture(scope="session")
def unspaced_file(tmp_path_factory: pytest.TempPathFactory, small_phantom: Phantom) -> Path:
    """A series that is skipped as soon as it is loaded, which makes it the quickest one."""
    dataset = dataset_of(small_phantom, np.random.default_rng(2), "1.2.826.0.1.2")
    del dataset.PixelSpacing, dataset.ImagerPixelSpacing
    path = tmp_path_factory.mktemp("unspaced") / f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def broken_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series that fails."""
    path = tmp_path_factory.mktemp("broken") / "1.2.826.0.1.3#1.dcm"
    path.write_bytes(b"this is no DICOM file\n" * 20)
    return path


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


@pytest.fixture
def new_app(tmp_path: Path) -> Callable[[str], App]:
    """Several applications in one test, each with folders of its own."""

    def make(name: str) -> App:
        folder = tmp_path / name
        folder.mkdir()
        return App(folder)

    return make


@pytest.fixture(scope="session")
def unmonitored(tmp_path_factory: pytest.TempPathFactory, phantom_file: Path) -> Run:
    """One phantom measured without a task.json: what every other run is compared with."""
    app = App(tmp_path_factory.mktemp("unmonitored"))
    app.add(phantom_file)
    return app.run(fresh=True)
