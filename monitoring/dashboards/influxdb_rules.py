"""The alert rules that points in InfluxDB can answer, for Grafana to evaluate: a site may have no Prometheus.

Each is one or two queries in InfluxQL, what is computed of their numbers, and a limit. Queries name the catalogue's
metrics, so that one without a place in InfluxDB fails when this is imported.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from promql_parser import parse_duration

from monitoring.dashboards.questions import COMMON_TAGS
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import DEFAULTS, Audience, Severity, Thresholds, filled, named
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import Metric

EXPRESSION = "__expr__"
"""What Grafana calls the data source of its own arithmetic."""


class InfluxdbRule(Struct, frozen=True, kw_only=True):
    """One rule: the ``number`` made of the queries (``$A``, ``$B``) is over the ``limit``, or under it.

    ``queries`` are each an InfluxQL statement and the span that it looks at; thresholds are named as in
    :class:`monitoring.dashboards.thresholds.Rule`. ``description`` is Grafana's template, the number is
    ``$values.N.Value``.
    """

    name: str
    severity: Severity
    audience: Audience
    queries: tuple[tuple[str, str], ...]
    number: str = "$A"
    limit: str
    is_under: bool = False
    fires_without_data: bool = False
    summary: str
    description: str

    @property
    def thresholds(self) -> tuple[str, ...]:
        """The thresholds that the declaration names, in its order."""
        return named(*(span for _, span in self.queries), self.number, self.limit, self.description)


def _select(aggregate: str, metric: Metric, *tags: str, condition: str = "") -> str:
    """``aggregate`` holds ``{}`` for the field; one series for each value of the tags."""
    if metric.measurement is None or metric.field is None:
        raise ValueError(f"{metric.name} has no place in InfluxDB")
    chosen = aggregate.replace("{}", f'"{metric.field}"')
    grouped = " GROUP BY " * bool(tags) + ", ".join(map('"{}"'.format, tags))
    return f'SELECT {chosen} FROM "{metric.measurement}" WHERE {condition}$timeFilter{grouped}'  # noqa: S608


def _fallen(metric: Metric, *tags: str) -> tuple[tuple[str, str], ...]:
    """A field's mean over a quarter of a year, and over the last week of it."""
    # The quarter holds the week as well: that makes the difference a little smaller, and the rule slower, never louder.
    query = _select("mean({})", metric, *COMMON_TAGS, *tags)
    return (query, "$comparison_window"), (query, "$failure_window")


def _chart_alarm(name: str) -> InfluxdbRule:
    """As Prometheus' rule says it; of charts that no look tells any more, the latest state grows old."""
    rule = next(rule for rule in RULES if rule.name == name)
    condition = f"\"audience\" = '{rule.audience}' AND "
    # The latest state within the span: a chart that is told no more leaves it, and its alert ends.
    query = _select("last({})", chart_metrics.STATE, *COMMON_TAGS, "chart", condition=condition)
    return InfluxdbRule(
        name=name,
        severity=rule.severity,
        audience=rule.audience,
        queries=((query, "$analysis_silence"),),
        number=f"$A == {chart_metrics.STATES.index('alarm')}",
        limit="0.5",
        summary=rule.summary,
        description=rule.description,
    )


def _ends(name: str, ends: Metric, told: Metric, span: str, left: str) -> InfluxdbRule:
    """As Prometheus' rule says it. InfluxQL knows no now: ``ends`` is compared with the instant ``told`` beside it."""
    rule = next(rule for rule in RULES if rule.name == name)
    queries = (
        # Both by the labels of their own: Grafana's arithmetic joins what has the labels in common.
        (_select("last({})", metric, *COMMON_TAGS, *(label.name for label in metric.labels)), span)
        for metric in (ends, told)
    )
    return InfluxdbRule(
        name=name,
        severity=rule.severity,
        audience=rule.audience,
        queries=(*queries,),
        number="$A - $B",
        limit=f"{left}_seconds",
        is_under=True,
        summary=rule.summary,
        description=rule.description.replace("$value | humanizeDuration", "humanizeDuration $values.N.Value"),
    )


