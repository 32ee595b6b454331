"""Monitoring on, off, absent or in trouble: the same outputs, the same exit code, and an exit that waits for nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.application.app import App, Run, assert_clean, outputs, with_backends
from tests.support import REPOSITORY
from tests.support.clocks import assert_took_at_most, slowness
from tests.support.faults import FaultServer, refused_port, respond, silence
from tests.support.servers import InfluxDB1, Pushgateway, VictoriaMetrics, VmAuth

SECRETS = {"token": "token-that-nobody-may-read", "password": "password-that-nobody-may-read"}
SHUTDOWN_SECONDS = 3.0  # on a machine that does nothing else, time enough for a first answer, which is said
REQUEST_SECONDS = 600.0  # so long that only shutdown_timeout can end the wait
GENEROUS_SECONDS = 4.0  # for the commit, result.json and the interpreter's exit


def documented_settings() -> list[dict[str, Any]]:
    """The configurations that README.md and the page of the settings show, each once, as they are written there."""
    pages = "".join((REPOSITORY / page).read_text() for page in ("README.md", "docs/configuration.md"))
    blocks = dict.fromkeys(re.findall(r"```json\n(.*?)```", pages, re.DOTALL))
    return [json.loads(block)["process"]["settings"] for block in blocks]


def assert_unchanged(run: Run, unmonitored: Run) -> None:
    assert_clean(run)
    assert run.code == unmonitored.code == 0
    assert outputs(run.out) == outputs(unmonitored.out)


def failing_backends(url: str, shutdown_seconds: float) -> dict[str, Any]:
    """Both backends at one address that fails them."""
    influxdb = {"url": url, "token": SECRETS["token"], "org": "hospital", "bucket": "b", "timeout": REQUEST_SECONDS}
    prometheus = {"gateway_url": url, "username": "pusher", "password": SECRETS["password"], "timeout": REQUEST_SECONDS}
    return with_backends(influxdb, prometheus) | {"shutdown_timeout": shutdown_seconds}


def assert_kept(app: App, run: Run, backends: list[str]) -> None:
    """The session is in the store and waits there; the log shows no secret."""
    status = app.status()
    assert status["sessions"] == {"completed": 1, "failed": 0, "skipped": 0, "crashed": 0}
    for backend in backends:
        waiting = status["outbox"].get(backend, {})
        assert waiting.get("pending", 0) + waiting.get("dead", 0) > 0, (backend, status["outbox"])
    assert not [secret for secret in SECRETS.values() if secret in run.log]


def assert_told_once(run: Run, backends: list[str]) -> None:
    for backend in backends:
        assert len(run.lines_with(f"monitoring: {backend}:")) == 1, run.log


@contextmanager
def answering(*behaviours: Any, **options: Any) -> Iterator[str]:
    with FaultServer(behaviours[:-1], then=behaviours[-1], **options) as server:
        yield server.url


# Here it is the application's outputs; tests/durability/test_fault_matrix.py has every fault, for a smaller host.
TROUBLES: dict[str, Callable[[], Any]] = {
    "refused": refused_port,
    "503": lambda: answering(respond(503, headers={"Retry-After": "3600"})),
    "silent": lambda: answering(silence()),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_backend_in_trouble_changes_no_output_keeps_the_session_and_holds_up_no_exit(
    trouble: str, app: App, phantom_file: Path, unmonitored: Run
) -> None:
    app.add(phantom_file)
    shutdown_seconds = SHUTDOWN_SECONDS * slowness()
    with TROUBLES[trouble]() as url:
        app.settings(monitoring=failing_backends(url, shutdown_seconds))
        run = app.run()
        assert_unchanged(run, unmonitored)
        assert_took_at_most(run.seconds_after_the_work, shutdown_seconds + GENEROUS_SECONDS)
        assert_kept(app, run, ["influxdb", "prometheus"])
        assert_told_once(run, ["influxdb", "prometheus"])


def test_a_token_that_the_proxy_does_not_know_is_said_once_and_never_shown(
    app: App, phantom_file: Path, unmonitored: Run, victoria_metrics: VictoriaMetrics, vmauth_factory: Any
) -> None:
    proxy: VmAuth = vmauth_factory(victoria_metrics.url)
    app.add(phantom_file)
    app.settings(monitoring=with_backends(proxy.write_settings() | {"token": SECRETS["token"]}))
    run = app.run()
    assert_unchanged(run, unmonitored)
    assert_kept(app, run, ["influxdb"])
    assert_told_once(run, ["influxdb"])
    assert victoria_metrics.values('{__name__=~"leglength.+"}') == {}


def test_the_right_token_delivers_afterwards_what_the_wrong_one_could_not(
    app: App, unspaced_file: Path, victoria_metrics: VictoriaMetrics, vmauth_factory: Any
) -> None:
    proxy: VmAuth = vmauth_factory(victoria_metrics.url)
    app.add(unspaced_file)
    app.environment["INFLUXDB_TOKEN"] = SECRETS["token"]
    app.settings(monitoring=with_backends(proxy.write_settings() | {"token": "${INFLUXDB_TOKEN}"}))
    assert app.run().code == 0
    assert app.monitor("drain").returncode == 1
    app.environment["INFLUXDB_TOKEN"] = proxy.token
    assert app.monitor("drain").returncode == 0
    assert app.status()["outbox"]["influxdb"]["pending"] == 0
    assert len(victoria_metrics.read_points("leglength_session")) == 1


def test_a_missing_database_is_said_once_and_keeps_the_session_until_it_exists(
    app: App, phantom_file: Path, unmonitored: Run, influxdb1: InfluxDB1
) -> None:
    app.add(phantom_file)
    app.settings(monitoring=with_backends(influxdb1.write_settings() | {"bucket": "nobody-made-it"}))
    run = app.run()
    assert_unchanged(run, unmonitored)
    assert_kept(app, run, ["influxdb"])
    assert_told_once(run, ["influxdb"])
    influxdb1.create_database("nobody-made-it")
    assert app.monitor("drain").returncode == 0
    assert influxdb1.query("SELECT count(duration_seconds) FROM leglength_session", db="nobody-made-it")


def test_one_backend_in_trouble_does_not_keep_the_other_from_its_data(
    app: App, unspaced_file: Path, pushgateway: Pushgateway
) -> None:
    app.add(unspaced_file)
    with answering(silence()) as silent:
        section = with_backends({"url": silent, "token": "t", "org": "o"}, {"gateway_url": pushgateway.url})
        app.settings(monitoring=section | {"shutdown_timeout": SHUTDOWN_SECONDS * slowness()})
        assert app.run().code == 0
    assert pushgateway.value("leglength_sessions_total", status="skipped") == 1
    assert pushgateway.value("leglength_monitoring_pending_points", backend="influxdb") > 0


@pytest.mark.parametrize("number", range(len(documented_settings())))
def test_every_configuration_that_the_readme_shows_runs_as_written(
    number: int, app: App, phantom_file: Path, unmonitored: Run
) -> None:
    settings = documented_settings()[number]
    app.add(phantom_file)
    app.environment["INFLUXDB_TOKEN"] = SECRETS["token"]
    app.settings(**settings)
    run = app.run()
    assert_unchanged(run, unmonitored)
    assert not run.lines_with("process.settings"), "a setting is complained about"
    section = settings["monitoring"]
    recorded = run.result.get("monitoring", {}).get("sessions", [])
    assert len(recorded) == (1 if section["enabled"] else 0)
    if section["enabled"]:
        status = app.status()
        assert status["sessions"]["completed"] == 1
        assert status["outbox"].keys() == section.keys() - {"enabled"}


def test_the_readme_shows_the_five_usual_configurations() -> None:
    sections = [settings["monitoring"] for settings in documented_settings()]
    kinds = [(section["enabled"], "influxdb" in section, "prometheus" in section) for section in sections]
    assert sorted(kinds) == sorted(
        [(True, False, False), (True, True, True), (True, True, False), (True, False, True), (False, False, False)]
    )


@pytest.mark.parametrize("task", [{}, {"process": {"settings": {"monitoring": None}}}])
def test_a_task_without_monitoring_settings_gives_what_no_task_at_all_gives(
    task: dict[str, Any], app: App, phantom_file: Path, unmonitored: Run
) -> None:
    app.add(phantom_file)
    app.task(task)
    run = app.run()
    assert_unchanged(run, unmonitored)
    assert "monitoring" not in run.result


def test_the_example_with_monitoring_loses_influxdb_alone_when_the_tokens_variable_is_not_set(
    app: App, unspaced_file: Path
) -> None:
    app.add(unspaced_file)
    app.add(REPOSITORY / "task_with_monitoring.json.example", "task.json")
    run = app.run()
    assert run.code == 0
    complaint = "process.settings.monitoring.influxdb.token: the environment variable INFLUXDB_TOKEN is not set"
    assert len(run.lines_with("influxdb")) == len(run.lines_with(complaint)) == 1
    status = app.status()
    used = {name for name, backend in status["outbox"].items() if backend["use"] == "used"}
    assert used == {"prometheus"}
    assert status["outbox"].keys() == {"influxdb", "prometheus"}
    assert status["sessions"]["skipped"] == 1


def test_the_example_without_monitoring_runs_as_it_is(app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.add(REPOSITORY / "task.json.example", "task.json")
    run = app.run()
    assert_clean(run)
    assert run.code == 0
    assert not run.lines_with("unknown setting")
    assert not app.state.exists()


WRONG_SECTIONS: list[Any] = [
    True,
    "on",
    [],
    {"enabled": "perhaps"},
    {"enabled": True, "influxdb": "http://influxdb:8086", "prometheus": 9091, "metrics": [], "store": 7},
    {"enabled": True, "influxdb": {"url": 8086, "token": {}, "timeout": "soon"}, "prometheus": {"gateway_url": []}},
    {"enabled": True, "metrics": {"collection_interval": -1, "batch_size": "many"}, "shutdown_timeout": "never"},
    {"enabled": True, "store": {"path": 7}, "privacy": {"key_file": "/no/such/file"}, "influx": {}},
    {"enabled": True, "store": {"path": "/proc/no-such-place"}},
]


@pytest.mark.parametrize("section", WRONG_SECTIONS, ids=json.dumps)
def test_wrong_types_in_the_monitoring_section_change_no_exit_code(section: Any, app: App, unspaced_file: Path) -> None:
    app.add(unspaced_file)
    app.settings(monitoring=section)
    run = app.run()
    assert_clean(run)
    assert run.code == 0
    assert run.lines_with("WARNING monitoring:"), "nobody is told"
    assert [line for line in run.errors if "monitoring:" not in line] == []
    assert run.series[0]["reason"] == "no_pixel_spacing"
