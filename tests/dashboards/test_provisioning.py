"""The folder from which Grafana sets itself up, and the command that writes it for a site's settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from monitoring.cli.commands import app
from monitoring.dashboards.provisioning import PASSWORD_VARIABLE, TOKEN_VARIABLE, Sources, files, write
from monitoring.dashboards.rendering import PAGES, Site
from monitoring.exceptions import ConfigurationError
from tests.support import REPOSITORY

SECRET = "s3cret-of-the-site"
INFLUXDB: dict[str, Any] = {"url": "http://influx.example:8086", "token": SECRET, "org": "o", "bucket": "leg$length"}
PROMETHEUS: dict[str, Any] = {"gateway_url": "http://push.example:9091", "job_name": "legs"}


def settings(folder: Path, **sections: Any) -> str:
    path = folder / "task.json"
    path.write_text(json.dumps({"process": {"settings": {"monitoring": {"enabled": True, **sections}}}}))
    return str(path)


def render(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["dashboards", "render", *arguments])
    return done.exit_code, done.output


def datasources(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "grafana/provisioning/datasources/leglength.yaml"
    return {each["uid"]: each for each in yaml.safe_load(path.read_text())["datasources"]}


def test_the_committed_files_name_no_address_no_secret_and_no_zone_of_a_site() -> None:
    made = files(Site(), Sources())
    for name, text in made.items():
        assert (REPOSITORY / "deploy" / name).read_text() == text, "`make docs` writes them again"
        # A person fills in the example of Alertmanager's: what stands there is nobody's.
        text = re.sub(r"http://127\.0\.0\.1|localhost:25|hospital\.example", "", text)
        assert not re.search(r"https?://|localhost|Europe/", text), name
    addresses = [line for text in made.values() for line in re.findall(r"^ *url: (.*)$", text, re.MULTILINE)]
    assert addresses == ["$PROMETHEUS_URL", "$INFLUXDB_URL"]


def test_a_sites_settings_become_its_folder(tmp_path: Path) -> None:
    config = settings(tmp_path, influxdb=INFLUXDB, prometheus=PROMETHEUS)
    folder = tmp_path / "out"
    code, said = render("--config", config, "--time-zone", "Europe/Zurich", "--scrape-interval", "15s", str(folder))
    assert code == 0, said
    assert f"with PROMETHEUS_URL, {TOKEN_VARIABLE} set" in said
    found = datasources(folder)
    influxdb, prometheus = found["leglength-influxdb"], found["leglength-prometheus"]
    assert influxdb["url"] == "http://influx.example:8086"
    assert influxdb["jsonData"] == {
        "version": "InfluxQL", "dbName": "leg$$length", "httpMode": "POST", "httpHeaderName1": "Authorization",
    }  # fmt: skip
    assert influxdb["secureJsonData"] == {"httpHeaderValue1": f"Token ${TOKEN_VARIABLE}"}
    assert prometheus["jsonData"]["timeInterval"] == "15s"
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert len(texts) == len(PAGES) + 5
    assert not [text for text in texts if SECRET in text]
    page = json.loads((folder / "grafana/dashboards/leglength-operation.json").read_text())
    assert page["timezone"] == "Europe/Zurich"
    job = next(variable for variable in page["templating"]["list"] if variable["name"] == "job")
    assert job["current"]["value"] == ["legs"]
    provider = yaml.safe_load((folder / "grafana/provisioning/dashboards/leglength.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == str(folder / "grafana/dashboards")
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, False)


def test_the_backends_are_those_of_the_settings_unless_it_is_said(tmp_path: Path) -> None:
    both = {"influxdb": INFLUXDB, "prometheus": PROMETHEUS}
    for sections, flags, expected in (
        ({"prometheus": PROMETHEUS}, (), ["leglength-prometheus"]),
        ({"influxdb": INFLUXDB}, (), ["leglength-influxdb"]),
        (both, ("--influxdb-only",), ["leglength-influxdb"]),
        (both, ("--prometheus-only",), ["leglength-prometheus"]),
        (both, ("--metricsql",), ["leglength-prometheus", "leglength-victoriametrics"]),
        (both, (), ["leglength-prometheus", "leglength-influxdb"]),
    ):
        folder = tmp_path / "-".join((*sections, *flags, "out"))
        code, said = render("--config", settings(tmp_path, **sections), *flags, str(folder))
        assert code == 0, said
        assert list(datasources(folder)) == expected
        assert ("PROMETHEUS_URL" in said) == ("leglength-prometheus" in expected), "only what its files name"


def test_a_user_of_version_1_has_a_password_and_nobody_else(tmp_path: Path) -> None:
    of_user = {**INFLUXDB, "api": "v1", "username": "grafana", "password": SECRET}
    del of_user["token"]
    render("--config", settings(tmp_path, influxdb=of_user), str(tmp_path / "user"))
    found = datasources(tmp_path / "user")["leglength-influxdb"]
    assert (found["user"], found["secureJsonData"]) == ("grafana", {"password": f"${PASSWORD_VARIABLE}"})
    open_to_all = {"url": "http://influx.example:8086", "api": "v1"}
    render("--config", settings(tmp_path, influxdb=open_to_all), str(tmp_path / "open"))
    assert "secureJsonData" not in datasources(tmp_path / "open")["leglength-influxdb"]


def test_another_ones_file_is_left_unless_it_is_forced(tmp_path: Path) -> None:
    config, folder = settings(tmp_path, prometheus=PROMETHEUS), tmp_path / "out"
    foreign = folder / "grafana/provisioning/datasources/leglength.yaml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("apiVersion: 1\n")
    code, said = render("--config", config, str(folder))
    assert code == 2
    assert str(foreign) in said
    assert not (folder / "grafana/dashboards").exists(), "nothing is written by halves"
    assert foreign.read_text() == "apiVersion: 1\n"
    assert render("--config", config, "--force", str(folder))[0] == 0
    code, said = render("--config", config, str(folder))
    assert (code, "8 of 8 files were as they are to be" in said) == (0, True)


def test_what_cannot_be_rendered_is_said_in_a_line(tmp_path: Path) -> None:
    config = settings(tmp_path, prometheus=PROMETHEUS)
    wrong = tmp_path / "thresholds.json"
    wrong.write_text('{"silence": "for ever"}')
    none = tmp_path / "none.json"
    none.write_text('{"silence": "0s"}')
    for arguments, words in (
        (("--influxql", "--metricsql"), "--influxql and --metricsql exclude each other"),
        (("--time-zone", "Europe/Zurick"), "--time-zone Europe/Zurick: there is no such zone"),
        (("--scrape-interval", "often"), "--scrape-interval often"),
        (("--prometheus-url", f"http://grafana:{SECRET}@prometheus.example"), "must not hold credentials"),
        (("--thresholds", str(none)), "thresholds: silence 0s: duration must be greater than 0"),
        (("--thresholds", str(wrong)), "silence"),
    ):
        code, said = render("--config", config, *arguments, str(tmp_path / "out"))
        assert (code, words in said, said.count("\n")) == (2, True, 1), said
    code, said = render("--config", settings(tmp_path), str(tmp_path / "out"))
    assert (code, "no backend to look at" in said) == (2, True)
    # What remains of wrong settings is another site's: without Prometheus its alerts would not be written.
    code, said = render("--config", settings(tmp_path, influxdb=INFLUXDB, prometheus={}), str(tmp_path / "out"))
    assert (code, "wrong settings, without prometheus" in said, (tmp_path / "out").exists()) == (2, True, False)
    (tmp_path / "file").write_text("")
    code, said = render("--config", settings(tmp_path, prometheus=PROMETHEUS), str(tmp_path / "file"))
    assert (code, "Not a directory" in said) == (2, True)


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    made = files(Site(), Sources())
    assert len(write(made, tmp_path)) == len(made)
    assert write(made, tmp_path) == []
    (path,) = write(files(Site(), Sources(scrape_interval="15s")), tmp_path)[:1]
    assert path.name == "leglength.yaml"
    with pytest.raises(ConfigurationError, match="not written by this command"):
        write({"x": "1"}, _with_foreign(tmp_path))


def _with_foreign(folder: Path) -> Path:
    (folder / "x").write_text("2")
    return folder
