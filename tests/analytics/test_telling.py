"""What both kinds of backends are told of the charts: gauges replaced as a whole, points once a day, alarms once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitoring.analytics.analysis import ACKNOWLEDGE, REBASE, Analysis, act, analyse
from monitoring.analytics.charting import Charting
from monitoring.analytics.charts import DAY_NS
from monitoring.analytics.replay import lines_over_time, looks_over_time
from monitoring.analytics.series import SERIES
from monitoring.analytics.telling import tell
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.line_protocol import Point
from monitoring.metrics.samples import NANOSECONDS
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store import totals
from monitoring.store.erasure import erase
from monitoring.store.outbox import delete_oldest_lines
from monitoring.store.sessions import Store
from tests.support.exams import BIAS, BONE, EXAMS, HOUR_NS, NOW_NS, SINCE, a_store, exam, exams, writes

CONFIG = AnalyticsConfig()
BUILD = SessionWritesBuilder({"instance": "w", "application": "app"}, ("influxdb",))
CHANGED = "leglength_analysis_alarm"
LEARNING, LIMITED, WATCHING, ACKNOWLEDGED, IN_ALARM = range(5)


def look(store: Store, now_ns: int = NOW_NS, build: SessionWritesBuilder = BUILD) -> Analysis:
    return analyse(store, CONFIG, now_ns, build)


def gauges(store: Store) -> dict[str, dict[str, float]]:
    """By the metric's short name and by chart, audience or nothing."""
    found: dict[str, dict[str, float]] = {}
    with store.database.read_transaction() as connection:
        for total in totals.read(connection):
            if total.metric.startswith("leglength_analysis_"):
                labels = dict(total.labels)
                key = labels.get("chart") or labels.get("audience") or ""
                found.setdefault(total.metric.removeprefix("leglength_analysis_"), {})[key] = total.value
    return found


def waiting(store: Store) -> list[tuple[Point, int]]:
    with store.database.read_transaction() as connection:
        rows = connection.execute("SELECT lines FROM outbox WHERE backend = 'influxdb' ORDER BY id").fetchall()
    return [_parsed(line) for (lines,) in rows for line in lines.decode().split("\n")]


def of_charts(told: list[tuple[Point, int]]) -> dict[tuple[str, str], tuple[dict[str, str], dict[str, str], int]]:
    """Each point but those of alarms: tags, fields to nine digits, and instant, by what it is of."""
    found = {}
    for point, time_ns in told:
        if point.measurement != CHANGED:
            fields = {name: f"{value:.9g}" for name, value in point.fields.items()}
            place = point.measurement, point.tags.get("chart") or point.tags.get("audience", "")
            found[place] = (dict(point.tags), fields, time_ns)
    return found


def _parsed(line: str) -> tuple[Point, int]:
    head, fields, time_ns = re.split(r"(?<!\\) ", line)
    measurement, *tags = head.replace("\\ ", " ").split(",")
    pairs = [field.split("=") for field in fields.split(",")]
    return Point(measurement, dict(tag.split("=") for tag in tags), {name: float(value) for name, value in pairs}), int(
        time_ns
    )


def taken(store: Store) -> list[tuple[Point, int]]:
    """What waits, as if it were delivered."""
    found = waiting(store)
    with store.database.transaction() as connection:
        delete_oldest_lines(connection, 10_000)
    return found


