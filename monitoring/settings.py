"""Each setting of the ``monitoring`` section, declared once: its type, limits, default, unit and meaning.

The validation, the JSON schema and ``docs/configuration.md`` all come from these declarations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

if TYPE_CHECKING:
    from monitoring.transport.tls import Trust


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


def _printable(value: str | None) -> str | None:
    if value is not None and not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


def _without_colon(value: str | None) -> str | None:
    if value is not None and ":" in value:
        raise ValueError("must not hold a colon: basic authentication ends the user's name there")
    return value


FilePath = Annotated[Path, BeforeValidator(_usable_path)]
Number = Annotated[float, BeforeValidator(_not_a_switch)]
Whole = Annotated[int, BeforeValidator(_not_a_switch)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), BeforeValidator(_not_a_switch)]
UserName = Annotated[str, AfterValidator(_printable), AfterValidator(_without_colon)]


class Section(BaseModel):
    """A part of the settings; ``null`` in it is what isn't set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strictest: ClassVar[Mapping[str, Any]] = {}
    """What a setting becomes whose value can't be used, where its default would tell more than was meant."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """``null`` means the same as leaving the setting out."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


def _shared_settings_last(schema: dict[str, Any]) -> None:
    for name in TlsSettings.model_fields:
        schema["properties"][name] = schema["properties"].pop(name)


class TlsSettings(Section):
    """How a backend's https:// address is trusted, and with which certificate it is asked."""

    model_config = ConfigDict(json_schema_extra=_shared_settings_last)

    ca_file: FilePath | None = Field(
        None, description="Certificates (PEM) of the authorities to trust, in place of the system's."
    )
    client_cert_file: FilePath | None = Field(
        None, description="Client certificate (PEM) for a backend that demands one; its key may be in the same file."
    )
    client_key_file: FilePath | None = Field(
        None, validate_default=True, description="The client certificate's private key (PEM, without a password)."
    )
    verify_tls: bool = Field(
        True,
        description="Whether the backend's certificate is checked. false is for test benches: anyone on the way can"
        " read the token.",
    )

    def trust(self) -> Trust:
        """The same for the transport, which knows no settings."""
        from monitoring.transport.tls import Trust

        return Trust(self.ca_file, self.client_cert_file, self.client_key_file, self.verify_tls)

    @field_validator("ca_file", "client_cert_file")
    @classmethod
    def _holds_certificates(cls, value: Path | None) -> Path | None:
        if value is not None:
            from monitoring.transport.tls import check_certificates  # TLS is loaded where it is used

            check_certificates(value)
        return value

    @field_validator("client_key_file")
    @classmethod
    def _is_the_certificates_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("client_cert_file")
        if certificate is not None:
            from monitoring.transport.tls import check_key_pair

            check_key_pair(certificate, value)
        elif value is not None and "client_cert_file" in info.data:
            raise ValueError("needs client_cert_file")
        return value

    @field_validator("verify_tls")
    @classmethod
    def _checks_against_the_given_authorities(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and info.data.get("ca_file") is not None:
            raise ValueError("must not be false beside ca_file: leave one of the two out")
        return value


class InfluxDBConfig(TlsSettings):
    """InfluxDB, or what speaks its line protocol over HTTP."""

    enabled: bool = Field(True, description="Whether this backend is used.")
    url: str = Field(description="Base address, e.g. http://influxdb:8086; a path prefix is kept.")
    token: SecretStr | None = Field(None, description='API token; "${NAME}" is read from the environment.')
    token_file: FilePath | None = Field(None, description="File that holds the token, e.g. a mounted secret.")
    org: str = Field("", description="Organisation (version 2).")
    bucket: str = Field("pediatric-leglength", min_length=1, description="Bucket (version 2) or database (1 and 3).")
    username: UserName | None = Field(None, description="User (version 1).")
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

    @field_validator("org", "bucket")
    @classmethod
    def _no_control_characters(cls, value: str | None) -> str | None:
        return _printable(value)

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        return _header_safe(value)

    @model_validator(mode="before")
    @classmethod
    def _token_from_its_file(cls, data: Any) -> Any:
        return _with_secret_from_file(data, "token", "token_file")


class PrometheusConfig(TlsSettings):
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
    username: UserName | None = Field(None, description="User for basic authentication.")
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

    @field_validator("job_name", "instance")
    @classmethod
    def _no_control_characters(cls, value: str | None) -> str | None:
        return _printable(value)

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


class MetricsConfig(Section):
    """What is collected."""

    collection_interval: Seconds = Field(10.0, description="Seconds between samples of the system during a session.")
    batch_size: Whole = Field(5000, ge=1, le=50_000, description="Lines that one request to InfluxDB carries at most.")
    include_system_metrics: bool = Field(True, description="CPU, memory, disk, GPU.")
    include_model_metrics: bool = Field(True, description="Per-model inference time, confidence and landmarks.")


class StoreConfig(Section):
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


class PrivacyConfig(Section):
    """How studies are named, and how little is kept. No setting writes an identifier in plain."""

    strictest: ClassVar[Mapping[str, Any]] = {"age": "none", "device": False, "patient_key": False}

    key: SecretStr | None = Field(
        None,
        description='The site\'s key for pseudonyms, 16 characters or more; "${NAME}" is read from the environment.',
    )
    key_file: FilePath | None = Field(
        None, description="File that holds the key; default: one made beside the store, once."
    )
    site: str | None = Field(
        None, min_length=1, max_length=64, description="The site's name, a label in both backends."
    )
    age: Literal["years", "band", "none"] = Field(
        "years", description="What is kept of the age: completed years and their band, the band alone, or nothing."
    )
    device: bool = Field(True, description="Whether manufacturer and model family are kept.")
    patient_key: bool = Field(True, description="Whether a patient's sessions can be linked, by a keyed hash.")

    @field_validator("site")
    @classmethod
    def _site_is_a_tag(cls, value: str | None) -> str | None:
        if value is not None and ("\\" in value or not value.strip()):
            raise ValueError("must hold text, and no backslash")
        return _printable(value.strip() if value else value)

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


class MonitoringConfig(Section):
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


def is_used(backend: Any) -> bool:
    """Whether a backend's section is there and switched on."""
    return backend is not None and backend.enabled


def site_label(config: MonitoringConfig) -> dict[str, str]:
    """The site's name as a label of everything that is sent, where the settings give one."""
    return {"site": config.privacy.site} if config.privacy.site else {}
