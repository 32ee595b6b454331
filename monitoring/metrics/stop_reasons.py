"""Why a session was not completed, in a handful of classes: codes are the host's own, alerts need fewer words.

``input`` what arrived can't be used; ``not_measurable`` the image is fine but shows too little; ``error`` a fault of
the code; ``resource`` memory, disk or time ran out; ``interrupted`` the process was stopped or killed; ``other``.
"""

from __future__ import annotations

from typing import Final

REASON_CLASSES: Final = ("input", "not_measurable", "error", "resource", "interrupted", "other")

_BY_CODE: Final = {
    **dict.fromkeys(
        (
            "bad_input", "colour_image", "image_too_large", "invalid_pixel_spacing", "laterality_conflict",
            "mixed_series", "multi_frame", "no_pixel_data", "no_pixel_spacing", "not_an_image", "not_dicom",
            "not_frontal", "orientation_unclear", "truncated_header", "truncated_pixel_data", "undecodable_pixel_data",
            "unreadable",
        ),
        "input",
    ),
    **dict.fromkeys(("landmarks_missing", "low_confidence", "not_measurable"), "not_measurable"),
    **dict.fromkeys(("error", "exception", "unknown_status"), "error"),
    **dict.fromkeys(("out_of_memory", "disk_full", "timeout"), "resource"),
    **dict.fromkeys(("crashed", "not_ended", "terminated"), "interrupted"),
}  # fmt: skip
# By the types' names: neither numpy nor torch is imported to know theirs.
_BY_TYPE: Final = {
    **dict.fromkeys(
        ("MemoryError", "OutOfMemoryError", "TimeoutError", "ArrayMemoryError", "_ArrayMemoryError"), "resource"
    ),
    **dict.fromkeys(("KeyboardInterrupt", "SystemExit", "GeneratorExit"), "interrupted"),
}


def reason_class(code: str | None, error_type: str | None = None) -> str:
    """The class of a reason's code, or of the exception's type where that says more than "an exception"."""
    by_type = _BY_TYPE.get(error_type or "")
    if by_type is not None:
        return by_type
    if code is None:
        return "error" if error_type else "other"
    return _BY_CODE.get(code, "other")
