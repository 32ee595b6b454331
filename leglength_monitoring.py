"""The package ``monitoring`` under a name that no other code has, and what the command ``leglength-monitor`` starts.

A folder ``monitoring`` of the host's own may come first on Python's path. What Python says then names neither the cause
nor the way out; this module does.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent / "monitoring"


def _refuse_another_package() -> None:
    """Raise ImportError where ``import monitoring`` finds another code than the one that lies beside this file."""
    found = find_spec("monitoring")
    folders = [] if found is None else [Path(folder) for folder in found.submodule_search_locations or ()]
    if _PACKAGE in [folder.resolve() for folder in folders]:
        return
    other = folders[0] if folders else found.origin if found is not None else "nothing"
    raise ImportError(
        f"the name monitoring is taken by {other}, which hides the package leglength-monitoring in {_PACKAGE}:"
        " rename what takes it, or put its folder behind the package's on Python's path",
        name="monitoring",
    )


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    _refuse_another_package()
    import monitoring

    return getattr(monitoring, name)


def main() -> None:
    """Run the command ``leglength-monitor``; exit 2, and one line, where the package is hidden."""
    try:
        _refuse_another_package()
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    from monitoring.cli import main as command

    command()
