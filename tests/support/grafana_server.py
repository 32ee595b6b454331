"""A Grafana of the test's own, provisioned from a folder, and what tests ask of one over HTTP."""

from __future__ import annotations

import configparser
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tests.support.processes import LOOPBACK, MissingServerError, ServerProcess, basic_auth, fetch

HOME = "GRAFANA_HOME"
# Of a package from Grafana Labs: what is on PATH there is a wrapper far from its home.
PACKAGED_HOME = Path("/usr/share/grafana")
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


def grafana_home() -> Path:
    """The folder with bin/grafana, conf/ and public/: GRAFANA_HOME, or that of the program on PATH.

    Raises MissingServerError where there is none.
    """
    if named := os.environ.get(HOME):
        homes = [Path(named)]
    else:
        found = shutil.which("grafana")
        homes = [PACKAGED_HOME, Path(found).resolve().parents[1]] if found else []
    for home in homes:
        if (home / "bin/grafana").exists() and (home / "conf/defaults.ini").exists():
            return home
    raise MissingServerError("grafana")


class GrafanaClient:
    """What tests ask of a Grafana: a path is appended to `url`, which has no slash at its end."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.headers = dict(headers or {})

    def get(self, path: str) -> Any:
        """The JSON behind a path."""
        return fetch("GET", self.url + path, headers=self.headers).json()

    def query(self, queries: list[Mapping[str, Any]], start_ms: int, end_ms: int) -> dict[str, dict[str, Any]]:
        """The result of each query by its refId: `status`, `frames`, and `error` if there was one."""
        asked = {"queries": queries, "from": str(start_ms), "to": str(end_ms)}
        # An error of one query makes the answer's status 400, 207 or 500: the body says which query it was.
        answer = fetch("POST", f"{self.url}/api/ds/query", json=asked, headers=self.headers, ok=range(200, 600)).json()
        return answer["results"] if "results" in answer else {"": {"status": 500, "error": str(answer)}}

    def evaluate(self, condition: str, steps: list[Mapping[str, Any]], now: datetime) -> dict[str, dict[str, Any]]:
        """What each step of an alert rule gives at that time, by its refId."""
        asked = {"condition": condition, "data": steps, "now": now.isoformat()}
        return fetch("POST", f"{self.url}/api/v1/eval", json=asked, headers=self.headers).json()["results"]


class Grafana(ServerProcess):
    """A Grafana with its own SQLite, provisioned from a folder, that lets anyone look and calls nobody.

    The first start takes ten seconds and more: it makes its database.
    """

    program = "grafana"
    ready_path = "/api/health"
    admin: ClassVar[tuple[str, str]] = ("admin", "admin-password")

    def __init__(self, provisioning: Path, folder: Path | None = None) -> None:
        self.home = grafana_home()
        self.provisioning = provisioning
        super().__init__(folder)

    def find_executable(self) -> str:
        """The one in its home."""
        return str(self.home / "bin/grafana")

    def command(self) -> list[str]:
        """All that would reach out is off: statistics, updates, plugins, avatars, news."""
        config = configparser.ConfigParser(interpolation=None)
        config.read_dict(
            {
                "paths": {
                    "data": self.folder / "data",
                    "logs": self.folder / "logs",
                    "plugins": self.folder / "plugins",
                    "provisioning": self.provisioning,
                },
                "server": {"http_addr": LOOPBACK, "http_port": self.port},
                "analytics": {
                    "reporting_enabled": False,
                    "check_for_updates": False,
                    "check_for_plugin_updates": False,
                    "feedback_links_enabled": False,
                },
                "security": {"disable_gravatar": True, "admin_user": self.admin[0], "admin_password": self.admin[1]},
                "auth.anonymous": {"enabled": True},
                "plugins": {
                    "preinstall_disabled": True,
                    "public_key_retrieval_disabled": True,
                    "plugin_admin_enabled": False,
                },
                "news": {"news_feed_enabled": False},
                "snapshots": {"external_enabled": False},
                "log": {"mode": "console", "level": "warn"},
            }
        )
        path = self.folder / "grafana.ini"
        with path.open("w") as file:
            config.write(file)
        return ["server", f"--homepath={self.home}", f"--config={path}"]

    @property
    def client(self) -> GrafanaClient:
        """Asks this one, as its administrator."""
        return GrafanaClient(self.url, basic_auth(*self.admin))


class Page:
    """A dashboard's JSON, and what its targets ask once its variables stand at their first values, all of them."""

    def __init__(self, model: Mapping[str, Any], datasources: Iterable[Mapping[str, Any]]) -> None:
        self.model = model
        self.panels = [panel for panel in _with_folded(model["panels"]) if panel["type"] != "row"]
        first = {each["type"]: each["uid"] for each in reversed(list(datasources))}
        self._values = {each["name"]: _value_of(each, first) for each in model["templating"]["list"]}

    def targets(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each panel's title, or an annotation's or a variable's name, with what it asks."""
        for panel in self.panels:
            for target in panel.get("targets", ()):
                yield panel["title"], self._resolved(target)
        for each in self.model["annotations"].get("list", ()):
            if "expr" in each or "query" in each or "target" in each:
                yield each["name"], self._resolved(each.get("target", each) | {"datasource": each["datasource"]})

    def _resolved(self, asked: Any) -> Any:
        if isinstance(asked, str):
            return VARIABLE.sub(lambda found: self._values.get(found[1] or found[2], found[0]), asked)
        if isinstance(asked, list):
            return [self._resolved(each) for each in asked]
        return {key: self._resolved(value) for key, value in asked.items()} if isinstance(asked, dict) else asked


def _with_folded(panels: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for panel in panels:
        yield panel
        yield from panel.get("panels", ())


def _value_of(variable: Mapping[str, Any], first: Mapping[str, str]) -> str:
    if variable["type"] == "datasource":
        return first.get(variable["query"], f"no data source of type {variable['query']}")
    if variable.get("includeAll"):
        return variable.get("allValue") or ".*"
    return str(variable.get("current", {}).get("value") or variable.get("query", ""))
