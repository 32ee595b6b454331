"""The commands as users and programs run them: in a process of their own, with exit codes and no tracebacks."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from monitoring import MonitorManager, __version__
from monitoring.cli.commands import app
from monitoring.cli.words import age
from monitoring.metrics import catalogue
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.records.session_record import STATUSES, Failure
from monitoring.store.database import Database
from monitoring.store.recovery import put_aside
from monitoring.store.sessions import open_store
from tests.support import REPOSITORY, faults
from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer, respond
from tests.support.older_stores import older_store
from tests.support.records import realistic
from tests.support.servers import InfluxDB1, PointServer, Pushgateway, VmAuth, wait_for_points
from tests.support.volumes import fill, small_volume

DONE, NOT_ALL_DONE, WRONG_INPUT = 0, 1, 2
COMMANDS = ["check", "status", "drain", "sessions", "metrics", "schema"]
NEED_SETTINGS = ["check", "status", "drain", "sessions"]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Path]:
    """Writes a task.json with these monitoring settings."""

    def write(**monitoring: Any) -> Path:
        path = tmp_path / "task.json"
        path.write_text(json.dumps({"process": {"settings": {"monitoring": {"enabled": True, **monitoring}}}}))
        return path

    return write


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `leglength-monitor ARGUMENTS` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str | Path, **environment: str) -> Done:
        result = CliRunner().invoke(app, [*map(str, arguments)], env=environment, prog_name="leglength-monitor")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return start


@pytest.fixture
def run_alone(tmp_path: Path) -> Run:
    """The same in a process of its own, as users run it; Python takes a while to start."""

    def start(*arguments: str | Path, **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "monitoring.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            timeout=HANGS_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return start


def record(settings: dict[str, Any], *statuses: str) -> None:
    """Sessions in the store that nobody has delivered yet."""
    with MonitorManager({"monitoring": {"enabled": True, **settings}}) as monitor:
        for status in statuses or ("completed",):
            session_id = monitor.start_session("1.2.840.1")
            monitor.record_measurements(session_id, {"PLL_R_FEM": 412.5})
            monitor.end_session(session_id, status)
        monitor.close(0.0)


# --- every command ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == DONE
    assert f"{command} [OPTIONS]" in done.stdout
    assert ("--config" in done.stdout) == (command in NEED_SETTINGS)


def test_the_commands_are_listed_and_the_version_is_told(run: Run) -> None:
    listed = run("--help").stdout
    assert [command for command in COMMANDS if command not in listed] == []
    assert run("--version").stdout.strip() == __version__


def test_every_exit_code_is_one_of_a_process_and_no_error_is_a_traceback(
    run_alone: Run, task: Callable[..., Path], tmp_path: Path
) -> None:
    with faults.refused_port() as url:
        record({"influxdb": {"url": url}})
        found = [
            run_alone("status", "--config", task(influxdb={"url": url})),
            run_alone("drain", "--config", task(influxdb={"url": url})),
            run_alone("status", "--config", tmp_path / "missing.json"),
            run_alone("sessions", "--no-such-option"),
        ]
    assert [done.returncode for done in found] == [DONE, NOT_ALL_DONE, WRONG_INPUT, WRONG_INPUT]
    assert not [done for done in found if "Traceback" in done.stderr]
    assert (
        found[2].stderr
        == f"error: {tmp_path / 'missing.json'}: No such file or directory; name the settings with --config\n"
    )


def test_piped_output_is_not_cut_off(run_alone: Run) -> None:
    shown = run_alone("metrics", COLUMNS="40").stdout
    for metric in catalogue.METRICS:
        (line,) = [line for line in shown.splitlines() if line.split()[0] == metric.name]
        if metric.measurement:
            assert line.split()[-1] == f"{metric.measurement}.{metric.field}"


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["status", "--no-such-option"], ["drain", "--timeout", "soon"]]
)
def test_a_wrong_command_line_is_wrong_input(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).returncode == WRONG_INPUT


@pytest.mark.parametrize("command", NEED_SETTINGS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[" * 50_000, "deep"),
        ('{"x": ' * 990 + "1" + "}" * 990, "deep|process.settings must be an object"),  # some Pythons still read it
        ('{"x": ' + "9" * 5000 + "}", "too many digits"),
        ("[]", "process.settings must be an object"),
        ('{"process": {"settings": []}}', "process.settings must be an object"),
        ('{"process": {"settings": {}}}', "monitoring is missing"),
        ('{"process": {"settings": {"monitoring": "on"}}}', "must be an object"),
        (b"\xff\xfe{}", "not UTF-8"),
    ],
)
def test_settings_that_cant_be_read_are_wrong_input_in_one_line(
    run: Run, tmp_path: Path, command: str, content: str | bytes | None, words: str
) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run(command, "--config", path)
    assert done.returncode == WRONG_INPUT
    said = [line for line in (done.stdout + done.stderr).splitlines() if re.search(words, line)]
    assert len(said) == 1
    assert "error:" in said[0]


def test_the_settings_are_found_by_option_by_environment_and_in_the_folder(
    run: Run, task: Callable[..., Path], tmp_path: Path
) -> None:
    assert run("status").returncode == DONE if task().exists() else False
    elsewhere = (tmp_path / "task.json").rename(tmp_path / "elsewhere.json")
    assert run("status").returncode == WRONG_INPUT
    assert run("status", MONITORING_CONFIG=str(elsewhere)).returncode == DONE
    assert run("status", "--config", elsewhere, MONITORING_CONFIG="/nowhere").returncode == DONE


def test_a_bad_setting_is_said_and_the_command_goes_on(run: Run, task: Callable[..., Path]) -> None:
    done = run("status", "--json", "--config", task(shutdown_timeout="soon", tokn=1))
    assert done.returncode == DONE
    assert json.loads(done.stdout)["enabled"] is True
    assert "shutdown_timeout: must be a number" in done.stderr
    assert "warning: process.settings.monitoring.tokn" in done.stderr


def test_a_reader_who_has_seen_enough_causes_no_traceback(tmp_path: Path, task: Callable[..., Path]) -> None:
    record({}, *["completed"] * 1000)
    for arguments in (
        ["metrics"],
        ["sessions", "--json", "--limit", "5000"],
        ["sessions", "--limit", "5000"],
        ["export"],
    ):
        has_settings = arguments[0] != "metrics"
        options = ["--config", str(task())] if has_settings else []
        command = [sys.executable, "-m", "monitoring.cli", *arguments, *options]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            words = process.stderr.read().decode()
            process.wait(HANGS_SECONDS)
        assert "Traceback" not in words
        assert "Exception ignored" not in words
        if has_settings:  # the catalogue may fit into the pipe
            assert (process.returncode, words) == (DONE, ""), arguments


# --- 80 columns ---------------------------------------------------------------------------------


def in_terminal(*arguments: str | Path, columns: int = 80) -> list[str]:
    """The lines that `leglength-monitor ARGUMENTS` shows in a terminal of so many columns."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring.cli", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": str(columns), "TERM": "dumb"},
        stdin=slave, stdout=slave, stderr=subprocess.STDOUT,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while piece := os.read(master, 1 << 16):
            shown += piece
    os.close(master)
    assert process.wait(HANGS_SECONDS) == DONE
    return [line.rstrip() for line in shown.decode().replace("\r", "").splitlines()]


