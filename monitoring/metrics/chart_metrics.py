"""What the charts say, as metrics: each present chart's state, score, limit and what it would have noticed, and alarms.

They tell of no session: a point in InfluxDB has the time of the look at the store, and an alarm's the day on which the
change began, so that it names no exam. Which series are watched is the analysis' (:mod:`monitoring.analytics.series`).
"""

from __future__ import annotations

from monitoring.metrics.kinds import Kind, Label, Metric
from monitoring.metrics.machine_metrics import VOLUME
from monitoring.records.names import chart_name

CHART = Label("chart", (), closed=False, limit=128, form=chart_name)
"""A chart's name, ``series`` or ``series/part``: four bones of up to 16 models are 64 of them."""
AUDIENCE = Label("audience", ("clinical", "operator"))
UNIT = Label(
    "unit", ("1", "mm", "s", "bytes", "SD", "ratio", "share", "days", "exams", "sessions", "as reported")
)  # fmt: skip
_SOURCE = "monitoring/analytics"
STATES = ("learning", "limited", "watching", "acknowledged", "alarm")
"""What a chart's state can be, in the order of its numbers: the larger, the more somebody has to do."""
STATE = Metric(
    "leglength_analysis_state", Kind.GAUGE, "1",
    f"What a chart says: {', '.join(f'{number} {state}' for number, state in enumerate(STATES))}.",
    (CHART, AUDIENCE), "leglength_analysis", "state", source=_SOURCE,
)  # fmt: skip
SCORE = Metric(
    "leglength_analysis_score", Kind.GAUGE, "1", "A chart's statistic, which is held against its limit.",
    (CHART, AUDIENCE), "leglength_analysis", "score", source=_SOURCE,
)  # fmt: skip
LIMIT = Metric(
    "leglength_analysis_limit", Kind.GAUGE, "1",
    "The magnitude of the score at which a chart alarms; none while it learns.",
    (CHART, AUDIENCE), "leglength_analysis", "limit", source=_SOURCE,
)  # fmt: skip
EXAMS = Metric(
    "leglength_analysis_exams", Kind.GAUGE, "1",
    "Exams on a chart, of the present versions; sessions where it tells of those.",
    (CHART, AUDIENCE), "leglength_analysis", "exams", source=_SOURCE,
)  # fmt: skip
DETECTABLE = Metric(
    "leglength_analysis_detectable_shift", Kind.GAUGE, "the label's",
    "What a chart would have noticed: of numbers the smallest shift found with 80 % within 30 exams, or clinic days"
    " where these are counted; of events the mean number until a doubled rate shows; of silence the working days.",
    (CHART, AUDIENCE, UNIT), "leglength_analysis", "detectable_shift", source=_SOURCE,
)  # fmt: skip
OPEN_ALARMS = Metric(
    "leglength_analysis_open_alarms", Kind.GAUGE, "1", "Alarms that nobody has acknowledged or answered by re-basing.",
    (AUDIENCE,), "leglength_analysis_alarms", "open", source=_SOURCE,
)  # fmt: skip
ALARMS = Metric(
    "leglength_analysis_alarms_total", Kind.COUNTER, "1",
    "Alarms that were ever found, each once, also where a late exam or reading took it back.",
    (AUDIENCE,), "leglength_analysis_alarms", "found", source=_SOURCE,
)  # fmt: skip
LAST_RUN = Metric(
    "leglength_analysis_last_run_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which the stored sessions were last analysed.",
    (), "leglength_analysis_look", "last_run_timestamp_seconds", source=_SOURCE,
)  # fmt: skip
SESSIONS = Metric(
    "leglength_analysis_sessions", Kind.GAUGE, "1", "Sessions that the charts have seen.",
    (), "leglength_analysis_look", "sessions", source=_SOURCE,
)  # fmt: skip
BUDGET = Metric(
    "leglength_analysis_budget_alarms_per_year", Kind.GAUGE, "1",
    "False alarms a year that all charts together may give (analytics.false_alarms_per_year).",
    (), "leglength_analysis_look", "budget_alarms_per_year", source="the settings",
)  # fmt: skip
DISK_FULL = Metric(
    "leglength_analysis_disk_full_timestamp_seconds", Kind.GAUGE, "s",
    "Unix time at which the volume will be full if it goes on so; told where the trend is clear, and within 60 days.",
    (VOLUME,), "leglength_analysis_disk", "full_timestamp_seconds", source="monitoring/analytics/machines.py",
)  # fmt: skip
# Not pushed: a gauge has the time of its scrape, so that the day of a change has no place in Prometheus.
ALARM = {
    key: Metric(
        f"leglength_analysis_alarm_{key}", Kind.GAUGE, unit, words, (CHART, AUDIENCE, UNIT),
        "leglength_analysis_alarm", key, source=_SOURCE, is_pushed=False,
    )
    for key, unit, words in (
        ("size", "the label's", "How far the chart's values had changed by when the alarm was found."),
        ("exams", "1", "Exams that the chart had when it alarmed."),
        ("withdrawn", "1", "1 once a late exam or reading took the alarm back, else 0."),
    )
}  # fmt: skip

METRICS: tuple[Metric, ...] = (
    STATE, SCORE, LIMIT, EXAMS, DETECTABLE, OPEN_ALARMS, ALARMS, LAST_RUN, SESSIONS, BUDGET, DISK_FULL,
    *ALARM.values(),
)  # fmt: skip
