"""deploy/stack: what is shut in stays in, what it mounts is there, and its files run in the bare servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.config_validator import check_section
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.processes import LOOPBACK, ServerProcess, fetch, wait_until
from tests.support.prometheus_servers import Prometheus, amtool, promtool

STACK = REPOSITORY / "deploy/stack"
COMPOSE = yaml.safe_load((STACK / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
GIVEN = {"STORE_UID": "1000", "STORE_GID": "1000", "STORE_FOLDER": "/srv/leglength"}
TWO_YEARS_DAYS = 730


def with_defaults(text: str) -> str:
    return DEFAULT.sub(lambda found: found[1], text)


def mounts() -> list[tuple[str, str, str]]:
    """(service, source, target) of every volume."""
    found = []
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target, *_ = re.sub(r":ro$", "", DEFAULT.sub(lambda given: given[1], volume)).rsplit(":", 1)
            found.append((name, source, target))
    return found


def test_grafana_alone_is_published_and_on_loopback_by_default() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["grafana"]
    assert [with_defaults(port) for port in published["grafana"]] == ["127.0.0.1:3000:3000"]
    assert not any("network_mode" in service for name, service in SERVICES.items() if name != "prepare")
    assert SERVICES["prepare"]["network_mode"] == "none"


def test_each_service_is_on_the_inner_network_and_who_reaches_out_is_named() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    open_networks = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    reaching = {
        name: set(service.get("networks", ())) & open_networks
        for name, service in SERVICES.items()
        if set(service.get("networks", ())) & open_networks
    }
    assert reaching == {"grafana": {"published"}, "alertmanager": {"outgoing"}}
    assert all("inside" in service["networks"] for name, service in SERVICES.items() if name != "prepare")


def test_images_are_pinned_to_whole_versions() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    if name == "prepare":  # it ends before the others start
        assert (service["cap_add"], service["restart"]) == (["CHOWN"], "no")
        return
    assert "cap_add" not in service
    assert not re.match(r"(0|root)\b", service["user"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


def test_secrets_are_files_and_stand_in_no_environment() -> None:
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    ignored = (STACK / "secrets/.gitignore").read_text().splitlines()
    assert "*" in ignored
    named = {name for service in SERVICES.values() for secret in service.get("secrets", ()) for name in [
        secret if isinstance(secret, str) else secret["source"]]}  # fmt: skip
    assert named == set(COMPOSE["secrets"])
    for service in SERVICES.values():
        for variable in service.get("environment", {}):
            if re.search("PASSWORD|TOKEN|SECRET", variable) and variable != "TOKENS_GID":
                assert variable.endswith("_FILE"), variable


def test_what_is_mounted_from_the_repository_is_there_and_volumes_are_declared() -> None:
    for name, source, _ in mounts():
        if source.startswith("."):
            assert (STACK / source).exists(), (name, source)
        elif not source.startswith("$"):
            assert source in COMPOSE["volumes"], (name, source)


def test_grafana_gets_each_variable_that_its_provisioning_names() -> None:
    # Files of alert rules are taken as they are: what begins with a dollar there is InfluxQL's and the templates'.
    paths = (REPOSITORY / "deploy/grafana/provisioning").rglob("*.yaml")
    texts = [path.read_text() for path in paths if path.parent.name != "alerting"]
    named = {found for text in texts for found in re.findall(r"\$(\w+)", text)}
    grafana = SERVICES["grafana"]
    given = set(grafana["environment"]) | set(re.findall(r"(\w+)=", grafana["entrypoint"][-1]))
    assert named
    assert named <= given
    pages = grafana["environment"]["LEGLENGTH_DASHBOARDS"]
    assert ("grafana", "../grafana/dashboards", pages) in mounts()


def test_grafana_is_told_how_often_prometheus_scrapes() -> None:
    prometheus = yaml.safe_load((STACK / "prometheus/prometheus.yml").read_text())
    path = REPOSITORY / "deploy/grafana/provisioning/datasources/leglength.yaml"
    sources = yaml.safe_load(path.read_text())["datasources"]
    (told,) = [one["jsonData"]["timeInterval"] for one in sources if one["type"] == "prometheus"]
    assert told == prometheus["global"]["scrape_interval"]


@pytest.mark.parametrize("name", ["pushgateway", "prometheus", "alertmanager"])
def test_what_a_server_writes_lies_in_a_volume_of_its_own(name: str) -> None:
    written = re.compile(r"--(?:persistence\.file|storage\.path|storage\.tsdb\.path)=(.+)")
    (path,) = [found[1] for flag in SERVICES[name]["command"] if (found := written.fullmatch(flag))]
    own = [target for service, source, target in mounts() if (service, source) == (name, f"{name}-data")]
    assert any(Path(path).is_relative_to(target) for target in own)


def test_both_keep_two_years() -> None:
    assert SERVICES["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_RETENTION"] == f"{TWO_YEARS_DAYS}d"
    assert "--storage.tsdb.retention.time=2y" in SERVICES["prometheus"]["command"]


def test_the_relays_settings_are_valid_and_name_the_stacks_own_servers(tmp_path: Path) -> None:
    section = json.loads((STACK / "relay/task.json").read_text())["process"]["settings"]["monitoring"]
    (tmp_path / "write").write_text("invented\n")
    checked = check_section({**section, "influxdb": {**section["influxdb"], "token_file": str(tmp_path / "write")}})
    assert [str(problem) for problem in checked.problems] == []
    environment = SERVICES["influxdb"]["environment"]
    influxdb = section["influxdb"]
    assert influxdb["org"] == environment["DOCKER_INFLUXDB_INIT_ORG"]
    assert influxdb["bucket"] == environment["DOCKER_INFLUXDB_INIT_BUCKET"]
    assert ("relay", "tokens", str(Path(influxdb["token_file"]).parent)) in mounts()
    assert section["store"]["path"] == "/store"
    urls = (influxdb["url"], section["prometheus"]["gateway_url"])
    assert [urllib.parse.urlsplit(url).hostname for url in urls] == ["influxdb", "pushgateway"]


def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker with its plugin compose")
    done = subprocess.run(
        [docker, "compose", "-f", STACK / "compose.yaml", "config", "--quiet"],
        env={**os.environ, **GIVEN, "DOCKER_CONFIG": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# What the script of the first start asks `influx` for, and how that answers.
INFLUX = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
  *--write-bucket*) printf '{\\n\\t"id": "1",\\n\\t"token": "tok-write==",\\n\\t"permissions": []\\n}\\n' ;;
  *--read-bucket*) test -z "$FAILS" || exit 1
    printf '{\\n\\t"id": "2",\\n\\t"token": "tok-read==",\\n\\t"permissions": []\\n}\\n' ;;
esac
"""


