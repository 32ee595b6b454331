"""What is scraped of a store's history, which rules it tells of, and when they fire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from monitoring.analytics.analysis import analyse
from monitoring.analytics.replay import looks_over_time, totals_over_time
from monitoring.config_validator import check_section
from monitoring.dashboards.backtesting import (
    Alert,
    Episode,
    alerts,
    asked_for,
    backtest,
    episodes,
    instants,
    other_values,
    scraped,
    why_untold,
)
from monitoring.dashboards.evaluation import Evaluator, Labels
from monitoring.dashboards.promql import SOURCES
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.scraped_series import Samples
from monitoring.dashboards.thresholds import DEFAULTS, rendered
from monitoring.metrics import catalogue
from monitoring.metrics.samples import zero_changes
from monitoring.prometheus_client import StoredState
from monitoring.records.session_record import Failure
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import AnalyticsConfig
from monitoring.store import totals
from monitoring.store.database import Database
from monitoring.store.sessions import Store, open_store
from tests.support.exams import BIAS, NOW_NS, a_store, exam, exams
from tests.support.records import ENDED_NS, realistic

DAY_NS = 86_400_000_000_000
GROUP = {"job": "legs", "instance": "here"}
MINUTE_MS = 60_000
CONFIG = check_section({"enabled": True}).config
FAILED = {"status": "failed", "reason": "not_dicom", "failure": Failure("E", "load")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A session a day for 30 days, at another version from the 20th on, and three failures within the 25th."""
    build = session_writes_builder(CONFIG, "here")
    with open_store(Database(tmp_path / "monitoring.db")) as kept:
        kept.initialise(zero_changes())
        for day in (*range(25), 24.2, 24.4, 24.6, *range(26, 30)):
            ended_ns = ENDED_NS + round(day * DAY_NS)
            changed = FAILED if day % 1 else {}
            version = "1.1" if day >= 20 else "1.0"
            record = realistic(
                session_id=f"{round(day * 10):032x}", started_ns=ended_ns - 10**9, ended_ns=ended_ns,
                application_version=version, **changed,
            )  # fmt: skip
            assert kept.commit(record, build)
        yield kept


