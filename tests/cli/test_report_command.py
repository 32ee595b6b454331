"""`report`, as a person runs it: the file that it writes, in a browser and on paper."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, Page, sync_playwright
from typer.testing import CliRunner, Result

from monitoring.analytics.reported import DrilledFault, Report, ReportedDrill, Strange
from monitoring.cli.commands import app
from monitoring.cli.report import _page, _table
from tests.support.exams import BIAS, EXAMS, a_store, exam, exams
from tests.support.processes import require

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync")  # fmt: skip
A4 = {"width": 695, "height": 1010}
"""What is left of A4 within the page's margins, in CSS pixels."""
STORES = {"empty": 0, "three": 3, "biased": EXAMS}
# What is wider than its box, and a picture's text that leaves the picture.
CUT_OFF = """() => [...document.querySelectorAll('body, section, article, table, td, th, dd, .tile, .verdict')]
  .filter(one => one.scrollWidth > one.clientWidth + 1 || one.getBoundingClientRect().right > innerWidth + 1)
  .concat([...document.querySelectorAll('svg text')].filter(one => {
    const [text, all] = [one.getBoundingClientRect(), one.ownerSVGElement.getBoundingClientRect()];
    return text.left < all.left - 1 || text.right > all.right + 1 || text.bottom > all.bottom + 1; }))
  .map(one => one.tagName + ': ' + one.textContent.trim().slice(0, 60))"""
UNNAMED = """() => [...document.querySelectorAll('svg')].filter(one => one.getAttribute('role') !== 'img' ||
  !(one.getAttribute('aria-label') || one.querySelector('title') && one.querySelector('desc').textContent.trim()))
  .concat([...document.querySelectorAll('table')].filter(one => !one.caption || !one.querySelector('thead th[scope]')))
  .map(one => one.outerHTML.slice(0, 80))
  .concat([...document.querySelectorAll('[id]')].map(one => one.id).filter((id, at, all) => all.indexOf(id) !== at))"""
# Contrast of what is written against what lies behind it (WCAG 2.2, 1.4.3).
FAINT = """() => {
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(part => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = one => { for (; one; one = one.parentElement) { const colour = getComputedStyle(one).backgroundColor;
    if (!colour.endsWith(', 0)')) return colour; } return 'rgb(255, 255, 255)'; };
  const written = 'p, td, th, dt, dd, small, caption, h1, h2, h3, h4, li, a, svg text';
  return [...document.querySelectorAll(written)].filter(one => {
    const style = getComputedStyle(one), ink = one.ownerSVGElement ? style.fill : style.color;
    const pair = [light(ink), light(behind(one))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05) < 4.5; }).map(one => one.outerHTML); }"""
SCREEN, PHONE = {"width": 1100, "height": 800}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with report.html and what it was made from, for each of STORES."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: exam(EXAMS - 1).ended_ns + 4 * 3600 * 10**9)
        return {name: a_site(tmp_path_factory.mktemp(name), count) for name, count in STORES.items()}


def a_site(folder: Path, count: int) -> Path:
    with a_store(folder, exams(range(count))):
        pass
    section = {"enabled": True, "store": {"path": str(folder), "min_free_mb": 0}}
    (folder / "task.json").write_text(json.dumps({"process": {"settings": {"monitoring": section}}}))
    done = run(folder, "--json", str(folder / "report.json"), "--csv", str(folder / "tables"))
    assert done.exit_code == 0, done.stderr
    return folder


def run(folder: Path, *arguments: str) -> Result:
    output = () if "-o" in arguments else ("-o", str(folder / "report.html"))
    return CliRunner().invoke(app, ["report", *arguments, *output, "--config", str(folder / "task.json")])


def test_what_is_written_is_one_story(sites: dict[str, Path]) -> None:
    folder = sites["biased"]
    page, data = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    [first] = re.findall(r'<p class="verdict"[^>]*>(.*?)</p>', page)
    assert first.replace("&#39;", "'") == data["verdict"]
    assert page.index('class="verdict"') < page.index("<h1>")
    assert data["digest"] in page
    tables = {path.stem: list(csv.DictReader(path.open())) for path in (folder / "tables").iterdir()}
    assert {row["chart"] for row in tables["charts"]} == {chart["chart"] for chart in data["charts"]}
    assert [row["alarm_id"] for row in tables["alarms"]] == [alarm["alarm_id"] for alarm in data["alarms"]]
    assert BIAS in {row["chart"] for row in tables["alarms"]}
    assert {row["strata"] for row in tables["alarms"]} <= {"; ".join(alarm["strata"]) for alarm in data["alarms"]}
    for words in ("not measured", "What can't be seen", "2 a year for all", "No loss of data is counted"):
        assert words in page, words


