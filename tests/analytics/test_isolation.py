"""A host pays nothing for the analysis, and the analysis needs nothing but what a host has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS

HOST = """
import logging, sys
from monitoring import MonitorManager
settings = {
    "enabled": True, "store": {"path": sys.argv[1], "min_free_mb": 0},
    "influxdb": {"url": "http://127.0.0.1:9", "bucket": "b"}, "prometheus": {"textfile": sys.argv[1] + "/x.prom"},
}
monitor = MonitorManager({"monitoring": settings}, logging.getLogger())
with monitor.session("series") as session:
    session.record_measurements({"PLL_R_FEM": 300.0})
monitor.close()
print(*sorted(name for name in sys.modules if name.startswith("monitoring.analytics")))
"""
ALONE = """
import sys
before = set(sys.modules)
from monitoring.analytics import analysis, intervals
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(new))
"""


def answer(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=True,
    )
    return done.stdout.strip()


def test_a_host_that_records_a_session_loads_nothing_of_it(tmp_path: Path) -> None:
    assert answer(HOST, str(tmp_path)) == ""
    assert (tmp_path / "monitoring.db").exists()
    assert "leglength_sessions_total" in (tmp_path / "x.prom").read_text()


def test_it_loads_nothing_but_the_standard_library_and_what_the_records_need() -> None:
    assert set(answer(ALONE).split()) - {"typing_extensions"} == {"monitoring", "msgspec"}
