"""Asks the store and the backends whether they would take what is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitoring.exceptions import StoreError
from monitoring.influx_client import authorization, is_about_credentials, write_url
from monitoring.settings import InfluxDBConfig, MonitoringConfig, PrometheusConfig
from monitoring.store.database import Database
from monitoring.store.location import store_path
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport, Response, basic_authorization
from monitoring.transport.reasons import detail, policy


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    what: str
    is_good: bool
    message: str


def store_and_backends(config: MonitoringConfig) -> list[Finding]:
    """Try the store and each configured backend; nothing is written to a backend."""
    if not config.enabled:
        return [Finding("monitoring", True, "is off (enabled is false)")]
    findings = [_store(store_path(config.store))]
    if config.influxdb is not None and config.influxdb.enabled:
        findings.append(_influxdb(config.influxdb))
    if config.prometheus is not None and config.prometheus.enabled and config.prometheus.gateway_url is not None:
        findings.append(_pushgateway(config.prometheus, config.prometheus.gateway_url))
    return findings


def _store(path: Path) -> Finding:
    try:
        Database(path).close()
    except StoreError as error:
        return Finding("store", False, str(error))
    return Finding("store", True, str(path))


def _influxdb(config: InfluxDBConfig) -> Finding:
    """Write nothing: the server checks address, credentials and bucket before it looks for lines."""
    response = _request("POST", write_url(config), authorization(config), config)
    if is_about_credentials(response):
        return Finding("influxdb", False, f"{config.url}: {detail('unauthorized', response.status)}")
    # An empty body is a 400 for some servers, after everything else was found to be right.
    return _finding("influxdb", config.url, response, good=(200, 204, 400))


def _pushgateway(config: PrometheusConfig, url: str) -> Finding:
    headers = {}
    if config.username is not None:
        password = config.password.get_secret_value() if config.password else ""
        headers["Authorization"] = basic_authorization(config.username, password)
    response = _request("GET", f"{url}/-/ready", headers, config)
    return _finding("prometheus", url, response, good=(200,))


def _request(method: str, url: str, headers: dict[str, str], config: InfluxDBConfig | PrometheusConfig) -> Response:
    transport = HttpTransport(config.trust())
    try:
        return transport.request(method, url, headers, b"", Deadline.after(config.timeout))
    finally:
        transport.close()


def _finding(what: str, url: str, response: Response, good: tuple[int, ...]) -> Finding:
    if response.status in good:
        return Finding(what, True, url)
    reason = response.error or (policy(response.status).reason if response.status else "unreachable")
    return Finding(what, False, f"{url}: {detail(reason, response.status, response.hint)}")
