"""The InfluxDB sink: lines to InfluxDB 1, 2 and 3, and to what speaks its protocol (VictoriaMetrics, Telegraf).

Sources: the write API references of InfluxDB OSS 1.8, 2.7 and 3, tried against the servers that the
tests start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from msgspec.structs import replace

from monitoring.metrics import catalogue
from monitoring.settings import InfluxDBConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.expiry import Expiry, of_token
from monitoring.transport.http import (
    HttpTransport,
    Response,
    Transport,
    basic_authorization,
    failure_detail,
    gzipped,
    retry_after_seconds,
)
from monitoring.transport.reasons import Action, detail, policy
from monitoring.transport.sinks import Delivery, Rejection

_REFUSED_THROUGHOUT = 8
_CREDENTIALS = re.compile(rb"auth token|unauthori[sz]ed", re.IGNORECASE)
# InfluxDB's own words are its verdict on the line, also where it takes no other. Anybody's may be about anything.
_BEYOND_RETENTION = b"partial write: points beyond retention policy"
_EXPIRED = re.compile(rb"retention|outside.{0,40}time range|too old", re.IGNORECASE)
_MALFORMED = re.compile(rb"unable to parse|invalid line protocol|malformed", re.IGNORECASE)
_CONFLICT = re.compile(
    rb"field type conflict: input field \\*\"?(?P<name>[^\"\\]+)|invalid column type for column '(?P<column>[^']+)"
)
_FIELDS = frozenset(metric.field for metric in catalogue.METRICS if metric.field)
_MISSING = re.compile(rb'"(?:error|message)"\s*:\s*"(bucket|organization|database)\b')
_MISSING_WORDS = {
    b"bucket": "the bucket does not exist",
    b"organization": "the organisation does not exist",
    b"database": "the database does not exist",
}
_NO_SUCH_PATH = re.compile(rb"unsupported path", re.IGNORECASE)  # VictoriaMetrics' 400
_VERSION = re.compile(r"v?(?P<number>(?P<major>[123])[\d.]{0,20}).{0,20}")
_CHECK = "check org, bucket and api"
_NO_SUCH_API = "this write API is not at this address; check url and api"


class InfluxClient:
    """Writes lines; keeps no state but its connection, and when what the last answer depended on ends."""

    expiry: Expiry | None = None

    def __init__(self, config: InfluxDBConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        self._url = write_url(config)
        self._headers = {"Content-Type": "text/plain; charset=utf-8", **authorization(config)}
        self._token_expiry = of_token(config.token.get_secret_value()) if config.token else {}

    @classmethod
    def open(cls, config: InfluxDBConfig, labels: Mapping[str, str]) -> InfluxClient:  # noqa: ARG003 - every client's
        """A client with a transport of its own; the labels are in the stored lines already."""
        return cls(config, HttpTransport(config.trust()))

    def send(self, lines: list[bytes], deadline: Deadline) -> Delivery:
        """See :class:`monitoring.transport.sinks.LineSink`."""
        # A stack of what is still to be sent: the whole first, then the halves of what was refused as a whole.
        outcome = _Outcome()
        waiting = [range(len(lines))]
        while waiting and outcome.error is None and not outcome.refused_throughout():
            part = waiting.pop()
            response = self._write(lines[part.start : part.stop], deadline)
            waiting += reversed(_judge(response, part, outcome))
        outcome.fail_unproven(response)
        return replace(outcome.delivery(), expiry=self.expiry)

    def close(self) -> None:
        """See :class:`monitoring.transport.sinks.LineSink`."""
        self._transport.close()

    def probe(self) -> str | None:
        """Why the server would not take lines, in a person's words; None when it would. Writes nothing.

        The server checks address, credentials and bucket before it looks for lines.
        """
        response = self._write([], Deadline.after(self._config.timeout))
        if is_about_credentials(response):
            return detail("unauthorized", response.status)
        if response.status in (200, 204):
            return None
        # Version 3, and nobody else, answers 400 to an empty body after all else was found to be right.
        if self._config.api == "v3" and response.status == 400 and not _NO_SUCH_PATH.search(response.body):
            return None
        if response.status == 404 and (other := self._other_version(response)):
            return f"HTTP 404: {other}"
        if response.status == 400:
            is_without_org = self._config.api == "v2" and not self._config.org
            return f"HTTP 400: the request is refused; {'org is not set' if is_without_org else _CHECK}"
        return _failure_detail(response)

    def _other_version(self, response: Response) -> str:
        """What to set where a server of another version answers; "" where it doesn't say so."""
        found = _VERSION.fullmatch(response.headers.get("x-influxdb-version", ""))
        if found is None or f"v{found['major']}" == self._config.api:
            return ""
        return f"the server is InfluxDB {found['number']}; set api to v{found['major']}"

    def _write(self, lines: list[bytes], deadline: Deadline) -> Response:
        body, encoding = gzipped(b"\n".join(lines))
        response = self._transport.request(
            "POST", self._url, {**self._headers, **encoding}, body, deadline.sooner(self._config.timeout)
        )
        if response.status is not None:
            self.expiry = {**response.expiry, **self._token_expiry}
        return response


class _Refusal(NamedTuple):
    reason: str
    cause: str
    is_certain: bool
    """Whether the line is refused, and not the request: the server's own words say so."""


