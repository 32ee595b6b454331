"""What one measured series leaves behind: a structured report, a QA picture and a JSON file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.files import output_stem, write_new
from analysis.outputs import qa_image, results_json, structured_report
from analysis.outputs.content import ReportContent

_WRITERS: tuple[tuple[str, Callable[[ReportContent], bytes]], ...] = (
    ("_sr.dcm", structured_report.encode),
    ("_qa.dcm", qa_image.encode),
    ("_results.json", results_json.encode),
)


def write_outputs(content: ReportContent, out_dir: Path, stem: str) -> tuple[str, ...]:
    """Write all outputs of a series into `out_dir`; returns their file names.

    All or none: each is written under a passing name first, so that nobody downstream picks up
    a half-written report. Raises OSError when the folder can't be written to.
    """
    names = tuple(f"{output_stem(stem)}{suffix}" for suffix, _ in _WRITERS)
    partial = [out_dir / f".{name}.partial" for name in names]
    try:
        for (_, encode), path in zip(_WRITERS, partial, strict=True):
            write_new(path, encode(content))
        for path, name in zip(partial, names, strict=True):
            path.replace(out_dir / name)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)
    return names
