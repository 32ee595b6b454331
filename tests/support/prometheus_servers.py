"""Prometheus' family: Pushgateway, Prometheus, Alertmanager; and vmauth, the proxy that checks tokens."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.clocks import HANGS_SECONDS
from tests.support.processes import LOOPBACK, ServerProcess, basic_auth, fetch, require, wait_until


class Pushgateway(ServerProcess):
    """A Pushgateway; `persist` keeps pushes over restarts, `route_prefix` ("/push") serves it under a path.

    With `auth` it asks for `username` and `password`, save for the readiness page's own answer.
    """

    program = "prometheus-pushgateway"
    username: ClassVar[str] = "pusher"
    password: ClassVar[str] = "push-password"
    _password_bcrypt: ClassVar[str] = "$2b$04$SO1IjbWx2rZhc6o5wGOHE.K/4v0FPJC3y1ERJUlbF8iFu.8QWEoQq"

    def __init__(
        self, folder: Path | None = None, *, persist: bool = False, route_prefix: str = "", auth: bool = False
    ) -> None:
        super().__init__(folder)
        self.persist = persist
        self.path_prefix = route_prefix.rstrip("/")
        self.auth = auth

    def command(self) -> list[str]:
        """The persistence file is always named: Debian's default is a shared one."""
        arguments = [
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--web.enable-admin-api",
            f"--persistence.file={self.folder / 'pushed' if self.persist else ''}",
            "--persistence.interval=10ms",
        ]
        if self.path_prefix:
            arguments.append(f"--web.route-prefix={self.path_prefix}")
        if self.auth:
            config = self.folder / "web.yml"
            config.write_text(json.dumps({"basic_auth_users": {self.username: self._password_bcrypt}}))
            arguments.append(f"--web.config.file={config}")
        return arguments

    @property
    def own_headers(self) -> dict[str, str]:
        """What the test support's own requests need to be let in."""
        return basic_auth(self.username, self.password) if self.auth else {}

    def families(self) -> list[Metric]:
        """The pushed metric families (the gateway's own are left out)."""
        return _pushed(self._text())

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """The pushed samples of that exact name (`..._total`, `..._bucket`) that bear the labels."""
        # Parsed alone: a test that asks for hundreds of names would parse everything as often.
        told = [line for line in self._text().splitlines() if _may_be_of(name, line)]
        samples = (sample for family in _pushed("\n".join([*told, ""])) for sample in family.samples)
        return [s for s in samples if s.name == name and labels.items() <= s.labels.items()]

    def _text(self) -> str:
        return fetch("GET", f"{self.url}/metrics", headers=self.own_headers).data.decode()

    def value(self, name: str, **labels: str) -> float | None:
        """The one matching sample's value, None when there is none."""
        found = self.samples(name, **labels)
        if len(found) > 1:
            raise LookupError(f"{len(found)} samples match {name} {labels}: {[s.labels for s in found]}")
        return found[0].value if found else None

    def groups(self) -> list[dict[str, str]]:
        """The grouping labels of every group."""
        return [group["labels"] for group in self._api_metrics()]

    def _api_metrics(self) -> list[dict[str, Any]]:
        return fetch("GET", f"{self.url}/api/v1/metrics", headers=self.own_headers).json()["data"]

    def delete_all(self) -> None:
        """Forget every push."""
        fetch("PUT", f"{self.url}/api/v1/admin/wipe", headers=self.own_headers)
        wait_until(lambda: not self.groups(), "the Pushgateway to be empty")

    def is_ready(self) -> bool:
        """Ready, and with authentication so when it asks for it."""
        return super().is_ready() or (self.auth and self._asks_for_a_password())

    def _asks_for_a_password(self) -> bool:
        try:
            return fetch("GET", self.url + self.ready_path, ok=range(401, 402)).status == 401
        except Exception:  # not listening yet
            return False


def _pushed(text: str) -> list[Metric]:
    found = text_string_to_metric_families(text)
    return [family for family in found if any("job" in sample.labels for sample in family.samples)]


def _may_be_of(name: str, line: str) -> bool:
    """Whether it tells a type, or is a sample of that name, which the parser gives to a counter without `_total`."""
    if line.startswith("#"):
        return line.startswith("# TYPE ") and name.startswith(line.split(" ")[2])
    return line.startswith(tuple(f"{told}{end}" for told in (name, name.removesuffix("_total")) for end in "{ "))


@dataclass(frozen=True)
class ScrapeTarget:
    """What Prometheus scrapes: a server's URL, its path prefix included."""

    url: str
    job: str = "pushgateway"
    honor_labels: bool = True

    def as_config(self) -> dict[str, Any]:
        """The scrape_config entry."""
        parts = urllib.parse.urlsplit(self.url)
        return {
            "job_name": self.job,
            "honor_labels": self.honor_labels,
            "metrics_path": f"{parts.path.rstrip('/')}/metrics",
            "static_configs": [{"targets": [parts.netloc]}],
        }


