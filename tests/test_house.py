"""The house keeps its shape: `make house`'s figures stay within the limits of decision 0010."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

MEASURE = REPOSITORY / "scripts" / "house"


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    command = [sys.executable, str(MEASURE), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_the_rooms_are_few_and_imports_point_down(measured: dict[str, Any]) -> None:
    for figures in measured.values():
        assert figures["folders"] <= 12
        assert figures["floors"] <= 11
        assert figures["circles"] == figures["circles_of_files"] == []


@pytest.mark.parametrize("package", ["monitoring", "analysis"])
def test_files_and_functions_are_short(measured: dict[str, Any], package: str) -> None:
    assert measured[package]["long_files"] == []
    functions = measured[package]["functions"]
    assert functions["median"] <= 10, functions
    assert functions["p95"] <= 40, functions


def test_few_helpers_have_one_caller(measured: dict[str, Any]) -> None:
    helpers = measured["monitoring"]["helpers"]
    assert helpers["per_1000_lines"] <= 12, "\n".join(helpers["places"])


def test_a_call_reaches_its_effect_in_few_frames(measured: dict[str, Any]) -> None:
    frames = measured["monitoring"]["frames"]
    assert frames["from_leaving_to_insert"] <= 9, "\n".join(frames["way_to_insert"])
    assert frames["from_record_to_effect"] <= 4, "\n".join(frames["way_to_effect"])
    assert frames["way_to_insert"][0].endswith(" ManagedSession.__exit__")
    assert frames["way_to_effect"][0].endswith(" ManagedSession.record_metric")


def test_the_measure_sees_what_breaks_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small package with a circle, a helper with one caller, a long file, and a comment that is a directive."""
    sources = {
        "__init__.py": '"""The front door."""\n',
        "up.py": "import sample.room.down\n\n\ndef used():\n    return _once()\n\n\ndef _once():\n    return 1\n",
        "room/__init__.py": "",
        "room/down.py": "def f():\n    # A reason.\n    import sample.up  # noqa\n" + "\n" * 500,
        "base.py": "import sys\n",
    }
    (tmp_path / "sample" / "room").mkdir(parents=True)
    for name, text in sources.items():
        (tmp_path / "sample" / name).write_text(text)
    measure = loaded(monkeypatch)
    monkeypatch.setattr(measure, "REPOSITORY", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    figures = measure.measured("sample")
    assert figures["circles"] == [["room", "up"]]
    assert figures["circles_of_files"] == [["sample.room.down", "sample.up"]]
    assert (len(figures["rooms"]), figures["folders"], figures["arrows"], figures["floors"]) == (3, 1, 2, 1)
    assert figures["long_files"] == ["sample/room/down.py (503)"]
    assert figures["helpers"]["places"] == ["sample/up.py:8 _once (2 lines)"]
    assert (figures["lines"], figures["comments_per_100_lines"]) == (514, 0.2)
    assert (figures["functions"]["count"], figures["functions"]["p95"]) == (3, 3)


def test_floors_are_the_longest_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    floors = loaded(monkeypatch).floors
    assert floors({"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}) == {"a": 4, "b": 3, "c": 2, "d": 1}
    assert floors({"a": {"b"}, "b": {"a", "c"}, "c": set()}) == {"a": 2, "b": 2, "c": 1}


def test_a_reader_that_has_seen_enough_ends_it_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, str(MEASURE), "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=HANGS_SECONDS, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def loaded(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("measure_of_the_house", str(MEASURE))
    module = module_from_spec(cast(ModuleSpec, spec_from_loader(loader.name, loader)))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module
