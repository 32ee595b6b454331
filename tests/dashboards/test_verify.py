"""`leglength-monitor dashboards verify`: the backends' answers are the store's own, or it is said what is missing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from monitoring.cli.commands import app
from monitoring.cli.common import store_to_import_into
from monitoring.config_validator import check_section
from monitoring.dashboards.fleet import FLEET
from monitoring.dashboards.operation import OPERATION
from monitoring.dashboards.panels import Dashboard
from monitoring.dashboards.provisioning import Sources, files, write
from monitoring.dashboards.rendering import PAGES, render
from monitoring.dashboards.rendering import Site as RenderedSite
from monitoring.records.session_record import Failure
from tests.support.faults import FaultServer, refused_port, reset, respond, silence, silence_after_headers
from tests.support.grafana_server import Grafana
from tests.support.processes import MissingServerError
from tests.support.records import realistic
from tests.support.servers import InfluxDB1, Prometheus, VictoriaMetrics, fetch, promtool

pytestmark = pytest.mark.servers
DAY_NS = 86_400_000_000_000
SESSIONS = 50
PATIENT, OTHERS = "ab" * 16, "cd" * 16


class Site:
    """Sessions of 25 days, two a day, in a store of their own; every ninth failed, the tenth is one patient's."""

    def __init__(self, folder: Path, influxdb: dict[str, Any], sessions: int = SESSIONS) -> None:
        folder.mkdir(exist_ok=True)
        prometheus = {"textfile": str(folder / "totals.prom"), "instance": "here"}
        store = {"path": str(folder), "min_free_mb": 0}
        section = {"enabled": True, "application": "legs", "store": store, "influxdb": influxdb}
        self.section: dict[str, Any] = {**section, "prometheus": prometheus}
        self.task = folder / "task.json"
        self.write()
        now_ns = time.time_ns()
        self.ends = [now_ns - round((sessions - number) * DAY_NS / 2) for number in range(sessions)]
        with store_to_import_into(check_section(self.section).config) as (kept, build):
            for number, ended_ns in enumerate(self.ends):
                failed = {"status": "failed", "reason": "not_dicom", "failure": Failure("E", "load")}
                record = realistic(
                    session_id=f"{number:032x}", started_ns=ended_ns - 10**9, ended_ns=ended_ns,
                    duration_seconds=1.5 + number / 7, patient_key=PATIENT if number == 10 else OTHERS,
                    **(failed if number % 9 == 4 else {}),
                )  # fmt: skip
                assert kept.commit(record, build)

    def write(self) -> None:
        self.task.write_text(json.dumps({"process": {"settings": {"monitoring": self.section}}}))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(self.task)])

    def verified(self, *arguments: str, expected: int = 0) -> dict[str, Any]:
        done = self.run("dashboards", "verify", "--time-zone", "Europe/Zurich", "--json", *arguments)
        assert done.exit_code == expected, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def influxdb() -> Iterator[InfluxDB1]:
    with InfluxDB1(auth=True) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, influxdb: InfluxDB1) -> Iterator[Site]:
    yield Site(tmp_path, influxdb.write_settings())
    influxdb.query(f'DROP DATABASE "{influxdb.database}"')
    influxdb.create_database(influxdb.database)
    influxdb.query(f'GRANT ALL ON "{influxdb.database}" TO {influxdb.writer[0]}')


def panels(found: dict[str, Any]) -> set[str]:
    return {one["panel"] for one in found["panels_differ"]}


def number_of_panels(found: dict[str, Any]) -> int:
    counts: int = found["panels_agree"] + found["panels_not_compared"] + len(found["panels_differ"])
    return counts


def test_what_waits_is_explained_and_what_is_delivered_agrees(site: Site, influxdb: InfluxDB1) -> None:
    waiting = site.verified()
    assert waiting["points"]["excused"] == {"waiting": waiting["points"]["sent"]}
    assert site.run("drain").exit_code == 0
    # Another instance in the same bucket is none of this one's business.
    form = "leglength_session,instance=there,status=failed duration_seconds=99 " + str(site.ends[3])
    write = f"{influxdb.url}/write?db={influxdb.database}&u={influxdb.admin[0]}&p={influxdb.admin[1]}"
    fetch("POST", write, body=form.encode())
    found = site.verified()
    assert found["points"] == {**waiting["points"], "excused": {}}
    assert found["panels_agree"] > 40
    assert (found["panels_differ"], found["panels_not_compared"], found["sessions"]) == ([], 0, SESSIONS)


