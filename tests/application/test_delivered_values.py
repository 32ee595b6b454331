"""What arrives in the backends is what OUT/result.json says, to the last digit that the protocol carries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import analysis
import monitoring
from analysis.phantom import Phantom
from monitoring.domain.derivation import Facts
from monitoring.metrics import catalogue
from monitoring.metrics.catalogue import Kind, Metric
from monitoring.metrics.kinds import ANALYSIS_MEASUREMENTS
from monitoring.metrics_collector import samples
from monitoring.records.session_record import SessionRecord
from tests.application.app import App, Run, assert_clean, with_backends
from tests.support.servers import InfluxDB1, Prometheus, Pushgateway, VictoriaMetrics

Labels = dict[str, str]
Key = tuple[str, str, frozenset[tuple[str, str]]]
OF_NO_SESSION = (None, *catalogue.OWN_MEASUREMENTS, *ANALYSIS_MEASUREMENTS)
PLACED = [m for m in catalogue.METRICS if m.measurement not in OF_NO_SESSION]
# No GPU here, and run.py has no metrics of its own; the phantom is plausible, and nobody has read it.
NOT_REPORTED = {"leglength_gpu", "leglength_custom", "leglength_finding", "leglength_reading", "leglength_issue"}
DEPENDS_ON_THE_MACHINE = ("leglength_container_", "leglength_process_resident_memory_peak_", "leglength_torch_")
TWELVE_DIGITS = 5e-12  # VictoriaMetrics keeps no more of a number
# What the record states, told below in words of this test's own; the rest is computed from the record by formulas that
# have tests and oracles of their own, and here it is their way into the backends that is looked at.
STATED = {
    "leglength_session", "leglength_stage", "leglength_measurement", "leglength_model", "leglength_system",
    "leglength_disk", "leglength_gpu", "leglength_custom", "leglength_model_info",
}  # fmt: skip
COMPUTED_BESIDE = {
    catalogue.DUPLICATES, catalogue.MEASUREMENT_QUALITY, catalogue.Z_SCORE, catalogue.Z_SCORE_UNCLAMPED,
}  # fmt: skip


def all_of(sessions: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[tuple[Metric, Labels, float]]]]:
    """Each session with all its values, but for those that are counted over sessions."""
    seen: Counter[str] = Counter()
    for session in sessions:
        facts = Facts(earlier_runs=seen[session["series_key"]])
        seen[session["series_key"]] += 1
        computed = [
            (sample.metric, dict(sample.labels), sample.value)
            for sample in samples(SessionRecord.from_dict(session), facts)
            if sample.metric.measurement not in STATED | {None} or sample.metric in COMPUTED_BESIDE
        ]
        yield session, [*told(session), *computed]


def told(session: dict[str, Any]) -> Iterator[tuple[Metric, Labels, float]]:
    """Each value that a session record of result.json states, with its catalogue metric."""
    yield catalogue.SESSION_DURATION, {}, session["duration_seconds"]
    for status, metric in catalogue.SESSION_ENDED.items():
        yield metric, {}, float(status == session["status"])
    for metric, name in ((catalogue.LANDMARKS_FOUND, "landmarks_found"), (catalogue.QUEUE_DEPTH, "queue_depth")):
        if name in session:
            yield metric, {}, session[name]
    for stage, seconds in session.get("stages_seconds", {}).items():
        yield catalogue.STAGE_DURATION, {"stage": stage}, seconds
    for name, mm in session.get("measurements_mm", {}).items():
        yield catalogue.MEASUREMENT_MM, {"measurement": name}, mm
    for model in session.get("models", []):
        yield from told_of_model(model)
    for name, usage in session.get("system", {}).items():
        yield from told_of_system(name, usage)


def told_of_model(model: dict[str, Any]) -> Iterator[tuple[Metric, Labels, float]]:
    labels, scores = {"model": model["model"]}, model["confidence_scores"]
    assert (model["version"], model.get("digest")) == (analysis.__version__, None)  # built in
    yield catalogue.MODEL_INFO, {**labels, "version": model["version"], "digest": "unknown"}, 1.0
    yield catalogue.MODEL_INFERENCE, labels, model["inference_seconds"]
    yield catalogue.MODEL_LANDMARKS, labels, model["landmarks_found"]
    yield catalogue.MODEL_CONFIDENCE["average"], labels, sum(scores) / len(scores)
    yield catalogue.MODEL_CONFIDENCE["minimum"], labels, min(scores)
    yield catalogue.MODEL_CONFIDENCE["maximum"], labels, max(scores)


def told_of_system(name: str, usage: dict[str, float]) -> Iterator[tuple[Metric, Labels, float]]:
    resource, _, value = name.partition("/")
    for statistic in ("average", "minimum", "maximum"):
        metric = catalogue.SYSTEM.get((resource, statistic))
        if metric is not None:  # of some there is one figure only
            yield metric, ({metric.labels[0].name: value} if metric.labels else {}), usage[statistic]


def expected_points(sessions: list[dict[str, Any]], instance: str) -> dict[Key, list[tuple[int, float]]]:
    """For each measurement, field and tag set: the sessions' ends in ns, and the values."""
    found: dict[Key, list[tuple[int, float]]] = {}
    for number, (session, values) in enumerate(all_of(sessions), start=1):
        for metric, labels, value in [*values, (catalogue.THROUGHPUT, {}, float(number))]:
            own = {"status": session["status"], "version": session["application_version"]}
            own = own if metric.measurement == "leglength_session" else {}
            tags = frozenset({"instance": instance, **labels, **own}.items())
            found.setdefault((str(metric.measurement), str(metric.field), tags), []).append(
                (session["ended_ns"], value)
            )
    return found