@pytest.mark.parametrize("fails", ["", "yes"])
def test_the_first_start_leaves_a_token_that_writes_and_one_that_reads(tmp_path: Path, fails: str) -> None:
    program = tmp_path / "influx"
    program.write_text(INFLUX)
    program.chmod(0o755)
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "FAILS": fails,
        "TOKENS_FOLDER": str(tokens), "TOKENS_GID": str(os.getgid()), "DOCKER_INFLUXDB_INIT_ORG": "hospital",
        "DOCKER_INFLUXDB_INIT_BUCKET_ID": "b0c4e7",
    }  # fmt: skip
    script = STACK / "influxdb/make-tokens.sh"
    assert os.access(script, os.X_OK)  # InfluxDB's image runs what may be executed
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False)
    assert (done.returncode == 0) is (not fails)
    assert (tokens / "write").read_text().strip() == "tok-write=="
    assert stat.S_IMODE((tokens / "write").stat().st_mode) == 0o440
    assert (tokens / "read").exists() is (not fails)
    assert "tok-" not in done.stdout + done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all(
        re.fullmatch(r"auth create --org hospital --(write|read)-bucket b0c4e7 .*--json", call) for call in calls
    )
    assert len(calls) == 2


# --- the very same files in the bare servers ------------------------------------------------------


