"""Expressions that ask for what is never sent, or for what totals can't answer, are found."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring.dashboards.promql import check

RIGHT = (
    'round(sum by (job, instance) (increase(leglength_sessions_total{status=~"failed|crashed"}[7d]))) > 2.5',
    "time() - leglength_last_success_timestamp_seconds > 345600",
    'absent(leglength_sessions_total{job="pediatric-leglength"})',
    "push_time_seconds unless on (job, instance) leglength_sessions_total",
    'increase(leglength_stage_duration_seconds_bucket{stage="inference",le=~"30(\\\\.0)?"}[7d])',
    "histogram_quantile(0.95, sum by (le, stage) (rate(leglength_stage_duration_seconds_bucket[7d])))",
    'sum by (status) (increase(leglength_sessions_total{instance=~"$instance"}[$__range]))',
    'increase(leglength_model_inference_seconds_count{model="any-name"}[1d])',
    "resets(leglength_session_duration_seconds_sum[6h]) > 2",
    "max_over_time(leglength_monitoring_dead_points[1d]) > 0",
    "max_over_time(increase(leglength_duplicate_series_total[1d])[7d:1h])",
    'leglength_quality_ratio + on (job, instance) group_left () (time() - push_time_seconds) > 0',
    "vector(1)",
)  # fmt: skip

WRONG = {
    "leglength_sessions": "no such metric",
    "leglength_session_duration_seconds > 1": "no such metric",
    "increase(leglength_sessions_total_bucket[1d])": "no such metric",
    "leglength_finding_value > 1": "no such metric",  # in InfluxDB only
    '{__name__=~"leglength_.*"}': "no such metric",
    'increase(leglength_sessions_total{state="failed"}[1d])': "has no label state",
    'increase(leglength_sessions_total{le="1.0"}[1d])': "has no label le",
    'increase(leglength_sessions_total{status="failure"}[1d])': "never takes",
    'increase(leglength_sessions_total{status!="failure"}[1d])': "never takes",
    'increase(leglength_sessions_total{status=~"failed|crash"}[1d])': "never takes",
    'increase(leglength_sessions_total{status=~"fai"}[1d])': "never takes",
    'increase(leglength_session_duration_seconds_bucket{le="30.0"}[1d])': "never takes",
    'increase(leglength_session_duration_seconds_bucket{le=~"31(\\\\.0)?"}[1d])': "never takes",
    "leglength_sessions_total > 1": "a counter is asked",
    "leglength_sessions_total - leglength_sessions_total offset 1d": "a counter is asked",
    "max_over_time(leglength_sessions_total[1d])": "a counter is asked",
    "increase(leglength_sessions_total[1d:1h])": "a counter is asked",
    "sum(leglength_session_duration_seconds_count)": "a counter is asked",
    "rate(leglength_quality_ratio[1d])": "a gauge has no rate",
    "resets(push_time_seconds[1d])": "a gauge has no resets",
    "increase(leglength_sessions_total[5m])": "extrapolated",
    "increase(leglength_sessions_total[$__rate_interval])": "$__rate_interval",
    "sum by (model) (increase(leglength_sessions_total[1d]))": "label model",
    "leglength_quality_ratio > on (job, modle) leglength_quality_ratio": "label modle",
    "leglength_quality_ratio * on (job) group_left (version) leglength_quality_ratio": "label version",
    "sum(leglength_quality_ratio": "not PromQL",
}  # fmt: skip


@pytest.mark.parametrize("expression", RIGHT)
def test_what_can_be_asked_passes(expression: str) -> None:
    assert check(expression) == []


@pytest.mark.parametrize("expression", WRONG)
def test_what_can_not_be_asked_is_said(expression: str) -> None:
    problems = check(expression)
    assert len(problems) == 1, problems
    assert WRONG[expression] in problems[0]


def test_a_total_may_be_shown_where_that_is_meant_and_a_window_be_short() -> None:
    assert check("topk(5, leglength_session_stop_codes_total)", totals=True) == []
    assert check("rate(leglength_sessions_total[2m])", shortest_window=timedelta(minutes=1)) == []
    assert "no such metric" in check("topk(5, leglength_codes_total)", totals=True)[0]