@pytest.mark.parametrize("arguments", [[], ["sessions"], ["readings"]])
def test_no_commands_explanation_is_cut_off_at_80_columns(arguments: list[str]) -> None:
    lines = in_terminal(*arguments, "--help")
    assert [line for line in lines[1:] if line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize("command", ["status", "sessions", "metrics", "readings"])
def test_in_a_terminal_of_80_columns_each_word_is_whole(
    task: Callable[..., Path], tmp_path: Path, command: str
) -> None:
    store = {"store": {"path": str(tmp_path / "store")}}
    with faults.refused_port() as url:
        settings = task(influxdb={"url": url, "org": "x"}, **store)
        record({"influxdb": {"url": url}, **store}, "completed", "failed", "skipped")
    options = [] if command == "metrics" else ["--config", settings]
    lines = in_terminal(command, *options)
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    expected = {
        "status": ["influxdb", "points", "waiting,", "0", "open"],
        "sessions": ["412.5/-", "completed", "failed"],
        "metrics": [metric.name for metric in catalogue.METRICS],
        "readings": ["readings:", "PLL_R_FEM"],
    }[command]
    assert [word for word in expected if word not in words] == []


def test_sessions_say_why_and_where_they_stopped(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    builder = SessionWritesBuilder({"instance": "here"}, log_backends=())
    stopped = (
        ("crashed", "crashed", Failure("Crashed", "inference"), "in inference"),
        (
            "failed",
            "exception",
            Failure("ValueError", "loading", "pipeline:12"),
            "ValueError in loading at pipeline:12",
        ),
        ("failed", "bad_input", None, "bad_input"),
        ("skipped", "low_confidence", None, "low_confidence in inference"),
    )
    with open_store(Database(tmp_path / "store" / "monitoring.db")) as store:
        for number, (status, reason, failure, _) in enumerate(stopped):
            stage = "inference" if status == "skipped" else None
            store.commit(
                realistic(
                    session_id=f"{number}" * 32, status=status, reason=reason, failure=failure, stopped_in=stage,
                    measurements_mm={},
                ),
                builder,
            )  # fmt: skip
    shown = run("sessions", "--config", task(store={"path": str(tmp_path / "store")})).stdout
    for number, (status, _, _, words) in enumerate(stopped):
        (line,) = [line for line in shown.splitlines() if f"{number}" * 8 in line]
        assert line.split()[3] == status
        assert line.endswith(f"  {words}")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3700, "1 h 1 min"),
        (93_600, "1 d 2 h"), (8_640_000, "100 d"), (86_461, "1 d"),
    ],
)  # fmt: skip
def test_an_age_in_words(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_status_has_an_entry_for_each_configured_backend_and_for_what_is_open_refused_and_put_aside(
    run: Run, task: Callable[..., Path], tmp_path: Path
) -> None:
    store = {"store": {"path": str(tmp_path / "store")}}
    settings = {"influxdb": {"url": "influxdb"}, "prometheus": {"textfile": str(tmp_path / "x.prom")}, **store}
    with MonitorManager({"monitoring": {"enabled": True, **store}}) as monitor:
        session_id = monitor.start_session("1.2.840.1")
        monitor.record_measurements(session_id, {"PLL_R_FEM": "no number"})
        monitor.end_session(session_id, "completed")
        monitor.start_session("1.2.840.2")
        (tmp_path / "store" / "monitoring.db.corrupt-1").write_bytes(b"whatever was in it")
        lines = run("status", "--config", task(**settings)).stdout.splitlines()
        report = json.loads(run("status", "--json", "--config", task(**settings)).stdout)
        monitor.close(0.0)
    assert "Sessions    1 completed, 0 failed, 0 skipped, 0 crashed; 1 open" in lines
    assert "influxdb    is off by a mistake in the settings" in lines
    assert "            nothing waits; 1 session whose points are not made yet; 0 delivered, 0 refused" in lines
    assert "textfile    nothing waits; 0 delivered, 0 refused" in lines
    assert "Left out    1 value that the application passed: measurements" in lines
    assert lines[-1].startswith(
        f"Put aside   {tmp_path}/store/monitoring.db.corrupt-1: what lies in it can't be counted;"
    )
    assert (report["outbox"]["influxdb"]["use"], report["outbox"]["textfile"]["use"]) == ("off_by_mistake", "used")
    assert report["put_aside"][0]["path"] == f"{tmp_path}/store/monitoring.db.corrupt-1"


# --- check --------------------------------------------------------------------------------------


def test_check_finds_everything_right(
    run: Run, task: Callable[..., Path], point_server: PointServer, pushgateway: Pushgateway
) -> None:
    done = run(
        "check", "--config", task(influxdb=point_server.write_settings(), prometheus={"gateway_url": pushgateway.url})
    )
    assert done.returncode == DONE
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "ok      store",
        "ok      influxdb",
        "ok      prometheus",
    ]


