"""Each way not to be completed has a class that an alert can name."""

from __future__ import annotations

import pytest

from analysis.errors import FAILURE_REASONS, SKIP_REASONS
from monitoring.metrics.stop_reasons import REASON_CLASSES, reason_class


@pytest.mark.parametrize(
    ("code", "error_type", "expected"),
    [
        ("no_pixel_spacing", None, "input"),
        ("low_confidence", None, "not_measurable"),
        ("exception", "ValueError", "error"),
        ("error", "ValueError", "error"),
        (None, "ValueError", "error"),
        ("exception", "MemoryError", "resource"),
        ("exception", "_ArrayMemoryError", "resource"),
        ("exception", "OutOfMemoryError", "resource"),
        ("crashed", "Crashed", "interrupted"),
        ("terminated", None, "interrupted"),
        ("exception", "KeyboardInterrupt", "interrupted"),
        ("a_hosts_own", None, "other"),
        (None, None, "other"),
    ],
)
def test_the_class_follows_from_the_code_and_the_type(code: str | None, error_type: str | None, expected: str) -> None:
    assert reason_class(code, error_type) == expected


@pytest.mark.parametrize("code", [*SKIP_REASONS, *FAILURE_REASONS])
def test_every_code_of_the_application_has_a_class_of_its_own(code: str) -> None:
    assert reason_class(code) in set(REASON_CLASSES) - {"other"}
