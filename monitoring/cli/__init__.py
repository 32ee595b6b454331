"""The command line, ``leglength-monitor``; its libraries come with the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what is missing to run it."""
    try:
        from monitoring.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit("leglength-monitor needs its extra: pip install 'leglength-monitoring[cli]'")
    app()