def test_check_writes_nothing_to_a_backend(run: Run, task: Callable[..., Path], influxdb1: InfluxDB1) -> None:
    run("check", "--config", task(influxdb=influxdb1.write_settings()))
    assert influxdb1.query("SHOW SERIES") == []


def test_check_with_monitoring_off_is_done_and_looks_no_further(
    run: Run, task: Callable[..., Path], tmp_path: Path
) -> None:
    done = run("check", "--config", task(enabled=False))
    assert (done.returncode, "is off" in done.stdout) == (DONE, True)
    assert not (tmp_path / "store").exists()


def failed(done: Done) -> str:
    """The one line of `check` that says what failed."""
    assert done.returncode == NOT_ALL_DONE
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return line


def test_check_tells_a_missing_database_and_a_wrong_password(
    run: Run, task: Callable[..., Path], influxdb1_factory: Callable[..., InfluxDB1]
) -> None:
    settings = influxdb1_factory(auth=True).write_settings()
    assert run("check", "--config", task(influxdb=settings)).returncode == DONE
    assert "database does not exist" in failed(run("check", "--config", task(influxdb=settings | {"bucket": "later"})))
    wrong = settings | {"token": "writer:not-the-password"}
    line = failed(run("check", "--config", task(influxdb=wrong)))
    assert "401" in line
    assert "not-the-password" not in line


def test_check_tells_a_wrong_token_from_a_proxy_that_answers_400(
    run: Run, task: Callable[..., Path], victoria_metrics: Any, vmauth_factory: Callable[..., VmAuth]
) -> None:
    settings = vmauth_factory(victoria_metrics.url).write_settings()
    assert run("check", "--config", task(influxdb=settings)).returncode == DONE
    assert "token" in failed(run("check", "--config", task(influxdb=settings | {"token": "a-wrong-one"})))


