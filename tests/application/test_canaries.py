"""No identity and no secret leaves the application: every text of every header is a canary, and none is ever found.

Success, failure, skip, an exception that quotes its patient, and a crash; both backends, good and bad answers; all
log levels; every command. The store's bytes, the requests, the logs and every file of the monitoring are searched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid

from analysis.phantom import Phantom
from analysis.phantom.files import dataset_of
from tests.application.app import App, with_backends
from tests.application.canaries import Canaries, Search, bytes_of, fill
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.faults import FaultServer, Request, respond
from tests.support.processes import wait_until

COMMANDS = (
    ["check"], ["status"], ["status", "--json"], ["sessions"], ["sessions", "--json"], ["sessions", "--rederive"],
    ["export"], ["export", "--dead"], ["readings"], ["drain", "--timeout", "5"], ["drain", "--requeue-dead", "--json"],
    ["metrics"], ["schema"],
)  # fmt: skip
# Everything that any library logs, in the way that a host might set it up.
ALL_LEVELS = """
import logging, sys, warnings
logging.basicConfig(level=1, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s %(args)s")
logging.captureWarnings(True)
warnings.simplefilter("always")
import pydicom
pydicom.config.debug(True)
"""
RUN = """
import run
sys.exit(run.main(sys.argv[1:]))
"""
# The second series' models raise an error that quotes whatever it can, as code does that nobody has looked at.
QUOTING = """
import analysis.pipeline as pipeline
measured = pipeline._run_models
calls = []
def quoting(detectors, radiograph):
    calls.append(1)
    if len(calls) == 2:
        ds = radiograph.dataset
        logging.getLogger("host").warning("patient %s of %s", ds.PatientName, ds.get("InstitutionName"))
        logging.getLogger("host").debug("header: %s", ds)
        try:
            raise ValueError(f"no model for {ds.PatientName} {ds.PatientID} in {ds.filename}")
        except ValueError:
            logging.getLogger("host").exception("while measuring %r", str(ds.StudyInstanceUID))
            raise
    return measured(detectors, radiograph)
pipeline._run_models = quoting
"""
HANGING = """
import time
import analysis.pipeline as pipeline
def hanging(detectors, radiograph):
    print("HANGING", flush=True)
    time.sleep(600)
pipeline._run_models = hanging
"""


@dataclass
class Site:
    """An application whose inbox is full of canaries, and whose secrets are some too."""

    app: App
    canaries: Canaries
    search: Search
    secrets: Canaries

    def settings(self, server: FaultServer, **more: Any) -> dict[str, Any]:
        influxdb = {"url": server.url, "token": self.secrets.text("token"), "org": "o", "bucket": "b", "timeout": 2}
        prometheus = {
            "gateway_url": server.url, "username": "monitor", "password": self.secrets.text("password"),
            "textfile": str(self.app.folder / "textfile" / "leglength.prom"), "timeout": 2,
        }  # fmt: skip
        key = self.secrets.text("key") + self.secrets.text("key")
        return {**with_backends(influxdb, prometheus), "privacy": {"key": key, "site": "Invented"}, **more}

    def expect_nothing(self, haystack: bytes, what: str) -> None:
        for search, texts in ((self.search, self.canaries.all), (Search(self.secrets.all), self.secrets.all)):
            assert {canary: texts[canary] for canary in search.found_in(haystack)} == {}, what


def save(dataset: Any, folder: Path, canaries: Canaries, name: str) -> Path:
    series = canaries.text(f"{name} file")
    path = folder / f"{series}#{canaries.text(f'{name} file')}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, small_phantom: Phantom) -> tuple[Path, Canaries, Search]:
    """Series that are measured (two), skipped and failed; in one file nothing is DICOM but a person's name."""
    folder, canaries = tmp_path_factory.mktemp("canaries"), Canaries()
    for number, kind in enumerate(("measured", "also measured", "skipped", "failed")):
        dataset = dataset_of(small_phantom, np.random.default_rng(number), generate_uid())
        fill(dataset, canaries, kind)
        if kind == "skipped":
            del dataset.PixelSpacing, dataset.ImagerPixelSpacing
            dataset.PatientOrientation = [canaries.text(f"{kind} orientation"), "F"]
        path = save(dataset, folder, canaries, kind)
        if kind == "failed":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    text = canaries.name("no DICOM")
    (folder / f"{canaries.text('no DICOM file')}.dcm").write_bytes(f"{text} ".encode() * 50)
    return folder, canaries, Search(canaries.all)


@pytest.fixture
def site(app: App, filled: tuple[Path, Canaries, Search]) -> Site:
    folder, canaries, search = filled
    shutil.copytree(folder, app.inbox, dirs_exist_ok=True)
    return Site(app, canaries, search, Canaries())


def wire(request: Request, secrets: bool) -> bytes:
    """A request as it was sent; the secrets are where they belong in the one header that is for them."""
    headers = [f"{name}: {value}" for name, value in request.headers.items() if secrets or name != "Authorization"]
    return "\n".join([request.method, request.target, *headers]).encode() + b"\n" + request.raw_body + request.body


def monitoring_part(app: App) -> bytes:
    return json.dumps(json.loads((app.out / "result.json").read_text())["monitoring"], ensure_ascii=False).encode()


@pytest.mark.parametrize("answer", [204, 400, 401])
def test_whatever_ends_a_series_and_whatever_a_server_answers(
    answer: int, site: Site, fault_server: FaultServer
) -> None:
    app = site.app
    some = next(iter(site.canaries.all))
    fault_server.then = respond(answer, f"cannot parse {some}".encode() if answer != 204 else b"")
    app.settings(monitoring=site.settings(fault_server))
    run = app.run(python=["-c", ALL_LEVELS + QUOTING + RUN])
    assert sorted(series["status"] for series in run.series) == [
        "completed", "failed", "failed", "failed", "skipped",
    ]  # fmt: skip
    assert "ValueError" in run.log
    assert "[removed]" in run.log, "the host's own lines are cleaned, not swallowed"

    site.expect_nothing(run.log.encode(), "log")
    site.expect_nothing(run.stdout.encode(), "output")
    site.expect_nothing(monitoring_part(app), "result.json's monitoring part")
    site.expect_nothing(bytes_of(app.state), "store")
    site.expect_nothing(bytes_of(app.folder / "textfile"), "textfile")
    assert fault_server.requests
    for request in fault_server.requests:
        site.expect_nothing(wire(request, secrets=False), request.target)
    if answer == 400:  # with dead letters and undelivered points to show
        expect_clean_commands(site)


def expect_clean_commands(site: Site) -> None:
    for command in COMMANDS:
        shown = site.app.monitor(*command)
        assert "Traceback" not in shown.stderr
        site.expect_nothing((shown.stdout + shown.stderr).encode(), " ".join(command))


def test_a_killed_process_is_reported_as_crashed_without_a_word_of_whom(
    site: Site, fault_server: FaultServer, unspaced_file: Path
) -> None:
    app = site.app
    app.settings(monitoring=site.settings(fault_server))
    log = kill_while_measuring(app)
    site.expect_nothing(log, "log of the killed process")
    site.expect_nothing(bytes_of(app.state), "store after the kill")

    for path in app.inbox.glob("*.dcm"):
        path.unlink()
    app.add(unspaced_file)
    run = app.run(python=["-c", ALL_LEVELS + RUN])
    site.expect_nothing(run.log.encode(), "log of the next run")
    site.expect_nothing(bytes_of(app.state), "store")
    assert app.status()["sessions"]["crashed"] == 1
    assert b"crashed" in b"".join(request.body for request in fault_server.requests)
    for request in fault_server.requests:
        site.expect_nothing(wire(request, secrets=False), request.target)


def kill_while_measuring(app: App) -> bytes:
    script = ALL_LEVELS + HANGING + RUN
    with (app.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(app.inbox), str(app.out)],
            cwd=REPOSITORY, env=app.full_environment(), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until(lambda: b"HANGING" in (app.folder / "log").read_bytes(), "the models to be running")
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(HANGS_SECONDS)
    return (app.folder / "log").read_bytes()


def test_an_uncaught_exception_quotes_nobody(site: Site, fault_server: FaultServer) -> None:
    """KeyboardInterrupt and the like pass through everything, up to the interpreter, which prints them."""
    uncaught = QUOTING.replace("            raise\n", "            raise BaseException(str(ds.PatientName))\n")
    assert uncaught != QUOTING
    site.app.settings(monitoring=site.settings(fault_server))
    run = site.app.run(python=["-c", ALL_LEVELS + uncaught + RUN], fresh=True)
    assert run.code != 0
    assert "BaseException" in run.log
    site.expect_nothing(run.log.encode(), "log")
    site.expect_nothing(bytes_of(site.app.state), "store")


@pytest.mark.parametrize("section", ["enabled", "influxdb", "store", "privacy"])
def test_settings_that_are_wrong_are_told_without_their_values(site: Site, section: str) -> None:
    canary = site.secrets.text("a wrong setting")
    wrong = {"enabled": {"enabled": canary}, "influxdb": {"influxdb": {"url": canary, "token": canary, "api": canary}}}
    wrong |= {"store": {"store": {"max_size_mb": canary}}, "privacy": {"privacy": {"key": canary[:8], "age": canary}}}
    for path in sorted(site.app.inbox.glob("*.dcm"), key=lambda path: path.stat().st_size)[1:]:
        path.unlink()  # any series will do
    site.app.settings(monitoring={"enabled": True, **wrong[section]})
    run = site.app.run(python=["-c", ALL_LEVELS + RUN])
    site.expect_nothing(run.log.encode(), "log")
    shown = site.app.monitor("check")
    site.expect_nothing((shown.stdout + shown.stderr).encode(), "check")


def test_the_search_finds_every_canary_in_every_form(site: Site) -> None:
    assert len(site.canaries.all) > 1000
    found = site.search.found_in(bytes_of(site.app.inbox))
    missing = {where for canary, where in site.canaries.all.items() if canary not in found}
    # Half of the failed file is cut off, and a date can be followed by a tag's byte that happens to be a digit's.
    assert {where for where in missing if "failed" not in where and not where.endswith("AdmittingDate")} == set()


@pytest.mark.parametrize("encode", ["json", "percent", "base64", "gzip", "utf-16", "hex"])
def test_the_search_sees_through_encodings(encode: str) -> None:
    import base64
    import gzip
    from urllib.parse import quote

    canaries = Canaries()
    name = canaries.name("a name")
    encoders: dict[str, Callable[[str], bytes]] = {
        "json": lambda text: json.dumps({"a": text}).encode(),
        "percent": lambda text: quote(text, safe="").lower().encode(),
        "base64": lambda text: base64.b64encode(b"x" + text.encode() + b"yz"),
        "gzip": lambda text: b"head" + gzip.compress(text.encode()),
        "utf-16": lambda text: text.encode("utf-16"),
        "hex": lambda text: text.encode().hex().encode(),
    }
    assert Search(canaries.all).found_in(encoders[encode](name))
    assert not Search(canaries.all).found_in(encoders[encode]("nobody in particular"))
