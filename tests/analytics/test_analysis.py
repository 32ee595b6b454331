"""From stored sessions to charts and alarms: the same however and whenever it is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from monitoring.analytics import analysis as module
from monitoring.analytics.alarms import alarms_of, without_repeats
from monitoring.analytics.analysis import ACKNOWLEDGE, REBASE, Alarm, Analysis, ChartState, act, analyse
from monitoring.analytics.changes import of_numbers
from monitoring.analytics.charting import Charting
from monitoring.analytics.charts import DAY_NS, Budget, Crossing, EventChart, NumberChart
from monitoring.analytics.material import Period, gather
from monitoring.analytics.series import LATER_STRATA, watched
from monitoring.analytics.states import each_once
from monitoring.domain.derivation import FORMULA_VERSION, Facts
from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.metrics.session_writes import DerivedValues
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store import readings
from monitoring.store.analysis import Action
from monitoring.store.erasure import erase
from monitoring.store.sessions import Store
from tests.support.exams import BIAS, BONE, EXAMS, HOUR_NS, MODELS, NOW_NS, SINCE, a_store, exam, exams, writes

CONFIG = AnalyticsConfig()


def said(found: Analysis) -> tuple[object, ...]:
    """What is there now, without what was different at the last look."""
    return found.charts, found.alarms, found.segments, found.strata, found.sessions


def chart(found: Analysis, name: str) -> ChartState:
    [state] = [state for state in found.charts if state.chart == name]
    return state


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """One look at all of it."""
    with a_store(tmp_path_factory.mktemp("once"), exams()) as store:
        return analyse(store, CONFIG, NOW_NS)


# --- what is said ---------------------------------------------------------------------------------


def test_the_model_that_is_off_raises_an_alarm_with_its_date_and_size(once: Analysis) -> None:
    alarms = {alarm.chart: alarm for alarm in once.alarms if alarm.status == "open"}
    assert BIAS in alarms
    # What is 8 mm off is 4 mm away from either of the others.
    assert set(alarms) <= {BIAS, *(f"model_difference/{model}/{BONE}" for model in MODELS)}
    alarm = alarms[BIAS]
    assert alarm.first_size == pytest.approx(8.0, abs=2.5)  # an exam from before the change may be counted in
    # Of all exams since, up to the last one.
    assert alarm.size == pytest.approx(8.0, abs=0.5)
    assert alarm.size_exams == pytest.approx(EXAMS - SINCE, abs=10)
    assert alarm.raised_ns <= exam(SINCE + 10).ended_ns
    assert alarm.earliest_ns <= alarm.change_ns <= alarm.latest_ns
    assert abs(alarm.change_ns - exam(SINCE).ended_ns) <= 3 * DAY_NS
    assert chart(once, BIAS).state == "alarm"
    assert chart(once, "quality").state in ("watching", "limited")


def test_what_a_machines_load_makes_alike_counts_clinic_days(once: Analysis, tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(40))) as store:
        found = analyse(store, CONFIG, exam(39).ended_ns)
        later = analyse(store, CONFIG, NOW_NS)
    at_first = {name: chart(found, name) for name in ("session_seconds", "stage_seconds/inference", "quality")}
    assert {name: (state.by_days, state.points, state.state) for name, state in at_first.items()} == {
        "session_seconds": (True, 19, "learning"), "stage_seconds/inference": (True, 19, "learning"),
        "quality": (False, 40, "limited"),
    }  # fmt: skip
    assert (chart(later, "session_seconds").points, chart(later, "session_seconds").state) == (20, "limited")
    assert (chart(once, "session_seconds").points, chart(once, "session_seconds").state) == (75, "limited")
    assert chart(once, "quality").state == "watching"


def test_every_chart_says_what_it_would_have_noticed(once: Analysis) -> None:
    state = chart(once, "session_seconds")
    assert state.exams == EXAMS
    assert state.detectable_sd is not None
    assert state.detectable == pytest.approx(state.detectable_sd * 0.29, rel=0.15)  # the SD of a uniform second
    assert all(state.notices and state.misses for state in once.charts)
    assert chart(once, "failed").detectable == pytest.approx(210, rel=0.2)
    assert chart(once, "silence").detectable is not None


def test_the_budget_is_one_for_all_charts(once: Analysis) -> None:
    shares = [state.once_in for state in once.charts if state.kind != "silence"]
    a_year = 2 * 5 * 52.18
    assert all(share is not None for share in shares)
    expected = sum(a_year / share for share in shares if share is not None)
    assert expected == pytest.approx(2.0, rel=0.25)


# --- the same state -------------------------------------------------------------------------------


def test_daily_looks_say_the_same(once: Analysis, tmp_path: Path) -> None:
    with a_store(tmp_path) as store:
        reasons = []
        for number in range(EXAMS):
            store.commit(exam(number), writes)
            if number % 2 or number % 10 == 0:  # at times within the day, too
                reasons.append(analyse(store, CONFIG, exam(number).ended_ns + HOUR_NS).anew)
        found = analyse(store, CONFIG, NOW_NS)
    assert not any(reasons[1:])  # it went on from the last look each time
    assert not found.anew
    assert said(found) == said(once)


def test_a_session_of_a_day_that_was_over_came_late(tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(41))) as store:
        analyse(store, CONFIG, exam(40).ended_ns + DAY_NS)
        store.commit(exam(41), writes)  # three hours after the last one that was seen
        assert analyse(store, CONFIG, exam(40).ended_ns + DAY_NS).anew == "a session came late"


def test_random_pieces_in_any_order_say_the_same(once: Analysis, tmp_path: Path) -> None:
    generator, order = random.Random(2), list(range(EXAMS))
    generator.shuffle(order)
    with a_store(tmp_path) as store:
        while order:
            size = generator.randint(1, 40)
            for number in order[:size]:
                store.commit(exam(number), writes)
            order = order[size:]
            found = analyse(store, CONFIG, NOW_NS)
        assert said(found) == said(once)
        assert found.anew == "a session came late"
        again = analyse(store, CONFIG, NOW_NS)
    assert said(again) == said(once)
    assert (again.anew, again.appeared, again.withdrawn) == ("", (), ())


def test_charts_that_begin_later_share_the_budget_from_then_on(tmp_path: Path) -> None:
    config = AnalyticsConfig(custom=("dose",))
    records = [replace(exam(number), custom={} if number < 55 else exam(number).custom) for number in range(60)]
    (tmp_path / "once").mkdir()
    with a_store(tmp_path / "once", records) as store:
        whole = analyse(store, config, NOW_NS)
    with a_store(tmp_path, records[:54]) as store:
        before = analyse(store, config, records[53].ended_ns)
        for record in records[54:]:
            store.commit(record, writes)
        assert said(analyse(store, config, NOW_NS)) == said(whole)
    assert chart(whole, "session_seconds").once_in == chart(before, "session_seconds").once_in


def test_an_earlier_session_that_comes_later_is_the_exam(tmp_path: Path) -> None:
    again = replace(exam(3), session_id="a" * 32, ended_ns=exam(3).ended_ns + HOUR_NS, duration_seconds=99.0)
    with a_store(tmp_path, [again, exam(3)]) as store:
        found = analyse(store, CONFIG, NOW_NS)
    assert (chart(found, "session_seconds").exams, chart(found, "session_seconds").last_ns) == (1, exam(3).ended_ns)


def test_an_erased_patient_was_never_there(once: Analysis, tmp_path: Path) -> None:
    someone = [
        replace(
            exam(number), session_id=f"{number + 500:032x}", ended_ns=exam(number).ended_ns + HOUR_NS,
            patient_key="f" * 32, series_key=f"{number + 500:032x}", study_key=f"{number + 500:032x}",
        )
        for number in (30, 90, 130)
    ]  # fmt: skip
    with a_store(tmp_path, [*exams(), *someone]) as store:
        with_them = analyse(store, CONFIG, NOW_NS)
        assert said(with_them) != said(once)
        erase(store.database, "f" * 32)
        assert said(analyse(store, CONFIG, NOW_NS)) == said(once)


def test_an_erasure_during_a_look_leaves_nothing_of_the_patient(
    once: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone = replace(exam(30), session_id="d" * 32, ended_ns=exam(30).ended_ns + HOUR_NS, patient_key="f" * 32)
    someone = replace(someone, series_key="d" * 32, study_key="d" * 32)
    with a_store(tmp_path, [*exams(), someone]) as store:
        monkeypatch.setattr(Charting, "end_day", lambda *_: erase(store.database, "f" * 32))
        assert said(analyse(store, CONFIG, NOW_NS)) != said(once)
        monkeypatch.undo()
        found = analyse(store, CONFIG, NOW_NS)
        assert found.anew
        assert said(found) == said(once)


def test_an_alarm_that_names_an_erased_exam_goes_with_it(tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        alarms = analyse(store, CONFIG, NOW_NS).alarms
        [alarm] = [alarm for alarm in alarms if alarm.chart == BIAS]
        [number] = [number for number in range(EXAMS) if exam(number).ended_ns == alarm.raised_ns]
        erase(store.database, exam(number).patient_key or "")
        with store.database.read_transaction() as connection:
            documents = " ".join(each.document for each in kept.kept_alarms(connection).values())
        assert str(alarm.raised_ns) not in documents
        assert len(analyse(store, CONFIG, NOW_NS).alarms) > 0


@pytest.mark.parametrize("kind", [ACKNOWLEDGE, REBASE])
def test_an_answer_outlives_the_exam_that_raised_its_alarm_and_does_not_name_it(tmp_path: Path, kind: str) -> None:
    """It stands once, beside the alarm as it is found without the exam; a chart that is re-based stays so."""
    with a_store(tmp_path, exams()) as store:
        [alarm] = [alarm for alarm in analyse(store, CONFIG, NOW_NS).alarms if alarm.chart == BIAS]
        act(store, CONFIG, alarm.alarm_id, kind, "physicist", "looked at", NOW_NS)
        before = chart(analyse(store, CONFIG, NOW_NS), BIAS)
        named = {alarm.raised_ns, alarm.change_ns, alarm.earliest_ns}
        for number in range(EXAMS):
            if exam(number).ended_ns in named:
                erase(store.database, exam(number).patient_key or "")
        found = analyse(store, CONFIG, NOW_NS)
        answered = [each for each in found.alarms if each.words]
        assert [(each.chart, each.status, each.person) for each in answered] == [(BIAS, f"{kind}d", "physicist")]
        assert chart(found, BIAS).state == before.state
        assert chart(found, BIAS).first_ns >= before.first_ns
        with store.database.read_transaction() as connection:
            [action] = kept.actions(connection)
        assert action.alarm_id != alarm.alarm_id
        assert not [instant for instant in named if str(instant) in action.document]


def test_late_readings_say_what_timely_ones_do(tmp_path: Path) -> None:
    def read(store: Store, numbers: Iterable[int], kept_ns: int) -> None:
        with store.database.transaction() as connection:
            for number in numbers:
                mm = {name: mm + random.Random(name).gauss(0, 2) for name, mm in exam(number).measurements_mm.items()}
                readings.keep(connection, exam(number).study_key or "", "reader", mm, kept_ns)

    (tmp_path / "timely").mkdir()
    with a_store(tmp_path / "timely", exams()) as store:
        read(store, range(40), NOW_NS)
        timely = analyse(store, CONFIG, NOW_NS)
    with a_store(tmp_path, exams()) as store:
        without = analyse(store, CONFIG, NOW_NS)
        assert not any(state.series == "reader_error" for state in without.charts)
        read(store, range(10, 40), NOW_NS)
        assert analyse(store, CONFIG, NOW_NS).anew == "a reading came late"
        read(store, range(10), NOW_NS)  # at the very instant of those before
        late = analyse(store, CONFIG, NOW_NS)
        assert late.anew == "a reading came late"
        assert not analyse(store, CONFIG, NOW_NS).anew
    assert said(late) == said(timely)
    assert chart(late, f"reader_error/{BONE}").exams == 40


def test_a_reading_is_noticed_whatever_its_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock was set back, or another process committed later what it kept earlier."""

    def read(store: Store, number: int, kept_ns: int, mm: float = 300.0) -> None:
        with store.database.transaction() as connection:
            readings.keep(connection, exam(number).study_key or "", "reader", {BONE: mm}, kept_ns)

    now_ns = exam(29).ended_ns
    with a_store(tmp_path, exams(range(30))) as store:
        read(store, 1, now_ns)
        analyse(store, CONFIG, now_ns)
        for kept_ns, mm in ((now_ns - HOUR_NS, 300.0), (now_ns - HOUR_NS, 301.0), (now_ns - 2 * HOUR_NS, 302.0)):
            read(store, 2, kept_ns, mm)
            assert analyse(store, CONFIG, now_ns).anew == "a reading came late"
            assert not analyse(store, CONFIG, now_ns).anew
        read(store, 2, now_ns + HOUR_NS, 302.0)  # known
        read(store, 31, now_ns)  # of an exam that comes later
        assert not analyse(store, CONFIG, now_ns).anew
        store.commit(exam(31), writes)
        now_ns = exam(31).ended_ns
        found = analyse(store, CONFIG, now_ns)
        assert (found.anew, chart(found, f"reader_error/{BONE}").exams) == ("", 3)
        # One that comes, or is corrected once more, while a look is at work is for the next.
        read(store, 3, now_ns, 300.0)
        monkeypatch.setattr(Charting, "end_day", lambda *_: read(store, 3, now_ns, 305.0))
        assert analyse(store, CONFIG, now_ns).anew
        monkeypatch.undo()
        assert analyse(store, CONFIG, now_ns).anew == "a reading came late"
        with store.database.read_transaction() as connection:
            assert not kept.changed_readings(connection)
        read(store, 4, now_ns)
        erase(store.database, exam(4).patient_key or "")
        with store.database.read_transaction() as connection:
            assert not kept.changed_readings(connection)


