"""Tests keep their addresses: none is imported by another, and none holds a time against a clock alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.conftest import WHOLE
from tests.support import REPOSITORY
from tests.support.cases import for_each

FILES = sorted((REPOSITORY / "tests").rglob("*.py"))
ROOMS = {path.name for path in (REPOSITORY / "monitoring").iterdir() if (path / "__init__.py").exists()}
NO_ROOM = {"analysis", "application", "deploy", "durability", "runtime", "settings", "support"}
# What a busy machine makes false: `assert_took_at_most` knows how slow it is just then.
A_TIME_ALONE = re.compile(r"\bassert .*(?:monotonic|perf_counter|time)\(\) - \w+ <.*|\bassert .*\.seconds <.*")


def page_name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@for_each("path", FILES, named=page_name)
def test_no_test_module_is_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
            assert not [name for name in names if re.match(r"(tests\..*)?\btest_\w+$", name)], ast.unparse(node)


@for_each("path", FILES, named=page_name)
def test_no_time_is_held_against_a_clock_alone(path: Path) -> None:
    assert A_TIME_ALONE.findall(path.read_text()) == []


def test_each_folder_of_tests_is_a_room_or_what_crosses_them() -> None:
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if (path / "__init__.py").exists()}
    assert folders <= ROOMS | NO_ROOM


def test_what_one_process_runs_as_a_whole_is_there_and_is_not_marked() -> None:
    """A group's mark is not seen by xdist 3.8 under pytest 9.2."""
    assert all((REPOSITORY / path).is_file() for path in WHOLE)
    assert [path for path in FILES if "xdist_" + "group" in path.read_text()] == []
