"""Replays the store's own history for the alert rules, and says when each would have fired.

Needs the libraries of the extra ``dashboards``; its caller loads it when it is asked to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from heapq import merge
from typing import Any

from msgspec.structs import asdict
from promql_parser import parse_duration

from monitoring.analytics.replay import looks_over_time, totals_over_time
from monitoring.cli.common import existing_store
from monitoring.cli.output import console, print_json, print_table
from monitoring.cli.words import age, counted, instant
from monitoring.dashboards.backtesting import Backtest, asked_for, backtest, instants, scraped
from monitoring.dashboards.rules import RULES
from monitoring.dashboards.thresholds import Thresholds
from monitoring.exceptions import ConfigurationError, StoreError
from monitoring.metrics.samples import zero_changes
from monitoring.runtime.backends import session_writes_builder
from monitoring.settings import MonitoringConfig, PrometheusConfig, common_labels
from monitoring.store.location import known_instance

_MS, _LONGEST_SCRAPE_MS = 1_000_000, 300_000


def print_backtests(
    config: MonitoringConfig, thresholds: Thresholds, looked_back: str, scrape_interval: str, as_json: bool
) -> None:
    """Evaluate every rule over the ``looked_back`` (``90d``) up to now; raises :class:`StoreError` where none is."""
    scrape_ms = _milliseconds("--scrape-interval", scrape_interval)
    if scrape_ms > _LONGEST_SCRAPE_MS:
        raise ConfigurationError("--scrape-interval: Prometheus shows no sample that is older than 5m")
    span_ms = _milliseconds("--backtest", looked_back)
    with existing_store(config) as store:
        instance = known_instance(config, store)
        zeros, build = zero_changes(declared=config.metrics.declared), session_writes_builder(config, instance)
        until_ns = time.time_ns()
        # Over the whole store, since totals count from its beginning, whatever time is looked back at.
        moments = list(totals_over_time(store, zeros=zeros, build=build))
        looks = list(looks_over_time(store, config.analytics, until_ns))
    # The first moment is that of the zeros.
    if not moments[1:]:
        raise StoreError("the store has no session yet, and so nothing to look back at")
    labels = {"job": (config.prometheus or PrometheusConfig()).job_name, "instance": instance, **common_labels(config)}
    until_ms = until_ns // _MS
    known = ((one.at_ns, one.changed) for one in merge(moments, looks, key=lambda moment: moment.at_ns))
    series = scraped(known, labels, asked_for(RULES, thresholds), scrape_ms, until_ms)
    grid = instants(max(until_ms - span_ms, moments[0].at_ns // _MS), until_ms, scrape_ms)
    found = list(backtest(RULES, thresholds, series, grid))
    sessions = sum(moment.at_ns // _MS >= until_ms - span_ms for moment in moments[1:])
    if as_json:
        told = {"from": _when(grid.start_ms), "until": _when(until_ms), "sessions": sessions}
        print_json({**told, "rules": [_as_dict(one, until_ms) for one in found]})
    else:
        known_by = f"{counted(sessions, 'session')}, a scrape each {scrape_interval}"
        console.print(f"{age((until_ms - grid.start_ms) / 1000)} until {_when(until_ms)} UTC: {known_by}")
        _print_table(found, until_ms)


def _milliseconds(option: str, span: str) -> int:
    """A span of time, as Prometheus writes it."""
    try:
        return int(parse_duration(span) / timedelta(milliseconds=1))
    except ValueError:
        raise ConfigurationError(f"{option}: must be a span of time such as 90d or 30s") from None


def _as_dict(found: Backtest, until_ms: int) -> dict[str, Any]:
    rule = found.rule
    told: dict[str, Any] = {"rule": rule.name, "severity": rule.severity, "audience": rule.audience}
    if found.untold is not None:
        return {**told, "untold": found.untold}
    seconds = found.seconds(until_ms)
    return {
        **told,
        "times": len(seconds),
        "seconds": sum(seconds),
        "longest_seconds": max(seconds, default=0.0),
        "episodes": [_span(one.from_ms, one.until_ms) for one in found.episodes],
        "alerts": [
            {"labels": dict(alert.labels), **_span(alert.fires_ms, alert.until_ms)}
            for alert in found.alerts
            if alert.fires_ms is not None
        ],
        "other_thresholds": [asdict(one) for one in found.variants],
    }


def _print_table(all_found: Sequence[Backtest], until_ms: int) -> None:
    rows, untold = [], []
    for found in all_found:
        if found.untold is not None:
            untold.append((found.rule.name, found.untold))
            continue
        seconds = found.seconds(until_ms)
        told = [f"{len(seconds)}", "-", "-", "-", "-"]
        if seconds:
            last = found.episodes[-1].until_ms
            still = "still" if last is None else _when(last)
            told = [f"{len(seconds)}", age(sum(seconds)), age(max(seconds)), _when(found.episodes[0].from_ms), still]
        rows.append((found.rule.name, found.rule.severity, *told, _other_thresholds(found)))
    titles = ("rule", "severity", "times", "in all", "longest", "first", "last until")
    print_table(titles, rows, has_notes=True)
    if untold:
        console.print("\nNot to be told from the store:")
        print_table(("rule", "why"), untold)


def _other_thresholds(found: Backtest) -> str:
    """What would change how often it fires: ``failures 3: never at 6, 4 times at 2``."""
    by_name: dict[str, list[str]] = {}
    for one in found.variants:
        times = {0: "never", 1: "once"}.get(one.times, f"{one.times} times")
        known, value = (f"{each:g}" if isinstance(each, float) else each for each in (one.known, one.value))
        by_name.setdefault(f"{one.threshold} {known}", []).append(f"{times} at {value}")
    return "; ".join(f"{name}: {', '.join(words)}" for name, words in by_name.items())


def _when(ms: int) -> str:
    return instant(ms * _MS)


def _span(from_ms: int, until_ms: int | None) -> dict[str, str | None]:
    return {"from": _when(from_ms), "until": None if until_ms is None else _when(until_ms)}
