"""docs/alerts.md has a runbook for every rule, whole, and what it names exists."""

from __future__ import annotations

import re

import typer

from monitoring.cli.commands import app
from monitoring.dashboards.influxdb_rules import INFLUXDB_RULES
from monitoring.dashboards.rendering import PAGES
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import Thresholds
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "alerts.md").read_text()
PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
SECTIONS = dict(re.findall(r"^### (LegLength\w+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def test_every_rule_has_a_runbook_with_all_four_parts() -> None:
    assert set(SECTIONS) == {rule.name for rule in (*RULES, *INFLUXDB_RULES)}
    for name, text in SECTIONS.items():
        written = re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL)
        parts = dict(re.findall(r"^\*\*(\w+)\.\*\* (.+?)(?=^\*\*|\Z)", written, flags=re.MULTILINE | re.DOTALL))
        assert tuple(parts) == PARTS, name
        assert all(len(words.split()) >= 1 for words in parts.values()), name


def test_every_rule_of_prometheus_shows_its_expression() -> None:
    for rule in RULES:
        assert f"<!-- generated: {rule.name} -->" in SECTIONS[rule.name]


def test_every_command_that_the_page_names_exists() -> None:
    named = re.findall(r"leglength-monitor ((?:[a-z][a-z-]* ?)*)((?:--[a-z-]+|[ \w./{}\":,-])*)", PAGE)
    assert len(named) > 30
    root = typer.main.get_command(app)
    for words, options in named:
        command, path = root, words.split()
        while path and path[0] in getattr(command, "commands", {}):
            command = command.commands[path.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--version", "--help"}
        assert command is not root or not path, words
        assert set(re.findall(r"--[a-z-]+", options)) <= known, (words, options)


def test_every_alert_panel_threshold_and_link_that_the_page_names_exists() -> None:
    names = {rule.name for rule in (*RULES, *INFLUXDB_RULES)}
    assert set(re.findall(r"\bLegLength\w+", PAGE)) <= names
    panels = {title for page in PAGES for row in page.rows for panel in row.panels for title in titles(panel)}
    named = {title for text in SECTIONS.values() for title in re.findall(r'"([A-Z][^"]+)"', without_code(text))}
    assert len(named) > 8
    assert named - panels - {row.title for page in PAGES for row in page.rows} == set()
    links = re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", PAGE)
    for file, anchor in links:
        text = (REPOSITORY / "docs" / file).read_text() if file else PAGE
        assert not anchor or anchor in anchors(text), (file, anchor)
    assert {"silence", "images", "slow_bound", "skip_share"} <= set(Thresholds.__struct_fields__)


def titles(panel: object) -> list[str]:
    answers = getattr(panel, "answers", ())
    return [getattr(panel, "title", ""), *(getattr(answer, "title", None) or "" for answer in answers)]


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


def anchors(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