def test_a_reading_that_comes_during_the_first_look_is_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object) -> None:
        with store.database.transaction() as connection:
            readings.keep(connection, exam(3).study_key or "", "reader", {BONE: 300.0}, NOW_NS)

    with a_store(tmp_path, exams(range(30))) as store:
        monkeypatch.setattr(Charting, "end_day", meanwhile)
        assert analyse(store, CONFIG, NOW_NS).anew
        monkeypatch.undo()
        found = analyse(store, CONFIG, NOW_NS)
        assert (found.anew, chart(found, f"reader_error/{BONE}").exams) == ("a reading came late", 1)


def test_a_look_that_could_not_ask_for_readings_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process held the lock: a reading that came meanwhile would be noted by nobody."""

    def locked(_: object) -> None:
        raise StoreError("can't write the store: database is locked")

    with a_store(tmp_path, exams(range(10))) as store:
        with monkeypatch.context() as during:
            during.setattr(kept, "expect_readings", locked)
            found = analyse(store, CONFIG, NOW_NS)
        assert (found.sessions, found.not_kept) == (10, "can't write the store: database is locked")
        again = analyse(store, CONFIG, NOW_NS)
        assert (said(again), again.not_kept, bool(again.anew)) == (said(found), "", True)


def test_other_settings_and_a_damaged_checkpoint_begin_anew(once: Analysis, tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        analyse(store, CONFIG, NOW_NS)
        strict = analyse(store, AnalyticsConfig(false_alarms_per_year=0.1, custom=("dose",)), NOW_NS)
        assert strict.anew == "the formulas, the settings or the version have changed"
        assert chart(strict, "custom_dose").exams == EXAMS
        assert (chart(strict, BIAS).once_in or 0) > 10 * (chart(once, BIAS).once_in or 0)
        with store.database.transaction() as connection:
            connection.execute("UPDATE analysis SET value = x'00'")
        assert analyse(store, CONFIG, NOW_NS).anew
        assert said(analyse(store, CONFIG, NOW_NS)) == said(once)


def test_values_of_other_formulas_are_computed_again(once: Analysis, tmp_path: Path) -> None:
    old = DerivedValues(FORMULA_VERSION - 1, Facts(), {})
    with a_store(tmp_path, exams()) as store:
        with store.database.transaction() as connection:
            connection.execute("UPDATE sessions SET derived = ? WHERE sequence % 2", (old.to_bytes(),))
            connection.execute("UPDATE sessions SET derived = NULL WHERE sequence % 7 = 0")
        assert said(analyse(store, CONFIG, NOW_NS)) == said(once)


# --- what counts ----------------------------------------------------------------------------------


def test_an_exam_counts_once_and_a_failed_session_as_an_event_alone(tmp_path: Path) -> None:
    again = replace(exam(3), session_id="a" * 32, ended_ns=exam(3).ended_ns + HOUR_NS)
    other_film = replace(again, session_id="b" * 32, series_key="b" * 32, ended_ns=again.ended_ns + HOUR_NS)
    failed = replace(exam(4), session_id="c" * 32, series_key="c" * 32, status="failed", reason="exception", models=())
    with a_store(tmp_path, [*exams(range(3)), failed, *exams(range(3, 30)), again, other_film]) as store:
        found = analyse(store, CONFIG, NOW_NS)
    assert chart(found, "session_seconds").exams == 30
    assert (chart(found, "failed").exams, chart(found, "failed").events) == (32, 1)
    assert chart(found, "skipped_input").events == 0
    assert (chart(found, "failed").e_value or 0) > (chart(found, "skipped_input").e_value or 0) > 0


def test_another_version_begins_anew_and_the_old_one_stays(tmp_path: Path) -> None:
    later = [replace(exam(number), application_version="1.5.0") for number in range(60, 90)]
    with a_store(tmp_path, [*exams(range(60)), *later]) as store:
        found = analyse(store, CONFIG, NOW_NS)
    both = [state for state in found.charts if state.chart == "session_seconds"]
    assert [(state.exams, state.is_current) for state in both] == [(30, True), (60, False)]
    assert [each.words.partition(";")[0] for each in found.segments.values()] == [
        "application 1.4.0",
        "application 1.5.0",
    ]
    assert chart(found, "failed").exams == 90  # what is accepted doesn't change with the version


def lacking(number: int) -> SessionRecord:
    """Exams of which one in seven lacks a model; the third model is gone from exam 100 on."""
    record = exam(number)
    models = record.models[: 2 if number >= 100 else 3]
    return replace(record, models=tuple(model for at, model in enumerate(models) if number % 7 or at != number % 2))


def test_an_exam_that_lacks_a_model_opens_no_segment_and_one_that_is_gone_does(tmp_path: Path) -> None:
    records = [lacking(number) for number in range(EXAMS)]
    generator, order = random.Random(5), list(range(EXAMS))
    generator.shuffle(order)
    for way in ("once", "daily", "pieces"):
        (tmp_path / way).mkdir()
    with a_store(tmp_path / "once", records) as store:
        once = analyse(store, CONFIG, NOW_NS)
        in_september = gather(store, CONFIG, Period(date(2026, 9, 1), date(2026, 9, 30)), NOW_NS)
    assert [(each.words.count(";"), each.first_ns) for each in once.segments.values()] == [
        (2, records[0].ended_ns),  # it lacks the first model, and nothing is known of it yet
        (3, records[1].ended_ns),
        (2, records[119].ended_ns),
    ]
    [new, *others] = [state for state in once.charts if state.chart == "session_seconds"]
    assert (new.exams, sorted(old.exams for old in others), new.is_current) == (EXAMS - 119, [1, 118], True)
    # A report of a month knows what measured when it began.
    assert {code for _, code, _ in in_september.exams} == {new.segment}
    with a_store(tmp_path / "daily") as store:
        for number, record in enumerate(records):
            store.commit(record, writes)
            if number % 3 == 0:
                assert bool(analyse(store, CONFIG, record.ended_ns).anew) == (number == 0)
        assert said(analyse(store, CONFIG, NOW_NS)) == said(once)
    with a_store(tmp_path / "pieces") as store:
        while order:
            size = generator.randint(20, 60)
            for number in order[:size]:
                store.commit(records[number], writes)
            order = order[size:]
            found = analyse(store, CONFIG, NOW_NS)
        assert said(found) == said(once)


def test_versions_side_by_side_are_one_chart_of_events(tmp_path: Path) -> None:
    records = [replace(exam(number), application_version=f"1.{number % 2}.0") for number in range(31)]
    with a_store(tmp_path, records) as store:
        found = analyse(store, CONFIG, NOW_NS)
    assert (chart(found, "failed").exams, chart(found, "failed").last_ns) == (31, records[-1].ended_ns)


def test_devices_are_ranked_apart_and_there_are_few_of_them(tmp_path: Path) -> None:
    records = [
        replace(exam(number), context={**exam(number).context, "row_spacing_mm": 0.1 + number % 12 / 100})
        for number in range(48)
    ]
    with a_store(tmp_path, records) as store:
        found = analyse(store, CONFIG, NOW_NS)
    assert len(found.strata) == 9
    assert list(found.strata)[-1] == LATER_STRATA
    assert next(iter(found.strata.values())).last_ns == records[36].ended_ns
    assert chart(found, "session_seconds").strata == 9


def test_silence_is_told_by_todays_date_alone(tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(60))) as store:
        last_ns = exam(59).ended_ns
        assert chart(analyse(store, CONFIG, last_ns + 4 * DAY_NS), "silence").state == "limited"
        later = analyse(store, CONFIG, last_ns + 20 * DAY_NS)
        assert chart(later, "silence").state == "alarm"
        assert [alarm.chart for alarm in later.alarms] == ["silence"]
        silent_since = later.alarms[0].change_ns
        assert silent_since == last_ns
        assert analyse(store, CONFIG, last_ns + 40 * DAY_NS).alarms[0].alarm_id == later.alarms[0].alarm_id


# --- what people do -------------------------------------------------------------------------------


def test_an_alarm_stays_until_somebody_acknowledges_it(once: Analysis, tmp_path: Path) -> None:
    [alarm] = [alarm for alarm in once.alarms if alarm.chart == BIAS]
    with a_store(tmp_path, exams()) as store:
        found = act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "detector looked at", NOW_NS)
        assert (found.status, found.person, found.words) == ("acknowledged", "dr", "detector looked at")
        after = analyse(store, CONFIG, NOW_NS + DAY_NS)
        assert chart(after, BIAS).state == "acknowledged"
        assert not after.anew
        with pytest.raises(ConfigurationError, match="no open alarm"):
            act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "again", NOW_NS)
        with pytest.raises(ConfigurationError, match="no alarm nobody"):
            act(store, CONFIG, "nobody", ACKNOWLEDGE, "dr", "seen", NOW_NS)


def test_a_chart_that_is_rebased_begins_at_the_change(once: Analysis, tmp_path: Path) -> None:
    [alarm] = [alarm for alarm in once.alarms if alarm.chart == BIAS]
    with a_store(tmp_path, exams()) as store:
        found = act(store, CONFIG, alarm.alarm_id, REBASE, "dr", "new collimator", NOW_NS)
        assert found.status == "rebased"
        after = analyse(store, CONFIG, NOW_NS)
        state = chart(after, BIAS)
        assert state.rebased_ns == alarm.change_ns
        assert state.first_ns >= alarm.change_ns
        assert state.exams == sum(exam(number).ended_ns >= alarm.change_ns for number in range(EXAMS))
        assert state.state == "limited"
        [kept_alarm] = [each for each in after.alarms if each.chart == BIAS]
        assert (kept_alarm.alarm_id, kept_alarm.status, kept_alarm.words) == (
            alarm.alarm_id,
            "rebased",
            "new collimator",
        )
        # From the first session, too.
        with store.database.transaction() as connection:
            kept.forget_checkpoint(connection)
        assert said(analyse(store, CONFIG, NOW_NS)) == said(after)


def test_an_answer_is_to_its_own_alarm() -> None:
    """Of two alarms of one chart the first was acknowledged; the second is re-based."""
    series, chart_of, key = watched()[0], NumberChart(), f"{BIAS}@abc"
    crossings = [Crossing(at, 100, 0.6, 0.5, 3600.0, at, at, at, 8.0) for at in (10, 30)]
    [one] = alarms_of(key, series, chart_of, crossings, [])
    between = Action("", key, "", 20, "", "", msgspec.json.encode(one).decode())
    both = alarms_of(key, series, chart_of, crossings, [between])
    documents = [msgspec.json.encode(replace(alarm, size=9.0, size_exams=50)).decode() for alarm in both]
    done = [
        Action(both[0].alarm_id, key, ACKNOWLEDGE, 20, "first", "looked at", documents[0]),
        Action(both[1].alarm_id, key, REBASE, 40, "second", "new weights", documents[1]),
    ]
    found = alarms_of(key, series, chart_of, crossings, done)
    assert [(alarm.status, alarm.person) for alarm in found] == [("acknowledged", "first"), ("rebased", "second")]
    assert [(alarm.size, alarm.size_exams, alarm.first_size) for alarm in found] == [(9.0, 50, 8.0)] * 2
    # A clock was ahead when the exam was measured: its alarm can be answered all the same.
    ahead = alarms_of(key, series, chart_of, crossings[1:], [done[1]._replace(instant_ns=20)])
    assert [alarm.status for alarm in ahead] == ["rebased"]


def test_the_size_of_an_open_alarm_is_of_the_last_500_exams_however_many_are_remembered() -> None:
    points = [(number, 0.0, float(number >= 250), "") for number in range(700)]
    [crossing] = [Crossing(105, 100, 0.6, 0.5, 3600.0, 100, 100, 100, 8.0, before=of_numbers(points[:100]))]
    key = f"{BIAS}@abc"
    [alarm] = alarms_of(key, watched()[0], NumberChart(past=points), [crossing], [])
    assert (alarm.size, alarm.size_exams, alarm.first_size) == (1.0, 500, 8.0)
    # As it was found again after an answer, the earlier one stays as it was.
    again = Crossing(600, 600, 0.6, 0.5, 3600.0, 595, 595, 595, 1.0, before=crossing.before)
    as_answered = msgspec.json.encode(replace(alarm, size=0.9, size_exams=200)).decode()
    answer = Action("", key, ACKNOWLEDGE, 300, "physicist", "seen", as_answered)
    found = alarms_of(key, watched()[0], NumberChart(past=points), [crossing, again], [answer])
    assert [(each.size, each.size_exams) for each in found] == [(0.9, 200), (1.0, 105)]
    # Also where the answer was under an ID that an erased exam had given, and no later alarm was found.
    [alone] = alarms_of(key, watched()[0], NumberChart(past=points), [crossing], [answer])
    assert (alone.size, alone.size_exams, alone.status) == (0.9, 200, "acknowledged")


def test_of_crossings_that_repeat_an_alarm_a_checkpoint_keeps_nothing_of_before() -> None:
    points = [(number, 0.0, float(number >= 100), "") for number in range(700)]
    before, key, numbers = of_numbers(points[:100]), f"{BIAS}@abc", NumberChart(past=points)
    first = Crossing(105, 100, 0.6, 0.5, 3600.0, 100, 100, 100, 8.0, before=before)
    crossings = [first, *(replace(first, time_ns=at, change_ns=at - 5) for at in (130, 155, 600, 625))]
    document = msgspec.json.encode(alarms_of(key, watched()[0], numbers, crossings[:3], [])[0]).decode()
    for done in ([], [Action("", key, ACKNOWLEDGE, 300, "physicist", "seen", document)]):
        left = without_repeats(crossings, done)
        assert [bool(crossing.before) for crossing in left] == [True, False, False, bool(done), False]
        # What it says goes on as it would without a checkpoint.
        assert alarms_of(key, watched()[0], numbers, left, done) == alarms_of(
            key, watched()[0], numbers, crossings, done
        )


def test_what_failed_from_the_first_session_on_is_told_of_all_sessions_since() -> None:
    """With nothing before it the size is against the accepted rate, which stands also at later looks."""
    points = [(number, float(number < 7 or not number % 10), "") for number in range(1, 301)]
    events, budget = EventChart(accepted=0.02), Budget(1.0, lambda _: 30)
    crossings = list(events.extend(points, budget))
    assert (crossings[0].before, crossings[0].since) == ({}, 5)
    failed = next(series for series in watched() if series.name == "failed")
    [alarm] = alarms_of("failed@", failed, events, crossings, [])
    assert (alarm.size_exams, alarm.size) == (300, pytest.approx(36 / 300 - 0.02))


def test_an_answer_to_an_alarm_whose_exams_left_is_none_to_the_one_beside_it(tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        [alarm] = [each for each in analyse(store, CONFIG, NOW_NS).alarms if each.chart == BIAS]
        older = replace(
            alarm, alarm_id="01de1a1a", raised_ns=100, change_ns=90, earliest_ns=80, latest_ns=95, since_ns=1
        )
        with store.database.transaction() as connection:
            kept.keep_alarms(connection, [(older.alarm_id, msgspec.json.encode(older).decode())], NOW_NS)
        assert act(store, CONFIG, older.alarm_id, ACKNOWLEDGE, "dr", "the older one", NOW_NS).status == "acknowledged"
        for _ in range(2):
            found = {each.alarm_id: each.status for each in analyse(store, CONFIG, NOW_NS).alarms if each.chart == BIAS}
            assert found == {older.alarm_id: "acknowledged", alarm.alarm_id: "open"}
            with store.database.transaction() as connection:
                kept.forget_checkpoint(connection)


def test_an_answer_needs_a_name_and_words(once: Analysis, tmp_path: Path) -> None:
    with a_store(tmp_path) as store:
        for person, words in ((" ", "seen"), ("dr", "")):
            with pytest.raises(ConfigurationError, match="needs who gave it"):
                act(store, CONFIG, once.alarms[0].alarm_id, ACKNOWLEDGE, person, words, NOW_NS)
        for words in ("seen with DOE^JANE", "patient 1234567", "of 20260801", "see 1.2.840.10008.1"):
            with pytest.raises(ConfigurationError, match="stands in reports"):
                act(store, CONFIG, once.alarms[0].alarm_id, ACKNOWLEDGE, "dr", words, NOW_NS)
            with pytest.raises(ConfigurationError, match="stands in reports"):
                act(store, CONFIG, once.alarms[0].alarm_id, ACKNOWLEDGE, words, "seen", NOW_NS)
        with pytest.raises(ConfigurationError, match="no alarm"):
            act(store, CONFIG, "nobody", ACKNOWLEDGE, "dr", "weights 1.5.0 since 2026-08-01, ticket 4821", NOW_NS)


def test_equal_values_say_nothing_of_what_would_be_noticed(tmp_path: Path) -> None:
    with a_store(tmp_path, [replace(exam(number), duration_seconds=1.0) for number in range(60)]) as store:
        state = chart(analyse(store, CONFIG, NOW_NS), "session_seconds")
    assert (state.exams, state.detectable) == (60, None)


def test_a_second_look_at_an_empty_store_goes_on_from_the_first(tmp_path: Path) -> None:
    with a_store(tmp_path) as store:
        analyse(store, CONFIG, exam(0).ended_ns)
        assert not analyse(store, CONFIG, exam(0).ended_ns).anew
        store.commit(exam(0), writes)
        found = analyse(store, CONFIG, exam(0).ended_ns)
    assert (found.anew, found.sessions) == ("", 1)


def test_rates_and_silence_have_no_baseline_to_move(tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(60))) as store:
        now_ns = exam(59).ended_ns + 30 * DAY_NS
        [alarm] = analyse(store, CONFIG, now_ns).alarms
        with pytest.raises(ConfigurationError, match="no baseline"):
            act(store, CONFIG, alarm.alarm_id, REBASE, "dr", "closed", now_ns)
        assert act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "closed", now_ns).status == "acknowledged"


def test_an_alarm_that_is_not_found_any_more_is_withdrawn_and_told(tmp_path: Path) -> None:
    """One budget was too generous for it; those whose exams grew old and left the store keep theirs."""
    with a_store(tmp_path, exams()) as store:
        [alarm] = [alarm for alarm in analyse(store, CONFIG, NOW_NS).alarms if alarm.chart == BIAS]
        strict = AnalyticsConfig(false_alarms_per_year=1e-6)
        after = analyse(store, strict, NOW_NS)
        assert alarm.alarm_id in after.withdrawn
        assert alarm.alarm_id not in {each.alarm_id for each in after.alarms}
        assert alarm.alarm_id in analyse(store, CONFIG, NOW_NS).appeared
    (tmp_path / "later").mkdir()
    with a_store(tmp_path / "later", exams()) as store:
        assert [each for each in analyse(store, CONFIG, NOW_NS).alarms if each.chart == BIAS] == [alarm]
        with store.database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE sequence <= 112")
        assert not analyse(store, CONFIG, NOW_NS).anew
        with store.database.transaction() as connection:
            kept.forget_checkpoint(connection)
        found = analyse(store, CONFIG, NOW_NS)
        assert alarm.alarm_id in {each.alarm_id for each in found.alarms}
        # What is open sets the chart's state, until somebody answers; also at the looks that go on from here.
        assert chart(found, BIAS).exams == 38
        for _ in range(2):
            again = analyse(store, CONFIG, NOW_NS)
            assert (again.anew, chart(again, BIAS).state) == ("", "alarm")
        assert chart(again, "quality").state == "limited"
        act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "looked at", NOW_NS)
        assert chart(analyse(store, CONFIG, NOW_NS), BIAS).state == "acknowledged"


@pytest.mark.parametrize("gone", [20, 60])
def test_a_fault_that_is_found_at_another_exam_once_the_first_ones_left_is_one_alarm(tmp_path: Path, gone: int) -> None:
    """It comes earlier without the first 20 exams, and later without 60, after it was answered: the one kept stands."""
    part, now_ns = {20: "first", 60: "third"}[gone], exam(129).ended_ns + HOUR_NS
    with a_store(tmp_path, exams(range(130))) as store:
        before = analyse(store, CONFIG, now_ns).alarms
        [alarm] = [alarm for alarm in before if alarm.chart == f"model_difference/{part}/{BONE}"]
        if gone == 60:
            act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "looked at", alarm.raised_ns + 1)
        with store.database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE sequence <= ?", (gone,))
            kept.forget_checkpoint(connection)
        for _ in range(2):
            found = analyse(store, CONFIG, now_ns)
            assert [each.alarm_id for each in found.alarms] == [each.alarm_id for each in before]
            assert (found.appeared, found.withdrawn) == ((), ())
            assert chart(found, alarm.chart).state == {20: "alarm", 60: "acknowledged"}[gone]
        if gone == 20:
            act(store, CONFIG, alarm.alarm_id, ACKNOWLEDGE, "dr", "looked at", now_ns)
            found = analyse(store, CONFIG, now_ns)
        [stands] = [each for each in found.alarms if each.chart == alarm.chart]
        assert (stands.alarm_id, stands.status, stands.words) == (alarm.alarm_id, "acknowledged", "looked at")
        assert chart(found, alarm.chart).state == "acknowledged"
        # Who has both, from a version that told of both, keeps one.
        again = replace(alarm, alarm_id="again", since_ns=found.charts[0].first_ns)
        with store.database.transaction() as connection:
            kept.keep_alarms(connection, [("again", msgspec.json.encode(again).decode())], now_ns)
        assert analyse(store, CONFIG, now_ns).withdrawn == ("again",)


def test_another_fault_of_a_chart_that_lost_its_first_exams_is_another_alarm(once: Analysis) -> None:
    [alarm] = [alarm for alarm in once.alarms if alarm.chart == BIAS]
    span_ns = alarm.latest_ns - alarm.earliest_ns + 1
    later = replace(alarm, alarm_id="again", since_ns=alarm.since_ns + 1)
    assert each_once([later, alarm]) == [alarm]
    others = [
        replace(later, score=-alarm.score),
        replace(later, segment="another"),
        replace(later, since_ns=alarm.since_ns),
        replace(later, earliest_ns=alarm.earliest_ns + span_ns, latest_ns=alarm.latest_ns + span_ns),
        replace(later, earliest_ns=alarm.earliest_ns - span_ns, latest_ns=alarm.latest_ns - span_ns),
    ]
    assert all(len(each_once([alarm, other])) == 2 for other in others)
    assert len(each_once([replace(alarm, status="rebased"), later])) == 2
    # After an answer the same fault can alarm again: that one is found as often as it was.
    assert len(each_once([alarm, later, replace(later, alarm_id="once more", raised_ns=NOW_NS)])) == 2


def test_the_document_of_an_alarm_is_read_back(once: Analysis) -> None:
    assert all(msgspec.json.decode(msgspec.json.encode(alarm), type=Alarm) == alarm for alarm in once.alarms)
    fields = msgspec.to_builtins(once.alarms[0])
    del fields["by_days"], fields["size_exams"], fields["first_size"]  # as of before
    before = msgspec.convert(fields, Alarm)
    assert (before.by_days, before.size_exams, before.first_size) == (None, 0, None)
    assert module.CHECKPOINT_VERSION == 11
