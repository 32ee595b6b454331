"""What the charts say, on each audience's page: states beside what would have been noticed, their course, and alarms.

A chart is looked at once a night. So InfluxDB has a point of each chart for each night, and what it says of a chart
that is no more stays there; Prometheus knows the present charts alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Final

from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.panels import (
    BAD,
    GOOD,
    NOTE,
    QUIET,
    Answer,
    Panel,
    Row,
    Shown,
    Totals,
    Unit,
    asked,
    series,
    told,
)
from monitoring.dashboards.questions import EachImage, ImageTable, Question, Scope, TimedPoint
from monitoring.dashboards.questions import Row as Answered
from monitoring.dashboards.thresholds import Audience
from monitoring.metrics.catalogue import Metric
from monitoring.metrics.chart_metrics import ALARM, DETECTABLE, EXAMS, LIMIT, SCORE, STATE, STATES

WORDS: Final = {
    float(STATES.index(state)): (state, color)
    for state, color in {
        "learning": QUIET, "limited": "#56B4E9", "watching": GOOD, "acknowledged": NOTE, "alarm": BAD,
    }.items()
}  # fmt: skip
"""The states; a chart that learns can't alarm, and one that is limited finds large shifts only."""
NO_ANALYSIS: Final = (
    "no analysis has told anything in this range: a relay runs it after each night, and"
    " `leglength-monitor analyze` does from a timer."
)
# By instance: two of them may have charts of one name.
_OF_CHARTS: Final = ("chart", "instance")
_EACH: Final = ", ".join(_OF_CHARTS)
NOTICED, SHARE_OF_LIMIT = "would have been noticed", "of the limit"


class LatestOfEach(Question, frozen=True, kw_only=True):
    """The latest point of each group, with its time: what has come to an end stays, and its time tells. MetricsQL has
    no such table.
    """

    def influxql(self, scope: Scope) -> str:
        """A row for each group."""
        return f"SELECT {self._select()} {self._from(scope)}{self._group_by()} ORDER BY time DESC LIMIT 1"

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Answered]:  # noqa: ARG002
        """A row for each group."""
        return [rows[-1]._replace(tags=tags) for tags, rows in self._grouped(points, time_range)]


class EachShare(Question, frozen=True, kw_only=True):
    """What the first metric is of the second at each point that has both, as ``SHARE_OF_LIMIT``. MetricsQL has none."""

    @property
    def columns(self) -> tuple[str, ...]:
        """One column."""
        return (SHARE_OF_LIMIT,)

    def influxql(self, scope: Scope) -> str:
        """A series for each group."""
        # Both fields are of one point, so that InfluxQL may divide them.
        part, whole = (f'"{metric.field}"' for metric in self.metrics.values())
        return f'SELECT {part} / {whole} AS "{SHARE_OF_LIMIT}" {self._from(scope)}{self._group_by()}'

    def answer(self, points: Iterable[TimedPoint], time_range: TimeRange, zone: tzinfo) -> list[Answered]:  # noqa: ARG002
        """A row for each point."""
        part, whole = self.metrics
        return [
            Answered(row.time_ns, tags, {SHARE_OF_LIMIT: row.values[part] / row.values[whole]})
            for tags, rows in self._grouped(points, time_range)
            for row in rows
            if row.values.keys() >= {part, whole}
        ]


def charts(audience: Audience, what: str, first: int) -> Row:
    """The row of one audience's charts; ``what`` they watch in words, ``first`` the first panel's number."""
    panels = (
        _states(audience, what, first),
        _began(audience, what, first + 1),
        _course(audience, first + 2),
        _nearness(audience, first + 3),
    )
    return Row(f"Charts of {what}", panels)


def _told_last(audience: Audience, metric: Metric, *labels: str) -> str:
    # There is one value of each; what else a scrape adds as labels would make two lines of it where that changes.
    return f"max by ({', '.join((_EACH, *labels))}) ({series(metric, audience=audience)})"


def _states(audience: Audience, what: str, number: int) -> Panel:
    columns = {"state": STATE, NOTICED: DETECTABLE, "score": SCORE, "limit": LIMIT, "exams": EXAMS}
    return Panel(
        id=number, title="What the charts say", shown=Shown.TABLE, unit=Unit.COUNT, width=24, height=12, decimals=2,
        description=f"Each chart of {what}: its state, and beside it the smallest shift that would have been noticed"
        " (with 80 % within 30 exams, or clinic days where a chart counts these, as those of durations and memory do),"
        " in its unit; of failures and other events the number of sessions until a doubled rate shows, of silence the"
        " working days. Smaller ones pass unseen, also where nothing alarms. Learning: it can't alarm yet. Limited:"
        " under 100 exams or days. A dash: nothing is known yet that it would notice. It alarms where"
        " the score, with either sign, reaches the limit.",
        answers=(
            Answer(
                queries=tuple(
                    Totals(
                        expression=_told_last(audience, metric, *(["unit"] if metric is DETECTABLE else [])),
                        legend=name, at_end=True,
                    )
                    for name, metric in columns.items()
                )
            ),
            asked(
                LatestOfEach(metrics=columns, by=(*_OF_CHARTS, "unit"), where={"audience": (audience,)}),
                note="Each chart as it was last told in this range; of one that is no more, Time is long ago.",
            ),
        ),
        order=("chart", "state", NOTICED, "unit", "score", "limit", "exams", "instance", "Time"),
        units={"exams": Unit.COUNT},
        sorted_by="state", words=WORDS, words_in="state", empty="No analysis", empty_means=NO_ANALYSIS,
    )  # fmt: skip


