"""Servers that speak InfluxDB's write protocol: VictoriaMetrics, InfluxDB 1 and InfluxDB 2."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import shutil
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest

from tests.support.clocks import HANGS_SECONDS
from tests.support.points import FieldValue, Point
from tests.support.processes import (
    LOOPBACK,
    MissingServerError,
    ServerProcess,
    basic_auth,
    fetch,
    influxd_version,
    wait_until,
)

Series = tuple[str, frozenset[tuple[str, str]]]
YEAR_2100 = 4_102_444_800
EVERYTHING = '{__name__!=""}'
SHARED_URL = "INFLUXDB2_URL"
SHARED_TOKEN = "INFLUXDB2_TOKEN"  # the name of a variable
SHARED_ORG = "INFLUXDB2_ORG"
SHARED_BUCKET = "INFLUXDB2_BUCKET"


class VictoriaMetrics(ServerProcess):
    """VictoriaMetrics, single binary. A field `f` of measurement `m` becomes the series `m_f{tags}`.

    It keeps milliseconds, and stores 0 for a string and 1 or 0 for a boolean. A malformed line is dropped and
    still answered with 204. `kill()` loses what it accepted within the last 5 s: `persist()` before.
    """

    program = "victoria-metrics"
    ready_path = "/health"
    time_step_ns: ClassVar[int] = 1_000_000

    def command(self) -> list[str]:
        """Points of any age are kept (the default is one month) and are visible to the next query."""
        return [
            f"-storageDataPath={self.folder / 'data'}",
            f"-httpListenAddr={LOOPBACK}:{self.port}",
            "-retentionPeriod=100y",
            "-memory.allowedBytes=64MB",
            "-storage.minFreeDiskSpaceBytes=1MB",
            "-search.latencyOffset=0s",
            "-search.disableCache",
        ]

    def flush(self) -> None:
        """Make all that was accepted visible to queries; it is not durable yet."""
        fetch("GET", f"{self.url}/internal/force_flush")

    def persist(self) -> None:
        """Make all that was accepted survive `kill()`; only a snapshot writes the index out at once."""
        self.flush()
        fetch("GET", f"{self.url}/snapshot/create")
        fetch("GET", f"{self.url}/snapshot/delete_all")

    def export(self, match: str = EVERYTHING) -> list[dict[str, Any]]:
        """The matching series, raw: `{"metric": {...}, "values": [...], "timestamps": [ms, ...]}`."""
        self.flush()
        # By default the end is the last whole second, and the newest points would be missing.
        query = urlencode({"match[]": match, "start": 0, "end": YEAR_2100})
        answer = fetch("GET", f"{self.url}/api/v1/export?{query}")
        return [_parse_exported(line) for line in answer.data.decode().splitlines()]

    def values(self, match: str = EVERYTHING) -> dict[Series, list[tuple[int, float]]]:
        """The matching series as `{(name, labels): [(ts_ms, value)]}`, sorted by time.

        A repeated point stays visible twice until the server merges; equal repeats are folded here.
        """
        found: dict[Series, set[tuple[int, float]]] = defaultdict(set)
        for series in self.export(match):
            labels = dict(series["metric"])
            key = (labels.pop("__name__"), frozenset(labels.items()))
            found[key].update(zip(series["timestamps"], series["values"], strict=True))
        return {key: sorted(points) for key, points in found.items()}

    def series_count(self, match: str = EVERYTHING) -> int:
        """How many series have a sample."""
        return len(self.values(match))

    def query(self, promql: str, at_seconds: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant PromQL query, by default as of now.

        Without `nocache` the server moves an instant near the present back by a second, whatever its flags.
        """
        self.flush()
        at_seconds = time.time() if at_seconds is None else at_seconds
        query = urlencode({"query": promql, "time": f"{at_seconds:.3f}", "nocache": "1"})
        return fetch("GET", f"{self.url}/api/v1/query?{query}").json()["data"]["result"]

    def write_settings(self) -> dict[str, Any]:
        """It takes any token; vmauth before it would check one."""
        return {"url": self.url, "token": "any-token", "org": "hospital", "bucket": "leglength", "api": "v2"}

    def as_kept(self, point: Point) -> Point:
        """Numbers, a 0 for each string, and whole milliseconds."""
        fields: dict[str, FieldValue] = {k: 0 if isinstance(v, str) else float(v) for k, v in point.fields.items()}
        return Point(point.tags, fields, point.time_ns // self.time_step_ns * self.time_step_ns)

    def read_points(self, measurement: str) -> list[Point]:
        """Series `measurement_*`, folded into points; no other measurement may begin with `measurement_`."""
        points: dict[tuple[int, frozenset[tuple[str, str]]], dict[str, FieldValue]] = defaultdict(dict)
        for (name, labels), samples in self.values(f'{{__name__=~"{measurement}_.+"}}').items():
            tags = frozenset((key, value) for key, value in labels if key != "db")
            for time_ms, value in samples:
                points[time_ms, tags][name.removeprefix(f"{measurement}_")] = value
        return _in_order(Point(dict(tags), fields, ms * 1_000_000) for (ms, tags), fields in points.items())


def _parse_exported(line: str) -> dict[str, Any]:
    # The server writes infinite values as +Inf and -Inf, which is no JSON.
    metric, values, rest = line.partition('},"values":')
    return json.loads(metric + values + rest.replace("+Inf", "Infinity").replace("-Inf", "-Infinity"))


class InfluxDB1(ServerProcess):
    """InfluxDB 1 (Debian's is 1.6.7: `/write` and `/query`, no `/api/v2`), with or without authentication."""

    program = "influxd"
    ready_path = "/ping"
    ports_needed = 2
    time_step_ns: ClassVar[int] = 1
    database: ClassVar[str] = "leglength"
    admin: ClassVar[tuple[str, str]] = ("admin", "admin-password")
    writer: ClassVar[tuple[str, str]] = ("writer", "writer-password")

    def __init__(self, folder: Path | None = None, *, auth: bool = False) -> None:
        super().__init__(folder)
        self.auth = auth
        if influxd_version(self.executable) != 1:
            self.close()
            raise MissingServerError("influxd (version 1)")

    def command(self) -> list[str]:
        """Its configuration names every port and folder: the defaults would be shared ones."""
        path = self.folder / "influxdb.conf"
        path.write_text(_influxdb1_config(self.folder, self.port, self._leases[1].number, self.auth))
        return ["-config", str(path)]

    def on_first_start(self) -> None:
        """The database `leglength`, and with authentication an administrator and a writer."""
        if self.auth:
            self.query(f"CREATE USER {self.admin[0]} WITH PASSWORD '{self.admin[1]}' WITH ALL PRIVILEGES")
        self.create_database(self.database)
        if self.auth:
            self.query(f"CREATE USER {self.writer[0]} WITH PASSWORD '{self.writer[1]}'")
            self.query(f'GRANT ALL ON "{self.database}" TO {self.writer[0]}')

    def create_database(self, name: str) -> None:
        """A fresh database."""
        self.query(f'CREATE DATABASE "{name}"')

    def query(self, influxql: str, db: str | None = None, epoch: str = "ns") -> list[dict[str, Any]]:
        """The rows of one statement as dicts, the tags of a GROUP BY among them."""
        rows: list[dict[str, Any]] = []
        for series in self._series(influxql, db, epoch):
            tags, columns = series.get("tags", {}), series["columns"]
            rows += [tags | dict(zip(columns, row, strict=True)) for row in series.get("values", [])]
        return rows

    def _series(self, influxql: str, db: str | None, epoch: str) -> list[dict[str, Any]]:
        form = {"q": influxql, "db": db or self.database, "epoch": epoch}
        headers = basic_auth(*self.admin) if self.auth else None
        answer = fetch("POST", f"{self.url}/query", headers=headers, fields=form, encode_multipart=False)
        result = answer.json()["results"][0]
        if "error" in result:
            raise RuntimeError(f"{influxql}: {result['error']}")
        return result.get("series", [])

    def write_settings(self) -> dict[str, Any]:
        """The token is `user:password`; a server without authentication ignores it."""
        token = ":".join(self.writer)
        return {"url": self.url, "token": token, "org": "", "bucket": self.database, "api": "v1"}

    def as_kept(self, point: Point) -> Point:
        """Everything."""
        return point

    def read_points(self, measurement: str) -> list[Point]:
        """All points of a measurement in the database `leglength`."""
        found = []
        for series in self._series(f'SELECT * FROM "{measurement}" GROUP BY *', None, "ns"):
            tags = {key: value for key, value in series.get("tags", {}).items() if value}
            for values in series["values"]:
                row = dict(zip(series["columns"], values, strict=True))
                time_ns = row.pop("time")
                found.append(Point(tags, {k: v for k, v in row.items() if v is not None}, time_ns))
        return _in_order(found)


def _influxdb1_config(folder: Path, http_port: int, rpc_port: int, auth: bool) -> str:
    return f"""\
reporting-enabled = false
bind-address = "{LOOPBACK}:{rpc_port}"
[meta]
dir = "{folder / "meta"}"
[data]
dir = "{folder / "data"}"
wal-dir = "{folder / "wal"}"
query-log-enabled = false
cache-max-memory-size = 268435456
[monitor]
store-enabled = false
[continuous_queries]
enabled = false
[http]
bind-address = "{LOOPBACK}:{http_port}"
auth-enabled = {str(auth).lower()}
log-enabled = false
"""


def influxdb2_program() -> str | None:
    """An `influxd` of version 2 on PATH (Debian's own is version 1)."""
    path = shutil.which("influxd")
    return path if path and influxd_version(path) == 2 else None


def influxdb2_is_available() -> bool:
    """True when the environment names an InfluxDB 2 or one is on PATH."""
    named = SHARED_URL in os.environ and SHARED_TOKEN in os.environ
    return named or influxdb2_program() is not None


class InfluxDB2:
    """InfluxDB 2: the one that INFLUXDB2_URL and INFLUXDB2_TOKEN name, else an `influxd` 2 from PATH.

    A named server is not ours: a test that stops it is skipped. Each instance makes a bucket of its own there, whose
    name begins as INFLUXDB2_BUCKET says, and removes it.
    """

    time_step_ns: ClassVar[int] = 1

    def __init__(self) -> None:
        self._process = None if SHARED_URL in os.environ else _InfluxDB2Process()
        self.url = os.environ.get(SHARED_URL, "").rstrip("/")
        self.token = os.environ.get(SHARED_TOKEN, secrets.token_hex(16))
        self.org = os.environ.get(SHARED_ORG, "hospital")
        self.bucket = f"{os.environ.get(SHARED_BUCKET, 'leglength')}-{secrets.token_hex(4)}"
        self._bucket_id: str | None = None

    def __enter__(self) -> InfluxDB2:
        if self._process is not None:
            self._process.__enter__()
            self.url = self._process.url
            self._set_up()
        else:
            self._bucket_id = self._create_bucket()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.close()
        elif self._bucket_id is not None:
            fetch("DELETE", f"{self.url}/api/v2/buckets/{self._bucket_id}", headers=self._headers)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.token}"}

    def _set_up(self) -> None:
        form = {"username": "admin", "password": "admin-password", "token": self.token}
        fetch("POST", f"{self.url}/api/v2/setup", json=form | {"org": self.org, "bucket": self.bucket})

    def _create_bucket(self) -> str:
        orgs = fetch("GET", f"{self.url}/api/v2/orgs?org={self.org}", headers=self._headers).json()["orgs"]
        form = {"orgID": orgs[0]["id"], "name": self.bucket}
        return fetch("POST", f"{self.url}/api/v2/buckets", headers=self._headers, json=form).json()["id"]

    def start(self) -> InfluxDB2:
        """Start again after `stop()`."""
        self._own_process().start()
        return self

    def stop(self) -> None:
        """End the server; only one that was started here."""
        self._own_process().stop()

    def kill(self) -> None:
        """End the server at once; only one that was started here."""
        self._own_process().kill()

    def _own_process(self) -> ServerProcess:
        if self._process is None:
            pytest.skip(f"the InfluxDB 2 that {SHARED_URL} names is not ours to stop")
        return self._process

    def write_settings(self) -> dict[str, Any]:
        """An all-access token."""
        return {"url": self.url, "token": self.token, "org": self.org, "bucket": self.bucket, "api": "v2"}

    def query(self, flux: str) -> list[dict[str, str]]:
        """The rows of a Flux query, as its annotated CSV tells them."""
        headers = self._headers | {"Content-Type": "application/json", "Accept": "application/csv"}
        answer = fetch("POST", f"{self.url}/api/v2/query?org={self.org}", headers=headers, body=_annotated(flux))
        return parse_annotated_csv(answer.data.decode())

    def as_kept(self, point: Point) -> Point:
        """Everything."""
        return point

    def read_points(self, measurement: str) -> list[Point]:
        """All points of a measurement; strings and numbers are told apart by the CSV's datatype row."""
        flux = f'from(bucket: "{self.bucket}") |> range(start: 0, stop: 2200-01-01T00:00:00Z)'
        flux += f' |> filter(fn: (r) => r._measurement == "{measurement}")'
        points: dict[tuple[int, frozenset[tuple[str, str]]], dict[str, FieldValue]] = defaultdict(dict)
        for row in self.query(flux):
            tags = frozenset((k, v) for k, v in row.items() if _is_tag(k) and v)
            value = parse_flux_value(row["_value"], row["#datatype:_value"])
            points[rfc3339_to_ns(row["_time"]), tags][row["_field"]] = value
        return _in_order(Point(dict(tags), fields, ns) for (ns, tags), fields in points.items())