def test_nothing_tells_of_a_patient_or_of_the_machine(sites: dict[str, Path]) -> None:
    folder, last = sites["biased"], exam(EXAMS - 1)
    files = [folder / "report.html", folder / "report.json", *(folder / "tables").iterdir()]
    text = "\n".join(path.read_text() for path in files)
    for secret in (str(folder), socket.gethostname(), last.patient_key, last.study_key, last.series_key):
        assert secret
        assert secret not in text
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text)


def test_each_reader_has_an_own_page(sites: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sites["biased"], tmp_path, dirs_exist_ok=True)
    charts = {who: set[str]() for who in ("clinician", "operator", "regulator")}
    for who, found in charts.items():
        done = run(tmp_path, "--for", who, "--to", "2026-09-14")
        assert done.exit_code == 0
        page = (tmp_path / "report.html").read_text()
        assert re.findall(r'<section class="page" id="(\w+)"', page) == [who, "details"]
        [first] = re.findall(r'<p class="verdict"[^>]*>(.*?)</p>', page)
        assert first.replace("&#39;", "'") == done.stdout.splitlines()[-1]
        # Nothing came since, so that the operator has silence to answer.
        assert first.startswith({"clinician": "3 alarms", "operator": "1 alarm", "regulator": "4 alarms"}[who])
        found |= set(re.findall(r"<h4><svg.*?</svg> (.*?)</h4>", page))
    assert charts["clinician"] | charts["operator"] == charts["regulator"]
    assert not charts["clinician"] & charts["operator"]
    assert charts["operator"] >= {"Sessions that failed", "Working days without a session"}


def test_the_regulators_page_has_all_versions_whole_and_figures_are_told_alike(sites: dict[str, Path]) -> None:
    made = msgspec.json.decode((sites["biased"] / "report.json").read_bytes(), type=Report)
    [segment] = made.segments
    for count in (1, 3, 4):
        versions = [f"{'model 2.0.1 273aa348cde0; ' * 9}version {number}" for number in range(count)]
        page = _page(
            jinja2, replace(made, segments=tuple(replace(segment, words=each) for each in versions)), "regulator"
        )
        assert [page.count(each) for each in versions] == [1] * count
        assert "stand in full in the details" in page
    assert "stand in full" not in (sites["empty"] / "report.html").read_text()
    charts = tuple(replace(chart, limit=37_174.2) for chart in made.charts)
    page = _page(jinja2, replace(made, charts=charts, readings=1), "clinician")
    assert '<td class="n">37,174</td>' in page
    assert "1 reading in the store" in page


def test_what_is_wrong_is_one_line(sites: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sites["three"]
    for arguments, words in (
        (("--for", "patient"), "error: --for is one of clinician, operator, regulator"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "error: --from 2026-02-01 comes after --to 2026-01-01"),
        (("-o", "/proc/none/report.html"), "error: /proc/none/report.html: "),
    ):
        done = run(folder, *arguments)
        assert done.exit_code == 2, arguments
        assert done.stderr.startswith(words)
        assert done.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run(folder)
    assert done.exit_code == 2
    assert done.stderr == "error: this command needs its extra: pip install 'leglength-monitoring[report]'\n"


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield browser
        browser.close()


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """The page, and what it said on the console or asked for beside itself; both go on being listed."""
    page, heard = browser.new_page(**options), list[str]()
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    heard.remove(path.as_uri())
    return page, heard


@pytest.mark.servers
def test_it_opens_without_a_word_or_a_request_in_light_and_dark(sites: dict[str, Path], browser: Browser) -> None:
    for name, folder in sites.items():
        papers = set()
        for scheme in ("light", "dark"):
            page, heard = opened(
                browser, folder / "report.html", color_scheme=scheme, viewport={"width": 1100, "height": 800}
            )
            assert page.locator("svg.picture").count() == (0 if name == "empty" else page.locator("desc").count())
            assert (heard, page.evaluate(CUT_OFF), page.evaluate(UNNAMED), page.evaluate(FAINT)) == ([], [], [], []), (
                name
            )
            page.set_viewport_size(PHONE)
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], name
            papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.close()
        assert len(papers) == 2


