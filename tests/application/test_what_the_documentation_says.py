"""README and its kin stay true: commands exist, links lead somewhere, settings are accepted, examples run."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.config_validator import check_section
from tests.application.app import App
from tests.support import REPOSITORY
from tests.support.cases import for_each
from tests.support.clocks import HANGS_SECONDS

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "decisions"]
"""Those that tell how it is; the others tell how it was then."""
HOUSES = {"docs/architecture.md"}
"""Name files within their rooms."""
GENERATED = {"docs/configuration.md", "docs/metrics.md"}
FOLDERS = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - {".venv", "demo", "stack", "build", "dist"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
TASKS = [REPOSITORY / "task.json.example", REPOSITORY / "task_with_monitoring.json.example"]


def page_name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def monitor_commands() -> set[str]:
    from typer.main import get_command

    from monitoring.cli.commands import app

    return set(get_command(app).commands)


@for_each("page", PAGES, named=page_name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        is_generated = page_name((page.parent / target).resolve()) in GENERATED
        assert is_generated or (page.parent / target).exists(), target


@for_each("page", PAGES, named=page_name)
def test_every_command_and_make_target_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"leglength-monitor ([a-z]+)", page.read_text()))
    assert named <= monitor_commands()
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets


def test_the_readme_names_every_command_of_the_command_line() -> None:
    assert (
        set(re.findall(r"\| `leglength-monitor ([a-z]+)`", (REPOSITORY / "README.md").read_text()))
        == monitor_commands()
    )


def test_the_operations_page_explains_every_line_that_the_module_logs() -> None:
    """Told by the longest run of constant words in each message; `%s` alone is a message that another place words."""
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    files = sorted((REPOSITORY / "monitoring").rglob("*.py"))
    messages = [(path, message) for path in files for message in log_messages(path)]
    assert len({path.parent for path, _ in messages}) > 3, "rooms that log"
    pieces = {message: re.split(r"%[sd]|[,;]", message.removeprefix("monitoring:")) for _, message in messages}
    told = {message: max(found, key=len).strip(" :") in page for message, found in pieces.items()}
    assert [f"{path.name}: {message}" for path, message in messages if not told[message]] == []


def log_messages(path: Path) -> Iterator[str]:
    """The messages of one file: whatever a logger is given to say, a constant at the top of the file included."""
    tree = ast.parse(path.read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    constants = {target.id: node.value for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    for call in calls:
        if call.func.attr in LEVELS and "logger" in ast.unparse(call.func.value):
            message = call.args[0]
            message = constants[message.id] if isinstance(message, ast.Name) else message
            assert isinstance(message, ast.Constant), f"{path.name}: {ast.unparse(call)}"
            yield message.value


@pytest.mark.parametrize("page", [*CURRENT, *sorted((REPOSITORY / "deploy").rglob("*.md"))], ids=page_name)
def test_every_path_of_the_repository_that_is_named_exists(page: Path) -> None:
    for path in re.findall(r"`([\w.*/-]+)`", page.read_text()):
        if path.split("/")[0] in FOLDERS and "/" in path:
            assert list(REPOSITORY.glob(path.rstrip("/"))), path
        elif path.endswith(".py") and page_name(page) not in HOUSES:
            assert (REPOSITORY / path).exists(), f"{path}: from the repository's root"


@pytest.mark.parametrize("path", TASKS, ids=page_name)
def test_an_example_of_settings_has_nothing_to_complain_about(path: Path) -> None:
    section = json.loads(path.read_text())["process"]["settings"].get("monitoring", {})
    assert check_section(section, {"INFLUXDB_TOKEN": "secret"}).problems == ()


def test_the_example_of_settings_holds_no_secret_in_plain() -> None:
    section = json.loads(TASKS[1].read_text())["process"]["settings"]["monitoring"]
    assert section["influxdb"]["token"] == "${INFLUXDB_TOKEN}"


@pytest.mark.parametrize("path", EXAMPLES, ids=page_name)
def test_an_example_host_runs_and_its_sessions_are_in_the_store(path: Path, app: App) -> None:
    environment = app.full_environment() | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, path],
        env=environment,
        cwd=app.folder,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert not re.search(r"^(WARNING|ERROR)(?!.*inside the container)", done.stderr, re.MULTILINE), done.stderr
    app.settings(monitoring={"enabled": True})
    sessions = [json.loads(line) for line in app.monitor("sessions", "--json").stdout.splitlines()]
    assert sessions
    assert sessions[-1]["measurements_mm"] == {"PLL_R_FEM": 371.2, "PLL_L_FEM": 368.2}
    assert all("refused" not in session for session in sessions)


def test_the_demo_refuses_to_run_elsewhere_than_where_its_hints_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Run this in ")
    assert list(tmp_path.iterdir()) == []