def test_points_that_the_backend_lost_are_named_with_their_panels(site: Site, influxdb: InfluxDB1) -> None:
    site.run("drain")
    for number in (20, 30):
        influxdb.query(f'DELETE FROM "leglength_quality" WHERE time = {site.ends[number]}')
    found = site.verified(expected=1)
    assert (found["points"]["lost"], found["points"]["changed"], found["points"]["unknown"]) == (2, 0, 0)
    assert "Quality by image" in panels(found)
    assert "Duration of each image" not in panels(found)
    (quality,) = [one for one in found["panels_differ"] if one["panel"] == "Quality by image"]
    assert (quality["lost"], quality["since_ns"]) == (2, site.ends[20])
    said = site.run("dashboards", "verify").output
    assert re.search(r"^lost +2 points from ", said, re.MULTILINE)
    assert "Quality by image: 2 rows of the answer; 2 points lost since " in said


def test_points_with_other_values_and_those_of_erased_sessions_are_told_apart(site: Site, influxdb: InfluxDB1) -> None:
    site.run("drain")
    tags = "leglength_session,application=legs,instance=here,status=completed"
    write = f"{influxdb.url}/write?db={influxdb.database}&u={influxdb.admin[0]}&p={influxdb.admin[1]}"
    fetch("POST", write, body=f"{tags} duration_seconds=99 {site.ends[5]}".encode())
    assert site.run("sessions", "erase", "--patient-key", PATIENT).exit_code in (0, 1)
    found = site.verified(expected=1)
    assert (found["points"]["lost"], found["points"]["changed"]) == (0, 1)
    assert found["points"]["unknown"] > 10  # the erased session's, which the backend still has
    assert "Duration of each image" in panels(found)
    assert "Quality by image" not in panels(found)


def test_what_was_refused_is_explained(site: Site, influxdb: InfluxDB1) -> None:
    write = f"{influxdb.url}/write?db={influxdb.database}&u={influxdb.admin[0]}&p={influxdb.admin[1]}"
    fetch("POST", write, body=b'leglength_quality,instance=there image="a text"')  # no number is taken any more
    assert site.run("drain").exit_code == 1
    found = site.verified()
    assert found["points"]["excused"] == {"refused": found["points"]["excused"]["refused"]}
    assert "drain --requeue-dead" in site.run("dashboards", "verify").output


def test_what_the_backend_keeps_no_longer_is_not_missed(tmp_path: Path, influxdb: InfluxDB1) -> None:
    influxdb.query('CREATE DATABASE "short" WITH DURATION 10d SHARD DURATION 1d')
    influxdb.query(f'GRANT ALL ON "short" TO {influxdb.writer[0]}')
    site = Site(tmp_path, {**influxdb.write_settings(), "bucket": "short"})
    site.run("drain")  # which counts the older ones as expired
    found = site.verified()
    assert found["points"]["lost"] == 0
    assert 18 <= found["sessions"] <= 20


@pytest.mark.parametrize("command", [("verify",), ("alerts", "--backtest", "30d")])
def test_a_store_that_keeps_no_instance_asks_for_it(site: Site, command: tuple[str, ...]) -> None:
    del site.section["prometheus"]["instance"]
    site.write()
    done = site.run("dashboards", *command)
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "prometheus.instance: not set" in done.output


def test_what_cannot_be_asked_is_said_without_a_secret(site: Site, influxdb: InfluxDB1, tmp_path: Path) -> None:
    site.section["influxdb"] = {**influxdb.write_settings(), "token": "writer:a-wrong-secret"}
    site.write()
    done = site.run("dashboards", "verify")
    assert done.exit_code == 2
    assert re.match(r"error: influxdb: HTTP 401: .*\$INFLUXDB_READ_TOKEN\n$", done.output), done.output
    assert "a-wrong-secret" not in done.output
    site.section["influxdb"] = {**influxdb.write_settings(), "bucket": "none"}
    site.write()
    assert "the credentials may not read there" in site.run("dashboards", "verify").output
    site.section["influxdb"]["token"] = ":".join(influxdb.admin)
    site.write()
    assert "there is no database none" in site.run("dashboards", "verify").output
    site.section["influxdb"] = {**influxdb.write_settings(), "url": "http://127.0.0.1:1"}
    site.write()
    done = site.run("dashboards", "verify")
    assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
    assert site.run("dashboards", "verify", "--time-zone", "Zurich").exit_code == 2
    assert "http://" in site.run("dashboards", "verify", "--prometheus", "127.0.0.1:1").output
    del site.section["influxdb"]
    site.write()
    assert site.run("dashboards", "verify").exit_code == 2
    empty = Site(tmp_path / "empty", influxdb.write_settings(), sessions=0)
    found = empty.verified()
    assert (found["sessions"], found["panels_differ"]) == (0, [])


