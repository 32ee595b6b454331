"""The catalogue keeps Prometheus' and InfluxDB's rules, so that no metric has to be renamed later."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import METRICS, Kind, Metric
from monitoring.metrics.line_protocol import Point, encode
from monitoring.metrics.samples import bucket_part
from monitoring.prometheus_client import StoredState
from monitoring.records.session_record import STATUSES
from monitoring.transport.sinks import Total
from tests.support.cases import for_each
from tests.support.clocks import HANGS_SECONDS
from tests.support.servers import require

EVERY = for_each("metric", METRICS, named=lambda metric: metric.name)
UNITS = {"s": "seconds", "mm": "millimeters", "bytes": "bytes", "ratio": "ratio", "1/h": "per_hour"}
# A machine has the GPUs that it has; each way to fail and each rule is worth an alert of its own; a score, a finding's
# subject, a label, a unit or a refused value is one of those that the code itself lists: bounded, if more than ten.
BOUNDED_BUT_LONG = {"gpu", "label", "reason", "rule", "score", "subject", "unit", "value"}
MOST_OPEN = 64
MOST_CHARTS = 128  # a chart's name holds a model and a bone: two labels in one


class Everything:
    """A collector over every metric of the catalogue, as the store's rows would give it."""

    def collect(self) -> list[object]:
        return list(StoredState(_rows()).collect())


def _rows() -> list[Total]:
    rows = []
    for metric in METRICS:
        for labels in list(metric.known_series()) or [{label.name: "x" for label in metric.labels}]:
            key = tuple(labels.items())
            if metric.kind is Kind.HISTOGRAM:
                rows += [
                    Total(metric.name, key, bucket_part(metric.buckets[0]), 1.0),
                    Total(metric.name, key, "sum", 0.5),
                ]
            else:
                rows.append(Total(metric.name, key, "", 1.0))
    return rows


@EVERY
def test_a_metrics_name_follows_prometheus_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"leglength_[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert not metric.name.endswith(("_sum", "_count", "_bucket", "_created"))
    # An info metric says what is there: its value is 1, and of a thing one series alone.
    assert metric.name.endswith("_info") == (metric.one_per is not None)
    assert metric.one_per is None or set(metric.one_per) < set(metric.labels)


@EVERY
def test_a_metrics_unit_is_in_its_name(metric: Metric) -> None:
    if metric.unit in UNITS:
        assert UNITS[metric.unit] in metric.name.removesuffix("_total")
        assert metric.name.removesuffix("_total").endswith(UNITS[metric.unit])
    else:
        assert metric.unit in {"1", "as reported", "the rule's own", "the label's"}


@EVERY
def test_a_metric_is_explained_in_one_line(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert "\n" not in metric.help
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.source


@EVERY
def test_no_label_can_hold_an_identity_and_each_is_bounded(metric: Metric) -> None:
    for label in metric.labels:
        assert re.fullmatch(r"[a-z_]+", label.name)
        assert not re.search("session|series|study|patient|uid|accession", label.name)
        assert label.name not in {"job", "instance", "le", "quantile", "time"}
        assert len(set(label.values)) == len(label.values)
        if label.closed:
            assert label.limit == 0
            assert len(label.values) < 10 or label.name in BOUNDED_BUT_LONG
        else:
            assert 0 < label.limit <= (MOST_CHARTS if label.name == "chart" else MOST_OPEN)


@EVERY
def test_a_place_in_influxdb_is_whole_and_can_be_written(metric: Metric) -> None:
    assert (metric.measurement is None) == (metric.field is None)
    if metric.measurement and metric.field:
        assert metric.measurement.startswith("leglength_")
        assert encode(Point(metric.measurement, {label.name: "x" for label in metric.labels}, {metric.field: 1.0}))


def test_no_two_metrics_share_a_name_or_a_place() -> None:
    assert [name for name, count in Counter(metric.name for metric in METRICS).items() if count > 1] == []
    places = Counter((metric.measurement, metric.field) for metric in METRICS if metric.measurement)
    assert [place for place, count in places.items() if count > 1] == []
    assert {metric.name: metric for metric in METRICS} == catalogue.BY_NAME


def test_metrics_of_one_influxdb_measurement_have_the_same_tags() -> None:
    tags: dict[str, set[tuple[str, ...]]] = {}
    for metric in METRICS:
        if metric.measurement:
            labels = dict.fromkeys((*metric.labels, *catalogue.EXTRA_TAGS.get(metric.measurement, ())))
            tags.setdefault(metric.measurement, set()).add(tuple(label.name for label in labels))
    assert {measurement: found for measurement, found in tags.items() if len(found) > 1} == {}


def test_no_tag_has_the_name_of_a_field_beside_it() -> None:
    fields = {(metric.measurement, metric.field) for metric in METRICS}
    for metric in METRICS:
        for label in metric.labels:
            assert (metric.measurement, label.name) not in fields


def test_every_metric_that_is_declared_is_in_the_list() -> None:
    values = [*vars(catalogue).values(), *vars(chart_metrics).values()]
    declared = {value.name for value in values if isinstance(value, Metric)}
    tables = [value for value in values if isinstance(value, dict) and value != catalogue.BY_NAME]
    declared |= {item.name for table in tables for item in table.values() if isinstance(item, Metric)}
    assert declared == {metric.name for metric in METRICS}


def test_histograms_have_rising_buckets_and_nothing_else_has_any() -> None:
    for metric in METRICS:
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_the_names_that_others_rely_on_are_there() -> None:
    relied_on = {
        "leglength_sessions_total": ("status",),
        "leglength_measurement_millimeters": ("measurement",),
        "leglength_stage_duration_seconds": ("stage",),
        "leglength_last_success_timestamp_seconds": (),
        "leglength_monitoring_pending_points": ("backend",),
    }
    assert {
        name: tuple(label.name for label in catalogue.BY_NAME[name].labels) for name in relied_on
    } == relied_on  # fmt: skip
    assert [series["status"] for series in catalogue.SESSIONS.known_series()] == list(STATUSES)
    assert catalogue.STAGE_DURATION.kind is Kind.HISTOGRAM


def test_known_series_are_every_combination_of_known_values() -> None:
    assert list(catalogue.LAST_RUN.known_series()) == [{}]
    assert list(catalogue.MODEL_LANDMARKS.known_series()) == []
    assert len(list(catalogue.FINDINGS.known_series())) == len(catalogue.RULE.values) * 3
    failures = list(catalogue.MONITORING_FAILURES.known_series())
    assert len(failures) == len(catalogue.BACKENDS) * len(catalogue.DELIVERY_FAILURE.values)


def test_the_exposition_of_every_metric_is_read_back_by_prometheus_own_parser() -> None:
    families = {family.name: family for family in text_string_to_metric_families(_exposition())}
    assert set(families) == {metric.name.removesuffix("_total") for metric in METRICS}
    assert families["leglength_sessions"].type == "counter"
    assert families["leglength_stage_duration_seconds"].type == "histogram"


@pytest.mark.servers
def test_promtool_has_nothing_against_the_exposition_but_millimetres() -> None:
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=_exposition(),
        capture_output=True,
        text=True,
        timeout=HANGS_SECONDS,
        check=False,
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "millimeters" not in line]
    assert complaints == []
    assert done.returncode in (0, 3)  # 3: has read everything, and has advice to give


def _exposition() -> str:
    return generate_latest(Everything()).decode()  # type: ignore[arg-type]