def seen(store: Store, names: frozenset[str], days: float = 30) -> dict[Labels, Samples]:
    moments = totals_over_time(store, build=session_writes_builder(CONFIG, "here"))
    known = ((moment.at_ns, moment.changed) for moment in moments)
    return scraped(known, GROUP, names, MINUTE_MS, (ENDED_NS + round(days * DAY_NS)) // 1_000_000)


def test_the_newest_samples_are_what_the_store_exports(store: Store) -> None:
    series = seen(store, frozenset(SOURCES))
    newest = {labels: samples.values[-1] for labels, samples in series.items() if samples.values[-1] is not None}
    with store.database.read_transaction() as connection:
        state = StoredState(totals.read(connection), GROUP)
    exported = {}
    for family in state.collect():
        for sample in family.samples:
            named = {**sample.labels, "__name__": sample.name}
            if "le" in named and named["le"] != "+Inf":
                named["le"] = f"{float(named['le']):g}"  # as a Pushgateway makes it
            exported[tuple(sorted(named.items()))] = sample.value
    assert newest.keys() ^ exported.keys() == set()
    assert newest == pytest.approx(exported)


def test_counters_are_seen_at_0_and_a_change_at_the_next_scrape(store: Store) -> None:
    (samples,) = [
        samples
        for labels, samples in seen(store, frozenset({"leglength_sessions_total"})).items()
        if ("status", "completed") in labels
    ]
    assert samples.values[:3] == [0.0, 1.0, 2.0]
    first_ms, second_ms = -(-ENDED_NS // 10**6 // MINUTE_MS) * MINUTE_MS, (ENDED_NS + DAY_NS) / 10**6
    assert samples.firsts[1] == first_ms
    assert second_ms <= samples.firsts[2] < second_ms + MINUTE_MS
    assert [last + MINUTE_MS for last in samples.lasts[:-1]] == samples.firsts[1:]


def test_another_version_takes_the_place_of_the_one_before(store: Store) -> None:
    by_version = {
        dict(labels)["version"]: samples for labels, samples in seen(store, frozenset({"leglength_build_info"})).items()
    }
    assert by_version["1.0"].values == [1.0, None]
    assert by_version["1.0"].firsts[1] == by_version["1.1"].firsts[0]


def test_rules_fire_when_their_story_is_told(store: Store) -> None:
    series = seen(store, asked_for(RULES, DEFAULTS))
    grid = instants(ENDED_NS // 10**6, (ENDED_NS + 30 * DAY_NS) // 10**6, MINUTE_MS)
    told = {"LegLengthAllFail", "LegLengthVersionChanged", "LegLengthGatewayDown"}
    rules = [rule for rule in RULES if rule.name in told]
    found = {one.rule.name: one for one in backtest(rules, DEFAULTS, series, grid)}
    assert found["LegLengthGatewayDown"].untold
    (changed,) = found["LegLengthVersionChanged"].episodes
    assert changed.from_ms == pytest.approx((ENDED_NS + 20 * DAY_NS) / 10**6, abs=2 * MINUTE_MS)
    assert found["LegLengthVersionChanged"].seconds(0) == [pytest.approx(86_400, abs=120)]
    (failed,) = found["LegLengthAllFail"].episodes
    # The success of the 24th has left the window of a day long after the third failure, and the next comes on the 26th.
    assert failed.from_ms == pytest.approx((ENDED_NS + 25 * DAY_NS) / 10**6, abs=2 * MINUTE_MS)
    assert failed.until_ms == pytest.approx((ENDED_NS + 25.2 * DAY_NS) / 10**6, abs=2 * MINUTE_MS)
    # What is said of other thresholds is what they say.
    variants = found["LegLengthAllFail"].variants
    assert {(one.threshold, one.value) for one in variants} >= {("failures", 4)}
    (rule,) = [rule for rule in rules if rule.name == "LegLengthAllFail"]
    for one in variants:
        other = rendered(rule, replace(DEFAULTS, **{one.threshold: one.value}))
        assert len(episodes(alerts(other, Evaluator(series, grid), grid))) == one.times != 1


def test_the_charts_alarm_as_if_they_had_been_looked_at_each_night(tmp_path: Path) -> None:
    rules = [rule for rule in RULES if rule.name in ("LegLengthMeasurementsChanged", "LegLengthOperationChanged")]
    with a_store(tmp_path, exams()) as kept:
        alarms = {alarm.chart: alarm for alarm in analyse(kept, AnalyticsConfig(), NOW_NS).alarms}
        nights = [(moment.at_ns, moment.changed) for moment in looks_over_time(kept, AnalyticsConfig(), NOW_NS)]
    series = scraped([(exam(0).started_ns, ()), *nights], GROUP, asked_for(rules, DEFAULTS), MINUTE_MS, NOW_NS // 10**6)
    grid = instants(exam(0).ended_ns // 10**6, NOW_NS // 10**6, MINUTE_MS)
    clinical, operation = backtest(rules, DEFAULTS, series, grid)
    assert operation.alerts == ()
    assert {dict(one.labels)["chart"]: one.fires_ms for one in clinical.alerts} == {
        name: (alarm.raised_ns // DAY_NS + 1) * DAY_NS // 10**6 for name, alarm in alarms.items()
    }
    assert BIAS in alarms
    assert len(clinical.episodes) == 1, "one fault"


def test_what_the_sessions_do_not_tell_is_not_said() -> None:
    def reason(expression: str) -> str | None:
        return why_untold(replace(RULES[0], expression=expression))

    assert reason("increase(leglength_sessions_total[1h]) > 1") is None
    assert reason("increase(leglength_monitoring_refused_values_total[1h]) > 1") is None
    for expression in (
        "up == 0", "absent(leglength_sessions_total)", "resets(leglength_sessions_total[1h]) > 0",
        "leglength_quality_ratio > 1 and on () push_time_seconds", "leglength_open_sessions > 1",
        "leglength_analysis_last_run_timestamp_seconds < 5",
        "time() - leglength_monitoring_relay_last_seen_timestamp_seconds > 5", "leglength_validation_pairs > 1",
    ):  # fmt: skip
        assert reason(expression), expression
    untold = {rule.name for rule in RULES if why_untold(rendered(rule, DEFAULTS))}
    assert untold < {rule.name for rule in RULES}


def test_every_counter_of_the_sessions_is_told(store: Store) -> None:
    """No rule is left out that asks for what a record changes."""
    of_records = {
        change.metric
        for moment in totals_over_time(store, zeros=())
        for change in moment.changed
    }  # fmt: skip
    own = {metric.name for metric in catalogue.METRICS if why_untold(replace(RULES[0], expression=metric.name))}
    assert of_records
    assert not of_records & own


def test_other_values_are_those_that_a_threshold_can_take() -> None:
    shares = [changed.failure_share for changed in other_values(replace(DEFAULTS, failure_share=0.6), "failure_share")]
    assert shares == sorted(shares)
    assert all(0 < share < 1 for share in shares)
    assert [changed.failures for changed in other_values(replace(DEFAULTS, failures=1), "failures")] == [2, 4]
    assert {changed.silence for changed in other_values(DEFAULTS, "silence")} == {"2d", "8d"}
    assert list(other_values(DEFAULTS, "gateway_job")) == []
    for name, known in asdict(DEFAULTS).items():
        assert all(getattr(changed, name) != known for changed in other_values(DEFAULTS, name))


def test_episodes_are_when_anything_fires() -> None:
    def alert(fires: int | None, until: int | None) -> Alert:
        return Alert((), 0, fires, until)

    found = [alert(1, 5), alert(3, 9), alert(9, 12), alert(20, 30), alert(None, 40), alert(22, None), alert(50, 60)]
    assert episodes(found) == [Episode(1, 12), Episode(20, None)]
    assert episodes([]) == []


def test_a_value_that_a_rule_cannot_use_is_not_tried(store: Store) -> None:
    (slow,) = [rule for rule in RULES if rule.name == "LegLengthSlow"]
    thresholds = replace(DEFAULTS, slow_bound=2.5, images=5)  # all of these images take 3.5 s
    series = seen(store, asked_for([slow], thresholds))
    grid = instants(ENDED_NS // 10**6, (ENDED_NS + 30 * DAY_NS) // 10**6, MINUTE_MS)
    (found,) = backtest([slow], thresholds, series, grid)
    assert len(found.episodes) == 1
    assert [(one.value, one.times) for one in found.variants if one.threshold == "slow_bound"] == [(5.0, 0), (10.0, 0)]