def test_victoriametrics_agrees_at_the_ranges_end(tmp_path: Path, victoria_metrics: VictoriaMetrics) -> None:
    site = Site(tmp_path, victoria_metrics.write_settings())
    site.run("drain")
    victoria_metrics.flush()
    found = site.verified()
    assert (found["backends"], found["panels_differ"], found["points"]["lost"]) == (["VictoriaMetrics"], [], 0)
    assert found["panels_agree"] > 10
    selector = 'leglength_session_duration_seconds{status="failed"}'
    fetch("POST", f"{victoria_metrics.url}/api/v1/admin/tsdb/delete_series", fields={"match[]": selector})
    found = site.verified(expected=1)
    failed = sum(number % 9 == 4 for number in range(SESSIONS))
    assert found["points"]["changed"] + found["points"]["lost"] == failed
    assert "Instances" in panels(found)


def test_the_newest_totals_are_looked_for_in_prometheus(
    tmp_path: Path, influxdb: InfluxDB1, prometheus_factory: Callable[..., Prometheus]
) -> None:
    site = Site(tmp_path, influxdb.write_settings(), sessions=12)
    site.run("drain")
    server = told_to(tmp_path, prometheus_factory)
    found = site.verified("--prometheus", server.url)
    assert (found["backends"], found["panels_differ"]) == (["influxdb", "Prometheus"], [])
    site.run("import", str(more(tmp_path)))
    waits = site.verified("--prometheus", server.url)  # not told yet
    assert waits["panels_differ"] == []
    site.run("drain")
    found = site.verified("--prometheus", server.url, expected=1)
    problems = {one["problem"] for one in found["panels_differ"]}
    assert any("leglength_sessions_total is 11; the store has 12" in problem for problem in problems), problems


def told_to(folder: Path, prometheus_factory: Callable[..., Prometheus]) -> Prometheus:
    """A Prometheus that has scraped the site's totals once, as of a Pushgateway."""
    seconds = time.time() - 20
    group = 'instance="here",job="legs"'  # the job is named as the application
    lines = []
    for text in (folder / "totals.prom").read_text().splitlines():
        if text.startswith("leglength_") and "_created" not in text:
            series, _, value = text.rpartition(" ")
            labelled = series.replace("{", f"{{{group},", 1) if "{" in series else f"{series}{{{group}}}"
            labelled = re.sub(r'(le="[0-9]+)\.0"', r'\1"', labelled)  # as a Pushgateway makes it
            lines.append(f"{labelled} {value} {seconds:.3f}\n")
    past = folder / "past.txt"
    past.write_text("".join([*lines, "# EOF\n"]))
    promtool("tsdb", "create-blocks-from", "openmetrics", str(past), str(folder / "data"))
    return prometheus_factory(folder=folder)


def more(folder: Path) -> Path:
    """One session more, as a result.json holds it."""
    ended_ns = time.time_ns() - 10**9
    record = realistic(session_id="f" * 32, started_ns=ended_ns - 10**9, ended_ns=ended_ns)
    path = folder / "result.json"
    path.write_text(json.dumps({"monitoring": {"sessions": [record.to_dict()]}}))
    return path


# --- through a Grafana --------------------------------------------------------------------------


SOURCES = "grafana/provisioning/datasources/leglength.yaml"


