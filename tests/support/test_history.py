"""The simulated history is what it says: the application's own records, over a clinic's days."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from monitoring.cli.sessions import import_records
from monitoring.config_validator import check_section
from monitoring.domain.derivation import Facts, derive
from monitoring.privacy.dicom_header import is_context
from monitoring.records.foreign import foreign_record
from monitoring.records.session_record import SessionRecord
from monitoring.version import __version__
from simulation.exams import CHANGED_MODEL
from tests.support.history import History

ZURICH = ZoneInfo("Europe/Zurich")
SUMMER_TIME_ENDS = datetime(2026, 10, 25, 1, tzinfo=UTC)


def local(record: SessionRecord) -> datetime:
    return datetime.fromtimestamp(record.started_ns / 1e9, ZURICH)


def test_sessions_lie_in_office_hours_on_both_sides_of_the_clocks_change(history: History) -> None:
    started = [local(record) for record in history.records]
    assert all(8 <= instant.hour < 18 and instant.weekday() < 5 for instant in started)
    assert min(started) < SUMMER_TIME_ENDS < max(started)
    assert len({instant.utcoffset() for instant in started}) == 2
    assert [record.ended_ns for record in history.records] == sorted(record.ended_ns for record in history.records)
    overlapping = zip(history.records, history.records[1:], strict=False)
    assert all(earlier.ended_ns < later.started_ns for earlier, later in overlapping)


def test_a_day_has_four_to_eight_sessions_and_the_outage_none(history: History) -> None:
    per_day = Counter(local(record).date().isoformat() for record in history.records)
    outage = history.plan.events()["outage"]
    assert len(outage) == 2
    assert not set(outage) & set(per_day)
    assert len(per_day) == len(history.plan.clinic_days()) - 2
    assert 4 <= min(per_day.values()) <= max(per_day.values()) <= 8


def test_most_are_completed_and_the_others_have_the_applications_own_reasons(history: History) -> None:
    found = Counter((record.status, record.reason) for record in history.records)
    assert found["completed", None] > 0.7 * len(history.records)
    others = {reason for status, reason in found if status != "completed"}
    assert {"no_pixel_spacing", "landmarks_missing", "truncated_pixel_data"} <= others


def test_what_is_derived_is_consistent(history: History) -> None:
    """The host's ensemble figures, which are the application's code's, are those that the module computes itself."""
    for record in history.records:
        differences = derive(record, Facts()).differences
        assert all(difference == pytest.approx(0.0, abs=1e-6) for difference in differences.values())


def test_each_record_is_imported_as_it_is(history: History) -> None:
    for record in history.records:
        assert foreign_record(record.to_dict(), is_context) == record
    assert len({record.session_id for record in history.records}) == len(history.records)


def test_equal_plans_give_equal_histories_and_a_fault_changes_only_what_it_touches(
    history: History, simulated: Callable[..., History]
) -> None:
    assert simulated(days=60).records == history.records
    biased = simulated(days=60, bias_mm=5.0, bias_from_day=30)
    begins_ns = biased.plan.events()["bias_begins_ns"]
    assert [one for one in biased.records if one.ended_ns < begins_ns] == [
        one for one in history.records if one.ended_ns < begins_ns
    ]
    pairs = [
        (model_mm(faulty), model_mm(well), faulty.measurements_mm, well.measurements_mm)
        for faulty, well in zip(biased.records, history.records, strict=True)
        if well.ended_ns >= begins_ns and "PLL_R_FEM" in model_mm(well)
    ]
    longer = [faulty["PLL_R_FEM"] - well["PLL_R_FEM"] for faulty, well, _, _ in pairs]
    assert len(longer) > 50
    assert longer == pytest.approx([5.0] * len(longer), abs=0.01)
    fused = [faulty["PLL_R_FEM"] - well["PLL_R_FEM"] for _, _, faulty, well in pairs]
    assert 1.0 < statistics.median(fused) < 3.0  # a share of it: one of three models


def model_mm(record: SessionRecord) -> Mapping[str, float]:
    found = [one for one in record.models if one.model == CHANGED_MODEL]
    return found[0].measurements_mm if found else {}


def test_failures_rise_from_the_day_that_the_plan_says(simulated: Callable[..., History]) -> None:
    failing = simulated(days=60, failures_from_day=45)
    begins_ns = failing.plan.events()["failures_begin_ns"]
    shares = [
        statistics.mean(
            record.status == "failed" for record in failing.records if (record.ended_ns >= begins_ns) is later
        )
        for later in (False, True)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.25


@pytest.mark.servers
def test_a_prometheus_knows_the_totals_of_then(tmp_path: Path, history: History) -> None:
    events = history.plan.events()
    with (
        history.store(tmp_path / "store") as store,
        history.prometheus(tmp_path / "prometheus", store, new_store=True) as prometheus,
    ):
        for at_ns in (events["new_store_ns"] - 1, history.records[-1].ended_ns):
            begins_ns = 0 if at_ns < events["new_store_ns"] else events["new_store_ns"]
            expected = Counter(one.status for one in history.records if begins_ns <= one.ended_ns <= at_ns)
            hour = at_ns // 1e9 // 3600 * 3600 + (3600 if begins_ns else 0)
            found = prometheus.query('last_over_time(leglength_sessions_total{application="simulated"}[1h])', hour)
            told = {sample["metric"]["status"]: float(sample["value"][1]) for sample in found}
            assert {status: count for status, count in told.items() if count} == expected
        end = history.records[-1].ended_ns / 1e9 + 60
        assert prometheus.query('resets(leglength_sessions_total{status="completed"}[60d])', end)[0]["value"][1] == "1"
        # The application changed before the new store, so that there another version takes a known one's place.
        for at_ns, version in (
            (events["application_changes_ns"], "1.4.0"), (events["new_store_ns"], "1.5.0"), (end * 1e9, "1.5.0"),
        ):  # fmt: skip
            found = prometheus.query("last_over_time(leglength_build_info[2h])", at_ns / 1e9)
            told = [(sample["metric"]["version"], sample["metric"]["monitoring_version"]) for sample in found]
            assert told == [(version, __version__)]


def test_the_written_history_is_imported_whole(tmp_path: Path, history: History) -> None:
    document = {"monitoring": {"sessions": [record.to_dict() for record in history.records[:20]]}}
    (tmp_path / "result.json").write_text(json.dumps(document))
    config = check_section(history.settings(tmp_path / "state")).config
    counts = import_records(config, [tmp_path / "result.json"])
    assert (counts.new, counts.unreadable) == (20, 0)
