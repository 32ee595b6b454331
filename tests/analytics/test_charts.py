from __future__ import annotations

import random
from math import inf, sqrt
from statistics import NormalDist

import pytest

from monitoring.analytics.changes import WINDOW, change_point, rate_gain
from monitoring.analytics.charts import (
    DAY_NS,
    Budget,
    Crossing,
    Dependence,
    EventChart,
    NumberChart,
    SilenceChart,
    working_days_before,
)
from monitoring.analytics.limits import (
    DAYS_WEIGHT,
    MULTIPLES,
    alarm_once_in,
    detectable_shift,
    exams_to_alarm,
    likelihood_ratios,
    limit,
)
from monitoring.analytics.ranks import REFERENCE, score_among

HOUR_NS = DAY_NS // 24
MONDAY_NS = 20_605 * DAY_NS  # 2026-06-01


def a_budget(every: float = 3_600.0, false_alarms_a_year: float = 2.0) -> Budget:
    """A chart of one exam a day, charted with so many others that it may alarm once in `every` exams."""
    return Budget(false_alarms_a_year, lambda _: round(every * false_alarms_a_year / 365.25))


def daily(values: list[float], stratum: str = "") -> list[tuple[int, float, str]]:
    return [(MONDAY_NS + number * DAY_NS, value, stratum) for number, value in enumerate(values)]


# --- oracles --------------------------------------------------------------------------------------


def test_sequential_normal_scores_and_their_average():
    earlier: list[float] = []
    scores = [score_among(earlier, value) for value in (3.1, 2.7, 3.5, 3.5, 2.9, 4.0, 2.0)]
    ranks = [NormalDist().cdf(score) for score in scores]
    assert ranks == pytest.approx([0.5, 0.25, 0.833333, 0.75, 0.3, 0.916667, 0.071429], abs=5e-7)
    assert scores == pytest.approx([0, -0.67449, 0.96742, 0.67449, -0.52440, 1.38299, -1.46523], abs=5e-6)
    z, averages = 0.0, []
    for score in scores:
        z = 0.95 * z + 0.05 * score
        averages.append(z)
    expected = [0, -0.033724, 0.016333, 0.049241, 0.020559, 0.088680, 0.010985]
    assert averages == pytest.approx(expected, abs=5e-7)


def fixed(chart: NumberChart, every: float = 3_600.0) -> NumberChart:
    """With the limit of `every`, whatever a year brings."""
    chart.limit, chart.every, chart.next_look = limit(every) * sqrt(0.05 / 1.95), every, 10**9
    return chart


def test_a_step_is_found_at_the_stated_exam_and_without_it_nothing_is():
    residues = [37 * i % 101 for i in range(1, 101)]
    chart = fixed(NumberChart())
    assert list(chart.extend(daily(residues[:60]), a_budget())) == []
    assert chart.z == pytest.approx(0.090786, abs=5e-7)
    [found, *_] = chart.extend([(t, x + 60, s) for t, x, s in daily(residues)[60:]], a_budget())
    assert (found.exams, found.time_ns) == (67, MONDAY_NS + 66 * DAY_NS)
    assert found.score == pytest.approx(0.535950, abs=5e-7)
    assert found.limit == pytest.approx(0.531706, abs=5e-7)
    # Of the seven values after it the sixth and seventh would also lie among those before: the date is a range.
    assert found.earliest_ns <= MONDAY_NS + 60 * DAY_NS <= found.latest_ns
    assert list(fixed(NumberChart()).extend(daily(residues), a_budget())) == []


def test_shiryaev_roberts_of_one_larger_rate():
    r, found = 0.0, []
    for event in (0, 0, 1, 0, 1, 1):
        without, with_it = (1 - 0.06) / (1 - 0.02), 0.06 / 0.02
        r = (1 + r) * (with_it if event else without)
        found.append(r)
    assert found == pytest.approx([0.95918, 1.87922, 8.63765, 9.24428, 30.73283, 95.1985], rel=5e-6)
    chart = EventChart(accepted=0.02)
    list(chart.extend([(MONDAY_NS + i, bool(e), "") for i, e in enumerate((0, 0, 1, 0, 1, 1))], a_budget(1e9)))
    assert chart.statistics[1] == pytest.approx(95.1985, rel=5e-6)  # p1 = 3 x .02


def test_the_date_of_a_change():
    found = change_point([0, 1] * 5 + [2, 3] * 3)
    assert found is not None
    assert found.after == 10
    assert found.earliest <= 10 <= found.latest


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (360, 2.478), (720, 2.7597), (1_000, 2.8838), (1_800, 3.0926), (2_700, 3.2281), (3_600, 3.3205),
        (5_400, 3.4459), (7_200, 3.5319), (10_800, 3.6492), (18_000, 3.7911), (36_000, 3.9747),
    ],
)  # fmt: skip
def test_limits_of_the_published_routine(every, expected):
    assert limit(every) == pytest.approx(expected, abs=5e-5)
    assert limit(every * 1.0001) > limit(every)


def test_limits_between_beyond_and_below_the_table():
    assert limit(900, DAYS_WEIGHT) == 3.0228
    assert 2.7597 < limit(900) < 2.8838
    assert limit(900) == pytest.approx(2.8446, abs=0.002)  # by the integral equation
    assert limit(72_000) == pytest.approx(4.1493, abs=0.01)
    assert limit(1) == limit(360) == 2.478
    assert limit(10_000_000) > limit(3_600_000)


def test_the_budget_is_dealt_out_evenly_and_never_below_a_year_of_a_clinic():
    assert alarm_once_in(25, 360) == 4_500
    assert alarm_once_in(25, 60) == 750
    assert alarm_once_in(2, 60) == 360
    assert alarm_once_in(25, 360, false_alarms_a_year=4) == 2_250


def test_shifts_that_would_have_been_noticed():
    table = {50: (1.59, 1.06, 0.85, 0.81), 100: (1.41, 0.92, 0.70, 0.63), 200: (1.29, 0.85, 0.61, 0.53)}
    for exams, shifts in table.items():
        assert tuple(detectable_shift(exams, within) for within in (15, 30, 60, 90)) == shifts
    assert detectable_shift(49) is None
    assert detectable_shift(400) == detectable_shift(40_000) == 0.79
    assert detectable_shift(100, weight=DAYS_WEIGHT) == 0.96
    between = detectable_shift(141)
    assert between is not None
    assert 0.85 < between < 0.92
    later = detectable_shift(100, every=36_000)
    assert later is not None
    assert later > 0.92


def test_delays_of_event_charts():
    assert [round(exams_to_alarm(0.02, multiple)) for multiple in MULTIPLES] == [335, 136, 56, 21]
    assert exams_to_alarm(0.01, 2) == pytest.approx(536)
    assert exams_to_alarm(0.0001, 2) == exams_to_alarm(0.001, 2) == pytest.approx(1_868)  # rare events take years
    assert 173 < exams_to_alarm(0.03, 2) < 335
    assert exams_to_alarm(0.4, 2) == pytest.approx(18)  # as accepted of errors over 5 mm: 80 % is soon seen
    assert [round(exams_to_alarm(0.05, 2, every)) for every in (1, 360, 3_600, 36_000)] == [75, 75, 173, 292]
    assert exams_to_alarm(0.05, 2, 200_000) > 292


def test_silence_at_30_exams_a_month():
    """A = 4500 and 30 exams in 21 working days: ln(A) / r is 5.9 working days."""
    chart = SilenceChart()
    list(chart.extend(weekday_exams(400), Budget(2.0, lambda _: 25)))
    assert chart.allowed_days == 6.0


# --- numbers --------------------------------------------------------------------------------------


def test_equal_values_take_the_middle_rank_and_say_nothing():
    chart = NumberChart()
    assert list(chart.extend(daily([0.0] * 500), a_budget(360))) == []
    assert chart.z == 0.0
    assert chart.sd() == 0.0


def test_after_an_alarm_z_begins_at_0_and_what_lies_before_the_change_is_past():
    generator, chart = random.Random(12), NumberChart()
    list(chart.extend(daily([generator.gauss(0, 1) for _ in range(200)]), a_budget()))
    for number in range(200, 220):
        found = list(chart.extend([(MONDAY_NS + number * DAY_NS, generator.gauss(3, 1), "")], a_budget()))
        if found:
            break
    [alarm] = found
    assert chart.z == 0.0
    assert chart.changed_ns == alarm.change_ns
    assert alarm.since == (alarm.time_ns - alarm.change_ns) // DAY_NS + 1
    later = daily([generator.gauss(3 if number >= 200 else 0, 1) for number in range(260)])
    again = list(chart.extend([point for point in later if point[0] > alarm.time_ns], a_budget()))
    assert again
    assert all(found.earliest_ns >= alarm.change_ns for found in again)


def test_in_pieces_it_is_the_same_chart():
    generator = random.Random(3)
    points = daily([generator.gauss(0, 1) + (number > 300) for number in range(600)])
    whole, pieces = NumberChart(), NumberChart()
    expected = list(whole.extend(points, a_budget()))
    found: list[Crossing] = []
    while points:
        size = generator.randint(1, 50)
        found += pieces.extend(points[:size], a_budget())
        points = points[size:]
    assert expected
    assert found == expected
    assert pieces == whole


def test_exams_are_ranked_within_their_stratum():
    """Two devices that differ by 50 mm: nothing is wrong; then one of them alone moves by 3 SD."""
    generator, points = random.Random(7), []
    for number in range(500):
        device = "a" if generator.random() < 0.7 else "b"
        moved = 3.0 if device == "b" and number >= 400 else 0.0
        points.append(
            (MONDAY_NS + number * DAY_NS, (50.0 if device == "b" else 0.0) + generator.gauss(moved, 1), device)
        )
    chart = NumberChart()
    assert list(chart.extend(points[:400], a_budget())) == []
    [found, *_] = chart.extend(points[400:], a_budget())
    assert found.strata == ("b",)
    assert found.size == pytest.approx(3, abs=0.9)  # of b's exams alone
    assert found.since < 0.6 * (found.exams - 400)
    assert chart.sd() == pytest.approx(1.2, abs=0.3)


def test_a_stratum_that_moves_the_other_way_is_not_where_the_alarm_sits():
    generator, points = random.Random(7), []
    for number in range(260):
        device = "ab"[number % 3 == 0]
        moved = {"a": -3.0, "b": 1.5}[device] if number >= 200 else 0.0
        points.append((MONDAY_NS + number * DAY_NS, generator.gauss(moved, 1), device))
    [found, *_] = [alarm for alarm in NumberChart().extend(points, a_budget()) if alarm.exams > 200]
    assert found.score < 0
    assert found.strata == ("a",)


def placed(shares: list[float], shift: float, on: tuple[int, ...], seed: int) -> list[tuple[str, ...]]:
    """Where an alarm of a fault on some of the strata is said to sit: when it is found, and each time later."""
    generator, chart, points = random.Random(seed), NumberChart(), []
    for number in range(440):
        [which] = generator.choices(range(len(shares)), shares)
        moved = shift if number >= 240 and which in on else 0.0
        points.append((MONDAY_NS + number * DAY_NS, generator.gauss(10 * which + moved, 1), "abcde"[which]))
    for crossing in chart.extend(points[:340], a_budget()):
        if crossing.exams > 240:
            list(chart.extend(points[340:], a_budget()))
            since = [point for point in chart.past if point[0] >= crossing.change_ns]
            ends = [end for end in (30, 100, len(since)) if end <= len(since)]
            return [
                crossing.strata,
                *(chart.extent(crossing.before, since[:end], crossing.score).strata for end in ends),
            ]
    return []


@pytest.mark.parametrize("shares", [[1, 1, 1, 1], [1, 1, 1, 1, 0.08]])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_a_fault_on_all_devices_is_said_to_sit_on_none_alone(shares, shift):
    found = [placed(shares, shift, tuple(range(5)), seed) for seed in range(40)]
    said = [where for each in found for where in each]
    assert len(said) > 100
    assert sum(where != () for where in said) <= 0.05 * len(said)


@pytest.mark.parametrize(("on", "names"), [((0,), ("a",)), ((1, 2), ("b", "c")), ((0, 1, 3), ("a", "b", "d"))])
def test_a_fault_on_some_devices_is_said_to_sit_there_once_exams_show_it(on, names):
    found = [each for seed in range(40) if (each := placed([1, 1, 1, 1], 2.0, on, seed))]
    assert len(found) >= 10
    assert sum(each[-1] == names for each in found) >= 0.9 * len(found)
    assert sum(where not in ((), names) for each in found for where in each) <= 0.05 * sum(map(len, found))


def test_events_sit_where_they_came_more_often_than_there_before():
    """Twice in ten at one device as always, and in six of ten exams instead of one at another."""
    chart, generator, points = EventChart(accepted=0.2), random.Random(2), []
    for number in range(600):
        device = "ab"[number % 2]
        rate = {"a": 0.2, "b": 0.1 if number < 400 else 0.6}[device]
        points.append((MONDAY_NS + number * DAY_NS, generator.random() < rate, device))
    [found, *_] = [each for each in chart.extend(points, a_budget()) if each.exams > 400]
    since = [point for point in chart.past if point[0] >= found.change_ns]
    extent = chart.extent(found.before, since, found.score)
    assert extent.strata == ("b",)
    assert extent.size == pytest.approx(0.25, abs=0.1)  # of all exams
    assert extent.exams == len(since)


def test_events_that_come_more_often_everywhere_are_said_to_sit_nowhere_alone():
    said = []
    for seed in range(40):
        chart, generator = EventChart(accepted=0.05), random.Random(seed)
        fails = [generator.random() < (0.2 if number >= 240 else 0.05) for number in range(400)]
        points = [(at, fail, generator.choice("abcd")) for at, fail, _ in daily(fails)]
        crossings = [each for each in chart.extend(points, a_budget()) if each.exams > 240]
        for found in crossings[:1]:
            since = [point for point in chart.past if point[0] >= found.change_ns]
            said += [found.strata, chart.extent(found.before, since, found.score).strata]
    assert len(said) >= 60
    assert sum(where != () for where in said) <= 0.1 * len(said)


def test_the_size_of_more_frequent_events_is_of_all_exams_since():
    """The first five fail, which raises the alarm; of those after them every other one."""
    chart = EventChart(accepted=0.05)
    fails = [*[False] * 100, *[True] * 5, *[number % 2 == 0 for number in range(58)]]
    [found, *_] = chart.extend([(at, fail, "") for at, fail, _ in daily(fails)], a_budget())
    assert found.size == pytest.approx(1.0)
    since = [point for point in chart.past if point[0] >= found.change_ns]
    extent = chart.extent(found.before, since, found.score)
    assert (extent.exams, extent.size) == (63, pytest.approx(34 / 63))


def test_before_exam_21_nothing_is_charted_and_no_alarm_can_come():
    chart = NumberChart()
    assert list(chart.extend(daily([0.0] * 10 + [100.0] * 10), a_budget(360))) == []
    assert chart.z == 0.0
    list(chart.extend(daily([100.0] * 11 + [0.0])[-1:], a_budget(360)))
    assert chart.z != 0.0


def test_a_stratum_that_has_become_long_is_ranked_against_its_first_values():
    earlier = [float(number) for number in range(REFERENCE)]
    assert score_among(earlier, REFERENCE / 2 - 0.5) == pytest.approx(0.0, abs=1e-3)
    assert len(earlier) == REFERENCE


def test_a_change_is_looked_for_in_the_last_five_hundred_points():
    chart = NumberChart()
    list(chart.extend(daily([0.0] * 5_000), a_budget()))
    assert WINDOW <= len(chart.past) <= 2 * WINDOW


def test_the_size_of_a_change_is_in_the_unit():
    generator = random.Random(12)
    values = [generator.gauss(100, 2) + (5.0 if number >= 200 else 0.0) for number in range(260)]
    chart = NumberChart()
    assert list(chart.extend(daily(values[:200]), a_budget())) == []
    [found, *_] = chart.extend(daily(values)[200:], a_budget())
    assert found.size == pytest.approx(5.0, abs=1.5)
    assert abs(found.change_ns - MONDAY_NS - 200 * DAY_NS) <= 3 * DAY_NS
    assert found.earliest_ns <= found.change_ns <= found.latest_ns <= found.time_ns


# --- exams that depend on one another -------------------------------------------------------------


def clustered(days: int, a_day: int, share: float, seed: int = 1) -> list[tuple[int, float, str]]:
    generator, points = random.Random(seed), []
    for day in range(days):
        common = generator.gauss(0, sqrt(share))
        for number in range(a_day):
            value = common + generator.gauss(0, sqrt(1 - share))
            points.append((MONDAY_NS + day * DAY_NS + number * HOUR_NS, value, ""))
    return points


def test_where_clinic_days_differ_they_are_charted_one_point_a_day():
    chart = NumberChart()
    list(chart.extend(clustered(400, 4, 0.3), a_budget()))
    assert chart.by_days
    assert chart.dependence.day_share == pytest.approx(0.3, abs=0.07)
    alone = NumberChart()
    list(alone.extend(clustered(400, 4, 0.0), a_budget()))
    assert not alone.by_days
    assert alone.dependence.day_share == pytest.approx(0.0, abs=0.05)


def test_what_days_have_in_common_by_nature_is_charted_by_days_before_it_can_be_measured():
    """Sixty clinic days of six exams are too few to tell dependence from chance in time."""
    alarms, charted = {True: 0, False: 0}, 0
    for seed in range(60):
        points = clustered(60, 6, 0.25, seed)
        for is_declared in alarms:
            chart = NumberChart(by_days=is_declared)
            alarms[is_declared] += sum(1 for _ in chart.extend(points, a_budget(900)))
            assert chart.points == (59 if chart.by_days else 360)
        charted += 39
    assert alarms[True] <= 3 * charted / 900  # 2.6 are due
    assert alarms[False] >= 4 * charted / 900


def test_what_a_chart_of_days_finds_depends_on_the_exams_of_a_day():
    """1 day of 4 exams with a share of .3 scatters by 1 + 3 x .3, and is moved by 4 exams."""
    found = NumberChart()
    list(found.extend(clustered(400, 4, 0.3), a_budget()))
    day_share = found.dependence.day_share
    shift, every = found.detectable_sd(30), found.every
    assert shift is not None
    assert shift == pytest.approx(0.85 * limit(every, DAYS_WEIGHT) / 3.4615 * sqrt((1 + 3 * day_share) / 4), rel=1e-3)
    alone = NumberChart()
    list(alone.extend(clustered(400, 4, 0.0), a_budget()))
    assert alone.detectable_sd(30) == detectable_shift(1_600, 30, alone.every)


def test_dependence_of_neighbours_is_their_correlation():
    generator, value, values = random.Random(4), 0.0, []
    for _ in range(600):
        value = 0.4 * value + generator.gauss(0, 1)
        values.append(value)
    chart = NumberChart()
    list(chart.extend(daily(values), a_budget()))
    assert chart.dependence.neighbours == pytest.approx(0.4, abs=0.1)
    assert chart.by_days


def test_the_day_share_is_the_intraclass_correlation():
    """Of three days with 2, 3 and 4 scores, by the mean squares written out."""
    days = [[1.0, 2.0], [4.0, 5.0, 6.5], [-1.0, 0.0, 1.0, 0.5]]
    every = [score for day in days for score in day]
    sums = Dependence(
        count=9, days=3, total=sum(every), squares=sum(score**2 for score in every),
        day_squares=sum(sum(day) ** 2 / len(day) for day in days), counts_squared=4 + 9 + 16,
    )  # fmt: skip
    grand = sum(every) / 9
    between = sum(len(day) * (sum(day) / len(day) - grand) ** 2 for day in days) / 2
    within = sum((score - sum(day) / len(day)) ** 2 for day in days for score in day) / 6
    size = (9 - 29 / 9) / 2
    assert sums.day_share == pytest.approx((between - within) / (between + (size - 1) * within))


def test_a_days_point_is_the_sum_of_its_scores_over_the_root_of_their_number():
    generator, chart, earlier = random.Random(9), NumberChart(), []
    days = []
    for day in range(30):
        values = [generator.gauss(0, 1) for _ in range(1 + day % 4)]
        scores = [score_among(earlier, value) for value in values]
        days.append(sum(scores) / sqrt(len(scores)))
        points = [(MONDAY_NS + day * DAY_NS + n, value, "") for n, value in enumerate(values)]
        list(chart.extend(points, a_budget()))
    assert chart.earlier_days == pytest.approx(sorted(days[:-1]))


def test_a_day_counts_once_it_is_over():
    points = clustered(400, 4, 0.3)
    chart = NumberChart()
    list(chart.extend(points, a_budget()))
    before = chart.z
    list(chart.extend([(points[-1][0] + HOUR_NS, 9.0, "")], a_budget()))
    assert chart.z == before
    list(chart.end_day())
    assert chart.z != before
    after = chart.z
    list(chart.end_day())  # it is over once
    assert chart.z == after


# --- events ---------------------------------------------------------------------------------------


def test_a_rate_that_is_accepted_raises_no_alarm_and_a_fivefold_one_does():
    generator = random.Random(5)
    chart = EventChart(accepted=0.05)
    points = [(MONDAY_NS + n * DAY_NS, generator.random() < 0.05, "") for n in range(2_000)]
    assert list(chart.extend(points, a_budget())) == []
    later = [(MONDAY_NS + n * DAY_NS, generator.random() < 0.25, "") for n in range(2_000, 2_200)]
    [found, *_] = chart.extend(later[:50], a_budget())
    assert found.score >= found.limit == found.every
    assert chart.statistics[0] < found.every / 100  # they began at 0 again
    assert chart.running[0] > found.every  # and those that are never set back did not
    assert found.size == pytest.approx(0.2, abs=0.12)
    assert found.earliest_ns <= MONDAY_NS + 2_000 * DAY_NS <= found.latest_ns
    assert abs(found.change_ns - MONDAY_NS - 2_000 * DAY_NS) < 60 * DAY_NS
    assert chart.e_value > 20


def test_larger_rates_end_below_nine_tenths():
    assert [round(with_it) for _, with_it in likelihood_ratios(0.05)] == [2, 3, 5, 10]
    assert [round(with_it) for _, with_it in likelihood_ratios(0.2)] == [2, 3]
    assert likelihood_ratios(0.05)[0][0] == pytest.approx(0.9 / 0.95)


# --- silence --------------------------------------------------------------------------------------


def weekday_exams(count: int) -> list[tuple[int, float, str]]:
    """Ten exams on seven working days, from a Monday on."""
    days = [day for day in range(1_000) if day % 7 < 5]
    return [(MONDAY_NS + days[number * 7 // 10] * DAY_NS + 9 * HOUR_NS, 0.0, "") for number in range(count)]


def test_working_days_are_monday_to_friday():
    monday = MONDAY_NS // DAY_NS
    counts = [working_days_before(monday + day) - working_days_before(monday) for day in range(9)]
    assert counts == [0, 1, 2, 3, 4, 5, 5, 5, 6]


def test_silence_is_told_after_the_allowed_working_days_and_once():
    points, budget = weekday_exams(200), Budget(2.0, lambda _: 25)
    chart = SilenceChart()
    assert list(chart.extend(points, budget)) == []
    friday = points[-1][0] // DAY_NS
    assert (friday - MONDAY_NS // DAY_NS) % 7 == 4
    assert chart.silent_days((friday + 3) * DAY_NS) == 0  # Monday
    assert chart.silent_days((friday + 4) * DAY_NS) == 1
    assert list(chart.until((friday + 10) * DAY_NS)) == []
    [found] = chart.until((friday + 11) * DAY_NS)
    assert (found.score, found.limit) == (6, 6)
    assert found.time_ns == (friday + 11) * DAY_NS
    [again] = chart.extend([((friday + 30) * DAY_NS, 0.0, "")], budget)
    assert again.time_ns == found.time_ns


def test_before_twenty_exams_silence_says_nothing():
    chart = SilenceChart()
    list(chart.extend(weekday_exams(19), Budget(2.0, lambda _: 25)))
    assert chart.allowed_days == inf
    assert list(chart.until(MONDAY_NS + 900 * DAY_NS)) == []


def test_a_holiday_is_no_silence_however_many_exams_a_day_there_are():
    chart = SilenceChart()
    points = [(MONDAY_NS + day * DAY_NS + n * HOUR_NS // 60, 0.0, "") for day in range(5) for n in range(200)]
    list(chart.extend(points, Budget(2.0, lambda _: 25)))
    assert chart.allowed_days == 3.0


@pytest.mark.parametrize(("weeks_between", "allowed"), [(1, 10.0), (2, 20.0)])
def test_a_clinic_that_is_held_on_one_day_a_week_is_not_silent_in_between(weeks_between: int, allowed: float):
    """With a dozen exams a day, their number alone would make each week's pause an alarm."""
    chart, budget = SilenceChart(), Budget(2.0, lambda _: 25)
    days = [MONDAY_NS + week * weeks_between * 7 * DAY_NS for week in range(60) if week != 30]
    points = [(day_ns + n * HOUR_NS // 60, 0.0, "") for day_ns in days for n in range(14)]
    pieces = (points[:600], points[600:601], points[601:])
    assert [found for piece in pieces for found in chart.extend(piece, budget)] == []  # once it was left out
    assert chart.allowed_days == allowed
    at_once = SilenceChart()
    list(at_once.extend(points, budget))
    assert at_once.usual_days == chart.usual_days
    last_ns = points[-1][0] // DAY_NS * DAY_NS
    weeks = 2 * weeks_between
    assert list(chart.until(last_ns + weeks * 7 * DAY_NS)) == []
    [found] = chart.until(last_ns + (weeks + 1) * 7 * DAY_NS)
    assert found.limit == allowed


# --- changes --------------------------------------------------------------------------------------


def test_the_range_of_a_date_holds_it_in_nine_of_ten_runs():
    generator, held, runs = random.Random(6), 0, 300
    for _ in range(runs):
        values = [generator.gauss(0, 1) for _ in range(100)] + [generator.gauss(1, 1) for _ in range(20)]
        found = change_point(values)
        assert found is not None
        held += found.earliest <= 100 <= found.latest
    assert 0.85 <= held / runs <= 0.98


def test_the_range_holds_the_date_where_the_exams_of_a_day_depend_on_one_another():
    """Six exams a working day, four tenths of the variance in common, a step of an SD after 12 weeks."""
    generator, held, found = random.Random(6), 0, 0
    for _ in range(60):
        chart, budget, first_ns = NumberChart(by_days=True), Budget(2.0, lambda _: 54), 0
        for day in (day for day in range(120) if day % 7 < 5):
            common, day_ns = generator.gauss(0.0 if day < 84 else 1.0, 0.4**0.5), MONDAY_NS + day * DAY_NS
            first_ns = day_ns if day == 84 else first_ns
            points = [(day_ns + n * HOUR_NS, common + generator.gauss(0, 0.6**0.5), "") for n in range(6)]
            if crossing := next(chart.extend(points, budget), None):
                found += day > 84
                held += day > 84 and crossing.earliest_ns <= first_ns <= crossing.latest_ns
                break
    assert found >= 20
    assert held >= 0.9 * found


def test_no_date_from_five_values():
    assert change_point([0.0, 1.0, 2.0, 3.0, 4.0]) is None


def test_a_large_step_has_one_date():
    assert change_point([0.0] * 20 + [9.0] * 20) == (20, 20, 20)


def test_a_burst_of_events_is_no_better_date_than_the_larger_rate_that_it_is_of():
    """One event in 20, then one in 4; of the last five exams three have it."""
    events = [0.0] * 19 + [1.0]
    found = change_point(events * 5 + [1.0, 0.0, 0.0, 0.0] * 10 + [1.0, 0.0, 1.0, 0.0, 1.0], rate_gain)
    assert found is not None
    assert 96 <= found.after <= 104
    assert change_point([0.0] * 30, rate_gain) is not None


def test_a_slower_machine_is_slower_whatever_hung_before() -> None:
    generator, chart, points = random.Random(1), NumberChart(), []
    for number in range(200):
        seconds = 600.0 if number in (40, 90) else generator.lognormvariate(0.7, 0.2)
        points.append((number // 2 * DAY_NS + number, seconds * (1.8 if number >= 150 else 1.0), ""))
    [first, *later] = chart.extend(points, Budget(2.0, lambda _: 48))
    assert first.size == pytest.approx(0.8 * 2.0, abs=0.5)
    assert all(crossing.size > 0 and crossing.score > 0 for crossing in later)


def test_what_fails_from_the_first_session_on_is_too_much() -> None:
    chart = EventChart(accepted=0.05)
    found = list(chart.extend([(number * DAY_NS, True, "") for number in range(1, 11)], Budget(2.0, lambda _: 1)))
    assert found
    assert all(crossing.size == pytest.approx(0.95) for crossing in found)
    assert {crossing.change_ns for crossing in found} == {DAY_NS}


def test_the_first_sessions_are_held_to_the_budget_of_all_charts() -> None:
    """They were held to once in 360, as if there were no other chart yet: three crashes in ten sessions sufficed."""
    chart = EventChart(accepted=0.01)
    points = [(number * DAY_NS, number in (4, 7, 10), "") for number in range(1, 11)]
    assert list(chart.extend(points, Budget(2.0, lambda at_ns: 25 if at_ns else 0))) == []
    assert chart.every == 25 * 360 / 2


def test_events_of_a_new_device_have_a_size() -> None:
    chart = EventChart(accepted=0.05)
    points = [(number * DAY_NS, number > 40, "new" if number > 40 else "old") for number in range(1, 51)]
    found = next(chart.extend(points, Budget(2.0, lambda _: 1)))
    assert (found.size, found.change_ns) == (1.0, 41 * DAY_NS)


def test_the_change_that_is_looked_for_has_the_alarms_direction() -> None:
    falls_then_rises = [2.0] * 20 + [0.0] * 60 + [1.0] * 6
    either, up = change_point(falls_then_rises), change_point(falls_then_rises, direction=1.0)
    assert (either and either.after, up and up.after) == (20, 80)
    assert change_point([3.0] * 10 + [1.0] * 10, direction=1.0) is None
