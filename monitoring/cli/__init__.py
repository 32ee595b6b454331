"""The command line, ``leglength-monitor``: for the people who look after what the monitoring has recorded.

Its libraries (typer, rich) come with the extra ``cli``: a host's process needs none of them, and no room below imports
this one. Commands read the store, or use the same rooms as a host does; none has a way of its own to write.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what is missing to run it."""
    try:
        from monitoring.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit("leglength-monitor needs its extra: pip install '.[cli]' from a checkout, or FILE.whl[cli]")
    app()
