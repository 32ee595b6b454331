"""Measure the legs on every series in a folder: ``run.py IN OUT``.

IN holds ``<SeriesUID>.dcm`` or ``<SeriesUID>#<anything>.dcm`` files and, where it has settings, a ``task.json``;
the folders can also come from ``$MERCURE_IN_DIR`` and ``$MERCURE_OUT_DIR``. Exit 0 when every series was
processed or skipped for a stated reason, 1 when one failed (the others still ran), 2 for wrong input. With
``--partial-ok`` (or the setting ``exit_zero_with_failures``) also 0 when some failed and some were measured:
an orchestrator may read ``OUT/result.json``, and send on what lies beside it, after exit 0 only.

This is the one place that knows both the analysis and its monitoring.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis import __version__
from analysis.crash import log_without_messages
from analysis.dicom_file import mute_dicom
from analysis.errors import AnalysisError
from analysis.files import replace_file
from analysis.identity import identifying_texts
from analysis.pipeline import (
    ModelResult,
    SeriesFiles,
    SeriesResult,
    find_series,
    load_detectors,
    model_identities,
    process_series,
    summary,
)
from analysis.settings import AnalysisSettings, load_task, settings_section
from monitoring import LogFilter, ManagedSession, MonitorManager

LOG = logging.getLogger("run")
LOG_FILTER = LogFilter()
OWN_FIGURES = frozenset({"landmarks_found", "mean_confidence", "mean_support", "models_total"})
DONE, SERIES_FAILED, WRONG_INPUT = 0, 1, 2


class WrongInput(Exception):  # noqa: N818 - reads as what happened
    """Something that the caller has to mend; the message is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the application; returns the exit code."""
    set_up_logging()
    try:
        given = command_line(arguments)
        in_dir, out_dir = folders(given)
        raw_settings = settings_section(load_task(in_dir))
        LOG_FILTER.add_secrets_of_settings(raw_settings.get("monitoring"))
        settings = AnalysisSettings.from_mapping(raw_settings)
        detectors = load_detectors(settings)
        series = found_series(in_dir)
    except (WrongInput, AnalysisError) as error:
        LOG.error("%s", error)
        return WRONG_INPUT
    for warning in settings.warnings:
        LOG.warning("%s", warning)
    versions = {"application_version": __version__}
    with MonitorManager(raw_settings, logging.getLogger("monitoring"), output_dir=out_dir) as monitor:
        results, models = [], model_identities(detectors)
        for one, waiting in progress(series):
            with LOG_FILTER.study(identifying_texts(one.files)), monitor.session(one.series_id, versions) as session:
                result = process_series(one, detectors, settings, out_dir, session.stage)
                record(session, result, waiting, models)
            results.append(result)
        is_written = try_write_result(out_dir, results, monitor)
    if not is_written:
        return SERIES_FAILED
    return report(results, partial_ok=given.partial_ok or settings.exit_zero_with_failures)


def set_up_logging() -> None:
    """Log to the error stream, and see to it that no line of any library names a study or holds a secret."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s", stream=sys.stderr)
    LOG_FILTER.install()
    mute_dicom()
    log_without_messages(LOG)


