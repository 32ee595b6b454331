"""The real servers do what the tests rely on: they start, answer, keep data, and refuse what they should."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from tests.conftest import servers_are_required
from tests.support import REPOSITORY
from tests.support.clients import send, write_lines
from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer
from tests.support.influx_servers import parse_annotated_csv, parse_flux_value, rfc3339_to_ns
from tests.support.influxdb2_stand_in import ORG, TOKEN, InfluxDB2StandIn
from tests.support.servers import (
    POINT_SERVERS,
    Alertmanager,
    InfluxDB1,
    InfluxDB2,
    Point,
    PointServer,
    PortLease,
    Prometheus,
    Pushgateway,
    ServerProcess,
    ServerStartError,
    VictoriaMetrics,
    VmAuth,
    amtool,
    basic_auth,
    promtool,
    wait_for_points,
    wait_until,
)

NOW_NS = time.time_ns() // 1_000_000_000 * 1_000_000_000
LONG_AGO_NS = 1_000_000_000_000_000_000  # 2001, older than any default retention
LINE = f'reading,site=a,view=ap length_mm=412.5,quality="good" {NOW_NS}'


def push(gateway: Pushgateway, text: str, instance: str = "i1", **options: Any) -> urllib3.BaseHTTPResponse:
    return send("PUT", f"{gateway.url}/metrics/job/j/instance/{instance}", body=text, **options)


# --- servers of points --------------------------------------------------------------------------


def test_a_written_point_is_read_back(point_server: PointServer) -> None:
    assert write_lines(point_server.write_settings(), LINE).status == 204
    point = Point({"site": "a", "view": "ap"}, {"length_mm": 412.5, "quality": "good"}, NOW_NS)
    assert wait_for_points(point_server, "reading", 1) == [point_server.as_kept(point)]


def test_a_point_written_twice_is_one_point(point_server: PointServer) -> None:
    write_lines(point_server.write_settings(), LINE)
    write_lines(point_server.write_settings(), LINE)
    assert len(wait_for_points(point_server, "reading", 1)) == 1


def test_a_very_old_point_is_kept(point_server: PointServer) -> None:
    write_lines(point_server.write_settings(), f"reading length_mm=1 {LONG_AGO_NS}")
    assert wait_for_points(point_server, "reading", 1) == [Point({}, {"length_mm": 1.0}, LONG_AGO_NS)]


def test_a_point_of_this_moment_and_one_of_tomorrow_are_read_back(point_server: PointServer) -> None:
    times = [time.time_ns(), time.time_ns() + 86_400_000_000_000]
    points = [point_server.as_kept(Point({}, {"length_mm": 1.0}, time_ns)) for time_ns in times]
    write_lines(point_server.write_settings(), "\n".join(f"reading length_mm=1 {ns}" for ns in times))
    assert wait_for_points(point_server, "reading", 2) == points


def test_timestamps_are_kept_to_the_declared_step(point_server: PointServer) -> None:
    point = Point({}, {"length_mm": 1.0, "sure": True}, NOW_NS + 123_456_789)
    write_lines(point_server.write_settings(), f"reading length_mm=1,sure=true {point.time_ns}")
    assert wait_for_points(point_server, "reading", 1) == [point_server.as_kept(point)]


def test_points_survive_a_restart_on_the_same_port(point_server: PointServer) -> None:
    write_lines(point_server.write_settings(), LINE)
    url = point_server.url
    point_server.stop()
    with pytest.raises(urllib3.exceptions.HTTPError):
        send("GET", url, timeout=1)
    point_server.start()
    assert point_server.url == url
    assert len(wait_for_points(point_server, "reading", 1)) == 1


def test_each_test_has_a_server_of_its_own(point_server: PointServer) -> None:
    assert point_server.read_points("reading") == []


def test_victoria_metrics_names_series_after_measurement_and_field(victoria_metrics: VictoriaMetrics) -> None:
    write_lines(victoria_metrics.write_settings(), LINE)
    labels = frozenset({("site", "a"), ("view", "ap")})
    assert victoria_metrics.values('{__name__="reading_length_mm"}') == {
        ("reading_length_mm", labels): [(NOW_NS // 1_000_000, 412.5)]
    }
    # At the point's own time: a query looks back five minutes, and the suite may have run for longer.
    assert victoria_metrics.query("reading_length_mm", NOW_NS / 1e9 + 1)[0]["value"][1] == "412.5"


def test_victoria_metrics_stores_a_string_as_zero(victoria_metrics: VictoriaMetrics) -> None:
    write_lines(victoria_metrics.write_settings(), LINE)
    assert victoria_metrics.series_count() == 2
    assert [value for _, value in next(iter(victoria_metrics.values("reading_quality").values()))] == [0]


def test_victoria_metrics_drops_nan_and_keeps_infinity(victoria_metrics: VictoriaMetrics) -> None:
    write_lines(victoria_metrics.write_settings(), f"reading a=NaN,b=+Inf,c=-Inf {NOW_NS}")
    (point,) = victoria_metrics.read_points("reading")
    assert point.fields == {"b": math.inf, "c": -math.inf}


def test_victoria_metrics_keeps_persisted_points_when_killed(victoria_metrics: VictoriaMetrics) -> None:
    write_lines(victoria_metrics.write_settings(), LINE)
    victoria_metrics.persist()
    victoria_metrics.kill()
    victoria_metrics.start()
    assert victoria_metrics.series_count() == 2


def test_victoria_metrics_accepts_a_malformed_line_and_drops_it(victoria_metrics: VictoriaMetrics) -> None:
    answer = write_lines(victoria_metrics.write_settings(), f"{LINE}\nreading this is no line\n")
    assert answer.status == 204
    assert victoria_metrics.series_count() == 2


def test_influxdb1_keeps_points_when_killed(influxdb1: InfluxDB1) -> None:
    write_lines(influxdb1.write_settings(), LINE)
    influxdb1.kill()
    influxdb1.start()
    assert len(influxdb1.read_points("reading")) == 1


def test_influxdb1_separates_databases(influxdb1: InfluxDB1, unique_name: str) -> None:
    influxdb1.create_database(unique_name)
    write_lines(influxdb1.write_settings() | {"bucket": unique_name}, LINE)
    rows = influxdb1.query("SELECT length_mm FROM reading GROUP BY site", db=unique_name)
    assert rows == [{"site": "a", "time": NOW_NS, "length_mm": 412.5}]
    assert influxdb1.read_points("reading") == []


def test_influxdb1_answers_404_for_a_missing_database(influxdb1: InfluxDB1) -> None:
    assert write_lines(influxdb1.write_settings() | {"bucket": "none"}, LINE).status == 404


def test_influxdb1_writes_the_good_lines_of_a_request_that_it_answers_with_400(influxdb1: InfluxDB1) -> None:
    assert write_lines(influxdb1.write_settings(), f"{LINE}\nreading this is no line").status == 400
    assert len(influxdb1.read_points("reading")) == 1


def test_influxdb1_rejects_a_field_that_changes_its_type(influxdb1: InfluxDB1) -> None:
    write_lines(influxdb1.write_settings(), LINE)
    answer = write_lines(influxdb1.write_settings(), f'reading,site=a length_mm="long" {NOW_NS + 1}')
    assert answer.status == 400
    assert b"field type conflict" in answer.data


def test_influxdb1_with_authentication_refuses_a_wrong_password(
    influxdb1_factory: Callable[..., InfluxDB1],
) -> None:
    server = influxdb1_factory(auth=True)
    settings = server.write_settings()
    assert write_lines(settings | {"token": "writer:wrong"}, LINE).status == 401
    assert write_lines(settings, LINE).status == 204
    assert len(server.read_points("reading")) == 1


def test_flux_csv_is_read_with_its_types() -> None:
    text = (
        "#datatype,string,long,dateTime:RFC3339,double,string,string\r\n"
        ",result,table,_time,_value,_field,site\r\n"
        ",,0,2024-01-02T03:04:05.123456789Z,1.5,length_mm,a\r\n"
        "\r\n"
        "#datatype,string,long,dateTime:RFC3339,string,string,string\r\n"
        ",result,table,_time,_value,_field,site\r\n"
        ',,1,2024-01-02T03:04:05Z,"1,5",quality,a\r\n'
    )
    number, word = parse_annotated_csv(text)
    assert parse_flux_value(number["_value"], number["#datatype:_value"]) == 1.5
    assert parse_flux_value(word["_value"], word["#datatype:_value"]) == "1,5"
    assert rfc3339_to_ns(number["_time"]) == 1_704_164_645_123_456_789
    assert rfc3339_to_ns(word["_time"]) == 1_704_164_645_000_000_000


@pytest.fixture
def named_influxdb2(monkeypatch: pytest.MonkeyPatch) -> Iterator[InfluxDB2StandIn]:
    with InfluxDB2StandIn() as server:
        named = {"URL": server.url, "TOKEN": TOKEN, "ORG": ORG, "BUCKET": "tests"}
        for name, value in named.items():
            monkeypatch.setenv(f"INFLUXDB2_{name}", value)
        yield server


def test_influxdb2_is_asked_as_its_api_documents(named_influxdb2: InfluxDB2StandIn) -> None:
    with InfluxDB2() as first, InfluxDB2() as second:
        test_a_written_point_is_read_back(first)
        assert second.read_points("reading") == []
        point = Point({}, {"length_mm": 1.0, "sure": True}, NOW_NS + 123_456_789)
        write_lines(second.write_settings(), f"reading length_mm=1,sure=true {point.time_ns}")
        assert second.read_points("reading") == [point]
        assert [name.startswith("tests-") for name in named_influxdb2.buckets] == [True, True]
    assert named_influxdb2.buckets == {}


def test_a_named_influxdb2_is_not_stopped_and_the_test_that_would_is_skipped(named_influxdb2: InfluxDB2StandIn) -> None:
    with InfluxDB2() as server:
        for stops in (server.stop, server.kill, server.start):
            with pytest.raises(pytest.skip.Exception):
                stops()


@pytest.mark.parametrize(("kind", "status"), [("application/vnd.flux", 400), ("text/plain", 415)])
def test_the_stand_in_takes_json_for_flux_as_little_as_influxdb_does(
    named_influxdb2: InfluxDB2StandIn, kind: str, status: int
) -> None:
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": kind}
    body = '{"query": "from(bucket: \\"tests\\")"}'
    answer = send("POST", f"{named_influxdb2.url}/api/v2/query?org={ORG}", body=body, headers=headers)
    assert answer.status == status


# --- vmauth -------------------------------------------------------------------------------------


@pytest.fixture
def vmauth(victoria_metrics: VictoriaMetrics, vmauth_factory: Callable[..., VmAuth]) -> VmAuth:
    return vmauth_factory(victoria_metrics.url)


def test_vmauth_passes_the_token_of_influxdb_2(vmauth: VmAuth, victoria_metrics: VictoriaMetrics) -> None:
    assert write_lines(vmauth.write_settings(), LINE).status == 204
    assert victoria_metrics.series_count() == 2


def test_vmauth_passes_a_user_with_the_right_password(vmauth: VmAuth) -> None:
    headers = basic_auth(vmauth.username, vmauth.password)
    assert send("POST", f"{vmauth.url}/write?db=d", body=LINE, headers=headers).status == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Token wrong"}, 400),
        ({"Authorization": "Bearer wrong"}, 400),
        (basic_auth(VmAuth.username, "wrong"), 400),
        ({}, 401),
    ],
)
def test_vmauth_refuses_others(
    vmauth: VmAuth, victoria_metrics: VictoriaMetrics, headers: dict[str, str], status: int
) -> None:
    answer = send("POST", f"{vmauth.url}/api/v2/write?bucket=b", body=LINE, headers=headers)
    assert answer.status == status
    assert victoria_metrics.series_count() == 0


# --- Prometheus' family -------------------------------------------------------------------------

PUSHED = "# HELP tried_total Tries.\n# TYPE tried_total counter\ntried_total{outcome='x'} 3\n".replace("'", '"')


def test_a_pushed_value_is_read_back(pushgateway: Pushgateway) -> None:
    push(pushgateway, PUSHED)
    assert pushgateway.value("tried_total", instance="i1", outcome="x") == 3
    assert pushgateway.value("tried_total", instance="i2") is None
    assert {family.name for family in pushgateway.families()} >= {"tried", "push_time_seconds"}
    assert pushgateway.groups() == [{"job": "j", "instance": "i1"}]


def test_an_ambiguous_value_is_an_error(pushgateway: Pushgateway) -> None:
    push(pushgateway, PUSHED, "i1")
    push(pushgateway, PUSHED, "i2")
    with pytest.raises(LookupError):
        pushgateway.value("tried_total")


def test_all_pushes_can_be_deleted(pushgateway: Pushgateway) -> None:
    push(pushgateway, PUSHED)
    pushgateway.delete_all()
    assert pushgateway.families() == []


@pytest.mark.parametrize("persist", [True, False], ids=["persistent", "forgetful"])
def test_a_pushgateway_keeps_its_data_over_a_restart_only_if_told_to(
    pushgateway_factory: Callable[..., Pushgateway], persist: bool
) -> None:
    gateway = pushgateway_factory(persist=persist)
    push(gateway, PUSHED)
    url = gateway.url
    gateway.stop()
    gateway.start()
    assert gateway.url == url
    assert gateway.value("tried_total") == (3 if persist else None)


def test_a_pushgateway_can_be_served_under_a_path(pushgateway_factory: Callable[..., Pushgateway]) -> None:
    gateway = pushgateway_factory(route_prefix="/push/gate")
    assert gateway.url.endswith("/push/gate")
    assert push(gateway, PUSHED).status == 200
    assert gateway.value("tried_total") == 3


def test_a_pushgateway_can_ask_for_a_password(pushgateway_factory: Callable[..., Pushgateway]) -> None:
    gateway = pushgateway_factory(auth=True)
    assert push(gateway, PUSHED).status == 401
    right = basic_auth(gateway.username, gateway.password)
    assert push(gateway, PUSHED, headers=right).status == 200
    assert gateway.value("tried_total") == 3


def test_a_pushgateway_refuses_another_type_for_a_name_that_any_group_uses(pushgateway: Pushgateway) -> None:
    push(pushgateway, "# TYPE tried_total counter\ntried_total 3\n", "i1")
    assert push(pushgateway, "# TYPE tried_total gauge\ntried_total 3\n", "i2").status == 400


def test_a_pushgateway_refuses_timestamps(pushgateway: Pushgateway) -> None:
    assert push(pushgateway, "# TYPE g gauge\ng 3 1600000000000\n").status == 400


def test_prometheus_scrapes_the_pushgateway_and_keeps_its_labels(
    pushgateway: Pushgateway, prometheus_factory: Callable[..., Prometheus]
) -> None:
    push(pushgateway, PUSHED)
    prometheus = prometheus_factory([pushgateway.url])
    (sample,) = prometheus.wait_for('tried_total{job="j", instance="i1"}')
    assert sample["value"][1] == "3"
    push(pushgateway, PUSHED.replace(" 3", " 5"))
    prometheus.wait_for("tried_total == 5")


def test_prometheus_keeps_its_data_over_a_restart(
    pushgateway: Pushgateway, prometheus_factory: Callable[..., Prometheus]
) -> None:
    push(pushgateway, PUSHED)
    prometheus = prometheus_factory([pushgateway.url])
    prometheus.wait_for("tried_total")
    url = prometheus.url
    prometheus.stop()
    pushgateway.stop()
    prometheus.start()
    assert prometheus.url == url
    assert prometheus.wait_for("max_over_time(tried_total[5m])")[0]["value"][1] == "3"


def test_prometheus_takes_changed_rules_on_reload(
    prometheus_factory: Callable[..., Prometheus], tmp_path: Path
) -> None:
    prometheus = prometheus_factory()
    assert prometheus.rules() == []
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{record: 'a:b', expr: 'vector(7)'}]}]")
    assert "SUCCESS" in promtool("check", "rules", str(rules))
    prometheus.rule_files.append(rules)
    prometheus.reload()
    prometheus.wait_for("a:b", lambda result: result and result[0]["value"][1] == "7")


@pytest.mark.servers
def test_promtool_complains_about_a_wrong_rule(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{record: 'a:b', expr: 'sum('}]}]")
    with pytest.raises(AssertionError, match="parse error"):
        promtool("check", "rules", str(rules))


def test_an_alert_reaches_the_alertmanager_and_its_webhook(
    prometheus_factory: Callable[..., Prometheus],
    alertmanager_factory: Callable[..., Alertmanager],
    fault_server: FaultServer,
    tmp_path: Path,
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{alert: Always, expr: 'vector(1) > 0'}]}]")
    alertmanager = alertmanager_factory(webhook_url=f"{fault_server.url}/hook")
    prometheus = prometheus_factory(rule_files=[rules], alertmanager_url=alertmanager.url)
    assert alertmanager.wait_for_alert("Always")["status"]["state"] in {"active", "unprocessed"}
    assert prometheus.alerts()[0]["state"] == "firing"
    (notice, *_) = fault_server.wait_for_requests(1)
    assert notice.json()["alerts"][0]["labels"]["alertname"] == "Always"
    assert "Always" in amtool("alert", "query", f"--alertmanager.url={alertmanager.url}")


# --- starting and ending ------------------------------------------------------------------------


@pytest.mark.servers
def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    class Broken(Pushgateway):
        def command(self) -> list[str]:
            return ["--no-such-flag"]

    with pytest.raises(ServerStartError, match="no-such-flag"), Broken(tmp_path):
        pass


@pytest.mark.servers
def test_a_taken_port_is_replaced_at_the_first_start() -> None:
    gateway = Pushgateway()
    taken = gateway.port
    with socket.create_server(("127.0.0.1", taken)), gateway:
        assert gateway.port != taken
        assert gateway.families() == []


@pytest.mark.servers
def test_nothing_is_left_of_a_closed_server() -> None:
    with Pushgateway() as gateway:
        pid, folder = gateway.pid, gateway.folder
        assert pid is not None
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.servers
def test_a_server_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal; from tests.support.servers import Pushgateway; g = Pushgateway().start()\n"
        "print(g.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=HANGS_SECONDS
    )
    pid = int(done.stdout)
    wait_until(lambda: not _is_alive(pid), "the server to end with its process")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_port_is_leased_once() -> None:
    leases = [PortLease() for _ in range(50)]
    assert len({lease.number for lease in leases}) == 50
    for lease in leases:
        lease.release()


@pytest.mark.servers
@pytest.mark.parametrize("kind", [*POINT_SERVERS.values(), Pushgateway, Prometheus, Alertmanager])
def test_servers_listen_on_loopback_only(kind: Callable[[], ServerProcess]) -> None:
    with kind() as server:
        pid = getattr(server, "pid", None)
        if pid is None:
            pytest.skip("not a process of ours")
        addresses = {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


# --- missing servers ----------------------------------------------------------------------------


def run_pytest_without_servers(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    dropped = {"CI", "REQUIRE_SERVERS", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "INFLUXDB2_URL"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    test = "tests/support/test_servers.py::test_a_pushed_value_is_read_back"
    started_in_a_test = "tests/support/test_servers.py::test_nothing_is_left_of_a_closed_server"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test, started_in_a_test, *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=kept | {"PATH": "/nonexistent"} | environment,
        timeout=HANGS_SECONDS,
    )


@pytest.mark.parametrize("arguments", [(), ("-n", "1")])
def test_missing_servers_skip_and_are_named_loudly(arguments: tuple[str, ...]) -> None:
    done = run_pytest_without_servers(*arguments)
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout
    assert "SERVERS ARE MISSING" in done.stdout
    assert "prometheus-pushgateway: 2 tests skipped" in done.stdout


@pytest.mark.parametrize(("name", "value"), [("REQUIRE_SERVERS", "1"), ("CI", "true")])
def test_servers_are_required_where_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for known in ("CI", "REQUIRE_SERVERS"):
        monkeypatch.delenv(known, raising=False)
    assert not servers_are_required()
    monkeypatch.setenv(name, value)
    assert servers_are_required()


def test_missing_servers_fail_where_they_are_required() -> None:
    done = run_pytest_without_servers(REQUIRE_SERVERS="1")
    assert done.returncode == 1, done.stdout
    assert "missing server: prometheus-pushgateway" in done.stdout
    assert "2 errors" in done.stdout or "1 failed, 1 error" in done.stdout


def test_tests_that_use_a_server_are_marked(request: pytest.FixtureRequest, pushgateway: Pushgateway) -> None:
    assert request.node.get_closest_marker("servers") is not None


def test_tests_that_use_none_are_not_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("servers") is None


@pytest.mark.parametrize(("environment", "code"), [({}, 0), ({"CI": "true"}, 1), ({"REQUIRE_SERVERS": "1"}, 1)])
def test_the_installer_names_what_it_cannot_install(tmp_path: Path, environment: dict[str, str], code: int) -> None:
    for program in ("bash", "sort", "tr"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    done = subprocess.run(
        [tmp_path / "bash", REPOSITORY / "scripts" / "install-test-servers"],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path)} | environment,
        timeout=HANGS_SECONDS,
    )
    assert done.returncode == code
    assert "TEST SERVERS ARE MISSING: victoria-metrics vmauth influxd" in done.stderr
    assert "there is no apt-get" in done.stderr
