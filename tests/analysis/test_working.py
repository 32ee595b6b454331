"""What the detectors have of scipy.signal without importing it: the same, as far as the numbers' precision goes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import signal

from analysis.detectors.profile import _maxima
from analysis.detectors.working import Spectrum

KINDS = [np.float32, np.float64]


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_is_scipys(kind: type[np.floating]) -> None:
    rng = np.random.default_rng(1)
    for rows, columns, reach in ((211, 97, 27), (300, 181, 13), (317, 181, 57), (57, 60, 57), (59, 59, 1)):
        image = rng.normal(size=(rows, columns)).astype(kind)
        spectrum = Spectrum(image)
        for kernel in (rng.normal(size=(reach, reach)).astype(kind) for _ in range(2)):
            made, expected = spectrum.convolved(kernel), signal.fftconvolve(image, kernel, mode="valid")
            assert made.dtype == expected.dtype == kind
            exact = signal.fftconvolve(image.astype(np.float64), kernel.astype(np.float64), mode="valid")
            rounding = np.finfo(kind).eps * np.linalg.norm(image) * np.linalg.norm(kernel)
            np.testing.assert_allclose(made, exact, rtol=0, atol=float(rounding))


@pytest.mark.parametrize("kind", KINDS)
def test_maxima_are_scipys_peaks_plateaus_and_equal_heights_too(kind: type[np.floating]) -> None:
    rng = np.random.default_rng(2)
    found = 0
    for trial in range(500):
        values = np.abs(rng.normal(size=rng.integers(3, 300)).cumsum()).round(trial % 4).astype(kind) / 10
        expected, _ = signal.find_peaks(values, height=(0.1, 1.2), distance=8)
        assert _maxima(values, 0.1, 1.2, 8) == expected.tolist()
        found += len(expected)
    assert found > 1000


def test_the_application_starts_without_scipy_signal() -> None:
    code = (
        "import sys, analysis.pipeline; print({'scipy.signal', 'scipy.stats', 'scipy.interpolate'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
