"""What a question asks in InfluxQL and MetricsQL, and what it answers of points in memory: all worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from monitoring.dashboards.aggregation import (
    COUNT,
    DAY,
    FOUR_WEEKS,
    LOWER_LIMIT,
    MEAN,
    SUM,
    UPPER_LIMIT,
    WEEK,
    TimeRange,
    percentile,
)
from monitoring.dashboards.questions import (
    EachImage,
    Growth,
    ImageTable,
    MovingMean,
    OverRange,
    PerPeriod,
    Question,
    Row,
    Scope,
    ShareWithin,
    TimedPoint,
    differences,
    influxql_rows,
)
from monitoring.metrics import catalogue
from monitoring.metrics.line_protocol import Point

ZURICH = ZoneInfo("Europe/Zurich")
SCOPE = Scope.of_variables("Europe/Zurich")
INSTANCE = '$timeFilter AND "instance" =~ /^${instance:regex}$/'


def at(day: int, hour: int, month: int = 3) -> int:
    """An instant of 2026 by UTC; the clocks of Zurich change on 29 March, a Sunday, and 2 March is a Monday."""
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp()) * 10**9


def points(measurement: str, field: str, *values: tuple[int, float], **tags: str) -> list[TimedPoint]:
    return [TimedPoint(Point(measurement, {"instance": "a", **tags}, {field: value}), time) for time, value in values]


def durations(*values: tuple[int, float], status: str = "completed") -> list[TimedPoint]:
    return points("leglength_session", "duration_seconds", *values, status=status)


MARCH = TimeRange(at(1, 0), at(31, 23))
DURATION = {"duration": catalogue.SESSION_DURATION}


def test_days_are_the_zones_and_those_without_images_count_0() -> None:
    question = PerPeriod(metrics=DURATION, by=("status",), statistic=COUNT, period=DAY)
    of_zurich = durations((at(27, 23), 1.0), (at(28, 22), 1.0), (at(28, 23), 1.0), (at(29, 21), 1.0), (at(29, 22), 1.0))
    rows = question.answer(of_zurich, TimeRange(at(27, 20), at(30, 20)), ZURICH)
    # 29 March begins at 23:00 UTC and has 23 hours.
    assert [(row.time_ns, row.values["duration"]) for row in rows] == [
        (at(26, 23), 0.0), (at(27, 23), 2.0), (at(28, 23), 2.0), (at(29, 22), 1.0),
    ]  # fmt: skip
    assert question.influxql(SCOPE) == (
        f'SELECT count("duration_seconds") AS "duration" FROM "leglength_session" WHERE {INSTANCE}'
        " GROUP BY time(1d), \"status\" fill(0) tz('Europe/Zurich')"
    )
    assert question.metricsql(SCOPE) == {
        "duration": 'sum by (status) (count_over_time(leglength_session_duration_seconds{instance=~"$instance"}'
        "[1d] offset -1d))"
    }


def test_weeks_begin_on_monday_and_those_without_images_are_left_out() -> None:
    question = PerPeriod(metrics=DURATION, statistic=MEAN, period=WEEK)
    of_march = durations((at(1, 22), 1.0), (at(1, 23), 2.0), (at(8, 22), 4.0), (at(23, 9), 8.0))
    rows = question.answer(of_march, MARCH, ZURICH)
    # Monday of Zurich begins on Sunday at 23:00 UTC.
    assert [(row.time_ns, row.values["duration"]) for row in rows] == [
        (at(22, 23, month=2), 1.0), (at(1, 23), 3.0), (at(22, 23), 8.0),
    ]  # fmt: skip
    assert "GROUP BY time(7d, 4d) fill(none)" in question.influxql(SCOPE)


def test_a_percentile_is_the_nearest_rank_and_of_too_few_images_nothing() -> None:
    question = PerPeriod(metrics=DURATION, statistic=percentile(95), period=FOUR_WEEKS, at_least=11)
    ten = durations(*[(at(2 + number, 9), float(number)) for number in range(10)])
    assert question.answer(ten, MARCH, ZURICH) == []
    twenty = durations(*[(at(2 + number // 4, 6 + number % 4), float(number)) for number in range(20)])
    assert [row.values["duration"] for row in question.answer(twenty, MARCH, ZURICH)] == [18.0]
    assert percentile(5).of([1.0] * 9) is None
    assert percentile(5).of([1.0] * 10) == 1.0
    assert question.influxql(SCOPE) == (
        'SELECT "duration" FROM (SELECT percentile("duration_seconds", 95) AS "duration", count("duration_seconds") AS'
        f' "n" FROM "leglength_session" WHERE {INSTANCE} GROUP BY time(28d, 4d) fill(none) tz(\'Europe/Zurich\'))'
        " WHERE $timeFilter AND \"n\" >= 11 tz('Europe/Zurich')"
    )


def test_a_moving_mean_goes_by_images() -> None:
    question = MovingMean(metrics={"quality": catalogue.QUALITY}, images=3)
    of_images = points("leglength_quality", "image", *[(at(day, 9), float(day)) for day in (2, 3, 20, 21)])
    rows = question.answer(of_images, MARCH, ZURICH)
    assert [(row.time_ns, row.values["quality"]) for row in rows] == [(at(20, 9), 25 / 3), (at(21, 9), 44 / 3)]
    assert question.influxql(SCOPE) == (
        f'SELECT moving_average("image", 3) AS "quality" FROM "leglength_quality" WHERE {INSTANCE}'
    )
    assert question.metricsql(SCOPE) == {}


def test_each_image_bears_its_groups_tags_alone() -> None:
    question = EachImage(metrics=DURATION, by=("status",), where={"status": ("failed", "crashed")})
    some = durations((at(2, 9), 1.0)) + durations((at(3, 9), 2.0), status="failed")
    assert question.answer(some, MARCH, ZURICH) == [Row(at(3, 9), {"status": "failed"}, {"duration": 2.0})]
    where = f"""{INSTANCE} AND ("status" = 'failed' OR "status" = 'crashed') GROUP BY "status\""""
    assert question.influxql(SCOPE).endswith(where)
    assert question.metricsql(SCOPE)["duration"] == (
        'max by (status) (last_over_time(leglength_session_duration_seconds{instance=~"$instance",'
        'status=~"failed|crashed"}[$__interval]))'
    )


