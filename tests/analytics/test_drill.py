"""The fire drill: what faults in the site's own last exams make of the records, and whether the charts notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from monitoring.analytics import drill as drills
from monitoring.analytics.analysis import REBASE, act, analyse
from monitoring.analytics.drill import Drill, drill, present_sessions, shuffled
from monitoring.analytics.faults import Fault, carried, faults, is_usable, lengths_mm, spacing_mm, with_fault
from monitoring.analytics.states import Alarm
from monitoring.cli.commands import app
from monitoring.exceptions import StoreError
from monitoring.records.session_record import SessionRecord
from monitoring.settings import AnalyticsConfig
from monitoring.store import analysis as kept
from monitoring.store import readings
from monitoring.store.erasure import erase
from monitoring.store.rows import checksum
from monitoring.store.sessions import Store
from monitoring.version import __version__
from tests.support.exams import BIAS, NOW_NS, a_store, exams
from tests.support.history import History

CONFIG = AnalyticsConfig()


@pytest.fixture(scope="module")
def months(simulated: Callable[..., History]) -> History:
    return simulated(days=50, changes=False, outage=False)


@pytest.fixture(scope="module")
def measured(months: History) -> list[SessionRecord]:
    return [record for record in months.records if is_usable(record)]


@pytest.fixture(scope="module")
def site(months: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store, and task.json beside it."""
    folder = tmp_path_factory.mktemp("site")
    with months.store(folder):
        pass
    settings = {"process": {"settings": {"monitoring": months.settings(folder)}}}
    (folder / "task.json").write_text(json.dumps(settings))
    return folder


def kept_state(store: Store) -> object:
    with store.database.read_transaction() as connection:
        return kept.checkpoint(connection), kept.kept_alarms(connection), kept.actions(connection)


@pytest.fixture(scope="module")
def found(months: History, site: Path) -> Drill:
    with months.store(site, ()) as store:
        before = kept_state(store)
        made = drill(store, CONFIG, shuffles=2)
        assert kept_state(store) == before
        drills.keep(store, made, NOW_NS)
        assert kept_state(store) == before
    return made


def named(of: Mapping[str, Fault], words: str) -> Fault:
    [fault] = [fault for name, fault in of.items() if words in name]
    return fault


# --- what a fault makes of a record ---------------------------------------------------------------


def test_what_the_application_computed_is_what_it_would_compute_of_the_shifted_boxes(
    measured: Sequence[SessionRecord],
) -> None:
    from analysis import ensemble, measurements
    from analysis.detectors.protocol import Detections
    from analysis.landmarks import Spacing

    for fault in faults(measured).values():
        for record in measured[:25]:
            after = with_fault(record, fault)
            spacing = Spacing(*(float(after.context[f"{axis}_spacing_mm"]) for axis in ("row", "column")))
            seen = {one.model: Detections.of(one.boxes, one.labels, one.scores) for one in after.predictions}
            fused = ensemble.fuse(seen)
            expected = measurements.measure(fused, spacing)
            assert after.measurements_mm == pytest.approx({name: mm["millimeters"] for name, mm in expected.items()})
            for model in after.models:
                alone = measurements.measure(ensemble.fuse({"alone": seen[model.model]}), spacing)
                lengths = {name: mm["millimeters"] for name, mm in alone.items()}
                assert model.measurements_mm == pytest.approx(lengths)


def test_faults_are_as_large_as_they_say(measured: Sequence[SessionRecord]) -> None:
    made = faults(measured)
    record = next(each for each in measured if len(each.measurements_mm) == 6 and len(each.models) == 3)
    names = {"R": "PLL_R_FEM", "T": "PLL_R_TIB", "G": "PLL_R_LGL"}
    before = {key: record.measurements_mm[name] for key, name in names.items()}

    def changes(words: str) -> list[float]:
        after = with_fault(record, named(made, words)).measurements_mm
        return [after[name] - before[key] for key, name in names.items()]

    assert changes("knees 2 mm") == pytest.approx([2.0, -2.0, 0.0])
    for words in ("magnified by 2 %", "spacing that is 2 %"):
        assert changes(words) == pytest.approx([0.02 * length for length in before.values()])
    assert changes("scatter 1.5") == pytest.approx([0.0] * 3, abs=1e-6)
    worse = with_fault(record, named(made, "scatter 1.5"))
    assert worse.ensemble.get("mean_distance", 0.0) == pytest.approx(1.5 * record.ensemble.get("mean_distance", 0.0))
    model = record.models[0]
    off = with_fault(record, named(made, f"{model.model} places")).models[0]
    assert off.measurements_mm["PLL_R_TIB"] - model.measurements_mm["PLL_R_TIB"] == pytest.approx(5.0)
    swapped = [with_fault(each, named(made, "swapped")) for each in measured]
    changed = sum(now.predictions != each.predictions for now, each in zip(swapped, measured, strict=True))
    assert 0 < changed < 0.12 * len(measured)


