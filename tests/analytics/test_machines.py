"""What the machine comes to: when a volume will be full, and how much memory which version takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace
from scipy import stats

from monitoring.analytics.analysis import Analysis, analyse
from monitoring.analytics.charts import DAY_NS, NumberChart
from monitoring.analytics.machines import (
    HORIZON_DAYS,
    WINDOW_DAYS,
    DayFree,
    Disk,
    Machines,
    add_free,
    disk,
    memory,
    theil_sen,
)
from monitoring.analytics.material import Period, gather
from monitoring.analytics.report import make
from monitoring.analytics.wording import machine_words
from monitoring.metrics.chart_metrics import DISK_FULL
from monitoring.records.session_record import SessionRecord, Usage
from monitoring.settings import AnalyticsConfig
from monitoring.store import totals
from monitoring.store.erasure import erase
from monitoring.store.sessions import Store
from tests.support.exams import EXAMS, MONDAY_NS, NOW_NS, a_store, exam, exams, writes

GB = 1e9


# --- the trend ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_the_trend_and_its_interval_are_scipys(ties: bool) -> None:
    generator = random.Random(5)
    for count in (8, 11, 30, 42):
        x = sorted(generator.sample(range(100), count))
        y = [3.0 - 0.4 * at + generator.gauss(0, 6) for at in x]
        y = [float(round(value, -1)) for value in y] if ties else y
        for confidence in (0.9, 0.95):
            expected = stats.theilslopes(y, x, alpha=confidence)
            found = theil_sen(x, y, confidence)
            assert found[:3] == pytest.approx((expected.slope, expected.low_slope, expected.high_slope))
            assert found.y - found.slope * found.x == pytest.approx(expected.intercept)


def test_dependent_values_have_a_wider_interval() -> None:
    x = list(range(40))
    walk, value, generator = [], 0.0, random.Random(2)
    for _ in x:
        value += generator.gauss(-0.2, 1)
        walk.append(value)
    plain, wider = theil_sen(x, walk), theil_sen(x, walk, is_dependent=True)
    assert wider.low < plain.low < plain.slope == wider.slope < plain.high < wider.high
    line = [2.0 * at for at in x]
    assert theil_sen(x, line, is_dependent=True)[:3] == (2.0, 2.0, 2.0)


# --- the day on which a volume is full --------------------------------------------------------------


def clinic_days(count: int, free: Callable[[int], float]) -> DayFree:
    """The working days among ``count`` days."""
    return {day: free(day) for day in range(count) if day % 7 < 5}


def noisy(seed: int, free: Callable[[int], float]) -> Callable[[int], float]:
    generator = random.Random(seed)
    return lambda day: free(day) + generator.gauss(0, 0.5 * GB)


def full_day(found: Disk) -> float | None:
    return None if found.full_ns is None else found.full_ns / DAY_NS


def test_a_volume_that_fills_evenly_is_full_on_its_day() -> None:
    found = disk("store", clinic_days(40, lambda day: (60 - day) * GB), today=40)
    assert (full_day(found), found.bytes_a_day, found.since_ns) == (60, GB, 0)
    assert found.earliest_ns == found.latest_ns == found.full_ns
    held = 0
    for seed in range(40):
        found = disk("store", clinic_days(40, noisy(seed, lambda day: (60 - day) * GB)), today=40)
        assert full_day(found) == pytest.approx(60, abs=3)
        assert found.earliest_ns is not None
        assert found.latest_ns is not None
        held += found.earliest_ns <= 60 * DAY_NS <= found.latest_ns
    assert held >= 35  # of about 95 %


@pytest.mark.parametrize(
    ("free", "today"),
    [
        (lambda _: 20 * GB, 40),  # it stands still
        (lambda day: (20 + day) * GB, 40),  # it empties
        (lambda day: (40 + HORIZON_DAYS + 2 - day) * GB, 40),  # later than anybody plans for
        (lambda day: (60 - day) * GB, 50),  # nobody has looked for long
    ],
)
def test_no_date_is_told_where_there_is_none(free: Callable[[int], float], today: int) -> None:
    found = disk("store", clinic_days(40, free), today)
    assert (full_day(found), found.bytes_a_day) == (None, None)


def test_what_only_fluctuates_has_no_date() -> None:
    told = [
        disk("store", clinic_days(42, noisy(seed, lambda _: 3 * GB)), 42).full_ns is not None for seed in range(100)
    ]
    assert sum(told) <= 4
    told = []
    for seed in range(100):  # what each day adds or takes at random leads far, and nowhere
        generator, free, path = random.Random(seed), 20 * GB, {}
        for day in range(42):
            free += generator.gauss(0, GB)
            path[day] = free
        told.append(disk("store", path, 42).full_ns is not None)
    assert sum(told) <= 6


def test_few_days_say_nothing() -> None:
    assert full_day(disk("store", clinic_days(12, lambda day: (30 - day) * GB), 12)) is None
    assert full_day(disk("store", {day: (30 - day) * GB for day in range(12)}, 12)) is None
    assert disk("store", {3: GB}, 3) == Disk("store", GB, 3 * DAY_NS, 3 * DAY_NS)


@pytest.mark.parametrize("step", [30.0, -25.0])
def test_a_clean_up_another_disk_or_a_large_file_begins_a_trend_anew(step: float) -> None:
    """20 days of filling, the step, and then a volume that loses nothing more."""
    free = noisy(1, lambda day: (90 - day if day < 20 else 70 + step) * GB)
    found = disk("store", clinic_days(42, free), 42)
    assert (full_day(found), found.since_ns) == (None, 21 * DAY_NS)


def test_after_a_clean_up_the_date_is_of_what_came_since() -> None:
    free = noisy(3, lambda day: (40 - 2 * day if day < 15 else 75 - day) * GB)
    found = disk("store", clinic_days(40, free), 40)
    assert found.since_ns == 15 * DAY_NS
    assert full_day(found) == pytest.approx(75, abs=5)


def test_what_is_given_back_each_week_is_part_of_the_trend() -> None:
    """A rotation that leaves room as it was has no date; one that leaves less each time has."""
    assert full_day(disk("store", clinic_days(42, lambda day: (20 - day % 7) * GB), 42)) is None
    falling = disk("store", clinic_days(42, lambda day: (60 - day - 0.5 * (day % 7)) * GB), 42)
    assert full_day(falling) == pytest.approx(60, abs=3)


def test_a_pause_is_no_step() -> None:
    days = {day: (60 - day) * GB for day in range(40) if not 15 <= day < 29}
    assert full_day(disk("store", days, 40)) == 60


def test_the_past_that_is_kept_is_as_long_as_what_is_looked_at() -> None:
    disks: dict[str, DayFree] = {}
    for day in range(100):
        for free in (5.0, 3.0, 4.0):
            add_free(disks, "store", day, free + day)
    assert disks == {"store": {day: 3.0 + day for day in range(100 - WINDOW_DAYS, 100)}}


def test_what_is_watched_too_shortly_is_not_said_to_have_no_trend() -> None:
    short, steady = (disk("store", clinic_days(count, lambda _: 20 * GB), count) for count in (9, 40))
    gone = disk("store", clinic_days(40, lambda _: 20 * GB), 60)
    said = [dict(machine_words(Machines((each,))))["disk: store"] for each in (short, gone, steady)]
    assert ["nothing can be foreseen" in words for words in said] == [True, True, False]
    assert ["no clear trend" in words for words in said] == [False, False, True]


def test_a_loss_that_becomes_less_has_no_date_on_which_there_was_room() -> None:
    """The middle of all slopes would have the volume full already, with 7 GB free."""
    free = {day: 100 * GB * 0.9**day for day in range(26)}
    found = disk("store", free, 26)
    at = [found.earliest_ns, found.full_ns, found.latest_ns]
    assert None not in at
    assert at == sorted(at, key=lambda each: each or 0)
    assert (full_day(found) or 0) == pytest.approx(25 + free[25] / (found.bytes_a_day or 1))


# --- memory ---------------------------------------------------------------------------------------


def charted(**values: Iterable[float]) -> NumberChart:
    return NumberChart(exams=1, earlier={name: sorted(its) for name, its in values.items()})


def test_a_versions_memory_is_compared_with_an_earlier_ones_of_the_same_device() -> None:
    old = charted(small=[100.0] * 30, large=[900.0] * 5)
    now = charted(small=[110.0] * 25, large=[950.0] * 60)
    found = memory("process_memory", [("a", old), ("b", charted(small=[500.0] * 3)), ("c", now)])
    # The one between has too few exams; the larger images are more by now, and no more memory of the smaller ones.
    assert (found.segment, found.exams, found.median_bytes) == ("c", 85, 950)
    assert (found.before_segment, found.difference_bytes) == ("a", 10)
    assert memory("process_memory", [("c", now)]).difference_bytes is None
    assert memory("process_memory", [("a", charted(other=[1.0] * 30)), ("c", now)]).difference_bytes is None


# --- from sessions --------------------------------------------------------------------------------


def with_machine(record: SessionRecord, number: int) -> SessionRecord:
    """A volume that loses 0.2 GB a day, and a process that takes 40 MB more from version 1.5.0 on."""
    is_new = number >= EXAMS // 2
    day = (record.ended_ns - MONDAY_NS) // DAY_NS
    free = (25 - 0.2 * day) * GB
    resident = (400 + 40 * is_new + number % 5) * 1e6
    system = {
        "disk_free_bytes/store": Usage(free + GB, free + GB, free),
        "process_resident_memory_bytes": Usage(resident / 2, resident),
        "torch_memory_reserved_bytes/0": Usage(2e9, 2e9),
        "gpu_memory_used_bytes/0": Usage(7e9, 7e9),
    }
    if number % 2:
        system["process_resident_memory_growth_bytes"] = Usage(-1e6, -1e6)
    return replace(record, system=system, application_version="1.5.0" if is_new else "1.4.0")


def test_the_analysis_tells_the_date_and_the_memory_of_each_version(tmp_path: Path) -> None:
    records = [with_machine(record, number) for number, record in enumerate(exams())]
    with a_store(tmp_path, records) as store:
        found = analyse(store, AnalyticsConfig(), NOW_NS)
        assert told(store) == {("store",): pytest.approx((MONDAY_NS + 125 * DAY_NS) / 1e9)}
        made = make(gather(store, AnalyticsConfig(), Period(date(2026, 6, 1), date(2026, 6, 2)), NOW_NS))
        assert made.machines == tuple(machine_words(found.machines))  # whatever the period is
        analyse(store, AnalyticsConfig(), NOW_NS + 10 * DAY_NS)  # nobody has looked at the volume for too long
        assert told(store) == {}
    [volume] = found.machines.disks
    assert (volume.volume, volume.bytes_a_day) == ("store", pytest.approx(0.2 * GB))
    assert full_day(volume) == pytest.approx(MONDAY_NS / DAY_NS + 125)
    of_memory = {each.chart: each for each in found.machines.memory}
    assert of_memory["process_memory"].difference_bytes == pytest.approx(40e6, abs=1e6)
    assert of_memory["process_memory"].median_bytes == pytest.approx(442e6, abs=1e6)
    # What torch holds is the process' own; what is in use of the GPU may be another's.
    assert of_memory["gpu_memory/0"].median_bytes == 2e9
    assert of_memory["memory_growth"].median_bytes == -1e6
    words = dict(machine_words(found.machines))
    assert "full on 2026-10-04" in words["disk: store"]
    assert words["Largest resident memory while one image was processed"].endswith(
        "+40 MB against segment " + before(found)
    )


def told(store: Store) -> dict[tuple[str, ...], float]:
    with store.database.read_transaction() as connection:
        return totals.values(connection, DISK_FULL)


def before(found: Analysis) -> str:
    return next(code for code, seen in found.segments.items() if "1.4.0" in seen.words)


def test_it_is_the_same_after_daily_looks_and_after_an_erasure(tmp_path: Path) -> None:
    records = [with_machine(record, number) for number, record in enumerate(exams())]
    gone = records[-3]
    kept = [record for record in records if record.patient_key != gone.patient_key]
    with a_store(tmp_path / "at-once", kept) as store:
        once = analyse(store, AnalyticsConfig(), NOW_NS)
    with a_store(tmp_path / "daily") as store:
        for start in range(0, EXAMS, 10):
            for record in records[start : start + 10]:
                store.commit(record, writes)
            analyse(store, AnalyticsConfig(), exam(min(start + 9, EXAMS - 1)).ended_ns)
        assert gone.patient_key is not None
        erase(store.database, gone.patient_key)
        assert analyse(store, AnalyticsConfig(), NOW_NS).machines == once.machines
