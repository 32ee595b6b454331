"""A folder of files from which servers set themselves up: Grafana's pages, data sources and rules, Prometheus' rules.

Secrets are never in it: the data sources name environment variables of Grafana's process. Whatever of an address isn't
known is one of these, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from monitoring.dashboards.influxdb_rules import grafana_rules
from monitoring.dashboards.rendering import INFLUXDB, PAGES, PROMETHEUS, SERVERS, UIDS, Site, render
from monitoring.dashboards.rule_files import RUNBOOKS, alertmanager_example, prometheus_rules, to_yaml
from monitoring.exceptions import ConfigurationError

# By it a file is known as this command's, and replaced without being asked.
MARK = "Written by `leglength-monitor dashboards render`"
_HEADER = f"# {MARK}; a change here is lost when it is run again.\n"
_UID = '"uid": "leglength-'

TOKEN_VARIABLE, PASSWORD_VARIABLE = "INFLUXDB_READ_TOKEN", "INFLUXDB_READ_PASSWORD"
PATH_VARIABLE = "LEGLENGTH_DASHBOARDS"


class Sources(Struct, frozen=True, kw_only=True):
    """Where Grafana finds what it shows; ``$NAME`` is read from its environment.

    ``images_url`` is InfluxDB's or VictoriaMetrics', ``database`` InfluxDB's database (version 2: bucket), and
    ``user`` that of a password (version 1), None where a token is used, "" where neither is asked for. ``runbooks``:
    where the page ``docs/alerts.md`` lies.
    ``dashboards_path``: where the pages lie on Grafana's machine. ``scrape_interval``: Prometheus' own, as ``60s``.
    """

    images_url: str = "$INFLUXDB_URL"
    database: str = "$INFLUXDB_DATABASE"
    user: str | None = None
    prometheus_url: str = "$PROMETHEUS_URL"
    dashboards_path: str = f"${PATH_VARIABLE}"
    scrape_interval: str = "60s"
    runbooks: str = RUNBOOKS

    @property
    def variables(self) -> list[str]:
        """The variables that Grafana's process needs for them, but for secrets."""
        given = (self.images_url, self.database, self.prometheus_url, self.dashboards_path)
        # $$ is Grafana's own way to write a dollar.
        return [text[1:] for text in given if text.startswith("$") and not text.startswith("$$")]


def files(site: Site, sources: Sources) -> dict[str, str]:
    """What each file holds, by its path in the folder."""
    pages = {f"grafana/dashboards/{page.uid}.json": render(page, site) for page in PAGES}
    provider = {
        "name": "leglength", "folder": "Leg length", "folderUid": "leglength", "type": "file", "allowUiUpdates": False,
        # Deletion stays on: else Grafana keeps pages that a later version has no more.
        "disableDeletion": False, "updateIntervalSeconds": 60, "options": {"path": sources.dashboards_path},
    }  # fmt: skip
    found = [_datasource(name, sources) for name in site.sources]
    provisioned = {
        "dashboards": {"apiVersion": 1, "providers": [provider]},
        "datasources": {"apiVersion": 1, "datasources": found},
    }
    texts = {
        f"grafana/provisioning/{kind}/leglength.yaml": _HEADER + to_yaml(document)
        for kind, document in provisioned.items()
    }
    if site.images == "influxql":
        rules = grafana_rules(UIDS[INFLUXDB], sources.runbooks, site.thresholds, beside_prometheus=site.totals)
        texts["grafana/provisioning/alerting/leglength.yaml"] = _HEADER + to_yaml(rules)
    if site.totals:
        texts["prometheus/leglength.rules.yml"] = _HEADER + prometheus_rules(site.thresholds, sources.runbooks)
        texts["alertmanager/alertmanager.yml"] = _HEADER + alertmanager_example()
    return {**pages, **texts}


def _datasource(name: str, sources: Sources) -> dict[str, Any]:
    shared = {"name": f"Leg length: {SERVERS[name]}", "uid": UIDS[name], "access": "proxy", "editable": False}
    if name != INFLUXDB:
        url = sources.prometheus_url if name == PROMETHEUS else sources.images_url
        settings = {"httpMethod": "POST", "timeInterval": sources.scrape_interval}
        return {**shared, "type": "prometheus", "url": url, "jsonData": settings}
    settings = {"version": "InfluxQL", "dbName": sources.database, "httpMode": "POST"}
    found = {**shared, "type": "influxdb", "url": sources.images_url, "jsonData": settings}
    # As Token: version 2 answers 401 to a Bearer.
    if sources.user is None:
        settings["httpHeaderName1"] = "Authorization"
        return {**found, "secureJsonData": {"httpHeaderValue1": f"Token ${TOKEN_VARIABLE}"}}
    if sources.user:
        return {**found, "user": sources.user, "secureJsonData": {"password": f"${PASSWORD_VARIABLE}"}}
    return found


def needed(sources: Sources, texts: dict[str, str]) -> list[str]:
    """The variables that the files name, those of addresses and of secrets."""
    names = (*sources.variables, TOKEN_VARIABLE, PASSWORD_VARIABLE)
    return [name for name in names if any(f"${name}" in text for text in texts.values())]


def write(texts: dict[str, str], folder: Path, *, replaces_foreign: bool = False) -> list[Path]:
    """Write the files; returns the paths of those that weren't as they are to be.

    Raises ConfigurationError, before anything is written, where another's file is in the way.
    """
    paths = {folder / name: text for name, text in texts.items()}
    try:
        present = {path: path.read_text(encoding="utf-8", errors="replace") for path in paths if path.exists()}
        # Pages are known by their uid: JSON has no comments.
        foreign = [str(path) for path, text in present.items() if MARK not in text and _UID not in text]
        if foreign and not replaces_foreign:
            raise ConfigurationError(f"not written by this command: {', '.join(foreign)}; --force replaces them")
        # Only these: a file that is written again is loaded again.
        changed = [path for path, text in paths.items() if present.get(path) != text]
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(paths[path], encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder}: {error.strerror}") from None
    return changed