def test_a_range_without_images_has_no_row() -> None:
    question = OverRange(metrics=DURATION, statistic=SUM)
    assert question.answer(durations((at(2, 9, month=5), 1.0)), MARCH, ZURICH) == []
    assert question.answer(durations((at(1, 0), 1.0), (at(31, 23), 2.0)), MARCH, ZURICH) == [
        Row(None, {}, {"duration": 3.0})
    ]


def test_limits_of_agreement_are_196_sample_deviations_from_the_mean() -> None:
    errors = points("leglength_reading", "error_millimeters", (at(2, 9), 1.0), (at(3, 9), 3.0))
    found = {
        statistic.influxql: OverRange(metrics={"limit": catalogue.READING_ERROR}, statistic=statistic)
        .answer(errors, MARCH, ZURICH)[0].values["limit"]
        for statistic in (LOWER_LIMIT, UPPER_LIMIT)
    }  # fmt: skip
    assert found == {
        "mean({}) - 1.96 * stddev({})": pytest.approx(2 - 1.96 * 2**0.5),
        "mean({}) + 1.96 * stddev({})": pytest.approx(2 + 1.96 * 2**0.5),
    }


def test_a_share_is_of_the_weeks_that_have_images() -> None:
    question = ShareWithin(metrics={"share": catalogue.SESSION_DURATION}, bound=30, period=WEEK)
    rows = question.answer(durations((at(2, 9), 30.0), (at(3, 9), 31.0), (at(16, 9), 99.0)), MARCH, ZURICH)
    assert [row.values["share"] for row in rows] == [0.5, 0.0]
    assert question.metricsql(SCOPE)["share"].startswith("sum (count_le_over_time(leglength_session_duration_seconds{")