class _Outcome:
    """A delivery while it grows."""

    def __init__(self) -> None:
        self.accepted: set[int] = set()
        self.rejected: dict[int, _Refusal] = {}
        self.error: str | None = None
        self.detail = ""
        self.retry_after: float | None = None

    def fail(self, reason: str, response: Response) -> None:
        self.error = reason
        self.detail = _failure_detail(response)
        self.retry_after = retry_after_seconds(response.headers.get("retry-after"))

    def refused_throughout(self) -> bool:
        """Whether so many lines stood alone and were refused, and none taken, that it can't be the lines."""
        return not self.accepted and self._refused() >= _REFUSED_THROUGHOUT

    def fail_unproven(self, response: Response) -> None:
        """Keep what was refused as long as no line was taken: the server may object to the request.

        A proxy answers 400 to a wrong token, and a server to a wrong organisation, whatever the lines are.
        """
        if self.error is None and not self.accepted and self._refused():
            self.rejected = {index: refusal for index, refusal in self.rejected.items() if refusal.is_certain}
            if is_about_credentials(response):
                self.fail("unauthorized", response)
                self.detail = detail("unauthorized", response.status, response.hint)
            else:
                self.fail("http_4xx", response)
                cause = _refusal(response, "").cause
                said = f": {cause}" if cause else f"; {_CHECK}"
                self.detail = f"HTTP {response.status}: every line is refused{said}"

    def _refused(self) -> int:
        return sum(not refusal.is_certain for refusal in self.rejected.values())

    def delivery(self) -> Delivery:
        rejected = tuple(
            Rejection(index, refusal.reason, refusal.cause) for index, refusal in sorted(self.rejected.items())
        )
        return Delivery(frozenset(self.accepted), rejected, self.error, self.detail, self.retry_after)


def _judge(response: Response, part: range, outcome: _Outcome) -> list[range]:
    """Note what an answer means for the lines of ``part``; returns the parts that are to be sent again."""
    if response.status is None:
        outcome.fail(response.error or "unreachable", response)
        return []
    meaning = policy(response.status)
    if meaning.action is Action.KEEP:
        outcome.fail(meaning.reason, response)
    elif meaning.action is Action.ACCEPT:
        outcome.accepted.update(part)
    elif len(part) > 1:
        middle = part.start + len(part) // 2
        # The newest line goes first: while nothing is accepted yet, it tells a bad request from bad lines.
        probe = [] if outcome.accepted else [range(part.stop - 1, part.stop)]
        return [*probe, range(part.start, middle), range(middle, part.stop)]
    else:
        outcome.rejected[part.start] = _refusal(response, meaning.reason)
    return []


def _refusal(response: Response, reason: str) -> _Refusal:
    """Why a line is refused, in the class of what the server says; of its text only a field's known name is kept."""
    body = response.body
    if conflict := _CONFLICT.search(body):
        field = (conflict["name"] or conflict["column"]).decode(errors="replace")
        return _Refusal(reason, f"type conflict in field {field}" if field in _FIELDS else "type conflict", False)
    if _BEYOND_RETENTION in body:
        return _Refusal("expired", "beyond retention", True)
    if _EXPIRED.search(body):
        return _Refusal("expired", "beyond retention", False)
    if response.status == 413:
        return _Refusal(reason, "too large", False)
    return _Refusal(reason, "malformed" if _MALFORMED.search(body) else "", False)


def _failure_detail(response: Response) -> str:
    """A failure in a person's words; of a 404 what it is that isn't there, where InfluxDB says it."""
    if response.status == 404:
        missing = _MISSING.search(response.body)
        words = _MISSING_WORDS[missing[1]] if missing else ""
        if response.body.strip() == b"404 page not found":  # the word of Go's library, in all versions
            words = _NO_SUCH_API
        if words:
            return f"HTTP 404: {words}"
    return failure_detail(response)


def is_about_credentials(response: Response) -> bool:
    """Whether a 400 is about the token after all, as a proxy's may be."""
    return response.status == 400 and _CREDENTIALS.search(response.body) is not None


def write_url(config: InfluxDBConfig) -> str:
    """The write endpoint of the configured version; never holds a secret."""
    path, parameters = {
        "v1": ("/write", {"db": config.bucket, "precision": "ns"}),
        "v2": ("/api/v2/write", {"org": config.org, "bucket": config.bucket, "precision": "ns"}),
        "v3": ("/api/v3/write_lp", {"db": config.bucket, "precision": "nanosecond"}),
    }[config.api]
    return f"{config.url}{path}?{urlencode(parameters, quote_via=quote)}"


def authorization(config: InfluxDBConfig) -> dict[str, str]:
    """The header that carries the credentials."""
    # A token wins over a user: version 1 has the latter alone, and its settings may still hold an old one.
    if config.token is not None:
        token = config.token.get_secret_value()
        user, colon, password = token.partition(":")
        if config.api == "v1" and colon:  # its tokens are user:password, and before 1.8 it takes them as Basic only
            return {"Authorization": basic_authorization(user, password)}
        scheme = "Bearer" if config.api == "v3" else "Token"
        return {"Authorization": f"{scheme} {token}"}
    if config.username is not None:
        password = config.password.get_secret_value() if config.password else ""
        return {"Authorization": basic_authorization(config.username, password)}
    return {}
