"""Every query of every panel that asks for totals, in a real Prometheus whose past is made of known sessions.

What is expected is stated here once more for each panel, of the sessions: which count, in which window, by what.
The past is told each hour and at each session; half-way one instance has a new store.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isclose
from typing import Any, NamedTuple

import pytest

from monitoring.analytics.replay import totals_over_time
from monitoring.cli.common import store_to_import_into
from monitoring.config_validator import check_section
from monitoring.dashboards.measurements import MEASUREMENT_PAGE
from monitoring.dashboards.panels import Totals
from monitoring.dashboards.rendering import render
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import SYSTEM, VALIDATION, Kind, Metric
from monitoring.metrics.chart_metrics import STATES
from monitoring.metrics.kinds import ANALYSIS_MEASUREMENTS, OWN_MEASUREMENTS
from monitoring.metrics.samples import bucket_part, zero_changes
from simulation import prometheus_past
from simulation.prometheus_past import PROMTOOL_PAST, write_openmetrics, write_samples
from tests.dashboards.known_site import (
    DAY_MS,
    SITES,
    Asked,
    Instance,
    KnownSite,
    asked,
    own_state,
    promql,
    steps,
    told_by_charts,
    two_instances,
)
from tests.support.history import History
from tests.support.servers import Prometheus, fetch, promtool

pytestmark = pytest.mark.servers
HOUR_MS = 3_600_000
Found = dict[frozenset[tuple[str, str]], float]


class Step(NamedTuple):
    """By how much a total grew or what a gauge became at an instant.

    ``store``: how many stores the instance had had before; -1 of what isn't of a store.
    """

    at_ms: int
    labels: Mapping[str, str]
    part: str
    value: float
    store: int = 0


@dataclass
class Truth:
    """What each instance's sessions did to each metric, in the order of time."""

    site: KnownSite
    new_store_ms: int
    grown: dict[str, list[Step]] = field(default_factory=dict)
    became: dict[str, list[Step]] = field(default_factory=dict)
    chosen: dict[tuple[Any, ...], list[tuple[frozenset[tuple[str, str]], Step]]] = field(default_factory=dict)
    """What became of the series that were asked for, by metric and labels, once everything is known."""

    @property
    def end_ms(self) -> int:
        return self.site.end_ms

    def growth(
        self, metric: Metric, by: str, since_ms: int, until_ms: int, part: str = "", /, **where: str | tuple[str, ...]
    ) -> Found:
        """By how much it grew in a window."""
        found: Found = {}
        for one in self.grown[metric.name]:
            if one.part != part or not _matches(one.labels, where):
                continue
            if until_ms < one.at_ms:
                break
            if since_ms < one.at_ms:
                key = _key(one.labels, by)
                found[key] = found.get(key, 0.0) + one.value
        return found

    def values(self, metric: Metric, at_ms: int, **where: str) -> list[tuple[Mapping[str, str], float]]:
        """What each series was then."""
        place = metric.name, *where.items()
        if place not in self.chosen:
            steps = [one for one in self.became[metric.name] if _matches(one.labels, where)]
            self.chosen[place] = [(frozenset(one.labels.items()), one) for one in steps]
        latest = {labels: one for labels, one in self.chosen[place] if one.at_ms <= at_ms}
        begins_anew = self.site.instances[0].instance if at_ms >= self.new_store_ms else ""
        known = [one for one in latest.values() if one.store != 0 or one.labels["instance"] != begins_anew]
        return [(one.labels, one.value) for one in known]

    def largest(self, metric: Metric, by: str, at_ms: int, **where: str) -> Found:
        found: Found = {}
        for labels, value in self.values(metric, at_ms, **where):
            key = _key(labels, by)
            found[key] = max(found.get(key, -inf), value)
        return found

    def summed(self, metric: Metric, by: str, at_ms: int) -> Found:
        found: Found = {}
        for labels, value in self.values(metric, at_ms):
            key = _key(labels, by)
            found[key] = found.get(key, 0.0) + value
        return found


def _matches(labels: Mapping[str, str], where: Mapping[str, str | tuple[str, ...]]) -> bool:
    return all(labels.get(name, "") in ((value,) if isinstance(value, str) else value) for name, value in where.items())


