"""Each setting of the ``monitoring`` section, declared once: its type, limits, default, unit and meaning.

The validation, the JSON schema and ``docs/configuration.md`` all come from these declarations: a field's annotation
holds msgspec's ``Meta`` (limits and meaning) and the functions that its value must pass. A section that is constructed
takes its values as they are; it is :mod:`monitoring.config_validator` that holds a user's to the declarations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

if TYPE_CHECKING:
    from monitoring.transport.tls import Trust


# Not a str: what formats or logs it would show it.
class Secret:
    """A text that is not shown where what holds it is printed."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


# What a value must pass beside its type and limits. Each of these returns it as it is to be used, or raises ValueError
# with what is wrong; the value itself is in no message.


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


def _group_name(value: str) -> str:
    if value in (".", ".."):  # parts of the Pushgateway's address, where they mean another group's
        raise ValueError('must not be "." or ".."')
    return _printable(value)


def _user_name(value: str) -> str:
    if ":" in value:
        raise ValueError("must not hold a colon: basic authentication ends the user's name there")
    return _printable(value)


# A tag whose value ends in a backslash swallows what comes after it in a line.


def _instance_name(value: str) -> str:
    if "\\" in value:
        raise ValueError("must not hold a backslash")
    return _group_name(value)


def _site_name(value: str) -> str:
    if "\\" in value or not value.strip():
        raise ValueError("must hold text, and no backslash")
    return _group_name(value.strip())


def _application_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", value):
        raise ValueError("must hold letters, digits and _ . - only, and begin with a letter or a digit")
    return value


def _version(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,47}", value):
        raise ValueError("must be a version such as 2.1.0, 1.4.0-rc1 or a commit's hash")
    return value


def _header_text(value: Secret) -> Secret:
    text = value.get_secret_value()  # http.client would refuse it too, and quote it
    if not text:
        raise ValueError("must not be empty")
    if not (text.isprintable() and text.isascii()):
        raise ValueError("must hold printable ASCII characters only")
    return value


def _long_enough(value: Secret) -> Secret:
    if len(value.get_secret_value()) < 16:  # short enough to be found by trying, and with it every identifier
        raise ValueError("must have 16 characters or more")
    return value


def _prom_file(value: Path) -> Path:
    if value.suffix != ".prom":
        raise ValueError("must end in .prom, or node_exporter doesn't read it")
    return value


def _certificates(value: Path) -> Path:
    from monitoring.transport.tls import check_certificates  # TLS is loaded where it is used

    check_certificates(value)
    return value


def _http_url(value: str) -> str:
    """An http(s) address without credentials, query or fragment."""
    try:
        parts = urlsplit(value.strip())
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        raise ValueError("is not a valid address") from None
    # Each has words of its own: "invalid URL" would send people to look for the wrong thing.
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address that begins with http:// or https://")
    if parts.username or parts.password:  # addresses are shown, by check and in the log
        raise ValueError("must not hold credentials; use username, password or token")
    if parts.query or parts.fragment or not port_ok or not re.fullmatch(r"[!-~]+", value.strip()):
        raise ValueError("must be a plain address without query or fragment")
    return value.strip().rstrip("/")


def _gateway_url(value: str) -> str:
    return _http_url(value if "://" in value else f"http://{value}")


# An hour at most: a lease lasts as long as a request may, and is believed for that long and no longer.
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Name = Annotated[str, Meta(min_length=1)]
Names = tuple[str, ...]
Rates = dict[str, float]

