from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from analysis.detectors import registry
from analysis.errors import SettingsError
from analysis.settings import BUILT_IN_MODELS, AnalysisSettings, load_task, settings_section


def problems_of(section: dict) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        AnalysisSettings.from_mapping(section)
    assert "\n" not in str(caught.value)
    return caught.value.problems


def test_an_empty_task_gives_the_defaults():
    settings = AnalysisSettings.from_task({})
    assert settings == AnalysisSettings()
    assert settings.models == BUILT_IN_MODELS == tuple(registry.BUILT_IN)
    assert (settings.series_offset, settings.total_threshold, settings.confidence_threshold) == (1000, 5.0, 0.0)


def test_given_values_are_kept():
    section = {"models": ["gradient_edges"], "series_offset": 0, "femur_threshold": 1, "confidence_threshold": 1}
    settings = AnalysisSettings.from_mapping(section)
    assert settings.models == ("gradient_edges",)
    assert settings.series_offset == 0
    assert settings.femur_threshold == 1.0


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"models": "a"}, "process.settings.models: expected a list of model names, got a string"),
        ({"models": ["a", 7]}, "process.settings.models[1]: expected a model name, got a number"),
        ({"models": ["a", True]}, "process.settings.models[1]: expected a model name, got a boolean"),
        ({"models": ["a", " "]}, "process.settings.models[1]: expected a model name, got an empty string"),
        ({"models": ["a", "b", "a"]}, "process.settings.models[2]: the model 'a' is named twice"),
        ({"models": []}, "process.settings.models: expected at least one model name, got an empty list"),
        ({"models": None}, "process.settings.models: expected a list of model names, got null"),
        ({"series_offset": True}, "process.settings.series_offset: expected a whole number, got a boolean"),
        (
            {"series_offset": 1.5},
            "process.settings.series_offset: expected a whole number, got a number with a fraction",
        ),
        (
            {"series_offset": -1},
            "process.settings.series_offset: expected a whole number of 0 to 1000000000, got another",
        ),
        (
            {"series_offset": 10**30},
            "process.settings.series_offset: expected a whole number of 0 to 1000000000, got another",
        ),
        ({"femur_threshold": "2"}, "process.settings.femur_threshold: expected a number of 0 or more, got a string"),
        ({"tibia_threshold": -0.1}, "process.settings.tibia_threshold: expected a number of 0 or more, got -0.1"),
        (
            {"total_threshold": float("nan")},
            "process.settings.total_threshold: expected a number of 0 or more, got nan",
        ),
        (
            {"total_threshold": float("inf")},
            "process.settings.total_threshold: expected a number of 0 or more, got inf",
        ),
        ({"total_threshold": False}, "process.settings.total_threshold: expected a number of 0 or more, got a boolean"),
        (
            {"confidence_threshold": 1.01},
            "process.settings.confidence_threshold: expected a number of 0 to 1, got 1.01",
        ),
        (
            {"exit_zero_with_failures": "true"},
            "process.settings.exit_zero_with_failures: expected true or false, got a string",
        ),
        (
            {"confidence_threshold": {}},
            "process.settings.confidence_threshold: expected a number of 0 to 1, got an object",
        ),
    ],
)
def test_a_wrong_value_is_named_by_path_and_type(section: dict, line: str):
    assert problems_of(section) == (line,)


def test_a_whole_number_too_large_for_a_float_is_refused_and_not_a_crash():
    assert problems_of({"femur_threshold": 10**400})[0].startswith("process.settings.femur_threshold:")


def test_all_problems_come_at_once():
    found = problems_of({"models": "x", "series_offset": "1", "confidence_threshold": 2})
    assert [line.split(":")[0].rsplit(".")[-1] for line in found] == ["models", "series_offset", "confidence_threshold"]


def test_unknown_keys_warn_with_a_suggestion_and_monitoring_is_left_alone():
    settings = AnalysisSettings.from_mapping({"modles": ["x"], "zzz": 1, "monitoring": "anything"})
    assert settings.warnings == (
        "process.settings.modles: unknown setting, ignored; did you mean 'models'?",
        "process.settings.zzz: unknown setting, ignored",
    )


def test_settings_nested_once_more_are_unwrapped_and_null_is_nothing():
    nested = {"process": {"settings": {"series_offset": 1, "settings": {"series_offset": 5}}}}
    assert AnalysisSettings.from_task(nested).series_offset == 5
    for task in ({"process": None}, {"process": {"settings": None}}, {"process": {}}):
        assert settings_section(task) == {}


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ({"process": []}, "process: expected an object, got a list"),
        ({"process": {"settings": "x"}}, "process.settings: expected an object, got a string"),
        ({"process": {"settings": {"settings": 1}}}, "process.settings.settings: expected an object, got a number"),
    ],
)
def test_a_section_that_is_no_object_is_named(task: dict, line: str):
    with pytest.raises(SettingsError) as caught:
        AnalysisSettings.from_task(task)
    assert str(caught.value) == line


def test_a_missing_task_file_is_an_empty_task(tmp_path: Path):
    assert load_task(tmp_path) == {}


def test_a_task_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path):
    task = {"process": {"settings": {"series_offset": 3}}}
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "task.json").write_text(json.dumps(task), encoding=encoding)
        assert load_task(tmp_path) == task


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":\n  1,,}', "line 2, column 5: not valid JSON"),
        (b"", "line 1, column 1: not valid JSON"),
        (b"[1]", "expected an object, got a list"),
        (b"null", "expected an object, got null"),
        (b'{"a": "\xff"}', "byte 7: not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"monitoring": ' + b'{"a": ' * 200 + b"1" + b"}" * 201, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "holds a number with too many digits"),
    ],
)
def test_a_broken_task_file_is_one_line_with_its_place(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "task.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_task(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_task_file_that_cannot_be_read_is_one_line(tmp_path: Path):
    (tmp_path / "task.json").mkdir()
    with pytest.raises(SettingsError, match="can't be read"):
        load_task(tmp_path)


def test_a_task_file_that_is_a_pipe_or_has_no_end_is_one_line_at_once(tmp_path: Path):
    path = tmp_path / "task.json"
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="can't be read: not a regular file"):
        load_task(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SettingsError, match="can't be read: not a regular file"):
        load_task(tmp_path)


def test_an_unknown_key_stays_on_its_line_and_within_bounds():
    settings = AnalysisSettings.from_mapping({"a\nERROR forged\x1b[2J": 1, "b" * 5000: 2})
    assert [line for line in settings.warnings if len(line) > 200 or not line.isprintable()] == []
    assert len(settings.warnings) == 2