def test_a_table_has_the_latest_images_or_the_smallest() -> None:
    latest = ImageTable(metrics=DURATION, by=("status",), count=2)
    some = durations((at(2, 9), 5.0), (at(3, 9), 1.0), (at(4, 9), 3.0))
    assert [row.time_ns for row in latest.answer(some, MARCH, ZURICH)] == [at(4, 9), at(3, 9)]
    smallest = ImageTable(metrics=DURATION, count=2, smallest=True)
    assert [row.values["duration"] for row in smallest.answer(some, MARCH, ZURICH)] == [1.0, 3.0]
    assert latest.influxql(SCOPE).startswith('SELECT "duration_seconds" AS "duration", "status" FROM')
    assert smallest.influxql(SCOPE).startswith('SELECT bottom("duration_seconds", 2) AS "duration" FROM')


def told(value: float, day: int, instance: str = "a") -> TimedPoint:
    tags = {"instance": instance, "backend": "influxdb", "reason": "tls"}
    return TimedPoint(Point("leglength_monitoring_failure", tags, {"failures": value}), at(day, 9))


def test_totals_grow_by_their_steps_up_of_each_series() -> None:
    question = Growth(metrics={"failed": catalogue.MONITORING_FAILURES}, by=("reason",))
    of_two = [told(5, 2), told(9, 3), told(2, 4), told(3, 5), told(50, 2, "b"), told(51, 6, "b")]
    # 5 to 9, then a new store, 2 to 3; and 50 to 51 of the other.
    assert question.answer(of_two, MARCH, ZURICH) == [Row(None, {"reason": "tls"}, {"failed": 6.0})]
    assert question.influxql(SCOPE) == (
        'SELECT sum("failed") AS "failed" FROM (SELECT non_negative_difference("failures") AS "failed"'
        f' FROM "leglength_monitoring_failure" WHERE {INSTANCE} GROUP BY "instance", "backend", "reason")'
        ' WHERE $timeFilter GROUP BY "reason"'
    )


def test_what_the_catalogue_lacks_cannot_be_asked() -> None:
    for wrong in (
        {"metrics": {"images": catalogue.SESSIONS}},  # Prometheus alone has it
        {"metrics": {"a": catalogue.QUALITY, "b": catalogue.SESSION_DURATION}},
        {"metrics": DURATION, "by": ("patient",)},
        {"metrics": {"rule": catalogue.FINDING["value"]}, "where": {"rule": ("spelling",)}},
    ):
        with pytest.raises(ValueError, match=r"^leglength_|^not of one"):
            Question(**wrong)


def test_values_stand_in_place_of_variables() -> None:
    scope = Scope.of(TimeRange(at(1, 0), at(2, 0)), instance="a'b", job="x")
    assert (
        EachImage(metrics=DURATION)
        .influxql(scope)
        .endswith(f"WHERE time >= {at(1, 0)} AND time <= {at(2, 0)} AND \"instance\" = 'a\\'b'")
    )
    assert OverRange(metrics=DURATION, statistic=COUNT).metricsql(scope) == {
        "duration": 'sum (count_over_time(leglength_session_duration_seconds{instance="a\'b"}[86400s]))'
    }
    assert scope.promql_filters == ',instance="a\'b",job="x"'


def test_rows_of_a_server_are_compared_by_place_and_value() -> None:
    question = PerPeriod(metrics=DURATION, by=("status",), statistic=COUNT, period=WEEK)
    series = {
        "tags": {"status": "failed"},
        "columns": ["time", "duration"],
        "values": [[at(1, 23), 2], [at(8, 23), None]],
    }
    found = influxql_rows(question, [series])
    expected = Row(at(1, 23), {"status": "failed"}, {"duration": 2.0})
    assert found == [expected]
    assert differences([expected], found) == []
    for off in (at(1, 22), at(2, 0)):  # as in the week after the clocks changed
        assert differences([expected], [found[0]._replace(time_ns=off)]) == []
    two_hours = found[0]._replace(time_ns=at(2, 1))
    assert differences([expected], [two_hours]) == [(expected, None), (None, two_hours)]
    image = Row(at(1, 23) + 1, {}, {"duration": 2.0})
    assert len(differences([image], [image._replace(time_ns=at(2, 0) + 1)])) == 2
    fewer = found[0]._replace(values={"duration": 1.0})
    assert differences([expected], [fewer]) == [(expected, fewer)]
    of_others = found[0]._replace(tags={"status": "crashed"})
    assert differences([expected], [of_others]) == [(expected, None), (None, of_others)]