def test_a_host_with_a_way_of_its_own_to_measure_keeps_it(measured: Sequence[SessionRecord]) -> None:
    record = measured[0]
    stated = {"a": 11.0, "gone": 1.0, "other": 3.0}
    now = carried(stated, {"a": 10.0, "gone": 1.0}, {"a": 12.0, "new": 5.0})
    assert now == {"a": 13.0, "other": 3.0, "new": 5.0}
    assert lengths_mm(record.predictions, spacing_mm(record)) == pytest.approx(dict(record.measurements_mm))


# --- what the charts say --------------------------------------------------------------------------


def test_charts_notice_what_they_can_and_nothing_is_said_of_what_they_can_not(found: Drill) -> None:
    assert 0 < found.read < found.exams_with_fault <= found.exams_before // 2
    by_fault = {finding.fault: finding for finding in found.findings}
    for name, finding in by_fault.items():
        if name.endswith("ankles 5 mm too low"):
            its_chart = f"model_difference/{name.partition(' ')[0]}/"
            own = [alarm.exams for alarm in finding.without_readers if alarm.chart.startswith(its_chart)]
            assert own
            assert min(own) <= 15
    [scatter] = [finding for name, finding in by_fault.items() if "scatter" in name]
    assert {"model_distance", "disagreement"} & {alarm.chart for alarm in scatter.without_readers}
    [scale] = [finding for name, finding in by_fault.items() if "magnified" in name]
    assert sum(alarm.chart.startswith("reader_") for alarm in scale.alarms) >= 2
    assert len(scale.without_readers) <= 1  # by chance
    assert all(alarm.exams > 30 for alarm in scale.without_readers)
    [spacing] = [finding for name, finding in by_fault.items() if "spacing that is 2 %" in name]
    assert {alarm.chart.partition("/")[0] for alarm in spacing.alarms} <= {"reader_error_over_5_mm"}
    [swaps] = [finding for name, finding in by_fault.items() if "swapped" in name]
    assert swaps.alarms == ()


def test_a_lasting_change_goes_when_the_days_are_shuffled(tmp_path: Path) -> None:
    with a_store(tmp_path, exams()) as store:
        in_order = {alarm.chart for alarm in analyse(store, CONFIG, NOW_NS).alarms}
        sessions = present_sessions(store)
    assert BIAS in in_order
    once, again = (shuffled(sessions, CONFIG, 4) for _ in range(2))
    assert once == again
    assert once.by_chart.get(BIAS, 0) <= 1
    assert once.alarms_a_year == pytest.approx(sum(once.by_chart.values()) / (4 * once.years))
    none = shuffled(sessions[:60], CONFIG, 4)
    assert (none.alarms_a_year, none.two_errors) == (0.0, pytest.approx(2 / (4 * none.years)))  # and not +- 0


@pytest.fixture
def two_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "faults", lambda records: dict(list(faults(records).items())[:2]))


def alarms_of_exams(store: Store) -> list[Alarm]:
    return [alarm for alarm in analyse(store, CONFIG, NOW_NS).alarms if alarm.chart != "silence"]


@pytest.mark.usefixtures("two_faults")
def test_exams_from_an_alarms_change_on_are_left_out(simulated: Callable[..., History], tmp_path: Path) -> None:
    history = simulated(days=57, changes=False, outage=False, bias_mm=5.0, bias_from_day=50)
    with history.store(tmp_path / "all") as store:
        change_ns = min(alarm.change_ns for alarm in alarms_of_exams(store))
        found = drill(store, CONFIG, shuffles=1)
        exams_since = sum(
            session.is_first_of_exam for session in present_sessions(store) if session.stored.timestamp_ns >= change_ns
        )
    assert change_ns <= min(one.ended_ns for one in history.records if one.ended_ns >= history.plan.begins_ns(50))
    assert found.left_out == exams_since > 10
    assert found.unusual.startswith(f"without the newest {exams_since} exams, after a change that raised an alarm")
    earlier = [record for record in history.records if record.ended_ns < change_ns]
    with history.store(tmp_path / "earlier", earlier) as store:
        assert drill(store, CONFIG, shuffles=1) == msgspec.structs.replace(found, left_out=0)