class Shows:
    """A Grafana of which only who has a token may ask; what it shows is changed from test to test."""

    def __init__(self, server: Grafana, folder: Path) -> None:
        self.server = server
        self.folder = folder
        admin = server.client.headers
        account = {"name": "verify", "role": "Viewer"}
        accounts = f"{server.url}/api/serviceaccounts"
        number = fetch("POST", accounts, json=account, headers=admin).json()["id"]
        self.token = fetch("POST", f"{accounts}/{number}/tokens", json=account, headers=admin).json()["key"]

    def provision(self, rendered: RenderedSite, sources: dict[str, str], **replaced: str) -> None:
        """Show what is rendered for a site, but for what is ``replaced`` in the data sources."""
        texts = files(rendered, Sources(**sources, dashboards_path=str(self.folder / "grafana/dashboards")))
        for old, new in replaced.items():
            texts[SOURCES] = texts[SOURCES].replace(old, new)
        write(texts, self.folder)
        for kind in ("datasources", "dashboards"):
            self.reload(kind)

    def reload(self, kind: str) -> None:
        url = f"{self.server.url}/api/admin/provisioning/{kind}/reload"
        fetch("POST", url, headers=self.server.client.headers)

    def page(self, page: Dashboard) -> Path:
        """Where it lies."""
        return self.folder / f"grafana/dashboards/{page.uid}.json"


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shows]:
    folder = tmp_path_factory.mktemp("shows")
    (folder / "grafana/provisioning").mkdir(parents=True)
    write(files(RenderedSite(), Sources(dashboards_path=str(folder / "grafana/dashboards"))), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GF_AUTH_ANONYMOUS_ENABLED", "false")
        try:
            server = Grafana(folder / "grafana/provisioning")
        except MissingServerError:
            pytest.skip("no Grafana: GRAFANA_HOME or PATH names a program")
        with server:
            yield Shows(server, folder)


def test_what_a_grafana_shows_agrees_and_what_it_shows_otherwise_is_named(
    site: Site, influxdb: InfluxDB1, grafana: Shows, prometheus_factory: Callable[..., Prometheus],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    site.run("drain")
    prometheus = told_to(tmp_path, prometheus_factory)
    sources = {"images_url": influxdb.url, "database": influxdb.database, "user": influxdb.writer[0],
               "prometheus_url": prometheus.url}  # fmt: skip
    grafana.provision(
        RenderedSite(zone="Europe/Zurich", application=True), sources, **{"$INFLUXDB_READ_PASSWORD": influxdb.writer[1]}
    )
    monkeypatch.setenv("GRAFANA_TOKEN", grafana.token)
    here = ("--grafana", grafana.server.url)
    found = site.verified(*here)
    assert found["backends"] == ["Leg length: InfluxDB (Grafana)", "Leg length: Prometheus (Grafana)"]
    direct = site.verified("--prometheus", prometheus.url)
    told = ("panels_differ", "panels_agree", "panels_not_compared", "points", "sessions")
    assert {name: found[name] for name in told} == {name: direct[name] for name in told}
    assert found["panels_agree"] > 30
    # A backend that lost something, a panel that asks for something else, and a page that isn't there.
    influxdb.query(f'DELETE FROM "leglength_quality" WHERE time = {site.ends[20]}')
    path = grafana.page(OPERATION)
    (title,) = re.findall(r'"title": "(Duration of each image)"', path.read_text())
    page = json.loads(path.read_text())
    (panel,) = [each for each in page["panels"] if each["title"] == title]
    panel["targets"][0]["query"] = panel["targets"][0]["query"].replace("WHERE", "WHERE duration_seconds < 9 AND", 1)
    path.write_text(json.dumps(page))
    fleet = [each for each in json.loads(grafana.page(FLEET).read_text())["panels"] if each["type"] != "row"]
    grafana.page(FLEET).unlink()
    grafana.reload("dashboards")
    before, found = found, site.verified(*here, expected=1)
    assert number_of_panels(found) == number_of_panels(before) - len(fleet) + 1  # each is told of once
    wrong = {(one["page"], one["panel"]): one["problem"] for one in found["panels_differ"] if one["problem"]}
    assert {place: problem.partition(",")[0].partition(":")[0] for place, problem in wrong.items()} == {
        (OPERATION.title, title): "the dashboard in Grafana is another version",
        (FLEET.title, "all panels"): "the dashboard isn't in Grafana",
    }
    assert found["points"]["lost"] == 1
    assert "Quality by image" in panels(found)
    said = site.run("dashboards", "verify", "--time-zone", "Europe/Zurich", *here).output
    assert f"{title}: the dashboard in Grafana is another version" in said
    # What can't be asked.
    done = site.run("dashboards", "verify", *here)
    assert (done.exit_code, "rendered for Europe/Zurich" in done.output) == (2, True), done.output
    zone = ("--time-zone", "Europe/Zurich")
    done = site.run("dashboards", "verify", *zone, *here, "--grafana-source", "influxdb=other")
    assert (done.exit_code, "no data source of type influxdb and uid other" in done.output) == (2, True), done.output
    prometheus.stop()
    done = site.run("dashboards", "verify", *zone, *here)
    assert done.output == ("error: Leg length: Prometheus (Grafana) gives no answer to a query; Grafana's test of it"
                           " may say why\n")  # fmt: skip
    assert done.exit_code == 1
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa_a-wrong-one")
    done = site.run("dashboards", "verify", *zone, *here)
    assert done.exit_code == 2
    assert re.match(r"error: Grafana: HTTP 401: .*GRAFANA_TOKEN.*\n$", done.output), done.output
    assert "glsa" not in done.output


def test_victoriametrics_is_asked_through_a_grafana(
    tmp_path: Path, victoria_metrics: VictoriaMetrics, grafana: Shows
) -> None:
    site = Site(tmp_path, victoria_metrics.write_settings())
    site.run("drain")
    victoria_metrics.flush()
    token = tmp_path / "token"
    token.write_text(f"{grafana.token}\n")
    here = ("--grafana", grafana.server.url, "--grafana-token-file", str(token))
    rendered = RenderedSite(images="metricsql", zone="Europe/Zurich", application=True)
    sources = {"images_url": victoria_metrics.url, "prometheus_url": victoria_metrics.url}
    other = {"name: 'Leg length: Prometheus'": "name: Totals", "uid: leglength-prometheus": "uid: of-totals"}
    grafana.provision(rendered, sources, **other)
    found = site.verified(*here, "--grafana-source", "prometheus=of-totals", expected=1)
    assert found["backends"] == ["Leg length: VictoriaMetrics (Grafana)", "Totals (Grafana)"]
    direct = site.verified()
    assert found["points"] == direct["points"]
    assert direct["panels_agree"] > 10
    assert all("is missing; the store has" in one["problem"] for one in found["panels_differ"])


def test_a_grafana_that_cannot_be_asked_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what is silent waits for so long; the pages are large, and a busy machine takes its time to send them.
    site = Site(tmp_path, {"url": "http://127.0.0.1:1", "api": "v1", "timeout": 1.5}, sessions=0)
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa_a-secret")

    def said(url: str, expected: int, *arguments: str) -> str:
        done = site.run("dashboards", "verify", "--grafana", url, *arguments)
        assert (done.exit_code, done.output.count("\n")) == (expected, 1), done.output
        assert "glsa" not in done.output
        return done.output

    with refused_port() as url:
        assert "Grafana: refused" in said(url, 1)
    assert "http://" in said("127.0.0.1:3000", 2)
    assert "must not hold credentials" in said("http://admin:glsa@127.0.0.1:1", 2)
    assert "--grafana-token-file" in said("http://127.0.0.1:1", 2, "--grafana-token-file", str(tmp_path / "none"))
    (tmp_path / "two lines").write_text("glsa_one\nglsa_two")
    assert "holds no token" in said("http://127.0.0.1:1", 2, "--grafana-token-file", str(tmp_path / "two lines"))
    assert "exclude each other" in said("http://127.0.0.1:1", 2, "--prometheus", "http://127.0.0.1:1")
    assert "=UID" in said("http://127.0.0.1:1", 2, "--grafana-source", "mysql=one")
    with FaultServer() as server:
        for answer, expected, words in (
            (silence(), 1, "Grafana: timeout"),
            (silence_after_headers(), 1, "Grafana: timeout"),
            (reset(), 1, "Grafana: reset"),
            (respond(200, "<html>"), 1, "isn't one: not its JSON"),
            (respond(200, {"message": "a dict"}), 1, "isn't one: not its JSON"),
            (respond(404), 1, "isn't one: it has no /api/datasources"),
            (respond(401), 2, "HTTP 401: it doesn't know the token"),
            (respond(403, {"message": "no"}), 2, "HTTP 403: it lets too little be read by the token"),
            (respond(502), 1, "Grafana: HTTP 502"),
        ):
            server.then = answer
            assert words in said(server.url, expected)
        assert all(request.headers["Authorization"] == "Bearer glsa_a-secret" for request in server.requests)
        # Its data sources and pages as this version would render them, the rest misbehaves.
        sources = [{"uid": uid, "type": "prometheus", "name": uid} for uid in ("one", "two")]
        server.on_path = {"/api/datasources": respond(200, json.dumps(sources))}
        server.then = respond(404)
        assert "none of the dashboards is there" in said(server.url, 1)
        for page in PAGES:
            text = render(page, RenderedSite(application=True, images=None))
            server.on_path[f"/api/dashboards/uid/{page.uid}"] = respond(200, {"dashboard": json.loads(text)})
        assert "several data sources may be prometheus: name one of one, two" in said(server.url, 2)
        assert "uid three" in said(server.url, 2, "--grafana-source", "prometheus=three")
        server.then = silence()
        assert "Grafana: timeout" in said(server.url, 1, "--grafana-source", "prometheus=two")
        server.then = respond(200, {"results": {"A": {"status": 200, "frames": [{"schema": 1}]}}})
        assert "not its JSON" in said(server.url, 1, "--grafana-source", "Prometheus=two")
        # What is named for one server is none of the others.
        server.then = silence()
        for page in PAGES:
            text = render(page, RenderedSite(application=True, images="metricsql"))
            server.on_path[f"/api/dashboards/uid/{page.uid}"] = respond(200, {"dashboard": json.loads(text)})
        assert "Grafana: timeout" in said(server.url, 1, "--grafana-source", "prometheus=two")