def command_line(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for, by the command line or Mercure's environment."""
    parser = argparse.ArgumentParser(prog="run.py", description="Measure the legs on every series in a folder.")
    parser.add_argument("IN", nargs="?", default=os.environ.get("MERCURE_IN_DIR"), help="default: $MERCURE_IN_DIR")
    parser.add_argument("OUT", nargs="?", default=os.environ.get("MERCURE_OUT_DIR"), help="default: $MERCURE_OUT_DIR")
    parser.add_argument(
        "--partial-ok", action="store_true", help="exit 0 where some series failed and some were measured"
    )
    return parser.parse_args(arguments)


def folders(given: argparse.Namespace) -> tuple[Path, Path]:
    """IN and OUT; raises :class:`WrongInput` where one can't be used."""
    if not given.IN or not given.OUT:
        raise WrongInput("IN and OUT are needed: run.py IN OUT, or $MERCURE_IN_DIR and $MERCURE_OUT_DIR")
    in_dir, out_dir = Path(given.IN), Path(given.OUT)
    for name, folder in (("IN", in_dir), ("OUT", out_dir)):
        if not folder.is_dir():
            raise WrongInput(
                f"{name}: {folder} is not a folder" if folder.exists() else f"{name}: {folder} does not exist"
            )
    if not os.access(in_dir, os.R_OK | os.X_OK):
        raise WrongInput(f"IN: {in_dir} can't be read")
    if not os.access(out_dir, os.W_OK | os.X_OK):
        raise WrongInput(f"OUT: {out_dir} can't be written")
    return in_dir, out_dir


def found_series(in_dir: Path) -> list[SeriesFiles]:
    """The series in a folder; raises :class:`WrongInput` when there is none."""
    try:
        series = find_series(in_dir)
    except OSError as error:
        raise WrongInput(f"IN: {in_dir} can't be read: {error.strerror}") from None
    if not series:
        raise WrongInput(f"IN: no *.dcm file in {in_dir}")
    return series


def record(
    session: ManagedSession, result: SeriesResult, waiting: int, models: Mapping[str, Mapping[str, str]]
) -> None:
    """Tell the monitoring what came of one series; ``waiting`` series are still to come, ``models`` are which."""
    session.record_metric("queue_depth", waiting)
    session.record_measurements(result.measurements, result.dicom_path)
    session.record_performance_data(performance_data(result.performance))
    for name, model in result.model_results.items():
        session.record_model_performance(name, {**model_metrics(model), **models.get(name, {})})
    if result.status == "skipped":
        session.skip(result.reason, result.failed_stage)
    elif result.status == "failed":
        kind, _, location = (result.failure or "").partition(" at ")
        session.fail(result.reason, result.failed_stage, kind, location)


def performance_data(performance: Mapping[str, Any]) -> dict[str, Any]:
    """What the ensemble found, without the figures of the application's own, which the monitoring doesn't know."""
    known = {name: found for name, found in performance.items() if name != "point_statistics"}
    if metrics := performance.get("image_metrics"):
        known["image_metrics"] = {name: figure for name, figure in metrics.items() if name not in OWN_FIGURES}
    return known


def model_metrics(model: ModelResult) -> dict[str, Any]:
    """One model's result under the names that the monitoring knows."""
    return {
        "inference_seconds": model.inference_seconds,
        "landmarks_detected": model.landmarks_detected,
        "confidence_scores": model.confidence_scores,
        "measurements": model.measurements,
    }


def progress(series: Sequence[SeriesFiles]) -> Iterator[tuple[SeriesFiles, int]]:
    """Each series and how many wait behind it, with a progress bar on a terminal and plain lines elsewhere."""
    with _bar(len(series)) as advance:
        for number, one in enumerate(series, start=1):
            # Numbers, not names: a file's name is a study's identity.
            LOG.info("series %d of %d: %d image(s)", number, len(series), len(one.files))
            yield one, len(series) - number
            advance()


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    root = logging.getLogger()
    plain, root.handlers = root.handlers, [RichHandler(console=console, show_time=False, show_path=False)]
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("Series", total=total)
            yield lambda: bar.advance(task)
    finally:
        root.handlers = plain


def try_write_result(out_dir: Path, results: Sequence[SeriesResult], monitor: MonitorManager) -> bool:
    """``OUT/result.json``: every series' summary and, where monitoring is on, the session records."""
    content: dict[str, Any] = {"counts": counts(results), "series": [summary(result) for result in results]}
    if notice := notification(results):
        content["__mercure_notification"] = {"requested": True, "text": notice}
    if monitor.is_enabled():
        content["monitoring"] = {"sessions": monitor.session_records()}
    path = out_dir / "result.json"
    try:
        replace_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        LOG.error("OUT: result.json can't be written: %s", error.strerror)
        return False
    return True


def notification(results: Sequence[SeriesResult]) -> str:
    """What a person should look at, for Mercure to send on: counts, and nothing that identifies anybody."""
    failed = sum(result.status == "failed" for result in results)
    implausible = sum(any(issue["severity"] == "hard" for issue in result.issues) for result in results)
    parts = [f"{failed} of {len(results)} series failed"] if failed else []
    if implausible:
        parts.append(f"{implausible} of {len(results)} series with lengths that no leg can have")
    return f"Leg length: {'; '.join(parts)}." if parts else ""


def counts(results: Sequence[SeriesResult]) -> Mapping[str, int]:
    """How many series ended how."""
    found = Counter(result.status for result in results)
    return {status: found[status] for status in ("completed", "skipped", "failed")}


def report(results: Sequence[SeriesResult], *, partial_ok: bool) -> int:
    """Say how it went; returns the exit code.

    Where no series was measured there is nothing to send on, and the task fails whatever was asked for.
    """
    words = ", ".join(f"{count} {status}" for status, count in counts(results).items())
    LOG.info("%d series: %s", len(results), words)
    ended = {result.status for result in results}
    is_good_enough = partial_ok and "completed" in ended
    return SERIES_FAILED if "failed" in ended and not is_good_enough else DONE


if __name__ == "__main__":
    sys.exit(main())
