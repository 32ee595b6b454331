"""What InfluxDB 2's API documents of the requests that the test support makes, held to the letter; nothing more.

InfluxDB 2 is in none of Debian's packages. So that its contract tests are no surprise where there is one, what they ask
of it is asked of this first: buckets, a write of lines, and a query that is read as its content type says
(https://docs.influxdata.com/influxdb/v2/api/, PostQuery: `application/json` is an object with `query`,
`application/vnd.flux` is Flux alone). It shows the requests' form; that the module works with InfluxDB 2 it can't show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.support.faults import Exchange, FaultServer, Request, respond

TOKEN = "stand-in-token"
ORG = "hospital"
_FLUX = re.compile(
    r'from\(bucket: "(?P<bucket>[^"]+)"\) \|> range\(start: 0, stop: \S+\)'
    r' \|> filter\(fn: \(r\) => r\._measurement == "(?P<measurement>[^"]+)"\)'
)
_FIELD_TYPES = {"i": "long", '"': "string"}
Answer = tuple[int, dict[str, Any] | str]


class InfluxDB2StandIn:
    """Serves on loopback; `buckets` holds the lines that were written to each."""

    def __init__(self) -> None:
        self.buckets: dict[str, list[str]] = {}
        self._server = FaultServer()
        self._server.then = self._serve
        self.url = self._server.url

    def __enter__(self) -> InfluxDB2StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self, exchange: Exchange) -> None:
        status, body = self._answer(exchange.request)
        respond(status, body)(exchange)

    def _answer(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Token {TOKEN}":
            return 401, {"code": "unauthorized"}
        kind, _, name = request.path.removeprefix("/api/v2/").partition("/")
        calls: dict[tuple[str, str], Callable[[Request, str], Answer]] = {
            ("GET", "orgs"): lambda *_: (200, {"orgs": [{"id": "org-id", "name": ORG}]}),
            ("POST", "buckets"): self._create,
            ("DELETE", "buckets"): self._delete,
            ("POST", "write"): self._write,
            ("POST", "query"): self._query,
        }
        call = calls.get((request.method, kind))
        return call(request, name) if call else (404, {"code": "not found"})

    def _create(self, request: Request, _: str) -> Answer:
        form = request.json()
        if form["orgID"] != "org-id" or form["name"] in self.buckets:
            return 422, {"code": "conflict"}
        self.buckets[form["name"]] = []
        return 201, {"id": form["name"]}

    def _delete(self, _: Request, name: str) -> Answer:
        return (204, "") if self.buckets.pop(name, None) is not None else (404, {"code": "not found"})

    def _write(self, request: Request, _: str) -> Answer:
        if request.query.get("org") != ORG or request.query.get("bucket") not in self.buckets:
            return 404, {"code": "not found"}
        self.buckets[request.query["bucket"]] += request.lines
        return 204, ""

    def _query(self, request: Request, _: str) -> Answer:
        kind = request.headers.get("Content-Type", "").partition(";")[0]
        if kind == "application/json":
            flux, dialect = request.json()["query"], request.json().get("dialect", {})
        elif kind == "application/vnd.flux":
            flux, dialect = request.text, {}
        else:
            return 415, {"code": "unsupported media type"}
        asked = _FLUX.fullmatch(flux)
        if asked is None:
            return 400, {"code": "invalid", "message": "compilation failed: no such Flux here"}
        if asked["bucket"] not in self.buckets:
            return 404, {"code": "not found"}
        points = [_point(line) for line in self.buckets[asked["bucket"]]]
        has_types = "datatype" in dialect.get("annotations", ())
        return 200, "".join(_table(*point, has_types) for point in points if point[0] == asked["measurement"])


def _point(line: str) -> tuple[str, dict[str, str], dict[str, str], int]:
    """Measurement, tags, fields as written, and time, of a line without escapes and blanks."""
    key, fields, time_ns = line.split(" ")
    measurement, *tags = key.split(",")
    pairs: Callable[[list[str]], dict[str, str]] = lambda texts: dict(text.split("=", 1) for text in texts)  # noqa: E731
    return measurement, pairs(tags), pairs(fields.split(",")), int(time_ns)


def _table(measurement: str, tags: dict[str, str], fields: dict[str, str], time_ns: int, has_types: bool) -> str:
    text = ""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for name, value in fields.items():
        kind = "boolean" if value in {"true", "false"} else _FIELD_TYPES.get(value[-1], "double")
        types = ["string", "long", "dateTime:RFC3339", kind, *["string"] * (2 + len(tags))]
        header = ["result", "table", "_time", "_value", "_field", "_measurement", *tags]
        shown = json.loads(value) if kind == "string" else value.removesuffix("i")
        cells = ["", "0", f"{moment}.{time_ns % 1_000_000_000:09}Z", shown, name, measurement, *tags.values()]
        rows = ([["#datatype", *types]] if has_types else []) + [["", *header], ["", *cells]]
        text += "".join(",".join(row) + "\r\n" for row in rows) + "\r\n"
    return text
