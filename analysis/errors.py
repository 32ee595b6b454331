"""The exceptions of the application.

    AnalysisError
    ├── SettingsError            task.json is wrong; nothing was processed
    ├── ModelError               a configured model can't be used; nothing was processed
    │   ├── ModelNotFound        unknown name, or no checkpoint where it was looked for
    │   ├── ModelChecksumMismatch
    │   └── RuntimeMissing       the extra that runs it isn't installed
    └── SeriesStop               one series ends here, for a stated reason
        ├── SeriesSkipped        nothing wrong with the run: not an image that can be measured
        └── SeriesFailed         the input is broken

A `SeriesStop` message never holds anything read from the file: no name, identifier or UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class AnalysisError(Exception):
    """Whatever this application raises on purpose."""


class SettingsError(AnalysisError):
    """The settings are wrong; `problems` holds one line for each thing to mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ModelError(AnalysisError):
    """A configured model can't be used."""


class ModelNotFound(ModelError):  # noqa: N818 - reads as what happened, like FileNotFound
    """No model of that name, or no checkpoint for it."""


class ModelChecksumMismatch(ModelError):  # noqa: N818 - as above
    """The checkpoint isn't the file that the registry lists."""


class RuntimeMissing(ModelError):  # noqa: N818 - as above
    """The optional package that runs the model isn't installed."""


SKIP_REASONS = {
    "no_pixel_spacing": "the image states no pixel spacing, so nothing can be measured in mm",
    "invalid_pixel_spacing": "the pixel spacing is zero, negative, not a number or implausible",
    "not_an_image": "no object of the series is an image",
    "multi_frame": "the image has several frames",
    "colour_image": "the image is in colour",
    "not_frontal": "the image is not a frontal view (AP or PA)",
    "orientation_unclear": "the header doesn't tell plainly which side of the image is the patient's right",
    "laterality_conflict": "lengths were found of a leg that the image doesn't show by its header",
    "landmarks_missing": "too few landmarks were found to measure any bone",
    "low_confidence": "the landmarks were not found confidently enough to be measured",
}
FAILURE_REASONS = {
    "not_dicom": "the file is not a DICOM file",
    "unreadable": "the file can't be read",
    "no_pixel_data": "the image holds no pixels",
    "truncated_pixel_data": "the pixel data ends before the image does",
    "undecodable_pixel_data": "the pixel data can't be decoded",
    "truncated_header": "the file ends within its header",
    "mixed_series": "the files of the series are of several patients or studies",
    "image_too_large": "the image, or what its file inflates to, is larger than any long-leg radiograph",
    "error": "an unexpected error ended the processing of this series",
}


class SeriesStop(AnalysisError):  # noqa: N818 - an outcome, not a fault
    """Ends one series with a machine-readable `code` and a text free of identity."""

    reasons: ClassVar[dict[str, str]] = {**SKIP_REASONS, **FAILURE_REASONS}

    def __init__(self, code: str) -> None:
        self.code = code
        self.text = self.reasons[code]
        super().__init__(f"{code}: {self.text}")


class SeriesSkipped(SeriesStop):
    """The series can't be measured, and that is no failure of the run."""

    reasons: ClassVar[dict[str, str]] = SKIP_REASONS


class SeriesFailed(SeriesStop):
    """The series' input is broken."""

    reasons: ClassVar[dict[str, str]] = FAILURE_REASONS