class _InfluxDB2Process(ServerProcess):
    program = "influxd"
    ready_path = "/health"

    def __init__(self, folder: Path | None = None) -> None:
        if influxdb2_program() is None:
            raise MissingServerError("influxd (version 2)")
        super().__init__(folder)

    def command(self) -> list[str]:
        """Everything in its folder, nothing reported."""
        return [
            f"--bolt-path={self.folder / 'influxd.bolt'}",
            f"--engine-path={self.folder / 'engine'}",
            f"--sqlite-path={self.folder / 'influxd.sqlite'}",
            f"--http-bind-address={LOOPBACK}:{self.port}",
            "--reporting-disabled",
        ]


def _annotated(flux: str) -> bytes:
    dialect = {"header": True, "annotations": ["datatype"], "delimiter": ","}
    return json.dumps({"query": flux, "type": "flux", "dialect": dialect}).encode()


def parse_annotated_csv(text: str) -> list[dict[str, str]]:
    """The rows of Flux' CSV tables; each column's datatype is added under `#datatype:COLUMN`."""
    rows: list[dict[str, str]] = []
    types: list[str] = []
    header: list[str] = []
    for cells in csv.reader(io.StringIO(text)):
        if not cells:
            header = []
        elif cells[0] == "#datatype":
            types, header = cells, []
        elif not header:
            header = cells
        else:
            kinds = {f"#datatype:{name}": kind for name, kind in zip(header, types, strict=False)}
            rows.append(kinds | dict(zip(header, cells, strict=False)))
    return rows


def parse_flux_value(text: str, datatype: str) -> FieldValue:
    """A cell as its datatype says."""
    if datatype == "double":
        return float(text)
    if datatype in {"long", "unsignedLong"}:
        return int(text)
    return text == "true" if datatype == "boolean" else text


def rfc3339_to_ns(text: str) -> int:
    """Nanoseconds since 1970; datetime itself would cut them to microseconds."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def _is_tag(column: str) -> bool:
    return not column.startswith(("_", "#")) and column not in {"", "result", "table"}


def _in_order(points: Any) -> list[Point]:
    return sorted(points, key=lambda point: (point.time_ns, sorted(point.tags.items())))


def wait_for_points(server: Any, measurement: str, count: int, timeout: float = HANGS_SECONDS) -> list[Point]:
    """The points of a measurement once there are at least `count`; TimeoutError otherwise."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: len(server.read_points(measurement)) >= count, "points", timeout, interval=0.05)
    points = server.read_points(measurement)
    if len(points) < count:
        raise TimeoutError(f"{len(points)} of {count} points of {measurement} after {timeout:g} s")
    return points
