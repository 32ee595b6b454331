"""A Prometheus' past: what it would have scraped of a store, for promtool to make blocks of."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from heapq import merge
from math import isnan
from pathlib import Path

from monitoring.analytics.replay import Moment, looks_over_time, totals_over_time
from monitoring.metrics import catalogue, chart_metrics
from monitoring.metrics.catalogue import Kind, Metric
from monitoring.metrics.samples import bucket_part
from monitoring.metrics_collector import SessionWritesBuilder
from monitoring.settings import AnalyticsConfig, MonitoringConfig, common_labels
from monitoring.store.sessions import Store
from monitoring.version import __version__

NS = 1_000_000_000
# By default promtool reads all of its input again for every two hours of it: ten minutes, and not two seconds.
PROMTOOL_PAST = ("tsdb", "create-blocks-from", "--max-block-duration=1458h", "openmetrics")
SCRAPE_SECONDS = 3600
"""How far apart the samples of the past are: an hour, since no total changes oftener in a clinic."""
SELDOM = 6
"""What is 0 all the time is told every so many samples, save for what charts say: a state of 0 is looked at."""
CHARTS = "leglength_analysis_"
STATE_GAUGES = {
    "leglength_last_run_timestamp_seconds", "leglength_last_success_timestamp_seconds", "leglength_build_info",
    "leglength_model_info", *(metric.name for metric in chart_metrics.METRICS if metric.kind is Kind.GAUGE),
}  # fmt: skip


def write_openmetrics(
    path: Path, store: Store, labels: Mapping[str, str], until_ns: int, new_store_ns: int | None = None
) -> int:
    """What a Prometheus would have scraped until then, for `promtool tsdb create-blocks-from openmetrics`.

    Counters, histograms, the instants of the latest run and success, and what the charts said each night, each hour;
    of what belongs to one image alone a Prometheus knows next to nothing. With ``new_store_ns`` the totals begin at 0
    again there. ``labels`` are the group's, job and instance. Returns the number of samples.
    """
    group = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    spans = [(0, 2**62)] if new_store_ns is None else [(0, new_store_ns), (new_store_ns, 2**62)]
    samples: dict[str, list[tuple[int, float]]] = {}
    nights = list(looks_over_time(store, AnalyticsConfig(), until_ns))
    build = SessionWritesBuilder(version=__version__)  # which version it was then, no record says
    for since_ns, before_ns in spans:
        totals = totals_over_time(store, since_ns, before_ns, build=build)
        looks = (look for look in nights if since_ns <= look.at_ns < before_ns)
        moments = list(merge(totals, looks, key=lambda moment: moment.at_ns))
        scraped = Scraped(group, samples)
        ends = [moment.at_ns for moment in moments[1:]] + [min(before_ns, until_ns)]
        for moment, end_ns in zip(moments, ends, strict=True):
            scraped.change(moment)
            for at_ns in (moment.at_ns, *scraped.hours(moment.at_ns, end_ns)):
                scraped.scrape(at_ns)
    return write_samples(path, samples)


def group_of(config: MonitoringConfig) -> dict[str, str]:
    """The labels under which these settings push."""
    if config.prometheus is None or config.prometheus.instance is None:
        sys.exit("the settings need prometheus.instance: the past is told under that name")
    named = {"job": config.prometheus.job_name, "instance": config.prometheus.instance}
    return {**named, **common_labels(config)}


class Scraped:
    """One store's pushed state as it goes on, and what is scraped of it."""

    def __init__(self, group: str, samples: dict[str, list[tuple[int, float]]]) -> None:
        self.group, self.samples = group, samples
        self.values: dict[str, float] = {}
        self.parts: dict[tuple[str, str], dict[str, float]] = {}
        self.latest: dict[tuple[str, ...], str] = {}
        self.scrapes = 0

    def change(self, moment: Moment) -> None:
        self.values[f"push_time_seconds{{{self.group}}}"] = moment.at_ns / NS
        for change in moment.changed:
            metric = catalogue.BY_NAME[change.metric]
            own = ",".join(f'{name}="{value}"' for name, value in sorted(change.labels.items()))
            if metric.kind is Kind.HISTOGRAM:
                self.parts.setdefault((change.metric, own), {})[change.part] = change.value
                self._accumulate(metric, own)
            elif metric.kind is Kind.COUNTER or change.metric in STATE_GAUGES:
                series = self._series(change.metric, own)
                if isnan(change.value):  # it is no more
                    self.values.pop(series, None)
                    continue
                self.values[series] = change.value
                if metric.one_per is not None:  # another version takes the place of the one before
                    place = (change.metric, *(change.labels[label.name] for label in metric.one_per))
                    if (before := self.latest.get(place, series)) != series:
                        del self.values[before]
                    self.latest[place] = series

    def _accumulate(self, metric: Metric, own: str) -> None:
        parts, count = self.parts[metric.name, own], 0.0
        for bound in (*metric.buckets, None):
            count += parts.get(bucket_part(bound), 0.0)
            edge = "+Inf" if bound is None else f"{bound:g}"  # as a Prometheus 2 reads a Pushgateway's
            self.values[self._series(f"{metric.name}_bucket", own, f'le="{edge}"')] = count
        self.values[self._series(f"{metric.name}_count", own)] = count
        self.values[self._series(f"{metric.name}_sum", own)] = parts.get("sum", 0.0)

    def _series(self, name: str, *labels: str) -> str:
        return f"{name}{{{','.join(label for label in (*labels, self.group) if label)}}}"

    @staticmethod
    def hours(since_ns: int, before_ns: int) -> range:
        step = SCRAPE_SECONDS * NS
        return range((since_ns // step + 1) * step, before_ns, step)

    def scrape(self, at_ns: int) -> None:
        self.scrapes += 1
        for series, value in self.values.items():
            # What begins at 0, or anew, is told at once: else its first event would be where it begins, and be missed.
            begins = series not in self.samples or self.samples[series][-1][1] > value
            if value or begins or self.scrapes % SELDOM == 1 or series.startswith(CHARTS):
                self.samples.setdefault(series, []).append((at_ns // 1_000_000, value))


def write_samples(path: Path, samples: Mapping[str, Sequence[tuple[int, float]]]) -> int:
    with path.open("w") as file:
        for series, found in samples.items():
            file.writelines(f"{series} {value!r} {ms // 1000}.{ms % 1000:03d}\n" for ms, value in found)
        file.write("# EOF\n")
    return sum(map(len, samples.values()))
