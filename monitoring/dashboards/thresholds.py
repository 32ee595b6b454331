"""What an alert rule is, and the thresholds of all, each declared once with its default and where that comes from."""

from __future__ import annotations

import re
from string import Template
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import asdict, replace
from promql_parser import parse_duration

from monitoring.exceptions import ConfigurationError

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
SPAN = "^([0-9]+(ms|[smhdwy]))+$"
Span = Annotated[str, Meta(pattern=SPAN)]


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site may set of the rules: counts, shares (0 to 1), and spans of time in Prometheus' form (``36h``)."""

    failure_share: Annotated[Share, Meta(description="Share of images that may fail; 2 % is usual.")] = 0.05
    failure_sigmas: Annotated[
        Positive,
        Meta(description="Standard deviations (binomial) by which the failures must exceed what that share explains."),
    ] = 3.0
    failure_window: Annotated[Span, Meta(description="Over how long the share of failures is taken.")] = "7d"
    failures: Annotated[Count, Meta(description="Fewer failures say nothing: two meet by chance at any site.")] = 3
    all_fail_window: Annotated[
        Span, Meta(description="In which so many images fail and none succeeds: a working day's lie within.")
    ] = "1d"
    no_success: Annotated[
        Span, Meta(description="From the latest success to the latest image, before nothing is said to succeed.")
    ] = "24h"
    no_success_window: Annotated[
        Span,
        Meta(
            description="In which two failures make that a pattern: shorter than a weekend, so that none before counts."
        ),
    ] = "2d"
    silence: Annotated[
        Span,
        Meta(
            description="Longest ordinary pause between two images: 65 h over a weekend were measured, and four days "
            "leave room for a holiday beside it."
        ),
    ] = "96h"
    event_window: Annotated[
        Span, Meta(description="For how long something that happens once (a crash, a loss, a change) is told of.")
    ] = "1d"
    hang: Annotated[
        Span, Meta(description="Longest that one image may take: far over the slowest that is measured, minutes.")
    ] = "1h"

    share_window: Annotated[
        Span, Meta(description="Over how long shares of images are taken: at 4 a working day 80 images lie within.")
    ] = "28d"
    images: Annotated[Count, Meta(description="Of fewer images no share is told: 2 of 10 can be chance.")] = 20
    skip_share: Annotated[
        Share, Meta(description="Share of images that may be skipped; some always are (no spacing, not a leg).")
    ] = 0.3
    slow_bound: Annotated[
        Positive,
        Meta(description="Seconds that an image may take; a bucket's bound, since only there a share is exact."),
    ] = 30.0
    slow_share: Annotated[Share, Meta(description="Share of images that may take longer.")] = 0.1
    memory_free: Annotated[
        Positive,
        Meta(description="Bytes: twice what one image of 12,000 x 4,000 pixels takes as 32-bit floats (192 MB)."),
    ] = 400e6
    disk_free: Annotated[
        Positive, Meta(description="Bytes: the store's own largest size (`store.max_size_mb`, 512 MB) four times over.")
    ] = 2e9
    disk_full: Annotated[
        Span, Meta(description="How long before a volume is full it is told: time to order and mount a larger one.")
    ] = "14d"

    miss_share: Annotated[Share, Meta(description="Share of images in which a landmark may be found by no model.")] = (
        0.1
    )
    model_miss_share: Annotated[
        Share, Meta(description="Share of images in which one model may miss a landmark; the others make up for it.")
    ] = 0.2
    other_images: Annotated[
        Count, Meta(description="Images that other models must have seen before one that saw none is called silent.")
    ] = 5
    bias_mm: Annotated[
        Positive, Meta(description="Mean difference from the readers, in mm: published ones are within 2 mm.")
    ] = 2.0
    pairs: Annotated[
        Count,
        Meta(description="Images with a reader's measurement, before the bias is judged (SE of 3 mm / sqrt(30))."),
    ] = 30
    difference: Annotated[
        Positive, Meta(description="How far the application's own scores (0 to 1) may lie from those computed here.")
    ] = 0.01
    difference_mm: Annotated[
        Positive, Meta(description="How far its distances may lie from those computed here, in mm.")
    ] = 0.1

    refusals: Annotated[
        Count, Meta(description="Attempts that fail for a reason that somebody must mend; one can be a restart.")
    ] = 2
    waiting: Annotated[
        Span, Meta(description="How long a session may wait for a backend: a restart or a night's backup is shorter.")
    ] = "6h"
    certificate_left: Annotated[
        Span,
        Meta(description="How long before a certificate or token ends it is told: a holiday, and time to renew it."),
    ] = "14d"
    relay_silence: Annotated[
        Span, Meta(description="How long the relay may not be seen: it looks after the store every few seconds.")
    ] = "10m"
    relay_given_up: Annotated[
        Span, Meta(description="After which a relay that is not seen is taken for given up on purpose.")
    ] = "7d"
    gateway_job: Annotated[
        str, Meta(pattern=r"^[\w.-]+$", description="The `job_name` under which Prometheus scrapes the Pushgateway.")
    ] = "pushgateway"
    gateway_hold: Annotated[
        Span, Meta(description="How long the Pushgateway may be away: a restart or an upgrade is shorter.")
    ] = "15m"
    clock_ahead: Annotated[
        Span, Meta(description="How far the application's clock may be ahead: one kept by NTP is within a second.")
    ] = "5m"
    store_resets: Annotated[
        Count, Meta(description="Times in a day that the totals may fall: once is a new store, twice are two at once.")
    ] = 2

    analysis_silence: Annotated[
        Span, Meta(description="How long the nightly analysis may not have run: one night may be missed, and a second.")
    ] = "3d"
    analysis_given_up: Annotated[
        Span, Meta(description="After which an analysis that doesn't run is taken for given up on purpose.")
    ] = "60d"

    comparison_window: Annotated[
        Span,
        Meta(description="What the last week is compared with, where InfluxDB is asked: long enough to be steady."),
    ] = "90d"
    fall: Annotated[
        Positive,
        Meta(
            description="By how much a mean quality or confidence (0 to 1) may fall: over four standard errors of 20 "
            "images that differ by 0.1 (standard deviation) among each other."
        ),
    ] = 0.1


