"""`leglength-monitor` in this process: what it does and prints, without the time that a process takes to start.

What it logs goes to the tests' own log here: where that is looked at, a process of its own is started.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from monitoring.cli.commands import app


def command_line(
    arguments: Sequence[object], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `leglength-monitor ARGUMENTS` in a folder, with this environment and nothing of the caller's."""
    words = [*map(str, arguments)]
    with contextlib.chdir(cwd), mock.patch.dict(os.environ, environment, clear=True):
        done = CliRunner().invoke(app, words, prog_name="leglength-monitor")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
