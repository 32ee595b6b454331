"""The domain is imported in every monitored run: it may cost little and touch nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import monitoring.domain

HOUSE = Path(monitoring.domain.__file__).parent
MODULES = sorted(path.stem for path in HOUSE.glob("*.py") if path.stem != "__init__")
PROBE = """
import sys
from importlib import import_module
before = set(sys.modules)
for name in sys.argv[1:]:
    import_module(f"monitoring.domain.{name}")
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(new - set(sys.stdlib_module_names))))
"""


def test_only_the_standard_library_is_imported_and_what_the_records_need():
    command = [sys.executable, "-c", PROBE, *MODULES]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HOUSE.parents[1])
    # The records are declared with msgspec, which takes typing_extensions where it finds it.
    assert set(answer.stdout.split()) - {"typing_extensions"} == {"monitoring", "msgspec"}


@pytest.mark.parametrize("module", MODULES)
def test_of_the_module_only_the_records_types_are_known(module):
    imported = re.findall(r"^\s*(?:from|import) (monitoring[\w.]*)", (HOUSE / f"{module}.py").read_text(), re.MULTILINE)
    assert {name for name in imported if not name.startswith("monitoring.domain")} <= {
        "monitoring.records.session_record"
    }
