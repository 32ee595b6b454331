"""run.py's log names no study and holds no secret, whatever in the process logs, warns or fails; and stays readable."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from analysis.phantom import Phantom
from analysis.phantom.files import write_bad, write_good
from tests.application.app import App, Run, assert_clean, run_on_a_terminal
from tests.application.identity import found_in, identified, needles

RUN = """
import run
sys.exit(run.main(sys.argv[1:]))
"""
# What code does that nobody has looked at: while a series is measured, {} is done with its dataset.
MEDDLING = """
import json, logging, sys, threading, urllib.parse, warnings
import analysis.pipeline as pipeline
measured, log = pipeline._run_models, logging.getLogger("some.library")
def meddling(detectors, radiograph):
    ds = radiograph.dataset
    name, path = str(ds.PatientName), ds.filename
    {}
    return measured(detectors, radiograph)
pipeline._run_models = meddling
"""
QUOTING = """
    log.warning("of %s born %s in %s", name, ds.PatientBirthDate, path)
    log.warning("the whole header %s", ds)
    log.warning("bytes %r", name.encode())
    log.warning("an address http://host/%s?id=%s", urllib.parse.quote(name), ds.PatientID)
    log.warning("JSON %s", json.dumps({"name": name, "id": ds.PatientID}))
    try:
        raise ValueError(name)
    except ValueError:
        log.exception("an exception in %s", path, stack_info=True)
    warnings.warn(f"odd {name}")
    thread = threading.Thread(target=int, args=(name,), name=name)
    thread.start()
    thread.join()
    type("Closing", (), {"__del__": lambda self: int(name)})()
    logging.StreamHandler().handle(logging.makeLogRecord({"msg": f"a handler of its own {name}", "levelno": 30}))
    handlers, logging.root.handlers = logging.root.handlers, []
    log.warning("no handler %s", name)
    logging.root.handlers = handlers
    extra = logging.StreamHandler()
    extra.setFormatter(logging.Formatter("an extra %(who)s"))
    extra.handle(log.makeRecord("name", 30, "path", 1, "done", (), None, extra={"who": ds.PatientName}))
    logging.captureWarnings(True)
    warnings.warn(f"captured {name}")
"""
SEEN = (
    "of [removed] born [removed] in ", "the whole header ", "bytes ", "an address http://host/[removed]?id=[removed]",
    "JSON ", "an exception in ", "ValueError",
    "UserWarning at ", "a thread ended by ValueError at ", "ignored: ValueError at ", "a handler of its own [removed]",
    "no handler [removed]", "an extra [removed]", "UserWarning: captured [removed]",
)  # fmt: skip


def quoting(statements: str = QUOTING) -> tuple[str, str]:
    return ("-c", MEDDLING.format(statements) + RUN)


@pytest.fixture
def named(app: App, small_phantom: Phantom) -> tuple[App, set[str]]:
    """A series of an invented person, in a file named after its UIDs; and all that must appear nowhere."""
    dataset = identified(small_phantom, 1)
    save(app, dataset, f"{dataset.SeriesInstanceUID}#{dataset.SOPInstanceUID}.dcm")
    return app, needles([dataset]) - {"Mustermannsdottir"}


def save(app: App, dataset: FileDataset, name: str) -> None:
    dataset.save_as(app.inbox / name, enforce_file_format=True)


def leaked(run: Run, unwanted: set[str]) -> list[str]:
    encoded = {form for text in unwanted for form in (quote(text), json.dumps(text)[1:-1], repr(text.encode())[2:-1])}
    return found_in((run.log + run.stdout).encode(), unwanted | encoded)


@pytest.mark.parametrize("monitoring", [None, {"enabled": True}], ids=["off", "on"])
def test_nothing_that_quotes_the_study_gets_it_into_the_log(monitoring: Any, named: tuple[App, set[str]]) -> None:
    app, unwanted = named
    app.settings(monitoring=monitoring)
    run = app.run(python=quoting())
    assert (run.code, [series["status"] for series in run.series]) == (0, ["completed"])
    assert leaked(run, unwanted) == []
    for words in SEEN:
        assert words in run.log, "the line is cleaned, not swallowed"


def test_it_does_get_there_where_nothing_keeps_it_away(named: tuple[App, set[str]]) -> None:
    app, unwanted = named
    code, script = quoting()
    unfiltered = "import run\nrun.set_up_logging = lambda: run.logging.basicConfig(level=20)\n"
    run = app.run(python=(code, script.replace("import run\n", unfiltered)))
    # pydicom shows no comments.
    assert set(leaked(run, unwanted)) >= unwanted - {"brother of Wolfgrim", "brother", "Wolfgrim"}


def test_a_terminal_shows_none_of_it_either(named: tuple[App, set[str]]) -> None:
    app, unwanted = named
    code, shown = run_on_a_terminal(app, python=quoting())
    assert code == 0
    assert "[removed]" in shown
    assert found_in("".join(shown.split()).encode(), {"".join(text.split()) for text in unwanted}) == []


UNCAUGHT = {
    "past the swallowing": ("raise BaseException(name) from KeyError(path)", "import run\n"),
    "after the series": (
        "meddling.name = name",
        "import run\ndef report(*_, **__): raise RuntimeError(pipeline._run_models.name)\nrun.report = report\n",
    ),
}


@pytest.mark.parametrize("when", UNCAUGHT)
def test_an_error_that_nobody_caught_is_told_by_its_type_and_places(when: str, named: tuple[App, set[str]]) -> None:
    app, unwanted = named
    statement, imports = UNCAUGHT[when]
    code, script = quoting(statement)
    run = app.run(python=(code, script.replace("import run\n", imports)))
    assert run.code == 1
    assert leaked(run, unwanted) == []
    assert "Traceback" not in run.log
    (line,) = run.lines_with("ended by ")
    assert line.startswith(("CRITICAL ended by BaseException at ", "CRITICAL ended by RuntimeError at "))
    assert "< run:" in line
    assert line.count("KeyError at ?") == (when == "past the swallowing")


def test_an_error_in_a_series_ends_that_series_alone(named: tuple[App, set[str]], unspaced_file: Path) -> None:
    app, unwanted = named
    app.add(unspaced_file)
    run = app.run(python=quoting("raise SystemError(name) from KeyError(path)"))
    assert run.code == 1
    assert sorted(series["status"] for series in run.series) == ["failed", "skipped"]
    assert leaked(run, unwanted) == []


def test_an_interrupt_still_ends_the_process_as_one(named: tuple[App, set[str]]) -> None:
    app, unwanted = named
    run = app.run(python=quoting("raise KeyboardInterrupt(name)"))
    assert run.code == -signal.SIGINT
    assert run.lines_with("ended by KeyboardInterrupt at ")
    assert leaked(run, unwanted) == []


def test_values_that_pydicom_finds_odd_are_not_quoted_at_any_level(app: App, phantom_file: Path) -> None:
    odd = {b"ISO_IR 192": b"ZZCHARSET1", b"0615": b"ZZ15", b"Phantom Imaging": b"Ph\xff\xfe\xfdtom ZZmaker"[:15]}
    content = phantom_file.read_bytes()
    for plain, strange in odd.items():
        content = content.replace(plain, strange)
    (app.inbox / "1.2.826.ZZUID#1.dcm").write_bytes(content.replace(b"1.2.826.0.1.1\0", b"1.2.826.ZZUID\0"))
    everything = """
