"""Whatever is wrong with the input: one clear error line, the right exit code, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.application.app import App, Run, assert_clean

MEASURED, SERIES_FAILED, WRONG_INPUT = 0, 1, 2


def assert_one_error(run: Run, code: int, *words: str) -> None:
    assert_clean(run)
    assert run.code == code
    assert len(run.errors) == 1, run.log
    for word in words:
        assert word in run.errors[0]


def test_no_arguments_at_all_are_one_error(app: App) -> None:
    assert_one_error(app.run([]), WRONG_INPUT, "run.py IN OUT", "$MERCURE_IN_DIR")


def test_an_in_without_an_out_is_one_error(app: App) -> None:
    assert_one_error(app.run([app.inbox]), WRONG_INPUT, "IN and OUT are needed")


def test_an_in_that_does_not_exist_is_one_error(app: App) -> None:
    assert_one_error(app.run([app.folder / "nowhere", app.out]), WRONG_INPUT, "IN:", "nowhere does not exist")


def test_an_out_that_does_not_exist_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    assert_one_error(app.run([app.inbox, app.folder / "nowhere"]), WRONG_INPUT, "OUT:", "nowhere does not exist")


@pytest.mark.parametrize("which", ["IN", "OUT"])
def test_a_file_in_place_of_a_folder_is_one_error(which: str, app: App, unspaced_file: Path) -> None:
    file = app.add(unspaced_file)
    arguments = [file, app.out] if which == "IN" else [app.inbox, file]
    assert_one_error(app.run(arguments), WRONG_INPUT, f"{which}:", "is not a folder")


def test_an_empty_folder_is_one_error(app: App) -> None:
    assert_one_error(app.run(), WRONG_INPUT, "IN: no *.dcm file")


def test_a_folder_without_a_dicom_file_name_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file, "image.txt")
    assert_one_error(app.run(), WRONG_INPUT, "IN: no *.dcm file")


def test_an_unknown_option_is_answered_with_the_usage_and_2(app: App) -> None:
    run = app.run(["--fast"])
    assert run.code == WRONG_INPUT
    assert "Traceback" not in run.log
    assert run.lines_with("unrecognized arguments: --fast")


BROKEN_TASKS = {
    "half an object": ('{"process": ', "line 1, column 13"),
    "empty": ("", "not valid JSON"),
    "a list": ("[]", "expected an object, got a list"),
    "process is text": ('{"process": "x"}', "process: expected an object"),
    "settings is a list": ('{"process": {"settings": []}}', "process.settings: expected an object"),
    "too deep": ("[" * 100_000, "task.json"),
}


@pytest.mark.parametrize("kind", BROKEN_TASKS)
def test_a_broken_task_is_one_error_that_says_where(kind: str, app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    text, words = BROKEN_TASKS[kind]
    app.task(text)
    assert_one_error(app.run(), WRONG_INPUT, words)
    assert not (app.out / "result.json").exists()


def test_a_task_in_another_encoding_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    (app.inbox / "task.json").write_bytes('{"process": "größer"}'.encode("latin-1"))
    assert_one_error(app.run(), WRONG_INPUT, "task.json", "not valid UTF-8")


def test_a_task_that_is_a_folder_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    (app.inbox / "task.json").mkdir()
    assert_one_error(app.run(), WRONG_INPUT, "task.json", "can't be read")


WRONG_SETTINGS: dict[str, list[Any]] = {
    "models": ["resnet101", [], [7, ""], ["gradient_edges", "gradient_edges"]],
    "series_offset": ["1000", 1.5, True, 10**12],
    "femur_threshold": ["2", None, [], -1],
    "tibia_threshold": [True, "2,0", {}, -0.1],
    "total_threshold": [{}, [1.0], "all", None],
    "confidence_threshold": [2, "high", -1, []],
    "exit_zero_with_failures": ["yes", 1, None, {}],
}


@pytest.mark.parametrize("column", range(4))
def test_every_setting_of_a_wrong_type_is_named_in_one_error_line(column: int, app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(**{name: values[column] for name, values in WRONG_SETTINGS.items()})
    run = app.run()
    assert_one_error(run, WRONG_INPUT, *(f"process.settings.{name}" for name in WRONG_SETTINGS))


def test_an_unknown_model_is_one_error_with_the_known_ones(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(models=["intensity_profil"])
    assert_one_error(app.run(), WRONG_INPUT, "did you mean 'intensity_profile'?", "template_correlation")


def test_a_model_without_its_checkpoint_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(models=["gradient_edges", "resnet101"])
    assert_one_error(app.run(), WRONG_INPUT, "'resnet101' has no checkpoint")


def test_an_unknown_setting_is_a_warning_with_a_suggestion(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(femur_treshold=2.0)
    run = app.run()
    assert_clean(run)
    assert run.code == MEASURED
    assert run.lines_with("femur_treshold: unknown setting, ignored; did you mean 'femur_threshold'?")


def test_a_file_that_is_no_dicom_fails_its_series_and_no_other(
    app: App, broken_file: Path, unspaced_file: Path, phantom_file: Path
) -> None:
    for path in (broken_file, unspaced_file, phantom_file):
        app.add(path)
    run = app.run()
    assert_one_error(run, SERIES_FAILED, "not_dicom: the file is not a DICOM file")
    assert run.result["counts"] == {"completed": 1, "skipped": 1, "failed": 1}


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that can't be read, even by root")
def test_a_file_that_can_not_be_read_fails_its_series(app: App) -> None:
    (app.inbox / "1.2.3#4.dcm").symlink_to("/proc/self/mem")
    assert_one_error(app.run(), SERIES_FAILED, "unreadable: the file can't be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_fails_its_series(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file).chmod(0)
    assert_one_error(app.run(), SERIES_FAILED, "unreadable: the file can't be read")


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_that_breaks_off_fails_its_series(share: float, app: App, phantom_file: Path) -> None:
    path = app.add(phantom_file)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    run = app.run()
    assert_one_error(run, SERIES_FAILED, "series failed in stage load")
    assert run.series[0]["reason"] in {"not_dicom", "unreadable", "truncated_pixel_data"}


def test_an_out_that_takes_no_result_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    (app.out / "result.json").mkdir()
    assert_one_error(app.run(), SERIES_FAILED, "OUT: result.json can't be written")


def test_a_task_that_is_a_pipe_is_one_error_at_once(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    os.mkfifo(app.inbox / "task.json")
    assert_one_error(app.run(), WRONG_INPUT, "task.json", "can't be read: not a regular file")


def test_pipes_and_endless_links_fail_their_series_and_no_other(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    os.mkfifo(app.inbox / "1.2.3.dcm")
    (app.inbox / "1.2.4.dcm").symlink_to("/dev/zero")
    app.settings(monitoring={"enabled": True})
    run = app.run()
    assert_clean(run)
    assert run.code == SERIES_FAILED
    assert run.result["counts"] == {"completed": 0, "skipped": 1, "failed": 2}


@pytest.mark.parametrize("name", ["result.json", ".result.json.part", "result.json.part"])
def test_a_link_where_the_result_is_to_lie_is_not_written_through(name: str, app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    victim = app.folder / "victim"
    victim.write_text("untouched")
    (app.out / name).symlink_to(victim)
    run = app.run()
    assert (run.code, run.series[0]["status"]) == (MEASURED, "skipped")
    assert victim.read_text() == "untouched"
    assert not (app.out / "result.json").is_symlink()


def test_a_newline_in_an_unknown_setting_makes_no_line_of_its_own(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(**{"a\nERROR forged": 1})
    run = app.run()
    assert_clean(run)
    assert run.errors == []


def test_a_malformed_registry_of_models_is_one_error(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    models = app.folder / "models"
    models.mkdir()
    (models / "registry.json").write_text('{"models": {"mine": {"file": "mine.onnx", "sha256": 7}}}')
    (models / "mine.onnx").write_bytes(b"x")
    app.environment["LEGLENGTH_MODELS_DIR"] = str(models)
    app.settings(models=["mine"])
    assert_one_error(app.run(), WRONG_INPUT, "registry.json: not a model registry")


def partly_failed(app: App, *files: Path) -> App:
    for path in files:
        app.add(path)
    return app


@pytest.mark.parametrize("way", ["option", "setting"])
def test_a_task_that_measured_some_series_may_exit_0_and_notifies(
    way: str, app: App, broken_file: Path, phantom_file: Path
) -> None:
    partly_failed(app, broken_file, phantom_file)
    app.settings(exit_zero_with_failures=way == "setting")
    run = app.run([*(["--partial-ok"] if way == "option" else []), app.inbox, app.out])
    assert run.code == MEASURED
    assert run.result["counts"] == {"completed": 1, "skipped": 0, "failed": 1}
    notification = run.result["__mercure_notification"]
    assert notification == {"requested": True, "text": "Leg length: 1 of 2 series failed."}


def test_a_task_that_measured_none_fails_whatever_was_asked_for(
    app: App, broken_file: Path, unspaced_file: Path
) -> None:
    partly_failed(app, broken_file, unspaced_file)
    assert app.run(["--partial-ok", app.inbox, app.out]).code == SERIES_FAILED
    assert app.run().code == SERIES_FAILED