DEFAULTS = Thresholds()


def thresholds_from(document: Any) -> Thresholds:
    """A site's thresholds beside the defaults of the rest; ConfigurationError names the one that can't be used."""
    try:
        # Unknown names are refused: a misspelt threshold would leave its rule as it was, without a word.
        found = convert(document, Thresholds)
    except ValidationError as error:
        raise ConfigurationError(f"thresholds: {error}") from None
    for name, value in asdict(found).items():
        try:
            if isinstance(value, str) and re.fullmatch(SPAN, value):
                parse_duration(value)  # the pattern takes 0s and 5m1h, which Prometheus doesn't
        except ValueError as error:
            raise ConfigurationError(f"thresholds: {name} {value}: {error}") from None
    return found


# --- texts with thresholds in them ---------------------------------------------------------------

Severity = Literal["critical", "warning", "info"]
Audience = Literal["operator", "clinical"]


class Rule(Struct, frozen=True, kw_only=True):
    """One alert rule. Its texts name thresholds as ``$name`` until :func:`rendered` puts values in their place.

    ``critical`` pages somebody, ``warning`` waits for the morning, ``info`` is to be known. ``hold`` is Prometheus'
    ``for``. ``summary`` is the same for every alert; ``description`` is Prometheus' template (``{{ $value }}``).
    """

    name: str
    severity: Severity
    audience: Audience
    expression: str
    hold: str = "0s"
    summary: str
    description: str

    @property
    def thresholds(self) -> tuple[str, ...]:
        """The thresholds that the declaration names, in its order."""
        return named(self.expression, self.hold, self.description)


def named(*texts: str) -> tuple[str, ...]:
    """The thresholds that texts name; ``$name_seconds`` names the span ``name``."""
    # Only what is a threshold: a description may hold names of Prometheus' own template.
    found = dict.fromkeys(name.removesuffix("_seconds") for name in Template(" ".join(texts)).get_identifiers())
    return tuple(name for name in found if name in Thresholds.__struct_fields__)


def rendered(rule: Rule, thresholds: Thresholds) -> Rule:
    """The rule with the thresholds' values in its expression, its ``hold`` and its description."""
    parts = ("expression", "hold", "description")
    return replace(rule, **{part: filled(getattr(rule, part), thresholds).strip() for part in parts})


def filled(text: str, thresholds: Thresholds) -> str:
    """The text with values for ``$name``; a span's seconds are ``$name_seconds``. Templates' own variables stay."""
    values: dict[str, str] = {}
    for name, value in asdict(thresholds).items():
        values[name] = f"{value:g}" if isinstance(value, float) else str(value)
        if re.fullmatch(SPAN, values[name]):
            values[f"{name}_seconds"] = f"{parse_duration(value).total_seconds():.0f}"
    # Safe, since Prometheus' and Grafana's own $labels and $values must stay.
    return Template(text).safe_substitute(values)
