"""The committed documents say what the code says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from monitoring.metrics import catalogue
from monitoring.settings import json_schema
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

GENERATED = {
    "docs/analytics.md": "| `model_difference` |",
    "docs/architecture.md": "| `exceptions.py` |",
    "docs/configuration.md": "shutdown_timeout",
    "docs/metrics.md": "| `leglength_sessions_total` |",
    "docs/task.schema.json": "shutdown_timeout",
    "docs/alerts.md": "[LegLengthAllFail](#leglengthallfail)",
    "deploy/grafana/dashboards/leglength-operation.json": "Must anyone act?",
    "deploy/prometheus/leglength.rules.yml": "LegLengthAllFail",
    "deploy/alertmanager/alertmanager.yml": "LegLengthHeartbeat",
}
"""The documents, and some words that the code has put there."""
FOLDERS = ("deploy/grafana",)
"""Folders that hold nothing but what is made."""


def generate(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "scripts" / "generate-docs"), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of nothing but the documents and what makes them."""
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    for path in ["scripts/generate-docs", *GENERATED]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    return tmp_path


def test_the_committed_documents_are_what_the_code_renders() -> None:
    done = generate(REPOSITORY, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "`make docs` writes them again"


@pytest.mark.parametrize("first", [0, 1], ids=["every other one", "the others"])
def test_a_document_that_differs_is_named_and_written_again(copy: Path, first: int) -> None:
    """And no other one."""
    changed = sorted(GENERATED)[first::2]
    right = {path: (copy / path).read_text() for path in GENERATED}
    for path in changed:
        assert GENERATED[path] in right[path]
        (copy / path).write_text(right[path].replace(GENERATED[path], "renamed"))
    wrong = {path: (copy / path).read_text() for path in GENERATED}
    checked = generate(copy, "--check")
    assert (checked.returncode, sorted(checked.stdout.splitlines())) == (1, changed)
    assert {path: (copy / path).read_text() for path in GENERATED} == wrong, "a check writes nothing"
    assert sorted(generate(copy).stdout.splitlines()) == changed
    assert {path: (copy / path).read_text() for path in GENERATED} == right


def test_every_metric_and_every_setting_is_in_the_documents() -> None:
    metrics = (REPOSITORY / "docs/metrics.md").read_text()
    assert [metric.name for metric in catalogue.METRICS if f"| `{metric.name}` |" not in metrics] == []
    settings = (REPOSITORY / "docs/configuration.md").read_text()
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        assert [name for name in section["properties"] if f"| `{name}` |" not in settings] == []


def test_every_file_of_both_packages_is_in_the_house_and_says_what_it_is_for() -> None:
    house = (REPOSITORY / "docs/architecture.md").read_text()
    told = {
        section[: section.index("`")] + name: purpose.strip()
        for section in house.split("\n#### `")[1:]
        for name, purpose in re.findall(r"^\| `([^`]+)` \| (.*) \|$", section, re.MULTILINE)
    }
    for section in house.split("\n### `")[1:]:
        rooms = re.findall(r"^\| \d+ \| `([^`]+)` \| (.*) \|$", section.split("\n#### ")[0], re.MULTILINE)
        told |= {section[: section.index("`")] + name: purpose for name, purpose in rooms}
    files = [path.relative_to(REPOSITORY) for package in ("monitoring", "analysis") for path in package_files(package)]
    names = {f"{file.parent}/" if file.name == "__init__.py" else str(file) for file in files}
    assert names - {"monitoring/", "analysis/"} <= set(told)
    assert [name for name, purpose in told.items() if not purpose] == []


def package_files(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def test_the_schema_of_task_json_takes_the_examples_and_refuses_a_mistake() -> None:
    schema = json.loads((REPOSITORY / "docs/task.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    examples = sorted(REPOSITORY.glob("*.example"))
    assert examples
    for path in examples:
        jsonschema.validate(json.loads(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"process": {"settings": {"monitoring": {"enabled": "perhaps"}}}}, schema)