ACCEPTED_RATES: Mapping[str, float] = {
    "failed": 0.05, "crashed": 0.01, "skipped_input": 0.10, "skipped_not_measurable": 0.05, "skipped_otherwise": 0.02,
    "landmark_missed": 0.05, "reader_error_over_5_mm": 0.4, "reader_error_over_10_mm": 0.05,
}  # fmt: skip
"""The series of events, and the share of each that is accepted where the settings don't say: what is watched for is
more. They are a start, and for the people who use the application to set."""
LARGEST_ACCEPTED = 0.4  # twice as much must still be told apart from always


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the settings; ``null`` in it is what isn't set."""

    strictest: ClassVar[Mapping[str, Any]] = {}
    """What a setting becomes whose value can't be used, where its default would tell more than was meant."""

    secret_file: ClassVar[tuple[str, str] | None] = None
    """A secret, and the setting that names the file which holds it where the secret itself isn't set."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """What is wrong although each setting is right for itself: the setting ("" is the section), and the cause."""
        yield from ()

    def cautions(self) -> Iterator[tuple[str, str]]:
        """What is allowed, and is said at each start lest it be forgotten: the setting, and the danger."""
        yield from ()


class TlsSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a backend's https:// address is trusted, and with which certificate it is asked."""

    ca_file: Annotated[
        Path | None, _certificates,
        Meta(description="Certificates (PEM) of the authorities to trust, in place of the system's."),
    ] = None  # fmt: skip
    client_cert_file: Annotated[
        Path | None, _certificates,
        Meta(description="Client certificate (PEM) for a backend that demands one; its key may be in the same file."),
    ] = None  # fmt: skip
    client_key_file: Annotated[
        Path | None, Meta(description="The client certificate's private key (PEM, without a password).")
    ] = None
    verify_tls: Annotated[
        bool,
        Meta(
            description="Whether the backend's certificate is checked. false is for test benches: anyone on the way can"
            " read the token."
        ),
    ] = True

    def trust(self) -> Trust:
        """The same for the transport, which knows no settings."""
        from monitoring.transport.tls import Trust

        return Trust(self.ca_file, self.client_cert_file, self.client_key_file, self.verify_tls)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A certificate without its key, a key without its certificate, an authority that nobody is checked against."""
        if self.client_cert_file is not None:
            from monitoring.transport.tls import check_key_pair

            try:
                check_key_pair(self.client_cert_file, self.client_key_file)
            except ValueError as error:
                yield "client_key_file", str(error)
        elif self.client_key_file is not None:
            yield "client_key_file", "needs client_cert_file"
        if not self.verify_tls and self.ca_file is not None:
            yield "verify_tls", "must not be false beside ca_file: leave one of the two out"

    def cautions(self) -> Iterator[tuple[str, str]]:
        """A backend that anybody on the way could stand in for."""
        if not self.verify_tls:
            yield (
                "verify_tls",
                "the backend's certificate is not checked: anyone on the way can read the token; for test benches only",
            )


class InfluxDBConfig(TlsSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """InfluxDB, or what speaks its line protocol over HTTP."""

    secret_file: ClassVar[tuple[str, str] | None] = ("token", "token_file")

    enabled: Annotated[bool, Meta(description="Whether this backend is used.")] = True
    url: Annotated[str, _http_url, Meta(description="Base address, e.g. http://influxdb:8086; a path prefix is kept.")]
    token: Annotated[
        Secret | None, _header_text, Meta(description='API token; "${NAME}" is read from the environment.')
    ] = None
    token_file: Annotated[Path | None, Meta(description="File that holds the token, e.g. a mounted secret.")] = None
    org: Annotated[str, _printable, Meta(description="Organisation (version 2).")] = ""
    bucket: Annotated[Name, _printable, Meta(description="Bucket (version 2) or database (1 and 3).")] = (
        "pediatric-leglength"
    )
    username: Annotated[str | None, _user_name, Meta(description="User (version 1).")] = None
    password: Annotated[
        Secret | None, Meta(description='Password (version 1); "${NAME}" is read from the environment.')
    ] = None
    # In all, DNS and TLS included: see the transport's deadline.
    timeout: Annotated[Seconds, Meta(description="Seconds that one request may take in all.")] = 10.0
    api: Annotated[
        Literal["v1", "v2", "v3"], Meta(description="Write API: v1 /write, v2 /api/v2/write, v3 /api/v3/write_lp.")
    ] = "v2"

    def cautions(self) -> Iterator[tuple[str, str]]:
        """No organisation. Allowed, since InfluxDB 1.8 and VictoriaMetrics take version 2's requests without one."""
        yield from super().cautions()
        if self.api == "v2" and not self.org:
            yield "org", "is not set: InfluxDB 2 refuses every line without it"