def test_check_tells_a_gateways_wrong_password_and_prefix(
    run: Run, task: Callable[..., Path], pushgateway_factory: Callable[..., Pushgateway]
) -> None:
    gateway = pushgateway_factory(route_prefix="/push", auth=True)
    right = {"gateway_url": gateway.url, "username": gateway.username, "password": gateway.password}
    assert run("check", "--config", task(prometheus=right)).returncode == DONE
    assert "401" in failed(run("check", "--config", task(prometheus=right | {"password": "wrong"})))
    without_prefix = right | {"gateway_url": gateway.url.removesuffix("/push")}
    assert "404" in failed(run("check", "--config", task(prometheus=without_prefix)))


def test_check_tells_what_is_refused_silent_and_misconfigured(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    with faults.refused_port() as url:
        assert "nothing listens" in failed(run("check", "--config", task(influxdb={"url": url})))
    fault_server.script.extend([faults.silence(), faults.redirect("/elsewhere")])
    silent = {"url": fault_server.url, "timeout": 0.5}
    assert "no answer in time" in failed(run("check", "--config", task(influxdb=silent)))
    assert "redirect" in failed(run("check", "--config", task(influxdb=silent)))


def test_check_with_a_bad_setting_is_wrong_input(run: Run, task: Callable[..., Path]) -> None:
    done = run("check", "--config", task(influxdb={"url": "influxdb:8086"}))
    assert done.returncode == WRONG_INPUT
    assert "error: process.settings.monitoring.influxdb.url: must be an address" in done.stdout


def test_check_with_an_unknown_setting_warns_and_is_done(run: Run, task: Callable[..., Path]) -> None:
    done = run("check", "--config", task(metriks={}))
    assert done.returncode == DONE
    assert "did you mean metrics?" in done.stdout


def test_check_tells_a_store_that_cant_be_used(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "store" in failed(run("check", "--config", task(store={"path": str(tmp_path / "file" / "x")})))


def test_check_tells_a_damaged_page_anywhere_in_the_store(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    record({"store": {"path": str(tmp_path / "store")}})
    path = tmp_path / "store" / "monitoring.db"
    damage_the_index_of_readings(path)
    before = path.read_bytes()
    assert "damaged" in failed(run("check", "--config", task(store={"path": str(path.parent)})))
    assert path.read_bytes() == before


def test_check_tells_a_full_volume(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    with small_volume(tmp_path / "volume", 4) as volume:
        settings = task(store={"path": str(volume / "store")})
        for recorded in (False, True):
            if recorded:
                record({"store": {"path": str(volume / "store")}})
            assert run("check", "--config", settings).returncode == DONE
            filler = fill(volume)
            assert "store" in failed(run("check", "--config", settings))
            filler.unlink()
        assert run("check", "--config", settings).returncode == DONE


def test_check_makes_no_store_and_leaves_nothing_in_one(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    settings = task(store={"path": str(tmp_path / "store")})
    done = run("check", "--config", settings)
    assert (done.returncode, "not there yet" in done.stdout) == (DONE, True)
    assert not (tmp_path / "store").exists()
    record({"store": {"path": str(tmp_path / "store")}})
    query = "SELECT * FROM state ORDER BY key"
    with sqlite3.connect(tmp_path / "store" / "monitoring.db") as connection:
        before = connection.execute(query).fetchall()
        assert run("check", "--config", settings).returncode == DONE
        assert connection.execute(query).fetchall() == before


def test_check_does_not_migrate_an_older_versions_store(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "store" / "monitoring.db"
    path.parent.mkdir()
    older_store(path)
    before = path.read_bytes()
    done = run("check", "--config", task(store={"path": str(path.parent)}))
    assert (done.returncode, "of an older version" in done.stdout) == (DONE, True)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another user's folder")
def test_check_as_root_says_as_whom_to_run_it(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    os.chown(tmp_path, 4711, 4711)
    line = failed(run("check", "--config", task(store={"path": str(tmp_path / "store")})))
    assert "sudo -u '#4711' leglength-monitor" in line


def test_check_tells_what_is_no_pushgateway(
    run: Run, task: Callable[..., Path], victoria_metrics: Any, prometheus_factory: Callable[..., Any], influxdb1: Any
) -> None:
    prometheus = prometheus_factory()
    for url in (victoria_metrics.url, prometheus.url):
        line = failed(run("check", "--config", task(prometheus={"gateway_url": url})))
        assert "a Prometheus server or VictoriaMetrics answers there, and takes no push" in line
    assert "404" in failed(run("check", "--config", task(prometheus={"gateway_url": influxdb1.url})))


def test_check_tells_what_is_ready_but_no_pushgateway(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    fault_server.script.extend([respond(200), respond(404), respond(404)])
    line = failed(run("check", "--config", task(prometheus={"gateway_url": fault_server.url})))
    assert "what answers there is no Pushgateway: asked for its status, it says HTTP 404" in line


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_check_names_the_api_that_a_server_of_another_version_has(
    run: Run, task: Callable[..., Path], influxdb1: InfluxDB1, api: str
) -> None:
    settings = influxdb1.write_settings() | {"api": api}
    line = failed(run("check", "--config", task(influxdb=settings)))
    assert "HTTP 404: the server is InfluxDB 1.6.7; set api to v1" in line


def test_check_names_version_2_to_who_asks_it_as_version_1(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    headers = {"X-Influxdb-Version": "v2.7.12"}
    fault_server.then = respond(404, {"code": "not found", "message": "no dbrp mapping found"}, headers)
    line = failed(run("check", "--config", task(influxdb={"url": fault_server.url, "api": "v1"})))
    assert "the server is InfluxDB 2.7.12; set api to v2" in line


def test_check_takes_no_400_for_a_yes_and_names_a_missing_org(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    fault_server.then = respond(400, {"code": "invalid", "message": "failed to decode request: org is required"})
    done = run("check", "--config", task(influxdb={"url": fault_server.url}))
    assert "HTTP 400: the request is refused; org is not set" in failed(done)
    assert "warning: process.settings.monitoring.influxdb.org: is not set: InfluxDB 2 refuses every line" in done.stdout
    named = run("check", "--config", task(influxdb={"url": fault_server.url, "org": "x"}))
    assert "check org, bucket and api" in failed(named)
    assert "warning" not in named.stdout


def test_check_as_version_3_is_no_yes_of_a_server_that_knows_no_such_path(
    run: Run, task: Callable[..., Path], victoria_metrics: Any
) -> None:
    assert "400" in failed(run("check", "--config", task(influxdb={"url": victoria_metrics.url, "api": "v3"})))


def test_check_as_json_and_what_it_waits_for(
    run: Run, task: Callable[..., Path], pushgateway: Pushgateway, tmp_path: Path
) -> None:
    with faults.refused_port() as url:
        settings = task(influxdb={"url": url}, prometheus={"gateway_url": pushgateway.url}, metriks={})
        done = run("check", "--json", "--config", settings)
    assert done.returncode == NOT_ALL_DONE
    report = json.loads(done.stdout)
    assert [problem["path"].rpartition(".")[2] for problem in report["problems"]] == ["org", "metriks"]
    assert [(found["what"], found["is_good"]) for found in report["findings"]] == [
        ("store", True), ("influxdb", False), ("prometheus", True),
    ]  # fmt: skip
    assert f"asking influxdb at {url}, for 10 s at most\n" in done.stderr


def test_check_of_a_backend_under_another_name_is_wrong_input(run: Run, task: Callable[..., Path]) -> None:
    done = run("check", "--config", task(influx={"url": "http://127.0.0.1:9"}))
    assert done.returncode == WRONG_INPUT
    assert "error: process.settings.monitoring.influx: unknown setting; did you mean influxdb?" in done.stdout


# --- status and sessions ------------------------------------------------------------------------


def test_status_without_a_store_says_so_and_makes_none(run: Run, task: Callable[..., Path], tmp_path: Path) -> None:
    done = run("status", "--json", "--config", task())
    report = json.loads(done.stdout)
    assert done.returncode == DONE
    assert report["store"]["exists"] is False
    assert report["sessions"] == dict.fromkeys(STATUSES, 0)
    assert not (tmp_path / "store").exists()
    assert "not there yet" in run("status", "--config", task()).stdout


def test_status_counts_sessions_and_tells_what_waits_for_whom(run: Run, task: Callable[..., Path]) -> None:
    with faults.refused_port() as url:
        settings = {"influxdb": {"url": url}}
        record(settings, "completed", "completed", "failed", "skipped")
        report = json.loads(run("status", "--json", "--config", task(**settings)).stdout)
    assert report["sessions"] == {"completed": 2, "failed": 1, "skipped": 1, "crashed": 0}
    backend = report["outbox"]["influxdb"]
    assert backend["pending"] >= 4
    assert backend["dead"] == 0
    assert backend["oldest_seconds"] >= 0
    assert "last_error" in backend
    shown = run("status", "--config", task(**settings)).stdout
    assert "2 completed, 1 failed, 1 skipped, 0 crashed" in shown
    assert "influxdb" in shown


@pytest.mark.parametrize("command", ["status", "sessions", "export", "readings"])
def test_looking_at_an_older_versions_store_does_not_migrate_it(
    run: Run, task: Callable[..., Path], tmp_path: Path, command: str
) -> None:
    (tmp_path / "store").mkdir()
    path = tmp_path / "store" / "monitoring.db"
    older_store(path)
    before = path.read_bytes()
    done = run(command, "--config", task(store={"path": str(tmp_path / "store")}))
    assert done.returncode == DONE
    assert path.read_bytes() == before


def test_sessions_are_listed_newest_first_and_as_whole_records(run: Run, task: Callable[..., Path]) -> None:
    record({}, "completed", "failed", "skipped")
    done = run("sessions", "--json", "--config", task())
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["status"] for found in records] == ["skipped", "failed", "completed"]
    assert records[0]["measurements_mm"] == {"PLL_R_FEM": 412.5}
    limited = run("sessions", "--json", "--limit", "1", "--config", task()).stdout
    assert json.loads(limited) == records[0]
    shown = run("sessions", "--config", task()).stdout
    assert "412.5/-" in shown
    assert "1.2.840" not in shown + done.stdout


def test_sessions_without_a_store_are_not_done(run: Run, task: Callable[..., Path]) -> None:
    done = run("sessions", "--config", task())
    assert done.returncode == NOT_ALL_DONE
    assert done.stderr.startswith("error: there is no store at ")


# --- drain --------------------------------------------------------------------------------------


def test_drain_delivers_what_waited_and_says_so(
    run: Run, task: Callable[..., Path], point_server: PointServer, pushgateway: Pushgateway
) -> None:
    with faults.refused_port() as url:
        record(
            {"influxdb": point_server.write_settings() | {"url": url}, "prometheus": {"gateway_url": url}},
            "completed",
            "failed",
        )
    settings = {"influxdb": point_server.write_settings(), "prometheus": {"gateway_url": pushgateway.url}}
    done = run("drain", "--json", "--config", task(**settings))
    assert done.returncode == DONE
    results = json.loads(done.stdout)
    assert results["influxdb"]["pending"] == results["prometheus"]["pending"] == 0
    assert results["influxdb"]["last_error"] is None
    assert len(wait_for_points(point_server, "leglength_session", 2)) == 2
    assert pushgateway.value("leglength_sessions_total", status="completed") == 1.0
    again = run("drain", "--config", task(**settings))
    assert again.returncode == DONE
    assert "nothing waits" in again.stdout

    def state() -> tuple[bool, bool]:
        """Whether `status` says that totals wait, to a program and to a person."""
        found = json.loads(run("status", "--json", "--config", task(**settings)).stdout)["outbox"]["prometheus"]
        said = run("status", "--config", task(**settings)).stdout
        return found["has_news"], "prometheus  no session waits, newer totals go with the next push;" in said

    assert state() == (False, False)
    assert run("analyze", "--config", task(**settings)).returncode == DONE
    assert state() == (True, True)
    assert run("drain", "--config", task(**settings)).returncode == DONE
    assert state() == (False, False)


def test_drain_that_delivers_nothing_is_not_done_and_says_why(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    settings = {"influxdb": {"url": fault_server.url}}
    fault_server.then = respond(503)
    record(settings)
    done = run("drain", "--config", task(**settings))
    assert done.returncode == NOT_ALL_DONE
    assert "influxdb: FAILED" in done.stdout
    assert "503" in done.stdout


def test_drain_begins_a_store_only_where_it_is_told_to_and_tells_every_counter_at_0(
    run: Run, task: Callable[..., Path], pushgateway: Pushgateway, tmp_path: Path
) -> None:
    settings = task(prometheus={"gateway_url": pushgateway.url}, store={"path": str(tmp_path / "store")})
    without = run("drain", "--config", settings)
    assert (without.returncode, "`drain --begin` makes one" in without.stderr) == (NOT_ALL_DONE, True)
    assert not (tmp_path / "store").exists()
    assert run("drain", "--begin", "--config", settings).returncode == DONE
    assert pushgateway.value("leglength_sessions_total", status="completed") == 0.0


def test_drain_without_a_store_is_not_done(run: Run, task: Callable[..., Path]) -> None:
    assert run("drain", "--config", task()).returncode == NOT_ALL_DONE


def test_a_drain_whose_totals_nobody_took_is_not_done(run: Run, task: Callable[..., Path]) -> None:
    """Totals are not points that wait: what is not pushed is not told, all the same."""
    with faults.refused_port() as url:
        done = run("drain", "--begin", "--config", task(prometheus={"gateway_url": url}))
        assert done.returncode == NOT_ALL_DONE
        assert "prometheus: FAILED" in done.stdout


def test_drain_tells_what_it_delivered(run: Run, task: Callable[..., Path], point_server: PointServer) -> None:
    with faults.refused_port() as url:
        record({"influxdb": point_server.write_settings() | {"url": url}})
        waiting = pending(run, task(influxdb={"url": url}))
    done = run("drain", "--config", task(influxdb=point_server.write_settings()))
    assert (done.returncode, done.stdout) == (DONE, f"influxdb: delivered {waiting} points; nothing waits\n")


def pending(run: Run, settings: Path, backend: str = "influxdb") -> int:
    report = json.loads(run("status", "--json", "--config", settings).stdout)
    return int(report["outbox"][backend]["pending"])


TOKEN = "${LEGLENGTH_TEST_UNSET}"


@pytest.mark.parametrize(
    ("settings", "words", "code"),
    [
        (
            {"influxdb": {"url": "http://127.0.0.1:9", "token": TOKEN}},
            "is off by a mistake in the settings",
            WRONG_INPUT,
        ),
        ({"influxdb": {"url": "influxdb"}, "prometheus": {}}, "is off by a mistake in the settings", WRONG_INPUT),
        ({"influx": {"url": "http://127.0.0.1:9"}}, "is not in the settings", WRONG_INPUT),
        ({"influxdb": {"url": "http://127.0.0.1:9", "enabled": False}}, "is off in the settings", WRONG_INPUT),
        ({}, "is not in the settings", WRONG_INPUT),
    ],
)
def test_drain_says_what_waits_for_a_backend_that_is_not_used(
    run: Run, task: Callable[..., Path], settings: dict[str, Any], words: str, code: int
) -> None:
    with faults.refused_port() as url:
        record({"influxdb": {"url": url}})
        waiting = pending(run, task(influxdb={"url": url}))
    done = run("drain", "--config", task(**settings))
    assert done.returncode == code
    assert f"influxdb: {words}; {waiting} points waiting\n" in done.stdout
    assert "error: " in done.stderr
    results = json.loads(run("drain", "--json", "--config", task(**settings)).stdout)
    assert results["influxdb"]["pending"] == waiting


def test_drain_is_not_done_while_points_wait_for_a_backend_that_is_off(
    run: Run, task: Callable[..., Path], pushgateway: Pushgateway
) -> None:
    with faults.refused_port() as url:
        record({"influxdb": {"url": url}})
    off = {"influxdb": {"url": url, "enabled": False}, "prometheus": {"gateway_url": pushgateway.url}}
    done = run("drain", "--config", task(**off))
    assert done.returncode == NOT_ALL_DONE
    assert "prometheus: delivered 1 session; nothing waits" in done.stdout


def test_drain_says_that_sessions_wait_whose_points_no_module_made(run: Run, task: Callable[..., Path]) -> None:
    record({"influxdb": {"url": "influxdb"}}, "completed", "failed")
    done = run("drain", "--config", task(influxdb={"url": "influxdb"}))
    assert done.returncode == WRONG_INPUT
    assert (
        "influxdb: is off by a mistake in the settings; 2 sessions whose points are not made yet waiting" in done.stdout
    )


def test_drain_that_meets_refusals_alone_is_not_done(
    run: Run, task: Callable[..., Path], fault_server: FaultServer
) -> None:
    settings = {"influxdb": {"url": fault_server.url}}
    record({"influxdb": {"url": "http://127.0.0.1:9"}})
    waiting = pending(run, task(**settings))
    fault_server.then = respond(400, body=b'{"error":"partial write: points beyond retention policy dropped=1"}')
    done = run("drain", "--config", task(**settings))
    assert done.returncode == NOT_ALL_DONE
    assert f"influxdb: {waiting} points refused for good (`export --dead` shows why); nothing waits" in done.stdout
    again = run("drain", "--requeue-dead", "--json", "--config", task(**settings))
    assert again.returncode == NOT_ALL_DONE
    result = json.loads(again.stdout)["influxdb"]
    assert (result["refused_now"], result["delivered_now"], result["pending"]) == (waiting, 0, 0)


def test_drain_says_what_lay_in_a_store_that_it_put_aside(
    run: Run, task: Callable[..., Path], point_server: PointServer, tmp_path: Path
) -> None:
    path = tmp_path / "store" / "monitoring.db"
    settings = {"influxdb": point_server.write_settings(), "store": {"path": str(path.parent)}}
    with faults.refused_port() as url:
        record({"influxdb": {"url": url}, "store": {"path": str(path.parent)}}, "completed", "failed")
    waiting = pending(run, task(**settings))
    damage_the_index_of_readings(path)
    done = run("drain", "--config", task(**settings))
    assert done.returncode == NOT_ALL_DONE
    (aside,) = put_aside(path)
    assert f"{aside}: 2 sessions and {waiting} waiting points can be read" in done.stderr
    assert f"leglength-monitor import {aside}" in done.stderr
    shown = run("status", "--config", task(**settings)).stdout
    assert f"2 sessions and {waiting} waiting points can be read; take back" in shown
    assert run("import", aside, "--config", task(**settings)).returncode == DONE
    shown = run("status", "--config", task(**settings)).stdout
    assert f"Put aside   {aside}: all of its 2 sessions are in the store; delete it when it isn't needed" in shown


def damage_the_index_of_readings(path: Path) -> None:
    """A page that holds no session and no point."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'readings'").fetchone()
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another user's folder")
@pytest.mark.parametrize(
    "arguments", [["drain"], ["relay"], ["import"], ["sessions", "erase", "--patient-key", "0" * 32]]
)
def test_root_makes_no_file_that_locks_the_stores_owner_out(
    run: Run, task: Callable[..., Path], tmp_path: Path, arguments: list[str]
) -> None:
    folder = tmp_path / "store"
    settings = {"store": {"path": str(folder)}, "influxdb": {"url": "http://127.0.0.1:9"}}
    folder.mkdir()
    if arguments[0] == "import":  # it would make the store
        (tmp_path / "result.json").write_text('{"monitoring": {"sessions": []}}')
        arguments = [*arguments, str(tmp_path / "result.json")]
    else:
        record({"store": settings["store"]})
    for path in (*folder.iterdir(), folder):
        os.chown(path, 4711, 4711)
    before = sorted(folder.iterdir())
    done = run(*arguments, "--config", task(**settings))
    assert done.returncode == NOT_ALL_DONE
    assert "belongs to uid 4711" in done.stderr
    assert "sudo -u '#4711' leglength-monitor" in done.stderr
    assert sorted(folder.iterdir()) == before
    assert run("status", "--config", task(**settings)).returncode == DONE  # looking is harmless
    assert {path.stat().st_uid for path in folder.iterdir()} <= {4711}


# First as root, so that all is imported: another user may not read root's Python.
AS_ANOTHER_USER = """
import contextlib, io, os
from monitoring.cli.commands import app
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    app()
print("as another user")
os.setgroups([]); os.setgid(4711); os.setuid(4711)
app()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("mode", [0o700, 0o755])
@pytest.mark.parametrize("command", ["status", "sessions", "check", "drain", "export", "readings", "sessions key"])
def test_who_may_not_read_the_store_is_told_as_whom_to_run_it(
    task: Callable[..., Path], tmp_path: Path, command: str, mode: int
) -> None:
    folder = Path(tempfile.mkdtemp())  # others may not enter pytest's
    try:
        folder.chmod(0o755)
        settings = {"store": {"path": str(folder / "store")}, "influxdb": {"url": "http://127.0.0.1:9", "org": "x"}}
        record({"store": settings["store"]})
        (folder / "store").chmod(mode)
        path = task(**settings).rename(folder / "task.json")
        path.chmod(0o644)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, *command.split(), "--config", path], input="x\nx\n", cwd=REPOSITORY,
            capture_output=True, text=True, timeout=HANGS_SECONDS, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    assert (done.returncode, "as another user" in done.stdout) == (NOT_ALL_DONE, True)
    assert (
        "is another user's: run it as its owner, with `sudo -u root leglength-monitor ...`" in done.stdout + done.stderr
    )
    assert "Traceback" not in done.stderr


# --- relay --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"enabled": False, "influxdb": {"url": "http://127.0.0.1:9"}}, "monitoring is off"),
        ({"influxdb": {"url": "influxdb"}}, "not used, since the settings are wrong: influxdb"),
        (
            {"influxdb": {"url": "http://127.0.0.1:9", "token": TOKEN}},
            "not used, since the settings are wrong: influxdb",
        ),
        ({"influx": {"url": "http://127.0.0.1:9"}}, "not used, since the settings are wrong: influx"),
        ({}, "no backend is in use"),
    ],
)
def test_a_relay_that_would_deliver_nothing_ends_at_once(
    run: Run, task: Callable[..., Path], tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    done = run("relay", "--config", task(**settings))
    assert done.returncode == WRONG_INPUT
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "store").exists()


# --- what needs no settings ---------------------------------------------------------------------


def test_metrics_lists_the_whole_catalogue(run: Run) -> None:
    rows = json.loads(run("metrics", "--json").stdout)
    assert [row["name"] for row in rows] == [metric.name for metric in catalogue.METRICS]
    assert set(rows[0]) == {"name", "kind", "unit", "help", "labels", "measurement", "field", "source"}


def test_the_schema_is_a_schema_that_takes_the_usual_settings(run: Run) -> None:
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"enabled": True, "influxdb": {"url": "http://influxdb:8086", "token": "x"}}, schema)


def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None; from monitoring.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False
    )
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr
