"""What a report says of known stores, and the monthly picture and table behind it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from scipy import stats

from monitoring.analytics import report as reports
from monitoring.analytics.analysis import ACKNOWLEDGE, Analysis, act, analyse
from monitoring.analytics.charts import DAY_NS
from monitoring.analytics.control_limits import exams_between, individuals
from monitoring.analytics.drill import Alarmed, Drill, Finding, Shuffled, keep
from monitoring.analytics.intervals import mean_interval, rate_interval
from monitoring.analytics.material import Material, Period, Placed, Seen, gather
from monitoring.analytics.months import Month, by_month, gaps, last_whole_month, p_value
from monitoring.analytics.pictures import HEIGHT, WIDTH, picture, picture_of_gaps
from monitoring.analytics.report import alarm_groups, groups
from monitoring.analytics.reported import DrilledFault, Report
from monitoring.analytics.states import look_first
from monitoring.analytics.wording import icon_of, in_unit, title_of
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import readings
from monitoring.store.analysis import forget_checkpoint
from tests.support.exams import BIAS, BONE, EXAMS, MONDAY_NS, a_store, exam, exams

PERIOD = Period(date(2026, 6, 1), date(2026, 9, 14))
NOW_NS = exam(EXAMS - 1).ended_ns + 4 * 3600 * 10**9


def report_of(folder: Path, records: Iterable[SessionRecord], period: Period = PERIOD) -> Report:
    folder.mkdir(exist_ok=True)
    with a_store(folder, records) as store:
        return reports.make(gather(store, AnalyticsConfig(), period, NOW_NS))


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two exams a working day; one model is 8 mm off from exam 110 on. Nobody read."""
    return report_of(tmp_path_factory.mktemp("biased"), exams())


def at(month: int, day: int, hour: int = 9) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp()) * 10**9


# --- the whole ----------------------------------------------------------------------------------


def test_the_first_sentence_is_the_verdict_with_what_where_how_much_and_since_when(biased: Report) -> None:
    assert biased.verdict.startswith("3 alarms to answer: one model's length less the mean of the others': middle, ")
    assert "left tibia changed by +" in biased.verdict
    [alarm] = [alarm for alarm in biased.alarms if alarm.chart == BIAS]
    assert f" mm over {alarm.size_exams} exams since 2026-08-" in biased.verdict
    assert (alarm.icon, alarm.status, alarm.audience) == ("neither", "open", "clinician")


def test_an_icon_follows_the_alarm_and_every_chart_says_what_it_would_have_noticed(biased: Report) -> None:
    alarmed = {alarm.chart for alarm in biased.alarms}
    for chart in biased.charts:
        assert bool(chart.letter) == (chart.chart in alarmed) == (chart.state == "alarm"), chart.chart
        assert chart.noticed
        assert (chart.to_do != "Nothing.") == (chart.chart in alarmed)
    [one] = [chart for chart in biased.charts if chart.chart == BIAS]
    assert (one.icon, one.letter, one.count) == ("neither", "H", EXAMS)
    assert one.looked_at == f"{EXAMS} exams since 2026-06-01"
    assert one.noticed.endswith("within 30 exams")
    score, limit = map(float, re.findall(r"score was ([\d.]+), its limit ([\d.]+);", one.sure)[0])
    assert score > limit
    assert {month.month for month in one.months if month.is_changed} == {"2026-08", "2026-09"}
    assert sum(month.count for month in one.months) == EXAMS
    [group] = [group for group in groups(biased.charts) if group.series == "model_difference"]
    assert (group.charts, group.states) == (12, "9 watching, 3 alarm")
    assert group.noticed.endswith(" mm within 30 exams")
    mixed = groups([replace(one, by_days=True), replace(one, by_days=False)])
    assert mixed[0].noticed.endswith(" within 30 exams or clinic days")
    assert groups([replace(one, by_days=True)] * 2)[0].noticed.endswith(" within 30 clinic days")


def test_a_steady_site_has_no_alarm_and_does_not_say_more_than_it_sees(tmp_path: Path) -> None:
    steady = report_of(tmp_path, [exam(number, False) for number in range(EXAMS)])
    assert steady.alarms == ()
    assert steady.verdict.startswith("No change found: ")
    assert "what they would have noticed" in steady.verdict
    assert {chart.icon for chart in steady.charts} == {"common"}
    assert not any(chart.is_discovery for chart in steady.charts)


def test_few_exams_or_none_are_told_as_such(tmp_path: Path) -> None:
    nothing, three = report_of(tmp_path / "empty", []), report_of(tmp_path / "three", exams(range(3)))
    assert nothing.verdict == "Nothing can be said yet: no session is stored."
    assert (nothing.charts, nothing.failure_interval, nothing.exams) == ((), None, 0)
    assert three.verdict.startswith("Too early to say whether measurements change: 3 of 20 exams")
    assert {chart.icon for chart in three.charts if chart.kind == "number"} == {"learning"}
    assert three.verdict_for["clinician"].startswith("Too early to say whether measurements change: 3 of 20 exams; ")
    assert three.verdict_for["operator"].startswith("Too early to say whether durations and memory change: ")
    assert " of 20 clinic days; " in three.verdict_for["operator"]
    assert set(nothing.verdict_for.values()) == {nothing.verdict}


def test_an_open_alarm_is_told_though_all_sessions_have_left_the_store(tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        stood = [alarm.alarm_id for alarm in analyse(store, AnalyticsConfig(), NOW_NS).alarms]
        with store.database.transaction() as connection:
            connection.execute("DELETE FROM sessions")
            forget_checkpoint(connection)
        found = reports.make(gather(store, AnalyticsConfig(), PERIOD, NOW_NS))
    assert (found.sessions, found.charts) == (0, ())
    assert sorted(alarm.alarm_id for alarm in found.alarms) == sorted(stood)
    assert f"{len(stood)} alarm" in found.verdict
    assert "to answer" in found.verdict_for["clinician"]


def test_sessions_are_counted_by_how_they_ended_and_failures_have_an_interval(tmp_path: Path) -> None:
    records = [replace(exam(number), status="failed" if number % 10 == 0 else "completed") for number in range(60)]
    found = report_of(tmp_path, records)
    assert found.by_status == {"completed": 54, "failed": 6, "skipped": 0, "crashed": 0}
    assert found.failure_interval == rate_interval(60, 6)
    assert [(month.month, sum(month.by_status.values())) for month in found.months] == [
        ("2026-06", 44),
        ("2026-07", 16),
    ]
    [failed] = [chart for chart in found.charts if chart.chart == "failed"]
    assert (failed.events, failed.count, failed.interval) == (6, 60, rate_interval(60, 6))
    assert found.exams == 54


def test_only_the_period_is_counted_but_open_alarms_are_always_told(tmp_path: Path) -> None:
    june = report_of(tmp_path, exams(), Period(date(2026, 6, 1), date(2026, 6, 30)))
    assert june.sessions == sum(exam(number).ended_ns < at(7, 1, 0) for number in range(EXAMS)) == 44
    assert {month.month for chart in june.charts for month in chart.months} == {"2026-06"}
    assert BIAS in {alarm.chart for alarm in june.alarms}


def test_a_verdict_is_of_the_readers_own_charts_and_counts_what_others_have_to_answer(tmp_path: Path) -> None:
    """A model is off, and then all sessions fail."""
    failed = [replace(exam(number), status="failed") for number in range(EXAMS - 20, EXAMS)]
    found = report_of(tmp_path, [*exams(range(EXAMS - 20)), *failed])
    clinical = sum(alarm.audience == "clinician" for alarm in found.alarms)
    assert clinical > 1
    assert {alarm.chart for alarm in found.alarms if alarm.audience == "operator"} == {"failed"}
    assert found.verdict.startswith(f"{clinical + 1} alarms to answer: one model's length ")
    assert found.verdict_for["clinician"].startswith(f"{clinical} alarms to answer: one model's length ")
    assert found.verdict_for["clinician"].endswith(f"; {clinical - 1} more open; the operator has 1 alarm to answer.")
    operator = found.verdict_for["operator"]
    assert operator.startswith("1 alarm to answer: sessions that failed changed by +")
    assert operator.endswith(f"; the clinician has {clinical} alarms to answer.")


def test_what_one_model_moves_names_it_and_another_fault_does_not(tmp_path: Path, biased: Report) -> None:
    """The other models' charts of that bone are held against it; its own says what to do."""
    by_chart = {alarm.chart: alarm for alarm in biased.alarms}
    lead = by_chart.pop(BIAS)
    assert (lead.look_first, len(by_chart)) == ("", 2)
    assert {alarm.look_first for alarm in by_chart.values()} == {lead.alarm_id}
    to_do = {chart.chart: chart.to_do for chart in biased.charts}
    words = f"Look first at one model's length less the mean of the others': middle, left tibia ({lead.alarm_id})"
    assert all(to_do[chart].startswith(words) for chart in by_chart)
    assert to_do[BIAS].startswith("Look at recent images beside their landmarks.")
    with a_store(tmp_path, exams()) as store:
        alarms = {alarm.chart: alarm for alarm in analyse(store, AnalyticsConfig(), NOW_NS).alarms}
    cause = alarms.pop(BIAS)
    one = next(iter(alarms.values()))
    week_ns = 7 * DAY_NS
    for other, first in (
        (one, cause),
        (replace(one, chart="quality"), cause),
        (replace(one, chart="quality", earliest_ns=cause.latest_ns + week_ns), cause),
        (replace(one, chart="quality", earliest_ns=cause.latest_ns + week_ns + 1), None),  # another fault, later
        (replace(one, latest_ns=cause.earliest_ns - week_ns - 1), None),
        (replace(one, segment="another"), None),
        (replace(one, chart="model_difference/first/PLL_R_FEM"), None),  # of another bone
        (replace(one, chart="confidence"), None),
        (cause, None),
    ):
        assert look_first(other, [cause, other]) == first, other


def test_an_answer_stands_beside_its_alarm(tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        config = AnalyticsConfig()
        [alarm] = [alarm for alarm in analyse(store, config, NOW_NS).alarms if alarm.chart == BIAS]
        act(store, config, alarm.alarm_id, ACKNOWLEDGE, "physicist", "weights differ", NOW_NS)
        found = reports.make(gather(store, config, PERIOD, NOW_NS))
    assert [each.answer for each in found.alarms if each.chart == BIAS] == ["physicist: weights differ"]
    assert [chart.to_do for chart in found.charts if chart.chart == BIAS] == ["Answered by physicist: weights differ"]
    assert found.verdict.startswith("2 alarms")


def test_agreement_has_the_interval_that_survives_daily_looks(tmp_path: Path) -> None:
    generator = random.Random(1)
    errors = [generator.gauss(1.5, 2.0) for _ in range(40)]
    with a_store(tmp_path, exams(range(40))) as store:
        with store.database.transaction() as connection:
            for number, error in enumerate(errors):
                reader_mm = {BONE: exam(number).measurements_mm[BONE] - error}
                readings.keep(connection, exam(number).series_key, "reader_1", reader_mm, NOW_NS)
        found = reports.make(gather(store, AnalyticsConfig(), PERIOD, NOW_NS))
    [one] = [one for one in found.agreements if one.measurement == BONE]
    assert one.agreement.pairs == found.exams_read == 40
    assert one.interval == pytest.approx(mean_interval(errors))
    assert one.interval is not None
    assert one.agreement.bias_low_mm is not None
    assert one.interval[0] < one.agreement.bias_low_mm  # wider than one planned look's
    assert one.verdict.status == "provisional"
    far = replace(exam(40), measurements_mm={**exam(40).measurements_mm})
    with a_store(tmp_path, [far]) as store:
        with store.database.transaction() as connection:
            reader_mm = {BONE: far.measurements_mm[BONE] - 12.0}
            readings.keep(connection, far.series_key, "reader_1", reader_mm, NOW_NS)
        found = reports.make(gather(store, AnalyticsConfig(), PERIOD, NOW_NS))
    [strange] = found.strange
    assert (strange.session_id, strange.reasons) == (
        far.session_id,
        ("Measurement less the readers' mean: left tibia: +12.0 mm",),
    )


def test_segments_have_their_own_verdict(tmp_path: Path) -> None:
    records = [exam(n, False) if n < 60 else replace(exam(n, False), application_version="1.5.0") for n in range(150)]
    found = report_of(tmp_path, records)
    assert [(segment.exams, segment.is_current, segment.verdict) for segment in found.segments] == [
        (60, False, "no open alarm"),
        (90, True, "no open alarm"),
    ]
    assert "application 1.5.0" in found.segments[1].words
    [chart] = [chart for chart in found.charts if chart.chart == BIAS]
    assert {month.month for month in chart.months if month.is_earlier} == {"2026-06", "2026-07"}
    assert chart.count == 90


def test_an_alarm_of_an_earlier_version_is_told_as_such(tmp_path: Path, biased: Report) -> None:
    records = [*exams(), replace(exam(EXAMS), application_version="1.5.0")]
    earlier = report_of(tmp_path, records)
    assert [alarm.what for alarm in earlier.alarms] == [
        f"{each.what}, under an earlier version" for each in biased.alarms
    ]
    assert not any("version" in alarm.what for alarm in biased.alarms)
    assert "alarm" not in {chart.state for chart in earlier.charts}


def test_the_digest_is_of_all_else_and_nobody_is_named(biased: Report) -> None:
    rest = msgspec.json.encode(replace(biased, digest=""), order="deterministic")
    assert biased.digest == sha256(rest).hexdigest()
    text = reports.as_json(biased)
    keys = (exam(EXAMS - 1).series_key, exam(EXAMS - 1).study_key, exam(EXAMS - 1).patient_key)
    assert not any(key and key in text for key in keys)
    tables = reports.tables(biased)
    assert {name: len(rows) for name, rows in tables.items()}["charts"] == len(biased.charts)
    assert len({tuple(row) for row in tables["agreement"]}) == 1


def test_years_have_their_own_counts(tmp_path: Path) -> None:
    records = [replace(record, ended_ns=record.ended_ns + 150 * DAY_NS) for record in exams()]
    records[3] = replace(records[3], status="failed")
    period = Period(date(2026, 6, 1), date(2027, 12, 31))
    with a_store(tmp_path, records) as store:
        found = reports.make(gather(store, AnalyticsConfig(), period, records[-1].ended_ns + DAY_NS // 4))
    first, second = found.years
    assert (first.year, second.year) == (2026, 2027)
    assert (first.exams + second.exams, first.by_status["failed"], second.by_status["failed"]) == (EXAMS - 1, 1, 0)
    assert second.exams == sum(record.ended_ns >= at(1, 1) + 365 * DAY_NS for record in records)
    assert (first.alarms, second.alarms, second.open_alarms) == (0, len(found.alarms), len(found.alarms))
    assert [row["failed"] for row in reports.tables(found)["years"]] == [1, 0]


def test_the_regulator_is_told_of_drills_and_of_the_rate_that_they_measured(tmp_path: Path) -> None:
    findings = (
        Finding("knees 2 mm too low", (Alarmed("reader_error/PLL_R_FEM", 12),), ()),
        Finding("ankles 5 mm too low", (Alarmed(BIAS, 4),), (Alarmed(BIAS, 4),)),
    )
    shuffled = Shuffled(20, 200, 0.8, 4.06, 1.24, 2.0, {BIAS: 3})
    with a_store(tmp_path, exams(range(30))) as store:
        config = AnalyticsConfig()
        none = reports.make(gather(store, config, PERIOD, NOW_NS))
        code = next(iter(analyse(store, config, NOW_NS).segments))
        keep(store, Drill("another", 240, 120, 40, findings[:1], shuffled, 30, (BIAS,)), at(8, 1))
        earlier = reports.make(gather(store, config, PERIOD, NOW_NS))
        keep(store, Drill(code, 240, 120, 40, findings, shuffled), at(9, 1))
        found = reports.make(gather(store, config, PERIOD, NOW_NS))
    assert (none.drills, none.measured_false_alarms) == ((), "not measured; leglength-monitor drill does")
    assert earlier.measured_false_alarms.endswith("on 2026-08-01, of an earlier segment than the one in use")
    assert found.measured_false_alarms == (
        "4.1 a year (+- 1.2, two standard errors): 200 clinic days in 20 random orders, on 2026-09-01"
    )
    assert [(drill.day, drill.is_of_present) for drill in found.drills] == [("2026-09-01", True), ("2026-08-01", False)]
    assert [drill.unusual.split("; ") for drill in found.drills] == [
        [""],
        [
            "without the newest 30 exams, after a change that raised an alarm",
            "1 alarm in these exams as they are: charts not counted",
        ],
    ]
    words = "after 4 exams: one model's length less the mean of the others': middle, left tibia"
    assert found.drills[0].faults == (
        DrilledFault("knees 2 mm too low", "after 12 exams: measurement less the readers' mean: right femur", ""),
        DrilledFault("ankles 5 mm too low", words, words),
    )
    assert [row["fault"] for row in reports.tables(found)["drills"]] == [
        "knees 2 mm too low", "ankles 5 mm too low", "knees 2 mm too low",
    ]  # fmt: skip


# --- months -------------------------------------------------------------------------------------


def test_months_keep_segments_apart_and_say_what_changed() -> None:
    points = [Placed(at(6, 3), 1.0, "old"), Placed(at(6, 9), 3.0, "old"), Placed(at(6, 20), 8.0, "new")]
    points.append(Placed(at(8, 2), 9.0, "new"))
    assert by_month(points, "new", at(8, 1)) == [
        Month("2026-06", 2, 2.0, is_earlier=True),
        Month("2026-06", 1, 8.0),
        Month("2026-08", 1, 9.0, is_changed=True),
    ]


def test_rare_events_are_shown_by_the_exams_between_them() -> None:
    """Those of the sheet's g chart, at two exams a day; one event a month or so."""
    sizes = [37, 23, 39, 15, 34, 1, 49, 98, 29, 27]
    events = set(accumulate(sizes, initial=5))
    points = [Placed(at(1, 1) + n * DAY_NS // 2, float(n in events), "s") for n in range(max(events) + 9)]
    found = gaps(points, None, in_days=False)
    assert [gap.size for gap in found] == sizes
    assert [gap.size for gap in gaps(points, None, in_days=True)] == [size / 2 for size in sizes]
    assert found[0].day == "2026-01-22"  # the 43rd exam's
    changed = gaps(points, points[5 + 37 + 23].time_ns, in_days=False)
    assert [gap.is_changed for gap in changed] == [False] + [True] * 9
    often = [point._replace(value=float(n % 10 == 0)) for n, point in enumerate(points)]
    assert gaps(often, None, in_days=False) == []
    assert gaps(points[: 5 + 37 + 23 + 1], None, in_days=False) == []  # three events are two gaps
    assert gaps([], None, in_days=False) == []
    drawn = picture_of_gaps(found, "exams", exams_between(sizes))
    assert drawn is not None
    assert drawn.words.startswith("Exams from one event to the next: 2026-01-22: after 37 exams; ")
    assert [level.words for level in drawn.levels] == ["142", "31.5", "0"]
    assert all(drawn.left < mark.x < WIDTH and 0 < mark.y < HEIGHT - 15 for mark in drawn.marks)


def test_a_site_whose_failures_are_rare_sees_the_sessions_between_them(tmp_path: Path) -> None:
    failures = {3, 20, 45, 60, 77, 83, 101, 130}
    records = [
        replace(exam(n), ended_ns=at(1, 1) + n * 2 * DAY_NS, status="failed" if n in failures else "completed")
        for n in range(140)
    ]
    found = report_of(tmp_path, records, Period(date(2026, 1, 1), date(2026, 12, 31)))
    by_chart = {chart.chart: chart for chart in found.charts}
    failed = by_chart["failed"]
    assert [gap.size for gap in failed.gaps] == [17, 25, 15, 17, 6, 18, 29]
    assert (failed.gap_unit, failed.gap_limits) == ("sessions", exams_between([17, 25, 15, 17, 6, 18, 29]))
    assert failed.state == "watching"
    assert by_chart["crashed"].gaps == ()
    assert len([row for row in reports.tables(found)["chart_events"] if row["chart"] == "failed"]) == 7


def test_alarms_of_one_fault_are_told_together_the_open_ones_first(biased: Report) -> None:
    [group] = [group for group in alarm_groups(biased.alarms) if group.lead.chart.startswith("model_difference")]
    assert (group.lead.chart, group.count) == (BIAS, 3)
    answered = [replace(alarm, status="acknowledged", answer=f"me: {n}") for n, alarm in enumerate(biased.alarms)]
    groups_of = alarm_groups([*answered, *biased.alarms])
    assert [each.lead.status for each in groups_of] == ["open", *["acknowledged"] * len(answered)]


def test_words_of_limits_that_lie_close_do_not_lie_upon_one_another() -> None:
    months = [Month(f"2026-{n + 1:02d}", 9, value) for n, value in enumerate([0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 90.0])]
    found = picture(months, "mm", individuals([0.0, 0.1, 0.0, 0.1, 0.0, 0.1]))
    assert found is not None
    assert all(after.words_y - before.words_y >= 9 for before, after in pairwise(found.levels))


def test_the_last_whole_month_is_over_and_within_the_period() -> None:
    period = Period(date(2026, 1, 10), date(2026, 9, 14))
    assert last_whole_month(period, at(12, 1)) == "2026-08"
    assert last_whole_month(period, at(8, 31, 23)) == "2026-07"
    assert last_whole_month(Period(date(2026, 1, 1), date(2026, 8, 31)), at(12, 1)) == "2026-08"
    assert last_whole_month(Period(date(2026, 1, 1), date(2026, 3, 4)), at(1, 20)) is None
    assert last_whole_month(period, at(2, 20)) is None
    assert last_whole_month(Period(date(2025, 1, 1), date(2026, 9, 1)), at(1, 20)) == "2025-12"


def test_p_values_are_those_of_scipy() -> None:
    generator = random.Random(2)
    before = [round(generator.gauss(0, 1), 1) for _ in range(40)]
    now = [round(generator.gauss(0.6, 1), 1) for _ in range(12)]
    points = [Placed(at(6, 1) + n, value, "s") for n, value in enumerate(before)]
    points += [Placed(at(7, 1) + n, value, "s") for n, value in enumerate(now)]
    points += [Placed(at(6, 2) + n, 99.0, "earlier segment") for n in range(50)]
    expected = stats.mannwhitneyu(now, before, method="asymptotic", use_continuity=False).pvalue
    assert p_value(points, "s", "2026-07", is_event=False) == pytest.approx(expected, rel=1e-9)
    assert p_value(points, "s", "2026-06", is_event=False) is None
    assert p_value(points[:44], "s", "2026-07", is_event=False) is None
    events = [Placed(at(6, 1) + n, float(n % 10 == 0), "a") for n in range(40)]
    events += [Placed(at(7, 1) + n, float(n < 5), "b") for n in range(12)]
    expected = stats.fisher_exact([[5, 7], [4, 36]], alternative="greater").pvalue
    assert p_value(events, "", "2026-07", is_event=True) == pytest.approx(expected, rel=1e-9)
    same = [Placed(at(6, 1) + n * DAY_NS, 1.0, "") for n in range(40)]
    assert p_value(same, "", "2026-07", is_event=False) == 1.0


def test_a_picture_holds_its_marks_and_says_them_in_words() -> None:
    values = [0.2, -1.5, 3.0, 0.4, -0.3, 0.0, 1.1]
    months = [Month(f"2026-{n + 1:02d}", 9, value, is_changed=n > 5) for n, value in enumerate(values) if n != 2]
    found = picture(months, "mm", individuals(values))
    assert found is not None
    assert all(found.left < mark.x < WIDTH and 0 < mark.y < HEIGHT - 15 for mark in found.marks)
    assert found.valid_from < found.marks[0].x
    later = picture([Month("2025-12", 9, 4.0, is_earlier=True), *months], "mm", individuals(values))
    assert later is not None
    assert later.marks[0].x < later.valid_from < later.marks[1].x
    assert [line.count("L") for line in found.lines] == [1, 3]  # broken where March is missing
    assert [mark.kind for mark in found.marks] == ["common"] * 5 + ["changed"]
    assert "2026-02: -1.5 mm of 9" in found.words
    assert "Centre" in found.words
    assert sorted(level.y for level in found.levels) == [level.y for level in found.levels]  # y grows downwards
    alone = picture(months[:1], "share", None)
    assert alone is not None
    assert len(alone.marks) == 1
    assert picture([], "mm", None) is None


# --- words --------------------------------------------------------------------------------------


def test_words() -> None:
    assert title_of("model_difference/unet/PLL_R_FEM").endswith("others': unet, right femur")
    assert title_of("z_score/PLL_R_FEM", in_sentence=True) == "SD from the mean for age and sex: right femur"
    assert title_of("failed", in_sentence=True) == "sessions that failed"
    assert title_of("custom_dose") == "The host's own dose"
    assert [in_unit(0.05, "share"), in_unit(0.05, "share", is_change=True)] == ["5.0 %", "+5.0 percentage points"]
    assert [in_unit(-1.25, "mm"), in_unit(0.1234, "ratio"), in_unit(2.0, "s", is_change=True)] == [
        "-1.2 mm", "0.123", "+2.00 s",
    ]  # fmt: skip
    assert [in_unit(0.0032, "s"), in_unit(7879.3, "1"), in_unit(31.5, "exams")] == ["0.0032 s", "7,879", "31.5 exams"]
    assert [in_unit(12.345e9, "bytes"), in_unit(0.04, "mm", is_change=True)] == ["12,345 MB", "+0.04 mm"]
    assert [in_unit(0.5, "s"), in_unit(1234.0, "days", is_change=True)] == [
        "0.50 s", "+1,234 days",
    ]  # fmt: skip
    assert icon_of("failed", 0.1) == ("concern", "H")
    assert icon_of("quality", 0.1) == ("improvement", "H")
    assert icon_of("quality", -0.1) == ("concern", "L")
    assert icon_of("session_seconds", -0.1) == ("improvement", "L")
    assert icon_of("z_score", -0.1) == ("neither", "L")
    assert icon_of("custom_dose", 0.1) == ("neither", "H")


def test_it_begins_on_a_monday() -> None:
    assert Period(date(2026, 6, 1), date(2026, 6, 1)).start_ns == MONDAY_NS
    assert Period(date(2026, 6, 1), date(2026, 6, 1)).end_ns == MONDAY_NS + DAY_NS


def test_an_exam_is_odd_by_the_worse_end_of_several_series() -> None:
    times = [MONDAY_NS + number * DAY_NS for number in range(200)]
    sessions = [Seen(time_ns, f"{number:032x}", "completed") for number, time_ns in enumerate(times)]
    values = [float(number) for number in range(200)]
    points = {
        name: [Placed(time_ns, value, "s") for time_ns, value in zip(times, of, strict=True)]
        for name, of in (("quality", values), ("confidence", values), ("disagreement", values[::-1]))
    }
    nothing = Analysis((), (), {}, {}, 200, 2.0)
    found = reports.make(Material(nothing, PERIOD, NOW_NS, sessions=sessions, points=points)).strange
    assert [one.session_id for one in found] == [f"{1:032x}", f"{0:032x}"]  # of the best, 199, no word
    assert found[0].reasons[0] == "Quality of the measurements: among the smallest of 200"
    alone = reports.make(Material(nothing, PERIOD, NOW_NS, sessions=sessions, points={"quality": points["quality"]}))
    assert alone.strange == ()


def test_equal_values_are_not_odd() -> None:
    times = [MONDAY_NS + number * DAY_NS for number in range(200)]
    sessions = [Seen(time_ns, f"{number:032x}", "completed") for number, time_ns in enumerate(times)]
    points = {name: [Placed(time_ns, 0.5, "s") for time_ns in times] for name in ("quality", "confidence", "z_score")}
    nothing = Analysis((), (), {}, {}, 200, 2.0)
    assert reports.make(Material(nothing, PERIOD, NOW_NS, sessions=sessions, points=points)).strange == ()


def test_what_is_acknowledged_is_not_told_as_unchanged(tmp_path: Path) -> None:
    config = AnalyticsConfig()
    (tmp_path / "silent").mkdir()
    with a_store(tmp_path, exams()) as store:
        for alarm in analyse(store, config, NOW_NS).alarms:
            act(store, config, alarm.alarm_id, ACKNOWLEDGE, "physicist", "known", NOW_NS)
        found = reports.make(gather(store, config, PERIOD, NOW_NS))
    assert found.verdict.startswith("No alarm is open; acknowledged, and perhaps not over: ")
    assert " changed by " in found.verdict
    # The model that is off, and not one that differs from the mean of the others with it.
    assert title_of(BIAS, in_sentence=True) in found.verdict
    late_ns = NOW_NS + 30 * DAY_NS
    with a_store(tmp_path / "silent", exams(range(30))) as store:
        for alarm in analyse(store, config, late_ns).alarms:
            act(store, config, alarm.alarm_id, ACKNOWLEDGE, "physicist", "closed", late_ns)
        found = reports.make(gather(store, config, PERIOD, late_ns))
    assert "not over: no session for " in found.verdict_for["operator"]


def test_exams_that_were_read_are_counted_as_exams_and_events_in_their_own_points(tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(4))) as store:
        with store.database.transaction() as connection:
            for number, name in enumerate(("PLL_R_FEM", "PLL_L_FEM", "PLL_R_TIB")):
                reader_mm = {name: exam(number).measurements_mm[name] + 1.0}
                readings.keep(connection, exam(number).study_key or "", "reader_1", reader_mm, NOW_NS)
        found = reports.make(gather(store, AnalyticsConfig(), PERIOD, NOW_NS))
    assert found.exams_read == 3  # by three bones, one exam each
    noticed = {chart.chart: chart.noticed for chart in found.charts}
    assert noticed["reader_error_over_5_mm"].endswith(" exams")
    assert noticed["failed"].endswith(" sessions")
    assert all("on average" in words for words in (noticed["failed"], noticed["reader_error_over_5_mm"]))


def test_an_alarm_that_came_once_in_so_many_exams_still_says_exams_when_its_chart_counts_days(tmp_path: Path) -> None:
    """Both exams of a day have one dose; it rose at the 60th, and the chart looks at the dependence at the 100th."""
    config = AnalyticsConfig(custom=("dose",))
    doses = [random.Random(number // 2).gauss(3 * (number >= 60), 1) for number in range(120)]
    records = [replace(exam(number, False), custom={"dose": dose}) for number, dose in enumerate(doses)]
    with a_store(tmp_path, records) as store:
        material = gather(store, config, PERIOD, NOW_NS)
    [alarm] = [each for each in material.found.alarms if each.chart == "custom_dose"]
    assert (alarm.by_days, alarm.exams < 100) == (False, True)
    [dose] = [each for each in reports.make(material).charts if each.chart == "custom_dose"]
    assert dose.by_days
    assert dose.sure.endswith(f" once in {alarm.once_in:,.0f} exams.")
    # One that an earlier version kept doesn't say: as the chart counts now.
    older = replace(material.found, alarms=tuple(replace(each, by_days=None) for each in material.found.alarms))
    [dose] = [each for each in reports.make(replace(material, found=older)).charts if each.chart == "custom_dose"]
    assert dose.sure.endswith(f" once in {alarm.once_in:,.0f} clinic days.")


def test_the_limits_of_a_share_are_shares(tmp_path: Path) -> None:
    records = [
        replace(
            exam(n, False),
            ended_ns=at(1 + n // 20, 1) + n * 10**9,
            status="failed" if n in (3, 45, 83, 90) else "completed",
        )
        for n in range(160)
    ]
    found = report_of(tmp_path, records, Period(date(2026, 1, 1), date(2026, 9, 14)))
    [failed] = [chart for chart in found.charts if chart.chart == "failed"]
    assert failed.limits is not None
    assert failed.limits.low == 0.0 < failed.limits.high <= 1.0
