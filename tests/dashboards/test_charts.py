"""What the pages say of charts: words where they belong, what would have been noticed beside them, one row for each."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest

from monitoring.dashboards.aggregation import TimeRange
from monitoring.dashboards.charts import NOTICED, SHARE_OF_LIMIT, EachShare, LatestOfEach
from monitoring.dashboards.measurements import MEASUREMENT_PAGE
from monitoring.dashboards.operation import OPERATION
from monitoring.dashboards.questions import Scope, TimedPoint
from monitoring.dashboards.rendering import Site, render
from monitoring.metrics import chart_metrics
from monitoring.metrics.line_protocol import Point

SCOPE = Scope.of_variables()
EVER = TimeRange(0, 100)
FIELDS = {"state": chart_metrics.STATE, NOTICED: chart_metrics.DETECTABLE}
SITES = {"influxql": Site(), "influxdb-only": Site(totals=False), "prometheus-only": Site(images=None)}


def panel(page: Any, title: str, site: Site) -> dict[str, Any]:
    (found,) = [each for each in json.loads(render(page, site))["panels"] if each["title"] == title]
    return found


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
@pytest.mark.parametrize("page", [MEASUREMENT_PAGE, OPERATION], ids=lambda page: page.uid)
def test_a_state_is_a_word_and_what_would_have_been_noticed_stands_beside_it(page: Any, site: Site) -> None:
    table = panel(page, "What the charts say", site)
    organized = table["transformations"][-1]["options"]
    shown = {organized["renameByName"].get(name, name): at for name, at in organized["indexByName"].items()}
    assert sorted(shown, key=shown.__getitem__)[:4] == ["chart", "state", NOTICED, "unit"]
    assert "mappings" not in table["fieldConfig"]["defaults"], "an exam isn't limited since there is 1"
    overrides = {each["matcher"]["options"]: each["properties"] for each in table["fieldConfig"]["overrides"]}
    (words,) = [each["value"][0]["options"] for each in overrides["state"] if each["id"] == "mappings"]
    assert {int(value): word["text"] for value, word in words.items()} == dict(enumerate(chart_metrics.STATES))
    assert len({word["color"] for word in words.values()}) == len(words)
    assert table["options"]["sortBy"] == [{"displayName": "state", "desc": True}]
    assert [words[str(value)]["text"] for value in (4, 3)] == ["alarm", "acknowledged"], "what waits comes first"
    course = panel(page, "Charts over time", site)
    assert course["type"] == "state-timeline"
    assert course["fieldConfig"]["defaults"]["mappings"][0]["options"] == words
    assert course["options"]["perPage"] == 0, "no pages, and no control of them"


def test_each_charts_row_is_its_latest_point_with_its_time() -> None:
    def said(time_ns: int, chart: str, **fields: float) -> TimedPoint:
        tags = {"chart": chart, "audience": "clinical", "unit": "mm", "instance": "a"}
        return TimedPoint(Point("leglength_analysis", tags, fields), time_ns)

    points = [
        said(10, "a", state=2.0, detectable_shift=4.0), said(30, "a", state=0.0), said(20, "b", state=3.0, score=1.0),
        said(20, "c", score=-3.0, limit=4.0),
    ]  # fmt: skip
    latest = LatestOfEach(metrics=FIELDS, by=("chart",), where={"audience": ("clinical",)})
    rows = latest.answer(points, EVER, UTC)
    # What it would have noticed before it began anew is not what it would notice now.
    assert [(row.time_ns, row.tags["chart"], row.values) for row in rows] == [
        (30, "a", {"state": 0.0}), (20, "b", {"state": 3.0}),
    ]  # fmt: skip
    where = '$timeFilter AND "instance" =~ /^${instance:regex}$/ AND ("audience" = \'clinical\')'
    assert latest.influxql(SCOPE) == (
        f'SELECT "state" AS "state", "detectable_shift" AS "{NOTICED}" FROM "leglength_analysis" WHERE {where}'
        ' GROUP BY "chart" ORDER BY time DESC LIMIT 1'
    )
    share = EachShare(metrics={"score": chart_metrics.SCORE, "limit": chart_metrics.LIMIT}, by=("chart",))
    assert [(row.tags, row.values) for row in share.answer(points, EVER, UTC)] == [
        ({"chart": "c"}, {SHARE_OF_LIMIT: -0.75})
    ]