def crowded(made: Report) -> Report:
    """More of all than a page has room for: 20 open alarms of as many series, versions, devices, years, drills."""
    charts = [replace(chart, chart=f"{chart.chart}/x", series=f"s{n}") for n, chart in enumerate(made.charts)]
    lead = replace(made.alarms[0], status="acknowledged", answer="physicist: " + "weights of another training. " * 9)
    where = "Siemens Healthineers Ysio, lower limb, 0.143 mm per pixel"
    lead = replace(lead, title=charts[0].title + ": template correlation, right femur", what=f"{lead.what}, in {where}")
    alarms = [replace(lead, chart=f"s{n}/part", status=("open", "acknowledged")[n % 2]) for n in range(20)]
    drilled = DrilledFault("the same of one model in one kind of exams alone: device not listed, leg, 0.143 mm", "", "")
    drill = ReportedDrill(
        "2026-08-01", "1.0", False, 240, 120, 40, (drilled,) * 12, 4.1, 1.2, 2.0, 200, 20, "9 alarms; " * 11
    )
    [segment] = made.segments
    return replace(
        made, verdict="20 alarms to answer: " + "one model's length less the mean of the others', " * 4,
        charts=tuple(charts), alarms=tuple(alarms), drills=(drill,) * 20,
        months=tuple(replace(made.months[0], month=f"{2020 + n // 12}-{n % 12 + 1:02d}") for n in range(60)),
        segments=(replace(segment, words=f"{segment.words}; another 2.0 {'c' * 12}" * 3),) * 9,
        strata=tuple((2026, f"Siemens Healthineers Ysio, lower limb, 0.{n} mm per pixel", n) for n in range(40)),
        losses=dict.fromkeys(("queue_full", "rejected", "corrupt", "expired", "evicted", "disk_full", "shutdown"), 99),
        strange=(Strange("0" * 32, "2026-08-01", ("SD from the mean for age and sex: the largest of 811",) * 7),) * 6,
        failure_interval=(0.01, 0.02), years=made.years * 9, application="simulated",
        machines=(("Disk: store", "12.3 GB free at the least on 2026-08-01; " * 4),) * 9,
    )  # fmt: skip


def test_what_is_simulated_says_so_on_each_page_and_in_its_first_sentence(
    sites: dict[str, Path], tmp_path: Path
) -> None:
    task = json.loads((sites["three"] / "task.json").read_text())
    task["process"]["settings"]["monitoring"]["application"] = "simulated"
    (tmp_path / "task.json").write_text(json.dumps(task))
    for application in (sites["three"], tmp_path):
        done = run(application, "-o", str(tmp_path / "report.html"))
        page = (tmp_path / "report.html").read_text().lower()
        places = [part for name in ("title", "h1", "h2", "p") for part in re.findall(f"<{name}[ >].*?</{name}>", page)]
        marked = [part for part in places if "simulated, of no patient" in part]
        assert (done.stdout.count("Simulated, of no patient. "), len(marked)) == (
            (1, 6) if application == tmp_path else (0, 0)
        )


@pytest.mark.servers
def test_each_reader_has_one_page_of_a4_however_much_there_is(
    sites: dict[str, Path], browser: Browser, tmp_path: Path
) -> None:
    """All of them in one file, and each alone below the heading, the key and a verdict of three lines."""
    made = crowded(msgspec.json.decode((sites["biased"] / "report.json").read_bytes(), type=Report))
    pages = {folder / "report.html": 3 for folder in (*sites.values(), tmp_path)}
    for who in (None, "clinician", "operator", "regulator"):
        path = tmp_path / f"{who or 'report'}.html"
        path.write_text(_page(jinja2, made, who))
        pages[path] = 1 if who else 3
    for path, expected in pages.items():
        page, _ = opened(browser, path, viewport=A4)
        page.emulate_media(media="print")
        page.evaluate("document.getElementById('details')?.remove()")
        assert sheets(page.pdf(prefer_css_page_size=True)) == expected, path
        page.close()
    text = (tmp_path / "report.html").read_text()
    assert text.count('<tr><td class="w">' + made.alarms[0].alarm_id) == 20  # all stand in the details
    assert "5 of 20 series with alarms; all stand in the details" in text


def sheets(printed: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", printed))


@pytest.mark.servers
def test_it_prints_on_a4_with_nothing_cut_off(sites: dict[str, Path], browser: Browser) -> None:
    for name, folder in sites.items():
        page, heard = opened(browser, folder / "report.html", color_scheme="dark", viewport=A4)
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate(CUT_OFF) == [], name
        printed = page.pdf(prefer_css_page_size=True)
        sizes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", printed)
        assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}
        pages = sheets(printed)
        assert pages == 3 if name == "empty" else 3 < pages < 24, name
        assert heard == []
        page.close()


def test_what_people_wrote_is_no_formula_to_a_spreadsheet() -> None:
    row = {"answer": "+cmd: seen", "note": "-2", "by": "=A1", "mail": "@x", "size": -1.5, "plain": "2026-08-01"}
    assert _table([row]).splitlines()[1] == "'+cmd: seen,'-2,'=A1,'@x,-1.5,2026-08-01"