class Prometheus(ServerProcess):
    """A Prometheus that scrapes the targets, with rules and an Alertmanager if given.

    A plain URL as a target is scraped as job `pushgateway` with honor_labels; several need ScrapeTargets with
    jobs of their own. It starts in no time, but hands new targets and Alertmanagers on only every 5 s, a
    step that can't be set: the first scrape comes 5 to 6 s after a start, a restart or a reload.
    """

    program = "prometheus"

    def __init__(
        self,
        targets: Iterable[ScrapeTarget | str] = (),
        *,
        rule_files: Sequence[Path] = (),
        alertmanager_url: str | None = None,
        scrape_interval: str = "1s",
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.targets = [ScrapeTarget(target) if isinstance(target, str) else target for target in targets]
        self.rule_files = list(rule_files)
        self.alertmanager_url = alertmanager_url
        self.scrape_interval = scrape_interval

    def command(self) -> list[str]:
        """Samples are kept whatever their age."""
        self._write_config()
        return [
            f"--config.file={self._config_path}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--web.enable-lifecycle",
            "--web.enable-admin-api",
            # An alert that fires before the Alertmanager is discovered is lost until it is sent again.
            "--rules.alert.resend-delay=1s",
        ]

    @property
    def _config_path(self) -> Path:
        return self.folder / "prometheus.yml"

    def _write_config(self) -> None:
        interval = self.scrape_interval
        config: dict[str, Any] = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "scrape_configs": [target.as_config() for target in self.targets],
            "rule_files": [str(path) for path in self.rule_files],
        }
        if self.alertmanager_url:
            address = urllib.parse.urlsplit(self.alertmanager_url).netloc
            config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
        # JSON is YAML, too.
        self._config_path.write_text(json.dumps(config, indent=1))

    def reload(self) -> None:
        """Take changed targets, rule files or Alertmanager into use."""
        self._write_config()
        fetch("POST", f"{self.url}/-/reload")

    def query(self, promql: str, at_seconds: float | None = None) -> list[dict[str, Any]]:
        """An instant query's vector: `[{"metric": {...}, "value": [seconds, "text"]}, ...]`."""
        form = {"query": promql} | ({} if at_seconds is None else {"time": f"{at_seconds:.3f}"})
        answer = fetch("POST", f"{self.url}/api/v1/query", fields=form, encode_multipart=False)
        return answer.json()["data"]["result"]

    def value(self, promql: str) -> float | None:
        """The value of a query that gives one sample, None when it gives none."""
        result = self.query(promql)
        if len(result) > 1:
            raise LookupError(f"{promql} gives {len(result)} samples")
        return float(result[0]["value"][1]) if result else None

    def wait_for(
        self, promql: str, predicate: Callable[[list[dict[str, Any]]], Any] = bool, timeout: float = HANGS_SECONDS
    ) -> list[dict[str, Any]]:
        """The query's result once there is one for which `predicate` holds.

        A busy machine misses a scrape, and each series is gone until the next.
        """
        result: list[dict[str, Any]] = []

        def holds() -> bool:
            nonlocal result
            result = self.query(promql)
            return bool(result and predicate(result))

        try:
            wait_until(holds, promql, timeout, interval=0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the last result was {result}") from None
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """Its pending and firing alerts."""
        return fetch("GET", f"{self.url}/api/v1/alerts").json()["data"]["alerts"]

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule with its health and last error."""
        groups = fetch("GET", f"{self.url}/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


class Alertmanager(ServerProcess):
    """An Alertmanager without a cluster; it notifies `webhook_url` if given, else nobody."""

    program = "prometheus-alertmanager"

    def __init__(self, *, webhook_url: str | None = None, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.webhook_url = webhook_url

    def command(self) -> list[str]:
        """The default cluster address would listen on every interface."""
        receiver: dict[str, Any] = {"name": "tests"}
        if self.webhook_url:
            receiver["webhook_configs"] = [{"url": self.webhook_url, "send_resolved": True}]
        route = {"receiver": "tests", "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        config = self.folder / "alertmanager.yml"
        config.write_text(json.dumps({"route": route, "receivers": [receiver]}))
        return [
            f"--config.file={config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--cluster.listen-address=",
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it holds: `[{"labels": {...}, "status": {...}, ...}, ...]`."""
        return fetch("GET", f"{self.url}/api/v2/alerts").json()

    def wait_for_alert(self, name: str) -> dict[str, Any]:
        """The first alert of that name, once there is one."""
        return wait_until(
            lambda: next((a for a in self.alerts() if a["labels"]["alertname"] == name), None),
            f"the alert {name}",
            interval=0.1,
        )


class VmAuth(ServerProcess):
    """A proxy before `upstream_url` that lets a known token, or a user with a password, in and nobody else.

    1.79.5 takes `Authorization: Token T` (InfluxDB 2's way) and `Bearer T` alike, and HTTP basic; a wrong
    token is answered with 400, a missing one with 401.
    """

    program = "vmauth"
    ready_path = "/health"
    token: ClassVar[str] = "write-token"
    username: ClassVar[str] = "writer"
    password: ClassVar[str] = "writer-password"

    def __init__(self, upstream_url: str, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.upstream_url = upstream_url

    def command(self) -> list[str]:
        """Both users reach the whole upstream."""
        users = [
            {"bearer_token": self.token, "url_prefix": self.upstream_url},
            {"username": self.username, "password": self.password, "url_prefix": self.upstream_url},
        ]
        config = self.folder / "auth.yml"
        config.write_text(json.dumps({"users": users}))
        return [f"-auth.config={config}", f"-httpListenAddr={LOOPBACK}:{self.port}"]

    def write_settings(self) -> dict[str, Any]:
        """The `influxdb` section that writes through the proxy."""
        return {"url": self.url, "token": self.token, "org": "hospital", "bucket": "leglength", "api": "v2"}


def promtool(*arguments: str) -> str:
    """What `promtool ARGUMENTS` prints; AssertionError with its words if it complains."""
    return _tool("promtool", *arguments)


def amtool(*arguments: str) -> str:
    """The same for `amtool`."""
    return _tool("amtool", *arguments)


def _tool(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [require(program), *arguments], capture_output=True, text=True, timeout=HANGS_SECONDS, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"{program} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout
