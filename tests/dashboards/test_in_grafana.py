"""The rendered files in a real Grafana: found, each target answered, each rule taken, and no panel in error.

It needs a Grafana: GRAFANA_URL names a running one that is provisioned with the rendered folder (GRAFANA_TOKEN, if it
asks for one); else one is started here, if GRAFANA_HOME or `grafana` on PATH names its program. The pages are looked at
in Debian's Chromium; SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab
from promql_parser import parse_duration

from monitoring.cli.drain import drain
from monitoring.config_validator import check_section
from monitoring.dashboards.influxdb_rules import INFLUXDB_RULES
from monitoring.dashboards.provisioning import Sources, files, write
from monitoring.dashboards.rendering import PAGES, render
from monitoring.dashboards.rendering import Site as RenderedSite
from monitoring.dashboards.thresholds import DEFAULTS
from tests.support.clocks import HANGS_SECONDS
from tests.support.grafana_server import Grafana, GrafanaClient, Page, grafana_home
from tests.support.history import History
from tests.support.influx_servers import InfluxDB1
from tests.support.processes import MissingServerError
from tests.support.prometheus_servers import Prometheus

RENDERED_FOR = RenderedSite(zone="Europe/Zurich")
# A query's error is a mark on the panel; what breaks in the drawing is an alert, in the panel or over the page.
IN_ERROR = '[data-testid="data-testid Panel status error"], [data-testid="data-testid Alert error"]'
TITLE = "h2[title]"
CUT_OFF = "titles => titles.filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)"
LOADING = '[aria-label="Panel loading bar"], [aria-label="Data is loading"]'
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync")  # fmt: skip
RULES = "grafana/provisioning/alerting/leglength.yaml"
DAY_MS = 86_400_000


class Site(NamedTuple):
    """A provisioned Grafana and the range that its backends have something of."""

    grafana: GrafanaClient
    start_ms: int
    end_ms: int
    history: History | None = None

    def pages(self) -> list[Page]:
        """Our dashboards, as Grafana holds them."""
        datasources = self.grafana.get("/api/datasources")
        return [Page(self.grafana.get(f"/api/dashboards/uid/{page.uid}")["dashboard"], datasources) for page in PAGES]

    def pages_of_sites_with_less(self) -> list[Page]:
        """As a site would have them that has no Prometheus, or no InfluxDB; not provisioned here."""
        datasources = self.grafana.get("/api/datasources")
        sites = (RenderedSite(totals=False), RenderedSite(images=None))
        return [Page(json.loads(render(page, less)), datasources) for less in sites for page in PAGES]


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Site:
    """The Grafana that GRAFANA_URL names, or one of our own."""
    if url := os.environ.get("GRAFANA_URL"):
        now_ms = time.time_ns() // 1_000_000
        token = os.environ.get("GRAFANA_TOKEN")
        client = GrafanaClient(url.rstrip("/"), {"Authorization": f"Bearer {token}"} if token else None)
        return Site(client, now_ms - 30 * DAY_MS, now_ms)
    try:
        grafana_home()
    except MissingServerError:
        pytest.skip("no Grafana: GRAFANA_URL names a running one, GRAFANA_HOME or PATH a program")
    return request.getfixturevalue("own_site")


@pytest.fixture(scope="module")
def own_site(simulated: Callable[..., History], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A simulated history, a model's bias at its end, in an InfluxDB and a Prometheus, its charts looked at each night,
    and a Grafana that is provisioned for them.
    """
    history = simulated(days=90, bias_mm=5.0, bias_from_day=75)
    folder = tmp_path_factory.mktemp("site")
    with contextlib.ExitStack() as servers:
        influxdb = servers.enter_context(InfluxDB1())
        store = servers.enter_context(history.store(folder / "store", nightly=True, influxdb=influxdb.write_settings()))
        settings = history.settings(folder / "store", influxdb=influxdb.write_settings())
        drained, _ = drain(check_section(settings), HANGS_SECONDS, lambda line: None)
        assert all(each.is_done for each in drained)
        prometheus = servers.enter_context(history.prometheus(folder / "prometheus", store))
        provision(folder, influxdb, prometheus)
        grafana = servers.enter_context(Grafana(folder / "grafana/provisioning"))
        # Prometheus has a sample at the latest image, then one an hour, and looks five minutes back.
        end_ms = history.records[-1].ended_ns // 1_000_000 + 1000
        yield Site(grafana.client, end_ms - history.plan.days * DAY_MS, end_ms, history)


def provision(folder: Path, influxdb: InfluxDB1, prometheus: Prometheus) -> None:
    """All that is rendered for Grafana, the rules for a site without Prometheus among it."""
    sources = Sources(
        images_url=influxdb.url,
        database=influxdb.database,
        user="",
        prometheus_url=prometheus.url,
        dashboards_path=str(folder / "grafana/dashboards"),
        scrape_interval="1h",  # how far apart the samples of the simulated past are
    )
    write(files(RENDERED_FOR, sources), folder)
    # Beside Prometheus only the rules that it can't answer are there.
    alone = files(RenderedSite(totals=False), sources)
    (folder / RULES).write_text(alone[RULES])


def test_each_dashboard_is_found_and_is_the_rendered_one(site: Site) -> None:
    found = {each["uid"] for each in site.grafana.get("/api/search?type=dash-db&tag=leglength")}
    assert found == {page.uid for page in PAGES}
    for page in PAGES:
        answer = site.grafana.get(f"/api/dashboards/uid/{page.uid}")
        assert answer["meta"]["provisioned"], page.uid
        if site.history:
            assert answer["dashboard"]["panels"] == json.loads(render(page, RENDERED_FOR))["panels"], page.uid


def test_each_target_is_answered(site: Site) -> None:
    errors, asked = [], 0
    for page in (*site.pages(), *site.pages_of_sites_with_less()):
        for name, target in page.targets():
            asked += 1
            query = {"refId": "A", "maxDataPoints": 1000, "intervalMs": 3_600_000} | target
            for ref, result in site.grafana.query([query], site.start_ms, site.end_ms).items():
                if result["status"] != 200 or result.get("error"):
                    errors.append(f"{page.model['title']}, {name}, {ref}: {result.get('error')}: {target}")
    assert asked > 150
    assert not errors, "\n".join(errors)


def test_each_rule_is_taken_and_can_be_evaluated(site: Site) -> None:
    history = site.history
    if history is None:
        pytest.skip("whether that Grafana has the rules for a site without Prometheus isn't known here")
    provisioned = {each["title"]: each for each in site.grafana.get("/api/v1/provisioning/alert-rules")}
    assert provisioned.keys() == {rule.name for rule in INFLUXDB_RULES}
    found = {}
    for name, rule in provisioned.items():
        found[name] = site.grafana.evaluate(rule["condition"], rule["data"], history.plan.now)
        errors = {ref: step["error"] for ref, step in found[name].items() if step.get("error")}
        assert not errors, name
    silence = timedelta(seconds=parse_duration(DEFAULTS.silence).total_seconds())
    since_ns = (history.plan.now - silence).timestamp() * 1e9
    arrived = sum(record.ended_ns >= since_ns for record in history.records)
    assert found["LegLengthNothingArrives"]["N"]["frames"][0]["data"]["values"] == [[arrived]]
    assert found["LegLengthNothingArrives"]["FIRES"]["frames"][0]["data"]["values"] == [[0]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("a picture of a page needs Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_panel_is_in_error(site: Site, browser: Browser, theme: str, width: int, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    errors = []
    for page in site.pages():
        context = browser.new_context(
            viewport={"width": width, "height": 1000}, extra_http_headers=site.grafana.headers
        )
        tab = context.new_page()
        statuses: list[int] = []
        tab.on("response", lambda answer, found=statuses: "/api/ds/query" in answer.url and found.append(answer.status))
        _open(tab, site, page, theme)
        tab.screenshot(path=folder / f"{page.model['uid']}-{theme}-{width}.png")
        found = tab.locator(IN_ERROR).evaluate_all("all => all.map(one => (one.closest('section') ?? one).innerText)")
        found += [f"{text} is cut off" for text in tab.locator(TITLE).evaluate_all(CUT_OFF)]
        titles = tab.locator(TITLE).all_inner_texts()
        found += [f"{panel['title']} isn't there" for panel in page.panels if panel["title"] not in titles]
        found += [f"a query was answered with {status}" for status in statuses if status != 200]
        errors += [f"{page.model['title']}: {text}" for text in found]
        assert statuses, page.model["title"]
        context.close()
    assert not errors, "\n".join(errors)


def _open(tab: Tab, site: Site, page: Page, theme: str) -> None:
    """The whole page with every panel's answer: Grafana asks only for those within the window."""
    tab.goto(f"{site.grafana.url}/d/{page.model['uid']}?from={site.start_ms}&to={site.end_ms}&theme={theme}&kiosk")
    tab.wait_for_selector(TITLE)
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page.panels)
    tab.set_viewport_size({"width": tab.viewport_size["width"], "height": bottom * 38 + 120})
    tab.wait_for_load_state("networkidle")
    tab.wait_for_function("selector => !document.querySelector(selector)", arg=LOADING)
