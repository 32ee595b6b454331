"""The Prometheus sinks: the stored totals to a Pushgateway, or to a file for node_exporter.

A Pushgateway keeps what it was told last and adds nothing up, so what is pushed are totals over all
runs, read from the store; a process that counted from 0 would set them back. prometheus-client makes
the exposition, the group's address and the file; this module gives it the stored values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, push_to_gateway, pushadd_to_gateway, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from monitoring.exceptions import ConfigurationError
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Metric
from monitoring.metrics.samples import bucket_part
from monitoring.settings import PrometheusConfig
from monitoring.transport.deadline import Deadline
from monitoring.transport.expiry import Expiry
from monitoring.transport.http import (
    HttpTransport,
    Response,
    Transport,
    basic_authorization,
    failure_detail,
    retry_after_seconds,
)
from monitoring.transport.reasons import detail, policy
from monitoring.transport.sinks import Delivery, Snapshot, Total


class StoredState:
    """A prometheus-client collector over the store's totals; each series gets ``labels`` beside its own."""

    def __init__(self, totals: Iterable[Total], labels: Mapping[str, str] | None = None) -> None:
        common = tuple((labels or {}).items())
        self._common = tuple(name for name, _ in common)
        self._rows = sorted(
            (replace(total, labels=(*total.labels, *common)) for total in totals),
            key=lambda total: (total.metric, total.labels),
        )

    def collect(self) -> Iterator[Family]:
        """One family per metric, in the order of names."""
        for name, rows in groupby(self._rows, key=lambda row: row.metric):
            metric = catalogue.BY_NAME.get(name)
            if metric is not None:  # a metric of an older version: kept in the store, no longer exported
                yield _family(metric, list(rows), self._common)


def _family(metric: Metric, rows: list[Total], common: tuple[str, ...]) -> Family:
    names = [*(label.name for label in metric.labels), *common]
    if metric.kind is Kind.HISTOGRAM:
        return _histogram(metric, names, rows)
    make: Any = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=names)
    for row in rows:
        family.add_metric(_label_values(names, row), row.value)
    return cast(Family, family)


def _histogram(metric: Metric, names: list[str], rows: list[Total]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=names)
    for _, series in groupby(rows, key=lambda row: row.labels):
        parts = list(series)
        values = {row.part: row.value for row in parts}
        bounds = [*metric.buckets, None]
        # Kept one by one in the store, so that a bucket added by a later version starts at 0 and the others stay.
        cumulative = accumulate(values.get(bucket_part(bound), 0.0) for bound in bounds)
        edges = ["+Inf" if bound is None else repr(bound) for bound in bounds]
        family.add_metric(
            _label_values(names, parts[0]),
            buckets=list(zip(edges, cumulative, strict=True)),
            sum_value=values.get("sum", 0.0),
        )
    return family


def _label_values(names: list[str], row: Total) -> list[str]:
    values = dict(row.labels)
    return [values.get(name, "") for name in names]


def _registry(snapshot: Snapshot, labels: Mapping[str, str] | None = None) -> CollectorRegistry:
    """All of the state; only its gauges when its counters don't hold all runs."""
    rows = snapshot.totals
    if not snapshot.counts_all_runs:
        rows = tuple(row for row in rows if (metric := catalogue.BY_NAME.get(row.metric)) and metric.kind is Kind.GAUGE)
    registry = CollectorRegistry()
    registry.register(StoredState(rows, labels))
    return registry


