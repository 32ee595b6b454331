"""The figures of docs/alerts.md on false alarms and on how fast something is found: simulated again, and equal.

Images come on working days between 8 and 16 o'clock, four on average, and fail, are skipped or are slow independently
of each other. Thresholds are those of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from promql_parser import parse_duration

from monitoring.dashboards.thresholds import DEFAULTS
from tests.support import REPOSITORY

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
IMAGES_A_DAY = 4
DAYS_A_YEAR = 364  # 52 whole weeks
YEARS = 150


def hours(span: str) -> float:
    return parse_duration(span).total_seconds() / 3600


WEEK, DAY, TWO_DAYS = (
    hours(DEFAULTS.failure_window),
    hours(DEFAULTS.all_fail_window),
    hours(DEFAULTS.no_success_window),
)
MONTH = hours(DEFAULTS.share_window)


class Site:
    """Times of images in hours, and which of them went wrong."""

    def __init__(self, random: np.random.Generator, days: int, share: Callable[[Floats], Floats | float]) -> None:
        working = np.array([day for day in range(days) if day % 7 < 5])
        counts = random.poisson(IMAGES_A_DAY, working.size)
        self.at = np.sort(np.repeat(working * 24.0 + 8, counts) + random.uniform(0, 8, counts.sum()))
        self.wrong: Flags = random.uniform(size=self.at.size) < share(self.at)

    def looked_at(self, window: float) -> Floats:
        """When a count over the window can change: at an image, and when one leaves."""
        return np.unique(np.concatenate([self.at, self.at + window + 1e-6]))

    def within(self, window: float, at: Floats, which: Flags | None = None) -> Floats:
        grown = np.concatenate([[0], np.cumsum(np.ones_like(self.at) if which is None else which)])
        first, last = (np.searchsorted(self.at, moment, side="right") for moment in (at - window, at))
        return grown[last] - grown[first]

    def too_large(self, share: float, at: Floats) -> Flags:
        wrong, images = self.within(MONTH, at, self.wrong), self.within(MONTH, at)
        return (wrong > share * images) & (images > DEFAULTS.images - 0.5)


def failure_share_high(site: Site, at: Floats) -> Flags:
    failed, tried = site.within(WEEK, at, site.wrong), site.within(WEEK, at)
    share = DEFAULTS.failure_share
    limit = share * tried + DEFAULTS.failure_sigmas * np.sqrt(share * (1 - share) * tried)
    return (failed > limit) & (failed > DEFAULTS.failures - 0.5)


def all_fail(site: Site, at: Floats) -> Flags:
    return (site.within(DAY, at, site.wrong) > DEFAULTS.failures - 0.5) & (site.within(DAY, at, ~site.wrong) < 0.5)


def nothing_succeeds(site: Site, at: Floats) -> Flags:
    latest = np.maximum.accumulate(np.where(site.wrong, -np.inf, site.at))
    reached = np.searchsorted(site.at, at, side="right") - 1
    gap = site.at[reached] - latest[reached] > hours(DEFAULTS.no_success)
    return gap & (site.within(TWO_DAYS, at, site.wrong) > 2 - 0.5)


RULES: dict[str, tuple[float, Callable[[Site, Floats], Flags]]] = {
    "LegLengthFailureShareHigh": (WEEK, failure_share_high),
    "LegLengthAllFail": (DAY, all_fail),
    "LegLengthNothingSucceeds": (TWO_DAYS, nothing_succeeds),
    "LegLengthSkipsHigh": (MONTH, lambda site, at: site.too_large(DEFAULTS.skip_share, at)),
    "LegLengthSlow": (MONTH, lambda site, at: site.too_large(DEFAULTS.slow_share, at)),
    "LegLengthLandmarkMissed": (MONTH, lambda site, at: site.too_large(DEFAULTS.miss_share, at)),
    "LegLengthModelMissesLandmark": (MONTH, lambda site, at: site.too_large(DEFAULTS.model_miss_share, at)),
}


def fires_a_year(name: str, share: float, years: int = YEARS) -> float:
    """How often a rule begins to fire in a year at a steady share."""
    window, rule = RULES[name]
    site = Site(np.random.default_rng(2026), years * DAYS_A_YEAR, lambda _: share)
    at = site.looked_at(window)
    firing = rule(site, at[at >= site.at[0]])
    return float((firing[1:] & ~firing[:-1]).sum()) / years


def days_until_found(name: str, before: float, after: float, times: int = 300) -> float:
    """Median of the days from a change of the share, at any hour of a week, to the first firing."""
    _, rule = RULES[name]
    random = np.random.default_rng(2026)
    found = []
    for _ in range(times):
        change = random.uniform(5 * 7 * 24, 6 * 7 * 24)
        site = Site(random, 140, lambda at, change=change: np.where(at < change, before, after))
        later = site.at[site.at >= change]
        firing = rule(site, later)
        found.append((later[firing.argmax()] - change) / 24 if firing.any() else np.inf)
    return float(np.median(found))


def documented(number_of_figures: int) -> Iterator[tuple[str, list[float]]]:
    page = (REPOSITORY / "docs" / "alerts.md").read_text()
    part = page.partition("<!-- simulated -->")[2].partition("<!-- end of simulated -->")[0]
    for name, figures in re.findall(r"^\| (LegLength\w+) \| (.+) \|$", part, flags=re.MULTILINE):
        values = [float(figure) for figure in figures.split(" | ")]
        if len(values) == number_of_figures:
            yield name, values


def test_each_rule_fires_as_often_by_chance_as_the_page_says() -> None:
    rows = list(documented(2))
    assert {name for name, _ in rows} == set(RULES)
    for name, (share, told) in rows:
        found = fires_a_year(name, share)
        # Episodes are few: four standard deviations of their number, and the page's rounding.
        assert abs(found - told) <= 4 * np.sqrt(max(told, 1 / YEARS) / YEARS) + 0.06 * told, (name, share, found)


def test_each_rule_finds_a_change_as_fast_as_the_page_says() -> None:
    rows = list(documented(3))
    assert len(rows) >= 6
    for name, (before, after, told) in rows:
        assert days_until_found(name, before, after) == pytest.approx(told, rel=0.25), (name, before, after)
