"""What the examples declare is what the application can say: each of its codes counts from 0, and none is missing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
import monitoring
from analysis.errors import FAILURE_REASONS, SKIP_REASONS
from analysis.measurements import BONE_WORDS
from monitoring.metrics import catalogue
from monitoring.metrics.stop_reasons import reason_class
from monitoring.settings import MetricsConfig
from tests.support import REPOSITORY

DECLARING = ("deploy/systemd/task.json", "deploy/mercure/module.json", "task_with_monitoring.json.example")


def metrics_of(path: str) -> dict[str, list[str]]:
    task = json.loads((REPOSITORY / path).read_text())
    process = task.get("process") or task["leglength"]
    found: dict[str, list[str]] = process["settings"]["monitoring"]["metrics"]
    return found


def emitted_issues() -> Iterator[str]:
    """The codes in the code: a dict's "code", the first argument of ``_issue``, and what a ``finding`` returns."""
    for path in Path(analysis.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                named = zip(node.keys, node.values, strict=True)
                yield from (code for key, value in named if text(key) == "code" for code in codes(value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_issue":
                yield from codes(node.args[0])
            elif isinstance(node, ast.FunctionDef) and node.name == "finding":
                severities = {"info", "warning", "soft", "hard", "error"}
                returned = (part for item in ast.walk(node) if isinstance(item, ast.Return) for part in ast.walk(item))
                yield from (found for part in returned if (found := text(part)) and found not in severities)


def text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def codes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):  # f"{BONE_WORDS[bone]}_length_difference"
        assert ast.unparse(node.values[0]).startswith("f'{BONE_WORDS[") or "BONE_WORDS" in ast.unparse(node)
        yield from (word + str(text(node.values[-1])) for word in BONE_WORDS.values())
    elif code := text(node):
        yield code


@pytest.mark.parametrize("path", DECLARING)
def test_what_is_declared_is_what_the_application_can_say(path: str) -> None:
    declared = metrics_of(path)
    assert declared["codes"] == [*SKIP_REASONS, *FAILURE_REASONS]
    assert len(declared["issues"]) == len(set(declared["issues"]))
    assert set(declared["issues"]) == set(emitted_issues())


def test_there_is_room_for_all_of_them() -> None:
    declared = metrics_of(DECLARING[0])
    assert len(declared["codes"]) <= catalogue.CODE.limit
    assert len(declared["issues"]) <= catalogue.ISSUE.limit
    names = MetricsConfig(codes=tuple(declared["codes"])).declared
    series = [labels["code"] for labels in catalogue.STOP_CODES.known_series({catalogue.CODE: names["code"]})]
    assert {*SKIP_REASONS, *FAILURE_REASONS, *catalogue.OWN_CODES} == set(series)


def test_each_code_has_a_class_of_its_own_meaning() -> None:
    assert [code for code in (*SKIP_REASONS, *FAILURE_REASONS) if reason_class(code) == "other"] == []


def test_the_packages_versions_are_the_distributions() -> None:
    (line,) = [line for line in (REPOSITORY / "pyproject.toml").read_text().splitlines() if line.startswith("version")]
    assert line == f'version = "{monitoring.__version__}"' == f'version = "{analysis.__version__}"'
