"""The dashboards as Grafana gets them, for every kind of site: whole, without overlaps, without a dead panel."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as DashboardModel

from monitoring.dashboards.operation import OPERATION
from monitoring.dashboards.panels import Dashboard, series
from monitoring.dashboards.rendering import Site, chosen, render
from monitoring.metrics import catalogue

PAGES = (OPERATION,)
SITES = {
    "influxql": Site(zone="Europe/Zurich"),
    "metricsql": Site(images="metricsql"),
    "prometheus-only": Site(images=None),
    "influxdb-only": Site(totals=False),
    "application": Site(application=True),
}
EVERY = pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())


def panels_of(page: Dashboard, site: Site) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(render(page, site))["panels"] if panel["type"] != "row"]


@EVERY
def test_panels_lie_side_by_side_within_24_columns(site: Site) -> None:
    for page in PAGES:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(render(page, site))["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            assert place["w"] >= 4
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
        lines = {y for _, y in taken}
        assert lines == set(range(max(lines) + 1)), "what is left out leaves no gap"
        assert len(taken) == 24 * len(lines), "each line is full"


@EVERY
def test_every_panel_asks_something_and_says_what_it_shows(site: Site) -> None:
    for page in PAGES:
        for panel in panels_of(page, site):
            assert panel["targets"], panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["noValue"]
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None
            values = [step["value"] for step in steps[1:]]
            assert values == sorted(values)
            assert len({target["datasource"]["uid"] for target in panel["targets"]}) == 1
            assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGH"][: len(panel["targets"])]


def test_no_panel_asks_a_backend_that_the_site_lacks() -> None:
    lacks = {"metricsql": "influxdb", "prometheus-only": "influxdb", "influxdb-only": "prometheus"}
    for name, kind in lacks.items():
        for page in PAGES:
            text = render(page, SITES[name])
            assert f'"type": "{kind}"' not in text, name


def test_ids_belong_to_one_panel_each() -> None:
    for page in PAGES:
        panels = [panel for row in page.rows for panel in row.panels]
        assert len({panel.id for panel in panels}) == len(panels)
        assert len({panel.title for panel in panels}) == len(panels)
        assert all(chosen(panel, SITES["influxql"]) is not None for panel in panels)


@EVERY
def test_the_library_reads_what_it_wrote(site: Site) -> None:
    plugins.register_default_plugins()
    for page in PAGES:
        text = render(page, site)
        read = DashboardModel.from_json(json.loads(text))
        # A key that isn't Grafana's is dropped on the way.
        assert json.dumps(read, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n" == text


def test_a_selector_of_what_is_never_sent_is_refused() -> None:
    assert series(catalogue.SESSIONS, status="failed|crashed").startswith(
        'leglength_sessions_total{status=~"failed|crashed",'
    )
    assert 'le=~"30(' in series(catalogue.STAGE_DURATION, "bucket", le=r"30(\.0)?")
    with pytest.raises(ValueError, match="leglength_finding_value"):
        series(catalogue.FINDING["value"])
    with pytest.raises(ValueError, match="leglength_sessions_total"):
        series(catalogue.SESSIONS, model="a")
    with pytest.raises(ValueError, match="leglength_stage_duration_seconds"):
        series(catalogue.STAGE_DURATION)