class PrometheusConfig(TlsSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Pushgateway, a node_exporter textfile, or both."""

    enabled: Annotated[bool, Meta(description="Whether this backend is used.")] = True
    gateway_url: Annotated[
        str | None, _gateway_url, Meta(description="Pushgateway, e.g. http://pushgateway:9091; a path prefix is kept.")
    ] = None
    job_name: Annotated[
        Name, _group_name, Meta(description="The group's job label; without it, `application` where that is set.")
    ] = "pediatric-leglength"
    instance: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None, _instance_name,
        Meta(description="The instance label, in InfluxDB too; default: one name kept in the store."),
    ] = None  # fmt: skip
    timeout: Annotated[Seconds, Meta(description="Seconds that one push may take in all.")] = 10.0
    username: Annotated[str | None, _user_name, Meta(description="User for basic authentication.")] = None
    password: Annotated[Secret | None, Meta(description='Password; "${NAME}" is read from the environment.')] = None
    textfile: Annotated[
        Path | None, _prom_file, Meta(description="A *.prom file for node_exporter's textfile collector.")
    ] = None

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Nowhere to bring the totals to."""
        if self.gateway_url is None and self.textfile is None:
            yield "", "needs gateway_url or textfile"
        yield from super().contradictions()


class MetricsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is collected."""

    collection_interval: Annotated[
        Seconds, Meta(description="Seconds between samples of the system during a session.")
    ] = 10.0
    # A request is held in memory whole.
    batch_size: Annotated[
        int, Meta(ge=1, le=50_000, description="Lines that one request to InfluxDB carries at most.")
    ] = 5000
    include_system_metrics: Annotated[bool, Meta(description="CPU, memory, disk, GPU.")] = True
    include_model_metrics: Annotated[bool, Meta(description="Per-model inference time, confidence and landmarks.")] = (
        True
    )
    stages: Annotated[
        Names, Meta(description="The host's own stages, whose counters are to be there from the start.")
    ] = ()
    codes: Annotated[Names, Meta(description="The same for its codes of why a session was skipped or failed.")] = ()
    issues: Annotated[Names, Meta(description="The same for its codes of issues.")] = ()
    models: Annotated[Names, Meta(description="The same for its models.")] = ()

    @property
    def declared(self) -> dict[str, tuple[str, ...]]:
        """The names that are declared beforehand, by the label that takes them."""
        return {"stage": self.stages, "code": self.codes, "issue": self.issues, "model": self.models}


class StoreConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where sessions are kept."""

    path: Annotated[
        Path | None,
        Meta(
            description="Folder (or a *.db file); default $MONITORING_DATA_PATH, then $MODULE_PERSISTENCE_DIR,"
            " then the user's state folder."
        ),
    ] = None
    max_size_mb: Annotated[int, Meta(ge=1, description="Megabytes that the store may take.")] = 512
    retention_days: Annotated[
        float, Meta(gt=0, le=36_500, description="Days that sessions are kept, by the store's own clock.")
    ] = 365.0
    min_free_mb: Annotated[int, Meta(ge=0, description="Megabytes that the store leaves free on its volume.")] = 100


class PrivacyConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How studies are named, and how little is kept. No setting writes an identifier in plain."""

    strictest: ClassVar[Mapping[str, Any]] = {
        "age": "none",
        "device": False,
        "patient_key": False,
        "precision": "coarse",
        "send_age_band": False,
    }
    secret_file: ClassVar[tuple[str, str] | None] = ("key", "key_file")

    key: Annotated[
        Secret | None, _long_enough,
        Meta(
            description='The site\'s key for pseudonyms, 16 characters or more; "${NAME}" is read from the environment.'
        ),
    ] = None  # fmt: skip
    key_file: Annotated[
        Path | None, Meta(description="File that holds the key; default: one made beside the store, once.")
    ] = None
    site: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None, _site_name,
        Meta(description="The site's name, a label in both backends."),
    ] = None  # fmt: skip
    age: Annotated[
        Literal["years", "band", "none"],
        Meta(description="What is kept of the age: completed years and their band, the band alone, or nothing."),
    ] = "years"
    precision: Annotated[
        Literal["exact", "coarse"],
        Meta(
            description="How exactly an image's record is kept: coarse has lengths to 5 mm and times to the hour, and"
            " neither the models' boxes nor the image's size."
        ),
    ] = "exact"
    send_age_band: Annotated[
        bool, Meta(description="Whether InfluxDB is told a measurement's age band, as a tag; needs `age` to be kept.")
    ] = False
    device: Annotated[bool, Meta(description="Whether manufacturer and model family are kept.")] = True
    patient_key: Annotated[bool, Meta(description="Whether a patient's sessions can be linked, by a keyed hash.")] = (
        True
    )


class AnalyticsConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the stored sessions are watched for, and how often that may be wrong."""

    false_alarms_per_year: Annotated[
        float, Meta(gt=0, le=100, description="False alarms that are accepted in a year, of all charts together.")
    ] = 2.0
    accepted_rates: Annotated[
        Rates | None,
        Meta(
            description="Shares of events that are accepted, over 0 and up to 0.4, by name; alarms are for larger ones."
            f" Default: {', '.join(f'`{name}` {rate:g}' for name, rate in ACCEPTED_RATES.items())}."
        ),
    ] = None
    custom: Annotated[Names, Meta(description="Metrics of the host's own that are to be watched, too.")] = ()

    def accepted(self, event: str) -> float:
        """The share that is accepted, of one of :data:`ACCEPTED_RATES`."""
        return (self.accepted_rates or {}).get(event, ACCEPTED_RATES[event])


class MonitoringConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``monitoring`` section of task.json's ``process.settings``."""

    enabled: Annotated[bool, Meta(description="Whether anything is recorded at all.")] = False
    application: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None, _application_name,
        Meta(
            description="The application's name, where several share an account: the default store's folder, the job,"
            " and a label in both backends."
        ),
    ] = None  # fmt: skip
    application_version: Annotated[
        str | None, _version,
        Meta(description="The application's version, where the host doesn't give it with each session."),
    ] = None  # fmt: skip
    influxdb: Annotated[InfluxDBConfig | None, Meta(description="Where each session's points go.")] = None
    prometheus: Annotated[PrometheusConfig | None, Meta(description="Where the running totals go.")] = None
    metrics: Annotated[MetricsConfig, Meta(description="What is collected.")] = field(default_factory=MetricsConfig)
    store: Annotated[StoreConfig, Meta(description="Where sessions are kept.")] = field(default_factory=StoreConfig)
    privacy: Annotated[PrivacyConfig, Meta(description="How studies are named.")] = field(default_factory=PrivacyConfig)
    analytics: Annotated[AnalyticsConfig, Meta(description="What the stored sessions are watched for.")] = field(
        default_factory=AnalyticsConfig
    )
    shutdown_timeout: Annotated[
        float, Meta(ge=0, le=600, description="Seconds that the exit waits at most, for all backends together.")
    ] = 5.0