import logging, sys, warnings
logging.basicConfig(level=1, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
warnings.simplefilter("always")
import pydicom
pydicom.config.debug(True)
"""
    for monitoring in (None, {"enabled": True}):
        app.settings(monitoring=monitoring)
        run = app.run(python=("-c", everything + RUN))
        assert run.code == 0
        assert "ZZ" not in run.log


def test_pydicom_says_nothing_of_values_that_are_in_no_file_either(named: tuple[App, set[str]]) -> None:
    app, _ = named
    run = app.run(python=quoting("import pydicom; pydicom.Dataset().StudyInstanceUID = 'ZZ-of-another-file'"))
    assert run.code == 0
    assert "ZZ" not in run.log


SECRETS = {"token": "tok/en+zq==Vx", "password": "pä^ss:wörd-Qq", "proxy": "pr0xy-w@rd", "key": "key-of-the-site-0123"}
LOGGED = "log.warning('%s %r %s', {secrets!r}, {bytes!r}, {encoded!r})"


@pytest.mark.parametrize("enabled", [True, False, "perhaps"])
def test_no_secret_gets_into_the_log_though_its_settings_are_wrong_or_off(
    enabled: Any, named: tuple[App, set[str]]
) -> None:
    app, _ = named
    (app.folder / "password").write_text(SECRETS["password"] + "\n")
    app.environment |= {
        "INFLUX_TOKEN": SECRETS["token"], "https_proxy": "http://user:pr0xy-w%40rd@127.0.0.1:1", "no_proxy": "*",
        "MONITORING_PRIVACY_KEY": SECRETS["key"],
    }  # fmt: skip
    influxdb = {"url": "not an address", "token": "${INFLUX_TOKEN}", "password_file": str(app.folder / "password")}
    app.settings(monitoring={"enabled": enabled, "influxdb": influxdb})
    texts = list(SECRETS.values())
    statement = LOGGED.format(
        secrets=texts,
        bytes=[text.encode() for text in texts],
        encoded=[quote(text) for text in texts],
    )
    run = app.run(python=quoting(statement))
    assert run.code == 0
    assert found_in(run.log.encode(), set(texts)) == []
    (line,) = run.lines_with("[removed]")
    assert line.count("[removed]") == 3 * len(texts)


def test_a_log_of_usual_series_has_nothing_removed_and_tells_what_happened(app: App) -> None:
    rng = np.random.default_rng(7)
    write_good(app.inbox, 1, rng)
    write_bad(app.inbox, rng)
    app.settings(
        models=["gradient_edges"],
        monitoring={"enabled": True, "prometheus": {"gateway_url": "http://127.0.0.1:1", "password": "secret"}},
    )
    run = app.run()
    assert_clean(run)
    assert run.lines_with("[removed]") == run.lines_with("left out") == []
    assert len(run.lines_with(" of 8: ")) == 8
    for words in ("monitoring: on; store", "not_dicom: the file is not a DICOM file", "of 6 lengths", "8 series: "):
        assert run.lines_with(words), words


def test_descriptions_in_everybodys_words_remove_nothing(app: App, small_phantom: Phantom) -> None:
    dataset = identified(small_phantom, 2)
    dataset.StudyDescription, dataset.SeriesDescription = "Series", "LEG LENGTH STANDING AP"
    dataset.ProtocolName, dataset.ImageComments = "image", "measured"
    save(app, dataset, "series.dcm")
    run = app.run()
    assert_clean(run)
    assert run.lines_with("series 1 of 1: 1 image(s)")
    assert run.lines_with("measured 6 of 6 lengths")