def stored_points(server: Any) -> dict[Key, list[tuple[int, float]]]:
    """The same, as a server tells it."""
    found: dict[Key, list[tuple[int, float]]] = {}
    measurements = sorted({str(metric.measurement) for metric in PLACED})
    for measurement in measurements:
        longer = tuple(f"{other}_" for other in measurements if other.startswith(f"{measurement}_"))
        for point in server.read_points(measurement):
            for name, value in point.fields.items():
                # VictoriaMetrics joins the two to one name: leglength_model_info's may be read as leglength_model's.
                if f"{measurement}_{name}".startswith(longer):
                    continue
                key = (measurement, name, frozenset(point.tags.items()))
                found.setdefault(key, []).append((point.time_ns, value))
    return found


def expected_state(sessions: list[dict[str, Any]]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The Prometheus samples that follow from the sessions: sums, counts and the latest of each gauge."""
    state: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for session, values in all_of(sessions):
        for metric, labels, value in values:
            key = frozenset(labels.items())
            if not metric.is_pushed:
                continue
            if metric.kind is Kind.HISTOGRAM:
                for suffix, amount in (("_sum", value), ("_count", 1.0)):
                    state[metric.name + suffix, key] = state.get((metric.name + suffix, key), 0.0) + amount
            elif metric.kind is Kind.COUNTER:
                state[metric.name, key] = state.get((metric.name, key), 0.0) + value
            else:
                state[metric.name, key] = value
        counted = (catalogue.SESSIONS.name, frozenset({"status": session["status"]}.items()))
        state[counted] = state.get(counted, 0.0) + 1.0
        builds = {"version": session["application_version"], "monitoring_version": monitoring.__version__}
        state[catalogue.BUILD_INFO.name, frozenset(builds.items())] = 1.0
        state[catalogue.LAST_RUN.name, frozenset()] = session["ended_ns"] / 1_000_000_000
        if session["status"] == "completed":
            state[catalogue.LAST_SUCCESS.name, frozenset()] = session["ended_ns"] / 1_000_000_000
    state[catalogue.THROUGHPUT.name, frozenset()] = float(len(sessions))
    return state


def assert_pushed(gateway: Pushgateway, sessions: list[dict[str, Any]], instance: str) -> None:
    group = {"job": "pediatric-leglength", "instance": instance}
    for (name, labels), value in expected_state(sessions).items():
        assert gateway.value(name, **group, **dict(labels)) == value, (name, dict(labels))


def assert_buckets(gateway: Pushgateway, sessions: list[dict[str, Any]]) -> None:
    durations = [session["duration_seconds"] for session in sessions]
    for bound in catalogue.SESSION_DURATION.buckets:
        at_most = sum(seconds <= bound for seconds in durations)
        assert gateway.value("leglength_session_duration_seconds_bucket", le=f"{bound:g}") == at_most


def assert_result_agrees_with_itself(run: Run) -> None:
    """The monitoring's records say what the application's own summary says."""
    for series, session in zip(run.series, run.sessions, strict=True):
        assert (series["status"], series["reason"]) == (session["status"], session.get("reason"))
        lengths = {name: length["millimeters"] for name, length in series["measurements"].items()}
        assert session.get("measurements_mm", {}) == lengths
        for name, seconds in series["stage_seconds"].items():
            assert session["stages_seconds"][name] == pytest.approx(seconds, abs=0.01)
        for model in session.get("models", []):
            assert model["inference_seconds"] == series["models"][model["model"]]["inference_seconds"]


def assert_everything_is_told(sessions: list[dict[str, Any]]) -> None:
    """No metric of the catalogue goes untested for want of a value."""
    told_metrics = {metric.name for _, values in all_of(sessions) for metric, _, _ in values}
    told_metrics.add(catalogue.THROUGHPUT.name)
    wanted = {metric.name for metric in PLACED if metric.measurement not in NOT_REPORTED}
    assert {name for name in wanted if not name.startswith(DEPENDS_ON_THE_MACHINE)} <= told_metrics


@pytest.fixture
def mixed_app(app: App, phantom_file: Path, unspaced_file: Path, broken_file: Path) -> App:
    """Three series: measured, skipped, failed."""
    for path in (phantom_file, unspaced_file, broken_file):
        app.add(path)
    return app


def run_mixed(app: App) -> Run:
    run = app.run()
    assert run.code == 1
    assert "Traceback" not in run.log
    assert "left out" not in run.log
    assert [series["status"] for series in run.series] == ["completed", "skipped", "failed"]
    assert_result_agrees_with_itself(run)
    return run


def test_values_in_influxdb_1_and_the_pushgateway_are_those_of_the_results_and_totals_go_on_over_runs(
    mixed_app: App, influxdb1: InfluxDB1, pushgateway: Pushgateway, unique_name: str
) -> None:
    prometheus = {"gateway_url": pushgateway.url, "instance": unique_name}
    mixed_app.settings(monitoring=with_backends(influxdb1.write_settings(), prometheus))
    first = run_mixed(mixed_app)
    assert_everything_is_told(first.sessions)
    assert stored_points(influxdb1) == expected_points(first.sessions, unique_name)
    assert_pushed(pushgateway, first.sessions, unique_name)
    assert_buckets(pushgateway, first.sessions)

    second = run_mixed(mixed_app)
    both = first.sessions + second.sessions
    assert stored_points(influxdb1) == expected_points(both, unique_name)
    assert_pushed(pushgateway, both, unique_name)
    assert_buckets(pushgateway, both)
    assert mixed_app.status()["outbox"]["influxdb"]["pending"] == 0
    assert_own_state(influxdb1, mixed_app, unique_name)


def assert_own_state(influxdb1: InfluxDB1, app: App, instance: str) -> None:
    """What the monitoring says of itself in InfluxDB is what the store knows, and what has arrived there."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for measurement in catalogue.OWN_MEASUREMENTS:
        for point in sorted(influxdb1.read_points(measurement), key=lambda point: point.time_ns):
            tags = dict(point.tags)
            assert tags.pop("instance") == instance
            latest[measurement, "".join(tags.values())] = dict(point.fields)
    backend = latest["leglength_monitoring", "influxdb"]
    arrived = sum(len(influxdb1.read_points(name)) for name in sorted({str(metric.measurement) for metric in PLACED}))
    assert backend["delivered"] == app.status()["outbox"]["influxdb"]["delivered"] == arrived
    assert (backend["pending_points"], backend["oldest_pending_seconds"], backend["dead_points"]) == (0, 0, 0)
    losses = [latest["leglength_monitoring_loss", reason] for reason in catalogue.LOSS.values]
    assert losses == [{"dropped": 0, "recovered": 0}] * len(losses)
    assert latest["leglength_monitoring_store", ""] == {
        "open_sessions": 0, "oldest_open_session_seconds": 0, "log_filter_hits": 0, "erasures": 0,
    }  # fmt: skip
    assert not any(measurement == "leglength_monitoring_failure" for measurement, _ in latest)


def test_values_in_victoria_metrics_and_prometheus_are_those_of_the_results(
    mixed_app: App,
    victoria_metrics: VictoriaMetrics,
    pushgateway: Pushgateway,
    prometheus_factory: Callable[..., Prometheus],
    unique_name: str,
) -> None:
    prometheus = prometheus_factory([pushgateway.url])
    section = {"gateway_url": pushgateway.url, "instance": unique_name}
    mixed_app.settings(monitoring=with_backends(victoria_metrics.write_settings(), section))
    run = run_mixed(mixed_app)

    stored = stored_points(victoria_metrics)
    expected = expected_points(run.sessions, unique_name)
    assert stored.keys() == expected.keys()
    step = victoria_metrics.time_step_ns
    for key, points in expected.items():
        in_steps = [(time_ns // step * step, pytest.approx(value, rel=TWELVE_DIGITS)) for time_ns, value in points]
        assert stored[key] == in_steps, key

    prometheus.wait_for(f'leglength_sessions_total{{status="failed",instance="{unique_name}"}} == 1')
    # One answer for all: between two, a busy machine may miss a scrape, and each series would be gone for a moment.
    scraped = {
        (labels.pop("__name__"), frozenset(labels.items())): float(sample["value"][1])
        for sample in prometheus.wait_for(f'{{instance="{unique_name}"}}')
        for labels in [{name: text for name, text in sample["metric"].items() if name not in {"job", "instance"}}]
    }
    for key, value in expected_state(run.sessions).items():
        assert scraped.get(key) == value, key


def test_the_measured_lengths_are_within_2_mm_of_the_phantoms_truth(unmonitored: Run, small_phantom: Phantom) -> None:
    assert_clean(unmonitored)
    assert unmonitored.code == 0
    measured = {name: length["millimeters"] for name, length in unmonitored.series[0]["measurements"].items()}
    assert measured == pytest.approx(small_phantom.lengths_mm, abs=2.0)


def test_the_application_passes_nothing_that_is_left_out(
    processed_phantoms: Mapping[str, Sequence[SessionRecord]],
) -> None:
    """Its own figures, and scores that it could not compute, are no mistakes: they would hide later ones."""
    records = [record for kind in processed_phantoms.values() for record in kind]
    assert len(processed_phantoms) > 4
    assert [record.refused for record in records if record.refused] == []
