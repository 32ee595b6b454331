"""Fixtures that every test may use: real servers, a server of faults, and what happens when one is missing.

Those of the module under test, its hosts and its TLS are in the plugins of `tests/support` named below.
A server that is not installed skips the test, loudly; with CI=true or REQUIRE_SERVERS=1 it fails it.
Every fixture starts a server of the test's own (they start in milliseconds), so no test sees another's
data, and each may stop, kill and start it again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.faults import FaultServer
from tests.support.servers import (
    POINT_SERVERS,
    Alertmanager,
    InfluxDB1,
    MissingServerError,
    PointServer,
    Prometheus,
    Pushgateway,
    VictoriaMetrics,
    VmAuth,
)

pytest_plugins = ["tests.support.history", "tests.support.module_fixtures", "tests.support.tls_fixtures"]

# A busy machine is slow, which is no property of the code: no example is held against a clock. With CI=true the
# examples are the same in every run, so that what fails there fails here.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

MISSING = "missing server: "
SERVER_FIXTURES = {
    "alertmanager_factory",
    "influxdb1",
    "influxdb1_factory",
    "point_server",
    "prometheus_factory",
    "pushgateway",
    "pushgateway_factory",
    "victoria_metrics",
    "victoria_metrics_factory",
    "vmauth_factory",
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are on this machine: the proxy of whoever runs the tests stays out of the way."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


# --- one process or several ---------------------------------------------------------------------

# What their tests share takes seconds to make, or they take the servers' usual ports: one process runs all of a file.
WHOLE = {
    "tests/analysis/test_detectors.py",
    "tests/analysis/test_outputs.py",
    "tests/analysis/test_phantom.py",
    "tests/application/test_canaries.py",
    "tests/application/test_it_notices.py",
    "tests/dashboards/test_images_on_servers.py",
    "tests/dashboards/test_rules_fire.py",
    "tests/dashboards/test_totals_on_prometheus.py",
    "tests/deploy/test_readmes.py",
    "tests/deploy/test_stack.py",
    "tests/test_house.py",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadgroup`: a file of WHOLE to one process, each other test to whichever is free.

    Marks would say it beside the tests, but xdist 3.8 sees none under pytest 9.2, without a word.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path in WHOLE else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Of several processes that collect all tests at once, each first compiles modules that the others then find so."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    modules = sorted(Path(__file__).parent.rglob("test_*.py"))
    for path in modules[number::count]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection will tell
            importlib.import_module(".".join(path.relative_to(session.config.rootpath).with_suffix("").parts))


# --- servers ------------------------------------------------------------------------------------


def _factory(kind: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts servers of a kind on demand, and ends them after the test, the last one first."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(kind(*args, **kwargs))


@pytest.fixture
def victoria_metrics() -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics() as server:
        yield server


@pytest.fixture
def influxdb1() -> Iterator[InfluxDB1]:
    with InfluxDB1() as server:
        yield server


@pytest.fixture
def pushgateway() -> Iterator[Pushgateway]:
    with Pushgateway() as server:
        yield server


@pytest.fixture(params=list(POINT_SERVERS))
def point_server(request: pytest.FixtureRequest) -> Iterator[PointServer]:
    """Each server that speaks InfluxDB's write protocol in turn."""
    with POINT_SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def victoria_metrics_factory() -> Iterator[Callable[..., VictoriaMetrics]]:
    yield from _factory(VictoriaMetrics)


@pytest.fixture
def influxdb1_factory() -> Iterator[Callable[..., InfluxDB1]]:
    yield from _factory(InfluxDB1)


@pytest.fixture
def pushgateway_factory() -> Iterator[Callable[..., Pushgateway]]:
    yield from _factory(Pushgateway)


@pytest.fixture
def prometheus_factory() -> Iterator[Callable[..., Prometheus]]:
    yield from _factory(Prometheus)


@pytest.fixture
def alertmanager_factory() -> Iterator[Callable[..., Alertmanager]]:
    yield from _factory(Alertmanager)


@pytest.fixture
def vmauth_factory() -> Iterator[Callable[..., VmAuth]]:
    yield from _factory(VmAuth)


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """Answers 204 until its `script`, `then` or `on_path` is changed."""
    with FaultServer() as server:
        yield server


@pytest.fixture
def unique_name() -> str:
    """A name that no other test and no other run uses: for an instance, a database, a bucket."""
    return f"test-{secrets.token_hex(6)}"


# --- missing servers ----------------------------------------------------------------------------


def servers_are_required() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("REQUIRE_SERVERS") == "1"


@contextlib.contextmanager
def _missing_servers_skip_or_fail() -> Iterator[None]:
    try:
        yield
    except MissingServerError as error:
        reason = f"{error} (scripts/install-test-servers installs it)"
        if servers_are_required():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _missing_servers_skip_or_fail():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _missing_servers_skip_or_fail():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


def _missing_server_of(report: Any) -> str | None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    _, found, rest = reason.partition(MISSING)
    return rest.partition(" (scripts")[0] if found else None


def _say_whether_influxdb2_was_tried(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [report.nodeid for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    if "influxdb2" not in POINT_SERVERS and any("[influxdb1" in name for name in ran):
        terminalreporter.line(
            "InfluxDB 2 was not tried: name one with INFLUXDB2_URL and INFLUXDB2_TOKEN, or put its influxd on PATH",
            yellow=True,
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Under xdist this runs in the controller, which has every worker's reports."""
    _say_whether_influxdb2_was_tried(terminalreporter)
    skipped: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if server := _missing_server_of(report):
            skipped[server] = skipped.get(server, 0) + 1
    if not skipped:
        return
    terminalreporter.section("SERVERS ARE MISSING", sep="!", red=True, bold=True)
    for server, count in sorted(skipped.items()):
        terminalreporter.line(f"{server}: {count} test{'s' * (count > 1)} skipped", red=True)
    terminalreporter.line("Nothing above shows that the module works with them: scripts/install-test-servers")
