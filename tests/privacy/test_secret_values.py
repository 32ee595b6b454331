"""Every secret of the settings and the environment is known, whether the settings are right or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitoring import LogFilter
from monitoring.config_validator import check_section
from monitoring.privacy.secret_values import environment_secrets, secrets_in, secrets_of


def test_the_environments_secrets_are_known_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:pr%C3%A4xy-word@proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "other:s3cond-word@proxy:3128")
    monkeypatch.setenv("MONITORING_PRIVACY_KEY", "site-key-of-the-environment")
    found = LogFilter()
    found.install()
    found.uninstall()
    assert found.clean("präxy-word, s3cond-word") == "[removed], [removed]"
    assert found.clean("pr%C3%A4xy-word") == "[removed]"
    assert found.clean("site-key-of-the-environment") == "[removed]"
    assert found.clean("user at proxy:3128") == "user at proxy:3128"


def test_the_secrets_of_an_environment_without_any_are_none() -> None:
    variables = {"PATH": "/bin", "no_proxy": "localhost", "http_proxy": "http://proxy:3128", "x_proxy": "@"}
    assert [secret for secret in environment_secrets(variables) if secret] == []


def section(folder: Path) -> dict[str, Any]:
    (folder / "password").write_text("from-a-file\n")
    (folder / "key").write_text("key-from-its-file-0123\n")
    return {
        "enabled": True,
        "influxdb": {"url": "http://influxdb:8086", "token": "${TOKEN}", "org": "hospital", "bucket": "legs"},
        "prometheus": {"gateway_url": "http://push:9091", "username": "pusher", "password": "plain-word"},
        "privacy": {"key_file": str(folder / "key")},
    }


def test_the_secrets_of_settings_are_those_that_the_environment_and_files_gave(tmp_path: Path) -> None:
    checked = check_section(section(tmp_path), {"TOKEN": "from-the-environment"})
    assert checked.problems == ()
    assert set(secrets_of(checked.config)) == {"from-the-environment", "plain-word", "key-from-its-file-0123"}
    assert secrets_of(check_section({}).config) == []


def test_the_secrets_of_a_section_are_found_though_it_is_wrong_or_misspelt(tmp_path: Path) -> None:
    wrong = section(tmp_path)
    wrong["influxdb"] |= {"url": "http://root:in-the-address@influxdb", "tokn": "misspelt-one", "timeout": "never"}
    wrong["prometheus"] |= {"password_file": str(tmp_path / "password"), "token_file": "/nowhere", "port": 5}
    wrong |= {"privcy": {"key": "of-a-misspelt-section"}, "list": ["x"], "store": None}
    found = set(secrets_in(wrong, {"TOKEN": "from-the-environment"}))
    assert found >= {
        "from-the-environment", "plain-word", "key-from-its-file-0123", "in-the-address", "misspelt-one", "from-a-file",
        "of-a-misspelt-section",
    }  # fmt: skip
    assert not found & {"hospital", "legs", "pusher", "influxdb", "/nowhere", str(tmp_path / "key")}


@pytest.mark.parametrize("wrong", [None, [], "text", 5, {"influxdb": "token"}, {5: {None: "x"}}, {"token_file": "\0"}])
def test_what_is_no_section_has_no_secrets(wrong: Any) -> None:
    assert secrets_in(wrong) == []
    LogFilter().add_secrets_of_settings(wrong)