_ENDED = catalogue.SESSION_ENDED

INFLUXDB_RULES: tuple[InfluxdbRule, ...] = (
    InfluxdbRule(
        name="LegLengthAllFail",
        severity="critical",
        audience="operator",
        queries=(
            (
                _select(f'sum({{}}) + sum("{_ENDED["crashed"].field}")', _ENDED["failed"], *COMMON_TAGS),
                "$all_fail_window",
            ),
            (_select("sum({})", _ENDED["completed"], *COMMON_TAGS), "$all_fail_window"),
        ),
        # A comparison is 0 or 1 there: the number is that of failures, or none.
        number="$A * ($B < 0.5)",
        limit="$failures - 0.5",
        summary="Every image fails.",
        description="{{ $values.N.Value }} images failed within $all_fail_window, and none succeeded.",
    ),
    InfluxdbRule(
        name="LegLengthNothingArrives",
        severity="warning",
        audience="operator",
        queries=((_select("count({})", catalogue.SESSION_DURATION), "$silence"),),
        limit="0.5",
        is_under=True,
        # An aggregate of nothing is no series: that no image came is that no number comes.
        fires_without_data=True,
        summary="No image arrives any more.",
        description="No image was processed for $silence, the longest ordinary pause, or InfluxDB gives no answer.",
    ),
    InfluxdbRule(
        name="LegLengthHardFinding",
        severity="warning",
        audience="clinical",
        queries=(
            (
                _select(
                    "count({})",
                    catalogue.FINDING["value"],
                    *COMMON_TAGS,
                    "rule",
                    condition="\"severity\" = 'hard' AND ",
                ),
                "$event_window",
            ),
        ),
        limit="0.5",
        summary="A measurement can't be right.",
        description="Findings of the rule {{ $labels.rule }} within $event_window: {{ $values.N.Value }}. A landmark, "
        "a side or the pixel spacing is wrong.",
    ),
    InfluxdbRule(
        name="LegLengthBias",
        severity="warning",
        audience="clinical",
        queries=(
            (_select("mean({})", catalogue.READING_ERROR, *COMMON_TAGS, "measurement"), "$comparison_window"),
            (_select("count({})", catalogue.READING_ERROR, *COMMON_TAGS, "measurement"), "$comparison_window"),
        ),
        number="abs($A) * ($B > $pairs - 0.5)",
        limit="$bias_mm",
        summary="Measurements differ from the readers' in one direction.",
        description="{{ $labels.measurement }} lies {{ $values.N.Value }} mm from the readers' on average.",
    ),
    _chart_alarm("LegLengthMeasurementsChanged"),
    _chart_alarm("LegLengthOperationChanged"),
    InfluxdbRule(
        name="LegLengthQualityFell",
        severity="warning",
        audience="clinical",
        queries=_fallen(catalogue.QUALITY),
        number="$A - $B",
        limit="$fall",
        summary="The quality of the measurements fell.",
        description="The mean quality of the images within $failure_window lies {{ $values.N.Value }} under that of "
        "$comparison_window.",
    ),
    InfluxdbRule(
        name="LegLengthConfidenceFell",
        severity="warning",
        audience="clinical",
        queries=_fallen(catalogue.MODEL_CONFIDENCE["average"], "model"),
        number="$A - $B",
        limit="$fall",
        summary="A model is less certain than it was.",
        description="The mean confidence of the model {{ $labels.model }} within $failure_window lies "
        "{{ $values.N.Value }} under that of $comparison_window.",
    ),
    InfluxdbRule(
        name="LegLengthDeadPoints",
        severity="warning",
        audience="operator",
        queries=((_select("last({})", catalogue.MONITORING_DEAD, *COMMON_TAGS, "backend"), "$failure_window"),),
        limit="0.5",
        summary="A backend refused points for good.",
        description="Points that {{ $labels.backend }} refused, kept aside: {{ $values.N.Value }}.",
    ),
    _ends(
        "LegLengthDiskFills", chart_metrics.DISK_FULL, chart_metrics.LAST_RUN, "$analysis_silence", "$disk_full",
    ),
    _ends(
        "LegLengthCertificateEnds", catalogue.CERTIFICATE_EXPIRY, catalogue.MONITORING_LAST_DELIVERY,
        "$failure_window", "$certificate_left",
    ),
)  # fmt: skip


