"""Which pairs are compared, what is computed of them from the store to the command line, and what is pushed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from monitoring.cli.output import verdict_in_words
from monitoring.domain.agreement import Verdict
from monitoring.domain.anatomy import MEASUREMENTS
from monitoring.readings import validation
from monitoring.store import readings, totals
from tests.support.published import MINI_WRIGHT, SHROUT_FLEISS, WRIGHT
from tests.support.reading_site import Site

HEADER = "accession_number,reader,PLL_R_FEM_mm"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def bias(site: Site, measurement: str = "PLL_R_FEM") -> float:
    return site.report()["measurements"][measurement]["bias_mm"]


# --- which pairs ------------------------------------------------------------------------------------


def test_several_readers_of_an_exam_are_one_pair_with_their_mean(site: Site) -> None:
    site.session({"PLL_R_FEM": 400.0}, accession="A1")
    site.read(HEADER, "A1,Dr A,401", "A1,Dr B,404", "A1,,408")
    assert site.pairs() == {"PLL_R_FEM": 1}
    assert bias(site) == pytest.approx(400 - 1213 / 3)


def test_a_series_that_is_processed_again_counts_once_as_it_was_processed_last(site: Site) -> None:
    for femur in (400.0, 410.0):
        site.session({"PLL_R_FEM": femur}, series="1.2.1", study="1.2", accession="A1")
    site.read(HEADER, "A1,Dr A,405")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, 5.0)


@pytest.mark.parametrize("status", ["failed", "skipped", "crashed"])
def test_a_session_that_was_not_completed_takes_no_ones_place_and_is_not_compared(site: Site, status: str) -> None:
    site.session({"PLL_R_FEM": 400.0}, series="1.2.1", accession="A1")
    site.session({"PLL_R_FEM": 430.0}, series="1.2.1", accession="A1", status=status)
    site.session({"PLL_R_FEM": 430.0}, series="1.2.2", accession="A2", status=status)
    site.read(HEADER, "A1,Dr A,405", "A2,Dr A,405")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, -5.0)


def test_of_films_of_one_study_the_last_counts_whatever_the_reading_names(site: Site) -> None:
    for number, femur in ((1, 400.0), (2, 410.0)):
        site.session({"PLL_R_FEM": femur}, series=f"1.2.{number}", study="1.2", accession="A1")
    site.read("study_uid,PLL_R_FEM_mm", "1.2,405")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, 5.0)
    site.read("series_uid,PLL_R_FEM_mm", "1.2.1,400", "1.2.2,407")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, 3.0)


def test_a_reading_of_an_earlier_film_is_compared_with_that_film(site: Site) -> None:
    for number, femur in ((1, 400.0), (2, 410.0)):
        site.session({"PLL_R_FEM": femur}, series=f"1.2.{number}", study="1.2")
    site.read("series_uid,PLL_R_FEM_mm", "1.2.1,399")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, 1.0)


def test_each_leg_on_a_film_of_its_own_is_compared(site: Site) -> None:
    site.session({"PLL_R_FEM": 400.0}, series="1.2.1", study="1.2")
    site.session({"PLL_L_FEM": 395.0}, series="1.2.2", study="1.2")
    site.read("study_uid,PLL_R_FEM_mm,PLL_L_FEM_mm", "1.2,405,396")
    assert site.pairs() == {"PLL_R_FEM": 1, "PLL_L_FEM": 1}
    assert (bias(site), bias(site, "PLL_L_FEM")) == (-5.0, -1.0)


def test_exams_of_different_studies_are_pairs_of_their_own_and_so_are_series_of_unknown_studies(site: Site) -> None:
    site.session({"PLL_R_FEM": 400.0}, series="1.2.1", study="1.2")
    site.session({"PLL_R_FEM": 400.0}, series="1.3.1", study="1.3")
    site.session({"PLL_R_FEM": 400.0}, series="1.4.1")
    site.session({"PLL_R_FEM": 400.0}, series="1.5.1")
    site.read("series_uid,PLL_R_FEM_mm", *(f"1.{number}.1,401" for number in (2, 3, 4, 5)))
    assert site.pairs() == {"PLL_R_FEM": 4}


def test_what_a_reader_stated_last_counts_whatever_it_names(site: Site) -> None:
    site.session({"PLL_R_FEM": 400.0}, series="1.2.1", study="1.2", accession="A1")
    site.read("series_uid,reader,PLL_R_FEM_mm", "1.2.1,Dr A,410")
    site.read(HEADER, "A1,Dr A,401")
    assert (site.pairs(), bias(site)) == ({"PLL_R_FEM": 1}, -1.0)


def test_a_measurement_that_only_one_side_has_is_no_pair(site: Site) -> None:
    site.session({"PLL_R_FEM": 400.0, "PLL_R_TIB": 300.0, "another": 1.0}, accession="A1")
    site.read("accession,PLL_R_FEM_mm,PLL_L_FEM_mm", "A1,401,401")
    assert site.pairs() == {"PLL_R_FEM": 1}


def test_the_newest_sessions_are_compared_up_to_a_limit(site: Site) -> None:
    for number in range(5):
        site.session({"PLL_R_FEM": 400.0 + number}, accession=f"A{number}")
    site.read(HEADER, *(f"A{number},Dr A,400" for number in range(5)))
    database = site.database()
    found = [session.record.measurements_mm["PLL_R_FEM"] for session in readings.compared(database, newest=3)]
    database.close()
    assert found == [404.0, 403.0, 402.0]


# --- what is computed -------------------------------------------------------------------------------


def test_the_peak_flows_of_bland_and_altman_1986_from_file_to_report(site: Site) -> None:
    for number, value in enumerate(WRIGHT):
        site.session({"PLL_R_LGL": float(value)}, accession=f"A{number}")
    site.read(
        "accession;PLL_R_LGL (cm)",
        *(f"A{number};{value / 10:.1f}".replace(".", ",") for number, value in enumerate(MINI_WRIGHT)),
    )
    found = site.report()["measurements"]["PLL_R_LGL"]
    assert (found["pairs"], found["verdict"]) == (17, {"status": "too_few", "failed": []})
    assert found["bias_mm"] == pytest.approx(-2.118, abs=5e-4)
    assert found["sd_mm"] == pytest.approx(38.765, abs=5e-4)
    assert found["bias_se_mm"] == pytest.approx(9.402, abs=5e-4)
    assert (found["bias_low_mm"], found["bias_high_mm"]) == (
        pytest.approx(-22.05, abs=5e-3),
        pytest.approx(17.81, abs=5e-3),
    )
    assert found["ccc"] == pytest.approx(0.9427, abs=5e-5)
    assert "38.7" not in site.run("readings").out  # from 30 pairs on only


def icc_2_1(ratings: NDArray[np.float64]) -> float:
    """By the analysis of variance, as Shrout and Fleiss (1979) have it."""
    targets, raters = ratings.shape
    rows, columns, grand = ratings.mean(1), ratings.mean(0), ratings.mean()
    between = raters * ((rows - grand) ** 2).sum() / (targets - 1)
    judges = targets * ((columns - grand) ** 2).sum() / (raters - 1)
    residual = ((ratings - rows[:, None] - columns + grand) ** 2).sum() / ((targets - 1) * (raters - 1))
    return float((between - residual) / (between + (raters - 1) * residual + raters * (judges - residual) / targets))


def simulated(site: Site, exams: int, sd_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sessions and readings of two readers, who differ; ours and the readers' mean, exams x measurements."""
    rng = np.random.default_rng(20)
    truth = rng.uniform(150.0, 450.0, (exams, 6))
    ours = truth + rng.normal(0.7, sd_mm, truth.shape)
    readers = np.round(truth[None] + rng.normal(0.0, 1.5, (2, *truth.shape)), 1)
    for number in range(exams):
        site.session(dict(zip(MEASUREMENTS, map(float, ours[number]), strict=True)), study=f"1.{number}")
    rows = [
        ",".join([f"1.{number}", f"Dr {reader}", *map(str, readers[reader, number])])
        for number in range(exams)
        for reader in (0, 1)
    ]
    site.read(",".join(["study_uid", "reader", *(f"{name}_mm" for name in MEASUREMENTS)]), *rows)
    return ours, readers.mean(0)


def expected(ours: NDArray[np.float64], reader: NDArray[np.float64]) -> dict[str, Any]:
    """The same by numpy and scipy."""
    error = ours - reader
    count, absolute = len(error), np.abs(error)
    low, high = stats.t.interval(0.95, count - 1, error.mean(), stats.sem(error))
    covariance = np.cov(ours, reader, ddof=0)
    return {
        "pairs": count,
        "bias_mm": error.mean(),
        "sd_mm": error.std(ddof=1),
        "bias_se_mm": stats.sem(error),
        "bias_low_mm": low,
        "bias_high_mm": high,
        "lower_limit_mm": error.mean() - 1.96 * error.std(ddof=1),
        "upper_limit_mm": error.mean() + 1.96 * error.std(ddof=1),
        "mae_mm": absolute.mean(),
        "median_absolute_error_mm": np.median(absolute),
        "beyond_5_mm_ratio": (absolute > 5).mean(),
        "beyond_10_mm_ratio": (absolute > 10).mean(),
        "within_threshold_ratio": (absolute <= 20).mean(),
        "icc_2_1": icc_2_1(np.column_stack([ours, reader])),
        "ccc": 2 * covariance[0, 1] / (np.trace(covariance) + error.mean() ** 2),
    }


def failing(found: dict[str, Any]) -> list[str]:
    """The suggested criteria that aren't met."""
    met = {
        "bias": abs(found["bias_mm"]) <= 2,
        "mae": found["mae_mm"] <= 3,
        "limits_of_agreement": found["lower_limit_mm"] >= -10 and found["upper_limit_mm"] <= 10,
        "icc": found["icc_2_1"] >= 0.95,
    }
    return [name for name, is_met in met.items() if not is_met]


@pytest.mark.parametrize("sd_mm", [2.0, 14.0])
def test_a_simulated_stores_numbers_are_those_of_numpy_and_scipy(site: Site, sd_mm: float) -> None:
    assert icc_2_1(np.array(SHROUT_FLEISS, float)) == pytest.approx(0.2898, abs=5e-5)
    site.settings = {"prometheus": {"gateway_url": "http://127.0.0.1:9"}}
    ours, reader = simulated(site, 120, sd_mm)
    found = site.report()["measurements"]
    gauges = site.gauges("leglength_validation_")
    names = {"within_threshold_ratio": "within_threshold_ratio", "icc_2_1": "icc_ratio", "pairs": "pairs"}
    names |= {"bias_mm": "bias_millimeters", "mae_mm": "mae_millimeters", "beyond_5_mm_ratio": "beyond_5_mm_ratio"}
    names |= {"lower_limit_mm": "lower_limit_millimeters", "upper_limit_mm": "upper_limit_millimeters"}
    for column, name in enumerate(MEASUREMENTS):
        right = expected(ours[:, column], reader[:, column])
        if name.endswith("LGL"):  # whose threshold is 5 cm
            right["within_threshold_ratio"] = (np.abs(ours - reader)[:, column] <= 50).mean()
        assert {key: found[name][key] for key in right} == pytest.approx(right, rel=1e-9, abs=1e-9)
        for key, gauge in names.items():
            assert gauges[f"leglength_validation_{gauge}", name] == pytest.approx(right[key], rel=1e-9, abs=1e-9)
        failed = failing(right)
        assert found[name]["verdict"] == {"status": "not_met" if failed else "met", "failed": failed}
        assert gauges["leglength_validation_criteria_failed", name] == len(failed)
        assert bool(failed) == (sd_mm > 10)


def test_an_errors_threshold_is_that_of_its_own_sessions_settings(site: Site) -> None:
    for number, limit_cm in enumerate((0.1, 0.3, None)):
        thresholds = {"thresholds_cm": {"femur_threshold": limit_cm}} if limit_cm else {}
        site.session({"PLL_R_FEM": 400.0}, accession=f"A{number}", **thresholds)
    site.read(HEADER, *(f"A{number},Dr A,402" for number in range(3)))
    assert site.report()["measurements"]["PLL_R_FEM"]["within_threshold_ratio"] == pytest.approx(2 / 3)