SECTIONS: Mapping[str, type[Section]] = {
    "influxdb": InfluxDBConfig,
    "prometheus": PrometheusConfig,
    "metrics": MetricsConfig,
    "store": StoreConfig,
    "privacy": PrivacyConfig,
    "analytics": AnalyticsConfig,
}


def json_schema() -> dict[str, Any]:
    """A JSON schema of the ``monitoring`` section; its parts are under ``$defs``."""
    import msgspec

    formats: dict[type, dict[str, Any]] = {Path: {"format": "path"}, Secret: {"format": "password", "writeOnly": True}}
    schema = msgspec.json.schema(MonitoringConfig, schema_hook=lambda kind: {"type": "string", **formats[kind]})
    definitions = schema["$defs"]
    for backend in (InfluxDBConfig, PrometheusConfig):
        properties = definitions[backend.__name__]["properties"]
        for name in TlsSettings.__struct_fields__:  # what the backends share comes after what is their own
            properties[name] = properties.pop(name)
    return {**definitions.pop(MonitoringConfig.__name__), "$defs": definitions}


def is_used(backend: Any) -> bool:
    """Whether a backend's section is there and switched on."""
    return backend is not None and backend.enabled


def common_labels(config: MonitoringConfig) -> dict[str, str]:
    """The application's and the site's name as labels of everything that is sent, where the settings give them."""
    found = {"application": config.application, "site": config.privacy.site}
    return {name: value for name, value in found.items() if value}