def revision(store: Store) -> int:
    with store.database.read_transaction() as connection:
        return int(connection.execute("SELECT value FROM state WHERE key = 'revision'").fetchone()[0])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A site where one model is off from some day on."""
    with a_store(tmp_path, exams()) as made:
        yield made


# --- a state ----------------------------------------------------------------------------------------


def test_the_present_charts_are_told_as_they_are(store: Store) -> None:
    found = look(store)
    told, now = gauges(store), {chart.chart: chart for chart in found.charts if chart.is_current}
    assert {name: chart_metrics.STATES[int(value)] for name, value in told["state"].items()} == {
        name: chart.state for name, chart in now.items()
    }
    assert told["state"][BIAS] == IN_ALARM
    assert told["score"] == {name: chart.score for name, chart in now.items()}
    assert told["limit"] == {name: chart.limit for name, chart in now.items() if chart.limit is not None}
    assert told["exams"] == {name: chart.exams for name, chart in now.items()}
    assert told["detectable_shift"] == {
        name: chart.detectable for name, chart in now.items() if chart.detectable is not None
    }
    opened = sum(alarm.status == "open" for alarm in found.alarms)
    assert told["open_alarms"] == {"clinical": opened, "operator": 0}
    assert told["alarms_total"]["clinical"] == opened
    assert told["last_run_timestamp_seconds"][""] == NOW_NS / NANOSECONDS
    assert (told["sessions"][""], told["budget_alarms_per_year"][""]) == (EXAMS, 2.0)


def test_a_chart_that_went_with_its_segment_is_told_no_more(store: Store) -> None:
    look(store)
    assert BIAS in gauges(store)["state"]
    late = replace(exam(EXAMS), models=exam(EXAMS).models[::2], application_version="2.0.0")
    store.commit(late, writes)
    look(store, late.ended_ns + HOUR_NS)
    told = gauges(store)
    for metric in ("state", "score", "limit", "exams", "detectable_shift"):
        assert BIAS not in told[metric]
    assert told["exams"][f"model_difference/first/{BONE}"] == 1
    assert told["open_alarms"]["clinical"] >= 1  # nobody has answered it


def test_charts_that_have_no_room_in_the_label_share_one_series_and_hide_no_alarm(tmp_path: Path) -> None:
    names = [f"own_{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(140)]
    config = AnalyticsConfig(custom=tuple(names))
    records = [replace(exam(number), custom=dict.fromkeys(names, float(number))) for number in range(24)]
    with a_store(tmp_path, records) as store:
        for _ in range(3):
            analyse(store, config, records[-1].ended_ns + HOUR_NS, BUILD)
        told = gauges(store)
        assert len(told["state"]) == chart_metrics.CHART.limit + 1
        assert told["state"]["other"] == 1
        with store.database.read_transaction() as connection:
            folded = totals.values(connection, catalogue.FOLDED)[("chart",)]
        assert folded > 0
        # However often somebody asks, what has no room is counted once a day.
        analyse(store, config, records[-1].ended_ns + HOUR_NS, BUILD)
        with store.database.read_transaction() as connection:
            assert totals.values(connection, catalogue.FOLDED)[("chart",)] == folded
        places = {(point.measurement, tuple(sorted(point.tags.items()))) for point, _ in taken(store)}
        assert Counter(place[0] for place in places)["leglength_analysis"] == chart_metrics.CHART.limit + 1


def test_a_chart_that_alarms_is_shown_where_it_shares_its_series(store: Store) -> None:
    with store.database.transaction() as connection:
        rows = [("chart", f"gone/{number}") for number in range(chart_metrics.CHART.limit)]
        connection.executemany("INSERT INTO vocabulary VALUES (?, ?)", rows)
    look(store)
    with store.database.read_transaction() as connection:
        states = totals.values(connection, chart_metrics.STATE)
    assert states == {("other", "clinical"): IN_ALARM, ("other", "operator"): WATCHING}


def test_every_unit_of_a_series_is_one_of_the_labels() -> None:
    assert {series.unit for series in SERIES} <= set(chart_metrics.UNIT.values)


# --- a log ------------------------------------------------------------------------------------------


def test_one_set_a_day_is_written_and_another_when_something_has_changed(store: Store) -> None:
    [alarm] = [alarm for alarm in look(store).alarms if alarm.chart == BIAS]
    first = taken(store)
    charts = [point for point, time_ns in first if point.measurement == "leglength_analysis" and time_ns == NOW_NS]
    assert sorted(point.tags["chart"] for point in charts) == sorted(gauges(store)["state"]), "a point for each"
    [point] = [point for point in charts if point.tags["chart"] == BIAS]
    assert point.tags == {
        "instance": "w", "application": "app", "chart": BIAS, "audience": "clinical", "unit": "mm",
    }  # fmt: skip
    assert point.fields == {
        key: gauges(store)[key][BIAS] for key in ("state", "score", "limit", "exams", "detectable_shift")
    }
    before = revision(store)
    for minute in range(10):
        look(store, NOW_NS + minute * HOUR_NS // 60)
    assert taken(store) == []
    assert revision(store) > before  # the time of the last look is news to a state
    act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "physicist", "seen", NOW_NS, BUILD)
    states = {p.tags["chart"]: p.fields["state"] for p, _ in taken(store) if p.measurement == "leglength_analysis"}
    assert states[BIAS] == ACKNOWLEDGED
    assert gauges(store)["open_alarms"]["clinical"] == counted(store) - 1
    look(store, NOW_NS + DAY_NS)
    assert {time_ns for point, time_ns in taken(store) if point.measurement != CHANGED} == {NOW_NS + DAY_NS}


def test_an_alarm_is_a_point_on_the_day_where_it_began(store: Store) -> None:
    [alarm] = [alarm for alarm in look(store).alarms if alarm.chart == BIAS]
    [(point, time_ns)] = [one for one in taken(store) if one[0].measurement == CHANGED and one[0].tags["chart"] == BIAS]
    assert time_ns == alarm.change_ns // DAY_NS * DAY_NS
    assert point.tags == {
        "instance": "w", "application": "app", "chart": BIAS, "audience": "clinical", "unit": "mm",
    }  # fmt: skip
    assert point.fields == {"size": alarm.first_size, "exams": alarm.exams, "withdrawn": 0.0}
    assert alarm.size != alarm.first_size  # which has become known better since


def test_an_alarm_is_told_once_and_once_more_when_it_is_withdrawn(tmp_path: Path) -> None:
    with a_store(tmp_path, [exam(number) for number in range(EXAMS) if number % 7]) as store:
        told, before = [], {}
        for day in range(3):
            before |= {alarm.alarm_id: alarm for alarm in look(store, NOW_NS + day * DAY_NS).alarms}
            told.append([one for one in taken(store) if one[0].measurement == CHANGED])
        assert told[0]
        assert told[1] == told[2] == []  # a server that keeps no such old points would refuse it each day
        for number in range(0, EXAMS, 7):  # what came late may raise it elsewhere
            store.commit(exam(number), writes)
        found = look(store, NOW_NS + 3 * DAY_NS)
        assert found.withdrawn
        after = [one for one in taken(store) if one[0].measurement == CHANGED]
        said = {(point.tags["chart"], time_ns): point.fields["withdrawn"] for point, time_ns in after}
        stands, gone = (
            {(alarm.chart, alarm.change_ns // DAY_NS * DAY_NS) for alarm in alarms}
            for alarms in (found.alarms, [before[alarm_id] for alarm_id in found.withdrawn])
        )
        assert said.keys() >= gone
        assert said == {place: float(place not in stands) for place in said}


def test_a_withdrawn_alarm_hides_none_of_the_same_chart_and_day(store: Store) -> None:
    """A late exam moves the one that raises an alarm; where the change began stays, and so does the point."""
    found = look(store)
    [alarm] = [alarm for alarm in found.alarms if alarm.chart == BIAS]
    other = replace(alarm, alarm_id="elsewhere", first_size=9.0)
    for withdrawn in (alarm, other, alarm, other):
        taken(store)
        with store.database.transaction() as connection:
            told = [(each, each is withdrawn) for each in (alarm, other)]
            tell(connection, found, told, [], BUILD, NOW_NS)
        stands = other if withdrawn is alarm else alarm
        *_, point = [point for point, _ in waiting(store) if point.measurement == CHANGED]
        assert (point.fields["withdrawn"], point.fields["size"]) == (0.0, stands.first_size)
    with store.database.transaction() as connection:
        tell(connection, found, [(alarm, True), (other, True)], [], BUILD, NOW_NS)
    *_, point = [point for point, _ in waiting(store) if point.measurement == CHANGED]
    assert point.fields["withdrawn"] == 1.0


def test_nobody_is_told_where_no_log_is_configured(store: Store) -> None:
    look(store, build=SessionWritesBuilder())
    assert waiting(store) == []
    assert gauges(store)["state"][BIAS] == IN_ALARM
    # A look by who knows no backend takes nothing from who does, on the same day.
    look(store)
    assert any(point.measurement == "leglength_analysis" for point, _ in waiting(store))
    assert BIAS in {point.tags["chart"] for point, _ in waiting(store) if point.measurement == CHANGED}


# --- alarms are counted once ------------------------------------------------------------------------


def counted(store: Store) -> float:
    return sum(gauges(store)["alarms_total"].values())


def test_alarms_are_counted_once_however_often_and_in_whatever_pieces(tmp_path: Path) -> None:
    counts = []
    for name, pieces in {"once": [range(EXAMS)], "daily": [range(n, n + 2) for n in range(0, EXAMS, 2)]}.items():
        (tmp_path / name).mkdir()
        with a_store(tmp_path / name) as store:
            for numbers in pieces:
                for number in numbers:
                    store.commit(exam(number), writes)
                for _ in range(2):
                    found = look(store, max(exam(numbers[-1]).ended_ns, 0) + HOUR_NS)
            assert counted(store) == len(found.alarms)
            counts.append(counted(store))
    assert counts[0] == counts[1] > 0


def test_an_alarm_that_is_answered_or_found_again_is_not_counted_again(store: Store) -> None:
    [alarm] = [alarm for alarm in look(store).alarms if alarm.chart == BIAS]
    before = counted(store)
    act(store, CONFIG, alarm.alarm_id, REBASE, "physicist", "new weights", NOW_NS, BUILD)
    strict = AnalyticsConfig(false_alarms_per_year=1e-9)
    assert len(analyse(store, strict, NOW_NS, BUILD).alarms) == 1  # the one that was answered
    look(store)
    assert counted(store) == before


def test_two_looks_at_once_tell_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    end_day = Charting.end_day

    def meanwhile(charting: Charting, today: int) -> None:
        monkeypatch.undo()
        look(store)
        end_day(charting, today)

    monkeypatch.setattr(Charting, "end_day", meanwhile)
    found = look(store)
    assert counted(store) == len(found.alarms) > 0
    assert Counter(point.measurement for point, _ in waiting(store))["leglength_analysis_look"] == 1


def test_a_look_that_an_erasure_overtook_tells_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Charting, "end_day", lambda *_: erase(store.database, exam(3).patient_key or ""))
    look(store)
    assert (waiting(store), gauges(store)) == ([], {})


# --- erasing ----------------------------------------------------------------------------------------


def test_an_erasure_leaves_nothing_of_the_exam_in_what_waits(store: Store) -> None:
    alarms = look(store).alarms
    [alarm] = [alarm for alarm in alarms if alarm.chart == BIAS]
    ends_ns = {exam(number).ended_ns: number for number in range(EXAMS)}
    ids, known = [alarm.alarm_id], {each.alarm_id for each in alarms}
    for named_ns in (alarm.since_ns, alarm.raised_ns):
        before = counted(store)
        erase(store.database, exam(ends_ns[named_ns]).patient_key or "")
        waits = waiting(store)
        assert BIAS not in {point.tags["chart"] for point, _ in waits if point.measurement == CHANGED}
        assert any(point.measurement == "leglength_analysis" for point, _ in waits)  # of everybody
        assert str(named_ns).encode() not in (store.database.path or Path()).read_bytes()
        found = look(store)
        [again] = [each for each in found.alarms if each.chart == BIAS]
        assert again.alarm_id in found.appeared
        assert BIAS in {point.tags["chart"] for point, _ in waiting(store) if point.measurement == CHANGED}
        # It is another alarm once the exam that raised it is gone; else it was counted already.
        assert counted(store) - before == len({each.alarm_id for each in found.alarms} - known)
        known |= {each.alarm_id for each in found.alarms}
        ids.append(again.alarm_id)
    assert ids[0] == ids[1] != ids[2]
    with store.database.read_transaction() as connection:  # its ID came from the erased exam's instant
        assert ids[0] not in kept.kept_alarms(connection)


def test_an_alarm_that_went_with_an_erased_exam_is_told_to_be_withdrawn(tmp_path: Path) -> None:
    """Of each place where a point lies and no alarm does any more, by the next look that tells a log."""
    faulty = [replace(each, patient_key="f" * 32) if n >= SINCE else each for n, each in enumerate(exams())]
    with a_store(tmp_path, faulty) as store:
        look(store)
        places = {(point.tags["chart"], time_ns) for point, time_ns in taken(store) if point.measurement == CHANGED}
        assert BIAS in {chart for chart, _ in places}
        erase(store.database, "f" * 32)
        look(store, build=SessionWritesBuilder())  # by who knows no log
        assert {alarm.chart for alarm in look(store, NOW_NS + DAY_NS).alarms} == {"silence"}
        told = [one for one in taken(store) if one[0].measurement == CHANGED and one[0].tags["chart"] != "silence"]
        assert {(point.tags["chart"], time_ns) for point, time_ns in told} == places
        assert all(point.fields == {"withdrawn": 1.0} for point, _ in told)
        assert all(point.tags.keys() == {"instance", "application", "chart", "audience", "unit"} for point, _ in told)
        look(store, NOW_NS + 2 * DAY_NS)
        assert CHANGED not in {point.measurement for point, _ in taken(store)}
        with store.database.read_transaction() as connection:
            names = " ".join(name for (name,) in connection.execute("SELECT name FROM analysis"))
        assert BIAS not in names.replace(f"reference {BIAS}", "")


def test_an_alarm_that_is_found_again_where_an_erased_exam_raised_it_is_not_told_to_be_withdrawn(store: Store) -> None:
    ends_ns = {exam(number).ended_ns: number for number in range(EXAMS)}
    [alarm] = [alarm for alarm in look(store).alarms if alarm.chart == BIAS]
    taken(store)
    for instant_ns in (alarm.raised_ns, alarm.change_ns):  # the point stays where it is, then its day may be another
        old = {(each.chart, each.change_ns // DAY_NS * DAY_NS) for each in look(store).alarms}
        erase(store.database, exam(ends_ns[instant_ns]).patient_key or "")
        new = {(each.chart, each.change_ns // DAY_NS * DAY_NS) for each in look(store).alarms}
        told = [(each, time_ns) for each, time_ns in taken(store) if each.measurement == CHANGED]
        says = {((point.tags["chart"], time_ns), point.fields["withdrawn"]) for point, time_ns in told}
        assert BIAS in {chart for (chart, _), _ in says}
        assert all(withdrawn == (place not in new) for place, withdrawn in says)
        assert {place for place, _ in says} >= old ^ new


def test_no_instant_of_an_exam_is_told(store: Store) -> None:
    look(store)
    instants = {str(exam(number).ended_ns)[:12] for number in range(EXAMS)}
    for point, time_ns in waiting(store):
        digits = re.findall(r"\d{12,}", f"{time_ns} {point.fields}")
        assert not [text for text in digits if text[:12] in instants]


# --- the past -----------------------------------------------------------------------------------


def test_the_past_nights_are_told_as_looks_in_them_would_have(tmp_path: Path) -> None:
    """With what people answered from then on, and of a version that came the charts that there are."""
    records = exams(range(1, EXAMS))
    for number in range(140, EXAMS):
        record = exam(number)
        records[number - 1] = replace(record, models=record.models[::2], application_version="2.0.0")
    seen_ns = records[136].ended_ns + HOUR_NS
    with a_store(tmp_path / "whole", records) as whole:
        [alarm] = [alarm for alarm in look(whole, seen_ns).alarms if alarm.chart == BIAS]
        act(whole, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "physicist", "seen", seen_ns, BUILD)
        nights = {moment.at_ns: moment.changed for moment in looks_over_time(whole, CONFIG, NOW_NS)}
        lines = dict(lines_over_time(whole, CONFIG, NOW_NS, BUILD.tags))
    assert lines.keys() == nights.keys()
    assert list(nights) == list(range(min(nights), NOW_NS // DAY_NS * DAY_NS + 1, DAY_NS))
    state: dict[tuple[str, str], float] = {}
    states_of_bias = []
    with a_store(tmp_path / "nightly") as nightly:
        for at_ns, changed in nights.items():
            for record in [one for one in records if at_ns - DAY_NS <= one.ended_ns < at_ns]:
                nightly.commit(record, writes)
            if seen_ns // DAY_NS == at_ns // DAY_NS - 1:
                act(nightly, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "physicist", "seen", seen_ns, BUILD)
            for metric, labels, _, value, _ in changed:
                key = metric.removeprefix("leglength_analysis_"), labels.get("chart") or labels.get("audience") or ""
                state[key] = value
                if isnan(value):
                    del state[key]
            states_of_bias.append(state.get(("state", BIAS)))
            if at_ns // DAY_NS % 5 == 0:
                look(nightly, at_ns)
                told = gauges(nightly)
                found = {(metric, key): value for metric, of in told.items() for key, value in of.items()}
                begun = {key: value for key, value in state.items() if value or key[0] != "alarms_total"}
                assert begun == pytest.approx(found), "alarms are counted from the first one on here"
                assert of_charts([_parsed(line.decode()) for line in lines[at_ns]]) == of_charts(
                    [(point, time_ns) for point, time_ns in waiting(nightly) if time_ns == at_ns]
                )
    assert list(dict.fromkeys(states_of_bias)) == [LEARNING, LIMITED, WATCHING, IN_ALARM, ACKNOWLEDGED, None]
