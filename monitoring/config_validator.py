"""The ``monitoring`` section of task.json: each setting declared once, checked, and explained by its path.

A problem never stops the host. A bad backend section switches that backend off and leaves the
other; a bad value elsewhere falls back to its default; an unknown key is a warning with a suggestion.
Each problem is one line that names the setting's path and never shows its value.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

SECTION_PATH = "process.settings.monitoring"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _not_a_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true/false")
    return value


def _usable_path(value: Any) -> Any:
    if isinstance(value, str) and not _is_usable_path(value):
        raise ValueError("must be a path")
    return value


def _is_usable_path(text: str) -> bool:
    """Whether the system can take it; an empty one would be the working folder."""
    try:
        return bool(text.strip()) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


FilePath = Annotated[Path, BeforeValidator(_usable_path)]
Number = Annotated[float, BeforeValidator(_not_a_switch)]
Whole = Annotated[int, BeforeValidator(_not_a_switch)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), BeforeValidator(_not_a_switch)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """``null`` means the same as leaving the setting out."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class InfluxDBConfig(_Section):
    """InfluxDB, or what speaks its line protocol over HTTP."""

    enabled: bool = Field(True, description="Whether this backend is used.")
    url: str = Field(description="Base address, e.g. http://influxdb:8086; a path prefix is kept.")
    token: SecretStr | None = Field(None, description='API token; "${NAME}" is read from the environment.')
    token_file: FilePath | None = Field(None, description="File that holds the token, e.g. a mounted secret.")
    org: str = Field("", description="Organisation (version 2).")
    bucket: str = Field("pediatric-leglength", min_length=1, description="Bucket (version 2) or database (1 and 3).")
    username: str | None = Field(None, description="User (version 1).")
    password: SecretStr | None = Field(
        None, description='Password (version 1); "${NAME}" is read from the environment.'
    )
    timeout: Seconds = Field(10.0, description="Seconds that one request may take in all.")
    api: Literal["v1", "v2", "v3"] = Field(
        "v2", description="Write API: v1 /write, v2 /api/v2/write, v3 /api/v3/write_lp."
    )

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        return _http_url(value)

    @field_validator("org", "bucket", "username")
    @classmethod
    def _no_control_characters(cls, value: str | None) -> str | None:
        return _printable(value)

    @field_validator("username")
    @classmethod
    def _user_fits_basic_authentication(cls, value: str | None) -> str | None:
        return _without_colon(value)

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        return _header_safe(value)

    @model_validator(mode="before")
    @classmethod
    def _token_from_its_file(cls, data: Any) -> Any:
        return _with_secret_from_file(data, "token", "token_file")


