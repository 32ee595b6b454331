"""The charts on months of the application's own records, with one detector off from some day on, and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.analytics.analysis import Analysis, analyse
from monitoring.analytics.charts import DAY_NS
from monitoring.settings import AnalyticsConfig
from tests.support.history import NOW, History

NOW_NS = round(NOW.timestamp()) * 10**9
BIASED = "gradient_edges"


def found_in(history: History, folder: Path) -> Analysis:
    with history.store(folder) as store:
        return analyse(store, AnalyticsConfig(), NOW_NS)


@pytest.fixture
def months(simulated: Callable[..., History]) -> Callable[[float], History]:
    return lambda bias_mm: simulated(days=75, changes=False, outage=False, bias_mm=bias_mm, bias_from_day=50)


def test_a_detector_that_is_5_mm_off_is_named_with_its_date(months: Callable[[float], History], tmp_path: Path) -> None:
    right, wrong = (found_in(months(bias_mm), tmp_path / f"{bias_mm}") for bias_mm in (0.0, 5.0))
    assert [alarm.chart for alarm in right.alarms if alarm.chart.startswith("model")] == []
    femora = [alarm for alarm in wrong.alarms if alarm.chart.startswith(f"model_difference/{BIASED}/")]
    assert {alarm.chart[-5:] for alarm in femora} == {"R_FEM", "L_FEM"}
    began_ns = NOW_NS - (75 - 50) * DAY_NS
    for alarm in femora:
        assert alarm.size == pytest.approx(5.0, abs=1.0)
        assert abs(alarm.change_ns - began_ns) < 3 * DAY_NS