# --- what is shown and pushed -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "pairs", "words"),
    [
        (Verdict("too_few"), 12, "too few: 12 of 30"),
        (Verdict("provisional"), 30, "provisional (30 to 99), met so far"),
        (Verdict("provisional", ("icc",)), 99, "provisional (30 to 99), not met so far: icc"),
        (Verdict("met"), 100, "met"),
        (Verdict("not_met", ("bias", "limits_of_agreement")), 100, "not met: bias, limits of agreement"),
    ],
)  # fmt: skip
def test_a_verdict_is_told_in_words(verdict: Verdict, pairs: int, words: str) -> None:
    assert verdict_in_words(verdict, pairs) == words


def paired(site: Site, start: int, stop: int) -> None:
    for number in range(start, stop):
        site.session({"PLL_R_FEM": 400.0 + number}, accession=f"A{number}")
    site.read(HEADER, *(f"A{number},Dr A,{401 + number}" for number in range(start, stop)))


def test_statistics_are_shown_from_30_pairs_on_and_judged_from_100(site: Site) -> None:
    shown = []
    for start, stop in ((0, 29), (29, 30), (30, 99), (99, 100)):
        paired(site, start, stop)
        (row,) = [line for line in site.run("readings").out.splitlines() if "PLL_R_FEM" in line]
        shown.append((sorted({name for name, _ in site.gauges("leglength_validation_")}), row.split()[1], row))
    assert shown[0][0] == ["leglength_validation_pairs"]
    assert shown[0][2].split()[2:] == ["too", "few:", "29", "of", "30"]
    assert "leglength_validation_bias_millimeters" in shown[1][0]
    assert "leglength_validation_criteria_failed" not in shown[1][0] + shown[2][0]
    assert "provisional (30 to 99), met so far" in shown[1][2]
    assert "-1.00 (-1.00 to -1.00)" in shown[2][2]
    assert "leglength_validation_criteria_failed" in shown[3][0]
    assert shown[3][2].split()[-1] == "met"


def test_gauges_of_what_has_too_few_pairs_now_are_taken_back(site: Site) -> None:
    paired(site, 0, 30)
    revision = site.revision()
    database = site.database()
    with database.transaction() as connection:
        connection.execute("DELETE FROM sessions WHERE sequence = 1")
    validation.refresh(database)
    database.close()
    assert set(site.gauges("leglength_validation_")) == {("leglength_validation_pairs", name) for name in MEASUREMENTS}
    assert site.gauges("leglength_validation_pairs")["leglength_validation_pairs", "PLL_R_FEM"] == 29.0
    assert site.revision() == revision + 1


def test_gauges_that_a_clock_once_wrote_ahead_of_time_are_renewed(site: Site) -> None:
    paired(site, 0, 30)
    database = site.database()
    nothing = validation.gauge_changes(validation.validate([]))
    with database.transaction() as connection:
        totals.apply_changes(connection, nothing, 2**61)
    validation.refresh(database)
    database.close()
    assert site.gauges("leglength_validation_pairs")["leglength_validation_pairs", "PLL_R_FEM"] == 30.0


def test_nothing_is_pushed_again_when_nothing_has_changed(site: Site) -> None:
    paired(site, 0, 30)
    revision = site.revision()
    database = site.database()
    validation.refresh(database)
    database.close()
    assert site.revision() == revision


def test_after_a_run_gauges_are_renewed_when_a_session_of_it_has_a_reading(site: Site) -> None:
    read = site.session({"PLL_R_FEM": 400.0}, accession="A1")
    unread = site.session({"PLL_R_FEM": 400.0}, accession="A2")
    site.read(HEADER, "A1,Dr A,401")
    database = site.database()
    assert validation.refresh_after(database, [unread, read])
    assert not validation.refresh_after(database, [unread])
    assert not validation.refresh_after(database, [])
    database.close()


def test_with_many_readings_a_run_renews_them_once_an_hour(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    read = site.session({"PLL_R_FEM": 400.0}, accession="A1")
    site.read(HEADER, "A1,Dr A,401", *(f"B{number},Dr A,401" for number in range(501)))
    database = site.database()
    assert not validation.refresh_after(database, [read])
    assert validation.refresh_after(database, [read], is_in_a_hurry=False)
    later_ns = time.time_ns() + 3601 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    assert validation.refresh_after(database, [read])
    assert not validation.refresh_after(database, [read])
    database.close()