class PrometheusClient:
    """Tells a Pushgateway this instance's group, in one request; keeps when what the last answer depended on ends."""

    expiry: Expiry | None = None

    def __init__(self, config: PrometheusConfig, transport: Transport, group: Mapping[str, str]) -> None:
        """``group`` holds the group's labels beside the job."""
        self._config = config
        self._transport = transport
        self._group = dict(group)
        self._authorization = {}
        if config.username is not None:
            password = config.password.get_secret_value() if config.password else ""
            self._authorization["Authorization"] = basic_authorization(config.username, password)

    @classmethod
    def open(cls, config: PrometheusConfig, labels: Mapping[str, str]) -> PrometheusClient:
        """A client with a transport of its own; the labels name the group."""
        return cls(config, HttpTransport(config.trust()), labels)

    def probe(self) -> str | None:
        """Why the gateway would not take a push, in a person's words; None when it would. Pushes nothing."""
        deadline = Deadline.after(self._config.timeout)
        response = self._get("/-/ready", deadline)
        if response.status != 200:
            return failure_detail(response)
        response = self._get("/api/v1/status", deadline)  # a Prometheus is ready, too, and takes no push
        if response.status == 200 and b'"build_information"' in response.body:
            return None
        if self._get("/api/v1/status/buildinfo", deadline).status == 200:
            return "a Prometheus server or VictoriaMetrics answers there, and takes no push; a Pushgateway is meant"
        return f"what answers there is no Pushgateway: asked for its status, it says {failure_detail(response)}"

    def _get(self, path: str, deadline: Deadline) -> Response:
        url = f"{self._config.gateway_url}{path}"
        return self._ask("GET", url, self._authorization, b"", deadline)

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Response:
        response = self._transport.request(method, url, headers, body, deadline)
        if response.status is not None:
            self.expiry = response.expiry
        return response

    def send(self, snapshot: Snapshot, deadline: Deadline) -> Delivery:
        """See :class:`monitoring.transport.sinks.StateSink`."""
        answers: list[Response] = []
        # PUT replaces the group; POST leaves the counters alone that this state doesn't hold.
        push = push_to_gateway if snapshot.counts_all_runs else pushadd_to_gateway
        push(
            self._config.gateway_url or "",
            self._config.job_name,
            _registry(snapshot),
            grouping_key=self._group,
            handler=self._handler(answers, deadline.sooner(self._config.timeout)),
        )
        return replace(_judge(answers[0]), expiry=self.expiry)

    def close(self) -> None:
        """See :class:`monitoring.transport.sinks.StateSink`."""
        self._transport.close()

    def _handler(self, answers: list[Response], deadline: Deadline) -> Callable[..., Callable[[], None]]:
        """Let prometheus-client make the request, and our transport carry it."""

        # Its own request has no deadline, only a timeout for each read, and follows redirects.
        def handle(
            *, url: str, method: str, headers: list[tuple[str, str]], data: bytes, **_: Any
        ) -> Callable[[], None]:
            def carry() -> None:
                sent = {**dict(headers), **self._authorization}
                answers.append(self._ask(method, url, sent, data, deadline))

            return carry

        return handle


class TextfileClient:
    """Writes the exposition to a ``*.prom`` file, by rename, for node_exporter's textfile collector."""

    expiry: Expiry | None = None

    def __init__(self, path: Path, labels: Mapping[str, str] | None = None) -> None:
        """``labels`` are written to every series."""
        self._path = path
        self._labels = labels

    @classmethod
    def open(cls, config: PrometheusConfig, labels: Mapping[str, str]) -> TextfileClient:
        """A client for the settings' file; the instance is the one that the file's reader gives."""
        if config.textfile is None:
            raise ConfigurationError("prometheus.textfile is missing")
        return cls(config.textfile, {name: value for name, value in labels.items() if name != "instance"})

    def probe(self) -> str | None:
        """Why the file can't be written, in a person's words; None when it can, as far as can be told beforehand."""
        folder = next(parent for parent in self._path.parents if parent.exists())
        return None if folder.is_dir() and os.access(folder, os.W_OK) else "the folder can't be written"

    def send(self, snapshot: Snapshot, deadline: Deadline) -> Delivery:  # noqa: ARG002 - the sinks' signature
        """See :class:`monitoring.transport.sinks.StateSink`."""
        if not snapshot.counts_all_runs:
            return Delivery()  # the file keeps the totals that are in it
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), _registry(snapshot, self._labels))
        except OSError as error:
            return Delivery(error="unreachable", detail=f"can't write the textfile: {error.strerror}")
        return Delivery()

    def close(self) -> None:
        """Nothing is kept open."""


def _judge(response: Response) -> Delivery:
    # 202: a gateway whose consistency check is switched off; 204: a proxy in front that sees an empty body.
    if response.status in (200, 202, 204):
        return Delivery()
    reason = response.error or "unreachable"
    if response.status is not None:
        reason = policy(response.status).reason or "bad_answer"
        reason = "http_4xx" if reason == "rejected" else reason
    words = detail(reason, response.status, response.hint)
    return Delivery(
        error=reason, detail=words, retry_after_seconds=retry_after_seconds(response.headers.get("retry-after"))
    )
