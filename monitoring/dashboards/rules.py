"""The alert rules for Prometheus, each declared once: what it asks, of whom it wants something, and in which words.

Expressions and descriptions name thresholds (``$failure_share``), whose values a site gives to :func:`rendered`; the
arithmetic of each rule stands in ``docs/alerts.md``. What all of them heed: totals jump once a push, so they are asked
for their ``increase`` over hours or more, rounded, and compared with half numbers (``> 3 - 0.5`` is three or more); a
gauge of the Pushgateway stands still until the next push.
"""

from __future__ import annotations

from string import Template
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace
from promql_parser import parse_duration

from monitoring.dashboards.thresholds import Thresholds

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
        """The thresholds that the declaration names, in its order; ``$name_seconds`` names the span ``name``."""
        named = Template(f"{self.expression} {self.hold} {self.description}").get_identifiers()
        fields = dict.fromkeys(name.removesuffix("_seconds") for name in named)
        return tuple(name for name in fields if name in Thresholds.__struct_fields__)


def rendered(rule: Rule, thresholds: Thresholds) -> Rule:
    """The rule with the thresholds' values in its expression, its ``hold`` and its description."""
    values: dict[str, str] = {}
    for name, value in asdict(thresholds).items():
        values[name] = value if isinstance(value, str) else f"{value:g}"
        if isinstance(value, str):
            values[f"{name}_seconds"] = f"{parse_duration(value).total_seconds():.0f}"
    parts = ("expression", "hold", "description")
    return replace(rule, **{part: Template(getattr(rule, part)).safe_substitute(values).strip() for part in parts})


def _sessions(status: str, window: str) -> str:
    """Images of these statuses within a window, whole, of each instance."""
    return f'round(sum by (job, instance) (increase(leglength_sessions_total{{status=~"{status}"}}[{window}])))'


TRIED = "completed|failed|crashed"
FAILED = "failed|crashed"

_TRIED = _sessions(TRIED, "$failure_window")

RULES: tuple[Rule, ...] = (
    Rule(
        name="LegLengthFailureShareHigh",
        severity="warning",
        audience="operator",
        expression=f"""
{_sessions(FAILED, "$failure_window")}
  > $failure_share * {_TRIED}
    + $failure_sigmas * sqrt($failure_share * (1 - $failure_share) * {_TRIED})
and {_sessions(FAILED, "$failure_window")} > $failures - 0.5
""",
        summary="More images fail than chance explains.",
        description="On {{ $labels.instance }} {{ $value }} images failed within $failure_window, more than a site "
        "that fails at $failure_share of its images comes to by chance.",
    ),
    Rule(
        name="LegLengthAllFail",
        severity="critical",
        audience="operator",
        expression=f"""
{_sessions(FAILED, "$all_fail_window")} > $failures - 0.5
and {_sessions("completed", "$all_fail_window")} < 0.5
""",
        summary="Every image fails.",
        description="On {{ $labels.instance }} {{ $value }} images failed within $all_fail_window, and none succeeded.",
    ),
    Rule(
        name="LegLengthNothingSucceeds",
        severity="critical",
        audience="operator",
        expression=f"""
leglength_last_run_timestamp_seconds - leglength_last_success_timestamp_seconds > $no_success_seconds
and on (job, instance) {_sessions(FAILED, "$no_success_window")} > 2 - 0.5
""",
        summary="Images arrive, and none has succeeded for long.",
        description="On {{ $labels.instance }} the latest image came {{ $value | humanizeDuration }} after the latest "
        "one that succeeded, and at least two failed within $no_success_window.",
    ),
    Rule(
        name="LegLengthNothingArrives",
        severity="warning",
        audience="operator",
        expression="time() - leglength_last_run_timestamp_seconds > $silence_seconds",
        summary="No image arrives any more.",
        description="On {{ $labels.instance }} the latest image was processed {{ $value | humanizeDuration }} ago; "
        "$silence is the longest ordinary pause.",
    ),
    Rule(
        name="LegLengthCrashed",
        severity="warning",
        audience="operator",
        expression=f"{_sessions('crashed', '$crash_window')} > 0.5",
        summary="A run was killed while it processed an image.",
        description="On {{ $labels.instance }} {{ $value }} images within $crash_window were never finished: their "
        "process was killed, or ended without a word.",
    ),
)
