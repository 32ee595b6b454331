"""`leglength-monitor dashboards alerts`: a site's thresholds, what is wrong with them, and what it needs to run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitoring.cli.commands import app
from tests.support.clocks import HANGS_SECONDS


def alerts(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dashboards", "alerts", *map(str, arguments)])


def test_a_sites_thresholds_are_in_the_rules_and_the_rest_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text('{"silence": "36h", "failures": 5}')
    done = alerts("--thresholds", path, "--json")
    assert done.exit_code == 0, done.output
    rules = {rule["name"]: rule for rule in json.loads(done.stdout)}
    assert rules["LegLengthNothingArrives"]["expression"].endswith("> 129600")
    assert rules["LegLengthNothingArrives"]["thresholds"] == {"silence": "36h"}
    assert rules["LegLengthAllFail"]["thresholds"] == {"all_fail_window": "1d", "failures": 5}
    assert "> 5 - 0.5" in rules["LegLengthAllFail"]["expression"]
    (line,) = [each for each in alerts("--thresholds", path).stdout.splitlines() if "LegLengthNothingArrives" in each]
    assert line.split() == ["LegLengthNothingArrives", "warning", "operator", "0s", "silence", "36h"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"silense": "36h"}', "unknown field `silense`"),
        ('{"silence": "36 hours"}', "$.silence"),
        ('{"failure_share": 5}', "$.failure_share"),
        ('{"images": 0}', "$.images"),
        ("[]", "thresholds: Expected `object`"),
        ("{", "not JSON"),
        ('{"slow_bound": 25}', "LegLengthSlow: leglength_session_duration_seconds_bucket"),
        ('{"event_window": "5m"}', "extrapolated from too few scrapes"),
    ],
)
def test_thresholds_that_cannot_be_used_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(text)
    done = alerts("--thresholds", path)
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert words in done.output


def test_without_its_extra_the_command_says_in_a_line_what_to_install() -> None:
    code = "import sys; sys.modules['promql_parser'] = None; from monitoring.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "dashboards", "alerts"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_SECONDS,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this command needs its extra: pip install 'leglength-monitoring[dashboards]'\n"


def test_the_other_commands_load_none_of_its_libraries() -> None:
    code = "import sys, monitoring.cli.commands; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANGS_SECONDS
    )
    assert {"promql_parser", "yaml", "grafana_foundation_sdk"} & set(done.stdout.split()) == set()
