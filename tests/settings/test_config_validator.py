"""Settings as users write them: what is right is taken, what is wrong is one clear line, and nothing raises."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.config_validator import SECTION_PATH, check_section
from monitoring.privacy import secret_values
from monitoring.settings import (
    InfluxDBConfig,
    MetricsConfig,
    MonitoringConfig,
    PrivacyConfig,
    PrometheusConfig,
    StoreConfig,
    json_schema,
)
from tests.support import REPOSITORY
from tests.support.cases import for_each
from tests.support.checked_settings import checked, in_section, the_problem

SECRET = "s3cr3t-t0k3n-0123456789"
INFLUXDB = {"url": "http://influxdb:8086", "token": SECRET, "org": "hospital", "bucket": "leglength", "timeout": 10}
PROMETHEUS = {"gateway_url": "http://pushgateway:9091", "job_name": "leglength", "instance": "ward3", "timeout": 10}
METRICS = {"collection_interval": 10, "batch_size": 100, "include_system_metrics": True, "include_model_metrics": True}
BOTH = {"enabled": True, "influxdb": INFLUXDB, "prometheus": PROMETHEUS, "metrics": METRICS}

SECTIONS: dict[str, Any] = {
    "influxdb": InfluxDBConfig,
    "prometheus": PrometheusConfig,
    "metrics": MetricsConfig,
    "store": StoreConfig,
    "privacy": PrivacyConfig,
}
EFFECTS = {"this backend is off", "the default is used", "the strictest choice is used", "ignored"}
SETTINGS = [(section, name) for section, model in SECTIONS.items() for name in model.__struct_fields__]


# --- what users have ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "enabled", "backends"),
    [
        (BOTH, True, {"influxdb", "prometheus"}),
        ({"enabled": False}, False, set()),
        ({"enabled": True}, True, set()),
        ({"enabled": True, "influxdb": INFLUXDB}, True, {"influxdb"}),
        ({"enabled": True, "prometheus": PROMETHEUS}, True, {"prometheus"}),
        ({}, False, set()),
        ({"enabled": True, "influxdb": None, "prometheus": None, "metrics": None, "store": None}, True, set()),
        ({**BOTH, "enabled": "false"}, False, {"influxdb", "prometheus"}),
        ({**BOTH, "enabled": "true"}, True, {"influxdb", "prometheus"}),
    ],
)
def test_the_usual_settings_are_taken_without_a_word(section: Any, enabled: bool, backends: set[str]) -> None:
    found = checked(section)
    assert found.problems == ()
    assert found.config.enabled is enabled
    assert {name for name in ("influxdb", "prometheus") if getattr(found.config, name)} == backends


def test_both_backends_are_taken_over_in_full() -> None:
    config = checked(BOTH).config
    assert config.influxdb is not None
    assert config.prometheus is not None
    assert config.influxdb.token is not None
    assert config.influxdb.token.get_secret_value() == SECRET
    assert (config.influxdb.org, config.influxdb.bucket, config.influxdb.timeout) == ("hospital", "leglength", 10.0)
    assert (config.prometheus.gateway_url, config.prometheus.job_name) == ("http://pushgateway:9091", "leglength")
    assert config.metrics.batch_size == 100
    assert config.shutdown_timeout == 5.0


def test_null_means_the_same_as_leaving_out() -> None:
    assert in_section("influxdb", timeout=None, org=None, token=None).config == in_section("influxdb").config


def test_numbers_and_switches_may_be_text() -> None:
    found = checked({"enabled": "yes", "influxdb": {**INFLUXDB, "timeout": "2.5"}, "metrics": {"batch_size": "50"}})
    assert found.problems == ()
    assert found.config.influxdb is not None
    assert found.config.influxdb.timeout == 2.5
    assert found.config.metrics.batch_size == 50


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [None, [], "yes", 5, True, math.nan, object()])
def test_a_section_that_is_no_object_switches_monitoring_off(section: Any) -> None:
    found = checked(section)
    assert found.config == MonitoringConfig()
    assert the_problem(found).startswith(f"{SECTION_PATH}: must be an object, not ")


WRONG: list[Any] = [
    {"nested": SECRET},
    [SECRET],
    [],
    {},
    math.nan,
    math.inf,
    -1,
    10**400,
    True,
    5,
    1.5,
    "",
    SECRET,
    f"{SECRET}\nsecond line",
    "\ud800",
    "x\0y",
    object(),
    b"bytes",
    ("tuple",),
    {1: 2},
]


@for_each("setting_and_value", itertools.product(SETTINGS, WRONG), named=repr)
def test_any_setting_may_have_any_type(setting_and_value: tuple[tuple[str, str], Any]) -> None:
    (section, name), value = setting_and_value
    found = in_section(section, **{name: value})
    assert found.config.enabled
    errors = [problem for problem in found.problems if problem.is_error]
    for problem in found.problems:
        text = str(problem)
        assert text.startswith(f"{SECTION_PATH}.{section}")
        assert SECRET not in text
        assert "\n" not in text
        assert text.isprintable()
        assert problem.effect in EFFECTS or not problem.is_error
    assert len(errors) <= 1
    if errors and section in ("influxdb", "prometheus"):
        assert getattr(found.config, section) is None
    elif errors:
        (default,) = [field.default for field in msgspec.structs.fields(SECTIONS[section]) if field.name == name]
        assert getattr(getattr(found.config, section), name) == SECTIONS[section].strictest.get(name, default)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("influxdb", "timeout", 0),
        ("influxdb", "timeout", "soon"),
        ("influxdb", "timeout", True),
        ("influxdb", "timeout", math.inf),
        ("influxdb", "url", 5),
        ("influxdb", "api", "v4"),
        ("influxdb", "bucket", ""),
        ("influxdb", "org", "a\nb"),
        ("influxdb", "token", ""),
        ("influxdb", "token", "a\nb"),
        ("influxdb", "token", "täst"),
        ("influxdb", "token", 5),
        ("influxdb", "username", "a:b"),
        ("influxdb", "token_file", "/nowhere/token"),
        ("influxdb", "token_file", "/"),
        ("influxdb", "enabled", "perhaps"),
        ("prometheus", "instance", "a\\b"),
        ("prometheus", "instance", "x" * 129),
        ("prometheus", "instance", ""),
        ("prometheus", "job_name", ""),
        ("prometheus", "textfile", "metrics.txt"),
        ("prometheus", "username", "a:b"),
        ("metrics", "batch_size", 0),
        ("metrics", "batch_size", 1.5),
        ("metrics", "batch_size", True),
        ("metrics", "collection_interval", "10 s"),
        ("store", "max_size_mb", 0),
        ("store", "max_size_mb", "big"),
        ("store", "retention_days", 0),
        ("store", "retention_days", math.nan),
        ("store", "path", 5),
        ("store", "path", ""),
        ("store", "path", "a\0b"),
        ("store", "path", "\ud800"),
        ("prometheus", "textfile", "a\0.prom"),
        ("privacy", "key", "short"),
        ("privacy", "key_file", "/nowhere/key"),
        ("metrics", "include_system_metrics", "perhaps"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_setting(section: str, name: str, value: Any) -> None:
    text = the_problem(in_section(section, **{name: value}))
    assert text.startswith(f"{SECTION_PATH}.{section}")
    assert name in text
    assert text.isprintable()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [5, "text", [], True])
def test_a_section_of_the_wrong_type_is_named(section: str, value: Any) -> None:
    text = the_problem(checked({"enabled": True, section: value}))
    assert text.startswith(f"{SECTION_PATH}.{section}: must be an object")


@pytest.mark.parametrize("value", [-1, "soon", True, math.nan, [], {}, 601])
def test_a_wrong_shutdown_timeout_is_the_default(value: Any) -> None:
    found = checked({"enabled": True, "shutdown_timeout": value})
    assert found.config.shutdown_timeout == 5.0
    assert the_problem(found).startswith(f"{SECTION_PATH}.shutdown_timeout: ")


@pytest.mark.parametrize("value", ["perhaps", [], {}, 2, 0.5])
def test_a_switch_that_is_neither_on_nor_off_is_off(value: Any) -> None:
    found = checked({"enabled": value})
    assert not found.config.enabled
    assert the_problem(found).endswith("(monitoring is off)")


def test_one_bad_backend_leaves_the_other_on() -> None:
    found = checked({**BOTH, "influxdb": {**INFLUXDB, "url": "influxdb:8086"}})
    assert found.config.influxdb is None
    assert found.config.prometheus is not None
    assert "this backend is off" in the_problem(found)


def test_one_bad_value_costs_the_values_beside_it_nothing(tmp_path: Path) -> None:
    found = in_section("store", path=str(tmp_path), max_size_mb="big", retention_days=30)
    assert (found.config.store.path, found.config.store.retention_days) == (tmp_path, 30.0)
    assert found.config.store.max_size_mb == StoreConfig().max_size_mb
    assert "max_size_mb" in the_problem(found)


def test_a_backend_that_is_switched_off_need_not_be_complete() -> None:
    found = checked({"enabled": True, "influxdb": {"enabled": False}, "prometheus": {"enabled": "no", "timeout": "?"}})
    assert found.problems == ()
    assert (found.config.influxdb, found.config.prometheus) == (None, None)


def test_a_backend_without_an_address_says_so() -> None:
    assert the_problem(checked({"enabled": True, "influxdb": {}})).startswith(
        f"{SECTION_PATH}.influxdb.url: is missing"
    )
    assert "needs gateway_url or textfile" in the_problem(checked({"enabled": True, "prometheus": {}}))


@pytest.mark.parametrize(
    ("section", "key", "suggestion"),
    [
        ({"influxdb": {**INFLUXDB, "tokn": SECRET}}, "influxdb.tokn", "token"),
        ({"prometheus": {**PROMETHEUS, "Gateway_URL": "x"}}, "prometheus.Gateway_URL", "gateway_url"),
        ({"metrics": {"batchsize": 5}}, "metrics.batchsize", "batch_size"),
    ],
)
def test_an_unknown_key_is_a_warning_with_a_suggestion(section: dict[str, Any], key: str, suggestion: str) -> None:
    found = checked({"enabled": True, **section})
    assert the_problem(found) == f"{SECTION_PATH}.{key}: unknown setting; did you mean {suggestion}? (ignored)"
    assert not found.problems[0].is_error
    assert SECRET not in str(found.problems)


@pytest.mark.parametrize(
    ("key", "section", "hint"),
    [
        ("promethues", PROMETHEUS, "did you mean prometheus?"),
        ("influx", INFLUXDB, "did you mean influxdb?"),
        ("pushgateway", PROMETHEUS, "known: enabled, "),
        ("victoria", INFLUXDB, "known: enabled, "),
    ],
)
def test_a_backend_under_another_name_is_an_error_since_it_is_not_used(
    key: str, section: dict[str, Any], hint: str
) -> None:
    found = checked({"enabled": True, key: section})
    assert the_problem(found).startswith(f"{SECTION_PATH}.{key}: unknown setting; {hint}")
    assert the_problem(found).endswith("(this backend is off)")
    assert found.problems[0].is_error
    assert found.off_by_mistake == (key,)
    assert checked({"enabled": True, key: {**section, "enabled": False}}).off_by_mistake == ()


def test_what_is_off_is_told_from_what_is_wrong() -> None:
    found = checked({"enabled": True, "influxdb": {**INFLUXDB, "enabled": "no"}, "prometheus": {"gateway_url": 7}})
    assert (found.switched_off, found.off_by_mistake) == (("influxdb",), ("prometheus",))


@pytest.mark.parametrize("key", ["a\nb", "x" * 500, "", "é\0", 5, None, ("a", 1), "[red]", math.nan])
def test_an_unknown_key_of_any_kind_is_one_short_line(key: Any) -> None:
    for found in (checked({key: 1}), in_section("influxdb"), checked({"influxdb": {**INFLUXDB, key: 1}})):
        for problem in found.problems:
            assert str(problem).isprintable()
            assert len(str(problem)) < 400


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("http://pushgateway:9091", "http://pushgateway:9091"),
        ("pushgateway:9091", "http://pushgateway:9091"),
        ("pushgateway", "http://pushgateway"),
        ("10.0.0.5:9091/push/", "http://10.0.0.5:9091/push"),
        ("https://metrics.example.org/push/gateway/", "https://metrics.example.org/push/gateway"),
        (" http://[::1]:9091 ", "http://[::1]:9091"),
        ("HTTP://pushgateway:9091", "HTTP://pushgateway:9091"),
    ],
)
def test_a_gateways_address_may_lack_a_scheme_and_have_a_prefix(given_url: str, kept: str) -> None:
    found = in_section("prometheus", gateway_url=given_url)
    assert found.problems == ()
    assert found.config.prometheus is not None
    assert found.config.prometheus.gateway_url == kept


BAD_URLS = [
    "",
    "influxdb:8086",
    "ftp://influxdb",
    "http://",
    "http:///write",
    "http://host:99999",
    "http://host:port",
    "http://[::1",
    "http://ho st",
    "http://ho\nst",
    "http://host/a\0b",
    "http://host?db=x",
    "http://host#x",
    "http://müller:8086",
    "//host",
    "/write",
    "http://user:pw@host",
    f"http://{SECRET}@host",
    f"http://:{SECRET}@host",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_cant_work_is_refused_without_being_shown(url: str) -> None:
    text = the_problem(in_section("influxdb", url=url))
    assert text.startswith(f"{SECTION_PATH}.influxdb.url: ")
    assert SECRET not in text
    assert text.isprintable()


def test_credentials_in_an_address_are_refused_and_never_shown() -> None:
    found = in_section("prometheus", gateway_url=f"http://pusher:{SECRET}@pushgateway:9091")
    assert "must not hold credentials" in the_problem(found)
    assert SECRET not in repr(found)


# --- secrets ------------------------------------------------------------------------------------


def test_a_secret_is_read_from_the_environment() -> None:
    section = {"enabled": True, "influxdb": {**INFLUXDB, "token": "${INFLUX_TOKEN}"}}
    config = checked(section, INFLUX_TOKEN=SECRET).config
    assert config.influxdb is not None
    assert config.influxdb.token is not None
    assert config.influxdb.token.get_secret_value() == SECRET


def test_any_text_may_come_from_the_environment() -> None:
    section = {"enabled": "${ON}", "influxdb": {"url": "http://${HOST}:${PORT}", "org": "o", "timeout": "${SECONDS}"}}
    found = checked(section, ON="true", HOST="influxdb", PORT="8086", SECONDS="3")
    assert found.problems == ()
    assert found.config.influxdb is not None
    assert (found.config.influxdb.url, found.config.influxdb.timeout) == ("http://influxdb:8086", 3.0)


def test_the_environment_of_the_process_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGLENGTH_TEST_URL", "http://influxdb:8086")
    config = check_section({"influxdb": {"url": "${LEGLENGTH_TEST_URL}"}}).config
    assert config.influxdb is not None
    assert config.influxdb.url == "http://influxdb:8086"


def test_a_variable_that_is_not_set_is_named() -> None:
    found = checked({"enabled": True, "influxdb": {**INFLUXDB, "token": "${INFLUX_TOKEN}"}})
    assert the_problem(found) == (
        f"{SECTION_PATH}.influxdb.token: the environment variable INFLUX_TOKEN is not set (this backend is off)"
    )


def test_a_variables_value_is_not_expanded_again() -> None:
    section = {"enabled": True, "influxdb": {**INFLUXDB, "token": "${A}"}}
    config = checked(section, A="${B}", B="x").config
    assert config.influxdb is not None
    assert config.influxdb.token is not None
    assert config.influxdb.token.get_secret_value() == "${B}"


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"  {SECRET}\n")
    config = in_section("influxdb", token_file=str(tmp_path / "token")).config
    assert config.influxdb is not None
    assert config.influxdb.token is not None
    assert config.influxdb.token.get_secret_value() == SECRET


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", "tökn".encode(), b"\xff\xfe"])
def test_a_token_file_that_holds_no_token_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    assert "influxdb" in the_problem(in_section("influxdb", token_file=str(tmp_path / "token")))


def test_a_pipe_in_place_of_a_token_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in the_problem(in_section("influxdb", token_file=str(tmp_path / "pipe")))
    assert "not a file" in the_problem(in_section("privacy", key_file=str(tmp_path / "pipe")))


ENDLESS = [("/dev/zero", "not a file"), ("/dev/tty", ""), ("endless", "larger than")]


@pytest.mark.parametrize(("target", "words"), ENDLESS)
@pytest.mark.parametrize(
    ("section", "setting"), [("influxdb", "token_file"), ("privacy", "key_file"), ("prometheus", "ca_file")]
)
def test_a_link_to_an_endless_file_is_not_read(
    tmp_path: Path, section: str, setting: str, target: str, words: str
) -> None:
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    (tmp_path / "link").symlink_to(tmp_path / target)
    problem = the_problem(in_section(section, **{setting: str(tmp_path / "link")}))
    assert f"{section}.{setting}: can't be read: {words}" in problem
    assert secret_values.secrets_in({section: {"token_file": str(tmp_path / "link")}}) == []


def nested(levels: int, kind: type = dict) -> Any:
    found: Any = "x"
    for _ in range(levels):
        found = {"url": found} if kind is dict else [found]
    return found


def holds_itself() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found.update(url=found, enabled=found)
    return found


@pytest.mark.parametrize("deep", [nested(990), nested(5000), nested(990, list), holds_itself()])
@pytest.mark.parametrize("name", ["influxdb", "privacy", "shutdown_timeout", "enabled", "elsewhere"])
def test_what_is_nested_too_deeply_is_one_problem_even_where_all_is_off(name: str, deep: Any) -> None:
    assert len(check_section({"enabled": False, name: deep}).problems) == 1
    assert check_section({"enabled": True, "influxdb": {"enabled": deep, "url": "http://h"}}).problems


def test_a_number_of_thousands_of_digits_is_a_problem() -> None:
    checked = check_section({"enabled": 10**5000, "influxdb": {"enabled": 10**5000, "url": "http://h"}})
    assert len(checked.problems) == 2


@pytest.mark.parametrize("password", ["\ud800", "x\udcff"])
@pytest.mark.parametrize("backend", ["influxdb", "prometheus"])
def test_half_a_pair_as_password_is_a_problem(backend: str, password: str) -> None:
    assert "password: must be text" in the_problem(in_section(backend, username="u", password=password))


@pytest.mark.parametrize("value", [".", ".."])
@pytest.mark.parametrize(
    ("section", "setting"), [("prometheus", "job_name"), ("prometheus", "instance"), ("privacy", "site")]
)
def test_no_part_of_a_groups_address_leads_to_another_group(section: str, setting: str, value: str) -> None:
    assert 'must not be "." or ".."' in the_problem(in_section(section, **{setting: value}))
    assert check_section({"enabled": True, "application": value}).problems != ()


def test_a_key_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    config = in_section("privacy", key_file=str(tmp_path / "key")).config
    assert config.privacy.key is not None
    assert config.privacy.key.get_secret_value() == SECRET


def test_a_password_may_hold_any_character() -> None:
    found = in_section("prometheus", username="pusher", password="päß: wörd")
    assert found.problems == ()


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    for section in (
        {
            "influxdb": {**INFLUXDB, "password": SECRET, "username": "u"},
            "prometheus": {**PROMETHEUS, "password": SECRET},
        },
        {"privacy": {"key": SECRET}},
        {
            "influxdb": {"url": "http://h", "org": "o", "token_file": str(tmp_path / "token")},
            "privacy": {"key_file": str(tmp_path / "token")},
        },
    ):
        found = checked({"enabled": True, **section})
        assert found.problems == ()
        shown = [repr(found), str(found), repr(found.config), str(found.config)]
        shown += [repr(msgspec.structs.asdict(found.config)), str(msgspec.to_builtins(found.config, enc_hook=str))]
        shown += [repr(getattr(found.config, name)) for name in SECTIONS]
        assert not [text for text in shown if SECRET in text]
    assert SECRET not in json.dumps(json_schema())


# --- the schema ---------------------------------------------------------------------------------


def test_the_schema_describes_every_setting() -> None:
    schema = json_schema()
    for definition in (schema, *schema["$defs"].values()):
        assert definition["description"]
        for name, setting in definition["properties"].items():
            assert "$ref" in str(setting) or setting["description"], name


@pytest.mark.parametrize(
    "section", [BOTH, {"enabled": True}, {"enabled": False, "influxdb": None}, {"store": {"path": "/d"}}]
)
def test_the_schema_accepts_what_the_module_accepts(section: Any) -> None:
    jsonschema.validate(section, json_schema())


@pytest.mark.parametrize(
    "section",
    [
        {"enabled": []},
        {"influxdb": {}},
        {"unheard_of": 1},
        {"metrics": {"batch_size": 0}},
        {"influxdb": {"url": "http://h", "timeout": 0}},
    ],
)
def test_the_schema_refuses_what_the_module_refuses(section: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(section, json_schema())


def test_the_examples_are_right_by_the_schema_and_by_the_module() -> None:
    schema = json_schema()
    for path in sorted([*REPOSITORY.glob("*.example"), *REPOSITORY.glob("examples/**/*.json*")]):
        task = json.loads(path.read_text())
        section = task.get("process", {}).get("settings", {}).get("monitoring")
        if section is not None:
            jsonschema.validate(section, schema)
            variables = dict.fromkeys(("INFLUX_TOKEN", "INFLUXDB_TOKEN", "INFLUXDB_URL"), "http://x")
            problems = [
                problem for problem in check_section(section, variables).problems if "environment" not in str(problem)
            ]
            assert problems == [], path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMED = st.dictionaries(st.sampled_from([name for _, name in SETTINGS]) | st.text(max_size=4), JSON, max_size=4)


@given(
    st.dictionaries(st.sampled_from(MonitoringConfig.__struct_fields__) | st.text(max_size=4), JSON | NAMED, max_size=5)
)
def test_no_settings_raise(section: dict[str, Any]) -> None:
    found = checked(section)
    for problem in found.problems:
        assert str(problem).startswith(SECTION_PATH)
        assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("section", "name", "value", "cause"),
    [
        ("influxdb", "timeout", 0, "must be over 0 and up to 3600"),
        ("influxdb", "api", "v4", 'must be "v1" or "v2" or "v3"'),
        ("influxdb", "bucket", "", "must be text of 1 or more characters"),
        ("influxdb", "token_file", "/nowhere/token", "can't be read: No such file or directory"),
        ("metrics", "batch_size", 50_001, "must be 1 to 50000"),
        ("store", "min_free_mb", -1, "must be 0 or more"),
        ("privacy", "site", "x" * 65, "must be text of 1 to 64 characters"),
    ],
)
def test_a_limit_is_told_in_the_words_of_the_documentation(section: str, name: str, value: Any, cause: str) -> None:
    assert the_problem(in_section(section, **{name: value})).startswith(f"{SECTION_PATH}.{section}.{name}: {cause} (")


def test_the_analysis_takes_rates_by_the_name_of_their_event():
    checked = check_section({"enabled": True, "analytics": {"accepted_rates": {"failed": "0.02"}, "custom": ["dose"]}})
    assert not checked.problems
    assert checked.config.analytics.accepted("failed") == 0.02
    assert checked.config.analytics.accepted("crashed") == 0.01
    for wrong in ({"faild": 0.1}, {"failed": 0.5}, {"failed": 0}, {"failed": True}, [0.1]):
        checked = check_section({"enabled": True, "analytics": {"accepted_rates": wrong}})
        [problem] = checked.problems
        assert problem.path.endswith("analytics.accepted_rates")
        assert checked.config.analytics.accepted("failed") == 0.05