class AsComposed(ServerProcess):
    """A server with the flags of its service; its folders and addresses are the test's."""

    service: str
    folders: Mapping[str, str]

    def command(self) -> list[str]:
        flags = [str(flag) for flag in SERVICES[self.service]["command"]]
        for inside, outside in self.folders.items():
            flags = [re.sub(rf"(=){re.escape(inside)}(?=/|$)", rf"\1{outside}", flag) for flag in flags]
        return [*flags, f"--web.listen-address={LOOPBACK}:{self.port}"]


class ComposedPushgateway(AsComposed):
    program, service = "prometheus-pushgateway", "pushgateway"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folders = {"/pushgateway": str(folder)}


class ComposedAlertmanager(AsComposed):
    program, service = "prometheus-alertmanager", "alertmanager"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folders = {"/alertmanager": str(folder / "data"), "/etc/alertmanager": str(folder)}


class ComposedPrometheus(AsComposed, Prometheus):
    program, service = "prometheus", "prometheus"

    def __init__(self, folder: Path) -> None:
        Prometheus.__init__(self, folder=folder)
        self.folders = {"/prometheus": str(folder / "data"), "/etc/prometheus": str(folder)}

    def command(self) -> list[str]:
        # An alert that fires before the Alertmanager is discovered is lost until it is sent again.
        return [*super().command(), "--rules.alert.resend-delay=1s"]


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """Every place must be there: else another file than the shipped one would be tried."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.mark.servers
def test_the_configuration_files_run_in_the_bare_servers(tmp_path: Path) -> None:
    folders: dict[str, Path] = {name: tmp_path / name for name in ("pushgateway", "alertmanager", "prometheus")}
    for folder in folders.values():
        folder.mkdir()
    mails = (REPOSITORY / "deploy/alertmanager/alertmanager.yml").read_text()
    secrets = folders["alertmanager"] / "secrets"
    secrets.mkdir()
    for target in re.findall(r"/etc/alertmanager/secrets/([\w-]+)", mails):
        (secrets / target).write_text("invented")
        assert any(one["target"].endswith(f"/{target}") for one in SERVICES["alertmanager"]["secrets"]), target
    config = folders["alertmanager"] / "alertmanager.yml"
    config.write_text(replaced(mails, {"/etc/alertmanager/secrets": str(secrets)}))
    amtool("check-config", str(config))
    shutil.copytree(REPOSITORY / "deploy/prometheus", folders["prometheus"] / "rules")
    with (
        ComposedPushgateway(folders["pushgateway"]) as pushgateway,
        ComposedAlertmanager(folders["alertmanager"]) as alertmanager,
    ):
        prometheus = ComposedPrometheus(folders["prometheus"])
        config = folders["prometheus"] / "prometheus.yml"
        addresses = {
            "/etc/prometheus/rules": str(folders["prometheus"] / "rules"),
            "pushgateway:9091": pushgateway.url.removeprefix("http://"),
            "alertmanager:9093": alertmanager.url.removeprefix("http://"),
            "localhost:9090": prometheus.url.removeprefix("http://"),
            "_interval: 60s": "_interval: 1s",
        }
        config.write_text(replaced((STACK / "prometheus/prometheus.yml").read_text(), addresses))
        said = promtool("check", "config", str(config))
        assert "SUCCESS" in said
        fetch(
            "POST",
            f"{pushgateway.url}/metrics/job/pediatric-leglength/instance/here",
            body=b'# TYPE leglength_sessions_total counter\nleglength_sessions_total{status="completed"} 3\n',
        )
        with prometheus:
            told = prometheus.wait_for('leglength_sessions_total{job="pediatric-leglength",instance="here"}')
            assert told[0]["value"][1] == "3"
            assert "exported_job" not in told[0]["metric"]
            prometheus.wait_for("up == 1", lambda found: len(found) == 3)
            wait_until(lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"}, "every rule to be evaluated")
            assert len(prometheus.rules()) > 20
            flags = fetch("GET", f"{prometheus.url}/api/v1/status/flags").json()["data"]
            assert flags["storage.tsdb.retention.time"] in ("2y", "730d")
            held = f"{alertmanager.url}/api/v2/alerts"
            wait_until(lambda: b"LegLengthHeartbeat" in fetch("GET", held).data, "the heartbeat in the Alertmanager")