@pytest.mark.usefixtures("two_faults")
def test_charts_that_alarm_without_a_fault_notice_none_until_people_re_base_them(
    simulated: Callable[..., History], tmp_path: Path
) -> None:
    history = simulated(days=50, changes=False, outage=False, bias_mm=5.0, bias_from_day=25)
    with history.store(tmp_path) as store:
        alarms = alarms_of_exams(store)
        found = drill(store, CONFIG, shuffles=1)
        for alarm in alarms:
            act(store, CONFIG, alarm.alarm_id, REBASE, "dr", "meant", NOW_NS)
        again = drill(store, CONFIG, shuffles=1)
    # Too few lie before the change, so all are drilled.
    assert found.left_out == 0
    assert found.exams_before + found.exams_with_fault > 150
    charts = {alarm.chart for alarm in alarms}
    assert len(charts) > 3
    assert charts <= set(found.alarms)
    assert not set(found.alarms) & {alarm.chart for finding in found.findings for alarm in finding.alarms}
    assert found.unusual.startswith(f"{len(found.alarms)} alarms in these exams as they are")
    assert (again.left_out, again.alarms, again.unusual) == (0, (), "")


# --- the command ----------------------------------------------------------------------------------


def run(folder: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["drill", *options, "--config", str(folder / "task.json")])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_was_noticed_and_what_not(
    site: Path, months: History, found: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept_count() -> int:
        with months.store(site, ()) as store, store.database.read_transaction() as connection:
            return len(kept.drills(connection))

    before = kept_count()
    monkeypatch.setattr(drills.drill, "__defaults__", (360, 2))
    code, said, _ = run(site, "--json")
    assert (code, json.loads(said)) == (0, json.loads(msgspec.json.encode(found)))  # the same at each drill
    assert kept_count() == before + 1
    monkeypatch.setattr(drills, "drill", lambda *_: found)
    code, said, _ = run(site)
    assert code == 0
    for finding in found.findings:
        [line] = [line for line in said.splitlines() if line.startswith(finding.fault)]
        assert line.rstrip().endswith("not noticed") is (not finding.without_readers)
    assert f"{found.shuffled.alarms_a_year:.1f} false alarms a year" in said


def test_what_was_found_is_kept_for_the_report_with_no_session_and_no_patient_in_it(
    site: Path, months: History, found: Drill
) -> None:
    with months.store(site, ()) as store, store.database.read_transaction() as connection:
        [value, *_], [made, *_] = kept.drills(connection)[::-1], drills.kept_drills(connection)[::-1]
    assert (made.made_ns, made.version, made.found) == (NOW_NS, __version__, found)
    text = value.decode()
    for record in months.records:
        for secret in (record.session_id, record.series_key, record.study_key, record.patient_key):
            assert not secret or secret not in text


def test_the_newest_twenty_are_kept_and_outlast_erasures_and_late_readings(tmp_path: Path, found: Drill) -> None:
    def days() -> list[int]:
        with store.database.read_transaction() as connection:
            return [made.made_ns for made in drills.kept_drills(connection)]

    with a_store(tmp_path, exams(range(3))) as store:
        for number in range(25):
            drills.keep(store, found, number)
        newest = list(range(24, 4, -1))
        assert days() == newest
        erased = erase(store.database, exams(range(3))[0].patient_key)
        assert (erased.sessions, days()) == (1, newest)
        row = ("1" * 32, "reader_1", '{"PLL_R_FEM":301.0}', 5)
        with store.database.transaction() as connection:
            assert readings.keep_missing(connection, (*row, checksum(*row)))
        assert days() == newest
        with store.database.transaction() as connection:
            connection.execute("UPDATE analysis SET value = x'00' WHERE name LIKE '%24'")
            kept.keep_drill(connection, b'{"of": "a later version"}', 30)
        assert days() == newest[1:-1]


def test_a_store_that_is_read_only_is_drilled_all_the_same(
    site: Path, found: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the store is read-only")

    monkeypatch.setattr(drills, "drill", lambda *_: found)
    monkeypatch.setattr(drills, "keep", refuse)
    code, said, error = run(site)
    assert (code, error) == (1, "not kept for the report: the store is read-only\n")
    assert f"{found.shuffled.alarms_a_year:.1f} false alarms a year" in said


def test_too_few_exams_are_told_in_one_sentence(tmp_path: Path) -> None:
    with a_store(tmp_path, exams(range(40))):
        pass
    section = {"enabled": True, "store": {"path": str(tmp_path), "min_free_mb": 0}}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
    code, said, error = run(tmp_path)
    assert (code, said) == (1, "")
    assert error.count("\n") == 1
    assert "a drill needs 150 exams of the last year" in error
    assert error.rstrip().endswith("there are 0")
