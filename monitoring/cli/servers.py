"""Whom ``dashboards verify`` asks: the site's own servers, or a Grafana that asks them as it does for people.

Both give the same answers to the same questions, but for a Grafana's times, which are whole milliseconds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct, field

from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.rendering import INFLUXDB, PAGES, PROMETHEUS, SERVERS, UIDS, VICTORIAMETRICS, Site
from monitoring.dashboards.verification import Difference, PanelQueries, outdated
from monitoring.exceptions import BackendConnectionError, ConfigurationError, MonitoringError
from monitoring.settings import MonitoringConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.http import HttpTransport, Response, failure_detail
from monitoring.transport.small_files import MOST_SECRET_BYTES, read_file
from monitoring.transport.tls import Trust

TOKEN_VARIABLE = "INFLUXDB_READ_TOKEN"  # noqa: S105 - a name
GRAFANA_TOKEN_VARIABLE = "GRAFANA_TOKEN"  # noqa: S105 - a name
# What is longer is cut off there, and told: asking for fewer days helps.
MOST_BYTES = 256 * 1024 * 1024
MS_NS = 1_000_000


class RefusedQueryError(BackendConnectionError):
    """A server doesn't understand a query."""


class Backend(Struct, frozen=True):
    """Where to ask, and as whom."""

    name: str
    url: str
    headers: Mapping[str, str]
    transport: HttpTransport
    timeout: float
    step_ns: int = 1
    """What its times are rounded down to."""

    def asked(self, path: str, **fields: str) -> Response:
        """The answer to a form; its status may be any."""
        headers = {**self.headers, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(fields, quote_via=quote).encode()
        return self.transport.request("POST", self.url + path, headers, body, Deadline.after(self.timeout))

    def document(self, response: Response) -> Any:
        """An answer's JSON; raises :class:`MonitoringError` in a person's words where it is none."""
        if response.status in (401, 403):
            # Wrong settings, and not a server at fault: exit 2.
            why = "the credentials may not read there" if response.status == 403 else failure_detail(response)
            hint = f"; a token that may read can be given in ${TOKEN_VARIABLE}" if self.name == "influxdb" else ""
            raise ConfigurationError(f"{self.name}: {why}{hint}")
        if response.status != 200:
            raise BackendConnectionError(f"{self.name}: {failure_detail(response)}")
        if len(response.body) >= MOST_BYTES:
            # Before it is read: what was cut off is no JSON any longer.
            raise MonitoringError(f"{self.name}: the answer is too large; ask for fewer --days")
        try:
            return json.loads(response.body)
        except ValueError:
            raise BackendConnectionError(f"{self.name}: what answers there speaks no JSON") from None

    def series(self, database: str, query: str) -> list[dict[str, Any]]:
        """What InfluxDB answers to InfluxQL: ``columns``, ``values`` (times in nanoseconds) and perhaps ``tags``."""
        response = self.asked("/query", db=database, epoch="ns", q=query)
        # Version 1 says it with 200 in the answer's body, version 2 with 404.
        if response.status == 404 or b"database not found" in response.body:
            raise ConfigurationError(f"influxdb: there is no database {database}")
        result = self.document(response)["results"][0]
        # An answer in part would look like points that are lost.
        if "error" in result or result.get("partial") or any(one.get("partial") for one in result.get("series", ())):
            raise BackendConnectionError("influxdb: the query is refused or answered in part")
        return list(result.get("series", ()))

    def samples(self, selector: str, time_range: TimeRange) -> Iterator[tuple[dict[str, str], list[int], list[float]]]:
        """What VictoriaMetrics holds: each series' labels, times in milliseconds, and values."""
        # In seconds with milliseconds, which is all that it keeps.
        start, end = (f"{time_ns / 1e9:.3f}" for time_ns in time_range)
        response = self.asked("/api/v1/export", **{"match[]": selector}, start=start, end=end)
        if response.status != 200:
            self.document(response)
        for line in response.body.decode().splitlines():
            one = json.loads(line)
            yield one["metric"], one["timestamps"], one["values"]

    def instant(self, expression: str, at_ns: int | None = None) -> list[tuple[dict[str, str], float]]:
        """What Prometheus or VictoriaMetrics answer at one time, now without one."""
        at = {} if at_ns is None else {"time": f"{at_ns / 1e9:.3f}"}
        response = self.asked("/api/v1/query", query=expression, **at)
        # A query of ours that a server of another version refuses: a panel that differs, not a server that is away.
        if response.status in (400, 422):
            raise RefusedQueryError(f"{self.name} refuses the query")
        return [(one["metric"], float(one["value"][1])) for one in self.document(response)["data"]["result"]]


# --- a Grafana ----------------------------------------------------------------------------------


class _Source(Struct):
    uid: str
    name: str
    type: str


class _Field(Struct):
    name: str = ""
    type: str = ""
    labels: dict[str, str] | None = None


class _Schema(Struct):
    fields: list[_Field]


class _Data(Struct):
    values: list[list[Any]]
    entities: list[dict[str, list[int]] | None] | None = None


# By columns, as Grafana's data frames are.
class _Frame(Struct):
    """A table: a list of values for each field."""

    schema: _Schema
    data: _Data


class _Result(Struct):
    status: int = 200
    error: str = ""
    frames: list[_Frame] | None = None


class _Results(Struct):
    results: dict[str, _Result]


class _Panel(Struct):
    id: int = 0
    type: str = ""
    title: str = ""
    targets: list[dict[str, Any]] = field(default_factory=list)
    panels: list[_Panel] = field(default_factory=list)


class _Variable(Struct):
    name: str = ""


class _Variables(Struct):
    named: list[_Variable] = field(name="list")


class _Dashboard(Struct):
    panels: list[_Panel]
    templating: _Variables
    timezone: str = ""


class _Page(Struct):
    dashboard: _Dashboard


T = TypeVar("T")
_ABSENT = 404


class Grafana(Struct, frozen=True):
    """A Grafana and who asks it."""

    url: str
    headers: Mapping[str, str]
    transport: HttpTransport
    timeout: float

    def asked(self, kind: type[T], path: str, body: Any = None) -> T | None:
        """Its answer, None where it has no such thing; raises :class:`MonitoringError` in a person's words."""
        headers, content = {**self.headers, "Content-Type": "application/json"}, b""
        if body is not None:
            content = msgspec.json.encode(body)
        method = "GET" if body is None else "POST"
        response = self.transport.request(method, self.url + path, headers, content, Deadline.after(self.timeout))
        if response.status in (401, 403):
            asker = "the token" if "Authorization" in self.headers else "who has no token"
            refused = "doesn't know" if response.status == 401 else "lets too little be read by"
            where = f"${GRAFANA_TOKEN_VARIABLE} or --grafana-token-file gives one of a Viewer"
            raise ConfigurationError(f"Grafana: HTTP {response.status}: it {refused} {asker}; {where}")
        if response.status == _ABSENT:
            return None
        if len(response.body) >= MOST_BYTES:
            raise MonitoringError("Grafana: the answer is too large; ask for fewer --days")
        with_results = (200, 207, 400, 500) if kind is _Results else (200,)  # each query has its own status, too
        try:
            if response.status in with_results:
                return msgspec.json.decode(response.body, type=kind)
        except ValueError:
            if response.status == 200:
                raise BackendConnectionError("Grafana: what answers there isn't one: not its JSON") from None
        raise BackendConnectionError(f"Grafana: {failure_detail(response)}")


class GrafanaSource(Struct, frozen=True):
    """A data source, asked through its Grafana."""

    grafana: Grafana
    uid: str
    kind: str
    name: str
    step_ns: int = MS_NS

    def _frames(self, query: Mapping[str, Any], at_ns: int | None = None) -> list[_Frame]:
        until = "now" if at_ns is None else str(at_ns // MS_NS)
        since = "now-1h" if at_ns is None else str(at_ns // MS_NS - 3_600_000)
        shared = {"refId": "A", "datasource": {"uid": self.uid, "type": self.kind}, "maxDataPoints": 1000}
        body = {"queries": [{**shared, "intervalMs": 60_000, **query}], "from": since, "to": until}
        answer = self.grafana.asked(_Results, "/api/ds/query", body)
        # A data source that was removed is a 404 of the whole.
        result = None if answer is None else answer.results.get("A")
        if result is None:
            raise BackendConnectionError(f"{self.name}: Grafana has it no more")
        if result.error:
            # Its words aren't quoted: they may hold an address with credentials.
            if result.status in (400, 422):
                raise RefusedQueryError(f"{self.name} refuses the query")
            raise BackendConnectionError(f"{self.name} gives no answer to a query; Grafana's test of it may say why")
        return result.frames or []

    def series(self, database: str, query: str) -> list[dict[str, Any]]:  # noqa: ARG002 - it has its own
        """As :meth:`Backend.series`: a series for each row, with its texts as tags."""
        found = []
        for frame in self._frames({"rawQuery": True, "query": query, "resultFormat": "table"}):
            fields = frame.schema.fields
            for cells in zip(*_numbers(frame), strict=True):
                row: dict[str, Any] = {}
                tags: dict[str, str] = {}
                for one, cell in zip(fields, cells, strict=True):
                    if one.type == "time":
                        # Grafana's frames keep milliseconds: nanoseconds of InfluxDB's are lost on the way.
                        row["time"] = None if cell is None else cell * MS_NS
                    elif one.type == "string":
                        tags |= {} if cell is None else {one.name: cell}
                    else:
                        row[one.name] = cell
                found.append({"columns": list(row), "values": [list(row.values())], "tags": tags})
        return found

    def samples(self, selector: str, time_range: TimeRange) -> Iterator[tuple[dict[str, str], list[int], list[float]]]:
        """As :meth:`Backend.samples`, by a query that gives all of a range."""
        start_ms, end_ms = (time_ns // MS_NS for time_ns in time_range)
        expression = f"{selector}[{end_ms - start_ms + 1}ms]"  # its start is not part of a range
        query = {"expr": expression, "instant": True, "range": False, "format": "time_series"}
        for frame in self._frames(query, time_range.end_ns):
            if frame.schema.fields:
                times, values = _numbers(frame)
                yield dict(frame.schema.fields[1].labels or {}), times, values

    def instant(self, expression: str, at_ns: int | None = None) -> list[tuple[dict[str, str], float]]:
        """As :meth:`Backend.instant`."""
        query = {"expr": expression, "instant": True, "range": False, "format": "time_series"}
        return [
            (dict(one.labels or {}), float(values[-1]))
            for frame in self._frames(query, at_ns)
            for one, values in zip(frame.schema.fields, _numbers(frame), strict=True)
            if one.type == "number"
        ]


def _numbers(frame: _Frame) -> list[list[Any]]:
    """A frame's values; JSON has no numbers for what isn't finite, which stands beside them."""
    values = [list(column) for column in frame.data.values]
    for column, special in zip(values, frame.data.entities or (), strict=False):
        for name, places in (special or {}).items():
            for place in places:
                column[place] = float({"NegInf": "-inf"}.get(name, name))
    return values


class Shown(Struct, frozen=True):
    """What a Grafana shows: for which site its pages are rendered, by which data sources, and what is outdated."""

    site: Site
    sources: Mapping[str, GrafanaSource]
    outdated: Mapping[tuple[str, int], Difference]


def shown(config: MonitoringConfig, zone: str, url: str, token_file: Path | None, named: Sequence[str]) -> Shown:
    """Look at a Grafana's pages and data sources; ``named`` are ``TYPE=UID``. Raises :class:`MonitoringError`."""
    chosen = _chosen(named)
    section = config.influxdb or config.prometheus
    trust = Trust(None if section is None else section.ca_file)
    # As long as the settings give their own backends.
    timeout = 10.0 if section is None else section.timeout
    transport = HttpTransport(trust, MOST_BYTES)
    grafana = Grafana(address("--grafana", url), _authorization(token_file), transport, timeout)
    has = grafana.asked(list[_Source], "/api/datasources")
    if has is None:
        raise BackendConnectionError("Grafana: what answers there isn't one: it has no /api/datasources")
    pages: dict[str, _Dashboard] = {}
    for page in PAGES:
        if there := grafana.asked(_Page, f"/api/dashboards/uid/{page.uid}"):
            pages[page.uid] = there.dashboard
    if not pages:
        raise MonitoringError("Grafana: none of the dashboards is there; provision what `dashboards render` writes")
    one = next(iter(pages.values()))
    # Days of another zone would differ, all of them, and nothing would be wrong.
    if one.timezone != zone:
        raise ConfigurationError(f"--time-zone {zone}: the dashboards in Grafana are rendered for {one.timezone}")
    variables = {variable.name for variable in one.templating.named}
    site = Site(
        images="influxql" if INFLUXDB in variables else "metricsql" if VICTORIAMETRICS in variables else None,
        totals=PROMETHEUS in variables, zone=zone, application=config.application is not None,
    )  # fmt: skip
    sources = {variable: _source(grafana, has, variable, kind, chosen) for variable, kind in site.sources.items()}
    queries = {uid: {panel.id: PanelQueries(panel.title, panel.targets) for panel in _flat(page.panels)}
               for uid, page in pages.items()}  # fmt: skip
    return Shown(site, sources, outdated(site, queries))


def address(option: str, url: str) -> str:
    """A server's address as it is given to an option; raises :class:`ConfigurationError`."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{option}: must be an address that begins with http:// or https://")
    # It would stand in the list of processes, and in the shell's history.
    if "@" in url:
        raise ConfigurationError(f"{option}: must not hold credentials")
    return url.rstrip("/")


def _authorization(token_file: Path | None) -> dict[str, str]:
    where, token = f"${GRAFANA_TOKEN_VARIABLE}", os.environ.get(GRAFANA_TOKEN_VARIABLE, "")
    if token_file is not None:
        where = f"--grafana-token-file {token_file}"
        try:
            token = read_file(token_file, MOST_SECRET_BYTES).decode(errors="replace").strip()
        except OSError as error:
            raise ConfigurationError(f"{where}: {error.strerror}") from None
    if not re.fullmatch(r"[!-~]*", token) or (token_file is not None and not token):
        raise ConfigurationError(f"{where}: holds no token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _flat(panels: list[_Panel]) -> Iterator[_Panel]:
    for panel in panels:
        if panel.type != "row":
            yield panel
        yield from _flat(panel.panels)


def _chosen(named: Sequence[str]) -> dict[str, str]:
    """The data sources that are named for a variable."""
    variables = {name.lower(): variable for variable, name in SERVERS.items()}
    found = {}
    for text in named:
        server, _, uid = text.partition("=")
        if server.lower() not in variables or not uid:
            raise ConfigurationError(f"--grafana-source {text}: is written as {'=UID, '.join(variables)}=UID")
        found[variables[server.lower()]] = uid
    return found


def _source(
    grafana: Grafana, has: Sequence[_Source], variable: str, kind: str, chosen: dict[str, str]
) -> GrafanaSource:
    """The data source that is named, else the one that was provisioned, else the only one of its type."""
    server = SERVERS[variable].lower()
    of_type = [one for one in has if one.type == kind]
    # What stands for another server isn't this one, even where it is the only one left of the type.
    taken = {uid for other, uid in (UIDS | chosen).items() if other != variable}
    if variable in chosen:
        found = [one for one in of_type if one.uid == chosen[variable]]
    else:
        provisioned = [one for one in of_type if one.uid == UIDS[variable]]
        found = provisioned or [one for one in of_type if one.uid not in taken]
    if not found:
        uid = f" and uid {chosen[variable]}" if variable in chosen else ""
        raise ConfigurationError(f"Grafana: there is no data source of type {kind}{uid} that shows {server}")
    if len(found) > 1:
        uids = ", ".join(sorted(one.uid for one in found))
        raise ConfigurationError(f"Grafana: several data sources may be {server}: name one of {uids} as in"
                                 f" --grafana-source {server}={found[0].uid}")  # fmt: skip
    return GrafanaSource(grafana, found[0].uid, kind, f"{found[0].name} (Grafana)")
