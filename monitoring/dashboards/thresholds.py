"""The thresholds of the alert rules, each declared once with its default and where that comes from."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Span = Annotated[str, Meta(pattern=r"^([0-9]+(ms|[smhdwy]))+$")]


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
        Span, Meta(description="In which two failures make that a pattern; one on the morning after a weekend is none.")
    ] = "4d"
    silence: Annotated[
        Span,
        Meta(
            description="Longest ordinary pause between two images: 65 h over a weekend were measured, and four days "
            "leave room for a holiday beside it."
        ),
    ] = "96h"
    crash_window: Annotated[Span, Meta(description="For how long a crash is told of.")] = "1d"


DEFAULTS = Thresholds()