def _key(labels: Mapping[str, str], by: str) -> frozenset[tuple[str, str]]:
    return frozenset((name, labels[name]) for name in by.split() if labels.get(name))


# --- the past -----------------------------------------------------------------------------------

ALERTS = (
    {"alertname": "LegLengthHeartbeat", "severity": "none", "audience": "operator"},
    {"alertname": "LegLengthDead", "severity": "warning", "audience": "operator", "instance": "simulated-1",
     "job": "simulated", "application": "simulated"},
)  # fmt: skip
FAULTS = (
    (catalogue.REFUSED, {"value": "name"}), (catalogue.FOLDED, {"label": "model"}), (catalogue.FORMULA_FAILURES, {}),
)  # fmt: skip
"""What a healthy site has none of; here the first instance gets one on every tenth day."""


@pytest.fixture(scope="module")
def truth(
    history: History, simulated: Callable[..., History], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Truth, Prometheus]]:
    folder = tmp_path_factory.mktemp("totals")
    end_ms = round(history.plan.now.timestamp() * 1000)
    instances = two_instances(history, simulated)
    new_store_ns = history.plan.events()["new_store_ns"]
    found = Truth(KnownSite(instances, [], end_ms - 57 * DAY_MS - 7 * HOUR_MS, end_ms), new_store_ns // 1_000_000)
    samples: dict[str, list[tuple[int, float]]] = {}
    with pytest.MonkeyPatch.context() as patched:
        gauges = {metric.name for metric in catalogue.METRICS if metric.kind is Kind.GAUGE and metric.is_pushed}
        patched.setattr(prometheus_past, "STATE_GAUGES", gauges)
        patched.setattr(prometheus_past, "looks_over_time", lambda *_: ())  # what charts say is invented below
        patched.setattr(prometheus_past, "write_samples", lambda _, made: samples.update(made))
        for number, one in enumerate(instances):
            checked = check_section(one.section(folder / one.instance, {"url": "http://127.0.0.1:1", "bucket": "b"}))
            stood: dict[Any, float] = {}
            spans = [(0, new_store_ns), (new_store_ns, 2**62)] if number == 0 else [(0, 2**62)]
            with store_to_import_into(checked.config) as (store, build):
                for record in one.records:
                    assert store.commit(record, build)
                until_ns = (end_ms + HOUR_MS) * 1_000_000
                write_openmetrics(folder / "-", store, one.labels, until_ns, new_store_ns if number == 0 else None)
                for since_ns, before_ns in spans:
                    learn(found, one, totals_over_time(store, since_ns, before_ns), stood, is_new=since_ns > 0)
    invent(found, samples)
    for steps_of in (*found.grown.values(), *found.became.values()):
        steps_of.sort(key=lambda step: step.at_ms)
    write_samples(folder / "past.txt", samples)
    promtool(*PROMTOOL_PAST, str(folder / "past.txt"), str(folder / "data"))
    with Prometheus(folder=folder) as server:
        yield found, server


def learn(truth: Truth, one: Instance, moments: Iterable[Any], stood: dict[Any, float], *, is_new: bool) -> None:
    """What the sessions did, as the replay of the totals tells it; ``stood`` is where the store before had left them.

    A series that isn't known beforehand begins with its first event: in the first store that one is missed, and in a
    new one as much of it as takes it to where the earlier store's total stood.
    """
    before: dict[Any, float] = {}
    known = {(change.metric, frozenset(change.labels.items())) for change in zero_changes()}
    for moment in moments:
        for change in moment.changed:
            place = (change.metric, frozenset(change.labels.items()), change.part)
            step = Step(
                moment.at_ns // 1_000_000, {**change.labels, **one.labels}, change.part, change.value, int(is_new)
            )
            truth.became.setdefault(change.metric, []).append(step)
            if catalogue.BY_NAME[change.metric].kind is not Kind.GAUGE:
                grew = change.value - before.get(place, 0.0)
                if place[:2] not in known:
                    is_part = catalogue.BY_NAME[change.metric].kind is Kind.HISTOGRAM
                    was_known = place[:2] in {each[:2] for each in stood}
                    grew = seen_of_a_first(change.value, None if is_part else stood.get(place), was_known)
                before[place] = change.value
                truth.grown.setdefault(change.metric, []).append(step._replace(value=grew))
        known |= {(change.metric, frozenset(change.labels.items())) for change in moment.changed}
    stood.update(before)


def seen_of_a_first(value: float, stood: float | None, was_known: bool) -> float:
    """How much `increase` sees of a series' first event: of a histogram, a new store's first is always seen."""
    if stood is None:
        return value if was_known else 0.0
    return value - stood if value >= stood else value


def invent(truth: Truth, samples: dict[str, list[tuple[int, float]]]) -> None:
    """What no session says: of the monitoring itself, of readers, of faults, and of alerts; told each hour."""
    hours = range(truth.site.start_ms, truth.end_ms + HOUR_MS, HOUR_MS)
    for metric, told in invented(truth):
        truth.became[metric.name] = told
        of_series: dict[str, list[Step]] = {}
        for step in told:
            of_series.setdefault(series_of(metric.name, step.labels), []).append(step)
        for series, its in of_series.items():
            times = [step.at_ms for step in its]
            values = [0.0, *(step.value for step in its)]
            is_there = 0 if metric.kind is Kind.COUNTER else times[0]
            samples[series] = [(ms, values[bisect_right(times, ms)]) for ms in hours if ms >= is_there]
            if metric.kind is Kind.COUNTER:
                grew = [now - before if now >= before else now for before, now in pairwise(values)]
                steps_up = [step._replace(value=value) for step, value in zip(its, grew, strict=True)]
                truth.grown[metric.name] = [*truth.grown.get(metric.name, ()), *steps_up]
    for labels in ALERTS:
        samples[series_of("ALERTS", {**labels, "alertstate": "firing"})] = [(ms, 1.0) for ms in hours]


def invented(truth: Truth) -> Iterator[tuple[Metric, list[Step]]]:
    """Each metric's values in the order of time, day by day."""
    days_ms = [truth.end_ms - day * DAY_MS for day in range(56, 0, -1)]
    own = [
        (one, timed)
        for one in truth.site.instances
        for said in (own_state, told_by_charts)
        for timed in said(one.labels, [ms * 1_000_000 for ms in days_ms])
    ]
    for metric in catalogue.METRICS:
        if metric.measurement in (*OWN_MEASUREMENTS, *ANALYSIS_MEASUREMENTS) and metric.is_pushed:
            labels = {"instance", "application", *(label.name for label in metric.labels)}
            yield (
                metric,
                [
                    _told(
                        timed.time_ns // 1_000_000,
                        {name: tag for name, tag in timed.point.tags.items() if name in labels}
                        | {"job": one.application},
                        float(timed.point.fields[metric.field or ""]),
                    )
                    for one, timed in own
                    if timed.point.measurement == metric.measurement and metric.field in timed.point.fields
                ],
            )
    first = truth.site.instances[0].labels
    for number, metric in enumerate(VALIDATION.values(), start=1):
        yield (
            metric,
            [
                _told(at_ms, {**first, **labels}, number + order + day / 100)
                for day, at_ms in enumerate(days_ms)
                for order, labels in enumerate(metric.known_series())
            ],
        )
    for metric, labels in FAULTS:
        truth.grown.pop(metric.name, None)
        yield (
            metric,
            [_told(at_ms, {**first, **labels}, number) for number, at_ms in enumerate(days_ms[5::10], start=1)],
        )


def _told(at_ms: int, labels: Mapping[str, str], value: float) -> Step:
    return Step(at_ms, labels, "", value, store=-1)


def series_of(name: str, labels: Mapping[str, str]) -> str:
    """As the past's other series are written."""
    kept = {key: value for key, value in labels.items() if key not in ("job", "instance", "application")}
    group = {key: labels[key] for key in ("application", "instance", "job") if key in labels}
    pairs = [f'{key}="{value}"' for part in (kept, group) for key, value in sorted(part.items())]
    return f"{name}{{{','.join(pairs)}}}"


# --- what each panel should say -----------------------------------------------------------------

Expected = Callable[[Truth, int], Found]
"""What a query gives at an instant, in ms."""


def growth(metric: Metric, by: str = "", window: str = "range", part: str = "", /, **where: Any) -> Expected:
    """A count over the page's range, or over the day, the week (of Monday) or the four weeks that begin then."""

    def of(truth: Truth, at_ms: int) -> Found:
        since, until = {
            "range": (truth.site.start_ms, truth.end_ms),
            "day": (at_ms, at_ms + DAY_MS),
            "week": (at_ms - 3 * DAY_MS, at_ms + 4 * DAY_MS),
            "four weeks": (at_ms - 24 * DAY_MS, at_ms + 4 * DAY_MS),
        }[window]
        return truth.growth(metric, by, since, until, part, **where)

    return of


def latest(metric: Metric, by: str = "", /, **where: str) -> Expected:
    return lambda truth, at_ms: truth.largest(metric, by, at_ms, **where)


def totals(metric: Metric, by: str) -> Expected:
    return lambda truth, at_ms: positive(truth.summed(metric, by, at_ms))


def positive(found: Found) -> Found:
    return {key: value for key, value in found.items() if value > 0}


def some(of: Expected) -> Expected:
    """Without those that are 0."""
    return lambda truth, at_ms: positive(of(truth, at_ms))


def since(metric: Metric, by: str = "") -> Expected:
    """How long ago the latest instant was."""
    return lambda truth, at_ms: {key: at_ms / 1000 - value for key, value in truth.largest(metric, by, at_ms).items()}


def days_left(metric: Metric, by: str) -> Expected:
    """Until the soonest of the instants; 0 of one that has passed."""

    def found(truth: Truth, at_ms: int) -> Found:
        left: Found = {}
        for labels, value in truth.values(metric, at_ms):
            key = _key(labels, by)
            left[key] = min(left.get(key, inf), max(0.0, (value - at_ms / 1000) / 86400))
        return left

    return found


def constant(value: float) -> Expected:
    return lambda truth, at_ms: {frozenset(): value}


def share(of: Expected, whole: Expected) -> Expected:
    def found(truth: Truth, at_ms: int) -> Found:
        (counts, wholes) = (each(truth, at_ms) for each in (of, whole))
        shares = {}
        for key, count in counts.items():
            total = next((value for other, value in wholes.items() if other <= key), 0.0)
            if total:
                shares[key] = count / total
        return shares

    return found


def less(of: Expected, other: Expected) -> Expected:
    def found(truth: Truth, at_ms: int) -> Found:
        taken = other(truth, at_ms)
        return {key: value - taken.get(key, 0.0) for key, value in of(truth, at_ms).items()}

    return found


def waits(by: str = "") -> Expected:
    """What was told at the latest push and the time since, of what waits; 0 where nothing does."""

    def found(truth: Truth, at_ms: int) -> Found:
        pushed = {labels["instance"]: value for labels, value in truth.values(catalogue.LAST_RUN, at_ms)}
        longest: Found = {}
        pending = {json.dumps(labels): value for labels, value in truth.values(catalogue.MONITORING_PENDING, at_ms)}
        for labels, value in truth.values(catalogue.MONITORING_OLDEST, at_ms):
            if pending[json.dumps(labels)] > 0:
                key = _key(labels, by)
                longest[key] = max(
                    longest.get(key, 0.0),
                    value + (at_ms / 1000 - pushed[labels["instance"]] if labels["instance"] in pushed else 0.0),
                )
        return longest

    return found


def of_parts(metric: Metric, by: str, window: str, bounds: Sequence[float | None]) -> Expected:
    """A histogram's observations within some of its buckets."""

    def found(truth: Truth, at_ms: int) -> Found:
        counts: Found = {}
        for bound in bounds:
            for key, value in growth(metric, by, window, bucket_part(bound))(truth, at_ms).items():
                counts[key] = counts.get(key, 0.0) + value
        return counts

    return found


def within_30(truth: Truth, at_ms: int) -> Found:
    bounds = [bound for bound in catalogue.STAGE_BUCKETS if bound <= 30]
    return of_parts(catalogue.SESSION_DURATION, "", "week", bounds)(truth, at_ms)


def inferences(by: str) -> Expected:
    return of_parts(catalogue.MODEL_INFERENCE, by, "range", [*catalogue.STAGE_BUCKETS, None])


def in_use(metric: Metric, by: str, one_per: str) -> Expected:
    """1 for the latest version of each instance, and of each of its models."""

    def found(truth: Truth, at_ms: int) -> Found:
        newest = {
            _key(step.labels, f"instance {one_per}"): step for step in truth.became[metric.name] if step.at_ms <= at_ms
        }
        return {_key(step.labels, by): 1.0 for step in newest.values()}

    return found


SIDE_BY_SIDE = "job instance"
_BACK, _FAIL, _DROP = catalogue.MONITORING_PENDING, catalogue.MONITORING_FAILURES, catalogue.MONITORING_DROPPED
ENDED = ("completed", "failed", "crashed")
PANELS: dict[tuple[str, int, str], Expected] = {
    ("operation", 1, "A"): constant(1),
    ("operation", 2, "A"): lambda truth, at: {_key(ALERTS[1], "alertname severity instance"): 2.0},
    ("operation", 3, "A"): since(catalogue.LAST_SUCCESS),
    ("operation", 4, "A"): since(catalogue.LAST_RUN),
    ("operation", 5, "A"): growth(catalogue.SESSIONS, "status"),
    ("operation", 6, "A"): share(
        growth(catalogue.SESSIONS, status=("failed", "crashed")), growth(catalogue.SESSIONS, status=ENDED)
    ),
    ("operation", 7, "A"): waits(),
    ("operation", 8, "A"): latest(catalogue.OLDEST_OPEN_SESSION),
    ("operation", 10, "A"): growth(catalogue.SESSIONS, "status", "day"),
    ("operation", 20, "A"): some(growth(catalogue.STOPS, "status stage reason", "week")),
    ("operation", 21, "A"): totals(catalogue.STOP_CODES, "code"),
    ("operation", 22, "A"): totals(catalogue.HOST_ISSUES, "issue"),
    ("operation", 31, "A"): share(within_30, growth(catalogue.SESSIONS, "", "week")),
    ("operation", 40, "A"): latest(SYSTEM["process_resident_memory_peak_bytes", "maximum"]),
    ("operation", 40, "B"): latest(SYSTEM["container_memory_limit_bytes", "maximum"]),
    ("operation", 40, "C"): latest(SYSTEM["container_memory_used_bytes", "maximum"]),
    ("operation", 40, "D"): latest(SYSTEM["system_memory_available_bytes", "minimum"]),
    ("operation", 41, "A"): latest(SYSTEM["process_cpu_ratio", "average"]),
    ("operation", 41, "B"): latest(SYSTEM["container_cpu_limit_processors", "maximum"]),
    ("operation", 41, "C"): latest(SYSTEM["container_cpu_ratio", "average"]),
    ("operation", 42, "A"): latest(SYSTEM["gpu_memory_used_bytes", "maximum"], "gpu"),
    ("operation", 43, "A"): latest(SYSTEM["gpu_utilization_ratio", "average"], "gpu"),
    ("operation", 44, "A"): latest(SYSTEM["disk_free_bytes", "minimum"], "volume"),
    ("operation", 45, "A"): days_left(chart_metrics.DISK_FULL, "volume"),
    ("measurements", 1, "A"): constant(0),
    ("measurements", 2, "A"): latest(catalogue.QUALITY),
    ("measurements", 3, "A"): growth(catalogue.FINDINGS, severity="hard"),
    ("measurements", 4, "A"): latest(VALIDATION["criteria_failed"]),
    ("measurements", 10, "A"): latest(catalogue.QUALITY),
    ("measurements", 20, "A"): some(growth(catalogue.FINDINGS, "rule severity", "week")),
    ("measurements", 30, "A"): share(
        growth(catalogue.LANDMARK_MISSES, "landmark"), growth(catalogue.SESSIONS, status="completed")
    ),
    ("measurements", 31, "A"): share(growth(catalogue.MODEL_LANDMARK_MISSES, "model landmark"), inferences("model")),
    ("measurements", 32, "A"): latest(catalogue.MODEL_CONFIDENCE["average"], "model"),
    ("measurements", 33, "A"): latest(catalogue.MODEL_LANDMARKS, "model"),
    ("measurements", 34, "A"): in_use(catalogue.MODEL_INFO, "model version digest instance", "model"),
    ("measurements", 41, "A"): latest(catalogue.ENSEMBLE["max_distance"]),
    ("measurements", 41, "B"): latest(catalogue.ENSEMBLE["mean_distance"]),
    ("measurements", 42, "A"): latest(catalogue.DIFFERENCE["ratio"], "score"),
    ("measurements", 50, "A"): latest(catalogue.Z_SCORE_UNCLAMPED, "measurement"),
    ("measurements", 52, "A"): latest(catalogue.SIDE_DIFFERENCE, "bone"),
    ("measurements", 53, "A"): latest(catalogue.FEMUR_TIBIA, "side"),
    ("measurements", 60, "A"): latest(catalogue.READING_ERROR, "measurement"),
    ("monitoring", 1, "A"): lambda truth, at: {
        frozenset(): min(since(catalogue.LAST_RUN, "instance")(truth, at).values())
    },
    ("monitoring", 2, "A"): since(catalogue.RELAY_LAST_SEEN),
    ("monitoring", 4, "A"): lambda truth, at: truth.summed(_BACK, "backend", at),
    ("monitoring", 5, "A"): lambda truth, at: truth.summed(catalogue.MONITORING_DEAD, "backend", at),
    ("monitoring", 6, "A"): less(growth(_DROP), growth(catalogue.MONITORING_RECOVERED)),
    ("monitoring", 7, "A"): waits(),
    ("monitoring", 10, "A"): growth(catalogue.MONITORING_DELIVERED, "backend", "day"),
    ("monitoring", 11, "A"): lambda truth, at: truth.summed(_BACK, "backend", at),
    ("monitoring", 12, "A"): waits("job instance application backend"),
    ("monitoring", 13, "A"): some(growth(_FAIL, "backend reason", "day")),
    ("monitoring", 14, "A"): days_left(catalogue.CERTIFICATE_EXPIRY, "backend kind"),
    ("monitoring", 20, "A"): some(growth(_DROP, "reason")),
    ("monitoring", 21, "A"): some(growth(catalogue.REFUSED, "value")),
    ("monitoring", 22, "A"): some(growth(catalogue.FOLDED, "label")),
    ("monitoring", 23, "A"): growth(catalogue.FORMULA_FAILURES),
    ("monitoring", 24, "A"): constant(0),
    ("monitoring", 30, "A"): growth(_FAIL, "reason", reason=("tls", "unauthorized", "forbidden", "redirect")),
    ("monitoring", 31, "A"): growth(catalogue.REFUSED, value=("name", "metric_tags")),
    ("monitoring", 32, "A"): growth(catalogue.LOG_FILTER_HITS),
    ("monitoring", 33, "A"): growth(catalogue.ERASURES),
    ("monitoring", 40, "A"): since(chart_metrics.LAST_RUN),
    ("monitoring", 41, "A"): lambda truth, at: truth.summed(chart_metrics.OPEN_ALARMS, "audience", at),
    ("monitoring", 42, "A"): growth(chart_metrics.ALARMS),
    ("monitoring", 42, "B"): latest(chart_metrics.BUDGET),
    ("fleet", 1, "A"): growth(catalogue.SESSIONS, SIDE_BY_SIDE),
    ("fleet", 1, "B"): growth(catalogue.SESSIONS, SIDE_BY_SIDE, status=("failed", "crashed")),
    ("fleet", 1, "C"): since(catalogue.LAST_SUCCESS, SIDE_BY_SIDE),
    ("fleet", 1, "D"): since(catalogue.LAST_RUN, SIDE_BY_SIDE),
    ("fleet", 1, "E"): waits(SIDE_BY_SIDE),
    ("fleet", 1, "F"): lambda truth, at: {
        _key(one.labels, SIDE_BY_SIDE): float(one.instance == ALERTS[1]["instance"]) for one in truth.site.instances
    },
    ("fleet", 1, "G"): lambda truth, at: dict.fromkeys(
        in_use(catalogue.BUILD_INFO, "job instance site version", "")(truth, at), at / 1000
    ),
    ("fleet", 2, "A"): growth(catalogue.SESSIONS, "instance", "day"),
    ("fleet", 3, "A"): some(growth(catalogue.SESSIONS, "instance", "week", status=("failed", "crashed"))),
    ("fleet", 5, "A"): latest(catalogue.QUALITY, "instance"),
    ("fleet", 6, "A"): in_use(catalogue.BUILD_INFO, "job instance site version", ""),
    **{
        ("measurements", 11, ref): latest(metric)
        for ref, metric in zip("ABCD", catalogue.QUALITY_COMPONENT.values(), strict=True)
    },
    **{
        ("measurements", 40, ref): latest(catalogue.ENSEMBLE[score])
        for ref, score in zip("ABCD", ("cds", "dds", "ors", "lds"), strict=True)
    },
    **{
        ("measurements", 61, ref): latest(VALIDATION[key], "measurement")
        for ref, key in zip(
            "ABCDEFGHI",
            (
                "pairs",
                "bias",
                "lower_limit",
                "upper_limit",
                "mae",
                "icc",
                "beyond_5_mm",
                "beyond_10_mm",
                "criteria_failed",
            ),
            strict=True,
        )
    },
}
for page, first, audience in (("operation", 50, "operator"), ("measurements", 70, "clinical")):
    scores, limits = (
        latest(metric, "chart instance", audience=audience) for metric in (chart_metrics.SCORE, chart_metrics.LIMIT)
    )
    of_charts = (
        chart_metrics.STATE, chart_metrics.DETECTABLE, chart_metrics.SCORE, chart_metrics.LIMIT, chart_metrics.EXAMS,
    )  # fmt: skip
    PANELS |= {
        (page, first, ref): latest(
            metric, f"chart instance{' unit' * (metric is chart_metrics.DETECTABLE)}", audience=audience
        )
        for ref, metric in zip("ABCDE", of_charts, strict=True)
    }
    PANELS[page, first + 2, "A"] = latest(chart_metrics.STATE, "chart instance", audience=audience)
    PANELS[page, first + 3, "A"] = share(scores, limits)
OF_BUCKETS = {
    ("operation", 32, "A"): (catalogue.STAGE_DURATION, "stage"),
    ("operation", 33, "A"): (catalogue.MODEL_INFERENCE, "model"),
    ("fleet", 4, "A"): (catalogue.SESSION_DURATION, "instance"),
}
"""Percentiles that are read from buckets: off by the width of the one that the sessions' own lies in."""


def answers(one: Asked, truth: Truth, server: Prometheus, chosen: Mapping[str, str]) -> dict[int, Found]:
    """What Prometheus gives at each instant that it is asked for, in ms."""
    at = steps(truth.site, one.shown, one.target)
    text = promql(one.target["expr"], truth.site, at.step, chosen)
    if one.target["instant"]:
        form: dict[str, Any] = {"query": text, "time": f"{truth.end_ms / 1000}"}
        answer = fetch("POST", f"{server.url}/api/v1/query", fields=form).json()
        named = [(each["metric"], [each["value"]]) for each in answer["data"]["result"]]
    else:
        form = {"query": text, "start": str(at.start), "end": str(at.end), "step": str(at.step)}
        answer = fetch("POST", f"{server.url}/api/v1/query_range", fields=form).json()
        named = [(each["metric"], each["values"]) for each in answer["data"]["result"]]
    found: dict[int, Found] = {}
    for labels, values in named:
        for seconds, value in values:
            key = frozenset(pair for pair in labels.items() if pair[0] != "__name__")
            found.setdefault(round(seconds * 1000), {})[key] = float(value)
    return found


def name_of(one: Asked) -> tuple[str, int, str]:
    return one.page.uid.removeprefix("leglength-"), one.panel.id, one.target["refId"]


def of_totals() -> dict[tuple[str, int, str], Asked]:
    """Each query of Prometheus, of whichever kind of site shows it."""
    kinds = ("influxql", "metricsql", "prometheus-only")
    return {name_of(one): one for kind in kinds for one in asked(kind) if isinstance(one.query, Totals)}


def differing(expected: Found, found: Found) -> dict[str, tuple[float, float]]:
    """What isn't the same to the last digit but one; what is 0 all the time is told seldom, and so may be left out."""
    return {
        str(sorted(key)): (expected.get(key, 0.0), found.get(key, 0.0))
        for key in expected.keys() | found.keys()
        if not isclose(expected.get(key, 0.0), found.get(key, 0.0), rel_tol=1e-14, abs_tol=1e-14)
    }


def test_each_panels_answer_of_prometheus_is_that_of_the_sessions(truth: tuple[Truth, Prometheus]) -> None:
    known, server = truth
    asked_for = of_totals()
    assert asked_for.keys() == PANELS.keys() | OF_BUCKETS.keys()
    problems = []
    for name in PANELS:
        one = asked_for[name]
        found = answers(one, known, server, {})
        at = steps(known.site, one.shown, one.target)
        if one.target["instant"]:
            instants = [known.end_ms]
        elif at.step * 1000 >= DAY_MS:  # each bar, and those that aren't there
            instants = list(range(at.start * 1000, at.end * 1000 + 1, at.step * 1000))
        else:  # between two hours a gauge is seen for five minutes after its image only
            instants = [at_ms for at_ms in found if at_ms % (7 * HOUR_MS) == 0]
        if not any(found.get(at_ms) for at_ms in instants):
            problems.append(f"{name} {one.name} is empty: {one.target['expr']}")
        off = {at_ms: off for at_ms in instants if (off := differing(PANELS[name](known, at_ms), found.get(at_ms, {})))}
        if off:
            problems.append(
                f"{name} {one.name}: {len(off)} of {len(instants)} instants, as {str(next(iter(off.items())))[:300]}"
            )
    assert not problems, "\n".join(problems)


def test_where_prometheus_is_all_an_alarm_is_marked_when_it_is_told(truth: tuple[Truth, Prometheus]) -> None:
    known, server = truth
    mark = json.loads(render(MEASUREMENT_PAGE, SITES["prometheus-only"]))["annotations"]["list"][0]
    hours = range(known.site.start_ms + DAY_MS, known.end_ms + 1, HOUR_MS)
    text = promql(mark["expr"], known.site, 3600, {})
    form = {"query": text, "start": str(hours[0] / 1000), "end": str(hours[-1] / 1000), "step": "1h"}
    answer = fetch("POST", f"{server.url}/api/v1/query_range", fields=form).json()
    marks = {
        (round(seconds * 1000), frozenset(each["metric"].items()))
        for each in answer["data"]["result"]
        for seconds, _ in each["values"]
    }
    alarming = [
        {key for key, value in states(known, at_ms).items() if value == STATES.index("alarm")} for at_ms in hours
    ]
    began = {
        (at_ms, key)
        for at_ms, before, now in zip(hours[1:], alarming, alarming[1:], strict=False)
        for key in now - before
    }
    assert marks == began
    assert len(began) >= 4


def states(truth: Truth, at_ms: int) -> Found:
    return truth.largest(chart_metrics.STATE, "chart instance", at_ms, audience="clinical")


def test_percentiles_of_buckets_lie_in_the_bucket_of_the_sessions_own(truth: tuple[Truth, Prometheus]) -> None:
    known, server = truth
    for name, (metric, by) in OF_BUCKETS.items():
        found = answers(of_totals()[name], known, server, {})
        checked = 0
        for at_ms, values in found.items():
            bounds = [0.0, *metric.buckets]
            counts = [
                of_parts(metric, by, "four weeks", metric.buckets[:upto])(known, at_ms) for upto in range(len(bounds))
            ]
            every = of_parts(metric, by, "four weeks", [*metric.buckets, None])(known, at_ms)
            for key, value in values.items():
                if value == value:  # not of no image at all
                    upper = next(upto for upto, count in enumerate(counts) if count.get(key, 0.0) >= 0.95 * every[key])
                    assert bounds[upper - 1] <= value <= bounds[upper], (name, at_ms, key, value)
                    checked += 1
        assert checked > 4, name