def grafana_rules(
    datasource_uid: str, runbooks: str, thresholds: Thresholds = DEFAULTS, *, beside_prometheus: bool = False
) -> dict[str, Any]:
    """Grafana's provisioning file of alert rules, as a document; ``runbooks`` is the address of ``docs/alerts.md``.

    ``beside_prometheus``: only those that Prometheus' rules lack, so that nobody is told twice.
    """
    # By name: two rules of one name mean the same.
    told_already = {rule.name for rule in RULES if beside_prometheus}
    rules = [
        _grafana_rule(rule, datasource_uid, runbooks, thresholds)
        for rule in INFLUXDB_RULES
        if rule.name not in told_already
    ]
    group = {"orgId": 1, "name": "leglength-influxdb", "folder": "Leg length", "interval": "5m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def _grafana_rule(rule: InfluxdbRule, datasource_uid: str, runbooks: str, thresholds: Thresholds) -> dict[str, Any]:
    queries = []
    for letter, (influxql, span) in zip("AB", rule.queries, strict=False):
        seconds = parse_duration(filled(span, thresholds)).total_seconds()
        query = {
            "refId": f"{letter}_series", "query": influxql, "rawQuery": True, "resultFormat": "time_series",
            "datasource": {"type": "influxdb", "uid": datasource_uid},
        }  # fmt: skip
        queries.append(_step(query, datasource_uid, round(seconds)))
        # An aggregate over the whole range is one number: its last is it.
        queries.append(_step({"refId": letter, "type": "reduce", "expression": f"{letter}_series", "reducer": "last"}))
    # The limit is a number for Grafana: half numbers, as Prometheus' rules have them, are computed here.
    low, high = filled(rule.limit, thresholds).partition(" - ")[::2]
    evaluator = {"type": "lt" if rule.is_under else "gt", "params": [float(low) - float(high or 0)]}
    queries.append(_step({"refId": "N", "type": "math", "expression": filled(rule.number, thresholds)}))
    queries.append(
        _step({"refId": "FIRES", "type": "threshold", "expression": "N", "conditions": [{"evaluator": evaluator}]})
    )
    return {
        "uid": f"influxdb-{rule.name.lower()}",
        "title": rule.name,
        "condition": "FIRES",
        "for": "0s",
        # No data mostly means that nothing happened: no failure, no finding.
        "noDataState": "Alerting" if rule.fires_without_data else "OK",
        "execErrState": "Error",
        "data": queries,
        "labels": {"severity": rule.severity, "audience": rule.audience},
        "annotations": {
            "summary": rule.summary,
            "description": filled(rule.description, thresholds),
            "runbook_url": f"{runbooks}#{rule.name.lower()}",
        },
    }


def _step(model: dict[str, Any], uid: str = EXPRESSION, seconds: int = 0) -> dict[str, Any]:
    """A query, or a step of Grafana's own arithmetic."""
    own = {"datasource": {"type": EXPRESSION, "uid": EXPRESSION}} if uid == EXPRESSION else {}
    return {
        "refId": model["refId"], "datasourceUid": uid, "relativeTimeRange": {"from": seconds, "to": 0},
        "model": {**model, **own},
    }  # fmt: skip