class PrometheusConfig(_Section):
    """A Pushgateway, a node_exporter textfile, or both."""

    enabled: bool = Field(True, description="Whether this backend is used.")
    gateway_url: str | None = Field(
        None, description="Pushgateway, e.g. http://pushgateway:9091; a path prefix is kept."
    )
    job_name: str = Field("pediatric-leglength", min_length=1, description="The group's job label.")
    instance: str | None = Field(
        None, min_length=1, max_length=128,
        description="The instance label, in InfluxDB too; default: one name kept in the store.",
    )  # fmt: skip
    timeout: Seconds = Field(10.0, description="Seconds that one push may take in all.")
    username: str | None = Field(None, description="User for basic authentication.")
    password: SecretStr | None = Field(None, description='Password; "${NAME}" is read from the environment.')
    textfile: FilePath | None = Field(None, description="A *.prom file for node_exporter's textfile collector.")

    @field_validator("gateway_url")
    @classmethod
    def _url_is_http(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value if "://" in value else f"http://{value}")

    @field_validator("instance")
    @classmethod
    def _is_a_tag(cls, value: str | None) -> str | None:
        if value is not None and "\\" in value:
            raise ValueError("must not hold a backslash")
        return value

    @field_validator("job_name", "instance", "username")
    @classmethod
    def _no_control_characters(cls, value: str | None) -> str | None:
        return _printable(value)

    @field_validator("username")
    @classmethod
    def _user_fits_basic_authentication(cls, value: str | None) -> str | None:
        return _without_colon(value)

    @field_validator("textfile")
    @classmethod
    def _named_prom(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".prom":
            raise ValueError("must end in .prom, or node_exporter doesn't read it")
        return value

    @model_validator(mode="after")
    def _has_a_target(self) -> PrometheusConfig:
        if self.gateway_url is None and self.textfile is None:
            raise ValueError("needs gateway_url or textfile")
        return self


class MetricsConfig(_Section):
    """What is collected."""

    collection_interval: Seconds = Field(10.0, description="Seconds between samples of the system during a session.")
    batch_size: Whole = Field(5000, ge=1, le=50_000, description="Lines that one request to InfluxDB carries at most.")
    include_system_metrics: bool = Field(True, description="CPU, memory, disk, GPU.")
    include_model_metrics: bool = Field(True, description="Per-model inference time, confidence and landmarks.")


class StoreConfig(_Section):
    """Where sessions are kept."""

    path: FilePath | None = Field(
        None,
        description="Folder (or a *.db file); default $MONITORING_DATA_PATH, then $MODULE_PERSISTENCE_DIR,"
        " then the user's state folder.",
    )
    max_size_mb: Whole = Field(512, ge=1, description="Megabytes that the store may take.")
    retention_days: Number = Field(
        365.0, gt=0, le=36_500, allow_inf_nan=False, description="Days that sessions are kept."
    )
    min_free_mb: Whole = Field(100, ge=0, description="Megabytes that the store leaves free on its volume.")


class PrivacyConfig(_Section):
    """How studies are named. No setting writes an identifier in plain."""

    key: SecretStr | None = Field(
        None,
        description='The site\'s key for pseudonyms, 16 characters or more; "${NAME}" is read from the environment.',
    )
    key_file: FilePath | None = Field(
        None, description="File that holds the key; default: one made beside the store, once."
    )

    @field_validator("key")
    @classmethod
    def _key_is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 16:
            raise ValueError("must have 16 characters or more")
        return value

    @model_validator(mode="before")
    @classmethod
    def _key_from_its_file(cls, data: Any) -> Any:
        return _with_secret_from_file(data, "key", "key_file")


class MonitoringConfig(_Section):
    """The ``monitoring`` section of task.json's ``process.settings``."""

    enabled: bool = Field(False, description="Whether anything is recorded at all.")
    influxdb: InfluxDBConfig | None = Field(None, description="Where each session's points go.")
    prometheus: PrometheusConfig | None = Field(None, description="Where the running totals go.")
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, description="What is collected.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Where sessions are kept.")
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig, description="How studies are named.")
    shutdown_timeout: Number = Field(
        5.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="Seconds that the exit waits at most, for all backends together.",
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings: where, what, and what it means."""

    path: str
    message: str
    effect: str = ""
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" ({self.effect})" if self.effect else "")


@dataclass(frozen=True, slots=True)
class Checked:
    """The settings that can be used, and what was wrong with the others."""

    config: MonitoringConfig
    problems: tuple[Problem, ...] = ()


_BACKENDS = ("influxdb", "prometheus")


def check_section(section: Any, environment: Mapping[str, str] | None = None) -> Checked:
    """Validate the ``monitoring`` section; never raises for what a user wrote."""
    if not isinstance(section, Mapping):
        return Checked(
            MonitoringConfig(),
            (Problem(SECTION_PATH, f"must be an object, not {_kind(section)}", "monitoring is off"),),
        )
    problems: list[Problem] = []
    usable: dict[str, Any] = {}
    for key, value in section.items():
        if key not in MonitoringConfig.model_fields:
            problems.append(_unknown(SECTION_PATH, key, MonitoringConfig))
        elif value is not None:
            found = _check_setting(key, value, os.environ if environment is None else environment)
            problems += found.problems
            if found.value is not _UNUSABLE:
                usable[key] = found.value
    return Checked(MonitoringConfig(**usable), tuple(problems))


_UNUSABLE = object()


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any
    problems: list[Problem]


def _check_setting(key: str, value: Any, environment: Mapping[str, str]) -> _Found:
    path = f"{SECTION_PATH}.{key}"
    problems: list[Problem] = []
    section = _section_class(key)
    if section is not None and isinstance(value, Mapping):
        value, problems = _known_keys(path, value, section)
        if key in _BACKENDS and _is_off(value):
            return _Found(_UNUSABLE, problems)  # what else it says needs not be right
    value, errors = _expanded(path, value, environment)
    if not errors:
        usable, errors = _validated(key, value)
        if not errors:
            return _Found(usable, problems)
    problems += [replace(error, effect=_effect(key)) for error in errors]
    if section is None or key in _BACKENDS or not isinstance(value, Mapping):
        return _Found(_UNUSABLE, problems)
    bad = {error.path.removeprefix(f"{path}.").partition(".")[0] for error in errors}
    usable, still_wrong = _validated(key, {name: item for name, item in value.items() if name not in bad})
    return _Found(_UNUSABLE if still_wrong else usable, problems)


def _is_off(backend: Mapping[str, Any]) -> bool:
    enabled = backend.get("enabled")
    return enabled is False or str(enabled).strip().lower() in ("false", "0", "no", "off")


def _validated(key: str, value: Any) -> tuple[Any, list[Problem]]:
    """The setting in its own type, or what is wrong with it."""
    try:
        return getattr(MonitoringConfig(**{key: value}), key), []
    except ValidationError as error:
        return _UNUSABLE, [_problem(details) for details in error.errors(include_input=False, include_url=False)]


def _problem(details: Any) -> Problem:
    path = ".".join([SECTION_PATH, *map(str, details["loc"])])
    message = _MESSAGES.get(details["type"]) or str(details["msg"]).removeprefix("Value error, ")
    return Problem(path, message[:1].lower() + message[1:])


# pydantic's own words, where they would puzzle a reader of JSON.
_MESSAGES = {
    "model_type": "must be an object",
    "missing": "is missing",
    "string_type": "must be text",
    "path_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
}


def _effect(key: str) -> str:
    if key in _BACKENDS:
        return "this backend is off"
    return "monitoring is off" if key == "enabled" else "the default is used"


def _section_class(key: str) -> type[_Section] | None:
    sections: dict[str, type[_Section]] = {
        "influxdb": InfluxDBConfig,
        "prometheus": PrometheusConfig,
        "metrics": MetricsConfig,
        "store": StoreConfig,
        "privacy": PrivacyConfig,
    }
    return sections.get(key)


def _known_keys(path: str, section: Mapping[Any, Any], model: type[_Section]) -> tuple[dict[str, Any], list[Problem]]:
    known = {str(key): value for key, value in section.items() if key in model.model_fields}
    unknown = [_unknown(path, key, model) for key in section if key not in model.model_fields]
    return known, unknown


def _unknown(path: str, key: Any, model: type[_Section]) -> Problem:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "?", str(key))[:60]  # one line, whatever it is
    close = difflib.get_close_matches(name.lower(), model.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(model.model_fields)}"
    return Problem(f"{path}.{name}", f"unknown setting; {hint}", "ignored", is_error=False)


def _expanded(path: str, value: Any, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """Replace ``${NAME}`` in texts by the environment's value."""
    if isinstance(value, Mapping):
        pairs = {key: _expanded(f"{path}.{key}", item, environment) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, [p for _, problems in pairs.values() for p in problems]
    if not isinstance(value, str):
        return value, []
    absent = [name for name in _VARIABLE.findall(value) if name not in environment]
    if absent:
        return value, [Problem(path, f"the environment variable {absent[0]} is not set")]
    return _VARIABLE.sub(lambda found: environment[found[1]], value), []


def _http_url(value: str) -> str:
    """An http(s) address without credentials, query or fragment."""
    try:
        parts = urlsplit(value.strip())
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        raise ValueError("is not a valid address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address that begins with http:// or https://")
    if parts.username or parts.password:
        raise ValueError("must not hold credentials; use username, password or token")
    if parts.query or parts.fragment or not port_ok or not re.fullmatch(r"[!-~]+", value.strip()):
        raise ValueError("must be a plain address without query or fragment")
    return value.strip().rstrip("/")


def _printable(value: str | None) -> str | None:
    if value is not None and not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


def _without_colon(value: str | None) -> str | None:
    if value is not None and ":" in value:
        raise ValueError("must not hold a colon: basic authentication ends the user's name there")
    return value


def _header_safe(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value() if value is not None else "x"
    if not text:
        raise ValueError("must not be empty")
    if not (text.isprintable() and text.isascii()):
        raise ValueError("must hold printable ASCII characters only")
    return value


def _with_secret_from_file(section: Any, name: str, file_setting: str) -> Any:
    """The section with the secret that its file holds, where it has the file and not the secret itself."""
    path = section.get(file_setting) if isinstance(section, dict) and section.get(name) is None else None
    if not (isinstance(path, Path) or (isinstance(path, str) and _is_usable_path(path))):
        return section
    return {**section, name: _secret_from_file(file_setting, Path(path))}


def _secret_from_file(setting: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError(f"{setting} can't be read: not a file")
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{setting} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{setting} can't be read: not text") from None
    if not secret:
        raise ValueError(f"{setting} is empty")
    return secret


def _kind(value: Any) -> str:
    return {
        type(None): "null", bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list",
    }.get(type(value), type(value).__name__)  # fmt: skip