def _began(audience: Audience, what: str, number: int) -> Panel:
    # For InfluxDB alone: a gauge has the time of its scrape, so the day of a change has no place in Prometheus.
    began = ImageTable(metrics=ALARM, by=(*_OF_CHARTS, "unit"), where={"audience": (audience,)}, count=20)
    return Panel(
        id=number, title="Alarms by when they began", shown=Shown.TABLE, unit=Unit.COUNT, width=24, height=7,
        decimals=2,
        description=f"Alarms of {what} by the estimated day on which the change began: how large it was when it was"
        " found, in its unit, and of how many exams the chart was. Withdrawn: an exam or a reading came late, and took"
        " it back."
        " `leglength-monitor alarms` has the size as it is now, the range of dates, and what people answered.",
        answers=(asked(began),),
        order=("Time", "chart", "size", "unit", "exams", "withdrawn", "instance"), units={"exams": Unit.COUNT},
        words={0: ("no", QUIET), 1: ("yes", QUIET)}, words_in="withdrawn",
        empty="None", empty_means="no alarm began in this range, or no analysis has run.",
    )  # fmt: skip


def _course(audience: Audience, number: int) -> Panel:
    return Panel(
        id=number, title="Charts over time", shown=Shown.TIMELINE, unit=Unit.COUNT, width=24, height=15,
        description="Each chart's state, from night to night. Grey, and a gap: nothing would have been noticed then.",
        answers=(
            asked(
                EachImage(metrics={"state": STATE}, by=_OF_CHARTS, where={"audience": (audience,)}), "{{chart}}"
            ),
            told(_told_last(audience, STATE), "{{chart}}"),
        ),
        words=WORDS, empty="No analysis", empty_means=NO_ANALYSIS,
    )  # fmt: skip


def _nearness(audience: Audience, number: int) -> Panel:
    # A share, since limits differ in size from chart to chart: scores alone can't stand in one graph.
    share = EachShare(metrics={"score": SCORE, "limit": LIMIT}, by=_OF_CHARTS, where={"audience": (audience,)})
    return Panel(
        id=number, title="Scores, as shares of their limits", shown=Shown.LINES, unit=Unit.SHARE, width=24,
        height=11, names_beside=True,
        description="How far each chart is from an alarm, by night; the sign is the direction. After an alarm the score"
        " of numbers and events begins at 0 again.",
        answers=(
            asked(share, "{{chart}}"),
            told(f"{_told_last(audience, SCORE)} / {_told_last(audience, LIMIT)}", "{{chart}}"),
        ),
        base=NOTE, thresholds=((-1, GOOD), (1, NOTE)), thresholds_from="the limits, on either side.",
        empty="No analysis", empty_means=f"all charts still learn, or {NO_ANALYSIS}",
    )  # fmt: skip


class AlarmsBegan(Question, frozen=True, kw_only=True):
    """Where alarms began that weren't withdrawn, as marks on a page's graphs."""

    def influxql(self, scope: Scope) -> str:
        """A row for each alarm."""
        names = "".join(f', "{name}"' for name in (*_OF_CHARTS, "unit"))
        return f'SELECT "{ALARM["size"].field}"{names} {self._from(scope, _STANDS)}'

    def metricsql(self, scope: Scope) -> dict[str, str]:
        """To be asked each hour: a mark stands within an hour after the change."""
        size, withdrawn = (f"last_over_time({self._series(ALARM[key], scope)}[1h])" for key in ("size", "withdrawn"))
        return {"size": f"max by ({_EACH}) ({size} unless {withdrawn} > 0)"}


# Half of one: the field is 0 or 1, and InfluxQL compares floats.
_STANDS: Final = f' AND "{ALARM["withdrawn"].field}" < 0.5'


def alarms_began(audience: Audience) -> AlarmsBegan:
    """Those of an audience's charts."""
    return AlarmsBegan(metrics=ALARM, where={"audience": (audience,)})


def alarms_were_told(audience: Audience) -> Totals:
    """When a chart's state became an alarm: the second best, where no backend knows the date of the change."""
    alarm = f"group by ({_EACH}) ({{}} == {STATES.index('alarm')})"
    state = series(STATE, audience=audience)
    # So a mark stands for an hour, which is how far an annotation's steps are apart.
    before = alarm.format(f"last_over_time({state}[1d] offset 1h)")
    return Totals(expression=f"{alarm.format(state)} unless {before}")
